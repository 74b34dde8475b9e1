import math
from types import SimpleNamespace

import pytest
import torch

from tbkin.objectives.similarity import (
    Temperature,
    batch_field,
    cosines,
    even_shares,
    output_field,
    positive_mask,
    row_cross_entropy,
    row_divergence,
)


def test_equal_ids_belong_together():
    ids = torch.tensor([5, 5, 9])
    assert positive_mask(ids).tolist() == [[True, True, False]] * 2 + [[False, False, True]]
    assert positive_mask(ids, torch.tensor([9, 5])).tolist() == [[False, True]] * 2 + [
        [True, False]
    ]


def test_positives_share_a_row_evenly_and_exactly_in_float64():
    mask = torch.tensor([[True, True, True], [False, True, False], [False, False, False]])
    shares = even_shares(mask, torch.float64)
    assert shares.tolist() == [[1 / 3] * 3, [0, 1, 0], [0, 0, 0]]


def test_divergence_of_two_candidates_worked_by_hand():
    # Teacher: softmax([ln 3, 0]) = [3/4, 1/4]. Student: softmax([0, 0]) = [1/2, 1/2].
    loss = row_divergence(torch.zeros(1, 2), torch.tensor([[math.log(3.0), 0.0]]))
    assert loss.item() == pytest.approx(0.75 * math.log(1.5) + 0.25 * math.log(0.5))


def test_cross_entropy_worked_by_hand():
    # q = [3/4, 1/4]: 1/3 of ln 4/3 and 2/3 of ln 4, summed; the mean is half of it.
    logits = torch.tensor([[math.log(3.0), 0.0]])
    targets = torch.tensor([[1 / 3, 2 / 3]])
    expected = math.log(4 / 3) / 3 + 2 * math.log(4) / 3
    assert row_cross_entropy(logits, targets).item() == pytest.approx(expected)
    assert row_cross_entropy(logits, targets, "mean").item() == pytest.approx(expected / 2)


def test_another_shape_is_refused_rather_than_broadcast():
    with pytest.raises(ValueError, match=r"teacher_logits must have the shape \(2, 2\)"):
        row_divergence(torch.zeros(2, 2), torch.zeros(1, 2))
    with pytest.raises(ValueError, match=r"targets must have the shape \(2, 2\)"):
        row_cross_entropy(torch.zeros(2, 2), torch.zeros(2))


def test_cosines_are_float32_under_autocast_and_float64_in_float64():
    rows = torch.tensor([[3.0, 4.0], [0.0, 2.0], [0.0, 0.0]])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = cosines(rows)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, torch.tensor([[1.0, 0.8, 0], [0.8, 1, 0], [0, 0, 0]]))
    assert cosines(rows.double(), rows[:1].double()).dtype == torch.float64
    assert cosines(rows, rows[:1]).shape == (3, 1)


@pytest.mark.parametrize("form", ["divisor", "log_scale"])
def test_a_temperature_comes_back_between_its_bounds_and_can_leave_them_again(form):
    temperature = Temperature(0.07, (0.01, 0.1), form=form)
    assert temperature().item() == pytest.approx(0.07)
    for away, bound in ((9.0, 0.1), (1e-4, 0.01)):
        value = -math.log(away) if form == "log_scale" else away
        torch.nn.init.constant_(temperature.value, value)
        divisor = temperature()
        assert divisor.item() == pytest.approx(bound)
        (gradient,) = torch.autograd.grad(divisor, temperature.value)
        assert gradient.item() == pytest.approx(-bound if form == "log_scale" else 1.0)


def test_a_temperature_used_twice_before_the_backward_pass():
    temperature = Temperature(0.5, (0.01, 0.5))
    scores = torch.tensor([1.0, 2.0], requires_grad=True)
    ((scores / temperature()).sum() + (scores / temperature()).sum()).backward()
    assert temperature.value.grad.item() == pytest.approx(-2 * 3 / 0.25)
    assert scores.grad.tolist() == [4, 4]


def test_fixed_temperatures_are_saved_but_not_learned():
    temperature = Temperature([0.2, 3.0], (0.1, 1.0), learned=False, most=2)
    assert not list(temperature.parameters())
    torch.testing.assert_close(temperature.state_dict()["value"], torch.tensor([0.2, 1.0]))
    assert [one.item() for one in temperature.both()] == pytest.approx([0.2, 1.0])


def test_one_temperature_for_both_directions_collects_both_gradients():
    shared, separate = Temperature(0.5, (0.1, 1)), Temperature([0.5, 0.5], (0.1, 1), most=2)
    for temperature in (shared, separate):
        first, second = temperature.both()
        (2 * first + 3 * second).backward()
    assert shared.value.grad.item() == 5
    assert separate.value.grad.tolist() == [2, 3]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0.0, (0.1, 1)), r"tau must be > 0, got 0\.0"),
        ((math.nan, (0.1, 1)), r"tau must be > 0, got nan"),
        ((0.1, (1, 0.1)), r"tau_range must be two numbers > 0, the smaller one first, got \[1, 0"),
        ((0.1, (0.1,)), r"tau_range must be two numbers"),
        ((0.1, 0.1), r"tau_range must be two numbers > 0, .* got 0\.1"),
        (([0.1, 0.2], (0.1, 1)), r"tau is one number, got \[0\.1, 0\.2\]"),
        ((0.1, (0.1, 1), True, "scale"), r"unknown tau_form 'scale'; choose from: divisor, log_s"),
    ],
)
def test_wrong_temperatures_name_the_setting(arguments, message):
    with pytest.raises(ValueError, match=message):
        Temperature(*arguments, setting="tau")
    with pytest.raises(ValueError, match=r"tau is one number, or 2 in a list, got \[1, 2, 3\]"):
        Temperature([1, 2, 3], (0.1, 1), setting="tau", most=2)


def test_missing_fields_are_named():
    assert output_field(SimpleNamespace(scores=1), "scores", "triplet") == 1
    with pytest.raises(ValueError, match=r"objectives\.triplet needs 'scores' of the model's"):
        output_field(SimpleNamespace(scores=None), "scores", "triplet")
    with pytest.raises(ValueError, match=r"objectives\.triplet needs 'scores' of the model's"):
        output_field(SimpleNamespace(), "scores", "triplet")
    with pytest.raises(ValueError, match=r"objectives\.a needs 'x' in the batch, which has: y, z;"):
        batch_field({"y": 1, "z": 2}, "x", "a")
    with pytest.raises(ValueError, match=r"use data that have it, or set a=b\."):
        batch_field({"y": 1}, "x", "a", "or set a=b")
