"""Which edges of a scene graph are drawn, and as what kind of line."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from tbkin.graphs.relations import INVERSE, PREDICATES_OF_PHRASE
from tbkin.graphs.scene_graph import Edge, SceneGraph

FEW = 8  # so many edges of geometry can be drawn without hiding the rest
RELATIONS = 12  # so many relations between regions can be told apart
ROLE_COLORS = {
    "object": "#1d5fa8",
    "attribute": "#23744d",
    "relation": "#b4540a",
    "count": "#6741a8",
}
KINDS = {  # kind of line -> its colour, and what it means
    "object": (ROLE_COLORS["object"], "object word and its regions"),
    "attribute": (ROLE_COLORS["attribute"], "attribute word and attribute"),
    "relation": (ROLE_COLORS["relation"], "relation word and its subject"),
    "count": (ROLE_COLORS["count"], "number and what it counts"),
    "holds": ("#7a4b00", "relation in the picture"),
    "geometry": ("#8a94a3", "position in the picture"),
    "ends": ("#717c8b", "subject and object of a relation"),
    "describes": ("#717c8b", "word that describes or counts"),
    "seen": ("#a9b4c2", "region has attribute"),
}
ALIGNED = ("object", "attribute", "relation", "count")  # kinds of lines from words to what is seen

Reading = tuple[int, str, int]  # subject node, predicate, object node


@dataclass(frozen=True)
class Line:
    """An edge that is drawn, read as the text reads it.

    Attributes:
        edge: its number in ``SceneGraph.edges``.
        kind: one of ``KINDS``.
        source, predicate, target: as the text says it; "square right of circle" may be drawn as
            "circle left of square".
        weight: of the edge, in (0, 1].
    """

    edge: int
    kind: str
    source: int
    predicate: str
    target: int
    weight: float


def choose_lines(
    graph: SceneGraph, *, geometry: bool = False, min_strength: float = 0.0, max_edges: int = 0
) -> tuple[list[Line], Counter[str]]:
    """The edges to draw.

    Args:
        graph: any scene graph.
        geometry: also draw spatial and overlap edges, if there are few. They are left out
            otherwise, but for those that make a relation of the text true.
        min_strength: alignments weaker than this are left out.
        max_edges: of alignments, of attributes and of detected relations each, the strongest so
            many are drawn, but never more than 12 relations; 0: all.

    Returns:
        The lines in the order of the edges, and how many edges of each type are left out.
    """
    readings = _readings(graph)
    plain = sum(edge.type in ("spatial", "overlap") for edge in graph.edges) - len(readings)
    lines: list[Line] = []
    left_out: Counter[str] = Counter()
    for number, edge in enumerate(graph.edges):
        kind = _kind(edge, graph, number in readings, geometry and plain <= FEW)
        weak = edge.type == "alignment" and edge.weight < min_strength
        if kind is None or weak:
            left_out[edge.type] += 1
            continue
        ends = readings.get(number, (edge.source, edge.predicate, edge.target))
        lines.append(Line(number, kind, *ends, edge.weight))
    if not max_edges:
        return lines, left_out
    chosen: set[int] = set()
    room = Counter(alignment=max_edges, attribute=max_edges, relation=min(max_edges, RELATIONS))
    for line in sorted(lines, key=lambda line: (line.edge not in readings, -line.weight)):
        edge = graph.edges[line.edge]
        limited = edge.type in room and line.kind not in ("ends", "describes")
        if limited and not room[edge.type]:
            left_out[edge.type] += 1
            continue
        room[edge.type] -= limited
        chosen.add(line.edge)
    return [line for line in lines if line.edge in chosen], left_out


def _kind(edge: Edge, graph: SceneGraph, makes_true: bool, geometry: bool) -> str | None:
    """Which of ``KINDS`` an edge is; None if it is not drawn."""
    if edge.type == "alignment":
        return edge.predicate if edge.predicate in ALIGNED else "object"
    if graph.nodes[edge.source].type == "word":
        return "ends" if edge.type == "relation" else "describes"
    if edge.type == "attribute":
        return "seen"
    if edge.type == "relation" or makes_true:
        return "holds"
    return "geometry" if geometry else None


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
