"""A unified scene graph as a drawing (SVG): words above, regions between, attributes below.

What was dropped is pale and dashed; the rest is coloured by its relevance. Every node is a ``<g>``
with ``data-node`` (its number in the graph) and ``data-kept``.
"""

from __future__ import annotations

from collections import Counter
from html import escape

from PIL import Image

from tbkin.graphs.relations import INVERSE, PREDICATES_OF_PHRASE
from tbkin.graphs.scene_graph import Edge, SceneGraph
from tbkin.visualize_svg import (
    DASHED,
    HALO,
    INK,
    PALE,
    SOFT,
    Area,
    Point,
    arrow_head,
    curve,
    drawing,
    flow,
    middle_of,
    picture,
    rectangle,
    relevance_color,
    shorten,
    text,
    text_width,
)

ROLE_COLORS = {
    "object": "#1d5fa8",
    "attribute": "#23744d",
    "relation": "#b4540a",
    "count": "#6741a8",
}
GRAPH_WIDTH, MARGIN, RIGHT = 1040, 90, 1030  # chips stand between the margin and the right
CHIP, REGION = 28, 68  # heights of words and attributes, and of regions with their cut-out
ARC = 58  # room for the arcs above a row of words
LINES = {  # kind of line -> colour, width, and what it means
    "object": (ROLE_COLORS["object"], 3, "object word and its regions"),
    "attribute": (ROLE_COLORS["attribute"], 3, "attribute word and attribute"),
    "relation": (ROLE_COLORS["relation"], 3, "relation word and its subject"),
    "holds": ("#7a4b00", 2, "relation in the picture"),
    "parse": ("#717c8b", 1.4, "parse of the text"),
    "seen": ("#a9b4c2", 1.2, "region has attribute"),
}
STATES = {True: "kept", False: "dropped", None: "carries no messages"}

Reading = tuple[int, str, int]  # subject node, predicate, object node


def name_of(graph: SceneGraph, place: int) -> str:
    """What to call a node: a word as it was said, a region with its number."""
    node = graph.nodes[place]
    if node.type == "word":
        return graph.words[node.index]
    if node.type == "region":
        return f"{node.index} {node.label}" if node.label else f"cell {node.index}"
    return node.label or f"attribute {place}"


def scene_graph_drawing(
    image: Image.Image,
    graph: SceneGraph,
    node_relevance: list[float],
    node_kept: list[bool],
    edge_relevance: list[float],
    edge_kept: list[bool | None],
) -> str:
    """Words above, regions in the middle, attributes below; N graph nodes, E graph edges.

    Geometry is left out but for the relations that make a relation of the text true; a line at
    the end counts the rest.

    Args:
        image: RGB; regions show their part of it.
        graph: words, regions, attributes and edges.
        node_relevance: (N,), in [0, 1].
        node_kept: (N,).
        edge_relevance: (E,), in [0, 1].
        edge_kept: (E,); None: the edge carries no messages.

    Returns:
        An ``<svg>`` with a legend.
    """
    readings = _readings(graph)
    places, pale_words, bottom = _layout(graph, node_kept, readings)
    lines: list[str] = []
    labels: list[str] = []
    kinds: set[str] = set()
    left_out: Counter[str] = Counter()
    for number, edge in enumerate(graph.edges):
        kind = _kind(edge, graph, number in readings)
        if kind is None:
            left_out[edge.type] += 1
            continue
        source, predicate, target = readings.get(number, (edge.source, edge.predicate, edge.target))
        title = (
            f"{name_of(graph, source)}, {predicate} → {name_of(graph, target)}: "
            f"weight {edge.weight:.2f}, relevance {edge_relevance[number]:.2f}, "
            f"{STATES[edge_kept[number]]}"
        )
        look = f' opacity="0.4" {DASHED}' if edge_kept[number] is False else ' opacity="0.85"'
        line, label = _line(kind, places[source], places[target], predicate, edge.weight)
        lines.append(
            f'<g class="edge" data-ends="{source} {target}"{look}>'
            f"<title>{escape(title)}</title>{line}</g>"
        )
        labels.append(label)
        kinds.add(kind)
    chips = [
        node_group("node", graph, place, node_relevance[place], node_kept[place])
        + _chip(image, graph, place, area, node_relevance[place], node_kept[place])
        + "</g>"
        for place, area in places.items()
    ]
    dropped = not all(node_kept) or False in edge_kept
    legend, bottom = _legend(bottom + 30, kinds, dropped, left_out)
    parts = [*_layer_names(graph, places), *lines, *pale_words, *chips, *labels, *legend]
    return drawing(GRAPH_WIDTH, bottom, parts, "The unified scene graph")


def _layout(
    graph: SceneGraph, kept: list[bool], readings: dict[int, Reading]
) -> tuple[dict[int, Area], list[str], float]:
    """Where each node stands, the words that are no nodes as SVG, and the bottom of it all.

    Regions that the text speaks of come first, then the kept, then the dropped; among each of
    them as in the picture, from left to right. Attributes stand near their regions.
    """
    places, pale, bottom = _word_places(graph)
    spoken_of = {edge.target for edge in graph.edges if edge.type == "alignment"}
    spoken_of |= {end for reading in readings.values() for end in (reading[0], reading[2])}
    regions = graph.of_type("region")
    regions.sort(
        key=lambda place: (
            place not in spoken_of,
            not kept[place],
            sum(graph.nodes[place].box[::2]),
        )
    )
    bottom = _set_layer(regions, REGION, bottom, (92, 34), graph, places)
    owners: dict[int, list[float]] = {}
    for edge in graph.edges:
        if edge.type == "attribute" and graph.nodes[edge.source].type == "region":
            owners.setdefault(edge.target, []).append(places[edge.source].middle)
    attributes = graph.of_type("attribute")
    attributes.sort(key=lambda place: (not kept[place], _mean(owners.get(place, [0.0]))))
    bottom = _set_layer(attributes, CHIP, bottom, (76, 14), graph, places)
    return places, pale, bottom


def _set_layer(
    layer: list[int],
    height: float,
    bottom: float,
    gaps: Point,
    graph: SceneGraph,
    places: dict[int, Area],
) -> float:
    """Add the chips of a layer to ``places``: ``gaps`` above it and between its rows."""
    if not layer:
        return bottom
    widths = [max(text_width(short_name(graph, place), 12) + 16, 62) for place in layer]
    areas, bottom = flow(widths, height, MARGIN, RIGHT, bottom + gaps[0], (10, gaps[1]))
    places.update(zip(layer, areas, strict=True))
    return bottom


def _word_places(graph: SceneGraph) -> tuple[dict[int, Area], list[str], float]:
    """As ``_layout``, for the words: in the order of the sentence, with room for their arcs."""
    nodes_of: dict[int, list[int | None]] = {}
    for place in graph.of_type("word"):
        nodes_of.setdefault(graph.nodes[place].index, []).append(place)
    items = [
        (shorten(word, 24), place)
        for index, word in enumerate(graph.words)
        for place in nodes_of.get(index, [None])
    ]
    widths = [text_width(word) + (6 if place is None else 22) for word, place in items]
    areas, _ = flow(widths, CHIP, MARGIN, RIGHT, 0, (5, 0))
    row_of = {place: area.y for (_, place), area in zip(items, areas, strict=True)}
    arched = {
        row_of[edge.source]
        for edge in graph.edges
        if graph.nodes[edge.source].type == graph.nodes[edge.target].type == "word"
        and row_of[edge.source] == row_of[edge.target]
    }
    bottom, tops = 0.0, {}
    for row in sorted({area.y for area in areas}):
        tops[row] = bottom + (ARC + 6 if row in arched else 24)
        bottom = tops[row] + CHIP
    places, pale = {}, []
    for (word, place), area in zip(items, areas, strict=True):
        if place is None:
            pale.append(text((area.middle, tops[area.y] + 19), word, SOFT, 13, HALO))
        else:
            places[place] = Area(area.x, tops[area.y], area.width, CHIP)
    return places, pale, bottom


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


def short_name(graph: SceneGraph, place: int) -> str:
    """``name_of``, cut to what a chip or a tag has room for."""
    return shorten(name_of(graph, place), 24 if graph.nodes[place].type == "word" else 18)


def _layer_names(graph: SceneGraph, places: dict[int, Area]) -> list[str]:
    """What each layer shows, in the margin beside its first row."""
    names = []
    for kind in ("word", "region", "attribute"):
        areas = [area for place, area in places.items() if graph.nodes[place].type == kind]
        if areas:
            y = min(area.y + area.height / 2 + 4 for area in areas)
            names.append(text((MARGIN / 2 - 8, y), kind + "s", SOFT, 12))
    return names


def _readings(graph: SceneGraph) -> dict[int, Reading]:
    """The picture's edges that make a relation of the text true, each as the text reads it.

    "The circle left of the square" is made true by an edge "square right of circle" too.
    """
    objects: dict[int, set[int]] = {}
    for edge in graph.edges:
        if edge.type == "alignment" and edge.predicate == "object":
            objects.setdefault(edge.source, set()).add(edge.target)
    aligned_to = {
        edge.source: objects.get(edge.target, set())
        for edge in graph.edges
        if edge.type == "relation" and edge.predicate == "object"
    }
    wanted: dict[tuple[int, str | None, int], Reading] = {}
    for edge in graph.edges:
        if edge.type == "alignment" and edge.predicate == "relation":
            phrase, subject = graph.nodes[edge.source].label, edge.target
            for predicate in PREDICATES_OF_PHRASE.get(phrase, (phrase,)):
                for target in aligned_to.get(edge.source, set()):
                    reading = (subject, predicate, target)
                    wanted[reading] = reading
                    wanted[target, INVERSE.get(predicate), subject] = reading
    return {
        number: wanted[edge.source, edge.predicate, edge.target]
        for number, edge in enumerate(graph.edges)
        if edge.type in ("spatial", "relation")
        and (edge.source, edge.predicate, edge.target) in wanted
    }


def _kind(edge: Edge, graph: SceneGraph, makes_true: bool) -> str | None:
    """Which of ``LINES`` an edge is; None if it is not drawn."""
    if edge.type == "alignment":
        return edge.predicate
    if graph.nodes[edge.source].type == "word":
        return "parse"
    if edge.type == "attribute":
        return "seen"
    return "holds" if edge.type == "relation" or makes_true else None


def _line(kind: str, source: Area, target: Area, predicate: str, weight: float) -> tuple[str, str]:
    """A line of one of the kinds, and its label ("" without one)."""
    color, width, _ = LINES[kind]
    if kind == "seen":
        return curve(_fall(source.bottom, target.top), color, width), ""
    if kind not in ("parse", "holds"):
        return curve(_fall(source.bottom, target.top), color, 0.6 + 2.6 * weight), ""
    points = _word_arc(source, target) if kind == "parse" else _region_arc(source, target)
    x, y = middle_of(points)
    line = curve(points, color, width) + arrow_head(points[3], points[2], color)
    return line, text((x, y + 4), predicate, color, 11, HALO)


def _fall(start: Point, end: Point) -> list[Point]:
    """From a layer down to the next: leaves and arrives upright."""
    half = (end[1] - start[1]) / 2
    return [start, (start[0], start[1] + half), (end[0], end[1] - half), end]


def _word_arc(source: Area, target: Area) -> list[Point]:
    """Above the words of a row, the wider the higher; between rows straight down or up."""
    if source.y != target.y:
        down = source.y < target.y
        return _fall(source.bottom, target.top) if down else _fall(source.top, target.bottom)
    step = 7 if target.middle > source.middle else -7  # so that arcs to both sides do not touch
    start, end = (source.middle + step, source.y), (target.middle - step, target.y)
    height = min(14 + 0.11 * abs(end[0] - start[0]), ARC - 8) / 0.75  # the apex is at 3/4 of it
    return [start, (start[0], start[1] - height), (end[0], end[1] - height), end]


def _region_arc(source: Area, target: Area) -> list[Point]:
    """Below the regions of a row, the wider the deeper; between rows from side to side."""
    if source.y != target.y:
        down = source.y < target.y
        return _fall(source.bottom, target.top) if down else _fall(source.top, target.bottom)
    depth = min(16 + 0.04 * abs(target.middle - source.middle), 28) / 0.75
    start, end = source.bottom, target.bottom
    return [start, (start[0], start[1] + depth), (end[0], end[1] + depth), end]


def node_group(name: str, graph: SceneGraph, place: int, relevance: float, kept: bool) -> str:
    """The opening of a node's ``<g>``, with its tooltip."""
    node = graph.nodes[place]
    said = f", {node.role} word" if node.type == "word" else f", {node.type}"
    title = (
        f"{name_of(graph, place)}{said}: relevance {relevance:.2f}, score {node.score:.2f}, "
        f"{'kept' if kept else 'dropped'}"
    )
    return (
        f'<g class="{name}" data-node="{place}" data-kept="{str(kept).lower()}">'
        f"<title>{escape(title)}</title>"
    )


def _chip(
    image: Image.Image, graph: SceneGraph, place: int, area: Area, relevance: float, kept: bool
) -> str:
    """A node of the graph: words filled by role, the others framed by relevance."""
    node = graph.nodes[place]
    if not kept:
        style = f'fill="#f6f8fa" stroke="{PALE}" {DASHED} rx="8"'
    elif node.type == "word":
        style = f'fill="{ROLE_COLORS[node.role]}" rx="14"'
    else:
        style = f'fill="#ffffff" stroke="{relevance_color(relevance)}" stroke-width="2.5" rx="8"'
    ink = PALE if not kept else "#ffffff" if node.type == "word" else INK
    body = rectangle(area, style)
    if node.type == "region":
        body += _cut_out(image, graph, place, area, kept)
    size = 13 if node.type == "word" else 12
    return body + text((area.middle, area.y + area.height - 9), short_name(graph, place), ink, size)


def _cut_out(image: Image.Image, graph: SceneGraph, place: int, area: Area, kept: bool) -> str:
    """The region's part of the picture, in the upper part of its chip."""
    across, down = image.width / graph.width, image.height / graph.height
    left, top, right, bottom = graph.nodes[place].box
    part = image.crop(
        (
            int(left * across),
            int(top * down),
            max(round(right * across), int(left * across) + 1),
            max(round(bottom * down), int(top * down) + 1),
        )
    )
    scale = min((area.width - 12) / part.width, 40 / part.height)
    width, height = max(part.width * scale, 1), max(part.height * scale, 1)
    frame = Area(area.middle - width / 2, area.y + 26 - height / 2, width, height)
    return f'<g opacity="{1 if kept else 0.35}">{picture(frame, part)}</g>'


def _legend(
    top: float, kinds: set[str], dropped: bool, left_out: Counter[str]
) -> tuple[list[str], float]:
    """What the marks mean, what was not drawn, and the bottom of both."""
    entries = [(*line, "") for kind, line in LINES.items() if kind in kinds]
    if dropped:
        entries.append((PALE, 1.4, "dropped", DASHED))
    widths = [text_width(words, 11) + 34 for _, _, words, _ in entries]
    areas, bottom = flow(widths, 16, MARGIN, RIGHT, top, (12, 6))
    parts = []
    for (color, width, words, more), area in zip(entries, areas, strict=True):
        y = area.y + 8
        parts.append(
            f'<line x1="{area.x:.1f}" y1="{y:.1f}" x2="{area.x + 24:.1f}" y2="{y:.1f}" '
            f'stroke="{color}" stroke-width="{width}" {more}/>'
        )
        at = (area.x + 30, y + 4)
        parts.append(text(at, words, SOFT, 11, 'style="text-anchor:start"'))
    if left_out:
        counts = " and ".join(f"{count} {kind}" for kind, count in sorted(left_out.items()))
        words = f"Not drawn: {counts} edges between regions."
        parts.append(text(((MARGIN + RIGHT) / 2, bottom + 24), words, SOFT, 11))
        bottom += 24
    return parts, bottom + 12
