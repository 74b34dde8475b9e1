"""Regions and features of pictures: ``tbkin prep regions images=DIR output=DIR detector=grid``.

Boxes come from a detector: ``grid`` (cells, for any picture), ``annotated`` (COCO instances),
``detected`` (a detector's output in the same layout, with its labels and scores) or
``precomputed`` (region features in npz files). Features are the regions' own pixels unless the
detector brings its own.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from tqdm import tqdm

from tbkin.config import choose, help_text, load_config, setting
from tbkin.data.features import fingerprint, write_regions
from tbkin.detectors import DETECTORS
from tbkin.detectors.grid import Grid
from tbkin.detectors.pixels import SIDE, open_picture, pixel_features
from tbkin.detectors.precomputed import image_number
from tbkin.graphs.regions import Regions

PICTURES = (".jpg", ".jpeg", ".png")


@dataclass
class DetectorSettings:
    """Which boxes a picture gets."""

    name: str = setting("grid", "grid, annotated, detected or precomputed")
    rows: int = setting(6, "grid: rows of cells")
    columns: int = setting(6, "grid: columns of cells")
    boxes: list[str] = setting([], "annotated, detected: COCO-style files, as [a.json,b.json]")
    features: str = setting("", "precomputed: folder with one npz a picture")
    missing: Literal["grid", "error"] = setting(
        "grid", "annotated: what a picture gets that the files do not list"
    )


@dataclass
class RegionsConfig:
    """One run of the step."""

    images: str = setting("", "folder of pictures whose names end in a number")
    output: str = setting("", "region store to write")
    overwrite: bool = setting(False, "replace a store that is there")
    detector: DetectorSettings = field(default_factory=DetectorSettings)


def main(arguments: list[str]) -> None:
    """Parse the settings and write the store."""
    if "--help" in arguments or "-h" in arguments:
        sys.stdout.write(help_text(__doc__, RegionsConfig) + "\n")
        return
    config = load_config(RegionsConfig, short_detector(arguments))
    if not config.images or not config.output:
        raise ValueError("tbkin prep regions needs images=DIR and output=DIR.")
    output = Path(config.output)
    if not make_way(output, config.overwrite):
        return
    paths = find_pictures([Path(config.images)])
    count = extract(paths, config.detector, output)
    sys.stdout.write(f"{output}: regions of {count} pictures\n")


def extract(paths: Mapping[str, Path], settings: DetectorSettings, output: Path) -> int:
    """Write the regions of some pictures; return how many pictures.

    Args:
        paths: image id -> picture.
        settings: of the detector.
        output: the store to write.
    """
    detector = build_detector(settings)
    brings_features = settings.name == "precomputed"
    extractor = "precomputed" if brings_features else f"pixels {SIDE}x{SIDE}"
    mark = fingerprint(extractor, "", detector.policy)
    return write_regions(output, _regions(paths, detector, settings.missing), mark)


def build_detector(settings: DetectorSettings) -> Any:
    """The detector that the settings name."""
    kind = choose(DETECTORS, settings.name, "detector")
    if settings.name == "grid":
        return kind(settings.rows, settings.columns)
    if settings.name in ("annotated", "detected"):
        if not settings.boxes:
            raise ValueError(
                f"detector {settings.name} needs detector.boxes=[FILE]: boxes in COCO's layout."
            )
        return kind(settings.boxes)
    if not settings.features:
        raise ValueError("detector precomputed needs detector.features=DIR: one npz a picture.")
    return kind(settings.features)


def find_pictures(folders: Iterable[Path]) -> dict[str, Path]:
    """Image id -> file, for every picture below some folders whose name ends in a number.

    A folder may hold an ``index.json``, a list of ``{"image_id", "file"}``, for pictures that lie
    elsewhere; ``file`` is relative to it.
    """
    found: dict[str, Path] = {}
    for folder in folders:
        if not folder.is_dir():
            raise FileNotFoundError(f"no picture folder {folder}.")
        index = folder / "index.json"
        if index.is_file():
            for entry in json.loads(index.read_text(encoding="utf-8")):
                found[str(entry["image_id"])] = folder / entry["file"]
        for path in sorted(folder.rglob("*")):
            if path.suffix.lower() in PICTURES and path.stem[-1:].isdigit():
                found.setdefault(image_number(path), path)
    return found


def make_way(output: Path, overwrite: bool) -> bool:
    """Whether to write ``output``: not if it is there, unless ``overwrite``."""
    if output.exists() and not overwrite:
        sys.stdout.write(f"{output} is there already; overwrite=true makes it again\n")
        return False
    return True


def _regions(paths: Mapping[str, Path], detector: Any, missing: str) -> Iterator[Regions]:
    """Detect, and add pixel features where there are none."""
    substitutes = 0
    for image_id, path in tqdm(paths.items(), desc="regions", unit="picture", disable=None):
        image = open_picture(path)
        try:
            regions = detector(image, image_id)
        except LookupError:
            if missing == "error":
                raise
            substitutes += 1
            regions = Grid()(image, image_id)
        if regions.features is None:
            regions.features = pixel_features(image, regions.boxes)
        yield regions
    if substitutes:
        sys.stderr.write(
            f"{substitutes} of {len(paths)} pictures have no annotated boxes; they got a grid "
            "(detector.missing=error refuses)\n"
        )


def short_detector(arguments: list[str]) -> list[str]:
    """``detector=grid`` is short for ``detector.name=grid``."""
    return [
        word.replace("detector=", "detector.name=", 1) if word.startswith("detector=") else word
        for word in arguments
    ]
