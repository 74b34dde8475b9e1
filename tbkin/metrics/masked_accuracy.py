"""How much of what pre-training hides is restored, and how often a wrong picture is noticed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

KINDS = ("masked_word", "masked_object", "masked_attribute", "match")


class MaskedAccuracy:
    """Shares of right answers over a split, collected batch by batch.

    Counts are kept by caption id, so an example that padding repeats counts once; the last stays.
    """

    def __init__(self) -> None:
        self.counts: dict[int, list[int]] = {}  # right and asked, for each of KINDS

    def rows(self, outputs: Any, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """What crosses processes, for :meth:`update`.

        Args:
            outputs: reads ``word_logits`` (B, T, vocabulary), ``object_logits`` and
                ``attribute_logits`` (B, R, classes), ``match_logits`` (B, 2).
            batch: reads ``word_labels`` (B, T), ``object_labels`` and ``attribute_labels`` (B, R),
                -100 where nothing is asked, ``match_labels`` and ``caption_ids`` (B,).

        Returns:
            ``counts`` (B, 4, 2), right and asked for each of ``KINDS``, and ``caption_ids`` (B,).
        """
        asked = (
            (outputs.word_logits, batch["word_labels"]),
            (outputs.object_logits, batch["object_labels"]),
            (outputs.attribute_logits, batch["attribute_labels"]),
            (outputs.match_logits[:, None], batch["match_labels"][:, None]),
        )
        counts = [count_right(logits, labels) for logits, labels in asked]
        return {"counts": torch.stack(counts, dim=1), "caption_ids": batch["caption_ids"]}

    def update(self, rows: Mapping[str, Tensor]) -> None:
        """Note what :meth:`rows` counted."""
        for caption, counts in zip(
            rows["caption_ids"].tolist(), rows["counts"].flatten(1).tolist(), strict=True
        ):
            self.counts[caption] = counts

    def compute(self) -> dict[str, float]:
        """Shares in [0, 1].

        ``masked_word_accuracy``, ``masked_object_accuracy``, ``masked_attribute_accuracy`` of the
        hidden positions, ``match_accuracy`` of the pairs, and ``pretraining_accuracy``, the mean of
        those four (*ours*), which chooses the best checkpoint. What was never asked is left out.
        """
        totals = torch.tensor(list(self.counts.values())).sum(dim=0).reshape(-1, 2).tolist()
        values = {
            f"{kind}_accuracy": right / asked
            for kind, (right, asked) in zip(KINDS, totals, strict=True)
            if asked
        }
        return values | {"pretraining_accuracy": sum(values.values()) / len(values)}


def count_right(logits: Tensor, labels: Tensor) -> Tensor:
    """How many of each row's labels the best logit hits, and how many there are.

    Args:
        logits: (B, L, classes).
        labels: (B, L), negative where nothing is asked.

    Returns:
        (B, 2) int64.
    """
    asked = labels >= 0
    right = asked & (logits.argmax(dim=-1) == labels)
    return torch.stack([right.sum(dim=1), asked.sum(dim=1)], dim=1)
