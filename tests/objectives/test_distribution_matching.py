import json
import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from tbkin.objectives.contrastive import contrastive_loss
from tbkin.objectives.distribution_matching import (
    DistributionMatching,
    distribution_matching_loss,
    distribution_targets,
    projection_matching_loss,
)
from tbkin.objectives.identity import identity_loss
from tbkin.objectives.masked import NOT_MASKED, masked_class_loss

VALUES = Path(__file__).resolve().parents[3] / "shared/reference/vsl_values.json"
IDS = torch.tensor([4, 4, 4, 9])
IMAGES = torch.tensor([40, 40, 41, 90])


def drawn(shape, seed, count=1):
    generator = np.random.default_rng(seed)
    return [torch.from_numpy(generator.standard_normal(shape)) for _ in range(count)]


@pytest.fixture
def recorded():
    if not VALUES.is_file():
        pytest.skip(f"no reference values in {VALUES}")
    return json.loads(VALUES.read_text(encoding="utf-8"))


def test_hard_targets_worked_by_hand():
    third = 1 / 3
    expected = [[third] * 3 + [0]] * 3 + [[0, 0, 0, 1]]
    for norm in ("row", "reference"):
        targets = distribution_targets(IDS, target_norm=norm)
        assert torch.allclose(targets, torch.tensor(expected))
        assert torch.equal(
            distribution_targets(IDS, IMAGES, other_image=1.0, target_norm=norm), targets
        )


def test_soft_targets_worked_by_hand():
    # Rows 1, 1, 0.5 (twice); 0.5, 0.5, 1: sums 2.5 and 2. IRRA divides columns by these.
    rows = [[0.4, 0.4, 0.2, 0]] * 2 + [[0.25, 0.25, 0.5, 0], [0, 0, 0, 1]]
    targets = distribution_targets(IDS, IMAGES, other_image=0.5)
    assert torch.allclose(targets, torch.tensor(rows))
    reference = distribution_targets(IDS, IMAGES, other_image=0.5, target_norm="reference")
    assert torch.allclose(reference, torch.tensor(rows).T)


def test_the_loss_worked_by_hand():
    # Predictions of both directions are 1/4 and 3/4; with targets 1/2 each of them costs
    # 1/4 ln(1/2) + 3/4 ln(3/2).
    scores = torch.tensor([[0.0, 1], [1, 0]], dtype=torch.float64)
    even = torch.full((2, 2), 0.5, dtype=torch.float64)
    loss = distribution_matching_loss(scores, even, scale=math.log(3))
    one_way = 0.25 * math.log(0.5) + 0.75 * math.log(1.5)
    assert loss.item() == pytest.approx(2 * one_way, abs=1e-7)
    # Certain of the wrong pair: -ln 1e-8 each way.
    loss = distribution_matching_loss(scores, torch.eye(2), scale=100.0)
    assert loss.item() == pytest.approx(2 * 8 * math.log(10), rel=1e-6)
    assert distribution_matching_loss(scores, torch.eye(2).flip(0), 100.0).item() == pytest.approx(
        0, abs=1e-6
    )


def test_both_directions_keep_the_target_as_it_is():
    # IRRA does not transpose it: rows of scores.T are held against rows of the same targets.
    scores = torch.from_numpy(np.random.default_rng(3).random((4, 4)))
    targets = distribution_targets(IDS, IMAGES, other_image=0.5).double()
    total = 0
    for given in (scores, scores.T):
        p = (7 * given).softmax(dim=1)
        for i in range(4):
            for j in range(4):
                total += p[i, j] * (p[i, j] / (targets[i, j] + 1e-8)).log() / 4
    assert distribution_matching_loss(scores, targets, 7.0).item() == pytest.approx(total.item())


def test_projection_matching_worked_by_hand():
    # Pictures project onto the texts' directions with their own length: logits [ln 3, 0].
    image = torch.tensor([[math.log(3.0), 0], [0, 0]], dtype=torch.float64)
    text = torch.tensor([[5.0, 0], [0, 2]], dtype=torch.float64)
    # Of the second picture both are 1/2; texts on pictures: [5, 0] and [0, 0] (no direction).
    other = math.log(2**-0.5 + 1e-8)  # of two pairs that belong together: 1 / sqrt(2)
    entropies = [0.25 * math.log(0.25) + 0.75 * math.log(0.75), math.log(0.5)]
    p = math.exp(5) / (math.exp(5) + 1)
    entropies += [p * math.log(p) + (1 - p) * math.log(1 - p), math.log(0.5)]
    loss = projection_matching_loss(image, text, torch.tensor([1, 1]))
    assert loss.item() == pytest.approx(sum(entropies) / 2 - 2 * other)


@pytest.mark.parametrize("norm", ["row", "reference"])
def test_the_order_of_the_batch_does_not_matter(norm):
    scores = torch.from_numpy(np.random.default_rng(3).random((4, 4)))
    order = torch.tensor([2, 0, 3, 1])

    def loss(scores, order):
        targets = distribution_targets(IDS[order], IMAGES[order], 0.3, norm)
        return distribution_matching_loss(scores, targets).item()

    mixed = loss(scores[order][:, order], order)
    assert mixed == pytest.approx(loss(scores, torch.arange(4)), abs=1e-6)


def test_gradients_are_those_of_finite_differences():
    targets = distribution_targets(IDS, IMAGES).double()
    scores = torch.from_numpy(np.random.default_rng(3).random((4, 4))).requires_grad_()
    assert torch.autograd.gradcheck(lambda s: distribution_matching_loss(s, targets, 3.0), scores)
    image, text = (features.requires_grad_() for features in drawn((4, 3), 5, 2))
    assert torch.autograd.gradcheck(lambda x, z: projection_matching_loss(x, z, IDS), (image, text))


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_one_pair_and_equal_ids_are_finite(count, dtype):
    scores = torch.ones(count, count, dtype=dtype, requires_grad=True)
    batch = {"identities": torch.zeros(count).long(), "image_ids": torch.arange(count)}
    loss = DistributionMatching(other_image=0.0)(SimpleNamespace(scores=scores), batch)
    loss.backward()
    assert loss.isfinite()
    assert scores.grad.isfinite().all()
    assert loss.dtype == torch.float32
    assert DistributionMatching()(SimpleNamespace(scores=scores), batch).item() == pytest.approx(
        0, abs=1e-5
    )


def test_the_objective_passes_its_settings_on():
    scores = torch.rand(4, 4, generator=torch.Generator().manual_seed(0))
    outputs, batch = SimpleNamespace(scores=scores), {"identities": IDS, "image_ids": IMAGES}
    for settings, targets in (
        ({}, distribution_targets(IDS)),
        ({"other_image": 0.3}, distribution_targets(IDS, IMAGES, 0.3)),
        (
            {"other_image": 0.5, "target_norm": "reference", "scale": 5.0},
            distribution_targets(IDS, IMAGES, 0.5, "reference"),
        ),
    ):
        expected = distribution_matching_loss(scores, targets, settings.get("scale", 50.0))
        assert DistributionMatching(**settings)(outputs, batch).item() == expected.item()
    without = {"identities": IDS}
    assert DistributionMatching()(outputs, without).isfinite()
    with pytest.raises(ValueError, match=r"distribution_matching needs 'image_ids'"):
        DistributionMatching(other_image=0.3)(outputs, without)
    with pytest.raises(ValueError, match=r"distribution_matching needs 'identities'"):
        DistributionMatching()(outputs, {"image_ids": IMAGES})
    with pytest.raises(ValueError, match=r"distribution_matching needs 'scores'"):
        DistributionMatching()(SimpleNamespace(), batch)


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"scale": 0}, r"distribution_matching\.scale must be above 0, got 0"),
        ({"other_image": 1.5}, r"other_image must be in \[0, 1\], got 1.5"),
        ({"target_norm": "column"}, r"target_norm 'column'; choose from: reference, row"),
    ],
)
def test_wrong_settings_are_named(settings, complaint):
    with pytest.raises(ValueError, match=complaint):
        DistributionMatching(**settings)


def test_other_shapes_are_refused():
    with pytest.raises(ValueError, match=r"targets must have the shape \(2, 2\)"):
        distribution_matching_loss(torch.zeros(2, 2), torch.zeros(3, 3))
    with pytest.raises(ValueError, match=r"image_ids must have the shape \(4,\)"):
        distribution_targets(IDS, IMAGES[:2])


def features_of(case):
    image, text = (rows.requires_grad_() for rows in drawn(case["shape"], case["seed"], 2))
    assert image[0, :4].tolist() == pytest.approx(case["image_row0_first4"], abs=1e-6)
    assert text[0, :4].tolist() == pytest.approx(case["text_row0_first4"], abs=1e-6)
    return image, text


def check(loss, image, text, expected):
    """Loss and, where they are recorded, gradients."""
    assert loss.item() == pytest.approx(expected["loss"], abs=1e-6)
    loss.backward()
    for features, key in ((image, "grad_image_abs_sum"), (text, "grad_text_abs_sum")):
        if key in expected:
            assert features.grad.abs().sum().item() == pytest.approx(expected[key], abs=1e-5)
        features.grad = None


def cosine(image, text):
    return F.normalize(image, dim=1) @ F.normalize(text, dim=1).T


@pytest.mark.parametrize("place", [0, 1])
def test_agrees_with_irra(recorded, place):
    case = recorded["irra_cases"][place]
    image, text = features_of(case)
    ids = torch.tensor(case["pids"])
    image_ids = case["image_ids"] and torch.tensor(case["image_ids"])
    targets = distribution_targets(ids, image_ids, 0.3, "reference")
    for key, scale in (("sdm", case["logit_scale"]), ("sdm_scale_1", 1.0)):
        loss = distribution_matching_loss(cosine(image, text), targets, scale)
        check(loss, image, text, case[key])
    if image_ids is not None:  # the sums that the specification reports
        sums = targets.sum(dim=1).tolist()
        assert sums[:3] == pytest.approx([1.0571, 1.0571, 0.8859], abs=1e-4)
        assert targets.sum(dim=0).tolist() == pytest.approx([1] * 8)


def test_the_other_losses_of_irra_agree(recorded):
    case = recorded["irra_cases"][0]
    image, text = features_of(case)
    ids = torch.tensor(case["pids"])
    contrast = contrastive_loss(cosine(image, text), torch.eye(8, dtype=torch.bool), 1 / 50)
    check(contrast, image, text, case["itc_scale_50"])
    check(projection_matching_loss(image, text, ids), image, text, case["cmpm"])
    (weights,) = drawn(case["id"]["classifier"]["shape"], case["id"]["classifier"]["seed"])
    check(identity_loss(image @ weights.T, text @ weights.T, ids), image, text, case["id"])


def test_masked_words_of_irra_agree(recorded):
    # IRRA's label of what was not hidden is 0, so that token 0 can never be one; ours is -100.
    case = recorded["irra_mlm_case"]
    (logits,) = drawn(case["scores_shape"], case["seed"])
    labels = torch.tensor([case["labels"]])
    labels = labels.masked_fill(labels == case["ignore_index"], NOT_MASKED)
    assert masked_class_loss(logits[None], labels).item() == pytest.approx(case["loss"], abs=1e-6)
