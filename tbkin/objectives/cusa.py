"""Teachers that know one modality only say how alike the pictures, or the captions, are.

Source of all: Huang et al., "Cross-Modal and Uni-Modal Soft-Label Alignment for Image-Text
Retrieval", AAAI 2024, doi:10.1609/aaai.v38i16.29789 (CUSA), and its code, whose run files are the
defaults. The first stage of DSSLP is the first term alone.

Teachers have no gradient; their temperatures may have one, through the targets, as in the code.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from torch import Tensor, nn

from tbkin.config import choose
from tbkin.objectives.masked import check_shape
from tbkin.objectives.similarity import (
    ROW_REDUCTIONS,
    Temperature,
    batch_field,
    cosines,
    output_field,
    row_cross_entropy,
    row_divergence,
)

KINDS = {"kl": "Kullback-Leibler divergence", "contrastive": "cross-entropy with the same targets"}
MODES = {
    "each": lambda images, captions: (images, captions),
    "add": lambda images, captions: ((images + captions) / 2,) * 2,
    "dot": lambda images, captions: ((images.relu() * captions.relu()).sqrt(),) * 2,
}
"""How the two teachers become the targets of pictures' rows and of captions' rows."""


class CrossModalSoftLabel(nn.Module):
    """Cross-modal soft-label alignment (CSA).

    A picture should rank the captions as its teacher ranks the pictures they belong to, and a
    caption the pictures as its teacher ranks their captions. CUSA's weight: 0.1 for CLIP, 0.3 to 1
    for others, beside a contrastive loss of ``row_reduction="mean"``.

    Args:
        temperature: start of the divisor of the model's scores; > 0, no unit, smaller is sharper.
            One number is shared by both directions; of two, the first is image-to-text's.
        temperature_range: its bounds.
        learn_temperature: whether it is learned.
        teacher_temperature: divisor of the teachers' cosines, likewise one or two.
        teacher_temperature_range: its bounds.
        learn_teacher_temperature: whether it is learned. Targets then move with it.
        mode: ``"each"``: each direction goes by its own teacher; ``"add"``: both go by the mean of
            the two; ``"dot"``: by the root of their product, what is negative counting as 0.
        kind: ``"kl"`` or ``"contrastive"``, cross-entropy with the same targets, whose gradient is
            the same as long as the teacher's temperature is fixed.
        row_reduction: of ``kind="contrastive"``: over a row's candidates, ``"sum"`` or ``"mean"``.
    """

    def __init__(
        self,
        temperature: float | Sequence[float] = 0.45,
        temperature_range: Sequence[float] = (0.10, 0.99),
        learn_temperature: bool = True,
        teacher_temperature: float | Sequence[float] = 1.0,
        teacher_temperature_range: Sequence[float] = (0.1, 1.0),
        learn_teacher_temperature: bool = False,
        mode: Literal["each", "add", "dot"] = "each",
        kind: Literal["kl", "contrastive"] = "kl",
        row_reduction: Literal["sum", "mean"] = "sum",
    ):
        super().__init__()
        choose(MODES, mode, "objectives.cross_modal_soft_label.mode")
        _check_kind(kind, row_reduction, "cross_modal_soft_label")
        self.temperature = _temperature(
            temperature,
            temperature_range,
            learn_temperature,
            "objectives.cross_modal_soft_label.temperature",
        )
        self.teacher_temperature = _temperature(
            teacher_temperature,
            teacher_temperature_range,
            learn_teacher_temperature,
            "objectives.cross_modal_soft_label.teacher_temperature",
        )
        self.mode = mode
        self.kind = kind
        self.row_reduction = row_reduction

    def forward(self, outputs: Any, batch: dict[str, Any]) -> Tensor:
        """Reads ``outputs.scores`` (B, B), picture i and caption j.

        Of the batch ``image_teacher_scores`` and ``text_teacher_scores`` (B, B), cosines in
        [-1, 1] of the batch's pictures (captions) with one another.
        """
        scores = output_field(outputs, "scores", "cross_modal_soft_label")
        return cross_modal_soft_label_loss(
            scores,
            *_teachers(batch, scores, "cross_modal_soft_label"),
            self.temperature.both(),
            self.teacher_temperature.both(),
            self.mode,
            self.kind,
            self.row_reduction,
        )


class UniModalSoftLabel(nn.Module):
    """Uni-modal soft-label alignment (USA).

    Pictures should be as alike to one another as their teacher says, and so should captions. Their
    likeness to themselves counts, in model and teacher. CUSA's weight: 0.5 for CLIP, 0.75 for
    others, beside a contrastive loss of ``row_reduction="mean"``.

    Args:
        temperature: start of the divisors of the model's cosines; > 0, no unit, smaller is sharper.
            Two numbers, the pictures' first; one number is shared.
        temperature_range: their bounds.
        learn_temperature: whether they are learned.
        teacher_temperature: divisor of the teachers' cosines, one shared or two. CUSA has one for
            both of its terms.
        teacher_temperature_range: its bounds.
        learn_teacher_temperature: whether it is learned. Targets then move with it.
        kind: ``"kl"`` or ``"contrastive"``, as in :class:`CrossModalSoftLabel`.
        row_reduction: of ``kind="contrastive"``.
    """

    def __init__(
        self,
        temperature: float | Sequence[float] = (0.45, 0.45),
        temperature_range: Sequence[float] = (0.10, 1.00),
        learn_temperature: bool = True,
        teacher_temperature: float | Sequence[float] = 1.0,
        teacher_temperature_range: Sequence[float] = (0.1, 1.0),
        learn_teacher_temperature: bool = False,
        kind: Literal["kl", "contrastive"] = "kl",
        row_reduction: Literal["sum", "mean"] = "sum",
    ):
        super().__init__()
        _check_kind(kind, row_reduction, "uni_modal_soft_label")
        self.temperature = _temperature(
            temperature,
            temperature_range,
            learn_temperature,
            "objectives.uni_modal_soft_label.temperature",
        )
        self.teacher_temperature = _temperature(
            teacher_temperature,
            teacher_temperature_range,
            learn_teacher_temperature,
            "objectives.uni_modal_soft_label.teacher_temperature",
        )
        self.kind = kind
        self.row_reduction = row_reduction

    def forward(self, outputs: Any, batch: dict[str, Any]) -> Tensor:
        """Reads ``outputs.image_uni_embeds`` and ``outputs.text_uni_embeds`` (B, D), unit rows.

        Of the batch ``image_teacher_scores`` and ``text_teacher_scores`` (B, B), cosines.
        """
        image_scores = cosines(output_field(outputs, "image_uni_embeds", "uni_modal_soft_label"))
        text_scores = cosines(output_field(outputs, "text_uni_embeds", "uni_modal_soft_label"))
        return uni_modal_soft_label_loss(
            image_scores,
            text_scores,
            *_teachers(batch, image_scores, "uni_modal_soft_label"),
            self.temperature.both(),
            self.teacher_temperature.both(),
            self.kind,
            self.row_reduction,
        )


def cross_modal_soft_label_loss(
    scores: Tensor,
    image_teacher_scores: Tensor,
    text_teacher_scores: Tensor,
    temperatures: tuple[Tensor | float, Tensor | float] = (0.45, 0.45),
    teacher_temperatures: tuple[Tensor | float, Tensor | float] = (1.0, 1.0),
    mode: Literal["each", "add", "dot"] = "each",
    kind: Literal["kl", "contrastive"] = "kl",
    row_reduction: Literal["sum", "mean"] = "sum",
) -> Tensor:
    r"""Mean of both directions of CSA.

    .. math::
        L = \tfrac{1}{2} \left[
        \mathrm{KL}\big(\sigma(A^I / \tau_s) \,\|\, \sigma(S / \tau_c)\big)
        + \mathrm{KL}\big(\sigma(A^T / \tau_s) \,\|\, \sigma(S^\top / \tau_c)\big) \right]

    with :math:`\sigma` the softmax of each row, KL summed over columns, averaged over rows.

    Args:
        scores: (B, B), :math:`S`, picture i and caption j.
        image_teacher_scores: (B, B), :math:`A^I`, cosines of the pictures' teacher.
        text_teacher_scores: (B, B), :math:`A^T`, cosines of the captions' teacher.
        temperatures: :math:`\tau_c` > 0 of image-to-text and of text-to-image.
        teacher_temperatures: :math:`\tau_s` > 0, likewise.
        mode: which teachers make the targets, see :class:`CrossModalSoftLabel`.
        kind: ``"kl"`` or ``"contrastive"``.
        row_reduction: of ``kind="contrastive"``.

    Returns:
        Scalar; of ``"kl"`` >= 0, and 0 where the model ranks exactly as the teachers do.
    """
    targets = choose(MODES, mode, "mode")(image_teacher_scores, text_teacher_scores)
    return _mean_of_both(
        (scores, scores.T), targets, temperatures, teacher_temperatures, kind, row_reduction
    )


def uni_modal_soft_label_loss(
    image_scores: Tensor,
    text_scores: Tensor,
    image_teacher_scores: Tensor,
    text_teacher_scores: Tensor,
    temperatures: tuple[Tensor | float, Tensor | float] = (0.45, 0.45),
    teacher_temperatures: tuple[Tensor | float, Tensor | float] = (1.0, 1.0),
    kind: Literal["kl", "contrastive"] = "kl",
    row_reduction: Literal["sum", "mean"] = "sum",
) -> Tensor:
    r"""Mean of both sides of USA.

    .. math::
        L = \tfrac{1}{2} \left[
        \mathrm{KL}\big(\sigma(A^I / \tau_s) \,\|\, \sigma(S^{II} / \tau_I)\big)
        + \mathrm{KL}\big(\sigma(A^T / \tau_s) \,\|\, \sigma(S^{TT} / \tau_T)\big) \right]

    with :math:`\sigma` the softmax of each row, KL summed over columns, averaged over rows.

    Args:
        image_scores: (B, B), :math:`S^{II}`, cosines of the pictures, 1 on the diagonal.
        text_scores: (B, B), :math:`S^{TT}`, cosines of the captions.
        image_teacher_scores: (B, B), :math:`A^I`.
        text_teacher_scores: (B, B), :math:`A^T`.
        temperatures: :math:`\tau_I` and :math:`\tau_T` > 0.
        teacher_temperatures: :math:`\tau_s` > 0 of pictures and of captions.
        kind: ``"kl"`` or ``"contrastive"``.
        row_reduction: of ``kind="contrastive"``.

    Returns:
        Scalar; of ``"kl"`` >= 0.
    """
    return _mean_of_both(
        (image_scores, text_scores),
        (image_teacher_scores, text_teacher_scores),
        temperatures,
        teacher_temperatures,
        kind,
        row_reduction,
    )


def soft_label_loss(
    logits: Tensor,
    teacher_logits: Tensor,
    kind: Literal["kl", "contrastive"] = "kl",
    row_reduction: Literal["sum", "mean"] = "sum",
) -> Tensor:
    """How far rows are from ranking as a teacher does, by divergence or by cross-entropy.

    Args:
        logits: (B, M), already divided by a temperature.
        teacher_logits: (B, M), likewise; their softmax is the target.
        kind: ``"kl"``, :func:`~tbkin.objectives.similarity.row_divergence`; ``"contrastive"``,
            :func:`~tbkin.objectives.similarity.row_cross_entropy`.
        row_reduction: of ``kind="contrastive"``.
    """
    choose(KINDS, kind, "kind")
    if kind == "kl":
        return row_divergence(logits, teacher_logits)
    return row_cross_entropy(logits, teacher_logits.softmax(dim=1), row_reduction)


def _mean_of_both(
    scores: tuple[Tensor, Tensor],
    targets: tuple[Tensor, Tensor],
    temperatures: tuple[Tensor | float, Tensor | float],
    teacher_temperatures: tuple[Tensor | float, Tensor | float],
    kind: Literal["kl", "contrastive"],
    row_reduction: Literal["sum", "mean"],
) -> Tensor:
    first, second = (
        soft_label_loss(rows / tau, teacher.detach() / teacher_tau, kind, row_reduction)
        for rows, teacher, tau, teacher_tau in zip(
            scores, targets, temperatures, teacher_temperatures, strict=True
        )
    )
    return (first + second) / 2


def _teachers(batch: dict[str, Any], scores: Tensor, objective: str) -> list[Tensor]:
    """Cosines of the pictures' and of the captions' teacher.

    Raises:
        ValueError: missing, of another shape, or with a row that is all 0 or not a number: the
            features of a picture or caption are missing or broken.
    """
    teachers = []
    for name in ("image_teacher_scores", "text_teacher_scores"):
        teacher = batch_field(
            batch, name, objective, "made from teacher features: tbkin prep teachers"
        )
        check_shape(name, teacher, scores.shape)
        sound = teacher.isfinite().all(dim=1) & (teacher != 0).any(dim=1)
        if not sound.all():
            raise ValueError(
                f"{name}, row {int(sound.int().argmin())} is all 0 or not a number: the teacher "
                "has no sound features of that example; write them again: tbkin prep teachers."
            )
        teachers.append(teacher)
    return teachers


def _temperature(
    init: float | Sequence[float], bounds: Sequence[float], learned: bool, setting: str
) -> Temperature:
    """One divisor for both directions, or one for each."""
    return Temperature(init, bounds, learned, setting=setting, most=2)


def _check_kind(kind: str, row_reduction: str, objective: str) -> None:
    choose(KINDS, kind, f"objectives.{objective}.kind")
    choose(ROW_REDUCTIONS, row_reduction, f"objectives.{objective}.row_reduction")
