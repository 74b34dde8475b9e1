import gzip
import json
import shutil

import pytest

from tbkin.data.picture_ids import check_collections, read_picture_ids
from tests.data.refer_folder import write_refer
from tests.data.test_refcoco_variants import write_mdetr

KARPATHY = {
    "dataset": "coco",
    "images": [
        {"cocoid": 42, "split": "train", "sentences": [{}, {}]},
        {"cocoid": 43, "split": "restval", "sentences": [{}]},
        {"cocoid": 44, "split": "test", "sentences": [{}] * 5},
    ],
}


@pytest.fixture
def write(tmp_path):
    def write(content, name="file.json"):
        path = tmp_path / name
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return str(path)

    return write


@pytest.mark.parametrize(
    ("content", "what", "texts"),
    [
        ({"questions": [{"image_id": 5}, {"image_id": 5}, {"image_id": 6}]},
         "questions", {5: 2, 6: 1}),
        ({"info": {}, "annotations": [{"image_id": 5, "question_id": 1}]}, "questions", {5: 1}),
        ({"images": [{"id": 5}, {"id": 6}], "annotations": [{"image_id": 5, "caption": "x"}]},
         "captions", {5: 1, 6: 0}),
        ({"images": [{"id": 5}], "annotations": [{"image_id": 5, "bbox": []}] * 3},
         "annotations", {5: 3}),
        (KARPATHY, "captions", {42: 2, 43: 1, 44: 5}),
        ([{"image_id": 1, "coco_id": 77}, {"image_id": 2, "coco_id": None}], "pictures", {77: 1}),
        ([42, "COCO_train2014_000000000043.jpg"], "pictures", {42: 1, 43: 1}),
        ([{"image_id": 5, "caption": "x"}], "texts", {5: 1}),
    ],
)  # fmt: skip
def test_files_of_every_kind(write, content, what, texts):
    found = read_picture_ids(write(content))
    assert (found.what, found.texts) == (what, texts)


def test_a_list_of_names_and_gzip(write, tmp_path):
    path = write("42\ntrain2014/COCO_train2014_000000000043.jpg\n", "ids.txt")
    assert read_picture_ids(path).texts == {42: 1, 43: 1}
    packed = tmp_path / "q.json.gz"
    packed.write_bytes(gzip.compress(b'{"questions": [{"image_id": 9}]}'))
    assert read_picture_ids(str(packed)).texts == {9: 1}


def test_a_split_of_karpathys_file(write):
    path = write(KARPATHY)
    assert read_picture_ids(f"{path}:train").texts == {42: 2, 43: 1}  # restval is trained on too
    assert read_picture_ids(f"{path}:test").texts == {44: 5}
    with pytest.raises(LookupError, match="no split 'val'; there is: train, restval, test"):
        read_picture_ids(f"{path}:val")


def test_referring_expressions(tmp_path):
    write_refer(tmp_path / "refcoco")
    assert read_picture_ids(str(tmp_path)).texts == {42: 3, 43: 3}  # 3 in testA and in testB
    for source in (f"{tmp_path}:unc:testB", f"{tmp_path}:testB"):
        found = read_picture_ids(source)
        assert (found.what, found.texts) == ("expressions", {43: 2})


def test_mdetrs_images_are_expressions_of_cocos(tmp_path):
    write_mdetr(tmp_path)
    assert read_picture_ids(str(tmp_path / "finetune_refcoco_train.json")).texts == {42: 2}


def test_prepared_folders_and_region_stores(tiny_root):
    found = read_picture_ids(f"{tiny_root.prepared}:val")
    assert (found.what, len(found.texts), found.prepared) == (
        "questions",
        4,
        (tiny_root.prepared, ["val"]),
    )
    store = read_picture_ids(str(tiny_root.prepared / "regions"))
    assert store.texts.keys() == read_picture_ids(str(tiny_root.prepared)).texts.keys()


def test_gqas_pictures_are_not_cocos(tiny_root, write, tmp_path):
    gqa = tmp_path / "gqa"
    shutil.copytree(tiny_root.prepared, gqa)
    record = json.loads((gqa / "dataset.json").read_text())
    assert record["picture_ids"] == "coco"
    (gqa / "dataset.json").write_text(json.dumps(record | {"picture_ids": "visual_genome"}))
    of_gqa = [read_picture_ids(f"{gqa}:val"), read_picture_ids(str(gqa / "regions"))]
    assert {source.collection for source in of_gqa} == {"visual_genome"}
    check_collections(of_gqa)
    of_coco = [read_picture_ids(str(tiny_root.prepared)), read_picture_ids(write([1, 2]))]
    check_collections(of_coco)
    (gqa / "dataset.json").write_text(json.dumps(record | {"picture_ids": "album (lists)"}))
    with pytest.raises(ValueError, match=r"gqa has the picture ids of album \(lists\) and .*COCO"):
        check_collections([read_picture_ids(str(gqa)), of_coco[1]])
    with pytest.raises(
        ValueError, match=r"gqa:val has the picture ids of Visual Genome and .*COCO"
    ):
        check_collections([of_gqa[0], of_coco[1]])


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        ({"boxes": []}, ValueError, r"file\.json holds no pictures in a layout that is known"),
        (["dog"], ValueError, r"'dog' does not end in a picture's number"),
        ({"images": [{"split": "test", "sentences": []}]}, ValueError, "no 'cocoid'"),
        # Visual Genome's objects, region descriptions, relationships and questions
        ([{"image_id": 1, "objects": [], "image_url": "x"}], ValueError, "its image_data.json"),
        ([{"id": 1, "regions": [{"image_id": 1}]}], ValueError, "Visual Genome's own picture ids"),
        ([{"image_id": 1, "relationships": []}], ValueError, "its image_data.json"),
        ([{"id": 1, "qas": []}], ValueError, "its image_data.json"),
        ({"questions": [{"image_id": 5}, {"question": "?"}]}, ValueError,
         r"file\.json: an entry lacks what others have \(KeyError\('image_id'\)\)"),
        ({"images": [{"file_name": "a"}]}, ValueError, r"KeyError\('id'\)"),
        ([{"coco_id": 1}, {}], ValueError, r"KeyError\('coco_id'\)"),
        ([{"image_id": 1}, 2], ValueError, "an entry lacks"),
    ],
)  # fmt: skip
def test_other_files_are_refused(write, content, error, message):
    with pytest.raises(error, match=message):
        read_picture_ids(write(content))


def test_a_path_that_is_not_there_and_a_split_that_a_file_has_not(write, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no file or folder .*none\.json:val"):
        read_picture_ids(f"{tmp_path}/none.json:val")
    with pytest.raises(LookupError, match="does not say its splits; leave :val out"):
        read_picture_ids(write([1, 2]) + ":val")
