"""Box formats and overlap.

Files and :class:`~tbkin.graphs.regions.Regions` hold ``xyxy`` pixels: left, top, right, bottom.
Batches hold ``xyxy`` divided by width and height, in [0, 1]. COCO files hold ``xywh`` pixels.
"""

from __future__ import annotations

import torch
from torch import Tensor


def xywh_to_xyxy(boxes: Tensor) -> Tensor:
    """(N, 4) left, top, width, height -> (N, 4) left, top, right, bottom; any unit."""
    corner, size = boxes.split(2, dim=-1)
    return torch.cat([corner, corner + size], dim=-1)


def xyxy_to_xywh(boxes: Tensor) -> Tensor:
    """(N, 4) left, top, right, bottom -> (N, 4) left, top, width, height; any unit."""
    corner, opposite = boxes.split(2, dim=-1)
    return torch.cat([corner, opposite - corner], dim=-1)


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
        boxes: (N, 4) xyxy, any unit.
        others: (M, 4) xyxy, the same unit.

    Returns:
        (N, M) in [0, 1]; 0 where both boxes are empty. Sizes are plain differences, without the
        "+ 1 pixel" of older detectors.
    """
    # Width and height apart: half the memory traffic of (N, M, 2) corners, which NMS feels.
    left = torch.maximum(boxes[:, None, 0], others[None, :, 0])
    top = torch.maximum(boxes[:, None, 1], others[None, :, 1])
    right = torch.minimum(boxes[:, None, 2], others[None, :, 2])
    bottom = torch.minimum(boxes[:, None, 3], others[None, :, 3])
    shared = (right - left).clamp(min=0) * (bottom - top).clamp(min=0)
    area = (boxes[:, 2:] - boxes[:, :2]).prod(dim=1)
    other_area = (others[:, 2:] - others[:, :2]).prod(dim=1)
    union = area[:, None] + other_area[None, :] - shared
    return torch.where(union > 0, shared / union.clamp(min=1e-12), torch.zeros_like(shared))


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
