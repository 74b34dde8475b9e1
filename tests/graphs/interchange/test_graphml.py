import json
import xml.etree.ElementTree as ElementTree
from collections import Counter
from dataclasses import fields, replace

import pytest
from hypothesis import given, settings

from tbkin.graphs.build import build_scene_graph
from tbkin.graphs.interchange import write_graphs
from tbkin.graphs.interchange.graphml import _FORBIDDEN, _KEYS, graphml_text
from tbkin.graphs.scene_graph import Edge, Node, SceneGraph
from tbkin.parsers.word_rules import WordRules
from tests.graphs.strategies import scene_graphs

networkx = pytest.importorskip("networkx")


def read_back(path):
    """The graph that networkx reads, as ours."""
    graph = networkx.read_graphml(path, force_multigraph=True)
    nodes = []
    for place in range(len(graph)):
        values = dict(graph.nodes[f"n{place}"])
        box = [values.pop(side, None) for side in ("left", "top", "right", "bottom")]
        values.setdefault("label", "")
        nodes.append(Node(**values, box=None if box[0] is None else tuple(box)))
    edges = {}
    for source, target, key, values in graph.edges(keys=True, data=True):
        edges[int(key[1:])] = Edge(
            int(source[1:]),
            values.get("predicate", ""),
            int(target[1:]),
            values["type"],
            values["weight"],
        )
    about = graph.graph
    return SceneGraph(
        nodes,
        [edges[place] for place in sorted(edges)],
        json.loads(about["words"]),
        about["width"],
        about["height"],
        about.get("image_id", ""),
    )


def plain(text):
    return _FORBIDDEN.sub("\ufffd", text)


def without_forbidden(graph):
    """What XML can hold of it."""
    return SceneGraph(
        [replace(node, label=plain(node.label), text=plain(node.text)) for node in graph.nodes],
        [replace(edge, predicate=plain(edge.predicate)) for edge in graph.edges],
        [plain(word) for word in graph.words],
        graph.width,
        graph.height,
        plain(graph.image_id),
    )


@settings(max_examples=40, deadline=None)
@given(graph=scene_graphs())
def test_networkx_reads_the_same_graph(tmp_path_factory, graph):
    path = tmp_path_factory.mktemp("graphml") / "graph.graphml"
    assert write_graphs(path, [graph]) == 1
    # Words stand in JSON, which escapes control characters by itself, but not U+FFFE.
    expected = without_forbidden(graph)
    expected.words = json.loads(plain(json.dumps(graph.words, ensure_ascii=False)))
    assert read_back(path) == expected


def test_every_field_has_a_key():
    sides = {"left", "top", "right", "bottom"}
    assert set(_KEYS["node"]) - sides == {field.name for field in fields(Node)} - {"box"}
    assert set(_KEYS["edge"]) == {field.name for field in fields(Edge)} - {"source", "target"}
    assert set(_KEYS["graph"]) == {field.name for field in fields(SceneGraph)} - {"nodes", "edges"}


def test_types_and_forbidden_characters(tmp_path):
    graph = SceneGraph(
        [Node("region", 'a <b> & "c"\r\n\x00\x1f\ufffe', 0, box=(0, 0, 4.5, 2))], [], [], 10, 10
    )
    counts = Counter()
    text = graphml_text(graph, counts)
    assert counts == {"characters that XML cannot hold replaced": 3}
    (tmp_path / "a.graphml").write_text(text, encoding="utf-8")
    node = networkx.read_graphml(tmp_path / "a.graphml").nodes["n0"]
    assert node["label"] == 'a <b> & "c"\r\n\ufffd\ufffd\ufffd'
    assert (node["right"], node["index"], node["negated"]) == (4.5, 0, False)
    assert [type(node[name]) for name in ("right", "index", "negated")] == [float, int, bool]
    ElementTree.fromstring(text.encode())


def test_a_folder_holds_one_file_a_graph(tmp_path, regions):
    graph = build_scene_graph(regions, WordRules()("a red circle"))
    other = replace(graph, image_id="../odd name")
    assert write_graphs(tmp_path / "out", [graph, graph, other], "graphml") == 3
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["7.graphml", "7_000001.graphml", "graph_000002.graphml"]
    assert read_back(tmp_path / "out" / "7.graphml") == graph
    assert read_back(tmp_path / "out" / "graph_000002.graphml").image_id == "../odd name"


def test_one_file_takes_one_graph(tmp_path):
    path = tmp_path / "a.graphml"
    with pytest.raises(ValueError, match=r"takes one graph, got several graphs; .* is a folder"):
        write_graphs(path, [SceneGraph(), SceneGraph()])
    with pytest.raises(ValueError, match=r"takes one graph, got no graph"):
        write_graphs(path, [])
    assert list(tmp_path.iterdir()) == []
