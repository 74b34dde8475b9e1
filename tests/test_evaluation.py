"""Evaluation of a checkpoint: files in the benchmark's format, the score and its baselines."""

import json

import pytest

import data_prep.pretraining
from tbkin import evaluation, scoring, train
from tbkin.model.selection import BLOCKS


def run(trained, tiny_root, output, *more):
    evaluation.main(
        [f"model={trained}", f"data.root={tiny_root.prepared}", f"output={output}", *more]
    )
    return json.loads((output / "metrics.json").read_text())


def test_predictions_answer_every_question_and_score_the_same_elsewhere(
    trained, tiny_root, tmp_path, capsys
):
    metrics = run(trained, tiny_root, tmp_path, "split=test")
    predictions = json.loads((tmp_path / "predictions.json").read_text())
    assert [sorted(row) for row in predictions] == [["answer", "question_id"]] * len(predictions)
    assert metrics["questions"] == len(predictions) == 20
    capsys.readouterr()
    files = tiny_root.official / "vqa"
    scoring.main(
        [
            "vqa",
            f"predictions={tmp_path / 'predictions.json'}",
            f"questions={files / 'v2_OpenEnded_mscoco_test2015_questions.json'}",
            f"annotations={files / 'v2_mscoco_test2015_annotations.json'}",
            "json=true",
        ]
    )
    scored = json.loads(capsys.readouterr().out)
    for key in ("overall", "per_answer_type", "per_question_type", "questions", "rule"):
        assert scored[key] == metrics[key]


def test_baselines_and_selection_stand_beside_the_score(trained, tiny_root, tmp_path, capsys):
    metrics = run(trained, tiny_root, tmp_path, "split=val")
    printed = capsys.readouterr().out
    assert metrics["baselines"]["from"] == "train"
    assert "baseline" in printed
    assert 0 < metrics["selection"]["attention_kept"][0] <= 1
    assert metrics["data"]["regions"]["extractor"] == "pixels 8x8"
    by_block = metrics["selection"]["attention_kept_by_block"]
    assert set(by_block) == set(BLOCKS)
    assert len({min(shares) for shares in by_block.values()}) > 1


def test_batches_of_other_sizes_weigh_by_their_pairs(trained, tiny_root, tmp_path):
    """Shares are sums over sums: how a split is cut into batches does not matter."""
    small = run(trained, tiny_root, tmp_path / "a", "batch_size=7")["selection"]
    large = run(trained, tiny_root, tmp_path / "b", "batch_size=64")["selection"]
    assert small["attention_kept"] == pytest.approx(large["attention_kept"], abs=1e-4)


def test_a_pretrained_model_restores_the_same_things_every_time(
    trained, tiny_root, tmp_path, capsys
):
    regions = f"regions={tiny_root.prepared / 'regions'}"
    root = f"data.root={tmp_path / 'captions'}"
    data_prep.pretraining.main(
        [
            f"data.root={tiny_root.official}",
            f"output={tmp_path / 'captions'}",
            regions,
            "parser=word_rules",
        ]
    )
    words = ["task=pretraining", root, "data.parser=word_rules", "epochs=1"]
    train.main([*words, f"output_dir={tmp_path / 'm'}", "data.masking=random"])
    said = json.loads((tmp_path / "m" / "run.json").read_text())["best"]
    capsys.readouterr()
    words = ["task=pretraining", root, f"model={tmp_path / 'm'}", "batch_size=7"]
    evaluation.main([*words, "data.masking=random", "json=true"])
    printed = json.loads(capsys.readouterr().out)
    written = json.loads((tmp_path / "m" / "eval-pretraining-val" / "metrics.json").read_text())
    assert printed == written
    assert printed["captions"] == 20
    for name in ("masked_word_accuracy", "match_accuracy", "pretraining_accuracy"):
        assert printed[name] == pytest.approx(said[name]), name
    evaluation.main(words)  # other masking: other things are asked
    table = capsys.readouterr().out
    assert "20 captions, masking graph" in table
    assert "masked_object_accuracy" in table
    with pytest.raises(ValueError, match="holds a TBKINForPreTraining; task=vqa needs a TBKINForQ"):
        evaluation.main([f"model={tmp_path / 'm'}", root])
    with pytest.raises(FileNotFoundError, match="is for pretraining"):
        evaluation.main([f"model={trained}", root])


def test_batch_size_does_not_change_a_score(trained, tiny_root, tmp_path):
    small = run(trained, tiny_root, tmp_path / "a", "batch_size=3")
    large = run(trained, tiny_root, tmp_path / "b", "batch_size=64")
    assert small["per_question_type"] == large["per_question_type"]


def test_best_checkpoint_scores_what_training_said(trained, tiny_root, tmp_path):
    said = json.loads((trained / "run.json").read_text())["best"]["vqa_accuracy"]
    assert run(trained, tiny_root, tmp_path, "split=val")["overall"] == pytest.approx(100 * said)


def test_a_split_without_answers_is_answered(trained, tiny_root, tmp_path):
    prepared = tmp_path / "prepared"
    prepared.mkdir()
    for path in tiny_root.prepared.iterdir():
        (prepared / path.name).symlink_to(path)
    rows = [json.loads(line) for line in (prepared / "test.jsonl").read_text().splitlines()]
    kept = ("question_id", "image_id", "question")
    lines = [json.dumps({key: row[key] for key in kept}) for row in rows]
    (prepared / "test-dev.jsonl").write_text("\n".join(lines))
    output = tmp_path / "out"
    evaluation.main(
        [f"model={trained}", f"data.root={prepared}", "split=test-dev", f"output={output}"]
    )
    assert len(json.loads((output / "predictions.json").read_text())) == len(rows)
    assert "overall" not in json.loads((output / "metrics.json").read_text())
