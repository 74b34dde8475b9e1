import os
import pickle
import sys

import numpy as np
import pytest
from PIL import Image

from tbkin.detectors.precomputed import PrecomputedFeatures
from tbkin.detectors.precomputed_h5 import picture_size

h5py = pytest.importorskip("h5py")


class Calls:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def change(path, **datasets):
    """Replace datasets of a file; None leaves one out."""
    with h5py.File(path, "a") as file:
        for name, values in datasets.items():
            if name in file:
                del file[name]
            if values is not None:
                file[name] = values


@pytest.mark.parametrize("adaptive", [True, False])
def test_fixed_and_adaptive_files_are_read(layouts, adaptive):
    pictures = layouts.three(even=not adaptive)
    path = layouts.write("butd_h5", pictures, adaptive=adaptive)
    detector = PrecomputedFeatures(path)
    assert detector.reader.adaptive == adaptive
    for p in pictures:
        regions = detector(p.image, p.id)
        assert regions.boxes.tolist() == p.boxes.tolist()
        assert regions.features.tolist() == p.features.tolist()
    assert PrecomputedFeatures(path.parent).reader.path == path


def test_a_fixed_file_may_share_the_index_of_the_adaptive_one(layouts):
    path = layouts.write("butd_h5", layouts.three(even=True), adaptive=False)
    index = path.with_name("val36_imgid2idx.pkl").rename(path.with_name("val_imgid2idx.pkl"))
    assert len(PrecomputedFeatures(path)) == 3
    index.unlink()
    message = r"val36\.hdf5 needs its index val36_imgid2idx\.pkl or val_imgid2idx\.pkl beside it"
    with pytest.raises(FileNotFoundError, match=message):
        PrecomputedFeatures(path)


def test_shares_alone_are_boxes_of_the_opened_picture(layouts):
    path = layouts.write("butd_h5")
    change(path, image_bb=None)
    p = layouts.three()[0]
    detector = PrecomputedFeatures(path)
    assert detector(p.image, "42").boxes.tolist() == p.boxes.tolist()
    twice = detector(Image.new("RGB", (128, 64)), "42")
    assert twice.boxes.tolist() == (2 * p.boxes).tolist()


def test_pixels_alone_are_taken_as_they_are(layouts):
    path = layouts.write("butd_h5")
    change(path, spatial_features=None)
    p = layouts.three()[0]
    assert PrecomputedFeatures(path)(p.image, "42").boxes.tolist() == p.boxes.tolist()


def test_the_size_of_the_picture_comes_out_of_both_kinds_of_boxes():
    pixels = np.float32([[0, 0, 320, 240], [10, 20, 640, 480]])
    shares = pixels / np.float32([640, 480, 640, 480])
    assert picture_size(pixels, shares) == (640, 480)
    assert picture_size(pixels * 0, shares * 0) is None
    with pytest.raises(ValueError, match=r"image_bb and spatial_features are not the same boxes"):
        picture_size(pixels, shares[::-1])


@pytest.mark.parametrize(
    ("datasets", "message"),
    [
        (
            {"image_features": None},
            r"has image_bb, pos_boxes, spatial_features; expected image_fea",
        ),
        ({"image_bb": None, "spatial_features": None}, r"has image_features, pos_boxes; expected"),
        ({"pos_boxes": None}, r"image_features are \(6, 5\) .*and no pos_boxes"),
        ({"image_bb": np.zeros((5, 4))}, r"image_bb are \(5, 4\) with image_features \(6, 5\)"),
        ({"image_bb": np.zeros((6, 5))}, r"image_bb are \(6, 5\) with"),
        ({"spatial_features": np.zeros((6, 4))}, r"spatial_features are \(6, 4\) with"),
        ({"pos_boxes": np.zeros((3, 3), int)}, r"pos_boxes are \(3, 3\), expected \(pictures, 2\)"),
    ],
)
def test_other_datasets_say_what_was_found(layouts, datasets, message):
    path = layouts.write("butd_h5")
    change(path, **datasets)
    with pytest.raises(ValueError, match=r"val\.hdf5 is not a region feature file: .*" + message):
        PrecomputedFeatures(path)


@pytest.mark.parametrize("ends", [[0, 7], [5, 3], [-1, 2]])
def test_pos_boxes_outside_the_file_are_refused(layouts, ends):
    path = layouts.write("butd_h5")
    change(path, pos_boxes=np.array([ends] * 3))
    with pytest.raises(ValueError, match=r"image 42 is not .*pos_boxes are -?\d to \d"):
        PrecomputedFeatures(path)(layouts.three()[0].image, "42")


def test_boxes_that_contradict_each_other_are_refused(layouts):
    path = layouts.write("butd_h5")
    p = layouts.three()[0]
    change(path, image_bb=np.tile(np.float32([0, 0, 30, 9]), (6, 1)))
    with pytest.raises(ValueError, match=r"image 42 is not .*are not the same boxes"):
        PrecomputedFeatures(path)(p.image, "42")


def test_an_index_is_read_as_plain_data(layouts, tmp_path):
    path = layouts.write("butd_h5")
    index, mark = path.with_name("val_imgid2idx.pkl"), tmp_path / "ran"
    for content, message in (
        ({42: Calls(os.system, f"touch '{mark}'")}, r"imgid2idx\.pkl asks for \w+\.system"),
        ([42, 7], r"imgid2idx\.pkl is not .*holds a list, no dict of image id: row"),
        ({42: 0, 7: 3}, r"rows go from 0 to 3; the file has 3"),
        ({42: -1}, r"rows go from -1"),
        ({42: 0, 7: 0}, r"two images have the same row"),
        ({42: "zero"}, r"imgid2idx\.pkl is not .*'zero'"),
    ):
        index.write_bytes(pickle.dumps(content))
        with pytest.raises(ValueError, match=message):
            PrecomputedFeatures(path)
    assert not mark.exists()
    index.write_bytes(pickle.dumps({np.int64(42): np.int64(0)}, 2))  # as numpy users write it
    assert len(PrecomputedFeatures(path)) == 1


def test_several_files_need_a_name(layouts):
    path = layouts.write("butd_h5")
    layouts.write("butd_h5", layouts.three(even=True), adaptive=False)
    with pytest.raises(ValueError, match=r"2 feature files \(val\.hdf5, val36\.hdf5\); name one"):
        PrecomputedFeatures(path.parent)


def test_a_missing_library_names_the_extra(layouts, monkeypatch):
    path = layouts.write("butd_h5")
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(ImportError, match=r"val\.hdf5 is HDF5; .*pip install 'tbkin\[features\]'"):
        PrecomputedFeatures(path)
