"""Image-text retrieval: recall at 1, 5 and 10 both ways, median and mean rank.

A query is right at K when *any* of its right items is among the best K. Rows of scores are
pictures, columns captions. Ties are pessimistic (``tbkin/metrics/ranks.py``).

COCO's two protocols have nothing to do with each other: *5K* ranks all pictures of the test split
and all captions at once; *1K* does so within each of five consecutive folds of 1,000 pictures and
averages the five results (:func:`folds`). Never compare one with the other.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from tbkin.metrics.ranks import Products, right_ranks
from tbkin.metrics.relation import Relation
from tbkin.metrics.state_scores import score_states
from tbkin.metrics.vqa_accuracy import few

KS = (1, 5, 10)
DIRECTIONS = ("image_to_text", "text_to_image")
UNI = ("image_uni_embeds", "text_uni_embeds")


class Recall:
    """Recall of pictures and captions over a split, by the cosine of their embeddings or a scorer.

    Embeddings are kept by id, so a picture with five captions counts once as a candidate, and so
    does an example that padding repeats; the last stays. So are the states that a scorer reads.

    Args:
        dataset: reads ``rows``: ``{"caption_id": int, "image_id": int, "identity": int}`` each;
            picture and caption belong together when their identities are equal.
        scorer: as :func:`~tbkin.metrics.state_scores.score_states` takes it; None: cosines rank.
        uni_modal: whether embeddings of the uni-modal heads are kept, too; those of heads that
            never learned say nothing.
    """

    def __init__(self, dataset: Any, scorer: Any = None, uni_modal: bool = False):
        self.caption_identities = {row["caption_id"]: row["identity"] for row in dataset.rows}
        self.image_identities = {row["image_id"]: row["identity"] for row in dataset.rows}
        self.images: dict[int, Tensor] = {}
        self.captions: dict[int, Tensor] = {}
        self.uni_images: dict[int, Tensor] = {}
        self.uni_captions: dict[int, Tensor] = {}
        self.scorer, self.uni_modal = scorer, uni_modal
        self.regions: dict[int, Tensor] = {}
        self.words: dict[int, Tensor] = {}
        self._table: Tensor | None = None

    def rows(self, outputs: Any, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """What crosses processes, for :meth:`update`: embeddings, since scores do not add up.

        Args:
            outputs: reads ``image_embeds`` and ``text_embeds`` (B, D), unit rows; where they are
                kept, ``image_uni_embeds`` and ``text_uni_embeds``, too. For a scorer also
                ``region_states`` (B, R, D) and ``text_states`` (B, T, D).
            batch: reads ``image_ids`` and ``caption_ids`` (B,). For a scorer also ``region_mask``
                (B, R) and ``attention_mask`` (B, T).

        Returns:
            What is of pictures has a row for each that is among them, else B.
        """
        pictures = {"image_ids": batch["image_ids"], "image_embeds": outputs.image_embeds.float()}
        captions = {"caption_ids": batch["caption_ids"], "text_embeds": outputs.text_embeds.float()}
        if self.uni_modal:
            for name, rows in zip(UNI, (pictures, captions), strict=True):
                rows[name] = getattr(outputs, name).float()
        if self.scorer is not None:
            pictures["region_states"] = outputs.region_states.float()
            pictures["region_mask"] = batch["region_mask"].bool()
            captions["text_states"] = outputs.text_states.float()
            captions["text_mask"] = batch["attention_mask"].bool()
        places = {image: place for place, image in enumerate(batch["image_ids"].tolist())}
        last = torch.tensor(list(places.values()), device=batch["image_ids"].device)
        return {name: rows[last] for name, rows in pictures.items()} | captions

    def update(self, rows: Mapping[str, Tensor]) -> None:
        """Note the embeddings of a batch.

        Args:
            rows: of :meth:`rows`.
        """
        self.images.update(zip(rows["image_ids"].tolist(), rows["image_embeds"].cpu(), strict=True))
        self.captions.update(
            zip(rows["caption_ids"].tolist(), rows["text_embeds"].cpu(), strict=True)
        )
        for name, kept in zip(UNI, (self.uni_images, self.uni_captions), strict=True):
            if name in rows:
                ids = rows["image_ids" if kept is self.uni_images else "caption_ids"]
                kept.update(zip(ids.tolist(), rows[name].cpu(), strict=True))
        if self.scorer is not None:
            _keep_states(self.regions, rows, "image_ids", "region_states", "region_mask")
            _keep_states(self.words, rows, "caption_ids", "text_states", "text_mask")
            self._table = None

    def compute(self) -> dict[str, float]:
        """Shares; every picture and caption must have an embedding.

        Returns:
            ``rsum``, the six recalls added up, in [0, 6]; ``recall@1``, ``recall@5`` and
            ``recall@10``, the mean of both directions, and those of each direction alone,
            ``image_to_text_recall@1`` …, all in [0, 1].
        """
        figures = retrieval_figures(self.scores(), self.right())
        shares = {
            f"{direction}_recall@{k}": figures[direction][f"R@{k}"] / 100
            for k in KS
            for direction in DIRECTIONS
        }
        means = {
            f"recall@{k}": sum(shares[f"{direction}_recall@{k}"] for direction in DIRECTIONS) / 2
            for k in KS
        }
        return {"rsum": figures["rsum"] / 100, **means, **shares}

    def scores(self) -> Tensor | Products:
        """(I, C) by which pictures and captions are ranked, both in the data set's order."""
        if self.scorer is None:
            return Products(*self.embeds())
        if self._table is None:
            self._table = score_states(
                self.scorer,
                _in_order(self.regions, self.image_identities, "pictures"),
                _in_order(self.words, self.caption_identities, "captions"),
            )
        return self._table

    def embeds(self) -> tuple[Tensor, Tensor]:
        """(I, D) of the pictures and (C, D) of the captions, both in the data set's order."""
        return (
            torch.stack(_in_order(self.images, self.image_identities, "pictures")),
            torch.stack(_in_order(self.captions, self.caption_identities, "captions")),
        )

    def uni_embeds(self) -> tuple[Tensor, Tensor] | None:
        """As :meth:`embeds`, of the uni-modal heads; None where they are not kept."""
        if not self.uni_images:
            return None
        return (
            torch.stack(_in_order(self.uni_images, self.image_identities, "pictures")),
            torch.stack(_in_order(self.uni_captions, self.caption_identities, "captions")),
        )

    def right(self) -> Relation:
        """(I, C), which have the same identity."""
        return Relation.of_ids(
            torch.tensor(list(self.image_identities.values())),
            torch.tensor(list(self.caption_identities.values())),
        )


def retrieval_figures(
    scores: Tensor | Products,
    right: Relation,
    caption_scores: Tensor | Products | None = None,
) -> dict[str, Any]:
    """Recall in both directions.

    Args:
        scores: (I, C), picture by caption, higher is better.
        right: (I, C), which belong together: a caption's own picture, or every equivalent one.
        caption_scores: (C, I), where captions rank pictures by scores of their own, as after
            re-ranking the best k of each caption; None: ``scores``, transposed.

    Returns:
        ``image_to_text`` and ``text_to_image``, each as :func:`recall_figures`, and ``rsum``, the
        sum of their six recalls, in [0, 600].
    """
    found = {
        "image_to_text": recall_figures(scores, right),
        "text_to_image": recall_figures(
            scores.T if caption_scores is None else caption_scores, right.transposed()
        ),
    }
    return {**found, "rsum": rsum(found)}


def recall_figures(
    scores: Tensor | Products,
    right: Relation,
    excluded: Relation | None = None,
    queries: Tensor | None = None,
) -> dict[str, float]:
    """Recall in one direction.

    Args:
        scores: (Q, G), higher is better.
        right: (Q, G), what each query looks for.
        excluded: (Q, G), pairs that are no candidates. Pictures that look for pictures of their
            class exclude themselves, found by id.
        queries: (Q,), rows of ``scores`` that are asked, where they are not all.

    Returns:
        ``R@1``, ``R@5`` and ``R@10`` in per cent; ``median_rank`` (of an even number the mean of
        the middle two; VSE's scripts round down) and ``mean_rank`` of the best right item, from 1.
    """
    return rank_figures(right_ranks(scores, right, excluded, most=1, queries=queries).first())


def rank_figures(ranks: Tensor) -> dict[str, float]:
    """What :func:`recall_figures` returns, of (Q,) ranks of each query's best right item."""
    values = ranks.double()
    recalls = {f"R@{k}": 100 * (ranks <= k).double().mean().item() for k in KS}
    return {
        **recalls,
        "median_rank": values.quantile(0.5).item(),
        "mean_rank": values.mean().item(),
    }


def mean_figures(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The mean over folds of everything that :func:`retrieval_figures` returns."""
    found = {
        direction: {
            name: sum(part[direction][name] for part in parts) / len(parts)
            for name in parts[0][direction]
        }
        for direction in DIRECTIONS
    }
    return {**found, "rsum": rsum(found)}


def rsum(figures: Mapping[str, Mapping[str, float]]) -> float:
    """The sum of the six recalls of both directions, in [0, 600]."""
    return sum(figures[direction][f"R@{k}"] for direction in DIRECTIONS for k in KS)


def folds(pictures_of: Tensor, pictures: int, size: int) -> Iterator[tuple[slice, slice]]:
    """Consecutive parts of a split: rows and columns of the scores.

    Args:
        pictures_of: (C,) ascending, each caption's picture, by its place in the file.
        pictures: how many there are.
        size: pictures of a fold.

    Raises:
        ValueError: pictures that would be left over.
    """
    if pictures % size:
        raise ValueError(
            f"{pictures} pictures are {pictures // size} folds of {size} and {pictures % size} "
            "pictures left over; set fold_images to a divisor, or protocol=5k to rank all at once."
        )
    for start in range(0, pictures, size):
        edges = torch.tensor([start, start + size])
        first, last = torch.searchsorted(pictures_of.contiguous(), edges).tolist()
        yield slice(start, start + size), slice(first, last)


def _keep_states(
    kept: dict[int, Tensor], rows: Mapping[str, Tensor], ids: str, states: str, mask: str
) -> None:
    """Note the states of a batch by id, without padding."""
    for one, found, there in zip(rows[ids].tolist(), rows[states], rows[mask], strict=True):
        kept[one] = found[there].cpu()


def _in_order(
    embeds: Mapping[int, Tensor], identities: Mapping[int, int], kind: str
) -> list[Tensor]:
    """What there is of each, in the order of the data set."""
    missing = [one for one in identities if one not in embeds]
    if missing:
        raise ValueError(
            f"{len(missing)} of {len(identities)} {kind} have no embedding{few(missing)}; "
            "run the model on the whole split first."
        )
    return [embeds[one] for one in identities]
