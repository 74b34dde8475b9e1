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
    top_left = torch.maximum(boxes[:, None, :2], others[None, :, :2])
    bottom_right = torch.minimum(boxes[:, None, 2:], others[None, :, 2:])
    shared = (bottom_right - top_left).clamp(min=0).prod(dim=2)
    area = (boxes[:, 2:] - boxes[:, :2]).prod(dim=1)
    other_area = (others[:, 2:] - others[:, :2]).prod(dim=1)
    union = area[:, None] + other_area[None, :] - shared
    return torch.where(union > 0, shared / union.clamp(min=1e-12), torch.zeros_like(shared))
