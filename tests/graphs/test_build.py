from dataclasses import replace

import pytest
import torch

from tbkin.graphs.build import build_scene_graph, picture_graph
from tbkin.graphs.regions import Regions
from tbkin.graphs.scene_graph import SceneGraph
from tbkin.graphs.words import SYNONYM
from tbkin.parsers.word_rules import WordRules


def joined(regions, text):
    return build_scene_graph(regions, WordRules()(text))


def alignments(graph):
    """(label of the word, what is aligned, region number or attribute name) -> strength."""
    found = {}
    for edge in graph.edges:
        if edge.type == "alignment":
            target = graph.nodes[edge.target]
            end = target.index if target.type == "region" else target.label
            found[graph.nodes[edge.source].label, edge.predicate, end] = edge.weight
    return found


def test_regions_come_first_then_one_node_an_attribute_then_words(regions):
    graph = joined(regions, "the red circle")
    assert [(node.type, node.label) for node in graph.nodes] == [
        ("region", "circle"),
        ("region", "square"),
        ("region", "star"),
        ("region", "cross"),
        ("attribute", "red"),
        ("attribute", "small"),
        ("attribute", "large"),
        ("attribute", "blue"),
        ("word", "circle"),
        ("word", "red"),
    ]
    assert [node.index for node in graph.nodes[:4]] == [0, 1, 2, 3]
    assert graph.nodes[1].box == (50, 30, 90, 70)
    assert graph.nodes[1].score == pytest.approx(0.8)
    assert (graph.width, graph.height, graph.image_id) == (100, 100, "7")
    assert graph.words == ["the", "red", "circle"]


def test_attribute_and_relation_edges_carry_the_detectors_confidence(regions):
    graph = picture_graph(regions)
    named = [
        (edge.source, edge.predicate, graph.nodes[edge.target].label, edge.weight)
        for edge in graph.edges
        if edge.type in ("attribute", "relation")
    ]
    assert sorted(named) == [
        (0, "is", "red", 0.9),
        (0, "is", "small", 0.8),
        (0, "left of", "square", 0.75),
        (1, "is", "large", 1.0),
        (1, "is", "red", 0.7),
        (2, "is", "blue", 0.6),
        (3, "is", "blue", 0.5),
    ]


def test_what_the_detector_gave_no_confidence_is_left_out(regions):
    regions.attributes[0] = [("green", 0.0)]
    regions.relations = [(0, "left of", 1, 0.0)]
    graph = picture_graph(regions)
    assert "green" not in {node.label for node in graph.nodes}
    assert not [edge for edge in graph.edges if edge.type == "relation"]


def test_either_side_may_be_missing(regions, empty_regions):
    said = WordRules()("the red circle")
    assert build_scene_graph() == SceneGraph()
    assert build_scene_graph(regions) == picture_graph(regions)
    assert build_scene_graph(None, said) == said
    alone = build_scene_graph(empty_regions, said)
    assert alone.nodes == said.nodes
    assert alone.edges == said.edges


def test_a_word_without_attributes_is_aligned_by_its_class(regions):
    assert alignments(joined(regions, "the star")) == {("star", "object", 2): 1.0}
    assert alignments(joined(regions, "the dog")) == {}


def test_all_facets_fit_one_may_miss_two_may_not(regions):
    # "large red square": region 1 is all three. Region 0 is red, but neither large nor a square.
    assert alignments(joined(regions, "large red square")) == {
        ("square", "object", 1): 1.0,
        ("large", "attribute", "large"): 1.0,
        ("red", "attribute", "red"): 1.0,
    }
    # "small red square": regions 0 and 1 each miss one facet of three.
    found = alignments(joined(regions, "small red square"))
    assert found["square", "object", 0] == 0.5
    assert found["square", "object", 1] == 0.5
    # "blue square": regions 1, 2 and 3 each miss one of two; region 0 misses both.
    found = alignments(joined(regions, "blue square"))
    assert {key[2] for key in found if key[1] == "object"} == {1, 2, 3}
    assert found["square", "object", 3] == 0.5


def test_a_synonym_lowers_the_mean(regions):
    # "big square": class 1, attribute 0.95.
    found = alignments(joined(regions, "big square"))
    assert found["square", "object", 1] == pytest.approx((1 + SYNONYM) / 2)
    assert found["big", "attribute", "large"] == SYNONYM


def test_a_generic_word_is_aligned_by_its_attributes_alone(regions):
    found = alignments(joined(regions, "the blue thing"))
    assert {key: value for key, value in found.items() if key[1] == "object"} == {
        ("thing", "object", 2): 1.0,
        ("thing", "object", 3): 1.0,
    }
    everything = alignments(joined(regions, "the things"))
    assert everything == {("thing", "object", region): 1.0 for region in range(4)}


def test_a_count_is_no_facet(regions):
    assert alignments(joined(regions, "two stars"))["star", "object", 2] == 1.0


@pytest.mark.parametrize(
    ("text", "regions_counted", "strength"),
    [
        ("four things", [0, 1, 2, 3], 1.0),
        ("three things", [0, 1, 2, 3], 0.5),  # a detector may find one too many
        ("five things", [0, 1, 2, 3], 0.5),  # or one too few
        ("two things", [], 0.0),
        ("two blue things", [2, 3], 1.0),  # only those that are as they are said to be
        ("two stars", [2], 0.5),
        ("three stars", [], 0.0),
    ],
)
def test_a_count_is_aligned_with_the_regions_it_counts(regions, text, regions_counted, strength):
    found = alignments(joined(regions, text))
    counted = {key[2]: value for key, value in found.items() if key[1] == "count"}
    assert counted == dict.fromkeys(regions_counted, strength)


def test_some_of_the_things_are_counted_by_themselves(regions):
    found = alignments(joined(regions, "four things, two of them blue"))
    counted = [key for key, value in found.items() if key[1] == "count" and value == 1.0]
    assert counted == [("4", "count", place) for place in range(4)] + [
        ("2", "count", 2),
        ("2", "count", 3),
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("the circle left of the square", {0: 1.0}),
        ("the circle right of the square", {}),
        ("the square right of the circle", {1: 1.0}),
        ("the star inside the square", {2: 1.0}),
        ("the star in the square", {2: 1.0}),
        ("the square above the cross", {1: 1.0}),
        ("the star next to the circle", {2: 1.0}),  # either side
        ("the red thing left of the star", {0: 1.0}),  # region 1 is around it
        ("the circle left of the dog", {}),
        ("the dog left of the circle", {}),
        # Region 1 misses "blue": 0.5 x 1 is still aligned; so are 2 and 3, blue but not squares,
        # and only 1 and 2 are above the cross.
        ("the blue square above the cross", {1: 0.5, 2: 0.5}),
        # Both ends miss a facet: 0.5 x 0.5 is not aligned.
        ("the blue circle left of the blue square", {0: 0.25}),
    ],
)
def test_a_relation_word_is_aligned_with_subjects_it_is_true_of(regions, text, expected):
    found = {
        region: weight
        for (_, predicate, region), weight in alignments(joined(regions, text)).items()
        if predicate == "relation"
    }
    kept = {region: weight for region, weight in expected.items() if weight >= 0.5}
    assert found == kept


def test_a_relation_that_geometry_does_not_show_is_believed_when_reported(regions):
    text = "the circle riding the cross"
    assert not [key for key in alignments(joined(regions, text)) if key[1] == "relation"]
    regions.relations = [(0, "riding", 3, 0.4)]
    assert ("ride", "relation", 0) in alignments(joined(regions, text))
    # Spurious knowledge counts too, and in both directions where the inverse has a name.
    regions.relations = [(0, "right of", 1, 0.1)]
    assert ("right of", "relation", 0) in alignments(joined(regions, "circle right of square"))
    assert ("left of", "relation", 1) in alignments(joined(regions, "square left of circle"))


def test_a_relation_needs_two_different_regions(regions):
    # The only star cannot be next to itself.
    found = alignments(joined(regions, "the star next to the star"))
    assert not [key for key in found if key[1] == "relation"]


def test_the_order_of_regions_does_not_matter_up_to_their_numbers(regions):
    order = [2, 0, 3, 1]  # new place -> old number
    turned = replace(
        regions,
        boxes=regions.boxes[order],
        labels=[regions.labels[old] for old in order],
        scores=[regions.scores[old] for old in order],
        attributes=[regions.attributes[old] for old in order],
        relations=[(order.index(0), "left of", order.index(1), 0.75)],
        features=None,
    )
    inverse = {"left of": "right of", "above": "below", "around": "inside"}
    inverse |= {value: key for key, value in inverse.items()}

    def facts(graph, number):
        """Edges by what they join; undirected spatial ones in the direction of the names."""

        def name(place):
            node = graph.nodes[place]
            return (node.type, number(node.index) if node.type == "region" else node.label)

        found = set()
        for edge in graph.edges:
            ends = (name(edge.source), name(edge.target))
            if edge.type == "spatial" and ends[0] > ends[1]:
                found.add((ends[1], inverse[edge.predicate], ends[0], edge.type, edge.weight))
            else:
                found.add((ends[0], edge.predicate, ends[1], edge.type, edge.weight))
        return found

    text = "Is the small red circle to the left of the large blue square above the cross?"
    assert facts(joined(turned, text), lambda new: order[new]) == facts(
        joined(regions, text), lambda old: old
    )


def test_the_picture_graph_is_not_changed_by_joining(regions):
    seen = picture_graph(regions)
    before = SceneGraph.from_dict(seen.to_dict())
    build_scene_graph(regions, WordRules()("the red circle"))
    from tbkin.graphs.build import join

    join(seen, WordRules()("the red circle"))
    assert seen == before


def test_another_similarity_can_be_given(regions):
    said = WordRules()("the dog")
    graph = build_scene_graph(regions, said, lambda word, label: 0.6 if label == "star" else 0.0)
    assert alignments(graph) == {("dog", "object", 2): 0.6}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"labels": ["a"]},
            r"^regions of image 7: boxes must be \(1, 4\) for 1 labels, got \(4, 4\)",
        ),
        ({"scores": [1.0]}, r"4 labels, 1 scores and 4 attribute lists"),
        ({"attributes": [[]]}, r"4 labels, 4 scores and 1 attribute lists"),
        ({"features": torch.zeros(3, 2)}, r"3 feature rows for 4 regions"),
        ({"features": torch.full((4, 2), float("nan"))}, r"features hold NaN or infinite"),
        ({"boxes": torch.full((4, 4), float("inf"))}, r"boxes hold values that are not finite"),
        ({"boxes": torch.full((4, 4), -1.0)}, r"leaves the picture of 100 x 100"),
        ({"width": 80}, r"leaves the picture of 80 x 100"),
        ({"height": 80}, r"leaves the picture of 100 x 80"),
    ],
)
def test_unsound_regions_are_refused(regions, changes, message):
    with pytest.raises(ValueError, match=message):
        replace(regions, **changes)


def test_regions_without_a_name_say_only_regions():
    with pytest.raises(ValueError, match=r"^regions: boxes must be"):
        Regions(torch.zeros(2, 4), 9, 9, ["a"], [1.0], [[]])


def test_a_detector_that_names_classes_only_is_aligned_by_class(regions):
    said = WordRules()("a small striped red circle")
    regions.attributes = [[] for _ in regions.labels]
    graph = build_scene_graph(regions, said)
    found = [
        (graph.nodes[edge.target].label, edge.weight)
        for edge in graph.edges
        if edge.type == "alignment"
    ]
    assert found == [("circle", 1.0)]


def test_what_a_label_says_counts_as_seen(regions):
    regions.labels[0] = "potted plant"
    regions.attributes[0] = [("green", 0.9)]
    graph = build_scene_graph(regions, WordRules()("a potted plant"))
    assert [edge.weight for edge in graph.edges if edge.type == "alignment"] == [
        pytest.approx(1.0, abs=0.1)
    ]
