"""Learning to answer from soft scores, at first perhaps from how many people gave each answer."""

from __future__ import annotations

from typing import Any, Literal

from torch import Tensor, nn
from torch.nn import functional as F

from tbkin.objectives.masked import check_shape, counted_mean


class Answer(nn.Module):
    """Binary cross-entropy of every known answer against its soft score; before it, if asked, KL.

    For the first ``kl_epochs`` epochs it is the Kullback-Leibler divergence of the predicted
    answers from those that people gave.

    Source: Teney et al., "Tips and Tricks for Visual Question Answering" (arXiv:1708.02711), for
    the cross-entropy; ROSITA (arXiv:2108.07073) fine-tunes with ``kl_epochs=3`` and
    ``reduction="mean"``.

    Args:
        reduction: over the answers of a question, ``"sum"`` or ``"mean"``. Adam's steps hardly
            feel the difference; gradient clipping and the weights of other objectives do.
        kl_epochs: how many epochs at the start; 0: none.
    """

    def __init__(self, reduction: Literal["sum", "mean"] = "sum", kl_epochs: int = 0):
        super().__init__()
        if reduction not in ("sum", "mean"):
            raise ValueError(f"objectives.answer.reduction is sum or mean, got {reduction!r}.")
        if type(kl_epochs) is not int or kl_epochs < 0:
            raise ValueError(
                f"objectives.answer.kl_epochs is a whole number >= 0, got {kl_epochs!r}."
            )
        self.reduction = reduction
        self.kl_epochs = kl_epochs
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch of training it is; the first is 0."""
        self.epoch = epoch

    def forward(self, outputs: Any, batch: dict[str, Any]) -> Tensor:
        """Reads ``outputs.logits`` (B, A) and of the batch ``labels`` or ``answer_frequencies``.

        Both are (B, A) in [0, 1]. ``batch["label_valid"]`` (B,), where there is one, is 0 for
        questions that nobody answered.
        """
        kl = self.epoch < self.kl_epochs
        loss, labels = (answer_kl_loss, "answer_frequencies") if kl else (answer_loss, "labels")
        return loss(outputs.logits, batch[labels], batch.get("label_valid"), self.reduction)


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
    return _over_questions(losses, valid, reduction)


def answer_kl_loss(
    logits: Tensor,
    frequencies: Tensor,
    valid: Tensor | None = None,
    reduction: Literal["sum", "mean"] = "sum",
) -> Tensor:
    r"""Summed over the answers, averaged over the questions.

    .. math::
        \frac{1}{B} \sum_{b} \sum_{a} f_{ba} (\log f_{ba} - \log p_{ba}), \quad
        p_b = \mathrm{softmax}(z_b)

    ROSITA averages over the answers as well (``reduction="mean"``).

    Args:
        logits: (B, A), :math:`z`.
        frequencies: (B, A), :math:`f`, the share of people who gave the answer: counts / 10 in
            VQA 2.0. A row adds up to less than 1 where people gave answers outside the table.
        valid: (B,), 1 = counts, 0 = left out; without it every question counts.
        reduction: over the answers.
    """
    check_shape("answer_frequencies", frequencies, logits.shape)
    losses = F.kl_div(F.log_softmax(logits, dim=1), frequencies, reduction="none")
    return _over_questions(losses, valid, reduction)


def _over_questions(
    losses: Tensor, valid: Tensor | None, reduction: Literal["sum", "mean"]
) -> Tensor:
    """Losses (B, A), reduced over the answers, then their mean over the questions that count."""
    losses = losses.sum(dim=1) if reduction == "sum" else losses.mean(dim=1)
    if valid is None:
        return losses.mean()
    check_shape("label_valid", valid, losses.shape)
    return counted_mean(losses, valid)
