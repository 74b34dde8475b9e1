"""Means with their 95 % t-intervals, for the benchmarks that run once a seed."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

# 97.5 % points of Student's t for 1 to 30 degrees of freedom. Beyond them the last one is used:
# it is above the true one, so the interval is rather too wide than too narrow.
STUDENT = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228,
    2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086,
    2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip


def mean_and_interval(values: Sequence[float]) -> tuple[float | None, float | None]:
    """Mean and half the width of its 95 % t-interval.

    Returns:
        (None, None) for no values; (the value, None) for one, which says nothing of its scatter.
    """
    if not values:
        return None, None
    if len(values) == 1:
        return values[0], None
    student = STUDENT[min(len(values) - 1, len(STUDENT)) - 1]
    return statistics.fmean(values), student * statistics.stdev(values) / math.sqrt(len(values))


def separate(
    one: tuple[float | None, float | None], other: tuple[float | None, float | None]
) -> bool | None:
    """Whether two intervals, each a mean and half a width, do not overlap; None without them."""
    if one[1] is None or other[1] is None:
        return None
    return abs(one[0] - other[0]) > one[1] + other[1]
