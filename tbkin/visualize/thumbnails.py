"""Pictures side by side with a line or two below each: ``draw_thumbnails(thumbnails)``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from tbkin.visualize.svg import (
    SOFT,
    Area,
    Block,
    drawing,
    fit,
    flow,
    picture,
    rectangle,
    text,
)

SIDE, GAP, MARGIN = 170, 14, 4  # pixels: of a picture's longer side, between pictures, around all
LINE = 17  # height of a line of text
MARKED = "#14703a"


@dataclass(frozen=True)
class Thumbnail:
    """A picture to show small.

    Attributes:
        image: RGB.
        lines: below the picture; what does not fit is cut.
        marked: whether it gets a green frame.
    """

    image: Image.Image
    lines: Sequence[str] = ()
    marked: bool = False


def draw_thumbnails(thumbnails: Sequence[Thumbnail], columns: int = 5) -> str:
    """Rows of pictures, an ``<svg>``.

    Args:
        thumbnails: in their order.
        columns: pictures in a row.

    Raises:
        ValueError: no picture.
    """
    if not thumbnails:
        raise ValueError("there are no pictures to draw.")
    tallest = max(one.image.height * _scale(one.image) for one in thumbnails)
    height = tallest + LINE * max(len(one.lines) for one in thumbnails) + 4
    columns = min(columns, len(thumbnails))
    right = MARGIN + columns * SIDE + (columns - 1) * GAP
    places, bottom = flow(
        [SIDE] * len(thumbnails), height, MARGIN, right, MARGIN, (GAP, GAP), align=0
    )
    parts = [
        part
        for one, place in zip(thumbnails, places, strict=True)
        for part in _cell(one, place, tallest)
    ]
    block = Block(parts, right + MARGIN, bottom + MARGIN)
    said = "; ".join(" ".join(one.lines) for one in thumbnails)
    return drawing(block, f"Pictures side by side: {said}")


def _scale(image: Image.Image) -> float:
    """That makes the longer side ``SIDE``."""
    return SIDE / max(image.size)


def _cell(one: Thumbnail, place: Area, tallest: float) -> list[str]:
    """One picture, in the middle of the room for the tallest, and its lines."""
    scale = _scale(one.image)
    width, height = one.image.width * scale, one.image.height * scale
    frame = Area(place.x + (SIDE - width) / 2, place.y + (tallest - height) / 2, width, height)
    color, stroke = (MARKED, 4) if one.marked else (SOFT, 1)
    outline = f'fill="none" stroke="{color}" stroke-width="{stroke}"'
    lines = [
        text((place.middle, place.y + tallest + LINE * number), fit(words, SIDE, 12), size=12)
        for number, words in enumerate(one.lines, start=1)
    ]
    return [picture(frame, one.image), rectangle(frame, outline), *lines]
