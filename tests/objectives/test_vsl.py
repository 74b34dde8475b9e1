import json
import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tbkin.objectives.caption_tfidf import group_similarity
from tbkin.objectives.triplet import triplet_loss
from tbkin.objectives.vsl import (
    RANKS,
    VisualSemantic,
    cross_soft_rank,
    soft_rank,
    visual_semantic_loss,
)

VALUES = Path(__file__).resolve().parents[3] / "shared/reference/vsl_values.json"


def random_scores(count, seed=0, low=0.0, high=1.0):
    drawn = np.random.default_rng(seed).random((count, count))
    return torch.from_numpy(drawn * (high - low) + low)


def random_captions(shape, seed, keep=0.3):
    """(N, 5, V) vectors of unit length, as the recipe of the reference values draws them."""
    drawn = np.random.default_rng(seed).random(shape)
    drawn = np.where(drawn < 1 - keep, 0, drawn)
    return torch.from_numpy(drawn / np.linalg.norm(drawn, axis=-1, keepdims=True))


def semantics_of(captions):
    pictures, each = captions.shape[:2]
    return group_similarity(captions.flatten(0, 1), each * torch.arange(pictures + 1))


def slow_rank(values, pool, temperature=1e-3):
    """Place of each value in its row of the pool, one comparison at a time."""
    ranks = torch.ones_like(values)
    for i in range(len(values)):
        for k in range(values.shape[1]):
            for other in range(values.shape[1]):
                if other != k:
                    gap = (pool[i, other] - values[i, k]).item() / temperature
                    ranks[i, k] += 1 / (1 + math.exp(-max(-50.0, min(50.0, gap))))
    return ranks


@pytest.fixture
def recorded():
    if not VALUES.is_file():
        pytest.skip(f"no reference values in {VALUES}")
    return json.loads(VALUES.read_text(encoding="utf-8"))


def test_ranks_worked_by_hand():
    # Far apart: places. A gap of tau ln 3: sigma = 3/4. Equal: a half each.
    gap = 1e-3 * math.log(3)
    values = torch.tensor([[0.1, 0.9, 0.5], [0.2, 0.2 + gap, 0.9], [0.3, 0.3, 0.3]]).double()
    expected = [[3, 1, 2], [1 + 3 / 4 + 1, 1 + 1 / 4 + 1, 1], [2, 2, 2]]
    assert torch.allclose(soft_rank(values), torch.tensor(expected).double(), atol=1e-8)


def test_cross_ranks_worked_by_hand():
    # Row 0, column 1: 0.2 among column 0 without its entry 1, that is 0.5: place 2.
    # Row 0, column 0: 0.5 among column 0 without entry 0, that is 0.9: place 2.
    # Row 1, column 0: 0.9 among column 1 without entry 0, that is 0.1: place 1.
    # Row 1, column 1: 0.1 among column 1 without entry 1, that is 0.2: place 2.
    values = torch.tensor([[0.5, 0.2], [0.9, 0.1]])
    assert cross_soft_rank(values).tolist() == [[2, 2], [1, 2]]
    assert soft_rank(values).tolist() == [[1, 2], [1, 2]]


def test_ranks_agree_with_the_slow_loop():
    values = random_scores(6, low=0.5, high=0.52)
    assert torch.allclose(soft_rank(values), slow_rank(values, values), atol=1e-12)
    assert torch.allclose(cross_soft_rank(values), slow_rank(values, values.T), atol=1e-12)
    wide = values[:2]
    assert torch.allclose(soft_rank(wide), slow_rank(wide, wide), atol=1e-12)
    warmer = soft_rank(values, temperature=0.01)
    assert torch.allclose(warmer, slow_rank(values, values, 0.01), atol=1e-12)


def test_rows_of_ranks_add_up():
    # sigma(x) + sigma(-x) = 1, ties included: B (B + 1) / 2; rows of cross ranks need not.
    values = random_scores(7, low=0.5, high=0.51)
    values[2, 1:4] = 0.505
    values[4] = 0.0
    total = torch.full((7,), 28.0).double()
    assert torch.allclose(soft_rank(values).sum(dim=1), total, atol=1e-9)
    assert not torch.allclose(cross_soft_rank(values).sum(dim=1), total, atol=1e-2)


@pytest.mark.parametrize("rank", [soft_rank, cross_soft_rank])
@pytest.mark.parametrize("chunk", [1, 2, 5, 100])
def test_chunks_change_neither_ranks_nor_gradients(rank, chunk):
    weights = random_scores(5, seed=1)
    results = []
    for size in (None, chunk):
        values = random_scores(5, low=0.5, high=0.52).requires_grad_()
        ranks = rank(values, chunk=size)
        (ranks * weights).sum().backward()
        results.append((ranks.detach(), values.grad))
    for whole, chunked in zip(*results, strict=True):
        assert torch.allclose(whole, chunked, rtol=0, atol=1e-12)


@pytest.mark.parametrize("mode", sorted(RANKS))
def test_the_loss_agrees_with_its_formula(mode):
    scores, semantics = (
        random_scores(5, low=0.5, high=0.52),
        semantics_of(random_captions((5, 5, 24), 1)),
    )
    target = slow_rank(semantics, semantics)
    ranks = {
        "row": [slow_rank(scores, scores)],
        "reference": [slow_rank(scores, scores.T)],
        "column": [slow_rank(scores.T, scores.T).T],
    }
    ranks["both"] = ranks["row"] + ranks["column"]
    losses = [
        1
        - sum(min(a, b) / max(a, b) for a, b in zip(one.ravel(), target.ravel(), strict=True)) / 25
        for one in ranks[mode]
    ]
    loss = visual_semantic_loss(scores, semantics, rank_mode=mode)
    assert loss.item() == pytest.approx(10 * float(sum(losses)) / len(losses), abs=1e-9)
    assert visual_semantic_loss(scores, semantics, scale=2.0, rank_mode=mode).item() == (
        pytest.approx(loss.item() / 5)
    )


@pytest.mark.parametrize("mode", ["row", "reference"])
def test_0_when_the_orders_agree(mode):
    semantics = semantics_of(random_captions((6, 5, 24), 3))
    assert visual_semantic_loss(semantics, semantics, rank_mode=mode).item() == pytest.approx(0)
    assert visual_semantic_loss(-semantics, semantics, rank_mode=mode).item() > 3


def test_of_wide_gaps_only_the_order_within_rows_counts():
    semantics = torch.tensor([[0.9, 0.2, 0.5], [0.2, 0.8, 0.4], [0.5, 0.4, 0.7]])
    per_row = torch.tensor([[0.5], [1.0], [3.0]])
    scores = per_row * semantics + torch.tensor([[5.0], [0.0], [-2.0]])
    assert visual_semantic_loss(scores, semantics, rank_mode="row").item() == pytest.approx(0)
    assert visual_semantic_loss(scores, semantics, rank_mode="column").item() > 1
    # Places 1 and 2 of one row exchanged: two ratios of nine are a half, 10 (1 - 8 / 9).
    scores[0] = scores[0, [2, 1, 0]]
    loss = visual_semantic_loss(scores, semantics, rank_mode="row")
    assert loss.item() == pytest.approx(10 / 9, abs=1e-5)


def test_row_is_reference_on_symmetric_scores_only():
    scores, semantics = random_scores(6), semantics_of(random_captions((6, 5, 24), 3))
    symmetric = (scores + scores.T) / 2

    def loss(given, mode):
        return visual_semantic_loss(given, semantics, rank_mode=mode).item()

    assert loss(symmetric, "row") == pytest.approx(loss(symmetric, "reference"), abs=1e-12)
    assert abs(loss(scores, "row") - loss(scores, "reference")) > 1e-2


@pytest.mark.parametrize("mode", sorted(RANKS))
def test_the_order_of_the_batch_does_not_matter(mode):
    scores, semantics = random_scores(6), semantics_of(random_captions((6, 5, 24), 3))
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    mixed = visual_semantic_loss(
        scores[order][:, order], semantics[order][:, order], rank_mode=mode
    )
    assert mixed.item() == pytest.approx(
        visual_semantic_loss(scores, semantics, rank_mode=mode).item(), abs=1e-12
    )


@pytest.mark.parametrize("mode", sorted(RANKS))
def test_gradient_flows_to_the_scores_only_and_is_that_of_differences(mode):
    semantics = semantics_of(random_captions((4, 5, 24), 3)).requires_grad_()
    scores = random_scores(4, low=0.5, high=0.505).requires_grad_()
    visual_semantic_loss(scores, semantics, rank_mode=mode).backward()
    assert semantics.grad is None
    assert scores.grad.abs().sum() > 0
    assert torch.autograd.gradcheck(
        lambda given: visual_semantic_loss(given, semantics.detach(), rank_mode=mode),
        scores,
        eps=1e-8,
        atol=1e-3,
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("mode", sorted(RANKS))
def test_coarse_scores_are_ranked_in_float32(mode, dtype):
    scores = (100 * random_scores(5)).to(dtype).requires_grad_()
    semantics = semantics_of(random_captions((5, 5, 24), 3)).float()
    loss = visual_semantic_loss(scores, semantics, rank_mode=mode)
    loss.backward()
    exact = visual_semantic_loss(scores.detach().float(), semantics, rank_mode=mode)
    assert loss.dtype == torch.float32
    assert torch.equal(loss, exact)
    assert scores.grad.isfinite().all()


@pytest.mark.parametrize("mode", sorted(RANKS))
@pytest.mark.parametrize("count", [1, 4])
def test_one_pair_or_equal_scores_are_finite(mode, count):
    scores = torch.zeros(count, count, requires_grad=True)
    loss = visual_semantic_loss(scores, torch.ones(count, count), rank_mode=mode)
    loss.backward()
    assert loss.item() == pytest.approx(0)
    assert scores.grad.isfinite().all()


def test_other_shapes_and_modes_are_refused():
    with pytest.raises(ValueError, match=r"as many captions as pictures: got scores of \(2, 3\)"):
        visual_semantic_loss(torch.zeros(2, 3), torch.zeros(2, 3))
    with pytest.raises(ValueError, match=r"semantics must have the shape \(2, 2\)"):
        visual_semantic_loss(torch.zeros(2, 2), torch.zeros(3, 3))
    with pytest.raises(ValueError, match="unknown rank_mode 'rows'; choose from: both, column"):
        visual_semantic_loss(torch.zeros(2, 2), torch.zeros(2, 2), rank_mode="rows")
    with pytest.raises(ValueError, match=r"objectives\.visual_semantic\.rank_mode 'rows'"):
        VisualSemantic(rank_mode="rows")
    with pytest.raises(ValueError, match=r"visual_semantic\.temperature must be above 0, got 0"):
        VisualSemantic(temperature=0)
    for scale in (0, -1, math.nan):
        with pytest.raises(ValueError, match=r"visual_semantic\.scale must be above 0, got"):
            VisualSemantic(scale=scale)


CAPTIONS = {
    3: ["a brown dog runs", "dog on grass", "the dog is running"],
    8: ["a dog and a cat on the grass"],
    5: ["two men ride bikes", "men on bikes"],
    6: ["a red bus", "bus in the street", "two men wait for a bus", "the bus is red"],
}


def bound(**settings):
    rows = [
        {"image_id": image_id, "caption": caption}
        for image_id, captions in CAPTIONS.items()
        for caption in captions
    ]
    objective = VisualSemantic(**settings)
    objective.bind(SimpleNamespace(rows=rows))
    return objective


def test_the_objective_compares_the_captions_of_the_training_data():
    # Scores that say how alike the pictures' captions are cost nothing, whatever the batch.
    ids = torch.tensor([6, 3, 5, 3, 8])
    objective = bound()
    scores = objective.similarity(ids).requires_grad_()
    assert scores[1, 3] > scores[1, 4] > scores[1, 2]
    assert objective(SimpleNamespace(scores=scores), {"image_ids": ids}).item() < 1e-5
    other = SimpleNamespace(scores=scores.detach()[[1, 0, 2, 3, 4]])
    assert objective(other, {"image_ids": ids}).item() > 0.5


def test_the_objective_passes_its_settings_on():
    ids, scores = torch.tensor([6, 3, 5, 8]), random_scores(4, low=0.5, high=0.52).float()
    for settings in (
        {},
        {"rank_mode": "reference", "scale": 2.0, "temperature": 0.01},
        {"exclude_self": True},
    ):
        objective = bound(**settings)
        semantics = bound(exclude_self=settings.get("exclude_self", False)).similarity(ids)
        expected = visual_semantic_loss(
            scores,
            semantics,
            settings.get("temperature", 1e-3),
            settings.get("scale", 10.0),
            settings.get("rank_mode", "row"),
        )
        loss = objective(SimpleNamespace(scores=scores), {"image_ids": ids})
        assert loss.item() == pytest.approx(expected.item())
    assert bound(exclude_self=True).similarity(ids)[1, 1] < bound().similarity(ids)[1, 1]
    assert not list(objective.parameters())
    assert not objective.state_dict()


def test_what_is_missing_is_named():
    outputs, batch = SimpleNamespace(scores=torch.zeros(1, 1)), {"image_ids": torch.tensor([3])}
    with pytest.raises(RuntimeError, match=r"objectives\.visual_semantic .*bind\(dataset\)"):
        VisualSemantic()(outputs, batch)
    with pytest.raises(ValueError, match=r"objectives\.visual_semantic needs 'scores'"):
        bound()(SimpleNamespace(scores=None), batch)
    with pytest.raises(ValueError, match=r"objectives\.visual_semantic needs 'image_ids'"):
        bound()(outputs, {"labels": 1})
    with pytest.raises(LookupError, match="no captions of image 4"):
        bound()(outputs, {"image_ids": torch.tensor([4])})


def published_loss(scores, semantics):
    return visual_semantic_loss(scores, semantics, rank_mode="reference")


def case_of(recorded, name):
    """Scores and captions of a case, drawn by its recipe."""
    case = next(case for case in recorded["vsl_cases"] if case["name"] == name)
    drawn = case["scores"]
    scores = random_scores(case["N"], drawn["seed"], drawn["low"], drawn["high"])
    captions = random_captions(case["tfidf"]["shape"], case["tfidf"]["seed"], case["tfidf"]["keep"])
    return case, scores, captions


@pytest.mark.parametrize("name", ["wide_n5", "narrow_n8"])
def test_agrees_with_the_authors_code(recorded, name):
    case, scores, captions = case_of(recorded, name)
    semantics = semantics_of(captions)
    given = torch.tensor(case["image_semantic_matrix"], dtype=torch.float64)
    assert torch.allclose(semantics, given, rtol=0, atol=1e-6)

    scores.requires_grad_()
    loss = published_loss(scores, semantics)
    loss.backward()
    theirs = case["vsl_repo"]
    assert loss.item() == pytest.approx(theirs["loss"], abs=1e-6)
    assert scores.grad.abs().sum().item() == pytest.approx(theirs["grad_abs_sum"], abs=1e-5)
    assert scores.grad.abs().max().item() == pytest.approx(theirs["grad_max_abs"], abs=1e-6)
    scores = scores.detach()
    for values, rank, side in (
        (scores, cross_soft_rank, "scores"),
        (semantics, soft_rank, "semantic"),
    ):
        ranks = rank(values)
        assert ranks[0].tolist() == pytest.approx(theirs[f"soft_rank_{side}_row0"], abs=1e-6)
        assert ranks.sum().item() == pytest.approx(theirs[f"soft_rank_{side}_sum"], abs=1e-5)
    for mode, key in (
        ("row", "ours_row_variant"),
        ("column", "ours_column_variant"),
        ("both", "ours_mean_row_and_column"),
    ):
        value = visual_semantic_loss(scores, semantics, rank_mode=mode).item()
        assert value == pytest.approx(case[key]["loss"], abs=1e-6)
    row0 = case["ours_row_variant"]["soft_rank_scores_row0"]
    assert soft_rank(scores)[0].tolist() == pytest.approx(row0, abs=1e-6)
    symmetric = (scores + scores.T) / 2
    expected = case["vsl_repo_on_symmetrised_scores"]["loss"]
    assert published_loss(symmetric, semantics).item() == pytest.approx(expected, abs=1e-6)
    texts = captions[:, 0] @ captions[:, 0].T  # their ablation: each pair's own caption
    expected = case["text_semantic_repo_formula"]["loss"]
    assert published_loss(scores, texts).item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("name", ["wide_n5", "narrow_n8"])
def test_the_triplet_loss_beside_it_agrees_too(recorded, name):
    case, scores, captions = case_of(recorded, name)
    right = torch.eye(len(scores), dtype=torch.bool)
    for mining, key in (("hardest", "triplet_hard"), ("all", "triplet_sum")):
        given = scores.clone().requires_grad_()
        loss = triplet_loss(given, right, mining=mining)
        loss.backward()
        assert loss.item() == pytest.approx(case[key]["loss"], abs=1e-6)
        assert given.grad.abs().sum().item() == pytest.approx(case[key]["grad_abs_sum"])
    total = triplet_loss(scores, right) + published_loss(scores, semantics_of(captions))
    expected = case["vsl_repo"]["total_triplet_plus_vsl"]
    assert total.item() == pytest.approx(expected, abs=1.5e-6)  # a sum of two rounded numbers


def test_gradients_and_ranks_agree_entry_by_entry(recorded):
    _, scores, captions = case_of(recorded, "wide_n5")
    extra = recorded["vsl_extra"]
    for rank, key in (
        (cross_soft_rank, "wide_n5_soft_rank_full_repo"),
        (soft_rank, "wide_n5_soft_rank_full_row_variant"),
    ):
        expected = torch.tensor(extra[key], dtype=torch.float64)
        assert torch.allclose(rank(scores), expected, rtol=0, atol=1e-6)
    right = torch.eye(5, dtype=torch.bool)
    for loss, key in (
        (lambda given: published_loss(given, semantics_of(captions)), "vsl"),
        (lambda given: triplet_loss(given, right), "triplet_hard"),
    ):
        given = scores.clone().requires_grad_()
        loss(given).backward()
        expected = torch.tensor(extra[f"wide_n5_{key}_gradient"], dtype=torch.float64)
        assert torch.allclose(given.grad, expected, rtol=0, atol=1e-6)


def test_the_soft_step_agrees(recorded):
    step = recorded["vsl_extra"]["soft_step_tau_0.001"]
    for gap, value in zip(step["differences"], step["values"], strict=True):
        ranks = soft_rank(torch.tensor([[0.0, gap]], dtype=torch.float64))
        assert ranks[0, 0].item() - 1 == pytest.approx(value, abs=1e-6)


def test_agreement_and_reversal_agree(recorded):
    drawn = random_scores(6, 15)
    semantics = (drawn + drawn.T) / 2
    for sign, key in ((1, "identical_order_gives_zero"), (-1, "reversed_order")):
        loss = published_loss(sign * semantics, semantics)
        assert loss.item() == pytest.approx(recorded["vsl_extra"][key]["loss"], abs=1e-6)


def test_float32_agrees(recorded):
    # "wide_n8" is drawn like the others, with the seeds 12 and 112 between theirs.
    expected = recorded["vsl_extra"]["float32_of_wide_n8"]
    scores, semantics = random_scores(8, 12).float(), semantics_of(random_captions((8, 5, 24), 112))
    loss = published_loss(scores, semantics.float())
    assert loss.item() == pytest.approx(expected["vsl_repo"], rel=1e-3)
    right = torch.eye(8, dtype=torch.bool)
    assert triplet_loss(scores, right).item() == pytest.approx(expected["triplet_hard"], rel=1e-5)
