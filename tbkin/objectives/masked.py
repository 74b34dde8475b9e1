"""Learning to restore what was hidden: words, and the features and classes of regions."""

from __future__ import annotations

from typing import Any

from torch import Size, Tensor, nn
from torch.nn import functional as F

NOT_MASKED = -100
"""Label of a position that was not hidden, as in Hugging Face's models."""


class MaskedWords(nn.Module):
    """Cross-entropy of the hidden tokens (masked language modelling).

    Source: Devlin et al., "BERT" (arXiv:1810.04805); a pre-training term of ROSITA
    (arXiv:2108.07073), weight 1.
    """

    def forward(self, outputs: Any, batch: dict[str, Any]) -> Tensor:
        """Reads ``outputs.word_logits`` (B, T, vocabulary) and ``batch["word_labels"]`` (B, T)."""
        return masked_class_loss(outputs.word_logits, batch["word_labels"])


class MaskedFeatures(nn.Module):
    """Smooth L1 between what is said of a hidden region's features and what they were.

    Source: ROSITA (arXiv:2108.07073), weight 1.
    """

    def forward(self, outputs: Any, batch: dict[str, Any]) -> Tensor:
        """Reads ``outputs.feature_predictions`` and ``batch["feature_labels"]``, both (B, R, F).

        ``batch["region_targets"]`` (B, R) is True where a region was hidden.
        """
        return masked_feature_loss(
            outputs.feature_predictions, batch["feature_labels"], batch["region_targets"]
        )


class MaskedObjects(nn.Module):
    """Cross-entropy of the hidden regions' object classes, weighted by the detector's confidence.

    Source: ROSITA (arXiv:2108.07073), weight 1.
    """

    def forward(self, outputs: Any, batch: dict[str, Any]) -> Tensor:
        """Reads ``outputs.object_logits`` (B, R, classes) and two of the batch, both (B, R).

        They are ``object_labels`` and ``object_confidence``, in [0, 1].
        """
        return masked_class_loss(
            outputs.object_logits, batch["object_labels"], batch["object_confidence"]
        )


class MaskedAttributes(nn.Module):
    """Cross-entropy of the hidden regions' attributes, weighted by the detector's confidence.

    Source: ROSITA (arXiv:2108.07073), weight 1.
    """

    def forward(self, outputs: Any, batch: dict[str, Any]) -> Tensor:
        """Reads ``outputs.attribute_logits`` (B, R, classes) and two of the batch, both (B, R).

        They are ``attribute_labels`` and ``attribute_confidence``, in [0, 1].
        """
        return masked_class_loss(
            outputs.attribute_logits, batch["attribute_labels"], batch["attribute_confidence"]
        )


def masked_class_loss(logits: Tensor, labels: Tensor, confidence: Tensor | None = None) -> Tensor:
    """Cross-entropy at the hidden positions, divided by how many of them count.

    Args:
        logits: (B, L, classes).
        labels: (B, L) classes of the hidden positions, -100 elsewhere.
        confidence: (B, L) weights in [0, 1]; 1 everywhere without it. A position of confidence 0
            does not count. The divisor stays the *number* of positions, as in ROSITA, so that
            doubtful labels also weigh less in total.

    Returns:
        Scalar >= 0; 0, with a gradient of 0, where nothing was hidden.
    """
    check_shape("the labels of masked positions", labels, logits.shape[:-1])
    losses = F.cross_entropy(
        logits.flatten(0, 1), labels.flatten(), ignore_index=NOT_MASKED, reduction="none"
    )
    weights = labels != NOT_MASKED
    if confidence is not None:
        check_shape("the confidence of masked labels", confidence, labels.shape)
        weights = weights * confidence
    return counted_mean(losses, weights.flatten())


def masked_feature_loss(predictions: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
    """Smooth L1 (quadratic below 1), averaged over the features and over the hidden regions.

    Args:
        predictions: (B, R, F).
        labels: (B, R, F), the features before they were hidden, in the same unit.
        targets: (B, R), True where a region was hidden.

    Returns:
        Scalar >= 0; 0, with a gradient of 0, where nothing was hidden.
    """
    check_shape("feature_labels", labels, predictions.shape)
    check_shape("region_targets", targets, predictions.shape[:-1])
    losses = F.smooth_l1_loss(predictions, labels, reduction="none").mean(dim=-1)
    return counted_mean(losses, targets)


def counted_mean(values: Tensor, weights: Tensor) -> Tensor:
    """Weighted sum, divided by the *number* of weights above 0, as ROSITA divides.

    Each process of a distributed run divides by its own number, as ROSITA's do; where these differ
    the mean over processes is not that of the whole batch.

    Args:
        values: any shape, finite also where they do not count.
        weights: the same shape, >= 0: a mask, or confidences.

    Returns:
        Scalar; 0 where no weight is above 0. It depends on ``values`` even then: every parameter
        behind them gets a gradient of 0, and no process of a distributed run waits for one.
    """
    return (values * weights).sum() / (weights > 0).sum().clamp(min=1)


def check_shape(name: str, tensor: Tensor, expected: Size) -> None:
    """Labels of another shape would be broadcast and give a wrong loss.

    Raises:
        ValueError: ``tensor`` does not have the shape ``expected``.
    """
    if tensor.shape != expected:
        raise ValueError(
            f"{name} must have the shape {tuple(expected)} of the predictions, "
            f"got {tuple(tensor.shape)}."
        )
