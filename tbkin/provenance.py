"""Where a number comes from: which run, which model, which examples, and what training has seen.

A checkpoint carries ``trained_on.json``: the splits that it and those it started from have learned
from, told by the hash of their prepared examples, which does not change with the detector; and the
ids of their pictures, by the collection whose numbers they are (``tbkin/data/picture_ids.py``).
"""

from __future__ import annotations

import importlib.metadata
import json
import time
import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tbkin.data.picture_ids import collection_of
from tbkin.data.prepared import read_record
from tbkin.files import file_hash, weight_files, write_text

FILE = "trained_on.json"


def new_run_id(seed: int) -> str:
    """A name for a run that no other run has: UTC to the second, its seed, and four letters."""
    began = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
    return f"{began}-seed{seed}-{uuid.uuid4().hex[:4]}"


def split_record(root: Path, split: str) -> dict[str, Any]:
    """What tells one split from another: task, dataset, name, and the hash of its examples."""
    record = read_record(root)
    return {
        "task": record["task"],
        "dataset": record.get("dataset", record["task"]) or _name_of(record, root),
        "split": split,
        "sha256": file_hash(root / f"{split}.jsonl"),
    }


def pictures_by_collection(
    parts: Iterable[tuple[Path, list[dict[str, Any]]]],
) -> dict[str, set[int]]:
    """Collection -> ids of the pictures of it, for :func:`training_record`.

    Args:
        parts: prepared folders, each with rows of it that are learned from.
    """
    pictures: dict[str, set[int]] = {}
    for root, rows in parts:
        ids = {row["image_id"] for row in rows}
        pictures.setdefault(collection_of(read_record(root)), set()).update(ids)
    return pictures


def training_record(
    run: str, splits: list[dict[str, Any]], images: Mapping[str, set[int]], init_from: str = ""
) -> dict[str, Any]:
    """The content of ``trained_on.json``.

    Args:
        run: name of the run.
        splits: of :func:`split_record`, those that are learned from.
        images: of :func:`pictures_by_collection`.
        init_from: checkpoint folder that the run starts from; what it has seen is taken over.

    Returns:
        ``run``, ``splits``, ``images`` and ``known``: False where nobody knows what the start has
        seen.
    """
    known = True
    pictures = {name: set(ids) for name, ids in images.items()}
    if init_from:
        before = read_training_record(Path(init_from))
        known = before["known"]
        splits = [*before["splits"], *(split for split in splits if split not in before["splits"])]
        for name, ids in before["images"].items():
            pictures.setdefault(name, set()).update(ids)
    listed = {name: sorted(pictures[name]) for name in sorted(pictures)}
    return {"run": run, "known": known, "splits": splits, "images": listed}


def save_training_record(record: dict[str, Any], folder: Path) -> None:
    """Write it beside a checkpoint, on a line a part: there may be 100,000 pictures."""
    parts = [f"{json.dumps(name)}: {json.dumps(value)}" for name, value in record.items()]
    write_text(folder / FILE, "{" + ",\n".join(parts) + "}\n")


def read_training_record(folder: Path) -> dict[str, Any]:
    """What a checkpoint has learned from; ``known`` is False where it does not say."""
    path = folder / FILE
    if not path.is_file():
        return {"run": None, "known": False, "splits": [], "images": {}}
    record = json.loads(path.read_text(encoding="utf-8"))
    if isinstance(record["images"], list):  # of before collections were told apart
        record |= {"images": {"coco": record["images"]}, "known": False}  # or they are GQA's
    return record


def check_unseen(
    folder: Path, root: Path, split: str, images: set[int], allowed: bool
) -> dict[str, Any]:
    """Refuse to score a split that the checkpoint has learned from.

    It has if it learned from the same examples, or from pictures of a split of the same name (a cut
    or filtered one, or one read from another layout). Pictures are told by their ids, and compared
    with those of one collection only: number 7 of COCO is not number 7 of Visual Genome.

    Args:
        folder: checkpoint.
        root: prepared folder.
        split: one of its splits.
        images: ids of the pictures of that split.
        allowed: do not refuse.

    Returns:
        For the protocol: ``split_seen`` (bool, None: nobody knows) and ``pictures_seen``, how many
        of the split's pictures occur in training, whatever was asked about them.

    Raises:
        ValueError: it has, and nobody allowed it.
    """
    record = read_training_record(folder)
    this = split_record(root, split)
    names = ("task", "dataset", "split")
    shared = images.intersection(record["images"].get(collection_of(read_record(root)), []))
    seen = any(
        past["sha256"] == this["sha256"]
        or (bool(shared) and all(past[name] == this[name] for name in names))
        for past in record["splits"]
    )
    if seen and not allowed:
        raise ValueError(
            f"{folder} was trained on split {split!r} of {root}; a score on it says nothing about "
            "new pictures. Choose another split=, or add seen=true to score it all the same."
        )
    return {
        "split_seen": seen or (None if not record["known"] else False),
        "pictures_seen": len(shared),
        "pictures": len(images),
    }


def model_record(folder: Path) -> dict[str, Any]:
    """Which checkpoint: its folder, the hash of its weights, and the run that trained it."""
    return {
        "folder": str(folder),
        "sha256": {path.name: file_hash(path) for path in weight_files(folder)},
        "run": read_training_record(folder)["run"],
    }


def _name_of(record: dict[str, Any], root: Path) -> str:
    """What to call a data set without a name: as the folder that it was prepared from."""
    return Path(record.get("root") or root).resolve().name


def notes_of(record: dict[str, Any], split: str) -> list[str]:
    """What the record of a prepared folder says of a split that its name does not."""
    notes = []
    if record.get("val_held_out_from_train") and split == "val":
        notes.append("val is held out from the training file")
    if split in record.get("filtered", {}).get("splits", []):
        against = ", ".join(record["filtered"]["against"])
        notes.append(f"without the pictures that are in {against} as well")
    shared = record.get("pictures_shared_with_train", {}).get(split)
    if shared:
        notes.append(f"{shared} of its pictures are in train as well")
    return notes


def protocol_lines(protocol: dict[str, Any]) -> list[str]:
    """How a number was made, for the end of a printed table."""
    model, seen = protocol["model"], protocol["seen_in_training"]
    weights = ", ".join(digest[:12] for digest in model["sha256"].values())
    known = {True: "the split is training data", False: "split unseen", None: "training unknown"}
    pictures = f"{seen['pictures_seen']} of {seen['pictures']} pictures seen in training"
    return [
        f"split: {protocol['split']} of {protocol['dataset']}, {protocol['items']} items "
        f"(sha256 {protocol['sha256'][:12]}); {known[seen['split_seen']]}, {pictures}",
        *(f"{name.replace('_', ' ')}: {value}" for name, value in protocol["rules"].items()),
        f"boxes: {protocol['box_source']}",
        f"files: {', '.join(protocol['files'])}",
        *(f"note: {note}" for note in protocol["notes"]),
        f"model: {model['folder']} (run {model['run'] or 'unknown'}, weights {weights}), "
        f"tbkin {protocol['tbkin']}",
    ]


def protocol_of(
    model: Path,
    root: Path,
    split: str,
    items: int,
    rules: dict[str, Any],
    seen: dict[str, Any],
) -> dict[str, Any]:
    """All that must stand beside a number to compare it with another.

    Args:
        model: checkpoint folder.
        root: prepared folder.
        split: of it.
        items: examples that were scored.
        rules: by which they were, name -> value.
        seen: of :func:`check_unseen`.
    """
    record = read_record(root)
    return {
        **split_record(root, split),
        "items": items,
        "rules": rules,
        "box_source": record.get("box_source") or f"detector {record['detector']['name']}",
        "files": {
            f"{key} {Path(entry['path']).name}": entry["sha256"]
            for key, entry in record["files"].items()
        },
        "notes": notes_of(record, split),
        "seen_in_training": seen,
        "model": model_record(model),
        "tbkin": importlib.metadata.version("tbkin"),
    }
