"""Learning which region a phrase means, and where exactly the thing is.

Two objectives, ``grounding_rank`` and ``grounding_box``, rather than one with two weights: weights
stand in the settings like those of every other objective, and each term is logged by itself.
ROSITA's are 1 and 0.5. Models with ``grounding_box=direct`` have a third instead,
``grounding_direct``, whose two terms measure the same error twice, as in DETR.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tbkin.boxes import (
    encode_boxes,
    inclusive_box_iou,
    paired_generalized_box_iou,
    xyxy_to_cxcywh,
)
from tbkin.objectives.masked import check_shape, counted_mean


class GroundingRank(nn.Module):
    """Regions should be ranked by how well they cover the thing that is meant.

    Source: ROSITA (arXiv:2108.07073), weight 1.
    """

    def forward(self, outputs: Any, batch: dict[str, Any]) -> Tensor:
        """Reads ``outputs.box_logits`` and of the batch ``rank_labels``, ``region_mask``.

        All are (B, R); labels are those of :func:`grounding_labels`.
        """
        logits = _predicted(outputs, "box_logits", "grounding_rank", "regions")
        return grounding_rank_loss(logits, batch["rank_labels"], batch["region_mask"])


class GroundingBox(nn.Module):
    """Regions that cover the thing well enough should say how to move onto it.

    Source: ROSITA (arXiv:2108.07073), weight 0.5.
    """

    def forward(self, outputs: Any, batch: dict[str, Any]) -> Tensor:
        """Reads ``outputs.box_deltas`` (B, R, 4) and two of the batch.

        They are ``box_labels`` (B, R, 4) and ``box_label_mask`` (B, R) of
        :func:`grounding_labels`.
        """
        deltas = _predicted(outputs, "box_deltas", "grounding_box", "regions")
        return grounding_box_loss(deltas, batch["box_labels"], batch["box_label_mask"])


class GroundingDirect(nn.Module):
    """The box said directly should be the one that is meant.

    Source: DETR (arXiv:2005.12872) and, for expressions, MDETR (arXiv:2104.12763); their weights.

    Args:
        l1_weight: of the distance.
        giou_weight: of the generalised IoU.
    """

    def __init__(self, l1_weight: float = 5.0, giou_weight: float = 2.0):
        super().__init__()
        self.l1_weight, self.giou_weight = l1_weight, giou_weight

    def forward(self, outputs: Any, batch: dict[str, Any]) -> Tensor:
        """Reads ``outputs.direct_boxes`` and ``batch["target_boxes"]``, (B, 4) normalised xyxy."""
        boxes = _predicted(outputs, "direct_boxes", "grounding_direct", "direct")
        return grounding_direct_loss(boxes, batch["target_boxes"], self.l1_weight, self.giou_weight)


class GroundingLabels(NamedTuple):
    """What the regions of a picture should say of one thing; named as in the batch.

    Attributes:
        rank_labels: (…, R) >= 0, adding up to 1; all 0 where no region covers the thing.
        box_labels: (…, R, 4), how each region would move onto the thing, as
            :func:`~tbkin.boxes.encode_boxes` says it; 0 for padding, and where no region covers it.
        box_label_mask: (…, R) bool, the regions that cover the thing.
    """

    rank_labels: Tensor
    box_labels: Tensor
    box_label_mask: Tensor


def grounding_labels(
    region_boxes: Tensor, target_box: Tensor, region_mask: Tensor, threshold: float = 0.5
) -> GroundingLabels:
    """Labels of one picture or of a batch.

    A region covers the thing if their IoU reaches ``threshold``. Rank labels are the IoUs of the
    covering regions, divided by their sum; box labels say how to get from region to thing.

    Source: ROSITA (arXiv:2108.07073).

    Args:
        region_boxes: (…, R, 4) xyxy *pixels*, whose right and bottom pixel still belong to the box.
        target_box: (…, 4) where the thing is, likewise. RefCOCO's annotations have x, y, width,
            height, of which ROSITA makes x, y, x + width, y + height.
        region_mask: (…, R), 1 = real region.
        threshold: IoU in [0, 1].
    """
    target = target_box[..., None, :]
    real = region_mask.bool()
    iou = inclusive_box_iou(region_boxes, target).squeeze(-1)
    covers = real & (iou >= threshold)
    rank_labels = torch.where(covers, iou, 0.0)
    rank_labels = rank_labels / (rank_labels.sum(dim=-1, keepdim=True) + 1e-8)
    labelled = real & covers.any(dim=-1, keepdim=True)
    box_labels = torch.where(labelled[..., None], encode_boxes(region_boxes, target), 0.0)
    return GroundingLabels(rank_labels, box_labels, covers)


def grounding_rank_loss(logits: Tensor, labels: Tensor, region_mask: Tensor) -> Tensor:
    r"""How far the ranking of the regions is from their labels.

    .. math::
        \frac{1}{\sum_b R_b} \sum_{b} \sum_{r} y_{br} (\log y_{br} - \log p_{br}), \quad
        p_b = \mathrm{softmax}(z_b)

    over samples with a label and their :math:`R_b` real regions, so that a sample of many regions
    does not weigh less for it. ROSITA's softmax runs over padded regions as well; ours leaves them
    out, since a sample must not depend on the batch that it is in. Where nothing is padded, as in
    ROSITA's runs, both are the same.

    Args:
        logits: (B, R), :math:`z`.
        labels: (B, R), :math:`y`, rows adding up to 1; rows of 0 are left out.
        region_mask: (B, R), 1 = real region.

    Returns:
        Scalar >= 0; 0, with a gradient of 0, where no sample has a label.
    """
    check_shape("rank_labels", labels, logits.shape)
    check_shape("region_mask", region_mask, logits.shape)
    real = region_mask.bool()
    # The lowest number rather than -inf, whose product with a label of 0 would be nan.
    logits = logits.masked_fill(~real, torch.finfo(logits.dtype).min)
    losses = F.kl_div(F.log_softmax(logits, dim=1), labels, reduction="none")
    return counted_mean(losses, real & (labels > 0).any(dim=1, keepdim=True))


def grounding_box_loss(deltas: Tensor, labels: Tensor, label_mask: Tensor) -> Tensor:
    """Smooth L1 (quadratic below 1), averaged over the four numbers and over the labelled regions.

    Args:
        deltas: (B, R, 4), as :func:`~tbkin.boxes.decode_boxes` reads them.
        labels: (B, R, 4).
        label_mask: (B, R), 1 = the region has a label.

    Returns:
        Scalar >= 0; 0, with a gradient of 0, where no region has a label.
    """
    check_shape("box_labels", labels, deltas.shape)
    check_shape("box_label_mask", label_mask, deltas.shape[:-1])
    losses = F.smooth_l1_loss(deltas, labels, reduction="none").mean(dim=-1)
    return counted_mean(losses, label_mask)


def grounding_direct_loss(
    boxes: Tensor, targets: Tensor, l1_weight: float = 5.0, giou_weight: float = 2.0
) -> Tensor:
    r"""How far boxes are from their targets, by place and size and by overlap.

    .. math::
        \frac{1}{N} \sum_b 5 \lVert c_b - c^*_b \rVert_1 + 2 (1 - \mathrm{GIoU}(b, b^*))

    over the :math:`N` samples that mean something, with centre x and y, width and height :math:`c`.

    Args:
        boxes: (B, 4) normalised xyxy.
        targets: (B, 4) normalised xyxy; rows of 0 (a question among expressions) are left out.
        l1_weight: 5 above.
        giou_weight: 2 above.

    Returns:
        Scalar >= 0; 0, with a gradient of 0, where no sample means something.
    """
    check_shape("target_boxes", targets, boxes.shape)
    distance = (xyxy_to_cxcywh(boxes) - xyxy_to_cxcywh(targets)).abs().sum(dim=-1)
    apart = 1 - paired_generalized_box_iou(boxes, targets)
    meant = (targets != 0).any(dim=-1)
    return counted_mean(l1_weight * distance + giou_weight * apart, meant)


def _predicted(outputs: Any, name: str, objective: str, grounding_box: str) -> Tensor:
    """A field of a grounding model's outputs.

    Raises:
        ValueError: the model has the other kind of head.
    """
    value = getattr(outputs, name)
    if value is None:
        raise ValueError(
            f"objectives.{objective} needs {name}, which only a model with "
            f"grounding_box={grounding_box} has; set model.grounding_box={grounding_box} or choose "
            "other objectives."
        )
    return value
