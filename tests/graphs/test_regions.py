import pytest
import torch

from tbkin.graphs.regions import Regions


def make(boxes, features=None, image_id="7"):
    boxes = torch.tensor(boxes).float().reshape(-1, 4)
    count = len(boxes)
    return Regions(
        boxes, 30, 20, ["thing"] * count, [1.0] * count, [[]] * count, [], features, image_id
    )


def test_boxes_up_to_the_edges_and_without_area_are_regions():
    assert len(make([[0, 0, 30, 20], [5, 5, 5, 9], [30, 20, 30, 20]])) == 3
    assert len(make([])) == 0


@pytest.mark.parametrize("box", [[9, 2, 8, 5], [9, 5, 12, 4]])
def test_a_box_that_ends_before_it_starts_is_refused(box):
    told = ", ".join(map(str, box))
    with pytest.raises(
        ValueError, match=rf"regions of image 7: box 1 ends before it starts \({told}\)"
    ):
        make([[0, 0, 1, 1], box])


def test_corner_and_size_in_place_of_corners_is_seen():
    # x, y, width, height of a box in the right half: the width is less than x.
    with pytest.raises(ValueError, match=r"left, top, right, bottom, not left, top, width, height"):
        make([[20, 4, 8, 9]])


@pytest.mark.parametrize("box", [[-1, 0, 3, 3], [0, 0, 31, 3], [0, 0, 3, 21]])
def test_a_box_outside_the_picture_is_refused(box):
    with pytest.raises(ValueError, match=r"a box leaves the picture of 30 x 20 pixels"):
        make([box])


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite_are_refused(value):
    with pytest.raises(ValueError, match="boxes hold values that are not finite"):
        make([[0, 0, value, 3]])
    with pytest.raises(ValueError, match="features hold NaN or infinite values"):
        make([[0, 0, 1, 1]], features=torch.tensor([[1.0, value]]))


def test_lengths_must_agree():
    with pytest.raises(ValueError, match=r"boxes must be \(1, 4\) for 1 labels, got \(2, 4\)"):
        Regions(torch.zeros(2, 4), 9, 9, ["a"], [1.0], [[]])
    with pytest.raises(ValueError, match="1 labels, 2 scores and 1 attribute lists"):
        Regions(torch.zeros(1, 4), 9, 9, ["a"], [1.0, 0.5], [[]])
    with pytest.raises(ValueError, match="regions: 3 feature rows for 1 regions"):
        make([[0, 0, 1, 1]], features=torch.zeros(3, 2), image_id="")
