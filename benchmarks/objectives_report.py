"""What the runs of ``objectives.py`` say together: means, intervals, a table and a plot."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable
from typing import Any

from intervals import mean_and_interval, separate

from tbkin.visualize.svg import INK, PALE, SOFT, Block, drawing, line, text

MEASURES = ("rsum", "equivalent")
"""Of a test: by the data set's own pairs, and where any true caption or picture counts."""

TITLES = {
    "tiny": "tiny world with near duplicates",
    "persons": "tiny world with identities",
    "coco": "COCO, a small part",
}
BETTER, WORSE = "#1c6fb5", "#98003d"  # where the intervals part
MOST = 600  # of rsum
WIDE, ROW, LEFT, GAP = 300, 22, 120, 40  # of a panel, its lines, beside its names, between two
DIRECTIONS = {"image_to_text R@1": "picture to text", "text_to_image R@1": "text to picture"}


def summarize(results: Iterable[dict[str, Any]], baseline: str) -> list[dict[str, Any]]:
    """One row for each data set and arm, in the order of their first results.

    Args:
        results: ``data``, ``arm``, ``seed``, ``value``, ``test``, which has the
            :data:`MEASURES` (None where the data do not know) and recalls in per cent.
        baseline: the arm that all are compared with.

    Returns:
        Rows with ``data``, ``arm``, ``value``, ``seeds``, the mean ``recalls``, and for each
        measure that the data know ``mean`` and ``interval``, ``gain`` over the baseline and
        ``gain_interval`` over the seeds that both have (None with one seed). ``separate``: whether
        the intervals of the two do not overlap (None of the baseline itself, and without
        intervals).
    """
    runs: dict[tuple[str, str], dict[int, dict[str, Any]]] = {}
    for one in results:
        runs.setdefault((one["data"], one["arm"]), {})[one["seed"]] = one
    rows = []
    for (data, arm), seeds in runs.items():
        base = runs.get((data, baseline), {})
        tests = [one["test"] for one in seeds.values()]
        row = {
            "data": data,
            "arm": arm,
            "value": next(iter(seeds.values()))["value"],
            "seeds": sorted(seeds),
            "recalls": {
                name: statistics.fmean(test[name] for test in tests)
                for name in tests[0]
                if name not in MEASURES
            },
        }
        for measure in MEASURES:
            if tests[0][measure] is None:
                continue
            own, others = (
                {seed: one["test"][measure] for seed, one in some.items()} for some in (seeds, base)
            )
            mean = mean_and_interval(list(own.values()))
            gain = mean_and_interval([own[seed] - others[seed] for seed in own if seed in others])
            apart = separate(mean, mean_and_interval(list(others.values())))
            row[measure] = {
                "mean": mean[0],
                "interval": mean[1],
                "gain": gain[0],
                "gain_interval": gain[1],
                "separate": None if arm == baseline else apart,
            }
        rows.append(row)
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown: a block a data set, a line an arm."""
    blocks = []
    for data in dict.fromkeys(row["data"] for row in rows):
        mine = [row for row in rows if row["data"] == data]
        known = [measure for measure in MEASURES if measure in mine[0]]
        heads = ["arm", *({"rsum": "rsum", "equivalent": "any true one counts"}[m] for m in known)]
        heads += [f"R@1 {words}" for words in DIRECTIONS.values()] + ["seeds", "chosen"]
        lines = [heads, ["---", *["--:"] * (len(heads) - 2), "---"]]
        for row in mine:
            cells = [f"`{row['arm']}`", *(_cell(row[measure]) for measure in known)]
            cells += [f"{row['recalls'][name]:.1f}" for name in DIRECTIONS]
            lines.append([*cells, str(len(row["seeds"])), _words(row["value"])])
        body = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
        blocks.append(f"{TITLES[data]}\n\n{body}")
    if any(row[measure]["separate"] for row in rows for measure in MEASURES if measure in row):
        blocks.append("\\* the 95 % intervals of this arm and of the baseline do not overlap")
    return "\n\n".join(blocks)


def plot(rows: list[dict[str, Any]]) -> str:
    """SVG: a panel a data set and measure, an arm a line: its mean and interval.

    A band over all lines is the baseline's interval; arms whose interval parts from it are
    coloured.
    """
    panels = [
        (data, measure)
        for data in dict.fromkeys(row["data"] for row in rows)
        for measure in MEASURES
        if any(row["data"] == data and measure in row for row in rows)
    ]
    tallest = max(sum(row["data"] == data for row in rows) for data, _ in panels)
    width = len(panels) * (LEFT + WIDE + GAP)
    parts: list[str] = []
    for number, (data, measure) in enumerate(panels):
        mine = [row for row in rows if row["data"] == data and measure in row]
        parts += _panel(mine, measure, number * (LEFT + WIDE + GAP) + LEFT)
        title = TITLES[data] + (", any true one counts" if measure == "equivalent" else "")
        parts.append(text((number * (LEFT + WIDE + GAP) + LEFT + WIDE / 2, 24), title))
    bottom = 48 + ROW * tallest + 44
    below = "rsum on the test split: six recalls in per cent added up; mean and 95 % interval"
    parts.append(text((width / 2, bottom), below, SOFT, 11))
    return drawing(Block(parts, width, bottom + 16), "rsum of the objectives side by side")


def _panel(rows: list[dict[str, Any]], measure: str, start: float) -> list[str]:
    """The lines of one panel, whose axis begins at ``start``."""
    ends = [
        min(max(row[measure]["mean"] + sign * (row[measure]["interval"] or 0), 0), MOST)
        for row in rows
        for sign in (-1, 1)
    ]
    step = next(step for step in (5, 10, 20, 50, 100) if max(ends) - min(ends) <= 6 * step)
    low, high = step * math.floor(min(ends) / step), step * math.ceil(max(ends) / step)
    high = max(high, low + step)

    def at(value: float) -> float:
        return start + WIDE * (min(max(value, low), high) - low) / (high - low)

    bottom = 48 + ROW * len(rows)
    parts = []
    for mark in range(low, high + 1, step):
        parts.append(line((at(mark), 40), (at(mark), bottom), PALE, 0.5))
        parts.append(text((at(mark), bottom + 16), f"{mark}", SOFT, 11))
    base = next((row[measure] for row in rows if row[measure]["separate"] is None), None)
    if base is not None:
        for shift in (-1, 1) if base["interval"] else (0,):
            x = at(base["mean"] + shift * (base["interval"] or 0))
            parts.append(line((x, 40), (x, bottom), SOFT, 1, 'stroke-dasharray="3 3"'))
    for place, row in enumerate(rows):
        found, y = row[measure], 48 + ROW * (place + 0.5)
        color = INK
        if found["separate"]:
            color = BETTER if found["gain"] > 0 else WORSE
        half = found["interval"] or 0
        parts.append(text((start - 8, y + 4), row["arm"], size=12, anchor="end"))
        parts.append(line((at(found["mean"] - half), y), (at(found["mean"] + half), y), color, 1.6))
        parts.append(line((at(found["mean"]), y), (at(found["mean"]), y), color, 7))  # a dot
    return parts


def _cell(found: dict[str, Any]) -> str:
    cell = f"{found['mean']:.1f}{_interval(found['interval'])}"
    if found["separate"] is None and found["gain"] in (None, 0):
        return cell
    star = "\\*" if found["separate"] else ""
    return f"{cell}{star} ({found['gain']:+.1f}{_interval(found['gain_interval'])})"


def _interval(half: float | None) -> str:
    return "" if half is None else f" ±{half:.1f}"


def _words(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name.replace('_', ' ')} {one}" for name, one in value.items())
    return f"{value}"
