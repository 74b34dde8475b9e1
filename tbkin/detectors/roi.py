"""Features of regions from a detector's own feature map, in plain torch."""

from __future__ import annotations

import torch
from torch import Tensor

BINS, SAMPLES = 7, 2


def roi_align(
    feature_map: Tensor,
    boxes: Tensor,
    scale_x: float,
    scale_y: float,
    bins: int = BINS,
    samples: int = SAMPLES,
) -> Tensor:
    """Mean of a map over each cell of a ``bins`` x ``bins`` grid laid over each box.

    RoIAlign (He et al., "Mask R-CNN", ICCV 2017): every cell is the mean of ``samples`` x
    ``samples`` points spread evenly in it, each read bilinearly; nothing is rounded to whole
    cells. Coordinates are aligned: the cell (row, column) of the map covers [column, column + 1) x
    [row, row + 1) and its value stands at its middle. Points beyond the middle of an outer cell
    read that cell, so a box at the picture's edge is not pulled towards zero.

    Args:
        feature_map: (C, H, W).
        boxes: (R, 4) xyxy pixels of the picture. A box without area reads the one point.
        scale_x: columns of the map a pixel of the picture: W / width when the map covers the
            picture exactly, resize / stride when the picture was scaled into a corner.
        scale_y: rows likewise.
        bins: cells a side, at least 1.
        samples: points a side of a cell, at least 1.

    Returns:
        (R, C, bins, bins); row before column.
    """
    _, height, width = feature_map.shape
    scale = boxes.new_tensor([scale_x, scale_y, scale_x, scale_y])
    left, top, right, bottom = (boxes * scale).to(feature_map).unbind(dim=1)
    across = _weights(left, right, width, bins, samples)
    down = _weights(top, bottom, height, bins, samples)
    # Bilinear reading is a product of a row and a column weight, and so is the mean of a grid of
    # readings: two small matrix products a box, and no gathering of points.
    columns = torch.einsum("chw,rjw->rchj", feature_map, across)
    return torch.einsum("rchj,rih->rcij", columns, down)


def roi_pool(
    feature_map: Tensor, boxes: Tensor, scale_x: float, scale_y: float, bins: int = BINS
) -> Tensor:
    """One vector a box: the mean of :func:`roi_align` over its grid.

    Args:
        feature_map: (C, H, W).
        boxes: (R, 4) xyxy pixels of the picture.
        scale_x: columns of the map a pixel of the picture.
        scale_y: rows likewise.
        bins: cells a side.

    Returns:
        (R, C).
    """
    _, height, width = feature_map.shape
    scale = boxes.new_tensor([scale_x, scale_y, scale_x, scale_y])
    left, top, right, bottom = (boxes * scale).to(feature_map).unbind(dim=1)
    # The mean over the grid is the mean over all its points: the weights are averaged first.
    across = _weights(left, right, width, bins, SAMPLES).mean(dim=1)
    down = _weights(top, bottom, height, bins, SAMPLES).mean(dim=1)
    weights = down[:, :, None] * across[:, None, :]
    return weights.flatten(1) @ feature_map.flatten(1).T


def _weights(start: Tensor, end: Tensor, size: int, bins: int, samples: int) -> Tensor:
    """How much of each of ``size`` map cells each bin along one axis reads: (R, bins, size)."""
    steps = torch.arange(bins * samples, device=start.device, dtype=start.dtype) + 0.5
    points = start[:, None] + (end - start)[:, None] * steps / (bins * samples)
    points = (points - 0.5).clamp(0, size - 1)  # from edges to middles of cells
    cells = torch.arange(size, device=start.device, dtype=start.dtype)
    weights = (1 - (points[:, :, None] - cells).abs()).clamp(min=0)
    return weights.unflatten(1, (bins, samples)).mean(dim=2)
