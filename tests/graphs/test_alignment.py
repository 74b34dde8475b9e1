import json
import math
from pathlib import Path

import numpy as np
import pytest

from tbkin.graphs.alignment import STRONGLY_ALIGNED, alignment_strength, base_forms
from tbkin.graphs.build import build_scene_graph, join, picture_graph
from tbkin.graphs.scene_graph import Edge, Node, SceneGraph
from tbkin.graphs.vector_files import FileVectors
from tbkin.graphs.word_vectors import VectorSimilarity

REFERENCE = Path(__file__).resolve().parents[3] / "shared/reference/rosita_tiny/skm_case.json"


def aligned(graph):
    """(what the text says, what is aligned, region number or attribute) -> strength."""
    found = {}
    for edge in graph.edges:
        if edge.type == "alignment":
            target = graph.nodes[edge.target]
            end = target.index if target.type == "region" else target.label
            found[graph.nodes[edge.source].label, edge.predicate, end] = edge.weight
    return found


def said(*nodes, edges=()):
    """A text graph; nodes are (label, role) or (label, role, changes)."""
    made = [
        Node("word", one[0], place, one[1], **(one[2] if len(one) > 2 else {}))
        for place, one in enumerate(nodes)
    ]
    return SceneGraph(made, [Edge(*edge) for edge in edges], [one[0] for one in nodes])


@pytest.mark.parametrize(
    ("cosine", "strength"),
    [
        (1.0, 1.0),
        # d = 1.3 (1 - c) = 0.5: 1 - (e - 1) / (e^2 - 1) = 1 - 1 / (e + 1)
        (1 - 0.5 / 1.3, 1 - 1 / (math.e + 1)),
        (1 - 1 / 1.3, 0.0),  # d = 1
        (0.0, 0.0),
        (-1.0, 0.0),
        (1.0000001, 1.0),  # rounding
        (0.448, 0.0),  # 0.499 before the floor
    ],
)
def test_curve_worked_by_hand(cosine, strength):
    assert alignment_strength(cosine) == pytest.approx(strength, abs=1e-6)


def test_curve_rises_and_crosses_the_thresholds_where_rosita_does():
    values = [alignment_strength(cosine / 1000) for cosine in range(-1000, 1001)]
    assert values == sorted(values)
    assert alignment_strength(0.449) == pytest.approx(0.50077, abs=1e-5)
    assert alignment_strength(0.8099) < STRONGLY_ALIGNED < alignment_strength(0.8101)


@pytest.mark.skipif(
    not REFERENCE.is_file(), reason="needs the reference values beside the checkout"
)
def test_rositas_own_values():
    case = json.loads(REFERENCE.read_text(encoding="utf-8"))
    for cosine, _, strength in case["similarity_curve"]["rows"]:
        assert alignment_strength(cosine) == pytest.approx(strength, abs=1e-6)
    graph = case["graph"]
    matrix = np.array(list(graph["vectors"].values()))
    vectors = FileVectors(list(graph["vectors"]), matrix, "made up")
    similarity = VectorSimilarity(vectors, tables=False)
    objects = {word[0][0] for word in graph["scene_graph"]["objs"]}
    for number, word in enumerate(graph["words"]):
        for piece in graph["pieces_of_word"][number]:
            expected = graph["similarity"][piece]
            found = [
                similarity(word, region["name"]) if number in objects else 0.0
                for region in graph["regions"]
            ]
            assert found == pytest.approx(expected, abs=1e-5)


def test_a_denied_attribute_does_not_attract(regions):
    # "the thing that is not red": regions 0 and 1 are red, 2 and 3 are blue.
    graph = said(
        ("thing", "object"),
        ("red", "attribute", {"negated": True}),
        edges=[(0, "is", 1, "attribute")],
    )
    assert aligned(build_scene_graph(regions, graph)) == {
        ("thing", "object", region): 1.0 for region in range(4)
    }
    # "the square that is not blue, but red": only red is compared.
    graph = said(
        ("square", "object"),
        ("blue", "attribute", {"negated": True}),
        ("red", "attribute"),
        edges=[(0, "is", 1, "attribute"), (0, "is", 2, "attribute")],
    )
    found = aligned(build_scene_graph(regions, graph))
    assert found["square", "object", 1] == 1.0
    assert ("square", "object", 2) not in found  # blue, and no square
    assert ("red", "attribute", "red") in found
    assert not [key for key in found if key[0] == "blue"]


@pytest.mark.parametrize("negated", [False, True])
def test_a_denied_relation_is_not_aligned(regions, negated):
    graph = said(
        ("circle", "object"),
        ("left of", "relation", {"negated": negated}),
        ("square", "object"),
        edges=[(1, "subject", 0, "relation"), (1, "object", 2, "relation")],
    )
    found = aligned(build_scene_graph(regions, graph))
    assert (("left of", "relation", 0) in found) is not negated
    assert found["circle", "object", 0] == found["square", "object", 1] == 1.0


def test_a_compound_is_compared_whole(regions):
    regions.labels = ["dog", "hot dog", "clock", "alarm clock"]
    hot_dog = said(("dog", "object", {"text": "hot dogs"}))
    assert aligned(build_scene_graph(regions, hot_dog)) == {("dog", "object", 1): 1.0}
    clock = said(("clock", "object"))
    assert aligned(build_scene_graph(regions, clock)) == {
        ("clock", "object", 2): 1.0,
        ("clock", "object", 3): 0.92,
    }


def test_attributes_have_a_comparison_of_their_own(regions):
    class Everything:
        """Any object is anything; attributes only what they are."""

        def __call__(self, word, label):
            return 1.0

        def attribute(self, word, name):
            return float(word == name)

    text = said(("dog", "object"), ("red", "attribute"), edges=[(0, "is", 1, "attribute")])
    assert aligned(build_scene_graph(regions, text, Everything())) == {
        ("dog", "object", 0): 1.0,
        ("dog", "object", 1): 1.0,
        ("dog", "object", 2): 0.5,  # not red
        ("dog", "object", 3): 0.5,
        ("red", "attribute", "red"): 1.0,
    }


def test_strength_of_two_facets_is_their_mean(regions):
    text = said(("dog", "object"), ("red", "attribute"), edges=[(0, "is", 1, "attribute")])
    found = aligned(build_scene_graph(regions, text, lambda a, b: 0.7 if a == "dog" else a == b))
    assert found["dog", "object", 0] == pytest.approx((0.7 + 1) / 2)


def test_an_empty_picture_aligns_nothing(empty_regions):
    text = said(
        ("dog", "object"),
        ("on", "relation"),
        ("dog", "object"),
        edges=[(1, "subject", 0, "relation"), (1, "object", 2, "relation")],
    )
    assert aligned(join(picture_graph(empty_regions), text)) == {}


@pytest.mark.parametrize(
    ("predicate", "label"),
    [
        ("riding", "ride"),
        ("wearing", "wear"),
        ("sitting on", "sit on"),
        ("parked on", "park on"),
        ("has", "have"),
        ("watches", "watch"),
        ("Holds", "hold"),
        ("on", "on"),
        ("made of", "made of"),
    ],
)
def test_a_detectors_verbs_meet_a_parsers_lemmas(regions, predicate, label):
    assert label in base_forms(predicate)
    regions.relations = [(0, predicate, 3, 0.4)]
    text = said(
        ("circle", "object"),
        (label, "relation"),
        ("cross", "object"),
        edges=[(1, "subject", 0, "relation"), (1, "object", 2, "relation")],
    )
    assert aligned(build_scene_graph(regions, text)).get((label, "relation", 0)) == 1.0
    assert base_forms("") == {""}
    assert "walk" not in base_forms("riding")
