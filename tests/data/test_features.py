import json
import pickle
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.utils.data import DataLoader, Dataset

from tbkin.data.features import (
    RegionStore,
    check_fingerprint,
    fingerprint,
    write_manifest,
    write_regions,
    write_shard,
)
from tbkin.graphs.regions import Regions

MARK = fingerprint("pixels 2x2", "", "grid 2x2")


@pytest.fixture
def pictures(regions, empty_regions):
    """Three pictures, the second without regions."""
    third = Regions(
        boxes=torch.tensor([[0.0, 0.0, 30.5, 40.25]]),
        width=64,
        height=48,
        labels=["circle"],
        scores=[0.25],
        attributes=[[("blue", 0.5), ("small", 0.25), ("striped", 0.125)]],
        relations=[],
        features=torch.rand(1, 12, generator=torch.Generator().manual_seed(1)),
        image_id="123456789012",
    )
    return [regions, empty_regions, third]


def same(found, expected):
    assert torch.equal(found.boxes, expected.boxes)
    # Features are kept in half precision.
    assert torch.equal(found.features, expected.features.half().float())
    assert found.features.dtype == torch.float32
    for name in ("width", "height", "labels", "image_id"):
        assert getattr(found, name) == getattr(expected, name)
    assert found.scores == pytest.approx(expected.scores)
    assert [[name for name, _ in one] for one in found.attributes] == [
        [name for name, _ in one] for one in expected.attributes
    ]
    for one, other in zip(found.attributes, expected.attributes, strict=True):
        assert [score for _, score in one] == pytest.approx([score for _, score in other])
    assert [link[:3] for link in found.relations] == [link[:3] for link in expected.relations]
    assert [link[3] for link in found.relations] == pytest.approx(
        [link[3] for link in expected.relations]
    )


@pytest.mark.parametrize("shard_size", [1, 2, 1000])
def test_round_trip_whatever_the_shards(tmp_path, pictures, shard_size):
    assert write_regions(tmp_path / "store", iter(pictures), MARK, shard_size) == 3
    store = RegionStore(tmp_path / "store")
    assert len(list((tmp_path / "store").glob("*.safetensors"))) == -(-3 // shard_size)
    assert len(store) == 3
    for expected in reversed(pictures):  # the order of reading does not matter
        same(store[expected.image_id], expected)
    same(store[7], pictures[0])  # numbers will do
    assert 7 in store
    assert "8" in store
    assert "9" not in store
    assert store.fingerprint == MARK


def test_relations_stay_with_their_picture(tmp_path, regions):
    other = replace(regions, image_id="9", relations=[(3, "on", 2, 0.5), (1, "left of", 0, 1.0)])
    write_regions(tmp_path / "store", [regions, other], MARK)
    store = RegionStore(tmp_path / "store")
    same(store[7], regions)
    same(store[9], other)


def test_a_store_of_nothing_but_empty_pictures(tmp_path, empty_regions):
    write_regions(tmp_path / "store", [empty_regions, replace(empty_regions, image_id="9")], MARK)
    same(RegionStore(tmp_path / "store")[8], empty_regions)


def test_writing_again_replaces_the_store(tmp_path, pictures):
    write_regions(tmp_path / "store", pictures, MARK, shard_size=1)
    write_regions(tmp_path / "store", pictures[:1], MARK)
    assert len(RegionStore(tmp_path / "store")) == 1
    assert len(list((tmp_path / "store").iterdir())) == 2


def test_an_error_while_writing_leaves_nothing(tmp_path, pictures):
    def failing():
        yield pictures[0]
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="disk"):
        write_regions(tmp_path / "store", failing(), MARK, shard_size=1)
    assert list(tmp_path.iterdir()) == []


def test_regions_without_features_or_with_nan_are_not_stored(tmp_path, regions):
    with pytest.raises(ValueError, match=r"image 7 have no features to store"):
        write_regions(tmp_path / "store", [replace(regions, features=None)], MARK)
    broken = regions.features.clone()
    broken[2, 3] = float("nan")
    with pytest.raises(ValueError, match=r"image 7: region features hold NaN or infinite"):
        write_regions(tmp_path / "store", [replace(regions, features=broken)], MARK)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e6])
def test_features_that_half_precision_cannot_hold_are_refused_when_written(
    tmp_path, regions, value
):
    # As data_prep does it: features are filled in after the regions were checked.
    regions.features = regions.features.clone()
    regions.features[0, 0] = value
    with pytest.raises(ValueError, match=r"image 7"):
        write_regions(tmp_path / "store", [regions], MARK)
    assert not (tmp_path / "store").exists()


def test_a_missing_image_names_the_image_the_folder_and_the_command(tmp_path, pictures):
    write_regions(tmp_path / "store", pictures, MARK)
    with pytest.raises(LookupError, match=r"image 42 in .*store \(3 images there\).*tbkin prep"):
        RegionStore(tmp_path / "store")[42]


def test_a_missing_store_names_the_command(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"manifest\.json is missing.*tbkin prep regions"):
        RegionStore(tmp_path / "none")


def test_another_schema_is_refused(tmp_path, pictures):
    write_regions(tmp_path / "store", pictures, MARK)
    path = tmp_path / "store" / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"schema": "tbkin.regions/0"}))
    with pytest.raises(
        ValueError, match=r"'tbkin\.regions/0', this version reads 'tbkin\.regions/2'"
    ):
        RegionStore(tmp_path / "store")


@pytest.mark.parametrize("damage", ["missing", "empty", "cut", "text"])
def test_a_damaged_shard_is_named(tmp_path, pictures, damage):
    write_regions(tmp_path / "store", pictures, MARK)
    path = tmp_path / "store" / "shard-00000.safetensors"
    whole = path.read_bytes()
    path.unlink()
    if damage != "missing":
        path.write_bytes({"empty": b"", "cut": whole[:-40], "text": b"x" * 400}[damage])
    with pytest.raises(ValueError, match=r"shard-00000\.safetensors is missing or damaged"):
        RegionStore(tmp_path / "store")


def test_a_fingerprint_that_differs_names_both():
    check_fingerprint(MARK, dict(MARK), "data")
    other = fingerprint("pixels 8x8", "", "grid 2x2")
    with pytest.raises(
        ValueError, match=r"prepared/x holds .* another kind .*extractor: expected"
    ) as error:
        check_fingerprint(MARK, other, "prepared/x")
    assert "'pixels 2x2', got 'pixels 8x8'" in str(error.value)
    assert "grid" not in str(error.value)  # what agrees is not named
    check_fingerprint(MARK, {**MARK, "boxes": "annotated a.json"}, "x", same_boxes=False)
    with pytest.raises(ValueError, match=r"boxes: expected 'grid 2x2', got None"):
        check_fingerprint(MARK, {"extractor": "pixels 2x2", "weights": ""}, "prepared/x")


def test_ids_may_be_any_text_and_must_differ(tmp_path, regions):
    other = replace(regions, image_id="holiday/IMG 7 ü", labels=["a", "b", "c", "a"])
    write_regions(tmp_path / "store", [regions, other], MARK, shard_size=1)
    store = RegionStore(tmp_path / "store")
    same(store["holiday/IMG 7 ü"], other)
    assert store.manifest["labels"] == ["circle", "square", "star", "cross", "a", "b", "c"]
    with pytest.raises(ValueError, match="two pictures have the id '7'"):
        write_regions(tmp_path / "twice", [regions, regions], MARK, shard_size=1)


def test_shards_of_several_processes_become_one_store(tmp_path, pictures):
    paths = [tmp_path / f"shard-0000{n}.safetensors" for n in range(3)]
    write_shard(paths[2], [pictures[2]])
    write_shard(paths[0], pictures[:2], {"8": "no boxes"})
    write_shard(paths[1], [], {"9": "unreadable"})
    assert write_manifest(tmp_path, paths, MARK) == 3
    store = RegionStore(tmp_path)
    for expected in pictures:
        same(store[expected.image_id], expected)
    assert store.manifest["notes"] == {"8": "no boxes", "9": "unreadable"}


def test_regions_without_features_are_the_same_but_for_them(tmp_path, regions):
    write_regions(tmp_path / "store", [regions], MARK)
    store = RegionStore(tmp_path / "store")
    found = store.without_features("7")
    assert found.features is None
    same(replace(found, features=regions.features.half().float()), store["7"])
    with pytest.raises(LookupError, match="image 8"):
        store.without_features("8")


def test_the_same_regions_are_the_same_bytes(tmp_path, pictures):
    for number in range(5):
        write_shard(tmp_path / str(number), pictures, {"8": "no boxes"})
    assert len({(tmp_path / str(number)).read_bytes() for number in range(5)}) == 1


def test_a_shard_that_somebody_else_wrote_is_refused(tmp_path, pictures):
    write_regions(tmp_path / "store", pictures, MARK)
    path = tmp_path / "store" / "shard-00000.safetensors"
    save_file(load_file(path), path)  # without the names
    with pytest.raises(
        ValueError, match=r"shard-00000\.safetensors does not say its images, notes, labels"
    ):
        RegionStore(tmp_path / "store")


class Pictures(Dataset):
    def __init__(self, store):
        self.store = store

    def __len__(self):
        return 3

    def __getitem__(self, place):
        return self.store[["7", "8", "123456789012"][place]].boxes


def test_copies_for_loader_workers_read_the_same(tmp_path, pictures):
    write_regions(tmp_path / "store", pictures, MARK, shard_size=2)
    store = RegionStore(tmp_path / "store")
    copies = [pickle.loads(pickle.dumps(store)) for _ in range(2)]
    for expected in pictures:
        for copy in copies:
            same(copy[expected.image_id], expected)
    loader = DataLoader(Pictures(store), batch_size=None, num_workers=2)
    for found, expected in zip(loader, pictures, strict=True):
        assert torch.equal(found, expected.boxes)
