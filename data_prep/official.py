"""Official files and their pictures: what the steps that prepare a data set share."""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from data_prep.regions import GRID_NOTE, PICTURES, find_pictures
from data_prep.tiny import RECORD
from tbkin.data.features import RegionStore
from tbkin.detectors import DetectorSettings
from tbkin.detectors.precomputed_names import image_number

Row = dict[str, Any]


def check_published(
    counts: Mapping[str, Mapping[str, int]],
    whose: str,
    items: str,
    mend: str,
    demanded: bool,
    quiet: bool = False,
) -> None:
    """Say where a data set has other sizes than published: cuts are usual, splits are mixed up.

    Args:
        counts: what is counted -> ``found`` and ``published``.
        whose: name of the data set.
        items: what the numbers are of, where their names do not say it; else "".
        mend: the way out.
        demanded: whether a difference is an error.
        quiet: not to say it.

    Raises:
        ValueError: ``demanded``, and a number differs or none is published.
    """
    differences = ", ".join(
        f"{what.replace('_', ' ')} {pair['found']:,} of {pair['published']:,}"
        for what, pair in counts.items()
        if pair["found"] != pair["published"]
    )
    if demanded and (differences or not counts):
        raise ValueError(
            f"official=true: {differences or f'no published numbers are known for {whose}'}; "
            f"{mend}, or leave official=true out."
        )
    if differences and not quiet:
        sys.stderr.write(
            f"note: not the published numbers of {whose}: {differences}{items and ' ' + items} "
            "(official=true refuses this)\n"
        )


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
    wanted = sorted({row["image_id"] for rows in splits.values() for row in rows})
    return pictures_named(dict.fromkeys(wanted, ""), folders)


def pictures_named(names: Mapping[int, str], folders: Sequence[str]) -> dict[str, Path]:
    """Image id -> picture file, by the file name that a data set gives it.

    Args:
        names: image id -> file name, perhaps with folders. Where it is "" or ends in the id, as
            COCO's do, the picture is the one whose name ends in that number.
        folders: of pictures; an empty name is passed over.

    Raises:
        FileNotFoundError: pictures that are missing; nothing is left out silently.
    """
    folders = [Path(name) for name in folders if name]
    if not folders:
        raise ValueError("data.images=[DIR] is needed when data.root is not set.")
    numbered = find_pictures(folders)
    own = {
        number: Path(name).name
        for number, name in names.items()
        if name and image_number(Path(name)) != str(number)
    }
    called: dict[str, Path] = {}
    if own:
        for path in (path for folder in folders for path in sorted(folder.rglob("*"))):
            if path.suffix.lower() in PICTURES:
                called.setdefault(path.name, path)
    found: dict[str, Path] = {}
    missing = []
    for number, name in names.items():
        path = called.get(own[number]) if number in own else numbered.get(str(number))
        if path is None:
            missing.append(Path(name).name or f"a name ending in {number:012d}")
        else:
            found[str(number)] = path
    if missing:
        raise FileNotFoundError(
            f"{len(missing)} of {len(names)} pictures are not in "
            f"{', '.join(str(folder) for folder in folders)} (first: {missing[0]}). "
            "Name the picture folders with data.images=[DIR,DIR]."
        )
    return found


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


def box_source(detector: Mapping[str, Any], store: RegionStore, pictures: Collection[int]) -> str:
    """In words, where the boxes come from: it belongs beside every score.

    Args:
        detector: settings, as in ``dataset.json``.
        store: what the detector made.
        pictures: the data set's image ids, all in the store.

    Raises:
        ValueError: the detector's files have no box in any of the pictures.
    """
    words = _words(detector)
    notes = store.manifest["notes"]
    grids = sum(notes.get(str(number), "").startswith(GRID_NOTE) for number in pictures)
    listed = (number for number in pictures if str(number) not in notes)
    if not any(len(store.without_features(number)) for number in listed):
        raise ValueError(
            f"{words}: no box in any of the {len(pictures)} pictures; are these the files of other "
            "pictures? Name others with detector.boxes=[FILE] overwrite=true, or detector=grid."
        )
    return f"{words} ({grids} of {len(pictures)} pictures: a grid instead)" if grids else words


def _words(detector: Mapping[str, Any]) -> str:
    name = detector["name"]
    if name == "annotated":
        return "annotated boxes"
    if name in ("detected", "detections"):
        return f"detections: {', '.join(Path(path).name for path in detector['boxes'])}"
    if name == "grid":
        return f"grid: {detector['rows']} x {detector['columns']} cells"
    of = detector["features"] if name == "precomputed" else detector["model"]
    return f"region detector: {name} {Path(of).name}"


def is_tiny(root: str) -> bool:
    """Whether a folder is a world of ``tbkin prep tiny``, which has no published numbers."""
    return bool(root) and (Path(root) / RECORD).is_file()


def link_folder(source: Path, target: Path) -> None:
    """A folder again, without its bytes where the disk allows: files get a second name."""
    shutil.copytree(source, target, copy_function=_link)


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # another disk
        shutil.copy2(source, target)
