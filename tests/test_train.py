"""Training end to end on a small tiny world, in one process and in two."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from tbkin import train as train_module
from tbkin.config import TrainConfig, load_config
from tbkin.data.processing_tbkin import TBKINProcessor
from tbkin.model.configuration_tbkin import TBKINConfig
from tbkin.model.heads import TBKINForPreTraining, TBKINForQuestionAnswering
from tbkin.model.selection import BLOCKS

ROOT = Path(__file__).parents[1]
SMALL = [
    "model.hidden_size=32",
    "model.num_attention_heads=2",
    "model.intermediate_size=32",
    "data.parser=word_rules",
]


def settings(tiny_root, output, *more):
    return [f"data.root={tiny_root.prepared}", f"output_dir={output}", *SMALL, *more]


def in_two_processes(words):
    """The training command with these settings, on two processes of this machine."""
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2"]
    command += ["--master_port", str(20000 + os.getpid() % 20000), "tbkin/train.py"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run(
        [*command, *words],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )


@pytest.fixture(scope="module")
def pretrained(tiny_root, tmp_path_factory):
    """Captions prepared with the regions of the questions, and a model pre-trained on them."""
    import data_prep.pretraining

    folder = tmp_path_factory.mktemp("pretrained")
    data, model = folder / "captions", folder / "model"
    regions = f"regions={tiny_root.prepared / 'regions'}"
    data_prep.pretraining.main(
        [f"data.root={tiny_root.official}", f"output={data}", regions, "parser=word_rules"]
    )
    words = [f"data.root={data}", f"output_dir={model}", "task=pretraining", *SMALL, "epochs=4"]
    train_module.main([*words, "log_every=1", "optim.lr=2e-3", "validate_every=2"])
    return SimpleNamespace(data=data, model=model)


def test_a_run_learns_and_leaves_its_records(tiny_root, trained):
    lines = [json.loads(line) for line in (trained / "log.jsonl").read_text().splitlines()]
    losses = [line["answer"] for line in lines if "answer" in line]
    assert len(losses) >= 5
    assert sum(losses[-2:]) < 0.6 * sum(losses[:2])

    run = json.loads((trained / "run.json").read_text())
    assert run["seed"] == 0
    assert run["config"]["data"]["root"] == str(tiny_root.prepared)
    assert run["parser"] == "word_rules"
    assert {"torch", "transformers", "accelerate"} <= set(run["versions"])
    hashes = [file["sha256"] for file in run["data"]["files"].values()]
    assert all(len(value) == 64 for value in hashes)
    assert run["best"]["vqa_accuracy"] == max(one["vqa_accuracy"] for one in run["history"])
    assert len(run["history"]) == 3
    assert 0 < run["best"]["nodes_kept"] <= 1
    model = TBKINForQuestionAnswering.from_pretrained(trained)
    assert len(model.config.id2label) == run["data"]["answers"]


def test_same_seed_same_run(tiny_root, tmp_path):
    for name in ("a", "b"):
        train_module.main(settings(tiny_root, tmp_path / name, "epochs=1"))
    first, second = (load_file(tmp_path / name / "model.safetensors") for name in ("a", "b"))
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_accumulation_is_a_larger_batch(tiny_root, tmp_path):
    """Two batches of 16 a step move the weights as one batch of 32 does, up to rounding."""
    train_module.main(settings(tiny_root, tmp_path / "whole", "epochs=1", "batch_size=32"))
    halves = ["epochs=1", "batch_size=16", "optim.gradient_accumulation_steps=2"]
    train_module.main(settings(tiny_root, tmp_path / "halves", *halves))
    first, second = (load_file(tmp_path / n / "model.safetensors") for n in ("whole", "halves"))
    assert (json.loads((tmp_path / "whole" / "run.json").read_text())["steps"]) == 5
    assert (json.loads((tmp_path / "halves" / "run.json").read_text())["steps"]) == 5
    counter = "tbkin.training_steps"  # counts forward passes
    assert (first.pop(counter), second.pop(counter)) == (5, 10)
    for key, value in first.items():
        assert torch.allclose(value, second[key], atol=2e-3), key


def test_two_processes_equal_one(tiny_root, tmp_path):
    """Same global batch, no dropout: the same validation score, and weights within 2e-3.

    The halves of a batch are padded and summed separately, so that rounding differs; Adam turns
    differences of rounding into differences of up to a learning rate a step.
    """
    more = ["epochs=2", "batch_size=20", "optim.lr=1e-4", "model.selection_ramp_steps=0"]
    train_module.main(settings(tiny_root, tmp_path / "one", *more))
    done = in_two_processes(settings(tiny_root, tmp_path / "two", *more))
    # Not the exit code: gloo sometimes aborts at interpreter exit, after correct results.
    assert (tmp_path / "two" / "run.json").is_file(), done.stderr[-2000:]
    runs = [json.loads((tmp_path / n / "run.json").read_text()) for n in ("one", "two")]
    assert [run["processes"] for run in runs] == [1, 2]
    assert runs[0]["steps"] == runs[1]["steps"]
    first, second = (run["history"][-1]["vqa_accuracy"] for run in runs)
    assert first == pytest.approx(second, abs=0.02)
    weights = [load_file(tmp_path / n / "model.safetensors") for n in ("one", "two")]
    for key, value in weights[0].items():
        assert torch.allclose(value.float(), weights[1][key].float(), atol=2e-3), key


@pytest.mark.parametrize(
    "command",
    [
        [sys.executable, "tbkin/train.py"],
        [sys.executable, "-m", "tbkin.train"],
        [sys.executable, "-m", "tbkin", "train"],
        [sys.executable, "-m", "accelerate.commands.launch", "--cpu", "tbkin/train.py"],
    ],
    ids=["file", "module", "verb", "accelerate"],
)
def test_every_way_to_start_reads_the_same_settings(command):
    done = subprocess.run(
        [*command, "optim.lrr=1"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert "error: unknown setting 'optim.lrr'; did you mean 'optim.lr'?" in done.stderr
    if "accelerate.commands.launch" not in command:  # which turns every failure into 1
        assert done.returncode == 2
        assert "Traceback" not in done.stderr


def test_max_seconds_ends_a_run_fully_decayed(tiny_root, tmp_path):
    train_module.main(settings(tiny_root, tmp_path / "m", "epochs=1000", "max_seconds=2"))
    run = json.loads((tmp_path / "m" / "run.json").read_text())
    assert run["steps"] < 1000
    assert run["seconds"] < 20


def test_the_tiny_world_is_drawn_only_when_it_is_wanted_and_missing(monkeypatch, tmp_path):
    calls = []
    monkeypatch.chdir(tmp_path)

    def run(words, env, **_):
        calls.append(words[3:5])
        assert "RANK" not in env  # or the step would do one process's share only
        return SimpleNamespace(returncode=failing)

    failing = 0
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setattr(train_module.subprocess, "run", run)
    train_module.draw_tiny_world("elsewhere", "vqa")
    assert calls == []
    train_module.draw_tiny_world("data/tiny", "vqa")
    assert calls == [["tiny", "output=data/tiny"], ["vqa", "data.root=data/tiny"]]
    train_module.draw_tiny_world("data/tiny", "pretraining")
    assert calls[-1] == ["pretraining", "data.root=data/tiny"]
    train_module.draw_tiny_world("data/tiny", "grounding")
    assert calls[-1] == ["refcoco", "data.root=data/tiny"]
    (tmp_path / "data" / "tiny").mkdir(parents=True)
    calls.clear()
    train_module.draw_tiny_world("data/tiny", "grounding")  # a world of any settings is there
    assert calls == [["refcoco", "data.root=data/tiny"]]
    failing = 2
    with pytest.raises(ValueError, match=r"tbkin prep refcoco .* failed"):
        train_module.draw_tiny_world("data/tiny", "grounding")


@pytest.mark.slow
def test_without_any_argument_but_a_budget(tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(ROOT / "tbkin" / "train.py"), "max_seconds=5"]
    subprocess.run(command, cwd=tmp_path, env=environment, check=True)
    assert (tmp_path / "outputs" / "vqa_tiny" / "model.safetensors").is_file()


def test_init_from_continues_where_a_run_of_the_same_labels_ended(
    tiny_root, trained, tmp_path, capsys
):
    changes = [f"data.root={tiny_root.prepared}", f"init_from={trained}", f"output_dir={tmp_path}"]
    train_module.main([*changes, "epochs=1", "optim.lr=1e-9"])
    before, after = (load_file(f / "model.safetensors") for f in (trained, tmp_path))
    assert before.keys() == after.keys()
    for key in ("head.answers.weight", "tbkin.text.words.weight", "tbkin.regions.boxes.weight"):
        assert torch.allclose(before[key], after[key], atol=1e-6)
    line = next(x for x in capsys.readouterr().err.splitlines() if x.startswith("init_from="))
    assert line.endswith("head; new nothing; left over nothing; 0 new words")


def test_init_from_takes_settings_that_need_no_other_shapes(tiny_root, trained, tmp_path):
    changes = [f"data.root={tiny_root.prepared}", f"init_from={trained}", f"output_dir={tmp_path}"]
    model = ["model.selection_rule=top_k", "model.selection_threshold=5"]
    train_module.main([*changes, "epochs=1", "max_seconds=1", *model])
    config = TBKINConfig.from_pretrained(tmp_path)
    assert (config.selection_rule, config.selection_threshold) == ("top_k", 5)
    run = json.loads((tmp_path / "run.json").read_text())
    steps = load_file(tmp_path / "model.safetensors")["tbkin.training_steps"]
    assert steps == run["best"]["step"]  # other thresholds ramp up anew
    for word, message in (
        ("model.hidden_size=64", r"model.hidden_size=64 does not fit init_from=.*has 128; leave"),
        ("model.hiden_size=64", "did you mean 'hidden_size'"),
        ("model.vocab_size=64", "follows from the data"),
        (f"init_from={tmp_path / 'none'}", "no config.json in init_from="),
    ):
        with pytest.raises((ValueError, FileNotFoundError), match=message):
            train_module.main([*changes, word])


def test_pretraining_learns_and_leaves_its_records(pretrained):
    lines = [json.loads(line) for line in (pretrained.model / "log.jsonl").read_text().splitlines()]
    steps = [line for line in lines if "loss" in line]
    terms = {"masked_words", "masked_features", "masked_objects", "masked_attributes"}
    assert terms | {"matching", "transport", "region_words"} <= steps[0].keys()
    for name in ("loss", "masked_words", "masked_features", "region_words"):
        values = [line[name] for line in steps]
        assert sum(values[-3:]) < 0.9 * sum(values[:3]), name
    assert set(steps[0]["attention_kept_by_block"]) == set(BLOCKS)
    run = json.loads((pretrained.model / "run.json").read_text())
    best = run["best"]
    parts = [best[f"{name}_accuracy"] for name in ("masked_word", "masked_object", "match")]
    assert best["pretraining_accuracy"] == pytest.approx(
        (sum(parts) + best["masked_attribute_accuracy"]) / 4
    )
    assert len(best["attention_kept_by_block"]["text-image"]) == len(best["attention_kept"]) == 2
    model = TBKINForPreTraining.from_pretrained(pretrained.model)
    assert (model.config.num_object_labels, model.config.num_attribute_labels) == (5, 10)
    assert model.config.id2label[0].startswith("object ")


def test_a_pretrained_model_starts_one_that_answers(tiny_root, pretrained, tmp_path, capsys):
    changes = [f"data.root={tiny_root.prepared}", f"init_from={pretrained.model}"]
    train_module.main([*changes, f"output_dir={tmp_path}", "epochs=1", "optim.lr=1e-9"])
    line = next(x for x in capsys.readouterr().err.splitlines() if x.startswith("init_from="))
    loaded, new, left = line.split(": ", 1)[1].split("; ")[:3]
    assert loaded.startswith("loaded tbkin.")
    assert new == "new head"
    assert left == "left over match_head, region_head, word_head"
    before, after = (load_file(f / "model.safetensors") for f in (pretrained.model, tmp_path))
    key = "tbkin.fusion.layers.0.attention.query.weight"
    assert torch.allclose(before[key], after[key], atol=1e-6)
    # Words of the questions that no caption has are new rows behind the old ones.
    old, known = before["tbkin.text.words.weight"], after["tbkin.text.words.weight"]
    assert int(line.split("; ")[-1].split()[0]) == len(known) - len(old) > 0
    assert torch.allclose(old, known[: len(old)], atol=1e-6)
    first, second = (TBKINProcessor.from_pretrained(f) for f in (pretrained.model, tmp_path))
    unknown = first.tokenizer.unk_token_id
    assert unknown in first.tokenize("How many circles are there".split())["input_ids"]
    assert unknown not in second.tokenize("How many circles are there".split())["input_ids"]
    answering = TBKINForQuestionAnswering.from_pretrained(tmp_path)
    assert list(answering.config.id2label.values()) == json.loads(
        (tiny_root.prepared / "answers.json").read_text()
    )


def test_a_graph_encoder_can_be_added_to_a_checkpoint_without(tiny_root, tmp_path, capsys):
    words = settings(tiny_root, tmp_path / "a", "epochs=1", "model.graph_encoder=none")
    train_module.main(words)
    changes = [f"data.root={tiny_root.prepared}", f"init_from={tmp_path / 'a'}", "epochs=1"]
    added = ["model.graph_encoder=relational", "model.graph_gate=0"]
    train_module.main([*changes, f"output_dir={tmp_path / 'b'}", *added])
    line = next(x for x in capsys.readouterr().err.splitlines() if x.startswith("init_from="))
    assert "tbkin.attributes" in line.split("; ")[1]
    assert TBKINConfig.from_pretrained(tmp_path / "b").graph_encoder == "relational"


def test_features_of_another_detector_do_not_go_on(tiny_root, pretrained, tmp_path):
    prepared = tmp_path / "other"
    shutil.copytree(tiny_root.prepared, prepared)
    manifest = json.loads((prepared / "regions" / "manifest.json").read_text())
    manifest["fingerprint"]["weights"] = "f00"
    (prepared / "regions" / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match="region features of another kind"):
        train_module.main([f"data.root={prepared}", f"init_from={pretrained.model}"])


def test_a_converted_checkpoint_takes_the_fingerprint_of_its_first_data(
    tiny_root, pretrained, tmp_path
):
    folder = tmp_path / "converted"  # which has seen no regions of ours
    shutil.copytree(pretrained.model, folder)
    record = json.loads((folder / "processor_config.json").read_text())
    record |= {"fingerprint": {}, "detector": {"name": "grid"}, "parser": "auto"}
    (folder / "processor_config.json").write_text(json.dumps(record))
    recipe = str(ROOT / "configs" / "rosita_vqa.yaml")  # which leaves sizes to the checkpoint
    words = [recipe, f"data.root={tiny_root.prepared}", f"init_from={folder}"]
    words.append("data.parser=word_rules")
    train_module.main([*words, f"output_dir={tmp_path / 'm'}", "epochs=1"])
    processor = TBKINProcessor.from_pretrained(tmp_path / "m")
    assert processor.fingerprint["extractor"] == "pixels 8x8"
    assert processor.detector["name"] == "detected"
    assert processor.parser == "word_rules"
    (folder / "processor_config.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"no processor_config.json .* with a vocabulary"):
        train_module.main(words)


def test_pretraining_is_the_same_in_two_processes(pretrained, tmp_path):
    """Masks follow from the example, so the global batch is the same: validation scores, too."""
    words = [f"data.root={pretrained.data}", "task=pretraining", *SMALL, "epochs=1"]
    words += ["batch_size=20", "optim.lr=1e-4", "model.selection_ramp_steps=0"]
    train_module.main([*words, f"output_dir={tmp_path / 'one'}"])
    done = in_two_processes([*words, f"output_dir={tmp_path / 'two'}"])
    assert (tmp_path / "two" / "run.json").is_file(), done.stderr[-2000:]
    runs = [json.loads((tmp_path / n / "run.json").read_text()) for n in ("one", "two")]
    assert [run["processes"] for run in runs] == [1, 2]
    first, second = (run["best"] for run in runs)
    assert first["pretraining_accuracy"] == pytest.approx(second["pretraining_accuracy"], abs=0.03)
    assert first["attention_kept"] == pytest.approx(second["attention_kept"], abs=0.01)


def test_defaults_are_those_of_the_tiny_configuration_file():
    given = load_config(TrainConfig, [str(ROOT / "configs" / "tiny" / "vqa.yaml")])
    assert given == load_config(TrainConfig, ["data.parser=word_rules"])
    assert given.output_dir == "outputs/vqa_tiny"
    pretraining = load_config(TrainConfig, ["task=pretraining"])
    assert pretraining.output_dir == "outputs/pretraining_tiny"  # not the other task's


def test_validation_every_few_epochs_and_at_the_end(tiny_root, tmp_path):
    words = ["epochs=5", "validate_every=2"]
    train_module.main(settings(tiny_root, tmp_path, *words))
    run = json.loads((tmp_path / "run.json").read_text())
    assert [one["epoch"] for one in run["history"]] == [1, 3, 4]


@pytest.mark.parametrize("name", ["pretraining.yaml", "tiny/pretraining.yaml"])
def test_pretraining_configs_are_read_and_name_a_task(name):
    config = load_config(TrainConfig, [str(ROOT / "configs" / name)])
    assert config.task in train_module.TASKS
    assert config.data.masking == "graph"


def test_settings_of_other_tasks_are_refused(tmp_path):
    for words in (["data.teachers=auto"], ["data.prompt.probability=0.5"]):
        config = load_config(TrainConfig, [f"output_dir={tmp_path / 'out'}", *words])
        with pytest.raises(ValueError, match=r"data\.(teachers|prompt) is of no use to task=vqa"):
            train_module.train(config)
    config = load_config(
        TrainConfig,
        [
            "task=pretraining",
            f"data.root={tmp_path}",
            f"output_dir={tmp_path / 'out'}",
            "objectives.matching.rows=8",
        ],
    )
    with pytest.raises(ValueError, match=r"matching\.rows is of no use to task=pretraining, whose"):
        train_module.train(config)
    assert not (tmp_path / "out").exists()
