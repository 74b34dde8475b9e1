import itertools
import math
from types import SimpleNamespace

import pytest
import torch
from torch.nn import functional as F

from tbkin.objectives.transport import (
    Transport,
    transport_distance,
    transport_loss,
    transport_plan,
)


def masks(regions, words):
    """Masks (B, R) and (B, T) of samples with so many regions and words."""
    return tuple(
        (torch.arange(max(counts)) < torch.tensor(counts)[:, None]).long()
        for counts in (regions, words)
    )


def random_states(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def slow_plan(cost, iterations=50, beta=0.5):
    """IPOT of one sample without padding, one number at a time."""
    regions, words = cost.shape
    plan = [[1.0] * words for _ in range(regions)]
    share = [1 / words] * words
    for _ in range(iterations):
        moved = [
            [math.exp(-cost[r][t].item() / beta) * plan[r][t] for t in range(words)]
            for r in range(regions)
        ]
        given = [
            1 / (regions * sum(moved[r][t] * share[t] for t in range(words)))
            for r in range(regions)
        ]
        share = [
            1 / (words * sum(moved[r][t] * given[r] for r in range(regions))) for t in range(words)
        ]
        plan = [[given[r] * moved[r][t] * share[t] for t in range(words)] for r in range(regions)]
    return torch.tensor(plan)


@pytest.mark.parametrize("iterations", [1, 2, 5])
def test_two_by_two_worked_by_hand(iterations):
    # Cost 0 on the diagonal, 1 beside it: each iteration multiplies what lies beside it by
    # q = e^(-1 / beta) and then makes both shares one half again.
    q = math.exp(-1 / 0.5) ** iterations
    cost = torch.tensor([[[0.0, 1], [1, 0]]])
    plan = transport_plan(cost, *masks([2], [2]), iterations=iterations)
    expected = torch.tensor([[1, q], [q, 1]]) / (2 * (1 + q))
    assert torch.allclose(plan[0], expected, atol=1e-7)
    slower = transport_plan(cost, *masks([2], [2]), beta=1.0, iterations=2 * iterations)
    assert torch.allclose(slower, plan, atol=1e-7)


def test_the_plan_agrees_with_the_slow_loop_whatever_the_padding():
    regions, words = (3, 5, 1), (4, 2, 6)
    cost = 2 * torch.rand(3, 5, 6, generator=torch.Generator().manual_seed(0))
    region_mask, text_mask = masks(regions, words)
    padding = (region_mask[:, :, None] * text_mask[:, None]) == 0
    plan = transport_plan(cost.masked_fill(padding, torch.nan), region_mask, text_mask)
    for row, (real, said) in enumerate(zip(regions, words, strict=True)):
        expected = torch.zeros(5, 6)
        expected[:real, :said] = slow_plan(cost[row, :real, :said])
        assert torch.allclose(plan[row], expected, atol=1e-6)


def test_shares_are_equal():
    region_mask, text_mask = masks((3, 5), (4, 4))
    cost = 2 * torch.rand(2, 5, 4, generator=torch.Generator().manual_seed(0))
    plan = transport_plan(cost, region_mask, text_mask, iterations=500)
    assert torch.allclose(plan.sum(dim=1), text_mask / 4, atol=1e-6)
    assert torch.allclose(plan.sum(dim=2), region_mask / torch.tensor([[3], [5]]), atol=1e-3)


def test_many_iterations_find_the_cheapest_assignment():
    cost = torch.rand(1, 4, 4, generator=torch.Generator().manual_seed(0))
    plan = transport_plan(cost, *masks([4], [4]), iterations=2000)
    cheapest = min(
        sum(cost[0, r, t].item() for r, t in enumerate(order)) / 4
        for order in itertools.permutations(range(4))
    )
    assert (cost * plan).sum().item() == pytest.approx(cheapest, abs=1e-3)


def test_distance_worked_by_hand():
    # One word, along x; regions along x, y and -x: costs 0, 1 and 2, each with a third.
    words = torch.tensor([[[3.0, 0]]])
    regions = torch.tensor([[[1.0, 0], [0, 5], [-2, 0]]])
    distance = transport_distance(words, regions, torch.ones(1, 1), torch.ones(1, 3))
    assert distance.tolist() == pytest.approx([1])
    distance = transport_distance(words, regions, torch.ones(1, 1), torch.tensor([[1, 1, 0]]))
    assert distance.tolist() == pytest.approx([0.5])


def test_loss_worked_by_hand():
    # Right pairs 0.2 and 0.4, a wrong one 0.9: (0.6 - 0.9) / 3.
    loss = transport_loss(torch.tensor([0.2, 0.9, 0.4]), torch.tensor([1, 0, 1]))
    assert loss.item() == pytest.approx(-0.1)


def states_and_masks():
    region_mask, text_mask = masks((3, 5), (4, 2))
    return random_states(2, 4, 8), random_states(2, 5, 8, seed=1), text_mask, region_mask


def test_padding_never_matters():
    words, regions, text_mask, region_mask = states_and_masks()
    distance = transport_distance(words, regions, text_mask, region_mask)
    other_words = torch.where(text_mask.bool()[..., None], words, torch.tensor(7.0))
    other_regions = torch.where(region_mask.bool()[..., None], regions, torch.tensor(-7.0))
    assert torch.equal(
        transport_distance(other_words, other_regions, text_mask, region_mask), distance
    )
    alone = transport_distance(words[:1, :4], regions[:1, :3], torch.ones(1, 4), torch.ones(1, 3))
    assert alone.item() == pytest.approx(distance[0].item(), abs=1e-6)


def test_the_order_of_words_and_regions_and_their_lengths_do_not_matter():
    words, regions, text_mask, region_mask = states_and_masks()
    distance = transport_distance(words, regions, text_mask, region_mask)
    word_order, region_order = torch.randperm(4), torch.randperm(5)
    mixed = transport_distance(
        3 * words[:, word_order],
        0.1 * regions[:, region_order],
        text_mask[:, word_order],
        region_mask[:, region_order],
    )
    assert torch.allclose(mixed, distance, atol=1e-6)


def test_gradient_flows_through_the_cost_and_not_through_the_plan():
    words, regions, text_mask, region_mask = states_and_masks()
    words.requires_grad_()
    transport_distance(words, regions, text_mask, region_mask).sum().backward()
    assert words.grad.abs().sum() > 0
    assert words.grad[~text_mask.bool()].abs().max() == 0
    again = words.detach().clone().requires_grad_()
    cost = 1 - F.cosine_similarity(regions[:, :, None], again[:, None], dim=3)
    plan = transport_plan(cost, region_mask, text_mask)
    assert not plan.requires_grad
    (cost * plan).sum().backward()
    assert torch.allclose(words.grad, again.grad, atol=1e-6)


def test_a_step_brings_right_pairs_nearer_and_wrong_pairs_apart():
    words, regions, text_mask, region_mask = states_and_masks()
    words.requires_grad_()
    batch = {
        "attention_mask": text_mask,
        "region_mask": region_mask,
        "match_labels": torch.tensor([1, 0]),
    }
    before = transport_distance(words, regions, text_mask, region_mask)
    Transport()(SimpleNamespace(text_states=words, region_states=regions), batch).backward()
    after = transport_distance(words - words.grad, regions, text_mask, region_mask)
    assert after[0] < before[0]
    assert after[1] > before[1]


def test_samples_without_words_or_regions_cost_nothing():
    words, regions = random_states(2, 3, 4).requires_grad_(), random_states(2, 2, 4, seed=1)
    text_mask, region_mask = torch.tensor([[0, 0, 0], [1, 1, 1]]), torch.tensor([[1, 1], [0, 0]])
    distance = transport_distance(words, regions, text_mask, region_mask)
    distance.sum().backward()
    assert distance.tolist() == [0, 0]
    assert words.grad.abs().max() == 0


def test_states_of_0_are_finite():
    words = torch.zeros(1, 2, 4, requires_grad=True)
    distance = transport_distance(words, random_states(1, 3, 4), torch.ones(1, 2), torch.ones(1, 3))
    distance.sum().backward()
    assert distance.tolist() == pytest.approx([1])
    assert words.grad.isfinite().all()


def test_tiny_states_count_as_longer_than_they_are():
    # A norm of 1e-6 counts as 1e-5: the cosine with its own direction is 0.1.
    words, regions = torch.tensor([[[1e-6, 0]]]), torch.tensor([[[2.0, 0]]])
    distance = transport_distance(words, regions, torch.ones(1, 1), torch.ones(1, 1))
    assert distance.tolist() == pytest.approx([0.9])


def test_mixed_precision_does_not_reach_the_transport():
    given = states_and_masks()
    distance = transport_distance(*given)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(transport_distance(*given), distance)
    coarse = transport_distance(given[0].bfloat16(), given[1].bfloat16(), *given[2:])
    rounded = transport_distance(
        given[0].bfloat16().float(), given[1].bfloat16().float(), *given[2:]
    )
    assert coarse.dtype == torch.float32
    assert torch.equal(coarse, rounded)


def test_labels_of_another_shape_are_refused():
    with pytest.raises(ValueError, match=r"match_labels .*\(2,\).*, got \(2, 1\)"):
        transport_loss(torch.zeros(2), torch.ones(2, 1))


def test_agrees_with_rosita(reference):
    inputs, recorded = reference("pretraining")
    words, regions = recorded["text_states"], recorded["region_states"]
    text_mask, region_mask = inputs["text_mask"], inputs["region_mask"]
    cost = 1 - F.cosine_similarity(regions[:, :, None], words[:, None], dim=3)
    plan = transport_plan(cost, region_mask, text_mask)
    assert torch.allclose(plan, recorded["transport_plan"], rtol=0, atol=1e-6)
    distance = transport_distance(words, regions, text_mask, region_mask)
    assert torch.allclose(distance, recorded["transport_distance"], rtol=0, atol=1e-6)
    batch = {
        "attention_mask": text_mask,
        "region_mask": region_mask,
        "match_labels": inputs["match_label"],
    }
    loss = Transport()(SimpleNamespace(text_states=words, region_states=regions), batch)
    assert loss.item() == pytest.approx(recorded["loss_transport"].item(), abs=1e-6)
    assert recorded["loss_match_cross_entropy"].item() + 0.1 * loss.item() == pytest.approx(
        recorded["loss_match"].item(), abs=1e-6
    )
