"""How alike captions are by the words they share: TF-IDF vectors, and pictures by their captions.

Everything is sparse: a data set of half a million captions has tens of thousands of words, of which
a caption has ten. What is dense belongs to one batch.
"""

from __future__ import annotations

import math
import re
from array import array
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor


class CaptionTfidf:
    r"""TF-IDF vectors of single captions, each of unit length.

    A word is a run of ``min_chars`` or more letters, digits or underscores, in lower case; single
    words only, no pairs. With n captions, of which df have the word, its weight in a caption is

    .. math::
        \mathrm{count} \cdot \left(\ln \frac{1 + n}{1 + \mathrm{df}} + 1\right)

    and every caption is divided by its L2 norm. Source: what VSL's code (ICME 2023) compares
    captions with. It is not CIDEr, as that code calls it: no pairs of words, no length penalty.

    Args:
        min_chars: of a word; >= 1. 2 leaves out "a".
        sublinear: count 1 + ln(count) instead of the count; VSL counts plainly.
    """

    def __init__(self, min_chars: int = 2, sublinear: bool = False):
        if type(min_chars) is not int or min_chars < 1:
            raise ValueError(f"min_chars is a whole number >= 1, got {min_chars!r}.")
        self.sublinear = sublinear
        self._word = re.compile(rf"\w{{{min_chars},}}")
        self.columns: dict[str, int] = {}  # word -> its place, in alphabetical order
        self.idf = torch.zeros(0, dtype=torch.float64)

    def fit(self, captions: Iterable[str]) -> CaptionTfidf:
        """Count in how many of the captions each word stands; returns itself."""
        frequency: Counter[str] = Counter()
        total = 0
        for caption in captions:
            frequency.update(set(self.words(caption)))
            total += 1
        words = sorted(frequency)
        self.columns = {word: place for place, word in enumerate(words)}
        counts = torch.tensor([frequency[word] for word in words], dtype=torch.float64)
        self.idf = math.log(1 + total) - torch.log1p(counts) + 1
        return self

    def words(self, caption: str) -> list[str]:
        """The words of a caption, in their order, with repetitions."""
        return self._word.findall(caption.lower())

    def encode(self, groups: Sequence[Sequence[str]]) -> tuple[Tensor, Tensor]:
        """Vectors of captions that come in groups: those of a picture, any number of them.

        Args:
            groups: B groups of captions. Words that :meth:`fit` did not see count for nothing.

        Returns:
            Sparse (captions of all groups, V) float64, each row of unit length, or 0 where no word
            is known; and (B + 1,) int64, where each group begins and the last one ends.
        """
        rows, columns, counts = array("q"), array("q"), array("d")
        offsets = [0]
        for captions in groups:
            for row, caption in enumerate(captions, start=offsets[-1]):
                for word, count in Counter(self.words(caption)).items():
                    if word in self.columns:
                        rows.append(row)
                        columns.append(self.columns[word])
                        counts.append(count)
            offsets.append(offsets[-1] + len(captions))
        indices = torch.from_numpy(np.array([rows, columns], dtype=np.int64).reshape(2, -1))
        values = torch.from_numpy(np.array(counts, dtype=np.float64))
        if self.sublinear:
            values = 1 + values.log()
        values = values * self.idf[indices[1]]
        squares = torch.zeros(offsets[-1], dtype=torch.float64).index_add_(
            0, indices[0], values.square()
        )
        values = values / squares.sqrt()[indices[0]]
        shape = (offsets[-1], len(self.columns))
        x = torch.sparse_coo_tensor(indices, values, shape, check_invariants=True)
        return x.coalesce(), torch.tensor(offsets)


class PictureSimilarity:
    """How alike the captions of pictures are, for the pictures of a batch.

    The words are weighed over all captions, and each picture's mean vector is made, once; then a
    batch costs a small matrix product, on the CPU.

    Args:
        captions: image id -> its captions, one or more.
        exclude_self: as :func:`group_similarity` takes it.
        min_chars: of a word, as :class:`CaptionTfidf` takes it.
    """

    def __init__(
        self, captions: Mapping[int, Sequence[str]], exclude_self: bool = False, min_chars: int = 2
    ):
        tfidf = CaptionTfidf(min_chars).fit(
            caption for group in captions.values() for caption in group
        )
        x, offsets = tfidf.encode(list(captions.values()))
        means = group_means(x, offsets)
        self.places = {image_id: place for place, image_id in enumerate(captions)}
        self.columns, self.values = means.indices()[1], means.values().float()
        lengths = means.indices()[0].bincount(minlength=len(captions))
        self.starts = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])
        self.own = _own_shares(x, offsets).float() if exclude_self else None
        self.sizes = offsets.diff()

    def __call__(self, image_ids: Tensor) -> Tensor:
        """(B,) image ids -> (B, B) float32 in [0, 1], on their device, without gradient.

        Raises:
            LookupError: a picture has no captions here; names it.
        """
        unique, inverse = image_ids.cpu().unique(return_inverse=True)
        missing = [image_id for image_id in unique.tolist() if image_id not in self.places]
        if missing:
            raise LookupError(
                f"no captions of image {missing[0]} among those of the {len(self.places)} training "
                "pictures that the objective was bound to; bind it to the data set that is "
                "trained on."
            )
        places = torch.tensor([self.places[image_id] for image_id in unique.tolist()])
        lengths = self.starts[places + 1] - self.starts[places]
        rows = torch.arange(len(places)).repeat_interleave(lengths)
        before = lengths.cumsum(0) - lengths
        entries = (self.starts[places] - before)[rows] + torch.arange(len(rows))
        similarity = _inner_products(rows, self.columns[entries], self.values[entries], len(places))
        if self.own is not None:
            similarity = _without_self(similarity, self.own[places], self.sizes[places])
        return similarity[inverse][:, inverse].to(image_ids.device)


def group_similarity(x: Tensor, offsets: Tensor, exclude_self: bool = False) -> Tensor:
    r"""Mean inner product of the captions of two pictures, for all pairs of pictures.

    .. math::
        C_{ij} = \frac{1}{K_i K_j} \sum_{a=1}^{K_i} \sum_{b=1}^{K_j} \langle x_{ia}, x_{jb} \rangle

    which is the inner product of the two mean vectors. Source: VSL's code (ICME 2023), there for
    exactly five captions a picture.

    Args:
        x: (captions of all groups, V), sparse or dense.
        offsets: (B + 1,) int64, where each group begins and the last one ends; no group is empty.
        exclude_self: on the diagonal, leave out each caption's product with itself (*ours*); a
            picture with one caption keeps it, having no other.

    Returns:
        (B, B), dense, of the dtype of ``x``; without ``exclude_self`` the diagonal is usually but
        not always the largest entry of its row, and below 1.
    """
    means = group_means(x, offsets)
    similarity = _inner_products(*means.indices(), means.values(), len(means))
    if exclude_self:
        similarity = _without_self(similarity, _own_shares(x, offsets), offsets.diff())
    return similarity


def group_means(x: Tensor, offsets: Tensor) -> Tensor:
    """Mean vector of each group: (captions, V) and (B + 1,) -> sparse, coalesced (B, V).

    Raises:
        ValueError: a group is empty.
    """
    sizes = offsets.diff()
    if not (sizes > 0).all():
        empty = (sizes <= 0).nonzero()[0].item()
        raise ValueError(f"group {empty} of {len(sizes)} has no captions; each needs one or more.")
    x = x.to_sparse().coalesce()
    rows, columns = x.indices()
    groups = torch.arange(len(sizes), device=x.device).repeat_interleave(sizes)[rows]
    means = torch.sparse_coo_tensor(
        torch.stack([groups, columns]),
        x.values() / sizes[groups],
        (len(sizes), x.shape[1]),
        check_invariants=True,
    )
    return means.coalesce()


def _inner_products(rows: Tensor, columns: Tensor, values: Tensor, count: int) -> Tensor:
    """(count, count) of sparse rows: they are dense in the columns that any of them has."""
    columns, places = columns.unique(return_inverse=True)
    dense = values.new_zeros(count, len(columns))
    dense[rows, places] = values
    with torch.autocast(values.device.type, enabled=False):
        return dense @ dense.T


def _own_shares(x: Tensor, offsets: Tensor) -> Tensor:
    """(B,) what the captions' products with themselves add to the diagonal."""
    x = x.to_sparse().coalesce()
    sizes = offsets.diff()
    groups = torch.arange(len(sizes), device=x.device).repeat_interleave(sizes)
    squares = x.values().new_zeros(len(sizes))
    squares.index_add_(0, groups[x.indices()[0]], x.values().square())
    return squares / sizes.square()


def _without_self(similarity: Tensor, own: Tensor, sizes: Tensor) -> Tensor:
    """The diagonal as the mean over K (K - 1) pairs instead of K², where K is above 1."""
    diagonal = similarity.diagonal()
    others = (diagonal - own) * sizes / (sizes - 1).clamp(min=1)
    return similarity.diagonal_scatter(torch.where(sizes > 1, others, diagonal))
