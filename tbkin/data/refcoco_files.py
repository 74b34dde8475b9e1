"""RefCOCO, RefCOCO+ and RefCOCOg: expressions, and the boxes of what they mean.

The official layout is that of the REFER toolkit (Yu et al., arXiv:1608.00272;
github.com/lichengunc/refer): ``refs(unc).p`` and ``instances.json`` in a folder ``refcoco``,
``refcoco+`` or ``refcocog``. ``refs(*).p`` is a pickled list, read as plain data. What names a
picture is ``instances.json``: a reference's ``file_name`` ends in the annotation's id. Other
layouts are in ``refcoco_variants.py``; ``refcoco_find.py`` finds either.

Every layout comes out as the same rows, one an expression::

    {"sentence_id": int, "ref_id": int, "ann_id": int, "image_id": int, "expression": str,
     "box": [x1, y1, x2, y2], "category": str}

Boxes are xyxy pixels as floats, uncut: x, y, x + width, y + height of the annotation.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tbkin.data.vqa_files import read_json
from tbkin.plain_pickle import load

Row = dict[str, Any]

DATASETS: dict[str, tuple[str, str]] = {
    "refcoco_unc": ("refcoco", "unc"),
    "refcoco_google": ("refcoco", "google"),
    "refcoco+_unc": ("refcoco+", "unc"),
    "refcocog_umd": ("refcocog", "umd"),
    "refcocog_google": ("refcocog", "google"),
}
"""Data set with its split -> the official folder, and who split it."""

ALIASES = {
    "unc": "refcoco_unc",
    "unc+": "refcoco+_unc",
    "gref_umd": "refcocog_umd",
    "gref": "refcocog_google",
}

PUBLISHED: dict[str, dict[str, int]] = {
    "refcoco_unc": {"val": 10_834, "testA": 5_657, "testB": 5_095},
    "refcoco+_unc": {"val": 10_758, "testA": 5_726, "testB": 4_889},
    "refcocog_umd": {"train": 80_512, "val": 4_896, "test": 9_602},
}
"""Expressions a split has in the official files, as far as papers agree on them."""

SPLITS = ("train", "val", "test", "testA", "testB", "testC")
"""In the order in which they are listed."""

MEND = "fetch the official files again (https://github.com/lichengunc/refer)"


@dataclass(frozen=True)
class Expressions:
    """What a copy of one of the data sets holds.

    Attributes:
        dataset: a key of ``DATASETS``.
        layout: the layout that it was read from, as ``refcoco_find.LAYOUTS`` names them.
        files: what was read.
        splits: "train", "val", "testA", … -> rows in the order of the files.
        pictures: image id -> file name of the picture, perhaps with a folder.
        sizes: image id -> (width, height) in pixels of the picture that the boxes belong to, where
            the layout tells.
    """

    dataset: str
    layout: str
    files: dict[str, Path]
    splits: dict[str, list[Row]]
    pictures: dict[int, str] = field(repr=False)
    sizes: dict[int, tuple[int, int]] = field(repr=False, default_factory=dict)

    def of(self, split: str) -> list[Row]:
        """The rows of one split; "test" is all that is for testing, as in the REFER toolkit.

        Raises:
            LookupError: there is no such split; names those there are.
        """
        if split in self.splits:
            return self.splits[split]
        tests = [rows for name, rows in self.splits.items() if name.startswith("test")]
        if split != "test" or not tests:
            raise LookupError(
                f"{self.dataset} has no split {split!r} here; there is: {', '.join(self.splits)}."
            )
        return list({row["sentence_id"]: row for rows in tests for row in rows}.values())

    def official_counts(self) -> dict[str, dict[str, int]]:
        """Split -> expressions ``found`` and ``published``, where a published number is known."""
        return {
            split: {"found": len(self.splits.get(split, [])), "published": count}
            for split, count in PUBLISHED.get(self.dataset, {}).items()
        }


def datasets_named(name: str) -> list[str]:
    """The data sets that a name may mean, of the many that are in use.

    Args:
        name: a key of ``DATASETS``, an alias of the field (``unc``, ``unc+``, ``gref_umd``,
            ``gref``), SeqTR's spelling (``refcocoplus-unc``), or a bare folder name such as
            ``refcocog``, which may mean several.

    Raises:
        ValueError: it means none of them.
    """
    plain = name.lower().replace("-", "_").replace("plus", "+")
    plain = ALIASES.get(plain, plain)
    found = [one for one, (folder, _) in DATASETS.items() if plain in (one, folder)]
    if not found:
        raise ValueError(
            f"unknown data set {name!r}; choose from: {', '.join(DATASETS)} (also "
            + ", ".join(f"{alias} = {one}" for alias, one in ALIASES.items())
            + ")."
        )
    return found


def splits_of(split: str, who: str) -> list[str]:
    """The splits that a reference with this split is in.

    As in the REFER toolkit, where testA means that the name contains A: "testAB" is in testA and
    in testB.

    Raises:
        ValueError: a name that the toolkit does not know; ``who`` begins the message.
    """
    if split in ("train", "val", "test"):
        return [split]
    if split.startswith("test") and set(split[4:]) <= set("ABC"):
        return [f"test{letter}" for letter in split[4:]]
    raise ValueError(
        f"{who} has the split {split!r}; known are train, val, test, testA, testB, testC."
    )


def read_refer(refs: Path, instances: Path, dataset: str) -> Expressions:
    """Read the official pair of files.

    Args:
        refs: ``refs(unc).p`` and the like, or the same list as JSON.
        instances: ``instances.json`` beside it.
        dataset: a key of ``DATASETS``.

    Raises:
        FileNotFoundError: one of them is missing.
        RefusedPickleError: (a ``ValueError``) the pickle asks for more than plain data.
        ValueError: a file that is damaged or of another layout, a reference whose annotation or
            picture is not in ``instances.json``, a sentence id that occurs twice.
    """
    content = read_json(instances, MEND)
    kinds = ("images", "annotations", "categories")
    lists = [content.get(kind) if isinstance(content, dict) else None for kind in kinds]
    if not all(isinstance(entries, list) for entries in lists):
        raise ValueError(f"{instances} needs the lists {', '.join(kinds)}; {MEND}.")
    files = {"refs": refs, "instances": instances}
    return Expressions(
        dataset, "refer", files, *join_refs(read_refs(refs), *lists, refs, instances)
    )


def read_refs(path: Path) -> list[Row]:
    """The references of ``refs(*).p``, or of the same list as JSON, as they are.

    Raises:
        FileNotFoundError, RefusedPickleError, ValueError: as :func:`read_refer`.
    """
    content = read_json(path, MEND) if path.suffix == ".json" else load(path)
    if not isinstance(content, list):
        raise ValueError(f"{path} holds a {type(content).__name__}, not a list; {MEND}.")
    wanted = {
        "ref_id": int,
        "ann_id": int,
        "image_id": int,
        "category_id": int,
        "split": str,
        "sentences": list,
    }
    for place, ref in enumerate(content):
        check_entry(ref, wanted, f"{path}: reference {place}")
        for sentence in ref["sentences"]:
            of = f"{path}: a sentence of ref_id {ref['ref_id']}"
            check_entry(sentence, {"sent_id": int, "sent": str}, of)
    return content


def join_refs(
    refs: list[Row],
    images: list[Row],
    annotations: list[Row],
    categories: list[Row],
    refs_path: Path,
    instances_path: Path,
) -> tuple[dict[str, list[Row]], dict[int, str], dict[int, tuple[int, int]]]:
    """Put each sentence beside its box.

    Args:
        refs: from :func:`read_refs`.
        images: ``{id, file_name}`` each, with ``width`` and ``height`` in pixels where known.
        annotations: ``{id, image_id, bbox}`` each, bbox xywh pixels.
        categories: ``{id, name}`` each.
        refs_path: for messages.
        instances_path: for messages.

    Returns:
        split -> rows; and of the pictures that references are of, image id -> file name, and image
        id -> (width, height), where it is known.
    """
    boxes = index(annotations, {"image_id": int, "bbox": list}, f"{instances_path}: annotation")
    files = index(images, {"file_name": str}, f"{instances_path}: image")
    names = index(categories, {"name": str}, f"{instances_path}: category")
    splits: dict[str, list[Row]] = {}
    pictures: dict[int, str] = {}
    sizes: dict[int, tuple[int, int]] = {}
    seen: set[int] = set()
    for ref in refs:
        who = f"{refs_path}: ref_id {ref['ref_id']}"
        for kind, key, table in (
            ("annotation", "ann_id", boxes),
            ("image", "image_id", files),
            ("category", "category_id", names),
        ):
            if ref[key] not in table:
                raise ValueError(
                    f"{who} is of {kind} {ref[key]}, which {instances_path} does not have; "
                    "give the two files of one data set."
                )
        annotation = boxes[ref["ann_id"]]
        if annotation["image_id"] != ref["image_id"]:
            raise ValueError(
                f"{who} is of image {ref['image_id']}, but its annotation {ref['ann_id']} is of "
                f"image {annotation['image_id']} in {instances_path}; give the two files of one "
                "data set."
            )
        pictures[ref["image_id"]] = files[ref["image_id"]]["file_name"]
        sizes |= size_of(ref["image_id"], files[ref["image_id"]])
        box = corners(annotation["bbox"], f"{instances_path}: annotation {ref['ann_id']}")
        rows = []
        for sentence in ref["sentences"]:
            if sentence["sent_id"] in seen:
                raise ValueError(f"{who}: sent_id {sentence['sent_id']} occurs twice; {MEND}.")
            seen.add(sentence["sent_id"])
            rows.append(
                {
                    "sentence_id": sentence["sent_id"],
                    "ref_id": ref["ref_id"],
                    "ann_id": ref["ann_id"],
                    "image_id": ref["image_id"],
                    "expression": sentence["sent"],
                    "box": box,
                    "category": names[ref["category_id"]]["name"],
                }
            )
        for split in splits_of(ref["split"], who):
            splits.setdefault(split, []).extend(rows)
    return {split: splits[split] for split in SPLITS if split in splits}, pictures, sizes


def size_of(image_id: int, entry: Row) -> dict[int, tuple[int, int]]:
    """``{image id: (width, height)}`` if an entry tells the size of its picture, else nothing."""
    width, height = entry.get("width"), entry.get("height")
    told = isinstance(width, int) and isinstance(height, int) and width > 0 and height > 0
    return {image_id: (width, height)} if told else {}


def corners(box: Any, who: str) -> list[float]:
    """A file's xywh pixels as xyxy pixels.

    Raises:
        ValueError: not four finite numbers, or a negative size; ``who`` begins the message.
    """
    numbers = isinstance(box, list | tuple) and len(box) == 4
    if not numbers or not all(
        isinstance(value, int | float) and math.isfinite(value) for value in box
    ):
        raise ValueError(f"{who} has the box {box!r}; wanted [x, y, width, height] in pixels.")
    x, y, width, height = (float(value) for value in box)
    if width < 0 or height < 0:
        raise ValueError(f"{who} has the box {box!r}, whose width or height is negative.")
    return [x, y, x + width, y + height]


def index(entries: Iterable[Any], wanted: dict[str, type], who: str) -> dict[int, Row]:
    """``id`` -> entry, each checked by :func:`check_entry`."""
    found = {}
    for place, entry in enumerate(entries):
        check_entry(entry, {"id": int, **wanted}, f"{who} {place}")
        found[entry["id"]] = entry
    return found


def check_entry(entry: Any, wanted: dict[str, type], who: str) -> None:
    """Raise ValueError unless an entry is a dict with these keys and types."""
    for key, kind in wanted.items():
        value = entry.get(key) if isinstance(entry, dict) else None
        if not isinstance(value, kind) or isinstance(value, bool):
            raise ValueError(f"{who} needs {key!r} of type {kind.__name__}, got {value!r}; {MEND}.")
