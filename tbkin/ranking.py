"""Ranking in two stages: all by the scores of the first, the best k by the fused score.

The first stage, products of embeddings or a scorer's table, is exact and cheap; the second judges a
picture and a caption together, with the graph that aligns them, and costs a pass of the model each.
A pair that is among the best of its picture and among the best of its caption is judged once.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import broadcast_object_list
from torch import Tensor, nn
from torch.utils.data import Dataset

from tbkin.data.processing_tbkin import Example
from tbkin.data.retrieval import RetrievalDataset, image_ids_of
from tbkin.metrics.ranks import Products
from tbkin.metrics.top_k import best_of_table, rerank_scores
from tbkin.running import Runner, evaluate_in_shards


@dataclass(frozen=True)
class Candidates:
    """Who is looked at again.

    Attributes:
        captions: (I, k) places of each picture's best captions.
        images: (C, k) places of each caption's best pictures.
    """

    captions: Tensor
    images: Tensor

    @classmethod
    def of(cls, scores: Tensor, k: int) -> Candidates:
        """The best k of each side by (I, C) scores, picture by caption; ``k=0``: all."""
        most = max(scores.shape)
        return cls(
            captions=best_of_table(scores, k or most)[1],
            images=best_of_table(scores.T, k or most)[1],
        )

    def pairs(self) -> Tensor:
        """(P, 2) places of a picture and a caption, each pair once, those of a picture together."""
        rows = torch.arange(len(self.captions))[:, None].expand_as(self.captions)
        columns = torch.arange(len(self.images))[:, None].expand_as(self.images)
        both = [
            torch.stack([rows, self.captions], dim=-1).flatten(0, 1),
            torch.stack([self.images, columns], dim=-1).flatten(0, 1),
        ]
        return torch.cat(both).unique(dim=0)


class PairDataset(Dataset[Example]):
    """Pictures and captions of a data set, put together as a list of pairs says.

    Args:
        dataset: whose they are.
        pairs: (P, 2) places of pictures, in the order of :func:`image_ids_of`, and of captions.
    """

    def __init__(self, dataset: RetrievalDataset, pairs: Tensor):
        self.dataset, self.pairs = dataset, pairs
        self.image_ids = image_ids_of(dataset)

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, place: int) -> Example:
        image, caption = self.pairs[place].tolist()
        return self.dataset.pair(self.image_ids[image], caption) | {"pair_id": place}


class MatchScores:
    """Collects how well the pairs fit, for ``running.Runner``.

    Args:
        count: how many pairs there are.
    """

    def __init__(self, count: int):
        self.scores = torch.full((count,), torch.nan)

    def rows(self, outputs: Any, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """``pair_ids`` and, as ``fits``, the log odds that picture and caption belong together."""
        logits = outputs.match_logits.float()
        return {"pair_ids": batch["pair_ids"], "fits": logits[:, 1] - logits[:, 0]}

    def update(self, rows: Mapping[str, Tensor]) -> None:
        """Note the scores of a batch."""
        self.scores[rows["pair_ids"].long()] = rows["fits"].cpu().float()

    def compute(self) -> dict[str, float]:
        """Nothing yet: scores of pairs say nothing by themselves."""
        return {}


class Judge(nn.Module):
    """A retrieval model that judges the pairs of a batch, and does nothing else."""

    def __init__(self, model: Any):
        super().__init__()
        self.model = model
        self.train(model.training)  # who runs it leaves it as it was

    def forward(self, **inputs: Any) -> Any:
        """As ``TBKINForImageTextRetrieval.match``."""
        return self.model.match(**inputs)


@dataclass(frozen=True)
class SecondStage:
    """What looking again found.

    Attributes:
        image_scores: (I, C), pictures looking for captions: the best k of each ordered by the fused
            score, above all others.
        caption_scores: (C, I), captions looking for pictures, likewise.
        cost: ``k``, ``passes`` of the model, ``all_pairs`` that there are, ``seconds``.
    """

    image_scores: Tensor
    caption_scores: Tensor
    cost: dict[str, Any]


def look_again(
    runner: Runner,
    scores: Tensor | Products | None,
    k: int,
    folder: Path,
    settings: Mapping[str, Any],
) -> SecondStage | None:
    """Judge the best k of every picture and of every caption, on all processes together.

    Args:
        runner: of the first stage: its model is a ``TBKINForImageTextRetrieval``, its dataset a
            ``RetrievalDataset``.
        scores: (I, C) of the first stage, picture by caption, in the first process; others need
            none.
        k: how many; 0: all pairs there are.
        folder: of the shards; see ``running.evaluate_in_shards``.
        settings: JSON values that decide what comes out.

    Returns:
        In the first process; None in the others.
    """
    began = time.monotonic()
    accelerator, dataset = runner.accelerator, runner.dataset
    table = scores[:] if accelerator.is_main_process else None
    found = None if table is None else Candidates.of(table, k)
    candidates = broadcast_object_list([found])[0]
    pairs = candidates.pairs()
    fits = MatchScores(len(pairs))
    judging = Runner(
        accelerator,
        Judge(runner.model),
        PairDataset(dataset, pairs),
        runner.collate,
        fits,
        runner.batch_size,
        runner.workers,
    )
    if evaluate_in_shards(judging, folder, {**settings, "rerank": k}) is None:
        return None
    fused = torch.full(table.shape, torch.nan)
    fused[pairs[:, 0], pairs[:, 1]] = fits.scores
    return SecondStage(
        rerank_scores(table, fused.gather(1, candidates.captions), candidates.captions),
        rerank_scores(table.T, fused.T.gather(1, candidates.images), candidates.images),
        {
            "k": k or "all",
            "passes": len(pairs),
            "all_pairs": fused.numel(),
            "seconds": round(time.monotonic() - began, 2),
        },
    )
