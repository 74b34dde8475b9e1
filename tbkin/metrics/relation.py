"""Which gallery items are right for which query: the truth that a ranking is judged by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Relation:
    """Pairs of a query and a gallery item; what is not listed does not belong together.

    Any number of items may be right for a query: five captions of a picture, every picture of a
    person, or all captions that are true of a picture although they were written for others.

    Attributes:
        rows: (n,) int64, places of queries, ascending.
        columns: (n,) int64, places of gallery items, ascending within a query.
        shape: how many queries and gallery items there are.
    """

    rows: Tensor
    columns: Tensor
    shape: tuple[int, int]

    @classmethod
    def of_pairs(cls, rows: Tensor, columns: Tensor, shape: tuple[int, int]) -> Relation:
        """A relation of pairs in any order; equal ones count once.

        Args:
            rows: (n,) places of queries.
            columns: (n,) places of gallery items.
            shape: how many queries and gallery items there are.

        Raises:
            ValueError: a place that does not exist.
        """
        for name, places, size in (("query", rows, shape[0]), ("gallery item", columns, shape[1])):
            wrong = (places < 0) | (places >= size)
            if wrong.any():
                raise ValueError(
                    f"there is no {name} {places[wrong][0].item()}; places are counted from 0 and "
                    f"there are {size}."
                )
        keys = (rows.long() * shape[1] + columns.long()).unique()
        return cls._of_keys(keys, shape)

    @classmethod
    def of_ids(cls, query_ids: Tensor, gallery_ids: Tensor) -> Relation:
        """Query and item belong together when their ids are equal.

        Args:
            query_ids: (Q,) integers, of identities, classes or pictures.
            gallery_ids: (G,) likewise.
        """
        ordered, places = gallery_ids.long().sort(stable=True)
        wanted = query_ids.long()
        first = torch.searchsorted(ordered, wanted)
        count = torch.searchsorted(ordered, wanted, right=True) - first
        rows = torch.arange(len(wanted), device=wanted.device).repeat_interleave(count)
        within = torch.arange(len(rows), device=rows.device) - (count.cumsum(0) - count)[rows]
        return cls(rows, places[first[rows] + within], (len(wanted), len(ordered)))

    @classmethod
    def of_lists(cls, lists: Sequence[Sequence[int]], gallery: int) -> Relation:
        """One list of places in the gallery a query.

        Args:
            lists: Q lists.
            gallery: G, how many items there are.
        """
        rows = [row for row, places in enumerate(lists) for _ in places]
        columns = [place for places in lists for place in places]
        shape = (len(lists), gallery)
        return cls.of_pairs(torch.tensor(rows).long(), torch.tensor(columns).long(), shape)

    @classmethod
    def of_mask(cls, mask: Tensor) -> Relation:
        """What is not 0 in a (Q, G) table, dense or sparse."""
        if mask.layout is torch.strided:
            rows, columns = mask.nonzero(as_tuple=True)
        else:
            table = mask.to_sparse_coo().coalesce()
            rows, columns = table.indices()[:, table.values() != 0]
        return cls.of_pairs(rows, columns, tuple(mask.shape))

    @property
    def counts(self) -> Tensor:
        """(Q,) int64, right items of each query."""
        return self.rows.bincount(minlength=self.shape[0])

    def transposed(self) -> Relation:
        """The other direction: gallery items look for queries."""
        return Relation.of_pairs(self.columns, self.rows, self.shape[::-1])

    def without(self, other: Relation) -> Relation:
        """The pairs that another relation of the same shape does not have."""
        if other.shape != self.shape:
            raise ValueError(f"relations of {self.shape} and {other.shape} cannot be compared.")
        keys = self._keys()
        return self._of_keys(keys[~torch.isin(keys, other._keys())], self.shape)

    def block(self, start: int, end: int) -> tuple[Tensor, Tensor]:
        """Rows, counted from ``start``, and columns of the queries ``start`` to ``end``."""
        edges = torch.tensor([start, end], device=self.rows.device)
        first, last = torch.searchsorted(self.rows, edges).tolist()
        return self.rows[first:last] - start, self.columns[first:last]

    def _keys(self) -> Tensor:
        return self.rows * self.shape[1] + self.columns

    @classmethod
    def _of_keys(cls, keys: Tensor, shape: tuple[int, int]) -> Relation:
        """Keys ascend."""
        rows = torch.div(keys, max(shape[1], 1), rounding_mode="floor")
        return cls(rows, keys - rows * shape[1], shape)
