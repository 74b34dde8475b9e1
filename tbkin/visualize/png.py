"""SVG -> PNG with resvg, an optional library without any of its own.

Text is drawn in Aileron, the font inside Pillow, so that a machine without fonts draws the same;
letters that it lacks come from the system's fonts.
"""

from __future__ import annotations

import io
import re
import tempfile
import warnings
from html import escape, unescape
from pathlib import Path
from typing import Any

from PIL import Image, ImageFont

from tbkin.visualize.svg import FONT

FAMILY = "Aileron"
UNKNOWN = "\U000f0000"  # a private letter, which no font has
CELL = 40  # pixels a side, to look at one letter


def check_rasteriser() -> Any:
    """The module ``resvg_py``.

    Raises:
        ImportError: it is not installed.
    """
    try:
        import resvg_py
    except ImportError as error:
        raise ImportError(
            "a PNG needs resvg: pip install 'tbkin[png]' (or write .svg or .html, which need "
            "nothing)."
        ) from error
    return resvg_py


def rasterise(svg: str, scale: float = 2.0) -> bytes:
    """A drawing of ``svg.drawing`` as a PNG file on white ground.

    Args:
        svg: the drawing; a letter that no font has is drawn as a box, with a warning.
        scale: pixels a pixel of the drawing, > 0.

    Raises:
        ImportError: the extra ``png`` is missing.
        ValueError: ``scale`` out of range.
    """
    check_rasteriser()
    if not 0 < scale <= 8:
        raise ValueError(f"scale must be in (0, 8], got {scale}.")
    missing = missing_letters(svg)
    if missing:
        named = ", ".join(f"{letter} (U+{ord(letter):04X})" for letter in missing[:5])
        more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
        warnings.warn(
            f"no font of this machine has {named}{more}: the PNG shows boxes instead. Install a "
            "font that has them, or write .svg or .html, which use the reader's fonts.",
            stacklevel=2,
        )
    return _render(svg.replace(FONT, f"{FAMILY}, {FONT}"), scale)


def missing_letters(svg: str) -> list[str]:
    """Letters of a drawing's texts that no font of this machine has, each once, in order."""
    drawn = re.sub("<title>[^<]*</title>", "", svg)
    texts = unescape("".join(re.findall(">([^<]*)<", drawn)))
    rare = [letter for letter in dict.fromkeys(texts) if not letter.isascii()]
    rare = [letter for letter in rare if letter.isprintable() and not letter.isspace()]
    if not rare:
        return []
    cells = "".join(
        f'<text x="{CELL * number + 4}" y="28" font-size="20">{escape(letter)}</text>'
        for number, letter in enumerate([UNKNOWN, *rare])
    )
    width = CELL * (len(rare) + 1)
    sheet = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{CELL}" '
        f'font-family="{FAMILY}, {escape(FONT)}">{cells}</svg>'
    )
    with Image.open(io.BytesIO(_render(sheet, 1.0))) as seen:
        looks = [
            seen.crop((CELL * number, 0, CELL * (number + 1), CELL)).tobytes()
            for number in range(len(rare) + 1)
        ]
    return [letter for letter, look in zip(rare, looks[1:], strict=True) if look == looks[0]]


def _render(svg: str, scale: float) -> bytes:
    resvg = check_rasteriser()
    with tempfile.TemporaryDirectory() as folder:
        fonts = []
        font = getattr(ImageFont.load_default(13), "font_bytes", None)  # None: without FreeType
        if font:
            path = Path(folder) / "aileron.ttf"
            path.write_bytes(font)
            fonts.append(str(path))
        return bytes(
            resvg.svg_to_bytes(
                svg_string=svg,
                font_files=fonts or None,
                font_family=FAMILY if fonts else None,
                sans_serif_family=FAMILY if fonts else None,
                background="#ffffff",
                zoom=scale,
            )
        )
