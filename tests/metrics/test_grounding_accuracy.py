import copy
import math
import random
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tbkin.boxes import encode_boxes
from tbkin.metrics.grounding_accuracy import (
    COMPARISONS,
    IOUS,
    GroundingAccuracy,
    box_table,
    predicted_boxes,
    score_boxes,
)


def gold_of(*boxes):
    return {number: {"box": box} for number, box in enumerate(boxes, start=1)}


def ious(predicted, annotated, form):
    """One pair."""
    return IOUS[form](box_table({1: predicted}, "predicted"), box_table({1: annotated}, "")).item()


def test_shares_and_their_parts_by_hand():
    gold = {
        10: {"box": [0, 0, 10, 10], "expression": "the dog", "category": "dog"},
        11: {"box": [0, 0, 10, 10], "expression": "dog on  the left", "category": "dog"},
        12: {"box": [0, 0, 10, 10], "expression": "a b c d e f", "category": "cat"},
        13: {"box": [0, 0, 10, 10], "expression": " ".join("abcdefghijk"), "category": ""},
    }
    predictions = {  # 60, 50, 80 and 0 of 100
        13: [20, 20, 30, 30],
        12: [0, 0, 10, 8],
        11: [0, 0, 5, 10],
        10: [0.0, 0, 10, 6],
    }
    before = copy.deepcopy((predictions, gold))
    result = score_boxes(predictions, gold)
    assert (predictions, gold) == before
    parts = {name: result.pop(name) for name in ("per_length", "per_category")}
    assert result == {
        "accuracy@0.5": 0.75,
        "accuracy@0.7": 0.25,
        "mean_iou": pytest.approx((0.6 + 0.5 + 0.8) / 4),
        "sentences": 4,
        "iou": "plain",
        "comparison": "ge",
    }
    assert list(parts["per_length"]) == ["1-2", "3-5", "6-10", "> 10"]
    assert [value["mean_iou"] for value in parts["per_length"].values()] == [0.6, 0.5, 0.8, 0]
    assert list(parts["per_category"]) == ["cat", "dog"]
    assert parts["per_category"]["dog"] == {
        "accuracy@0.5": 1.0,
        "accuracy@0.7": 0.0,
        "mean_iou": pytest.approx(0.55),
        "sentences": 2,
    }
    # An IoU of exactly one half is not above it.
    assert score_boxes(predictions, gold, comparison="gt")["accuracy@0.5"] == 0.5


def test_without_words_and_categories_there_are_no_parts():
    result = score_boxes({1: [0, 0, 1, 1]}, gold_of([0, 0, 1, 1]))
    assert (result["per_length"], result["per_category"]) == ({}, {})
    assert result["accuracy@0.7"] == 1.0


@pytest.mark.parametrize(
    ("predicted", "annotated", "plain", "plus_one", "integer_gold"),
    [
        # 10 x 5 of 10 x 10 pixels: plainly 9 * 4 of 9 * 9, by pixels one half.
        ([0, 0, 9, 4], [0, 0, 9, 9], 4 / 9, 1 / 2, 4 / 9),
        # The same pixel: nothing, plainly.
        ([5, 5, 5, 5], [5, 5, 5, 5], 0, 1, 0),
        # x, y, w, h = 1.9, 2.9, 10.9, 4.9 are cut to 1, 2, 10, 4; corners cut would be 12 x 7
        # wide, of which 11 x 5.
        ([1, 2, 11, 6], [1.9, 2.9, 12.8, 7.8], 9.1 * 3.1 / (40 + 53.41 - 28.21), None, 1.0),
    ],
)
def test_forms_of_the_iou(predicted, annotated, plain, plus_one, integer_gold):
    assert ious(predicted, annotated, "plain") == pytest.approx(plain)
    if plus_one is not None:
        assert ious(predicted, annotated, "plus_one") == pytest.approx(plus_one)
    assert ious(predicted, annotated, "integer_gold") == pytest.approx(integer_gold)


def test_only_annotations_are_cut_to_whole_numbers():
    assert ious([0, 0, 10, 5.5], [0, 0, 10, 10], "integer_gold") == pytest.approx(0.55)


@given(
    st.tuples(st.integers(0, 64000), st.integers(0, 64000)),
    st.tuples(st.integers(100, 64000), st.integers(100, 64000)),
)
def test_whole_sizes_are_found_again_in_corners(corner, size):
    # COCO's numbers have two decimals. x + w - x is not w: 0.1 + 3 - 0.1 falls short of 3 by 4e-16.
    (x, y), (w, h) = ((a / 100, b / 100) for a, b in (corner, size))
    cut = [int(x), int(y), int(x) + int(w), int(y) + int(h)]
    assert ious(cut, [x, y, x + w, y + h], "integer_gold") == 1
    single = torch.tensor([x, y, w, h], dtype=torch.float32)
    box = torch.cat([single[:2], single[:2] + single[2:]]).tolist()
    assert ious([int(box[0]), int(box[1]), int(box[0]) + int(w), int(box[1]) + int(h)], box,
                "integer_gold") == 1  # fmt: skip


def slow_iou(box, other, form):
    """One pixel convention after the other, in plain Python."""
    more = 1 if form == "plus_one" else 0
    if form == "integer_gold":
        x, y, w, h = (int(v) for v in (*other[:2], other[2] - other[0], other[3] - other[1]))
        other = [x, y, x + w, y + h]
    width = min(box[2], other[2]) - max(box[0], other[0]) + more
    height = min(box[3], other[3]) - max(box[1], other[1]) + more
    shared = max(0, width) * max(0, height)
    areas = [(b[2] - b[0] + more) * (b[3] - b[1] + more) for b in (box, other)]
    return shared / (sum(areas) - shared)


@pytest.mark.parametrize("form", IOUS)
@pytest.mark.parametrize("comparison", COMPARISONS)
def test_figures_agree_with_a_slow_loop(form, comparison):
    draw = random.Random(0)
    boxes = [[draw.randrange(4), draw.randrange(4)] for _ in range(1000)]
    boxes = [[x, y, x + draw.randint(1, 6), y + draw.randint(1, 6)] for x, y in boxes]
    said, gold = dict(enumerate(boxes[:500])), dict(enumerate(boxes[500:]))
    result = score_boxes(said, {n: {"box": box} for n, box in gold.items()}, form, comparison)
    slow = [slow_iou(said[number], gold[number], form) for number in gold]
    for limit in (0.5, 0.7):
        right = [one >= limit if comparison == "ge" else one > limit for one in slow]
        assert result[f"accuracy@{limit}"] == sum(right) / 500
    assert result["mean_iou"] == pytest.approx(sum(slow) / 500)
    assert any(one == 0.5 for one in slow)  # so that the comparison is tested


def test_order_does_not_matter_and_each_sentence_counts_once():
    gold = {n: {"box": [0, 0, 10, 10], "image_id": 1} for n in range(4)}
    said = {n: [0, 0, 10, 4 + 2 * n] for n in range(4)}
    backwards = dict(reversed(said.items()))
    assert score_boxes(backwards, gold) == score_boxes(said, gold)
    assert score_boxes(said, gold)["accuracy@0.5"] == 0.75


@pytest.mark.parametrize(
    ("predictions", "complaint"),
    [
        ({1: [0, 0, 1, 1]}, r"1 of 2 sentences have no box \(ids 2\); give one box for every"),
        (
            {n: [0, 0, 1, 1] for n in range(1, 8)},
            r"5 boxes are of unknown sentences \(ids 3, 4, 5, …\)",
        ),
        ({1: [0, 0, 1, 1], 2: [0, 0, 1]}, r"predicted box of sentence 2 must be four .* \[0, 0, 1"),
        ({1: [0, 0, 1, 1], 2: None}, r"sentence 2 must be four finite numbers.*got None"),
        ({1: [0, 0, 1, 1], 2: "0011"}, r"sentence 2 must be four finite numbers.*got 0011"),
        ({1: [0, 0, 1, 1], 2: [0, 0, 1, "1"]}, r"sentence 2 must be four finite"),
        ({1: [0, 0, 1, 1], 2: [0, 0, 1, True]}, r"sentence 2 must be four finite"),
        ({1: [0, 0, 1, 1], 2: [0, 0, 1, math.nan]}, r"sentence 2 must be four finite.*nan"),
        ({1: [0, 0, 1, 1], 2: [0, 0, 1, math.inf]}, r"sentence 2 must be four finite.*inf"),
        ({1: [0, 0, 1, 1], 2: [0, 0, 1, 10**400]}, r"sentence 2 must be four finite"),
        (
            {1: [0, 0, 1, 1], 2: [30, 40, 20, 20]},
            r"sentence 2 ends before it starts \(30, 40, 20, 20\).*not left, top, width, height",
        ),
    ],
)
def test_mistakes_name_the_sentence(predictions, complaint):
    with pytest.raises(ValueError, match=complaint):
        score_boxes(predictions, gold_of([0, 0, 1, 1], [0, 0, 1, 1]))


def test_mistakes_in_the_annotations_and_the_names():
    with pytest.raises(ValueError, match="no sentences to score"):
        score_boxes({}, {})
    with pytest.raises(ValueError, match="annotated box of sentence 1 must be four"):
        score_boxes({1: [0, 0, 1, 1]}, gold_of([0, 0, 1]))
    with pytest.raises(ValueError, match="unknown iou 'soft'; choose from: integer_gold, plain, "):
        score_boxes({1: [0, 0, 1, 1]}, gold_of([0, 0, 1, 1]), "soft")
    with pytest.raises(ValueError, match="unknown comparison '>='; choose from: ge, gt"):
        GroundingAccuracy({}, comparison=">=")


# Of a model's outputs

SIZES = torch.tensor([[200.0, 100.0], [50.0, 50.0]])


def region_batch():
    """Two pictures, 200 x 100 and 50 x 50 pixels, of 3 and 1 regions."""
    pixels = torch.tensor(
        [
            [[0.0, 0, 20, 20], [100, 50, 150, 90], [20, 20, 60, 80]],
            [[10, 10, 30, 40], [0, 0, 0, 0], [0, 0, 0, 0]],
        ]
    )
    return {
        "region_boxes": pixels / SIZES.repeat(1, 2)[:, None],
        "region_mask": torch.tensor([[1, 1, 1], [1, 0, 0]]),
        "picture_sizes": SIZES,
        "sentence_ids": torch.tensor([7, 8]),
    }, pixels


def outputs_of(logits, deltas=None, direct=None):
    return SimpleNamespace(
        box_logits=None if direct is not None else torch.tensor(logits),
        box_deltas=torch.zeros(2, 3, 4) if deltas is None else deltas,
        direct_boxes=direct,
    )


def test_the_best_real_region_is_the_answer():
    batch, pixels = region_batch()
    outputs = outputs_of([[1.0, 3, 2], [-9, 5, 5]])  # padding must not win
    expected = torch.stack([pixels[0, 1], pixels[1, 0]])
    for regress in (False, True):  # no delta is no move
        boxes = predicted_boxes(outputs, batch, regress)
        assert boxes.dtype == torch.float32
        assert torch.allclose(boxes, expected, atol=1e-4)


def test_deltas_move_the_best_region_onto_the_target():
    batch, pixels = region_batch()
    targets = torch.tensor([[110.0, 40, 170, 95], [5, 5, 45, 45]])
    deltas = encode_boxes(pixels, targets[:, None])
    outputs = outputs_of([[1.0, 3, 2], [9, 5, 5]], deltas)
    assert torch.allclose(predicted_boxes(outputs, batch), targets, atol=1e-3)
    kept = predicted_boxes(outputs, batch, regress=False)
    assert torch.allclose(kept, torch.stack([pixels[0, 1], pixels[1, 0]]), atol=1e-4)


def test_boxes_end_with_the_picture_and_never_before_they_start():
    batch, _ = region_batch()
    deltas = torch.zeros(2, 3, 4)
    deltas[0, :, 0], deltas[0, :, 2] = 40.0, 5.0  # far to the right, and e times as wide
    deltas[1, :, 2:] = -60.0  # nothing left of it
    boxes = predicted_boxes(outputs_of([[1.0, 3, 2], [9, 5, 5]], deltas), batch)
    assert boxes[0, [0, 2]].tolist() == pytest.approx([200, 200])
    assert (boxes[1, 2:] >= boxes[1, :2]).all()


def test_a_picture_without_regions_gets_an_empty_box():
    batch, _ = region_batch()
    batch["region_mask"][1] = 0
    boxes = predicted_boxes(outputs_of([[1.0, 3, 2], [9, 5, 5]], torch.ones(2, 3, 4)), batch)
    assert boxes[1].tolist() == [0, 0, 0, 0]
    assert boxes[0].abs().sum() > 0


def test_direct_boxes_become_pixels_of_their_picture():
    batch, _ = region_batch()
    direct = torch.tensor([[0.5, 0.5, 1.25, 0.75], [-0.1, 0, 0.5, 0.5]])
    boxes = predicted_boxes(outputs_of(None, direct=direct), batch)
    assert boxes.tolist() == [[100, 50, 200, 75], [0, 0, 25, 25]]


def test_half_precision_changes_the_boxes_little():
    batch, pixels = region_batch()
    deltas = encode_boxes(pixels, torch.tensor([[110.0, 40, 170, 95], [5, 5, 45, 45]])[:, None])
    exact = outputs_of([[1.0, 3, 2], [9, 5, 5]], deltas)
    half = outputs_of([[1.0, 3, 2], [9, 5, 5]], deltas.bfloat16())
    half.box_logits = half.box_logits.bfloat16()
    assert torch.allclose(predicted_boxes(half, batch), predicted_boxes(exact, batch), atol=0.5)


def test_a_split_in_batches():
    batch, pixels = region_batch()
    gold = {
        7: {"box": pixels[0, 1].tolist()},
        8: {"box": [10.0, 10, 30, 22]},  # 12 of 30 high: 0.4
        9: {"box": [0.0, 0, 25, 20]},  # 20 of 25 wide: 0.8
    }
    metric = GroundingAccuracy(gold)
    outputs = outputs_of([[1.0, 3, 2], [9, 5, 5]])
    rows = metric.rows(outputs, batch)
    assert {name: len(value) for name, value in rows.items()} == {"boxes": 2, "sentence_ids": 2}
    metric.update(rows)
    with pytest.raises(ValueError, match=r"1 of 3 sentences have no box \(ids 9\)"):
        metric.compute()
    # A repeated sentence counts once, and what is no expression never.
    batch["sentence_ids"] = torch.tensor([9, -1])
    for _ in range(2):
        metric.update(metric.rows(outputs_of([[3.0, 1, 2], [9, 5, 5]]), batch))
    assert metric.compute() == {
        "grounding_accuracy": pytest.approx(2 / 3),
        "accuracy@0.7": pytest.approx(2 / 3),
        "mean_iou": pytest.approx((1 + 0.4 + 0.8) / 3, abs=1e-4),
    }
    assert set(metric.predictions) == {7, 8, 9}
    strict = GroundingAccuracy({7: gold[7], 8: gold[8]}, iou="plus_one", regress=False)
    strict.update(rows)
    # 21 x 13 of 21 x 31 pixels.
    assert strict.compute()["mean_iou"] == pytest.approx((1 + 13 / 31) / 2, abs=1e-4)
