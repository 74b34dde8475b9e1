"""The copy that follows a model, worked by hand."""

import pytest
import torch
from torch import nn

from tbkin.momentum_model import MomentumModel


class Scaled(nn.Module):
    """Embeds a picture as ``weight x`` and a text as ``weight x + steps``."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.register_buffer("steps", torch.zeros(()))

    def forward(self, x):
        image = self.weight * x
        return {"image_embeds": image, "text_embeds": image + self.steps}


def keys(momentum, model, x):
    outputs = {}
    momentum.add_keys(model, outputs, {"x": torch.tensor([[x]])})
    return outputs


def test_the_copy_follows_by_a_moving_average():
    model = Scaled()
    momentum = MomentumModel(model, decay=0.75)
    # Weights 1 (as they are at first), then 3, then 5: 1, 0.75 + 0.75 = 1.5, 1.125 + 1.25 = 2.375.
    for weight, expected in ((1.0, 1.0), (3.0, 1.5), (5.0, 2.375)):
        with torch.no_grad():
            model.weight.fill_(weight)
        found = keys(momentum, model, 2.0)
        assert found["momentum_image_embeds"].item() == pytest.approx(2 * expected)
    assert model.weight.item() == 5.0


def test_its_counters_are_the_models_and_it_has_no_gradient():
    model = Scaled()
    momentum = MomentumModel(model)
    model.steps.fill_(7.0)
    found = keys(momentum, model, 1.0)
    assert found["momentum_text_embeds"].item() == pytest.approx(8.0)
    assert not found["momentum_image_embeds"].requires_grad
    assert not any(parameter.requires_grad for parameter in momentum.average.parameters())


def test_what_the_model_said_stays():
    outputs = {"image_embeds": torch.zeros(1, 1), "other": 1}
    before = dict(outputs)
    MomentumModel(Scaled()).add_keys(Scaled(), outputs, {"x": torch.ones(1, 1)})
    assert before.items() <= outputs.items()
    assert set(outputs) - set(before) == {"momentum_image_embeds", "momentum_text_embeds"}
