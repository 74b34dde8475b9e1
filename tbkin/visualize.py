"""One page that shows what decided an answer: ``write_report(path, evidence, title)``.

The page opens without a network and reads without a script: pictures, drawings and styles are in
it. ``draw_boxes`` and ``draw_graph`` give the drawings alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from pathlib import Path

from PIL import Image

from tbkin import visualize_page as page
from tbkin.files import write_text
from tbkin.graphs.scene_graph import SceneGraph
from tbkin.visualize_graph import name_of, node_group, scene_graph_drawing, short_name
from tbkin.visualize_svg import (
    DASHED,
    SOFT,
    Area,
    drawing,
    picture,
    rectangle,
    relevance_color,
    shorten,
    text,
    text_on,
    text_width,
)

PICTURE_WIDTH, PICTURE_HEIGHT = 480, 560  # the picture fills the one or the other
TAG = 18  # height of a region's tag
CROWDED = 20  # regions; from here on tags are short, those of dropped regions numbers


@dataclass
class Evidence:
    """What one answer rests on. N graph nodes, E graph edges, L fused positions.

    Attributes:
        image: RGB.
        question: as it was asked.
        answers: the best five with their probabilities (independent sigmoids, in [0, 1]), best
            first.
        graph: the unified graph.
        node_relevance: (N,), in [0, 1]; words 1.
        node_kept: (N,); False: below the threshold, never reached fusion.
        edge_kept: (E,); None: the edge carries no messages (geometry).
        edge_relevance: (E,), in [0, 1].
        attention_kept: (layers,), share of the valid query-key pairs that each layer kept.
        nodes_kept: share of the picture's nodes kept.
        edges_kept: share of the picture's edges kept.
        positions: (L,), names of the fused positions: tokens, then regions ("3 red circle"), then
            attribute nodes.
        answer_attention: (layers, L), weight of the answer position (token 0) on each position,
            mean over heads, after selection.
        answer_attention_kept: (layers, L), share of the heads that kept the position.
        selection: such as "rel_max 0.05 in all layers".
        knowledge: such as "rel_max 0.05".
        truth: the annotators' main answer; "" unknown.
        score: accuracy of the best answer on this question, in [0, 1]; None unknown.
    """

    image: Image.Image
    question: str
    answers: list[tuple[str, float]]
    graph: SceneGraph
    node_relevance: list[float]
    node_kept: list[bool]
    edge_kept: list[bool | None]
    edge_relevance: list[float]
    attention_kept: list[float]
    nodes_kept: float
    edges_kept: float
    positions: list[str]
    answer_attention: list[list[float]]
    answer_attention_kept: list[list[float]]
    selection: str
    knowledge: str
    truth: str = ""
    score: float | None = None


def write_report(
    path: Path,
    evidence: list[Evidence],
    title: str,
    table: list[tuple[str, str]] | None = None,
) -> None:
    """Write one self-contained HTML page.

    Args:
        path: the page; its folder is made if need be.
        evidence: one a question, in the order of the page.
        title: of the page.
        table: (name, value) rows to show on top, such as scores.

    Raises:
        ValueError: lists of an evidence that do not belong together.
    """
    for one in evidence:
        _check(one)
    entries = [(one.question, _best_answer(one), one.score) for one in evidence]
    sections = [_section(number, one) for number, one in enumerate(evidence, start=1)]
    write_text(path, page.whole_page(title, table or [], entries, sections))


def draw_boxes(evidence: Evidence) -> str:
    """The picture with its regions, an ``<svg>``: coloured by relevance, dropped ones dashed."""
    image, graph = evidence.image, evidence.graph
    relevance, kept = evidence.node_relevance, evidence.node_kept
    scale = min(PICTURE_WIDTH / image.width, PICTURE_HEIGHT / image.height)
    frame = Area(0, 0, image.width * scale, image.height * scale)
    order = sorted(graph.of_type("region"), key=lambda place: (kept[place], relevance[place]))
    tags: dict[int, Area] = {}
    names = {place: _tag(graph, place, kept[place], len(order)) for place in order}
    for place in reversed(order):  # the most relevant first: it gets the best place for its tag
        box, width = _box_on(frame, graph, place), text_width(names[place], 11) + 8
        tags[place] = _tag_place(box, min(width, frame.width), frame, list(tags.values()))
    boxes, labels = [], []
    for place in order:
        opening = node_group("box", graph, place, relevance[place], kept[place])
        outline, fill, ink = _look(relevance[place], kept[place], len(order) >= CROWDED)
        box = _box_on(frame, graph, place)
        boxes.append(opening + "".join(rectangle(box, style) for style in outline) + "</g>")
        at = (tags[place].middle, tags[place].y + 13)
        labels.append(
            f'<g data-node="{place}">{rectangle(tags[place], fill)}'
            f"{text(at, names[place], ink, 11)}</g>"
        )
    parts = [picture(frame, image), *boxes, *labels]  # no outline may cross a tag
    return drawing(frame.width, frame.height, parts, f"The picture with {len(order)} regions")


def draw_graph(evidence: Evidence) -> str:
    """The unified scene graph, an ``<svg>``: words, regions, attributes and how they belong."""
    return scene_graph_drawing(
        evidence.image,
        evidence.graph,
        evidence.node_relevance,
        evidence.node_kept,
        evidence.edge_relevance,
        evidence.edge_kept,
    )


def _box_on(frame: Area, graph: SceneGraph, place: int) -> Area:
    """A region's box on the drawn picture."""
    across, down = frame.width / graph.width, frame.height / graph.height
    left, top, right, bottom = graph.nodes[place].box
    return Area(left * across, top * down, (right - left) * across, (bottom - top) * down)


def _look(relevance: float, kept: bool, crowded: bool) -> tuple[list[str], str, str]:
    """Styles of a box: of its outlines, the light one first, of its tag, and the tag's ink."""
    width = 2 if crowded else 3
    if not kept:
        light = 'fill="none" stroke="#ffffff" stroke-width="1.5" opacity="0.7"'
        dark = f'fill="none" stroke="#66707f" stroke-width="1.5" {DASHED}'
        return [light, dark], 'fill="#eef1f5" opacity="0.9" rx="3"', SOFT
    color = relevance_color(relevance)
    light = f'fill="none" stroke="#ffffff" stroke-width="{width + 2}" opacity="0.8"'
    dark = f'fill="none" stroke="{color}" stroke-width="{width}"'
    return [light, dark], f'fill="{color}" rx="3"', text_on(relevance)


def _tag(graph: SceneGraph, place: int, kept: bool, regions: int) -> str:
    """Number and label; with many regions as little as still tells them apart."""
    node = graph.nodes[place]
    if regions >= CROWDED and not (kept and node.label):
        return str(node.index)
    return shorten(name_of(graph, place), 12) if regions >= CROWDED else short_name(graph, place)


def _tag_place(box: Area, width: float, frame: Area, taken: list[Area]) -> Area:
    """Above, in or below the box: where it hides least of the other tags, inside the picture."""
    right, below = box.x + box.width - width, box.y + box.height
    tries = []
    for x in (box.x, right):
        for y in (box.y - TAG, box.y, below, below - TAG):
            x = min(max(x, 0), frame.width - width)
            y = min(max(y, 0), frame.height - TAG)
            tries.append(Area(x, y, width, TAG))
    return min(tries, key=lambda area: sum(area.shared(other) for other in taken))


def _check(evidence: Evidence) -> None:
    """Raise ``ValueError`` unless every list has the length that the others ask for."""
    nodes, edges = len(evidence.graph.nodes), len(evidence.graph.edges)
    layers, length = len(evidence.attention_kept), len(evidence.positions)
    expected = {
        "node_relevance": nodes,
        "node_kept": nodes,
        "edge_relevance": edges,
        "edge_kept": edges,
        "answer_attention": layers,
        "answer_attention_kept": layers,
    }
    for name, size in expected.items():
        if len(getattr(evidence, name)) != size:
            raise ValueError(
                f"evidence of {evidence.question!r}: {name} must have {size} entries, "
                f"got {len(getattr(evidence, name))}."
            )
    for name in ("answer_attention", "answer_attention_kept"):
        for layer, row in enumerate(getattr(evidence, name)):
            if len(row) != length:
                raise ValueError(
                    f"evidence of {evidence.question!r}: {name}[{layer}] must have one entry a "
                    f"position, {length}, got {len(row)}."
                )


def _best_answer(evidence: Evidence) -> str:
    return evidence.answers[0][0] if evidence.answers else "no answer"


def _section(number: int, evidence: Evidence) -> str:
    """All that the page says about one question."""
    graph = evidence.graph
    seen = [place for place, node in enumerate(graph.nodes) if node.type != "word"]
    seen.sort(key=lambda place: -evidence.node_relevance[place])
    rows = [
        (
            place,
            graph.nodes[place].type,
            name_of(graph, place),
            evidence.node_relevance[place],
            evidence.node_kept[place],
        )
        for place in seen
    ]
    shares = [
        ("nodes of the picture", evidence.nodes_kept, evidence.knowledge),
        ("edges of the picture", evidence.edges_kept, evidence.knowledge),
    ]
    shares += [
        (f"attention, layer {layer}", share, evidence.selection)
        for layer, share in enumerate(evidence.attention_kept, start=1)
    ]
    regions = len(graph.of_type("region"))
    caption = f"{page.count(regions, 'region')}. {page.RELEVANCE_SCALE if regions else ''}"
    strip = page.heat_strip(
        evidence.positions, evidence.answer_attention, evidence.answer_attention_kept
    )
    return f"""<section id="question-{number}">
<h2><span class="number">{number}</span> {escape(evidence.question) or "(no question)"}</h2>
<div class="columns">
<figure>{draw_boxes(evidence)}
<figcaption>{caption}</figcaption></figure>
<div>
{page.answer_bars(evidence.answers, evidence.truth)}
{page.verdict(evidence.truth, evidence.score)}
<h3>What survived</h3>
{page.share_table(shares)}
</div>
</div>
<h3>The unified scene graph</h3>
<figure class="wide">{draw_graph(evidence)}</figure>
<h3>Regions and attributes by relevance</h3>
{page.node_list(rows)}
<h3>Where the answer position looks</h3>
{strip}
</section>"""
