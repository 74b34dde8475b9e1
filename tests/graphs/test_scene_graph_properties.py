"""What holds for every scene graph, over random ones."""

import json
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tbkin.graphs.build import build_scene_graph, picture_graph
from tbkin.graphs.relations import INVERSE
from tbkin.graphs.scene_graph import (
    EDGE_TYPES,
    NODE_TYPES,
    SceneGraph,
    read_scene_graphs,
    write_scene_graphs,
)
from tbkin.parsers.word_rules import WordRules
from tests.graphs.strategies import pictures, scene_graphs

many = settings(max_examples=60, deadline=None)


@many
@given(scene_graphs())
def test_any_graph_survives_json(graph):
    assert SceneGraph.from_dict(json.loads(json.dumps(graph.to_dict()))) == graph


@settings(max_examples=25, deadline=None)
@given(st.lists(scene_graphs(), max_size=4))
def test_any_graphs_survive_a_file(tmp_path_factory, graphs):
    path = tmp_path_factory.mktemp("graphs") / "graphs.jsonl"
    assert write_scene_graphs(path, graphs) == len(graphs)
    assert list(read_scene_graphs(path)) == graphs


@many
@given(pictures(), st.text(max_size=60))
def test_every_edge_points_at_nodes_and_boxes_stay_inside(regions, text):
    graph = build_scene_graph(regions, WordRules()(text))
    for edge in graph.edges:
        assert 0 <= edge.source < len(graph.nodes)
        assert 0 <= edge.target < len(graph.nodes)
    for node in graph.nodes:
        if node.box is not None:
            left, top, right, bottom = node.box
            assert 0 <= left <= right <= graph.width
            assert 0 <= top <= bottom <= graph.height
    assert [node.label for node in graph.nodes[: len(regions)]] == regions.labels
    assert SceneGraph.from_dict(json.loads(json.dumps(graph.to_dict()))) == graph


@many
@given(scene_graphs(), st.integers())
def test_an_edge_that_points_elsewhere_is_refused(graph, target):
    assume(graph.edges and not 0 <= target < len(graph.nodes))
    graph.edges[-1] = replace(graph.edges[-1], target=target)
    with pytest.raises(ValueError, match=f"points outside the {len(graph.nodes)} nodes"):
        graph.check()


@many
@given(scene_graphs(), st.floats(0.5, 1e6))
def test_a_box_that_leaves_the_picture_is_refused(graph, step):
    assume(graph.of_type("region"))
    place = graph.of_type("region")[-1]
    box = graph.nodes[place].box
    graph.nodes[place] = replace(graph.nodes[place], box=(*box[:2], graph.width + step, box[3]))
    with pytest.raises(ValueError, match="leaves the picture"):
        graph.check()


@many
@given(pictures())
def test_without_geometry_a_picture_graph_holds_only_what_was_said(regions):
    told = picture_graph(regions, geometry=False)
    both = picture_graph(regions)
    assert both.nodes == told.nodes
    assert {edge.type for edge in told.edges} <= {"relation", "attribute"}
    assert [edge for edge in both.edges if edge.type in ("relation", "attribute")] == told.edges
    centres = ((regions.boxes[:, :2] + regions.boxes[:, 2:]) / 2).tolist()
    pairs = len(regions) * (len(regions) - 1) // 2
    apart = sum(a != b for n, a in enumerate(centres) for b in centres[:n])
    spatial = sum(edge.type == "spatial" for edge in both.edges)
    assert apart <= spatial <= pairs  # at most 4 regions: all are near


@many
@given(pictures(), st.text("redcirclesquare ", max_size=30), st.randoms(use_true_random=False))
def test_the_order_of_regions_does_not_change_the_graph_up_to_numbering(regions, text, random):
    order = list(range(len(regions)))  # new place -> old number
    random.shuffle(order)
    new = {old: place for place, old in enumerate(order)}
    turned = replace(
        regions,
        boxes=regions.boxes[order],
        labels=[regions.labels[old] for old in order],
        scores=[regions.scores[old] for old in order],
        attributes=[regions.attributes[old] for old in order],
        relations=[(new[s], p, new[o], score) for s, p, o, score in regions.relations],
        features=None,
    )
    said = WordRules()(text)
    before, after = build_scene_graph(regions, said), build_scene_graph(turned, said)
    assert told_of(after, dict(enumerate(order))) == told_of(before, {n: n for n in order})


def told_of(graph, number):
    """Nodes and edges with regions by their old numbers; geometry from the lower to the higher."""

    def name(place):
        node = graph.nodes[place]
        index = number[node.index] if node.type == "region" else node.index
        return (node.type, index, node.label, node.box or (), node.score)

    edges = Counter()
    for edge in graph.edges:
        source, predicate, target = name(edge.source), edge.predicate, name(edge.target)
        if edge.type in ("spatial", "overlap") and source > target:
            source, target, predicate = target, source, INVERSE.get(predicate, predicate)
        edges[source, predicate, target, edge.type, edge.weight] += 1
    return Counter(map(name, range(len(graph.nodes)))), edges


def test_the_strategy_reaches_every_type():
    seen = set()

    @settings(max_examples=400, deadline=None, database=None, derandomize=True)
    @given(scene_graphs())
    def look(graph):
        seen.update(node.type for node in graph.nodes)
        seen.update(f"edge {edge.type}" for edge in graph.edges)

    look()
    assert seen == {*NODE_TYPES, *(f"edge {name}" for name in EDGE_TYPES)}
