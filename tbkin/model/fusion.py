"""The transformer that fuses text, regions and graph nodes; each layer selects.

Post-LN layers as in ROSITA's single-stream encoder (arXiv:2108.07073 and its code).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch_geometric.data import Data

from tbkin.graphs.kinds import NUM_KINDS
from tbkin.model.configuration_tbkin import TBKINConfig
from tbkin.model.graph_encoder import GraphLayer
from tbkin.model.selection import block_mask, count_pairs, keeps_all, select, select_learning

SOFTEST, HARDEST = 1.0, 0.05  # temperatures of ``selection_learning=sigmoid``, in units of logits


@dataclass
class Selection:
    """What one attention layer does with its weights; see ``select`` and ``select_learning``."""

    rule: str
    threshold: float
    renormalize: bool
    selectable: Tensor | None = None
    temperature: float = 1.0
    hard: bool = True


DENSE = Selection("none", 0.0, True)


@dataclass
class Attention:
    """What one attention layer did.

    Attributes:
        mixed: (B, L, D), the values, mixed and merged.
        keep: (B, H, L, L) bool, queries by keys; None where nothing was selected.
        gate: (B, H, L, L) in [0, 1], of a learned threshold; None without.
        logits: (B, H, L, L) before the softmax, the bias of the keys added; if asked for.
        weights: (B, H, L, L) after selection, before dropout; if asked for.
    """

    mixed: Tensor
    keep: Tensor | None = None
    gate: Tensor | None = None
    logits: Tensor | None = None
    weights: Tensor | None = None


class SelectiveAttention(nn.Module):
    """Multi-head attention whose weights pass through ``select`` before they mix values.

    Args:
        config: sizes.
        learns: whether each head learns how far its threshold moves.
    """

    def __init__(self, config: TBKINConfig, learns: bool = False):
        super().__init__()
        hidden = config.hidden_size
        self.heads = config.num_attention_heads
        self.query = nn.Linear(hidden, hidden)
        self.key = nn.Linear(hidden, hidden)
        self.value = nn.Linear(hidden, hidden)
        self.merge = nn.Linear(hidden, hidden)
        self.threshold_shift = nn.Parameter(torch.zeros(self.heads)) if learns else None
        self.dropout = config.attention_dropout_prob

    def forward(
        self,
        states: Tensor,
        key_mask: Tensor,
        key_bias: Tensor | None,
        selection: Selection,
        traced: bool = False,
    ) -> Attention:
        """Attend. Without a rule, PyTorch's fused kernel does it.

        Args:
            states: (B, L, D).
            key_mask: (B, L) bool, which positions may be attended to.
            key_bias: (B, L), added to the logits of a key: the log of its relevance. None: 0.
            selection: the rule and its threshold.
            traced: whether logits and weights are wanted.
        """
        split = (*states.shape[:2], self.heads, -1)
        query = self.query(states).view(split).transpose(1, 2)
        key = self.key(states).view(split).transpose(1, 2)
        value = self.value(states).view(split).transpose(1, 2)
        mask = key_mask[:, None, None, :]
        if selection.rule == "none" and not traced:
            attended = Attention(self._fused(query, key, value, mask, key_bias))
        else:
            logits = (query / math.sqrt(query.shape[-1])) @ key.transpose(2, 3)
            if key_bias is not None:
                logits = logits + key_bias[:, None, None, :]
            weights, keep, gate = self._select(logits, mask, selection)
            mixed = F.dropout(weights, self.dropout, self.training).to(value.dtype) @ value
            attended = Attention(mixed, keep, gate)
            if traced:
                attended.logits, attended.weights = logits, weights
        attended.mixed = self.merge(attended.mixed.transpose(1, 2).flatten(2))
        return attended

    def _fused(
        self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor, bias: Tensor | None
    ) -> Tensor:
        if bias is not None:
            lowest = torch.finfo(query.dtype).min
            mask = bias[:, None, None, :].to(query.dtype).masked_fill(~mask, lowest)
        dropout = self.dropout if self.training else 0.0
        return F.scaled_dot_product_attention(query, key, value, mask, dropout)

    def _select(
        self, logits: Tensor, mask: Tensor, chosen: Selection
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Weights, keep mask, and the gate of a learned threshold."""
        settings = (chosen.rule, chosen.threshold)
        if self.threshold_shift is None or chosen.rule == "none":
            return *select(logits, mask, *settings, chosen.renormalize, chosen.selectable), None
        return select_learning(
            logits,
            mask,
            *settings,
            self.threshold_shift[:, None, None],
            chosen.temperature,
            chosen.hard,
            chosen.renormalize,
            chosen.selectable,
        )


class FusionLayer(nn.Module):
    """Attention and feed-forward, each with its residual and LayerNorm after it."""

    def __init__(self, config: TBKINConfig, learns: bool = False):
        super().__init__()
        hidden = config.hidden_size
        self.attention = SelectiveAttention(config, learns)
        self.attention_norm = nn.LayerNorm(hidden, eps=config.layer_norm_eps)
        self.feed_forward = nn.Sequential(
            nn.Linear(hidden, config.intermediate_size),
            nn.GELU(),
            nn.Linear(config.intermediate_size, hidden),
        )
        self.feed_forward_norm = nn.LayerNorm(hidden, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(
        self,
        states: Tensor,
        key_mask: Tensor,
        key_bias: Tensor | None,
        selection: Selection,
        traced: bool = False,
    ) -> tuple[Tensor, Attention]:
        """(B, L, D) -> (B, L, D), and what the attention did."""
        attended = self.attention(states, key_mask, key_bias, selection, traced)
        states = self.attention_norm(states + self.dropout(attended.mixed))
        states = self.feed_forward_norm(states + self.dropout(self.feed_forward(states)))
        return states, attended


class FusionEncoder(nn.Module):
    """Fusion layers, each after a step over the scene graph if there is a graph encoder."""

    def __init__(self, config: TBKINConfig):
        super().__init__()
        count = config.num_hidden_layers
        self.selecting = set(config.selection_layers or range(count))
        self.learning = config.selection_learning
        self.layers = nn.ModuleList(
            FusionLayer(config, self.learning != "none" and number in self.selecting)
            for number in range(count)
        )
        self.graph_layers = nn.ModuleList(
            GraphLayer(config.hidden_size, NUM_KINDS, config.hidden_dropout_prob, config.graph_gate)
            for _ in range(count if config.graph_encoder == "relational" else 0)
        )
        self.blocks, self.phase = config.selection_blocks, config.selection_phase
        self.selection = Selection(
            config.selection_rule, config.selection_threshold, config.selection_renormalize
        )

    def forward(
        self,
        states: Tensor,
        key_mask: Tensor,
        key_bias: Tensor | None,
        graph: Data | None,
        edge_weight: Tensor | None,
        ramp: float,
        sizes: tuple[int, int, int],
        traced: bool = False,
    ) -> tuple[Tensor, list[Attention]]:
        """Fuse.

        Args:
            states: (B, L, D).
            key_mask: (B, L) bool.
            key_bias: (B, L), or None.
            graph: see :class:`~tbkin.model.graph_encoder.GraphLayer`.
            edge_weight: (E,).
            ramp: share of the threshold that is in force, in [0, 1].
            sizes: T, R, V.
            traced: whether each layer's logits and weights are wanted.

        Returns:
            (B, L, D), and what each layer's attention did.
        """
        chosen = self._in_force(ramp, sizes, states.device)
        attentions = []
        for number, layer in enumerate(self.layers):
            if self.graph_layers and graph is not None:
                states = self.graph_layers[number](states, graph, edge_weight)
            selection = chosen if number in self.selecting else DENSE
            states, attention = layer(states, key_mask, key_bias, selection, traced)
            attentions.append(attention)
        return states, attentions

    def _in_force(
        self, ramp: float, sizes: tuple[int, int, int], device: torch.device
    ) -> Selection:
        """The selection of this step: its phase, how far it has ramped up, its blocks."""
        threshold = ramped_threshold(self.selection, ramp)
        idle = ramp <= 0 or self.phase not in ("both", "train" if self.training else "eval")
        if idle or keeps_all(self.selection.rule, threshold, sum(sizes)):
            return DENSE
        selectable = block_mask(self.blocks, sizes)
        return replace(
            self.selection,
            threshold=threshold,
            selectable=None if selectable is None else selectable.to(device),
            temperature=SOFTEST * (HARDEST / SOFTEST) ** ramp if self.learning == "sigmoid" else 1,
            hard=self.learning != "sigmoid" or ramp >= 1 or not self.training,
        )


def ramped_threshold(selection: Selection, ramp: float) -> float:
    """The threshold in force; a count or a logit has no zero to grow from and is not ramped."""
    return selection.threshold * (ramp if selection.rule in ("prob", "rel_max", "rel_mean") else 1)


def kept_pairs(
    attentions: list[Attention],
    heads: int,
    key_mask: Tensor,
    query_mask: Tensor,
    sizes: tuple[int, int, int],
) -> Tensor:
    """How many query-key pairs each layer kept, block by block.

    Args:
        attentions: of each layer.
        heads: H.
        key_mask: (B, L) bool, positions that may be attended to.
        query_mask: (B, L) bool, positions that attend.
        sizes: T, R, V.

    Returns:
        (layers, 5, 2) float32: kept and valid pairs of each block of ``BLOCKS``, over all samples
        and heads.
    """
    # Summed rather than multiplied as matrices: autocast would round a product to eight bits.
    together = (query_mask[:, :, None] & key_mask[:, None, :]).sum(dim=0)
    valid = count_pairs(heads * together.float(), sizes)
    counts = []
    for attention in attentions:
        kept = valid
        if attention.keep is not None:
            asked = attention.keep & query_mask[:, None, :, None]
            asked = asked.view(torch.uint8).flatten(0, 1)  # five times faster to sum than bool
            kept = count_pairs(asked.sum(dim=0, dtype=torch.int32).float(), sizes)
        counts.append(torch.stack([kept, valid], dim=-1))
    return torch.stack(counts)


def kept_share(pairs: Tensor) -> Tensor:
    """(…, 2) numbers kept and valid -> (…,) share in [0, 1]; 1 where nothing was there."""
    kept, valid = pairs.unbind(dim=-1)
    return torch.where(valid > 0, kept / valid.clamp(min=1), 1.0)


def learned_thresholds(layers: nn.ModuleList, selection: Selection) -> Tensor | None:
    """Where each head's threshold stands now.

    Args:
        layers: of the encoder.
        selection: the rule and the threshold that the learning started from.

    Returns:
        (layers, H): the threshold in the rule's own terms; nan in a layer that does not learn. None
        if none does.
    """
    shifts = [layer.attention.threshold_shift for layer in layers]
    known = [shift for shift in shifts if shift is not None]
    if not known:
        return None
    nothing = torch.full_like(known[0], math.nan)
    shift = torch.stack([nothing if one is None else one for one in shifts]).detach()
    if selection.rule == "logit":
        return selection.threshold + shift
    return selection.threshold * shift.exp()


def gate_mean(attentions: list[Attention], key_mask: Tensor, query_mask: Tensor) -> Tensor | None:
    """Mean gate of the learned thresholds over the valid pairs; None without any."""
    gates = [attention.gate for attention in attentions if attention.gate is not None]
    if not gates:
        return None
    valid = query_mask[:, None, :, None] & key_mask[:, None, None, :]
    count = (valid.sum() * gates[0].shape[1]).clamp(min=1)
    return sum((gate * valid).sum() for gate in gates) / (len(gates) * count)


def fused_mask(*masks: Tensor) -> Tensor:
    """Masks of tokens, regions and attribute nodes (B, …) -> (B, L) bool."""
    return torch.cat([mask.bool() for mask in masks], dim=1)
