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
    for name in ("interference", "interference_report", "intervals"):
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
    # 60 and 63, each ±24.8, overlap, however certain the gain.
    assert rows["x"]["separate"] is False
    assert rows["dense"]["separate"] is None
    printed = report.table(list(rows.values()))
    assert "63.0 ±24.8 (+3.0 ±0.0)" in printed
    assert "*" not in printed


def test_intervals_that_do_not_overlap_have_a_star(report):
    # Of 70, 71, 72 and 78, 79, 80: 71 and 79, each ±4.303 / sqrt(3) = 2.484, are 8 > 4.97 apart.
    # At level 1 the second is 75: 4 apart.
    results = [
        result(way, seed, 0, level, accuracy + seed)
        for way, level, accuracy in (
            ("dense", 0, 70.0), ("x", 0, 78.0), ("dense", 1.0, 70.0), ("x", 1.0, 74.0)
        )
        for seed in (0, 1, 2)
    ]  # fmt: skip
    rows = report.summarize(results, ["dense", "x"], ["clean"])
    assert [row["separate"] for row in rows] == [None, True, None, False]
    printed = report.table(rows)
    assert "79.0 ±2.5* (+8.0 ±0.0)" in printed
    assert "75.0 ±2.5 (+4.0 ±0.0)" in printed
    assert printed.endswith("\n* the 95 % intervals of this accuracy and of dense's do not overlap")
    assert "seeds" not in printed  # the same of all
    alone = report.summarize([one for one in results if one["seed"] == 0], ["dense", "x"], BOTH)
    assert {row["separate"] for row in alone} == {None}  # one seed has no interval


def test_the_table_says_how_many_seeds_where_they_differ(report):
    results = [result("dense", seed, 0, 0, 70.0) for seed in (0, 1, 2)]
    results += [result("x", seed, 0, 0, 71.0) for seed in (0, 2)]
    lines = report.table(report.summarize(results, ["dense", "x"], ["clean"])).splitlines()
    assert lines[1].split() == ["seeds", "0%"]
    assert lines[2].split()[:2] == ["dense", "3"]
    assert lines[3].split()[:2] == ["x", "2"]
    assert len({len(line) for line in lines[1:4]}) == 1


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
    for word in ("dense", "x<y", "trained clean", "trained at the same level", "100%",
                 "VQA accuracy in per cent, 95 % intervals"):  # fmt: skip
        assert word in words
    assert all("nan" not in node.get("d", "") for node in svg.iter())


def test_ways_can_be_told_apart(report):
    ways = ["dense", *(f"x{number}" for number in range(14))]
    results = [result(way, 0, 0, level, 70.0) for way in ways for level in (0, 1.0)]
    svg = ElementTree.fromstring(report.plot(report.summarize(results, ways, ["clean"])))
    paths = list(svg.iter("{http://www.w3.org/2000/svg}path"))
    looks = [(p.get("stroke"), p.get("stroke-dasharray")) for p in paths]
    legend = looks[-len(ways) :]
    assert len(set(legend)) == len(ways)
    # All are equal at level 0; their dots stand side by side.
    dots = {p.get("d") for p in paths if p.get("d")[1:].split("L")[0] == p.get("d").split("L")[1]}
    assert len(dots) >= 2 * len(ways)


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
        (["own.dense.selection_rule=prob"], "neither dense nor world; got 'dense'"),
        (["own={'attention:x': {selection_rule: prob}}"], "digits and _, and neither"),
        (["report=true"], "holds nothing finished of these settings; leave out report="),
    ],
)
def test_wrong_settings_fail_at_once(benchmark, tmp_path, capsys, words, message):
    assert run_command(benchmark.main, [f"output={tmp_path}/new", *words]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_ways_after_training_are_told_by_their_site(benchmark):
    config = benchmark.InterferenceConfig(
        ways=["after:rel_max", "after_attention:prob"],
        own={"afternoon": {"selection_rule": "prob"}},
    )
    trained = {job.way for job in benchmark.plan(config)[1]}
    assert trained == {"dense", "afternoon"}
    jobs = {way: benchmark.Job(way, 0, 0.0) for way in trained}
    tested = {way: {w for _, w, _ in benchmark.tests_of(config, job)} for way, job in jobs.items()}
    assert tested == {
        "dense": {"dense", "after:rel_max", "after_attention:prob"},
        "afternoon": {"afternoon"},
    }


def test_ways_after_training_are_tested_with_the_whole_threshold(benchmark, tmp_path, monkeypatch):
    config = benchmark.InterferenceConfig(
        output=str(tmp_path), levels=[0.0], ways=["after:rel_max", "credibility:rel_max"]
    )
    tests = []
    monkeypatch.setattr(benchmark, "train", lambda words: None)
    monkeypatch.setattr(benchmark, "test", lambda m, settings, root: tests.append(settings) or {})
    for way in ("dense", "credibility:rel_max"):
        job = benchmark.Job(way, 0, 0.0)
        (tmp_path / "models" / job.name).mkdir(parents=True)
        benchmark.run_job(config, job)
    ramps = [(one["credibility_rule"], one.get("selection_ramp_steps")) for one in tests]
    assert ramps == [("none", None), ("rel_max", 0), ("rel_max", None)]


def test_every_rule_of_attention_is_among_the_usual_ways(benchmark):
    ways = benchmark.InterferenceConfig().ways
    assert {way.partition(":")[2] for way in ways if way.startswith("attention:")} == {
        "rel_max", "rel_mean", "prob", "top_k", "logit", "sparsemax", "entmax15", "learned"
    }  # fmt: skip
    assert set(ways[8:]) == {
        "relevance:rel_max", "credibility:rel_max", "credibility:logit", "after:rel_max",
        "after_attention:rel_max", "both:rel_max",
    }  # fmt: skip


def test_a_report_of_what_is_finished_runs_nothing(benchmark, tmp_path, capsys, monkeypatch):
    settings = {"images": 2500, "steps": 1250, "batch_size": 32}
    (tmp_path / "settings.json").write_text(json.dumps(settings))
    for way, seed, level, accuracy in (
        ("dense", 0, 0, 90.0), ("dense", 0, 1, 70.0), ("dense", 1, 0, 92.0), ("dense", 1, 1, 74.0),
        ("both-rel_max", 0, 0, 91.0), ("both-rel_max", 0, 1, 79.0), ("both-rel_max", 1, 0, 10.0),
    ):  # fmt: skip
        path = tmp_path / f"results/{way}/seed{seed}-0-{level}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(
            json.dumps(result(way.replace("-", ":"), seed, 0.0, float(level), accuracy))
        )
    monkeypatch.setattr(benchmark, "run_job", lambda *_: pytest.fail("something was run"))
    words = [f"output={tmp_path}", "report=true", "levels=[0,1]", "steps=1250", "seeds=[0,1,2]"]
    before = sorted(tmp_path.rglob("*.json"))
    assert run_command(benchmark.main, [*words, "regimes=[clean]"]) == 0
    printed = capsys.readouterr().out
    # Seed 1 of both: is not finished at level 1, so it counts nowhere.
    assert "91.0 (+1.0)" in printed
    assert "79.0 (+9.0)" in printed
    assert [line.split()[:2] for line in printed.splitlines()[2:]] == [
        ["dense", "2"], ["both:rel_max", "1"]
    ]  # fmt: skip
    written = set(tmp_path.rglob("*.*")) - set(before)
    assert {path.name for path in written} == {"interference.json", "interference.svg"}
    assert json.loads((tmp_path / "settings.json").read_text()) == settings
    assert run_command(benchmark.main, [*words[:3], "steps=9"]) == 2
    assert "holds results with steps=1250, not 9" in capsys.readouterr().err


def test_results_of_other_trainings_are_not_mixed(benchmark, tmp_path, capsys):
    (tmp_path / "settings.json").write_text(json.dumps({"steps": 7}))
    assert run_command(benchmark.main, [f"output={tmp_path}", "steps=8"]) == 2
    assert "holds results with steps=7, not 8; choose another output=" in capsys.readouterr().err
