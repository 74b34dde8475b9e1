"""Each picture should pick its captions out of the batch, and each caption its pictures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from torch import Tensor, nn

from tbkin.config import choose
from tbkin.objectives.masked import check_shape
from tbkin.objectives.similarity import (
    POSITIVES,
    ROW_REDUCTIONS,
    Temperature,
    even_shares,
    output_field,
    positives_in,
    row_cross_entropy,
)


class Contrastive(nn.Module):
    """Contrastive loss (InfoNCE, image-text contrast) with one or several positives a row.

    Source: Radford et al., "CLIP" (arXiv:2103.00020); several positives and the defaults of the
    temperature: the base loss of Huang et al., "Cross-Modal and Uni-Modal Soft-Label Alignment for
    Image-Text Retrieval", AAAI 2024 (CUSA), and its run files.

    Args:
        temperature: start of the divisor of the scores; > 0, no unit, smaller is sharper. CLIP:
            0.07.
        temperature_range: bounds of the divisor. CLIP's scale is 100 at most, a divisor of 0.01.
        learn_temperature: whether it is learned.
        temperature_form: ``"divisor"`` (CUSA) or ``"log_scale"`` (CLIP), see
            :class:`~tbkin.objectives.similarity.Temperature`.
        row_reduction: over a row's candidates. ``"sum"`` is the ordinary loss; ``"mean"``, that of
            CUSA's run files, divides it by the batch size, so that CUSA's weights of its other
            terms fit.
        positives: ``"identity"``: pairs of equal ``identities``; ``"pair"``: the diagonal only, so
            that a picture's other captions in the batch count as wrong.
    """

    def __init__(
        self,
        temperature: float = 0.05,
        temperature_range: Sequence[float] = (0.01, 0.10),
        learn_temperature: bool = True,
        temperature_form: Literal["divisor", "log_scale"] = "divisor",
        row_reduction: Literal["sum", "mean"] = "sum",
        positives: Literal["identity", "pair"] = "identity",
    ):
        super().__init__()
        choose(ROW_REDUCTIONS, row_reduction, "objectives.contrastive.row_reduction")
        choose(POSITIVES, positives, "objectives.contrastive.positives")
        self.temperature = Temperature(
            temperature,
            temperature_range,
            learned=learn_temperature,
            form=temperature_form,
            setting="objectives.contrastive.temperature",
        )
        self.row_reduction = row_reduction
        self.positives = positives

    def forward(self, outputs: Any, batch: dict[str, Any]) -> Tensor:
        """Reads ``outputs.scores`` (B, B), cosine of picture i and caption j.

        Of the batch ``identities`` (B,), unless ``positives="pair"``.
        """
        scores = output_field(outputs, "scores", "contrastive")
        positives = positives_in(batch, scores, self.positives, "contrastive")
        return contrastive_loss(scores, positives, self.temperature(), self.row_reduction)


def contrastive_loss(
    scores: Tensor,
    positives: Tensor,
    temperature: Tensor | float = 0.05,
    row_reduction: Literal["sum", "mean"] = "sum",
) -> Tensor:
    r"""Mean of both directions.

    .. math::
        L = \frac{1}{2} \left(L_{i2t} + L_{t2i}\right), \quad
        L_{i2t} = -\frac{1}{B} \sum_i \sum_j y_{ij} \log \mathrm{softmax}_j(s_{ij} / \tau), \quad
        y_{ij} = \frac{m_{ij}}{\sum_k m_{ik}}

    and :math:`L_{t2i}` the same of the transposed scores.

    Args:
        scores: (B, N), :math:`s`, of pictures (rows) and captions (columns).
        positives: (B, N) bool, :math:`m`. A row or column without any costs nothing.
        temperature: :math:`\tau` > 0.
        row_reduction: ``"mean"`` takes the mean over :math:`j` instead of the sum.
    """
    check_shape("positives", positives, scores.shape)
    logits = scores / temperature
    image_to_text, text_to_image = (
        row_cross_entropy(rows, even_shares(mask, rows.dtype), row_reduction)
        for rows, mask in ((logits, positives), (logits.T, positives.T))
    )
    return (image_to_text + text_to_image) / 2
