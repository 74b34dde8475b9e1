"""The whole road on the tiny world: ``tbkin demo seed=0`` (``make demo SEED=0``).

Draws a world and prepares it for questions, expressions and captions; trains models of the first
two with the scene graph and, beside each, one without graph and labels for the same time, and one
that finds pictures by captions; scores them on unseen pictures; and writes ``demo/report.html``
(the evidence for some answers, boxes and pictures, right and wrong) and ``demo/summary.json``. The
candidates of the expressions come from a worse detector: each side of a box errs by up to 20 %, and
there is a random box for each object.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from data_prep import refcoco, retrieval, tiny, vqa
from tbkin.config import load_config, setting
from tbkin.demo_evidence import answers_shown, boxes_shown, pictures_shown
from tbkin.demo_summary import boxes_summary, pictures_summary, questions_summary, rows
from tbkin.files import write_json
from tbkin.visualize import write_report

WITHOUT_GRAPH = ["model.graph_encoder=none", "model.region_labels=false"]
WORSE_DETECTOR = ["jitter=0", "box_noise=0.2", "distractors=1"]
GROUNDING_LR = 8e-4  # with the default, half of it, expressions are learned more slowly
RETRIEVAL = [  # a large batch has confusable pairs; to judge half of its rows saves time
    "optim.lr=8e-4",
    "batch_size=128",
    "objectives.contrastive.weight=1",
    "objectives.matching.rows=64",
    "objectives.region_words.weight=1",
]
PROCESSES = 2
SHOWN = "testA"


@dataclass
class DemoConfig:
    """One demo."""

    output: str = setting("demo", "folder to write")
    seed: int = setting(0, "of the world and of the training")
    images: int = setting(3000, "pictures of the world; a tenth each for validation and test")
    test_images: int = setting(1000, "of questions and captions: unseen pictures instead of that")
    seconds: float = setting(300.0, "training time of the two models for questions, side by side")
    grounding_seconds: float = setting(430.0, "likewise of the two models for expressions")
    retrieval_seconds: float = setting(240.0, "of the model for captions, in two processes")
    rerank: int = setting(16, "how many of the best its fused score orders anew")
    parser: str = setting("word_rules", "parser of all; the texts come from templates")

    def __post_init__(self) -> None:
        """Check ranges."""
        for name in ("seconds", "grounding_seconds", "retrieval_seconds", "rerank"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be > 0, got {getattr(self, name)}.")


def main(arguments: list[str]) -> None:
    """Walk the road."""
    config = load_config(DemoConfig, arguments, __doc__)
    began = time.monotonic()
    output = Path(config.output)
    world, worse = output / f"world-{config.seed}", output / f"world-{config.seed}-worse-detector"
    questions, expressions = output / f"prepared-{config.seed}", output / f"refcoco-{config.seed}"
    captions = output / f"retrieval-{config.seed}"
    _say("1/6 drawing the tiny world, once for each detector")
    unseen = [f"test_images={config.test_images}"]
    for folder, dials in ((world, unseen), (worse, WORSE_DETECTOR)):
        tiny.main([f"output={folder}", f"images={config.images}", f"seed={config.seed}", *dials])
    again = ["detector=detected", "overwrite=true"]
    vqa.main([f"data.root={world}", f"output={questions}", *again])
    refcoco.main([f"data.root={worse}", f"output={expressions}", *again])
    retrieval.main([f"data.root={world}", f"output={captions}", *again])

    _say(f"2/6 learning to answer, with the scene graph and without: {config.seconds:.0f} s")
    model, bare = output / "model", output / "model-without-graph"
    train_side_by_side(model, bare, settings(config, "vqa", questions, config.seconds))
    seconds = config.grounding_seconds
    _say(f"3/6 learning to ground expressions, with the scene graph and without: {seconds:.0f} s")
    grounder, bare_grounder = output / "grounding", output / "grounding-without-graph"
    words = [*settings(config, "grounding", expressions, seconds), f"optim.lr={GROUNDING_LR}"]
    train_side_by_side(grounder, bare_grounder, words)

    seconds = config.retrieval_seconds
    _say(f"4/6 learning to find pictures by captions, in {PROCESSES} processes: {seconds:.0f} s")
    finder = output / "retrieval"
    words = [*settings(config, "retrieval", captions, seconds), *RETRIEVAL]
    run_together("tbkin.train", [f"output_dir={finder}", *words])

    _say("5/6 questions, expressions and captions about unseen pictures")
    ranking = [f"model={finder}", "task=retrieval", f"data.root={captions}", "split=test"]
    run_together("tbkin.evaluation", [*ranking, f"rerank={config.rerank}"])
    summary = {
        "seconds": 0.0,
        "seed": config.seed,
        "vqa": questions_summary(model, bare, questions) | {"training_seconds": config.seconds},
        "grounding": boxes_summary(grounder, bare_grounder, expressions)
        | {"training_seconds": config.grounding_seconds},
        "retrieval": pictures_summary(finder, captions) | {"training_seconds": seconds},
    }
    _say("6/6 collecting the evidence")
    evidence = answers_shown(model, questions, world)
    evidence += boxes_shown(grounder, expressions, worse, SHOWN)
    evidence += pictures_shown(finder, captions, world)
    summary["seconds"] = round(time.monotonic() - began, 1)
    table = rows(summary)
    write_report(output / "report.html", evidence, "Why it said so: the tiny world", table)
    write_json(output / "summary.json", summary)
    width = max(len(name) for name, _ in table)
    sys.stdout.write("\n".join(f"{name:<{width}}  {value}" for name, value in table) + "\n")
    sys.stdout.write(f"\n{output / 'report.html'} shows why; numbers: {output / 'summary.json'}\n")


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


def run_together(module: str, words: list[str]) -> None:
    """Run a command of ours in ``PROCESSES`` processes of one thread that share the work."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command = [*launcher, "--nproc_per_node", str(PROCESSES), "-m", module, *words]
    # On the CPU, since one GPU does not take two of them.
    settled = {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true", "TORCH_CPP_LOG_LEVEL": "ERROR"}
    environment = {**os.environ, **settled}
    # Without their table: what the demo prints is its own.
    done = subprocess.run(command, env=environment, stdout=subprocess.DEVNULL)
    if done.returncode:
        raise ValueError(f"{module} {words[0]} failed; see above.")


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


def _say(line: str) -> None:
    sys.stderr.write(f"\n== {line}\n")


if __name__ == "__main__":
    from tbkin.config import run_command

    sys.exit(run_command(main))
