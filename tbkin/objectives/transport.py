"""Learning to lay words onto regions: the cheapest way to carry one set onto the other."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tbkin.objectives.masked import check_shape


class Transport(nn.Module):
    """Words and regions of a pair should be near one another, those of a wrong pair far.

    Source: the word-region alignment of Chen et al., "UNITER" (arXiv:1909.11740), as ROSITA
    (arXiv:2108.07073) pre-trains with it, weight 0.1.
    """

    def forward(self, outputs: Any, batch: dict[str, Any]) -> Tensor:
        """Reads ``outputs.text_states`` (B, T, D) and ``outputs.region_states`` (B, R, D).

        Of the batch ``attention_mask`` (B, T), ``region_mask`` (B, R) and ``match_labels`` (B,),
        1 = text and picture belong together.
        """
        distance = transport_distance(
            outputs.text_states,
            outputs.region_states,
            batch["attention_mask"],
            batch["region_mask"],
        )
        return transport_loss(distance, batch["match_labels"])


def transport_loss(distance: Tensor, match_labels: Tensor) -> Tensor:
    """Distances of the right pairs, less those of the wrong ones, divided by the number of pairs.

    Args:
        distance: (B,), of :func:`transport_distance`.
        match_labels: (B,), 1 = text and picture belong together, 0 = they do not.
    """
    check_shape("match_labels", match_labels, distance.shape)
    return torch.where(match_labels.bool(), distance, -distance).mean()


def transport_distance(
    text_states: Tensor, region_states: Tensor, text_mask: Tensor, region_mask: Tensor
) -> Tensor:
    r"""What it costs to carry the regions onto the words, at the cheapest plan.

    .. math::
        \sum_{r} \sum_{t} C_{rt} P_{rt}, \quad C_{rt} = 1 - \cos(x_r, w_t)

    Computed in float32 at least, also under automatic mixed precision. The plan :math:`P` of
    :func:`transport_plan` is a constant: gradients flow through the cost alone.

    Args:
        text_states: (B, T, D), :math:`w`; norms below 1e-5 count as 1e-5.
        region_states: (B, R, D), :math:`x`, likewise.
        text_mask: (B, T), 1 = token, its start and end included.
        region_mask: (B, R), 1 = real region.

    Returns:
        (B,) in [0, 2]; 0 where a sample has no tokens or no regions.
    """
    with torch.autocast(text_states.device.type, enabled=False):
        regions, words = (
            F.normalize(
                states.to(torch.promote_types(states.dtype, torch.float32)), dim=2, eps=1e-5
            )
            for states in (region_states, text_states)
        )
        cost = 1 - regions @ words.mT
        plan = transport_plan(cost, region_mask, text_mask)
        return (cost * plan).sum(dim=(1, 2))


@torch.no_grad()
def transport_plan(
    cost: Tensor,
    region_mask: Tensor,
    text_mask: Tensor,
    beta: float = 0.5,
    iterations: int = 50,
) -> Tensor:
    """How much of each region goes to each word, so that it costs little in all.

    Inexact proximal point iterations (IPOT) with one inner step: Xie et al., "A Fast Proximal
    Point Method for Computing Exact Wasserstein Distance" (arXiv:1802.04307), as in UNITER
    (arXiv:1909.11740), whose defaults these are.

    Args:
        cost: (B, R, T) float32 or float64, read at real regions and words only.
        region_mask: (B, R), 1 = real region.
        text_mask: (B, T), 1 = token.
        beta: > 0, in the unit of the cost; the smaller, the further one iteration moves the plan.
        iterations: >= 1; the more, the nearer to the cheapest plan.

    Returns:
        (B, R, T) >= 0 without gradient, 0 at padding. Each word receives exactly its share,
        1 / number of words; each region gives 1 / number of regions, exactly so in the limit.
    """
    region_mask, text_mask = region_mask.bool(), text_mask.bool()
    present = region_mask[:, :, None] & text_mask[:, None, :]
    kernel = torch.where(present, torch.exp(-cost / beta), 0.0)
    regions = region_mask.sum(dim=1, keepdim=True)
    words = text_mask.sum(dim=1, keepdim=True)
    plan = torch.ones_like(cost)
    word_scale = text_mask * _inverse(words)
    # Products and sums rather than matrix products, which a GPU may be set to round (TF32).
    for _ in range(iterations):
        moved = kernel * plan
        region_scale = _inverse(regions * (moved * word_scale[:, None, :]).sum(dim=2))
        word_scale = _inverse(words * (moved * region_scale[:, :, None]).sum(dim=1))
        plan = region_scale[:, :, None] * moved * word_scale[:, None, :]
    return plan


def _inverse(masses: Tensor) -> Tensor:
    """1 / masses, and 0 where there is none: padding, or a sample of nothing else."""
    return torch.where(masses > 0, 1 / masses, 0.0)
