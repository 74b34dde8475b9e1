"""Official caption files -> prepared folder."""

import gzip
import json
import shutil
from pathlib import Path

import pytest

from data_prep import pretraining
from tbkin.cli import main
from tbkin.config import run_command
from tbkin.data.features import RegionStore
from tbkin.data.prepared import find_prepared, read_split
from tbkin.graphs.knowledge import CooccurrencePrior, build_prior
from tbkin.graphs.scene_graph import read_scene_graphs
from tbkin.parsers import load_parser

REAL = Path(__file__).parents[2].parent / "shared" / "data" / "real_mini"


@pytest.fixture
def words(tiny_root, tmp_path):
    return [
        f"data.root={tiny_root.official}",
        f"output={tmp_path / 'p'}",
        f"regions={tiny_root.prepared / 'regions'}",
        "parser=word_rules",
        "min_count=1",
    ]


def test_everything_in_the_files_arrives(words, tiny_root, tmp_path, capsys):
    pretraining.main(words)
    assert "captions parsed by word_rules" in capsys.readouterr().out
    folder = tmp_path / "p"
    record = json.loads((folder / "dataset.json").read_text())
    assert record["task"] == "pretraining"
    assert {split: counts["captions"] for split, counts in record["splits"].items()} == {
        "train": 160,
        "val": 20,
        "test": 20,
    }
    assert record["detector"]["name"] == "detected"  # of the folder that the regions are from
    assert record["box_source"].startswith("detections: detections_")
    official = json.loads((tiny_root.official / "annotations/captions_val2014.json").read_text())
    assert read_split(folder, "val") == [
        {"caption_id": one["id"], "image_id": one["image_id"], "caption": one["caption"]}
        for one in official["annotations"]
    ]
    parse = load_parser("word_rules")
    for split in ("train", "val", "test"):
        captions = [row["caption"] for row in read_split(folder, split)]
        graphs = list(read_scene_graphs(folder / "graphs" / f"{split}.jsonl"))
        assert graphs == [parse(caption) for caption in captions]
        if split == "train":  # the prior has not seen the others
            assert CooccurrencePrior.load(folder / "prior.json") == build_prior(graphs)
    assert find_prepared(folder, "pretraining") == folder


def test_a_store_is_taken_over_without_a_second_copy(words, tiny_root, tmp_path):
    pretraining.main(words)
    first = tiny_root.prepared / "regions" / "shard-00000.safetensors"
    assert first.samefile(tmp_path / "p" / "regions" / first.name)
    shutil.rmtree(tmp_path / "p")
    assert len(RegionStore(tiny_root.prepared / "regions")) == 40


def test_regions_are_made_where_there_are_none(tiny_root, words, tmp_path):
    words = [word for word in words if not word.startswith("regions=")]
    pretraining.main([*words, "detector=detected"])
    made, known = (
        RegionStore(folder / "regions") for folder in (tmp_path / "p", tiny_root.prepared)
    )
    assert made.fingerprint == known.fingerprint
    assert made.places.keys() == known.places.keys()
    assert not list(tmp_path.glob("p.regions*"))


def test_a_file_that_names_its_splits_and_files_one_by_one(tiny_root, words, tmp_path):
    path = tmp_path / "all.json.gz"
    karpathy = tiny_root.official / "karpathy" / "dataset_coco.json"
    path.write_bytes(gzip.compress(karpathy.read_bytes()))
    words = [word for word in words if not word.startswith("data.root=")]
    files = [f"data.{split}_captions={path}" for split in ("train", "val")]
    pretraining.main([*words, *files])
    assert [len(read_split(tmp_path / "p", split)) for split in ("train", "val")] == [160, 20]


def test_without_a_validation_file_pictures_are_held_out(tiny_root, words, tmp_path):
    root = tmp_path / "tiny"
    shutil.copytree(tiny_root.official, root)
    (root / "annotations" / "captions_val2014.json").unlink()
    pretraining.main([f"data.root={root}", *words[1:], "val_share=0.25"])
    rows = [read_split(tmp_path / "p", split) for split in ("train", "val")]
    pictures = [{row["image_id"] for row in part} for part in rows]
    assert [len(part) for part in pictures] == [24, 8]
    assert not pictures[0] & pictures[1]


def test_errors_are_one_line_and_leave_nothing(words, tiny_root, tmp_path, capsys):
    def fails(words, *parts):
        assert run_command(main, ["prep", "pretraining", *words]) == 2
        error = capsys.readouterr().err
        for part in parts:
            assert part in error
        assert not (tmp_path / "p").exists()

    fails([], "needs data.root=DIR")
    fails([*words, "parser=mine"], "unknown parser 'mine'")
    fails([f"data.root={tmp_path}", *words[1:]], "captions_train2014.json", "data.train_captions")
    fails([*words, f"data.train_captions={tmp_path}/no.json"], "data.train_captions: no file")
    path = tmp_path / "captions.json"
    entry = {"image_id": 999, "caption": "A dog.", "id": 1}
    path.write_text(json.dumps([entry]))
    named = [word for word in words if not word.startswith("data.root=")]
    files = [f"data.{split}_captions={path}" for split in ("train", "val")]
    fails([*named, *files], "lacks 1 of 1 pictures (first: 999)", "leave regions= out")
    path.write_text(json.dumps([entry, entry]))
    fails([*named, *files], "caption_id 1 occurs twice")
    path.write_text(json.dumps([{"image_id": "dog", "caption": "A dog."}]))
    fails([*named, *files], "has no number")


def test_what_is_prepared_for_another_task_is_told(tiny_root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"for pretraining .* is for vqa.*tbkin prep pretr"):
        find_prepared(tiny_root.prepared, "pretraining")


@pytest.mark.skipif(not REAL.is_dir(), reason="the real pictures are not at hand")
def test_real_captions_go_through(tmp_path):
    files = sorted(REAL.rglob("captions*.json"))
    output = tmp_path / "p"
    words = [f"data.{s}_captions={path}" for s, path in zip(("train", "val"), files, strict=False)]
    pretraining.main([*words, f"data.images=[{REAL}]", f"output={output}"])
    assert len(read_split(output, "train")) > 50
    assert CooccurrencePrior.load(output / "prior.json").attr_count


def test_regions_of_another_detector_are_refused(words, tiny_root, tmp_path):
    store = tmp_path / "regions"  # beside no record that says who made it
    shutil.copytree(tiny_root.prepared / "regions", store)
    words = [word for word in words if not word.startswith("regions=")] + [f"regions={store}"]
    with pytest.raises(ValueError, match=r"were not made by detector=grid: .*Name the detector"):
        pretraining.main(words)
    assert not (tmp_path / "p").exists()
    pretraining.main([*words, "detector=detected"])
    record = json.loads((tmp_path / "p" / "dataset.json").read_text())
    assert record["detector"]["name"] == "detected"


def test_a_picture_is_not_learned_from_and_judged_by(words, tiny_root, tmp_path):
    captions = tiny_root.official / "annotations" / "captions_train2014.json"
    files = [f"data.train_captions={captions}", f"data.val_captions={captions}"]
    with pytest.raises(ValueError, match=r"32 pictures of split val are in train as well"):
        pretraining.main([*words, *files])
    assert not (tmp_path / "p").exists()


def test_a_caption_may_hold_any_line_separator(words, tiny_root, tmp_path):
    annotations = tiny_root.official / "annotations"
    content = json.loads((annotations / "captions_train2014.json").read_text())
    said = "a red circle\u2028and a\u0085blue\u2029star"
    content["annotations"][0]["caption"] = said
    changed = tmp_path / "captions_train2014.json"
    changed.write_text(json.dumps(content))
    val = annotations / "captions_val2014.json"
    pretraining.main([*words, f"data.train_captions={changed}", f"data.val_captions={val}"])
    assert read_split(tmp_path / "p", "train")[0]["caption"] == said


def test_where_a_file_is_named_none_is_looked_for(tmp_path):
    (tmp_path / "val.json").touch()
    (tmp_path / "captions_train2014.json").touch()
    files = pretraining.CaptionFiles(root=str(tmp_path), val_captions=str(tmp_path / "val.json"))
    with pytest.raises(
        FileNotFoundError,
        match=r"no training captions named, and once a file is named none is looked for",
    ):
        pretraining.find_files(files)
    files.val_captions = ""
    assert set(pretraining.find_files(files)) == {"train"}
