"""The HTML page of scene graphs: each drawing with its facts, strengths and geometry as text."""

from __future__ import annotations

from dataclasses import replace
from html import escape

from tbkin.graphs.facts import facts_of
from tbkin.graphs.scene_graph import Edge, SceneGraph
from tbkin.visualize.layout import name_of
from tbkin.visualize.page import bar, count, document
from tbkin.visualize.svg import clean, shorten


def graphs_page(
    title: str, graphs: list[SceneGraph], drawings: list[str], min_strength: float = 0.0
) -> str:
    """The document.

    Args:
        title: of the page.
        graphs: one a section.
        drawings: their SVG.
        min_strength: alignments weaker than this are left out of the tables too.
    """
    sections = [
        _section(number, graph, svg, min_strength)
        for number, (graph, svg) in enumerate(zip(graphs, drawings, strict=True), start=1)
    ]
    said = f"{count(len(graphs), 'scene graph')}. Point at a node to follow its edges."
    summary = f'<p class="soft">{said}</p>'
    contents = _contents(graphs) if len(graphs) > 1 else ""
    return document(clean(title), summary + contents + "\n".join(sections), 1160)


def heading(graph: SceneGraph, number: int) -> str:
    """What a graph is called: its sentence, its image, or its number."""
    words = clean(" ".join(graph.words))
    image = f"image {clean(graph.image_id)}" if graph.image_id else ""
    return shorten(": ".join(filter(None, [image, words])), 300) or f"graph {number}"


def _contents(graphs: list[SceneGraph]) -> str:
    rows = "".join(
        f'<tr><td>{number}</td><td><a href="#graph-{number}">{escape(heading(graph, number))}</a>'
        f"</td><td>{_size(graph)}</td></tr>"
        for number, graph in enumerate(graphs, start=1)
    )
    head = "<tr><th></th><th>graph</th><th>size</th></tr>"
    table = f'<table class="full"><thead>{head}</thead><tbody>{rows}</tbody></table>'
    return f'<nav class="card">{table}</nav>'


def _size(graph: SceneGraph) -> str:
    return f"{count(len(graph.nodes), 'node')}, {count(len(graph.edges), 'edge')}"


def _section(number: int, graph: SceneGraph, svg: str, min_strength: float) -> str:
    counts = [count(len(graph.of_type(kind)), kind) for kind in ("region", "attribute")]
    counts += [count(len(graph.of_type("word")), "word node"), count(len(graph.edges), "edge")]
    return f"""<section id="graph-{number}">
<h2><span class="number">{number}</span> {escape(heading(graph, number))}</h2>
<p class="soft">{", ".join(counts)}.</p>
<figure class="wide">{svg}</figure>
{_facts(graph)}
{_strengths(graph, min_strength)}
{_relations(graph)}
</section>"""


def _facts(graph: SceneGraph) -> str:
    """What the text says, and what it denies."""
    if not graph.of_type("word"):
        return ""
    said = facts_of(graph)
    plain = replace(graph, nodes=[replace(node, negated=False) for node in graph.nodes])
    denied = [fact for fact in facts_of(plain) if fact not in said]
    items = [f"<li>{escape(clean(' · '.join(fact)))}</li>" for fact in said]
    items += [
        f'<li>not so: <span class="denied">{escape(clean(" · ".join(fact)))}</span></li>'
        for fact in denied
        if len(fact) > 1 or any(node.negated and node.role == "object" for node in graph.nodes)
    ]
    return f'<h3>What the text says</h3>\n<ul class="facts">{"".join(items)}</ul>'


def _strengths(graph: SceneGraph, min_strength: float) -> str:
    """A row for each alignment, as the sentence reads, the strongest of a word first."""
    edges = [
        edge for edge in graph.edges if edge.type == "alignment" and edge.weight >= min_strength
    ]
    if not edges:
        return ""
    edges.sort(key=lambda edge: (graph.nodes[edge.source].index, edge.source, -edge.weight))
    rows = "".join(
        f'<tr data-ends="{edge.source} {edge.target}"><td>{_name(graph, edge.source)}</td>'
        f"<td>{escape(clean(edge.predicate))}</td><td>{_name(graph, edge.target)}</td>"
        f"<td>{bar(edge.weight)}</td><td>{edge.weight:.2f}</td></tr>"
        for edge in edges
    )
    head = "<tr><th>word</th><th>as</th><th>seen</th><th>strength</th><th></th></tr>"
    return (
        f"<h3>Alignment</h3>\n"
        f'<table class="full strengths"><thead>{head}</thead><tbody>{rows}</tbody></table>'
    )


def _relations(graph: SceneGraph) -> str:
    """Relations and geometry of the picture, a line for each region; folded in."""
    of_region: dict[int, dict[str, list[Edge]]] = {}
    for edge in graph.edges:
        if edge.type in ("spatial", "overlap") or (
            edge.type == "relation" and graph.nodes[edge.source].type == "region"
        ):
            of_region.setdefault(edge.source, {}).setdefault(edge.predicate, []).append(edge)
    if not of_region:
        return ""
    rows = []
    for place, relations in of_region.items():
        said = "; ".join(
            f"<em>{escape(clean(predicate))}</em> {', '.join(_weighted(graph, e) for e in edges)}"
            for predicate, edges in relations.items()
        )
        rows.append(f"<tr><td>{_name(graph, place)}</td><td>{said}</td></tr>")
    total = sum(len(edges) for relations in of_region.values() for edges in relations.values())
    return (
        f"<details><summary>Where regions are to one another: {count(total, 'edge')}</summary>\n"
        f'<table class="full"><tbody>{"".join(rows)}</tbody></table></details>'
    )


def _weighted(graph: SceneGraph, edge: Edge) -> str:
    weight = "" if edge.type == "spatial" else f" ({edge.weight:.2f})"
    return _name(graph, edge.target) + weight


def _name(graph: SceneGraph, place: int) -> str:
    return escape(shorten(clean(name_of(graph, place)), 60))
