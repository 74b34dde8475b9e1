import math
from itertools import pairwise

import pytest
import torch

from tbkin.model.selection import RULES, SPARSE, select

KEYS = 9
ALL = torch.ones(KEYS, dtype=torch.bool)
# rule -> (threshold that keeps everything, one that drops some)
SETTINGS = {
    "top_k": (KEYS, 3),
    "prob": (0.0, 0.15),
    "logit": (-1e4, 0.2),
    "rel_max": (0.0, 0.4),
    "rel_mean": (0.0, 0.9),
}
CHOOSING = pytest.mark.parametrize("rule", SETTINGS)


def random_logits(*shape, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, KEYS, generator=generator, dtype=dtype)


def padding(rows):
    """Row i has its last i keys padded (never all)."""
    return torch.arange(KEYS)[None] < KEYS - torch.arange(rows)[:, None] % KEYS


def log(*values):
    return torch.tensor([values], dtype=torch.float64).log()


# Each rule, worked by hand. With logits ln(1), ln(2), ln(3), ln(4) the weights are 0.1 … 0.4.


@pytest.mark.parametrize(
    ("rule", "threshold", "kept", "weights"),
    [
        ("none", 9.0, [1, 1, 1, 1], [0.1, 0.2, 0.3, 0.4]),
        ("top_k", 2, [0, 0, 1, 1], [0, 0, 3 / 7, 4 / 7]),
        ("top_k", 1, [0, 0, 0, 1], [0, 0, 0, 1]),
        ("prob", 0.25, [0, 0, 1, 1], [0, 0, 3 / 7, 4 / 7]),
        ("prob", 0.15, [0, 1, 1, 1], [0, 2 / 9, 3 / 9, 4 / 9]),
        ("prob", 0.9, [0, 0, 0, 1], [0, 0, 0, 1]),  # the best stays
        ("logit", math.log(1.5), [0, 1, 1, 1], [0, 2 / 9, 3 / 9, 4 / 9]),
        ("logit", 5.0, [0, 0, 0, 1], [0, 0, 0, 1]),
        ("rel_max", 0.6, [0, 0, 1, 1], [0, 0, 3 / 7, 4 / 7]),  # 0.6 x 0.4 = 0.24
        ("rel_max", 0.4, [0, 1, 1, 1], [0, 2 / 9, 3 / 9, 4 / 9]),  # 0.16
        ("rel_mean", 1.0, [0, 0, 1, 1], [0, 0, 3 / 7, 4 / 7]),  # 1 / 4
        ("rel_mean", 0.6, [0, 1, 1, 1], [0, 2 / 9, 3 / 9, 4 / 9]),  # 0.6 / 4 = 0.15
    ],
)
def test_worked_by_hand(rule, threshold, kept, weights):
    mask = torch.ones(1, 4, dtype=torch.bool)
    found, keep = select(log(1, 2, 3, 4), mask, rule, threshold)
    assert keep.long().tolist() == [kept]
    assert found.tolist() == [pytest.approx(weights)]
    dropped, same_keep = select(log(1, 2, 3, 4), mask, rule, threshold, renormalize=False)
    assert same_keep.long().tolist() == [kept]
    assert dropped.tolist() == [
        pytest.approx([w * k for w, k in zip([0.1, 0.2, 0.3, 0.4], kept, strict=True)])
    ]


@pytest.mark.parametrize(
    ("rule", "threshold", "kept"),
    [
        # A fifth key with the weight of all others is padding. The shares of the valid four stay
        # 0.1 … 0.4, and n is 4: with 5 the threshold of rel_mean would be 0.18 instead of 0.225.
        ("prob", 0.25, [0, 0, 1, 1, 0]),
        ("rel_max", 0.6, [0, 0, 1, 1, 0]),
        ("rel_mean", 0.9, [0, 0, 1, 1, 0]),
        ("top_k", 2, [0, 0, 1, 1, 0]),
        ("logit", math.log(2.5), [0, 0, 1, 1, 0]),
    ],
)
def test_padding_does_not_count_towards_any_threshold(rule, threshold, kept):
    mask = torch.tensor([[True, True, True, True, False]])
    weights, keep = select(log(1, 2, 3, 4, 10), mask, rule, threshold)
    assert keep.long().tolist() == [kept]
    assert weights.tolist() == [pytest.approx([0, 0, 3 / 7, 4 / 7, 0])]


# The tests that the specification asks for (tbkin_rosita.md 1.5)


@CHOOSING
@pytest.mark.parametrize("renormalize", [True, False])
def test_a_threshold_that_keeps_all_is_dense_attention_bit_for_bit(rule, renormalize):
    logits, mask = random_logits(20), padding(20)
    dense, valid = select(logits, mask)
    weights, keep = select(logits, mask, rule, SETTINGS[rule][0], renormalize)
    assert torch.equal(keep, mask)
    assert torch.equal(valid, mask)
    if rule == "logit":  # the others are known to drop nothing and take the dense way
        torch.testing.assert_close(weights, dense, rtol=2.4e-7, atol=0)
    else:
        assert torch.equal(weights, dense)
    plain = torch.softmax(logits.masked_fill(~mask, -math.inf), dim=-1)
    assert torch.allclose(dense, plain, atol=1e-7)


@pytest.mark.parametrize("count", [KEYS, KEYS + 1, 1000])
def test_top_k_of_more_keys_than_there_are_is_dense(count):
    logits, mask = random_logits(20), padding(20)
    assert torch.equal(select(logits, mask, "top_k", count)[0], select(logits, mask)[0])


@CHOOSING
@pytest.mark.parametrize("renormalize", [True, False])
def test_the_row_maximum_is_always_kept(rule, renormalize):
    impossible = {"top_k": 1, "logit": 1e4}.get(rule, 0.999 if rule != "rel_mean" else 1e4)
    logits, mask = random_logits(30), padding(30)
    weights, keep = select(logits, mask, rule, impossible, renormalize)
    best = logits.masked_fill(~mask, -math.inf).argmax(dim=-1)
    assert keep.gather(1, best[:, None]).all()
    assert (keep.sum(dim=-1) == 1).all()
    assert (weights.gather(1, best[:, None]) > 0).all()


@CHOOSING
@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("renormalize", [True, False])
def test_padding_is_never_kept(rule, which, renormalize):
    logits, mask = random_logits(30), padding(30)
    logits[~mask] = 50.0  # even if it looks best
    weights, keep = select(logits, mask, rule, SETTINGS[rule][which], renormalize)
    assert not (keep & ~mask).any()
    assert (weights[~mask] == 0).all()
    elsewhere = logits.clone()
    elsewhere[~mask] = -7.0
    again, keep_again = select(elsewhere, mask, rule, SETTINGS[rule][which], renormalize)
    assert torch.equal(weights, again)
    assert torch.equal(keep, keep_again)


@CHOOSING
def test_rows_sum_to_one_when_renormalised_and_to_what_was_kept_otherwise(rule):
    logits, mask = random_logits(30, dtype=torch.float64), padding(30)
    weights, keep = select(logits, mask, rule, SETTINGS[rule][1])
    assert torch.allclose(weights.sum(dim=-1), torch.ones(30, dtype=torch.float64))
    dropped, _ = select(logits, mask, rule, SETTINGS[rule][1], renormalize=False)
    dense, _ = select(logits, mask)
    assert torch.allclose(dropped, dense * keep)
    assert 0 < keep.sum() < mask.sum()
    assert (dropped.sum(dim=-1) < 1 - 1e-6).any()


@CHOOSING
def test_renormalising_is_masking_the_logits_in_value_and_gradient(rule):
    mask = padding(12)
    values = torch.randn(12, KEYS, generator=torch.Generator().manual_seed(5)).double()

    def value_and_gradient(weigh):
        logits = random_logits(12, dtype=torch.float64).requires_grad_()
        weights = weigh(logits)
        (gradient,) = torch.autograd.grad((weights * values).sum(), logits)
        return weights.detach(), gradient

    threshold = SETTINGS[rule][1]
    keep = select(random_logits(12, dtype=torch.float64), mask, rule, threshold)[1]

    def masked(logits):
        return torch.softmax(logits.masked_fill(~keep, -math.inf), dim=-1)

    def divided(logits):
        kept = torch.softmax(logits.masked_fill(~mask, -math.inf), dim=-1) * keep
        return kept / kept.sum(dim=-1, keepdim=True)

    ours = value_and_gradient(lambda logits: select(logits, mask, rule, threshold)[0])
    for other in (masked, divided):
        for found, expected in zip(ours, value_and_gradient(other), strict=True):
            assert torch.allclose(found, expected, atol=1e-12)


@CHOOSING
def test_dropped_logits_get_a_gradient_only_when_weights_are_not_renormalised(rule):
    mask, values = padding(12), random_logits(12, seed=3)

    def gradient(renormalize):
        logits = random_logits(12).requires_grad_()
        weights, keep = select(logits, mask, rule, SETTINGS[rule][1], renormalize)
        (weights * values).sum().backward()
        return logits.grad, mask & ~keep

    found, dropped = gradient(renormalize=True)
    assert dropped.any()
    assert (found[dropped] == 0).all()
    assert found.abs().sum() > 0
    found, dropped = gradient(renormalize=False)
    assert (found[dropped] != 0).all()
    assert (found[~mask] == 0).all()


@CHOOSING
def test_the_order_of_keys_does_not_matter(rule):
    logits, mask = random_logits(20, dtype=torch.float64), padding(20)
    order = torch.randperm(KEYS, generator=torch.Generator().manual_seed(1))
    weights, keep = select(logits, mask, rule, SETTINGS[rule][1])
    turned, turned_keep = select(logits[:, order], mask[:, order], rule, SETTINGS[rule][1])
    assert torch.equal(keep[:, order], turned_keep)
    assert torch.allclose(weights[:, order], turned)


@pytest.mark.parametrize(
    ("rule", "threshold"), [("top_k", 2), ("rel_max", 1.0), ("prob", 0.3), ("logit", 1.0)]
)
def test_ties_are_all_kept(rule, threshold):
    logits = torch.tensor([[1.0, 0.0, 1.0, 1.0, -1.0]])
    mask = torch.ones(1, 5, dtype=torch.bool)
    weights, keep = select(logits, mask, rule, threshold)
    assert keep.tolist() == [[True, False, True, True, False]]
    assert weights[0, [0, 2, 3]].tolist() == pytest.approx([1 / 3] * 3)


@CHOOSING
def test_equal_logits_share_one_fate(rule):
    weights, keep = select(torch.zeros(1, KEYS), ALL, rule, SETTINGS[rule][1])
    assert keep.all() or rule == "prob"  # prob: 1 / 9 < 0.15, and then every key is the best
    assert keep.all()
    assert torch.allclose(weights, torch.full((1, KEYS), 1 / KEYS))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@CHOOSING
def test_half_precision_agrees_away_from_the_boundary(rule, dtype):
    logits, mask = random_logits(200), padding(200)
    logits = logits.to(dtype).float()  # the same numbers for both
    low, high = 0.97, 1.03  # a threshold within 3 % is too close for eight bits
    threshold = SETTINGS[rule][1]
    keep = select(logits, mask, rule, threshold)[1]
    weights, half_keep = select(logits.to(dtype), mask, rule, threshold)
    assert weights.dtype == dtype
    assert weights.isfinite().all()
    if rule in ("top_k", "logit"):  # exact comparisons
        clear = (logits - threshold).abs() > (0.01 if rule == "logit" else -1)
    else:
        clear = (
            select(logits, mask, rule, threshold * low)[1]
            == select(logits, mask, rule, threshold * high)[1]
        )
    assert clear.float().mean() > 0.9
    assert torch.equal(keep[clear], half_keep[clear])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("rule", RULES)
def test_half_precision_stays_finite_with_large_logits(rule, dtype):
    logits = (random_logits(20) * 300).to(dtype)
    weights, keep = select(logits, padding(20), rule, SETTINGS.get(rule, (0, 0))[1])
    assert weights.isfinite().all()
    assert keep.any(dim=-1).all()
    assert torch.allclose(weights.float().sum(dim=-1), torch.ones(20), atol=0.01)


# Shapes, guards, errors


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("renormalize", [True, False])
def test_a_row_without_valid_keys_is_all_zero_and_finite(rule, renormalize):
    logits = random_logits(3).requires_grad_()
    mask = torch.ones(3, KEYS, dtype=torch.bool)
    mask[1] = False
    weights, keep = select(logits, mask, rule, SETTINGS.get(rule, (0, 0))[1], renormalize)
    assert (weights[1] == 0).all()
    assert not keep[1].any()
    weights.square().sum().backward()
    assert logits.grad.isfinite().all()
    assert (logits.grad[1] == 0).all()
    assert (weights[[0, 2]].sum(dim=-1) > 0).all()


@pytest.mark.parametrize("rule", RULES)
def test_no_keys_at_all(rule):
    weights, keep = select(torch.zeros(2, 0), torch.zeros(2, 0, dtype=torch.bool), rule, 1)
    assert weights.shape == keep.shape == (2, 0)


@CHOOSING
def test_the_mask_is_broadcast_over_heads_and_queries(rule):
    logits, mask = random_logits(4, 2, 5), padding(4)
    weights, keep = select(logits, mask[:, None, None, :], rule, SETTINGS[rule][1])
    for row in range(4):
        for head in range(2):
            alone = select(logits[row, head], mask[row], rule, SETTINGS[rule][1])
            assert torch.equal(weights[row, head], alone[0])
            assert torch.equal(keep[row, head], alone[1])


@CHOOSING
def test_adding_a_constant_to_a_row_changes_nothing_unless_logits_are_compared(rule):
    logits = random_logits(10, dtype=torch.float64)
    keep = select(logits, ALL, rule, SETTINGS[rule][1])[1]
    moved = select(logits + 3, ALL, rule, SETTINGS[rule][1])[1]
    assert torch.equal(keep, moved) == (rule != "logit")


@CHOOSING
def test_a_higher_threshold_keeps_no_more(rule):
    logits, mask = random_logits(50), padding(50)
    grid = {"top_k": [9, 5, 2, 1], "logit": [-3.0, -1, 0, 1]}.get(rule, [0.0, 0.1, 0.3, 0.8])
    keeps = [select(logits, mask, rule, threshold)[1] for threshold in grid]
    for looser, stricter in pairwise(keeps):
        assert not (stricter & ~looser).any()
        assert stricter.sum() < looser.sum()


def test_an_unknown_rule_lists_the_rules():
    with pytest.raises(
        ValueError,
        match=r"unknown selection rule 'topk'; choose from: none, top_k, prob, logit, rel",
    ):
        select(random_logits(2), ALL, "topk", 3)
    assert set(RULES) == {"none", *SETTINGS, *SPARSE}
