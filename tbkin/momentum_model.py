"""A slowly moving copy of a model, which momentum contrast takes its keys from."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

DECAY = 0.995  # ALBEF's (arXiv:2107.07651)


class MomentumModel:
    """Follows a model by an exponential moving average of its weights.

    Args:
        model: not wrapped; the copy lives where it does.
        decay: share of the old weights that each batch leaves, in [0, 1).
    """

    def __init__(self, model: nn.Module, decay: float = DECAY):
        average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay))
        self.average = average.requires_grad_(False)

    @torch.no_grad()
    def add_keys(self, model: nn.Module, outputs: Any, batch: dict[str, Any]) -> None:
        """Take a step after the model, and embed the batch; once a batch, as in ALBEF.

        Args:
            model: that of the start, not wrapped.
            outputs: get ``momentum_image_embeds`` and ``momentum_text_embeds`` (b, D).
            batch: what the model was given.
        """
        self.average.update_parameters(model)
        found = self.average(**batch)
        for name in ("image_embeds", "text_embeds"):
            outputs[f"momentum_{name}"] = found[name]
