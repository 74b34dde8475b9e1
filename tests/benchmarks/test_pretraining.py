import importlib.util
import json
import sys
from pathlib import Path

import pytest

from tbkin.config import run_command
from tbkin.data.prepared import read_split

FILE = Path(__file__).resolve().parents[2] / "benchmarks/pretraining.py"


@pytest.fixture(scope="module")
def benchmark():
    spec = importlib.util.spec_from_file_location("benchmark_of_pretraining", FILE)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def test_intervals_by_hand(benchmark):
    # 1, 2, 3: mean 2, deviation 1, t of 2 degrees of freedom 4.303: 4.303 / sqrt(3) = 2.484.
    summary = benchmark.summarize({"scratch": [1.0, 2.0, 3.0], "graph": [3.0, 4.0, 5.0]})
    assert summary["scratch"]["mean"] == 2.0
    assert summary["scratch"]["half_width"] == pytest.approx(2.484, abs=1e-3)
    assert summary["graph"]["over_scratch"] == {"mean": 2.0, "half_width": 0.0}
    assert "over_scratch" not in summary["scratch"]
    assert benchmark.interval([4.0]) == {"mean": 4.0, "half_width": None}


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
