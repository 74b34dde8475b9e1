"""Picture -> regions. A detector is any callable ``(image, image_id) -> Regions``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from PIL import Image

from tbkin.detectors.annotated import AnnotatedBoxes
from tbkin.detectors.grid import Grid
from tbkin.detectors.precomputed import PrecomputedFeatures
from tbkin.graphs.regions import Regions

Detector = Callable[[Image.Image, str], Regions]

DETECTORS: dict[str, Callable[..., Any]] = {
    "grid": Grid,
    "annotated": AnnotatedBoxes,
    "detected": AnnotatedBoxes,
    "precomputed": PrecomputedFeatures,
}
