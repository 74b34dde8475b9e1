"""Softmax's sparse relatives: weights that are exactly 0 below a threshold the logits decide.

Sparsemax: Martins & Astudillo, "From Softmax to Sparsemax" (arXiv:1602.02068). 1.5-entmax: Peters,
Niculae & Martins, "Sparse Sequence-to-Sequence Models" (arXiv:1905.05702), exact by sorting.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


class Sparsemax(torch.autograd.Function):
    r"""Euclidean projection onto the simplex: :math:`p_j = \max(z_j - \tau, 0)`.

    ``Sparsemax.apply(logits)``, (…, K) -> (…, K), rows sum to 1. The gradient passes through the
    kept entries alone: :math:`g_j - \mathrm{mean}_{p > 0}(g)`.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor) -> Tensor:
        """Project each row; see arXiv:1602.02068, algorithm 1."""
        shifted = logits - logits.amax(dim=-1, keepdim=True)
        ranked = shifted.sort(dim=-1, descending=True).values
        ranks = torch.arange(1, ranked.shape[-1] + 1, dtype=ranked.dtype, device=ranked.device)
        sums = ranked.cumsum(dim=-1)
        size = (1 + ranks * ranked > sums).sum(dim=-1, keepdim=True)
        threshold = (sums.gather(-1, size - 1) - 1) / size
        weights = (shifted - threshold).clamp(min=0)
        ctx.save_for_backward(weights)
        return weights

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        """The Jacobian is the projection onto the support's centred vectors."""
        (weights,) = ctx.saved_tensors
        kept = (weights > 0).to(gradient.dtype)
        mean = (gradient * kept).sum(dim=-1, keepdim=True) / kept.sum(dim=-1, keepdim=True)
        return kept * (gradient - mean)


class Entmax15(torch.autograd.Function):
    r"""Half-way between softmax and sparsemax: :math:`p_j = \max(z_j / 2 - \tau, 0)^2`.

    ``Entmax15.apply(logits)``, (…, K) -> (…, K), rows sum to 1. With :math:`s = \sqrt p` the
    gradient is :math:`s_j (g_j - \sum_k s_k g_k / \sum_k s_k)`.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor) -> Tensor:
        """Solve for the threshold exactly; see arXiv:1905.05702, algorithm 2."""
        shifted = (logits - logits.amax(dim=-1, keepdim=True)) / 2
        ranked = shifted.sort(dim=-1, descending=True).values
        ranks = torch.arange(1, ranked.shape[-1] + 1, dtype=ranked.dtype, device=ranked.device)
        mean = ranked.cumsum(dim=-1) / ranks
        spread = (ranked**2).cumsum(dim=-1) - ranks * mean**2
        thresholds = mean - ((1 - spread) / ranks).clamp(min=0).sqrt()
        size = (thresholds <= ranked).sum(dim=-1, keepdim=True)
        weights = (shifted - thresholds.gather(-1, size - 1)).clamp(min=0) ** 2
        ctx.save_for_backward(weights)
        return weights

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        """The Jacobian in terms of the square roots of the weights."""
        (weights,) = ctx.saved_tensors
        root = weights.sqrt()
        mean = (gradient * root).sum(dim=-1, keepdim=True) / root.sum(dim=-1, keepdim=True)
        return root * (gradient - mean)
