"""The regions that a detector found in one picture."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass
class Regions:
    """Boxes of one picture with what the detector says of them.

    Attributes:
        boxes: (R, 4) xyxy pixels, float32.
        width, height: size of the picture in pixels.
        labels: R class names; "" where the detector names none (grid cells).
        scores: R confidences in [0, 1].
        attributes: for each region its (name, confidence) pairs.
        relations: (subject region, predicate, object region, confidence), for detectors that
            report relations.
        features: (R, F), or None until they are computed.
        image_id: whose picture.

    Raises:
        ValueError: lengths that differ, a box outside the picture or whose right (bottom) side is
            left of (above) the other, values that are not finite.
    """

    boxes: Tensor
    width: int
    height: int
    labels: list[str]
    scores: list[float]
    attributes: list[list[tuple[str, float]]]
    relations: list[tuple[int, str, int, float]] = field(default_factory=list)
    features: Tensor | None = None
    image_id: str = ""

    def __post_init__(self) -> None:
        count = len(self.labels)
        if self.boxes.shape != (count, 4):
            raise ValueError(
                f"{self._who()}: boxes must be ({count}, 4) for {count} labels, "
                f"got {tuple(self.boxes.shape)}."
            )
        if len(self.scores) != count or len(self.attributes) != count:
            raise ValueError(
                f"{self._who()}: {count} labels, {len(self.scores)} scores and "
                f"{len(self.attributes)} attribute lists; there must be one of each a region."
            )
        if self.features is not None and len(self.features) != count:
            raise ValueError(
                f"{self._who()}: {len(self.features)} feature rows for {count} regions."
            )
        if not torch.isfinite(self.boxes).all():
            raise ValueError(f"{self._who()}: boxes hold values that are not finite.")
        if self.features is not None and not torch.isfinite(self.features).all():
            raise ValueError(
                f"{self._who()}: region features hold NaN or infinite values; extract them again."
            )
        limit = torch.tensor([self.width, self.height] * 2)
        if (self.boxes < 0).any() or (self.boxes > limit).any():
            raise ValueError(
                f"{self._who()}: a box leaves the picture of {self.width} x {self.height} pixels; "
                "boxes are xyxy pixels."
            )
        inverted = (self.boxes[:, 2:] < self.boxes[:, :2]).any(dim=1)
        if inverted.any():
            place = int(inverted.nonzero()[0])
            raise ValueError(
                f"{self._who()}: box {place} ends before it starts "
                f"({', '.join(f'{value:g}' for value in self.boxes[place].tolist())}); boxes are "
                "left, top, right, bottom, not left, top, width, height."
            )

    def __len__(self) -> int:
        return len(self.labels)

    def _who(self) -> str:
        return f"regions of image {self.image_id}" if self.image_id else "regions"
