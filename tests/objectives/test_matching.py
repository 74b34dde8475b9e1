import math
from types import SimpleNamespace

import pytest
import torch

from tbkin.objectives.matching import Matching, matching_loss, three_way_matching_loss


def test_worked_by_hand():
    # softmax([0, ln 3]) = [1/4, 3/4]: "together" with 3/4.
    logits = torch.tensor([[0.0, math.log(3.0)]] * 2)
    batch = {"match_labels": torch.tensor([1, 0])}
    loss = Matching()(SimpleNamespace(match_logits=logits), batch)
    assert loss.item() == pytest.approx((math.log(4 / 3) + math.log(4)) / 2)


def test_the_three_ways_worked_by_hand():
    # All say "together" with 3/4: right for the right pair, wrong for both wrong ones.
    sure = torch.tensor([[0.0, math.log(3.0)]])
    doubtful = torch.tensor([[0.0, 0.0]])
    right, wrong, even = math.log(4 / 3), math.log(4), math.log(2)

    def loss(*logits):
        return three_way_matching_loss(*logits).item()

    assert loss(sure, sure, sure) == pytest.approx(2 * right + wrong + wrong)
    assert loss(doubtful, sure, sure) == pytest.approx(2 * even + wrong + wrong)
    assert loss(sure, doubtful, sure) == pytest.approx(2 * right + even + wrong)
    assert loss(sure, sure, doubtful) == pytest.approx(2 * right + wrong + even)


def test_the_order_of_the_pairs_does_not_matter():
    logits, labels = torch.randn(5, 2), torch.tensor([1, 0, 0, 1, 1])
    order = torch.randperm(5)
    assert matching_loss(logits[order], labels[order]).item() == pytest.approx(
        matching_loss(logits, labels).item()
    )


def test_agrees_with_rosita_on_retrieval(reference):
    _, outputs = reference("itr")
    positive = outputs["match_logits"]
    negatives = [outputs[f"match_logits_negative_{side}"] for side in ("text", "image")]
    assert three_way_matching_loss(positive, *negatives).item() == pytest.approx(
        outputs["loss_total"].item(), abs=1e-6
    )
    together = torch.ones(4, dtype=torch.long)
    assert matching_loss(positive, together).item() == pytest.approx(
        outputs["loss_positive"].item(), abs=1e-6
    )
    for side, logits in zip(("text", "image"), negatives, strict=True):
        assert matching_loss(logits, 1 - together).item() == pytest.approx(
            outputs[f"loss_negative_{side}"].item(), abs=1e-6
        )


def test_agrees_with_rosita_on_pre_training(reference):
    inputs, outputs = reference("pretraining")
    loss = Matching()(
        SimpleNamespace(match_logits=outputs["match_logits"]),
        {"match_labels": inputs["match_label"]},
    )
    assert loss.item() == pytest.approx(outputs["loss_match_cross_entropy"].item(), abs=1e-6)
