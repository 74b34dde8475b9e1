"""DOT out, to be drawn by Graphviz: ``dot -Tsvg graph.dot > graph.svg``."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from tbkin.graphs.interchange.graphml import write_each
from tbkin.graphs.scene_graph import Edge, Node, SceneGraph

_CONTROLS = re.compile("[\x00-\x1f\x7f\ud800-\udfff]")
_NODES = {  # fill and letters; words as in the drawings of tbkin, by what they do
    "region": 'shape=box, fillcolor="#e3edf9"',
    "attribute": 'shape=ellipse, fillcolor="#e2f2e9"',
    "word": 'shape=box, style="filled,rounded", fontcolor="#ffffff"',
}
_WORDS = {"object": "#1d5fa8", "attribute": "#23744d", "relation": "#b4540a", "count": "#6741a8"}
_EDGES = {
    "spatial": 'color="#8a94a3", style=dashed, fontcolor="#566070"',
    "overlap": 'color="#b8c1cc", style=dotted, dir=none, fontcolor="#566070"',
    "attribute": 'color="#23744d"',
    "relation": 'color="#b4540a", penwidth=1.5',
    "alignment": 'color="#b23a62", penwidth=2, constraint=false, fontcolor="#b23a62"',
}


def write_dot(path: Path, graphs: Iterable[SceneGraph], counts: Counter[str]) -> int:
    """Write one file, or a folder with one file a graph.

    Args:
        path: a name that ends in ``.dot`` is a file and takes one graph; any other is a folder.
        graphs: what to write.
        counts: unused; every graph is written whole.

    Returns:
        How many graphs.

    Raises:
        ValueError: several graphs, or none, for one file.
    """
    return write_each(path, graphs, ".dot", dot_text)


def dot_text(graph: SceneGraph) -> str:
    """One graph in DOT: picture and text are clusters, colours and lines tell the types."""
    title = f"picture {graph.image_id}" if graph.image_id else "picture"
    parts = {
        "picture": (title, graph.of_type("region") + graph.of_type("attribute")),
        "text": (" ".join(graph.words) or "text", graph.of_type("word")),
    }
    lines = [
        "digraph scene {",
        '  graph [rankdir=LR, charset="UTF-8", fontname="Helvetica", fontsize=11];',
        '  node [style=filled, fontname="Helvetica", fontsize=11, color="#566070"];',
        '  edge [fontname="Helvetica", fontsize=9];',
    ]
    for name, (label, places) in parts.items():
        if places:
            nodes = [f"    {_node(place, graph.nodes[place])}" for place in places]
            head = f'    label={_quoted(label)}; color="#b8c1cc";'
            lines += [f"  subgraph cluster_{name} {{", head, *nodes, "  }"]
    lines += [f"  {_edge(edge)}" for edge in graph.edges]
    return "\n".join([*lines, "}", ""])


def _node(place: int, node: Node) -> str:
    style = _NODES[node.type]
    if node.type == "word":
        style += f', fillcolor="{_WORDS.get(node.role, _WORDS["object"])}"'
    label = f"not {node.label}" if node.negated else node.label
    if node.score < 1:
        label = f"{label} {node.score:.2f}"
    return f"n{place} [label={_quoted(label)}, {style}];"


def _edge(edge: Edge) -> str:
    label = edge.predicate if edge.weight == 1 else f"{edge.predicate} {edge.weight:.2f}"
    return f"n{edge.source} -> n{edge.target} [label={_quoted(label)}, {_EDGES[edge.type]}];"


def _quoted(text: str) -> str:
    r"""A DOT string that is drawn as ``text``.

    In labels Graphviz reads ``\n`` and its like as escapes and ``&eacute;`` as a letter; a NUL
    would end the string.
    """
    plain = _CONTROLS.sub(lambda found: " " if found[0] in "\t\n\r" else "\ufffd", text)
    plain = plain.replace("\\", "\\\\").replace('"', '\\"').replace("&", "&amp;")
    return f'"{plain}"'
