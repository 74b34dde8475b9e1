"""Where weights may be dropped, what is counted, and thresholds that learn."""

import math

import pytest
import torch

from tbkin.model.selection import (
    BLOCKS,
    LEARNABLE_RULES,
    block_mask,
    block_numbers,
    count_pairs,
    select,
    select_learning,
)

SIZES = (2, 3, 1)  # two tokens, three regions, one attribute node
LENGTH = sum(SIZES)
ALL = torch.ones(LENGTH, dtype=torch.bool)
THRESHOLDS = {"prob": 0.15, "logit": 0.2, "rel_max": 0.4, "rel_mean": 0.9}
STRICT = {**THRESHOLDS, "top_k": 2, "sparsemax": 0, "entmax15": 0}
LEARNING = pytest.mark.parametrize("rule", LEARNABLE_RULES)


def logits_of(*shape, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return 2 * torch.randn(*shape, LENGTH, LENGTH, generator=generator, dtype=dtype)


def log(*values):
    return torch.tensor([values], dtype=torch.float64).log()


# Blocks


def test_every_pair_lies_in_its_block():
    # Rows are queries: tokens 0 1, regions 2 3 4, the attribute node 5.
    names = [[BLOCKS[number] for number in row] for row in block_numbers(SIZES).tolist()]
    token = ["text-text"] * 2 + ["text-image"] * 3 + ["graph"]
    region = ["image-text"] * 2 + ["image-image"] * 3 + ["graph"]
    assert names == [token, token, region, region, region, ["graph"] * 6]


def test_all_blocks_or_none_named_is_everywhere():
    assert block_mask(None, SIZES) is None
    assert block_mask([], SIZES) is None
    assert block_mask(list(BLOCKS), SIZES) is None


def test_pairs_are_counted_by_block():
    pairs = torch.arange(LENGTH * LENGTH).view(LENGTH, LENGTH)
    numbers = block_numbers(SIZES)
    expected = [pairs[numbers == place].sum().item() for place in range(len(BLOCKS))]
    assert count_pairs(pairs, SIZES).tolist() == expected
    assert count_pairs(torch.ones(4, 4), (4, 0, 0)).tolist() == [16, 0, 0, 0, 0]


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("rule", STRICT)
def test_only_the_named_block_loses_weights(rule, block):
    logits, selectable = logits_of(7), block_mask([block], SIZES)
    weights, keep = select(logits, ALL, rule, STRICT[rule], selectable=selectable)
    assert keep[:, ~selectable].all()
    assert (~keep[:, selectable]).any()
    assert torch.allclose(weights.sum(dim=-1), torch.ones(7, LENGTH), atol=1e-6)


def test_the_threshold_of_a_block_is_that_of_the_whole_row():
    # Weights 0.1 … 0.4; only the first two may go, and 0.25 is above both: 3/7 and 4/7 stay.
    selectable = torch.tensor([[True, True, False, False]])
    mask = torch.ones(1, 4, dtype=torch.bool)
    weights, keep = select(log(1, 2, 3, 4), mask, "prob", 0.25, selectable=selectable)
    assert keep.tolist() == [[False, False, True, True]]
    assert weights.tolist() == [pytest.approx([0, 0, 3 / 7, 4 / 7])]
    # The last two may go, but are the largest of the row.
    _, keep = select(log(1, 2, 3, 4), mask, "prob", 0.25, selectable=~selectable)
    assert keep.all()


def test_a_sparse_rule_shares_out_what_softmax_gives_the_block():
    # Softmax gives 0.1, 0.2, 0.3, 0.4. The last two share 0.7 by sparsemax of ln 3 and ln 4:
    # they differ by d = ln(4/3), so the larger gets (1 + d) / 2 of it.
    selectable = torch.tensor([[False, False, True, True]])
    mask = torch.ones(1, 4, dtype=torch.bool)
    weights, _ = select(log(1, 2, 3, 4), mask, "sparsemax", selectable=selectable)
    larger = 0.7 * (1 + math.log(4 / 3)) / 2
    assert weights.tolist() == [pytest.approx([0.1, 0.2, 0.7 - larger, larger])]


# Thresholds that learn


@LEARNING
@pytest.mark.parametrize("shift", [-1.0, 0.0, 0.8])
def test_hard_it_is_select_at_the_shifted_threshold(rule, shift):
    logits, threshold = logits_of(5, dtype=torch.float64), THRESHOLDS[rule]
    moved = threshold + shift if rule == "logit" else threshold * math.exp(shift)
    mask = ALL.clone()
    mask[1] = False
    expected, kept = select(logits, mask, rule, moved)
    weights, keep, _ = select_learning(
        logits, mask, rule, threshold, torch.tensor(shift), temperature=0.3, hard=True
    )
    assert torch.equal(keep, kept)
    assert torch.allclose(weights, expected)
    assert 0 < keep.sum() < mask.sum() * 5 * LENGTH


@LEARNING
def test_softly_it_comes_near_as_the_temperature_falls(rule):
    logits, threshold = logits_of(5, dtype=torch.float64), THRESHOLDS[rule]
    expected, _ = select(logits, ALL, rule, threshold)

    def distance(temperature):
        weights, _, _ = select_learning(
            logits, ALL, rule, threshold, torch.zeros(()), temperature, hard=False
        )
        assert torch.allclose(weights.sum(dim=-1), torch.ones(5, LENGTH, dtype=torch.float64))
        return (weights - expected).abs().mean().item()

    distances = [distance(temperature) for temperature in (1.0, 0.3, 0.1, 0.001)]
    assert distances == sorted(distances, reverse=True)
    assert distances[-1] < 1e-3 < distances[0]


def test_softly_worked_by_hand():
    # Logits ln 1 … ln 4, rel_max 0.5: the threshold lies at ln 2. At temperature 1 the gates are
    # x / (x + 2): 1/3, 2/4, 3/5, and 1 for the largest, which is always held.
    weights, keep, gate = select_learning(
        log(1, 2, 3, 4), ALL[:4], "rel_max", 0.5, torch.zeros(()), temperature=1.0, hard=False
    )
    gates = [1 / 3, 1 / 2, 3 / 5, 1.0]
    mixed = [x * g for x, g in zip([1, 2, 3, 4], gates, strict=True)]
    assert gate.tolist() == [pytest.approx(gates)]
    assert keep.tolist() == [[False, True, True, True]]
    assert weights.tolist() == [pytest.approx([m / sum(mixed) for m in mixed])]


@LEARNING
@pytest.mark.parametrize("hard", [True, False])
@pytest.mark.parametrize("renormalize", [True, False])
def test_each_head_learns_its_threshold(rule, hard, renormalize):
    logits = logits_of(2, 3, dtype=torch.float64).requires_grad_()
    mask = ALL.clone()
    mask[0] = False
    shift = torch.zeros(3, 1, 1, dtype=torch.float64, requires_grad=True)
    weights, _, gate = select_learning(
        logits, mask, rule, THRESHOLDS[rule], shift, 0.5, hard, renormalize
    )
    values = torch.arange(LENGTH, dtype=torch.float64) ** 2
    (weights * values).sum().backward()
    assert shift.grad.isfinite().all()
    assert (shift.grad != 0).all()
    assert logits.grad.isfinite().all()
    assert (gate[..., 0] == 0).all()
    assert gate.max() <= 1


def test_the_gate_sends_the_logits_no_gradient():
    # One head, drop form, hard: weights are A * keep, so the gradient is softmax's own with the
    # kept values only; through a soft gate there would be more.
    logits = logits_of(dtype=torch.float64).requires_grad_()
    weights, keep, _ = select_learning(
        logits, ALL, "rel_max", 0.4, torch.zeros(()), 1.0, hard=True, renormalize=False
    )
    values = torch.arange(LENGTH, dtype=torch.float64)
    (found,) = torch.autograd.grad((weights * values).sum(), logits)
    plain = torch.softmax(logits, dim=-1) * keep
    (expected,) = torch.autograd.grad((plain * values).sum(), logits)
    assert torch.allclose(found, expected)


def test_a_larger_shift_opens_the_gate_less():
    logits = logits_of(4)
    means = [
        select_learning(logits, ALL, "prob", 0.1, torch.tensor(shift), 0.5, hard=False)[2].mean()
        for shift in (-2.0, 0.0, 2.0)
    ]
    assert means[0] > means[1] > means[2]
