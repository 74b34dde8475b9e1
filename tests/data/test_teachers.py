"""The store of teacher features."""

import json
import pickle

import numpy as np
import pytest
import torch

from tbkin.data.teachers import TeacherStore, teacher_scores, unit_rows, write_teacher

ENCODER = {"name": "mine", "sha256": "0" * 64, "pooling": "mean"}
ROWS = np.array([[3.0, 4.0], [0.0, 2.0], [1e30, 0.0]])
IDS = [30, 10, 20]


@pytest.fixture
def folder(tmp_path):
    remake = "tbkin prep teachers data.root=prepared/mine text=encoder"
    assert write_teacher(tmp_path / "text", "captions", IDS, [ROWS], ENCODER, remake) == 2
    return tmp_path / "text"


def test_rows_come_back_by_id_with_length_one(folder):
    store = TeacherStore.open(folder)
    # (3, 4) / 5, (0, 2) / 2, (1e30, 0) / 1e30, which float16 could not hold as it is.
    expected = {30: [0.6, 0.8], 10: [0.0, 1.0], 20: [1.0, 0.0]}
    found = store[[20, 30, 30, 10]]
    assert found.dtype == torch.float32
    wanted = torch.tensor([expected[number] for number in (20, 30, 30, 10)])
    torch.testing.assert_close(found, wanted, atol=3e-4, rtol=0)
    torch.testing.assert_close(store[torch.tensor([10])], torch.tensor([[0.0, 1.0]]))
    assert (len(store), store.width) == (3, 2)


def test_blocks_make_one_matrix(tmp_path):
    write_teacher(tmp_path / "a", "pictures", range(5), [np.eye(5)], ENCODER)
    write_teacher(tmp_path / "b", "pictures", range(5), [np.eye(5)[:2], np.eye(5)[2:]], ENCODER)
    whole, parts = (TeacherStore.open(tmp_path / name)[range(5)] for name in "ab")
    torch.testing.assert_close(whole, torch.eye(5))
    torch.testing.assert_close(parts, torch.eye(5))


def test_the_files(folder):
    assert json.loads((folder / "ids.json").read_text()) == IDS
    record = json.loads((folder / "teacher.json").read_text())
    assert record["encoder"] == ENCODER
    assert (record["of"], record["width"], record["rows"]) == ("captions", 2, 3)
    stored = np.load(folder / "features.npy", allow_pickle=False)
    assert stored.dtype == np.float16
    assert isinstance(TeacherStore.open(folder)._features, np.memmap)


def test_a_missing_id_names_itself_and_the_command(folder):
    store = TeacherStore.open(folder)
    with pytest.raises(LookupError, match=r"no teacher features of caption 11 and of 1 more; .*"):
        store[[10, 99, 11, 99]]
    with pytest.raises(LookupError, match="text=encoder overwrite=true") as caught:
        store.check(torch.tensor([5]))
    assert "caption 5;" in str(caught.value)
    assert not isinstance(caught.value, KeyError)  # which the command line takes for our mistake
    store.check(IDS)


def test_own_features_have_no_command(tmp_path):
    write_teacher(tmp_path / "own", "pictures", [1], [np.ones((1, 3))], ENCODER)
    with pytest.raises(LookupError, match="of picture 2; make it again: write it anew with these"):
        TeacherStore.open(tmp_path / "own")[[2]]


@pytest.mark.parametrize(
    ("row", "what"),
    [
        ([0.0, 0.0], "only zeros"),
        ([np.nan, 1.0], "values that are not finite"),
        ([np.inf, 1.0], "values that are not finite"),
    ],
)
def test_a_row_that_tells_nothing_is_refused(folder, row, what):
    before = (folder / "features.npy").read_bytes()
    with pytest.raises(ValueError, match=f"features of caption 8 are {what}"):
        write_teacher(folder, "captions", [7, 8], [ROWS[:1], np.array([row])], ENCODER)
    assert (folder / "features.npy").read_bytes() == before
    assert [path.name for path in folder.parent.iterdir()] == ["text"]


@pytest.mark.parametrize(
    ("ids", "complaint"),
    [
        ([1, 2], "more than 2 rows"),
        ([1, 2, 3, 4], "3 rows of features for 4 ids"),
        ([1, 2, 1], "caption 1 has teacher features more than once"),
    ],
)
def test_ids_and_rows_must_match(tmp_path, ids, complaint):
    with pytest.raises(ValueError, match=complaint):
        write_teacher(tmp_path / "x", "captions", ids, [ROWS], ENCODER)
    assert not (tmp_path / "x").exists()


def test_an_unknown_kind(tmp_path):
    with pytest.raises(ValueError, match="not of 'words'"):
        write_teacher(tmp_path / "x", "words", [1], [ROWS[:1]], ENCODER)


def test_float16_costs_little_of_a_cosine():
    generator = np.random.default_rng(0)
    for width in (384, 37_632):  # a sentence encoder; Unicom's patches, most of them subnormal
        rows = generator.normal(size=(6, width)) + generator.normal(size=(1, width))
        exact = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        names = ["row"] * len(rows)
        found = teacher_scores(torch.from_numpy(unit_rows(rows, names).astype(np.float32)))
        assert np.abs(found.numpy() - exact @ exact.T).max() < 1e-4


def test_scores_by_hand():
    features = torch.tensor([[3.0, 4.0], [8.0, 6.0], [0.0, -1.0]], requires_grad=True)
    scores = teacher_scores(features.half())
    # (3, 4)/5 . (4, 3)/5 = 24/25; (3, 4)/5 . (0, -1) = -4/5; (4, 3)/5 . (0, -1) = -3/5
    expected = torch.tensor([[1.0, 0.96, -0.8], [0.96, 1.0, -0.6], [-0.8, -0.6, 1.0]])
    torch.testing.assert_close(scores, expected)
    assert scores.dtype == torch.float32
    assert not scores.requires_grad


def test_a_process_that_is_spawned_maps_the_file_itself(tmp_path):
    write_teacher(tmp_path / "big", "pictures", range(900), [np.ones((900, 64))], ENCODER)
    store = TeacherStore.open(tmp_path / "big")
    sent = pickle.dumps(store)
    assert len(sent) < 1000
    torch.testing.assert_close(pickle.loads(sent)[[3, 5]], store[[3, 5]])


def test_no_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"tbkin prep teachers data\.root="):
        TeacherStore.open(tmp_path)


def test_damage_is_found_when_the_folder_is_opened(folder):
    (folder / "ids.json").write_text("[1, 2]")
    with pytest.raises(ValueError, match=r"features of shape \(3, 2\) for 2 ids"):
        TeacherStore.open(folder)
    np.save(folder / "features.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match="no sound folder of teacher features"):
        TeacherStore.open(folder)
    (folder / "teacher.json").write_text('{"schema": "other/1"}')
    with pytest.raises(ValueError, match="schema 'other/1', this version reads"):
        TeacherStore.open(folder)
    (folder / "teacher.json").write_text("[")
    with pytest.raises(ValueError, match="no sound folder"):
        TeacherStore.open(folder)
