"""The best k of a gallery, and what re-ranking them makes of the scores."""

from __future__ import annotations

import torch
from torch import Tensor

from tbkin.metrics.ranks import Products

_STEP = 2.0**-10  # of the size of the scores: far above what float32 can tell apart


def top_k(queries: Tensor, gallery: Tensor, k: int, block: int = 4096) -> tuple[Tensor, Tensor]:
    """The k gallery items of highest dot product with each query; exact.

    Never holds more than (block, block) products.

    Args:
        queries: (Q, D).
        gallery: (G, D).
        k: how many; of a smaller gallery, all.
        block: queries and gallery items looked at together.

    Returns:
        (Q, k) scores, descending, and (Q, k) int64 places in the gallery; of equal scores the
        smaller place comes first.

    Raises:
        ValueError: k or block below 1, an empty gallery, widths that differ, or NaN.
    """
    _check_counts(k, block)
    if not len(gallery) or queries.shape[1] != gallery.shape[1]:
        raise ValueError(
            f"queries of shape {tuple(queries.shape)} cannot be looked up in a gallery of shape "
            f"{tuple(gallery.shape)}; expected (Q, D) and (G, D), G > 0."
        )
    found = [_best(part, gallery, k, block) for part in queries.split(block)]
    scores, places = zip(*found, strict=True)
    return torch.cat(scores), torch.cat(places)


def best_of_table(scores: Tensor, k: int, block: int = 512) -> tuple[Tensor, Tensor]:
    """As :func:`top_k`, of scores that are there already.

    Args:
        scores: (Q, G), higher is better.
        k: how many; of a smaller gallery, all.
        block: queries looked at together.

    Returns:
        (Q, k) scores and (Q, k) places, as :func:`top_k` has them.

    Raises:
        ValueError: k or block below 1, an empty gallery, or NaN.
    """
    _check_counts(k, block)
    if scores.dim() != 2 or not scores.shape[1]:
        raise ValueError(f"scores must be (Q, G), G > 0, got {tuple(scores.shape)}.")
    if scores.isnan().any():
        raise ValueError("scores to choose from are not numbers (NaN); mend what made them.")
    values, places = zip(*(_first(part, k) for part in scores.split(block)), strict=True)
    return torch.cat(values), torch.cat(places)


def rerank_scores(scores: Tensor, fused: Tensor, candidates: Tensor) -> Tensor:
    """Scores that order each query's candidates by their fused score, above all other items.

    The others keep their scores, so they stay ordered, too; the candidates' new scores tell
    their order only. Equal fused scores stay equal.

    Args:
        scores: (Q, G) of the first stage.
        fused: (Q, k) of the second stage, higher is better.
        candidates: (Q, k) int64, the gallery items that ``fused`` is of, each once; usually those
            of :func:`top_k`.

    Returns:
        (Q, G), at least float32.

    Raises:
        ValueError: shapes that differ, candidates that are not there or repeated, NaN, or another
            item of an infinite score.
    """
    if fused.shape != candidates.shape or len(scores) != len(fused):
        raise ValueError(
            f"fused and candidates must be (Q, k) for scores (Q, G): got {tuple(fused.shape)} and "
            f"{tuple(candidates.shape)} for {tuple(scores.shape)}."
        )
    if not candidates.numel():
        return scores
    ordered = candidates.sort(dim=1).values
    if ordered[:, 0].min() < 0 or ordered[:, -1].max() >= scores.shape[1]:
        raise ValueError(
            f"candidates must be places in a gallery of {scores.shape[1]}, counted from 0; got "
            f"{ordered[:, 0].min().item()} to {ordered[:, -1].max().item()}."
        )
    if (ordered[:, 1:] == ordered[:, :-1]).any():
        raise ValueError("candidates name a gallery item twice for one query; name each once.")
    if fused.isnan().any() or scores.isnan().any():
        raise ValueError("scores to re-rank are not numbers (NaN); mend what made them.")
    result = scores.to(torch.promote_types(scores.dtype, torch.float32), copy=True)
    rest = result.scatter(1, candidates, -torch.inf).amax(dim=1, keepdim=True)
    if (rest == torch.inf).any():
        raise ValueError("an item that is no candidate has an infinite score; nothing is above it.")
    rest = torch.where(rest == -torch.inf, 0.0, rest)
    ascending = fused.sort(dim=1)
    new = torch.ones_like(ascending.values, dtype=torch.int64)
    new[:, 1:] = ascending.values[:, 1:] > ascending.values[:, :-1]
    places = torch.empty_like(new).scatter(1, ascending.indices, new.cumsum(dim=1))  # from 1
    return result.scatter(1, candidates, rest + places * _STEP * rest.abs().clamp(min=1))


def _check_counts(k: int, block: int) -> None:
    for name, value in (("k", k), ("block", block)):
        if value < 1:
            raise ValueError(f"{name} must be >= 1, got {value}.")


def _best(queries: Tensor, gallery: Tensor, k: int, block: int) -> tuple[Tensor, Tensor]:
    """As :func:`top_k`, for queries that are looked at together."""
    scores = places = None
    for start in range(0, len(gallery), block):
        new = Products(queries, gallery[start : start + block])[:]
        if new.isnan().any():
            raise ValueError("embeddings give scores that are not numbers (NaN); mend the model.")
        values, found = _first(new, k)
        found = found + start
        if scores is not None:
            values, found = torch.cat([scores, values], dim=1), torch.cat([places, found], dim=1)
            values, order = _first(values, k)
            found = found.gather(1, order)
        scores, places = values, found
    return scores, places


def _first(values: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The best k of each row and their places; of equal ones the first, which topk leaves open."""
    k = min(k, values.shape[1])
    least = values.topk(k, dim=1).values[:, -1:]
    above, equal = values > least, values == least
    room = k - above.sum(dim=1, keepdim=True)
    kept = above | (equal & (equal.cumsum(dim=1) <= room))
    places = kept.nonzero()[:, 1].reshape(-1, k)
    ordered = values.gather(1, places).sort(dim=1, descending=True, stable=True)
    return ordered.values, places.gather(1, ordered.indices)
