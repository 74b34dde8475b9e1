"""Threshold selection: which weights survive. One pure function for model, report and picture.

Sources: top-k selection is Zhao et al., "Explicit Sparse Transformer" (arXiv:1912.11637), used by
MESAN (Guo & Han, Sensors 2020); a threshold on attention scores is SCAVQAN (Guo & Han, Applied
Intelligence 2022); that TBKIN (Guo et al., PLOS ONE 2025) puts a threshold on attention weights
after the softmax is *our reading* of its abstract. The scale-free rules and the guards are *ours*.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

RULES = ("none", "top_k", "prob", "logit", "rel_max", "rel_mean")


def select(
    logits: Tensor,
    key_mask: Tensor,
    rule: str = "none",
    threshold: float = 0.0,
    renormalize: bool = True,
) -> tuple[Tensor, Tensor]:
    r"""Softmax over the keys, without those that fall below the threshold.

    With :math:`P` the logits, :math:`A = \mathrm{softmax}(P)` over the valid keys, :math:`\tau` the
    threshold and :math:`n` the number of valid keys, key :math:`j` of row :math:`i` is kept when

    ============ ====================================================================
    ``none``     always
    ``top_k``    :math:`P_{ij}` is among the row's :math:`\tau` largest (all ties are kept)
    ``prob``     :math:`A_{ij} \ge \tau`, compared in log space
    ``logit``    :math:`P_{ij} \ge \tau`
    ``rel_max``  :math:`A_{ij} \ge \tau \max_j A_{ij}`
    ``rel_mean`` :math:`A_{ij} \ge \tau / n`
    ============ ====================================================================

    The row's largest valid key is always kept, padding never. The mask is computed without
    gradient.

    Args:
        logits: (…, K), any number.
        key_mask: bool, broadcastable to ``logits``; True where a key is real.
        rule: one of ``RULES``.
        threshold: :math:`\tau` >= 0 (any sign for ``logit``; a count >= 1 for ``top_k``).
        renormalize: True: the kept weights sum to 1, which is the softmax over the kept logits,
            in value and in gradient. False: they keep the weight they had.

    Returns:
        weights (…, K): 0 where not kept; a row without a valid key is all 0.
        keep_mask (…, K): bool.
    """
    valid = key_mask.expand_as(logits)
    lowest = torch.finfo(logits.dtype).min
    keep = valid
    if rule != "none" and logits.shape[-1]:  # a picture in which nothing was found has no keys
        with torch.no_grad():
            known = logits.detach().masked_fill(~valid, lowest)
            keep = valid & _passes(known, valid, rule, threshold)
    kept_logits = logits.masked_fill(~(keep if renormalize else valid), lowest)
    weights = torch.softmax(kept_logits, dim=-1).masked_fill(~keep, 0.0)
    return weights, keep


def _passes(logits: Tensor, valid: Tensor, rule: str, threshold: float) -> Tensor:
    """Which keys reach the threshold; padding holds the lowest number there is."""
    best = logits.amax(dim=-1, keepdim=True)
    log_threshold = math.log(threshold) if threshold > 0 else -math.inf
    if rule == "top_k":
        count = min(max(int(threshold), 1), logits.shape[-1])
        passes = logits >= logits.topk(count, dim=-1).values[..., -1:]
    elif rule == "prob":
        passes = logits >= logits.logsumexp(dim=-1, keepdim=True) + log_threshold
    elif rule == "logit":
        passes = logits >= threshold
    elif rule == "rel_max":
        passes = logits >= best + log_threshold
    elif rule == "rel_mean":
        count = valid.sum(dim=-1, keepdim=True).clamp(min=1)
        passes = logits >= logits.logsumexp(dim=-1, keepdim=True) - count.log() + log_threshold
    else:
        raise ValueError(f"unknown selection rule {rule!r}; choose from: {', '.join(RULES)}.")
    return passes | (logits == best)
