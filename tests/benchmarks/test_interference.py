import json
import math
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
import torch

from tbkin.config import run_command

BOTH = ("clean", "same")
BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def benchmark(monkeypatch):
    """The script as a module; it may not change the threads of this process."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr(torch, "set_num_threads", lambda count: None)
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import interference

    yield interference
    for name in ("interference", "interference_report"):
        sys.modules.pop(name, None)


@pytest.fixture
def report(benchmark):
    return sys.modules["interference_report"]


def result(way, seed, trained, tested, accuracy):
    return {
        "way": way,
        "seed": seed,
        "trained": trained,
        "tested": tested,
        "accuracy": accuracy,
        "per_question_kind": {"count": accuracy / 2},
        "selection": {"nodes_kept": 0.5},
    }


def test_mean_and_interval_worked_by_hand(report):
    # 1, 2, 3: mean 2, standard deviation 1; t(2) = 4.303; 4.303 / sqrt(3).
    mean, half = report.mean_and_interval([1.0, 2.0, 3.0])
    assert mean == 2.0
    assert half == pytest.approx(4.303 / math.sqrt(3))
    assert report.mean_and_interval([5.0]) == (5.0, None)
    assert report.mean_and_interval([]) == (None, None)


def test_gains_are_paired_by_seed(report):
    # Accuracies scatter by 20 points, but each seed gains exactly 3: the gain is certain.
    results = [
        one
        for seed, dense in enumerate((50.0, 60.0, 70.0))
        for one in (result("dense", seed, 0, 1.0, dense), result("x", seed, 0, 1.0, dense + 3))
    ]
    rows = {row["way"]: row for row in report.summarize(results, ["dense", "x"], ["clean"])}
    assert rows["x"]["regime"] == "clean"
    assert rows["x"]["gain"] == pytest.approx(3.0)
    assert rows["x"]["gain_interval"] == pytest.approx(0.0)
    assert rows["x"]["interval"] == pytest.approx(4.303 * 10 / math.sqrt(3))
    assert rows["x"]["per_question_kind"] == {"count": pytest.approx(31.5)}
    assert "63.0 ±24.8 (+3.0 ±0.0)" in report.table(list(rows.values()))


def test_a_run_at_level_0_belongs_to_both_regimes(report):
    results = [
        result("dense", 0, 0, 0, 90.0),
        result("dense", 0, 0, 1.0, 70.0),
        result("dense", 0, 1.0, 1.0, 80.0),
    ]
    found = {
        (row["regime"], row["level"]): row["accuracy"]
        for row in report.summarize(results, ["dense"], BOTH)
    }
    assert found == {
        ("clean", 0): 90.0,
        ("clean", 1.0): 70.0,
        ("same", 0): 90.0,
        ("same", 1.0): 80.0,
    }


def test_the_plot_shows_every_way_in_every_regime(report):
    results = [
        result(way, seed, trained, tested, 60.0 + 10 * seed)
        for way in ("dense", "x<y")
        for seed in (0, 1)
        for trained, tested in ((0, 0), (0, 1.0), (1.0, 1.0))
    ]
    svg = ElementTree.fromstring(report.plot(report.summarize(results, ["dense", "x<y"], BOTH)))
    words = [node.text for node in svg.iter("{http://www.w3.org/2000/svg}text")]
    for word in ("dense", "x<y", "trained clean", "trained at the same level", "100%"):
        assert word in words
    assert all("nan" not in node.get("d", "") for node in svg.iter())


def test_a_stopped_benchmark_goes_on(benchmark, tmp_path, capsys, monkeypatch):
    arguments = [
        f"output={tmp_path}",
        "seeds=[0]",
        "levels=[0,1]",
        "images=20",
        "steps=2",
        "batch_size=8",
        "ways=[after:rel_max]",
        "regimes=[clean]",
    ]
    train, tested = benchmark.train, []
    assert run_command(benchmark.main, arguments) == 0
    first = capsys.readouterr().out
    rows = json.loads((tmp_path / "interference.json").read_text())["rows"]
    assert [(row["way"], row["level"]) for row in rows] == [
        ("dense", 0),
        ("after:rel_max", 0),
        ("dense", 1),
        ("after:rel_max", 1),
    ]
    assert "after:rel_max" in first
    assert (tmp_path / "interference.svg").is_file()
    assert not list((tmp_path / "models").rglob("model.safetensors"))

    def again(words):
        tested.append(words)
        train(words)

    monkeypatch.setattr(benchmark, "train", again)
    assert run_command(benchmark.main, arguments) == 0
    assert capsys.readouterr().out == first
    assert not tested  # nothing was missing
    (tmp_path / "results/after-rel_max/seed0-0-1.json").unlink()
    assert run_command(benchmark.main, arguments) == 0
    assert capsys.readouterr().out == first  # same seed, same weights
    assert len(tested) == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["ways=[attention:softmax]"], "unknown way 'attention:softmax'"),
        (["ways=[somewhere:rel_max]"], "unknown way 'somewhere:rel_max'"),
        (["regimes=[dirty]"], "unknown regime 'dirty'; choose from: clean, same"),
        (["levels=[1]"], "trains at level 0; add 0 to levels"),
        (["trained=[3]"], "trained: level 3.0 is not among levels"),
        (["steps=0"], "steps must be >= 1, got 0"),
    ],
)
def test_wrong_settings_fail_at_once(benchmark, tmp_path, capsys, words, message):
    assert run_command(benchmark.main, [f"output={tmp_path}/new", *words]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_results_of_other_trainings_are_not_mixed(benchmark, tmp_path, capsys):
    (tmp_path / "settings.json").write_text(json.dumps({"steps": 7}))
    assert run_command(benchmark.main, [f"output={tmp_path}", "steps=8"]) == 2
    assert "holds results with steps=7, not 8; choose another output=" in capsys.readouterr().err
