"""Random valid scene graphs for property tests.

``scene_graphs()`` draws whole graphs with every node and edge type; ``pictures()`` draws what a
detector or a file says of a picture.
"""

import torch
from hypothesis import strategies as st

from tbkin.graphs.interchange.picture import clean_name
from tbkin.graphs.regions import Regions
from tbkin.graphs.scene_graph import (
    _ENDS,
    EDGE_TYPES,
    SPATIAL_PREDICATES,
    WORD_ROLES,
    Edge,
    Node,
    SceneGraph,
)

TEXTS = st.text(max_size=10)  # any Unicode but lone surrogates, which no UTF-8 file can hold
NAMES = TEXTS.map(clean_name)
SHARES = st.floats(0, 1)
WEIGHTS = st.floats(1e-6, 1)
SIDES = st.integers(1, 2000)
IDS = st.one_of(st.integers(0, 10**9).map(str), st.text(min_size=1, max_size=8))


def boxes(width, height):
    """Four numbers inside a picture, edges included; maybe without area."""

    def sides(limit):
        return st.tuples(st.floats(0, limit), st.floats(0, limit)).map(sorted)

    return st.tuples(sides(width), sides(height)).map(
        lambda pairs: (pairs[0][0], pairs[1][0], pairs[0][1], pairs[1][1])
    )


def solid_boxes(width, height):
    """Likewise, with area, and in numbers that float32 holds."""

    def sides(limit):
        values = st.floats(0, limit, width=32)
        return st.tuples(values, values).map(sorted).filter(lambda pair: pair[1] - pair[0] > 1e-3)

    return st.tuples(sides(width), sides(height)).map(
        lambda pairs: (pairs[0][0], pairs[1][0], pairs[0][1], pairs[1][1])
    )


@st.composite
def scene_graphs(draw):
    """Any valid graph: a picture, a text, both or nothing."""
    nodes, words, width, height = [], [], 0, 0
    image_id = ""
    if draw(st.booleans()):
        width, height, image_id = draw(SIDES), draw(SIDES), draw(IDS)
        nodes += [
            Node("region", draw(TEXTS), place, box=draw(boxes(width, height)), score=draw(SHARES))
            for place in range(draw(st.integers(0, 5)))
        ]
        nodes += [Node("attribute", draw(TEXTS)) for _ in range(draw(st.integers(0, 3)))]
    if draw(st.booleans()):
        words = draw(st.lists(TEXTS, max_size=5))
        nodes += [
            Node(
                "word",
                draw(TEXTS),
                draw(st.integers(-1, len(words) - 1)),
                draw(st.sampled_from(WORD_ROLES)),
                text=draw(TEXTS),
                negated=draw(st.booleans()),
            )
            for _ in range(draw(st.integers(0, 5)))
        ]
    edges = draw(_edges(nodes)) if nodes else []
    return SceneGraph(nodes, edges, words, width, height, image_id)


@st.composite
def pictures(draw, scores=True):
    """Regions with solid boxes, attributes and relations; nothing is said twice.

    Args:
        draw: of hypothesis.
        scores: whether confidences may be below 1.
    """
    width, height = draw(SIDES), draw(SIDES)
    count = draw(st.integers(0, 4))
    weights = WEIGHTS if scores else st.just(1.0)
    attributes = st.dictionaries(NAMES.filter(bool), weights, max_size=3)
    relations = {}
    if count:
        ends = st.integers(0, count - 1)
        keys = st.tuples(ends, NAMES, ends)
        relations = draw(st.dictionaries(keys, weights, max_size=5))
    return Regions(
        boxes=torch.tensor(
            [draw(solid_boxes(width, height)) for _ in range(count)], dtype=torch.float32
        ).reshape(-1, 4),
        width=width,
        height=height,
        labels=[draw(NAMES) for _ in range(count)],
        scores=[draw(SHARES if scores else st.just(1.0)) for _ in range(count)],
        attributes=[list(draw(attributes).items()) for _ in range(count)],
        relations=[(*key, weight) for key, weight in relations.items()],
        image_id=draw(IDS),
    )


@st.composite
def _edges(draw, nodes):
    """Edges of every type that the nodes allow, each (type, predicate, ends) once."""
    ends = [(source, target) for source in range(len(nodes)) for target in range(len(nodes))]
    allowed = [
        (kind, pair)
        for kind in EDGE_TYPES
        for pair in ends
        if (nodes[pair[0]].type, nodes[pair[1]].type) in _ENDS[kind]
    ]
    if not allowed:
        return []
    predicates = {
        "spatial": st.sampled_from(SPATIAL_PREDICATES),
        "overlap": st.just("overlaps"),
        "attribute": st.just("is"),
        "relation": TEXTS,
        "alignment": st.sampled_from(("object", "attribute", "relation")),
    }
    found = {}
    for kind, pair in draw(st.lists(st.sampled_from(allowed), max_size=8)):
        found[kind, draw(predicates[kind]), pair] = draw(WEIGHTS)
    return [
        Edge(source, predicate, target, kind, weight)
        for (kind, predicate, (source, target)), weight in found.items()
    ]
