"""Training end to end on a small tiny world, in one process and in two."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from tbkin import train as train_module
from tbkin.config import OptimConfig, TrainConfig, load_config
from tbkin.model.heads import TBKINForQuestionAnswering

ROOT = Path(__file__).parents[1]
SMALL = [
    "model.hidden_size=32",
    "model.num_attention_heads=2",
    "model.intermediate_size=32",
    "data.parser=word_rules",
]


def settings(tiny_root, output, *more):
    return [f"data.root={tiny_root.prepared}", f"output_dir={output}", *SMALL, *more]


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
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2"]
    command += ["--master_port", str(20000 + os.getpid() % 20000), "tbkin/train.py"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    done = subprocess.run(
        [*command, *settings(tiny_root, tmp_path / "two", *more)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
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


def test_learning_rate_rises_then_falls():
    optimizer = SimpleNamespace(param_groups=[{"lr": 0.0}])
    optim = OptimConfig(lr=1.0, warmup_ratio=0.1)
    rates = []
    for progress in (0.05, 0.1, 0.55, 1.0):
        train_module.set_lr(optimizer, optim, progress)
        rates.append(optimizer.param_groups[0]["lr"])
    assert rates == pytest.approx([0.5, 1.0, 0.5, 0.0])


def test_biases_norms_and_embeddings_do_not_decay(small_model):
    model = small_model()
    optimizer = train_module.build_optimizer([model], OptimConfig(weight_decay=0.5))
    decayed = {id(p) for p in optimizer.param_groups[0]["params"]}
    named = dict(model.named_parameters())
    assert optimizer.param_groups[0]["weight_decay"] == 0.5
    assert id(named["head.dense.weight"]) in decayed
    assert id(named["tbkin.text.words.weight"]) not in decayed
    assert id(named["head.dense.bias"]) not in decayed
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(named)


def test_the_tiny_world_is_drawn_only_when_it_is_wanted_and_missing(monkeypatch, tmp_path):
    calls = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(train_module.subprocess, "run", lambda words, **_: calls.append(words[3:5]))
    train_module.draw_tiny_world("elsewhere")
    assert calls == []
    train_module.draw_tiny_world("data/tiny")
    assert calls == [["tiny", "output=data/tiny"], ["vqa", "data.root=data/tiny"]]


@pytest.mark.slow
def test_without_any_argument_but_a_budget(tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(ROOT / "tbkin" / "train.py"), "max_seconds=5"]
    subprocess.run(command, cwd=tmp_path, env=environment, check=True)
    assert (tmp_path / "outputs" / "vqa_tiny" / "model.safetensors").is_file()


def test_init_from_continues_and_refuses_model_settings(tiny_root, trained, tmp_path):
    changes = [f"data.root={tiny_root.prepared}", f"init_from={trained}", f"output_dir={tmp_path}"]
    train_module.main([*changes, "epochs=1", "optim.lr=1e-9"])
    before, after = (load_file(f / "model.safetensors") for f in (trained, tmp_path))
    key = "head.answers.weight"
    assert torch.allclose(before[key], after[key], atol=1e-6)
    with pytest.raises(ValueError, match="init_from brings its own model settings"):
        train_module.main([*changes, "model.hidden_size=64"])


def test_defaults_are_those_of_the_tiny_configuration_file():
    given = load_config(TrainConfig, [str(ROOT / "configs" / "tiny" / "vqa.yaml")])
    assert given == load_config(TrainConfig, ["data.parser=word_rules"])


def test_validation_every_few_epochs_and_at_the_end(tiny_root, tmp_path):
    words = ["epochs=5", "validate_every=2"]
    train_module.main(settings(tiny_root, tmp_path, *words))
    run = json.loads((tmp_path / "run.json").read_text())
    assert [one["epoch"] for one in run["history"]] == [1, 3, 4]
