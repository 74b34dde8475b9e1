"""Edge kinds: the fine edge types that the graph encoder tells apart, in both directions.

An edge of the scene graph has a type and a predicate; a network wants a small closed set. A kind
and its inverse are numbered ``k`` and ``k + len(KINDS)``. The ``text …`` kinds join the text's
first token, which the pooler reads, with each content word by its role.
"""

from __future__ import annotations

from tbkin.graphs.alignment import STRONGLY_ALIGNED
from tbkin.graphs.scene_graph import Edge

KINDS = (
    "left of",
    "above",
    "inside",
    "overlaps",
    "region is attribute",
    "word is attribute",
    "relation subject",
    "relation object",
    "detected relation",
    "aligned object",
    "weakly aligned object",
    "aligned attribute",
    "aligned relation",
    "weakly aligned relation",
    "aligned count",
    "weakly aligned count",
    "text object",
    "text attribute",
    "text relation",
    "text count",
)
NUM_KINDS = 2 * len(KINDS)
GEOMETRY = frozenset({"spatial", "overlap"})
CODES = {name: code for code, name in enumerate(KINDS)}
_SWAPPED = {"right of": "left of", "below": "above", "around": "inside"}


def kind_of(edge: Edge, from_region: bool) -> tuple[int, bool]:
    """(code, whether source and target change places) of an edge.

    Args:
        edge: any edge of a scene graph.
        from_region: whether its source is a region; tells picture from text edges.
    """
    if edge.type == "spatial":
        swapped = edge.predicate in _SWAPPED
        return CODES[_SWAPPED.get(edge.predicate, edge.predicate)], swapped
    if edge.type == "overlap":
        return CODES["overlaps"], False
    if edge.type == "attribute":
        return CODES["region is attribute" if from_region else "word is attribute"], False
    if edge.type == "relation":
        return CODES["detected relation" if from_region else f"relation {edge.predicate}"], False
    if edge.predicate == "attribute":
        return CODES["aligned attribute"], False
    weak = "weakly " if edge.weight < STRONGLY_ALIGNED else ""
    return CODES[f"{weak}aligned {edge.predicate}"], False
