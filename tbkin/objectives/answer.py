"""Learning to answer from soft scores, or from how many people gave each answer."""

from __future__ import annotations

from typing import Any, Literal

from torch import Tensor, nn
from torch.nn import functional as F

from tbkin.objectives.masked import check_shape, counted_mean


class Answer(nn.Module):
    """Binary cross-entropy of every known answer against its soft score.

    Source: Teney et al., "Tips and Tricks for Visual Question Answering" (arXiv:1708.02711);
    ROSITA fine-tunes with it from its fourth epoch on, with the reduction ``"mean"``.

    Args:
        reduction: over the answers of a question, ``"sum"`` or ``"mean"``. Adam's steps hardly
            feel the difference; gradient clipping and the weights of other objectives do.
    """

    def __init__(self, reduction: Literal["sum", "mean"] = "sum"):
        super().__init__()
        if reduction not in ("sum", "mean"):
            raise ValueError(f"objectives.answer.reduction is sum or mean, got {reduction!r}.")
        self.reduction = reduction

    def forward(self, outputs: Any, batch: dict[str, Any]) -> Tensor:
        """Reads ``outputs.logits`` (B, A) and ``batch["labels"]`` (B, A) in [0, 1].

        ``batch["label_valid"]`` (B,), where there is one, is 0 for questions that nobody answered.
        """
        return answer_loss(
            outputs.logits, batch["labels"], batch.get("label_valid"), self.reduction
        )


class AnswerKL(nn.Module):
    """Kullback-Leibler divergence of the predicted answers from those that people gave.

    Source: ROSITA (arXiv:2108.07073) fine-tunes with it for its first three epochs; as there, the
    mean over the answers is taken.
    """

    def forward(self, outputs: Any, batch: dict[str, Any]) -> Tensor:
        """Reads ``outputs.logits`` (B, A) and ``batch["answer_frequencies"]`` (B, A) in [0, 1].

        ``batch["label_valid"]`` (B,), where there is one, is 0 for questions that nobody answered.
        """
        return answer_kl_loss(outputs.logits, batch["answer_frequencies"], batch.get("label_valid"))


def answer_loss(
    logits: Tensor,
    labels: Tensor,
    valid: Tensor | None = None,
    reduction: Literal["sum", "mean"] = "sum",
) -> Tensor:
    r"""Summed over the answers, averaged over the questions.

    .. math::
        -\frac{1}{B} \sum_{b} \sum_{a}
        s_{ba} \log \sigma(z_{ba}) + (1 - s_{ba}) \log(1 - \sigma(z_{ba}))

    ROSITA averages over the answers as well (``reduction="mean"``), which only scales the loss.

    Args:
        logits: (B, A), :math:`z`.
        labels: (B, A), :math:`s` in [0, 1].
        valid: (B,), 1 = counts, 0 = left out; without it every question counts.
        reduction: over the answers.
    """
    losses = F.binary_cross_entropy_with_logits(logits, labels, reduction="none")
    losses = losses.sum(dim=1) if reduction == "sum" else losses.mean(dim=1)
    return _over_questions(losses, valid)


def answer_kl_loss(logits: Tensor, frequencies: Tensor, valid: Tensor | None = None) -> Tensor:
    r"""Averaged over the answers and over the questions.

    .. math::
        \frac{1}{B A} \sum_{b} \sum_{a} f_{ba} (\log f_{ba} - \log p_{ba}), \quad
        p_b = \mathrm{softmax}(z_b)

    Args:
        logits: (B, A), :math:`z`.
        frequencies: (B, A), :math:`f`, the share of people who gave the answer: counts / 10 in
            VQA 2.0. A row adds up to less than 1 where people gave answers outside the table.
        valid: (B,), 1 = counts, 0 = left out; without it every question counts.
    """
    check_shape("answer_frequencies", frequencies, logits.shape)
    losses = F.kl_div(F.log_softmax(logits, dim=1), frequencies, reduction="none").mean(dim=1)
    return _over_questions(losses, valid)


def _over_questions(losses: Tensor, valid: Tensor | None) -> Tensor:
    """Mean of (B,) over the questions that count; 0 where none does."""
    if valid is None:
        return losses.mean()
    check_shape("label_valid", valid, losses.shape)
    return counted_mean(losses, valid)
