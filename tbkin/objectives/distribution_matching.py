"""Scores as probabilities of belonging together, held against those of the labels (SDM, CMPM)."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tbkin.config import choose
from tbkin.objectives.masked import check_shape
from tbkin.objectives.similarity import batch_field, output_field, positive_mask

TARGET_NORMS = {"reference": 0, "row": 1}  # the axis along which the targets add up to 1


class DistributionMatching(nn.Module):
    """Similarity distribution matching (SDM): a row's softmax should be that of its positives.

    Source: Jiang and Ye, "IRRA" (arXiv:2303.12501), CVPR 2023, and its code, whose defaults these
    are.

    Args:
        scale: fixed factor of the scores, > 0.
        other_image: target, before the division, of a pair of the same identity but of another
            picture; in [0, 1]. 1: all pairs of an identity are alike. IRRA's option is 0.3.
        target_norm: see :func:`distribution_targets`; the same where ``other_image`` is 1.
    """

    def __init__(
        self,
        scale: float = 50.0,
        other_image: float = 1.0,
        target_norm: Literal["reference", "row"] = "row",
    ):
        super().__init__()
        choose(TARGET_NORMS, target_norm, "objectives.distribution_matching.target_norm")
        if not scale > 0:
            raise ValueError(
                f"objectives.distribution_matching.scale must be above 0, got {scale!r}."
            )
        if not 0 <= other_image <= 1:
            raise ValueError(
                "objectives.distribution_matching.other_image must be in [0, 1], "
                f"got {other_image!r}."
            )
        self.scale, self.other_image = scale, other_image
        self.target_norm: Literal["reference", "row"] = target_norm

    def forward(self, outputs: Any, batch: dict[str, Any]) -> Tensor:
        """Reads ``outputs.scores`` (B, B), cosine of picture i and caption j.

        Of the batch ``identities`` (B,) and, unless ``other_image`` is 1, ``image_ids`` (B,).
        """
        scores = output_field(outputs, "scores", "distribution_matching")
        identities = batch_field(batch, "identities", "distribution_matching")
        image_ids = None
        if self.other_image != 1:
            image_ids = batch_field(batch, "image_ids", "distribution_matching")
        targets = distribution_targets(identities, image_ids, self.other_image, self.target_norm)
        return distribution_matching_loss(scores, targets, self.scale)


def distribution_targets(
    ids: Tensor,
    image_ids: Tensor | None = None,
    other_image: float = 0.3,
    target_norm: Literal["reference", "row"] = "row",
) -> Tensor:
    r"""How probable each pair of the batch should be.

    1 for pairs of equal id (of equal image id, with ``other_image`` for the rest of equal id),
    divided by

    - ``"row"``: the sum of the row;
    - ``"reference"``: the sum of the *column*, as IRRA's code does by the axis along which it
      broadcasts. The same for hard labels; with image ids rows no longer add up to 1.

    Args:
        ids: (B,), who or what is seen.
        image_ids: (B,), in which picture; without it all pairs of equal id have 1.
        other_image: of pairs of equal id but different image id, in [0, 1].
        target_norm: see above.

    Returns:
        (B, B) >= 0, in the default dtype.
    """
    axis = choose(TARGET_NORMS, target_norm, "target_norm")
    labels = positive_mask(ids).to(torch.get_default_dtype())
    if image_ids is not None:
        check_shape("image_ids", image_ids, ids.shape)
        labels = torch.where(positive_mask(image_ids), 1.0, other_image * labels)
    return labels / labels.sum(dim=axis, keepdim=True)


def distribution_matching_loss(
    scores: Tensor, targets: Tensor, scale: float = 50.0, eps: float = 1e-8
) -> Tensor:
    r"""SDM: the divergence of the targets from the predictions, of both directions.

    .. math::
        L = L_{i2t} + L_{t2i}, \quad
        L_{i2t} = \frac{1}{B} \sum_{i,j} p_{ij} \log \frac{p_{ij}}{q_{ij} + \epsilon}, \quad
        p_i = \mathrm{softmax}(\lambda s_i)

    and :math:`L_{t2i}` the same of the transposed scores, with the same :math:`q`, which IRRA does
    not transpose. Source: IRRA (arXiv:2303.12501) and its code.

    Args:
        scores: (B, B), :math:`s`, cosines of pictures (rows) and captions (columns).
        targets: (B, B), :math:`q`, of :func:`distribution_targets`.
        scale: :math:`\lambda`, fixed.
        eps: :math:`\epsilon`; a pair that should not be costs :math:`-\log \epsilon` times its
            probability.

    Returns:
        Scalar >= 0 up to ``eps``, in float32 at least.
    """
    check_shape("targets", targets, scores.shape)
    logits = scale * scores.to(torch.promote_types(scores.dtype, torch.float32))
    log_targets = (targets.to(logits.dtype) + eps).log()
    return _divergence(logits, log_targets) + _divergence(logits.T, log_targets)


def projection_matching_loss(image: Tensor, text: Tensor, ids: Tensor, eps: float = 1e-8) -> Tensor:
    r"""CMPM: as SDM, of projections onto the other side's directions, whose lengths count.

    .. math::
        p_i = \mathrm{softmax}_j\left(\frac{x_i^\top z_j}{\|z_j\|}\right), \quad
        q_{ij} = \frac{y_{ij}}{\sqrt{\sum_k y_{ik}}}

    for the pictures :math:`x` and captions :math:`z`, and the other way round for the captions.
    The targets are divided by the L2 norm of their row, so that they add up to more than 1 where
    an identity repeats. Source: the code of IRRA (arXiv:2303.12501), after Zhang and Lu, "Deep
    Cross-Modal Projection Learning for Image-Text Matching", ECCV 2018. It has no objective of its
    own: our heads give rows of unit length, whose lengths say nothing.

    Args:
        image: (B, D) features, not normalised.
        text: (B, D), likewise.
        ids: (B,), equal ids belong together.
        eps: added to the targets.
    """
    labels = positive_mask(ids).to(image.dtype)
    log_targets = (labels / labels.norm(dim=1, keepdim=True) + eps).log()
    return _divergence(image @ F.normalize(text, dim=1).T, log_targets) + _divergence(
        text @ F.normalize(image, dim=1).T, log_targets
    )


def _divergence(logits: Tensor, log_targets: Tensor) -> Tensor:
    """KL of softmax(logits) from the targets, summed over columns, averaged over rows."""
    log_predictions = F.log_softmax(logits, dim=1)
    return (log_predictions.exp() * (log_predictions - log_targets)).sum(dim=1).mean()
