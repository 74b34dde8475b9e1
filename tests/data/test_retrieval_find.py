"""Which data set lies in a folder."""

import json
from pathlib import Path

import pytest

from tbkin.data.retrieval_find import find_retrieval, named_files

ENTRY = [{"image": "a.jpg", "caption": "a", "image_id": 1}]


def touch(*paths):
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(ENTRY))


def test_several_data_sets_must_be_told_apart(tmp_path):
    touch(tmp_path / "dataset_coco.json", tmp_path / "f/dataset_flickr30k.json")
    with pytest.raises(ValueError, match=r"holds coco and flickr30k; say dataset=coco, for inst"):
        find_retrieval(tmp_path)
    assert find_retrieval(tmp_path, "flickr30k").dataset == "flickr30k"
    with pytest.raises(FileNotFoundError, match=r"no cub in .*; there is: coco, flickr30k\."):
        find_retrieval(tmp_path, "cub")


def test_of_one_data_set_the_first_layout_counts(tmp_path):
    touch(tmp_path / "dataset_coco.json", tmp_path / "coco_train.json", tmp_path / "train.json")
    assert find_retrieval(tmp_path).layout == "karpathy"
    lists = find_retrieval(tmp_path, layout="lists")
    assert (lists.dataset, list(lists.files.values())) == ("coco", [tmp_path / "coco_train.json"])
    with pytest.raises(ValueError, match=r"unknown layout 'list'; choose from: auto, classes"):
        find_retrieval(tmp_path, layout="list")


def test_two_of_a_kind_are_refused(tmp_path):
    touch(tmp_path / "a/train.json", tmp_path / "b/train.json")
    with pytest.raises(ValueError, match=r"several of one kind \(.*a/train\.json, .*b/train\.json"):
        find_retrieval(tmp_path)


def test_nothing_there(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no pictures with captions in .* Name other file"):
        find_retrieval(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"no folder .*x; name the folder"):
        find_retrieval(tmp_path / "x")


def test_files_that_are_named(tmp_path):
    touch(tmp_path / "a.json", tmp_path / "dataset_flickr8k.json")
    a, karpathy = str(tmp_path / "a.json"), str(tmp_path / "dataset_flickr8k.json")
    source = named_files({"captions": "", "train": a, "val": a}, "mine")
    assert (source.dataset, list(source.files)) == ("mine", ["train", "val"])
    assert named_files({"captions": karpathy})[:2] == ("flickr8k", "karpathy")
    official = {split: str(tmp_path / f"captions_{split}2017.json") for split in ("train", "val")}
    for path in official.values():
        Path(path).write_text("{}")
    assert named_files(official).dataset == "coco"
    assert named_files(official | {"test": a}).dataset == ""
    assert named_files(official, "mine").dataset == "mine"
    with pytest.raises(FileNotFoundError, match=r"data\.test: no file b\.json"):
        named_files({"test": "b.json"})
    with pytest.raises(ValueError, match=r"data\.captions is a file for all splits"):
        named_files({"captions": a, "test": a})
