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
        # A list, because most batches lack some kinds: one tensor would need a full gradient.
        self.matrices = nn.ParameterList(
            torch.empty(hidden_size, hidden_size) for _ in range(num_kinds)
        )
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Start near copying: what a region is called reaches the words that it is aligned with.

        Half an identity and half noise: from plain noise the tiny world's attribute questions stay
        at chance for the first minute (*ours*).
        """
        size = self.matrices[0].shape[-1]
        for matrix in self.matrices:
            matrix.normal_(std=0.5 * size**-0.5)
            matrix += 0.5 * torch.eye(size)

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
        pairs = zip(states_j.split(kind_counts), self.matrices, strict=True)
        moved = [chunk @ matrix for chunk, matrix in pairs if len(chunk)]
        if not moved:
            return states_j
        return torch.cat(moved) * edge_weight[:, None]


class GraphLayer(nn.Module):
    r"""One step over the graph, through a gate.

    A node's state *is* the fused state at its position (the first token of a word, a region, an
    attribute node), so text, picture and graph share one set of states. With messages :math:`m`
    and gate :math:`g`,

    .. math::
        x \leftarrow x + g \, (\mathrm{LN}(x + m) - x)

    Args:
        hidden_size: D.
        num_kinds: number of edge kinds, inverses counted.
        dropout: of the messages, in [0, 1).
        gate: start value; 0 leaves the states exactly as they are.
    """

    def __init__(self, hidden_size: int, num_kinds: int, dropout: float, gate: float):
        super().__init__()
        self.convolution = RelationalConvolution(hidden_size, num_kinds)
        self.norm = nn.LayerNorm(hidden_size)
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
        states = flat.index_select(0, graph.position)
        messages = self.convolution(states, graph.edge_index, graph.kind_counts, edge_weight)
        update = self.gate * (self.norm(states + self.dropout(messages)) - states)
        return flat.index_add(0, graph.position, update.to(flat.dtype)).view_as(fused_states)
