"""Official VQA files -> prepared folder."""

import gzip
import hashlib
import json
import shutil
from pathlib import Path

import pytest

from data_prep import vqa
from tbkin import evaluation, train
from tbkin.data.features import RegionStore
from tbkin.data.prepared import read_split

REAL = Path(__file__).parents[2].parent / "shared" / "data" / "real_mini"


def test_everything_in_the_files_arrives(tiny_root):
    record = json.loads((tiny_root.prepared / "dataset.json").read_text())
    assert {split: counts["pictures"] for split, counts in record["splits"].items()} == {
        "train": 32,
        "val": 4,
        "test": 4,
    }
    path = tiny_root.official / "vqa" / "v2_OpenEnded_mscoco_val2014_questions.json"
    assert (
        record["files"]["val_questions"]["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    )
    questions = json.loads(path.read_text())["questions"]
    rows = {row["question_id"]: row for row in read_split(tiny_root.prepared, "val")}
    assert {q["question_id"]: q["question"] for q in questions} == {
        key: row["question"] for key, row in rows.items()
    }
    assert all(len(row["answers"]) == 10 for row in rows.values())
    assert len(RegionStore(tiny_root.prepared / "regions")) == 40


def test_files_named_one_by_one_and_gzip(tiny_root, tmp_path):
    source = tiny_root.official / "vqa"
    words = [f"data.images=[{tiny_root.official / 'images'}]", f"output={tmp_path / 'p'}"]
    for split, subset in (("train", "train2014"), ("val", "val2014")):
        for kind, name in (
            ("questions", f"v2_OpenEnded_mscoco_{subset}_questions.json"),
            ("annotations", f"v2_mscoco_{subset}_annotations.json"),
        ):
            path = tmp_path / f"{split}-{kind}.json.gz"
            path.write_bytes(gzip.compress((source / name).read_bytes()))
            words.append(f"data.{split}_{kind}={path}")
    vqa.main([*words, "min_answer_count=2"])
    assert (tmp_path / "p" / "train.jsonl").read_text() == (
        tiny_root.prepared / "train.jsonl"
    ).read_text()


def test_without_a_validation_file_pictures_are_held_out(tiny_root, tmp_path):
    root = tmp_path / "tiny"
    shutil.copytree(tiny_root.official, root)
    for path in (root / "vqa").glob("*val2014*"):
        path.unlink()
    vqa.main(
        [f"data.root={root}", f"output={tmp_path / 'p'}", "min_answer_count=2", "val_share=0.25"]
    )
    train_rows, val_rows = (read_split(tmp_path / "p", split) for split in ("train", "val"))
    train_ids, val_ids = ({row["image_id"] for row in rows} for rows in (train_rows, val_rows))
    assert (len(train_ids), len(val_ids)) == (24, 8)
    assert not train_ids & val_ids
    assert json.loads((tmp_path / "p" / "dataset.json").read_text())["val_held_out_from_train"]


def test_what_is_there_is_left_alone(tiny_root, capsys):
    before = (tiny_root.prepared / "dataset.json").stat().st_mtime_ns
    vqa.main([f"data.root={tiny_root.official}", f"output={tiny_root.prepared}"])
    assert "overwrite=true" in capsys.readouterr().out
    assert (tiny_root.prepared / "dataset.json").stat().st_mtime_ns == before


@pytest.mark.skipif(not REAL.is_dir(), reason="the real pictures are not at hand")
@pytest.mark.parametrize("detector", ["grid", "annotated"])
def test_real_pictures_and_official_files_go_through(detector, tmp_path, capsys):
    prepared = tmp_path / "prepared"
    vqa.main(
        [
            f"data.root={REAL}",
            f"output={prepared}",
            f"detector.name={detector}",
            "min_answer_count=3",
        ]
    )
    record = json.loads((prepared / "dataset.json").read_text())
    assert sum(counts["questions"] for counts in record["splits"].values()) == 281
    assert sum(counts["pictures"] for counts in record["splits"].values()) == 185
    store = RegionStore(prepared / "regions")
    labels = set(store.manifest["labels"])
    assert ("person" in labels) == (detector == "annotated")
    config = Path(__file__).parents[2] / "configs" / "vqa.yaml"
    words = [str(config), f"data.root={prepared}", f"output_dir={tmp_path / 'm'}", "epochs=1"]
    train.main([*words, "model.num_hidden_layers=1", "model.hidden_size=32"])
    capsys.readouterr()
    evaluation.main([f"model={tmp_path / 'm'}", f"data.root={prepared}"])
    printed = capsys.readouterr().out
    assert "overall" in printed
    assert "baseline" in printed
