"""Objectives of retrieval side by side with a tuned baseline: ``python benchmarks/objectives.py``.

Data sets: ``tiny``, a tiny world in which many scenes are earlier ones with one object changed, so
that captions repeat meanings; ``persons``, a tiny world with four pictures of the same things each;
``coco``, a folder of real pictures with captions. Arms: ``contrastive`` (the baseline), ``csa``,
``usa``, ``cusa`` (soft labels of teachers), ``sld`` (DSSLP's first stage, which is CSA: one
training under two names), ``stp`` (its second stage alone, spatial prompts), ``sld_stp`` (both,
half of the steps each), ``triplet``, ``vsl`` (beside the triplet loss), and on ``persons``
``mmref``. On ``tiny`` also with other teachers: behind ``@pictures`` a caption's is what the
picture encoder says of its picture, behind ``@oracle`` both are the world's own truth.

*Budget*: the same model, steps and batches for all arms of a data set, and the same number of
trials: the baseline tries learning rates and forms of its loss, the others take its best and try
their own weight. A trial has the seed ``tuning_seed`` and is judged by rsum on the validation
split. What an arm ends with is the checkpoint of the best validation (R@1), for all arms alike. The
world is the same for all seeds; they are of weights, order and dropout.

Prints a table of the test split: rsum by embeddings, mean over the seeds with the 95 % t-interval,
in brackets the mean difference to the baseline with its interval, paired by seed; a star where the
intervals of the two do not overlap; likewise where any true caption or picture counts, as the tiny
world knows. Writes ``objectives.json`` and ``objectives.svg``. A stopped benchmark goes on with the
same command: each finished run is a line of ``results.jsonl``. ``report=true`` runs nothing.
``processes=2`` runs two trainings side by side, one thread each. The teachers come with
pip install 'tbkin[teachers]'.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch counts the cores

import contextlib
import json
import math
import multiprocessing
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from objectives_arms import (
    ARMS,
    BASELINE,
    SAME,
    TEACHERS,
    TEMPERATURES,
    Stage,
    arm_of,
    runs_on,
    teachers_of,
    trained_as,
)
from objectives_data import (
    ask_oracle,
    ask_pictures,
    ask_teachers,
    draw,
    prepare_coco,
    teacher_facts,
)
from objectives_report import plot, summarize, table
from results import check_same

from tbkin.config import DataConfig, OptimConfig, TrainConfig, load_config, run_command, setting
from tbkin.data.prepared import read_split
from tbkin.evaluation import EvalConfig, EvalData, evaluate_checkpoint
from tbkin.files import write_json, write_text
from tbkin.train import train

SHARED = Path(__file__).resolve().parents[2] / "shared/data"
DATA = ("tiny", "persons", "coco")
ALL_ARMS = [
    BASELINE, "csa", "usa", "cusa", "sld", "stp", "sld_stp", "triplet", "vsl", "mmref",
    "cusa@pictures", "cusa@oracle",
]  # fmt: skip


@dataclass
class ObjectivesConfig:
    """What is run."""

    output: str = setting("outputs/objectives", "folder; what is finished there is not repeated")
    data: list[str] = setting(list(DATA), "tiny, persons, coco")
    arms: list[str] = setting(ALL_ARMS, "contrastive is always run")
    seeds: list[int] = setting([0, 1, 2, 3, 4], "of training")
    tuning_seed: int = setting(100, "of all trials; none of seeds")
    steps: dict[str, int] = setting(
        {"tiny": 200, "persons": 180, "coco": 170}, "of a training, as far as whole epochs go"
    )
    batch_size: int = setting(64, "pairs a step")
    validations: int = setting(5, "of a training, at most; one is at the end")
    images: int = setting(800, "n: 0.8 n pictures train a tiny world, 0.1 n validate, 0.2 n test")
    near_duplicates: float = setting(0.9, "share of the tiny world's scenes that are changed ones")
    world_seed: int = setting(0, "of the tiny worlds")
    coco: str = setting(str(SHARED / "coco_mini"), "folder of real pictures and captions")
    coco_detector: list[str] = setting([], "words for tbkin prep retrieval; empty: see detector_of")
    text_teacher: str = setting("all_minilm_l6_v2", "as tbkin prep teachers takes it")
    image_teacher: str = setting("efficientnet_lite0", "likewise")
    beside: dict[str, dict[str, Any]] = setting(
        {"region_words": {}}, "objectives beside those of every arm"
    )
    model: dict[str, Any] = setting({}, "settings of TBKINConfig, for all arms")
    processes: int = setting(1, "runs side by side")
    report: bool = setting(False, "run nothing: table, JSON and SVG of what is finished")

    def __post_init__(self) -> None:
        """Check names and ranges."""
        for name in self.data:
            if name not in DATA:
                raise ValueError(f"unknown data {name!r}; choose from: {', '.join(DATA)}.")
        for name in self.arms:
            arm_of(name)
        if self.tuning_seed in self.seeds:
            raise ValueError(
                f"tuning_seed={self.tuning_seed} is among seeds: what is tuned on a seed must not "
                "be judged on it."
            )
        for name in ("batch_size", "validations", "processes"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be >= 1, got {getattr(self, name)}.")
        for name, steps in self.steps.items():
            if name not in DATA or steps < 1:
                raise ValueError(f"steps.{name}={steps}: a number >= 1 for {', '.join(DATA)}.")

    def arms_on(self, data: str) -> list[str]:
        """The arms of a data set in the order of the table, the baseline first."""
        return [name for name in dict.fromkeys([BASELINE, *self.arms]) if runs_on(name, data)]


@dataclass(frozen=True)
class Job:
    """One run: a trial, or one of those that count."""

    data: str
    arm: str
    seed: int
    value: Any

    @property
    def name(self) -> str:
        """What tells it from all others."""
        return f"{self.data} {self.arm} seed={self.seed} {json.dumps(self.value)}"


def main(arguments: list[str]) -> None:
    """Run what is missing, then print and write."""
    config = load_config(ObjectivesConfig, arguments, __doc__)
    data = [name for name in config.data if is_there(config, name)]
    names = ("steps", "batch_size", "validations", "images", "near_duplicates", "world_seed",
             "tuning_seed", "beside", "model", "text_teacher", "image_teacher")  # fmt: skip
    settings = {name: getattr(config, name) for name in names}
    settings |= {f"grid of {name}": arm.grid for name, arm in ARMS.items()}
    check_same(Path(config.output), settings, note=not config.report)
    torch.set_num_threads(1)
    if not config.report:
        for name in data:
            with logged(config):
                prepare(config, name)
        for number in range(3):  # the baseline's trials, others', those that build on others'
            run_all(config, [job for name in data for job in trials(config, name, number)])
        run_all(config, [job for name in data for job in counted(config, name)])
    write_report(config, data)


def is_there(config: ObjectivesConfig, data: str) -> bool:
    """Whether there are pictures; says so where there are none."""
    if data == "coco" and not Path(config.coco).is_dir():
        sys.stderr.write(f"no folder {config.coco}: coco is left out (coco=PATH names another)\n")
        return False
    return True


def prepare(config: ObjectivesConfig, data: str) -> None:
    """Draw or read a data set, and ask its teachers."""
    output = Path(config.output)
    if data == "coco":
        folder = prepare_coco(Path(config.coco), output, config.coco_detector or detector_of())
    else:
        folder = draw(data, output, config.images, config.near_duplicates, config.world_seed)
    asked = {teachers_of(name) for name in config.arms_on(data)}
    if asked & {TEACHERS[""], TEACHERS["pictures"]}:
        ask_teachers(folder, config.text_teacher, config.image_teacher)
    if TEACHERS["pictures"] in asked:
        ask_pictures(folder)
    if TEACHERS["oracle"] in asked:
        ask_oracle(folder)


def detector_of() -> list[str]:
    """A small detector if it is there, else a grid of cells."""
    model = SHARED / "models/yolox_nano.onnx"
    if model.is_file():
        return ["detector.name=onnx", f"detector.model={model}"]
    sys.stderr.write(f"no {model}: pictures are cut into a grid (coco_detector= names another)\n")
    return ["detector=grid"]


def trials(config: ObjectivesConfig, data: str, number: int) -> list[Job]:
    """All trials of the arms that build on so many others."""
    return [
        Job(data, arm, config.tuning_seed, value)
        for arm in needed(config, data)
        if len(arm_of(arm).after) == number
        for value in arm_of(arm).grid
    ]


def counted(config: ObjectivesConfig, data: str) -> list[Job]:
    """The runs that count, of those arms that are tuned; none where trials are missing."""
    best = chosen(config, data)
    arms = dict.fromkeys(map(trained_as, config.arms_on(data)))
    return [Job(data, arm, seed, best[arm]) for seed in config.seeds for arm in arms if arm in best]


def needed(config: ObjectivesConfig, data: str) -> list[str]:
    """The arms to be tuned: those asked for and those whose choice they start from."""
    arms: dict[str, None] = {}
    for name in map(trained_as, config.arms_on(data)):
        arms |= dict.fromkeys((*arm_of(name).after, name))
    return list(arms)


def chosen(config: ObjectivesConfig, data: str) -> dict[str, Any]:
    """Arm -> the value of the best trial by rsum on validation; only where all are finished."""
    done = finished(config)
    best = {}
    for arm in needed(config, data):
        jobs = [Job(data, arm, config.tuning_seed, value) for value in arm_of(arm).grid]
        if all(job.name in done for job in jobs):
            best[arm] = max(jobs, key=lambda job: done[job.name]["validation"]["rsum"]).value
    return best


def run_all(config: ObjectivesConfig, jobs: list[Job]) -> None:
    """Run what is missing, here or in several processes, and note each as it ends."""
    done = finished(config)
    jobs = [job for job in jobs if job.name not in done]
    best = {data: chosen(config, data) for data in {job.data for job in jobs}}
    runs: Iterator[dict[str, Any]]
    with contextlib.ExitStack() as stack:
        if config.processes == 1 or len(jobs) < 2:
            runs = (run(config, job, best[job.data]) for job in jobs)
        else:
            context = multiprocessing.get_context("spawn")  # torch's threads survive no fork
            pool = stack.enter_context(ProcessPoolExecutor(config.processes, context))
            stack.callback(pool.shutdown, wait=False, cancel_futures=True)
            futures = [pool.submit(run, config, job, best[job.data]) for job in jobs]
            runs = (future.result() for future in as_completed(futures))
        for number, result in enumerate(runs, 1):
            with (Path(config.output) / "results.jsonl").open("a", encoding="utf-8") as file:
                file.write("\n" + json.dumps(result))  # not behind what a stop cut short
            sys.stderr.write(
                f"{number}/{len(jobs)} {result['name']}: rsum "
                f"{result['test' if result['test'] else 'validation']['rsum']:.1f}, "
                f"{result['seconds']:.0f} s\n"
            )


def run(config: ObjectivesConfig, job: Job, best: dict[str, Any]) -> dict[str, Any]:
    """Train once; test, unless it is a trial.

    Returns:
        A line of ``results.jsonl``.
    """
    root = Path(config.output) / f"prepared-{job.data}"
    arm = arm_of(job.arm)
    lr = (job.value if job.arm == BASELINE else best[BASELINE])["lr"]
    stages = arm.stages(job.value, best, config.batch_size)
    epochs = epochs_of(config, job.data) // len(stages)
    records = []
    with logged(config), tempfile.TemporaryDirectory(dir=config.output) as folder:
        for number, stage in enumerate(stages):
            start = str(Path(folder) / str(number - 1)) if number else ""
            place = Path(folder) / str(number)
            records.append(train(training(config, stage, root, job, lr, epochs, start, str(place))))
        tested = None
        if job.seed != config.tuning_seed:
            tested = figures(
                evaluate_checkpoint(
                    EvalConfig(
                        model=str(place),
                        split="test",
                        task="retrieval",
                        data=EvalData(root=str(root)),
                    )
                )
            )
    return {
        "name": job.name,
        **asdict(job),
        "validation": {"rsum": 100 * records[-1]["best"]["rsum"]},
        "test": tested,
        "steps": sum(record["steps"] for record in records),
        "best_epoch": records[-1]["best"]["epoch"],
        "seconds": sum(record["seconds"] for record in records),
    }


def training(
    config: ObjectivesConfig,
    stage: Stage,
    root: Path,
    job: Job,
    lr: float,
    epochs: int,
    start: str,
    output: str,
) -> TrainConfig:
    """The settings of one training."""
    teachers = teachers_of(job.arm)
    return TrainConfig(
        task="retrieval",
        output_dir=output,
        init_from=start,
        seed=job.seed,
        epochs=epochs,
        batch_size=config.batch_size,
        validate_every=math.ceil(epochs / config.validations),
        data=DataConfig(
            root=str(root),
            parser="word_rules",
            teachers=str(root / teachers) if teachers else "",
            prompt={"probability": stage.prompt, "article": "a_or_an"} if stage.prompt else {},
        ),
        optim=OptimConfig(lr=lr),
        model={} if start else dict(config.model),
        objectives={**stage.objectives, **config.beside},
    )


def epochs_of(config: ObjectivesConfig, data: str) -> int:
    """Whole epochs near the steps, an even number, so that two stages can share them."""
    captions = len(read_split(Path(config.output) / f"prepared-{data}", "train"))
    return 2 * max(1, round(config.steps[data] / math.ceil(captions / config.batch_size) / 2))


def figures(report: dict[str, Any]) -> dict[str, float | None]:
    """What is kept of an evaluation: strict, and where any true caption or picture counts."""
    found = {"rsum": report["rsum"], "equivalent": report.get("equivalent", {}).get("rsum")}
    for direction in ("image_to_text", "text_to_image"):
        found |= {f"{direction} R@{k}": report[direction][f"R@{k}"] for k in (1, 5, 10)}
    return found


def finished(config: ObjectivesConfig) -> dict[str, dict[str, Any]]:
    """Name -> line of the runs there are; a line that a stop cut short is none."""
    path = Path(config.output) / "results.jsonl"
    lines = {}
    for text in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        with contextlib.suppress(json.JSONDecodeError):
            line = json.loads(text)
            lines[line["name"]] = line
    return lines


def write_report(config: ObjectivesConfig, data: list[str]) -> None:
    """Print and write what the finished runs say.

    Raises:
        ValueError: none is finished.
    """
    output, done = Path(config.output), finished(config)
    results, teachers = [], {}
    for name in data:
        lines = [done[job.name] for job in counted(config, name) if job.name in done]
        for arm in config.arms_on(name):
            results += [{**line, "arm": arm} for line in lines if line["arm"] == trained_as(arm)]
        for kind in TEACHERS.values():
            folder = output / f"prepared-{name}"
            if (folder / kind / "text").exists():
                facts = teacher_facts(folder, folder / kind, TEMPERATURES, config.batch_size)
                teachers[f"{name} {kind}"] = facts
    if not results:
        raise ValueError(f"{output} holds nothing finished of these settings; leave out report=.")
    rows = summarize(results, BASELINE)
    record = {
        "settings": asdict(config),
        "same": SAME,
        "rows": rows,
        "chosen": {name: chosen(config, name) for name in data},
        "trials": [line for line in done.values() if line["test"] is None],
        "runs": [line for line in done.values() if line["test"] is not None],
        "teachers": teachers,
    }
    write_json(output / "objectives.json", record)
    write_text(output / "objectives.svg", plot(rows))
    sys.stdout.write(table(rows) + "\n")


@contextlib.contextmanager
def logged(config: ObjectivesConfig) -> Iterator[None]:
    """What a training says goes to ``log.txt``."""
    path = Path(config.output) / "log.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    with (
        path.open("a", encoding="utf-8") as log,
        contextlib.redirect_stdout(log),
        contextlib.redirect_stderr(log),
    ):
        yield


if __name__ == "__main__":
    command: Callable[[list[str]], None] = main
    sys.exit(run_command(command))
