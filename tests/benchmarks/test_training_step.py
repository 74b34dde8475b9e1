import json
import sys
from pathlib import Path

import pytest
import torch

from tbkin.config import run_command

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
WORDS = ["layers=1", "rounds=1", "batch_size=1"]


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import training_step

    yield training_step
    sys.modules.pop("training_step", None)


class Theirs(torch.nn.Module):
    """Stands for ROSITA's network: the same inputs, and its logits come last."""

    def __init__(self, answers):
        super().__init__()
        self.layer = torch.nn.Linear(5, answers)

    def forward(self, inputs):
        return inputs[0], self.layer(inputs[-1].mean(dim=1))


def test_a_short_run(benchmark, monkeypatch, capsys):
    speeds = iter([1.0] * benchmark.PRODUCTS + [50.0, 90.0, 100.0, 900.0, 130.0])
    monkeypatch.setattr(benchmark, "gflops", lambda: next(speeds))
    assert run_command(benchmark.main, [*WORDS, "json=true"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert list(result["seconds"]) == ["tbkin float32", "tbkin bfloat16"]
    for row in result["seconds"].values():
        assert 0 < row["passes"] < row["step"]
    assert result["gflops"] == 100.0  # the median; the first round warms up
    assert result["times_rosita"] == {}
    assert result["rosita_scaled"] is None  # the figure is known of 12 layers only
    assert next(speeds, None) is None


def test_ours_beside_theirs(benchmark, monkeypatch, capsys):
    monkeypatch.setattr(benchmark, "gflops", lambda: 100.0)
    monkeypatch.setattr(benchmark, "build_theirs", lambda folder, layers: Theirs(benchmark.ANSWERS))
    assert run_command(benchmark.main, [*WORDS, "rosita=there", "json=true"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert list(result["times_rosita"]) == ["tbkin float32", "tbkin bfloat16"]
    for name, times in result["times_rosita"].items():
        for what in ("passes", "step"):  # one round: the ratio of the two medians
            ratio = result["seconds"][name][what] / result["seconds"]["ROSITA float32"][what]
            assert times[what] == pytest.approx(ratio)


def test_the_known_figure_is_scaled_to_this_product_and_says_so(benchmark):
    # 1,550 ms at 205 GFLOP/s is 3,100 ms on a machine of half the speed.
    result = {
        "threads": 1,
        "gflops": 102.5,
        "seconds": {"tbkin float32": {"passes": 1.0, "step": 2.0}},
        "times_rosita": {"tbkin float32": {"passes": 0.5, "step": 0.75}},
        "rosita_scaled": benchmark.rosita_scaled(benchmark.StepConfig(), 102.5),
    }
    assert result["rosita_scaled"] == pytest.approx(3.1)
    assert benchmark.rosita_scaled(benchmark.StepConfig(layers=6), 102.5) is None
    lines = benchmark.table(result, benchmark.StepConfig()).splitlines()
    assert lines[2].split()[-6:] == ["0.50", "x,", "0.75", "x", "ROSITA", "float32"]
    assert lines[3].split()[:4] == ["ROSITA,", "scaled", "3100", "ms"]
    assert "not measured: 1,550 ms at 205 GFLOP/s, scaled to this product" in lines[3]
    assert len(lines) == 4


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["rounds=0"], "rounds must be >= 1, got 0"),
        (["size=small"], "size"),
        ([*WORDS, "rosita=nowhere"], "nowhere is no checkout of ROSITA: no rosita/modeling there"),
    ],
)
def test_mistakes(benchmark, monkeypatch, capsys, words, message):
    monkeypatch.setattr(benchmark, "build_ours", lambda layers: torch.nn.Linear(1, 1))
    assert run_command(benchmark.main, words) == 2
    assert message in capsys.readouterr().err
