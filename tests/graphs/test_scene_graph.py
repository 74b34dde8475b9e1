import json
from dataclasses import replace

import pytest

from tbkin.graphs.build import build_scene_graph
from tbkin.graphs.scene_graph import (
    SCHEMA,
    Edge,
    Node,
    SceneGraph,
    read_scene_graphs,
    write_scene_graphs,
)
from tbkin.parsers.word_rules import WordRules

NODES = [
    Node("region", "dog", 0, box=(0.0, 0.0, 5.0, 5.0), score=0.5),
    Node("attribute", "brown"),
    Node("word", "dog", 0, "object"),
]


def graph(nodes=(), edges=()):
    return SceneGraph([*NODES, *nodes], list(edges), ["dog", "runs"], 10, 20, "42")


@pytest.fixture
def full_graph(regions):
    """Every node and edge type but overlap, from the real builders."""
    said = WordRules()("What color is the circle to the left of the large red square?")
    return build_scene_graph(regions, said)


def test_round_trip_through_json(full_graph):
    values = json.loads(json.dumps(full_graph.to_dict()))
    assert SceneGraph.from_dict(values) == full_graph
    assert values["schema"] == SCHEMA
    assert {edge.type for edge in full_graph.edges} == {
        "spatial", "attribute", "relation", "alignment"
    }  # fmt: skip


def test_round_trip_through_json_lines(tmp_path, full_graph):
    graphs = [full_graph, SceneGraph(), graph(), WordRules()("Größe der Straße 日本語 \u2028?")]
    assert write_scene_graphs(tmp_path / "graphs.jsonl", iter(graphs)) == 4
    assert list(read_scene_graphs(tmp_path / "graphs.jsonl")) == graphs
    assert [path.name for path in tmp_path.iterdir()] == ["graphs.jsonl"]


def test_index_zero_survives_although_empty_fields_are_left_out():
    values = graph().to_dict()
    assert values["nodes"][0]["index"] == 0
    assert "role" not in values["nodes"][0]
    assert "index" not in values["nodes"][1]
    assert SceneGraph.from_dict(values) == graph()


def test_of_type_gives_places_in_order(full_graph):
    assert graph().of_type("attribute") == [1]
    assert full_graph.of_type("region") == [0, 1, 2, 3]


def test_another_schema_is_refused_with_both_names():
    values = graph().to_dict() | {"schema": "tbkin.scene_graph/0"}
    with pytest.raises(ValueError, match=r"'tbkin\.scene_graph/1': got 'tbkin\.scene_graph/0'"):
        SceneGraph.from_dict(values)


def test_a_damaged_line_is_named(tmp_path):
    path = tmp_path / "graphs.jsonl"
    write_scene_graphs(path, [graph(), graph()])
    first, second = path.read_text().splitlines()
    for damaged in (second[:-5], json.dumps({"schema": SCHEMA}), second + "]"):
        path.write_text(f"{first}\n{damaged}\n")
        with pytest.raises(ValueError, match=r"graphs\.jsonl, line 2: "):
            list(read_scene_graphs(path))


REGION, WORD = NODES[0], NODES[2]


@pytest.mark.parametrize(
    ("node", "message"),
    [
        (Node("thing", "x"), r"^node 3 has type 'thing'; choose from: region, attribute, word\.$"),
        (replace(REGION, score=1.5), r"^node 3 \(dog\): score must be in \[0, 1\], got 1\.5\.$"),
        (replace(REGION, score=float("nan")), r"score must be in \[0, 1\], got nan"),
        (
            replace(WORD, role="verb"),
            r"role 'verb'; choose from: object, attribute, relation, count",
        ),
        (replace(WORD, role=""), r"role ''"),
        (replace(WORD, index=2), r"^node 3 \(dog\): word 2 of a text of 2\.$"),
        (replace(WORD, index=-2), r"word -2 of a text of 2"),
        (replace(REGION, box=None), r"^node 3 \(dog\): a region needs a finite box"),
        (replace(REGION, box=(0, 0, float("nan"), 5)), r"needs a finite box"),
        (replace(REGION, box=(0, 0, 11, 5)), r"leaves the picture of 10 x 20 pixels"),
        (replace(REGION, box=(0, 0, 5, 21)), r"leaves the picture"),
        (replace(REGION, box=(-1, 0, 5, 5)), r"leaves the picture"),
        (replace(REGION, box=(0, -1, 5, 5)), r"leaves the picture"),
        (replace(REGION, box=(5, 0, 4, 5)), r"boxes are xyxy pixels"),
        (replace(REGION, box=(0, 5, 4, 4)), r"boxes are xyxy pixels"),
    ],
)
def test_an_unsound_node_is_refused(node, message):
    with pytest.raises(ValueError, match=message):
        graph(nodes=[node])


@pytest.mark.parametrize(
    ("edge", "message"),
    [
        (Edge(0, "is", 1, "colour"), r"^edge of type 'colour'; choose from: spatial, overlap, "),
        (Edge(0, "is", 3, "attribute"), r"^edge 0 -is-> 3 points outside the 3 nodes\.$"),
        (Edge(-1, "is", 1, "attribute"), r"points outside"),
        (Edge(0, "is", 1, "attribute", 0.0), r"weight must be in \(0, 1\], got 0\.0\.$"),
        (Edge(0, "is", 1, "attribute", 1.1), r"weight must be in \(0, 1\], got 1\.1\.$"),
        (Edge(0, "is", 1, "attribute", float("nan")), r"weight must be in"),
        (Edge(0, "left of", 1, "spatial"), r"'spatial' may not join region and attribute\.$"),
        (Edge(0, "object", 2, "alignment"), r"'alignment' may not join region and word"),
        (Edge(2, "is", 0, "attribute"), r"'attribute' may not join word and region"),
        (Edge(2, "overlaps", 2, "overlap"), r"'overlap' may not join word and word"),
        (Edge(2, "subject", 0, "relation"), r"'relation' may not join word and region"),
    ],
)
def test_an_unsound_edge_is_refused(edge, message):
    with pytest.raises(ValueError, match=message):
        graph(edges=[edge])


@pytest.mark.parametrize(
    "edge",
    [
        Edge(0, "overlaps", 0, "overlap", 0.5),
        Edge(0, "left of", 0, "spatial"),
        Edge(0, "is", 1, "attribute", 0.5),
        Edge(2, "is", 2, "attribute"),
        Edge(2, "subject", 2, "relation"),
        Edge(0, "riding", 0, "relation"),
        Edge(2, "object", 0, "alignment"),
        Edge(2, "attribute", 1, "alignment"),
    ],
)
def test_every_sound_pair_of_ends_is_accepted(edge):
    assert graph(edges=[edge]).edges == [edge]
