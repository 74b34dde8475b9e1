"""Threshold selection at the knowledge site (*ours*; the toolkit's brief, no paper's equation).

Two thresholds, one function. *Credibility*: a region whose features do not bear out what the
detector said of it never reaches the fusion layers, and neither do the edges that rest on it.
*Relevance*: every other region, attribute node and edge gets a relevance to the text; those below
the threshold do not reach the fusion layers either, those above count in proportion to it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from tbkin.graphs.kinds import CODES, NUM_KINDS
from tbkin.model.configuration_tbkin import TBKINConfig
from tbkin.model.fusion import Selection, ramped_threshold
from tbkin.model.selection import select


@dataclass
class Knowledge:
    """What survives.

    Attributes:
        node_relevance: (B, L) in [0, 1]; 1 for tokens and for the best of the others, 0 for what is
            not credible.
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
    with every relevance at 1, so that nothing is lost before something is learned. What is not
    credible (:func:`credibility`, selected by ``select`` too) takes no part in any of it.
    """

    def __init__(self, config: TBKINConfig):
        super().__init__()
        hidden = config.hidden_size
        self.credible = Selection(config.credibility_rule, config.credibility_threshold, True)
        self.weighs = config.knowledge_relevance
        if not self.weighs:
            return
        self.query = nn.Linear(hidden, hidden, bias=False)
        self.key = nn.Linear(hidden, hidden, bias=False)
        self.edge_kind = nn.Embedding(NUM_KINDS // 2, hidden)
        # Every relevance is equal at first. (transformers 5 passes over modules of other packages
        # that own no parameter themselves, so their children's start is said on the children.)
        self.key.starts_at_zero = self.edge_kind.starts_at_zero = True
        self.scale = 1 / math.sqrt(hidden)
        self.selection = Selection(config.knowledge_rule, config.knowledge_threshold, True)

    def forward(
        self,
        states: Tensor,
        text_mask: Tensor,
        node_mask: Tensor,
        region_credibility: Tensor | None,
        graph: Data,
        ramp: float,
    ) -> Knowledge:
        """Choose.

        Args:
            states: (B, L, D), before fusion; the first T are tokens.
            text_mask: (B, T) bool.
            node_mask: (B, L - T) bool, regions and attribute nodes.
            region_credibility: (B, R) in [0, 1]; None: every region is believed.
            graph: the batch's graph.
            ramp: share of the thresholds in force, in [0, 1].
        """
        there = node_mask
        if region_credibility is not None and self.credible.rule != "none" and ramp > 0:
            node_mask = self._believe(
                node_mask, region_credibility, graph, text_mask.shape[1], ramp
            )
        if self.weighs:
            relevance, keep, asked = self._relevance(states, text_mask, node_mask, ramp)
        else:
            relevance, keep, asked = node_mask.float(), node_mask, None
        node_relevance = torch.cat([text_mask.to(relevance.dtype), relevance], dim=1)
        node_keep = torch.cat([text_mask, keep], dim=1)

        ends = node_keep.flatten()[graph.position[graph.edge_index]].all(dim=0)
        if asked is None:
            edge_relevance, edge_keep = ends.to(relevance.dtype), ends
        else:
            edge_relevance, edge_keep = self._edges(node_relevance, ends, asked, graph, ramp)
        kept = torch.stack([share(keep, there), share(edge_keep, graph.edge_seen)])
        return Knowledge(node_relevance, node_keep, edge_relevance, edge_keep, kept)

    def _believe(
        self, node_mask: Tensor, region_credibility: Tensor, graph: Data, tokens: int, ramp: float
    ) -> Tensor:
        """(B, L - T): the credible regions, and the attribute nodes that one of them has."""
        regions = region_credibility.shape[1]
        threshold = ramped_threshold(self.credible, ramp)
        logits = region_credibility.clamp(min=1e-6).log()
        _, keep = select(logits, node_mask[:, :regions], self.credible.rule, threshold)
        believed = torch.cat([keep, torch.zeros_like(node_mask[:, regions:])], dim=1)
        flat = nn.functional.pad(believed, (tokens, 0)).flatten()
        source, target = graph.position[graph.edge_index]
        has = (graph.edge_kind == CODES["region is attribute"]) & flat[source]
        had = torch.zeros_like(flat).index_fill(0, target[has], True)
        return believed | had.view(len(node_mask), -1)[:, tokens:]

    def _relevance(
        self, states: Tensor, text_mask: Tensor, node_mask: Tensor, ramp: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Relevance and keep mask (B, L - T), and what the text asks edges for (B, kinds)."""
        tokens = text_mask.shape[1]
        query = self.query(states[:, :tokens]) * text_mask[..., None]
        fit = self.key(states[:, tokens:]) @ query.transpose(1, 2) * self.scale
        fit = fit.float().masked_fill(~text_mask[:, None, :], -math.inf)
        relevance, keep = self._select(fit.logsumexp(dim=-1), node_mask, ramp)
        mean_query = query.sum(dim=1) / text_mask.sum(dim=1, keepdim=True).clamp(min=1)
        asked = (mean_query @ self.edge_kind.weight.T).float() * self.scale
        return relevance, keep, asked

    def _select(self, logits: Tensor, mask: Tensor, ramp: float) -> tuple[Tensor, Tensor]:
        """Relevance in [0, 1] and keep mask, row by row."""
        rule = self.selection.rule if ramp > 0 else "none"
        weights, keep = select(logits, mask, rule, ramped_threshold(self.selection, ramp))
        best = weights.amax(dim=-1, keepdim=True) if weights.shape[-1] else weights
        return weights / best.clamp(min=1e-12), keep

    def _edges(
        self, relevance: Tensor, ends: Tensor, asked: Tensor, graph: Data, ramp: float
    ) -> tuple[Tensor, Tensor]:
        """The same for edges; edges between words are the text itself and always stay."""
        source, target = graph.position[graph.edge_index]
        flat = relevance.flatten().clamp(min=1e-6).log()
        place = graph.edge_batch * asked.shape[1] + graph.edge_kind % asked.shape[1]
        logits = flat.take(source) + flat.take(target) + asked.take(place)

        rows, slots = relevance.shape[0], int(graph.edge_slots)
        padded = logits.new_zeros(rows, slots)
        mask = torch.zeros(rows, slots, dtype=torch.bool, device=logits.device)
        place = (graph.edge_batch, graph.edge_slot)
        padded, mask = padded.index_put(place, logits), mask.index_put(place, graph.edge_seen)
        weights, keep = self._select(padded, mask, ramp)

        edge_keep = torch.where(graph.edge_seen, keep[place] & ends, ends)
        edge_relevance = torch.where(graph.edge_seen, weights[place], torch.ones_like(logits))
        return edge_relevance * edge_keep, edge_keep


def share(kept: Tensor, there: Tensor) -> Tensor:
    """Share of what is there that was kept; 1 where nothing is there, for nothing was dropped."""
    count = there.sum()
    return torch.where(count > 0, (kept & there).sum() / count.clamp(min=1), 1.0)


def credibility(word_logits: Tensor, label_ids: Tensor) -> Tensor:
    r"""How far a region's features bear out what the detector said of it (*ours*).

    .. math::
        c_j = \frac{1}{|S_j|} \sum_{w \in S_j} \sigma(z_{jw})

    with :math:`S_j` the words said and :math:`z_{jw}` the logit of word :math:`w` as the model
    reads it off the features (``read_labels``). The objective ``region_words`` makes that a
    calibrated probability: a box on background, whatever it is called, gets the words' base rates;
    a thing of which one word of three is wrong still gets about two thirds. No gradient passes, so
    that the answers cannot make the judge partial.

    Args:
        word_logits: (B, R, vocabulary).
        label_ids: (B, R, K) token ids; 0 is padding.

    Returns:
        (B, R) in [0, 1]; 1 for a region of which nothing was said.
    """
    said = label_ids > 0
    read = word_logits.detach().gather(-1, label_ids).float().sigmoid() * said
    count = said.sum(dim=-1)
    return torch.where(count > 0, read.sum(dim=-1) / count.clamp(min=1), 1.0)
