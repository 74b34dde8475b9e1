"""Learning whether a text and a picture belong together."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Matching(nn.Module):
    """Cross-entropy of "do they belong together?" (image-text matching).

    Source: ROSITA (arXiv:2108.07073), a pre-training term of weight 1.
    """

    def forward(self, outputs: Any, batch: dict[str, Any]) -> Tensor:
        """Reads ``outputs.match_logits`` (B, 2) and ``batch["match_labels"]`` (B,), 0 or 1."""
        return matching_loss(outputs.match_logits, batch["match_labels"])


def matching_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy, averaged over the pairs.

    Args:
        logits: (B, 2); class 1 says that text and picture belong together.
        labels: (B,) int64, 0 or 1.
    """
    return F.cross_entropy(logits, labels)


def three_way_matching_loss(
    positive: Tensor, negative_text: Tensor, negative_image: Tensor
) -> Tensor:
    """ROSITA's loss of retrieval (arXiv:2108.07073): as many right pairs as wrong ones.

    The right pairs count twice, since there are two wrong pairs to each.

    Args:
        positive: (B, 2) logits of each text with its own picture.
        negative_text: (B, 2) logits of each picture with a wrong text.
        negative_image: (B, 2) logits of each text with a wrong picture.

    Returns:
        Scalar: twice the cross-entropy of the right pairs, and that of both kinds of wrong pairs.
    """
    return (
        2 * matching_loss(positive, _labels_of(positive, 1))
        + matching_loss(negative_text, _labels_of(negative_text, 0))
        + matching_loss(negative_image, _labels_of(negative_image, 0))
    )


def _labels_of(logits: Tensor, label: int) -> Tensor:
    """The same label for each of (B, 2) logits."""
    return torch.full((len(logits),), label, device=logits.device)
