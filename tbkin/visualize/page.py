"""The HTML around the drawings of ``tbkin.visualize``: style, tables, bars from plain values."""

from __future__ import annotations

from html import escape

STRIP = 34  # positions in one row of a heat strip; more of them continue below
RIGHT, WRONG = 0.995, 0.005  # accuracies from and up to which an answer is right and wrong

STYLE = """
:root { color-scheme: light; --ink: #1f2933; --soft: #566070; --line: #e1e6ec; --blue: #1d5fa8; }
* { box-sizing: border-box; }
body { margin: 0; background: #f4f6f8; color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif; }
main { margin: 0 auto; padding: 28px 16px 60px; overflow-wrap: break-word; }
h1 { font-size: 28px; line-height: 1.2; margin: 0 0 4px; }
h2, td, li, dt { overflow-wrap: anywhere; }
nav td:nth-child(3) { min-width: 110px; }
nav td:last-child { width: 1%; white-space: nowrap; }
h2 { font-size: 21px; line-height: 1.3; margin: 0 0 16px; }
h3 { font-size: 15px; margin: 26px 0 8px; }
h4 { font-size: 14px; margin: 18px 0 8px; }
p { margin: 6px 0; }
a { color: var(--blue); }
section, .card { background: #fff; border: 1px solid var(--line); border-radius: 12px;
  padding: 22px 24px; margin: 20px 0; }
.soft, figcaption { color: var(--soft); font-size: 13px; }
.number { display: inline-block; min-width: 30px; padding: 0 8px; border-radius: 15px;
  background: var(--ink); color: #fff; font-size: 15px; line-height: 28px; text-align: center; }
.columns { display: grid; grid-template-columns: minmax(0, 490px) minmax(0, 1fr); gap: 28px; }
.columns h3:first-child { margin-top: 0; }
@media (max-width: 820px) { .columns { grid-template-columns: minmax(0, 1fr); } }
figure { margin: 0; }
figure > svg { display: block; max-width: 100%; height: auto; border-radius: 6px; }
figcaption { margin-top: 8px; }
.scale { display: inline-block; width: 90px; height: 10px; border-radius: 5px; margin: 0 6px;
  background: linear-gradient(90deg, #e8b0be, #980e3e); }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th { text-align: left; font-weight: 600; white-space: nowrap; }
th, td { padding: 4px 14px 4px 0; border-bottom: 1px solid var(--line); vertical-align: top; }
.tiles { display: flex; flex-wrap: wrap; gap: 12px; margin: 20px 0; }
.tiles div { background: #fff; border: 1px solid var(--line); border-radius: 12px;
  padding: 10px 18px; min-width: 120px; }
.tiles dt { color: var(--soft); font-size: 13px; }
.tiles dd { margin: 0; font-size: 21px; font-weight: 600; }
.full { width: 100%; }
.bar { display: block; height: 12px; border-radius: 6px; background: #e9edf2; overflow: hidden; }
.bar span { display: block; height: 100%; border-radius: 6px; background: #7b8aa0; }
.best .bar span { background: var(--blue); }
.rose span { background: #b23a62; }
.answers { display: grid; grid-template-columns: minmax(70px, max-content) 1fr max-content;
  gap: 7px 12px; align-items: center; margin: 0; }
.answers div { display: contents; }
.answers dt, .answers dd { margin: 0; }
.best { font-weight: 600; }
.mark { display: inline-block; border-radius: 10px; padding: 0 9px; font-size: 13px;
  font-weight: 600; white-space: nowrap; background: #e9edf2; color: #46505e; }
.right { background: #d8f0e1; color: #14532d; }
.partly { background: #fdf0cf; color: #6b4500; }
.wrong { background: #fbdfe0; color: #85141c; }
.nodes { list-style: none; margin: 0; padding: 0; columns: 2; column-gap: 32px; }
.nodes li { display: grid; grid-template-columns: minmax(0, 1fr) 90px 36px 76px; gap: 10px;
  align-items: center; padding: 3px 6px; break-inside: avoid; border-bottom: 1px solid #eef1f4; }
.nodes .mark { justify-self: start; }
.nodes [data-kept="false"] { color: #66707f; }
.nodes [data-kept="false"] .bar span { background: #b8c1cc; }
.strip { overflow-x: auto; padding-bottom: 4px; }
.strip table { margin-bottom: 10px; }
.strip th, .strip td { border: 0; padding: 0; font-size: 12px; font-weight: 400; }
.strip thead th { vertical-align: bottom; }
.strip thead span { writing-mode: vertical-rl; transform: rotate(180deg); max-height: 9em;
  white-space: nowrap; overflow: hidden; text-overflow: ellipsis; padding-top: 4px; }
.strip tbody th { padding-right: 10px; white-space: nowrap; color: var(--soft); }
.strip td { width: 27px; min-width: 27px; height: 26px; border: 1px solid #fff;
  background: #f1f4f8; }
.strip .dropped, .hatched { background: repeating-linear-gradient(45deg, #e4e8ee 0 3px,
  #f8f9fb 3px 6px); }
.key { display: inline-block; width: 26px; height: 13px; vertical-align: -2px; margin: 0 4px; }
.attention { background: linear-gradient(90deg, #f1f4f8, #173f7a); width: 80px; }
.blocks { margin-bottom: 10px; }
.blocks th, .blocks td { text-align: right; }
.blocks th:first-child { text-align: left; }
.facts { columns: 2; column-gap: 32px; margin: 0; padding-left: 20px; }
.facts li { break-inside: avoid; }
.facts .denied { text-decoration: line-through; color: var(--soft); }
.strengths td:nth-child(2), .strengths td:last-child { white-space: nowrap; }
.strengths td:nth-child(4) { width: 180px; vertical-align: middle; }
.strengths .dim { opacity: 0.35; }
summary { cursor: pointer; font-weight: 600; margin: 26px 0 8px; }
svg .lit > rect:first-of-type { stroke: #111; stroke-width: 4; stroke-dasharray: none; }
svg .dim { opacity: 0.15; }
.nodes .lit { background: #fff4cf; }
"""

# Pointing at a node marks it in the picture, the graph and the list; the page reads without it.
SCRIPT = """
document.querySelectorAll("section").forEach(section => {
  const away = (edge, number) =>
    number !== null && !(edge.dataset.ends ?? edge.dataset.label).split(" ").includes(number);
  const mark = number => {
    section.querySelectorAll("[data-node]").forEach(one =>
      one.classList.toggle("lit", one.dataset.node === number));
    section.querySelectorAll("[data-ends], [data-label]").forEach(one =>
      one.classList.toggle("dim", away(one, number)));
  };
  section.addEventListener("mouseover", event => {
    const node = event.target.closest("[data-node]");
    mark(node ? node.dataset.node : null);
  });
  section.addEventListener("mouseleave", () => mark(null));
});
"""

RELEVANCE_SCALE = (
    'Relevance to the question: 0 <span class="scale"></span> 1. '
    "Dashed grey: below the threshold, dropped before fusion."
)

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


def whole_page(
    title: str,
    table: list[tuple[str, str]],
    entries: list[tuple[str, str, float | None]],
    sections: list[str],
) -> str:
    """The document.

    Args:
        title: of the page.
        table: (name, value), shown on top.
        entries: (question, best answer, score or None) for each section.
        sections: HTML, one a question, with the ids ``question-1`` and so on.
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


def _summary(entries: list[tuple[str, str, float | None]]) -> str:
    scores = [score for _, _, score in entries if score is not None]
    said = count(len(entries), "question")
    if scores:
        said += f"; mean accuracy of the {len(scores)} with known answers {_percent(_mean(scores))}"
    return said + "."


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


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


def answer_bars(answers: list[tuple[str, float]], truth: str) -> str:
    """A bar for each (answer, probability); the annotators' one is ticked."""
    rows = []
    for rank, (answer, probability) in enumerate(answers):
        tick = ' <span class="mark right">✓</span>' if truth and answer == truth else ""
        name = ' class="best"' if rank == 0 else ""
        rows.append(
            f"<div{name}><dt>{escape(answer)}{tick}</dt><dd>{bar(probability)}</dd>"
            f"<dd>{probability:.3f}</dd></div>"
        )
    return f'<h3>Answers</h3>\n<dl class="answers">{"".join(rows)}</dl>'


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


def _contents(entries: list[tuple[str, str, float | None]]) -> str:
    rows = "".join(
        f'<tr><td>{number}</td><td><a href="#question-{number}">{escape(question)}</a></td>'
        f"<td>{escape(answer)}</td><td>{mark(score)}</td></tr>"
        for number, (question, answer, score) in enumerate(entries, start=1)
    )
    head = "<tr><th></th><th>question</th><th>answer</th><th></th></tr>"
    table = f'<table class="full"><thead>{head}</thead><tbody>{rows}</tbody></table>'
    return f'<nav class="card">{table}</nav>'
