"""The optimiser, and what becomes of its learning rate during a run."""

from __future__ import annotations

import math

import torch
from torch import nn

from tbkin.config import OptimConfig

DECAY = 0.1  # of the learning rate at each of ``decay_epochs``


def build_optimizer(modules: list[nn.Module], optim: OptimConfig) -> torch.optim.Optimizer:
    """AdamW; matrices decay, biases, norms, gates, embeddings and temperatures do not.

    That learned temperatures do not is *ours*. Without weight decay it is Adam.
    """
    decayed, free = [], []
    for module in modules:
        embeddings = {
            id(layer.weight) for layer in module.modules() if isinstance(layer, nn.Embedding)
        }
        for parameter in module.parameters():
            plain = parameter.dim() < 2 or id(parameter) in embeddings
            (free if plain else decayed).append(parameter)
    groups = [
        {"params": decayed, "weight_decay": optim.weight_decay},
        {"params": free, "weight_decay": 0.0},
    ]
    first, second = optim.betas
    return torch.optim.AdamW(groups, lr=optim.lr, betas=(first, second), eps=optim.eps, fused=True)


def set_lr(
    optimizer: torch.optim.Optimizer, optim: OptimConfig, progress: float, epochs: int
) -> None:
    """Give all groups of the optimiser the rate of :func:`learning_rate`."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(optim, progress, epochs)


def learning_rate(optim: OptimConfig, progress: float, epochs: int) -> float:
    """The learning rate at a moment of a run.

    ``linear``: from 0 to ``optim.lr`` in the warm-up, then to 0 at the end. ``steps``, ROSITA's
    (arXiv:2108.07073 and its code): 1/4, 1/2 and 3/4 of ``optim.lr`` in the thirds of the warm-up,
    then all of it, times 0.1 from the start of each of ``optim.decay_epochs`` on. ``cosine``: in
    epoch e of E, counted from 0, ``min_lr + (lr - min_lr) (1 + cos(pi e / E)) / 2``, the same
    within an epoch, as in CUSA's run files (Huang et al., AAAI 2024), which have no warm-up; in a
    warm-up (*ours*) that rises from 0.

    Args:
        optim: the settings.
        progress: share of the run that is done, in [0, 1].
        epochs: that the run is planned for.
    """
    warmup = optim.warmup_ratio
    rising = progress / warmup if warmup else 1.0
    if optim.schedule == "linear":
        falling = (1 - progress) / (1 - warmup)
        return optim.lr * max(0.0, min(max(rising, 1e-3), falling))
    if optim.schedule == "cosine":
        epoch = math.floor(epochs_done(progress, epochs))
        share = (1 + math.cos(math.pi * epoch / epochs)) / 2
        rate = optim.min_lr + (optim.lr - optim.min_lr) * share
        return rate * min(max(rising, 1e-3), 1.0)
    done, ramp = epochs_done(progress, epochs), epochs_done(warmup, epochs)
    thirds = math.floor(3 * done / ramp + 1e-6) if done < ramp else 3
    return optim.lr * (thirds + 1) / 4 * DECAY ** sum(done >= epoch for epoch in optim.decay_epochs)


def epochs_done(progress: float, epochs: int) -> float:
    """How many epochs a share of the run is, rounded so that an epoch's start is a whole number."""
    return round(progress * epochs, 7)
