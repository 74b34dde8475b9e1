"""The whole road on the tiny world: ``tbkin demo seed=0`` (``make demo SEED=0``).

Draws a world and prepares it for questions and for expressions; trains a model of each with the
scene graph and, beside it, one without graph and labels for the same time; scores them on unseen
pictures; and writes ``demo/report.html`` (the evidence for some answers and boxes, right and wrong)
and ``demo/summary.json``. The candidates of the expressions come from a worse detector: each side
of a box errs by up to 20 %, and there is a random box for each object.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_prep import refcoco, tiny, vqa
from tbkin.config import load_config, setting
from tbkin.demo_evidence import answers_shown, boxes_shown
from tbkin.evaluation import EvalConfig, EvalData, evaluate_checkpoint
from tbkin.files import write_json
from tbkin.visualize import write_report

WITHOUT_GRAPH = ["model.graph_encoder=none", "model.region_labels=false"]
WORSE_DETECTOR = ["jitter=0", "box_noise=0.2", "distractors=1"]
GROUNDING_LR = 8e-4  # with the default, half of it, expressions are learned more slowly
TESTS = ("testA", "testB")  # of the expressions; half of the test pictures each
SHOWN = "testA"


@dataclass
class DemoConfig:
    """One demo."""

    output: str = setting("demo", "folder to write")
    seed: int = setting(0, "of the world and of the training")
    images: int = setting(3000, "pictures of the world; a tenth each for validation and test")
    seconds: float = setting(300.0, "training time of the two models for questions, side by side")
    grounding_seconds: float = setting(430.0, "likewise of the two models for expressions")
    parser: str = setting("word_rules", "parser of both; the texts come from templates")

    def __post_init__(self) -> None:
        """Check ranges."""
        for name in ("seconds", "grounding_seconds"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be > 0, got {getattr(self, name)}.")


def main(arguments: list[str]) -> None:
    """Walk the road."""
    config = load_config(DemoConfig, arguments, __doc__)
    began = time.monotonic()
    output = Path(config.output)
    world, worse = output / f"world-{config.seed}", output / f"world-{config.seed}-worse-detector"
    questions, expressions = output / f"prepared-{config.seed}", output / f"refcoco-{config.seed}"
    _say("1/5 drawing the tiny world, once for each detector")
    for folder, dials in ((world, []), (worse, WORSE_DETECTOR)):
        tiny.main([f"output={folder}", f"images={config.images}", f"seed={config.seed}", *dials])
    again = ["detector=detected", "overwrite=true"]
    vqa.main([f"data.root={world}", f"output={questions}", *again])
    refcoco.main([f"data.root={worse}", f"output={expressions}", *again])

    _say(f"2/5 learning to answer, with the scene graph and without: {config.seconds:.0f} s")
    model, bare = output / "model", output / "model-without-graph"
    train_side_by_side(model, bare, settings(config, "vqa", questions, config.seconds))
    seconds = config.grounding_seconds
    _say(f"3/5 learning to ground expressions, with the scene graph and without: {seconds:.0f} s")
    grounder, bare_grounder = output / "grounding", output / "grounding-without-graph"
    words = [*settings(config, "grounding", expressions, seconds), f"optim.lr={GROUNDING_LR}"]
    train_side_by_side(grounder, bare_grounder, words)

    _say("4/5 questions and expressions about unseen pictures")
    summary = {
        "seconds": 0.0,
        "seed": config.seed,
        "vqa": questions_summary(model, bare, questions) | {"training_seconds": config.seconds},
        "grounding": boxes_summary(grounder, bare_grounder, expressions)
        | {"training_seconds": seconds},
    }
    _say("5/5 collecting the evidence")
    evidence = answers_shown(model, questions, world)
    evidence += boxes_shown(grounder, expressions, worse, SHOWN)
    summary["seconds"] = round(time.monotonic() - began, 1)
    table = rows(summary)
    write_report(output / "report.html", evidence, "Why it said so: the tiny world", table)
    write_json(output / "summary.json", summary)
    width = max(len(name) for name, _ in table)
    sys.stdout.write("\n".join(f"{name:<{width}}  {value}" for name, value in table) + "\n")
    sys.stdout.write(f"\n{output / 'report.html'} shows why; numbers: {output / 'summary.json'}\n")


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
    scores, boxes = summary["vqa"], summary["grounding"]
    bare = scores["without_graph_per_question_kind"]
    kept = scores["selection"]
    attention = sum(kept["attention_kept"]) / len(kept["attention_kept"])

    def share(values: dict[str, float]) -> str:
        return f"{100 * values['accuracy@0.5']:.2f} %"

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
        ("boxes", "simulated detector; of the expressions a worse one"),
        ("made by: questions", how(scores["protocol"])),
        *((f"made by: {split}", how(one)) for split, one in boxes["protocol"].items()),
        ("kept of the attention, answering", f"{attention:.1%}"),
        ("kept of the picture's nodes and edges",
         f"{kept['nodes_kept']:.1%} and {kept['edges_kept']:.1%}"),
        ("training, two at once",
         f"{scores['training_seconds']:.0f} s and {boxes['training_seconds']:.0f} s"),
        ("everything", f"{summary['seconds']:.0f} s, seed {summary['seed']}"),
    ]  # fmt: skip


def train_side_by_side(model: Path, bare: Path, words: list[str]) -> None:
    """Train a model and, at the same time, the same one without graph and labels.

    Each in a process with one thread: small models gain little from a second one, and their times
    become comparable. The first shows its progress, the other writes ``train.log`` in its folder.
    """
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    started: list[tuple[Path, subprocess.Popen]] = []
    try:
        for folder, more in ((model, []), (bare, WITHOUT_GRAPH)):
            folder.mkdir(parents=True, exist_ok=True)
            command = [sys.executable, "-m", "tbkin", "train", f"output_dir={folder}"]
            shown = None if not started else (folder / "train.log").open("w")
            process = subprocess.Popen([*command, *words, *more], env=environment, stderr=shown)
            started.append((folder, process))
        for folder, process in started:
            if process.wait():
                raise ValueError(f"training {folder} failed; see above, or {folder / 'train.log'}.")
    finally:
        for _, process in started:
            process.kill()


def settings(config: DemoConfig, task: str, prepared: Path, seconds: float) -> list[str]:
    """The words of a training."""
    return [
        f"task={task}",
        f"data.root={prepared}",
        f"data.parser={config.parser}",
        f"seed={config.seed}",
        f"max_seconds={seconds}",
        "epochs=1000",
        "validate_every=4",
    ]


def score(model: Path, prepared: Path, split: str, task: str) -> dict[str, Any]:
    """What ``tbkin eval`` writes."""
    data = EvalData(root=str(prepared))
    return evaluate_checkpoint(EvalConfig(model=str(model), split=split, task=task, data=data))


def _say(line: str) -> None:
    sys.stderr.write(f"\n== {line}\n")


if __name__ == "__main__":
    from tbkin.config import run_command

    sys.exit(run_command(main))
