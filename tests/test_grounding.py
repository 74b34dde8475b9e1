"""Grounding end to end on the small tiny world: prepare, train, evaluate, score; and with VQA."""

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

import data_prep.refcoco
from tbkin import evaluation, running, scoring, train
from tbkin.boxes import box_iou
from tbkin.data.collate import NO_ID, Collator
from tbkin.data.multitask import QuestionsAndExpressions
from tbkin.data.prepared import read_split
from tbkin.data.processing_tbkin import TBKINProcessor
from tbkin.data.refcoco import RefCOCODataset

ROOT = Path(__file__).parents[1]
SMALL = [
    "model.hidden_size=32",
    "model.num_attention_heads=2",
    "model.intermediate_size=32",
    "data.parser=word_rules",
    "optim.lr=2e-3",
]


@pytest.fixture(scope="module")
def expressions(tiny_root, tmp_path_factory):
    """The expressions of the tiny world, prepared with the regions of its questions."""
    folder = tmp_path_factory.mktemp("expressions") / "prepared"
    data_prep.refcoco.main(
        [
            f"data.root={tiny_root.official}",
            f"regions={tiny_root.prepared / 'regions'}",
            f"output={folder}",
        ]
    )
    return folder


@pytest.fixture(scope="module")
def grounded(expressions, tmp_path_factory):
    """Checkpoint folder of a grounding model."""
    folder = tmp_path_factory.mktemp("grounded") / "model"
    words = ["task=grounding", f"data.root={expressions}", f"output_dir={folder}", "epochs=10"]
    train.main([*words, *SMALL])
    return folder


@pytest.fixture(scope="module")
def together(tiny_root, expressions, tmp_path_factory):
    """Checkpoint folder of a model of both tasks, and what its run says."""
    folder = tmp_path_factory.mktemp("together") / "model"
    roots = f"data.roots={{vqa: {tiny_root.prepared}, grounding: {expressions}}}"
    train.main(["task=multitask", roots, f"output_dir={folder}", "epochs=3", "log_every=1", *SMALL])
    return SimpleNamespace(folder=folder, run=json.loads((folder / "run.json").read_text()))


def run(model, root, output, *more, task="grounding"):
    words = [f"task={task}", f"model={model}", f"data.root={root}", f"output={output}"]
    evaluation.main([*words, *more])
    return json.loads((output / "metrics.json").read_text())


def test_labels_of_an_expression_are_those_of_its_box(expressions, grounded):
    processor = TBKINProcessor.from_pretrained(grounded)
    dataset = RefCOCODataset(expressions, "val", processor)
    row, example = dataset.rows[0], dataset[0]
    assert example["sentence_id"] == row["sentence_id"]
    size = example["picture_size"]
    assert size.tolist() == [160, 120]
    assert (example["target_box"] * size.repeat(2)).tolist() == pytest.approx(row["box"])
    boxes = dataset.candidates()[row["image_id"]]
    best = box_iou(boxes, torch.tensor([row["box"]])).argmax()
    assert example["rank_labels"].argmax() == best
    assert example["rank_labels"].sum() == pytest.approx(1.0)
    assert example["box_label_mask"].tolist() == (example["rank_labels"] > 0).tolist()


def test_it_learns_and_its_predictions_score_the_same_elsewhere(
    expressions, grounded, tmp_path, capsys
):
    metrics = run(grounded, expressions, tmp_path, "split=testA")
    predictions = json.loads((tmp_path / "predictions.json").read_text())
    gold = read_split(expressions, "testA")
    assert predictions.keys() == {str(row["sentence_id"]) for row in gold}
    assert metrics["accuracy@0.5"] > 2 * metrics["candidates"]["random"]["accuracy@0.5"]
    assert metrics["accuracy@0.5"] > 2 * metrics["candidates"]["largest"]["accuracy@0.5"]
    capsys.readouterr()
    files = [f"predictions={tmp_path / 'predictions.json'}", f"gold={expressions}"]
    scoring.main(["grounding", *files, "split=testA", "json=true"])
    scored = json.loads(capsys.readouterr().out)
    for key in ("accuracy@0.5", "accuracy@0.7", "mean_iou", "sentences", "iou"):
        assert scored[key] == metrics[key]


def test_the_protocol_stands_beside_the_score(expressions, grounded, tmp_path, capsys):
    metrics = run(grounded, expressions, tmp_path, "split=testB", "iou=plus_one", "regress=false")
    printed = capsys.readouterr().out
    protocol = metrics["protocol"]
    assert protocol["rules"] == {
        "iou": "plus_one",
        "comparison": "ge",
        "box": "the chosen region, not moved",
    }
    assert (protocol["split"], protocol["dataset"]) == ("testB", "refcoco_unc")
    assert protocol["items"] == metrics["sentences"]
    said = json.loads((grounded / "run.json").read_text())["run"]
    assert protocol["model"]["run"] == said
    for words in ("oracle", "random", "largest", "testB of refcoco_unc", said, "split unseen"):
        assert words in printed
    assert protocol["box_source"] in printed


def test_boxes_are_those_of_the_candidates_unless_moved(expressions, grounded, tmp_path):
    run(grounded, expressions, tmp_path / "a", "split=testA", "regress=false")
    run(grounded, expressions, tmp_path / "b", "split=testA")
    chosen, moved = (
        json.loads((tmp_path / name / "predictions.json").read_text()) for name in "ab"
    )
    dataset = RefCOCODataset(expressions, "testA", TBKINProcessor.from_pretrained(grounded))
    candidates = dataset.candidates()
    for row in dataset.rows:
        box = torch.tensor(chosen[str(row["sentence_id"])])
        assert (candidates[row["image_id"]] - box).abs().amax(dim=1).min() < 1e-3
    assert chosen != moved


def test_the_training_split_is_refused_unless_told(expressions, grounded, tmp_path):
    with pytest.raises(ValueError, match=r"was trained on split 'train'.*seen=true"):
        run(grounded, expressions, tmp_path, "split=train")
    assert not list(tmp_path.iterdir())
    metrics = run(grounded, expressions, tmp_path, "split=train", "seen=true")
    assert metrics["protocol"]["seen_in_training"]["split_seen"] is True


def test_processes_batches_and_a_stop_change_nothing(expressions, grounded, tmp_path, monkeypatch):
    whole = run(grounded, expressions, tmp_path / "whole", "split=train", "seen=true")
    monkeypatch.setattr(running, "SMALLEST_SHARD", 16)
    asked = []
    rows = evaluation.REPORTS["grounding"].metric

    def stopping(*arguments):
        metric = rows(*arguments)
        old = metric.rows

        def counted(outputs, batch):
            asked.extend(batch["sentence_ids"].tolist())
            if len(asked) == 40:
                raise KeyboardInterrupt
            return old(outputs, batch)

        metric.rows = counted
        return metric

    report = evaluation.REPORTS["grounding"]
    changed = type(report)(**{**vars(report), "metric": stopping})
    words = ["split=train", "seen=true", "batch_size=8"]
    monkeypatch.setitem(evaluation.REPORTS, "grounding", changed)
    with pytest.raises(KeyboardInterrupt):
        run(grounded, expressions, tmp_path / "again", *words)
    monkeypatch.setitem(evaluation.REPORTS, "grounding", report)
    assert list((tmp_path / "again").glob("evaluating-*/shard-*.safetensors"))
    again = run(grounded, expressions, tmp_path / "again", *words)
    assert not list((tmp_path / "again").glob("evaluating-*"))
    assert again["mean_iou"] == pytest.approx(whole["mean_iou"])
    for key in ("accuracy@0.5", "sentences", "candidates"):
        assert again[key] == whole[key]


@pytest.mark.slow
def test_two_processes_say_what_one_says(expressions, grounded, tmp_path):
    one = run(grounded, expressions, tmp_path / "one", "split=testA")
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2"]
    command += ["--master_port", str(20000 + os.getpid() % 20000), "-m", "tbkin", "eval"]
    words = ["task=grounding", f"model={grounded}", f"data.root={expressions}", "split=testA"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    done = subprocess.run(
        [*command, *words, f"output={tmp_path / 'two'}", "batch_size=6"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert (tmp_path / "two" / "metrics.json").is_file(), done.stderr[-2000:]
    two = json.loads((tmp_path / "two" / "metrics.json").read_text())
    for key in ("accuracy@0.5", "accuracy@0.7", "mean_iou", "sentences"):
        assert two[key] == pytest.approx(one[key]), key
    assert two["protocol"] == one["protocol"]


def test_a_question_model_learns_to_ground_and_back(
    expressions, trained, tiny_root, tmp_path, capsys
):
    words = ["task=grounding", f"data.root={expressions}", f"init_from={trained}", "epochs=1"]
    train.main([*words, f"output_dir={tmp_path / 'm'}"])
    assert "new grounding_head" in capsys.readouterr().err
    seen = json.loads((tmp_path / "m" / "trained_on.json").read_text())
    assert [split["task"] for split in seen["splits"]] == ["vqa", "grounding"]
    with pytest.raises(ValueError, match="TBKINForGrounding; task=vqa needs a TBKINForQuestion"):
        evaluation.main([f"model={tmp_path / 'm'}", f"data.root={tiny_root.prepared}"])
    back = [f"data.root={tiny_root.prepared}", f"init_from={tmp_path / 'm'}", "epochs=1"]
    train.main([*back, f"output_dir={tmp_path / 'back'}"])
    assert "left over grounding_head" in capsys.readouterr().err


def test_questions_and_expressions_share_a_batch(expressions, tiny_root, together):
    processor = TBKINProcessor.from_pretrained(together.folder)
    roots = {"vqa": tiny_root.prepared, "grounding": expressions}
    dataset = QuestionsAndExpressions(roots, "val", processor, ["red", "2"])
    questions, last = len(dataset.questions), len(dataset) - 1
    batch = Collator(processor.tokenizer.pad_token_id, 2)([dataset[0], dataset[last]])
    assert batch["question_ids"].tolist() == [dataset.questions.rows[0]["question_id"], NO_ID]
    assert batch["sentence_ids"].tolist() == [NO_ID, dataset.expressions.rows[-1]["sentence_id"]]
    assert batch["label_valid"].tolist() == [True, False]
    assert not batch["rank_labels"][0].any()
    assert batch["rank_labels"][1].sum() == pytest.approx(1.0)
    assert not batch["labels"][1].any()
    assert len(dataset) == questions + len(dataset.expressions)


def test_one_model_of_both_tasks_scores_as_training_said(
    expressions, tiny_root, together, tmp_path
):
    best = together.run["best"]
    vqa = run(together.folder, tiny_root.prepared, tmp_path / "vqa", "split=val", task="vqa")
    assert vqa["overall"] == pytest.approx(100 * best["vqa_accuracy"])
    boxes = run(together.folder, expressions, tmp_path / "boxes", "split=val")
    assert boxes["accuracy@0.5"] == pytest.approx(best["grounding_accuracy"])
    expected = (best["vqa_accuracy"] + best["grounding_accuracy"]) / 2
    assert best["mean_accuracy"] == pytest.approx(expected)
    with pytest.raises(ValueError, match="unknown task 'multitask'"):
        run(together.folder, expressions, tmp_path, task="multitask")


def test_both_heads_learn(together):
    lines = (together.folder / "log.jsonl").read_text().splitlines()
    steps = [line for line in map(json.loads, lines) if "loss" in line]
    assert len(steps) > 20
    for name in ("answer", "grounding_rank", "grounding_box"):
        first, last = (sum(step[name] for step in part) for part in (steps[:5], steps[-5:]))
        assert last < first, name


def test_a_misspelled_part_is_an_error(expressions):
    with pytest.raises(ValueError, match="unknown part of task multitask"):
        train.main(["task=multitask", f"data.roots={{refcoco: {expressions}}}"])
    with pytest.raises(ValueError, match=r"unknown part of task vqa in data\.roots 'vqa'"):
        train.main([f"data.roots={{vqa: {expressions}}}"])


def test_boxes_may_be_chosen_otherwise_than_in_training(expressions, grounded, tmp_path, capsys):
    """Train on annotated boxes, test on detections: the features are computed alike."""
    other = tmp_path / "other"
    shutil.copytree(expressions, other)
    manifest = json.loads((other / "regions" / "manifest.json").read_text())
    manifest["fingerprint"]["boxes"] = "grid 3x3"
    (other / "regions" / "manifest.json").write_text(json.dumps(manifest))
    metrics = run(grounded, other, tmp_path / "out", "split=testA")
    (note,) = [note for note in metrics["protocol"]["notes"] if "other boxes" in note]
    assert note in capsys.readouterr().out
    train.main(["task=grounding", f"data.root={other}", f"init_from={grounded}", "epochs=1",
                f"output_dir={tmp_path / 'm'}"])  # fmt: skip
    assert TBKINProcessor.from_pretrained(tmp_path / "m").fingerprint["boxes"] == "grid 3x3"


def test_parts_with_regions_of_two_detectors_are_refused(
    tiny_root, expressions, together, tmp_path
):
    other = tmp_path / "other"
    shutil.copytree(expressions, other)
    manifest = json.loads((other / "regions" / "manifest.json").read_text())
    manifest["fingerprint"]["extractor"] = "pixels 4x4"
    (other / "regions" / "manifest.json").write_text(json.dumps(manifest))
    processor = TBKINProcessor.from_pretrained(together.folder)
    roots = {"vqa": tiny_root.prepared, "grounding": other}
    with pytest.raises(ValueError, match="region features of another kind"):
        QuestionsAndExpressions(roots, "val", processor, [])


def test_a_direct_head_says_a_box_without_choosing(expressions, tmp_path):
    words = ["task=grounding", f"data.root={expressions}", f"output_dir={tmp_path / 'm'}"]
    head = ["model.grounding_box=direct", "objectives={grounding_direct: {}}", "epochs=4"]
    head.append("log_every=1")
    train.main([*words, *head, *SMALL])
    assert any("direct_box_head" in name for name in load_file(tmp_path / "m/model.safetensors"))
    metrics = run(tmp_path / "m", expressions, tmp_path / "out", "split=testA")
    assert metrics["mean_iou"] > 0
    lines = [json.loads(line) for line in (tmp_path / "m" / "log.jsonl").open()]
    losses = [line["grounding_direct"] for line in lines if "loss" in line]
    assert sum(losses[-5:]) < sum(losses[:5])
    with pytest.raises(ValueError, match=r"regress=false: .* says boxes directly"):
        run(tmp_path / "m", expressions, tmp_path / "out", "split=testA", "regress=false")
