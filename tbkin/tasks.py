"""The table of contents: what can be learned, from which data, by which model, judged how."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from tbkin.data import multitask, pretraining, refcoco, retrieval, vqa
from tbkin.metrics.grounding_accuracy import GroundingAccuracy
from tbkin.metrics.masked_accuracy import MaskedAccuracy
from tbkin.metrics.mean_accuracy import MeanAccuracy
from tbkin.metrics.recall import Recall
from tbkin.metrics.vqa_accuracy import VQAAccuracy
from tbkin.model.configuration_tbkin import TBKINConfig
from tbkin.model.heads import (
    TBKINForGrounding,
    TBKINForMultiTask,
    TBKINForPreTraining,
    TBKINForQuestionAnswering,
)
from tbkin.model.modeling_tbkin import TBKINPreTrainedModel
from tbkin.model.retrieval import TBKINForImageTextRetrieval


@dataclass(frozen=True)
class Task:
    """One row.

    Attributes:
        dataset: ``(root, split, processor, labels, max_examples, **settings) -> Dataset`` of
            examples. One with a method ``set_visit(seed, epoch)`` is told when an epoch of
            training begins.
        model: class with ``from_pretrained``.
        metric: ``(dataset, labels, model) ->`` object with ``rows(outputs, batch)``, tensors that
            cross processes, ``update(rows)`` and ``compute()``.
        monitor: the value of ``compute`` that chooses the best checkpoint; higher is better.
        objectives: objective -> settings, unless a run names its own.
        build_processor: ``(root, split, parser) -> TBKINProcessor``; with ``prompt`` among the
            training settings it takes ``prompt`` as well.
        read_labels: ``(root) ->`` names of the model's outputs.
        labelled: prefixes of the weights that have a row for each label.
        label_counts: ``(labels) ->`` settings of the model that follow from the labels.
        data_settings: settings of ``data.*`` that the dataset takes as well.
        training_settings: likewise, but of the dataset that is learned from alone.
        parts: tasks that are learned together; then ``root`` is a folder for each, by name.
    """

    dataset: Callable[..., Any]
    model: type[TBKINPreTrainedModel]
    metric: Callable[[Any, list[str], Any], Any]
    monitor: str
    objectives: dict[str, dict[str, Any]]
    build_processor: Callable[..., Any]
    read_labels: Callable[[Path], list[str]]
    labelled: tuple[str, ...]
    label_counts: Callable[[list[str]], dict[str, int]] = lambda labels: {}
    data_settings: tuple[str, ...] = ()
    training_settings: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()


TASKS: dict[str, Task] = {
    "grounding": Task(
        dataset=refcoco.RefCOCODataset,
        model=TBKINForGrounding,
        metric=lambda dataset, labels, model: GroundingAccuracy(dataset.expressions()),
        monitor="grounding_accuracy",
        objectives={
            "grounding_rank": {},
            "grounding_box": {"weight": 0.5},
            "region_words": {},
        },
        build_processor=refcoco.build_processor,
        read_labels=lambda root: [],
        labelled=(),
    ),
    "multitask": Task(
        dataset=multitask.QuestionsAndExpressions,
        model=TBKINForMultiTask,
        metric=lambda dataset, labels, model: MeanAccuracy(
            VQAAccuracy(dataset.questions.questions(), labels),
            GroundingAccuracy(dataset.expressions.expressions()),
        ),
        monitor="mean_accuracy",
        objectives={
            "answer": {},
            "grounding_rank": {},
            "grounding_box": {"weight": 0.5},
            "region_words": {},
        },
        build_processor=multitask.build_processor,
        read_labels=multitask.read_answers,
        labelled=("head.answers.",),
        parts=("vqa", "grounding"),
    ),
    "pretraining": Task(
        dataset=pretraining.PretrainingDataset,
        model=TBKINForPreTraining,
        metric=lambda dataset, labels, model: MaskedAccuracy(),
        monitor="pretraining_accuracy",
        objectives={
            "masked_words": {},
            "masked_features": {},
            "masked_objects": {},
            "masked_attributes": {},
            "matching": {},
            "transport": {"weight": 0.1},
            "region_words": {},  # ours; 0 for a model that reads no words off features
        },
        build_processor=pretraining.build_processor,
        read_labels=pretraining.read_labels,
        labelled=("region_head.object.", "region_head.attribute."),
        label_counts=pretraining.label_counts,
        data_settings=("masking",),
    ),
    "retrieval": Task(
        dataset=retrieval.RetrievalDataset,
        model=TBKINForImageTextRetrieval,
        metric=lambda dataset, labels, model: Recall(dataset, model.scorer),
        monitor="recall@1",
        objectives={"contrastive": {}, "region_words": {}},
        build_processor=retrieval.build_processor,
        read_labels=lambda root: [],
        labelled=(),
        training_settings=("teachers", "prompt"),
    ),
    "vqa": Task(
        dataset=vqa.VQADataset,
        model=TBKINForQuestionAnswering,
        metric=lambda dataset, labels, model: VQAAccuracy(dataset.questions(), labels),
        monitor="vqa_accuracy",
        objectives={"answer": {}, "region_words": {"weight": 1.0}},
        build_processor=vqa.build_processor,
        read_labels=vqa.read_answers,
        labelled=("head.answers.",),
    ),
}


JUDGED = (
    "task=retrieval objectives.contrastive.weight=1 objectives.region_words.weight=1 "
    "objectives.matching.weight=1"
)
"""Settings of a run that learns to embed and to judge pairs: objectives named are all there are."""


def has_learned(*layers: nn.Linear) -> bool:
    """Whether training has moved every one of these.

    A bias starts at exactly 0, and the first step that the layer takes part in moves it.
    """
    return all(bool(layer.bias.any()) for layer in layers)


def check_judge(model: TBKINForImageTextRetrieval) -> None:
    """Raise ValueError for a model that was trained without judging pairs."""
    if not has_learned(model.match_head):
        raise ValueError(
            "this model never learned to judge pairs of a picture and a caption, its fused score "
            f"means nothing; train it further: tbkin train {JUDGED} init_from=DIR"
        )


def check_ranks(task: str, config: TBKINConfig, start: str) -> None:
    """Raise ValueError for a retrieval model without embeddings, as ROSITA's, which ranks nothing.

    Args:
        task: row of ``TASKS``.
        config: of the model.
        start: what a run must be told to start from this model; "" where it does.
    """
    if task == "retrieval" and not config.embedding_size:
        raise ValueError(
            "the model only judges pairs (embedding_size=0) and cannot rank; give it embeddings: "
            f"tbkin train task=retrieval {start}model.embedding_size=256"
        )
