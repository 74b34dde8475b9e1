"""Person search -> prepared folder."""

import json
from pathlib import Path

import pytest
from PIL import Image

from data_prep import persons
from tbkin.config import run_command
from tbkin.data.prepared import find_prepared, read_record, read_split
from tbkin.data.retrieval_files import read_pictures

PICTURES = [  # split, picture, person
    ("train", "cam_a/000_45.bmp", 1),
    ("train", "cam_b/000_45.bmp", 1),
    ("train", "cam_a/001_45.bmp", 2),
    ("test", "cam_a/002_45.bmp", 12004),
]


@pytest.fixture
def root(tmp_path, monkeypatch):
    """``CUHK-PEDES`` with its pictures in ``imgs``; the working directory is above it."""
    monkeypatch.chdir(tmp_path)
    root = tmp_path / "CUHK-PEDES"
    entries = []
    for split, name, person in PICTURES:
        path = root / "imgs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (12, 36), (person % 256, 0, 0)).save(path)
        captions = [f"one {name}", f"two {name}"]
        entries.append({"split": split, "captions": captions, "file_path": name, "id": person})
    (root / "reid_raw.json").write_text(json.dumps(entries))
    return root


def test_persons(root, capsys):
    persons.main([f"data.root={root}", "val_share=0.5"])
    output = Path("prepared/CUHK-PEDES-cuhk_pedes")
    assert find_prepared(root, "retrieval") == output
    record = read_record(output)
    assert (record["task"], record["dataset"]) == ("retrieval", "cuhk_pedes")
    assert record["identities"]
    assert record["val_held_out_from_train"] == "identities"
    rows = [row for split in ("train", "val", "test") for row in read_split(output, split)]
    assert sorted((row["image_id"], row["identity"], row["caption"]) for row in rows) == sorted(
        (place, person, f"{word} {name}")
        for place, (_, name, person) in enumerate(PICTURES)
        for word in ("one", "two")
    )
    assert {row["identity"] for row in read_split(output, "test")} == {12004}
    assert read_pictures(output) == {
        place: str(root / "imgs" / name) for place, (_, name, _) in enumerate(PICTURES)
    }
    printed = capsys.readouterr()
    assert "train pictures 3 of 34,054, train identities 2 of 11,003" in printed.err
    assert "1 identities" in printed.out


def test_a_file_that_is_named(root):
    listed = root / "reid_raw.json"
    words = [f"data.captions={listed}", f"data.images=[{root}]", "dataset=shop", "captions=1"]
    persons.main([*words, "output=out"])
    record = read_record(Path("out"))
    assert (record["dataset"], record["official_counts"]) == ("shop", {})
    assert record["splits"]["test"] == {"pictures": 1, "captions": 1, "identities": 1}


def test_published_numbers_can_be_demanded(root):
    with pytest.raises(ValueError, match=r"official=true: train pictures 3 of 34,054"):
        persons.main([f"data.root={root}", "official=true"])


def test_where_the_data_are_must_be_said(capsys):
    assert run_command(persons.main, []) == 2
    assert "tbkin prep persons needs data.root=DIR, or data.captions=" in capsys.readouterr().err
