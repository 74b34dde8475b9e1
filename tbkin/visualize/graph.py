"""A unified scene graph as a drawing (SVG): attributes, regions and words in three columns.

Every node is a ``<g>`` with ``data-node`` (its number in the graph) and ``data-kept``, every edge
one with ``data-ends``. How nodes look is up to the caller (:class:`Marks`).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from PIL import Image

from tbkin.graphs.scene_graph import SceneGraph
from tbkin.visualize.edges import ALIGNED, KINDS, ROLE_COLORS, Line
from tbkin.visualize.layout import (
    LABEL,
    NUMBER,
    STRENGTHS,
    THUMB,
    Layout,
    lay_out,
    name_of,
)
from tbkin.visualize.svg import (
    DASHED,
    HALO,
    INK,
    PALE,
    SOFT,
    Area,
    Block,
    Point,
    arrow_head,
    fit,
    flow,
    ink_on,
    line,
    path,
    picture,
    rectangle,
    text,
    text_width,
    tooltip,
)

STRUCK = 'text-decoration="line-through"'
STATES = {True: "kept", False: "dropped", None: "carries no messages"}


@dataclass
class Marks:
    """How the nodes and edges of one graph look. N nodes, E edges.

    Attributes:
        colors: (N,), ``#rrggbb`` of a region's box and of a seen node's frame.
        kept: (N,); False: dropped, drawn pale and dashed.
        said: (N,), what a node's tooltip says beside its name.
        edge_kept: (E,); False: dashed.
        edge_said: (E,), what an edge's tooltip says beside its ends.
    """

    colors: list[str]
    kept: list[bool]
    said: list[str]
    edge_kept: list[bool | None]
    edge_said: list[str]


def scene_graph_block(
    graph: SceneGraph,
    image: Image.Image | None,
    marks: Marks,
    lines: list[Line],
    left_out: Counter[str],
    *,
    legend: bool = True,
) -> Block:
    """Attributes to the left, regions in the middle, words to the right.

    Args:
        graph: words, regions, attributes and edges.
        image: RGB; regions show their part of it. None: they show none.
        marks: how the nodes look.
        lines: the edges to draw, from ``edges.choose_lines``.
        left_out: type -> how many edges are not drawn; told in the last line.
        legend: put the legend below.
    """
    layout = lay_out(graph, lines, marks.kept, image is not None)
    shapes, labels = [], []
    taken: dict[int, list[Area]] = {}  # by the row of the drawing: labels, which must not overlap
    for one in lines:
        title = (
            f"{name_of(graph, one.source)}, {one.predicate} → {name_of(graph, one.target)}: "
            f"{marks.edge_said[one.edge]}"
        )
        dropped = marks.edge_kept[one.edge] is False
        look = f' opacity="0.4" {DASHED}' if dropped else ' opacity="0.9"'
        shape, label = _shape(one, graph, layout, marks, taken)
        ends = f"{one.source} {one.target}"
        shapes.append(f'<g class="edge" data-ends="{ends}"{look}>{tooltip(title)}{shape}</g>')
        if label:
            labels.append(f'<g data-label="{ends}">{label}</g>')
    chips = [
        node_group("node", graph, place, marks) + _chip(image, graph, place, layout, marks) + "</g>"
        for place in layout.places
    ]
    headers = [text((x, 14), words, SOFT, 12) for words, x in layout.headers]
    pale = [text(at, word, SOFT, 13, anchor="start") for word, at in layout.pale]
    parts = [*headers, *shapes, *pale, *chips, *labels]
    width, height = max(layout.width, 200.0), layout.height
    if legend:
        dropped = not all(marks.kept) or False in marks.edge_kept
        below = legend_block(graph, lines, left_out, width, dropped=dropped)
        parts.append(below.at(0, height + 12))
        height += 12 + below.height
    return Block(parts, width, height)


def node_group(name: str, graph: SceneGraph, place: int, marks: Marks) -> str:
    """The opening of a node's ``<g>``, with its tooltip."""
    node = graph.nodes[place]
    kind = f"{node.role} word" if node.type == "word" else node.type
    title = f"{name_of(graph, place)}, {kind}"
    if node.type == "word":
        title += f" ({node.text or node.label})" if node.index >= 0 else ", implied"
        title += ", denied" if node.negated else ""
    return (
        f'<g class="{name}" data-node="{place}" data-kept="{str(marks.kept[place]).lower()}">'
        f"{tooltip(': '.join(filter(None, [title, marks.said[place]])))}"
    )


def _shape(
    one: Line, graph: SceneGraph, layout: Layout, marks: Marks, taken: dict[int, list[Area]]
) -> tuple[str, str]:
    """An edge, and its label ("" without one)."""
    source, target = layout.places[one.source], layout.places[one.target]
    color, _ = KINDS[one.kind]
    if one.kind in ALIGNED:
        return _alignment(one, source, target, layout, color)
    if one.kind == "seen":
        bend = layout.lanes_end
        steps = f"M{source.x:.1f} {source.level:.1f}H{bend:.1f}" + _over(
            (bend, source.level), (target.right, target.level)
        )
        color = marks.colors[one.source] if marks.kept[one.source] else color
        return path(steps, color, 1.4, 'stroke-opacity="0.55"'), ""
    words = "" if one.kind == "describes" else fit(one.predicate, 90, 11)
    color = ROLE_COLORS["relation"] if one.kind == "ends" else color
    if one.kind == "describes":
        color = ROLE_COLORS[graph.nodes[one.target].role]
    return _bracket(one.edge, source, target, layout, words, color, taken)


def strength_look(weight: float) -> tuple[float, float]:
    """Width and opacity of an alignment: 0.5, the weakest that is drawn by default, is thin."""
    share = min(max((weight - 0.4) / 0.6, 0.1), 1.0)
    return 0.8 + 2.8 * share, 0.3 + 0.6 * share


def _alignment(
    one: Line, source: Area, target: Area, layout: Layout, color: str
) -> tuple[str, str]:
    """From a word to a region, or through a track to an attribute; its strength in figures."""
    level = layout.levels[one.edge]
    width, opacity = strength_look(one.weight)
    start = layout.strengths + STRENGTHS
    through = f"M{start:.1f} {level:.1f}"
    if target.right < layout.strengths - 1:  # an attribute; without regions nothing is between
        bend = layout.lanes_end
        end = (target.right, target.level)
        steps = f"{through}H{bend:.1f}{_over((bend, level), end)}"
    else:
        steps = f"{through}H{target.right:.1f}"
    steps += f"M{start:.1f} {level:.1f}" + _over((start, level), (source.x, source.level))
    middle = layout.strengths + STRENGTHS / 2
    ground = rectangle(Area(middle - 15, level - 6, 30, 12), 'fill="#ffffff"')
    return (
        path(steps, color, width, f'stroke-opacity="{opacity:.2f}"'),
        ground + text((middle, level + 4), f"{one.weight:.2f}", color, 11),
    )


def _over(start: Point, end: Point) -> str:
    """The rest of a path: from column to column, leaving and arriving level."""
    half = (start[0] + end[0]) / 2
    return f"C{half:.1f} {start[1]:.1f} {half:.1f} {end[1]:.1f} {end[0]:.1f} {end[1]:.1f}"


def _bracket(
    edge: int,
    source: Area,
    target: Area,
    layout: Layout,
    words: str,
    color: str,
    taken: dict[int, list[Area]],
) -> tuple[str, str]:
    """A relation within a column, beside it; its label where no other stands."""
    x, start, end = layout.lanes[edge]
    right = x > source.x
    from_x, to_x = (source.right, target.right) if right else (source.x, target.x)
    round_x = -6 if right else 6
    turn = min(6.0, abs(end - start) / 2) * (1 if end > start else -1)
    steps = (
        f"M{from_x:.1f} {start:.1f}H{x + round_x:.1f}Q{x:.1f} {start:.1f} {x:.1f} "
        f"{start + turn:.1f}V{end - turn:.1f}Q{x:.1f} {end:.1f} {x + round_x:.1f} {end:.1f}"
        f"H{to_x - round_x / 2:.1f}"
    )
    shape = path(steps, color, 1.5) + arrow_head((to_x, end), (x, end), color)
    if not words:
        return shape, ""
    best = _label_place(x, (start + end) / 2, abs(end - start) / 2, text_width(words, 11), taken)
    return shape, text((x, best.level + 4), words, color, 11, HALO)


def _label_place(
    x: float, middle: float, reach: float, width: float, taken: dict[int, list[Area]]
) -> Area:
    """Along an upright line as near to its middle as no other label stands."""
    height, far = 14, 4 * int(min(max(reach - 8, 0), 160) // 4)
    places = []
    for away in sorted(range(-far, far + 1, 4), key=abs):
        area = Area(x - width / 2 - 2, middle + away - height / 2, width + 4, height)
        row = int(area.y // height)
        near = [other for one in (row - 1, row, row + 1) for other in taken.get(one, [])]
        places.append((sum(area.shared(other) for other in near), area))
        if not places[-1][0]:
            break
    _, best = min(places, key=lambda place: place[0])
    taken.setdefault(int(best.y // height), []).append(best)
    return best


def _chip(
    image: Image.Image | None, graph: SceneGraph, place: int, layout: Layout, marks: Marks
) -> str:
    """A node: words filled by role (outlined if nobody said them), the others framed."""
    node, area, kept = graph.nodes[place], layout.places[place], marks.kept[place]
    if node.type == "region":
        return _region_chip(image, graph, place, area, marks)
    name = layout.names[place]
    at = (area.middle, area.level + 4.5)
    if not kept:
        body = rectangle(area, f'fill="#f6f8fa" stroke="{PALE}" {DASHED} rx="8"')
        return body + text(at, name, SOFT, 12)
    if node.type == "attribute":
        style = f'fill="#ffffff" stroke="{marks.colors[place]}" stroke-width="2" rx="8"'
        return rectangle(area, style) + text(at, name, INK, 12)
    color = ROLE_COLORS[node.role]
    if node.negated:
        style = f'fill="#ffffff" stroke="{color}" stroke-width="1.5" rx="12"'
        return rectangle(area, style) + text(at, name, color, 13, STRUCK)
    if node.index < 0:
        style = f'fill="#ffffff" stroke="{color}" stroke-width="1.5" rx="12"'
        return rectangle(area, style) + text(at, name, color, 13)
    return rectangle(area, f'fill="{color}" rx="12"') + text(at, name, "#ffffff", 13)


def _region_chip(
    image: Image.Image | None, graph: SceneGraph, place: int, area: Area, marks: Marks
) -> str:
    """Its number in the colour of its box, its part of the picture, its label."""
    node, kept, color = graph.nodes[place], marks.kept[place], marks.colors[place]
    frame = f'stroke="{color}" stroke-width="1.5"' if kept else f'stroke="{PALE}" {DASHED}'
    number = Area(area.x, area.y, NUMBER, area.height)
    fill, ink = (color, ink_on(color)) if kept else ("#eef1f5", SOFT)
    body = rectangle(area, f'fill="#ffffff" {frame} rx="6"')
    body += rectangle(number, f'fill="{fill}" rx="6"')
    body += text((number.middle, area.level + 4), fit(str(node.index), NUMBER, 12), ink, 12)
    left = number.right + 7
    if image is not None:
        body += _cut_out(image, graph, place, Area(number.right, area.y, THUMB, area.height), kept)
        left += THUMB
    name = fit(node.label, LABEL, 12) if node.label else "cell" if image is None else ""
    return body + text((left, area.level + 4), name, INK if kept else SOFT, 12, anchor="start")


def _cut_out(image: Image.Image, graph: SceneGraph, place: int, room: Area, kept: bool) -> str:
    """The region's part of the picture, in the middle of ``room``."""
    across, down = image.width / graph.width, image.height / graph.height
    left, top, right, bottom = graph.nodes[place].box
    left, top = min(int(left * across), image.width - 1), min(int(top * down), image.height - 1)
    right, bottom = max(round(right * across), left + 1), max(round(bottom * down), top + 1)
    part = image.crop((left, top, right, bottom))
    scale = min((room.width - 6) / part.width, 24 / part.height)
    width, height = max(part.width * scale, 1), max(part.height * scale, 1)
    frame = Area(room.middle - width / 2, room.level - height / 2, width, height)
    return f'<g opacity="{1 if kept else 0.35}">{picture(frame, part)}</g>'


def legend_block(
    graph: SceneGraph,
    lines: list[Line],
    left_out: Counter[str],
    width: float,
    *,
    dropped: bool = False,
    room: float = 0.0,
) -> Block:
    """What the marks mean, and how many edges are not drawn.

    Args:
        graph: whose nodes are drawn.
        lines: the edges that are drawn.
        left_out: type -> how many are not.
        width: of the legend.
        dropped: explain what dropped nodes look like.
        room: height; what is free of it lists detected relations that are not drawn.
    """
    entries: list[tuple[str, str]] = []  # a mark of 26 x 16 pixels, and what it means
    kinds = {line.kind for line in lines}
    for kind, (color, words) in KINDS.items():
        if kind not in kinds:
            continue
        if kind in ALIGNED:
            mark = path("M0 8H26", color, 2.6, 'stroke-opacity="0.8"')
        else:
            color = ROLE_COLORS["relation"] if kind == "ends" else color
            color = ROLE_COLORS["attribute"] if kind == "describes" else color
            mark = path("M0 8H22", color, 1.5)
            mark += arrow_head((26, 8), (0, 8), color) if kind != "seen" else ""
        entries.append((mark, words))
    if kinds & set(ALIGNED):
        weak, strong = strength_look(0.5), strength_look(1.0)
        mark = path("M0 4H26", SOFT, weak[0], f'stroke-opacity="{weak[1]:.2f}"')
        mark += path("M0 12H26", SOFT, strong[0], f'stroke-opacity="{strong[1]:.2f}"')
        entries.append((mark, "strength of an alignment: 0.5 and 1"))
    words = [node for node in graph.nodes if node.type == "word"]
    outlined = 'fill="#ffffff" stroke="#566070" stroke-width="1.5" rx="7"'
    for role, color in ROLE_COLORS.items():
        if any(node.role == role for node in words):
            chip = rectangle(Area(0, 1, 26, 14), f'fill="{color}" rx="7"')
            entries.append((chip, f"{role} word"))
    if any(node.negated for node in words):
        mark = rectangle(Area(0, 1, 26, 14), outlined) + line((5, 8), (21, 8), SOFT, 1.5)
        entries.append((mark, "struck through: denied"))
    if any(node.index < 0 for node in words):
        mark = rectangle(Area(0, 1, 26, 14), outlined) + text((13, 12), "( )", SOFT, 11)
        entries.append((mark, "implied, not said"))
    if dropped:
        entries.append((path("M0 8H26", PALE, 1.4, DASHED), "dropped"))
    parts, bottom = [], 0.0
    widths = [text_width(words, 11) + 34 for _, words in entries]
    areas, bottom = flow(widths, 16, 10, width - 10, 0, (16, 6), align=0)
    for (mark, words), area in zip(entries, areas, strict=True):
        parts.append(f'<g transform="translate({area.x:.1f} {area.y:.1f})">{mark}</g>')
        parts.append(text((area.x + 33, area.y + 12), words, SOFT, 11, anchor="start"))
    if left_out:
        counts = [f"{count} {kind}" for kind, count in sorted(left_out.items())]
        said = " and ".join([", ".join(counts[:-1]), counts[-1]] if counts[1:] else counts)
        edges = "edge" if left_out.total() == 1 else "edges"
        for row in _wrapped(f"Not drawn: {said} {edges}.", width - 20):
            bottom += 18
            parts.append(text((10, bottom), row, SOFT, 11, anchor="start"))
    undrawn = _undrawn_relations(graph, lines)
    free = int((room - bottom - 30) // 17)
    if undrawn and free > 2:
        bottom += 28
        parts.append(text((10, bottom), "Other relations in the picture", SOFT, 12, anchor="start"))
        if len(undrawn) > free:
            undrawn[free - 1 :] = [f"and {len(undrawn) - free + 1} more"]
        for words in undrawn:
            bottom += 17
            parts.append(text((10, bottom), fit(words, width - 20, 11), INK, 11, anchor="start"))
    return Block(parts, width, bottom + 12)


def _undrawn_relations(graph: SceneGraph, lines: list[Line]) -> list[str]:
    """Detected relations that are no lines, in words, the strongest first."""
    drawn = {line.edge for line in lines}
    edges = [
        edge
        for number, edge in enumerate(graph.edges)
        if edge.type == "relation"
        and number not in drawn
        and graph.nodes[edge.source].type == "region"
    ]
    edges.sort(key=lambda edge: -edge.weight)
    return [
        f"{fit(name_of(graph, edge.source), 75, 11)} · {fit(edge.predicate, 65, 11)} · "
        f"{fit(name_of(graph, edge.target), 75, 11)} ({edge.weight:.2f})"
        for edge in edges
    ]


def _wrapped(words: str, width: float) -> list[str]:
    """Lines of size 11 of at most ``width`` pixels."""
    rows = [""]
    for word in words.split():
        longer = f"{rows[-1]} {word}".strip()
        if text_width(longer, 11) <= width or not rows[-1]:
            rows[-1] = longer
        else:
            rows.append(word)
    return rows
