"""Fine-grained scores of all pictures with all captions: SAF and SGR.

A picture's regions and a caption's words are compared before anything is pooled. Each comparison is
a vector, an *alignment*: one of the picture with the caption as wholes and one of each word with
the regions it attends to. SAF and SGR are two ways to read a score from a pair's alignments.

Source: Diao et al., "Similarity Reasoning and Filtration for Image-Text Matching" (SGRAF), AAAI
2021, arXiv:2101.01368; the attention of words to regions is that of Lee et al., "Stacked Cross
Attention" (SCAN), ECCV 2018, arXiv:1803.08024. Sizes and constants are those that the authors of
SGRAF and of VSL (ICME 2023) ran with; what the descriptions leave open, and where we go another
way, is marked *ours*.

Letters, beside those of ``outputs.py``: C captions, P pairs, K = 1 + T alignments of a pair, M
numbers in an alignment.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from tbkin.config import choose
from tbkin.model.selection import select

SHORTEST = 1e-6  # a shorter vector is not scaled to unit length: its gradient would have no bound


class Side(NamedTuple):
    """Pictures or captions, ready to be compared.

    Attributes:
        states: (…, R or T, D), unit rows.
        mask: (…, R or T) bool.
        whole: (…, D), unit rows.
    """

    states: Tensor
    mask: Tensor
    whole: Tensor


class FineGrainedScorer(nn.Module):
    r"""Scores each picture with each caption by their regions and words.

    With :math:`v_i` the regions, :math:`t_j` the words, :math:`\bar v, \bar t` the wholes
    (:class:`AttentivePooling`) and :math:`a_j` what word :math:`j` sees (:func:`attend`), the
    alignments are

    .. math::
        s_0 = s(\bar v, \bar t; W_g), \quad s_j = s(a_j, t_j; W_l), \quad
        s(x, y; W) = \frac{W |x - y|^2}{\lVert W |x - y|^2 \rVert}

    with the square taken of each number. A :class:`SimilarityFilter` (SAF) or a
    :class:`SimilarityGraph` (SGR) makes one vector of them, a linear map and a sigmoid the score.

    *Ours*: the inputs are whatever states two towers give, of any width (the authors': 36 x 2048
    features as they are, and the words' states of a bidirectional GRU); both sides of every
    comparison have unit length; all of it is computed in float32 whatever the precision around it,
    because squares of small differences do not fit into 16 bits.

    Args:
        kind: one of ``KINDS``, "saf" or "sgr".
        region_size: width of the region states, which a linear map takes to ``hidden_size``
            (authors: 2048); None: they have that width and go in as they are.
        word_size: the same for words (authors: None).
        hidden_size: D (authors: 1024).
        alignment_size: M (authors: 256).
        smoothing: how sharply a word attends to regions; > 0 (authors: 9).
        slope: of the leaky ReLU on cosines, in [0, 1) (authors: 0.1; the paper: 0).
        steps: of the graph reasoning, >= 1 (authors: 3); SAF has none.
        max_elements: how many numbers the largest tensor may have, pictures x captions x T x D of
            the pairs that are scored at once (one pair always is); without gradients an eighth of
            it. About ten such tensors live at a time. With gradients the pairs are scored again in
            the backward pass, unless all fit into one block.

    Raises:
        ValueError: an unknown kind, or a setting out of its range.
    """

    def __init__(
        self,
        kind: str = "saf",
        region_size: int | None = None,
        word_size: int | None = None,
        hidden_size: int = 1024,
        alignment_size: int = 256,
        smoothing: float = 9.0,
        slope: float = 0.1,
        steps: int = 3,
        max_elements: int = 2**24,
    ):
        super().__init__()
        reading = choose(KINDS, kind, "kind of fine-grained scores")
        if smoothing <= 0:
            raise ValueError(f"smoothing must be > 0, got {smoothing}.")
        if not 0 <= slope < 1:
            raise ValueError(f"slope must be in [0, 1), got {slope}.")
        if steps < 1:
            raise ValueError(f"steps must be >= 1, got {steps}.")
        if max_elements < 1:
            raise ValueError(f"max_elements must be >= 1, got {max_elements}.")
        self.region_projection = nn.Linear(region_size, hidden_size) if region_size else None
        self.word_projection = nn.Linear(word_size, hidden_size) if word_size else None
        self.region_pooling = AttentivePooling(hidden_size)
        self.word_pooling = AttentivePooling(hidden_size)
        self.align_wholes = ExactLinear(hidden_size, alignment_size, bias=False)
        self.align_words = ExactLinear(hidden_size, alignment_size, bias=False)
        self.reading = reading(alignment_size, steps)
        self.score = ExactLinear(alignment_size, 1)
        self.sizes = {"region": region_size or hidden_size, "word": word_size or hidden_size}
        self.hidden_size = hidden_size
        self.smoothing = smoothing
        self.slope = slope
        self.max_elements = max_elements

    def forward(
        self, region_states: Tensor, region_mask: Tensor, word_states: Tensor, word_mask: Tensor
    ) -> Tensor:
        """Score all pairs.

        Args:
            region_states: (B, R, region_size).
            region_mask: (B, R), 1 = real region.
            word_states: (C, T, word_size).
            word_mask: (C, T), 1 = real word.

        Returns:
            (B, C) in (0, 1), picture i x caption j; float32 (float64 of such states).
        """
        pictures = self._pictures(region_states, region_mask)
        captions = self._captions(word_states, word_mask)
        rows, columns = len(pictures.mask), len(captions.mask)
        pair = max(1, captions.mask.shape[1] * self.hidden_size)
        # With gradients larger blocks save scoring again; without, smaller ones fit into a cache.
        most = self.max_elements if torch.is_grad_enabled() else self.max_elements // 8
        high = min(max(1, most // pair), rows)
        wide = min(max(1, most // (pair * max(1, high))), columns)
        if high == rows and wide == columns:
            return self._score(_part(pictures, 0, rows, 1), _part(captions, 0, columns, 0))
        return torch.cat(
            [
                torch.cat(
                    [
                        self._block(_part(pictures, i, high, 1), _part(captions, j, wide, 0))
                        for j in range(0, columns, wide)
                    ],
                    dim=1,
                )
                for i in range(0, rows, high)
            ]
        )

    def score_pairs(
        self, region_states: Tensor, region_mask: Tensor, word_states: Tensor, word_mask: Tensor
    ) -> Tensor:
        """Score picture i with caption i alone, for re-ranking; all pairs at once.

        Args:
            region_states: (P, R, region_size).
            region_mask: (P, R), 1 = real region.
            word_states: (P, T, word_size).
            word_mask: (P, T), 1 = real word.

        Returns:
            (P,) as in :meth:`forward`.
        """
        pictures = self._pictures(region_states, region_mask)
        captions = self._captions(word_states, word_mask)
        if len(pictures.mask) != len(captions.mask):
            raise ValueError(
                f"score_pairs needs a caption for each picture: got {len(pictures.mask)} pictures "
                f"and {len(captions.mask)} captions; call the scorer itself for all pairs."
            )
        return self._score(pictures, captions)

    def _pictures(self, states: Tensor, mask: Tensor) -> Side:
        return self._side("region", states, mask, self.region_projection, self.region_pooling)

    def _captions(self, states: Tensor, mask: Tensor) -> Side:
        return self._side("word", states, mask, self.word_projection, self.word_pooling)

    def _side(
        self,
        name: str,
        states: Tensor,
        mask: Tensor,
        projection: nn.Linear | None,
        pooling: AttentivePooling,
    ) -> Side:
        """Unit states and their whole."""
        if states.dim() != 3 or states.shape[-1] != self.sizes[name]:
            raise ValueError(
                f"{name}_states must be (number, {name}s, {self.sizes[name]}), "
                f"got {tuple(states.shape)}; {name}_size sets the width."
            )
        if mask.shape != states.shape[:2]:
            raise ValueError(
                f"{name}_mask must be {tuple(states.shape[:2])} as {name}_states is, "
                f"got {tuple(mask.shape)}."
            )
        unit = unit_rows(states if projection is None else projection(states))
        with torch.autocast(unit.device.type, enabled=False):
            return Side(unit, mask.bool(), pooling(unit, mask.bool()))

    def _block(self, pictures: Side, captions: Side) -> Tensor:
        """``_score``, keeping nothing for the backward pass but its inputs."""
        if not torch.is_grad_enabled():
            return self._score(pictures, captions)
        return checkpoint(
            self._score, pictures, captions, use_reentrant=False, preserve_rng_state=False
        )

    def _score(self, pictures: Side, captions: Side) -> Tensor:
        """(…), of pictures (…, R, D) and captions (…, T, D) whose leading axes broadcast."""
        with torch.autocast(pictures.whole.device.type, enabled=False):
            attended = attend(
                pictures.states,
                pictures.mask,
                captions.states,
                captions.mask,
                self.smoothing,
                self.slope,
            )
            words = unit_rows(self.align_words((attended - captions.states).square()))
            wholes = unit_rows(self.align_wholes((pictures.whole - captions.whole).square()))
            alignments = torch.cat([wholes.unsqueeze(-2), words], dim=-2)
            present = F.pad(captions.mask, (1, 0), value=True)
            return self.score(self.reading(alignments, present)).squeeze(-1).sigmoid()


def _part(side: Side, start: int, size: int, axis: int) -> Side:
    """Some pictures or captions, with an axis of 1 for those they are paired with."""
    return Side(*(field[start : start + size].unsqueeze(axis) for field in side))


class ExactLinear(nn.Linear):
    """A linear map in the precision of its input, also where the weights have less.

    Starts by Glorot's uniform rule (*ours*; a smaller start would all but close SGR's three ReLU
    layers, whose maps have no bias).
    """

    def reset_parameters(self) -> None:
        """Start anew."""
        nn.init.xavier_uniform_(self.weight)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, states: Tensor) -> Tensor:
        """(…, in) -> (…, out)."""
        bias = None if self.bias is None else self.bias.to(states.dtype)
        return F.linear(states, self.weight.to(states.dtype), bias)


class AttentivePooling(nn.Module):
    r"""One vector for a set of states, which their mean asks for.

    .. math::
        \bar x = \sum_i \alpha_i x_i, \quad
        \alpha = \mathrm{softmax}_i \; w^\top (\tanh(U x_i) \odot \tanh(Q m)), \quad
        m = \tfrac{1}{n} \sum_i x_i

    The paper says that the mean is the query of a self-attention over the states. *Ours*: that the
    attention has the form of Nam et al., "Dual Attention Networks" (arXiv:1611.00471), and that the
    result has unit length.

    Args:
        hidden_size: D.
    """

    def __init__(self, hidden_size: int):
        super().__init__()
        self.key = ExactLinear(hidden_size, hidden_size)
        self.query = ExactLinear(hidden_size, hidden_size)
        self.weigh = ExactLinear(hidden_size, 1, bias=False)

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        """(…, n, D) and (…, n) bool -> (…, D), unit rows; zeros where nothing is present."""
        count = mask.sum(dim=-1, keepdim=True).clamp(min=1)
        mean = (states * mask[..., None]).sum(dim=-2) / count
        asked = self.query(mean).tanh().unsqueeze(-2)
        logits = self.weigh(self.key(states).tanh() * asked).squeeze(-1)
        weights, _ = select(logits, mask)
        return unit_rows((weights[..., None] * states).sum(dim=-2))


class SimilarityFilter(nn.Module):
    r"""SAF: a gate says how much each alignment counts.

    .. math::
        s = \sum_p \beta_p s_p, \quad
        \beta_p = \frac{\sigma(g(s_p))}{\sum_q \sigma(g(s_q))}, \quad
        g(s_p) = \sqrt{M} \, w^\top s_p + b

    The paper normalises :math:`w^\top s_p` over the batch. *Ours*: a learned shift and a scale that
    starts the gates equally far apart; with batch normalisation a pair's score would depend on the
    other pairs, and on how many are scored at once.

    Args:
        alignment_size: M.
        steps: not used; SAF takes one.
    """

    def __init__(self, alignment_size: int, steps: int = 1):
        super().__init__()
        self.gate = ExactLinear(alignment_size, 1)
        self.scale = math.sqrt(alignment_size)

    def forward(self, alignments: Tensor, present: Tensor) -> Tensor:
        """(…, K, M) and bool that broadcasts to (…, K) -> (…, M)."""
        gates = self.gate(self.scale * alignments).squeeze(-1)
        weights, _ = select(F.logsigmoid(gates), present)  # softmax of log(gate): gate / sum
        return (weights.unsqueeze(-2) @ alignments).squeeze(-2)


class SimilarityGraph(nn.Module):
    r"""SGR: alignments are nodes of a full graph and inform one another; the whole's is read out.

    Args:
        alignment_size: M.
        steps: how often; >= 1. Each has maps of its own.
    """

    def __init__(self, alignment_size: int, steps: int = 3):
        super().__init__()
        self.steps = nn.ModuleList(ReasoningStep(alignment_size) for _ in range(steps))

    def forward(self, alignments: Tensor, present: Tensor) -> Tensor:
        """(…, K, M) and bool that broadcasts to (…, K) -> (…, M), node 0."""
        nodes = alignments
        *steps, last = self.steps
        for step in steps:
            nodes = step(nodes, nodes, present)
        return last(nodes[..., :1, :], nodes, present).squeeze(-2)  # nobody reads the others


class ReasoningStep(nn.Module):
    r"""One exchange among the nodes of :class:`SimilarityGraph`. Source: the paper.

    .. math::
        s_p \leftarrow \mathrm{ReLU}\Big(W_r \sum_q e_{pq} s_q\Big), \quad
        e_{pq} = \mathrm{softmax}_q \, (W_{in} s_p)^\top (W_{out} s_q)
    """

    def __init__(self, alignment_size: int):
        super().__init__()
        self.receive = ExactLinear(alignment_size, alignment_size, bias=False)
        self.send = ExactLinear(alignment_size, alignment_size, bias=False)
        self.update = ExactLinear(alignment_size, alignment_size, bias=False)

    def forward(self, told: Tensor, nodes: Tensor, present: Tensor) -> Tensor:
        """What the nodes tell some of them.

        Args:
            told: (…, N, M), some of the nodes or all.
            nodes: (…, K, M).
            present: bool, broadcasts to (…, K).

        Returns:
            (…, N, M).
        """
        logits = self.receive(told) @ self.send(nodes).transpose(-1, -2)
        edges, _ = select(logits, present.unsqueeze(-2))
        return self.update(edges @ nodes).relu()


KINDS: dict[str, type[nn.Module]] = {"saf": SimilarityFilter, "sgr": SimilarityGraph}


def attend(
    regions: Tensor,
    region_mask: Tensor,
    words: Tensor,
    word_mask: Tensor,
    smoothing: float = 9.0,
    slope: float = 0.1,
) -> Tensor:
    r"""What each word sees of a picture.

    .. math::
        a_j = \sum_i \mathrm{softmax}_i (\lambda \hat c_{ij}) \, v_i, \quad
        \hat c_{ij} = \frac{[c_{ij}]}{\sqrt{\sum_j [c_{ij}]^2}}, \quad c_{ij} = v_i^\top t_j

    scaled to unit length (*ours*). :math:`[\cdot]` is the leaky ReLU; a region's cosines are
    divided by their length over the words: what fits every word is sought less by each.

    Args:
        regions: (…, R, D), :math:`v`, unit rows.
        region_mask: (…, R) bool.
        words: (…, T, D), :math:`t`, unit rows. Leading axes broadcast with those of the regions.
        word_mask: (…, T) bool.
        smoothing: :math:`\lambda` > 0.
        slope: of the leaky ReLU.

    Returns:
        (…, T, D), unit rows; zeros for a picture without regions. Of padding words: anything.
    """
    cosines = torch.einsum("...td,...rd->...tr", words, regions)
    fit = F.leaky_relu(cosines, slope) * word_mask[..., None]
    weights, _ = select(
        smoothing * F.normalize(fit, dim=-2, eps=SHORTEST), region_mask[..., None, :]
    )
    return unit_rows(torch.einsum("...tr,...rd->...td", weights, regions))


def unit_rows(states: Tensor) -> Tensor:
    """Rows of length 1, (…, D) -> (…, D), float32 at least; rows shorter than 1e-6 stay shorter."""
    exact = states.float() if states.dtype in (torch.float16, torch.bfloat16) else states
    return F.normalize(exact, dim=-1, eps=SHORTEST)
