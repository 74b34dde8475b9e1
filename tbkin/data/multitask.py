"""Questions and expressions together: one batch holds both, each with what it should teach.

A shuffled epoch visits every question and every expression once, so each task gets its share of the
data (proportional sampling) and of every batch, and no loop needs to know of tasks. Each objective
is a mean over the examples of its own task.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import Dataset

from tbkin.data import refcoco, vqa
from tbkin.data.collate import NO_ID
from tbkin.data.features import check_fingerprint
from tbkin.data.processing_tbkin import Example, TBKINProcessor
from tbkin.data.vocabulary import add_words


class QuestionsAndExpressions(Dataset[Example]):
    """The examples of :class:`VQADataset`, then those of :class:`RefCOCODataset`.

    Args:
        roots: prepared folders of "vqa" and "grounding", whose regions come from one detector.
        split: of both.
        processor: makes examples.
        labels: the answers that the model knows.
        max_examples: use only the first so many of each; 0: all.
    """

    def __init__(
        self,
        roots: Mapping[str, Path],
        split: str,
        processor: TBKINProcessor,
        labels: Sequence[str],
        max_examples: int = 0,
    ):
        self.questions = vqa.VQADataset(roots["vqa"], split, processor, labels, max_examples)
        self.expressions = refcoco.RefCOCODataset(
            roots["grounding"], split, processor, (), max_examples
        )
        self.store = self.questions.store
        other = self.expressions.store.fingerprint
        check_fingerprint(self.store.fingerprint, other, str(roots["grounding"]), same_boxes=False)
        self.parts = {"vqa": self.questions, "grounding": self.expressions}
        self.ends = list(accumulate((len(self.questions), len(self.expressions))))

    def __len__(self) -> int:
        return self.ends[-1]

    def __getitem__(self, place: int) -> Example:
        if place < self.ends[0]:
            example = self.questions[place]
            return nothing_meant(example) | example
        example = self.expressions[place - self.ends[0]]
        return {"question_id": NO_ID, "answer_scores": {}, "answer_frequencies": {}} | example

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The prepared rows of both."""
        return self.questions.rows + self.expressions.rows


def nothing_meant(example: Example) -> Example:
    """The grounding labels of an example that is no expression."""
    count = len(example["region_boxes"])
    return {
        "sentence_id": NO_ID,
        "target_box": torch.zeros(4),
        "rank_labels": torch.zeros(count),
        "box_labels": torch.zeros(count, 4),
        "box_label_mask": torch.zeros(count, dtype=torch.bool),
    }


def build_processor(roots: Mapping[str, Path], split: str, parser: str = "auto") -> TBKINProcessor:
    """A processor that knows the words of the questions and of the expressions."""
    processor = vqa.build_processor(roots["vqa"], split, parser)
    other = refcoco.build_processor(roots["grounding"], split, parser)
    processor.tokenizer, _ = add_words(processor.tokenizer, other.tokenizer)
    return processor


def read_answers(roots: Mapping[str, Path]) -> list[str]:
    """The answer vocabulary."""
    return vqa.read_answers(roots["vqa"])
