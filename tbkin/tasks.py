"""The table of contents: what can be learned, from which data, by which model, judged how."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tbkin.data.vqa import VQADataset, build_processor, read_answers
from tbkin.metrics.vqa_accuracy import VQAAccuracy
from tbkin.model.heads import TBKINForQuestionAnswering
from tbkin.model.modeling_tbkin import TBKINPreTrainedModel


@dataclass(frozen=True)
class Task:
    """One row.

    Attributes:
        dataset: ``(root, split, processor, labels, max_examples) -> Dataset`` of examples.
        model: class with ``from_pretrained``.
        metric: ``(questions, labels) ->`` object with ``update`` and ``compute``.
        monitor: the value of ``compute`` that chooses the best checkpoint; higher is better.
        objectives: objective -> settings, unless a run names its own.
        build_processor: ``(root, split, parser) -> TBKINProcessor``.
        read_labels: ``(root) ->`` names of the model's outputs.
    """

    dataset: Callable[..., Any]
    model: type[TBKINPreTrainedModel]
    metric: Callable[..., Any]
    monitor: str
    objectives: dict[str, dict[str, Any]]
    build_processor: Callable[..., Any]
    read_labels: Callable[[Path], list[str]]


TASKS: dict[str, Task] = {
    "vqa": Task(
        dataset=VQADataset,
        model=TBKINForQuestionAnswering,
        metric=VQAAccuracy,
        monitor="vqa_accuracy",
        objectives={"answer": {}, "region_words": {"weight": 1.0}},
        build_processor=build_processor,
        read_labels=read_answers,
    ),
}
