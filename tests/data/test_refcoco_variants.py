"""The same four references in other toolkits' layouts."""

import json

import pytest

from tbkin.data.refcoco_find import find_source, read_expressions
from tests.data.refer_folder import INSTANCES, REFS, write_refer

BOXES = {one["id"]: one["bbox"] for one in INSTANCES["annotations"]}


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def said(found):
    """What every layout must tell, whatever it numbers."""
    return {
        split: [(row["image_id"], row["expression"], row["box"]) for row in rows]
        for split, rows in found.splits.items()
    }


@pytest.fixture
def official(tmp_path_factory):
    return read_expressions(write_refer(tmp_path_factory.mktemp("official") / "refcoco"))


def write_uniter(root, name="refcoco"):
    """As ``prepro.py`` writes it: a folder a split, the lists cut to its pictures."""
    for split in ("train", "val"):
        refs = [ref for ref in REFS if ref["split"] == split]
        images = {ref["image_id"] for ref in refs}
        folder = root / f"{name}_{split}.db"
        write(folder / "refs.json", refs)
        write(folder / "images.json", [i for i in INSTANCES["images"] if i["id"] in images])
        write(folder / "categories.json", INSTANCES["categories"])
        annotations = [one for one in INSTANCES["annotations"] if one["image_id"] in images]
        write(folder / "annotations.json", annotations)


def test_uniter(tmp_path, official):
    write_uniter(tmp_path / "txt_db")
    found = read_expressions(tmp_path / "txt_db")
    assert (found.dataset, found.layout) == ("refcoco_unc", "uniter")
    assert found.splits == {split: official.splits[split] for split in ("train", "val")}
    assert found.pictures == {42: "COCO_train2014_000000000042.jpg"}
    assert found.sizes == {42: (40, 30)}


def test_uniters_refcocog_is_umds_and_one_folder_is_enough(tmp_path):
    write_uniter(tmp_path, "refcocog")
    found = read_expressions(tmp_path / "refcocog_val.db")
    assert found.dataset == "refcocog_umd"
    assert list(found.splits) == ["val"]


def test_uniters_ids_must_be_distinct_over_its_folders(tmp_path):
    write_uniter(tmp_path)
    doubled = [{**REFS[0], "split": "val"}]
    write(tmp_path / "refcoco_val.db" / "refs.json", doubled)
    with pytest.raises(ValueError, match="sentence id 0 occurs twice"):
        read_expressions(tmp_path)


def write_mdetr(root, name="refcoco"):
    """As ``refexp_coco_format.py`` writes it: an "image" and an annotation an expression."""
    number = 0
    for split in ("train", "val"):
        images, annotations = [], []
        for ref in REFS:
            for sentence in ref["sentences"] if ref["split"] == split else []:
                images.append(
                    {
                        "file_name": f"COCO_train2014_{ref['image_id']:012d}.jpg",
                        "height": 30,
                        "width": 40,
                        "id": number,
                        "original_id": ref["image_id"],
                        "caption": sentence["sent"],
                        "dataset_name": name,
                        "tokens_negative": [],
                    }
                )
                annotations.append(
                    {
                        "image_id": number,
                        "category_id": ref["category_id"],
                        "id": number + 50,
                        "bbox": BOXES[ref["ann_id"]],
                        "original_id": ref["ann_id"],
                        "iscrowd": 0,
                    }
                )
                number += 1
        content = {"images": images, "annotations": annotations, "info": {}, "licenses": []}
        content["categories"] = INSTANCES["categories"]
        write(root / f"finetune_{name}_{split}.json", content)


def test_mdetr(tmp_path, official):
    write_mdetr(tmp_path)
    found = read_expressions(tmp_path)
    assert (found.dataset, found.layout) == ("refcoco_unc", "mdetr")
    assert said(found) == {split: said(official)[split] for split in ("train", "val")}
    [row] = found.splits["val"]
    assert (row["sentence_id"], row["ann_id"], row["category"]) == (2, 101, "cat")
    assert found.pictures == {42: "COCO_train2014_000000000042.jpg"}
    assert found.sizes == {42: (40, 30)}


def test_ids_that_two_files_of_mdetr_share_are_numbered_anew(tmp_path):
    images = [{"id": n, "original_id": 43, "file_name": "43.jpg"} for n in (0, 1)]
    boxes = [{"id": n, "image_id": n, "original_id": 9, "category_id": 1, "bbox": [0, 0, 9, 9]}
             for n in (0, 1)]  # fmt: skip
    for split, captions in (("testB", ["c", "d"]), ("testA", ["a", "b"]), ("val", ["e", "f"])):
        named = [{**one, "caption": text} for one, text in zip(images, captions, strict=True)]
        content = {"images": named, "annotations": boxes, "categories": [{"id": 1, "name": "x"}]}
        write(tmp_path / f"finetune_refcoco_{split}.json", content)
    found = read_expressions(tmp_path)
    numbered = [(row["sentence_id"], row["expression"]) for row in found.of("test")]
    assert numbered == [(2, "a"), (3, "b"), (4, "c"), (5, "d")]
    assert [row["sentence_id"] for row in found.of("val")] == [0, 1]


def test_mdetr_names_its_data_set(tmp_path):
    write_mdetr(tmp_path, "refcoco+")
    write_mdetr(tmp_path, "refcocog")
    with pytest.raises(ValueError, match=r"holds refcoco\+_unc and refcocog_umd, which are diff"):
        read_expressions(tmp_path)
    assert read_expressions(tmp_path, "gref_umd").dataset == "refcocog_umd"


def test_an_annotation_of_mdetr_without_its_image(tmp_path):
    write_mdetr(tmp_path)
    path = tmp_path / "finetune_refcoco_val.json"
    content = json.loads(path.read_text())
    content["images"] = []
    write(path, content)
    with pytest.raises(ValueError, match=r"finetune_refcoco_val\.json: annotation 52 has no image"):
        read_expressions(tmp_path)


def write_seqtr(folder):
    content = {}
    for ref in REFS:
        split = "testB" if ref["split"] == "testAB" else ref["split"]
        entry = {
            "bbox": BOXES[ref["ann_id"]],
            "mask": [[1, 2, 3, 4, 5, 6]],
            "image_id": ref["image_id"],
            "width": 40,
            "height": 30,
            "expressions": [sentence["sent"] for sentence in ref["sentences"]],
        }
        content.setdefault(split, []).append(entry)
    write(folder / "instances.json", content)


def test_seqtr(tmp_path, official):
    write_seqtr(tmp_path / "annotations" / "refcoco-unc")
    found = read_expressions(tmp_path)
    assert (found.dataset, found.layout) == ("refcoco_unc", "seqtr")
    assert said(found) == {split: said(official)[split] for split in ("train", "val", "testB")}
    rows = [row for rows in found.splits.values() for row in rows]
    assert [row["sentence_id"] for row in rows] == [0, 1, 2, 3, 4]
    assert [row["ref_id"] for row in rows] == [0, 0, 1, 2, 3]
    assert found.pictures[43] == "COCO_train2014_000000000043.jpg"
    assert found.sizes == official.sizes == {42: (40, 30), 43: (40, 30)}


def test_seqtr_in_a_folder_whose_name_tells_nothing(tmp_path):
    write_seqtr(tmp_path / "mine")
    with pytest.raises(ValueError, match=r"say dataset=refcoco_unc"):
        read_expressions(tmp_path)
    assert read_expressions(tmp_path, "refcoco+_unc").dataset == "refcoco+_unc"


def write_albef(root):
    """Lists that begin like ALBEF's, beside the official folder."""
    write_refer(root / "refcoco+")
    for split, chosen in (("train", REFS[:1]), ("val", REFS[1:2]), ("test", REFS[2:])):
        entries = [
            {
                "image": f"train2014/COCO_train2014_{ref['image_id']:012d}.jpg",
                "text": sentence["sent"],
                "ref_id": ref["ref_id"],
            }
            for ref in chosen
            for sentence in ref["sentences"]
        ]
        write(root / f"refcoco+_{split}.json", entries)


def test_albef_and_x_vlm(tmp_path, official):
    write_albef(tmp_path)
    assert read_expressions(tmp_path).layout == "refer"  # the official files are there as well
    found = read_expressions(tmp_path, layout="albef")
    assert (found.dataset, found.layout) == ("refcoco+_unc", "albef")
    assert found.sizes == official.sizes
    assert said(found) == said(official)  # boxes and splits are the references'
    assert [row["sentence_id"] for row in found.splits["testB"]] == [3, 4]
    write(tmp_path / "refcoco+_val.json", [{"image": "x.jpg", "text": "a", "ref_id": 9}])
    with pytest.raises(
        ValueError, match=r"refcoco\+_val\.json: entry 0 is of ref_id 9, which .*re"
    ):
        read_expressions(tmp_path, layout="albef")


# What is found


def test_the_folder_itself_or_one_that_holds_it(tmp_path):
    write_refer(tmp_path / "a" / "refer" / "refcoco")
    for root in ("a/refer/refcoco", "a/refer", "a"):
        assert read_expressions(tmp_path / root).dataset == "refcoco_unc"
    with pytest.raises(FileNotFoundError, match="two folders down; looked for the official files"):
        read_expressions(tmp_path)


def test_a_bare_name_with_two_splits_is_refused_with_both_names(tmp_path):
    write_refer(tmp_path / "refcocog", "umd")
    assert read_expressions(tmp_path, "refcocog").dataset == "refcocog_umd"
    write_refer(tmp_path / "refcocog", "google")
    with pytest.raises(
        ValueError, match=r"^'refcocog' may be refcocog_umd and refcocog_google, .*say dataset="
    ):
        read_expressions(tmp_path, "refcocog")
    source, name = find_source(tmp_path, "gref")
    assert (source.files["refs"].name, name) == ("refs(google).p", "refcocog_google")


def test_a_folder_of_another_name_must_be_told(tmp_path):
    write_refer(tmp_path / "mine")
    with pytest.raises(ValueError, match=r"refcoco_unc and refcoco\+_unc, .*say dataset=refcoco_u"):
        read_expressions(tmp_path)
    assert read_expressions(tmp_path, "unc+").dataset == "refcoco+_unc"


def test_json_stands_in_for_the_pickle(tmp_path):
    folder = write_refer(tmp_path / "refcoco")
    expected = read_expressions(folder).splits
    (folder / "refs(unc).p").unlink()
    write(folder / "refs(unc).json", REFS)
    assert read_expressions(folder).splits == expected


def test_what_is_not_there(tmp_path):
    write_refer(tmp_path / "refcoco")
    with pytest.raises(FileNotFoundError, match=r"no gref in .*; there is: refcoco_unc\."):
        read_expressions(tmp_path, "gref")
    with pytest.raises(FileNotFoundError, match=r"looked for MDETR's finetune"):
        read_expressions(tmp_path, layout="mdetr")
    with pytest.raises(ValueError, match="unknown layout 'transvg'; choose from: albef, auto"):
        read_expressions(tmp_path, layout="transvg")
    with pytest.raises(FileNotFoundError, match=r"no folder .*none"):
        read_expressions(tmp_path / "none")


def test_two_copies_of_one_data_set(tmp_path):
    write_refer(tmp_path / "a" / "refcoco")
    write_refer(tmp_path / "b" / "refcoco")
    with pytest.raises(
        ValueError, match=r"refcoco_unc lies in several folders .*a/refcoco, .*b/re"
    ):
        read_expressions(tmp_path)
