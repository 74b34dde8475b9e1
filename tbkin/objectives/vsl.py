"""Visual Semantic Loss (VSL): pictures rank captions as their own captions rank the pictures."""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from tbkin.config import choose
from tbkin.objectives.caption_tfidf import PictureSimilarity
from tbkin.objectives.masked import check_shape
from tbkin.objectives.similarity import batch_field, output_field

BLOCK = 2**24  # numbers in a block of comparisons; 64 MB of float32


class VisualSemantic(nn.Module):
    """The order in which a picture ranks the captions should be that of the pictures' meanings.

    How alike two pictures are in meaning is how alike their annotated captions are
    (:func:`~tbkin.objectives.caption_tfidf.group_similarity`). No parameters, nothing at inference.

    Source: Visual Semantic Loss (VSL), ICME 2023; formulas from its code, beside the triplet loss
    *summed* over the batch. Beside a loss that is averaged its weight must be tuned again (*ours*:
    start where the two gradients' norms are equal at the first step). It needs large batches: with
    32 pairs the authors saw no gain, with 128 one of 2.8 points of rsum.

    Args:
        rank_mode: how scores are ranked, see :func:`visual_semantic_loss`. ``"reference"``
            reproduces published numbers; ``"row"`` is what the method means (*ours*).
        scale: factor of the loss, > 0; the authors' is 10.
        temperature: of the soft step; > 0, in the unit of the scores. A gap of more than 50 times
            as much has no gradient.
        exclude_self: do not compare a caption with itself (*ours*); the authors do.
    """

    def __init__(
        self,
        rank_mode: Literal["reference", "row", "column", "both"] = "row",
        scale: float = 10.0,
        temperature: float = 1e-3,
        exclude_self: bool = False,
    ):
        super().__init__()
        choose(RANKS, rank_mode, "objectives.visual_semantic.rank_mode")
        if not temperature > 0:
            raise ValueError(
                f"objectives.visual_semantic.temperature must be above 0, got {temperature!r}."
            )
        if not 0 < scale < math.inf:
            raise ValueError(f"objectives.visual_semantic.scale must be above 0, got {scale!r}.")
        self.rank_mode: Literal["reference", "row", "column", "both"] = rank_mode
        self.scale, self.temperature, self.exclude_self = scale, temperature, exclude_self
        # No buffer: it is the data's, not the model's, and processes need not exchange it.
        self.similarity: PictureSimilarity | None = None

    def bind(self, dataset: Any) -> None:
        """Weigh the words over ``dataset.rows``, which have ``image_id`` and ``caption``."""
        captions: dict[int, list[str]] = {}
        for row in dataset.rows:
            captions.setdefault(row["image_id"], []).append(row["caption"])
        self.similarity = PictureSimilarity(captions, self.exclude_self)

    def forward(self, outputs: Any, batch: dict[str, Any]) -> Tensor:
        """Compare the scores with the captions that the training data have for the pictures.

        Args:
            outputs: reads ``scores`` (B, B), picture i and caption j.
            batch: reads ``image_ids`` (B,) int64, those of the data set it was bound to.

        Returns:
            Scalar >= 0.

        Raises:
            RuntimeError: not bound to a data set.
            LookupError: a picture that the data set does not have.
        """
        if self.similarity is None:
            raise RuntimeError(
                "objectives.visual_semantic compares the captions of the training data: call "
                "bind(dataset) before the first batch."
            )
        scores = output_field(outputs, "scores", "visual_semantic")
        semantics = self.similarity(batch_field(batch, "image_ids", "visual_semantic"))
        return visual_semantic_loss(scores, semantics, self.temperature, self.scale, self.rank_mode)


def visual_semantic_loss(
    scores: Tensor,
    semantics: Tensor,
    temperature: float = 1e-3,
    scale: float = 10.0,
    rank_mode: Literal["reference", "row", "column", "both"] = "row",
    clamp: float = 50.0,
) -> Tensor:
    r"""How far the order of the scores is from the order of the meanings.

    .. math::
        \lambda \left(1 - \frac{1}{B^2} \sum_{i,k}
        \frac{\min(r^S_{ik}, r^C_{ik})}{\max(r^S_{ik}, r^C_{ik})}\right)

    with :math:`r^C` the soft row ranks of ``semantics`` and :math:`r^S`, by ``rank_mode``,

    - ``"row"``: the soft row ranks of the scores, each picture ranking the captions;
    - ``"reference"``: what the authors' code computes. It ranks picture j's score for caption k
      among the scores that all pictures have for caption *j*, :func:`cross_soft_rank`. The same as
      ``"row"`` where the scores are symmetric;
    - ``"column"``: the soft column ranks, each caption ranking the pictures (*ours*); it need not
      be 0 where the orders agree, as :math:`r^C` is not symmetric;
    - ``"both"``: the mean of the losses of ``"row"`` and ``"column"`` (*ours*).

    Args:
        scores: (B, B), picture i and caption j. Float16 and bfloat16 are ranked in float32.
        semantics: (B, B), how alike pictures i and j are in meaning, symmetric. A constant: no
            gradient flows through it.
        temperature: of the soft step, > 0.
        scale: :math:`\lambda`.
        rank_mode: see above.
        clamp: of the exponent in the soft step.

    Returns:
        Scalar in [0, scale); with ``"row"`` and ``"reference"`` 0 when the scores are the
        semantics.
    """
    if scores.dim() != 2 or scores.shape[0] != scores.shape[1]:
        raise ValueError(
            f"VSL compares as many captions as pictures: got scores of {tuple(scores.shape)}."
        )
    check_shape("semantics", semantics, scores.shape)
    target = soft_rank(semantics.detach(), temperature, clamp)
    losses = []
    for rank in choose(RANKS, rank_mode, "rank_mode"):
        ranks = rank(scores, temperature, clamp)
        losses.append(1 - (torch.minimum(ranks, target) / torch.maximum(ranks, target)).mean())
    return scale * torch.stack(losses).mean()


def soft_rank(
    values: Tensor, temperature: float = 1e-3, clamp: float = 50.0, chunk: int | None = None
) -> Tensor:
    r"""The place of each value in its row; 1 is the largest, and equal ones share their places.

    .. math::
        r_{ik} = 1 + \sum_{l \neq k} \sigma\left(\frac{m_{il} - m_{ik}}{\tau}\right)

    Rows add up to N (N + 1) / 2, as the places 1 … N do. Source: VSL's code (ICME 2023), in the
    form that it describes rather than the one it runs, which is :func:`cross_soft_rank`.

    Args:
        values: (R, N). Float16 and bfloat16 are ranked in float32.
        temperature: :math:`\tau` > 0, in the unit of the values.
        clamp: the exponent is held between -clamp and clamp, beyond which there is no gradient.
        chunk: rows at a time; each needs N² numbers, made again for the gradient where one chunk
            is not all. None: as many as stay below 16 million numbers. It does not change the
            result.

    Returns:
        (R, N) in [1, N].
    """
    return _ranks_among(values, values, temperature, clamp, chunk)


def cross_soft_rank(
    values: Tensor, temperature: float = 1e-3, clamp: float = 50.0, chunk: int | None = None
) -> Tensor:
    r"""The place of each value of a row among those of the *column* of the same number.

    .. math::
        r_{jk} = 1 + \sum_{i \neq k} \sigma\left(\frac{m_{ij} - m_{jk}}{\tau}\right)

    What VSL's code (ICME 2023) computes for the scores; rows are no permutations of places. The
    same as :func:`soft_rank`, whose arguments these are, where the values are symmetric.

    Args:
        values: (B, B).
        temperature: as there.
        clamp: as there.
        chunk: as there.

    Returns:
        (B, B) in [1, B].
    """
    return _ranks_among(values, values.T, temperature, clamp, chunk)


def _ranks_among(
    values: Tensor, pool: Tensor, temperature: float, clamp: float, chunk: int | None
) -> Tensor:
    """(R, N): the place of ``values[i, k]`` among ``pool[i]``, its own ``pool[i, k]`` left out."""
    precise = torch.promote_types(values.dtype, torch.float32)
    values, pool = values.to(precise), pool.to(precise)
    if chunk is None:
        chunk = max(1, BLOCK // max(1, values.shape[1]) ** 2)
    if chunk >= len(values):
        return _block_of_ranks(values, pool, temperature, clamp)
    return torch.cat(
        [
            checkpoint(_block_of_ranks, rows, others, temperature, clamp, use_reentrant=False)
            for rows, others in zip(values.split(chunk), pool.split(chunk), strict=True)
        ]
    )


def _block_of_ranks(values: Tensor, pool: Tensor, temperature: float, clamp: float) -> Tensor:
    """:func:`_ranks_among` of a few rows."""
    gaps = pool[:, None, :] - values[:, :, None]
    steps = torch.sigmoid((gaps / temperature).clamp(-clamp, clamp))
    return 1 + steps.sum(dim=2) - steps.diagonal(dim1=1, dim2=2)


def _column_rank(values: Tensor, temperature: float, clamp: float) -> Tensor:
    """The place of each value in its column."""
    return soft_rank(values.T, temperature, clamp).T


RANKS = {
    "reference": [cross_soft_rank],
    "row": [soft_rank],
    "column": [_column_rank],
    "both": [soft_rank, _column_rank],
}
