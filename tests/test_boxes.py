import math
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from tbkin.boxes import (
    box_geometry,
    box_iou,
    clip_boxes,
    cxcywh_to_xyxy,
    decode_boxes,
    encode_boxes,
    inclusive_box_iou,
    nms,
    normalize_boxes,
    paired_box_iou,
    paired_generalized_box_iou,
    with_last_pixel,
    xywh_to_xyxy,
    xyxy_to_cxcywh,
    xyxy_to_xywh,
)

REFERENCE = Path(__file__).resolve().parents[2] / "shared/reference/rosita_tiny"


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


def test_centres_worked_by_hand_and_back():
    # 3 x 4 from (10, 20): its centre is 1.5 and 2 further.
    assert xyxy_to_cxcywh(torch.tensor([10.0, 20, 13, 24])).tolist() == [11.5, 22, 3, 4]
    assert cxcywh_to_xyxy(torch.tensor([11.5, 22, 3, 4])).tolist() == [10, 20, 13, 24]
    boxes = random_boxes(6).view(2, 3, 4)
    assert torch.allclose(cxcywh_to_xyxy(xyxy_to_cxcywh(boxes)), boxes, atol=1e-5)


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


@pytest.mark.parametrize("function", [box_iou, inclusive_box_iou])
def test_iou_of_a_batch_is_that_of_each_picture_and_may_pair_rows(function):
    boxes, others = random_boxes(12).view(3, 4, 4), random_boxes(15, seed=1).view(3, 5, 4)
    iou = function(boxes, others)
    assert iou.shape == (3, 4, 5)
    for picture in range(3):
        assert torch.equal(iou[picture], function(boxes[picture], others[picture]))
    rows = function(boxes[0, :, None], others[0, :4, None])
    assert rows.shape == (4, 1, 1)
    assert torch.equal(rows.flatten(), function(boxes[0], others[0, :4]).diagonal())


@pytest.mark.parametrize(
    ("box", "other", "expected"),
    [
        ([0, 0, 1, 1], [0, 0, 1, 1], 1.0),  # the same 2 x 2 pixels
        ([0, 0, 1, 1], [1, 0, 2, 1], 2 / 6),  # 2 shared of 4 + 4 - 2
        ([0, 0, 1, 1], [1, 1, 2, 2], 1 / 7),  # one pixel in the corner
        ([0, 0, 1, 1], [2, 0, 3, 1], 0.0),  # side by side
        ([5, 5, 5, 5], [5, 5, 5, 5], 1.0),  # one pixel is not empty
    ],
)
def test_inclusive_iou_worked_by_hand(box, other, expected):
    iou = inclusive_box_iou(torch.tensor([box]).float(), torch.tensor([other]).float())
    assert iou.tolist() == [pytest.approx([expected])]


GENERALIZED = [
    ([0, 0, 2, 2], [0, 0, 2, 2], 1.0),  # the same box
    ([0, 0, 2, 2], [1, 0, 3, 2], 2 / 6),  # the box around both is their union: the IoU
    ([0, 0, 4, 4], [1, 1, 3, 3], 4 / 16),  # likewise
    ([0, 0, 2, 2], [1, 1, 3, 3], 1 / 7 - 2 / 9),  # 1 of 7 shared; 9 - 7 of 9 around are neither
    ([0, 0, 2, 2], [2, 0, 4, 2], 0.0),  # side by side, nothing between
    ([0, 0, 1, 1], [3, 3, 4, 4], -14 / 16),  # far apart: 2 of 16
    ([1, 1, 1, 1], [1, 1, 1, 1], 0.0),  # nothing around nothing, not nan
    ([0, 0, 0, 0], [1, 1, 1, 1], -1.0),  # both empty, far apart
]


@pytest.mark.parametrize(("box", "other", "expected"), GENERALIZED)
def test_generalized_iou_worked_by_hand(box, other, expected):
    iou = paired_generalized_box_iou(torch.tensor(box).double(), torch.tensor(other).double())
    assert iou.item() == pytest.approx(expected)


def boxes_of(largest):
    """Strategy: (N, 2, 4) float64, pairs of boxes with corners on a grid of quarters."""
    corner = st.integers(0, 4 * largest)
    box = st.tuples(corner, corner, corner, corner).map(
        lambda c: [min(c[0], c[2]), min(c[1], c[3]), max(c[0], c[2]), max(c[1], c[3])]
    )
    pairs = st.lists(st.tuples(box, box), min_size=1, max_size=5)
    return pairs.map(lambda rows: torch.tensor(rows, dtype=torch.float64) / 4)


@given(boxes_of(20))
def test_paired_ious_agree_with_the_table_of_all_pairs(pairs):
    boxes, others = pairs.unbind(dim=1)
    table = box_iou(boxes, others)
    assert torch.equal(paired_box_iou(boxes, others), table.diagonal())
    assert torch.equal(paired_box_iou(boxes[:, None], others), table)
    inclusive = paired_box_iou(with_last_pixel(boxes), with_last_pixel(others))
    assert torch.equal(inclusive, inclusive_box_iou(boxes, others).diagonal())


@given(boxes_of(20), st.integers(-50, 50), st.sampled_from([0.25, 2, 64]))
def test_what_generalized_iou_always_is(pairs, shift, scale):
    boxes, others = pairs.unbind(dim=1)
    iou = paired_generalized_box_iou(boxes, others)
    assert torch.equal(iou, paired_generalized_box_iou(others, boxes))
    assert (iou <= paired_box_iou(boxes, others)).all()
    assert ((iou >= -1) & (iou <= 1)).all()
    moved = paired_generalized_box_iou((boxes + shift) * scale, (others + shift) * scale)
    assert torch.allclose(moved, iou, rtol=0, atol=1e-12)
    flat = (boxes[:, 2:] <= boxes[:, :2]).any(dim=1)
    assert torch.equal(paired_generalized_box_iou(boxes, boxes) == 1, ~flat)


def test_generalized_iou_falls_with_the_distance_and_has_a_gradient_there():
    box = torch.tensor([0.0, 0, 2, 2])
    others = torch.tensor([[3.0, 0, 5, 2], [6, 0, 8, 2], [60, 0, 62, 2]], requires_grad=True)
    iou = paired_generalized_box_iou(box, others)
    assert iou.tolist() == sorted(iou.tolist(), reverse=True)
    iou.sum().backward()
    assert (others.grad[:, 0] < 0).all()  # the further left the better
    plain = others.detach().requires_grad_()
    paired_box_iou(box, plain).sum().backward()
    assert plain.grad.abs().max() == 0


def test_gradients_of_ious_are_those_of_finite_differences_and_never_nan():
    boxes, others = random_boxes(6).double().requires_grad_(), random_boxes(6, seed=1).double()
    assert torch.autograd.gradcheck(paired_generalized_box_iou, (boxes, others))
    assert torch.autograd.gradcheck(paired_box_iou, (boxes, others))
    empty = torch.zeros(2, 4, requires_grad=True)
    paired_generalized_box_iou(empty, torch.tensor([[0.0, 0, 0, 0], [0, 0, 1, 1]])).sum().backward()
    assert empty.grad.isfinite().all()


def test_inclusive_iou_counts_pixels():
    boxes = random_boxes(5).round()
    grid = torch.stack(torch.meshgrid(torch.arange(52), torch.arange(52), indexing="ij"), dim=-1)
    inside = [((grid >= box[:2]) & (grid <= box[2:])).all(dim=-1) for box in boxes]
    counted = [[((a & b).sum() / (a | b).sum()).item() for b in inside] for a in inside]
    assert torch.allclose(inclusive_box_iou(boxes, boxes), torch.tensor(counted), atol=1e-6)


def test_encode_worked_by_hand():
    # 10 x 5 pixels around (5, 2.5) -> 20 x 5 around (13, 4.5).
    deltas = encode_boxes(torch.tensor([0.0, 0, 9, 4]), torch.tensor([3.0, 2, 22, 6]))
    assert deltas.tolist() == pytest.approx([0.8 / 0.1, 0.4 / 0.1, math.log(2) / 0.2, 0])


def test_decode_worked_by_hand():
    # 10 x 5 pixels around (5, 2.5): right by 0.8 widths, down by 0.4 heights, twice as wide.
    deltas = torch.tensor([8.0, 4, math.log(2) / 0.2, 0])
    box = decode_boxes(deltas, torch.tensor([0.0, 0, 9, 4]))
    assert box.tolist() == pytest.approx([13 - 10, 4.5 - 2.5, 13 + 10, 4.5 + 2.5])


def test_decoding_reaches_the_target_but_for_the_last_pixel():
    boxes, targets = random_boxes(6).view(2, 3, 4), random_boxes(2, seed=1)[:, None]
    decoded = decode_boxes(encode_boxes(boxes, targets), boxes)
    expected = (targets + torch.tensor([0, 0, 1, 1])).expand(2, 3, 4)
    assert torch.allclose(decoded, expected, atol=1e-4)


def test_no_move_for_the_box_itself_and_no_delta_is_no_move():
    boxes = random_boxes(4)
    assert encode_boxes(boxes, boxes).tolist() == [[0, 0, 0, 0]] * 4
    stays = decode_boxes(torch.zeros(4, 4), boxes)
    assert torch.allclose(stays, boxes + torch.tensor([0, 0, 1, 1]), atol=1e-5)


def test_deltas_do_not_depend_on_place_or_scale():
    boxes, targets = random_boxes(4), random_boxes(4, seed=1)
    deltas = encode_boxes(boxes, targets)
    assert torch.allclose(encode_boxes(boxes + 50, targets + 50), deltas, atol=1e-4)
    last = torch.tensor([0, 0, 1, 1])  # three times as large, last pixels included
    larger = [3 * (one + last) - last for one in (boxes, targets)]
    assert torch.allclose(encode_boxes(*larger), deltas, atol=1e-4)


@pytest.mark.skipif(not REFERENCE.is_dir(), reason=f"no reference values in {REFERENCE}")
def test_grounding_boxes_agree_with_rosita():
    inputs = load_file(REFERENCE / "inputs_rec.safetensors")
    outputs = load_file(REFERENCE / "outputs_rec.safetensors")
    regions, targets = inputs["region_xyxy"], inputs["target_xyxy"][:, None]
    labelled = inputs["rank_weight"].bool()
    deltas = encode_boxes(regions, targets)
    assert torch.allclose(deltas[labelled], inputs["box_label"][labelled], rtol=1e-6, atol=1e-5)

    real = inputs["region_mask"].bool()
    decoded = decode_boxes(outputs["box_deltas"], regions)
    # The tolerance of the reference values: 1e-5 of the longer side.
    near = 1e-5 * inputs["image_size"].amax(dim=1)
    assert ((decoded - outputs["boxes_eval_unclipped"]).abs().amax(dim=2) <= near[:, None])[
        real
    ].all()
    for row, (height, width) in enumerate(inputs["image_size"].tolist()):
        cut = clip_boxes(decoded[row], width - 1, height - 1)
        assert torch.allclose(
            cut[real[row]], outputs["boxes_eval"][row][real[row]], rtol=0, atol=near[row].item()
        )
        chosen = cut[outputs["chosen_region"][row]]
        iou = inclusive_box_iou(chosen[None], targets[row]).item()
        assert iou == pytest.approx(outputs["chosen_iou"][row].item(), abs=1e-5)


def slow_nms(boxes, scores, threshold, classes=None):
    """The definition, one pair at a time."""
    kept = []
    for place in sorted(range(len(boxes)), key=lambda one: (-scores[one], one)):
        overlaps = [
            box_iou(boxes[[place]], boxes[[better]]).item() > threshold
            for better in kept
            if classes is None or classes[better] == classes[place]
        ]
        if not any(overlaps):
            kept.append(place)
    return kept


def test_nms_worked_by_hand():
    # 10 x 10 each, in one row. 0 and 1 are 2 apart: 80 shared of 120, IoU 2/3; 1 and 2 as well;
    # 0 and 2 are 4 apart: 60 shared of 140, IoU 0.43. 3 is far away.
    boxes = torch.tensor([[0.0, 0, 10, 10], [2, 0, 12, 10], [4, 0, 14, 10], [50, 0, 60, 10]])
    scores = torch.tensor([0.9, 0.8, 0.7, 0.95])
    # 1 goes because of 0; 2 stays: it overlaps only 1 by that much, and 1 is gone.
    assert nms(boxes, scores, 0.5).tolist() == [3, 0, 2]
    assert nms(boxes, scores, 0.4).tolist() == [3, 0]
    assert nms(boxes, scores, 0.7).tolist() == [3, 0, 1, 2]


def test_nms_leaves_other_classes_alone():
    boxes = torch.tensor([[0.0, 0, 10, 10]] * 3)
    scores, classes = torch.tensor([0.7, 0.9, 0.8]), torch.tensor([0, 1, 0])
    assert nms(boxes, scores, 0.5).tolist() == [1]
    assert nms(boxes, scores, 0.5, classes).tolist() == [1, 2]


def test_nms_threshold_is_the_most_that_is_allowed():
    # IoU exactly one half: 10 x 10 within 10 x 20.
    boxes, scores = torch.tensor([[0.0, 0, 10, 20], [0, 0, 10, 10]]), torch.tensor([0.5, 0.6])
    assert nms(boxes, scores, 0.5).tolist() == [1, 0]
    assert nms(boxes, scores, 0.49).tolist() == [1]
    same = boxes[[0, 0]]
    assert nms(same, scores, 1.0).tolist() == [1, 0]  # 1 keeps even equal boxes


def test_nms_of_equal_scores_keeps_the_order_of_the_boxes():
    boxes = torch.tensor([[0.0, 0, 10, 10]] * 4 + [[20, 0, 30, 10]] * 3)
    assert nms(boxes, torch.full((7,), 0.5), 0.5).tolist() == [0, 4]


@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.5, 0.9])
@pytest.mark.parametrize("seed", range(3))
def test_nms_agrees_with_the_slow_loop(threshold, seed):
    boxes = random_boxes(60, seed)
    random = torch.Generator().manual_seed(seed)
    scores = torch.randint(0, 20, (60,), generator=random) / 20  # with ties
    classes = torch.randint(0, 3, (60,), generator=random)
    assert nms(boxes, scores, threshold).tolist() == slow_nms(boxes, scores, threshold)
    kept = nms(boxes, scores, threshold, classes).tolist()
    assert kept == slow_nms(boxes, scores, threshold, classes)


def test_nms_is_class_by_class_what_it_is_for_one_class():
    boxes, scores = random_boxes(50), torch.rand(50, generator=torch.Generator().manual_seed(0))
    classes = torch.arange(50) % 4
    kept = set(nms(boxes, scores, 0.3, classes).tolist())
    for number in range(4):
        own = torch.nonzero(classes == number).squeeze(1)
        assert set(own[nms(boxes[own], scores[own], 0.3)].tolist()) == kept & set(own.tolist())


def test_nms_of_nothing_and_of_one():
    assert nms(torch.zeros(0, 4), torch.zeros(0), 0.5).tolist() == []
    assert nms(torch.zeros(0, 4), torch.zeros(0), 0.5, torch.zeros(0)).dtype == torch.int64
    assert nms(torch.tensor([[1.0, 1, 1, 1]]), torch.tensor([0.1]), 0.0).tolist() == [0]


def test_nms_refuses_lengths_that_differ():
    boxes, scores = random_boxes(3), torch.rand(3)
    with pytest.raises(
        ValueError, match=r"boxes \(N, 4\) and scores \(N,\), got \(3, 4\) and \(2,\)"
    ):
        nms(boxes, scores[:2], 0.5)
    with pytest.raises(ValueError, match=r"3 classes, one a box, got \(2,\)"):
        nms(boxes, scores, 0.5, torch.zeros(2))
    with pytest.raises(ValueError, match=r"IoU in \[0, 1\], got 45"):
        nms(boxes, scores, 45)
