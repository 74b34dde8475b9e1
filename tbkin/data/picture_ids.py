"""Which pictures a file or folder speaks of, and what it says of each.

================================ =============================================================
source                           read as
================================ =============================================================
prepared folder                  its splits; ``DIR:val`` is one of them
RefCOCO / + / g                  ``DIR:refcocog_umd`` or ``DIR:refcocog_umd:val``, in any layout
                                 of ``refcoco_find.py``; ``DIR`` where there is one data set
VQA questions or annotations     the official files
COCO instances or captions       the annotations, of ``images``
Karpathy's split                 its captions; ``FILE:test`` is one split
Visual Genome's image_data.json  the pictures that are COCO's (``coco_id``)
region store                     its pictures, by the number of their ids
list                             ids or file names: a JSON list, or ``.txt``, a line each
================================ =============================================================

JSON may be gzip. Numbers are compared within the *collection* that they are of. COCO's are distinct
across its splits and years, and nearly every source has them. A prepared folder says whose it has
(``picture_ids`` in ``dataset.json``; GQA's are Visual Genome's, an album's its own), also for its
region store; a list of another collection's numbers would be compared as if it were COCO's. Visual
Genome's other files have ids of its own and are refused.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tbkin.data.features import RegionStore
from tbkin.data.prepared import read_record, read_split
from tbkin.data.refcoco_find import read_expressions
from tbkin.data.vqa_files import read_json
from tbkin.detectors.precomputed_names import image_number

MEND = "copy the file again"
VISUAL_GENOME = {"objects", "regions", "relationships", "attributes", "qas", "synsets"}
"""What Visual Genome's files other than image_data.json say of a picture."""
COLLECTIONS = {"coco": "COCO", "visual_genome": "Visual Genome"}
"""How messages call a collection; others have the names of their data sets."""
TEXTS = {
    "vqa": "questions",
    "pretraining": "captions",
    "grounding": "expressions",
    "retrieval": "captions",
}


@dataclass(frozen=True)
class PictureIds:
    """The pictures of one source.

    Attributes:
        name: the source as it was named.
        what: what ``texts`` counts: "questions", "captions", "expressions", "annotations",
            "pictures".
        texts: picture id -> how many of them are of it; 0 for a picture of which there is none.
        prepared: the folder and the splits read, where it is a prepared folder.
        collection: whose numbers the ids are: "coco", "visual_genome", the name of a data set.
    """

    name: str
    what: str
    texts: dict[int, int]
    prepared: tuple[Path, list[str]] | None = None
    collection: str = "coco"


def collection_of(record: dict[str, Any]) -> str:
    """Whose numbers the picture ids of a prepared folder are: COCO's, unless it says otherwise.

    Args:
        record: its ``dataset.json``.
    """
    return record.get("picture_ids", "coco")


def check_collections(sources: Iterable[PictureIds]) -> None:
    """Raise ValueError unless the numbers of all sources are of one collection."""
    first, *others = sources
    for other in others:
        if other.collection != first.collection:
            raise ValueError(
                f"{first.name} has the picture ids of {_called(first)} and {other.name} those of "
                f"{_called(other)}, which say nothing of one another; compare sources with the ids "
                "of one of them."
            )


def read_picture_ids(source: str) -> PictureIds:
    """Read any of the sources above.

    Args:
        source: path, perhaps with ``:dataset`` or ``:split`` behind it.

    Raises:
        FileNotFoundError: there is no such path.
        LookupError: no such split.
        ValueError: a file of no layout that is known, or one without COCO ids.
    """
    path, parts = _path_of(source)
    if path.is_dir():
        return _folder(source, path, parts)
    if path.suffix == ".txt":
        content: Any = path.read_text(encoding="utf-8").split()
    else:
        content = read_json(path, MEND)
    split = parts[0] if parts else ""
    try:
        what, texts = _of_json(path, content, split)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: an entry lacks what others have ({error!r}); {MEND}.") from error
    return PictureIds(source, what, texts)


def _path_of(source: str) -> tuple[Path, list[str]]:
    """The longest beginning that is there, and the words behind it."""
    words = source.split(":")
    for count in range(len(words), 0, -1):
        path = Path(":".join(words[:count]))
        if path.exists():
            return path, words[count:]
    raise FileNotFoundError(f"no file or folder {source} (a split is named as PATH:val).")


def _folder(source: str, folder: Path, parts: list[str]) -> PictureIds:
    if (folder / "manifest.json").is_file():
        store = RegionStore(folder)
        whole = folder.resolve().parent
        record = read_record(whole) if (whole / "dataset.json").is_file() else {}
        numbers = _numbers(store.places, folder)
        return PictureIds(source, "pictures", numbers, collection=collection_of(record))
    if (folder / "dataset.json").is_file():
        record = read_record(folder)
        splits = parts[:1] or list(record["splits"])
        rows = [row for split in splits for row in read_split(folder, split)]
        what = TEXTS.get(record["task"], "texts")
        of = collection_of(record)
        return PictureIds(source, what, _counted(rows), (folder, splits), of)
    if len(parts) == 1 and not _is_dataset(parts[0]):
        parts = ["", *parts]
    dataset, split = [*parts, "", ""][:2]
    found = read_expressions(folder, dataset)
    rows = found.of(split) if split else [row for rows in found.splits.values() for row in rows]
    return PictureIds(source, "expressions", _counted(rows))


def _is_dataset(word: str) -> bool:
    return not (word in ("train", "val") or word.startswith("test"))


def _of_json(path: Path, content: Any, split: str) -> tuple[str, dict[int, int]]:
    if isinstance(content, dict) and "images" in content:
        images = content["images"]
        if images and "sentences" in images[0]:
            return "captions", _karpathy(path, images, split)
        if not split:
            return _coco(content)
    if split:
        raise LookupError(f"{path} does not say its splits; leave :{split} out.")
    if isinstance(content, dict):
        for kind in ("questions", "annotations"):
            if isinstance(content.get(kind), list):
                return "questions", _counted(content[kind])
    if isinstance(content, list) and content and isinstance(content[0], dict):
        if "coco_id" in content[0]:
            ids = [entry["coco_id"] for entry in content]
            return "pictures", {int(number): 1 for number in ids if number is not None}
        if VISUAL_GENOME & content[0].keys():
            raise ValueError(
                f"{path} has Visual Genome's own picture ids, which say nothing of COCO's; give "
                "its image_data.json, which has the coco_id of each."
            )
        if "image_id" in content[0]:
            return "texts", _counted(content)
    if isinstance(content, list) and not any(isinstance(one, dict | list) for one in content):
        return "pictures", _numbers(content, path)
    raise ValueError(
        f"{path} holds no pictures in a layout that is known: VQA questions, COCO instances or "
        "captions, Karpathy's split, Visual Genome's image_data.json, or a list of ids."
    )


def _coco(content: dict[str, Any]) -> tuple[str, dict[int, int]]:
    """COCO style; MDETR's "images" are expressions, whose picture is ``original_id``."""
    images = {entry["id"]: entry.get("original_id", entry["id"]) for entry in content["images"]}
    entries = content.get("annotations", [])
    counted = Counter(images.get(entry["image_id"], entry["image_id"]) for entry in entries)
    what = "captions" if entries and "caption" in entries[0] else "annotations"
    return what, {number: counted[number] for number in [*images.values(), *counted]}


def _karpathy(path: Path, images: list[dict[str, Any]], split: str) -> dict[int, int]:
    there = dict.fromkeys(entry["split"] for entry in images)
    of = {"train", "restval"} if split == "train" else {split}  # restval is trained on as well
    chosen = [entry for entry in images if not split or entry["split"] in of]
    if not chosen:
        raise LookupError(f"{path} has no split {split!r}; there is: {', '.join(there)}.")
    if not all("cocoid" in entry for entry in chosen):
        raise ValueError(f"{path} names no COCO pictures (no 'cocoid'): is it Flickr's?")
    return {int(entry["cocoid"]): len(entry["sentences"]) for entry in chosen}


def _counted(rows: list[dict[str, Any]]) -> dict[int, int]:
    return dict(Counter(int(row["image_id"]) for row in rows))


def _called(source: PictureIds) -> str:
    return COLLECTIONS.get(source.collection, source.collection)


def _numbers(names: Any, where: Path) -> dict[int, int]:
    found = {}
    for name in names:
        number = image_number(Path(str(name)))
        if not number.isdecimal():
            raise ValueError(f"{where}: {name!r} does not end in a picture's number.")
        found[int(number)] = 1
    return found
