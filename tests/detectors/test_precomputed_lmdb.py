import json
import os
import pickle
import sys

import numpy as np
import pytest

from tbkin.detectors.precomputed import PrecomputedFeatures
from tbkin.detectors.precomputed_lmdb import decode_array, decode_value, is_lmdb

pytest.importorskip("lmdb")
msgpack = pytest.importorskip("msgpack")

NAME = "feat_th0.2_max100_min10"


class Calls:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def read(detector, p):
    regions = detector(p.image, p.id)
    assert regions.features.tolist() == p.features.tolist()
    assert regions.boxes.tolist() == p.boxes.tolist()
    return regions


@pytest.mark.parametrize("name", ["packed", "zipped"])
def test_uniter_values_are_msgpack_or_npz(layouts, name):
    folder = layouts.write("uniter_lmdb", dump=getattr(layouts, name))
    for path in (folder, folder / NAME, folder / NAME / "data.mdb"):
        detector = PrecomputedFeatures(path)
        for p in layouts.three():
            assert read(detector, p).scores == p.scores.tolist()


def test_a_single_file_is_a_database_too(layouts, tmp_path):
    folder = layouts.write("mmf_lmdb")
    path = (folder / "data.mdb").rename(tmp_path / "features.lmdb")
    assert is_lmdb(path)
    read(PrecomputedFeatures(path), layouts.three()[1])


def uniter_all(layouts, counts, name="all"):
    """A database that keeps 2 regions of every picture, and an nbb file."""
    pictures = layouts.three(even=True)
    folder = layouts.write("uniter_lmdb", pictures, name=name)
    keys = [f"coco_val2014_{int(p.id):012d}.npz" for p in pictures]
    path = folder / "nbb_th0.2_max100_min10.json"
    path.write_text(json.dumps(dict(zip(keys, counts, strict=False))))
    return folder / name, pictures


@pytest.mark.parametrize("name", ["all", NAME])
def test_the_nbb_file_says_how_many_regions_count(layouts, name):
    path, pictures = uniter_all(layouts, [2, 1, 2], name)
    detector = PrecomputedFeatures(path)
    regions = detector(pictures[1].image, "7")
    assert regions.boxes.tolist() == pictures[1].boxes[:1].tolist()
    assert regions.features.tolist() == pictures[1].features[:1].tolist()
    assert regions.scores == pictures[1].scores[:1].tolist()
    assert len(detector(pictures[0].image, "42")) == 2


def test_an_nbb_file_that_does_not_fit_is_an_error(layouts):
    path, pictures = uniter_all(layouts, [3, 1])
    detector = PrecomputedFeatures(path)
    with pytest.raises(ValueError, match=r"42\.npz .*the nbb file keeps 3 of its 2 regions"):
        detector(pictures[0].image, "42")
    with pytest.raises(ValueError, match=r"100\.npz .*nbb file beside the database does not list"):
        detector(pictures[2].image, "100")
    (path.parent / "nbb_th0.5_max100_min10.json").write_text("{}")
    with pytest.raises(ValueError, match=r"all may go with any of nbb_th0\.2_.*nbb_th0\.5"):
        PrecomputedFeatures(path)
    for file in path.parent.glob("nbb*"):
        file.unlink()
    read(PrecomputedFeatures(path), pictures[0])  # without one every region counts
    (path.parent / "nbb_th0.2_max100_min10.json").write_text("[]")
    with pytest.raises(ValueError, match=r"nbb_th0\.2_max100_min10\.json is not"):
        PrecomputedFeatures(path)


def test_a_fixed_number_of_regions_needs_no_nbb_file(layouts):
    path, pictures = uniter_all(layouts, [1, 1, 1], "feat_numbb2")
    read(PrecomputedFeatures(path), pictures[0])


def test_several_databases_in_a_folder_need_a_name(layouts, tmp_path):
    layouts.write("uniter_lmdb")
    layouts.write("mmf_lmdb")
    with pytest.raises(ValueError, match=r"holds 2 feature files .*name one"):
        PrecomputedFeatures(tmp_path)


def test_a_database_of_neither_or_both_is_an_error(layouts, tmp_path):
    path = layouts.write_lmdb(tmp_path / "neither", {"a": b"1", "b": b"2"})
    with pytest.raises(ValueError, match=r"neither has neither of the keys .*first keys are a, b"):
        PrecomputedFeatures(path)
    with pytest.raises(ValueError, match=r"neither is not .*it has no key '__keys__'"):
        PrecomputedFeatures(path, "uniter_lmdb")
    values = {"__keys__": b"[]", "keys": pickle.dumps([])}
    path = layouts.write_lmdb(tmp_path / "both", values)
    with pytest.raises(ValueError, match=r"both has both of the keys"):
        PrecomputedFeatures(path)
    with pytest.raises(ValueError, match=r"both is mmf_lmdb and holds no images"):
        PrecomputedFeatures(path, "mmf_lmdb")


def test_a_listed_key_that_is_missing_is_no_missing_picture(layouts, tmp_path):
    path = layouts.write_lmdb(tmp_path / "d", {"keys": pickle.dumps([b"val/42"])})
    with pytest.raises(ValueError, match=r"key val/42 is not .*it is not there") as caught:
        PrecomputedFeatures(path)(layouts.three()[0].image, "42")
    assert not isinstance(caught.value, LookupError)


def test_a_database_that_was_cut_off_does_not_kill_the_process(layouts, tmp_path):
    folder = layouts.write("mmf_lmdb")
    path = folder / "data.mdb"
    whole = path.read_bytes()
    for length in (8192, len(whole) // 2, len(whole) - 4096, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=rf"cut off: {length} bytes of {len(whole)}; copy it"):
            PrecomputedFeatures(folder)


# Pickles and msgpack


def test_an_exploit_in_a_value_or_in_the_keys_is_refused(layouts, tmp_path):
    mark = tmp_path / "ran"
    bomb = pickle.dumps({"features": Calls(os.system, f"touch '{mark}'")})
    keys = pickle.dumps([b"val/42"])
    path = layouts.write_lmdb(tmp_path / "value", {"val/42": bomb, "keys": keys})
    with pytest.raises(ValueError, match=r"value, key val/42 asks for \w+\.system, which is no"):
        PrecomputedFeatures(path)(layouts.three()[0].image, "42")
    path = layouts.write_lmdb(tmp_path / "keys", {"keys": bomb})
    with pytest.raises(ValueError, match=r"keys, key 'keys' asks for \w+\.system"):
        PrecomputedFeatures(path)
    assert not mark.exists()


def test_mmf_values_of_another_kind_are_named(layouts, tmp_path):
    p = layouts.three()[0]
    info = layouts.mmf_info(p)
    for value, message in (
        ([1], r"holds no dict with features"),
        ({"features": p.features}, r"has no bbox, image_height, image_width; it has features"),
        ({**info, "features": p.features, "num_boxes": 3}, r"num_boxes is 3, with 2 boxes, 2 feat"),
        ({**info, "features": p.features, "bbox": p.boxes[:1]}, r"num_boxes is 2, with 1 boxes"),
        ({**info, "features": p.features[0]}, r"features are float32 of shape \(2,\)"),
    ):
        values = {"42": pickle.dumps(value), "keys": pickle.dumps([b"42"])}
        path = layouts.write_lmdb(tmp_path / str(len(list(tmp_path.iterdir()))), values)
        with pytest.raises(ValueError, match=r"key 42 is not a region feature file: .*" + message):
            PrecomputedFeatures(path)(p.image, "42")


@pytest.mark.parametrize("text_keys", [True, False])
def test_msgpack_of_either_age_is_an_array(text_keys):
    array = np.float16([[1, 2], [3, 4]])
    item = {b"nd": True, b"type": "<f2", b"kind": b"", b"shape": (2, 2), b"data": array.tobytes()}
    value = msgpack.packb({"features": item}, use_bin_type=text_keys)  # False: before msgpack 1.0
    found = decode_value(value)["features"]
    assert (found.dtype, found.tolist()) == (np.float16, array.tolist())


def test_pickled_and_odd_arrays_in_msgpack_are_refused(tmp_path):
    mark = tmp_path / "ran"
    bomb = pickle.dumps(Calls(os.system, f"touch '{mark}'"))
    good = {b"nd": True, b"type": b"<f4", b"kind": b"", b"shape": [2], b"data": b"12345678"}
    assert decode_array(good).shape == (2,)
    for change, message in (
        ({b"kind": b"O", b"type": b"|O", b"data": bomb}, r"pickled or structured; it was not op"),
        ({b"type": b"|O", b"data": bomb}, r"object, no numbers"),
        ({b"kind": b"V", b"type": [[b"x", b"<f4"]]}, r"pickled or structured"),
        ({b"shape": [3]}, r"\(3,\) of float32 in 8 bytes"),
        ({b"shape": [-2]}, r"\(-2,\) of float32 in 8 bytes"),
    ):
        with pytest.raises(ValueError, match=message):
            decode_array({**good, **change})
    for item in (b"text", {}, 3):
        with pytest.raises(ValueError, match=r"where an array should be"):
            decode_array(item)
    assert not mark.exists()


@pytest.mark.parametrize("value", [b"", b"\xc1", b"\x93\x01", b"PK\x03\x04nothing", b"\x01"])
def test_values_that_are_neither_are_named(layouts, tmp_path, value):
    values = {"42.npz": value, "__keys__": b'["42.npz"]'}
    path = layouts.write_lmdb(tmp_path / "d", values)
    with pytest.raises(ValueError, match=r"d, key 42\.npz is not a region feature file"):
        PrecomputedFeatures(path)(layouts.three()[0].image, "42")


def test_a_missing_library_names_the_extra(layouts, monkeypatch):
    folder = layouts.write("uniter_lmdb")
    detector = PrecomputedFeatures(folder)
    monkeypatch.setitem(sys.modules, "msgpack", None)
    with pytest.raises(ImportError, match=r"pip install 'tbkin\[features\]'"):
        detector(layouts.three()[0].image, "42")
    monkeypatch.setitem(sys.modules, "lmdb", None)
    with pytest.raises(
        ImportError, match=r"max100_min10 is an LMDB; .*pip install 'tbkin\[features"
    ):
        PrecomputedFeatures(folder)
