"""Picture -> regions. A detector is any callable ``(image, image_id) -> Regions``.

Three strings tell its regions from another's: ``policy`` (how the boxes were chosen),
``extractor`` (what computed the features; "" if it brings none) and ``weights`` (their hash; ""
without).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, Protocol

from PIL import Image

from tbkin.config import choose, setting
from tbkin.detectors.annotated import AnnotatedBoxes
from tbkin.detectors.grid import Grid
from tbkin.detectors.precomputed import PrecomputedFeatures
from tbkin.graphs.regions import Regions


class Detector(Protocol):
    """What a row of ``DETECTORS`` makes."""

    policy: str
    extractor: str
    weights: str

    def __call__(self, image: Image.Image, image_id: str = "") -> Regions:
        """The regions of one RGB picture; ``LookupError`` where a file does not list it."""


@dataclass
class DetectorSettings:
    """Which boxes a picture gets."""

    name: str = setting(
        "grid", "grid, annotated, detected, precomputed, huggingface or onnx; see tbkin/detectors"
    )
    rows: int = setting(6, "grid: rows of cells")
    columns: int = setting(6, "grid: columns of cells")
    boxes: list[str] = setting([], "annotated, detected: COCO-style files, as [a.json,b.json]")
    missing: Literal["grid", "error"] = setting(
        "grid", "annotated, precomputed: what a picture gets that the files do not list"
    )
    model: str = setting("", "huggingface: hub id or folder; onnx: file in YOLOX's layout")
    threshold: float = setting(0.3, "huggingface, onnx: boxes with a lower score are dropped")
    nms: float = setting(0.5, "huggingface, onnx: of two boxes of a class that overlap more, one")
    max_regions: int = setting(36, "huggingface, onnx: the most confident are kept")
    vocabulary: list[str] = setting([], "huggingface, Grounding DINO: what to look for")
    source: Literal["auto", "map", "decoder", "pixels"] = setting(
        "auto", "huggingface, onnx: where features come from; auto: the detector's own map"
    )
    device: str = setting("cpu", "huggingface: cpu or cuda")
    features: str = setting("", "precomputed: file or folder")
    layout: str = setting("auto", "precomputed: layout of the files, where they do not tell")
    objects_vocabulary: str = setting("", "precomputed: object names, one a line")
    attributes_vocabulary: str = setting("", "precomputed: attribute names, one a line")

    def __post_init__(self) -> None:
        """Check names and ranges."""
        choose(DETECTORS, self.name, "detector")
        for name in ("threshold", "nms"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"detector.{name} must be in [0, 1], got {getattr(self, name)}.")
        if self.max_regions < 1:
            raise ValueError(f"detector.max_regions must be >= 1, got {self.max_regions}.")


def build_detector(settings: DetectorSettings | dict[str, Any]) -> Detector:
    """The detector that the settings, or those kept with a checkpoint, name."""
    if isinstance(settings, dict):
        known = {one.name for one in fields(DetectorSettings)}
        settings = DetectorSettings(**{key: settings[key] for key in settings if key in known})
    return choose(DETECTORS, settings.name, "detector")(settings)


def _boxes(settings: DetectorSettings) -> Detector:
    if not settings.boxes:
        raise ValueError(
            f"detector {settings.name} needs detector.boxes=[FILE]: boxes in COCO's layout."
        )
    return AnnotatedBoxes(settings.boxes)


def _precomputed(settings: DetectorSettings) -> Detector:
    if not settings.features:
        raise ValueError(
            "detector precomputed needs detector.features=PATH: a folder or file of region features."
        )
    return PrecomputedFeatures(settings.features)


def _model_of(settings: DetectorSettings, what: str) -> str:
    if not settings.model:
        raise ValueError(f"detector {settings.name} needs detector.model={what}.")
    return settings.model


DETECTORS: dict[str, Callable[[DetectorSettings], Any]] = {
    "grid": lambda settings: Grid(settings.rows, settings.columns),
    "annotated": _boxes,
    "detected": _boxes,
    "precomputed": _precomputed,
}


def settings_of(settings: DetectorSettings) -> dict[str, Any]:
    """The settings as plain JSON values."""
    return asdict(settings)
