"""Spatial and overlap edges between the boxes of one picture (*ours*, but for the IoU edges).

ROSITA's picture edges carry the IoU and no predicate (arXiv:2108.07073; threshold 0.2 from its
code). Questions ask for predicates, so ours name the direction as well.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tbkin.boxes import box_iou
from tbkin.graphs.scene_graph import Edge

INVERSE = {
    "left of": "right of",
    "right of": "left of",
    "above": "below",
    "below": "above",
    "inside": "around",
    "around": "inside",
}

# What people write -> the predicates of the picture that make it true.
PREDICATES_OF_PHRASE: dict[str, tuple[str, ...]] = {
    "left of": ("left of",),
    "right of": ("right of",),
    "above": ("above",),
    "over": ("above",),
    "on": ("above", "inside"),
    "on top of": ("above", "inside"),
    "below": ("below",),
    "under": ("below", "inside"),
    "beneath": ("below",),
    "underneath": ("below",),
    "inside": ("inside",),
    "in": ("inside",),
    "next to": ("left of", "right of"),
    "beside": ("left of", "right of"),
    "by": ("left of", "right of"),
    "near": ("left of", "right of", "above", "below"),
    "alongside": ("left of", "right of"),
    "close to": ("left of", "right of", "above", "below"),
    "with": ("around",),
    "wear": ("around",),
    "have": ("around",),
    "hold": ("around",),
    **{  # parsers name a verb and its preposition as one: "sit on"
        f"{verb} {place}": predicates
        for verb in ("sit", "stand", "lay", "rest", "park", "walk", "ride", "sleep", "hang")
        for place, predicates in (
            ("on", ("above", "inside")),
            ("on top of", ("above", "inside")),
            ("in", ("inside",)),
            ("inside", ("inside",)),
            ("above", ("above",)),
            ("over", ("above",)),
            ("below", ("below",)),
            ("under", ("below", "inside")),
            ("next to", ("left of", "right of")),
            ("beside", ("left of", "right of")),
            ("by", ("left of", "right of")),
            ("near", ("left of", "right of", "above", "below")),
            ("left of", ("left of",)),
            ("right of", ("right of",)),
        )
    },
}

INSIDE_SHARE = 0.9  # of the smaller box's area that must lie in the larger one (*ours*)


def spatial_edges(boxes: Tensor, neighbours: int = 8) -> list[Edge]:
    """One edge for each pair of near boxes, from the lower to the higher index.

    A box is *inside* another that holds 90 % of its area; otherwise the longer component of the
    vector between the centres names the direction, so that a pair has one predicate; two boxes
    with one centre, of which neither is inside the other, have none. Another order of the boxes
    gives the same edges, read from the other end where numbers change places.

    Args:
        boxes: (R, 4) xyxy pixels.
        neighbours: a pair is near when either is among the other's so many nearest centres, or as
            near as the last of them.
    """
    if len(boxes) < 2:
        return []
    predicates = pairwise_predicates(boxes)
    near = _near_pairs(boxes, neighbours).tolist()
    return [
        Edge(source, predicates[source][target], target, "spatial")
        for source in range(len(boxes))
        for target in range(source + 1, len(boxes))
        if near[source][target] and predicates[source][target]
    ]


def overlap_edges(boxes: Tensor, threshold: float = 0.2) -> list[Edge]:
    """An edge weighted by the IoU for each pair of boxes above ``threshold`` (ROSITA: 0.2)."""
    iou = box_iou(boxes, boxes)
    pairs = torch.nonzero(torch.triu(iou > threshold, diagonal=1)).tolist()
    return [
        Edge(source, "overlaps", target, "overlap", min(1.0, float(iou[source, target])))
        for source, target in pairs
    ]


def pairwise_predicates(boxes: Tensor) -> list[list[str]]:
    """The predicate from each box to each other: entry [i][j] reads "box i is … box j".

    Args:
        boxes: (R, 4) xyxy, any unit.

    Returns:
        R lists of R names; "" between boxes with one centre that are not inside one another.
    """
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    vector = centres[None, :, :] - centres[:, None, :]  # from i to j
    sideways = vector[..., 0].abs() > vector[..., 1].abs()
    left, up = vector[..., 0] >= 0, vector[..., 1] >= 0
    code = torch.where(sideways, torch.where(left, 0, 1), torch.where(up, 2, 3))

    area = (boxes[:, 2:] - boxes[:, :2]).prod(dim=1)
    corner = torch.maximum(boxes[:, None, :2], boxes[None, :, :2])
    opposite = torch.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
    shared = (opposite - corner).clamp(min=0).prod(dim=2)
    inside = (shared >= INSIDE_SHARE * area[:, None]) & (area[:, None] < area[None, :])
    code = torch.where((vector == 0).all(dim=-1), 6, code)
    code = torch.where(inside, 4, torch.where(inside.T, 5, code))
    names = ("left of", "right of", "above", "below", "inside", "around", "")
    return [[names[entry] for entry in row] for row in code.tolist()]


def _near_pairs(boxes: Tensor, neighbours: int) -> Tensor:
    """(R, R) bool, symmetric."""
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    # Not torch.cdist, whose rounding depends on the order of the boxes.
    distance = (centres[:, None] - centres[None, :]).square().sum(dim=2)
    distance.fill_diagonal_(float("inf"))
    count = min(neighbours, len(boxes) - 1)
    near = distance <= distance.kthvalue(count, dim=1, keepdim=True).values
    near.fill_diagonal_(False)
    return near | near.T
