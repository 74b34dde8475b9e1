"""How likely each word piece and each region is masked when some of them are anchors (SKM).

Structural knowledge masking hides what would give an anchor away within its own modality and keeps
what the other modality says of it. This is its graph form: a sub-graph around the anchors, a
row-stochastic matrix over it, two hops, probabilities.

Source: Cui et al., "ROSITA: Enhancing Vision-and-Language Semantic Alignments via Cross- and
Intra-modal Knowledge Integration", ACM Multimedia 2021, arXiv:2108.07073; numbers from the
pre-training loader of its code (revision d2bd673). Its slips are not repeated: edges of every
strongly aligned region count, no anchor overwrites another, a row without edges stays 0, an aligned
word without text edges takes part, and of a word of several heads all are masked. What several
anchors do together (``contained``) is *ours*.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from tbkin.config import choose
from tbkin.data.knowledge_graph import KnowledgeGraph
from tbkin.graphs.alignment import STRONGLY_ALIGNED

ONE_HOP = 0.8  # alpha: the share of one hop; the rest is two hops
SAME_SIDE = 0.9  # beta: the most that an anchor masks on its own side; 1 - beta on the other


@dataclass(frozen=True, eq=False)
class SubGraph:
    """The edges around some anchors, in the shapes of the whole graph, 0 for all others.

    Attributes:
        words: (W, W) text edges.
        links: (W, R) strong alignments.
        regions: (R, R) overlaps; on the image side each anchor is also joined to itself with 1.
    """

    words: np.ndarray
    links: np.ndarray
    regions: np.ndarray

    @property
    def nodes(self) -> np.ndarray:
        """(W + R,) bool, which pieces, then regions, have an edge."""
        text = self.words.any(axis=1) | self.links.any(axis=1)
        image = self.regions.any(axis=1) | self.links.any(axis=0)
        return np.concatenate([text, image])


@dataclass(frozen=True, eq=False)
class KnowledgeMatrix:
    """A walk over a sub-graph of T pieces and I regions.

    Attributes:
        text_nodes: (T,) pieces, ascending.
        image_nodes: (I,) regions, ascending.
        transition: (T + I, T + I) P, pieces first; a row sums to 1, or to 0 without an edge.
        smoothed: likewise, 0.8 P + 0.2 P P.
    """

    text_nodes: np.ndarray
    image_nodes: np.ndarray
    transition: np.ndarray
    smoothed: np.ndarray


def masking_probabilities(
    graph: KnowledgeGraph, side: str, anchors: Iterable[int], combination: str = "contained"
) -> tuple[np.ndarray, np.ndarray]:
    """How likely each piece and each region is masked, each independently of the others.

    Args:
        graph: pieces, regions and what joins them.
        side: ``text`` or ``image``, where the anchors are.
        anchors: places in ``graph.object_words`` on the text side, regions on the image side.
        combination: of several anchors. ``contained`` (*ours*): the maximum over those whose own
            sub-graph contains the node; ``maximum``: over all, which lifts each node of the other
            side to 0.1 as soon as one anchor does not reach it.

    Returns:
        (W,) and (R,) float64 in [0, 1]; anchors have 1. Without a strong alignment of any anchor
        the graph is not used, and all others have 0.

    Raises:
        ValueError: an unknown side or combination, an anchor that is not there.
    """
    combine = choose(COMBINATIONS, combination, "combination of anchors")
    anchors = _checked(graph, side, anchors)
    rows = anchor_probabilities(graph, side, anchors)
    together = combine(graph, side, anchors, rows).max(axis=0, initial=0.0)
    return together[: len(graph.links)], together[len(graph.links) :]


def anchor_probabilities(graph: KnowledgeGraph, side: str, anchors: Iterable[int]) -> np.ndarray:
    """What each anchor node gives each node, all anchors having made one matrix together.

    An anchor node gives itself 1, a node of its own side 0.9 P'_aj, one of the other side
    0.1 (1 - P'_aj), but 0 if its row has no mass at all on the other side. P' is
    :attr:`KnowledgeMatrix.smoothed`.

    Returns:
        (A, W + R), pieces first; a row for each of :func:`anchor_nodes`, in their order.
    """
    anchors = _checked(graph, side, anchors)
    chosen = _on_both_sides(graph, side, anchor_nodes(graph, side, anchors))
    rows = np.zeros((len(chosen), sum(graph.links.shape)))
    matrix = knowledge_matrix(graph, side, anchors)
    if matrix is not None:
        nodes = np.concatenate([matrix.text_nodes, len(graph.links) + matrix.image_nodes])
        same = (nodes < len(graph.links)) == (side == "text")
        for row, anchor in zip(rows, chosen, strict=True):
            if anchor not in nodes:
                continue
            flow = matrix.smoothed[np.flatnonzero(nodes == anchor)[0]]
            row[nodes[same]] = SAME_SIDE * flow[same]
            if flow[~same].any():
                row[nodes[~same]] = (1 - SAME_SIDE) * (1 - flow[~same])
    rows[np.arange(len(chosen)), chosen] = 1.0
    return rows.clip(0.0, 1.0)


def anchor_nodes(graph: KnowledgeGraph, side: str, anchors: Iterable[int]) -> list[int]:
    """The pieces (text side: all of each object word) or regions that anchors stand for."""
    anchors = _checked(graph, side, anchors)
    if side == "image":
        return anchors
    return [piece for number in anchors for piece in graph.object_words[number].pieces]


def knowledge_matrix(
    graph: KnowledgeGraph, side: str, anchors: Iterable[int]
) -> KnowledgeMatrix | None:
    """The matrix over the sub-graph of all anchors; None if none has a strong alignment.

    Each of the blocks text-text, text-image, image-text and image-image is normalised row by row,
    the nodes without an edge go, and so is the whole; arguments as in
    :func:`masking_probabilities`.
    """
    edges = sub_graph(graph, side, anchors)
    if not edges.links.any():
        return None
    blocks = [[edges.words, edges.links], [edges.links.T, edges.regions]]
    whole = np.block([[_rows_to_one(block) for block in row] for row in blocks])
    nodes = np.flatnonzero(edges.nodes)
    transition = _rows_to_one(whole[np.ix_(nodes, nodes)])
    pieces = len(graph.links)
    return KnowledgeMatrix(
        text_nodes=nodes[nodes < pieces],
        image_nodes=nodes[nodes >= pieces] - pieces,
        transition=transition,
        smoothed=ONE_HOP * transition + (1 - ONE_HOP) * transition @ transition,
    )


def sub_graph(graph: KnowledgeGraph, side: str, anchors: Iterable[int]) -> SubGraph:
    """What surrounds the anchors; arguments as in :func:`masking_probabilities`.

    Text side: text edges of the anchors, their strong alignments (above 0.9), overlaps of the
    regions aligned so. Image side: overlaps of the anchors, each also with itself, their strong
    alignments, text edges of the object words aligned so.
    """
    anchors = _checked(graph, side, anchors)
    strong = np.where(graph.links > STRONGLY_ALIGNED, graph.links, 0.0)
    near = np.zeros(len(graph.regions), dtype=bool)
    if side == "text":
        object_words = [graph.object_words[number] for number in anchors]
        links = np.zeros_like(strong)
        for word in object_words:
            links[list(word.pieces)] = strong[list(word.pieces)]
        near |= links.any(axis=0)
    else:
        near[anchors] = True
        links = np.where(near, strong, 0.0)
        object_words = [word for word in graph.object_words if links[list(word.pieces)].any()]
    regions = np.where(near[:, None] | near[None, :], graph.regions, 0.0)
    if side == "image":
        regions[anchors, anchors] = 1.0
    return SubGraph(graph.text_edges(object_words), links, regions)


def _within_own(
    graph: KnowledgeGraph, side: str, anchors: list[int], rows: np.ndarray
) -> np.ndarray:
    """Keep of each anchor's row what its own sub-graph contains, and itself."""
    kept = np.zeros_like(rows)
    start = 0
    for anchor in anchors:
        own = anchor_nodes(graph, side, [anchor])
        inside = sub_graph(graph, side, [anchor]).nodes
        inside[_on_both_sides(graph, side, own)] = True
        part = slice(start, start + len(own))
        kept[part] = np.where(inside, rows[part], 0.0)
        start += len(own)
    return kept


def _as_they_are(
    graph: KnowledgeGraph, side: str, anchors: list[int], rows: np.ndarray
) -> np.ndarray:
    return rows


COMBINATIONS = {"contained": _within_own, "maximum": _as_they_are}


def _on_both_sides(graph: KnowledgeGraph, side: str, nodes: Sequence[int]) -> np.ndarray:
    """Numbers among pieces and regions together, pieces first."""
    return np.array(nodes, dtype=np.int64) + (len(graph.links) if side == "image" else 0)


def _rows_to_one(values: np.ndarray) -> np.ndarray:
    """Divide each row by its sum; a row without any weight stays 0."""
    sums = values.sum(axis=1, keepdims=True)
    return np.divide(values, sums, out=np.zeros_like(values), where=sums > 0)


def _checked(graph: KnowledgeGraph, side: str, anchors: Iterable[int]) -> list[int]:
    anchors = [int(anchor) for anchor in anchors]
    known = {"text": len(graph.object_words), "image": len(graph.regions)}
    count = choose(known, side, "side to mask")
    for anchor in anchors:
        if not 0 <= anchor < count:
            kind = "object words" if side == "text" else "regions"
            raise ValueError(f"anchor {anchor} of a graph of {count} {kind}.")
    return anchors
