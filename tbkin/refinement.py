"""Scores refined by MMRef's re-rankers, the weight chosen on a split that is not scored.

``tbkin eval task=retrieval refine=RULE``: a second split is embedded, too, every weight of a small
grid is tried there, and the best by rsum is reported beside weight 0, whatever it turns out to be.
The rules, and what is known of them, are in ``tbkin/rerank.py``.

Both directions look through the rule: texts for pictures, as in the paper, and pictures for texts,
where the texts are the gallery (*ours*). For the two rules with references both are the same table.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tbkin.config import choose
from tbkin.data.retrieval import RetrievalDataset
from tbkin.metrics.ranks import Products
from tbkin.metrics.recall import Recall, retrieval_figures
from tbkin.objectives.learned import read_learned
from tbkin.objectives.mmref import ReferenceBank
from tbkin.provenance import check_unseen
from tbkin.rerank import RERANKERS, GalleryNeighbour, ReferenceReranker, Reranker, weigh
from tbkin.running import Runner, evaluate_in_shards

WEIGHTS = (0.1, 0.2, 0.5, 1.0, 2.0)  # beside 0; of cosines on both sides
TEMPERATURES = (0.02, 0.05, 0.1)
NEIGHBOURS = (2, 5, 10)
BANK = "references.bank.vectors.weight"  # in the file of what objectives have learned


@dataclass(frozen=True)
class Refined:
    """What the rule made of the scored split.

    Attributes:
        image_scores: (I, C), pictures looking for captions.
        caption_scores: (C, I), captions looking for pictures.
        choice: for ``metrics.json``: ``rule``, ``chosen_on``, which split (``split``, ``sha256``
            and ``items``), the ``weight`` that did best and the ``setting`` that it did so with (""
            at weight 0), and ``tried``, setting -> weight -> rsum.
    """

    image_scores: Tensor
    caption_scores: Tensor
    choice: dict[str, Any]


def candidates_of(rule: str, folder: Path, embedding_size: int) -> dict[str, Reranker]:
    """The re-rankers that are tried, by what sets them apart from one another.

    Args:
        rule: of ``RERANKERS``.
        folder: checkpoint; two of the rules want the references that it was trained with.
        embedding_size: of its model.

    Raises:
        ValueError: an unknown rule, or a checkpoint without references for a rule that wants them.
    """
    kind = choose(RERANKERS, rule, "refine")
    if not issubclass(kind, ReferenceReranker):
        return {f"neighbours={count}": GalleryNeighbour(count) for count in NEIGHBOURS}
    references = read_references(folder, embedding_size)
    if references is None:
        raise ValueError(
            f"refine={rule} needs references, and {folder} has none; train with "
            "configs/objectives/mmref.yaml, or take refine=gallery_neighbour."
        )
    return {f"temperature={value}": kind(references, value) for value in TEMPERATURES}


def read_references(folder: Path, embedding_size: int) -> Tensor | None:
    """(m, D) of what MMRef's training left beside a checkpoint; None where it did not run."""
    vectors = read_learned(folder).tensors.get(BANK)
    if vectors is None:
        return None
    bank = ReferenceBank(len(vectors), embedding_size, vectors.shape[1] // embedding_size)
    with torch.no_grad():
        bank.vectors.weight.copy_(vectors)
        return bank.matrix()


def check_split(
    folder: Path, root: Path, split: str, refine_split: str, tuning: RetrievalDataset
) -> None:
    """Refuse to choose where the choice would be worth nothing.

    Args:
        folder: checkpoint.
        root: prepared folder.
        split: that is scored.
        refine_split: that the weight is to be chosen on.
        tuning: the data set of the latter.

    Raises:
        ValueError: both are the same, or the checkpoint was trained on the latter. It may have been
            chosen by it.
    """
    if refine_split == split:
        raise ValueError(
            f"refine_split={refine_split} is the split that is scored, and a weight chosen there "
            "flatters it; set split=test, or another refine_split."
        )
    images = {row["image_id"] for row in tuning.rows}
    if check_unseen(folder, root, refine_split, images, allowed=True)["split_seen"]:
        raise ValueError(
            f"{folder} was trained on refine_split={refine_split}, where its scores are too good "
            "to choose a weight by; name a split that it was not trained on."
        )


def refine(
    runner: Runner,
    tuning: RetrievalDataset,
    candidates: Mapping[str, Reranker],
    asked: Mapping[str, Any],
    folder: Path,
    settings: Mapping[str, Any],
) -> Refined | None:
    """Embed the second split on all processes together, choose there, refine here.

    Args:
        runner: of the scored split, after it ran; its metric is a ``Recall``.
        tuning: the second split.
        candidates: of :func:`candidates_of`.
        asked: ``rule`` and ``chosen_on`` of the record.
        folder: of the shards; see ``running.evaluate_in_shards``.
        settings: JSON values that decide what comes out.

    Returns:
        In the first process; None in the others.
    """
    there = Recall(tuning)
    embedding = Runner(
        runner.accelerator,
        runner.model,
        tuning,
        runner.collate,
        there,
        runner.batch_size,
        runner.workers,
    )
    if evaluate_in_shards(embedding, folder, settings) is None:
        return None
    tried = try_weights(there, candidates)
    setting, weight = best_of(tried)
    choice = {**asked, "weight": weight, "setting": setting, "tried": tried}
    images, captions = runner.metric.embeds()
    scores = Products(images, captions)[:]
    if not weight:
        return Refined(scores, scores.T, choice)
    chosen = replace(candidates[setting], weight=weight)
    return Refined(
        chosen.rerank(images, captions, scores), chosen.rerank(captions, images, scores.T), choice
    )


def try_weights(
    metric: Recall, candidates: Mapping[str, Reranker]
) -> dict[str, dict[float, float]]:
    """Rsum by setting and weight; weight 0 stands first everywhere."""
    images, captions = metric.embeds()
    scores, right = Products(images, captions)[:], metric.right()

    def measure(tables: Tensor) -> float:
        of_images, of_captions = tables
        return retrieval_figures(of_images, right, of_captions.T)["rsum"]

    tried = {}
    for setting, candidate in candidates.items():
        similarity = torch.stack(
            [candidate.similarity(images, captions), candidate.similarity(captions, images).T]
        )
        tried[setting] = weigh(scores.expand_as(similarity), similarity, WEIGHTS, measure)
    return tried


def best_of(tried: Mapping[str, Mapping[float, float]]) -> tuple[str, float]:
    """Setting and weight of the best; where nothing is better than weight 0, that and ""."""
    best, found = next(iter(tried.values()))[0.0], ("", 0.0)
    for setting, rsums in tried.items():
        for weight, rsum in rsums.items():
            if rsum > best:
                best, found = rsum, (setting, weight)
    return found
