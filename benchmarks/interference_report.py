"""What the runs of ``interference.py`` say together: means, intervals, a table and a plot."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Iterable, Sequence
from typing import Any

from intervals import mean_and_interval, separate

from tbkin.visualize.svg import DASHED, INK, PALE, SOFT, Area, Block, drawing, fit, flow, line, text

COLORS = ("#98003d", "#1c6fb5", "#c77700", "#3b7d3b", "#7b4ba8", "#4f9fb0", "#d0567f", "#8a6d1f")
TITLES = {"clean": "trained clean", "same": "trained at the same level"}
WIDE, HIGH, LEFT, GAP, MARGIN = 440, 320, 64, 56, 34  # of a panel, between them, beside its levels
SPREAD = 18.0  # of all ways at a level: more of it would shift one line above another


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
        ``separate``: whether the intervals of this accuracy and of dense's do not overlap (None of
        dense itself, and where one of them has no interval).
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
        others = mean_and_interval(list(dense.values()))
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
                "separate": None if way == "dense" else separate((mean, interval), others),
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


def table(rows: list[dict[str, Any]]) -> str:
    """Plain text: a block a regime, a line a way, a column a level.

    A column of the numbers of seeds stands where they differ.
    """
    counts = len({len(row["seeds"]) for row in rows}) > 1
    lines = []
    for regime in dict.fromkeys(row["regime"] for row in rows):
        mine = [row for row in rows if row["regime"] == regime]
        cells = {(row["way"], row["level"]): _cell(row) for row in mine}
        levels = sorted({level for _, level in cells})
        lines += [f"{TITLES[regime]}, tested at"]
        lines += [
            f"{'':<24}{'seeds' * counts:>{6 * counts}}" + "".join(f"{x:>26.0%}" for x in levels)
        ]
        for way in dict.fromkeys(way for way, _ in cells):
            seeds = sorted({len(row["seeds"]) for row in mine if row["way"] == way})
            number = "-".join(map(str, dict.fromkeys((seeds[0], seeds[-1])))) * counts
            found = "".join(f"{cells.get((way, level), ''):>26}" for level in levels)
            lines.append(f"{way:<24}{number:>{6 * counts}}{found}")
        lines.append("")
    if any(row["separate"] for row in rows):
        lines += ["* the 95 % intervals of this accuracy and of dense's do not overlap", ""]
    return "\n".join(lines[:-1])


def plot(rows: list[dict[str, Any]]) -> str:
    """SVG: accuracy against the level, a panel a regime, a line a way with its intervals.

    The ways stand a little side by side at each level, so that their intervals can be told apart.
    """
    regimes = list(dict.fromkeys(row["regime"] for row in rows))
    ways = list(dict.fromkeys(row["way"] for row in rows))
    top = max(row["level"] for row in rows) or 1.0
    ends = [row["accuracy"] + sign * (row["interval"] or 0) for row in rows for sign in (-1, 1)]
    lowest = max(0, 5 * math.floor(min(ends) / 5))
    highest = min(100, max(5 * math.ceil(max(ends) / 5), lowest + 5))
    width = LEFT + len(regimes) * (WIDE + GAP) - GAP + 16

    def at(panel: int, level: float, accuracy: float) -> tuple[float, float]:
        share = (highest - min(max(accuracy, lowest), highest)) / (highest - lowest)
        across = MARGIN + (WIDE - 2 * MARGIN) * level / top
        return LEFT + panel * (WIDE + GAP) + across, 40 + HIGH * share

    parts = []
    for panel, regime in enumerate(regimes):
        mine = [row for row in rows if row["regime"] == regime]
        start = LEFT + panel * (WIDE + GAP)
        for mark in range(lowest, highest + 1, 5 if highest - lowest <= 40 else 10):
            y = at(panel, 0, mark)[1]
            parts.append(line((start, y), (start + WIDE, y), PALE, 0.5))
            parts.append(text((start - 8, y + 4), f"{mark}", SOFT, 11, anchor="end"))
        for level in sorted({row["level"] for row in mine}):
            x, y = at(panel, level, lowest)
            parts.append(line((x, y), (x, y + 4), PALE, 1))
            parts.append(text((x, y + 18), f"{level:.0%}", SOFT, 11))
        parts.append(text((start + WIDE / 2, 24), TITLES[regime]))
        below = "level of interference at the test (100%: a false box an object)"
        parts.append(text((start + WIDE / 2, HIGH + 78), below, SOFT, 11))
        for number, way in enumerate(ways):
            aside = (number - (len(ways) - 1) / 2) * min(4.0, SPREAD / len(ways))
            points = [
                [(x + aside, y) for x, y in (at(panel, row["level"], row["accuracy"] + shift)
                                             for shift in _ends(row))]
                for row in mine
                if row["way"] == way
            ]  # fmt: skip
            parts += _curve(points, *_style(number))
    middle = 40 + HIGH / 2
    turned = f'transform="rotate(-90 18 {middle:.0f})"'
    parts.append(text((18, middle), "VQA accuracy in per cent, 95 % intervals", SOFT, 11, turned))
    places, bottom = flow([220] * len(ways), 14, LEFT, width, HIGH + 98, (8, 6), align=0)
    for number, (way, place) in enumerate(zip(ways, places, strict=True)):
        parts += _legend(way, place, *_style(number))
    return drawing(
        Block(parts, width, bottom + 12), "VQA accuracy in per cent by level of interference"
    )


def _ends(row: dict[str, Any]) -> tuple[float, float, float]:
    """The mean and the two ends of its interval, from the mean."""
    half = row["interval"] or 0.0
    return 0.0, -half, half


def _style(number: int) -> tuple[str, float, str]:
    """Colour, width and dashes of a way's line; dense is the first."""
    if number == 0:
        return INK, 3, ""
    return COLORS[(number - 1) % len(COLORS)], 1.8, DASHED if number > len(COLORS) else ""


def _curve(
    points: list[list[tuple[float, float]]], color: str, width: float, dashes: str
) -> list[str]:
    """A line through the means, a dot on each (hollow if dashed), its interval.

    ``points`` holds the mean and both ends of the interval at each level.
    """
    parts = [
        line(one[0], after[0], color, width, dashes) for one, after in itertools.pairwise(points)
    ]
    for mean, low, high in points:
        parts.append(line(low, high, color, 1.2))
        parts.append(line(mean, mean, color, width + 4))  # no length and round ends: a dot
        if dashes:
            parts.append(line(mean, mean, "#ffffff", width + 1))
    return parts


def _legend(way: str, place: Area, color: str, width: float, dashes: str) -> list[str]:
    start, end = (place.x, place.level), (place.x + 28, place.level)
    words = fit(way, place.width - 36, 12)
    return [
        line(start, end, color, width, dashes),
        text((place.x + 36, place.level + 4), words, size=12, anchor="start"),
    ]


def _cell(row: dict[str, Any]) -> str:
    cell = f"{row['accuracy']:.1f}{_interval(row['interval'])}"
    if row["way"] == "dense" or row["gain"] is None:
        return cell
    star = "*" if row["separate"] else ""
    return f"{cell}{star} ({row['gain']:+.1f}{_interval(row['gain_interval'])})"


def _interval(half: float | None) -> str:
    return "" if half is None else f" ±{half:.1f}"
