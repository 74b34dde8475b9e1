"""The whole road on the tiny world: ``tbkin demo seed=0`` (``make demo SEED=0``).

Draws a world, prepares it, trains a model with the scene graph and, beside it, one without graph
and labels for the same time, scores both on unseen pictures, and writes ``demo/report.html`` (the
evidence for some answers, right and wrong) and ``demo/summary.json``.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_prep import tiny, vqa
from tbkin.config import help_text, load_config, setting
from tbkin.data.prepared import read_split
from tbkin.detectors.pixels import open_picture
from tbkin.evaluation import EvalConfig, evaluate_checkpoint
from tbkin.files import write_json
from tbkin.metrics.vqa_accuracy import question_accuracy
from tbkin.predict import Predictor
from tbkin.visualize import Evidence, write_report

WITHOUT_GRAPH = ["model.graph_encoder=none", "model.region_labels=false"]
SHOWN_RIGHT, SHOWN_WRONG = 5, 3


@dataclass
class DemoConfig:
    """One demo."""

    output: str = setting("demo", "folder to write")
    seed: int = setting(0, "of the world and of the training")
    images: int = setting(3000, "pictures of the world; a tenth each for validation and test")
    seconds: float = setting(450.0, "training time of the two models, which train side by side")
    parser: str = setting("word_rules", "question parser; the questions come from templates")

    def __post_init__(self) -> None:
        """Check ranges."""
        if self.seconds <= 0:
            raise ValueError(f"seconds must be > 0, got {self.seconds}.")


def main(arguments: list[str]) -> None:
    """Walk the road."""
    if "--help" in arguments or "-h" in arguments:
        sys.stdout.write(help_text(__doc__, DemoConfig) + "\n")
        return
    config = load_config(DemoConfig, arguments)
    began = time.monotonic()
    output = Path(config.output)
    world, prepared = output / f"world-{config.seed}", output / f"prepared-{config.seed}"
    _say("1/4 drawing the tiny world")
    tiny.main([f"output={world}", f"images={config.images}", f"seed={config.seed}"])
    vqa.main([f"data.root={world}", f"output={prepared}", "detector=detected", "overwrite=true"])

    _say(f"2/4 training with the scene graph, and beside it without: {config.seconds:.0f} s")
    train_side_by_side(
        {
            output / "model": _settings(config, prepared),
            output / "model-without-graph": [*_settings(config, prepared), *WITHOUT_GRAPH],
        }
    )

    _say("3/4 answering questions about unseen pictures")
    scores = _score(output / "model", prepared)
    bare = _score(output / "model-without-graph", prepared)
    summary = {
        "seconds": 0.0,
        "seed": config.seed,
        "vqa": {
            "overall": scores["overall"],
            "per_question_kind": scores["per_question_type"],
            "majority_baseline": scores["baselines"]["majority_answer"]["overall"],
            "per_kind_baseline": scores["baselines"]["per_question_type"]["overall"],
            "without_graph": bare["overall"],
            "without_graph_per_question_kind": bare["per_question_type"],
            "questions": scores["questions"],
            "training_seconds": config.seconds,
            "selection": scores["selection"],
        },
    }
    _say("4/4 collecting the evidence")
    predictions = output / "model" / "eval-test" / "predictions.json"
    evidence = collect_evidence(output / "model", prepared, world, predictions)
    summary["seconds"] = round(time.monotonic() - began, 1)
    table = rows(summary)
    write_report(output / "report.html", evidence, "Why it answered: the tiny world", table)
    write_json(output / "summary.json", summary)
    width = max(len(name) for name, _ in table)
    sys.stdout.write("\n".join(f"{name:<{width}}  {value}" for name, value in table) + "\n")
    sys.stdout.write(f"\n{output / 'report.html'} shows why; numbers: {output / 'summary.json'}\n")


def rows(summary: dict[str, Any]) -> list[tuple[str, str]]:
    """The summary as lines of a table, in per cent."""
    scores = summary["vqa"]
    bare = scores["without_graph_per_question_kind"]
    kept = scores["selection"]
    attention = sum(kept["attention_kept"]) / len(kept["attention_kept"])
    return [
        (f"VQA accuracy on {scores['questions']} unseen questions", f"{scores['overall']:.2f} %"),
        *(
            (f"  {kind} (without graph and labels)", f"{value:.2f} %  ({bare[kind]:.2f} %)")
            for kind, value in scores["per_question_kind"].items()
        ),
        ("  the same model without graph and labels", f"{scores['without_graph']:.2f} %"),
        ("  always the commonest answer of the kind", f"{scores['per_kind_baseline']:.2f} %"),
        ("  always the commonest answer", f"{scores['majority_baseline']:.2f} %"),
        ("kept of the attention", f"{attention:.1%}"),
        ("kept of the picture's nodes and edges",
         f"{kept['nodes_kept']:.1%} and {kept['edges_kept']:.1%}"),
        ("training, both at once", f"{scores['training_seconds']:.0f} s"),
        ("everything", f"{summary['seconds']:.0f} s, seed {summary['seed']}"),
    ]  # fmt: skip


def collect_evidence(model: Path, prepared: Path, world: Path, predictions: Path) -> list[Evidence]:
    """Questions of each kind that the model answers rightly, and some wrongly; one a picture."""
    answers = {row["question_id"]: row["answer"] for row in json.loads(predictions.read_text())}
    chosen: list[tuple[dict[str, Any], float]] = []
    kinds: dict[bool, set[str]] = {True: set(), False: set()}
    pictures: set[int] = set()
    for row in read_split(prepared, "test"):
        accuracy = question_accuracy(answers[row["question_id"]], row["answers"])
        right = accuracy >= 0.9
        limit = SHOWN_RIGHT if right else SHOWN_WRONG
        fresh = row["question_type"] not in kinds[right] and row["image_id"] not in pictures
        if fresh and len(kinds[right]) < limit:
            kinds[right].add(row["question_type"])
            pictures.add(row["image_id"])
            chosen.append((row, accuracy))
    predictor = Predictor(model, prepared / "regions")
    evidence = []
    for row, accuracy in sorted(chosen, key=lambda pair: -pair[1]):
        name = f"COCO_test2015_{row['image_id']:012d}.jpg"
        image = open_picture(world / "images" / "test2015" / name)
        one = predictor(image, row["question"], str(row["image_id"]))
        one.truth, one.score = row["multiple_choice_answer"], accuracy
        evidence.append(one)
    return evidence


def train_side_by_side(runs: dict[Path, list[str]]) -> None:
    """Train several models at the same time, each in a process with one thread.

    Small models gain little from a second thread, and one thread each makes times comparable.

    Args:
        runs: checkpoint folder -> settings. The first shows its progress, the others write
            ``train.log`` beside their checkpoint.
    """
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    started: list[tuple[Path, subprocess.Popen]] = []
    try:
        for folder, settings in runs.items():
            folder.mkdir(parents=True, exist_ok=True)
            words = [sys.executable, "-m", "tbkin", "train", f"output_dir={folder}", *settings]
            shown = None if not started else (folder / "train.log").open("w")
            started.append((folder, subprocess.Popen(words, env=environment, stderr=shown)))
        for folder, process in started:
            if process.wait():
                raise ValueError(f"training {folder} failed; see above, or {folder / 'train.log'}.")
    finally:
        for _, process in started:
            process.kill()


def _settings(config: DemoConfig, prepared: Path) -> list[str]:
    return [
        f"data.root={prepared}",
        f"data.parser={config.parser}",
        f"seed={config.seed}",
        f"max_seconds={config.seconds}",
        "epochs=1000",
        "validate_every=4",
    ]


def _score(model: Path, prepared: Path) -> dict[str, Any]:
    config = load_config(EvalConfig, [f"model={model}", f"data.root={prepared}", "split=test"])
    return evaluate_checkpoint(config)


def _say(line: str) -> None:
    sys.stderr.write(f"\n== {line}\n")


if __name__ == "__main__":
    from tbkin.config import run_command

    sys.exit(run_command(main))
