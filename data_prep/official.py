"""Official files and their pictures: what the steps that prepare a data set share."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data_prep.regions import find_pictures
from tbkin.detectors import DetectorSettings

Row = dict[str, Any]


def official_file(root: Path, name: str) -> Path | None:
    """A file by its official name, plain or gzip, in a folder or one folder down."""
    if not root.is_dir():
        raise FileNotFoundError(f"no folder {root}; set data.root to the official files' folder.")
    for folder in (root, *sorted(path for path in root.iterdir() if path.is_dir())):
        for candidate in (folder / name, folder / f"{name}.gz"):
            if candidate.is_file():
                return candidate
    return None


def hold_out(rows: list[Row], share: float) -> tuple[list[Row], list[Row]]:
    """Split by picture, the same way every time: (kept, held out)."""

    def order(image_id: int) -> str:
        return hashlib.sha256(str(image_id).encode()).hexdigest()

    pictures = sorted({row["image_id"] for row in rows}, key=order)
    if len(pictures) < 2:
        raise ValueError("cannot hold out validation pictures: the training file has only one.")
    count = min(max(1, round(share * len(pictures))), len(pictures) - 1)
    chosen = set(pictures[:count])
    return (
        [row for row in rows if row["image_id"] not in chosen],
        [row for row in rows if row["image_id"] in chosen],
    )


def pictures_of(splits: dict[str, list[Row]], folders: Sequence[str]) -> dict[str, Path]:
    """Image id -> picture file, for every row.

    Args:
        splits: rows with ``image_id``, a whole number.
        folders: of pictures; an empty name is passed over.

    Raises:
        FileNotFoundError: pictures that are missing; nothing is left out silently.
    """
    folders = [Path(name) for name in folders if name]
    if not folders:
        raise ValueError("data.images=[DIR] is needed when data.root is not set.")
    found = find_pictures(folders)
    wanted = sorted({row["image_id"] for rows in splits.values() for row in rows})
    missing = [number for number in wanted if str(number) not in found]
    if missing:
        raise FileNotFoundError(
            f"{len(missing)} of {len(wanted)} pictures are not in "
            f"{', '.join(str(folder) for folder in folders)} (first: a name ending in "
            f"{missing[0]:012d}). Name the picture folders with data.images=[DIR,DIR]."
        )
    return {str(number): found[str(number)] for number in wanted}


def with_boxes(detector: DetectorSettings, root: str) -> DetectorSettings:
    """Annotated and detected boxes have usual places below the root."""
    usual = {"annotated": "annotations/instances*.json", "detected": "detections/*.json"}
    if detector.name in usual and not detector.boxes and root:
        detector.boxes = [str(path) for path in sorted(Path(root).glob(usual[detector.name]))]
        if not detector.boxes:
            raise FileNotFoundError(
                f"no {usual[detector.name]} in {root}; name the files with detector.boxes=[FILE]."
            )
    return detector
