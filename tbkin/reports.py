"""What an evaluation says, task by task: by which metric, which values, which file, which table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from tbkin.data.prepared import read_split
from tbkin.metrics.grounding_accuracy import GroundingAccuracy, score_boxes
from tbkin.metrics.grounding_baselines import candidate_figures
from tbkin.metrics.masked_accuracy import MaskedAccuracy
from tbkin.metrics.recall import Recall
from tbkin.metrics.vqa_accuracy import VQAAccuracy, baselines, score_predictions
from tbkin.reports_retrieval import ranking_of, retrieval_lines, retrieval_values, score_tables
from tbkin.scoring import vqa_table
from tbkin.scoring_grounding import grounding_table
from tbkin.tasks import has_learned


@dataclass(frozen=True)
class Rules:
    """How predictions are judged; each task reads its own.

    Attributes:
        vqa: version of the VQA script.
        iou: form of the IoU of boxes.
        comparison: whether an IoU of just the threshold passes.
        regress: whether a region is moved before it is judged.
        masking: what pre-training hides.
        rerank: how many of the best retrieval orders by the fused score: "", a number, or "all".
        scorer: ``model.scorer``, which says what retrieval ranks by before that.
    """

    vqa: str = "official"
    iou: str = "plain"
    comparison: str = "ge"
    regress: bool = True
    masking: str = "graph"
    rerank: str = ""
    scorer: str = "none"


@dataclass(frozen=True)
class Report:
    """One task.

    Attributes:
        metric: ``(dataset, labels, rules, model)`` -> what ``running.Runner`` takes.
        rules: ``(rules) ->`` those that decide this task's numbers, by name, for the protocol.
        values: ``(metric, dataset, root, rules, computed) ->`` what ``metrics.json`` says, where
            ``computed`` is what ``metric.compute`` gave.
        predictions: ``(metric) ->`` content of ``predictions.json`` in the benchmark's own format;
            None: there is none.
        table: ``(report) ->`` lines to print; "" where nobody knows the truth.
        tables: ``(metric, computed) ->`` file name -> tensors by name, for files beside it.
    """

    metric: Callable[[Any, list[str], Rules, Any], Any]
    rules: Callable[[Rules], dict[str, Any]]
    values: Callable[[Any, Any, Path, Rules, dict[str, float]], dict[str, Any]]
    predictions: Callable[[Any], Any]
    table: Callable[[dict[str, Any]], str]
    tables: Callable[[Any, dict[str, Any]], dict[str, dict[str, Tensor]]] = (
        lambda metric, computed: {}
    )


class Answers(VQAAccuracy):
    """Collects answers to questions whose truth nobody knows here (the official test split)."""

    def compute(self) -> dict[str, float]:
        """Nothing to compare with."""
        return {}


def _vqa_metric(dataset: Any, labels: list[str], rules: Rules, model: Any) -> Any:
    questions = dataset.questions()
    known = all("answers" in row for row in questions.values())
    return (VQAAccuracy if known else Answers)(questions, labels, rules.vqa)


def _vqa_values(
    metric: Any, dataset: Any, root: Path, rules: Rules, computed: dict[str, float]
) -> dict[str, Any]:
    questions = dataset.questions()
    if isinstance(metric, Answers):
        return {"questions": len(questions)}
    train = {row["question_id"]: row for row in read_split(root, "train")}
    return {
        **score_predictions(metric.predictions, questions, rules.vqa),
        "baselines": {"from": "train", **baselines(train, questions, rules.vqa)},
    }


def _vqa_predictions(metric: Any) -> list[dict[str, Any]]:
    return [
        {"question_id": question, "answer": answer}
        for question, answer in sorted(metric.predictions.items())
    ]


def _vqa_lines(report: dict[str, Any]) -> str:
    return vqa_table(report) if "overall" in report else ""


def _grounding_metric(
    dataset: Any, labels: list[str], rules: Rules, model: Any
) -> GroundingAccuracy:
    return GroundingAccuracy(dataset.expressions(), rules.iou, rules.comparison, rules.regress)


def _grounding_values(
    metric: Any, dataset: Any, root: Path, rules: Rules, computed: dict[str, float]
) -> dict[str, Any]:
    gold = dataset.expressions()
    return {
        **score_boxes(metric.predictions, gold, rules.iou, rules.comparison),
        "candidates": candidate_figures(dataset.candidates(), gold, rules.iou, rules.comparison),
    }


def _pretraining_table(report: dict[str, Any]) -> str:
    """Per cent, two places."""
    rows = {name: value for name, value in report.items() if name.endswith("_accuracy")}
    width = max(map(len, rows))
    lines = [f"restored, in per cent, {report['captions']} captions, masking {report['masking']}"]
    lines += [f"{name:<{width}}  {100 * value:6.2f}" for name, value in rows.items()]
    return "\n".join(lines)


REPORTS: dict[str, Report] = {
    "grounding": Report(
        metric=_grounding_metric,
        rules=lambda rules: {
            "iou": rules.iou,
            "comparison": rules.comparison,
            "box": "as the model says it" if rules.regress else "the chosen region, not moved",
        },
        values=_grounding_values,
        predictions=lambda metric: {
            str(sentence): box for sentence, box in sorted(metric.predictions.items())
        },
        table=grounding_table,
    ),
    "pretraining": Report(
        metric=lambda dataset, labels, rules, model: MaskedAccuracy(),
        rules=lambda rules: {"masking": rules.masking},
        values=lambda metric, dataset, root, rules, computed: {
            "captions": len(dataset),
            "masking": rules.masking,
            **computed,
        },
        predictions=lambda metric: None,
        table=_pretraining_table,
    ),
    "retrieval": Report(
        metric=lambda dataset, labels, rules, model: Recall(
            dataset,
            model.scorer,
            uni_modal=has_learned(model.image_uni_head.linear, model.text_uni_head.linear),
        ),
        rules=lambda rules: {
            "ties": "pessimistic",
            "ranking": ranking_of(rules.rerank, rules.scorer),
        },
        values=retrieval_values,
        predictions=lambda metric: None,
        table=retrieval_lines,
        tables=score_tables,
    ),
    "vqa": Report(
        metric=_vqa_metric,
        rules=lambda rules: {"rule": rules.vqa},
        values=_vqa_values,
        predictions=_vqa_predictions,
        table=_vqa_lines,
    ),
}
