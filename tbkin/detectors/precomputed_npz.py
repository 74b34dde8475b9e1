"""Features as one npz a picture: MILVLG (both ways round), ROSITA, UNITER, and plain arrays.

``milvlg_npz``: ``x, bbox, num_bbox, image_h, image_w`` and ``info``, a pickled dict of class ids
that only :mod:`tbkin.plain_pickle` opens, and only when labels are wanted. ``x`` is (R, F) or
(F, R); the number of boxes decides. One revision of that extractor counts background as class 0,
which no file tells: such ids need a vocabulary with one more line at its top.

``rosita_npz``: ``x, boxes, image_h, image_w`` and, where they are, ``objects_id, objects_conf,
attrs_id, attrs_conf``. ``uniter_npz``: ``features, norm_bb`` (shares of the picture's size),
``conf, soft_labels`` in float16. ``plain_npz``: ``features`` and ``boxes`` or ``bbox``; *ours*.
Boxes are xyxy pixels but in UNITER's.
"""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from tbkin.detectors.precomputed_record import (
    Reader,
    StoredRegions,
    class_scores,
    reading,
    rows_first,
    whole_ids,
)
from tbkin.detectors.precomputed_vinvl import check_geometry
from tbkin.plain_pickle import load_npy

FEATURES, BOXES = ("x", "features"), ("boxes", "bbox", "norm_bb")
LAYOUT_OF = {
    ("x", "bbox"): "milvlg_npz",
    ("x", "boxes"): "rosita_npz",
    ("features", "norm_bb"): "uniter_npz",
    ("features", "boxes"): "plain_npz",
    ("features", "bbox"): "plain_npz",
}
INFO = {  # names in MILVLG's info, older and newer
    "objects": ("objects_id", "objects"),
    "object_scores": ("objects_conf", "cls_prob"),
    "attributes": ("attrs_id",),
    "attribute_scores": ("attrs_conf", "attrs_scores"),
}
ARRAYS = {  # names in ROSITA's npz itself
    "objects": ("objects_id",),
    "object_scores": ("objects_conf",),
    "attributes": ("attrs_id",),
    "attribute_scores": ("attrs_conf",),
}


WANTED = {"num_bbox", "num_boxes", "image_h", "image_w", "conf", "soft_labels"}
WANTED |= {*FEATURES, *BOXES, *(name for names in ARRAYS.values() for name in names)}
LARGEST = 2**30  # bytes of one array; ours


class NpzFolder(Reader):
    """npz files, at any depth of a folder.

    Args:
        path: the folder.
        files: its npz files.
        layout: the layout of all of them.
    """

    def __init__(self, path: Path, files: list[Path], layout: str):
        self.files = {str(file.relative_to(path)): file for file in files}
        self.stores_labels = layout != "plain_npz"
        super().__init__(path, layout, self.files)

    def record(self, key: str, labels: bool) -> StoredRegions:
        """One file."""
        path = self.files[key]
        with reading(path):
            arrays, info = read_npz(path, labels and self.layout == "milvlg_npz")
            found = npz_layout(list(arrays))
            if found != self.layout:
                raise ValueError(f"it has the keys of {found}, the others those of {self.layout}")
            if found == "uniter_npz":
                return uniter_regions(arrays, str(path))
            return box_regions(arrays, info, str(path))


def read_npz(source: Path | bytes, with_info: bool = False) -> tuple[dict[str, Any], Any]:
    """The arrays of an npz and, if wanted, its pickled ``info`` as plain data; else None.

    Other arrays of objects are not opened.
    """
    arrays, info = {}, None
    with zipped(source) as content:
        names = member_names(content)
        for name in names:
            where = name if isinstance(source, bytes) else f"{source}, {name}"
            if name == "info" and with_info:
                info = load_npy(_member(content, name), where)
            elif name in WANTED:
                arrays[name] = load_npy(_member(content, name), where, objects=False)
    if not arrays:
        raise ValueError(f"it has none of {', '.join(FEATURES)}; it has {', '.join(names)}")
    return arrays, info


def zipped(source: Path | bytes) -> zipfile.ZipFile:
    """The zip that an npz is."""
    return zipfile.ZipFile(io.BytesIO(source) if isinstance(source, bytes) else source)


def member_names(content: zipfile.ZipFile) -> list[str]:
    """The keys of an npz."""
    names = [name.removesuffix(".npy") for name in content.namelist()]
    if len(set(names)) < len(names):
        raise ValueError("it has a key twice")
    return names


def _member(content: zipfile.ZipFile, name: str) -> bytes:
    if content.getinfo(f"{name}.npy").file_size > LARGEST:
        raise ValueError(f"its {name} would be over {LARGEST >> 30} GiB")
    return content.read(f"{name}.npy")


def npz_layout(names: list[str]) -> str:
    """The layout that an npz's keys mean.

    Raises:
        ValueError: none, or more than one.
    """
    features = [name for name in FEATURES if name in names]
    boxes = [name for name in BOXES if name in names]
    if len(features) > 1 or len(boxes) > 1:
        raise ValueError(f"it may be several layouts: it has {', '.join(features + boxes)}")
    if not features:
        raise ValueError(f"it has none of {', '.join(FEATURES)}; it has {', '.join(names)}")
    if not boxes:
        raise ValueError(f"it has none of {', '.join(BOXES)}; it has {', '.join(names)}")
    layout = LAYOUT_OF.get((features[0], boxes[0]))
    if layout is None:
        raise ValueError(f"no layout has {features[0]} together with {boxes[0]}")
    return layout


def box_regions(arrays: dict[str, Any], info: Any, source: str) -> StoredRegions:
    """Pixel boxes of the MILVLG, ROSITA and plain layouts."""
    boxes = arrays["boxes"] if "boxes" in arrays else arrays["bbox"]
    features = arrays["x"] if "x" in arrays else arrays["features"]
    for name in ("num_bbox", "num_boxes"):
        if name in arrays and int(arrays[name]) != len(boxes):
            raise ValueError(f"its {name} is {int(arrays[name])}, and it has {len(boxes)} boxes")
    size = None
    if "image_w" in arrays and "image_h" in arrays:
        size = int(arrays["image_w"]), int(arrays["image_h"])
    found = picked(info, INFO) if info is not None else picked(arrays, ARRAYS)
    return StoredRegions(source, rows_first(features, len(boxes)), boxes, size=size, **found)


def picked(content: Any, names: dict[str, tuple[str, ...]]) -> dict[str, np.ndarray]:
    """Class and attribute ids and confidences, by their names in a layout."""
    if not isinstance(content, dict):
        raise ValueError(f"its info is no dict but {type(content).__name__}")
    found = {}
    for ours, theirs in names.items():
        values = [content[name] for name in theirs if content.get(name) is not None]
        if values:
            found[ours] = np.asarray(values[0])
    for ids, scores in (("objects", "object_scores"), ("attributes", "attribute_scores")):
        if ids in found:
            found[ids] = whole_ids(found[ids])
            if scores in found:
                found[scores] = class_scores(found[scores], found[ids])
        elif found.get(scores, np.zeros(1)).ndim > 1:
            del found[scores]  # probabilities of classes whose best nobody named
    return found


def uniter_regions(arrays: dict[str, Any], source: str, count: int | None = None) -> StoredRegions:
    """Regions of UNITER's keys.

    ``norm_bb`` is stored with 6 numbers (left, top, right, bottom, width, height) or with the area
    as a seventh; ``soft_labels`` (R, 1 + classes) are probabilities with background first.

    Args:
        arrays: key -> array.
        source: for errors.
        count: how many of the regions, best first, the database's ``nbb`` file keeps.
    """
    missing = [name for name in ("features", "norm_bb") if name not in arrays]
    if missing:
        raise ValueError(f"it has no {', '.join(missing)}; it has {', '.join(arrays)}")
    geometry = np.asarray(arrays["norm_bb"])
    if geometry.ndim != 2 or geometry.shape[1] not in (4, 6, 7):
        raise ValueError(f"its norm_bb is {geometry.shape}, expected (regions, 6 or 7)")
    if count is not None and count > len(geometry):
        raise ValueError(f"the nbb file keeps {count} of its {len(geometry)} regions")
    check_geometry(geometry[:count])
    found: dict[str, Any] = {}
    if "soft_labels" in arrays:
        soft = np.asarray(arrays["soft_labels"])
        if soft.ndim != 2 or soft.shape[1] < 2:
            raise ValueError(f"its soft_labels are {soft.shape}, expected (regions, 1 + classes)")
        found = {"objects": soft[:count, 1:].argmax(1), "classes": soft.shape[1] - 1}
    if "conf" in arrays:
        found["object_scores"] = np.asarray(arrays["conf"]).reshape(len(geometry))[:count]
    features = np.asarray(arrays["features"])[:count]
    return StoredRegions(source, features, geometry[:count, :4], shares=True, **found)


def npz_files(folder: Path) -> list[Path]:
    """All npz files below a folder."""
    return sorted(folder.rglob("*.npz"))


def first_layout(files: list[Path]) -> str:
    """The layout of the first file; the others are compared when they are read."""
    with reading(files[0]), zipped(files[0]) as content:
        return npz_layout(member_names(content))
