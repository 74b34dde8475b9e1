"""The pieces that the drawings of ``tbkin.visualize`` are made of; knows no scene graph.

Everything returns SVG text. Lengths are pixels of the drawing, colours ``#rrggbb``.
"""

from __future__ import annotations

import base64
import io
import unicodedata
from dataclasses import dataclass
from html import escape

from PIL import Image

INK, SOFT, PALE = "#1f2933", "#566070", "#8a94a3"
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Noto Sans', 'DejaVu Sans', sans-serif"
HALO = 'paint-order="stroke" stroke="#ffffff" stroke-width="4" stroke-linejoin="round"'
DASHED = 'stroke-dasharray="4 3"'
LOW, HIGH = (232, 176, 190), (152, 14, 62)  # the ends of the relevance scale
PNG_PIXELS = 200 * 200  # pictures up to this size are embedded without loss

Point = tuple[float, float]


@dataclass(frozen=True)
class Area:
    """A rectangle of the drawing: its left upper corner and its size."""

    x: float
    y: float
    width: float
    height: float

    @property
    def middle(self) -> float:
        """The horizontal middle."""
        return self.x + self.width / 2

    @property
    def top(self) -> Point:
        """The middle of the upper side."""
        return (self.middle, self.y)

    @property
    def bottom(self) -> Point:
        """The middle of the lower side."""
        return (self.middle, self.y + self.height)

    def shared(self, other: Area) -> float:
        """Square pixels that both cover."""
        across = min(self.x + self.width, other.x + other.width) - max(self.x, other.x)
        down = min(self.y + self.height, other.y + other.height) - max(self.y, other.y)
        return max(across, 0) * max(down, 0)


def relevance_color(relevance: float) -> str:
    """From pale rose (0) to dark rose (1)."""
    share = min(max(relevance, 0.0), 1.0)
    mixed = [round(low + share * (high - low)) for low, high in zip(LOW, HIGH, strict=True)]
    return "#{:02x}{:02x}{:02x}".format(*mixed)


def text_on(relevance: float) -> str:
    """A colour of text that is legible on ``relevance_color(relevance)``."""
    return "#ffffff" if relevance > 0.4 else INK


def text_width(text: str, size: float = 13) -> float:
    """About how wide a text is drawn; generous, since the reader's font is not known."""
    em = sum(1.05 if unicodedata.east_asian_width(letter) in "WF" else 0.6 for letter in text)
    return em * size


def shorten(text: str, limit: int) -> str:
    """At most ``limit`` characters, the last one an ellipsis if some are missing."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


def flow(
    widths: list[float], height: float, left: float, right: float, top: float, gap: Point
) -> tuple[list[Area], float]:
    """Set things side by side in centred rows, as many to a row as fit.

    Args:
        widths: of the things, in their order.
        height: of each of them.
        left: the left side of the rows.
        right: the right side of the rows.
        top: of the first row.
        gap: pixels between neighbours in a row, and between rows.

    Returns:
        The place of each thing, and the bottom of the last row (``top`` without things).
    """
    rows: list[list[float]] = []
    for width in widths:
        if rows and sum(rows[-1]) + gap[0] * len(rows[-1]) + width <= right - left:
            rows[-1].append(width)
        else:
            rows.append([width])
    places = []
    for number, row in enumerate(rows):
        x = left + (right - left - sum(row) - gap[0] * (len(row) - 1)) / 2
        for width in row:
            places.append(Area(x, top + number * (height + gap[1]), width, height))
            x += width + gap[0]
    return places, places[-1].y + height if places else top


def rectangle(area: Area, style: str) -> str:
    """A ``<rect>``; ``style`` holds more attributes."""
    return (
        f'<rect x="{area.x:.1f}" y="{area.y:.1f}" width="{area.width:.1f}" '
        f'height="{area.height:.1f}" {style}/>'
    )


def text(at: Point, words: str, color: str = INK, size: float = 13, more: str = "") -> str:
    """A ``<text>`` around its middle; ``at`` is on its base line."""
    return (
        f'<text x="{at[0]:.1f}" y="{at[1]:.1f}" text-anchor="middle" font-size="{size}" '
        f'fill="{color}" {more}>{escape(words)}</text>'
    )


def curve(points: list[Point], color: str, width: float, more: str = "") -> str:
    """A cubic curve through ``points``: start, two controls, end."""
    start, first, second, end = (f"{x:.1f} {y:.1f}" for x, y in points)
    return (
        f'<path d="M{start}C{first} {second} {end}" fill="none" stroke="{color}" '
        f'stroke-width="{width:.1f}" stroke-linecap="round" {more}/>'
    )


def middle_of(points: list[Point]) -> Point:
    """Where a cubic curve is at half its way."""
    x, y = (
        (start + 3 * first + 3 * second + end) / 8
        for start, first, second, end in zip(*points, strict=True)
    )
    return x, y


def arrow_head(end: Point, before: Point, color: str) -> str:
    """A small triangle with its tip at ``end``, pointing away from ``before``."""
    away = (end[0] - before[0], end[1] - before[1])
    length = max((away[0] ** 2 + away[1] ** 2) ** 0.5, 1e-6)
    along = (away[0] / length * 8, away[1] / length * 8)
    side = (-along[1] / 2, along[0] / 2)
    base = (end[0] - along[0], end[1] - along[1])
    corners = (end, (base[0] + side[0], base[1] + side[1]), (base[0] - side[0], base[1] - side[1]))
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in corners)
    return f'<polygon points="{points}" fill="{color}"/>'


def picture(area: Area, image: Image.Image) -> str:
    """An ``<image>`` that fills ``area``, with its pixels in it as a data URI."""
    most = (round(2 * area.width), round(2 * area.height))  # twice: sharp on dense screens
    if image.width > most[0] and image.height > most[1]:
        image = image.resize(most, Image.Resampling.LANCZOS)
    lossless = image.width * image.height <= PNG_PIXELS
    buffer = io.BytesIO()
    if lossless:
        image.convert("RGB").save(buffer, "PNG", optimize=True)
    else:
        image.convert("RGB").save(buffer, "JPEG", quality=86)
    pixels = base64.b64encode(buffer.getvalue()).decode("ascii")
    return (
        f'<image x="{area.x:.1f}" y="{area.y:.1f}" width="{area.width:.1f}" '
        f'height="{area.height:.1f}" preserveAspectRatio="none" '
        f'href="data:image/{"png" if lossless else "jpeg"};base64,{pixels}"/>'
    )


def drawing(width: float, height: float, parts: list[str], description: str) -> str:
    """An ``<svg>`` that shrinks with its column; readable as a file of its own too."""
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" '
        f'width="{width:.0f}" height="{height:.0f}" role="img" font-family="{FONT}" '
        f'aria-label="{escape(description)}">\n{body}\n</svg>'
    )
