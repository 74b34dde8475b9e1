"""Sparsemax and 1.5-entmax: by hand, against a slow search for the threshold, gradients."""

import pytest
import torch

from tbkin.model.selection import SPARSE, select
from tbkin.model.sparse import Entmax15, Sparsemax

RULES = pytest.mark.parametrize("rule", SPARSE)
# What a weight is, given how far its logit lies above the threshold.
WEIGHT = {"sparsemax": lambda gap: gap, "entmax15": lambda gap: (gap / 2) ** 2}


def by_bisection(logits, rule):
    """Rows of weights whose threshold is searched for until they sum to 1."""
    low, high = logits.amax(dim=-1, keepdim=True) - 2, logits.amax(dim=-1, keepdim=True)
    for _ in range(80):
        middle = (low + high) / 2
        weights = WEIGHT[rule]((logits - middle).clamp(min=0))
        too_low = weights.sum(dim=-1, keepdim=True) > 1
        low, high = torch.where(too_low, middle, low), torch.where(too_low, high, middle)
    return weights


@pytest.mark.parametrize(
    ("logits", "weights"),
    [
        ([0.0, 0.0], [1 / 2, 1 / 2]),
        ([1.0, 0.0], [1.0, 0.0]),  # the threshold is 0: 1 - 0 = 1
        ([0.5, 0.0], [0.75, 0.25]),  # -0.25: 0.75 + 0.25 = 1
        ([0.5, 0.25, -2.0], [0.625, 0.375, 0.0]),  # -0.125, and -2 lies below it
        ([3.0, 3.0, 2.5], [1 / 2, 1 / 2, 0.0]),  # 2.5 itself: what lies on it gets 0
    ],
)
def test_sparsemax_worked_by_hand(logits, weights):
    assert Sparsemax.apply(torch.tensor([logits])).tolist() == [pytest.approx(weights)]


@pytest.mark.parametrize(
    ("logits", "weights"),
    [
        ([0.0, 0.0], [1 / 2, 1 / 2]),
        ([2.0, 0.0], [1.0, 0.0]),  # halves 1 and 0, threshold 0: 1^2 + 0
        # Halves 0.4 and 0 with threshold -t: (0.4 + t)^2 + t^2 = 1, t = (-0.4 + sqrt(1.84)) / 2.
        ([0.8, 0.0], [0.7712932, 0.2287068]),
        ([0.0, 0.0, 0.0, -9.0], [1 / 3, 1 / 3, 1 / 3, 0.0]),
    ],
)
def test_entmax_worked_by_hand(logits, weights):
    found = Entmax15.apply(torch.tensor([logits], dtype=torch.float64))
    assert found.tolist() == [pytest.approx(weights, abs=1e-6)]


@RULES
@pytest.mark.parametrize("spread", [0.1, 1.0, 30.0])
def test_agrees_with_a_search_for_the_threshold(rule, spread):
    logits = spread * torch.randn(
        200, 17, dtype=torch.float64, generator=torch.Generator().manual_seed(0)
    )
    weights = SPARSE[rule](logits)
    assert torch.allclose(weights, by_bisection(logits, rule), atol=1e-9)
    assert torch.allclose(weights.sum(dim=-1), torch.ones(200, dtype=torch.float64))
    if spread > 0.1:
        assert (weights == 0).any()


@RULES
def test_gradient_agrees_with_differences(rule):
    logits = torch.randn(6, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    assert torch.autograd.gradcheck(SPARSE[rule], logits.requires_grad_())


@RULES
def test_as_selection_rules_they_keep_what_has_weight_and_never_padding(rule):
    logits = 3 * torch.randn(40, 9, generator=torch.Generator().manual_seed(2))
    mask = torch.arange(9)[None] < 9 - torch.arange(40)[:, None] % 9
    logits[~mask] = 50.0
    weights, keep = select(logits, mask, rule, 0.7)
    assert torch.equal(keep, weights > 0)
    assert not (keep & ~mask).any()
    assert 40 <= keep.sum() < mask.sum()
    assert torch.allclose(weights.sum(dim=-1), torch.ones(40), atol=1e-6)
    row = 12  # the valid keys alone give the same
    alone = SPARSE[rule](logits[row][mask[row]])
    assert torch.allclose(weights[row][mask[row]], alone, atol=1e-6)


@RULES
def test_no_gradient_reaches_what_was_dropped_or_padded(rule):
    logits = 3 * torch.randn(20, 9, generator=torch.Generator().manual_seed(3))
    mask = torch.ones(20, 9, dtype=torch.bool)
    mask[:, 7:] = False
    logits.requires_grad_()
    weights, keep = select(logits, mask, rule)
    (weights * torch.arange(9)).sum().backward()
    assert (logits.grad[~keep] == 0).all()
    assert logits.grad.abs().sum() > 0


def test_entmax_lies_between_softmax_and_sparsemax():
    logits = 2 * torch.randn(100, 12, generator=torch.Generator().manual_seed(4))
    sizes = {name: (weigh(logits) > 0).sum() for name, weigh in SPARSE.items()}
    assert sizes["sparsemax"] < sizes["entmax15"] < logits.numel()
