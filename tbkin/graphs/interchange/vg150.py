"""VG150, the split of Visual Genome that scene graph generation is measured on, from its h5 file.

``VG-SGG.h5`` or ``VG-SGG-with-attri.h5`` (Xu et al., CVPR 2017, arXiv:1701.02426) hold all pictures
in the order of ``image_data.json`` without the four broken ones; names are in
``VG-SGG-dicts(-with-attri).json``, numbered from 1. Boxes are centre x, y, width, height in a
picture whose longer side is 1024 (or 512) pixels.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from tbkin.graphs.interchange.picture import PictureRecord, clean_name, named, settle_boxes
from tbkin.graphs.interchange.visual_genome import BROKEN_IMAGE_IDS, read_sizes
from tbkin.graphs.regions import Regions

LONGER_SIDES = (1024, 512)
VAL_PICTURES = 5000  # the first so many training pictures are the validation split


def read_vg150(
    path: Path,
    counts: Counter[str],
    *,
    image_data: str = "",
    dicts: str = "",
    split: Literal["all", "train", "val", "test"] = "all",
    val_pictures: int = VAL_PICTURES,
    box_format: Literal["", "xyxy", "xywh", "cxcywh"] = "",
) -> Iterator[Regions]:
    """Pictures of a VG150 file, one at a time, in pixels of the original pictures.

    Args:
        path: the h5 file.
        counts: what was dropped or mended -> how often; added to.
        image_data: ``image_data.json`` with the sizes, where it is not beside the h5 file.
        dicts: the file of names, likewise.
        split: which pictures; ``val`` and ``train`` as the SGG code of the field cuts them: those
            with boxes and relations, the first ``val_pictures`` for validation.
        val_pictures: see ``split``.
        box_format: settles what the boxes are where they do not fit as centre, width and height.

    Raises:
        ImportError: without h5py.
        FileNotFoundError: a file that is missing.
        ValueError: files that do not belong together, or of another layout.
    """
    try:
        import h5py
    except ImportError as error:
        raise ImportError(
            "VG150 files need h5py; install it with: pip install 'tbkin[features]'."
        ) from error
    if split not in ("all", "train", "val", "test"):
        raise ValueError(f"unknown split {split!r}; choose from: all, test, train, val.")
    names = _read_names(Path(dicts) if dicts else _dicts_beside(path))
    sizes = read_sizes(path.parent, image_data)
    pictures = [(key, size) for key, size in sizes.items() if key not in BROKEN_IMAGE_IDS]
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}.")
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise ValueError(f"{path} is not an h5 file: {error}.") from error
    with file:
        with named(str(path)):
            table = _Table(file)
        if len(table.splits) != len(pictures):
            raise ValueError(
                f"{path} holds {len(table.splits)} pictures, image_data.json lists "
                f"{len(pictures)} beside the broken ones: they do not belong together."
            )
        for row in table.rows_of(split, val_pictures):
            image_id, size = pictures[row]
            who = f"{path}, picture {image_id}"
            with named(who):
                record = _record(table, row, image_id, size, names, box_format, who)
            yield record.regions(counts)


class _Table:
    """The h5 file: small arrays in memory, the others read by picture."""

    def __init__(self, file: Any):
        self.file = file
        self.splits = file["split"][:]
        self.boxes = {  # first and last row of each picture, inclusive; -1: none
            end: file[f"img_to_{end}_box"][:] for end in ("first", "last")
        }
        self.relations = {end: file[f"img_to_{end}_rel"][:] for end in ("first", "last")}
        sides = [side for side in LONGER_SIDES if f"boxes_{side}" in file]
        if not sides:
            raise KeyError("boxes_1024")
        self.side = sides[0]

    def rows_of(self, split: str, val_pictures: int) -> list[int]:
        """Which pictures belong to a split."""
        if split == "all":
            return list(range(len(self.splits)))
        wanted = 2 if split == "test" else 0
        rows = [
            row
            for row, number in enumerate(self.splits)
            if number == wanted
            and self.boxes["first"][row] >= 0
            and self.relations["first"][row] >= 0
        ]
        return {"test": rows, "val": rows[:val_pictures], "train": rows[val_pictures:]}[split]

    def take(self, name: str, ends: dict[str, Any], row: int) -> list[Any]:
        """The rows of a data set that belong to one picture."""
        first, last = int(ends["first"][row]), int(ends["last"][row])
        return self.file[name][first : last + 1].tolist() if first >= 0 else []


def _record(
    table: _Table,
    row: int,
    image_id: str,
    size: tuple[int, int],
    names: dict[str, dict[int, str]],
    box_format: str,
    who: str,
) -> PictureRecord:
    """One picture, its boxes scaled back."""
    scale = max(size) / table.side
    boxes = settle_boxes(
        table.take(f"boxes_{table.side}", table.boxes, row),
        "cxcywh",
        box_format,
        (size[0] / scale, size[1] / scale),
        who,
        others=("xyxy",),
    )
    labels = [
        _name(names["label"], label, "label", who)
        for (label,) in table.take("labels", table.boxes, row)
    ]
    attributes: list[list[tuple[str, float]]] = []
    if "attributes" in table.file and names["attribute"]:
        attributes = [
            [(_name(names["attribute"], one, "attribute", who), 1.0) for one in numbers if one]
            for numbers in table.take("attributes", table.boxes, row)
        ]
    first = int(table.boxes["first"][row])
    pairs = table.take("relationships", table.relations, row)
    predicates = table.take("predicates", table.relations, row)
    return PictureRecord(
        image_id,
        *size,
        boxes=[tuple(scale * value for value in box) for box in boxes],  # type: ignore[misc]
        labels=labels,
        attributes=attributes,
        relations=[
            (subject - first, _name(names["predicate"], predicate, "predicate", who), end, 1.0)
            for (subject, target), (predicate,) in zip(pairs, predicates, strict=True)
            for end in [target - first]
        ],
    )


def _read_names(path: Path) -> dict[str, dict[int, str]]:
    """``label``, ``predicate`` and ``attribute`` -> number -> name."""
    if not path.is_file():
        raise FileNotFoundError(f"no {path}: the names of VG150. Say where they are: dicts=FILE.")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}.") from error
    with named(str(path)):
        return {
            kind: {
                int(number): clean_name(name)
                for name, number in content.get(f"{kind}_to_idx", {}).items()
            }
            for kind in ("label", "predicate", "attribute")
        }


def _dicts_beside(path: Path) -> Path:
    """The file of names that goes with an h5 file."""
    tail = "-with-attri" if "with-attri" in path.name else ""
    return path.with_name(f"VG-SGG-dicts{tail}.json")


def _name(names: dict[int, str], number: int, kind: str, who: str) -> str:
    if number not in names:
        raise ValueError(
            f"{who}: {kind} {number} is not among the {len(names)} names; "
            "does the file of names belong to this h5 file?"
        )
    return names[number]
