"""Threshold selection: which weights survive. One pure function for model, report and picture.

Sources: top-k selection is Zhao et al., "Explicit Sparse Transformer" (arXiv:1912.11637), used by
MESAN (Guo & Han, Sensors 2020); a threshold on attention scores is SCAVQAN (Guo & Han, Applied
Intelligence 2022); that TBKIN (Guo et al., PLOS ONE 2025) puts a threshold on attention weights
after the softmax is *our reading* of its abstract. The scale-free rules, the blocks, the guards and
the learned thresholds are *ours*; the sparse rules are those of ``sparse.py``.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from tbkin.model.sparse import Entmax15, Sparsemax

SPARSE = {"sparsemax": Sparsemax.apply, "entmax15": Entmax15.apply}
LEARNABLE_RULES = ("prob", "logit", "rel_max", "rel_mean")
RULES = ("none", "top_k", *LEARNABLE_RULES, *SPARSE)
# Which attends to which: query-key. Whatever touches an attribute node is "graph".
BLOCKS = ("text-text", "text-image", "image-text", "image-image", "graph")


def select(
    logits: Tensor,
    key_mask: Tensor,
    rule: str = "none",
    threshold: float = 0.0,
    renormalize: bool = True,
    selectable: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    r"""Softmax over the keys, without those that fall below the threshold.

    With :math:`P` the logits, :math:`A = \mathrm{softmax}(P)` over the valid keys, :math:`\tau` the
    threshold and :math:`n` the number of valid keys, key :math:`j` of row :math:`i` is kept when

    ============= ====================================================================
    ``none``      always
    ``top_k``     :math:`P_{ij}` is among the row's :math:`\tau` largest (all ties are kept)
    ``prob``      :math:`A_{ij} \ge \tau`, compared in log space
    ``logit``     :math:`P_{ij} \ge \tau`
    ``rel_max``   :math:`A_{ij} \ge \tau \max_j A_{ij}`
    ``rel_mean``  :math:`A_{ij} \ge \tau / n`
    ``sparsemax`` its weight is above 0; the weights are sparsemax's, :math:`\tau` is not used
    ``entmax15``  likewise
    ============= ====================================================================

    The row's largest valid key is always kept, padding never. The mask is computed without
    gradient.

    Args:
        logits: (…, K), any number.
        key_mask: bool, broadcastable to ``logits``; True where a key is real.
        rule: one of ``RULES``.
        threshold: :math:`\tau` >= 0 (any sign for ``logit``; a count >= 1 for ``top_k``).
        renormalize: True: the kept weights sum to 1, which is the softmax over the kept logits,
            in value and in gradient. False: they keep the weight they had (the sparse rules sum to
            1 by themselves).
        selectable: bool, broadcastable to ``logits``; only here a key can be dropped. The threshold
            is that of the whole row. Under a sparse rule what may be dropped shares the weight that
            softmax gives it together. None: everywhere.

    Returns:
        weights (…, K): 0 where not kept; a row without a valid key is all 0.
        keep_mask (…, K): bool.
    """
    valid = key_mask.expand_as(logits)
    exact = logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits
    known = exact.masked_fill(~valid, torch.finfo(exact.dtype).min)
    if not logits.shape[-1] or keeps_all(rule, threshold, logits.shape[-1]):
        return (torch.softmax(known, dim=-1) * valid).to(logits.dtype), valid
    if rule in SPARSE:
        weights, keep = _select_sparsely(known, valid, rule, selectable)
    else:
        weights, keep = _KeptSoftmax.apply(known, valid, rule, threshold, renormalize, selectable)
    return weights.to(logits.dtype), keep


def keeps_all(rule: str, threshold: float, keys: int) -> bool:
    """Whether a rule cannot drop any of so many keys."""
    if rule == "top_k":
        return threshold >= keys
    return rule == "none" or (rule in ("prob", "rel_max", "rel_mean") and threshold == 0)


def select_learning(
    logits: Tensor,
    key_mask: Tensor,
    rule: str,
    threshold: float,
    shift: Tensor,
    temperature: float,
    hard: bool,
    renormalize: bool = True,
    selectable: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    r"""``select`` with a threshold that learns (*ours*).

    With the margin :math:`m_{ij}` by which a logit lies above its row's threshold, the shift
    :math:`s` and the temperature :math:`T`, key :math:`j` passes a gate
    :math:`g_{ij} = \sigma((m_{ij} - s) / T)`; the weights are :math:`A_{ij} g_{ij}`, divided by
    their sum. ``hard`` rounds the gate to 0 or 1 and keeps its gradient (straight-through; Bengio
    et al., arXiv:1308.3432); then the values are those of ``select`` at the threshold
    :math:`\tau e^s`. As in ``select`` no gradient reaches the logits through the gate: it goes to
    the shift alone.

    Args:
        logits: as in ``select``.
        key_mask: as in ``select``.
        rule: one of ``LEARNABLE_RULES``.
        threshold: :math:`\tau` > 0 (any number for ``logit``), where the learning starts from.
        shift: broadcastable to ``logits``, for example (H, 1, 1); the learned log of the factor by
            which the threshold grows (``logit``: what is added to it).
        temperature: :math:`T` > 0, in units of logits; smaller is harder.
        hard: whether the gate is 0 or 1.
        renormalize: as in ``select``.
        selectable: as in ``select``.

    Returns:
        weights and keep mask as in ``select`` (kept: a gate of at least 1/2), and the gate (…, K)
        in [0, 1], 0 on padding; its mean is what the objective ``sparsity`` makes small.
    """
    valid = key_mask.expand_as(logits)
    exact = logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits
    known = exact.masked_fill(~valid, torch.finfo(exact.dtype).min)
    with torch.no_grad():
        best = known.amax(dim=-1, keepdim=True)
        total = (known - best).exp().sum(dim=-1, keepdim=True)
        least = _row_threshold(known, valid, best, total, rule, threshold)
        # Far margins are bounded, so that padding gives no 0 * inf in the gradient.
        margin = (known - least).clamp(-1e4, 1e4)
        held = known == best
        if selectable is not None:
            held = held | ~selectable
    soft = torch.sigmoid((margin - shift) / temperature)
    keep = ((soft >= 0.5) | held) & valid
    soft = torch.where(held, 1.0, soft) * valid
    gate = keep + soft - soft.detach() if hard else soft
    weights = torch.softmax(known, dim=-1) * gate
    if renormalize:
        weights = weights / weights.sum(dim=-1, keepdim=True).clamp(min=1e-12)
    return weights.to(logits.dtype), keep, soft


class _KeptSoftmax(torch.autograd.Function):
    """Softmax over the keys that reach the threshold, and which they are.

    A function of its own, because the mask is a constant to the gradient: what remains is the
    gradient of a softmax, one pass over the weights. Weights are multiplied by the mask rather than
    filled where it is false, which on a CPU is ten times faster.
    """

    @staticmethod
    def forward(
        ctx: Any,
        logits: Tensor,
        valid: Tensor,
        rule: str,
        threshold: float,
        renormalize: bool,
        selectable: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        """``logits`` (…, K) hold the lowest number on padding; see ``select``."""
        best = logits.amax(dim=-1, keepdim=True)
        weights = (logits - best).exp_()
        total = weights.sum(dim=-1, keepdim=True)
        least = _row_threshold(logits, valid, best, total, rule, threshold)
        keep = logits >= torch.minimum(least, best)
        if selectable is not None:
            keep |= ~selectable
        keep &= valid
        if renormalize:
            weights = weights * keep
            total = weights.sum(dim=-1, keepdim=True)
        weights /= total.clamp(min=torch.finfo(weights.dtype).tiny)  # 0: a row without a valid key
        dense, weights = weights, weights if renormalize else weights * keep
        ctx.renormalize = renormalize
        ctx.save_for_backward(*((weights,) if renormalize else (dense, keep)))
        ctx.mark_non_differentiable(keep)
        return weights, keep

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        """Softmax's gradient, over the kept logits or over all of them."""
        if ctx.renormalize:
            (weights,) = ctx.saved_tensors
        else:
            weights, keep = ctx.saved_tensors
            gradient = gradient * keep
        inner = torch._softmax_backward_data(gradient, weights, -1, weights.dtype)
        return inner, None, None, None, None, None


def _row_threshold(
    logits: Tensor, valid: Tensor, best: Tensor, total: Tensor, rule: str, threshold: float
) -> Tensor:
    """(…, 1), the logit at which a row's keys begin to be kept.

    Args:
        logits: (…, K); padding holds the lowest number there is.
        valid: (…, K) bool.
        best: (…, 1), the largest logit.
        total: (…, 1), the sum of ``exp(logits - best)``.
        rule: a rule with a threshold.
        threshold: as in ``select``.
    """
    if rule == "logit":
        return torch.full_like(best, threshold)
    if rule == "top_k":
        count = min(max(int(threshold), 1), logits.shape[-1])
        return logits.topk(count, dim=-1).values[..., -1:]
    log_threshold = math.log(threshold) if threshold > 0 else -math.inf
    if rule == "rel_max":
        return best + log_threshold
    if rule == "prob":
        return best + total.log() + log_threshold
    if rule == "rel_mean":
        count = valid.sum(dim=-1, keepdim=True).clamp(min=1)
        return best + (total / count).log() + log_threshold
    raise ValueError(f"unknown selection rule {rule!r}; choose from: {', '.join(RULES)}.")


def block_mask(blocks: list[str] | None, sizes: tuple[int, int, int]) -> Tensor | None:
    """Where weights may be dropped.

    Args:
        blocks: some of ``BLOCKS``; empty or None: all.
        sizes: T, R, V; positions are tokens, regions, attribute nodes in this order.

    Returns:
        (L, L) bool, queries by keys; None where all blocks are meant.
    """
    if not blocks or set(blocks) == set(BLOCKS):
        return None
    chosen = [block in blocks for block in BLOCKS]
    return torch.tensor(chosen)[block_numbers(sizes)]


def block_numbers(sizes: tuple[int, int, int]) -> Tensor:
    """(L, L), the place in ``BLOCKS`` of every query-key pair; ``sizes`` are T, R, V."""
    tokens, regions, _ = sizes
    kind = torch.full((sum(sizes),), 2)
    kind[:tokens], kind[tokens : tokens + regions] = 0, 1
    table = torch.tensor([[0, 1, 4], [2, 3, 4], [4, 4, 4]])
    return table[kind[:, None], kind[None, :]]


def count_pairs(pairs: Tensor, sizes: tuple[int, int, int]) -> Tensor:
    """How many query-key pairs lie in each block.

    Args:
        pairs: (L, L), numbers of pairs (over samples and heads).
        sizes: T, R, V.

    Returns:
        (5,) in the order of ``BLOCKS``, of the type of ``pairs``.
    """
    tokens, seen = sizes[0], sizes[0] + sizes[1]
    parts = [
        pairs[:tokens, :tokens].sum(),
        pairs[:tokens, tokens:seen].sum(),
        pairs[tokens:seen, :tokens].sum(),
        pairs[tokens:seen, tokens:seen].sum(),
    ]
    return torch.stack([*parts, pairs.sum() - sum(parts)])


def _select_sparsely(
    logits: Tensor, valid: Tensor, rule: str, selectable: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Weights and keep mask of a sparse rule."""
    sparse = SPARSE[rule]
    if selectable is None:
        weights = sparse(logits) * valid
        return weights, weights > 0
    chosen = selectable & valid
    dense = torch.softmax(logits, dim=-1) * valid
    share = (dense * chosen).sum(dim=-1, keepdim=True)
    among = sparse(logits.masked_fill(~chosen, torch.finfo(logits.dtype).min)) * chosen
    return torch.where(chosen, share * among, dense), torch.where(chosen, among > 0, valid)
