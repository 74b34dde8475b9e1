"""Captions by class folder -> entries."""

import pytest

from tbkin.data.retrieval_classes import number_classes
from tbkin.data.retrieval_find import find_retrieval, read_retrieval

BIRDS = ("001.Albatross", "002.Auklet", "003.Crow", "010.Wren")


@pytest.fixture
def cub(tmp_path):
    """Four classes of two pictures with three captions each; the last one is for testing."""
    folder = tmp_path / "cvpr2016_cub"
    for name in BIRDS:
        for number in (1, 2):
            path = folder / "text_c10" / name / f"Bird_000{number}.txt"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("".join(f"{name} {number} {n}\n" for n in "abc"))
    (folder / "text_c10" / "001.Albatross.h5").write_bytes(b"")  # as Reed's folders have
    (folder / "trainvalclasses.txt").write_text("\n".join(BIRDS[:3]) + "\n")
    (folder / "testclasses.txt").write_text(BIRDS[3] + "\n")
    return folder


def test_trainval_and_test(cub):
    found = read_retrieval(find_retrieval(cub.parent))
    assert (found.source.dataset, found.source.official) == ("cub", True)
    assert {split: len(rows) for split, rows in found.splits.items()} == {"train": 18, "test": 6}
    assert found.splits["test"][3] == {
        "caption_id": 21,
        "image_id": 7,
        "identity": 10,  # of the name of the class, not its place
        "caption": "010.Wren 2 a",
    }
    assert {row["identity"] for row in found.splits["train"]} == {1, 2, 3}
    assert found.pictures[7] == "010.Wren/Bird_0002.jpg"
    assert found.identities
    # Ten captions of a picture count, not five.
    assert found.captions == 0


def test_texts_that_are_damaged_are_refused(cub):
    (cub / "text_c10/002.Auklet/Bird_0001.txt").write_bytes(b"a bird\xff\n")
    with pytest.raises(
        ValueError, match=r"002\.Auklet/Bird_0001\.txt is not UTF-8 .*copy it again"
    ):
        read_retrieval(find_retrieval(cub))


def test_train_and_val(cub):
    (cub / "trainclasses.txt").write_text("\n".join(BIRDS[:2]))
    (cub / "valclasses.txt").write_text(BIRDS[2])
    splits = read_retrieval(find_retrieval(cub)).splits
    assert {split: {row["identity"] for row in rows} for split, rows in splits.items()} == {
        "train": {1, 2},
        "val": {3},
        "test": {10},
    }


def test_without_a_list_for_training(cub):
    (cub / "trainvalclasses.txt").unlink()
    splits = read_retrieval(find_retrieval(cub)).splits
    assert {row["identity"] for row in splits["train"]} == {1, 2, 3}
    (cub / "testclasses.txt").unlink()
    assert list(read_retrieval(find_retrieval(cub)).splits) == ["train"]


def test_classes_that_no_list_for_training_names_are_not_learned(cub):
    (cub / "trainvalclasses.txt").write_text(BIRDS[0])
    splits = read_retrieval(find_retrieval(cub)).splits
    assert {row["identity"] for row in splits["train"]} == {1}


def test_lists_that_do_not_fit(cub):
    (cub / "testclasses.txt").write_text("011.Owl\n")
    with pytest.raises(ValueError, match=r"testclasses\.txt names the class '011\.Owl', which has"):
        read_retrieval(find_retrieval(cub))
    (cub / "testclasses.txt").write_text(BIRDS[0])
    with pytest.raises(ValueError, match=r"class 001\.Albatross is in train as well"):
        read_retrieval(find_retrieval(cub))


def test_flowers_are_numbered_by_their_pictures(tmp_path):
    for label, number in ((1, 6734), (77, 12)):
        path = tmp_path / f"text_c10/class_{label:05d}/image_{number:05d}.txt"
        path.parent.mkdir(parents=True)
        path.write_text("a flower\n")
    found = read_retrieval(find_retrieval(tmp_path))
    assert (found.source.dataset, found.numbered_by) == ("flowers", "name")
    assert [(row["image_id"], row["identity"]) for row in found.splits["train"]] == [
        (6734, 1),
        (12, 77),
    ]


def test_numbers_of_classes():
    assert number_classes(["003.Crow", "010.Wren"]) == {"003.Crow": 3, "010.Wren": 10}
    assert number_classes(["class_00102", "class_00007"]) == {"class_00102": 102, "class_00007": 7}
    # One without a number, or two of one: places among the sorted names.
    assert number_classes(["rose", "aster"]) == {"aster": 1, "rose": 2}
    assert number_classes(["1.b", "1.a"]) == {"1.a": 1, "1.b": 2}
