"""Where a number comes from: what a checkpoint has learned from, and what stands by a score."""

import json
import shutil

import pytest

from tbkin import provenance


@pytest.fixture
def root(tmp_path):
    """A prepared folder with two splits."""
    folder = tmp_path / "prepared"
    folder.mkdir()
    record = {"schema": "tbkin.dataset/1", "task": "grounding", "dataset": "refcocog_umd"}
    record |= {"files": {"refs": {"path": "a", "sha256": "f00"}}, "detector": {"name": "yolox"}}
    (folder / "dataset.json").write_text(json.dumps(record))
    (folder / "train.jsonl").write_text('{"image_id": 1}\n')
    (folder / "val.jsonl").write_text('{"image_id": 2}\n')
    return folder


def checkpoint(folder, record):
    folder.mkdir()
    provenance.save_training_record(record, folder)
    return folder


def test_a_split_that_was_learned_from_is_refused_unless_told(root, tmp_path):
    split = provenance.split_record(root, "train")
    model = checkpoint(tmp_path / "m", provenance.training_record("r", [split], {"coco": {1, 5}}))
    with pytest.raises(ValueError, match=r"trained on split 'train'.*seen=true"):
        provenance.check_unseen(model, root, "train", {1}, allowed=False)
    seen = provenance.check_unseen(model, root, "train", {1}, allowed=True)
    assert seen == {"split_seen": True, "pictures_seen": 1, "pictures": 1}
    seen = provenance.check_unseen(model, root, "val", {2, 5, 7}, allowed=False)
    assert seen == {"split_seen": False, "pictures_seen": 1, "pictures": 3}


def test_the_same_examples_under_another_name_are_refused_too(root, tmp_path):
    split = provenance.split_record(root, "train")
    model = checkpoint(tmp_path / "m", provenance.training_record("r", [split], {"coco": {1}}))
    (root / "test.jsonl").write_text((root / "train.jsonl").read_text())
    with pytest.raises(ValueError, match="trained on split 'test'"):
        provenance.check_unseen(model, root, "test", {1}, allowed=False)


def test_what_a_start_has_seen_is_taken_over(root, tmp_path):
    pictures = {"coco": {1}, "visual_genome": {7}}
    first = provenance.training_record("r", [provenance.split_record(root, "train")], pictures)
    start = checkpoint(tmp_path / "start", first)
    later = [provenance.split_record(root, "val")]
    record = provenance.training_record("later", later, {"coco": {2}}, str(start))
    assert [split["split"] for split in record["splits"]] == ["train", "val"]
    assert record["images"] == {"coco": [1, 2], "visual_genome": [7]}
    assert pictures == {"coco": {1}, "visual_genome": {7}}
    assert record["known"]
    model = checkpoint(tmp_path / "m", record)
    with pytest.raises(ValueError, match="trained on split 'train'"):
        provenance.check_unseen(model, root, "train", {1}, allowed=False)
    assert provenance.read_training_record(model) == record


def test_a_start_that_says_nothing_leaves_it_unknown(root, tmp_path):
    (tmp_path / "converted").mkdir()
    record = provenance.training_record("r", [], {"coco": {2}}, str(tmp_path / "converted"))
    assert not record["known"]
    model = checkpoint(tmp_path / "m", record)
    seen = provenance.check_unseen(model, root, "val", {2}, allowed=False)
    assert seen == {"split_seen": None, "pictures_seen": 1, "pictures": 1}


def test_the_protocol_names_all_that_decides(root, tmp_path):
    split = provenance.split_record(root, "train")
    model = checkpoint(tmp_path / "m", provenance.training_record("r", [split], {"coco": {1}}))
    (model / "model.safetensors").write_bytes(b"weights")
    seen = provenance.check_unseen(model, root, "val", {2}, allowed=False)
    protocol = provenance.protocol_of(model, root, "val", 9, {"iou": "plain"}, seen)
    assert protocol["sha256"] == provenance.split_record(root, "val")["sha256"]
    assert protocol["files"] == {"refs a": "f00"}
    lines = "\n".join(provenance.protocol_lines(protocol))
    for said in ("val of refcocog_umd, 9 items", "split unseen", "0 of 1 pictures", "iou: plain"):
        assert said in lines
    assert "boxes: detector yolox" in lines
    assert "run r," in lines
    assert protocol["model"]["sha256"]["model.safetensors"][:12] in lines


def test_a_cut_of_a_split_of_the_same_name_is_refused_too(root, tmp_path):
    split = provenance.split_record(root, "train")
    model = checkpoint(tmp_path / "m", provenance.training_record("r", [split], {"coco": {1}}))
    (root / "train.jsonl").write_text('{"image_id": 1, "question": "other words"}\n')
    with pytest.raises(ValueError, match="trained on split 'train'"):
        provenance.check_unseen(model, root, "train", {1}, allowed=False)
    seen = provenance.check_unseen(model, root, "train", {9}, allowed=False)  # none of its pictures
    assert seen["split_seen"] is False


def test_a_number_of_another_collection_is_another_picture(root, tmp_path):
    # Learned: pictures 1 and 2 of COCO, and Visual Genome's 1 and 3. Asked: 1, 3 and 4.
    rows = [{"image_id": 1}, {"image_id": 2}, {"image_id": 2}]
    gqa = tmp_path / "gqa"
    shutil.copytree(root, gqa)
    record = json.loads((root / "dataset.json").read_text())
    (gqa / "dataset.json").write_text(json.dumps({**record, "picture_ids": "visual_genome"}))
    (gqa / "train.jsonl").write_text('{"image_id": 1, "question": "of Visual Genome"}\n')
    seen = provenance.pictures_by_collection(
        [(root, rows), (gqa, [{"image_id": 1}]), (gqa, [{"image_id": 3}])]
    )
    assert seen == {"coco": {1, 2}, "visual_genome": {1, 3}}
    splits = [provenance.split_record(root, "val")]
    model = checkpoint(tmp_path / "m", provenance.training_record("r", splits, seen))
    for folder, shared in ((root, 1), (gqa, 2)):
        found = provenance.check_unseen(model, folder, "train", {1, 3, 4}, allowed=False)
        assert found == {"split_seen": False, "pictures_seen": shared, "pictures": 3}


def test_a_split_of_the_same_name_of_another_collection_is_unseen(root, tmp_path):
    splits = [provenance.split_record(root, "train")]
    pictures = {"visual_genome": {1}}  # and so picture 1 of COCO, in root, is another
    model = checkpoint(tmp_path / "m", provenance.training_record("r", splits, pictures))
    (root / "train.jsonl").write_text('{"image_id": 1, "question": "other words"}\n')
    seen = provenance.check_unseen(model, root, "train", {1}, allowed=False)
    assert seen == {"split_seen": False, "pictures_seen": 0, "pictures": 1}


def test_two_albums_without_a_name_are_two_data_sets(root, tmp_path):
    record = json.loads((root / "dataset.json").read_text())
    for name in ("one", "two"):
        shutil.copytree(root, tmp_path / name)
        own = {**record, "dataset": "", "root": f"/albums/{name}", "picture_ids": f"{name} (lists)"}
        (tmp_path / name / "dataset.json").write_text(json.dumps(own))
    one, two = (provenance.split_record(tmp_path / name, "train") for name in ("one", "two"))
    assert (one["dataset"], two["dataset"]) == ("one", "two")
    pictures = provenance.pictures_by_collection([(tmp_path / "one", [{"image_id": 1}])])
    model = checkpoint(tmp_path / "m", provenance.training_record("r", [one], pictures))
    (tmp_path / "two/train.jsonl").write_text('{"image_id": 1, "question": "of another album"}\n')
    seen = provenance.check_unseen(model, tmp_path / "two", "train", {1}, allowed=False)
    assert seen == {"split_seen": False, "pictures_seen": 0, "pictures": 1}


def test_pictures_of_checkpoints_from_before_collections_are_cocos_or_nobody_knows(root, tmp_path):
    old = {"run": "r", "known": True, "splits": [], "images": [1, 5]}
    model = checkpoint(tmp_path / "m", old)
    assert provenance.read_training_record(model)["images"] == {"coco": [1, 5]}
    seen = provenance.check_unseen(model, root, "train", {5, 6}, allowed=False)
    assert (seen["pictures_seen"], seen["split_seen"]) == (1, None)  # they may be GQA's


def test_what_a_split_is_not_stands_in_the_notes():
    record = {
        "val_held_out_from_train": True,
        "filtered": {"splits": ["val"], "against": ["image_data.json"]},
        "pictures_shared_with_train": {"val": 3},
    }
    held, filtered, shared = provenance.notes_of(record, "val")
    assert "held out" in held
    assert "image_data.json" in filtered
    assert "3 of its pictures" in shared
    assert provenance.notes_of(record, "train") == []


def test_runs_of_one_second_have_names_of_their_own():
    assert len({provenance.new_run_id(0) for _ in range(50)}) == 50
