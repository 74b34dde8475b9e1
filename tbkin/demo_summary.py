"""What the demo's summary and table say: scores of its models on unseen pictures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tbkin.evaluation import EvalConfig, EvalData, default_output, evaluate_checkpoint
from tbkin.metrics.recall import DIRECTIONS

TESTS = ("testA", "testB")  # of the expressions; half of the test pictures each


def questions_summary(model: Path, bare: Path, prepared: Path) -> dict[str, Any]:
    """VQA accuracy in per cent on the test split, beside baselines."""
    scores = score(model, prepared, "test", "vqa")
    without = score(bare, prepared, "test", "vqa")
    return {
        "overall": scores["overall"],
        "per_question_kind": scores["per_question_type"],
        "majority_baseline": scores["baselines"]["majority_answer"]["overall"],
        "per_kind_baseline": scores["baselines"]["per_question_type"]["overall"],
        "without_graph": without["overall"],
        "without_graph_per_question_kind": without["per_question_type"],
        "questions": scores["questions"],
        "selection": scores["selection"],
        "protocol": scores["protocol"],
    }


def boxes_summary(model: Path, bare: Path, prepared: Path) -> dict[str, Any]:
    """Grounding accuracy in [0, 1] on both test splits and together, beside baselines."""
    scores = [score(model, prepared, split, "grounding") for split in TESTS]
    without = [score(bare, prepared, split, "grounding") for split in TESTS]
    candidates = [one["candidates"] for one in scores]
    names = ("accuracy@0.5", "accuracy@0.7", "mean_iou")
    return {
        **{name: mean(scores, name) for name in names},
        "sentences": sum(one["sentences"] for one in scores),
        **{split: one["accuracy@0.5"] for split, one in zip(TESTS, scores, strict=True)},
        "candidates": {
            kind: {name: mean([one[kind] for one in candidates], name) for name in names}
            for kind in candidates[0]
        },
        "without_graph": {name: mean(without, name) for name in names},
        "protocol": {one["split"]: one["protocol"] for one in scores},
    }


def pictures_summary(model: Path, prepared: Path) -> dict[str, Any]:
    """Recall in per cent on the test split, of an evaluation that has been there.

    Right is every picture that a caption is true of (``equivalent``), or its own alone.
    """
    path = default_output(model, prepared, "test") / "metrics.json"
    scores = json.loads(path.read_text(encoding="utf-8"))
    kept = (*DIRECTIONS, "rsum", "first_stage")
    return {
        "equivalent": {name: scores["equivalent"][name] for name in kept},
        "own": {name: scores[name] for name in kept},
        **{name: scores[name] for name in ("pictures", "captions", "second_stage", "protocol")},
    }


def mean(results: list[dict[str, Any]], name: str) -> float:
    """Mean of a value over the sentences of several splits."""
    total = sum(one["sentences"] for one in results)
    return sum(one[name] * one["sentences"] for one in results) / total


def how(protocol: dict[str, Any]) -> str:
    """How a number was made, in a line; ``summary.json`` has all of it."""
    rules = ", ".join(f"{name} {value}" for name, value in protocol["rules"].items())
    return f"{rules}; split {protocol['sha256'][:12]}, run {protocol['model']['run']}"


def rows(summary: dict[str, Any]) -> list[tuple[str, str]]:
    """The summary as lines of a table, in per cent."""
    scores, boxes, pictures = summary["vqa"], summary["grounding"], summary["retrieval"]
    bare = scores["without_graph_per_question_kind"]
    kept = scores["selection"]
    attention = sum(kept["attention_kept"]) / len(kept["attention_kept"])

    def share(values: dict[str, float]) -> str:
        return f"{100 * values['accuracy@0.5']:.2f} %"

    def first(figures: dict[str, Any]) -> str:
        texts, images = (figures[direction]["R@1"] for direction in DIRECTIONS)
        return f"{texts:.2f} % and {images:.2f} %"

    cost = pictures["second_stage"]
    return [
        (f"VQA accuracy on {scores['questions']} unseen questions", f"{scores['overall']:.2f} %"),
        *(
            (f"  {kind} (without graph and labels)", f"{value:.2f} %  ({bare[kind]:.2f} %)")
            for kind, value in scores["per_question_kind"].items()
        ),
        ("  the same model without graph and labels", f"{scores['without_graph']:.2f} %"),
        ("  always the commonest answer of the kind", f"{scores['per_kind_baseline']:.2f} %"),
        ("  always the commonest answer", f"{scores['majority_baseline']:.2f} %"),
        (f"Boxes right (IoU >= 0.5) for {boxes['sentences']} unseen expressions", share(boxes)),
        ("  testA and testB",
         f"{100 * boxes['testA']:.2f} % and {100 * boxes['testB']:.2f} %"),
        ("  the same model without graph and labels", share(boxes["without_graph"])),
        ("  the best of the candidates (oracle)", share(boxes["candidates"]["oracle"])),
        ("  any of the candidates", share(boxes["candidates"]["random"])),
        ("  the largest of the candidates", share(boxes["candidates"]["largest"])),
        (f"R@1: {pictures['pictures']} unseen pictures find a true caption of "
         f"{pictures['captions']}, and back", first(pictures["equivalent"])),
        ("  by embeddings alone", first(pictures["equivalent"]["first_stage"])),
        ("  where only a picture's own captions count", first(pictures["own"])),
        (f"  the best {cost['k']} ordered anew: share of all pairs, time",
         f"{cost['passes'] / cost['all_pairs']:.2%}, {cost['seconds']:.0f} s"),
        ("boxes", "simulated detector; of the expressions a worse one"),
        ("made by: questions", how(scores["protocol"])),
        *((f"made by: {split}", how(one)) for split, one in boxes["protocol"].items()),
        ("made by: captions", how(pictures["protocol"])),
        ("kept of the attention, answering", f"{attention:.1%}"),
        ("kept of the picture's nodes and edges",
         f"{kept['nodes_kept']:.1%} and {kept['edges_kept']:.1%}"),
        ("training: two models at once, twice, and one in two processes",
         f"{scores['training_seconds']:.0f} s, {boxes['training_seconds']:.0f} s and "
         f"{pictures['training_seconds']:.0f} s"),
        ("everything", f"{summary['seconds']:.0f} s, seed {summary['seed']}"),
    ]  # fmt: skip


def score(model: Path, prepared: Path, split: str, task: str) -> dict[str, Any]:
    """What ``tbkin eval`` writes."""
    data = EvalData(root=str(prepared))
    return evaluate_checkpoint(EvalConfig(model=str(model), split=split, task=task, data=data))
