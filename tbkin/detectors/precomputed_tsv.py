"""Bottom-up features as TSV: the layouts of BUTD, LXMERT and ROSITA.

All hold base64 of raw arrays: boxes (R, 4) float32 xyxy pixels of the stored picture size, features
(R, F) float32. LXMERT and ROSITA add class and attribute ids (int64, from 0, background not
counted) with confidences (float32). ROSITA's loader for referring expressions reads the ids as
float32, so files with such ids exist: the length in bytes tells, and four bytes an id are floats
when they are whole numbers as floats and int32 otherwise.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tbkin.detectors.precomputed_record import Reader, StoredRegions, reading, whole_ids
from tbkin.detectors.precomputed_rows import Rows, decode_array

IDS = ["objects", "object_scores", "attributes", "attribute_scores"]
COLUMNS: dict[str, list[str]] = {
    "butd_tsv": ["id", "width", "height", "count", "boxes", "features"],
    "lxmert_tsv": ["id", "height", "width", *IDS, "count", "boxes", "features"],
    "rosita_tsv": ["id", "features", "height", "width", "count", "boxes", *IDS],
}
SPELLINGS = {  # how a header row may name a column
    "id": "image_id img_id filename",
    "width": "image_w img_w w",
    "height": "image_h img_h h",
    "count": "num_boxes num_bbox n",
    "boxes": "boxes bbox",
    "features": "features x",
    "objects": "objects_id",
    "object_scores": "objects_conf",
    "attributes": "attrs_id",
    "attribute_scores": "attrs_conf",
}


class FeatureTable(Reader):
    """TSV files of one of the three layouts.

    Args:
        path: what the user named; the file or its folder.
        files: the TSV files.
        layout: a key of ``COLUMNS``.
        header: their column names, where the first row holds them.
    """

    def __init__(self, path: Path, files: list[Path], layout: str, header: list[str] | None = None):
        self.columns = header or COLUMNS[layout]
        self.rows = Rows(files, header=header is not None)
        self.stores_labels = "objects" in self.columns
        super().__init__(path, layout, self.rows.places)

    def record(self, key: str, labels: bool) -> StoredRegions:
        """One row."""
        source = self.rows.source(key)
        with reading(source):
            return parse_row(self.columns, self.rows.fields(key), source)


def header_columns(fields: list[bytes]) -> list[str] | None:
    """Our names of the columns that a header row names; None where it is no header row."""
    ours = {other: name for name, others in SPELLINGS.items() for other in others.split()}
    names = [ours.get(field.decode("utf-8", "replace").strip().lower()) for field in fields]
    return None if None in names or len(set(names)) < len(names) else names


def parse_row(columns: list[str], fields: list[bytes], source: str) -> StoredRegions:
    """The regions of one row.

    Raises:
        ValueError: a column is missing or its length does not fit the number of boxes.
    """
    if len(fields) != len(columns):
        raise ValueError(f"it has {len(fields)} columns instead of {len(columns)}")
    row = dict(zip(columns, fields, strict=True))
    count = _count(row, "count")
    boxes = decode_array(row["boxes"], "<f4")
    if boxes.size != count * 4:
        raise ValueError(f"it has {boxes.size} numbers in its boxes, expected 4 x {count}")
    features = decode_array(row["features"], "<f4")
    if features.size % max(count, 1) or (count and not features.size) or features.size < count:
        raise ValueError(f"it has {features.size} numbers in its features for {count} boxes")
    return StoredRegions(
        source,
        features.reshape(count, features.size // max(count, 1)),
        boxes.reshape(count, 4),
        size=(_count(row, "width"), _count(row, "height")),
        objects=_ids(row, "objects", count),
        object_scores=_scores(row, "object_scores", count),
        attributes=_ids(row, "attributes", count),
        attribute_scores=_scores(row, "attribute_scores", count),
    )


def _count(row: dict[str, bytes], name: str) -> int:
    text = row[name].strip()
    if not text.isdigit() or len(text) > 9:
        raise ValueError(f"its {name} is {text[:20]!r}, no whole number")
    return int(text)


def _scores(row: dict[str, bytes], name: str, count: int) -> np.ndarray | None:
    if name not in row:
        return None
    scores = decode_array(row[name], "<f4")
    if len(scores) != count:
        raise ValueError(f"it has {len(scores)} {name} for {count} boxes")
    return scores


def _ids(row: dict[str, bytes], name: str, count: int) -> np.ndarray | None:
    """Ids of 8 bytes (int64) or 4 (float32 or int32) each."""
    if name not in row:
        return None
    raw = decode_array(row[name], "u1")
    if len(raw) == 8 * count:
        return raw.view("<i8").astype(np.int64)
    if len(raw) != 4 * count:
        raise ValueError(f"it has {len(raw)} bytes of {name} for {count} boxes, expected 8 each")
    floats = raw.view("<f4")  # a small int32 read as float32 is a tiny fraction, never whole
    whole = np.isfinite(floats).all() and (floats % 1 == 0).all()
    return whole_ids(floats) if whole else raw.view("<i4").astype(np.int64)
