"""Join what is seen and what is said: ``build_scene_graph(regions, caption_graph)``.

Preparation, training and prediction all call this one function, so they cannot drift apart.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from tbkin.graphs.regions import Regions
from tbkin.graphs.relations import (
    INVERSE,
    PREDICATES_OF_PHRASE,
    overlap_edges,
    pairwise_predicates,
    spatial_edges,
)
from tbkin.graphs.scene_graph import Edge, Node, SceneGraph
from tbkin.graphs.words import is_generic, label_similarity

ALIGNED = 0.5  # weaker alignments are dropped; ROSITA's thresholds are 0.5 and, for strong, 0.9
STRONGLY_ALIGNED = 0.9

Similarity = Callable[[str, str], float]


def build_scene_graph(
    regions: Regions | None = None,
    caption_graph: SceneGraph | None = None,
    similarity: Similarity = label_similarity,
) -> SceneGraph:
    """The unified scene graph of a picture and a text; either may be missing.

    Args:
        regions: what a detector saw.
        caption_graph: word nodes and edges, from a parser.
        similarity: of a word's lemma and a label, in [0, 1].

    Returns:
        Region nodes first (node ``i`` is region ``i``), then attribute nodes (one a name), then
        the word nodes in their order; edges between them as ``graphs/scene_graph.py`` lists.
    """
    seen = picture_graph(regions) if regions is not None else SceneGraph()
    return join(seen, caption_graph, similarity) if caption_graph is not None else seen


def picture_graph(regions: Regions) -> SceneGraph:
    """Region and attribute nodes of one picture with their spatial, overlap and other edges."""
    nodes = [
        Node("region", label, index, box=tuple(box), score=score)
        for index, (label, box, score) in enumerate(
            zip(regions.labels, regions.boxes.tolist(), regions.scores, strict=True)
        )
    ]
    edges = spatial_edges(regions.boxes) + overlap_edges(regions.boxes)
    edges += [
        Edge(subject, predicate, target, "relation", score)
        for subject, predicate, target, score in regions.relations
        if score > 0
    ]
    places: dict[str, int] = {}
    for index, attributes in enumerate(regions.attributes):
        for name, score in attributes:
            if score <= 0:
                continue
            if name not in places:
                places[name] = len(nodes)
                nodes.append(Node("attribute", name))
            edges.append(Edge(index, "is", places[name], "attribute", score))
    return SceneGraph(
        nodes, edges, [], width=regions.width, height=regions.height, image_id=regions.image_id
    )


def join(
    seen: SceneGraph, said: SceneGraph, similarity: Similarity = label_similarity
) -> SceneGraph:
    """Add the text's nodes to the picture's graph, and the alignment between the two."""
    shift = len(seen.nodes)
    nodes = seen.nodes + said.nodes
    edges = seen.edges + [
        Edge(edge.source + shift, edge.predicate, edge.target + shift, edge.type, edge.weight)
        for edge in said.edges
    ]
    edges += _alignment(nodes, edges, shift, similarity)
    return SceneGraph(nodes, edges, said.words, seen.width, seen.height, seen.image_id)


def _alignment(
    nodes: list[Node], edges: list[Edge], first_word: int, similarity: Similarity
) -> list[Edge]:
    """Alignment edges for objects, attributes and relations (relations: *ours*)."""
    words = range(first_word, len(nodes))
    aligned = {
        word: _aligned_regions(word, nodes, edges, similarity)
        for word in words
        if nodes[word].role == "object"
    }
    found = [
        Edge(word, "object", region, "alignment", strength)
        for word, regions in aligned.items()
        for region, strength in regions.items()
    ]
    for word in words:
        if nodes[word].role == "attribute":
            for place, node in enumerate(nodes[:first_word]):
                if node.type == "attribute":
                    strength = similarity(nodes[word].label, node.label)
                    if strength >= ALIGNED:
                        found.append(Edge(word, "attribute", place, "alignment", strength))
        elif nodes[word].role == "relation":
            found += _aligned_relation(word, nodes, edges, aligned)
    return found


def _aligned_regions(
    word: int, nodes: list[Node], edges: list[Edge], similarity: Similarity
) -> dict[int, float]:
    """Region -> how well it fits an object word and the attributes said of it.

    Class and attributes are the *facets* of a description. A region that fits all of them is
    aligned with the mean of their similarities; one facet may miss, because detectors err, at
    half the strength. A generic word ("thing") has no class to compare (*ours*).
    """
    label = nodes[word].label
    said = [
        nodes[edge.target].label
        for edge in edges
        if (edge.source, edge.type) == (word, "attribute")
        and nodes[edge.target].role == "attribute"
    ]
    seen: dict[int, list[str]] = {
        place: [] for place, node in enumerate(nodes) if node.type == "region"
    }
    for edge in edges:
        if edge.type == "attribute" and edge.source in seen:
            seen[edge.source].append(nodes[edge.target].label)

    strengths = {}
    for region, names in seen.items():
        facets = [] if is_generic(label) else [similarity(label, nodes[region].label)]
        facets += [max((similarity(one, name) for name in names), default=0.0) for one in said]
        fits = [facet for facet in facets if facet >= ALIGNED]
        misses = len(facets) - len(fits)
        if misses == 0:
            strengths[region] = sum(fits) / len(fits) if fits else 1.0
        elif misses == 1 and fits:
            strengths[region] = ALIGNED
    return strengths


def _aligned_relation(
    word: int, nodes: list[Node], edges: list[Edge], aligned: dict[int, dict[int, float]]
) -> list[Edge]:
    """A relation word -> the regions that are the subject of a matching picture relation.

    The subject must be aligned with the relation's subject word, the other end with its object
    word; the strength is the product of the two alignments.
    """
    ends = {
        edge.predicate: edge.target
        for edge in edges
        if edge.type == "relation" and edge.source == word
    }
    subjects = aligned.get(ends.get("subject", -1), {})
    objects = aligned.get(ends.get("object", -1), {})
    if not subjects or not objects:
        return []
    wanted = PREDICATES_OF_PHRASE.get(nodes[word].label, (nodes[word].label,))
    holds = _picture_relations(nodes, edges)
    found = []
    for subject, subject_strength in subjects.items():
        strength = max(
            (
                subject_strength * object_strength
                for target, object_strength in objects.items()
                if target != subject
                and any((subject, predicate, target) in holds for predicate in wanted)
            ),
            default=0.0,
        )
        if strength >= ALIGNED:
            found.append(Edge(word, "relation", subject, "alignment", strength))
    return found


def _picture_relations(nodes: list[Node], edges: list[Edge]) -> set[tuple[int, str, int]]:
    """Every (subject, predicate, object) that holds between two regions.

    Geometry answers for all pairs, also for those too far apart to have an edge of their own.
    """
    boxes = torch.tensor([node.box for node in nodes if node.type == "region"])
    predicates = pairwise_predicates(boxes)
    holds = {
        (source, predicate, target)
        for source, row in enumerate(predicates)
        for target, predicate in enumerate(row)
        if source != target
    }
    for edge in edges:
        if edge.type == "relation" and nodes[edge.source].type == "region":
            holds.add((edge.source, edge.predicate, edge.target))
            if edge.predicate in INVERSE:
                holds.add((edge.target, INVERSE[edge.predicate], edge.source))
    return holds
