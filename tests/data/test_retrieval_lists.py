"""Karpathy's files and other lists -> entries."""

import json
from pathlib import Path

import pytest

from tbkin.data.retrieval_files import Source
from tbkin.data.retrieval_find import find_retrieval, read_retrieval
from tbkin.data.retrieval_lists import read_lists

SHARED = Path(__file__).resolve().parents[3] / "shared/data"


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def karpathy(path, images, **first):
    """``images``: (file name, split, captions) each; ``first`` goes into each picture."""
    entries, sentid = [], 100
    for imgid, (name, split, captions) in enumerate(images):
        sentences = [
            {"raw": said, "tokens": said.split(), "imgid": imgid, "sentid": sentid + n}
            for n, said in enumerate(captions)
        ]
        sentid += len(captions)
        own = {key: value[imgid] for key, value in first.items()}
        entries.append({"filename": name, "imgid": imgid, "split": split, "sentences": sentences})
        entries[-1] |= own
    return write(path, {"images": entries, "dataset": "any"})


def splits_of(source, **others):
    return read_retrieval(source, **others).splits


def brief(rows):
    return [(row["image_id"], row["caption_id"], row["caption"]) for row in rows]


def test_karpathys_coco(tmp_path):
    path = karpathy(
        tmp_path / "dataset_coco.json",
        [
            ("COCO_val2014_000000000009.jpg", "restval", ["r"]),
            ("COCO_train2014_000000000005.jpg", "train", ["a", "b"]),
            ("COCO_val2014_000000000042.jpg", "test", [str(n) for n in range(6)]),
        ],
        cocoid=[9, 5, 42],
    )
    source = find_retrieval(tmp_path)
    assert source == Source("coco", "karpathy", {"captions": path}, official=True)
    found = read_retrieval(source)
    assert brief(found.splits["train"]) == [(9, 100, "r"), (5, 101, "a"), (5, 102, "b")]
    assert brief(found.splits["test"]) == [(42, 103 + n, str(n)) for n in range(5)]
    assert found.left_out == {"captions": 1}
    assert found.pictures[5] == "COCO_train2014_000000000005.jpg"
    without = splits_of(source, restval=False, captions=0)
    assert brief(without["train"]) == [(5, 101, "a"), (5, 102, "b")]
    assert len(without["test"]) == 6


def test_karpathys_flickr_is_numbered_by_its_names(tmp_path):
    karpathy(
        tmp_path / "dataset_flickr30k.json",
        [("1000092795.jpg", "train", ["a"]), ("36979.jpg", "val", ["b"])],
    )
    found = read_retrieval(find_retrieval(tmp_path))
    assert (found.source.dataset, found.numbered_by) == ("flickr30k", "name")
    assert brief(found.splits["train"]) == [(1000092795, 100, "a")]
    assert brief(found.splits["val"]) == [(36979, 101, "b")]


def test_albefs_lists(tmp_path):
    train = [
        {"image": "val2014/COCO_val2014_000000000007.jpg", "caption": "a", "image_id": "coco_7"},
        {"image": "train2014/COCO_train2014_000000000008.jpg", "caption": "b", "image_id": "x_8"},
        {"image": "val2014/COCO_val2014_000000000007.jpg", "caption": "c", "image_id": "coco_7"},
    ]
    test = [{"image": "val2014/COCO_val2014_000000000042.jpg", "caption": ["d", "e"]}]
    write(tmp_path / "data/coco_train.json", train)
    write(tmp_path / "data/coco_test.json", test)
    write(tmp_path / "data/vqa_train.json", [{"question": "?"}])  # ALBEF's, of another task
    found = read_retrieval(find_retrieval(tmp_path))
    assert (found.source.dataset, found.source.official) == ("coco", True)
    assert brief(found.splits["train"]) == [(7, 0, "a"), (7, 1, "c"), (8, 2, "b")]
    assert brief(found.splits["test"]) == [(42, 3, "d"), (42, 4, "e")]
    assert found.pictures[8] == "train2014/COCO_train2014_000000000008.jpg"


def test_cusas_lists_are_cocos_by_their_pictures(tmp_path):
    name = "COCO_val2014_000000000042.jpg"
    entry = {"image_path": f"./pics/{name}", "caption": "a", "image_id": name}
    write(tmp_path / "new_val.json", [entry, entry | {"caption": "b"}])
    found = read_retrieval(find_retrieval(tmp_path))
    assert (found.source.dataset, found.source.official) == ("coco", False)
    assert brief(found.splits["val"]) == [(42, 0, "a"), (42, 1, "b")]
    assert found.pictures == {42: f"pics/{name}"}
    write(tmp_path / "new_val.json", [entry, entry | {"image_path": "pics/my.jpg"}])
    assert read_retrieval(find_retrieval(tmp_path)).source.dataset == ""


def test_cocos_own_captions(tmp_path):
    # Captions of a picture are scattered there, and pictures go by their numbers alone.
    content = {
        "images": [{"id": 5, "file_name": "5.jpg"}, {"id": 6, "file_name": "6.jpg"}],
        "annotations": [
            {"image_id": 5, "id": 31, "caption": "a"},
            {"image_id": 6, "id": 30, "caption": "b"},
            {"image_id": 5, "id": 29, "caption": "c"},
        ],
    }
    path = write(tmp_path / "captions_train2014.json", content)
    found = read_retrieval(Source("", "lists", {"train": path}))
    assert brief(found.splits["train"]) == [(5, 31, "a"), (5, 29, "c"), (6, 30, "b")]
    assert found.pictures == {5: "", 6: ""}


def test_a_table_of_ones_own(tmp_path):
    table = """image,text,split,identity
a/cat.jpg,"A cat, asleep",train,3
a/dog.jpg,A dog,val,4
a/cat.jpg,Another,train,3
"""
    write(tmp_path / "captions.csv", table)
    found = read_retrieval(find_retrieval(tmp_path, "album"), column="text")
    assert found.source.dataset == "album"
    assert found.splits == {
        "train": [
            {"caption_id": 0, "image_id": 0, "identity": 3, "caption": "A cat, asleep"},
            {"caption_id": 1, "image_id": 0, "identity": 3, "caption": "Another"},
        ],
        "val": [{"caption_id": 2, "image_id": 1, "identity": 4, "caption": "A dog"}],
    }
    assert found.identities
    write(tmp_path / "captions.csv", table.replace(",4", ",four"))
    with pytest.raises(ValueError, match=r"row 2: identity must be a whole number, got 'four'"):
        read_retrieval(find_retrieval(tmp_path), column="text")


def test_a_file_of_several_splits_named_for_one(tmp_path):
    path = write(tmp_path / "a.csv", "image,caption,split\n1.jpg,a,restval\n2.jpg,b,dev\n")
    _, entries = read_lists(Source("", "lists", {"train": path, "val": path}))
    assert [(entry.split, entry.caption) for entry in entries] == [("restval", "a"), ("dev", "b")]
    with pytest.raises(ValueError, match=r"a\.csv holds no captions of split 'test'"):
        read_lists(Source("", "lists", {"test": path}))
    write(path, path.read_text() + "3.jpg,c,trian\n")
    with pytest.raises(
        ValueError, match=r"a\.csv, .*has the split 'trian'; known are: train, rest"
    ):
        read_lists(Source("", "lists", {"train": path}))


def test_restval_can_only_be_left_out_where_it_is_told(tmp_path):
    path = write(tmp_path / "a.csv", "image,caption,split\n1.jpg,a,restval\n2.jpg,b,train\n")
    source = Source("coco", "lists", {"captions": path})
    _, entries = read_lists(source, restval=False)
    assert [entry.caption for entry in entries] == ["b"]
    write(path, "image,caption\n1.jpg,a\n")
    with pytest.raises(ValueError, match=r"restval=false: these lists do not say which captions"):
        read_lists(source, restval=False)
    with pytest.raises(
        ValueError, match=r"restval=false is of Karpathy's file, and this is legacy"
    ):
        read_retrieval(Source("coco", "legacy", {}), restval=False)


@pytest.mark.skipif(not (SHARED / "coco_mini").is_dir(), reason="needs shared/data/coco_mini")
def test_coco_mini_is_the_same_as_its_karpathy_file():
    mini = read_retrieval(find_retrieval(SHARED / "coco_mini"), captions=0)
    # Counts of its README.
    assert {split: len(rows) for split, rows in mini.splits.items()} == {
        "train": 1751,
        "val": 1000,
        "test": 1000,
    }
    karpathys = read_retrieval(find_retrieval(SHARED / "real_mini"), captions=0)

    def plain(rows):  # that file was made with spaces stripped
        return [(row["image_id"], " ".join(row["caption"].split())) for row in rows]

    for split, rows in mini.splits.items():
        assert plain(rows) == plain(karpathys.splits[split])
    usual = read_retrieval(find_retrieval(SHARED / "coco_mini"))
    assert usual.left_out == {"captions": 2}  # one picture of train and one of test have six
