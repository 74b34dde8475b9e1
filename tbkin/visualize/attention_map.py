"""From words to the picture: where a word looks, before and after the threshold (SVG).

A row a word: what the numbers say, and the picture with its boxes lit by their weight, as ROSITA's
demo does (box brightness is the min-max normalised weight to the power 0.3).
"""

from __future__ import annotations

import base64
import hashlib
import io

from PIL import Image, ImageDraw

from tbkin.graphs.scene_graph import SceneGraph
from tbkin.visualize.attention import AttentionExport, AttentionRow
from tbkin.visualize.masked import MaskedView, brightness
from tbkin.visualize.svg import (
    INK,
    SOFT,
    Area,
    Block,
    Point,
    fit,
    picture,
    rectangle,
    text,
    text_width,
    tooltip,
)

WIDTH = 1016  # of a drawing, as wide as the page's text
LABELS, GAP = 266, 14  # the column of numbers, and pixels between columns
PANEL = (236, 236)  # the picture fills the one or the other
HEAD, ROW_GAP = 26, 18  # pixels of the columns' names, and between rows
LISTED = 6  # regions whose weights are written out
CROWDED = 12  # regions; from here on only those listed are framed
DARKEST = 0.85  # opacity of the shade where nothing is lit
KEPT, DROPPED, UNSEEN = "kept", "dropped", "dropped before fusion"
FRAMES = {
    KEPT: 'stroke="#ffffff" stroke-width="1.6"',
    DROPPED: 'stroke="#ffffff" stroke-width="1.2" stroke-dasharray="5 4"',
    UNSEEN: 'stroke="#ffffff" stroke-width="1.2" stroke-dasharray="1 4" stroke-linecap="round"',
}
STRUCK = 'text-decoration="line-through"'


def words_block(
    image: Image.Image,
    graph: SceneGraph,
    attention: AttentionExport,
    words: list[int],
    masked: dict[int, MaskedView],
    layer: int,
) -> Block:
    """A row for each word, with the picture lit before and after the threshold.

    Args:
        image: RGB, of the graph's shape.
        graph: whose words and regions ``attention`` is about.
        attention: what the model did.
        words: which of the text's words, none cut off.
        masked: word -> ROSITA's view of it; shown in a last column if there is any.
        layer: of which to show the weights; 0 is the first, -1 the last.
    """
    drops = attention.drops(layer)
    names = ["before the threshold", "after"] if drops else ["weights"]
    names += ["ROSITA: the word masked"] if masked else []
    across, down = image.size
    scale = min(PANEL[0] / across, PANEL[1] / down)
    frame = Area(0, 0, across * scale, down * scale)
    # Shown often, embedded once. The name must differ between the drawings of one page.
    name = f"seen-{hashlib.sha256(image.tobytes() + repr(graph.words).encode()).hexdigest()[:12]}"
    parts = [f'<defs><g id="{name}">{picture(frame, image)}</g></defs>']
    parts += column_names([LABELS + GAP + n * (PANEL[0] + GAP) for n in range(len(names))], names)
    boxes = [graph.nodes[place].box for place in graph.of_type("region")]
    boxes = [tuple(side * frame.width / max(graph.width, 1) for side in box) for box in boxes]
    y = float(HEAD)
    for word in words:
        row = attention.row(layer, attention.token_of(word), attention.regions())
        states = fates(row)
        most = [max(pair) for pair in zip(row.before, row.after, strict=True)]
        listing = _listing(graph.words[word], attention, row, states, most, drops)
        parts.append(listing.at(0, y))
        low, high = min([*row.before, *row.after], default=0), max(most, default=0)
        seen = [UNSEEN if state == UNSEEN else KEPT for state in states]
        panels = [_panel(name, frame, boxes, seen, most, brightness(row.before, low, high))]
        if drops:
            lit = brightness(row.after, low, high)
            panels.append(_panel(name, frame, boxes, states, most, lit))
        if word in masked:
            weights = masked[word].weights
            lit = brightness(weights, min(weights, default=0), max(weights, default=0))
            panels.append(_panel(name, frame, boxes, seen, weights, lit, told=2))
        for number, panel in enumerate(panels):
            parts.append(panel.at(LABELS + GAP + number * (PANEL[0] + GAP), y))
        y += max(frame.height, listing.height) + ROW_GAP
    return Block(parts, WIDTH, y - ROW_GAP)


def column_names(starts: list[float], names: list[str]) -> list[str]:
    """What stands above the columns."""
    return [
        text((x, 14), name, SOFT, 12.5, anchor="start")
        for x, name in zip(starts, names, strict=True)
    ]


def fates(row: AttentionRow) -> list[str]:
    """What became of each column: kept by a head, dropped by all, or never there."""
    return [
        UNSEEN if not valid else KEPT if heads > 0 else DROPPED
        for valid, heads in zip(row.valid, row.heads, strict=True)
    ]


def totals(row: AttentionRow, drops: bool, of: str) -> str:
    """How much of its attention a position gives to the other modality."""
    before, after = sum(row.before), sum(row.after)
    return f"attention on {of}: {before:.0%}" + (f" → {after:.0%}" if drops else "")


def counted(states: list[str], of: str) -> str:
    """How many were kept, and how many could not be."""
    there = len(states) - states.count(UNSEEN)
    said = f"kept {states.count(KEPT)} of {there} {of}"
    return f"{said}; {states.count(UNSEEN)} dropped earlier" if UNSEEN in states else said


def _listing(
    word: str,
    attention: AttentionExport,
    row: AttentionRow,
    states: list[str],
    most: list[float],
    drops: bool,
) -> Block:
    """A word, and the regions it gives most weight to, in numbers."""
    parts = [text((0, 16), fit(word, LABELS - 24, 18), INK, 18, 'font-weight="600"', "start")]
    parts.append(text((0, 35), totals(row, drops, "regions"), SOFT, 12, anchor="start"))
    parts.append(text((0, 51), counted(states, "regions"), SOFT, 12, anchor="start"))
    names = [attention.positions[place] for place in attention.regions()]
    order = [place for place, state in enumerate(states) if state != UNSEEN]
    order.sort(key=lambda place: -most[place])
    y = 74.0
    for place in order[:LISTED]:
        number = f"{row.before[place]:.3f}"
        if drops:
            number += f" → {left(row, place, states[place], attention.keep.shape[1])}"
        look = (SOFT, 12.5, STRUCK) if states[place] == DROPPED else (INK, 12.5, "")
        room = LABELS - text_width(number, 12.5) - 8
        parts.append(text((0, y), fit(names[place], room, 12.5), *look, anchor="start"))
        parts.append(text((LABELS, y), number, look[0], 12.5, anchor="end"))
        y += 17
    if len(order) > LISTED:
        parts.append(text((0, y), f"and {len(order) - LISTED} more", SOFT, 12, anchor="start"))
        y += 17
    return Block(parts, LABELS, y - 10)


def left(row: AttentionRow, place: int, state: str, heads: int) -> str:
    """A weight after the threshold; where some of the heads dropped it, how many kept it."""
    if state == DROPPED:
        return DROPPED
    kept = round(row.heads[place] * heads)
    return f"{row.after[place]:.3f}" + (f" ({kept}/{heads})" if kept < heads else "")


def _panel(
    name: str,
    frame: Area,
    boxes: list[tuple[float, ...]],
    states: list[str],
    weights: list[float],
    lit: list[float],
    told: int = 0,
) -> Block:
    """The picture, dark but for the boxes that are lit.

    Args:
        name: of the picture among the drawing's definitions.
        frame: its place.
        boxes: of the regions, xyxy pixels in the frame.
        states: their fates.
        weights: of which those with the most are framed if the picture is crowded.
        lit: their brightness in [0, 1].
        told: so many of the best have their weight in their tag.
    """
    parts = [f'<use href="#{name}"/>', _shade(frame, boxes, lit)]
    order = sorted(range(len(boxes)), key=lambda place: weights[place])
    for place in order if len(order) < CROWDED else order[-LISTED:]:
        left, top, right, bottom = boxes[place]
        said = str(place)
        if place in order[len(order) - told :] and states[place] == KEPT:
            said += f": {weights[place]:.2f}"
        parts.append(
            f'<g data-fate="{states[place]}">'
            + tooltip(f"region {place}, {states[place]}")
            + rectangle(
                Area(left, top, right - left, bottom - top), f'fill="none" {FRAMES[states[place]]}'
            )
            + _tag(frame, (left, top), said, states[place])
            + "</g>"
        )
    return Block(parts, frame.width, frame.height)


def _tag(frame: Area, at: Point, said: str, state: str) -> str:
    """A region's number in the corner of its box."""
    width = text_width(said, 10.5) + 6
    x, y = min(max(at[0], 0), frame.width - width), min(max(at[1], 0), frame.height - 14)
    kept = state == KEPT
    ground = rectangle(Area(x, y, width, 14), f'fill="{"#ffffff" if kept else "#3a434f"}"')
    ink, more = (INK, 'font-weight="600"') if kept else ("#ffffff", STRUCK)
    return ground + text((x + width / 2, y + 11), said, ink, 10.5, more)


def _shade(frame: Area, boxes: list[tuple[float, ...]], lit: list[float]) -> str:
    """Darkness over all but the lit boxes, a small picture; where boxes lap the brighter wins."""
    size = (max(round(frame.width), 1), max(round(frame.height), 1))
    alpha = Image.new("L", size, round(255 * DARKEST))
    pen = ImageDraw.Draw(alpha)
    for place in sorted(range(len(boxes)), key=lambda place: lit[place]):
        pen.rectangle(boxes[place], fill=round(255 * DARKEST * (1 - lit[place])))
    buffer = io.BytesIO()
    Image.merge("LA", (Image.new("L", size, 0), alpha)).save(buffer, "PNG", optimize=True)
    pixels = base64.b64encode(buffer.getvalue()).decode("ascii")
    return (
        f'<image x="0" y="0" width="{frame.width:.1f}" height="{frame.height:.1f}" '
        f'preserveAspectRatio="none" href="data:image/png;base64,{pixels}"/>'
    )
