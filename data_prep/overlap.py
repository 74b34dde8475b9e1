"""Which pictures of a split are in a training set: ``tbkin prep overlap split=X against=[Y,Z]``.

RefCOCO's val and test pictures are COCO training pictures, and a third of them are in Visual
Genome: a model or detector that was trained there has seen what it is judged by. X, Y and Z are any
of: a prepared folder (DIR or DIR:val), RefCOCO in any layout (DIR:refcoco_unc:testA), VQA questions
or annotations, COCO instances or captions, Karpathy's split (FILE:test), Visual Genome's
image_data.json, a region store, a list of ids or file names.

Prints a table; ``output=FILE`` writes the ids, ``filter=DIR`` a prepared folder without the shared
pictures (X must be a prepared folder then). Nothing is changed in place.

Examples:
  tbkin prep overlap split=refer:unc:testA against=[instances_train2014.json,image_data.json]
  tbkin prep overlap split=prepared/refer-refcoco_unc:val against=[image_data.json]
      filter=prepared/refcoco-val-unseen             the val pictures that Visual Genome lacks
  tbkin prep overlap split=prepared/vqa:train against=[refer:unc:val,refer:unc:test]
      filter=prepared/vqa-clean                      VQA to train on, without RefCOCO's pictures
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_prep.official import link_folder
from data_prep.refcoco import counts_of, shared_pictures
from data_prep.regions import make_way
from data_prep.retrieval_folder import caption_counts, source_of_boxes
from tbkin.config import load_config, setting
from tbkin.data.features import RegionStore
from tbkin.data.picture_ids import PictureIds, check_collections, read_picture_ids
from tbkin.data.prepared import read_record, read_split
from tbkin.files import file_hash, new_folder, write_json, write_text


@dataclass
class OverlapConfig:
    """One comparison."""

    split: str = setting("", "the split in question, as PATH or PATH:split")
    against: list[str] = setting([], "training sets, as [PATH,PATH:split]")
    output: str = setting("", "JSON file to write: the ids of shared and of other pictures")
    filter: str = setting("", "prepared folder to write: split without the shared pictures")
    overwrite: bool = setting(False, "replace a filtered folder that is there")
    json: bool = setting(False, "print one JSON object instead of a table")


def main(arguments: list[str]) -> None:
    """Parse the settings, compare, and write what was asked for."""
    config = load_config(OverlapConfig, arguments, __doc__)
    if not config.split or not config.against:
        raise ValueError("tbkin prep overlap needs split=PATH and against=[PATH,…].")
    split = read_picture_ids(config.split)
    if config.filter and split.prepared is None:
        raise ValueError(
            f"filter= needs a prepared folder as split=, and {config.split} is none; prepare it "
            "first, or take the ids with output=FILE."
        )
    if config.filter and Path(config.filter).resolve() == split.prepared[0].resolve():
        raise ValueError(
            f"filter={config.filter} is the folder that split= names; name another one to write."
        )
    if config.filter and not make_way(Path(config.filter), config.overwrite):
        return
    others = [read_picture_ids(name) for name in config.against]
    check_collections([split, *others])
    result = overlap(split, others)
    seen = set().union(*(other.texts for other in others))
    shared = sorted(split.texts.keys() & seen)
    if config.output:
        ids = {**result, "shared": shared, "others": sorted(split.texts.keys() - seen)}
        write_json(Path(config.output), ids)
    if config.filter:
        write_filtered(split, set(shared), config.against, Path(config.filter))
    sys.stdout.write((json.dumps(result) if config.json else table(result)) + "\n")


def overlap(split: PictureIds, others: list[PictureIds]) -> dict[str, Any]:
    """How much of a split each of some sets holds, and all of them together.

    Returns:
        ``{"split", "pictures", "what", "texts", "against": [{"name", "pictures",
        "shared_pictures", "shared_texts"}, …]}``; with several sets the last entry is
        "any of them". Texts are the split's questions, captions or expressions.
    """
    sets = [(other.name, other.texts.keys()) for other in others]
    if len(others) > 1:
        sets.append(("any of them", set().union(*(ids for _, ids in sets))))
    rows = []
    for name, ids in sets:
        shared = split.texts.keys() & ids
        texts = sum(split.texts[number] for number in shared)
        rows.append(
            {
                "name": name,
                "pictures": len(ids),
                "shared_pictures": len(shared),
                "shared_texts": texts,
            }
        )
    return {
        "split": split.name,
        "pictures": len(split.texts),
        "what": split.what,
        "texts": sum(split.texts.values()),
        "against": rows,
    }


def table(result: dict[str, Any]) -> str:
    """The result as lines to read."""
    lines = [f"{result['split']}: {result['pictures']} pictures"]
    with_texts = result["what"] != "pictures"
    if with_texts:
        lines[0] += f", {result['texts']} {result['what']}"
    width = max(len(row["name"]) for row in result["against"])
    for row in result["against"]:
        line = f"  in {row['name']:<{width}} {_share(row['shared_pictures'], result['pictures'])}"
        if with_texts:
            line += f" pictures, {_share(row['shared_texts'], result['texts'])} {result['what']}"
        lines.append(line)
    return "\n".join(lines)


def write_filtered(split: PictureIds, left_out: set[int], against: list[str], output: Path) -> None:
    """A copy of a prepared folder, the named splits without some pictures.

    Raises:
        ValueError: nothing would be left of a split.
    """
    folder, splits = split.prepared or (Path(), [])
    record = read_record(folder)
    with new_folder(output) as unfinished:
        for path in sorted(folder.iterdir()):
            if path.is_dir():
                link_folder(path, unfinished / path.name)
            elif path.name != "dataset.json":
                write_text(unfinished / path.name, path.read_text(encoding="utf-8"))
        for name in splits:
            kept = _keep(folder / f"{name}.jsonl", left_out)
            if not any(kept):
                raise ValueError(
                    f"every picture of {folder}:{name} is in {', '.join(against)}; nothing is left."
                )
            for part in (f"{name}.jsonl", f"graphs/{name}.jsonl"):
                if (folder / part).is_file():  # written anew: a link's other end stays as it is
                    write_text(unfinished / part, _lines(folder / part, kept))
            _teach(unfinished, folder, name)
            record["splits"][name] = _recount(unfinished, name, split.what, record)
        record |= _renewed(unfinished, record)
        record.pop("official_counts", None)  # a filtered split has no published number
        record["filtered"] = {
            "from": str(folder),
            "splits": splits,
            "against": against,
            "left_out_pictures": len(left_out),
        }
        write_json(unfinished / "dataset.json", record)


def _renewed(folder: Path, record: dict[str, Any]) -> dict[str, Any]:
    """What a record says of all splits together, as it is now."""
    rows = {split: read_split(folder, split) for split in record["splits"]}
    renewed: dict[str, Any] = {}
    if "pictures_shared_with_train" in record:
        renewed["pictures_shared_with_train"] = shared_pictures(rows)
    if "box_source" in record:
        pictures = {row["image_id"] for part in rows.values() for row in part}
        store = RegionStore(folder / "regions")
        renewed["box_source"] = source_of_boxes(record["detector"], store, pictures)
    return renewed


def _teach(filtered: Path, folder: Path, split: str) -> None:
    """Let teachers that were asked about a split know what is left of it as well."""
    for path in filtered.glob("teachers/*/teacher.json"):
        record = json.loads(path.read_text(encoding="utf-8"))
        if record.get("splits", {}).get(split) == file_hash(folder / f"{split}.jsonl"):
            record["splits"][split] = file_hash(filtered / f"{split}.jsonl")
            write_json(path, record)


def _keep(path: Path, left_out: set[int]) -> list[bool]:
    return [json.loads(line)["image_id"] not in left_out for line in _split(path)]


def _lines(path: Path, kept: list[bool]) -> str:
    return "".join(line for line, keep in zip(_split(path), kept, strict=True) if keep)


def _split(path: Path) -> list[str]:
    with path.open(encoding="utf-8", newline="\n") as file:  # other line ends may stand in a text
        return file.readlines()


def _recount(folder: Path, split: str, what: str, record: dict[str, Any]) -> dict[str, Any]:
    """What a split holds, of the counts that can be had from it alone."""
    rows = read_split(folder, split)
    if record["task"] == "retrieval":
        return caption_counts(rows, record["identities"])
    if what == "expressions":
        return counts_of(rows, RegionStore(folder / "regions"))
    return {what: len(rows), "pictures": len({row["image_id"] for row in rows})}


def _share(part: int, whole: int) -> str:
    return f"{part:>7} of {whole} ({100 * part / whole if whole else 0:.1f} %)"
