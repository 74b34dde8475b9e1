"""VinVL (Oscar) features as TSV, with the class names of a ``*.label.tsv`` beside them.

A row is ``key, num_boxes, base64`` or ``key, JSON {num_boxes, features}``. Features are (R, F + 6)
float32: F of the detector (2,048), then the box as shares of the picture's size: left, top, right,
bottom, and width and height in either order. Source: Zhang et al., "VinVL: Revisiting Visual
Representations in Vision-Language Models", CVPR 2021, arXiv:2101.00529.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from tbkin.detectors.precomputed_record import Reader, StoredRegions, reading
from tbkin.detectors.precomputed_rows import BESIDE, Rows, decode_array

GEOMETRY = 6
CLOSE = 0.02  # of the picture's size, between a labelled rectangle and its box; ours


class VinvlTable(Reader):
    """Feature rows, and their labels where a label file is there.

    Args:
        path: what the user named; the file or its folder.
        files: the feature files.
        labels: whether to look for the label files.
    """

    def __init__(self, path: Path, files: list[Path], labels: bool = True):
        self.rows = Rows(files)
        found = {label_file(file) for file in files} - {None} if labels else set()
        self.labels = Rows(sorted(found)) if found else None
        self.stores_labels = False  # names, not ids: a vocabulary has nothing to name
        super().__init__(path, "vinvl_tsv", self.rows.places)

    def record(self, key: str, labels: bool) -> StoredRegions:
        """One row, with names and confidences where there is a label file."""
        source = self.rows.source(key)
        with reading(source):
            stored = parse_row(self.rows.fields(key), source)
        if self.labels is None:
            return stored
        if key not in self.labels.places:
            raise ValueError(
                f"{self.labels.files[0]} has no row of image {key}; labels=none reads the "
                "features without it."
            )
        source = self.labels.source(key)
        with reading(source):
            add_labels(stored, self.labels.fields(key)[1])
        return stored


def parse_row(fields: list[bytes], source: str) -> StoredRegions:
    """The regions of a row of either form.

    Raises:
        ValueError: it has another form, or its last columns are no box geometry.
    """
    if len(fields) == 2:
        content = _json(fields[1])
        if not isinstance(content, dict) or not {"num_boxes", "features"} <= set(content):
            found = list(content)[:6] if isinstance(content, dict) else type(content).__name__
            raise ValueError(f"its JSON has no num_boxes and features, but {found}")
        count, encoded = content["num_boxes"], str(content["features"]).encode()
    elif len(fields) == 3 and fields[1].strip().isdigit():
        count, encoded = int(fields[1]), fields[2]
    else:
        raise ValueError(f"it has {len(fields)} columns; expected key, num_boxes, features")
    values = decode_array(encoded, "<f4")
    if type(count) is not int or count < 0 or values.size % max(count, 1):
        raise ValueError(f"it has {values.size} numbers for {count} boxes")
    values = values.reshape(count, values.size // count) if count else values.reshape(0, GEOMETRY)
    if values.shape[1] < GEOMETRY + (count > 0):
        raise ValueError(f"it has {values.shape[1]} numbers a box; expected features and 6 more")
    width = values.shape[1] - GEOMETRY
    geometry = values[:, width:]
    check_geometry(geometry)
    return StoredRegions(source, values[:, :width], geometry[:, :4], shares=True)


def check_geometry(geometry: np.ndarray) -> None:
    """Refuse what is not left, top, right, bottom, then width and height [and area], as shares.

    Raises:
        ValueError: the numbers contradict one another.
    """
    box = geometry[:, :4].astype(np.float64)
    size = box[:, 2:] - box[:, :2]
    rest = geometry[:, 4:6].astype(np.float64)
    bad = not np.isfinite(geometry).all() or (box > 1.01).any() or (box < -0.01).any()
    if rest.shape[1] == 2 and len(box) and not bad:
        bad = min(abs(rest - size).max(), abs(rest - size[:, ::-1]).max()) > 0.01
    if bad:
        raise ValueError(
            "its box geometry is not left, top, right, bottom, width, height as shares of the "
            f"picture's size: the first is {geometry[0].round(3).tolist()}"
        )


def add_labels(stored: StoredRegions, field: bytes) -> None:
    """Names and confidences of a JSON list of ``{class, rect, conf}``, box by box.

    Raises:
        ValueError: another number of boxes, or rectangles in another order.
    """
    found = _json(field)
    found = found.get("objects") if isinstance(found, dict) else found
    if not isinstance(found, list) or len(found) != len(stored.boxes):
        count = len(found) if isinstance(found, list) else "no list of"
        raise ValueError(f"it has {count} labels for {len(stored.boxes)} boxes")
    stored.names = [str(entry["class"]) for entry in found]
    if all("conf" in entry for entry in found):
        stored.object_scores = np.array([float(entry["conf"]) for entry in found])
    if found and all("rect" in entry for entry in found):
        _check_order(stored.boxes, np.array([entry["rect"] for entry in found], np.float64))


def _check_order(shares: np.ndarray, pixels: np.ndarray) -> None:
    """Pixels are shares times one size; estimate it and see whether every box agrees."""
    for axis in (0, 1):
        share, pixel = shares[:, axis::2].astype(np.float64), pixels[:, axis::2]
        size = (share * pixel).sum() / max((share * share).sum(), 1e-9)  # least squares
        if size > 0 and abs(share - pixel / size).max() > CLOSE:
            raise ValueError("its rectangles are not the boxes of the features, in their order")


def label_file(path: Path) -> Path | None:
    """``train.feature.tsv`` or ``train.tsv`` -> ``train.label.tsv``, or the only one there."""
    stem = path.name.removesuffix(".tsv")
    for ending in (".features", ".feature", ""):
        candidate = path.with_name(stem.removesuffix(ending) + ".label.tsv")
        if candidate.is_file():
            return candidate
    others = list(path.parent.glob("*.label.tsv"))
    features = [file for file in path.parent.glob("*.tsv") if not file.name.endswith(BESIDE)]
    return others[0] if len(others) == 1 and len(features) == 1 else None


def _json(field: bytes) -> Any:
    try:
        return json.loads(field)
    except (ValueError, RecursionError) as error:
        raise ValueError("its second column is no JSON") from error
