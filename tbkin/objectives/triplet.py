"""The right pair should score higher than wrong ones by a margin."""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from torch import Tensor, nn

from tbkin.config import choose
from tbkin.objectives.masked import check_shape
from tbkin.objectives.similarity import POSITIVES, output_field, positives_in

MINING = {"hardest": torch.amax, "all": torch.sum}
REDUCTIONS = {"sum": torch.sum, "mean": torch.mean}


class Triplet(nn.Module):
    """Hinge loss of each pair against the wrong captions and pictures of the batch.

    Source: Faghri et al., "VSE++" (arXiv:1707.05612), eqs. of the sum and of the max of hinges;
    the warm-up: Chen et al., "Learning the Best Pooling Strategy for Visual Semantic Embedding"
    (arXiv:2011.04305).

    Args:
        margin: >= 0, in the unit of the scores.
        mining: ``"hardest"``: only the worst wrong caption (picture) counts; ``"all"``: the sum of
            all.
        positives: ``"identity"``: others of equal ``identities`` are no wrong ones; ``"pair"``:
            they are, as in the authors' code.
        reduction: over the batch; ``"sum"`` as in the authors' code.
        warmup_epochs: so many first epochs count all wrong ones, since the hardest alone may keep
            an untrained model at the loss of equal scores, 2 B margin.
    """

    def __init__(
        self,
        margin: float = 0.2,
        mining: Literal["hardest", "all"] = "hardest",
        positives: Literal["identity", "pair"] = "identity",
        reduction: Literal["sum", "mean"] = "sum",
        warmup_epochs: int = 0,
    ):
        super().__init__()
        choose(MINING, mining, "objectives.triplet.mining")
        choose(POSITIVES, positives, "objectives.triplet.positives")
        choose(REDUCTIONS, reduction, "objectives.triplet.reduction")
        if not 0 <= margin < math.inf:
            raise ValueError(f"objectives.triplet.margin must be >= 0, got {margin}.")
        if type(warmup_epochs) is not int or warmup_epochs < 0:
            raise ValueError(
                f"objectives.triplet.warmup_epochs is a whole number >= 0, got {warmup_epochs!r}."
            )
        self.margin = margin
        self.mining = mining
        self.positives = positives
        self.reduction = reduction
        self.warmup_epochs = warmup_epochs
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch of training it is; the first is 0."""
        self.epoch = epoch

    def forward(self, outputs: Any, batch: dict[str, Any]) -> Tensor:
        """Reads ``outputs.scores`` (B, B), picture i and caption j.

        Of the batch ``identities`` (B,), unless ``positives="pair"``.
        """
        scores = output_field(outputs, "scores", "triplet")
        positives = positives_in(batch, scores, self.positives, "triplet")
        mining = "all" if self.epoch < self.warmup_epochs else self.mining
        return triplet_loss(scores, positives, self.margin, mining, self.reduction)


def triplet_loss(
    scores: Tensor,
    positives: Tensor,
    margin: float = 0.2,
    mining: Literal["hardest", "all"] = "hardest",
    reduction: Literal["sum", "mean"] = "sum",
) -> Tensor:
    r"""Hinges of both directions, over the batch.

    .. math::
        \sum_i \max_{j:\, m_{ij} = 0} \left[\alpha + s_{ij} - s_{ii}\right]_+
        + \sum_j \max_{i:\, m_{ij} = 0} \left[\alpha + s_{ij} - s_{jj}\right]_+

    or, of ``mining="all"``, with sums in place of the maxima.

    Args:
        scores: (B, B), :math:`s`, pictures in rows, captions in columns, right pairs on the
            diagonal.
        positives: (B, B) bool, :math:`m`: pairs that are not wrong. The diagonal never is.
        margin: :math:`\alpha` >= 0.
        mining: ``"hardest"`` or ``"all"``.
        reduction: ``"sum"``, or ``"mean"`` over the B pairs (of the sum of both directions).

    Returns:
        Scalar >= 0; a row or column with nothing wrong in it adds 0.
    """
    check_shape("positives", positives, scores.shape)
    if scores.shape[0] != scores.shape[1]:
        raise ValueError(
            "the triplet loss needs as many captions as pictures, the right pairs on the diagonal: "
            f"got scores of {tuple(scores.shape)}."
        )
    right = scores.diagonal()
    not_wrong = positives | torch.eye(len(scores), dtype=torch.bool, device=scores.device)
    of_images = (margin + scores - right[:, None]).clamp(min=0).masked_fill(not_wrong, 0)
    of_captions = (margin + scores - right[None, :]).clamp(min=0).masked_fill(not_wrong, 0)
    mine = choose(MINING, mining, "mining")
    reduce = choose(REDUCTIONS, reduction, "reduction")
    return reduce(mine(of_images, dim=1) + mine(of_captions, dim=0))
