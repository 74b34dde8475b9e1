"""Pictures -> region store."""

import json

import numpy as np
import pytest
from PIL import Image

from data_prep import regions
from tbkin.data.features import RegionStore


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "pictures"
    (folder / "deep").mkdir(parents=True)
    Image.new("RGB", (60, 40), "red").save(folder / "COCO_val2014_000000000042.png")
    Image.new("RGB", (30, 30), "blue").save(folder / "deep" / "7.jpg")
    Image.new("RGB", (5, 5)).save(folder / "no-number.png")
    return folder


def test_grid_of_a_folder(pictures, tmp_path):
    output = tmp_path / "store"
    regions.main([f"images={pictures}", f"output={output}", "detector=grid", "detector.rows=2"])
    store = RegionStore(output)
    assert set(store.places) == {"42", "7"}
    assert store["42"].boxes[0].tolist() == [0, 0, 10, 20]
    red = store["42"].features[0].view(3, 8, 8)
    assert red[0].min() == 1
    assert red[1:].max() == 0
    assert store.fingerprint["boxes"] == "grid 2x6"


def test_pictures_that_an_index_names_elsewhere(pictures, tmp_path):
    root = tmp_path / "root"
    root.mkdir()
    index = [{"image_id": 42, "file": "../pictures/COCO_val2014_000000000042.png"}]
    (root / "index.json").write_text(json.dumps(index))
    found = regions.find_pictures([root])
    assert list(found) == ["42"]
    assert found["42"].is_file()


def test_unlisted_pictures_get_a_grid_or_an_error(pictures, tmp_path, capsys):
    boxes = tmp_path / "boxes.json"
    content = {
        "images": [{"id": 42}],
        "categories": [{"id": 1, "name": "dog"}],
        "annotations": [{"image_id": 42, "category_id": 1, "bbox": [10, 10, 20, 20]}],
    }
    boxes.write_text(json.dumps(content))
    words = [f"images={pictures}", "detector=annotated", f"detector.boxes=[{boxes}]"]
    regions.main([*words, f"output={tmp_path / 'a'}"])
    assert "1 of 2 pictures have no annotated boxes" in capsys.readouterr().err
    store = RegionStore(tmp_path / "a")
    assert store["42"].labels == ["dog"]
    assert store["42"].boxes.tolist() == [[10, 10, 30, 30]]
    assert len(store["7"]) == 36
    with pytest.raises(LookupError, match="no annotated boxes for image 7"):
        regions.main([*words, f"output={tmp_path / 'b'}", "detector.missing=error"])
    assert not (tmp_path / "b").exists()


def test_features_that_somebody_else_extracted(pictures, tmp_path):
    folder = tmp_path / "npz"
    folder.mkdir()
    for name in ("COCO_val2014_000000000042.jpg.npz", "7.npz"):
        np.savez(folder / name, x=np.ones((2, 16), np.float32), bbox=np.array([[0, 0, 9, 9]] * 2))
    words = [f"images={pictures}", f"output={tmp_path / 's'}", "detector=precomputed"]
    regions.main([*words, f"detector.features={folder}"])
    assert RegionStore(tmp_path / "s")["7"].features.shape == (2, 16)
    assert RegionStore(tmp_path / "s").fingerprint["extractor"] == "precomputed"
