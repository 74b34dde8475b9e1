"""One picture -> its regions with features, the same way in preparation and in use."""

from __future__ import annotations

from typing import Any

from PIL import Image

from tbkin.data.features import fingerprint
from tbkin.detectors.pixels import SIDE, pixel_features
from tbkin.graphs.regions import Regions


def regions_of(detector: Any, image: Image.Image, image_id: str = "") -> Regions:
    """A picture's regions; their own pixels are their features if the detector brings none.

    Args:
        detector: see ``tbkin/detectors``.
        image: RGB.
        image_id: finds the picture in a detector's files.
    """
    regions = detector(image, image_id)
    if regions.features is None:
        regions.features = pixel_features(image, regions.boxes)
    return regions


def fingerprint_of(detector: Any) -> dict[str, str]:
    """What features of this detector must have in common with others to be used together."""
    return fingerprint(
        getattr(detector, "extractor", "") or f"pixels {SIDE}x{SIDE}",
        getattr(detector, "weights", ""),
        detector.policy,
    )
