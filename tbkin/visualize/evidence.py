"""A page that shows what decided answers, boxes, matches: ``write_report(path, evidence, title)``.

The page opens without a network and reads without a script: pictures, drawings and styles are in
it. ``draw_boxes``, ``draw_graph`` and the two drawings of attention give the drawings alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from html import escape
from pathlib import Path

from PIL import Image

from tbkin.files import write_text
from tbkin.graphs.scene_graph import SceneGraph
from tbkin.visualize import page
from tbkin.visualize.attention import (
    MOST_REGIONS,
    MOST_WORDS,
    AttentionExport,
    content_words,
    top_regions,
)
from tbkin.visualize.attention_bars import regions_block
from tbkin.visualize.attention_map import words_block
from tbkin.visualize.boxes import boxes_block
from tbkin.visualize.edges import choose_lines
from tbkin.visualize.graph import STATES, Marks, scene_graph_block
from tbkin.visualize.grounded import COVERS, GroundedBox, frames, probability_color, ranking
from tbkin.visualize.layout import name_of
from tbkin.visualize.masked import MaskedView
from tbkin.visualize.matched import MatchedPicture, matched_verdict
from tbkin.visualize.svg import drawing, relevance_color

PICTURE = (480, 560)  # the picture fills the one or the other
MOST_CANDIDATES = 5  # regions that a page ranks


@dataclass
class Evidence:
    """What one answer, box or match rests on. N graph nodes, E graph edges, L fused positions.

    Attributes:
        image: RGB.
        text: the question, the referring expression or the caption, as it was given.
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
        answer_attention: (layers, L), weight on each position, mean over heads, after selection, of
            the position that the answer is read from: token 0, or for an expression the region that
            was chosen (token 0 again if the model says boxes directly).
        answer_attention_kept: (layers, L), share of the heads that kept the position.
        selection: such as "rel_max 0.05 in all layers".
        knowledge: such as "credibility rel_max 0.4, relevance rel_max 0.05".
        answers: of a question the best five with their probabilities (independent sigmoids, in
            [0, 1]), best first.
        truth: of a question the annotators' main answer; "" unknown.
        score: accuracy of the best answer on this question, in [0, 1]; None unknown.
        grounded: of an expression the box, and among what it was chosen; None: no expression.
        matched: of a caption how well it fits; None: no caption.
        attention: all of the attention, before and after the threshold; None: not shown.
        masked: ROSITA's views of words and regions; those without one are shown without.
        attention_thresholds: (layers, H), where the learned thresholds stand, in the rule's own
            terms; None for a layer that learns none, and if no layer does.
    """

    image: Image.Image
    text: str
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
    answers: list[tuple[str, float]] = field(default_factory=list)
    truth: str = ""
    score: float | None = None
    grounded: GroundedBox | None = None
    matched: MatchedPicture | None = None
    attention: AttentionExport | None = None
    masked: list[MaskedView] = field(default_factory=list)
    attention_thresholds: list[list[float] | None] | None = None

    @property
    def kind(self) -> str:
        """What the text is."""
        if self.matched is not None:
            return "caption"
        return "question" if self.grounded is None else "expression"


def write_report(
    path: Path,
    evidence: list[Evidence],
    title: str,
    table: list[tuple[str, str]] | None = None,
) -> None:
    """Write one self-contained HTML page.

    Args:
        path: the page; its folder is made if need be.
        evidence: one a text, in the order of the page.
        title: of the page.
        table: (name, value) rows to show on top, such as scores.

    Raises:
        ValueError: lists of an evidence that do not belong together.
    """
    for one in evidence:
        _check(one)
    entries = [_entry(one) for one in evidence]
    sections = [_section(number, one) for number, one in enumerate(evidence, start=1)]
    write_text(path, page.whole_page(title, table or [], entries, sections))


def draw_boxes(evidence: Evidence) -> str:
    """The picture with its regions, an ``<svg>``: dropped ones are dashed.

    Of a question or a caption they are coloured by relevance. Of an expression they are thin and
    coloured by their probability; the box stands on them, and the true one, dashed, where it is
    known.
    """
    graph, kept, grounded = evidence.graph, evidence.node_kept, evidence.grounded
    regions, marks = graph.of_type("region"), _marks(evidence)
    if grounded is None:
        relevance = evidence.node_relevance
        order = sorted(regions, key=lambda place: (kept[place], relevance[place]))
        named = {place for place in order if kept[place]}
        block = boxes_block(evidence.image, graph, marks, order, named, PICTURE)
        return drawing(block, f"The picture with {page.count(len(order), 'region')}")
    for place, probability in zip(regions, grounded.probabilities, strict=False):
        marks.colors[place] = probability_color(probability)
        marks.said[place] = f"probability {probability:.3f}, {marks.said[place]}"
    order = [regions[region] for region in shown_regions(evidence)[::-1]]
    named = set(order[-MOST_CANDIDATES:])
    block = boxes_block(evidence.image, graph, marks, order, named, PICTURE, frames(grounded))
    said = f"The picture with the box, {page.box_in_words(grounded.box)}"
    return drawing(block, f"{said}, and {page.count(len(order), 'region')}")


def draw_graph(evidence: Evidence) -> str:
    """The unified scene graph, an ``<svg>``: words, regions, attributes and how they belong.

    Geometry is left out but for the relations that make a relation of the text true; a line at
    the end counts the rest.
    """
    lines, left_out = choose_lines(evidence.graph)
    block = scene_graph_block(evidence.graph, evidence.image, _marks(evidence), lines, left_out)
    return drawing(block, "The unified scene graph")


def draw_word_attention(evidence: Evidence, words: list[int] | None = None, layer: int = -1) -> str:
    """Which regions words look at, before and after the threshold, an ``<svg>``.

    Args:
        evidence: with its attention.
        words: which of the text's words; None: the first content words.
        layer: of which to show the weights (ROSITA's view is always of the last).

    Raises:
        ValueError: evidence without attention, a layer or a word that is not there.
    """
    attention, graph = _attention(evidence), evidence.graph
    if words is None:
        words = content_words(graph, attention)[:MOST_WORDS]
    for word in words:
        if attention.token_of(word) is None:
            raise ValueError(f"no word {word} in the {len(graph.words)} that the model saw.")
    masked = {view.index: view for view in evidence.masked if view.kind == "word"}
    masked = {word: masked[word] for word in words if word in masked}
    block = words_block(evidence.image, graph, attention, words, masked, layer)
    named = ", ".join(graph.words[word] for word in words)
    return drawing(block, f"Which regions these words look at: {named}; the numbers are beside")


def draw_region_attention(
    evidence: Evidence, regions: list[int] | None = None, layer: int = -1
) -> str:
    """Which words regions look at, before and after the threshold, an ``<svg>``.

    Args:
        evidence: with its attention.
        regions: which of the picture's regions; None: the first of :func:`shown_regions`.
        layer: of which to show the weights (ROSITA's view is always of the last).

    Raises:
        ValueError: evidence without attention, a layer or a region that is not there.
    """
    attention, graph = _attention(evidence), evidence.graph
    if regions is None:
        regions = shown_regions(evidence)[:MOST_REGIONS]
    for region in regions:
        if not 0 <= region < attention.sizes[1]:
            raise ValueError(f"no region {region}; there are {attention.sizes[1]}, from 0.")
    masked = {view.index: view for view in evidence.masked if view.kind == "region"}
    masked = {region: masked[region] for region in regions if region in masked}
    block = regions_block(evidence.image, graph, attention, regions, masked, layer)
    named = ", ".join(str(region) for region in regions)
    return drawing(block, f"Which words these regions look at: {named}; the numbers are beside")


def shown_regions(evidence: Evidence) -> list[int]:
    """The picture's regions, the most interesting first: the likeliest ones, or the most relevant.

    Regions without a probability (of a question, or of a model that ranks none) go by relevance,
    those dropped last.
    """
    if evidence.grounded is not None and evidence.grounded.probabilities:
        return [region for region, _ in evidence.grounded.best(len(evidence.graph.nodes))]
    return top_regions(evidence.graph, evidence.node_relevance, evidence.node_kept)


def _attention(evidence: Evidence) -> AttentionExport:
    if evidence.attention is None:
        raise ValueError(f"evidence of {evidence.text!r} holds no attention to draw.")
    return evidence.attention


def _marks(evidence: Evidence) -> Marks:
    """Nodes are coloured by relevance."""
    kept = evidence.node_kept
    nodes = zip(evidence.graph.nodes, evidence.node_relevance, kept, strict=True)
    said = [
        f"relevance {relevance:.2f}, score {node.score:.2f}, {STATES[state]}"
        for node, relevance, state in nodes
    ]
    edges = zip(evidence.graph.edges, evidence.edge_relevance, evidence.edge_kept, strict=True)
    edge_said = [
        f"weight {edge.weight:.2f}, relevance {relevance:.2f}, {STATES[state]}"
        for edge, relevance, state in edges
    ]
    colors = [relevance_color(relevance) for relevance in evidence.node_relevance]
    return Marks(colors, list(kept), said, list(evidence.edge_kept), edge_said)


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
                f"evidence of {evidence.text!r}: {name} must have {size} entries, "
                f"got {len(getattr(evidence, name))}."
            )
    for name in ("answer_attention", "answer_attention_kept"):
        for layer, row in enumerate(getattr(evidence, name)):
            if len(row) != length:
                raise ValueError(
                    f"evidence of {evidence.text!r}: {name}[{layer}] must have one entry a "
                    f"position, {length}, got {len(row)}."
                )
    if evidence.attention is not None and evidence.attention.after.shape[::2] != (layers, length):
        raise ValueError(
            f"evidence of {evidence.text!r}: attention must be of {layers} layers and {length} "
            f"positions, got {tuple(evidence.attention.after.shape)}."
        )
    grounded, regions = evidence.grounded, len(evidence.graph.of_type("region"))
    if grounded is not None and len(grounded.probabilities) not in (0, regions):
        raise ValueError(
            f"evidence of {evidence.text!r}: there must be a probability for each of {regions} "
            f"regions, or none, got {len(grounded.probabilities)}."
        )


def _entry(evidence: Evidence) -> page.Entry:
    """One line of the page's contents."""
    grounded, matched = evidence.grounded, evidence.matched
    if matched is not None:
        return page.Entry("caption", evidence.text, matched.in_words(), matched.score)
    if grounded is None:
        answer = evidence.answers[0][0] if evidence.answers else "no answer"
        return page.Entry("question", evidence.text, answer, evidence.score)
    iou = grounded.iou
    if iou is None:
        return page.Entry("expression", evidence.text, page.box_in_words(grounded.box), None)
    return page.Entry("expression", evidence.text, f"IoU {iou:.2f}", float(iou >= COVERS))


def _section(number: int, evidence: Evidence) -> str:
    """All that the page says about one text."""
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
    strip = page.heat_strip(
        evidence.positions, evidence.answer_attention, evidence.answer_attention_kept
    )
    return f"""<section id="entry-{number}">
<h2><span class="number">{number}</span> {escape(evidence.text) or f"(no {evidence.kind})"}</h2>
<div class="columns">
<figure>{draw_boxes(evidence)}
<figcaption>{_caption(evidence)}</figcaption></figure>
<div>
{_result(evidence)}
<h3>What survived</h3>
{page.share_table(shares)}
</div>
</div>
<h3>The unified scene graph</h3>
<figure class="wide">{draw_graph(evidence)}</figure>
<h3>Regions and attributes by relevance</h3>
{page.node_list(rows)}
<h3>{_looking(evidence)}</h3>
{strip}
{_attention_part(evidence)}
</section>"""


def _caption(evidence: Evidence) -> str:
    """What the picture shows."""
    regions, grounded = len(evidence.graph.of_type("region")), evidence.grounded
    said = f"{page.count(regions, 'region')}."
    if grounded is not None:
        return f"{said} {page.box_key(bool(grounded.probabilities), grounded.true_box is not None)}"
    return f"{said} {page.relevance_scale(evidence.kind)}" if regions else said


def _result(evidence: Evidence) -> str:
    """The answers, or the box and its candidates, or the match; and the truth."""
    grounded, matched = evidence.grounded, evidence.matched
    if matched is not None:
        fits = page.bars("Fused score", [("belong together", matched.probability, False)])
        return f"{fits}\n{matched_verdict(matched)}"
    if grounded is None:
        rows = [
            (answer, probability, bool(evidence.truth) and answer == evidence.truth)
            for answer, probability in evidence.answers
        ]
        return f"{page.bars('Answers', rows)}\n{page.verdict(evidence.truth, evidence.score)}"
    rows = ranking(evidence.graph, grounded, MOST_CANDIDATES)
    ranked = page.bars("Candidates", rows) if rows else page.NO_CANDIDATES
    return f"{page.box_verdict(grounded.box, grounded.true_box, grounded.iou, COVERS)}\n{ranked}"


def _looking(evidence: Evidence) -> str:
    """Whose attention the strip shows."""
    if evidence.matched is not None:
        return "Where the position looks that the score is read from"
    if evidence.grounded is None:
        return "Where the answer position looks"
    if not evidence.grounded.probabilities:
        return "Where the position looks that the box is read from"
    return "Where the chosen region looks"


def _attention_part(evidence: Evidence) -> str:
    """What the threshold did to the attention: shares, words to picture, picture to words."""
    attention = evidence.attention
    if attention is None:
        return ""
    layers, drops = len(attention.after), attention.drops(-1)
    words = content_words(evidence.graph, attention)
    regions = attention.sizes[1]
    figures = []
    if regions and words:
        more = page.left_out(len(words) - MOST_WORDS, "content word")
        figures.append(
            f"<h4>From the words to the picture</h4>\n<figure>{draw_word_attention(evidence)}\n"
            f"<figcaption>{page.WORDS_TO_PICTURE} {more}</figcaption></figure>"
        )
    if regions:
        more = page.left_out(regions - MOST_REGIONS, "region")
        figures.append(
            f"<h4>From the picture to the words</h4>\n<figure>{draw_region_attention(evidence)}\n"
            f"<figcaption>{page.PICTURE_TO_WORDS} {more}</figcaption></figure>"
        )
    return f"""<h3>Attention before and after the threshold</h3>
{page.block_table(attention.blocks, attention.shares())}
<p>{page.threshold_note(layers, drops, evidence.selection, bool(evidence.masked))}</p>
{"".join(figures)}"""
