"""Learning to answer from soft scores."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F


class Answer(nn.Module):
    """Binary cross-entropy of every known answer against its soft score.

    Source: Teney et al., "Tips and Tricks for Visual Question Answering" (arXiv:1708.02711);
    ROSITA fine-tunes with it from its fourth epoch on.
    """

    def forward(self, outputs: Any, batch: dict[str, Any]) -> Tensor:
        """Reads ``outputs.logits`` (B, A) and ``batch["labels"]`` (B, A) in [0, 1]."""
        return answer_loss(outputs.logits, batch["labels"])


def answer_loss(logits: Tensor, labels: Tensor) -> Tensor:
    r"""Summed over the answers, averaged over the questions.

    .. math::
        -\frac{1}{B} \sum_{b} \sum_{a}
        s_{ba} \log \sigma(z_{ba}) + (1 - s_{ba}) \log(1 - \sigma(z_{ba}))

    ROSITA averages over the answers as well, which only scales the loss.

    Args:
        logits: (B, A), :math:`z`.
        labels: (B, A), :math:`s` in [0, 1].
    """
    return F.binary_cross_entropy_with_logits(logits, labels, reduction="sum") / len(logits)
