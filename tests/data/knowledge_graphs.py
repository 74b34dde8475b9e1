"""Knowledge graphs that several tests use: by hand, random, and ROSITA's own case."""

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import strategies as st

from tbkin.data.knowledge_graph import KnowledgeGraph, ObjectWord, knowledge_graph
from tbkin.graphs.build import build_scene_graph
from tbkin.graphs.knowledge import CooccurrencePrior
from tbkin.graphs.regions import Regions
from tbkin.graphs.scene_graph import Edge, Node, SceneGraph
from tbkin.graphs.vector_files import FileVectors
from tbkin.graphs.word_vectors import VectorSimilarity

REFERENCE = Path(__file__).resolve().parents[3] / "shared/reference/rosita_tiny/skm_case.json"
needs_reference = pytest.mark.skipif(
    not REFERENCE.is_file(), reason="needs the reference values beside the checkout"
)

RED, DOG, RUNS, BALL = range(4)  # pieces of "red dog runs ball"


def hand_graph():
    """Two object words (dog, ball), three regions, all numbers round.

    The dog is red (0.6) and runs (0.2); the ball has no text edge. Region 0 is the dog's and
    overlaps region 1, which the dog fits weakly; region 2 is the ball's.
    """
    links = np.zeros((4, 3))
    links[DOG, 0], links[DOG, 1], links[BALL, 2] = 1.0, 0.6, 1.0
    regions = np.zeros((3, 3))
    regions[0, 1] = regions[1, 0] = 0.5
    dog = ObjectWord((DOG,), (((RED,), 0.6), ((RUNS,), 0.2)))
    return KnowledgeGraph((dog, ObjectWord((BALL,))), regions, links)


@st.composite
def knowledge_graphs(draw):
    """Any valid graph: words of several pieces, weak and strong links, perhaps nothing at all."""
    sizes = draw(st.lists(st.integers(1, 3), max_size=6))  # pieces of each word
    ends = np.cumsum([0, *sizes]).tolist()
    words = [tuple(range(*pair)) for pair in pairwise(ends)]
    count = draw(st.integers(0, 5))
    strength = st.one_of(st.just(0.0), st.floats(0.5, 1))
    links, objects = np.zeros((ends[-1], count)), []
    for number, pieces in enumerate(words):
        if draw(st.booleans()):
            others = [other for other in words if other != words[number]]
            near = draw(st.lists(st.sampled_from(others), unique=True)) if others else []
            weights = [draw(st.floats(0.2, 0.7)) for _ in near]
            objects.append(ObjectWord(pieces, tuple(zip(near, weights, strict=True))))
            links[list(pieces)] = [draw(strength) for _ in range(count)]
    regions = np.zeros((count, count))
    for pair in zip(*np.triu_indices(count, 1), strict=True):
        regions[pair] = regions[pair[::-1]] = draw(
            st.one_of(st.just(0.0), st.floats(0.2, 1, exclude_min=True))
        )
    return KnowledgeGraph(tuple(objects), regions, links)


def reference():
    """ROSITA's case: the content of the file, and its graph by way of our scene graph."""
    case = json.loads(REFERENCE.read_text(encoding="utf-8"))
    values = case["graph"]
    objects, attributes, relations = (values["scene_graph"][k] for k in ("objs", "attrs", "rels"))
    nodes, place = [], {}

    def node(words, role):
        if (words[0], role) not in place:
            place[words[0], role] = len(nodes)
            label = " ".join(values["words"][word] for word in words)
            nodes.append(Node("word", label, words[0], role))
        return place[words[0], role]

    edges = []
    for (words,) in objects:
        node(words, "object")
    for owner, words in attributes:
        edges.append(Edge(node(owner, "object"), "is", node(words, "attribute"), "attribute"))
    for subject, words, target in relations:
        relation = node(words, "relation")
        edges.append(Edge(relation, "subject", node(subject, "object"), "relation"))
        edges.append(Edge(relation, "object", node(target, "object"), "relation"))
    said = SceneGraph(nodes, edges, values["words"])
    names = [region["name"] for region in values["regions"]]
    boxes = torch.tensor([region["box"] for region in values["regions"]]).float()
    width, height = (int(side) + 1 for side in boxes.max(dim=0).values[2:])
    seen = Regions(boxes, width, height, names, [1.0] * len(names), [[] for _ in names])
    vectors = FileVectors(list(values["vectors"]), np.array(list(values["vectors"].values())), "")
    graph = build_scene_graph(seen, said, VectorSimilarity(vectors, tables=False))
    prior = CooccurrencePrior(values["attribute_prior"], values["relation_prior"])
    pieces_of_word = dict(enumerate(values["pieces_of_word"]))
    return case, knowledge_graph(graph, prior, pieces_of_word)
