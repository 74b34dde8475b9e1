import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from tbkin.objectives import OBJECTIVES, TotalLoss
from tbkin.objectives.answer import answer_loss
from tbkin.objectives.region_words import RegionWords, region_word_loss
from tbkin.objectives.sparsity import Sparsity


def test_region_words_worked_by_hand():
    # Vocabulary of padding and words 1 … 3. Region 0 is called "1 2", region 1 has no words,
    # region 2 is padding. At logits 0 each of the four entries costs ln 2.
    ids = torch.tensor([[[1, 2, 0], [0, 0, 0], [3, 0, 0]]])
    mask = torch.tensor([[1, 1, 0]])
    logits = torch.zeros(1, 3, 4)
    assert region_word_loss(logits, ids, mask).item() == pytest.approx(4 * math.log(2))
    # sigma(ln 3) = 3/4 for the right words 1 and 2, sigma(-ln 3) = 1/4 for the wrong 0 and 3.
    logits[0, 0] = math.log(3) * torch.tensor([-1.0, 1, 1, -1])
    assert region_word_loss(logits, ids, mask).item() == pytest.approx(4 * math.log(4 / 3))
    # What is said of regions without words and of padding costs nothing.
    logits[0, 1:] = 7.0
    assert region_word_loss(logits, ids, mask).item() == pytest.approx(4 * math.log(4 / 3))


def test_region_words_without_words_or_reader_cost_nothing():
    ids, mask = torch.zeros(1, 2, 3, dtype=torch.long), torch.ones(1, 2)
    loss = region_word_loss(torch.randn(1, 2, 4), ids, mask)
    assert loss.item() == 0
    batch = {"region_features": torch.zeros(1, 2, 5), "region_label_ids": ids, "region_mask": mask}
    loss = RegionWords()(SimpleNamespace(region_word_logits=None), batch)
    assert loss.item() == 0
    assert loss.shape == ()


class First(nn.Module):
    """Mean of the logits, times a learned scale."""

    def __init__(self, scale: float = 1.0):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(scale))

    def forward(self, outputs, batch):
        return outputs.logits.mean() * self.scale


@pytest.fixture
def total(monkeypatch):
    """``total(settings) -> TotalLoss`` with the objective ``first`` besides the real ones."""
    monkeypatch.setitem(OBJECTIVES, "first", First)
    return TotalLoss


def test_the_total_is_the_weighted_sum_and_terms_are_unweighted(total):
    outputs = SimpleNamespace(logits=torch.tensor([[1.0, 3.0]]))
    batch = {"labels": torch.tensor([[1.0, 0.0]])}
    loss, terms = total({"answer": {"weight": 0.5}, "first": {"weight": 2, "scale": 3.0}})(
        outputs, batch
    )
    expected = answer_loss(outputs.logits, batch["labels"]).item()
    assert terms["answer"].item() == pytest.approx(expected)
    assert terms["first"].item() == pytest.approx(6)  # mean 2 times scale 3
    assert loss.item() == pytest.approx(0.5 * expected + 2 * 6)


def test_the_weight_is_1_by_default_and_0_switches_off(total):
    outputs = SimpleNamespace(logits=torch.tensor([[1.0, 3.0]], requires_grad=True))
    batch = {"labels": torch.tensor([[1.0, 0.0]])}
    alone, _ = total({"answer": {}})(outputs, batch)
    both, terms = total({"answer": {}, "first": {"weight": 0}})(outputs, batch)
    assert alone == answer_loss(outputs.logits, batch["labels"])
    assert both.item() == pytest.approx(alone.item())
    assert set(terms) == {"answer", "first"}


def test_what_an_objective_learns_is_a_parameter_of_the_total(total):
    loss = total({"first": {"scale": 2.0}})
    assert [name for name, _ in loss.named_parameters()] == ["objectives.first.scale"]
    value, _ = loss(SimpleNamespace(logits=torch.ones(1, 2)), {})
    value.backward()
    assert loss.objectives["first"].scale.grad.item() == 1


def test_settings_are_not_changed(total):
    settings = {"first": {"weight": 2, "scale": 3.0}}
    total(settings)
    assert settings == {"first": {"weight": 2, "scale": 3.0}}


def test_unknown_names_and_settings_say_what_there_is(total):
    with pytest.raises(
        ValueError, match=r"unknown objective 'anser'; choose from: answer, contrastive, "
    ):
        total({"anser": {}})
    with pytest.raises(
        ValueError, match=r"objectives\.first has no setting 'tau'; it takes: weight, scale\."
    ):
        total({"first": {"tau": 1}})
    with pytest.raises(ValueError, match=r"'tau'; it takes: weight, reduction, kl_epochs\."):
        total({"answer": {"tau": 1}})
    with pytest.raises(
        ValueError,
        match=r"objectives\.matching has no setting 'tau'; it takes: weight, soft, rows\.",
    ):
        total({"matching": {"tau": 1}})


def test_sparsity_is_the_mean_gate_and_nothing_without_learned_thresholds():
    gate = torch.tensor(0.7, requires_grad=True)
    batch = {"region_features": torch.zeros(1, 2, 3)}
    assert Sparsity()(SimpleNamespace(attention_gate=gate), batch) is gate
    assert Sparsity()(SimpleNamespace(attention_gate=None), batch).item() == 0
