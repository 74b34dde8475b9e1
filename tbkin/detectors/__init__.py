"""Picture -> regions. A detector is any callable ``(image, image_id) -> Regions``.

Three strings tell its regions from another's: ``policy`` (how the boxes were chosen),
``extractor`` (what computed the features; "" if it brings none) and ``weights`` (their hash; ""
without).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, Literal, Protocol

from PIL import Image

from tbkin.config import choose, setting
from tbkin.detectors.annotated import AnnotatedBoxes
from tbkin.detectors.coco_labels import COCO_LABELS
from tbkin.detectors.detections import Detections
from tbkin.detectors.grid import Grid
from tbkin.detectors.precomputed import PrecomputedFeatures
from tbkin.detectors.precomputed_regions import read_vocabulary
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
        "grid",
        "grid, annotated, detected, detections, precomputed, huggingface or onnx; "
        "see tbkin/detectors",
    )
    rows: int = setting(6, "grid: rows of cells")
    columns: int = setting(6, "grid: columns of cells")
    boxes: list[str] = setting(
        [], "annotated, detected: COCO-style files, as [a.json,b.json]; detections: COCO results, "
        "MAttNet's or ALBEF's files"
    )  # fmt: skip
    missing: Literal["grid", "error"] = setting(
        "grid", "annotated, detected, detections: what a picture gets that the files do not list"
    )
    model: str = setting("", "huggingface: hub id or folder; onnx: file in YOLOX's layout")
    threshold: float | None = setting(
        None, "huggingface, onnx: least score of a region; not set: 0.3 and 0.35"
    )
    nms: float | None = setting(
        None, "huggingface, onnx: of two boxes with a larger IoU the weaker goes; not set: 0.7 and "
        "0.45 (onnx: of one class)"
    )  # fmt: skip
    max_regions: int = setting(36, "huggingface, onnx: the best so many stay")
    vocabulary: list[str] = setting([], "Grounding DINO: what to look for, as [dog,red car]")
    source: str = setting(
        "auto",
        "features: auto (the detector's finest map), pixels, decoder (huggingface), or an ONNX "
        "graph tensor",
    )
    threads: int = setting(1, "onnx: of onnxruntime")
    device: str = setting("cpu", "huggingface: cpu or cuda")
    features: str = setting("", "precomputed: file or folder")
    layout: str = setting("auto", "precomputed: layout of the files, where they do not tell")
    objects_vocabulary: str = setting(
        "", "precomputed, onnx: file of object names, one a line; onnx, not set: COCO's 80"
    )
    attributes_vocabulary: str = setting("", "precomputed: attribute names, one a line")
    labels: Literal["auto", "none"] = setting("auto", "precomputed: none leaves names out")

    def __post_init__(self) -> None:
        """Check the name; each detector checks its own settings."""
        choose(DETECTORS, self.name, "detector")


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


def _detections(settings: DetectorSettings) -> Detector:
    if not settings.boxes:
        raise ValueError(
            "detector detections needs detector.boxes=[FILE]: COCO results, MAttNet's or ALBEF's."
        )
    return Detections(settings.boxes)


def _precomputed(settings: DetectorSettings) -> Detector:
    if not settings.features:
        raise ValueError(
            "detector precomputed needs detector.features=PATH: region features, file or folder."
        )
    return PrecomputedFeatures(
        settings.features,
        settings.layout,
        settings.objects_vocabulary,
        settings.attributes_vocabulary,
        settings.labels,
    )


def _huggingface(settings: DetectorSettings) -> Detector:
    from tbkin.detectors.huggingface import HuggingFaceDetector

    sources = {"auto": "map", "map": "map", "decoder": "decoder", "pixels": "none"}
    return HuggingFaceDetector(
        _model_of(settings, "HUB_ID_OR_FOLDER, such as PekingU/rtdetr_v2_r18vd"),
        features=choose(sources, settings.source, "detector.source"),
        vocabulary=settings.vocabulary,
        device=settings.device,
        **_limits(settings),
    )


def _onnx(settings: DetectorSettings) -> Detector:
    from tbkin.detectors.yolox import OnnxDetector

    named = {"pixels": "none", "map": "auto"}
    own = settings.objects_vocabulary
    return OnnxDetector(
        _model_of(settings, "FILE.onnx in YOLOX's layout"),
        labels=read_vocabulary(own) if own else COCO_LABELS,
        features=named.get(settings.source, settings.source),
        threads=settings.threads,
        **_limits(settings),
    )


def _model_of(settings: DetectorSettings, what: str) -> str:
    if not settings.model:
        raise ValueError(f"detector {settings.name} needs detector.model={what}.")
    return settings.model


def _limits(settings: DetectorSettings) -> dict[str, Any]:
    """What was set of a detector's limits; it has its own defaults."""
    given = {"threshold": settings.threshold, "nms": settings.nms}
    return {
        "max_regions": settings.max_regions,
        **{name: value for name, value in given.items() if value is not None},
    }


DETECTORS: dict[str, Callable[[DetectorSettings], Any]] = {
    "grid": lambda settings: Grid(settings.rows, settings.columns),
    "annotated": _boxes,
    "detected": _boxes,
    "detections": _detections,
    "precomputed": _precomputed,
    "huggingface": _huggingface,
    "onnx": _onnx,
}


def short_detector(arguments: list[str]) -> list[str]:
    """Command-line words in which ``detector=grid`` stands for ``detector.name=grid``."""
    return [
        word.replace("detector=", "detector.name=", 1) if word.startswith("detector=") else word
        for word in arguments
    ]
