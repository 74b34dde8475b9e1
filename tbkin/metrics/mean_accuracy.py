"""One number for a model of several tasks, to choose its checkpoint by."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor


class MeanAccuracy:
    """Two metrics on the same batches, and the mean of their accuracies (*ours*).

    Args:
        questions: a ``VQAAccuracy``.
        expressions: a ``GroundingAccuracy``.
    """

    def __init__(self, questions: Any, expressions: Any):
        self.questions, self.expressions = questions, expressions

    def rows(self, outputs: Any, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """What both read of a batch; ids below 0 say what is none of theirs."""
        return self.questions.rows(outputs, batch) | self.expressions.rows(outputs, batch)

    def update(self, rows: Mapping[str, Tensor]) -> None:
        """Note what :meth:`rows` gave."""
        self.questions.update(rows)
        self.expressions.update(rows)

    def compute(self) -> dict[str, float]:
        """The values of both, in [0, 1], and ``mean_accuracy``."""
        values = self.questions.compute() | self.expressions.compute()
        return values | {
            "mean_accuracy": (values["vqa_accuracy"] + values["grounding_accuracy"]) / 2
        }
