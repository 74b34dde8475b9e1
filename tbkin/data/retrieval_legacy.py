"""Captions and region features as SCAN, VSE-infinity and SGRAF keep them.

::

    {train,dev,test,testall}_caps.txt   a caption a line, as many in a row for each picture (five)
    {…}_ims.npy                         (n, R, F) region features, perhaps each picture five times
    {…}_ids.txt                         a picture's number a line, perhaps each five times
    id_mapping.json                     number -> name of the picture's file; also one folder up

"testall" is COCO's whole test split, of which "test" is a fifth; it is read where it is there.
The features have no boxes, and nothing tells the size of the pictures.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tbkin.data.features import fingerprint
from tbkin.data.retrieval_files import Entry, PicturesAndCaptions, Source, plain_name
from tbkin.graphs.regions import Regions

PARTS = {"train": ("train",), "val": ("dev", "val"), "test": ("testall", "test")}
"""Split -> what the files call it, the first that is there counts."""

TIMES = 5
"""Rows that a picture has where it is repeated, and captions where nothing else tells."""

BOX_SOURCE = "none: features without boxes, every region has the whole picture as its box"


def read_legacy(source: Source) -> list[Entry]:
    """Entries of all splits.

    Args:
        source: its files are ``{split}_captions`` and, as far as there are such,
            ``{split}_features``, ``{split}_ids`` and ``id_mapping``.

    Raises:
        ValueError: numbers of lines and rows that do not fit; the message says which.
    """
    mapping = _mapping(source.files.get("id_mapping"))
    return [
        entry
        for split in PARTS
        if f"{split}_captions" in source.files
        for entry in _entries(source.files, split, mapping)
    ]


def _entries(files: dict[str, Path], split: str, mapping: dict[str, str]) -> Iterator[Entry]:
    captions, features = files[f"{split}_captions"], files.get(f"{split}_features")
    lines = _lines(captions)
    rows = open_features(features) if features else None
    ids = _lines(files[f"{split}_ids"]) if f"{split}_ids" in files else []
    if rows is not None:
        repeated = len(rows) == len(lines) and _repeated(rows)
        pictures = len(rows) // TIMES if repeated else len(rows)
    else:
        repeated = False
        pictures = len(dict.fromkeys(ids)) if ids else len(lines) // TIMES
    if not pictures or len(lines) % pictures:
        of = features or files.get(f"{split}_ids") or f"{TIMES} lines a picture"
        raise ValueError(
            f"{captions} has {len(lines)} captions, which are no whole number for each of "
            f"{pictures} pictures ({of}); give the files of one split."
        )
    if ids and len(ids) != pictures:
        ids = list(dict.fromkeys(ids))  # each as often as it has captions
        if len(ids) != pictures:
            raise ValueError(
                f"{files[f'{split}_ids']} names {len(ids)} pictures, {captions} has captions of "
                f"{pictures}; give the files of one split."
            )
    each = len(lines) // pictures
    for place, caption in enumerate(lines):
        picture = place // each
        own = ids[picture] if ids else ""
        yield Entry(
            place=f"{captions}, line {place + 1}",
            split=split,
            key=f"{split} {picture}",
            caption=caption,
            picture=mapping.get(own, ""),
            image_id=int(own) if own.isdecimal() else None,
            features=(features, picture * TIMES if repeated else picture) if features else None,
        )


def regions_without_boxes(found: PicturesAndCaptions) -> Iterator[Regions]:
    """Each picture's features as regions; the box of each is the whole picture, of 1 x 1 pixels.

    Args:
        found: its ``features`` name the files and rows.
    """
    opened: dict[Path, np.ndarray] = {}
    for image_id, (path, row) in found.features.items():
        if path not in opened:
            opened[path] = open_features(path)
        features = torch.from_numpy(np.array(opened[path][row], dtype=np.float32))
        count = len(features)
        yield Regions(
            boxes=torch.tensor([[0.0, 0.0, 1.0, 1.0]]).repeat(count, 1),
            width=1,
            height=1,
            labels=[""] * count,
            scores=[1.0] * count,
            attributes=[[] for _ in range(count)],
            features=features,
            image_id=str(image_id),
        )


def fingerprint_of_features(found: PicturesAndCaptions) -> dict[str, str]:
    """What these features must have in common with others; no file tells the extractor.

    Raises:
        ValueError: files of different widths.
    """
    paths = dict.fromkeys(path for path, _ in found.features.values())
    widths = {open_features(path).shape[2]: path for path in paths}
    if len(widths) > 1:
        listed = ", ".join(f"{width} in {path}" for width, path in widths.items())
        raise ValueError(f"region features must be equally wide, got {listed}; copy them again.")
    return fingerprint(f"precomputed, {next(iter(widths))} wide", "", BOX_SOURCE)


def open_features(path: Path) -> np.ndarray:
    """(n, R, F) features, mapped into memory.

    Raises:
        ValueError: no such array of numbers; arrays of objects (pickles) are refused.
    """
    try:
        rows = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise ValueError(f"{path} is no array of numbers ({error}); copy it again.") from error
    if rows.ndim != 3 or rows.dtype.kind != "f" or not rows.size:
        raise ValueError(
            f"{path} must hold (pictures, regions, features) floats, got {rows.dtype} {rows.shape}."
        )
    return rows


def _repeated(rows: np.ndarray) -> bool:
    """Whether every picture stands five times in a row; the ends and the middle are looked at."""
    groups, rest = divmod(len(rows), TIMES)
    if rest:
        return False
    looked = {0, groups // 2, groups - 1}
    return all(
        np.array_equal(rows[TIMES * group], rows[TIMES * group + after])
        for group in looked
        for after in range(1, TIMES)
    )


def _lines(path: Path) -> list[str]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8: {error}.") from error
    return [line.strip() for line in text.removesuffix("\n").split("\n")]


def _mapping(path: Path | None) -> dict[str, str]:
    if path is None:
        return {}
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON ({error}); copy it again.") from error
    if not isinstance(content, dict) or not all(isinstance(one, str) for one in content.values()):
        raise ValueError(f"{path} must be {{number: name of the picture}}.")
    return {number: plain_name(name) for number, name in content.items()}
