"""RefCOCO, RefCOCO+ and RefCOCOg as other toolkits wrote them, as the rows of ``refcoco_files.py``.

======= ====================================================================================
layout  files
======= ====================================================================================
uniter  a folder a split (``refcoco_val.db``) with ``refs.json``, ``images.json``,
        ``annotations.json``, ``categories.json``: REFER's lists, cut to the split. RefCOCOg is
        UMD's (UNITER's ``prepro.py``, ``scripts/create_txtdb_re.sh``).
mdetr   ``finetune_refcoco_val.json``: COCO style, an "image" an expression with ``caption``,
        ``original_id`` and ``dataset_name``, and one annotation each. RefCOCOg is UMD's (MDETR's
        ``scripts/fine-tuning/refexp_coco_format.py``).
seqtr   ``refcoco-unc/instances.json``: split -> ``{image_id, expressions, bbox, width, height}``
        (SeqTR's ``seqtr/datasets``).
albef   ``refcoco+_val.json``: list of ``{image, text, ref_id}``; boxes and splits stand in the
        official files, which these lists need beside them (``dataset/grounding_dataset.py`` of
        ALBEF and X-VLM).
======= ====================================================================================

What a layout leaves out is filled in (*ours*): sentences without an id, or MDETR's where an id
occurs twice, are numbered in the order of the files; MDETR's references are named by their
annotation, SeqTR's references and annotations by their place; SeqTR's have no category (""). Such
ids are not the official ones.
"""

from __future__ import annotations

from pathlib import Path

from tbkin.data.refcoco_files import (
    MEND,
    SPLITS,
    Expressions,
    Row,
    check_entry,
    corners,
    index,
    join_refs,
    read_refer,
    read_refs,
    size_of,
    splits_of,
)
from tbkin.data.vqa_files import read_json

UNITER_FILES = ("images", "annotations", "categories")


def read_uniter(folders: list[Path], dataset: str) -> Expressions:
    """Read UNITER's text databases, one folder a split.

    Raises:
        FileNotFoundError, ValueError: as ``read_refer``.
    """
    splits: dict[str, list[Row]] = {}
    pictures: dict[int, str] = {}
    sizes: dict[int, tuple[int, int]] = {}
    files: dict[str, Path] = {}
    for folder in folders:
        paths = {name: folder / f"{name}.json" for name in ("refs", *UNITER_FILES)}
        lists = [read_json(paths[name], MEND) for name in UNITER_FILES]
        found, named, told = join_refs(read_refs(paths["refs"]), *lists, paths["refs"], folder)
        for split, rows in found.items():
            splits.setdefault(split, []).extend(rows)
        pictures |= named
        sizes |= told
        files |= {f"{folder.name}/{name}": path for name, path in paths.items()}
    check_ids(splits, folders[0].parent)
    return Expressions(dataset, "uniter", files, splits, pictures, sizes)


def read_mdetr(files: dict[str, Path], dataset: str) -> Expressions:
    """Read MDETR's fine-tuning files, one a split.

    Its sentences are numbered by its "images", which need to be distinct in a file only. Where an
    id occurs in two files, the sentences of all are numbered anew (*ours*), from 0 in the order of
    ``SPLITS`` and of the files; predictions by the files' own ids do not fit then.

    Raises:
        FileNotFoundError, ValueError: as ``read_refer``.
    """
    splits: dict[str, list[Row]] = {}
    pictures: dict[int, str] = {}
    sizes: dict[int, tuple[int, int]] = {}
    wanted = {"caption": str, "file_name": str, "original_id": int}
    for split, path in sorted(files.items(), key=lambda item: SPLITS.index(item[0])):
        content = read_json(path, MEND)
        if not isinstance(content, dict):
            raise ValueError(f"{path} holds a {type(content).__name__}, not a dict; {MEND}.")
        captions = index(content.get("images", []), wanted, f"{path}: image")
        names = index(content.get("categories", []), {"name": str}, f"{path}: category")
        of = {"image_id": int, "original_id": int, "category_id": int, "bbox": list}
        rows = []
        for number, one in index(content.get("annotations", []), of, f"{path}: annotation").items():
            image = captions.get(one["image_id"])
            if image is None or one["category_id"] not in names:
                raise ValueError(f"{path}: annotation {number} has no image or category; {MEND}.")
            pictures[image["original_id"]] = image["file_name"]
            sizes |= size_of(image["original_id"], image)
            rows.append(
                {
                    "sentence_id": one["image_id"],
                    "ref_id": one["original_id"],
                    "ann_id": one["original_id"],
                    "image_id": image["original_id"],
                    "expression": image["caption"],
                    "box": corners(one["bbox"], f"{path}: annotation {number}"),
                    "category": names[one["category_id"]]["name"],
                }
            )
        splits[split] = rows
        check_ids({split: rows}, path)
    rows = [row for rows in splits.values() for row in rows]
    if len({row["sentence_id"] for row in rows}) < len(rows):
        for number, row in enumerate(rows):
            row["sentence_id"] = number
    named = {f"{split}_expressions": path for split, path in files.items()}
    return Expressions(dataset, "mdetr", named, splits, pictures, sizes)


def read_seqtr(path: Path, dataset: str) -> Expressions:
    """Read SeqTR's ``instances.json``.

    Raises:
        FileNotFoundError, ValueError: as ``read_refer``.
    """
    content = read_json(path, MEND)
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds a {type(content).__name__}, not a dict of splits; {MEND}.")
    splits: dict[str, list[Row]] = {}
    pictures: dict[int, str] = {}
    sizes: dict[int, tuple[int, int]] = {}
    sentences = references = 0
    for split, entries in content.items():
        splits_of(split, str(path))
        rows = splits.setdefault(split, [])
        for place, entry in enumerate(entries):
            who = f"{path}: {split}[{place}]"
            check_entry(entry, {"image_id": int, "expressions": list, "bbox": list}, who)
            image_id = entry["image_id"]
            pictures[image_id] = f"COCO_train2014_{image_id:012d}.jpg"
            sizes |= size_of(image_id, entry)
            for expression in entry["expressions"]:
                rows.append(
                    {
                        "sentence_id": sentences,
                        "ref_id": references,
                        "ann_id": references,
                        "image_id": image_id,
                        "expression": expression,
                        "box": corners(entry["bbox"], who),
                        "category": "",
                    }
                )
                sentences += 1
            references += 1
    return Expressions(dataset, "seqtr", {"instances": path}, splits, pictures, sizes)


def read_albef(lists: list[Path], refs: Path, instances: Path, dataset: str) -> Expressions:
    """Read ALBEF's and X-VLM's lists with the official files that they speak of.

    Args:
        lists: ``refcoco+_train.json`` and so on; an expression is in the split of its reference.
        refs: official ``refs(unc).p``.
        instances: official ``instances.json``.
        dataset: a key of ``DATASETS``.

    Raises:
        FileNotFoundError, ValueError: as ``read_refer``; a ``ref_id`` that is not in ``refs``.
    """
    official = read_refer(refs, instances, dataset)
    known: dict[int, list[tuple[str, Row]]] = {}
    for split, rows in official.splits.items():
        for row in {row["ref_id"]: row for row in rows}.values():
            known.setdefault(row["ref_id"], []).append((split, row))
    splits: dict[str, list[Row]] = {split: [] for split in official.splits}
    number = 0
    for path in lists:
        entries = read_json(path, MEND)
        for place, entry in enumerate(entries):
            check_entry(entry, {"text": str, "ref_id": int}, f"{path}: entry {place}")
            if entry["ref_id"] not in known:
                raise ValueError(
                    f"{path}: entry {place} is of ref_id {entry['ref_id']}, which {refs} does not "
                    "have; give the files of one data set."
                )
            for split, row in known[entry["ref_id"]]:
                splits[split].append({**row, "sentence_id": number, "expression": entry["text"]})
            number += 1
    named = {path.stem: path for path in lists} | official.files
    splits = {split: rows for split, rows in splits.items() if rows}
    return Expressions(dataset, "albef", named, splits, official.pictures, official.sizes)


def check_ids(splits: dict[str, list[Row]], where: Path) -> None:
    """Raise ValueError if two expressions have one id."""
    seen: set[int] = set()
    for rows in splits.values():
        for row in rows:
            if row["sentence_id"] in seen:
                raise ValueError(f"{where}: sentence id {row['sentence_id']} occurs twice; {MEND}.")
            seen.add(row["sentence_id"])
