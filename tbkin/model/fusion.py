"""The transformer that fuses text, regions and graph nodes; each layer selects.

Post-LN layers as in ROSITA's single-stream encoder (arXiv:2108.07073 and its code).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch_geometric.data import Data

from tbkin.graphs.kinds import NUM_KINDS
from tbkin.model.configuration_tbkin import TBKINConfig
from tbkin.model.graph_encoder import GraphLayer
from tbkin.model.selection import select


@dataclass
class Selection:
    """What one attention layer does with its weights; see ``select``."""

    rule: str
    threshold: float
    renormalize: bool


class SelectiveAttention(nn.Module):
    """Multi-head attention whose weights pass through ``select`` before they mix values."""

    def __init__(self, config: TBKINConfig):
        super().__init__()
        hidden = config.hidden_size
        self.heads = config.num_attention_heads
        self.query = nn.Linear(hidden, hidden)
        self.key = nn.Linear(hidden, hidden)
        self.value = nn.Linear(hidden, hidden)
        self.merge = nn.Linear(hidden, hidden)
        self.dropout = config.attention_dropout_prob

    def forward(
        self, states: Tensor, key_mask: Tensor, key_bias: Tensor, selection: Selection
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Attend.

        Args:
            states: (B, L, D).
            key_mask: (B, L) bool, which positions may be attended to.
            key_bias: (B, L), added to the logits of a key: the log of its relevance.
            selection: the rule and its threshold.

        Returns:
            mixed values (B, L, D); weights (B, H, L, L) before dropout; keep mask (B, H, L, L).
        """
        split = (*states.shape[:2], self.heads, -1)
        query = self.query(states).view(split).transpose(1, 2)
        key = self.key(states).view(split).transpose(1, 2)
        value = self.value(states).view(split).transpose(1, 2)
        logits = query @ key.transpose(2, 3) / math.sqrt(query.shape[-1])
        logits = logits + key_bias[:, None, None, :]
        weights, keep = select(
            logits,
            key_mask[:, None, None, :],
            selection.rule,
            selection.threshold,
            selection.renormalize,
        )
        mixed = F.dropout(weights, self.dropout, self.training).to(value.dtype) @ value
        return self.merge(mixed.transpose(1, 2).flatten(2)), weights, keep


class FusionLayer(nn.Module):
    """Attention and feed-forward, each with its residual and LayerNorm after it."""

    def __init__(self, config: TBKINConfig):
        super().__init__()
        hidden = config.hidden_size
        self.attention = SelectiveAttention(config)
        self.attention_norm = nn.LayerNorm(hidden, eps=config.layer_norm_eps)
        self.feed_forward = nn.Sequential(
            nn.Linear(hidden, config.intermediate_size),
            nn.GELU(),
            nn.Linear(config.intermediate_size, hidden),
        )
        self.feed_forward_norm = nn.LayerNorm(hidden, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(
        self, states: Tensor, key_mask: Tensor, key_bias: Tensor, selection: Selection
    ) -> tuple[Tensor, Tensor, Tensor]:
        """(B, L, D) -> (B, L, D), and the attention's weights and keep mask."""
        mixed, weights, keep = self.attention(states, key_mask, key_bias, selection)
        states = self.attention_norm(states + self.dropout(mixed))
        states = self.feed_forward_norm(states + self.dropout(self.feed_forward(states)))
        return states, weights, keep


class FusionEncoder(nn.Module):
    """Fusion layers, each after a step over the scene graph if there is a graph encoder."""

    def __init__(self, config: TBKINConfig):
        super().__init__()
        count = config.num_hidden_layers
        self.layers = nn.ModuleList(FusionLayer(config) for _ in range(count))
        self.graph_layers = nn.ModuleList(
            GraphLayer(config.hidden_size, NUM_KINDS, config.hidden_dropout_prob, config.graph_gate)
            for _ in range(count if config.graph_encoder == "relational" else 0)
        )
        self.selecting = set(config.selection_layers or range(count))
        self.selection = Selection(
            config.selection_rule, config.selection_threshold, config.selection_renormalize
        )

    def forward(
        self,
        states: Tensor,
        key_mask: Tensor,
        key_bias: Tensor,
        graph: Data | None,
        edge_weight: Tensor | None,
        ramp: float,
    ) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        """Fuse.

        Args:
            states: (B, L, D).
            key_mask: (B, L) bool.
            key_bias: (B, L).
            graph: see :class:`~tbkin.model.graph_encoder.GraphLayer`.
            edge_weight: (E,).
            ramp: share of the threshold that is in force, in [0, 1].

        Returns:
            (B, L, D), and for each layer the weights and keep masks (B, H, L, L).
        """
        dense = Selection("none", 0.0, True)
        ramped = Selection(
            self.selection.rule, ramped_threshold(self.selection, ramp), self.selection.renormalize
        )
        all_weights, all_keeps = [], []
        for number, layer in enumerate(self.layers):
            if self.graph_layers and graph is not None:
                states = self.graph_layers[number](states, graph, edge_weight)
            chosen = ramped if number in self.selecting and ramp > 0 else dense
            states, weights, keep = layer(states, key_mask, key_bias, chosen)
            all_weights.append(weights)
            all_keeps.append(keep)
        return states, all_weights, all_keeps


def ramped_threshold(selection: Selection, ramp: float) -> float:
    """The threshold in force; a count or a logit has no zero to grow from and is not ramped."""
    return selection.threshold * (ramp if selection.rule in ("prob", "rel_max", "rel_mean") else 1)


def kept_share(keep: Tensor, key_mask: Tensor, query_mask: Tensor) -> Tensor:
    """Share of the valid query-key pairs that survived.

    Args:
        keep: (B, H, L, L) bool.
        key_mask: (B, L) bool, positions that may be attended to.
        query_mask: (B, L) bool, positions that attend.

    Returns:
        Scalar in [0, 1].
    """
    valid = query_mask[:, None, :, None] & key_mask[:, None, None, :]
    pairs = (valid.sum() * keep.shape[1]).clamp(min=1)
    return (keep & valid).sum() / pairs


def fused_mask(*masks: Tensor) -> Tensor:
    """Masks of tokens, regions and attribute nodes (B, …) -> (B, L) bool."""
    return torch.cat([mask.bool() for mask in masks], dim=1)
