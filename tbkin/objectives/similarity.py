"""What objectives on similarities share: who belongs together, temperatures, rows of scores.

Every soft objective compares rows after a softmax, every hard one goes by one mask of positives.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tbkin.config import choose
from tbkin.objectives.masked import check_shape

ROW_REDUCTIONS = {"sum": torch.sum, "mean": torch.mean}
POSITIVES = {"identity": "pairs of equal identity", "pair": "each picture with its own caption"}
FORMS = {"divisor": "what is learned is the divisor", "log_scale": "the logarithm of 1 / divisor"}


class Temperature(nn.Module):
    """A positive divisor of scores, learned or fixed, kept within bounds.

    Before every use the number is moved back between its bounds, as CUSA's code does (Huang et
    al., AAAI 2024). Its gradient is not cut there, so it can leave the bound again.

    Args:
        init: start value, > 0, no unit, smaller is sharper; several for one divisor each. A value
            out of bounds starts at the nearer bound.
        bounds: lowest and highest divisor, > 0.
        learned: whether it is a parameter; otherwise it is a buffer.
        form: what a learned temperature moves along: ``"divisor"``, the divisor itself;
            ``"log_scale"``, the logarithm of its inverse, as in CLIP (arXiv:2103.00020).
        setting: what the settings call it, for error messages.
        most: how many divisors there are where there is not one.

    Raises:
        ValueError: a start or bound <= 0, more starts than there may be, bounds in the wrong order,
            an unknown form.
    """

    def __init__(
        self,
        init: float | Sequence[float],
        bounds: Sequence[float],
        learned: bool = True,
        form: Literal["divisor", "log_scale"] = "divisor",
        setting: str = "temperature",
        most: int = 1,
    ):
        super().__init__()
        choose(FORMS, form, f"{setting}_form")
        start = torch.as_tensor(init, dtype=torch.get_default_dtype())
        if start.dim() and (most == 1 or start.shape != (most,)):
            several = f", or {most} in a list" if most > 1 else ""
            raise ValueError(f"{setting} is one number{several}, got {init}.")
        if not (start > 0).all():
            raise ValueError(f"{setting} must be > 0, got {init}.")
        two = isinstance(bounds, Sequence) and len(bounds) == 2
        if not two or not 0 < bounds[0] <= bounds[1]:
            raise ValueError(
                f"{setting}_range must be two numbers > 0, the smaller one first, "
                f"got {list(bounds) if isinstance(bounds, Sequence) else bounds}."
            )
        minimum, maximum = bounds
        self.log_scale = form == "log_scale"
        if self.log_scale:
            start = -start.log()
            minimum, maximum = -math.log(maximum), -math.log(minimum)
        self.minimum, self.maximum = minimum, maximum
        start = start.clamp(minimum, maximum)
        if learned:
            self.value = nn.Parameter(start)
        else:
            self.register_buffer("value", start)

    def forward(self) -> Tensor:
        """The divisor, of the shape of ``init``."""
        # Through .data: autograd must not take this for a change between forward and backward.
        self.value.data.clamp_(self.minimum, self.maximum)
        return (-self.value).exp() if self.log_scale else self.value

    def both(self) -> tuple[Tensor, Tensor]:
        """One divisor for each of two directions (or sides): two scalars, perhaps the same."""
        first, second = self().expand(2)
        return first, second


def positive_mask(ids_q: Tensor, ids_k: Tensor | None = None) -> Tensor:
    """Which keys belong to which queries.

    Args:
        ids_q: (B,) of the queries; equal ids belong together.
        ids_k: (M,) of the keys; without it the keys are the queries.

    Returns:
        (B, M) bool.
    """
    return ids_q[:, None] == (ids_q if ids_k is None else ids_k)[None, :]


def positives_in(
    batch: Mapping[str, Any], scores: Tensor, positives: Literal["identity", "pair"], objective: str
) -> Tensor:
    """The positives of a batch, (B, B) bool.

    Args:
        batch: reads ``identities`` (B,) int64 for ``"identity"``.
        scores: (B, B), whose size and device count.
        positives: ``"identity"``: pairs of equal identity; ``"pair"``: the diagonal.
        objective: who asks.
    """
    if positives == "pair":
        return torch.eye(len(scores), dtype=torch.bool, device=scores.device)
    identities = batch_field(
        batch, "identities", objective, f"or set objectives.{objective}.positives=pair"
    )
    check_shape("identities", identities, scores.shape[:1])
    return positive_mask(identities)


def cosines(rows: Tensor, others: Tensor | None = None) -> Tensor:
    """Cosines of rows with other rows, in float32 at least, also under automatic mixed precision.

    Args:
        rows: (B, D); a row of 0 has the cosine 0 with everything.
        others: (M, D); without them, ``rows`` themselves.

    Returns:
        (B, M) in [-1, 1].
    """
    with torch.autocast(rows.device.type, enabled=False):
        rows, others = (
            F.normalize(one.to(torch.promote_types(one.dtype, torch.float32)), dim=1)
            for one in (rows, rows if others is None else others)
        )
        return rows @ others.T


def row_cross_entropy(
    logits: Tensor, targets: Tensor, row_reduction: Literal["sum", "mean"] = "sum"
) -> Tensor:
    r"""Cross-entropy of each row with the shares that it should give its candidates.

    .. math::
        -\frac{1}{B} \sum_{i=1}^{B} \sum_{j=1}^{M} y_{ij} \log q_{ij}, \quad
        q_i = \mathrm{softmax}(s_i)

    Args:
        logits: (B, M), :math:`s`, already divided by a temperature.
        targets: (B, M), :math:`y` >= 0; a row of 0 costs nothing.
        row_reduction: over the candidates; ``"mean"`` divides by M, as CUSA's run files do.
    """
    check_shape("targets", targets, logits.shape)
    reduce = choose(ROW_REDUCTIONS, row_reduction, "row_reduction")
    return reduce(-targets * F.log_softmax(logits, dim=1), dim=1).mean()


def row_divergence(logits: Tensor, teacher_logits: Tensor) -> Tensor:
    r"""How far each row is from ranking its candidates as a teacher does.

    .. math::
        \frac{1}{B} \sum_{i=1}^{B} \sum_{j=1}^{M} p_{ij} \log \frac{p_{ij}}{q_{ij}}, \quad
        p_i = \mathrm{softmax}(t_i), \quad q_i = \mathrm{softmax}(s_i)

    Gradients flow through both: who wants a constant teacher detaches it.

    Args:
        logits: (B, M), :math:`s`, already divided by a temperature.
        teacher_logits: (B, M), :math:`t`, likewise.

    Returns:
        Scalar >= 0, the mean over rows.
    """
    check_shape("teacher_logits", teacher_logits, logits.shape)
    student = F.log_softmax(logits, dim=1)
    teacher = F.log_softmax(teacher_logits, dim=1)
    return F.kl_div(student, teacher, log_target=True, reduction="batchmean")


def even_shares(positives: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Targets of hard labels: a row's positives share it evenly.

    Args:
        positives: (B, M) bool.
        dtype: of the result.

    Returns:
        (B, M), rows adding up to 1; a row without positives stays 0.
    """
    counts = positives.to(dtype)
    return counts / counts.sum(dim=1, keepdim=True).clamp(min=1)


def output_field(outputs: Any, name: str, objective: str, way_out: str = "") -> Tensor:
    """A field of a model's outputs.

    Args:
        outputs: of the model.
        name: of the field.
        objective: who asks.
        way_out: what to do instead, put behind "… choose a model that does".

    Raises:
        ValueError: the model does not give it; names the objective and the field.
    """
    value = getattr(outputs, name, None)
    if value is None:
        raise ValueError(
            f"objectives.{objective} needs {name!r} of the model's outputs, which this model does "
            f"not give; choose a model that does, {way_out or 'or other objectives'}."
        )
    return value


def batch_field(batch: Mapping[str, Any], name: str, objective: str, way_out: str = "") -> Tensor:
    """A field of a batch.

    Args:
        batch: what collation made.
        name: of the field.
        objective: who asks.
        way_out: what to do instead, put behind "… use data that have it".

    Raises:
        ValueError: the batch does not have it; names the objective and the field.
    """
    value = batch.get(name)
    if value is None:
        raise ValueError(
            f"objectives.{objective} needs {name!r} in the batch, which has: "
            f"{', '.join(map(str, batch)) or 'nothing'}; use data that have it"
            f"{', ' + way_out if way_out else ', or other objectives'}."
        )
    return value
