import os
import zipfile

import numpy as np
import pytest
from PIL import Image

from tbkin.detectors.precomputed import PrecomputedFeatures
from tbkin.detectors.precomputed_npz import LAYOUT_OF, npz_layout

PICTURE = Image.new("RGB", (64, 32))


class Calls:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.fixture
def folder(tmp_path):
    """``folder(**arrays) -> path`` of a folder with the picture 42."""

    def write(**arrays):
        (tmp_path / "f").mkdir(exist_ok=True)
        np.savez(tmp_path / "f" / "42.npz", **arrays)
        return tmp_path / "f"

    return write


@pytest.mark.parametrize("columns", [True, False])
def test_milvlg_features_either_way_round(layouts, columns):
    # MCAN and OpenVQA store x as 2048 x n, the newer extractor n x 2048.
    detector = PrecomputedFeatures(layouts.write("milvlg_npz", columns=columns))
    for p in layouts.three():
        assert detector(p.image, p.id).features.tolist() == p.features.tolist()


def test_a_square_x_is_an_error(folder):
    boxes = np.tile(np.float32([0, 0, 9, 9]), (5, 1))
    detector = PrecomputedFeatures(folder(x=np.zeros((5, 5)), bbox=boxes))
    with pytest.raises(
        ValueError, match=r"42\.npz .* \(5, 5\) for 5 boxes: regions may be rows or"
    ):
        detector(PICTURE, "42")
    # Square, but not as many boxes as either side: no way to read it at all.
    detector = PrecomputedFeatures(folder(x=np.zeros((5, 5)), bbox=boxes[:4]))
    with pytest.raises(ValueError, match=r"42\.npz .* are \(5, 5\), and there are 4 boxes"):
        detector(PICTURE, "42")


@pytest.mark.parametrize("names", LAYOUT_OF)
def test_keys_tell_the_layout(names):
    assert npz_layout([*names, "image_h", "other"]) == LAYOUT_OF[names]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["x", "boxes", "bbox"], r"may be several layouts: it has x, boxes, bbox"),
        (["x", "features", "boxes"], r"may be several layouts: it has x, features, boxes"),
        (["y", "boxes"], r"none of x, features; it has y, boxes"),
        (["x", "image_h"], r"none of boxes, bbox, norm_bb; it has x, image_h"),
        (["x", "norm_bb"], r"no layout has x together with norm_bb"),
    ],
)
def test_other_keys_say_what_was_found(names, message, folder):
    with pytest.raises(ValueError, match=message):
        npz_layout(names)
    with pytest.raises(ValueError, match=r"42\.npz is not a region feature file: .*" + message):
        PrecomputedFeatures(folder(**{name: np.zeros((2, 4)) for name in names}))


def test_a_file_of_another_layout_among_them_is_named(layouts):
    path = layouts.write("rosita_npz")
    np.savez(path / "zz_000000000009.npz", x=np.zeros((1, 5)), bbox=np.zeros((1, 4)))
    detector = PrecomputedFeatures(path)
    with pytest.raises(
        ValueError, match=r"0009\.npz .* keys of milvlg_npz, the others .* rosita_npz"
    ):
        detector(PICTURE, "9")


def test_num_bbox_must_be_the_number_of_boxes(folder):
    boxes = np.float32([[0, 0, 9, 9], [0, 0, 8, 8]])
    detector = PrecomputedFeatures(folder(x=np.zeros((2, 5)), bbox=boxes, num_bbox=3))
    with pytest.raises(ValueError, match=r"42\.npz .* num_bbox is 3, and it has 2 boxes"):
        detector(PICTURE, "42")


# The pickled info


def test_info_is_opened_only_for_labels(layouts, folder, tmp_path):
    mark = tmp_path / "ran"
    path = folder(
        x=np.ones((1, 5)), bbox=np.float32([[0, 0, 9, 9]]),
        info={"objects_id": Calls(os.system, f"touch '{mark}'")},
    )  # fmt: skip
    assert len(PrecomputedFeatures(path)(PICTURE, "42")) == 1
    for settings in ({"labels": "none"}, {"labels": "auto"}):
        detector = PrecomputedFeatures(path, objects_vocabulary=layouts.objects, **settings)
        if settings["labels"] == "none":
            assert detector(PICTURE, "42").labels == [""]
            continue
        with pytest.raises(ValueError, match=r"42\.npz, info asks for \w+\.system, which is no"):
            detector(PICTURE, "42")
    assert not mark.exists()


def test_both_generations_of_info_name_the_regions(layouts, folder):
    boxes = np.float32([[0, 0, 9, 9], [0, 0, 8, 8]])
    arrays = {"x": np.ones((2, 5)), "bbox": boxes, "image_w": 64, "image_h": 32}
    old = {
        "objects": np.array([3, 1]),
        "cls_prob": np.float32([[0, 0, 0.25, 0.75], [0.125, 0.5, 0.25, 0.125]]),
        "attrs_id": np.array([0, 2]),
        "attrs_scores": np.float32([0.5, 0.25]),
    }
    new = {
        "objects_id": np.array([3, 1]),
        "objects_conf": np.float32([0.75, 0.5]),
        "attrs_id": np.array([0, 2]),
        "attrs_conf": np.float32([0.5, 0.25]),
    }
    for info in (old, new):
        detector = PrecomputedFeatures(
            folder(**arrays, info=info),
            objects_vocabulary=layouts.objects,
            attributes_vocabulary=layouts.attributes,
        )
        regions = detector(PICTURE, "42")
        assert regions.labels == ["cat", "goal"]
        assert regions.scores == [0.75, 0.5]
        assert regions.attributes == [[("red", 0.5)], [("small", 0.25)]]
    for info, message in (
        ([1], r"its info is no dict but ndarray"),
        ({"objects": np.array([0.5, 1])}, r"class ids are no whole numbers"),
        ({"objects": np.array([1, 2, 3])}, r"objects have shape \(3,\) for 2 boxes"),
        ({}, r"holds no ids of objects"),
    ):
        path = folder(**arrays, info=np.array(info, dtype=object) if info == [1] else info)
        detector = PrecomputedFeatures(path, objects_vocabulary=layouts.objects)
        with pytest.raises(ValueError, match=message):
            detector(PICTURE, "42")


def test_arrays_in_a_pickle_are_refused(folder, tmp_path):
    mark = tmp_path / "ran"
    bomb = np.array([Calls(os.system, f"touch '{mark}'")], dtype=object)
    for arrays in ({"x": bomb, "bbox": np.zeros((1, 4))}, {"x": np.zeros((1, 5)), "bbox": bomb}):
        with pytest.raises(
            ValueError, match=r"42\.npz is not a region .*: (x|bbox) is an array of pickled"
        ):
            PrecomputedFeatures(folder(**arrays))(PICTURE, "42")
    assert not mark.exists()


# UNITER's


@pytest.mark.parametrize("columns", [6, 7])
def test_norm_bb_with_and_without_area(layouts, tmp_path, columns):
    p = layouts.three()[0]
    np.savez(tmp_path / "coco_val2014_000000000042.npz", **layouts.uniter_arrays(p, columns))
    regions = PrecomputedFeatures(tmp_path, "uniter_npz")(p.image, "42")
    assert regions.boxes.tolist() == p.boxes.tolist()
    assert regions.scores == [0.5, 0.75]
    # The same picture twice as large: shares know no size.
    regions = PrecomputedFeatures(tmp_path, "uniter_npz")(Image.new("RGB", (128, 64)), "42")
    assert regions.boxes.tolist() == (2 * p.boxes).tolist()


def test_norm_bb_in_pixels_is_an_error(layouts, tmp_path):
    p = layouts.three()[0]
    arrays = layouts.uniter_arrays(p)
    for wrong in (p.boxes, np.hstack([p.boxes, p.boxes[:, 2:] - p.boxes[:, :2]])):
        np.savez(tmp_path / "42.npz", **{**arrays, "norm_bb": wrong})
        with pytest.raises(ValueError, match=r"42\.npz .*box geometry is not .* as shares"):
            PrecomputedFeatures(tmp_path, "uniter_npz")(p.image, "42")
    np.savez(tmp_path / "42.npz", **{**arrays, "norm_bb": arrays["norm_bb"][:, :5]})
    with pytest.raises(ValueError, match=r"norm_bb is \(2, 5\), expected \(regions, 6 or 7\)"):
        PrecomputedFeatures(tmp_path, "uniter_npz")(p.image, "42")


def test_a_header_that_promises_too_much_is_an_error(folder, tmp_path):
    path = folder(x=np.zeros((1, 5)), bbox=np.float32([[0, 0, 9, 9]])) / "42.npz"
    with zipfile.ZipFile(path) as old:
        parts = {name: old.read(name) for name in old.namelist()}
    short, long = b"(1, 5), }" + b" " * 14, b"(1, 99999999999999), }"
    assert short in parts["x.npy"]
    parts["x.npy"] = parts["x.npy"].replace(short, long.ljust(len(short)))
    with zipfile.ZipFile(path, "w") as new:
        for name, content in parts.items():
            new.writestr(name, content)
    with pytest.raises(
        ValueError, match=r"42\.npz is not .*: x is not .* needs 799999999999992 bytes, got 40"
    ):
        PrecomputedFeatures(tmp_path / "f")(PICTURE, "42")
