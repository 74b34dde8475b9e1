"""From the picture to words: where a region looks, before and after the threshold (SVG bars)."""

from __future__ import annotations

from PIL import Image

from tbkin.graphs.scene_graph import SceneGraph
from tbkin.visualize.attention import AttentionExport
from tbkin.visualize.attention_map import (
    DROPPED,
    HEAD,
    STRUCK,
    WIDTH,
    column_names,
    counted,
    fates,
    left,
    totals,
)
from tbkin.visualize.layout import name_of
from tbkin.visualize.masked import MaskedView
from tbkin.visualize.svg import INK, SOFT, Area, Block, fit, picture, rectangle, text

LABELS = 236  # the column that says which region
NAMES = 96  # the column of words
BARS = 222  # a column of bars
LONGEST = 110  # pixels of the longest bar
ROW, REGION_GAP = 19, 26  # pixels from word to word, and between regions
THUMB = 84
FILLED = 'fill="#1d5fa8"'
PLAIN = 'fill="#7b8aa0"'
HOLLOW = 'fill="#ffffff" stroke="#66707f" stroke-width="1" stroke-dasharray="3 2"'


def regions_block(
    image: Image.Image,
    graph: SceneGraph,
    attention: AttentionExport,
    regions: list[int],
    masked: dict[int, MaskedView],
    layer: int,
) -> Block:
    """For each region bars over the tokens, before and after the threshold.

    Args:
        image: RGB, of the graph's shape.
        graph: whose words and regions ``attention`` is about.
        attention: what the model did.
        regions: which of the picture's regions.
        masked: region -> ROSITA's view of it; shown in a last column if there is any.
        layer: of which to show the weights; 0 is the first, -1 the last.
    """
    drops = attention.drops(layer)
    names = ["before the threshold", "after"] if drops else ["weights"]
    names += ["ROSITA: the region masked"] if masked else []
    starts = [LABELS + NAMES + number * BARS for number in range(len(names))]
    parts, y = column_names([float(start) for start in starts], names), float(HEAD)
    for region in regions:
        row = attention.row(layer, attention.regions()[region], attention.tokens())
        states = fates(row)
        said = [totals(row, drops, "words"), counted(states, "tokens")]
        parts.append(_who(image, graph, region, said).at(0, y))
        most = max(*row.before, *row.after, 1e-9)
        view = masked[region].weights if region in masked else None
        for place, state in enumerate(states):
            level = y + place * ROW
            dropped = state == DROPPED
            name = fit(attention.positions[place], NAMES - 10, 12.5)
            look = (SOFT, 12.5, STRUCK) if dropped else (INK, 12.5, "")
            parts.append(text((LABELS, level + 12), name, *look, anchor="start"))
            bars = [_bar(row.before[place] / most, FILLED, f"{row.before[place]:.3f}")]
            if drops:  # what was lost is as long as it was
                length = row.before[place] if dropped else row.after[place]
                said = left(row, place, state, attention.keep.shape[1])
                bars.append(_bar(length / most, HOLLOW if dropped else FILLED, said))
            if view is not None:
                said = f"{view[place]:.3f}" if attention.words[place] >= 0 else "no word"
                bars.append(_bar(view[place] / max(*view, 1e-9), PLAIN, said))
            parts += [bar.at(x, level) for x, bar in zip(starts, bars, strict=False)]
        y += max(len(states) * ROW, THUMB + 60) + REGION_GAP
    return Block(parts, WIDTH, y - REGION_GAP)


def _bar(share: float, style: str, said: str) -> Block:
    """A bar, ``share`` in [0, 1] of the longest, and what is said of it."""
    length = LONGEST * share
    color = INK if style != HOLLOW else SOFT
    shape = [rectangle(Area(0, 2, length, 12), style)] if length else []
    label = text((length + 6, 12), said, color, 11.5, anchor="start")
    return Block([*shape, label], BARS, ROW)


def _who(image: Image.Image, graph: SceneGraph, region: int, said: list[str]) -> Block:
    """A region's part of the picture, its name, and its row in numbers."""
    place = graph.of_type("region")[region]
    left, top, right, bottom = graph.nodes[place].box
    scale = image.width / max(graph.width, 1)
    corner = (int(left * scale), int(top * scale))
    size = (max(round(right * scale) - corner[0], 1), max(round(bottom * scale) - corner[1], 1))
    cut = image.crop((*corner, corner[0] + size[0], corner[1] + size[1]))
    shrunk = THUMB / max(size)
    frame = Area(0, 2, max(size[0] * shrunk, 1), max(size[1] * shrunk, 1))
    x, y = frame.right + 10, frame.bottom
    name = fit(name_of(graph, place), LABELS - x - 8, 15)
    parts = [picture(frame, cut), text((x, 16), name, INK, 15, 'font-weight="600"', "start")]
    for number, line in enumerate(said):
        parts.append(text((0, y + 18 + 16 * number), line, SOFT, 12, anchor="start"))
    return Block(parts, LABELS, y + 18 + 16 * len(said))
