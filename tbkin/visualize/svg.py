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

DARK = 0.0213  # the luminance of INK
TURNS = frozenset("\u200e\u200f\u061c\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_WIDTHS = {
    letter: em
    for em, letters in (
        (0.3, "'Iijl·"),
        (0.35, " ,./:;\\|"),
        (0.4, "()-[]ft"),
        (0.45, "!r"),
        (0.5, '"`'),
        (0.55, "*Jcsz"),
        (0.6, "?L_kvxy"),
        (0.65, "$0123456789FTabdeghnopqu{}"),
        (0.7, "ABEKPSVXYZ"),
        (0.75, "CNRU"),
        (0.8, "&DGHOQ"),
        (0.85, "#+<=>^w~"),
        (0.9, "M"),
        (0.95, "%"),
        (1.0, "Wm…"),
        (1.05, "@"),
    )
    for letter in letters
}

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
    def right(self) -> float:
        """The right side."""
        return self.x + self.width

    @property
    def bottom(self) -> float:
        """The lower side."""
        return self.y + self.height

    @property
    def level(self) -> float:
        """The vertical middle."""
        return self.y + self.height / 2

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


def ink_on(color: str) -> str:
    """White or dark, whichever is more legible on ``color`` (WCAG's relative luminance)."""
    luminance = 0.0
    for start, share in ((1, 0.2126), (3, 0.7152), (5, 0.0722)):
        value = int(color[start : start + 2], 16) / 255
        luminance += share * (
            value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4
        )
    return "#ffffff" if 1.05 / (luminance + 0.05) >= (luminance + 0.05) / (DARK + 0.05) else INK


def clean(words: str) -> str:
    """One line of text that XML may hold: no control characters, nothing that turns the line."""
    return "".join(
        "\N{REPLACEMENT CHARACTER}"
        if unicodedata.category(letter) in ("Cc", "Cs", "Cn")
        else letter
        for letter in " ".join(words.split())
        if letter not in TURNS
    )


def text_width(text: str, size: float = 13) -> float:
    """About how wide a text is drawn; generous, since the reader's font is not known.

    The widths are the widest of DejaVu Sans, Liberation Sans and Aileron, three common fonts.
    """
    return sum(map(_em, text)) * size


def _em(letter: str) -> float:
    """The width of one letter in parts of the font's size."""
    if letter in _WIDTHS:
        return _WIDTHS[letter]
    if unicodedata.category(letter) in ("Mn", "Me", "Cf"):
        return 0.0
    if unicodedata.east_asian_width(letter) in "WF":
        return 1.3 if ord(letter) >= 0x1F000 else 1.05  # emoji are wider than ideographs
    return 0.7 if unicodedata.category(letter) in ("Ll", "Lo", "Nd") else 1.0


def shorten(text: str, limit: int) -> str:
    """At most ``limit`` characters, the last one an ellipsis if some are missing."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


def fit(text: str, width: float, size: float = 13) -> str:
    """As much of a text as ``width`` pixels hold, an ellipsis for the rest; on one clean line."""
    text = clean(text[:1000])
    if text_width(text, size) <= width:
        return text
    room, kept = width - text_width("…", size), 0
    while kept < len(text) and (room := room - text_width(text[kept], size)) >= 0:
        kept += 1
    return text[:kept].rstrip() + "…"


def flow(
    widths: list[float],
    height: float,
    left: float,
    right: float,
    top: float,
    gap: Point,
    align: float = 0.5,
) -> tuple[list[Area], float]:
    """Set things side by side in rows, as many to a row as fit.

    Args:
        widths: of the things, in their order.
        height: of each of them.
        left: the left side of the rows.
        right: the right side of the rows.
        top: of the first row.
        gap: pixels between neighbours in a row, and between rows.
        align: 0 sets rows at the left side, 0.5 in the middle.

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
        x = left + align * max(right - left - sum(row) - gap[0] * (len(row) - 1), 0)
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


def text(
    at: Point,
    words: str,
    color: str = INK,
    size: float = 13,
    more: str = "",
    anchor: str = "middle",
) -> str:
    """A ``<text>``; ``at`` is on its base line, at its ``start``, ``middle`` or ``end``."""
    return (
        f'<text x="{at[0]:.1f}" y="{at[1]:.1f}" text-anchor="{anchor}" font-size="{size}" '
        f'fill="{color}" {more}>{escape(clean(words))}</text>'
    )


def tooltip(words: str) -> str:
    """A ``<title>``."""
    return f"<title>{escape(clean(words))}</title>"


def path(steps: str, color: str, width: float, more: str = "") -> str:
    """An open ``<path>``; ``steps`` are those of its ``d``."""
    return (
        f'<path d="{steps}" fill="none" stroke="{color}" stroke-width="{width:.1f}" '
        f'stroke-linecap="round" {more}/>'
    )


def line(start: Point, end: Point, color: str, width: float, more: str = "") -> str:
    """A straight line."""
    return path(f"M{start[0]:.1f} {start[1]:.1f}L{end[0]:.1f} {end[1]:.1f}", color, width, more)


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


@dataclass(frozen=True)
class Block:
    """A part of a drawing: SVG text and the size it fills, from its left upper corner."""

    parts: list[str]
    width: float
    height: float

    def at(self, x: float, y: float) -> str:
        """The block as a ``<g>``, moved."""
        body = "\n".join(self.parts)
        return f'<g transform="translate({x:.1f} {y:.1f})">\n{body}\n</g>'


def drawing(block: Block, description: str) -> str:
    """An ``<svg>`` that shrinks with its column; readable as a file of its own too."""
    body = "\n".join(block.parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {block.width:.0f} '
        f'{block.height:.0f}" width="{block.width:.0f}" height="{block.height:.0f}" role="img" '
        f'font-family="{FONT}" aria-label="{escape(clean(description))}">\n{body}\n</svg>'
    )
