"""Join what is seen and what is said: ``build_scene_graph(regions, caption_graph)``.

Preparation, training and prediction all call this one function, so they cannot drift apart.
"""

from __future__ import annotations

from tbkin.graphs.alignment import Similarity, alignment_edges
from tbkin.graphs.regions import Regions
from tbkin.graphs.relations import overlap_edges, spatial_edges
from tbkin.graphs.scene_graph import Edge, Node, SceneGraph
from tbkin.graphs.words import label_similarity


def build_scene_graph(
    regions: Regions | None = None,
    caption_graph: SceneGraph | None = None,
    similarity: Similarity = label_similarity,
) -> SceneGraph:
    """The unified scene graph of a picture and a text; either may be missing.

    Args:
        regions: what a detector saw.
        caption_graph: word nodes and edges, from a parser.
        similarity: of a word's lemma and a label, in [0, 1]; ``graphs/word_vectors.py`` has others.
            Attributes are compared by its method ``attribute`` if it has one.

    Returns:
        Region nodes first (node ``i`` is region ``i``), then attribute nodes (one a name), then
        the word nodes in their order; edges between them as ``graphs/scene_graph.py`` lists.
    """
    seen = picture_graph(regions) if regions is not None else SceneGraph()
    return join(seen, caption_graph, similarity) if caption_graph is not None else seen


def picture_graph(regions: Regions, geometry: bool = True) -> SceneGraph:
    """Region and attribute nodes of one picture with their spatial, overlap and other edges.

    Args:
        regions: what a detector saw, or what a file says.
        geometry: also add the spatial and overlap edges that follow from the boxes.
    """
    nodes = [
        Node("region", label, index, box=tuple(box), score=score)
        for index, (label, box, score) in enumerate(
            zip(regions.labels, regions.boxes.tolist(), regions.scores, strict=True)
        )
    ]
    edges = spatial_edges(regions.boxes) + overlap_edges(regions.boxes) if geometry else []
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
    edges += alignment_edges(nodes, edges, shift, similarity)
    return SceneGraph(nodes, edges, said.words, seen.width, seen.height, seen.image_id)
