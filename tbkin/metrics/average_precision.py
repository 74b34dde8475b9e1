"""Metrics of queries with many right items: the whole ranking counts, not only its best hit.

Person search (Rank-k, mAP, mINP): a caption looks for every picture of its person, IRRA's
definitions. ECCV Caption (mAP@R, R-Precision): arXiv:2204.03359. AP@50: birds and flowers.

Everything is a mean over queries of what :func:`tbkin.metrics.ranks.right_ranks` says, ties
pessimistic.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from tbkin.metrics.ranks import Products, Ranks, right_ranks
from tbkin.metrics.recall import rank_figures
from tbkin.metrics.relation import Relation


def person_search_figures(
    scores: Tensor | Products, right: Relation, excluded: Relation | None = None
) -> dict[str, float]:
    """Rank-k, mAP and mINP.

    Args:
        scores: (Q, G), captions by pictures, higher is better.
        right: (Q, G), the pictures of each caption's person.
        excluded: (Q, G), pairs that are no candidates.

    Returns:
        As ``recall.recall_figures`` (Rank-k is ``R@k``), and ``mAP`` and ``mINP``; in per cent,
        but for the ranks.
    """
    ranks = right_ranks(scores, right, excluded)
    return {
        **rank_figures(ranks.first()),
        "mAP": _per_cent(average_precisions(ranks)),
        "mINP": _per_cent(inverse_negative_penalties(ranks)),
    }


def eccv_figures(
    scores: Tensor | Products,
    right: Relation,
    queries: Tensor | None = None,
    sizes: Tensor | None = None,
) -> dict[str, float]:
    """The three values of ECCV Caption, in one direction.

    Args:
        scores: (Q, G), higher is better.
        right: (Q, G), verified positives.
        queries: (Q,), rows of ``scores`` that are asked, where they are not all.
        sizes: (Q,), R of each query, where some right items are not in the gallery.

    Returns:
        ``mAP@R``, ``R-Precision`` and ``R@1``, in per cent.
    """
    ranks = right_ranks(scores, right, queries=queries)
    if sizes is not None:
        ranks = replace(ranks, counts=sizes)
    return {
        "mAP@R": _per_cent(average_precisions_at_r(ranks)),
        "R-Precision": _per_cent(r_precisions(ranks)),
        "R@1": rank_figures(ranks.first())["R@1"],
    }


def class_precision(
    scores: Tensor | Products,
    query_classes: Tensor,
    gallery_classes: Tensor,
    k: int = 50,
    excluded: Relation | None = None,
) -> float:
    """AP@k of birds and flowers: how many of the best k pictures are of the query's class.

    Source: the definition that the text-based retrieval of CUB and Oxford Flowers goes by (AP@50);
    published code computes something else under the name.

    Args:
        scores: (Q, G), captions (or a class's mean caption) by pictures, higher is better.
        query_classes: (Q,) integers.
        gallery_classes: (G,) integers.
        k: how many pictures are looked at; of a smaller gallery, all.
        excluded: (Q, G), pairs that are no candidates.

    Returns:
        Per cent: the mean over classes of the mean over the class's queries.
    """
    right = Relation.of_ids(query_classes, gallery_classes)
    ranks = right_ranks(scores, right, excluded)
    return 100 * mean_by_class(precisions_at(ranks, min(k, scores.shape[1])), query_classes)


def average_precisions(ranks: Ranks) -> Tensor:
    r"""(Q,) :math:`\frac{1}{n} \sum_{i=1}^{n} i / r_i`, :math:`r_i` the i-th right item's rank.

    Args:
        ranks: all right items of each query.
    """
    return ranks.mean(ranks.number.double() / ranks.ranks)


def inverse_negative_penalties(ranks: Ranks) -> Tensor:
    """(Q,) matches over the rank of the last one; their mean is mINP.

    Args:
        ranks: all right items of each query.
    """
    return ranks.counts.double() / ranks.last()


def r_precisions(ranks: Ranks) -> Tensor:
    """(Q,) share of right items among the best R, R being how many right items the query has.

    Args:
        ranks: all right items of each query.
    """
    return ranks.mean(_within_r(ranks))


def average_precisions_at_r(ranks: Ranks) -> Tensor:
    r"""(Q,) :math:`\frac{1}{R} \sum_{r=1}^{R} P@r \cdot [\text{item } r \text{ is right}]`.

    :math:`P@r` is the share of right items among the best r, R how many right items there are.

    Args:
        ranks: all right items of each query.
    """
    return ranks.mean(_within_r(ranks) * ranks.number.double() / ranks.ranks)


def precisions_at(ranks: Ranks, k: int) -> Tensor:
    """(Q,) share of right items among the best k.

    Args:
        ranks: all right items of each query.
        k: at least 1.
    """
    return ranks.mean(ranks.ranks <= k) * ranks.counts / k


def mean_by_class(values: Tensor, classes: Tensor) -> float:
    """The mean over classes of the mean over a class, so that large ones do not count more.

    Args:
        values: (Q,).
        classes: (Q,) integers.
    """
    _, places, counts = classes.unique(return_inverse=True, return_counts=True)
    sums = torch.zeros(len(counts), dtype=values.dtype, device=values.device)
    return (sums.index_add_(0, places, values) / counts).mean().item()


def _within_r(ranks: Ranks) -> Tensor:
    return ranks.ranks <= ranks.counts[ranks.queries]


def _per_cent(values: Tensor) -> float:
    return 100 * values.mean().item()
