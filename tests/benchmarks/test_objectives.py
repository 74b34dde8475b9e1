import json
import math
import sys
import xml.etree.ElementTree as ElementTree
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from tbkin.config import run_command
from tbkin.data.prepared import read_split
from tbkin.data.teachers import TeacherStore, write_teacher
from tbkin.objectives import TotalLoss

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
MINE = ("objectives", "objectives_arms", "objectives_data", "objectives_report", "intervals",
        "results")  # fmt: skip
SMALL = [
    "data=[tiny]",
    "seeds=[0,1]",
    "steps.tiny=4",
    "batch_size=16",
    "images=20",
    "validations=1",
    "model.hidden_size=16",
    "model.embedding_size=16",
    "model.intermediate_size=16",
    "model.num_attention_heads=2",
]


@pytest.fixture
def benchmark(monkeypatch):
    """The script as a module; it may not change the threads of this process."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr(torch, "set_num_threads", lambda count: None)
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import objectives

    yield objectives
    for name in MINE:
        sys.modules.pop(name, None)


@pytest.fixture
def arms(benchmark):
    return sys.modules["objectives_arms"]


@pytest.fixture
def worlds(benchmark):
    return sys.modules["objectives_data"]


@pytest.fixture
def report(benchmark):
    return sys.modules["objectives_report"]


def result(arm, seed, rsum, equivalent=None, data="tiny"):
    recalls = {"image_to_text R@1": rsum / 10, "text_to_image R@1": rsum / 20}
    test = {"rsum": rsum, "equivalent": equivalent, **recalls}
    return {"data": data, "arm": arm, "seed": seed, "value": {"factor": 0.3}, "test": test}


def test_gains_are_paired_by_seed(report):
    # Sums of recalls scatter by 20, each seed gains exactly 3: the gain is certain, and 60 ± 24.8
    # and 63 ± 24.8 overlap all the same.
    results = [
        one
        for seed, base in enumerate((50.0, 60.0, 70.0))
        for one in (result("contrastive", seed, base), result("x", seed, base + 3))
    ]
    first, second = report.summarize(results, "contrastive")
    assert (second["arm"], second["seeds"]) == ("x", [0, 1, 2])
    assert second["rsum"]["mean"] == pytest.approx(63)
    assert second["rsum"]["interval"] == pytest.approx(4.303 * 10 / math.sqrt(3))
    assert second["rsum"]["gain"] == pytest.approx(3)
    assert second["rsum"]["gain_interval"] == pytest.approx(0)
    assert second["rsum"]["separate"] is False
    assert first["rsum"]["separate"] is None
    assert "equivalent" not in second
    assert second["recalls"] == pytest.approx({"image_to_text R@1": 6.3, "text_to_image R@1": 3.15})
    printed = report.table([first, second])
    assert "| `x` | 63.0 ±24.8 (+3.0 ±0.0) | 6.3 | 3.1 | 3 | factor 0.3 |" in printed
    assert "| `contrastive` | 60.0 ±24.8 | 6.0 |" in printed
    assert "\\*" not in printed


def test_a_star_where_intervals_part(report):
    # Strict 71 and 79, equivalent 81 and 84, each ± 4.303 / sqrt(3) = 2.48: 8 > 4.97 > 3.
    results = [
        result(arm, seed, rsum + seed, other + seed)
        for arm, rsum, other in (("contrastive", 70.0, 80.0), ("x", 78.0, 83.0))
        for seed in (0, 1, 2)
    ]
    rows = report.summarize(results, "contrastive")
    assert [rows[1][measure]["separate"] for measure in report.MEASURES] == [True, False]
    printed = report.table(rows)
    assert "79.0 ±2.5\\* (+8.0 ±0.0) | 84.0 ±2.5 (+3.0 ±0.0)" in printed
    assert printed.endswith("of this arm and of the baseline do not overlap")
    alone = report.summarize([one for one in results if one["seed"] == 0], "contrastive")
    assert {row["rsum"]["separate"] for row in alone} == {None}  # one seed has no interval


def test_the_plot_has_a_panel_for_each_measure_and_colours_what_parts(report):
    results = [
        result(arm, seed, rsum + seed, 100.0 if data == "tiny" else None, data)
        for data in ("tiny", "coco")
        for arm, rsum in (("contrastive", 70.0), ("better", 90.0), ("worse", 50.0), ("same", 71.0))
        for seed in (0, 1, 2)
    ]
    svg = ElementTree.fromstring(report.plot(report.summarize(results, "contrastive")))
    words = Counter(node.text for node in svg.iter("{http://www.w3.org/2000/svg}text"))
    assert words["better"] == 3  # strict and equivalent of one, strict of the other
    assert words["tiny world with near duplicates, any true one counts"] == 1
    assert words["COCO, a small part"] == 1
    colors = Counter(p.get("stroke") for p in svg.iter("{http://www.w3.org/2000/svg}path"))
    assert (colors[report.BETTER], colors[report.WORSE]) == (4, 4)  # two marks in two panels
    assert all("nan" not in node.get("d", "") for node in svg.iter())


def test_every_arm_has_the_same_number_of_trials_and_can_be_built(arms):
    chosen = {"contrastive": {"lr": 1e-3, "form": "divisor"}}
    chosen["triplet"] = {"margin": 0.2, "mining": "hardest"}
    for name, arm in arms.ARMS.items():
        assert len(arm.grid) == arms.TRIALS, name
        built = [arm.stages(value, chosen, 64) for value in arm.grid]
        assert (
            len({json.dumps([vars(stage) for stage in stages]) for stages in built})
            == len(arm.grid)
            or name == "contrastive"
        ), name  # the baseline's learning rate is no objective
        for stages in built:
            for stage in stages:
                TotalLoss(stage.objectives)
    assert {
        name for name, arm in arms.ARMS.items() if len(arm.stages(arm.grid[0], chosen, 64)) == 2
    } == {"sld_stp"}


def test_weights_of_soft_labels_are_those_of_the_authors(arms):
    # 0.1 and 0.5 beside a mean over 64 candidates are 6.4 and 32 beside their sum.
    chosen = {"contrastive": {"lr": 1e-3, "form": "log_scale"}}
    value = {"factor": 1.0, "teacher_temperature": 1.0}
    (stage,) = arms.ARMS["cusa"].stages(value, chosen, 64)
    assert stage.objectives["cross_modal_soft_label"]["weight"] == pytest.approx(6.4)
    assert stage.objectives["uni_modal_soft_label"]["weight"] == pytest.approx(32)
    assert stage.objectives["contrastive"]["temperature_form"] == "log_scale"
    for name in ("cross_modal_soft_label", "uni_modal_soft_label"):
        assert stage.objectives[name]["teacher_temperature_range"] == [0.05, 1.0]
    first, second = arms.ARMS["sld_stp"].stages({**value, "probability": 0.5}, chosen, 64)
    assert (first.prompt, second.prompt) == (0, 0.5)
    assert first.objectives == second.objectives


def test_a_stopped_benchmark_goes_on(benchmark, tmp_path, capsys, monkeypatch):
    arguments = [f"output={tmp_path}", *SMALL, "arms=[triplet]"]
    train, trained = benchmark.train, []

    def counting(config):
        trained.append(config)
        return train(config)

    monkeypatch.setattr(benchmark, "train", counting)
    assert run_command(benchmark.main, arguments) == 0
    first = capsys.readouterr().out
    assert "`contrastive`" in first
    assert "`triplet`" in first
    # Six trials each on the tuning seed, then two seeds of the best of each.
    assert Counter(config.seed for config in trained) == {100: 12, 0: 2, 1: 2}
    # 16 training pictures with 5 captions: 5 steps an epoch; 4 are 2 epochs of even number.
    assert {config.epochs for config in trained} == {2}
    record = json.loads((tmp_path / "objectives.json").read_text())
    assert [(row["arm"], row["seeds"]) for row in record["rows"]] == [
        ("contrastive", [0, 1]),
        ("triplet", [0, 1]),
    ]
    assert {line["steps"] for line in record["runs"]} == {10}
    best = max(
        (line for line in record["trials"] if line["arm"] == "contrastive"),
        key=lambda line: line["validation"]["rsum"],
    )
    assert record["chosen"]["tiny"]["contrastive"] == best["value"]
    # What was best for the baseline holds for all others.
    assert {config.optim.lr for config in trained[6:]} == {best["value"]["lr"]}
    assert all("region_words" in config.objectives for config in trained)
    assert record["rows"][0]["equivalent"]["mean"] >= record["rows"][0]["rsum"]["mean"]
    assert (tmp_path / "objectives.svg").is_file()
    assert not list(tmp_path.rglob("model.safetensors"))

    lines = (tmp_path / "results.jsonl").read_text()
    (tmp_path / "results.jsonl").write_text(lines[:-20])  # stopped while it wrote the last
    trained.clear()
    assert run_command(benchmark.main, arguments) == 0
    assert capsys.readouterr().out == first  # same seed, same weights
    assert len(trained) == 1
    assert run_command(benchmark.main, [*arguments, "report=true"]) == 0
    assert capsys.readouterr().out == first
    assert run_command(benchmark.main, [*arguments, "batch_size=8"]) == 2
    assert "holds results with batch_size=16, not 8" in capsys.readouterr().err


def test_two_stages_share_the_budget_and_the_teachers(benchmark, worlds, tmp_path, monkeypatch):
    def made_up(words):
        folder = Path(words[0].removeprefix("data.root="))
        rows = [row for split in ("train", "val", "test") for row in read_split(folder, split)]
        rng = np.random.default_rng(0)
        for side, of, key in (
            ("text", "captions", "caption_id"),
            ("image", "pictures", "image_id"),
        ):
            ids = list(dict.fromkeys(row[key] for row in rows))
            write_teacher(folder / "teachers" / side, of, ids, [rng.normal(size=(len(ids), 4))], {})

    monkeypatch.setattr(worlds.teachers, "main", made_up)
    words = [f"output={tmp_path}", *SMALL, "arms=[sld_stp,sld_stp@oracle,sld]"]
    config = benchmark.load_config(benchmark.ObjectivesConfig, words)
    benchmark.prepare(config, "tiny")
    train, trained = benchmark.train, []
    monkeypatch.setattr(benchmark, "train", lambda one: trained.append(one) or train(one))
    best = {"contrastive": {"lr": 1e-3, "form": "divisor"}}
    value = {"factor": 1.0, "teacher_temperature": 1.0, "probability": 1.0}
    for arm in ("sld_stp", "sld_stp@oracle"):
        line = benchmark.run(config, benchmark.Job("tiny", arm, 0, value), best)
        assert line["steps"] == 10  # as a run of one stage
    assert [config.epochs for config in trained] == [1, 1, 1, 1]
    assert [bool(config.init_from) for config in trained] == [False, True, False, True]
    assert [config.data.prompt.get("probability", 0) for config in trained] == [0, 1, 0, 1]
    assert [Path(config.data.teachers).name for config in trained] == [
        "teachers", "teachers", "teachers_oracle", "teachers_oracle"
    ]  # fmt: skip
    # The first stage is what sld is, whose runs are csa's.
    assert {job.arm for job in benchmark.trials(config, "tiny", 1)} == {
        "csa", "sld_stp", "sld_stp@oracle"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("data", "arm", "value"),
    [("tiny", "stp", 1.0), ("tiny", "vsl", 0.3), ("persons", "mmref", 0.3)],
)
def test_other_arms_run(benchmark, tmp_path, monkeypatch, data, arm, value):
    words = [f"output={tmp_path}", *SMALL, f"data=[{data}]", f"arms=[{arm}]", "steps.persons=4"]
    config = benchmark.load_config(benchmark.ObjectivesConfig, words)
    benchmark.prepare(config, data)
    best = {"contrastive": {"lr": 1e-3, "form": "divisor"}}
    best["triplet"] = {"margin": 0.2, "mining": "hardest"}
    line = benchmark.run(config, benchmark.Job(data, arm, 0, value), best)
    assert line["test"]["rsum"] > 0
    # Persons are written by their identity: nobody knows of which others a caption is true.
    assert (line["test"]["equivalent"] is None) == (data == "persons")


def test_the_oracle_counts_what_is_there(worlds, tmp_path):
    def thing(number, size, color, shape):
        return {"object_id": number, "names": [shape], "attributes": [color, size]}

    scenes = [
        {
            "image_id": 1,
            "objects": [thing(1, "small", "red", "star"), thing(2, "large", "red", "star")],
            "relationships": [{"subject_id": 1, "predicate": "above", "object_id": 2}],
        },
        {"image_id": 2, "objects": [thing(3, "small", "red", "star")], "relationships": []},
    ]
    (block,) = worlds.counts([worlds.bag_of(scene) for scene in scenes])
    # Columns: 2 kinds, red star, 2 sizes, red, star, the relation: 8.
    # Rows: (1 1 | 2 | 1 1 | 2 | 2 | 1) and (1 | 1 | 1 | 1 | 1): product 1 + 2 + 1 + 2 + 2 = 8.
    assert block.shape == (2, 8)
    assert (block[0] @ block[0], block[1] @ block[1], block[0] @ block[1]) == (17, 5, 8)


def test_how_well_a_teacher_parts(worlds):
    scores = torch.tensor([[1.0, 0.9, 0.2], [0.9, 1.0, 0.9], [0.2, 0.9, 1.0]])
    same = torch.tensor([[1, 1, 0], [1, 1, 0], [0, 0, 1]]).bool()
    pairs = torch.ones(3, 3).triu(1).bool()
    # The only pair has 0.9; of the others one is below and one is equal: larger by 1.5 of 2.
    assert worlds.parted(scores, same, pairs) == pytest.approx(
        {"same": 0.9, "others": 0.55, "larger": 0.75}
    )


def test_labels_that_come_nearer_to_the_truth(worlds):
    # Caption 1 is true of picture 0 too. Even shares of what is true: of picture 0 (1/2, 1/2, 0),
    # the others their own; of caption 1 (1/2, 1/2, 0). Hard labels miss by a half in one of three
    # rows; so does a teacher that hears no difference between 0 and 1, in the row of picture 1.
    same = torch.eye(3).bool()
    true = torch.tensor([[1, 1, 0], [0, 1, 0], [0, 0, 1]]).bool()
    alike = torch.tensor([[1.0, 1.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    errors = worlds.label_errors(alike, torch.eye(3), same, true, [0.01, 1e6], 3)
    assert errors["pictures"]["hard"] == pytest.approx(1 / 6)
    assert errors["captions"]["hard"] == pytest.approx(1 / 6)
    assert errors["pictures"]["0.01"] == pytest.approx(1 / 6)
    assert errors["captions"]["0.01"] == pytest.approx(1 / 6)
    # Thirds everywhere: of picture 0 a third is wrong, of the others two.
    assert errors["pictures"]["1000000.0"] == pytest.approx(5 / 9)


@pytest.mark.parametrize("asked", ["ask_oracle", "ask_pictures"])
def test_captions_go_by_the_teacher_of_their_picture(worlds, tmp_path, asked):
    folder = worlds.draw("tiny", tmp_path, 60, 0.8, 0)
    rows = [row for split in ("train", "val", "test") for row in read_split(folder, split)]
    ids = list(dict.fromkeys(row["image_id"] for row in rows))
    write_teacher(folder / "teachers/image", "pictures", ids, [np.eye(len(ids)) + 1], {})
    teacher = getattr(worlds, asked)(folder)
    pictures = TeacherStore.open(teacher / "image", "pictures")
    captions = TeacherStore.open(teacher / "text", "captions")
    assert set(pictures._ids) == set(ids)
    for row in rows:
        assert torch.equal(captions[[row["caption_id"]]], pictures[[row["image_id"]]])
    for split in ("train", "val", "test"):
        captions.check_split(folder / f"{split}.jsonl")
    facts = worlds.teacher_facts(folder, teacher, [0.1], 16)
    assert facts["image"]["deviation"] > 0
    assert facts["text"]["larger"] == pytest.approx(1, abs=0.05)  # near duplicates may be equal
    assert set(facts["labels"]["captions"]) == {"hard", "0.1"}
    assert ("oracle" in pictures.record["encoder"].get("name", "")) == (asked == "ask_oracle")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["data=[flickr]"], "unknown data 'flickr'; choose from: tiny, persons, coco"),
        (["arms=[cuza]"], "unknown arm 'cuza'; choose from: contrastive"),
        (["arms=[stp@oracle]"], "unknown arm 'stp@oracle'; of teachers there are: csa@pictures"),
        (["tuning_seed=3"], "tuning_seed=3 is among seeds"),
        (["steps.coco=0"], "steps.coco=0: a number >= 1"),
        (["processes=0"], "processes must be >= 1, got 0"),
        (["report=true"], "holds nothing finished of these settings; leave out report="),
    ],
)
def test_wrong_settings_fail_at_once(benchmark, tmp_path, capsys, words, message):
    assert run_command(benchmark.main, [f"output={tmp_path}/new", *words]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_coco_is_left_out_with_a_word_where_it_is_not(benchmark, tmp_path, capsys):
    words = [f"output={tmp_path}", "data=[coco]", f"coco={tmp_path}/nowhere", "report=true"]
    assert run_command(benchmark.main, words) == 2
    assert "coco is left out" in capsys.readouterr().err


def test_who_runs_where(benchmark):
    config = benchmark.ObjectivesConfig()
    assert config.arms_on("persons") == ["contrastive", "mmref"]
    assert "mmref" not in config.arms_on("tiny")
    assert "cusa@oracle" in config.arms_on("tiny")
    assert "cusa@oracle" not in config.arms_on("coco")
    for name in ("csa", "usa", "cusa", "sld", "stp", "sld_stp", "triplet", "vsl"):
        assert name in config.arms_on("tiny")
        assert name in config.arms_on("coco")
