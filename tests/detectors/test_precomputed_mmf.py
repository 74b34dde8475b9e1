import os

import numpy as np
import pytest

from tbkin.detectors.precomputed import PrecomputedFeatures


class Calls:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.fixture
def one(layouts):
    """The picture 42, the folder of its files, and a function that writes another info."""
    p = layouts.three()[0]
    folder = layouts.write("mmf_npy", [p])

    def write(**changes):
        info = {**layouts.mmf_info(p), **changes}
        info = {name: value for name, value in info.items() if value is not None}
        np.save(folder / "val2014" / f"{p.name}_info.npy", info)
        return folder

    return p, write


def test_rows_past_num_boxes_are_left_out(one):
    p, write = one
    regions = PrecomputedFeatures(write(num_boxes=1))(p.image, "42")
    assert regions.boxes.tolist() == p.boxes[:1].tolist()
    assert regions.features.tolist() == p.features[:1].tolist()
    assert regions.scores == [0.5]
    assert len(PrecomputedFeatures(write(num_boxes=None))(p.image, "42")) == 2


def test_info_without_classes_has_no_confidences(one, layouts):
    p, write = one
    folder = write(objects=None)
    assert PrecomputedFeatures(folder)(p.image, "42").scores == [1.0, 1.0]
    with pytest.raises(ValueError, match=r"0042\.npy holds no ids of objects"):
        PrecomputedFeatures(folder, objects_vocabulary=layouts.objects)(p.image, "42")


def test_an_exploit_in_the_info_is_refused(one, tmp_path):
    p, write = one
    mark = tmp_path / "ran"
    detector = PrecomputedFeatures(write(objects=Calls(os.system, f"touch '{mark}'")))
    with pytest.raises(
        ValueError, match=r"0042_info\.npy asks for \w+\.system.*nothing .* was run"
    ):
        detector(p.image, "42")
    assert not mark.exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"bbox": None, "image_width": None}, r"_info\.npy .*has no bbox, image_width; it has num"),
        ({"num_boxes": 5}, r"_info\.npy .*num_boxes is 5, with 2 boxes, 2 features"),
        ({"objects": np.array([1])}, r"objects have shape \(1,\) for 2 boxes"),
        ({"image_width": 0}, r"picture is 0 x 32 pixels"),
    ],
)
def test_info_that_does_not_fit_is_named(one, changes, message):
    p, write = one
    with pytest.raises(ValueError, match=message):
        PrecomputedFeatures(write(**changes))(p.image, "42")


def test_an_array_without_its_info_is_no_picture(one, layouts):
    p, write = one
    folder = write()
    np.save(folder / "val2014" / "COCO_val2014_000000000007.npy", p.features)
    detector = PrecomputedFeatures(folder)
    assert len(detector) == 1
    with pytest.raises(LookupError, match=r"no region features for image 7"):
        detector(p.image, "7")


def test_an_info_that_is_an_array_is_named(one):
    p, write = one
    folder = write()
    np.save(folder / "val2014" / f"{p.name}_info.npy", p.boxes)
    with pytest.raises(ValueError, match=r"_info\.npy is not .*holds a ndarray, no dict"):
        PrecomputedFeatures(folder)(p.image, "42")
    np.save(folder / "val2014" / f"{p.name}.npy", {"features": p.features})
    with pytest.raises(ValueError, match=r"0042\.npy is an array of pickled objects"):
        PrecomputedFeatures(folder)(p.image, "42")
