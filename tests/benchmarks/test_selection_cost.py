import json
import sys
from pathlib import Path

import pytest

from tbkin.config import run_command

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import selection_cost

    yield selection_cost
    sys.modules.pop("selection_cost", None)


WORDS = ["size=small", "rounds=1", "batch_size=1"]


def test_every_rule_costs_something_and_drops_something(benchmark, capsys):
    assert run_command(benchmark.main, [*WORDS, "json=true"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["size"], result["batch_size"], result["rounds"]) == ("small", 1, 1)
    assert [row["positions"] for row in result["positions"]] == [56, 136]
    for row in result["positions"]:
        assert row["dense_seconds"] > 0
        assert list(row["rules"]) == list(benchmark.RULES)
        for cost in row["rules"].values():
            assert cost["times_dense"] > 0
            assert 0 < cost["kept"] < 1
        # 8 of so many keys, and ties are rare.
        assert row["rules"]["top_k"]["kept"] == pytest.approx(8 / row["positions"], rel=0.01)


def test_the_table_has_a_line_a_rule_and_length(benchmark, monkeypatch, capsys):
    cost = {"times_dense": 1.234, "kept": 0.5}
    monkeypatch.setattr(
        benchmark,
        "measure",
        lambda config, tokens, regions: {
            "positions": tokens + regions, "dense_seconds": 0.02, "rules": {"top_k": cost}
        },
    )  # fmt: skip
    assert run_command(benchmark.main, [*WORDS, "rules=[top_k]"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[1:3] == [
        ["56", "positions,", "dense", "20", "ms"],
        ["top_k", "1.23", "x", "dense,", "kept", "50%"],
    ]
    assert len(lines) == 5


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["size=huge"], "size must be one of base, small, got 'huge'"),
        (["rules=[softmax]"], "rules: unknown rule 'softmax'; there are: prob, logit"),
    ],
)
def test_unknown_names_fail_at_once(benchmark, capsys, words, message):
    assert run_command(benchmark.main, words) == 2
    assert message in capsys.readouterr().err
