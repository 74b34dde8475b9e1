"""The optimiser's groups, and learning rates worked by hand."""

import math
from types import SimpleNamespace

import pytest
import torch

from tbkin.config import OptimConfig
from tbkin.optimization import build_optimizer, epochs_done, learning_rate, set_lr


def test_linear_rises_then_falls():
    optim = OptimConfig(lr=1.0, warmup_ratio=0.1)
    rates = [learning_rate(optim, progress, 8) for progress in (0.05, 0.1, 0.55, 1.0)]
    assert rates == pytest.approx([0.5, 1.0, 0.5, 0.0])


def test_linear_is_what_it_was():
    # The formula that every run so far was made with, to the last bit.
    optim = OptimConfig()
    for step in range(1000):
        progress = step / 1000
        rising = progress / optim.warmup_ratio
        falling = (1 - progress) / (1 - optim.warmup_ratio)
        expected = optim.lr * max(0.0, min(max(rising, 1e-3), falling))
        assert learning_rate(optim, progress, 3) == expected


def rates_by_epoch(optim, epochs, steps):
    """What each step of each epoch gets: a list of an epoch's distinct rates, in order."""
    total = epochs * steps
    rates = [learning_rate(optim, step / total, epochs) for step in range(total)]
    epochs_of = [rates[start : start + steps] for start in range(0, total, steps)]
    return [list(dict.fromkeys(round(rate, 9) for rate in one)) for one in epochs_of]


@pytest.mark.parametrize("steps", [1, 7, 300])
def test_rosita_on_vqa(steps):
    # 3 of 15 epochs of warm-up: lr/4, lr/2, 3 lr/4; a tenth from epoch 6 on, a hundredth from 9.
    optim = OptimConfig(lr=1.0, schedule="steps", warmup_ratio=0.2, decay_epochs=[6, 9])
    expected = [[0.25], [0.5], [0.75], *[[1.0]] * 3, *[[0.1]] * 3, *[[0.01]] * 6]
    assert rates_by_epoch(optim, 15, steps) == expected


@pytest.mark.parametrize("ratio", [1 / 15, 0.0666666667])
@pytest.mark.parametrize("steps", [3, 300, 30_000])
def test_rosita_on_refcoco(steps, ratio):
    # One epoch of warm-up, in thirds; then whole epochs.
    optim = OptimConfig(lr=1.0, schedule="steps", warmup_ratio=ratio, decay_epochs=[4, 6])
    assert rates_by_epoch(optim, 15, steps)[:8] == [
        [0.25, 0.5, 0.75],
        *[[1.0]] * 3,
        *[[0.1]] * 2,
        *[[0.01]] * 2,
    ]
    first = [learning_rate(optim, step / (15 * steps), 15) for step in range(steps)]
    assert [first.count(rate) for rate in (0.25, 0.5, 0.75)] == [steps // 3] * 3


def test_steps_without_warm_up_start_at_the_whole_rate():
    optim = OptimConfig(lr=1.0, schedule="steps", warmup_ratio=0.0)
    assert rates_by_epoch(optim, 2, 3) == [[1.0], [1.0]]


# CUSA's own rates (shared/reference/cusa_values.json): lr 1e-5, floor 1e-6.
CUSA = {
    30: {0: 1e-05, 1: 9.9753485e-06, 15: 5.5e-06, 29: 1.0246515e-06},
    40: {0: 1e-05, 1: 9.986128e-06, 20: 5.5e-06, 39: 1.013872e-06},
}


@pytest.mark.parametrize("epochs", CUSA)
@pytest.mark.parametrize("steps", [1, 7])
def test_cosine_is_cusas_and_the_same_within_an_epoch(epochs, steps):
    optim = OptimConfig(lr=1e-5, min_lr=1e-6, schedule="cosine", warmup_ratio=0.0)
    for epoch, expected in CUSA[epochs].items():
        for step in range(steps):
            progress = (epoch * steps + step) / (epochs * steps)
            assert learning_rate(optim, progress, epochs) == pytest.approx(expected, rel=1e-7)


def test_cosine_rises_in_the_warm_up():
    # Warm-up over epoch 0 of 4, to the rates 1 at its end, then (1 + cos(pi / 4)) / 2.
    optim = OptimConfig(lr=1.0, schedule="cosine", warmup_ratio=0.25)
    rates = [learning_rate(optim, progress, 4) for progress in (0.0, 0.125, 0.25, 0.5)]
    assert rates == pytest.approx([0.001, 0.5, (1 + math.sqrt(0.5)) / 2, 0.5])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"min_lr": 1e-6}, r"optim\.min_lr=1e-06 needs optim\.schedule=cosine"),
        ({"min_lr": -1.0, "schedule": "cosine"}, r"optim\.min_lr must be in \[0, optim\.lr=0"),
        ({"min_lr": 1.0, "schedule": "cosine"}, r"optim\.min_lr must be in .*, got 1\.0"),
    ],
)
def test_a_floor_needs_the_cosine_and_lies_below_the_peak(arguments, message):
    with pytest.raises(ValueError, match=message):
        OptimConfig(**arguments)


def test_epochs_begin_at_whole_numbers():
    # 0.06666… * 15 and the like must not fall short of the epoch that begins.
    for epochs in range(1, 60):
        for steps in (1, 3, 7, 49):
            total = epochs * steps
            starts = [epochs_done(epoch * steps / total, epochs) for epoch in range(epochs)]
            assert starts == list(range(epochs))
            last = [epochs_done((epoch * steps - 1) / total, epochs) for epoch in range(1, epochs)]
            assert [int(done) for done in last] == list(range(epochs - 1))


def test_all_groups_get_the_rate():
    optimizer = SimpleNamespace(param_groups=[{"lr": 0.0}, {"lr": 0.0}])
    set_lr(optimizer, OptimConfig(lr=1.0, warmup_ratio=0.1), 0.05, 8)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.5, 0.5])


def test_biases_norms_and_embeddings_do_not_decay(small_model):
    model = small_model(selection_learning="straight_through")
    optimizer = build_optimizer([model], OptimConfig(weight_decay=0.5))
    decayed = {id(p) for p in optimizer.param_groups[0]["params"]}
    named = dict(model.named_parameters())
    assert optimizer.param_groups[0]["weight_decay"] == 0.5
    assert id(named["head.dense.weight"]) in decayed
    assert id(named["tbkin.text.words.weight"]) not in decayed
    assert id(named["head.dense.bias"]) not in decayed
    shift = "tbkin.fusion.layers.0.attention.threshold_shift"
    assert id(named[shift]) not in decayed  # decay would pull it back to where it started
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(named)


def test_the_settings_reach_adam():
    # First step of Adam: the corrected means are g and g^2, so it moves by lr g / (|g| + eps).
    layer = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.ones_(layer.weight)
    optim = OptimConfig(lr=0.5, betas=[0.9, 0.999], eps=1.0, weight_decay=0.0)
    optimizer = build_optimizer([layer], optim)
    assert optimizer.defaults["betas"] == (0.9, 0.999)
    layer(torch.full((1, 1), 3.0)).sum().backward()
    optimizer.step()
    assert layer.weight.item() == pytest.approx(1 - 0.5 * 3 / (3 + 1), abs=1e-6)


def test_adam_is_as_it_was_by_default():
    optimizer = build_optimizer([torch.nn.Linear(1, 1)], OptimConfig())
    assert optimizer.defaults["betas"] == (0.9, 0.98)
    assert optimizer.defaults["eps"] == torch.optim.AdamW([torch.zeros(1)]).defaults["eps"]
