"""Message passing over the unified graph, one weight matrix an edge kind.

R-GCN (Schlichtkrull et al., arXiv:1703.06103, equation 2) with weighted edges, summed rather than
averaged messages so that counts survive, and a gate around it (*ours*).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch_geometric.data import Data
from torch_geometric.nn import MessagePassing


class RelationalConvolution(MessagePassing):
    r"""Messages that know the kind of their edge.

    .. math::
        m_i = \sum_{(j, k, w) \to i} w \, W_k h_j

    Args:
        hidden_size: D.
        num_kinds: number of edge kinds, inverses counted.
    """

    def __init__(self, hidden_size: int, num_kinds: int):
        super().__init__(aggr="sum")
        self.weight = nn.Parameter(torch.empty(num_kinds, hidden_size, hidden_size))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Glorot start, a matrix at a time."""
        nn.init.normal_(self.weight, std=self.weight.shape[-1] ** -0.5)

    def forward(
        self, states: Tensor, edge_index: Tensor, kind_counts: list[int], edge_weight: Tensor
    ) -> Tensor:
        """Sum the messages that arrive at each node.

        Args:
            states: (N, D).
            edge_index: (2, E) source and target, sorted by kind.
            kind_counts: how many edges there are of each kind; sums to E.
            edge_weight: (E,) in [0, 1].

        Returns:
            (N, D); 0 for a node that no edge reaches.
        """
        return self.propagate(
            edge_index, states=states, kind_counts=kind_counts, edge_weight=edge_weight
        )

    def message(self, states_j: Tensor, kind_counts: list[int], edge_weight: Tensor) -> Tensor:
        """(E, D): each source's state through the matrix of its edge's kind."""
        chunks = states_j.split(kind_counts)
        moved = [chunk @ self.weight[kind] for kind, chunk in enumerate(chunks) if len(chunk)]
        if not moved:
            return states_j
        return torch.cat(moved) * edge_weight[:, None]


class GraphLayer(nn.Module):
    """One step over the graph, added to the fused states through a gate.

    A node's state *is* the fused state at its position (the first token of a word, a region, an
    attribute node), so text, picture and graph share one set of states.

    Args:
        hidden_size: D.
        num_kinds: number of edge kinds, inverses counted.
        dropout: in [0, 1).
        gate: start value; 0 leaves the states as they are.
    """

    def __init__(self, hidden_size: int, num_kinds: int, dropout: float, gate: float):
        super().__init__()
        self.convolution = RelationalConvolution(hidden_size, num_kinds)
        self.own = nn.Linear(hidden_size, hidden_size)
        self.norm = nn.LayerNorm(hidden_size)
        self.out = nn.Linear(hidden_size, hidden_size)
        self.dropout = nn.Dropout(dropout)
        self.gate = nn.Parameter(torch.full((hidden_size,), float(gate)))

    def forward(self, fused_states: Tensor, graph: Data, edge_weight: Tensor) -> Tensor:
        """Update the positions that are nodes.

        Args:
            fused_states: (B, L, D).
            graph: ``position`` (N,) into B * L, ``edge_index`` (2, E) between nodes, sorted by
                ``edge_kind``, and ``kind_counts``.
            edge_weight: (E,) in [0, 1]; 0 for an edge that was not selected.

        Returns:
            (B, L, D).
        """
        flat = fused_states.flatten(0, 1)
        states = flat[graph.position]
        messages = self.convolution(states, graph.edge_index, graph.kind_counts, edge_weight)
        update = self.out(nn.functional.gelu(self.norm(self.own(states) + messages)))
        update = self.gate * self.dropout(update)
        return flat.index_add(0, graph.position, update.to(flat.dtype)).view_as(fused_states)
