"""What the runs of ``interference.py`` say together: means, intervals, a table and a plot."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from typing import Any

from tbkin.visualize.svg import PALE, SOFT, Block, drawing, line, text

# 97.5 % points of Student's t by degrees of freedom, from 1 on; beyond them the normal's.
STUDENT = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)
COLORS = ("#1f2933", "#98003d", "#1c6fb5", "#c77700", "#3b7d3b", "#7b4ba8", "#5a8f9c", "#b0553a")


def summarize(
    results: Iterable[dict[str, Any]], ways: list[str], regimes: Sequence[str]
) -> list[dict[str, Any]]:
    """One row for each regime, level and way; a run at level 0 belongs to both regimes.

    Args:
        results: ``way``, ``seed``, ``trained``, ``tested``, ``accuracy``, ``per_question_kind`` and
            ``selection``.
        ways: in the order of the table, ``dense`` among them.
        regimes: ``clean``, ``same``.

    Returns:
        Rows with the mean ``accuracy`` and its ``interval``, ``gain`` over dense and
        ``gain_interval`` over the seeds that both have (None with one seed), in per cent.
    """
    runs: dict[tuple[str, float, str], dict[int, dict[str, Any]]] = {}
    for one in results:
        if one["trained"] == 0:
            runs.setdefault(("clean", one["tested"], one["way"]), {})[one["seed"]] = one
        if one["trained"] == one["tested"]:
            runs.setdefault(("same", one["tested"], one["way"]), {})[one["seed"]] = one
    rows = []
    for regime, level, way in sorted(runs, key=lambda key: (key[0], key[1], ways.index(key[2]))):
        if regime not in regimes:
            continue
        seeds = runs[regime, level, way]
        accuracy = {seed: one["accuracy"] for seed, one in seeds.items()}
        dense = {s: one["accuracy"] for s, one in runs.get((regime, level, "dense"), {}).items()}
        gains = [accuracy[seed] - dense[seed] for seed in accuracy if seed in dense]
        mean, interval = mean_and_interval(list(accuracy.values()))
        gain, gain_interval = mean_and_interval(gains)
        kinds = next(iter(seeds.values()))["per_question_kind"]
        rows.append(
            {
                "regime": regime,
                "level": level,
                "way": way,
                "accuracy": mean,
                "interval": interval,
                "gain": gain,
                "gain_interval": gain_interval,
                "seeds": sorted(accuracy),
                "per_question_kind": {
                    kind: statistics.fmean(s["per_question_kind"][kind] for s in seeds.values())
                    for kind in kinds
                },
                "nodes_kept": statistics.fmean(
                    one["selection"].get("nodes_kept", 1.0) for one in seeds.values()
                ),
            }
        )
    return rows


def mean_and_interval(values: list[float]) -> tuple[float | None, float | None]:
    """Mean and half the width of its 95 % t-interval; None where too few values tell."""
    if not values:
        return None, None
    if len(values) == 1:
        return values[0], None
    freedom = len(values) - 1
    student = STUDENT[freedom - 1] if freedom <= len(STUDENT) else 1.96
    return statistics.fmean(values), student * statistics.stdev(values) / math.sqrt(len(values))


def table(rows: list[dict[str, Any]]) -> str:
    """Plain text: a block a regime, a line a way, a column a level."""
    lines = []
    for regime in dict.fromkeys(row["regime"] for row in rows):
        cells = {(r["way"], r["level"]): _cell(r) for r in rows if r["regime"] == regime}
        levels = sorted({level for _, level in cells})
        lines += [f"trained {'at the same level' if regime == 'same' else 'clean'}, tested at"]
        lines += [f"{'':<24}" + "".join(f"{level:>26.0%}" for level in levels)]
        for way in dict.fromkeys(way for way, _ in cells):
            found = "".join(f"{cells.get((way, level), ''):>26}" for level in levels)
            lines.append(f"{way:<24}{found}")
        lines.append("")
    return "\n".join(lines[:-1])


def plot(rows: list[dict[str, Any]]) -> str:
    """SVG: accuracy against the level, a panel a regime, a line a way with its intervals."""
    regimes = list(dict.fromkeys(row["regime"] for row in rows))
    ways = list(dict.fromkeys(row["way"] for row in rows))
    lowest = 10 * math.floor(min(row["accuracy"] - (row["interval"] or 0) for row in rows) / 10)
    top = max(row["level"] for row in rows) or 1.0
    wide, high, left = 340, 260, 60

    def at(panel: int, row: dict[str, Any], accuracy: float) -> tuple[float, float]:
        share = (100 - accuracy) / (100 - lowest) if lowest < 100 else 0.0
        return left + panel * (wide + 50) + wide * row["level"] / top, 40 + high * share

    parts = []
    for panel, regime in enumerate(regimes):
        mine = [row for row in rows if row["regime"] == regime]
        for mark in range(lowest, 101, 10):
            start, end = (at(panel, {"level": x}, mark) for x in (0.0, top))
            parts.append(line(start, end, PALE, 0.5))
            parts.append(text((start[0] - 8, start[1] + 4), f"{mark}", SOFT, 11, anchor="end"))
        for level in sorted({row["level"] for row in mine}):
            x = at(panel, {"level": level}, lowest)[0]
            parts.append(text((x, high + 58), f"{level:.0%}", SOFT, 11))
        title = "trained at the same level" if regime == "same" else "trained clean"
        parts.append(text((left + panel * (wide + 50) + wide / 2, 24), title))
        for color, way in zip(_colors(ways), ways, strict=True):
            points = [(at(panel, r, r["accuracy"]), r) for r in mine if r["way"] == way]
            for (point, row), after in zip(points, [*points[1:], None], strict=True):
                if after is not None:
                    parts.append(line(point, after[0], color, 2))
                ends = [at(panel, row, row["accuracy"] + sign * (row["interval"] or 0))
                        for sign in (-1, 1)]  # fmt: skip
                parts.append(line(*ends, color, 1.5))
    for number, (color, way) in enumerate(zip(_colors(ways), ways, strict=True)):
        y = high + 90 + 20 * number
        parts.append(line((left, y - 4), (left + 24, y - 4), color, 3))
        parts.append(text((left + 32, y), way, anchor="start"))
    size = (left + len(regimes) * (wide + 50), high + 90 + 20 * len(ways))
    return drawing(Block(parts, *size), "VQA accuracy in per cent by level of interference")


def _colors(ways: list[str]) -> list[str]:
    return [COLORS[number % len(COLORS)] for number in range(len(ways))]


def _cell(row: dict[str, Any]) -> str:
    cell = f"{row['accuracy']:.1f}{_interval(row['interval'])}"
    if row["way"] == "dense" or row["gain"] is None:
        return cell
    return f"{cell} ({row['gain']:+.1f}{_interval(row['gain_interval'])})"


def _interval(half: float | None) -> str:
    return "" if half is None else f" ±{half:.1f}"
