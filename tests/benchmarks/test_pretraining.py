import json
import sys
from pathlib import Path

import pytest

from tbkin.config import run_command
from tbkin.data.prepared import read_split

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import pretraining

    yield pretraining
    for name in ("pretraining", "intervals"):
        sys.modules.pop(name, None)


def test_intervals_by_hand(benchmark):
    # 1, 2, 3: mean 2, deviation 1, t of 2 degrees of freedom 4.303: 4.303 / sqrt(3) = 2.484.
    summary = benchmark.summarize({"scratch": [1.0, 2.0, 3.0], "graph": [3.0, 4.0, 5.0]})
    assert summary["scratch"]["mean"] == 2.0
    assert summary["scratch"]["half_width"] == pytest.approx(2.484, abs=1e-3)
    assert summary["graph"]["over_scratch"] == {"mean": 2.0, "half_width": 0.0}
    assert "over_scratch" not in summary["scratch"]
    assert benchmark.interval([4.0]) == {"mean": 4.0, "half_width": None}


def test_forms_are_compared_with_random_masking_too(benchmark):
    scores = {
        "scratch": [50.0, 60.0, 70.0],
        "random": [52.0, 61.0, 73.0],
        "simple": [53.0, 62.0, 74.0],  # each seed one above random
        "graph": [54.0, 65.0, 76.0],  # 2, 4, 3 above random: 3 ± 4.303 * 1 / sqrt(3)
    }
    summary = benchmark.summarize(scores)
    assert summary["simple"]["over_random"] == {"mean": 1.0, "half_width": 0.0}
    assert summary["graph"]["over_random"]["mean"] == 3.0
    assert summary["graph"]["over_random"]["half_width"] == pytest.approx(2.484, abs=1e-3)
    assert summary["random"]["over_scratch"]["mean"] == 2.0
    assert "over_random" not in summary["random"]
    assert "over_random" not in summary["scratch"]
    lines = benchmark.table(summary, benchmark.BenchmarkConfig()).splitlines()
    assert lines[1].split() == ["pre-training", "accuracy", "over", "scratch", "over", "random"]
    assert lines[-1].endswith("3.00 ± 2.48")
    assert lines[2].rstrip() == lines[2]
    other = benchmark.summarize({"graph": [1.0], "random": [0.5]})  # in any order
    assert other["graph"]["over_random"] == {"mean": 0.5, "half_width": None}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            "methods=[rnadom]",
            "unknown method 'rnadom'; choose from: graph, random, scratch, simple",
        ),
        ("methods=[graph,graph]", "methods must be distinct, at least one; got ['graph', 'graph']"),
        ("methods=[]", "methods must be distinct, at least one; got []"),
        ("seeds=[1,1]", "seeds must be distinct"),
    ],
)
def test_wrong_settings_fail_at_once(benchmark, tmp_path, capsys, words, message):
    assert run_command(benchmark.main, [f"output={tmp_path}/new", words]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_a_short_run_goes_on_where_it_was(benchmark, tmp_path, capsys, monkeypatch):
    words = [
        f"output={tmp_path}",
        "images=40",
        "seeds=[0]",
        "share=0.25",
        "epochs=1",
        "pretraining_epochs=1",
        "model.hidden_size=16",
        "model.num_attention_heads=2",
        "model.intermediate_size=16",
    ]
    assert run_command(benchmark.main, [*words, "methods=[scratch]"]) == 0
    first = json.loads((tmp_path / "pretraining.json").read_text())["runs"]["scratch"]["0"]
    learned = []
    learn = benchmark.learn
    monkeypatch.setattr(benchmark, "learn", lambda *a, **k: learned.append(a[2]) or learn(*a, **k))
    assert run_command(benchmark.main, [*words, "methods=[scratch,random]"]) == 0
    assert learned == ["pretraining", "vqa"]  # scratch is there
    result = json.loads((tmp_path / "pretraining.json").read_text())
    assert result["runs"]["scratch"]["0"] == first
    assert result["runs"]["random"]["0"]["steps"] == first["steps"]  # the same budget
    assert set(result["summary"]) == {"scratch", "random"}
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1].startswith("random")
    few, whole = (read_split(tmp_path / name, "train") for name in ("questions-0", "questions"))
    assert len({row["image_id"] for row in few}) == 8  # a quarter of 32
    assert len(whole) == 320
    assert [row for row in whole if row in few] == few

    assert run_command(benchmark.main, [*words, "lr=1"]) == 2
    assert "holds runs with other settings" in capsys.readouterr().err
