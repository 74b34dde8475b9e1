"""Captions and pictures -> prepared folder of retrieval."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_prep import overlap, retrieval, retrieval_folder
from tbkin.config import run_command
from tbkin.data.features import RegionStore
from tbkin.data.prepared import find_prepared, read_record, read_split
from tbkin.data.retrieval_files import PicturesAndCaptions, Source, read_pictures
from tbkin.data.retrieval_legacy import BOX_SOURCE
from tbkin.data.teachers import TeacherStore, write_teacher
from tbkin.files import file_hash

SHARED = Path(__file__).resolve().parents[3] / "shared/data"


def picture(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (40, 30), (len(str(path)), 0, 0)).save(path)
    return path


def table(path, rows, header="image,caption,split"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


@pytest.fixture
def album(tmp_path, monkeypatch):
    """``album``: a table of four pictures, two captions each; the working directory is above it."""
    monkeypatch.chdir(tmp_path)
    rows = []
    for name, split in (("a/cat", "train"), ("b/cat", "train"), ("a/dog", "val"), ("cow", "test")):
        picture(tmp_path / f"album/pictures/{name}.jpg")
        rows += [f"{name}.jpg,one {name},{split}", f"{name}.jpg,two {name},{split}"]
    table(tmp_path / "album/captions.csv", rows)
    return tmp_path / "album"


def test_an_album_of_ones_own(album, capsys):
    retrieval.main([f"data.root={album}"])
    output = Path("prepared/album-retrieval")
    assert find_prepared(album, "retrieval") == output
    assert read_split(output, "train") == [
        {"caption_id": 2 * n + c, "image_id": n, "identity": n, "caption": f"{word} {name}"}
        for n, name in enumerate(("a/cat", "b/cat"))
        for c, word in enumerate(("one", "two"))
    ]
    record = read_record(output)
    assert (record["task"], record["dataset"], record["layout"]) == ("retrieval", "", "lists")
    assert record["splits"] == {
        "train": {"pictures": 2, "captions": 4},
        "val": {"pictures": 1, "captions": 2},
        "test": {"pictures": 1, "captions": 2},
    }
    assert (record["identities"], record["image_ids"]) == (False, "place")
    assert record["captions_a_picture"] == "all"
    assert record["box_source"] == "grid: 6 x 6 cells"
    assert record["official_counts"] == {}
    assert list(record["files"]) == ["captions"]
    # Pictures of one name are told by their folders.
    assert read_pictures(output) == {
        n: str(album / f"pictures/{name}.jpg")
        for n, name in enumerate(("a/cat", "b/cat", "a/dog", "cow"))
    }
    assert len(RegionStore(output / "regions")) == 4
    printed = capsys.readouterr()
    assert "  train        4 captions       2 pictures\n" in printed.out
    assert "not the published" not in printed.err
    retrieval.main([f"data.root={album}"])
    assert "is there already; overwrite=true" in capsys.readouterr().out


def test_a_picture_of_the_same_name_elsewhere_is_no_stand_in(album):
    (album / "pictures/b/cat.jpg").unlink()
    with pytest.raises(
        FileNotFoundError,
        match=r"1 of 4 pictures are not in .*album \(first: b/cat\.jpg, by its whole path: others",
    ):
        retrieval.main([f"data.root={album}"])
    assert not Path("prepared/album-retrieval").exists()
    # A name that no other picture has needs no folder.
    picture(album / "pictures/b/cat.jpg")
    os.rename(album / "pictures/a/dog.jpg", album / "dog.jpg")
    retrieval.main([f"data.root={album}"])
    assert read_pictures(Path("prepared/album-retrieval"))[2] == str(album / "dog.jpg")


def test_of_two_files_the_one_whose_path_fits_better(album):
    picture(album / "again/dog.jpg")  # "again" comes before "pictures/a", which fits
    retrieval.main([f"data.root={album}"])
    assert read_pictures(Path("prepared/album-retrieval"))[2] == str(album / "pictures/a/dog.jpg")


def test_numbers_that_a_detectors_files_must_use_are_told(album, capsys):
    boxes = {
        "images": [{"id": 2, "width": 40, "height": 30}],
        "annotations": [{"id": 1, "image_id": 2, "category_id": 1, "bbox": [1, 2, 3, 4]}],
        "categories": [{"id": 1, "name": "dog"}],
    }
    Path("boxes.json").write_text(json.dumps(boxes))
    words = [f"data.root={album}", "detector=annotated", "detector.boxes=[boxes.json]"]
    retrieval.main(words)
    assert "image ids count them from 0; the files of detector=annotated" in capsys.readouterr().err
    assert RegionStore(Path("prepared/album-retrieval/regions"))["2"].labels == ["dog"]
    table(
        album / "captions.csv",
        ["a/dog.jpg,2,x,train", "cow.jpg,7,x,val"],
        "image,image_id,caption,split",
    )
    retrieval.main([*words, "overwrite=true"])
    assert "count them from 0" not in capsys.readouterr().err


def test_cocos_pictures_are_found_by_number(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    picture(tmp_path / "val2017/000000000042.jpg")
    table(tmp_path / "coco/test.csv", ["val2014/COCO_val2014_000000000042.jpg,a"], "image,caption")
    retrieval.main(["data.root=coco", "data.images=[val2017]"])
    output = Path("prepared/coco-coco")
    assert [row["image_id"] for row in read_split(output, "test")] == [42]
    assert read_pictures(output) == {42: str(tmp_path / "val2017/000000000042.jpg")}
    # Others' names end in numbers that mean nothing.
    table(tmp_path / "mine/test.csv", ["cat_42.jpg,a"], "image,caption")
    with pytest.raises(FileNotFoundError, match=r"first: cat_42\.jpg\)\. Name the picture"):
        retrieval.main(["data.root=mine", "data.images=[val2017]"])


def test_validation_is_held_out_by_picture_or_identity(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    rows = []
    for number in range(6):
        picture(tmp_path / f"set/{number}.jpg")
        rows += [f"{number}.jpg,one,{number // 2}", f"{number}.jpg,two,{number // 2}"]
    path = table(
        tmp_path / "set/list.csv", [row.rpartition(",")[0] for row in rows], "image,caption"
    )
    words = ["data.root=set", f"data.captions={path}", "val_share=0.3", "overwrite=true"]
    retrieval.main(words)
    output = Path("prepared/set-retrieval")
    train, val = (read_split(output, split) for split in ("train", "val"))
    assert (len(train), len(val)) == (8, 4)  # 2 of 6 pictures, each with both captions
    assert not {row["image_id"] for row in train} & {row["image_id"] for row in val}
    assert read_record(output)["val_held_out_from_train"] == "pictures"
    table(path, rows, "image,caption,identity")
    retrieval.main(words)
    train, val = (read_split(output, split) for split in ("train", "val"))
    assert (len(train), len(val)) == (8, 4)  # 1 of 3 identities, of two pictures each
    assert not {row["identity"] for row in train} & {row["identity"] for row in val}
    record = read_record(output)
    assert record["val_held_out_from_train"] == "identities"
    assert record["splits"]["val"] == {"pictures": 2, "captions": 4, "identities": 1}
    assert "val is held out from train, by identities" in capsys.readouterr().out


def karpathy(path, captions=1):
    images = [
        {
            "filename": f"COCO_{split}2014_{number:012d}.jpg",
            "cocoid": number,
            "split": split,
            "sentences": [{"raw": f"x{n}", "sentid": 10 * number + n} for n in range(captions)],
        }
        for number, split in ((1, "train"), (2, "val"), (3, "test"))
    ]
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"images": images}))
    for image in images:
        picture(path.parent / image["filename"])


def test_published_numbers(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    karpathy(tmp_path / "coco/dataset_coco.json", captions=6)
    with pytest.raises(ValueError, match=r"official=true: train pictures 1 of 113,287, val pictur"):
        retrieval.main(["data.root=coco", "official=true"])
    assert not Path("prepared").exists()
    retrieval.main(["data.root=coco"])
    printed = capsys.readouterr()
    assert "note: not the published numbers of coco: train pictures 1 of 113,287" in printed.err
    assert "the first 5 captions of a picture: 3 others left out (captions=all" in printed.out
    output = Path("prepared/coco-coco")
    assert len(read_split(output, "val")) == 5
    assert read_record(output)["left_out"] == {"captions": 3}
    retrieval.main(["data.root=coco", "captions=all", "overwrite=true"])
    assert len(read_split(output, "val")) == 6
    retrieval.main(["data.root=coco", "captions=2", "overwrite=true"])
    assert [row["caption_id"] for row in read_split(output, "val")] == [20, 21]
    path = table(tmp_path / "a.csv", ["1.jpg,a"], "image,caption")
    with pytest.raises(ValueError, match=r"no published numbers are known for a\.csv"):
        retrieval.main([f"data.captions={path}", "official=true", "output=x"])


def test_a_region_store_is_used_without_making_it_again(album, tmp_path, monkeypatch):
    retrieval.main([f"data.root={album}"])

    def never(*arguments, **named):
        raise AssertionError("regions were made again")

    monkeypatch.setattr(retrieval_folder, "extract", never)
    store = "prepared/album-retrieval/regions"
    os.rename(album / "pictures", tmp_path / "elsewhere")
    words = [f"data.root={album}", f"regions={store}", "captions=1"]
    retrieval.main([*words, "output=one"])
    record = read_record(Path("one"))
    assert record["box_source"] == "grid: 6 x 6 cells"
    assert record["splits"]["train"] == {"pictures": 2, "captions": 2}
    assert read_pictures(Path("one"))[0] == "a/cat.jpg"  # nobody said where the pictures are
    retrieval.main([*words, "output=two", f"data.images=[{tmp_path}/elsewhere]"])
    assert read_pictures(Path("two"))[0] == str(tmp_path / "elsewhere/a/cat.jpg")
    table(album / "captions.csv", [f"{n}.jpg,x,train" for n in range(9)])
    with pytest.raises(LookupError, match=r"regions=.* lacks 5 of 9 pictures \(first: 4\)"):
        retrieval.main([*words, "output=three"])


def test_features_without_boxes(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "f30k_precomp"
    folder.mkdir()
    for split in ("train", "dev"):
        np.save(folder / f"{split}_ims.npy", np.random.default_rng(0).random((2, 3, 4)))
        (folder / f"{split}_caps.txt").write_text("a\nb\nc\nd\n")
    retrieval.main([f"data.root={folder}"])
    output = Path("prepared/f30k_precomp-flickr30k")
    record = read_record(output)
    assert record["box_source"] == BOX_SOURCE
    assert set(record["files"]) == {
        f"{s}_{k}" for s in ("train", "val") for k in ("captions", "features")
    }
    store = RegionStore(output / "regions")
    np.testing.assert_allclose(
        store["3"].features, np.load(folder / "dev_ims.npy")[1], atol=1e-3
    )  # half precision
    assert f"boxes: {BOX_SOURCE}" in capsys.readouterr().out
    assert not output.with_name(f"{output.name}.regions").exists()
    # Whoever takes this store says the same of its boxes.
    retrieval.main([f"data.root={folder}", f"regions={output}/regions", "output=again"])
    assert read_record(Path("again"))["box_source"] == BOX_SOURCE
    wider = np.random.default_rng(0).random((2, 3, 5))
    np.save(folder / "dev_ims.npy", wider)
    with pytest.raises(
        ValueError, match=r"equally wide, got 4 in .*train_ims\.npy, 5 in .*dev_ims"
    ):
        retrieval.main([f"data.root={folder}", "overwrite=true"])
    (folder / "dev_ims.npy").unlink()
    (folder / "dev_caps.txt").write_text("a\n" * 10)
    with pytest.raises(
        ValueError, match=r"2 of 2 pictures of split 'val' come without region feat"
    ):
        retrieval.main([f"data.root={folder}", "overwrite=true"])
    for path in folder.glob("*_ims.npy"):
        path.unlink()
    (folder / "train_caps.txt").write_text("a\n" * 10)
    (folder / "dev_caps.txt").write_text("a\n" * 5)
    with pytest.raises(ValueError, match=r"3 of 3 pictures have no name in the files; add id_map"):
        retrieval.main([f"data.root={folder}", "overwrite=true"])
    assert read_record(output)  # what was there stays


def test_birds(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("001.Albatross", "002.Auklet", "003.Crow"):
        path = tmp_path / f"cub/text_c10/{name}/Bird_0001.txt"
        path.parent.mkdir(parents=True)
        path.write_text("a bird\nit flies\n")
        picture(tmp_path / f"CUB_200_2011/images/{name}/Bird_0001.jpg")
        picture(tmp_path / f"CUB_200_2011/segmentations/{name}/Bird_0001.png")
    (tmp_path / "cub/testclasses.txt").write_text("003.Crow\n")
    retrieval.main(["data.root=cub", "data.images=[CUB_200_2011/images]", "val_share=0.5"])
    output = Path("prepared/cub-cub")
    record = read_record(output)
    assert record["identities"]
    assert {split: counts["identities"] for split, counts in record["splits"].items()} == {
        "train": 1,
        "val": 1,
        "test": 1,
    }
    assert record["official_counts"]["train_identities"] == {"found": 2, "published": 150}
    assert read_pictures(output)[2].endswith("images/003.Crow/Bird_0001.jpg")
    before = record["files"]["captions"]["sha256"]  # of all the texts
    (tmp_path / "cub/text_c10/003.Crow/Bird_0001.txt").write_text("a bird\nit flies!\n")
    retrieval.main(
        ["data.root=cub", "data.images=[CUB_200_2011/images]", "val_share=0.5", "overwrite=true"]
    )
    assert read_record(output)["files"]["captions"]["sha256"] != before


def test_no_truth_is_made_up(album):
    retrieval.main([f"data.root={album}"])
    output = Path("prepared/album-retrieval")
    assert not (output / "true_of.json").exists()
    assert "true_of" not in read_record(output)["files"]


def test_nothing_is_half_written(album, monkeypatch):
    def stop(*arguments, **named):
        raise KeyboardInterrupt

    monkeypatch.setattr(retrieval_folder, "put_in_place", stop)
    with pytest.raises(KeyboardInterrupt):
        retrieval.main([f"data.root={album}"])
    # The regions, the long part, wait for the next run.
    assert [path.name for path in Path("prepared").iterdir()] == ["album-retrieval.regions"]
    monkeypatch.undo()
    monkeypatch.chdir(album.parent)
    retrieval.main([f"data.root={album}"])
    assert [path.name for path in Path("prepared").iterdir()] == ["album-retrieval"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "tbkin prep retrieval needs data.root=DIR, or data.captions=FILE."),
        (
            ["data.captions=x.csv", "data.layout=legacy"],
            "data.layout=legacy chooses among what is in data.root; leave it out where files are "
            "named.",
        ),
        (["captions=0"], "captions must be a number >= 1, or all; got '0'."),
        (["captions=five"], "captions must be a number >= 1, or all; got 'five'."),
        (["val_share=1"], "val_share must be in (0, 1), got 1.0."),
    ],
)
def test_settings_are_checked(words, message, capsys):
    assert run_command(retrieval.main, words) == 2
    assert capsys.readouterr().err == f"error: {message}\n"


def test_pictures_of_a_retrieval_folder_are_compared(album, capsys):
    retrieval.main([f"data.root={album}"])
    split, val = "prepared/album-retrieval:train", "prepared/album-retrieval:val"
    Path("cocos.json").write_text("[0]")
    assert run_command(overlap.main, [f"split={split}", "against=[cocos.json]"]) == 2
    assert (
        "the picture ids of album (lists) and cocos.json those of COCO" in capsys.readouterr().err
    )
    seen = Path("seen")  # the same album, of which somebody learned from its first picture
    shutil.copytree("prepared/album-retrieval", seen)
    (seen / "train.jsonl").write_text(json.dumps(read_split(seen, "train")[0]) + "\n")
    capsys.readouterr()
    overlap.main([f"split={split}", "against=[seen:train]", "filter=clean", "json=true"])
    result = json.loads(capsys.readouterr().out)
    shared = result["against"][0]
    assert (result["what"], shared["shared_pictures"], shared["shared_texts"]) == ("captions", 1, 2)
    record = read_record(Path("clean"))
    assert record["splits"]["train"] == {"pictures": 1, "captions": 2}
    assert [row["image_id"] for row in read_split(Path("clean"), "train")] == [1, 1]
    assert read_pictures(Path("clean")) == read_pictures(Path("prepared/album-retrieval"))
    overlap.main([f"split={val}", f"against=[{split}]", "json=true"])
    assert json.loads(capsys.readouterr().out)["against"][0]["shared_pictures"] == 0


@pytest.mark.parametrize(
    ("dataset", "layout", "numbered_by", "names", "expected"),
    [
        ("coco", "karpathy", "file", {42: "COCO_val2014_000000000042.jpg"}, "coco"),
        ("coco", "lists", "name", {42: "val2014/COCO_val2014_000000000042.jpg"}, "coco"),
        ("coco", "lists", "file", {42: ""}, "coco"),
        # Numbers of lists, of lines of SCAN's files, and of places are nobody else's.
        ("coco", "lists", "file", {7: "COCO_val2014_000000000042.jpg"}, "coco (lists)"),
        ("coco", "legacy", "file", {42: ""}, "coco (legacy)"),
        ("coco", "lists", "place", {0: "COCO_val2014_000000000042.jpg"}, "coco (lists)"),
        ("flickr30k", "karpathy", "name", {36979: "36979.jpg"}, "flickr30k"),
        ("flickr30k", "legacy", "place", {0: ""}, "flickr30k (legacy)"),
        ("", "lists", "name", {42: "cat_42.jpg"}, "album (lists)"),
    ],
)
def test_whose_numbers_image_ids_are(dataset, layout, numbered_by, names, expected):
    source = Source(dataset, layout, {"captions": Path("/x/album/list.csv")})
    found = PicturesAndCaptions(source, {}, names, numbered_by=numbered_by)
    assert retrieval_folder.picture_collection(found, "/data/album") == expected
    if not dataset:
        assert retrieval_folder.picture_collection(found, "") == expected


def test_teachers_are_not_deleted_with_the_folder(album):
    retrieval.main([f"data.root={album}"])
    kept = Path("prepared/album-retrieval/teachers/text/teacher.json")
    kept.parent.mkdir(parents=True)
    kept.write_text("{}")
    with pytest.raises(ValueError, match=r"holds teacher features, which overwrite=true would del"):
        retrieval.main([f"data.root={album}", "captions=1", "overwrite=true"])
    assert kept.is_file()
    retrieval.main([f"data.root={album}", "captions=1", "output=other"])


def test_teachers_know_what_is_left_of_a_split(album):
    retrieval.main([f"data.root={album}"])
    root = Path("prepared/album-retrieval")
    rows = read_split(root, "train")
    write_teacher(
        root / "teachers/text",
        "captions",
        [row["caption_id"] for row in rows],
        [np.ones((len(rows), 2))],
        {"name": "x"},
        splits={"train": file_hash(root / "train.jsonl")},
    )
    seen = Path("seen")
    shutil.copytree(root, seen)
    (seen / "train.jsonl").write_text(json.dumps(rows[0]) + "\n")
    overlap.main([f"split={root}:train", "against=[seen:train]", "filter=clean"])
    for folder in (root, Path("clean")):
        TeacherStore.open(folder / "teachers/text").check_split(folder / "train.jsonl")
    with pytest.raises(ValueError, match="of other data"):
        TeacherStore.open("clean/teachers/text").check_split(root / "train.jsonl")


def test_of_two_files_that_fit_equally_well_none_is_taken(album):
    picture(album / "copy/a/dog.jpg")
    with pytest.raises(
        ValueError,
        match=r"both .*/copy/a/dog\.jpg and .*/pictures/a/dog\.jpg may be the picture a/",
    ):
        retrieval.main([f"data.root={album}"])
    # A folder that is named twice, or within another, holds each file once.
    retrieval.main([f"data.root={album}", "data.images=[album/pictures,album/pictures/a]"])
    found = read_pictures(Path("prepared/album-retrieval"))
    assert found[2] == str(album / "pictures/a/dog.jpg")


def test_the_tiny_worlds_karpathy_file(tiny_root, tmp_path):
    retrieval.main(
        [f"data.root={tiny_root.official}", f"output={tmp_path}/out", "detector=detected"]
    )
    record = read_record(tmp_path / "out")
    assert (record["dataset"], record["layout"]) == ("coco", "karpathy")
    assert sum(counts["pictures"] for counts in record["splits"].values()) == 40
    assert record["box_source"].startswith("detections: ")
    truth = tiny_root.official / "karpathy/true_of.json"
    assert (tmp_path / "out/true_of.json").read_bytes() == truth.read_bytes()
    assert record["files"]["true_of"]["path"] == str(truth)
    rows = read_split(tmp_path / "out", "train")
    official = json.loads((tiny_root.official / "karpathy/dataset_coco.json").read_text())
    first = next(one for one in official["images"] if one["split"] == "train")
    assert [(row["caption_id"], row["image_id"], row["caption"]) for row in rows[:5]] == [
        (one["sentid"], first["cocoid"], one["raw"]) for one in first["sentences"][:5]
    ]


@pytest.mark.skipif(not (SHARED / "coco_mini").is_dir(), reason="needs shared/data/coco_mini")
def test_coco_mini(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    retrieval.main([f"data.root={SHARED}/coco_mini", "detector.rows=1", "detector.columns=1"])
    record = read_record(Path("prepared/coco_mini-coco"))
    assert record["splits"] == {
        "train": {"pictures": 350, "captions": 1750},
        "val": {"pictures": 201, "captions": 1000},
        "test": {"pictures": 201, "captions": 999},
    }
