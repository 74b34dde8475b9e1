"""Where the right items stand in each query's ranking, ties against them.

Published code sorts with an unstable sort, so equal scores are ordered by chance, or by the place
in the file. Here ties are *pessimistic*: of equal scores the wrong items come first, so a constant
score reaches nothing. NaN is refused.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tbkin.metrics.relation import Relation

_BLOCK = 1 << 22  # scores looked at together
_PASSES = 4  # up to so many thresholds a query, a pass for each is faster than a search


@dataclass(frozen=True)
class Ranks:
    """Ranks of right items, those of a query together and ascending.

    Attributes:
        queries: (n,) int64, ascending: whose they are.
        ranks: (n,) int64, 1 for the best.
        number: (n,) int64, 1 for the first right item of the query, 2 for the next, …
        counts: (Q,) int64, all right items of each query, also those that are not listed.
    """

    queries: Tensor
    ranks: Tensor
    number: Tensor
    counts: Tensor

    def first(self) -> Tensor:
        """(Q,) int64, rank of each query's best right item."""
        return self.ranks[self.number == 1]

    def last(self) -> Tensor:
        """(Q,) int64, rank of each query's last right item; all must be listed."""
        return self.ranks[self.number == self.counts[self.queries]]

    def mean(self, values: Tensor) -> Tensor:
        """(Q,) float64, the sum of (n,) values of each query over its count of right items."""
        sums = torch.zeros(len(self.counts), dtype=torch.float64, device=values.device)
        return sums.index_add_(0, self.queries, values.double()) / self.counts


@dataclass(frozen=True)
class Products:
    """Dot products of queries and gallery items, made a block of queries at a time.

    Stands for a (Q, G) table of scores that need not fit in memory.

    Attributes:
        queries: (Q, D).
        gallery: (G, D).
    """

    queries: Tensor
    gallery: Tensor

    @property
    def shape(self) -> tuple[int, int]:
        """(Q, G)."""
        return len(self.queries), len(self.gallery)

    @property
    def T(self) -> Products:  # noqa: N802 - as tensors call it
        """The other direction."""
        return Products(self.gallery, self.queries)

    def __getitem__(self, rows: slice | Tensor) -> Tensor:
        return _at_least_float32(self.queries[rows]) @ _at_least_float32(self.gallery).T


def right_ranks(
    scores: Tensor | Products,
    right: Relation,
    excluded: Relation | None = None,
    most: int | None = None,
    queries: Tensor | None = None,
) -> Ranks:
    """The rank of every right item among the wrong ones and the right ones before it.

    With pessimistic ties: a right item is behind all wrong ones that score at least as high. The
    best one's rank is 1 + the number of wrong items that score at least as high.

    Args:
        scores: (Q, G), higher is better; any real type, a memory-mapped table too.
        right: (Q, G); every query must have something.
        excluded: (Q, G), pairs that are no candidates, as a query itself where the gallery has it.
            What is right and excluded is excluded.
        most: only each query's best so many right items are wanted; None: all.
        queries: (Q,), rows of ``scores`` that are asked, where they are not all.

    Returns:
        The ranks.

    Raises:
        ValueError: shapes that differ, NaN, or a query without a right item.
    """
    shape = (scores.shape[0] if queries is None else len(queries), scores.shape[1])
    _check_shapes(shape, right, excluded)
    right = right if excluded is None else right.without(excluded)
    counts = right.counts
    if not shape[0] or not counts.all():
        lacking = (counts == 0).nonzero().flatten().tolist()
        raise ValueError(
            f"{len(lacking)} of {shape[0]} queries have no right item in the gallery"
            f"{f' (places {lacking[:3]})' if lacking else ''}; leave such queries out."
        )
    size = max(1, _BLOCK // shape[1])
    parts = []
    for start in range(0, shape[0], size):
        end = min(start + size, shape[0])
        asked = slice(start, end) if queries is None else queries[start:end]
        block = _at_least_float32(_rows(scores, asked))
        _refuse_nan(block, queries, start)
        others = None if excluded is None else excluded.block(start, end)
        parts.append(_block_ranks(block, right.block(start, end), others, most))
    ranks, number = (torch.cat(part) for part in zip(*parts, strict=True))
    places = torch.arange(shape[0], device=ranks.device)
    listed = counts if most is None else counts.clamp(max=most)
    return Ranks(places.repeat_interleave(listed), ranks, number, counts)


def _block_ranks(
    scores: Tensor,
    right: tuple[Tensor, Tensor],
    excluded: tuple[Tensor, Tensor] | None,
    most: int | None,
) -> tuple[Tensor, Tensor]:
    """Ranks and numbers of the right items of some queries, one query after the other."""
    found, real = _table(scores, *right)
    wanted = found[:, :most].contiguous()
    wrong = _at_least(scores, wanted) - _at_least(found, wanted, real)
    if excluded is not None:
        others, there = _table(scores, *excluded)
        wrong -= _at_least(others, wanted, there)
    number = torch.arange(1, wanted.shape[1] + 1, device=scores.device).expand_as(wanted)
    listed = real[:, :most]
    return (wrong + number)[listed], number[listed]


def _table(scores: Tensor, rows: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
    """The scores of some pairs, descending in a row for each query, and which of them are real.

    Rows are filled up with their last score.
    """
    values = scores[rows, columns]
    order = values.argsort(descending=True)
    order = order[rows[order].argsort(stable=True)]  # by query, and within by score
    counts = rows.bincount(minlength=len(scores))[:, None]
    places = torch.arange(int(counts.max()), device=scores.device)
    start = counts.cumsum(0) - counts
    return values[order][start + places.minimum(counts - 1)], places < counts


def _at_least(values: Tensor, thresholds: Tensor, real: Tensor | None = None) -> Tensor:
    """How many of each row's values reach each of its thresholds.

    Args:
        values: (b, N).
        thresholds: (b, P), descending.
        real: (b, N), which values count; None: all.

    Returns:
        (b, P) int64.
    """
    if thresholds.shape[1] <= _PASSES:
        passes = [values >= thresholds[:, place, None] for place in range(thresholds.shape[1])]
        if real is not None:
            passes = [reached & real for reached in passes]
        return torch.stack([reached.count_nonzero(dim=1) for reached in passes], dim=1)
    reached = torch.searchsorted(thresholds.flip(1), values, right=True)  # how many thresholds
    if real is not None:
        reached = reached * real
    counts = reached.new_zeros(len(values), thresholds.shape[1] + 1)
    counts.scatter_add_(1, reached, reached.new_ones(1, 1).expand_as(reached))
    return counts.flip(1).cumsum(dim=1)[:, :-1]


def _rows(scores: Tensor | Products, asked: slice | Tensor) -> Tensor:
    """Some rows, contiguous; of a transposed table two plain copies are far faster than one."""
    if isinstance(scores, Tensor) and scores.stride(0) < scores.stride(1):
        return scores.T[:, asked].contiguous().T.contiguous()
    return scores[asked].contiguous()


def _at_least_float32(values: Tensor) -> Tensor:
    """Half precision as single, without loss; others as they are."""
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values


def _check_shapes(shape: tuple[int, int], right: Relation, excluded: Relation | None) -> None:
    for name, relation in (("right", right), ("excluded", excluded)):
        if relation is not None and tuple(relation.shape) != tuple(shape):
            raise ValueError(
                f"{name} must be of as many queries and gallery items as there are scores, "
                f"{tuple(shape)}; got {tuple(relation.shape)}."
            )


def _refuse_nan(block: Tensor, queries: Tensor | None, start: int) -> None:
    if block.is_floating_point() and block.isnan().any():
        row, column = block.isnan().nonzero()[0].tolist()
        query = start + row if queries is None else int(queries[start + row])
        raise ValueError(
            f"the score of query {query} and gallery item {column} (counted from 0) is not a "
            "number; mend what made the scores, NaN has no rank."
        )
