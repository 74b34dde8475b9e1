import json
import shutil
import subprocess
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings

from tbkin.graphs.build import build_scene_graph
from tbkin.graphs.interchange import write_graphs
from tbkin.graphs.interchange.dot import _quoted, dot_text
from tbkin.graphs.scene_graph import Edge, Node, SceneGraph
from tbkin.parsers.word_rules import WordRules
from tests.graphs.strategies import scene_graphs

needs_graphviz = pytest.mark.skipif(not shutil.which("dot"), reason="needs Graphviz")


def test_quoting():
    assert _quoted('say "hi"') == '"say \\"hi\\""'
    assert _quoted("C:\\new\\") == '"C:\\\\new\\\\"'
    assert _quoted("salt & &eacute;") == '"salt &amp; &amp;eacute;"'
    assert _quoted("a\nb\x00c") == '"a b\ufffdc"'


def test_clusters_nodes_and_edges_by_type(regions):
    graph = build_scene_graph(regions, WordRules()("a red circle, not blue"))
    lines = [line.strip() for line in dot_text(graph).splitlines()]
    picture, text = (lines.index(f"subgraph cluster_{name} {{") for name in ("picture", "text"))
    for place, node in enumerate(graph.nodes):
        (where,) = (n for n, line in enumerate(lines) if line.startswith(f"n{place} [label="))
        assert (picture < where < text) == (node.type != "word")
    circle = next(line for line in lines if line.startswith("n0 [label="))
    assert 'label="circle 0.90", shape=box' in circle
    arrows = [line for line in lines if " -> " in line]
    assert len(arrows) == len(graph.edges)
    relation = next(line for line in arrows if "left of 0.75" in line)
    assert relation.startswith("n0 -> n1 ")
    styles = [line.split("[")[1].split(", ", 1)[1] for line in arrows]
    kinds = {edge.type: style for edge, style in zip(graph.edges, styles, strict=True)}
    assert len(set(kinds.values())) == len(kinds) >= 4
    assert any("not blue" in line for line in lines)


def test_a_graph_without_text_has_no_cluster_for_it(regions):
    assert "cluster_text" not in dot_text(build_scene_graph(regions))
    assert dot_text(SceneGraph()).count("cluster") == 0


def drawn(text, kind="svg"):
    return subprocess.run(
        ["dot", f"-T{kind}"], input=text.encode(), capture_output=True, check=True, timeout=60
    ).stdout.decode()


@needs_graphviz
def test_graphviz_draws_every_letter():
    odd = 'a"b\\n{c}|<d> & &eacute; \\N é日本 \\'
    graph = SceneGraph(
        [Node("region", odd, 0, box=(0, 0, 1, 1)), Node("region", "x", 1, box=(0, 0, 1, 1))],
        [Edge(0, odd, 1, "relation")],
        [],
        9,
        9,
        odd,
    )
    svg = drawn(dot_text(graph))
    for letter, entity in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ('"', "&quot;")):
        odd = odd.replace(letter, entity)
    plain = svg.replace("&#160;", " ").replace("&#45;", "-")
    assert plain.count(odd) >= 3  # the cluster, the node and the edge


@needs_graphviz
@settings(max_examples=8, deadline=None)
@given(scene_graphs())
def test_graphviz_reads_every_graph_whole(graph):
    read = json.loads(drawn(dot_text(graph), "dot_json"))
    clusters = sum(one["name"].startswith("cluster") for one in read.get("objects", []))
    assert len(read.get("objects", [])) - clusters == len(graph.nodes)
    assert len(read.get("edges", [])) == len(graph.edges)


def test_files(tmp_path, regions):
    graph = build_scene_graph(regions)
    counts = Counter()
    assert write_graphs(tmp_path / "a.dot", [graph], counts=counts) == 1
    assert (tmp_path / "a.dot").read_text(encoding="utf-8") == dot_text(graph)
    assert write_graphs(tmp_path / "b", [graph, replace(graph, image_id="8")], "dot") == 2
    assert sorted(path.name for path in (tmp_path / "b").iterdir()) == ["7.dot", "8.dot"]
    assert counts == {}
