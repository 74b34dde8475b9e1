"""The HTML around the drawings of ``tbkin.visualize``: style, tables, bars from plain values."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

from tbkin.visualize.style import SCRIPT, STYLE

STRIP = 34  # positions in one row of a heat strip; more of them continue below
RIGHT, WRONG = 0.995, 0.005  # accuracies from and up to which an answer is right and wrong
RESULTS = {"question": "answer", "expression": "box", "caption": "fit"}  # of a kind of text
TRUTHS = {"question": "answers", "expression": "boxes", "caption": "pictures"}

DROPPED = "Dashed grey: below the threshold, dropped before fusion."
NO_CANDIDATES = """<h3>Candidates</h3>
<p class="soft">None: this model says the box directly and ranks no regions.</p>"""

WORDS_TO_PICTURE = (
    "The brighter a box, the more of the word's attention it gets (lowest to highest weight of the "
    "row, to the power 0.3); where boxes overlap the brighter one shows. Solid frame: kept by at "
    "least one head. Dashed frame, number struck through: dropped by every head. Dotted frame: "
    "dropped before fusion, by the knowledge threshold."
)
PICTURE_TO_WORDS = (
    "Bars: the region's attention to each token. Hollow bar, word struck through: dropped by every "
    "head; the hollow bar is as long as the weight that was lost."
)


@dataclass(frozen=True)
class Entry:
    """One line of a page's contents.

    Attributes:
        kind: of the text, a key of ``RESULTS``.
        text: the question, the expression or the caption.
        result: best answer, or how well the box covers the annotated one, or how well it fits.
        score: accuracy in [0, 1], of a box or a picture 0 or 1; None: unknown.
    """

    kind: str
    text: str
    result: str
    score: float | None


def whole_page(
    title: str, table: list[tuple[str, str]], entries: list[Entry], sections: list[str]
) -> str:
    """The document.

    Args:
        title: of the page.
        table: (name, value), shown on top.
        entries: one for each section.
        sections: HTML, with the ids ``entry-1`` and so on.
    """
    body = f"""<p class="soft">{_summary(entries)}</p>
{_score_table(table)}
{_contents(entries) if len(entries) > 1 else ""}
{"".join(sections)}"""
    return document(title, body)


def document(title: str, body: str, width: int = 1100) -> str:
    """A whole HTML file that opens without a network.

    Args:
        title: of the page.
        body: HTML.
        width: of the page at most, pixels.
    """
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>{STYLE}</style>
</head>
<body>
<main style="max-width:{width}px">
<h1>{escape(title)}</h1>
{body}
</main>
<script>{SCRIPT}</script>
</body>
</html>
"""


def count(number: int, thing: str) -> str:
    """Such as "1 region", "2 regions", "0 regions"."""
    return f"{number} {thing}{'' if number == 1 else 's'}"


def relevance_scale(kind: str) -> str:
    """What the colours of the regions mean; ``kind`` is that of the text."""
    return f'Relevance to the {kind}: 0 <span class="scale"></span> 1. {DROPPED}'


def _summary(entries: list[Entry]) -> str:
    said = []
    for kind, truth in TRUTHS.items():
        scores = [entry.score for entry in entries if entry.kind == kind]
        if not scores:
            continue
        said.append(count(len(scores), kind))
        scores = [score for score in scores if score is not None]
        if scores:
            mean = _percent(sum(scores) / len(scores))
            said[-1] += f"; mean accuracy of the {len(scores)} with known {truth} {mean}"
    return f"{'. '.join(said) or 'Nothing was asked'}."


def _percent(share: float) -> str:
    return f"{share:.1%}"


def bar(share: float, name: str = "") -> str:
    """A share in [0, 1] as the length of a bar."""
    width = 100 * min(max(share, 0.0), 1.0)
    return f'<span class="bar {name}"><span style="width:{width:.1f}%"></span></span>'


def mark(score: float | None) -> str:
    """Whether an answer is right, in a word; VQA gives part of the credit too."""
    if score is None:
        return '<span class="mark">not scored</span>'
    if score >= RIGHT:
        return '<span class="mark right">✓ right</span>'
    if score <= WRONG:
        return '<span class="mark wrong">✗ wrong</span>'
    return f'<span class="mark partly">partly right, {_percent(score)}</span>'


def verdict(truth: str, score: float | None) -> str:
    """What the annotators answered, and whether the best answer is right."""
    said = f"Annotators: <strong>{escape(truth)}</strong>" if truth else "Annotators: unknown"
    return f"<p>{said} {mark(score)}</p>"


def bars(title: str, rows: list[tuple[str, float, bool]]) -> str:
    """A bar for each (name, probability, whether it is right), best first; right ones ticked."""
    items = []
    for rank, (name, probability, right) in enumerate(rows):
        tick = ' <span class="mark right">✓</span>' if right else ""
        look = ' class="best"' if rank == 0 else ""
        items.append(
            f"<div{look}><dt>{escape(name)}{tick}</dt><dd>{bar(probability)}</dd>"
            f"<dd>{probability:.3f}</dd></div>"
        )
    return f'<h3>{escape(title)}</h3>\n<dl class="answers">{"".join(items)}</dl>'


def box_in_words(box: list[float]) -> str:
    """Left, top, right and bottom, one decimal."""
    return ", ".join(f"{side:.1f}" for side in box)


def box_key(ranked: bool, known: bool) -> str:
    """What the frames of a picture with a predicted box mean.

    Args:
        ranked: whether its regions have probabilities.
        known: whether the annotated box is there.
    """
    said = '<span class="key predicted"></span> the predicted box. '
    said += '<span class="key annotated"></span> the annotated one. ' if known else ""
    if ranked:
        said += 'Thin: the candidates, probability 0 <span class="scale likely"></span> 1. '
    return f"{said}{DROPPED}"


def box_verdict(
    box: list[float], true_box: list[float] | None, iou: float | None, covers: float
) -> str:
    """The box and the annotated one in numbers, and whether the box is right.

    Args:
        box: xyxy pixels.
        true_box: likewise; None: unknown.
        iou: of the two.
        covers: IoU from which a box is right.
    """
    score = None if iou is None else float(iou >= covers)
    said = f"<strong>{box_in_words(true_box)}</strong>" if true_box is not None else "unknown"
    overlap = "" if iou is None else f"IoU <strong>{iou:.2f}</strong>, right from {covers:g} on: "
    return f"""<h3>Box</h3>
<p>Predicted: <strong>{box_in_words(box)}</strong>
<span class="soft">left, top, right, bottom in pixels</span></p>
<p>Annotated: {said}</p>
<p>{overlap}{mark(score)}</p>"""


def share_table(shares: list[tuple[str, float, str]]) -> str:
    """A row for each (what, share kept, rule that kept it)."""
    rows = "".join(
        f"<tr><td>{escape(what)}</td><td>{_percent(share)}</td><td>{escape(rule)}</td></tr>"
        for what, share, rule in shares
    )
    head = "<tr><th>of</th><th>kept</th><th>rule</th></tr>"
    return f'<table class="full"><thead>{head}</thead><tbody>{rows}</tbody></table>'


def block_table(blocks: list[str], shares: list[list[float | None]]) -> str:
    """Share of the query-key pairs kept, layers by blocks; "-" where a block has no pair.

    Args:
        blocks: their names, query-key.
        shares: (layers, blocks) in [0, 1], or None.
    """
    head = "".join(f"<th>{escape(block)}</th>" for block in blocks)
    rows = "".join(
        f"<tr><th>layer {layer}</th>"
        + "".join(f"<td>{'-' if one is None else _percent(one)}</td>" for one in row)
        + "</tr>"
        for layer, row in enumerate(shares, start=1)
    )
    return f"""<table class="blocks"><thead><tr><th>kept of</th>{head}</tr></thead>
<tbody>{rows}</tbody></table>
<p class="soft">Who attends to whom: text-image is from words to regions. Graph: all pairs with an
attribute node.</p>"""


def threshold_note(layers: int, drops: bool, rule: str, masked: bool) -> str:
    """What the two drawings of attention show.

    Args:
        layers: how many there are; the last is shown.
        drops: whether it dropped anything.
        rule: of the selection.
        masked: whether ROSITA's view is beside.
    """
    said = f"Weights of layer {layers}, the last, mean over the heads. "
    if drops:
        said += (
            f"Before: plain softmax. After: what the threshold ({escape(rule)}) left of it; (2/4) "
            "says that 2 of 4 heads kept it."
        )
    else:
        said += (
            f"<strong>Nothing was dropped in this layer</strong> (rule: {escape(rule)}), so the "
            "weights before and after are the same and shown once."
        )
    if masked:
        said += (
            " ROSITA's view: the word or region is masked; the last layer's scores of its place "
            "for the other modality, summed over the heads, go through one softmax."
        )
    return said


def left_out(number: int, thing: str) -> str:
    """Says that so many more are not shown; nothing if there are none."""
    return f"{count(number, f'more {thing}')} not shown." if number > 0 else ""


def node_list(rows: list[tuple[int, str, str, float, bool]]) -> str:
    """A line for each (number in the graph, type, name, relevance, whether kept)."""
    if not rows:
        return '<p class="soft">The picture has no regions and no attributes.</p>'
    items = []
    for number, kind, name, relevance, kept in rows:
        state = (
            '<span class="mark right">kept</span>' if kept else '<span class="mark">dropped</span>'
        )
        items.append(
            f'<li data-node="{number}" data-kept="{str(kept).lower()}">'
            f'<span>{escape(name)} <span class="soft">{kind}</span></span>{bar(relevance, "rose")}'
            f"<span>{relevance:.2f}</span>{state}</li>"
        )
    return f'<ol class="nodes">{"".join(items)}</ol>'


def heat_strip(positions: list[str], weights: list[list[float]], kept: list[list[float]]) -> str:
    """Rows are layers, columns positions; the darker, the more attention. L positions.

    Args:
        positions: (L,), their names.
        weights: (layers, L), in [0, 1].
        kept: (layers, L), share of the heads that kept the position; 0 is hatched.
    """
    most = max((weight for row in weights for weight in row), default=0.0)
    if most <= 0:
        return '<p class="soft">No attention to show.</p>'
    tables = []
    for start in range(0, len(positions), STRIP):
        columns = range(start, min(start + STRIP, len(positions)))
        head = "".join(f"<th><span>{escape(positions[one])}</span></th>" for one in columns)
        rows = "".join(
            f"<tr><th>layer {layer}</th>"
            + "".join(
                _cell(layer, positions[one], weights[layer - 1][one], kept[layer - 1][one], most)
                for one in columns
            )
            + "</tr>"
            for layer in range(1, len(weights) + 1)
        )
        tables.append(
            f"<table><thead><tr><th></th>{head}</tr></thead><tbody>{rows}</tbody></table>"
        )
    best = "".join(
        f"<br>Layer {layer} most: {escape(_most_attended(positions, row))}."
        for layer, row in enumerate(weights, start=1)
    )
    return f"""<div class="strip">{"".join(tables)}</div>
<p class="soft">Weight 0 <span class="key attention"></span> {most:.3f}, mean over the heads.
<span class="key hatched"></span> dropped by every head.{best}</p>"""


def _cell(layer: int, name: str, weight: float, kept: float, most: float) -> str:
    said = f"layer {layer}, {name}: weight {weight:.3f}, kept by {kept:.0%} of the heads"
    if kept <= 0:
        return f'<td class="dropped" title="{escape(said)}"></td>'
    share = (max(weight, 0.0) / most) ** 0.5  # the root: small weights stay visible
    mixed = [
        round(light + share * (dark - light)) for light, dark in ((241, 23), (244, 63), (248, 122))
    ]
    color = "#{:02x}{:02x}{:02x}".format(*mixed)
    return f'<td style="background:{color}" title="{escape(said)}"></td>'


def _most_attended(positions: list[str], weights: list[float]) -> str:
    best = sorted(range(len(weights)), key=lambda place: -weights[place])[:3]
    return ", ".join(f"{positions[one]} ({weights[one]:.2f})" for one in best if weights[one] > 0)


def _score_table(table: list[tuple[str, str]]) -> str:
    if not table:
        return ""
    tiles = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in table
    )
    return f'<dl class="tiles">{tiles}</dl>'


def _contents(entries: list[Entry]) -> str:
    rows = "".join(
        f'<tr><td>{number}</td><td><a href="#entry-{number}">{escape(entry.text)}</a></td>'
        f"<td>{escape(entry.result)}</td><td>{mark(entry.score)}</td></tr>"
        for number, entry in enumerate(entries, start=1)
    )
    kinds = [kind for kind in RESULTS if kind in {one.kind for one in entries}]
    results = [RESULTS[kind] for kind in kinds]
    names = "".join(f"<th>{' or '.join(words)}</th>" for words in (kinds, results))
    head = f"<tr><th></th>{names}<th></th></tr>"
    table = f'<table class="full"><thead>{head}</thead><tbody>{rows}</tbody></table>'
    return f'<nav class="card">{table}</nav>'
