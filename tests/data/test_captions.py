import gzip
import json
from pathlib import Path

import pytest

from tbkin.data.captions import image_in, read_captions
from tbkin.graphs.facts import graph_of_facts
from tbkin.graphs.scene_graph import write_scene_graphs

REAL = Path(__file__).resolve().parents[3] / "shared/data"


def columns(path, content, column="caption"):
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return [row.columns for row in read_captions(path, column)]


COCO = {
    "info": {"year": 2017},
    "images": [{"id": 7, "file_name": "7.jpg"}],
    "annotations": [{"image_id": 7, "id": 31, "caption": "A dog, “é”.\n"}],
}
KARPATHY = {
    "images": [
        {
            "filepath": "val2014",
            "sentids": [5, 6],
            "filename": "COCO_val2014_000000000042.jpg",
            "imgid": 0,
            "split": "val",
            "sentences": [
                {"raw": "a dog", "tokens": ["a", "dog"], "imgid": 0, "sentid": 5},
                {"raw": "A cat.", "tokens": ["a", "cat"], "imgid": 0, "sentid": 6},
            ],
            "cocoid": 42,
        }
    ],
    "dataset": "coco",
}


def test_coco(tmp_path):
    expected = [{"image_id": "7", "caption_id": "31", "caption": "A dog, “é”.\n"}]
    assert columns(tmp_path / "a.json", COCO) == expected
    (tmp_path / "a.json.gz").write_bytes(gzip.compress(json.dumps(COCO).encode()))
    assert [row.columns for row in read_captions(tmp_path / "a.json.gz")] == expected
    assert columns(tmp_path / "b.json", {"annotations": COCO["annotations"]}) == expected
    # Annotations before images, and keys of every kind around them.
    turned = {"annotations": COCO["annotations"], "x": [1, {"y": []}], "images": [], "z": "]"}
    assert columns(tmp_path / "c.json", turned) == expected
    assert columns(tmp_path / "d.json", {"images": [], "annotations": []}) == []


def test_karpathy(tmp_path):
    name = "COCO_val2014_000000000042.jpg"
    first = {"image_id": "42", "file_name": name, "split": "val"}
    assert columns(tmp_path / "a.json", KARPATHY) == [
        {**first, "caption_id": "5", "caption": "a dog"},
        {**first, "caption_id": "6", "caption": "A cat."},
    ]
    flickr = json.loads(json.dumps(KARPATHY))
    del flickr["images"][0]["cocoid"]
    flickr["images"][0]["filename"] = "1000092795.jpg"
    rows = list(read_captions_of(tmp_path / "b.json", flickr))
    assert "image_id" not in rows[0].columns  # imgid is a running number, no name of a picture
    assert image_in(rows[0], {"1000092795"}) == "1000092795"


def read_captions_of(path, content):
    path.write_text(json.dumps(content), encoding="utf-8")
    return read_captions(path)


def test_lists_tables_and_lines_say_the_same(tmp_path):
    rows = [
        {"image_path": "./pics/a.jpg", "caption": "a dog"},
        {"image_path": "b.png", "caption": 'a "cat", on\na mat'},
    ]
    assert columns(tmp_path / "a.json", rows) == rows
    lines = "\n".join(json.dumps(row) for row in rows) + "\n\n"
    assert columns(tmp_path / "a.jsonl", lines) == rows
    quoted = '"a ""cat"", on\na mat"'
    table = f"image_path,caption\n./pics/a.jpg,a dog\nb.png,{quoted}\n"
    assert columns(tmp_path / "a.csv", table) == rows
    table = f"image_path\tcaption\n./pics/a.jpg\ta dog\nb.png\t{quoted}\n"
    assert columns(tmp_path / "a.tsv", table) == rows


def test_several_captions_of_one_entry_and_other_names(tmp_path):
    entries = [{"image": "x/7.jpg", "text": ["a dog", "a cat"], "boxes": [1, 2], "score": 0.5}]
    assert columns(tmp_path / "a.json", entries, "text") == [
        {"image": "x/7.jpg", "score": "0.5", "caption": "a dog"},
        {"image": "x/7.jpg", "score": "0.5", "caption": "a cat"},
    ]


def test_caption_graphs(tmp_path):
    graph = graph_of_facts([("dog", "is", "red")], ["a", "red", "dog"])
    graph.image_id = "7"
    write_scene_graphs(tmp_path / "g.jsonl", [graph])
    (row,) = read_captions(tmp_path / "g.jsonl")
    assert row.graph == graph
    assert row.columns == {"image_id": "7", "caption": "a red dog"}
    (tmp_path / "empty.jsonl").write_text("")
    assert list(read_captions(tmp_path / "empty.jsonl")) == []


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.json", {"questions": []}, r"a.json is no file of captions: expected COCO"),
        ("a.json", "7", r"is no file of captions"),
        ("a.json", [{"image_id": 1, "text": "x"}], r"1 has no 'caption' of text: got image_id"),
        ("a.json", [{"image_id": 1, "caption": [None]}], r"entry 1 has no 'caption' of text"),
        ("a.json", [{"image_id": 1, "caption": []}], r"entry 1 has no 'caption' of text"),
        ("a.json", ["a dog"], r"entry 1 has no 'caption' of text: got 'a dog'"),
        ("a.json", [{"caption": "x"}], r"entry 1 does not say .*needs one of: image_id"),
        ("a.json", '[{"image_id": 1, "caption": "x"},', r"a.json is not the JSON expected"),
        ("a.json", {"images": [{"sentences": [{}], "filename": "a"}]}, r"image 1 is not as"),
        ("a.jsonl", '{"image_id": 1, "caption": "x"}\n{', r"a.jsonl, line 2 is not JSON"),
        ("a.txt", "a dog", r"neither a table"),
    ],
)
def test_files_that_cannot_be_read(tmp_path, name, content, message):
    with pytest.raises(ValueError, match=message):
        columns(tmp_path / name, content)


def test_a_missing_file(tmp_path):
    for name in ("a.json", "a.csv", "a.jsonl"):
        with pytest.raises(FileNotFoundError, match=name):
            list(read_captions(tmp_path / name))


@pytest.mark.parametrize(
    ("named", "known", "expected"),
    [
        ({"image_id": "42"}, {"42"}, "42"),
        ({"image_id": "COCO_val2014_000000000042.jpg"}, {"42"}, "42"),
        (
            {"image_id": "COCO_val2014_000000000042.jpg"},
            {"COCO_val2014_000000000042", "42"},
            "COCO_val2014_000000000042",
        ),
        ({"image_path": "./pics/a.jpg"}, {"a"}, "a"),
        ({"image_path": "pics/a.jpg"}, {"pics/a"}, "pics/a"),
        ({"image_path": "pics/a.jpg"}, {"pics/a", "a"}, "pics/a"),
        ({"image": "holiday.2019.jpg"}, {"holiday.2019"}, "holiday.2019"),
        ({"image_id": "x", "file_name": "7.jpg"}, {"7"}, "7"),
        ({"image_id": "42"}, {"2", "43"}, None),
        ({"image_id": ""}, {""}, None),
        ({}, {"42"}, None),
    ],
)
def test_which_picture_is_meant(tmp_path, named, known, expected):
    (tmp_path / "a.csv").write_text("caption\nx\n")
    (row,) = read_captions(tmp_path / "a.csv")
    row.columns.update(named)
    assert image_in(row, known) == expected


@pytest.mark.skipif(not REAL.is_dir(), reason="needs the real data beside the checkout")
@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("real_mini/annotations/captions_mini2017.json", 910),
        ("real_mini/karpathy/dataset_coco.json", 3751),
        ("coco_mini/new_val.json", 1000),
        ("factual/random_dev.csv", 1000),
    ],
)
def test_real_files(name, count):
    rows = list(read_captions(REAL / name))
    assert len(rows) == count
    assert all(row.caption and image_in(row, Everything()) for row in rows)


class Everything:
    def __contains__(self, item):
        return True
