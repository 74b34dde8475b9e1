import pytest
import torch

from tbkin.boxes import (
    box_geometry,
    box_iou,
    clip_boxes,
    normalize_boxes,
    xywh_to_xyxy,
    xyxy_to_xywh,
)


def random_boxes(count, seed=0):
    corners = torch.rand(count, 2, 2, generator=torch.Generator().manual_seed(seed)) * 50
    return torch.cat([corners.amin(dim=1), corners.amax(dim=1)], dim=1)


def test_xywh_and_xyxy_worked_by_hand():
    assert xywh_to_xyxy(torch.tensor([[10.0, 20, 3, 4]])).tolist() == [[10, 20, 13, 24]]
    assert xyxy_to_xywh(torch.tensor([[10.0, 20, 13, 24]])).tolist() == [[10, 20, 3, 4]]


def test_xywh_and_xyxy_are_inverse_also_for_no_box():
    boxes = random_boxes(7)
    assert torch.allclose(xywh_to_xyxy(xyxy_to_xywh(boxes)), boxes)
    assert xywh_to_xyxy(torch.zeros(0, 4)).shape == (0, 4)


def test_clip_cuts_each_side_at_its_own_limit():
    # A picture 30 wide and 20 high.
    boxes = torch.tensor([[-5.0, -6, 40, 50], [1, 2, 3, 4], [35, 25, 40, 30]])
    assert clip_boxes(boxes, 30, 20).tolist() == [[0, 0, 30, 20], [1, 2, 3, 4], [30, 20, 30, 20]]


def test_normalize_divides_x_by_width_and_y_by_height():
    assert normalize_boxes(torch.tensor([[10.0, 10, 20, 40]]), 100, 50).tolist() == [
        pytest.approx([0.1, 0.2, 0.2, 0.8])
    ]


def test_geometry_adds_the_area():
    # Width 0.5, height 0.4: 0.2 of the picture.
    geometry = box_geometry(torch.tensor([[[0.25, 0.5, 0.75, 0.9]]]))
    assert geometry.shape == (1, 1, 5)
    assert geometry[0, 0].tolist() == pytest.approx([0.25, 0.5, 0.75, 0.9, 0.2])


@pytest.mark.parametrize(
    ("box", "other", "expected"),
    [
        ([0, 0, 2, 2], [0, 0, 2, 2], 1.0),  # the same box
        ([0, 0, 2, 2], [1, 0, 3, 2], 2 / 6),  # half of each: 2 shared of 4 + 4 - 2
        ([0, 0, 4, 4], [1, 1, 3, 3], 4 / 16),  # one within the other
        ([0, 0, 2, 2], [2, 0, 4, 2], 0.0),  # touching edges share no area
        ([0, 0, 1, 1], [3, 3, 4, 4], 0.0),  # both gaps negative: their product must not count
        ([1, 1, 1, 1], [1, 1, 1, 1], 0.0),  # empty boxes, not nan
    ],
)
def test_iou_worked_by_hand(box, other, expected):
    iou = box_iou(torch.tensor([box]).float(), torch.tensor([other]).float())
    assert iou.tolist() == [pytest.approx([expected])]


def test_iou_is_symmetric_and_knows_no_unit():
    boxes, others = random_boxes(5), random_boxes(4, seed=1)
    iou = box_iou(boxes, others)
    assert iou.shape == (5, 4)
    assert torch.allclose(iou, box_iou(others, boxes).T)
    assert torch.allclose(iou, box_iou(boxes / 640, others / 640), atol=1e-6)


def test_iou_agrees_with_pycocotools():
    from pycocotools import mask

    boxes, others = random_boxes(6), random_boxes(5, seed=1)
    official = mask.iou(
        xyxy_to_xywh(boxes).double().numpy(), xyxy_to_xywh(others).double().numpy(), [0] * 5
    )
    assert torch.allclose(box_iou(boxes, others), torch.tensor(official).float(), atol=1e-5)
