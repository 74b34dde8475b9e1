"""Does pre-training help where questions are few? ``python benchmarks/pretraining.py``.

On the tiny world: pre-train on the captions of all training pictures with each form of masking,
then learn to answer from the questions of a share of the training pictures (drawn by the seed);
against the same learning from scratch, in the same number of steps. Scores are VQA accuracy on the
test split, of the checkpoint that was best on the validation split. Prints a table (mean and 95 %
t-interval over the seeds, and the differences to scratch and to random masking, paired by seed) and
writes ``pretraining.json``.

Every finished run leaves one JSON file in ``output``; a stopped benchmark goes on with the next.
The answers to be known are those of all training questions, whatever the share.
"""

from __future__ import annotations

import json
import math
import os
import random
import shutil
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from intervals import mean_and_interval

import data_prep.pretraining
import data_prep.tiny
import data_prep.vqa
from tbkin.config import TrainConfig, choose, help_text, load_config, run_command, setting
from tbkin.data.masking import FORMS
from tbkin.data.prepared import read_split
from tbkin.evaluation import EvalConfig, EvalData, evaluate_checkpoint
from tbkin.files import new_folder, write_json, write_text
from tbkin.train import train

SCRATCH, RANDOM = BASELINES = ("scratch", "random")  # each is compared with those before it


@dataclass
class BenchmarkConfig:
    """What to measure. A run's folder is used again only by the same settings."""

    output: str = setting("outputs/benchmark_pretraining", "folder for the world and all runs")
    methods: list[str] = setting(
        [SCRATCH, RANDOM, "graph"], f"{SCRATCH}, or a form of masking: {', '.join(FORMS)}"
    )
    seeds: list[int] = setting([0, 1, 2, 3, 4], "of weights, order, masks and the few questions")
    images: int = setting(1500, "pictures of the world")
    share: float = setting(0.1, "of the training pictures whose questions are learned from")
    pretraining_epochs: int = setting(3, "passes over the captions")
    pretraining_lr: float = setting(4e-4, "peak learning rate of pre-training")
    epochs: int = setting(15, "passes over the few questions")
    lr: float = setting(4e-4, "peak learning rate of learning to answer")
    batch_size: int = setting(32, "of both")
    model: dict[str, Any] = setting({}, "settings of TBKINConfig")

    def __post_init__(self) -> None:
        """Check names and ranges."""
        for method in self.methods:
            choose({SCRATCH: None, **FORMS}, method, "method")
        if not self.methods or len(set(self.methods)) < len(self.methods):
            raise ValueError(f"methods must be distinct, at least one; got {self.methods}.")
        if not 0 < self.share <= 1:
            raise ValueError(f"share must be in (0, 1], got {self.share}.")
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds must be distinct, at least one; got {self.seeds}.")


@dataclass
class World:
    """Where the data are."""

    official: Path
    questions: Path
    captions: Path
    few: dict[int, Path] = field(default_factory=dict)


def main(arguments: list[str]) -> None:
    """Measure, print, write."""
    if "--help" in arguments:
        sys.stdout.write(help_text(__doc__, BenchmarkConfig) + "\n")
        return
    config = load_config(BenchmarkConfig, arguments)
    output = Path(config.output)
    claim(output, config)
    world = make_world(config)
    results = {
        method: {seed: run(config, world, method, seed) for seed in config.seeds}
        for method in config.methods
    }
    summary = summarize({m: [r["test"] for r in rows.values()] for m, rows in results.items()})
    write_json(
        output / "pretraining.json",
        {"config": asdict(config), "summary": summary, "runs": results},
    )
    sys.stdout.write(table(summary, config) + "\n")


def claim(output: Path, config: BenchmarkConfig) -> None:
    """Refuse a folder whose runs were made with other settings."""
    path = output / "settings.json"
    settings = {
        key: value
        for key, value in asdict(config).items()
        if key not in ("output", "methods", "seeds")
    }
    if path.is_file() and json.loads(path.read_text()) != settings:
        raise ValueError(f"{output} holds runs with other settings; name another output=.")
    write_json(path, settings)


def make_world(config: BenchmarkConfig) -> World:
    """Draw and prepare what is not there yet."""
    output = Path(config.output)
    world = World(output / "tiny", output / "questions", output / "captions")
    data_prep.tiny.main([f"output={world.official}", f"images={config.images}"])
    root = f"data.root={world.official}"
    least = max(1, min(9, config.images // 20))
    data_prep.vqa.main(
        [root, f"output={world.questions}", "detector=detected", f"min_answer_count={least}"]
    )
    regions = f"regions={world.questions / 'regions'}"
    data_prep.pretraining.main([root, f"output={world.captions}", regions])
    for seed in config.seeds:
        world.few[seed] = output / f"questions-{seed}"
        if not world.few[seed].is_dir():
            take_few(world.questions, world.few[seed], config.share, seed)
    return world


def take_few(source: Path, folder: Path, share: float, seed: int) -> None:
    """A prepared folder with the training questions of a share of the pictures, drawn by seed."""
    rows = read_split(source, "train")
    pictures = sorted({row["image_id"] for row in rows})
    chosen = set(random.Random(seed).sample(pictures, max(1, round(share * len(pictures)))))
    with new_folder(folder) as unfinished:
        shutil.copytree(source, unfinished, copy_function=os.link, dirs_exist_ok=True)
        lines = [json.dumps(row, ensure_ascii=False) for row in rows if row["image_id"] in chosen]
        write_text(unfinished / "train.jsonl", "\n".join(lines) + "\n")  # replaces the link


def run(config: BenchmarkConfig, world: World, method: str, seed: int) -> dict[str, Any]:
    """Pre-train if the method does, learn to answer, test; or what an earlier run found."""
    output = Path(config.output)
    path = output / f"run-{method}-{seed}.json"
    if path.is_file():
        return json.loads(path.read_text())
    result: dict[str, Any] = {"method": method, "seed": seed}
    start = None
    if method != SCRATCH:
        start = output / f"pretrained-{method}-{seed}"
        done = learn(config, start, "pretraining", world.captions, seed, masking=method)
        result |= {
            "pretraining_steps": done["steps"],
            "pretraining_seconds": done["seconds"],
            "pretraining": done["best"],
        }
    folder = output / f"answers-{method}-{seed}"
    done = learn(config, folder, "vqa", world.few[seed], seed, start=start)
    test = evaluate_checkpoint(
        EvalConfig(model=str(folder), split="test", data=EvalData(root=str(world.questions)))
    )
    result |= {
        "steps": done["steps"],
        "seconds": done["seconds"],
        "val": 100 * done["best"]["vqa_accuracy"],
        "test": test["overall"],
        "test_by_type": test["per_question_type"],
    }
    write_json(path, result)
    return result


def learn(
    config: BenchmarkConfig,
    folder: Path,
    task: str,
    root: Path,
    seed: int,
    *,
    start: Path | None = None,
    masking: str = "graph",
) -> dict[str, Any]:
    """One training run."""
    few = task == "vqa"
    epochs = config.epochs if few else config.pretraining_epochs
    words = [
        f"task={task}",
        f"data.root={root}",
        f"data.masking={masking}",
        "data.parser=word_rules",
        f"output_dir={folder}",
        f"seed={seed}",
        f"epochs={epochs}",
        f"validate_every={max(1, math.ceil(epochs / 4))}",
        f"batch_size={config.batch_size}",
        f"optim.lr={config.lr if few else config.pretraining_lr}",
    ]
    train_config = load_config(TrainConfig, words)
    train_config.init_from = str(start or "")
    train_config.model = dict(config.model) if start is None else {}
    return train(train_config)


def summarize(scores: dict[str, list[float]]) -> dict[str, dict[str, Any]]:
    """Mean and 95 % t-interval of each method, and of its paired differences.

    Args:
        scores: method -> one score a seed, in the same order of seeds.

    Returns:
        Method -> ``scores``, ``mean``, ``half_width`` (None for one seed); ``over_scratch`` of all
        but scratch, and ``over_random`` of the other forms of masking, each with ``mean`` and
        ``half_width``.
    """
    summary = {}
    for method, values in scores.items():
        summary[method] = {"scores": values, **interval(values)}
        for other in BASELINES:
            if other == method:
                break
            if other in scores:
                differences = [a - b for a, b in zip(values, scores[other], strict=True)]
                summary[method][f"over_{other}"] = interval(differences)
    return summary


def interval(values: list[float]) -> dict[str, float | None]:
    """``mean``, and ``half_width`` of its 95 % t-interval (None for one value)."""
    return dict(zip(("mean", "half_width"), mean_and_interval(values), strict=True))


def table(summary: dict[str, dict[str, Any]], config: BenchmarkConfig) -> str:
    """The summary as text."""
    lines = [
        f"VQA accuracy on the test split in per cent, {100 * config.share:g} % of the training "
        f"pictures' questions, seeds {', '.join(map(str, config.seeds))}",
        f"{'pre-training':<14}{'accuracy':>18}"
        + "".join(f"{f'over {other}':>18}" for other in BASELINES),
    ]
    for method, row in summary.items():
        cells = [row, *(row.get(f"over_{other}") for other in BASELINES)]
        lines.append(f"{method:<14}" + "".join(f"{_spell(cell):>18}" for cell in cells).rstrip())
    return "\n".join(lines)


def _spell(row: dict[str, Any] | None) -> str:
    if row is None:
        return ""
    half = row["half_width"]
    return f"{row['mean']:.2f}" + ("" if half is None else f" ± {half:.2f}")


if __name__ == "__main__":
    sys.exit(run_command(main))
