"""Threshold selection: which weights survive. One pure function for model, report and picture.

Sources: top-k selection is Zhao et al., "Explicit Sparse Transformer" (arXiv:1912.11637), used by
MESAN (Guo & Han, Sensors 2020); a threshold on attention scores is SCAVQAN (Guo & Han, Applied
Intelligence 2022); that TBKIN (Guo et al., PLOS ONE 2025) puts a threshold on attention weights
after the softmax is *our reading* of its abstract. The scale-free rules, the blocks, the guards and
the learned thresholds are *ours*; the sparse rules are those of ``sparse.py``.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

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
    lowest = torch.finfo(logits.dtype).min
    known = logits.masked_fill(~valid, lowest)
    if rule == "none" or not logits.shape[-1]:  # a picture where nothing was found has no keys
        return torch.softmax(known, dim=-1).masked_fill(~valid, 0.0), valid
    if rule in SPARSE:
        return _select_sparsely(known, valid, rule, selectable)
    with torch.no_grad():
        keep = margins(known, valid, rule, threshold) >= 0
        keep |= known == known.amax(dim=-1, keepdim=True)
        if selectable is not None:
            keep |= ~selectable
        keep &= valid
    kept_logits = logits.masked_fill(~keep, lowest) if renormalize else known
    return torch.softmax(kept_logits, dim=-1).masked_fill(~keep, 0.0), keep


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

    With the margin :math:`m_{ij}` of :func:`margins`, the shift :math:`s` and the temperature
    :math:`T`, key :math:`j` passes a gate :math:`g_{ij} = \sigma((m_{ij} - s) / T)`, and the weights
    are :math:`A_{ij} g_{ij}`, divided by their sum. ``hard`` rounds the gate to 0 or 1 and keeps
    its gradient (straight-through; Bengio et al., arXiv:1308.3432); then the values are those of
    ``select`` at the threshold :math:`\tau e^s`. As in ``select`` no gradient reaches the logits
    through the gate: it goes to the shift alone.

    Args:
        logits, key_mask, rule, threshold, renormalize, selectable: as in ``select``; ``rule`` is
            one of ``LEARNABLE_RULES``.
        shift: broadcastable to ``logits``, for example (H, 1, 1); the learned log of the factor by
            which the threshold grows (``logit``: what is added to it).
        temperature: :math:`T` > 0, in units of logits; smaller is harder.
        hard: whether the gate is 0 or 1.

    Returns:
        weights and keep mask as in ``select`` (kept: a gate of at least 1/2), and the gate (…, K)
        in [0, 1], 0 on padding; its mean is what ``Sparsity`` makes small.
    """
    valid = key_mask.expand_as(logits)
    known = logits.masked_fill(~valid, torch.finfo(logits.dtype).min)
    with torch.no_grad():
        margin = margins(known, valid, rule, threshold)
        held = known == known.amax(dim=-1, keepdim=True)
        if selectable is not None:
            held = held | ~selectable
    # Far margins are bounded, so that padding's infinite ones give no 0 * inf in the gradient.
    soft = torch.sigmoid((margin.clamp(-1e4, 1e4) - shift) / temperature)
    keep = ((soft >= 0.5) | held) & valid
    soft = torch.where(held, 1.0, soft) * valid
    gate = keep + soft - soft.detach() if hard else soft
    weights = torch.softmax(known, dim=-1) * gate
    if renormalize:
        weights = weights / weights.sum(dim=-1, keepdim=True).clamp(min=1e-12)
    return weights, keep, soft


def margins(logits: Tensor, valid: Tensor, rule: str, threshold: float) -> Tensor:
    """How far each logit lies above its row's threshold; kept where >= 0.

    Args:
        logits: (…, K); padding holds the lowest number there is.
        valid: (…, K) bool.
        rule: a rule with a threshold.
        threshold: as in ``select``.
    """
    if rule == "logit":
        return logits - threshold
    if rule == "top_k":
        count = min(max(int(threshold), 1), logits.shape[-1])
        return logits - logits.topk(count, dim=-1).values[..., -1:]
    log_threshold = math.log(threshold) if threshold > 0 else -math.inf
    if rule == "rel_max":
        reference = logits.amax(dim=-1, keepdim=True)
    elif rule == "prob":
        reference = logits.logsumexp(dim=-1, keepdim=True)
    elif rule == "rel_mean":
        count = valid.sum(dim=-1, keepdim=True).clamp(min=1)
        reference = logits.logsumexp(dim=-1, keepdim=True) - count.log()
    else:
        raise ValueError(f"unknown selection rule {rule!r}; choose from: {', '.join(RULES)}.")
    return logits - (reference + log_threshold)


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
    """Weights and keep mask of a sparse rule; half precision is worked out in float32."""
    exact = logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits
    sparse = SPARSE[rule]
    if selectable is None:
        weights = sparse(exact) * valid
        keep = weights > 0
    else:
        chosen = selectable & valid
        dense = torch.softmax(exact, dim=-1) * valid
        share = (dense * chosen).sum(dim=-1, keepdim=True)
        lowest = torch.finfo(exact.dtype).min
        among = sparse(exact.masked_fill(~chosen, lowest)) * chosen
        weights = torch.where(chosen, share * among, dense)
        keep = torch.where(chosen, among > 0, valid)
    return weights.to(logits.dtype), keep
