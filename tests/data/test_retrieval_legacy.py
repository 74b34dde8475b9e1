"""``*_caps.txt`` and ``*_ims.npy`` -> entries and regions."""

import json

import numpy as np
import pytest
import torch

from tbkin.data.features import RegionStore, write_regions
from tbkin.data.retrieval_find import find_retrieval, read_retrieval
from tbkin.data.retrieval_legacy import (
    BOX_SOURCE,
    fingerprint_of_features,
    open_features,
    regions_without_boxes,
)

REGIONS, WIDTH = 3, 4


@pytest.fixture
def folder(tmp_path):
    """``make(split, pictures, captions a picture, times each row stands there)``."""
    root = tmp_path / "f30k_precomp"
    root.mkdir()

    def make(split, pictures, each, times=1, ids=None):
        rows = np.random.default_rng(0).random((pictures, REGIONS, WIDTH), dtype=np.float32)
        np.save(root / f"{split}_ims.npy", rows.repeat(times, axis=0))
        lines = [f"caption {c} of {p}" for p in range(pictures) for c in range(each)]
        (root / f"{split}_caps.txt").write_text("\n".join(lines) + "\n")
        if ids is not None:
            (root / f"{split}_ids.txt").write_text("\n".join(map(str, ids)) + "\n")
        return rows

    make.root = root
    return make


def brief(rows):
    return [(row["image_id"], row["caption"]) for row in rows]


def test_a_row_a_picture(folder):
    rows = folder("dev", pictures=2, each=3)
    source = find_retrieval(folder.root.parent)
    assert (source.dataset, source.layout) == ("flickr30k", "legacy")
    found = read_retrieval(source)
    assert brief(found.splits["val"]) == [
        (picture, f"caption {c} of {picture}") for picture in (0, 1) for c in range(3)
    ]
    assert found.features == {n: (folder.root / "dev_ims.npy", n) for n in (0, 1)}
    regions = list(regions_without_boxes(found))
    assert [one.image_id for one in regions] == ["0", "1"]
    np.testing.assert_array_equal(regions[1].features, rows[1])


def test_each_picture_five_times(folder):
    rows = folder("train", pictures=3, each=5, times=5)
    found = read_retrieval(find_retrieval(folder.root))
    assert [row["image_id"] for row in found.splits["train"]] == [0] * 5 + [1] * 5 + [2] * 5
    regions = list(regions_without_boxes(found))
    assert len(regions) == 3
    np.testing.assert_array_equal(regions[2].features, rows[2])


def test_five_pictures_with_a_caption_each_are_no_picture_five_times(folder):
    folder("train", pictures=5, each=1)  # as many rows as captions, and all differ
    found = read_retrieval(find_retrieval(folder.root))
    assert brief(found.splits["train"]) == [(n, f"caption 0 of {n}") for n in range(5)]


@pytest.mark.parametrize("ids", [[8, 3], [8, 8, 8, 8, 8, 3, 3, 3, 3, 3]])
def test_ids_and_the_names_of_the_pictures(folder, ids):
    folder("test", pictures=2, each=5, ids=ids)
    folder("testall", pictures=2, each=5, ids=ids)
    (folder.root / "id_mapping.json").write_text(json.dumps({"8": "./a/b.jpg", "3": "a/c.jpg"}))
    found = read_retrieval(find_retrieval(folder.root))
    assert found.source.files["test_captions"].name == "testall_caps.txt"
    assert [row["image_id"] for row in found.splits["test"]] == [8] * 5 + [3] * 5
    assert found.pictures == {8: "a/b.jpg", 3: "a/c.jpg"}
    (folder.root / "testall_ims.npy").unlink()  # ids alone tell it, too
    found = read_retrieval(find_retrieval(folder.root))
    assert [row["image_id"] for row in found.splits["test"]] == [8] * 5 + [3] * 5
    assert not found.features


def test_splits_that_count_their_pictures_anew_get_places(folder):
    folder("train", pictures=2, each=1, ids=[0, 1])
    folder("dev", pictures=2, each=1, ids=[0, 1])
    found = read_retrieval(find_retrieval(folder.root))
    assert [row["image_id"] for row in found.splits["val"]] == [2, 3]
    assert found.numbered_by == "place"
    assert found.features[3] == (folder.root / "dev_ims.npy", 1)


def test_numbers_that_do_not_fit(folder):
    folder("train", pictures=2, each=5, ids=[1, 2, 3])
    with pytest.raises(ValueError, match=r"train_ids\.txt names 3 pictures.*captions of 2; give"):
        read_retrieval(find_retrieval(folder.root))
    np.save(folder.root / "train_ims.npy", np.zeros((3, REGIONS, WIDTH)))
    with pytest.raises(ValueError, match=r"has 10 captions, .* each of 3 pictures .*train_ims"):
        read_retrieval(find_retrieval(folder.root))


def test_features_that_are_none(folder):
    path = folder.root / "a.npy"
    np.save(path, np.array([{"x": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match=r"a\.npy is no array of numbers"):
        open_features(path)
    np.save(path, np.zeros((2, 4)))
    with pytest.raises(ValueError, match=r"must hold \(pictures, regions, features\) floats, got"):
        open_features(path)


def test_regions_say_that_they_have_no_boxes(folder, tmp_path):
    folder("train", pictures=2, each=5)
    found = read_retrieval(find_retrieval(folder.root))
    mark = fingerprint_of_features(found)
    assert mark == {"extractor": "precomputed, 4 wide", "weights": "", "boxes": BOX_SOURCE}
    assert write_regions(tmp_path / "store", regions_without_boxes(found), mark) == 2
    regions = RegionStore(tmp_path / "store")["1"]
    assert torch.equal(regions.boxes, torch.tensor([[0.0, 0, 1, 1]] * REGIONS))
    assert regions.labels == [""] * REGIONS
