"""Threshold selection at the knowledge site (*ours*; the toolkit's brief, no paper's equation).

Every region, attribute node and edge gets a relevance to the text; those below the threshold never
reach the fusion layers, those above count in proportion to their relevance.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from tbkin.graphs.kinds import NUM_KINDS
from tbkin.model.configuration_tbkin import TBKINConfig
from tbkin.model.fusion import Selection, ramped_threshold
from tbkin.model.selection import select


@dataclass
class Knowledge:
    """What survives.

    Attributes:
        node_relevance: (B, L) in [0, 1]; 1 for tokens and for the best of the others.
        node_keep: (B, L) bool; tokens are always kept, padding never.
        edge_relevance: (E,) in [0, 1]; 0 where not kept.
        edge_keep: (E,) bool.
        kept: (2,), share of the picture's nodes and of its edges that survive.
    """

    node_relevance: Tensor
    node_keep: Tensor
    edge_relevance: Tensor
    edge_keep: Tensor
    kept: Tensor


class KnowledgeSelection(nn.Module):
    r"""Relevance of picture nodes and edges to a text, and the choice among them.

    With states :math:`x_j` of nodes and :math:`x_t` of tokens, and an embedding :math:`u_k` of edge
    kinds, the logits are

    .. math::
        \ell_j = \log\!\sum_t \exp \frac{(K x_j)^\top (Q x_t)}{\sqrt D} , \qquad
        \ell_e = \log r_i + \log r_j + \frac{u_k^\top \bar q}{\sqrt D}

    ``select`` turns them into weights :math:`a`; the relevance is :math:`r = a / \max a`. Starts
    with every relevance at 1, so that nothing is lost before something is learned.
    """

    def __init__(self, config: TBKINConfig):
        super().__init__()
        hidden = config.hidden_size
        self.query = nn.Linear(hidden, hidden, bias=False)
        self.key = nn.Linear(hidden, hidden, bias=False)
        self.edge_kind = nn.Embedding(NUM_KINDS // 2, hidden)
        # Every relevance is equal at first. (transformers 5 passes over modules of other packages
        # that own no parameter themselves, so their children's start is said on the children.)
        self.key.starts_at_zero = self.edge_kind.starts_at_zero = True
        self.scale = 1 / math.sqrt(hidden)
        self.selection = Selection(config.knowledge_rule, config.knowledge_threshold, True)

    def forward(
        self, states: Tensor, text_mask: Tensor, node_mask: Tensor, graph: Data, ramp: float
    ) -> Knowledge:
        """Choose.

        Args:
            states: (B, L, D), before fusion; the first T are tokens.
            text_mask: (B, T) bool.
            node_mask: (B, L - T) bool, regions and attribute nodes.
            graph: the batch's graph.
            ramp: share of the threshold in force, in [0, 1].
        """
        tokens = text_mask.shape[1]
        query = self.query(states[:, :tokens]) * text_mask[..., None]
        fit = self.key(states[:, tokens:]) @ query.transpose(1, 2) * self.scale
        fit = fit.float().masked_fill(~text_mask[:, None, :], -math.inf)
        relevance, keep = self._select(fit.logsumexp(dim=-1), node_mask, ramp)
        node_relevance = torch.cat([text_mask.to(relevance.dtype), relevance], dim=1)
        node_keep = torch.cat([text_mask, keep], dim=1)

        mean_query = query.sum(dim=1) / text_mask.sum(dim=1, keepdim=True).clamp(min=1)
        edge_relevance, edge_keep = self._edges(node_relevance, node_keep, mean_query, graph, ramp)
        kept = torch.stack(
            [
                share(keep, node_mask),
                share(edge_keep, graph.edge_seen),
            ]
        )
        return Knowledge(node_relevance, node_keep, edge_relevance, edge_keep, kept)

    def _select(self, logits: Tensor, mask: Tensor, ramp: float) -> tuple[Tensor, Tensor]:
        """Relevance in [0, 1] and keep mask, row by row."""
        rule = self.selection.rule if ramp > 0 else "none"
        weights, keep = select(logits, mask, rule, ramped_threshold(self.selection, ramp))
        best = weights.amax(dim=-1, keepdim=True) if weights.shape[-1] else weights
        return weights / best.clamp(min=1e-12), keep

    def _edges(
        self, relevance: Tensor, node_keep: Tensor, mean_query: Tensor, graph: Data, ramp: float
    ) -> tuple[Tensor, Tensor]:
        """The same for edges; edges between words are the text itself and always stay."""
        source, target = graph.position[graph.edge_index]
        flat = relevance.flatten().clamp(min=1e-6).log()
        asked = (mean_query @ self.edge_kind.weight.T).float() * self.scale  # (B, kinds)
        place = graph.edge_batch * asked.shape[1] + graph.edge_kind % asked.shape[1]
        logits = flat.take(source) + flat.take(target) + asked.take(place)

        rows, slots = relevance.shape[0], int(graph.edge_slots)
        padded = logits.new_zeros(rows, slots)
        mask = torch.zeros(rows, slots, dtype=torch.bool, device=logits.device)
        place = (graph.edge_batch, graph.edge_slot)
        padded, mask = padded.index_put(place, logits), mask.index_put(place, graph.edge_seen)
        weights, keep = self._select(padded, mask, ramp)

        ends = node_keep.flatten()[source] & node_keep.flatten()[target]
        edge_keep = torch.where(graph.edge_seen, keep[place] & ends, ends)
        edge_relevance = torch.where(graph.edge_seen, weights[place], torch.ones_like(logits))
        return edge_relevance * edge_keep, edge_keep


def share(kept: Tensor, there: Tensor) -> Tensor:
    """Share of what is there that was kept; 1 where nothing is there, for nothing was dropped."""
    count = there.sum()
    return torch.where(count > 0, (kept & there).sum() / count.clamp(min=1), 1.0)
