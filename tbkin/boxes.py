"""Box formats and overlap.

Files and :class:`~tbkin.graphs.regions.Regions` hold ``xyxy`` pixels: left, top, right, bottom.
Batches hold ``xyxy`` divided by width and height, in [0, 1]. COCO files hold ``xywh`` pixels.
"""

from __future__ import annotations

import torch
from torch import Tensor

DELTA_SCALES = (0.1, 0.1, 0.2, 0.2)
"""What the deltas of x, y, width and height are divided by (Fast R-CNN, ROSITA)."""


def xywh_to_xyxy(boxes: Tensor) -> Tensor:
    """(N, 4) left, top, width, height -> (N, 4) left, top, right, bottom; any unit."""
    corner, size = boxes.split(2, dim=-1)
    return torch.cat([corner, corner + size], dim=-1)


def xyxy_to_xywh(boxes: Tensor) -> Tensor:
    """(N, 4) left, top, right, bottom -> (N, 4) left, top, width, height; any unit."""
    corner, opposite = boxes.split(2, dim=-1)
    return torch.cat([corner, opposite - corner], dim=-1)


def cxcywh_to_xyxy(boxes: Tensor) -> Tensor:
    """(…, 4) centre x and y, width, height -> (…, 4) left, top, right, bottom; any unit."""
    centre, size = boxes.split(2, dim=-1)
    return torch.cat([centre - size / 2, centre + size / 2], dim=-1)


def xyxy_to_cxcywh(boxes: Tensor) -> Tensor:
    """(…, 4) left, top, right, bottom -> (…, 4) centre x and y, width, height; any unit."""
    corner, opposite = boxes.split(2, dim=-1)
    return torch.cat([(corner + opposite) / 2, opposite - corner], dim=-1)


def clip_boxes(boxes: Tensor, width: float, height: float) -> Tensor:
    """(N, 4) xyxy pixels, cut to a picture of ``width`` x ``height`` pixels."""
    limit = boxes.new_tensor([width, height, width, height])
    return boxes.clamp(min=0).minimum(limit)


def normalize_boxes(boxes: Tensor, width: float, height: float) -> Tensor:
    """(N, 4) xyxy pixels -> (N, 4) xyxy as shares of the picture's size, in [0, 1]."""
    return boxes / boxes.new_tensor([width, height, width, height])


def box_geometry(boxes: Tensor) -> Tensor:
    """(…, 4) normalised xyxy -> (…, 5): the same and the area they cover (ROSITA, section 2.1)."""
    size = boxes[..., 2:] - boxes[..., :2]
    return torch.cat([boxes, size.prod(dim=-1, keepdim=True)], dim=-1)


def box_iou(boxes: Tensor, others: Tensor) -> Tensor:
    """Intersection over union of every box with every other.

    Args:
        boxes: (…, N, 4) xyxy, any unit.
        others: (…, M, 4) xyxy, the same unit.

    Returns:
        (…, N, M) in [0, 1]; 0 where both boxes are empty. Sizes are plain differences, without the
        "+ 1 pixel" of older detectors, which :func:`inclusive_box_iou` has.
    """
    return paired_box_iou(boxes[..., :, None, :], others[..., None, :, :])


def paired_box_iou(boxes: Tensor, others: Tensor) -> Tensor:
    """:func:`box_iou` of each box with its own partner.

    Args:
        boxes: (…, 4) xyxy, any unit.
        others: (…, 4) xyxy, the same unit; shapes are broadcast.

    Returns:
        (…) in [0, 1].
    """
    return _share(*_overlap(boxes, others))


def paired_generalized_box_iou(boxes: Tensor, others: Tensor) -> Tensor:
    r"""Generalised IoU of each box with its own partner: it tells near from far without overlap.

    .. math::
        \mathrm{IoU}(A, B) - \frac{|C| - |A \cup B|}{|C|}

    with :math:`C` the smallest box around both.

    Source: Rezatofighi et al., "Generalized Intersection over Union" (arXiv:1902.09630).

    Args:
        boxes: (…, 4) xyxy, any unit.
        others: (…, 4) xyxy, the same unit; shapes are broadcast.

    Returns:
        (…) in [-1, 1], at most the IoU; 0 where even the box around both is empty (*ours*; the
        paper leaves that open).
    """
    shared, union = _overlap(boxes, others)
    corner = torch.minimum(boxes[..., :2], others[..., :2])
    around = (torch.maximum(boxes[..., 2:], others[..., 2:]) - corner).prod(dim=-1)
    return _share(shared, union) - _share(around - union, around)


def _overlap(boxes: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
    """Area of the intersection and of the union of (…, 4) xyxy boxes, pair by pair."""
    # Width and height apart: half the memory traffic of (…, 2) corners, which NMS feels.
    left = torch.maximum(boxes[..., 0], others[..., 0])
    top = torch.maximum(boxes[..., 1], others[..., 1])
    right = torch.minimum(boxes[..., 2], others[..., 2])
    bottom = torch.minimum(boxes[..., 3], others[..., 3])
    shared = (right - left).clamp(min=0) * (bottom - top).clamp(min=0)
    area = (boxes[..., 2:] - boxes[..., :2]).prod(dim=-1)
    other_area = (others[..., 2:] - others[..., :2]).prod(dim=-1)
    return shared, area + other_area - shared


def _share(part: Tensor, whole: Tensor) -> Tensor:
    """``part / whole``; 0, with a gradient of 0, where there is no whole."""
    return torch.where(whole > 0, part / whole.clamp(min=1e-12), torch.zeros_like(part))


def inclusive_box_iou(boxes: Tensor, others: Tensor) -> Tensor:
    """:func:`box_iou` of boxes whose right and bottom pixel still belong to them.

    A box from pixel 3 to pixel 5 is 3 pixels wide: width = right - left + 1. ROSITA labels
    and scores grounding in this way, which is that of Fast R-CNN's code.

    Args:
        boxes: (…, N, 4) xyxy *pixels*.
        others: (…, M, 4) xyxy pixels.

    Returns:
        (…, N, M) in [0, 1].
    """
    return box_iou(with_last_pixel(boxes), with_last_pixel(others))


def with_last_pixel(boxes: Tensor) -> Tensor:
    """(…, 4) xyxy pixels, last ones included -> (…, 4) xyxy of the edges behind these pixels."""
    return boxes + boxes.new_tensor([0, 0, 1, 1])


def encode_boxes(boxes: Tensor, targets: Tensor) -> Tensor:
    r"""How each box would have to move and grow to become its target.

    .. math::
        \left( \frac{c^*_x - c_x}{0.1 w}, \frac{c^*_y - c_y}{0.1 h},
        \frac{\ln(w^* / w)}{0.2}, \frac{\ln(h^* / h)}{0.2} \right)

    with centres :math:`c`, widths :math:`w` and heights :math:`h` of the box, and those of the
    target starred. Boxes are inclusive: w = right - left + 1, centre = left + w / 2.

    Source: Girshick, "Fast R-CNN" (arXiv:1504.08083), with ROSITA's scales, which bring the four
    numbers to about the same spread.

    Args:
        boxes: (…, 4) xyxy *pixels*; right >= left and bottom >= top.
        targets: (…, 4) likewise; shapes are broadcast.

    Returns:
        (…, 4) deltas, no unit.
    """
    centre, size = xyxy_to_cxcywh(with_last_pixel(boxes)).split(2, dim=-1)
    target_centre, target_size = xyxy_to_cxcywh(with_last_pixel(targets)).split(2, dim=-1)
    deltas = torch.cat([(target_centre - centre) / size, torch.log(target_size / size)], dim=-1)
    return deltas / deltas.new_tensor(DELTA_SCALES)


def decode_boxes(deltas: Tensor, boxes: Tensor) -> Tensor:
    """Moves boxes by what :func:`encode_boxes` says.

    As in ROSITA (and in Fast R-CNN's code before it) the corners are centre -/+ size / 2, without
    taking the last pixel off again: right and bottom come out one pixel further than the target
    had them. Cut the result with ``clip_boxes(…, width - 1, height - 1)``.

    Args:
        deltas: (…, 4), no unit.
        boxes: (…, 4) xyxy *pixels*, whose right and bottom pixel still belong to the box.

    Returns:
        (…, 4) xyxy pixels; they may leave the picture.
    """
    centre, size = xyxy_to_cxcywh(with_last_pixel(boxes)).split(2, dim=-1)
    move, growth = (deltas * deltas.new_tensor(DELTA_SCALES)).split(2, dim=-1)
    return cxcywh_to_xyxy(torch.cat([centre + move * size, torch.exp(growth) * size], dim=-1))


def nms(boxes: Tensor, scores: Tensor, threshold: float, classes: Tensor | None = None) -> Tensor:
    """Greedy non-maximum suppression: the best box stays, and what overlaps it too much goes.

    Args:
        boxes: (N, 4) xyxy, any unit.
        scores: (N,), higher is better; equal scores rank in the order of the boxes.
        threshold: IoU in [0, 1]; a box goes if it overlaps a kept one by *more* than this, so 1
            keeps every box.
        classes: (N,) whole numbers; boxes of different classes then leave one another alone.
            Without it every box competes with every other.

    Returns:
        (K,) int64, places of the boxes that stay, best first.

    Raises:
        ValueError: lengths that differ, or a threshold outside [0, 1].
    """
    count = len(boxes)
    if boxes.shape != (count, 4) or scores.shape != (count,):
        raise ValueError(
            f"nms needs boxes (N, 4) and scores (N,), got {tuple(boxes.shape)} and "
            f"{tuple(scores.shape)}."
        )
    if classes is not None and classes.shape != (count,):
        raise ValueError(f"nms needs {count} classes, one a box, got {tuple(classes.shape)}.")
    if not 0 <= threshold <= 1:
        raise ValueError(f"the NMS threshold is an IoU in [0, 1], got {threshold}.")
    order = torch.sort(scores, descending=True, stable=True).indices
    ranked = boxes[order]
    suppresses = box_iou(ranked, ranked) > threshold
    if classes is not None:
        suppresses &= classes[order][:, None] == classes[order][None, :]
    # A box may only drop those ranked after it. On the CPU in numpy: a loop over tensor rows on a
    # GPU would wait for the device once a box.
    table = suppresses.triu(diagonal=1).cpu().numpy()
    alive = [True] * count
    dropped = table[0].copy() if count else table
    for place in range(count):
        if dropped[place]:
            alive[place] = False
        else:
            dropped |= table[place]
    return order[torch.tensor(alive, dtype=torch.bool, device=order.device)]
