"""RefCOCO files -> prepared folder."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from data_prep import refcoco, regions
from data_prep.official import box_source
from data_prep.refcoco import shared_pictures
from tbkin.cli import main
from tbkin.config import run_command
from tbkin.data.features import RegionStore, fingerprint, write_regions
from tbkin.data.prepared import find_prepared, read_record, read_split
from tbkin.detectors import DETECTORS
from tests.conftest import place_regions
from tests.data.refer_folder import INSTANCES, REFS, write_refer

ROOT = Path(__file__).parents[2]
SHARED = ROOT.parent / "shared" / "data"
REAL = SHARED / "real_mini"


@pytest.fixture
def root(tmp_path, monkeypatch):
    """``refer/refcoco`` and its two pictures; the working directory is above it."""
    monkeypatch.chdir(tmp_path)
    write_refer(tmp_path / "refer" / "refcoco")
    for number in (42, 43):
        path = tmp_path / "refer" / "images" / f"COCO_train2014_{number:012d}.jpg"
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", (40, 30), (number, 0, 0)).save(path)
    return tmp_path / "refer"


def test_annotated_boxes_are_those_of_instances_json(root, capsys):
    refcoco.main([f"data.root={root}", "detector=annotated"])
    output = Path("prepared/refer-refcoco_unc")
    assert find_prepared(root, "grounding") == output
    assert [row["expression"] for row in read_split(output, "train")] == [
        "dog on left",
        "brown dog",
    ]
    record = read_record(output)
    assert record["task"] == "grounding"
    assert record["dataset"] == "refcoco_unc"
    assert record["box_source"] == "annotated boxes"
    assert set(record["files"]) == {"refs", "instances"}
    assert record["splits"]["testB"] == {
        "sentences": 2,
        "refs": 2,
        "pictures": 1,
        "oracle@0.5": 1.0,
    }
    assert record["official_counts"]["val"] == {"found": 1, "published": 10_834}
    # Two pictures of train and val are the same one here; every annotation is a candidate.
    assert record["pictures_shared_with_train"] == {"val": 1}
    assert RegionStore(output / "regions")["43"].labels == ["person", "person", "cat"]
    printed = capsys.readouterr()
    assert "boxes: annotated boxes" in printed.out
    assert "candidates cover 100.00 % of the expressions" in printed.out
    assert "note: not the published numbers of refcoco_unc: val 1 of 10,834, tes" in printed.err


def test_detections_and_what_they_cover(root, tmp_path, capsys):
    dets = tmp_path / "res101_dets.json"
    # The man of picture 43, 0 0 7.25 3, is found (IoU 21 / 21.75); of 42 nothing is.
    dets.write_text(json.dumps([{"image_id": 43, "box": [0, 0, 7, 3], "score": 0.9}]))
    refcoco.main([f"data.root={root}", "detector=detections", f"detector.boxes=[{dets}]"])
    record = read_record(Path("prepared/refer-refcoco_unc"))
    assert record["box_source"] == (
        "detections: res101_dets.json (1 of 2 pictures: a grid instead)"
    )
    oracles = {split: counts["oracle@0.5"] for split, counts in record["splits"].items()}
    assert oracles == {"train": 0.0, "val": 0.0, "testA": 1.0, "testB": 0.5}
    assert f"boxes: {record['box_source']}" in capsys.readouterr().out


def test_detections_of_other_pictures_are_refused(root, tmp_path):
    dets = tmp_path / "dets.json"
    dets.write_text(json.dumps([{"image_id": 7, "box": [0, 0, 7, 3], "score": 0.9}]))
    with pytest.raises(
        ValueError, match=r"detections: dets\.json: no box in any of the 2 pictures.*overwrite=true"
    ):
        refcoco.main([f"data.root={root}", "detector=detections", f"detector.boxes=[{dets}]"])


def test_pictures_of_another_size_are_refused(root):
    path = root / "images" / "COCO_train2014_000000000043.jpg"
    Image.new("RGB", (20, 15)).save(path)  # half of what instances.json says
    with pytest.raises(
        ValueError,
        match=r"picture 43 \(COCO_train2014_000000000043\.jpg\) is 20 x 15 pixels, and the boxes "
        r"of refcoco_unc are told in 40 x 30; resized",
    ):
        refcoco.main([f"data.root={root}", "detector=annotated"])
    assert not Path("prepared/refer-refcoco_unc").exists()
    Image.new("RGB", (30, 40)).save(path)
    with pytest.raises(ValueError, match=r"30 x 40 .* 40 x 30; is one of them turned \(EXIF\)\?"):
        refcoco.main([f"data.root={root}", "detector=grid", "overwrite=true"])
    images = [{key: one[key] for key in ("id", "file_name")} for one in INSTANCES["images"]]
    write_refer(root / "refcoco", instances={**INSTANCES, "images": images})  # sizes are not told
    refcoco.main([f"data.root={root}", "detector=grid", "overwrite=true"])


def test_two_processes_at_once(root):
    words = [f"data.root={root}", "detector=annotated", "overwrite=true"]
    jobs = [
        subprocess.Popen(
            [sys.executable, "-m", "data_prep", "refcoco", *words],
            env={**os.environ, "PYTHONPATH": str(ROOT), "RANK": rank, "WORLD_SIZE": "2"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in "01"  # the second has no share: one shard holds both pictures
    ]
    said = [job.communicate(timeout=120)[0] for job in jobs]
    assert [job.returncode for job in jobs] == [0, 0], said
    # Whoever sees the shard first joins; the other says that it has done its share.
    assert sorted("boxes: annotated boxes" in one for one in said) == [False, True], said
    assert [path.name for path in Path("prepared").iterdir()] == ["refer-refcoco_unc"]
    assert len(RegionStore(Path("prepared/refer-refcoco_unc/regions"))) == 2


def test_a_data_set_without_published_numbers_cannot_be_official(root):
    write_refer(root / "refcocog", "google")
    words = [f"data.root={root}", "dataset=gref", "detector=annotated"]
    with pytest.raises(ValueError, match=r"no published numbers are known for refcocog_google"):
        refcoco.main([*words, "official=true"])
    assert not Path("prepared").exists()


def test_a_region_store_is_used_without_making_it_again(root, monkeypatch):
    refcoco.main([f"data.root={root}", "detector=annotated"])
    write_refer(root / "refcoco+", refs=REFS[:2])

    def never(*arguments, **named):
        raise AssertionError("regions were made again")

    monkeypatch.setattr(refcoco, "extract", never)
    store = Path("prepared/refer-refcoco_unc/regions")
    refcoco.main([f"data.root={root}", "dataset=unc+", f"regions={store}"])
    output = Path("prepared/refer-refcoco+_unc")
    assert read_record(output)["box_source"] == "annotated boxes"
    assert len(RegionStore(output / "regions")) == len(RegionStore(store)) == 2
    assert list(read_record(output)["splits"]) == ["train", "val"]
    with pytest.raises(ValueError, match=r"prepared for grounding more than once"):
        find_prepared(root, "grounding")


def test_a_store_of_tbkin_prep_regions_needs_its_detectors_name(root):
    regions.main([f"images={root}/images", "output=store", "detector=grid"])
    refcoco.main([f"data.root={root}", "regions=store", "detector=grid", "output=a"])
    assert read_record(Path("a"))["box_source"] == "grid: 6 x 6 cells"
    with pytest.raises(ValueError, match=r"regions=store were not made by detector=annotated"):
        refcoco.main([f"data.root={root}", "regions=store", "detector=annotated", "output=b"])


def test_pictures_are_named_by_instances_json(root, tmp_path):
    images = [{**one, "file_name": f"p/{name}.jpg"} for one, name in
              zip(INSTANCES["images"], ("first", "42"), strict=True)]  # fmt: skip
    write_refer(root / "refcoco", instances={**INSTANCES, "images": images})
    for path in (root / "images").iterdir():
        path.unlink()
    for name, red in (("first", 10), ("42", 200)):  # "42.jpg" is picture 43
        Image.new("RGB", (40, 30), (red, 0, 0)).save(root / "images" / f"{name}.png")
        Image.new("RGB", (40, 30), (red, 0, 0)).save(root / "images" / f"{name}.jpg", quality=100)
    refcoco.main([f"data.root={root}", "output=out", "detector=annotated"])
    reds = {
        number: RegionStore(Path("out/regions"))[number].features[0, 0].item() * 255
        for number in ("42", "43")
    }
    assert reds == {"42": pytest.approx(10, abs=3), "43": pytest.approx(200, abs=3)}


def test_another_name_of_a_data_set_is_explained(root, capsys):
    write_refer(root / "refcocog", "google", refs=REFS[:2])
    words = [f"data.root={root}", "detector=annotated"]
    refcoco.main([*words, "dataset=gref"])
    assert "gref is the field's name for refcocog_google" in capsys.readouterr().out
    assert Path("prepared/refer-refcocog_google/val.jsonl").is_file()
    refcoco.main([*words, "dataset=refcocog", "output=b"])
    assert "refcocog is here refcocog_google" in capsys.readouterr().out


def test_what_is_there_is_left_alone(root, capsys):
    words = [f"data.root={root}", "detector=annotated"]
    refcoco.main(words)
    capsys.readouterr()
    refcoco.main(words)
    assert "is there already; overwrite=true makes it again" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "tbkin prep refcoco needs data.root=DIR"),
        (["data.root=refer", "dataset=vg"], "unknown data set 'vg'"),
        (["data.root=refer", "data.images=[empty]"],
         "2 of 2 pictures are not in empty (first: COCO_train2014_000000000042.jpg)"),
        (["data.root=refer", "detector=detections"], "needs detector.boxes=[FILE]"),
        (["data.root=refer", "official=true"], "official=true: val 1 of 10,834, testA 1 of 5,657"),
        (["data.root=refer", "data.layout=x"], "unknown layout 'x'"),
    ],
)  # fmt: skip
def test_errors_are_one_line_and_leave_nothing(root, capsys, words, message):
    Path("empty").mkdir()
    assert run_command(main, ["prep", "refcoco", *words]) == 2
    assert message in capsys.readouterr().err
    assert not Path("prepared").exists() or not list(Path("prepared").iterdir())


def test_box_sources(tmp_path):
    write_regions(tmp_path, [place_regions()], fingerprint("", "", ""))
    store = RegionStore(tmp_path)
    settings = {"boxes": ["/a/b.json"], "features": "/f/x.tsv", "model": "/m/yolox.onnx"}
    settings |= {"rows": 6, "columns": 5}
    expected = {
        "annotated": "annotated boxes",
        "detected": "detections: b.json",
        "detections": "detections: b.json",
        "precomputed": "region detector: precomputed x.tsv",
        "onnx": "region detector: onnx yolox.onnx",
        "huggingface": "region detector: huggingface yolox.onnx",
        "grid": "grid: 6 x 5 cells",
    }
    found = {name: box_source({"name": name, **settings}, store, [7]) for name in expected}
    assert found == expected
    assert set(expected) == set(DETECTORS)


def test_pictures_shared_with_train():
    rows = [{"image_id": number} for number in (1, 2, 2)]
    assert shared_pictures({"train": rows, "val": rows[1:], "test": [{"image_id": 3}]}) == {
        "val": 1
    }


def test_the_tiny_world(tiny_root, tmp_path, capsys):
    refcoco.main([f"data.root={tiny_root.official}", "detector=detected", f"output={tmp_path}/p"])
    record = read_record(tmp_path / "p")
    assert record["dataset"] == "refcoco_unc"
    assert {split: counts["pictures"] for split, counts in record["splits"].items()} == {
        "train": 32,
        "val": 4,
        "testA": 2,
        "testB": 2,
    }
    assert record["box_source"].startswith("detections: detections_")
    assert "published" not in capsys.readouterr().err  # nobody published numbers of it
    assert 0.8 < record["splits"]["train"]["oracle@0.5"] <= 1


@pytest.mark.skipif(not REAL.is_dir(), reason="the real pictures are not at hand")
@pytest.mark.parametrize(
    ("dataset", "sentences"),
    [
        ("refcoco_unc", {"train": 38, "val": 75, "testA": 14, "testB": 51}),
        ("refcoco+_unc", {"val": 75, "testA": 14, "testB": 49}),
        ("refcocog_umd", {"val": 26}),
    ],
)
def test_real_files_go_through(dataset, sentences, tmp_path):
    words = [f"data.root={REAL / 'refer'}", f"dataset={dataset}", f"data.images=[{REAL}]"]
    refcoco.main([*words, "detector=annotated", f"output={tmp_path / 'a'}"])
    splits = read_record(tmp_path / "a")["splits"]
    assert {split: counts["sentences"] for split, counts in splits.items()} == sentences
    assert all(counts["oracle@0.5"] == 1 for counts in splits.values())


@pytest.mark.skipif(not REAL.is_dir(), reason="the real pictures are not at hand")
def test_real_files_with_a_real_detector(tmp_path):
    pytest.importorskip("onnxruntime")
    words = [f"data.root={REAL / 'refer'}", "dataset=gref_umd", f"data.images=[{REAL}]"]
    words += ["detector=onnx", f"detector.model={SHARED / 'models' / 'yolox_nano.onnx'}"]
    refcoco.main([*words, f"output={tmp_path / 'y'}"])
    record = read_record(tmp_path / "y")
    assert record["box_source"] == "region detector: onnx yolox_nano.onnx"
    assert 0.5 < record["splits"]["val"]["oracle@0.5"] < 1
