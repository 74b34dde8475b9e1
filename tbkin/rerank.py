"""A second look at scores, by embeddings that the query and the gallery are both like.

Three readings of MMRef's refinement (IEEE Transactions on Multimedia 27, 2025, arXiv:2504.07718),
whose formula could not be read: all three are *ours*, off by default (``weight`` 0), and none is
known to help. In a toy check with the best settings chosen on the test itself they moved R@1 by
-4.7 to +0.7 points; an anchor profile of weight 1 lost 2 to 14.5. So the weight is chosen on a
validation set, by :func:`weigh`, and its figures are reported beside those of weight 0.

Everything works in blocks of queries and of the gallery: a block of profiles (block, m) and the
(Q, G) scores are the largest tensors, there is never a (Q, G, m).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

BLOCK = 1024  # rows at a time


class Reranker:
    """Scores plus ``weight`` times a similarity that goes through references.

    Subclasses say what that similarity is. ``weight`` is finite, 0 = off.
    """

    weight: float
    block: int

    def __post_init__(self):
        if not math.isfinite(self.weight):
            raise ValueError(f"weight must be a finite number, 0 is off; got {self.weight!r}.")
        if self.block < 1:
            raise ValueError(f"block must be 1 or more, got {self.block!r}.")

    def rerank(self, query: Tensor, gallery: Tensor, scores: Tensor) -> Tensor:
        """Refine scores.

        Args:
            query: (Q, D) embeddings.
            gallery: (G, D) embeddings.
            scores: (Q, G), higher is better.

        Returns:
            (Q, G) ``scores + weight * similarity(query, gallery)``; with weight 0 ``scores``
            themselves.
        """
        if scores.shape != (len(query), len(gallery)):
            raise ValueError(
                f"scores must have a row for each of {len(query)} queries and a column for each of "
                f"{len(gallery)} in the gallery, got {tuple(scores.shape)}."
            )
        if self.weight == 0:
            return scores
        return scores + self.weight * self.similarity(query, gallery)

    def similarity(self, query: Tensor, gallery: Tensor) -> Tensor:
        """(Q, D) and (G, D) -> (Q, G) in [-1, 1], float32 at least."""
        raise NotImplementedError


@dataclass(frozen=True, eq=False)
class ReferenceReranker(Reranker):
    """What those share that ask how much each reference has in common with an embedding.

    Args:
        references: (m, D), e.g. ``ReferenceBank.matrix()`` of the training objects.
        temperature: > 0, in the unit of a cosine.
        weight: of the similarity.
        top_references: only so many of the nearest references count in a profile; None: all. It
            need not be below m.
        block: rows at a time; it does not change the result.
    """

    references: Tensor
    temperature: float = 0.05
    weight: float = 0.0
    top_references: int | None = None
    block: int = BLOCK

    def __post_init__(self):
        super().__post_init__()
        if not self.temperature > 0:
            raise ValueError(f"temperature must be above 0, got {self.temperature!r}.")
        if self.top_references is not None and self.top_references < 1:
            raise ValueError(f"top_references must be 1 or more, got {self.top_references!r}.")

    def profiles(self, rows: Tensor) -> Tensor:
        r"""(n, D) -> (n, m) >= 0, rows adding up to 1: :math:`\mathrm{softmax}(R x / \tau)`."""
        logits = _unit(rows) @ _unit(self.references.to(rows.device)).T / self.temperature
        if self.top_references is None or self.top_references >= logits.shape[1]:
            return logits.softmax(dim=1)
        best, places = logits.topk(self.top_references, dim=1)
        return torch.zeros_like(logits).scatter(1, places, best.softmax(dim=1))


@dataclass(frozen=True, eq=False)
class AnchorProfile(ReferenceReranker):
    r"""How alike query and gallery picture are *to the references*: :math:`\cos(p(q), p(g))`."""

    def similarity(self, query: Tensor, gallery: Tensor) -> Tensor:
        """(Q, D) and (G, D) -> (Q, G) in [0, 1]."""
        columns = []
        for items in gallery.split(self.block):
            profiles = F.normalize(self.profiles(items), dim=1)
            rows = [
                F.normalize(self.profiles(asked), dim=1) @ profiles.T
                for asked in query.split(self.block)
            ]
            columns.append(torch.cat(rows))
        return torch.cat(columns, dim=1)


@dataclass(frozen=True, eq=False)
class AttendedReference(ReferenceReranker):
    r"""How alike the references are that both attend to: :math:`\cos(p(q) R, p(g) R)`."""

    def similarity(self, query: Tensor, gallery: Tensor) -> Tensor:
        """(Q, D) and (G, D) -> (Q, G) in [-1, 1]."""
        return self._attended(query) @ self._attended(gallery).T

    def _attended(self, rows: Tensor) -> Tensor:
        """(N, D) -> (N, D) of unit length."""
        references = _unit(self.references.to(rows.device))
        attended = [self.profiles(block) @ references for block in rows.split(self.block)]
        return F.normalize(torch.cat(attended), dim=1)


@dataclass(frozen=True, eq=False)
class GalleryNeighbour(Reranker):
    r"""How alike the query is to what surrounds a picture in the gallery.

    .. math::
        n(g) = \frac{1}{k} \sum_{g' \in N_k(g)} g', \quad s_{qg} = \cos(q, n(g))

    with :math:`N_k(g)` the k nearest pictures, of which the picture itself is the first (*ours*):
    k = 1 adds the cosine itself. It needs no references.

    Args:
        neighbours: k >= 1; a smaller gallery counts whole.
        weight: of this similarity.
        block: rows at a time; it does not change the result.
    """

    neighbours: int = 5
    weight: float = 0.0
    block: int = BLOCK

    def __post_init__(self):
        super().__post_init__()
        if self.neighbours < 1:
            raise ValueError(f"neighbours must be 1 or more, got {self.neighbours!r}.")

    def similarity(self, query: Tensor, gallery: Tensor) -> Tensor:
        """(Q, D) and (G, D) -> (Q, G) in [-1, 1]."""
        unit = _unit(gallery)
        count = min(self.neighbours, len(unit))
        means = [
            unit[(block @ unit.T).topk(count, dim=1).indices].mean(dim=1)
            for block in unit.split(self.block)
        ]
        return _unit(query) @ F.normalize(torch.cat(means), dim=1).T


RERANKERS: dict[str, type[Reranker]] = {
    "anchor_profile": AnchorProfile,
    "attended_reference": AttendedReference,
    "gallery_neighbour": GalleryNeighbour,
}


def weigh(
    scores: Tensor,
    similarity: Tensor,
    weights: Iterable[float],
    measure: Callable[[Tensor], float],
) -> dict[float, float]:
    """What a measure says of refined scores, by weight; weight 0 always stands first.

    Choose on a validation set, ``max(found, key=found.get)``, and report the chosen weight's
    figures on the test set beside those of weight 0.

    Args:
        scores: (Q, G) of the validation set.
        similarity: (Q, G), a re-ranker's for them.
        weights: to try.
        measure: of (Q, G) scores, higher is better, e.g. rsum.
    """
    found = {0.0: measure(scores)}
    for weight in weights:
        if weight != 0:
            found[weight] = measure(scores + weight * similarity)
    return found


def _unit(rows: Tensor) -> Tensor:
    """Rows of unit length, in float32 at least; rows of 0 stay 0."""
    return F.normalize(rows.to(torch.promote_types(rows.dtype, torch.float32)), dim=1)
