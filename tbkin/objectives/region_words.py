"""Learning to read a region's words off its features."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tbkin.objectives.masked import counted_mean


class RegionWords(nn.Module):
    """Which words would the detector say of this region? Ours.

    The detector errs now and then, features do not: what is learned from all its labels together
    is better than each of them. Related to the masked object classes of ROSITA, without the mask.
    A model that does not read words (``read_labels=false``) gets 0.
    """

    def forward(self, outputs: Any, batch: dict[str, Any]) -> Tensor:
        """Reads ``outputs.region_word_logits``, ``region_label_ids`` and ``region_mask``."""
        if outputs.region_word_logits is None:
            return batch["region_features"].new_zeros(())
        return region_word_loss(
            outputs.region_word_logits, batch["region_label_ids"], batch["region_mask"]
        )


def region_word_loss(logits: Tensor, label_ids: Tensor, region_mask: Tensor) -> Tensor:
    """Binary cross-entropy over the vocabulary, averaged over the regions that have words.

    Args:
        logits: (B, R, vocabulary).
        label_ids: (B, R, K) token ids; 0 is padding.
        region_mask: (B, R), 1 = real region.

    Returns:
        Scalar; 0 when no region has words.
    """
    named = region_mask.bool() & (label_ids > 0).any(dim=-1)
    targets = torch.zeros_like(logits).scatter_(-1, label_ids, 1.0)
    targets[..., 0] = 0.0
    losses = F.binary_cross_entropy_with_logits(logits, targets, reduction="none").sum(dim=-1)
    return counted_mean(losses, named)
