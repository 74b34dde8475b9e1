"""Pictures -> region store."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_prep import regions
from tbkin.data import features
from tbkin.data.features import RegionStore
from tbkin.detectors import DetectorSettings

ROOT = Path(__file__).parents[2]


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
    regions.main(
        [f"images={pictures}", f"output={output}", "detector=grid", "detector.rows=2", "ids=number"]
    )
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
    for ids in ("number", "name", "auto"):
        found = regions.find_pictures([root], ids)
        assert list(found) == ["42"]
        assert found["42"].is_file()


def test_ids_are_numbers_where_every_picture_has_its_own(pictures):
    by_number = regions.find_pictures([pictures], "number")
    assert {key: path.name for key, path in by_number.items()} == {
        "42": "COCO_val2014_000000000042.png",
        "7": "7.jpg",
    }
    names = {"COCO_val2014_000000000042", "deep/7", "no-number"}
    assert set(regions.find_pictures([pictures], "name")) == names
    assert set(regions.find_pictures([pictures], "auto")) == names  # one has no number
    (pictures / "no-number.png").unlink()
    assert set(regions.find_pictures([pictures], "auto")) == {"42", "7"}
    Image.new("RGB", (5, 5)).save(pictures / "other-42.png")  # 42 again: names tell them apart
    assert "other-42" in regions.find_pictures([pictures], "auto")
    assert set(regions.find_pictures([pictures / "deep" / "7.jpg"], "auto")) == {"7"}


def test_two_pictures_of_one_name_are_refused(pictures):
    Image.new("RGB", (5, 5)).save(pictures / "no-number.jpg")
    with pytest.raises(ValueError, match=r"no-number\.jpg and .*no-number\.png would both"):
        regions.find_pictures([pictures], "name")


def test_a_folder_without_pictures(tmp_path):
    (tmp_path / "a.txt").write_text("no picture")
    with pytest.raises(FileNotFoundError, match=r"no pictures in .*looked for \.jpg"):
        regions.main([f"images={tmp_path}", f"output={tmp_path / 's'}"])
    assert not (tmp_path / "s").exists()


def many(folder, count):
    folder.mkdir()
    for number in range(count):
        Image.new("RGB", (8, 8), (number, 0, 0)).save(folder / f"{number}.png")


def test_a_stopped_run_goes_on_where_it_was(tmp_path, monkeypatch):
    many(tmp_path / "pictures", 12)
    monkeypatch.setattr(regions, "IMAGES_A_SHARD", 5)
    words = [f"images={tmp_path / 'pictures'}", f"output={tmp_path / 's'}"]
    opened = []
    real = regions.open_picture

    def failing(path):
        opened.append(path.name)
        if len(opened) == 8:
            raise KeyboardInterrupt
        return real(path)

    monkeypatch.setattr(regions, "open_picture", failing)
    with pytest.raises(KeyboardInterrupt):
        regions.main(words)
    assert not (tmp_path / "s").exists()
    regions.main(words)
    assert len(opened) == 8 + 7  # the first five are not read again
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pictures", "s"]
    names = sorted(path.name for path in (tmp_path / "s").iterdir())
    shards = [f"shard-0000{n}.safetensors" for n in range(3)]
    assert names == ["manifest.json", "settings.json", *shards]
    store = RegionStore(tmp_path / "s")
    assert sorted(store.places, key=int) == [str(n) for n in range(12)]
    for number in range(12):
        assert store[number].features[0, 0].item() == pytest.approx(number / 255, abs=1e-4)


def test_other_settings_do_not_mix_into_a_stopped_run(tmp_path, monkeypatch):
    many(tmp_path / "pictures", 3)
    words = [f"images={tmp_path / 'pictures'}", f"output={tmp_path / 's'}"]
    monkeypatch.setattr(regions, "write_manifest", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        regions.main(words)
    monkeypatch.undo()
    with pytest.raises(ValueError, match=r"begun with other settings .*grid 6x6.*grid 2x6"):
        regions.main([*words, "detector.rows=2"])
    regions.main([*words, "detector.rows=2", "overwrite=true"])
    assert RegionStore(tmp_path / "s").fingerprint["boxes"] == "grid 2x6"


def test_processes_share_the_pictures(tmp_path, monkeypatch, capsys):
    many(tmp_path / "pictures", 12)
    monkeypatch.setattr(regions, "IMAGES_A_SHARD", 5)
    words = [f"images={tmp_path / 'pictures'}", f"output={tmp_path / 's'}"]
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank in ("1", "0"):
        monkeypatch.setenv("RANK", rank)
        regions.main(words)
    assert "has done its share" in capsys.readouterr().out
    assert len(RegionStore(tmp_path / "s")) == 12


def stored(folder):
    """Every file of a store."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("moment", ["before it reads", "before it writes", "before it moves"])
def test_of_two_processes_that_join_at_once_one_succeeds(moment, tmp_path, monkeypatch, capsys):
    many(tmp_path / "pictures", 3)
    words = [f"images={tmp_path / 'pictures'}", f"output={tmp_path / 's'}"]
    write_manifest, write_json = regions.write_manifest, features.write_json
    before = {}

    def other_process():
        """Joins while the one that wrote the only shard is about to."""
        with monkeypatch.context() as patch:
            patch.setattr(regions, "write_manifest", write_manifest)
            patch.setattr(features, "write_json", write_json)
            patch.setenv("RANK", "1")
            regions.main(words)
        before.update(stored(tmp_path / "s"))

    def overtaken(folder, shards, mark):
        if moment == "before it reads":
            other_process()
        if moment == "before it writes":
            json_of = lambda *words: (other_process(), write_json(*words))  # noqa: E731
            monkeypatch.setattr(features, "write_json", json_of)
        count = write_manifest(folder, shards, mark)
        if moment == "before it moves":
            other_process()
        return count

    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setattr(regions, "write_manifest", overtaken)
    paths = regions.find_pictures([tmp_path / "pictures"], "auto")
    assert regions.extract(paths, DetectorSettings(), tmp_path / "s") is None
    assert stored(tmp_path / "s") == before
    assert len(RegionStore(tmp_path / "s")) == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pictures", "s"]
    assert "regions of 3 pictures" in capsys.readouterr().out


def test_a_finished_store_is_taken_if_its_settings_are_the_same(tmp_path, monkeypatch):
    many(tmp_path / "pictures", 3)
    paths = regions.find_pictures([tmp_path / "pictures"], "auto")
    assert regions.extract(paths, DetectorSettings(), tmp_path / "s") == 3
    before = stored(tmp_path / "s")
    monkeypatch.setattr(regions, "write_shards", lambda *_, **__: 1 / 0)
    assert regions.extract(paths, DetectorSettings(), tmp_path / "s") == 3
    with pytest.raises(ValueError, match=r"s was begun with other settings \(fingerprint: .*2x6"):
        regions.extract(paths, DetectorSettings(rows=2), tmp_path / "s")
    with pytest.raises(ValueError, match=r"other settings \(pictures: begun with 3, now 2"):
        regions.extract(dict(list(paths.items())[:2]), DetectorSettings(), tmp_path / "s")
    monkeypatch.setenv("WORLD_SIZE", "2")  # of several processes the first goes on
    assert regions.extract(paths, DetectorSettings(), tmp_path / "s") == 3
    monkeypatch.setenv("RANK", "1")
    assert regions.extract(paths, DetectorSettings(), tmp_path / "s") is None
    assert stored(tmp_path / "s") == before
    with pytest.raises(ZeroDivisionError):
        regions.extract(paths, DetectorSettings(rows=2), tmp_path / "s", overwrite=True)


def test_two_real_processes_at_once(tmp_path):
    many(tmp_path / "pictures", 4)
    words = [f"images={tmp_path / 'pictures'}", f"output={tmp_path / 's'}", "overwrite=true"]
    # Shards of one picture, so that both have a share.
    code = "import sys; from data_prep import regions; regions.IMAGES_A_SHARD = 1; "
    code += "regions.main(sys.argv[1:])"
    jobs = [
        subprocess.Popen(
            [sys.executable, "-c", code, *words],
            env={**os.environ, "PYTHONPATH": str(ROOT), "RANK": rank, "WORLD_SIZE": "2"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in "01"
    ]
    said = [job.communicate(timeout=120)[0] for job in jobs]
    assert [job.returncode for job in jobs] == [0, 0], said
    assert "".join(said).count("regions of 4 pictures") == 1
    assert set(RegionStore(tmp_path / "s").places) == {"0", "1", "2", "3"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pictures", "s"]


def test_only_a_step_that_can_skip_pictures_says_so(tmp_path):
    many(tmp_path / "pictures", 2)
    (tmp_path / "pictures" / "1.png").write_bytes(b"not a picture")
    paths = regions.find_pictures([tmp_path / "pictures"], "auto")
    with pytest.raises(ValueError, match=r"kept: mend the file, and start the same .* again\.$"):
        regions.extract(paths, DetectorSettings(), tmp_path / "s")


def test_a_file_that_is_no_picture(tmp_path, capsys):
    many(tmp_path / "pictures", 3)
    (tmp_path / "pictures" / "1.png").write_bytes(b"not a picture")
    words = [f"images={tmp_path / 'pictures'}", f"output={tmp_path / 's'}"]
    with pytest.raises(ValueError, match=r"1\.png is not a readable picture.*unreadable=skip"):
        regions.main(words)
    regions.main([*words, "unreadable=skip", "overwrite=true"])
    store = RegionStore(tmp_path / "s")
    assert set(store.places) == {"0", "2"}
    assert "1.png is not a readable picture" in store.manifest["notes"]["1"]
    assert "1 of 3 pictures left out" in capsys.readouterr().err


def test_unlisted_pictures_get_a_grid_or_an_error(pictures, tmp_path, capsys):
    boxes = tmp_path / "boxes.json"
    content = {
        "images": [{"id": 42}],
        "categories": [{"id": 1, "name": "dog"}],
        "annotations": [{"image_id": 42, "category_id": 1, "bbox": [10, 10, 20, 20]}],
    }
    boxes.write_text(json.dumps(content))
    words = [f"images={pictures}", "ids=number", "detector=annotated", f"detector.boxes=[{boxes}]"]
    regions.main([*words, f"output={tmp_path / 'a'}"])
    assert "1 of 2 pictures are not in the detector's files" in capsys.readouterr().err
    store = RegionStore(tmp_path / "a")
    assert store["42"].labels == ["dog"]
    assert store["42"].boxes.tolist() == [[10, 10, 30, 30]]
    assert len(store["7"]) == 36
    with pytest.raises(LookupError, match="no boxes for image 7"):
        regions.main([*words, f"output={tmp_path / 'b'}", "detector.missing=error"])
    assert not (tmp_path / "b").exists()


def test_features_that_somebody_else_extracted(pictures, tmp_path):
    folder = tmp_path / "npz"
    folder.mkdir()
    for name in ("COCO_val2014_000000000042.jpg.npz", "7.npz"):
        np.savez(folder / name, x=np.ones((2, 16), np.float32), bbox=np.array([[0, 0, 9, 9]] * 2))
    words = [f"images={pictures}", f"output={tmp_path / 's'}", "ids=number", "detector=precomputed"]
    regions.main([*words, f"detector.features={folder}"])
    assert RegionStore(tmp_path / "s")["7"].features.shape == (2, 16)
    assert RegionStore(tmp_path / "s").fingerprint["extractor"].startswith("precomputed")
    (folder / "7.npz").unlink()
    with pytest.raises(LookupError, match="no region features for image 7"):  # a grid has no such
        regions.main([*words, f"detector.features={folder}", "overwrite=true"])
