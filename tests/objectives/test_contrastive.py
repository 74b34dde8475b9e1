import math
from types import SimpleNamespace

import pytest
import torch
from torch.nn import functional as F

from tbkin.objectives.contrastive import Contrastive, contrastive_loss
from tbkin.objectives.similarity import even_shares, positive_mask, row_cross_entropy
from tests.objectives import cusa_reference

PAIRS = torch.eye(2, dtype=torch.bool)


def test_worked_by_hand():
    # At temperature 1/2 the logits are [[ln 3, 0], [ln 2, 0]]. Rows: softmax [3/4, 1/4] and
    # [2/3, 1/3], right ones on the diagonal. Columns: [3/5, 2/5] and [1/2, 1/2].
    scores = torch.tensor([[math.log(3), 0.0], [math.log(2), 0.0]]) / 2
    image_to_text = (math.log(4 / 3) + math.log(3)) / 2
    text_to_image = (math.log(5 / 3) + math.log(2)) / 2
    expected = (image_to_text + text_to_image) / 2
    assert contrastive_loss(scores, PAIRS, 0.5).item() == pytest.approx(expected)
    assert contrastive_loss(scores, PAIRS, 0.5, "mean").item() == pytest.approx(expected / 2)


def test_equal_scores_cost_the_logarithm_of_their_number():
    for size in (1, 2, 7):
        loss = contrastive_loss(torch.full((size, size), 0.3), torch.eye(size).bool(), 0.05)
        assert loss.item() == pytest.approx(math.log(size), abs=1e-6)


def test_plain_pairs_are_the_usual_cross_entropy():
    scores = torch.randn(6, 6, dtype=torch.float64)
    labels = torch.arange(6)
    expected = (
        F.cross_entropy(scores / 0.07, labels) + F.cross_entropy(scores.T / 0.07, labels)
    ) / 2
    loss = contrastive_loss(scores, torch.eye(6).bool(), 0.07)
    assert loss.item() == pytest.approx(expected.item(), abs=1e-12)


def test_several_positives_by_a_slow_loop():
    scores, ids = torch.randn(5, 5, dtype=torch.float64), [0, 1, 0, 0, 1]
    expected = 0.0
    for rows in (scores / 0.3, scores.T / 0.3):
        for i in range(5):
            total = sum(math.exp(rows[i, j]) for j in range(5))
            mine = [j for j in range(5) if ids[j] == ids[i]]
            expected -= sum(math.log(math.exp(rows[i, j]) / total) for j in mine) / len(mine) / 10
    loss = contrastive_loss(scores, positive_mask(torch.tensor(ids)), 0.3)
    assert loss.item() == pytest.approx(expected, abs=1e-12)


def test_identities_make_another_caption_of_the_picture_right():
    outputs = SimpleNamespace(scores=torch.tensor([[1.0, 1.0], [1.0, 1.0]]))
    batch = {"identities": torch.tensor([4, 4])}
    by_identity, by_pair = Contrastive(), Contrastive(positives="pair")
    outputs.scores.requires_grad_()
    by_identity(outputs, batch).backward()
    assert outputs.scores.grad.abs().max() < 1e-6  # both are right: nothing to move
    by_pair(outputs, {}).backward()
    assert outputs.scores.grad[0, 1] > 1


def test_the_order_of_the_batch_does_not_matter():
    scores, ids, order = torch.randn(6, 6), torch.tensor([0, 0, 1, 2, 3, 3]), torch.randperm(6)
    moved = contrastive_loss(scores[order][:, order], positive_mask(ids[order]))
    assert moved.item() == pytest.approx(contrastive_loss(scores, positive_mask(ids)).item())


def test_the_temperature_learns_in_either_form():
    outputs = SimpleNamespace(scores=torch.randn(4, 4))
    batch = {"identities": torch.arange(4)}
    gradients, losses = [], []
    for form in ("divisor", "log_scale"):
        objective = Contrastive(temperature=0.07, temperature_form=form)
        loss = objective(outputs, batch)
        loss.backward()
        losses.append(loss.item())
        gradients.append(objective.temperature.value.grad.item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    # tau = exp(-s): dL/ds = -tau dL/dtau.
    assert gradients[1] == pytest.approx(-0.07 * gradients[0], rel=1e-4)
    assert not list(Contrastive(learn_temperature=False).parameters())


@pytest.mark.parametrize("size", [1, 3])
def test_one_pair_equal_identities_and_equal_rows_are_finite(size):
    scores = torch.ones(size, size, requires_grad=True)
    objective = Contrastive()
    loss = objective(SimpleNamespace(scores=scores), {"identities": torch.zeros(size).long()})
    loss.backward()
    assert loss.isfinite()
    assert scores.grad.isfinite().all()
    assert objective.temperature.value.grad.isfinite()


def test_what_is_missing_or_wrong_is_named():
    outputs = SimpleNamespace(scores=torch.eye(2))
    with pytest.raises(
        ValueError, match=r"objectives\.contrastive needs 'identities' in the batch"
    ):
        Contrastive()(outputs, {"input_ids": None})
    with pytest.raises(ValueError, match=r"objectives\.contrastive\.positives=pair"):
        Contrastive()(outputs, {})
    with pytest.raises(ValueError, match=r"identities must have the shape \(2,\)"):
        Contrastive()(outputs, {"identities": torch.arange(3)})
    with pytest.raises(ValueError, match=r"needs 'scores' of the model's outputs"):
        Contrastive()(SimpleNamespace(scores=None), {"identities": torch.arange(2)})
    with pytest.raises(ValueError, match=r"contrastive\.row_reduction 'max'; choose from: mean, "):
        Contrastive(row_reduction="max")
    with pytest.raises(ValueError, match=r"objectives\.contrastive\.positives 'no'; choose from"):
        Contrastive(positives="no")
    with pytest.raises(ValueError, match=r"objectives\.contrastive\.temperature_range must be two"):
        Contrastive(temperature_range=[0.1])
    with pytest.raises(ValueError, match=r"contrastive\.temperature is one number, got \[0"):
        Contrastive(temperature=[0.05, 0.05])


def test_agrees_with_cusas_code():
    reference = cusa_reference.load()
    expected = reference.expected["contrastive_tau_0.05"]
    scores, pairs, same = reference.scores, torch.eye(8).bool(), positive_mask(reference.ids)
    near = cusa_reference.near
    for mask, name in ((pairs, "no_ids"), (same, "ids")):
        both = 2 * contrastive_loss(scores, mask, 0.05).item()
        assert both == near(expected[f"sum_{name}_i2t_plus_t2i"])
        shares = even_shares(mask, torch.float64)
        one_way = row_cross_entropy(scores / 0.05, shares).item()
        assert one_way == near(expected[f"sum_{name}_i2t"])
    mean = 2 * contrastive_loss(scores, pairs, 0.05, "mean").item()
    assert mean == near(expected["mean_no_ids_i2t_plus_t2i"])
    other_way = row_cross_entropy(scores.T / 0.05, even_shares(same, torch.float64)).item()
    assert other_way == near(expected["sum_ids_t2i"])
    plain = contrastive_loss(scores, pairs, 0.07).item()
    assert plain == near(reference.expected["infonce_tau_0.07"]["mean"])
