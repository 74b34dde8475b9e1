"""A reason for learned thresholds to rise."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn


class Sparsity(nn.Module):
    """The mean gate of the learned thresholds, so that what the task does not need is dropped.

    *Ours*. Without it a threshold that learns hears only from the task, which rarely minds one key
    more. A model without learned thresholds (``selection_learning=none``) gets 0.
    """

    def forward(self, outputs: Any, batch: dict[str, Any]) -> Tensor:
        """Reads ``outputs.attention_gate``, a scalar in [0, 1]."""
        if outputs.attention_gate is None:
            return batch["region_features"].new_zeros(())
        return outputs.attention_gate
