"""Where the nodes of a scene graph stand: attributes, regions and words in three columns.

Lines between columns never cross a node: those from words to attributes pass through *tracks*,
free rows between the regions. Relations within a column are brackets at its outer side.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from tbkin.graphs.scene_graph import SceneGraph
from tbkin.visualize.edges import ALIGNED, Line
from tbkin.visualize.svg import Area, fit, text_width

TOP = 30  # the columns' names stand above
CHIP, REGION, PALE_ROW, TRACK, GAP = 24, 28, 20, 14, 6  # heights of rows, and between them
PORT = 13  # pixels between two lines that end at one region, as much as a number needs
ARROW = 6  # pixels between two brackets that end at one node
NUMBER, THUMB = 30, 40  # widths of a region's number and cut-out
STRENGTHS = 40  # room for the numbers beside the regions
ACROSS = 260  # from the regions to the words
SEEN_ACROSS = 90  # from the attributes to the regions
LANES = 150  # room for the brackets of a column
LABEL = 130  # the widest text on a chip
EDGE = 10  # at the left and right side of the drawing


@dataclass
class Layout:
    """Places of what is drawn.

    Attributes:
        places: node -> its chip.
        names: node -> what is written on it.
        pale: words that are no nodes: (word, left end of its base line).
        headers: (column, its horizontal middle).
        levels: edge -> where an alignment reaches the regions' column, or passes through it.
        lanes: edge -> (left or right end of a bracket's arms, levels of its start and end).
        lanes_end: the left side of the regions' brackets; lines to attributes bend left of it.
        strengths: where the numbers beside the regions begin.
        width, height: of the whole.
    """

    places: dict[int, Area] = field(default_factory=dict)
    names: dict[int, str] = field(default_factory=dict)
    pale: list[tuple[str, tuple[float, float]]] = field(default_factory=list)
    headers: list[tuple[str, float]] = field(default_factory=list)
    levels: dict[int, float] = field(default_factory=dict)
    lanes: dict[int, tuple[float, float, float]] = field(default_factory=dict)
    lanes_end: float = 0.0
    strengths: float = 0.0
    width: float = 0.0
    height: float = 0.0


def name_of(graph: SceneGraph, place: int) -> str:
    """What to call a node: a word as it was said, a region with its number."""
    node = graph.nodes[place]
    if node.type == "word":
        return graph.words[node.index] if node.index >= 0 else f"({node.text or node.label})"
    if node.type == "region":
        return f"{node.index} {node.label}" if node.label else f"cell {node.index}"
    return node.label or f"attribute {place}"


def lay_out(graph: SceneGraph, lines: list[Line], kept: list[bool], pictured: bool) -> Layout:
    """Set every node, and the words that are no nodes.

    Args:
        graph: any scene graph.
        lines: the edges to draw.
        kept: (N,); what was dropped stands below the rest.
        pictured: whether regions show their part of the picture.
    """
    layout = Layout()
    rows = reading_order(graph)
    regions, tracks = _region_rows(graph, lines, rows, kept)
    label = max(
        (text_width(fit(graph.nodes[place].label, LABEL, 12), 12) for place in regions), default=0.0
    )
    region_width = NUMBER + (THUMB if pictured else 0) + label + 14
    widths = {place: _named(graph, place, layout) for place in graph.of_type("attribute")}
    attribute_width = max(widths.values(), default=0.0)
    held = [line for line in lines if line.kind in ("holds", "geometry")]

    left = EDGE + (attribute_width + (SEEN_ACROSS if regions or held else 0) if widths else 0)
    lane_of = _lanes(held, {place: float(row) for row, place in enumerate(regions)})
    room, first, pitch = _room(held, lane_of)
    brackets = Counter(end for line in held for end in (line.source, line.target))
    layout.lanes_end, left = left, left + room
    bottom = TOP
    for item in sorted([*regions.items(), *tracks.items()], key=lambda item: item[1]):
        place, _ = item
        if isinstance(place, int):
            ends = [line.edge for line in lines if line.target == place and line.kind in ALIGNED]
            ends.sort(key=lambda edge: rows[graph.edges[edge].source])
            height = max(REGION, PORT * len(ends) + 4, ARROW * brackets[place] + 6)
            layout.places[place] = Area(left, bottom, region_width, height)
            for number, edge in enumerate(ends):
                layout.levels[edge] = bottom + height / 2 + PORT * (number - (len(ends) - 1) / 2)
        else:
            height = TRACK
            layout.levels[place[0]] = bottom + height / 2
        bottom += height + GAP
    _bracket_places(held, lane_of, layout, left - first, -pitch)
    bottom = _set_attributes(graph, lines, widths, attribute_width, bottom, layout)
    right = left + (region_width if regions else 0)
    layout.strengths = right
    if regions:
        layout.headers.append(("regions seen", left + region_width / 2))
    if not rows and not graph.words:
        layout.width, layout.height = right + EDGE, bottom
        return layout
    if regions or widths:
        right += STRENGTHS + ACROSS
    bottom = max(bottom, _set_words(graph, lines, rows, right, bottom, layout))
    layout.height = bottom
    return layout


def reading_order(graph: SceneGraph) -> dict[int, int]:
    """Word node -> its row, as the sentence reads; what is implied follows what implies it."""
    words = graph.of_type("word")
    ends: dict[int, list[int]] = {}
    for edge in graph.edges:
        if graph.nodes[edge.source].type == graph.nodes[edge.target].type == "word":
            for one, other in ((edge.source, edge.target), (edge.target, edge.source)):
                if graph.nodes[other].index >= 0:
                    ends.setdefault(one, []).append(graph.nodes[other].index)
    last = len(graph.words)

    def key(place: int) -> tuple[float, int]:
        index = graph.nodes[place].index
        return (float(index) if index >= 0 else min(ends.get(place, [last])) + 0.5, place)

    return {place: row for row, place in enumerate(sorted(words, key=key))}


def _region_rows(
    graph: SceneGraph, lines: list[Line], rows: dict[int, int], kept: list[bool]
) -> tuple[dict[int, float], dict[tuple[int], float]]:
    """Region -> its row, and (edge,) -> the row of the track that the edge takes.

    Regions that the text speaks of come first, in the order of the sentence, so that lines cross
    little; then the others as in the picture, from left to right.
    """
    spoken: dict[int, list[int]] = {}
    for line in lines:
        if line.kind in ALIGNED:
            spoken.setdefault(line.target, []).append(rows[line.source])
    regions = graph.of_type("region")
    regions.sort(
        key=lambda place: (
            place not in spoken,
            not kept[place],
            _mean(spoken.get(place, [0])),
            sum(graph.nodes[place].box[::2]),
        )
    )
    order = {place: float(row) for row, place in enumerate(regions)}
    owners: dict[int, list[float]] = {}
    for line in lines:
        if line.kind == "seen":
            owners.setdefault(line.target, []).append(order[line.source])
    tracks = {
        (line.edge,): round(_mean(owners.get(line.target, [0.0]))) + 0.5 + line.edge * 1e-6
        for line in lines
        if line.kind in ALIGNED and graph.nodes[line.target].type == "attribute"
    }
    return order, tracks


def _mean(values: list) -> float:
    return sum(values) / len(values)


def _named(graph: SceneGraph, place: int, layout: Layout) -> float:
    """Write down what stands on a chip; return the width that it needs."""
    size = 13 if graph.nodes[place].type == "word" else 12
    layout.names[place] = fit(name_of(graph, place), LABEL, size)
    return max(text_width(layout.names[place], size) + 18, 30)


def _set_attributes(
    graph: SceneGraph,
    lines: list[Line],
    widths: dict[int, float],
    width: float,
    bottom: float,
    layout: Layout,
) -> float:
    """Set each attribute as near to its regions as there is room; return the new bottom."""
    if not widths:
        return bottom
    levels: dict[int, list[float]] = {}
    for line in lines:
        if line.kind == "seen":
            levels.setdefault(line.target, []).append(layout.places[line.source].level)
        elif line.edge in layout.levels:
            levels.setdefault(line.target, []).append(layout.levels[line.edge])
    order = sorted(widths, key=lambda place: _mean(levels.get(place, [bottom])))
    wanted = [_mean(levels.get(place, [bottom])) - CHIP / 2 for place in order]
    step = CHIP + GAP
    tops = []
    for want in wanted:
        tops.append(max(want, tops[-1] + step if tops else TOP))
    limit = max(bottom - step, TOP + step * (len(order) - 1))
    for number in reversed(range(len(tops))):
        tops[number] = min(tops[number], limit)
        limit = tops[number] - step
    for place, top in zip(order, tops, strict=True):
        layout.places[place] = Area(EDGE + width - widths[place], top, widths[place], CHIP)
    layout.headers.append(("attributes seen", max(EDGE + width / 2, 50)))
    return max(bottom, tops[-1] + step)


def _set_words(
    graph: SceneGraph,
    lines: list[Line],
    rows: dict[int, int],
    left: float,
    bottom: float,
    layout: Layout,
) -> float:
    """Set the words one below the other, beside the regions they speak of; return the bottom."""
    nodes: dict[int, list[int]] = {}
    for place in sorted(rows, key=rows.get):
        index = graph.nodes[place].index
        nodes.setdefault(index if index >= 0 else _before(place, rows, graph), []).append(place)
    parsed = [line for line in lines if line.kind in ("ends", "describes")]
    arrows = Counter(end for line in parsed for end in (line.source, line.target))
    top, widest = float(TOP), 0.0
    pale = []
    for index in range(-1, len(graph.words)):
        if index >= 0 and index not in {graph.nodes[place].index for place in nodes.get(index, [])}:
            word = fit(graph.words[index], LABEL)
            pale.append((word, (left + 9, top + 14)))
            widest = max(widest, text_width(word) + 9)
            top += PALE_ROW
        for number, place in enumerate(nodes.get(index, [])):
            again = 12 if number else 0  # a word with a node a triple, or what it implies
            width = _named(graph, place, layout)
            height = max(CHIP, ARROW * arrows[place] + 6)
            layout.places[place] = Area(left + again, top, width, height)
            widest = max(widest, width + again)
            top += height + GAP
    aims = [
        (layout.places[line.source].level, layout.levels[line.edge])
        for line in lines
        if line.edge in layout.levels
    ]
    shift = _mean([aim - level for level, aim in aims]) if aims else 0.0
    shift = min(max(shift, 0.0), max(bottom - top, 0.0))
    for place in rows:
        area = layout.places[place]
        layout.places[place] = Area(area.x, area.y + shift, area.width, area.height)
    layout.pale = [(word, (x, y + shift)) for word, (x, y) in pale]
    layout.headers.append(("words said", left + max(widest / 2, 30)))
    lane_of = _lanes(parsed, {place: float(row) for place, row in rows.items()})
    room, first, pitch = _room(parsed, lane_of)
    _bracket_places(parsed, lane_of, layout, left + widest + first, pitch)
    layout.width = left + max(widest, 70) + room + EDGE
    return top + shift


def _before(place: int, rows: dict[int, int], graph: SceneGraph) -> int:
    """The last word said before an implied node; -1 if none."""
    said = [
        (row, graph.nodes[other].index)
        for other, row in rows.items()
        if row < rows[place] and graph.nodes[other].index >= 0
    ]
    return max(said)[1] if said else -1


def _lanes(lines: list[Line], rows: dict[int, float]) -> dict[int, int]:
    """Edge -> its lane: brackets in one lane never overlap, short ones are inside long ones."""
    taken: dict[int, list[tuple[float, float]]] = {}
    lane_of = {}
    spans = [(*sorted((rows[line.source], rows[line.target])), line.edge) for line in lines]
    for low, high, edge in sorted(spans, key=lambda span: (span[1] - span[0], span)):
        lane = 0
        while any(low < end and start < high for start, end in taken.get(lane, [])):
            lane += 1
        taken.setdefault(lane, []).append((low, high))
        lane_of[edge] = lane
    return lane_of


def _room(lines: list[Line], lane_of: dict[int, int]) -> tuple[float, float, float]:
    """The width of some brackets with their labels, where the first lane is, and their pitch."""
    if not lines:
        return 0.0, 0.0, 0.0
    lanes = max(lane_of.values()) + 1
    pitch = min(26.0, LANES / lanes)
    label = max(text_width(fit(line.predicate, 90, 11), 11) for line in lines)
    first = max(14.0, label / 2 + 4)
    return first + pitch * (lanes - 1) + label / 2 + 6, first, pitch


def _bracket_places(
    lines: list[Line], lane_of: dict[int, int], layout: Layout, first: float, pitch: float
) -> None:
    """Where brackets leave and reach their nodes: those that go far nearest to the middle."""
    ends: dict[int, list[tuple[float, int, bool]]] = {}
    for line in lines:
        for at_start, place, other in (
            (True, line.source, line.target),
            (False, line.target, line.source),
        ):
            away = layout.places[other].level - layout.places[place].level
            ends.setdefault(place, []).append((away, line.edge, at_start))
    levels: dict[tuple[int, bool], float] = {}
    for place, found in ends.items():
        # From top to bottom: up and near, up and far, down and far, down and near.
        found.sort(key=lambda end: (end[0] >= 0, -end[0]))
        area = layout.places[place]
        step = min(float(ARROW) + 1, (area.height - 8) / max(len(found) - 1, 1))
        for number, (_, edge, at_start) in enumerate(found):
            levels[edge, at_start] = area.level + step * (number - (len(found) - 1) / 2)
    for line in lines:
        x = first + pitch * lane_of[line.edge]
        layout.lanes[line.edge] = (x, levels[line.edge, True], levels[line.edge, False])
