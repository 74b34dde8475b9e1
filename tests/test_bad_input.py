"""Bad input: one clear line that names the file and the mend, exit code 2, nothing half-written."""

import json
import shutil

import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from tbkin.cli import main
from tbkin.config import run_command


def fails(words, capsys, *parts):
    """Run a command that must fail; every part must be in its one line."""
    capsys.readouterr()
    assert run_command(main, words) == 2
    error = capsys.readouterr().err
    lines = [line for line in error.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, error
    for part in parts:
        assert part in lines[0]
    return lines[0]


@pytest.fixture
def official(tiny_root, tmp_path):
    """A copy of the world that a test may spoil."""
    shutil.copytree(tiny_root.official, tmp_path / "tiny")
    return tmp_path / "tiny"


def prep(official, output):
    return ["prep", "vqa", f"data.root={official}", f"output={output}", "min_answer_count=1"]


def nothing_written(output):
    assert not output.exists()
    assert not list(output.parent.glob(f"{output.name}*"))


def test_missing_picture(official, tmp_path, capsys):
    next((official / "images" / "val2014").glob("*.jpg")).unlink()
    output = tmp_path / "prepared"
    fails(prep(official, output), capsys, "1 of 40 pictures are not in", "data.images=[DIR,DIR]")
    nothing_written(output)


def test_corrupt_picture(official, tmp_path, capsys):
    path = next((official / "images" / "train2014").glob("*.jpg"))
    path.write_bytes(path.read_bytes()[:200])
    output = tmp_path / "prepared"
    fails(prep(official, output), capsys, path.name, "copy it again")
    nothing_written(output)


def test_question_file_without_questions(official, tmp_path, capsys):
    path = official / "vqa" / "v2_OpenEnded_mscoco_train2014_questions.json"
    path.write_text('{"info": {}}')
    output = tmp_path / "prepared"
    fails(prep(official, output), capsys, path.name, "questions")
    nothing_written(output)


def test_annotation_whose_question_is_missing(official, tmp_path, capsys):
    path = official / "vqa" / "v2_OpenEnded_mscoco_train2014_questions.json"
    content = json.loads(path.read_text())
    gone = content["questions"].pop()["question_id"]
    path.write_text(json.dumps(content))
    output = tmp_path / "prepared"
    fails(prep(official, output), capsys, str(gone), "v2_mscoco_train2014_annotations.json")
    nothing_written(output)


def test_no_questions_at_all(official, tmp_path, capsys):
    path = official / "vqa" / "v2_OpenEnded_mscoco_val2014_questions.json"
    path.write_text('{"questions": []}')
    notes = official / "vqa" / "v2_mscoco_val2014_annotations.json"
    notes.write_text('{"annotations": []}')
    output = tmp_path / "prepared"
    fails(prep(official, output), capsys, path.name)
    nothing_written(output)


def test_named_file_that_is_not_there(official, tmp_path, capsys):
    words = [*prep(official, tmp_path / "p"), "data.train_questions=nowhere.json"]
    fails(words, capsys, "data.train_questions: no file nowhere.json")


def test_a_broken_preparation_keeps_the_old_one(official, tmp_path, capsys):
    output = tmp_path / "prepared"
    assert run_command(main, prep(official, output)) == 0
    before = (output / "dataset.json").read_text()
    path = next((official / "images" / "train2014").glob("*.jpg"))
    path.write_bytes(b"not a picture")
    fails([*prep(official, output), "overwrite=true"], capsys, path.name)
    assert (output / "dataset.json").read_text() == before
    assert [found.name for found in tmp_path.glob("prepared*")] == ["prepared"]


@pytest.fixture
def prepared(tiny_root, tmp_path):
    shutil.copytree(tiny_root.prepared, tmp_path / "prepared")
    return tmp_path / "prepared"


def test_unprepared_root(tmp_path, capsys):
    fails(["train", f"data.root={tmp_path}"], capsys, f"tbkin prep vqa data.root={tmp_path}")


def test_unknown_setting_and_unknown_model_setting(prepared, tmp_path, capsys):
    output = tmp_path / "out"
    words = ["train", f"data.root={prepared}", f"output_dir={output}"]
    fails([*words, "epoch=3"], capsys, "unknown setting 'epoch'; did you mean 'epochs'?")
    line = "TBKINConfig has no setting 'hiden_size'; did you mean 'hidden_size'?"
    fails([*words, "model.hiden_size=8"], capsys, line)
    fails([*words, "model.hidden_size=30"], capsys, "4 does not divide 30")
    fails([*words, "model.selection_rule=best"], capsys, "selection_rule", "rel_max")
    nothing_written(output)


def test_empty_and_unknown_split(prepared, tmp_path, capsys):
    output = tmp_path / "out"
    words = ["train", f"data.root={prepared}", f"output_dir={output}"]
    fails([*words, "data.train_split=trian"], capsys, "no split 'trian'", "test, train, val")
    (prepared / "val.jsonl").write_text("")
    fails(words, capsys, "split 'val'", str(prepared), "is empty")
    nothing_written(output)


def test_nan_features(prepared, tmp_path, capsys):
    shard = next((prepared / "regions").glob("*.safetensors"))
    tensors = load_file(shard)
    with safe_open(shard, framework="pt") as file:
        metadata = file.metadata()
    tensors["features"] = torch.full_like(tensors["features"], float("nan"))
    save_file(tensors, shard, metadata)
    output = tmp_path / "out"
    words = ["train", f"data.root={prepared}", f"output_dir={output}"]
    fails(words, capsys, "NaN", "extract them again")
    nothing_written(output)


def test_other_features_than_the_model_knows(trained, prepared, tmp_path, capsys):
    manifest = prepared / "regions" / "manifest.json"
    content = json.loads(manifest.read_text())
    content["fingerprint"]["extractor"] = "resnet"
    manifest.write_text(json.dumps(content))
    words = ["eval", f"model={trained}", f"data.root={prepared}", f"output={tmp_path / 'o'}"]
    fails(words, capsys, "expected 'pixels 8x8', got 'resnet'")
    nothing_written(tmp_path / "o")


def test_predicting_without_a_picture_or_a_model(trained, tmp_path, capsys):
    ask = ["predict", "question=What?", f"model={trained}"]
    fails([*ask, "image=nowhere.jpg"], capsys, "no picture nowhere.jpg")
    (tmp_path / "bad.png").write_bytes(b"no picture")
    fails([*ask, f"image={tmp_path / 'bad.png'}"], capsys, "bad.png", "not a readable picture")
    Image.new("RGB", (8, 8)).save(tmp_path / "1.png")
    words = ["predict", "question=What?", f"image={tmp_path / '1.png'}", "model=nowhere"]
    fails(words, capsys, "no checkpoint in nowhere", "tbkin train")
