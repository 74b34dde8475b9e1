"""Person search -> entries."""

import json

import pytest

from tbkin.data.retrieval_files import Source
from tbkin.data.retrieval_find import find_persons, read_retrieval

CUHK = [
    {
        "split": split,
        "captions": captions,
        "file_path": path,
        "processed_tokens": [["a"]],
        "id": identity,
    }
    for split, captions, path, identity in [
        ("train", ["A man.", "He walks."], "cam_a/000_45.bmp", 1),
        ("test", ["A woman."], "CUHK01/0001.png", 12004),
        ("train", ["A man in red."], "cam_b/000_45.bmp", 1),
        ("val", ["B", "C", "D"], "Market/1045_c6.jpg", 11004),
    ]
]
ROWS = {
    "train": [
        {"caption_id": 0, "image_id": 0, "identity": 1, "caption": "A man."},
        {"caption_id": 1, "image_id": 0, "identity": 1, "caption": "He walks."},
        {"caption_id": 3, "image_id": 2, "identity": 1, "caption": "A man in red."},
    ],
    "val": [
        {"caption_id": 4 + n, "image_id": 3, "identity": 11004, "caption": "BCD"[n]}
        for n in range(3)
    ],
    "test": [{"caption_id": 2, "image_id": 1, "identity": 12004, "caption": "A woman."}],
}


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def test_cuhk_pedes(tmp_path):
    path = write(tmp_path / "CUHK-PEDES/reid_raw.json", CUHK)
    source = find_persons(tmp_path)
    assert source == Source("cuhk_pedes", "persons", {"captions": path}, official=True)
    found = read_retrieval(source)
    assert found.splits == ROWS
    assert found.identities
    assert found.numbered_by == "place"
    assert found.pictures[2] == "cam_b/000_45.bmp"
    assert found.official_counts()["train_identities"] == {"found": 1, "published": 11_003}


def test_the_same_in_the_other_layouts(tmp_path):
    write(tmp_path / "icfg/ICFG-PEDES.json", CUHK)
    turned = [{"img_path" if key == "file_path" else key: one[key] for key in one} for one in CUHK]
    write(tmp_path / "rstp/data_captions.json", turned)
    with pytest.raises(ValueError, match=r"holds icfg_pedes and rstpreid; say dataset=icfg_pedes"):
        find_persons(tmp_path)
    for name in ("icfg_pedes", "rstpreid"):
        assert read_retrieval(find_persons(tmp_path, name)).splits == ROWS
    with pytest.raises(FileNotFoundError, match=r"no cuhk_pedes in .* looked for reid_raw\.json, "):
        find_persons(tmp_path, "cuhk_pedes")
    with pytest.raises(ValueError, match=r"unknown data set of persons 'cuhk'; choose from: cuhk_"):
        find_persons(tmp_path, "cuhk")


def test_files_of_the_same_name_with_something_else_are_passed_over(tmp_path):
    write(tmp_path / "a/caption_all.json", [{"id": 1, "caption": "no picture"}])
    write(tmp_path / "b/caption_all.json", {"id": 1})
    write(tmp_path / "c/caption_all.json", CUHK)
    assert find_persons(tmp_path).files["captions"].parent.name == "c"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"split": None}, r"entry 1 has no 'split'; give the file that says the splits .*reid_raw"),
        ({"id": "12"}, r"entry 1 needs 'id', a whole number, got '12'"),
        ({"file_path": 3}, r"entry 1 has no file_path or img_path: got split, captions"),
        ({"captions": [3]}, r"entry 1 needs 'captions', a list of texts, got \[3\]"),
        ({"split": "dev3"}, r"entry 1 has the split 'dev3'; known are"),
    ],
)
def test_entries_that_lack_something(tmp_path, change, message):
    path = write(tmp_path / "a.json", [CUHK[0], CUHK[1] | change])
    with pytest.raises(ValueError, match=message):
        read_retrieval(Source("", "persons", {"captions": path}))


def test_one_caption_need_not_be_a_list(tmp_path):
    path = write(tmp_path / "a.json", [CUHK[1] | {"captions": "A woman."}])
    rows = read_retrieval(Source("", "persons", {"captions": path})).splits["test"]
    assert [row["caption"] for row in rows] == ["A woman."]
