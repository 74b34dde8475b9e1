import math
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def intervals(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import intervals

    yield intervals
    sys.modules.pop("intervals", None)


@pytest.mark.parametrize(
    ("values", "mean", "half"),
    [
        # Deviation sqrt(2), t(1) = 12.706: 12.706 * sqrt(2) / sqrt(2).
        ([1.0, 3.0], 2.0, 12.706),
        # Sum of squares 4 + 1 + 0 + 1 + 4 = 10, deviation sqrt(10 / 4), t(4) = 2.776.
        ([1.0, 2.0, 3.0, 4.0, 5.0], 3.0, 2.776 * math.sqrt(2.5 / 5)),
        # Six of 0 and six of 2: sum of squares 12, deviation sqrt(12 / 11), t(11) = 2.201.
        ([0.0, 2.0] * 6, 1.0, 2.201 * math.sqrt(1 / 11)),
        # Beyond the table: 40 degrees of freedom, t(40) = 2.021, the table's last is 2.042.
        ([0.0] * 20 + [2.0] * 20 + [1.0], 1.0, 2.042 * math.sqrt(1 / 41)),
        ([5.0], 5.0, None),
        ([], None, None),
    ],
)
def test_mean_and_interval_by_hand(intervals, values, mean, half):
    found = intervals.mean_and_interval(values)
    assert found[0] == pytest.approx(mean)
    assert found[1] == pytest.approx(half)


def test_the_table_has_thirty_falling_values_above_the_normals(intervals):
    assert len(intervals.STUDENT) == 30
    assert list(intervals.STUDENT) == sorted(set(intervals.STUDENT), reverse=True)
    assert intervals.STUDENT[-1] > 1.96
