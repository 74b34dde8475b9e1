"""Does selection help where there is something to drop? ``python benchmarks/interference.py``.

Draws tiny worlds (one a seed) at several levels of interference. At level L the simulated detector
reports, per true object, L boxes anywhere with random labels and L false relations, and each of the
words that it says of a true object is wrong with a chance of 0.05 + 0.1 L; 0.1 boxes on background
per object come at every level. So level 0 is not clean of everything: 0.1 false boxes an object and
5 % wrong words are there. Pictures and questions are the same at all levels. Two regimes:

- *same*: trained and tested at one level;
- *clean*: trained at level 0, tested at every level.

Each *way* of selecting is compared with ``dense``: no selection at either site, no relevance. Ways
are named ``SITE:RULE``: the sites ``attention`` (weights of the fusion layers), ``relevance`` and
``credibility`` (the knowledge site's two thresholds) and ``both`` (attention and credibility).
``after:RULE`` is the dense model itself with credibility's threshold put in after training: what it
gains, the threshold alone gains; ``after_attention:RULE`` likewise with attention's. Both test with
the whole threshold, however short the training was. The rule ``learned`` of the attention site
starts at ``rel_max`` and learns a threshold a head. ``own.NAME.SETTING=VALUE`` adds a way by
settings of TBKINConfig.

Prints VQA accuracy in per cent, mean over the seeds with the 95 % t-interval, and in brackets the
mean difference to dense with its interval, paired by seed; a star where the intervals of the two
accuracies do not overlap. Writes ``interference.json`` and ``interference.svg``. A stopped
benchmark goes on with the same command: what is finished is a small file below ``output/results``.
``report=true`` with the same settings runs nothing and reports what is finished; a seed that is not
finished at every level of a way is left out of that way. ``processes=2`` runs two trainings side by
side, one thread each.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch counts the cores

import contextlib
import math
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from interference_report import plot, summarize, table
from results import check_same, read_json

from data_prep import tiny, vqa
from tbkin.config import load_config, run_command, setting
from tbkin.evaluation import EvalConfig, EvalData, evaluate_checkpoint
from tbkin.files import write_json, write_text
from tbkin.train import main as train

DENSE = {
    "selection_rule": "none",
    "knowledge_rule": "none",
    "knowledge_relevance": False,
    "credibility_rule": "none",
}
# Site -> rule -> threshold. Attention: the shares that keep about a quarter in the demo's model.
ATTENTION = {"rel_max": 0.05, "rel_mean": 1.0, "prob": 0.02, "top_k": 8, "logit": 0.0,
             "sparsemax": 0.0, "entmax15": 0.0}  # fmt: skip
LEARNED = {
    "selection_rule": "rel_max",
    "selection_threshold": ATTENTION["rel_max"],
    "selection_learning": "sigmoid",
}
RELEVANCE = {"rel_max": 0.1, "rel_mean": 0.5, "prob": 0.02, "top_k": 12}
CREDIBILITY = {"rel_max": 0.4, "rel_mean": 0.6, "logit": math.log(0.4), "top_k": 8}
REGIMES = ("clean", "same")
AFTER = ("after", "after_attention")  # sites of the ways that are the dense model, tested otherwise


@dataclass
class InterferenceConfig:
    """What is run."""

    output: str = setting("outputs/interference", "folder; what is finished there is not repeated")
    seeds: list[int] = setting([0, 1, 2, 3, 4], "of world and training")
    levels: list[float] = setting([0.0, 0.5, 1.0, 2.0], "1.0: as many false boxes as objects")
    trained: list[float] = setting([], "levels that regime same trains at; empty: all of them")
    regimes: list[str] = setting(list(REGIMES), "clean, same")
    ways: list[str] = setting(
        [*(f"attention:{rule}" for rule in (*ATTENTION, "learned")), "relevance:rel_max",
         "credibility:rel_max", "credibility:logit", "after:rel_max", "after_attention:rel_max",
         "both:rel_max"],
        "SITE:RULE; dense is always run",
    )  # fmt: skip
    own: dict[str, dict[str, Any]] = setting({}, "more ways: name -> settings of TBKINConfig")
    images: int = setting(2500, "pictures of a world; a tenth each for validation and test")
    steps: int = setting(2000, "of training; beyond one epoch, whole epochs")
    batch_size: int = setting(32, "questions a step")
    processes: int = setting(1, "runs side by side")
    report: bool = setting(False, "run nothing: table, JSON and SVG of what is finished")
    job: str = setting("", "run only this job, as a benchmark with processes=2 starts it")

    def __post_init__(self) -> None:
        """Check names and ranges."""
        for regime in self.regimes:
            if regime not in REGIMES:
                raise ValueError(f"unknown regime {regime!r}; choose from: {', '.join(REGIMES)}.")
        if "clean" in self.regimes and 0.0 not in self.levels:
            raise ValueError("the regime clean trains at level 0; add 0 to levels.")
        for level in self.trained:
            if level not in self.levels:
                raise ValueError(f"trained: level {level} is not among levels; add it there.")
        for name in ("steps", "batch_size", "processes"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be >= 1, got {getattr(self, name)}.")
        for name in self.own:
            if not re.fullmatch(r"\w+", name) or name in ("dense", "world"):
                raise ValueError(
                    "own.NAME must be of letters, digits and _, and neither dense nor world; "
                    f"got {name!r}."
                )
        for way in self.ways:
            settings_of(way, self.own)


@dataclass(frozen=True)
class Job:
    """One training and its tests; ``way`` is empty for the drawing of a world."""

    way: str
    seed: int
    level: float

    @property
    def name(self) -> str:
        """For file names."""
        return f"{self.way.replace(':', '-') or 'world'}/seed{self.seed}-trained{self.level:g}"


def main(arguments: list[str]) -> None:
    """Run what is missing, then print and write."""
    config = load_config(InterferenceConfig, arguments, __doc__)
    check_settings(config)
    torch.set_num_threads(1)
    stages = plan(config)
    if config.job:
        run_job(config, next(job for stage in stages for job in stage if job.name == config.job))
        return
    if not config.report:
        for stage in stages:
            run_stage(config, stage, arguments)
    write_report(config, stages[1])


def write_report(config: InterferenceConfig, jobs: list[Job]) -> None:
    """Print and write what the finished tests of some jobs say.

    Raises:
        ValueError: none is finished.
    """
    output = Path(config.output)
    results = []
    for job in jobs:
        tests = tests_of(config, job)
        for way in dict.fromkeys(way for _, way, _ in tests):
            paths = [path for path, other, _ in tests if other == way]
            if all(path.is_file() for path in paths):  # a seed counts at all levels or at none
                results += map(read_json, paths)
    if not results:
        raise ValueError(f"{output} holds nothing finished of these settings; leave out report=.")
    rows = summarize(results, ["dense", *ways_of(config)], config.regimes)
    write_json(output / "interference.json", {"settings": asdict(config), "rows": rows})
    write_text(output / "interference.svg", plot(rows))
    sys.stdout.write(table(rows) + "\n")


def settings_of(way: str, own: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The model settings of a way.

    Raises:
        ValueError: no such site or rule.
    """
    if way == "dense":
        return DENSE
    if way in own:
        return DENSE | own[way]
    site, _, rule = way.partition(":")
    attention = {"selection_rule": rule, "selection_threshold": ATTENTION.get(rule)}
    if rule == "learned":
        attention = LEARNED
    credibility = {"credibility_rule": rule, "credibility_threshold": CREDIBILITY.get(rule)}
    relevance = {"knowledge_rule": rule, "knowledge_threshold": RELEVANCE.get(rule)}
    sites = {
        "attention": (attention, {*ATTENTION, "learned"}),
        "after_attention": (attention, ATTENTION),
        "relevance": ({"knowledge_relevance": True, **relevance}, RELEVANCE),
        "credibility": (credibility, CREDIBILITY),
        "after": (credibility, CREDIBILITY),
        "both": ({**attention, **credibility}, ATTENTION.keys() & CREDIBILITY.keys()),
    }
    if site not in sites or rule not in sites[site][1]:
        known = "; ".join(
            f"{name}: {', '.join(sorted(rules))}" for name, (_, rules) in sites.items()
        )
        raise ValueError(f"unknown way {way!r}; a way is SITE:RULE of {known}; or own.NAME=…")
    return DENSE | sites[site][0]


def ways_of(config: InterferenceConfig) -> list[str]:
    """All ways but dense, in the order of the table."""
    return [way for way in dict.fromkeys([*config.ways, *config.own]) if way != "dense"]


def is_after(way: str) -> bool:
    """Whether a way is the dense model, tested with a threshold put in after training."""
    site, colon, _ = way.partition(":")
    return bool(colon) and site in AFTER


def plan(config: InterferenceConfig) -> list[list[Job]]:
    """Jobs in stages; those of a stage do not need one another."""
    levels = set(config.trained or config.levels) if "same" in config.regimes else set()
    if "clean" in config.regimes:
        levels.add(0.0)
    trained = ["dense", *(way for way in ways_of(config) if not is_after(way))]
    return [
        [Job("", seed, level) for seed in config.seeds for level in config.levels],
        [
            Job(way, seed, level)
            for seed in config.seeds
            for level in sorted(levels)
            for way in trained
        ],
    ]


def run_stage(config: InterferenceConfig, jobs: list[Job], arguments: list[str]) -> None:
    """Run jobs, in this process or several at once in their own."""
    if config.processes == 1:
        for job in jobs:
            run_job(config, job)
        return

    def start(job: Job) -> None:
        if not is_done(config, job):
            words = [sys.executable, __file__, *arguments, f"job={job.name}"]
            subprocess.run(words, check=True, stdout=sys.stderr)

    with ThreadPoolExecutor(config.processes) as pool:
        list(pool.map(start, jobs))


def is_done(config: InterferenceConfig, job: Job) -> bool:
    """Whether nothing of a job is left to do."""
    if not job.way:
        return (prepared(config, job.seed, job.level) / "dataset.json").is_file()
    return all(path.is_file() for path, _, _ in tests_of(config, job))


def run_job(config: InterferenceConfig, job: Job) -> None:
    """Draw a world, or train once and test wherever a result is missing."""
    if is_done(config, job):
        return
    sys.stderr.write(f"{job.name}\n")
    with contextlib.redirect_stdout(sys.stderr):
        if not job.way:
            draw_world(config, job.seed, job.level)
            return
        model = Path(config.output) / "models" / job.name
        if not (model / "run.json").is_file():
            train(training(config, job, model))
        for path, way, level in tests_of(config, job):
            if path.is_file():
                continue
            run = {"way": way, "seed": job.seed, "trained": job.level, "tested": level}
            root = prepared(config, job.seed, level)
            settings = settings_of(way, config.own)
            if is_after(way):
                settings = settings | {"selection_ramp_steps": 0}
            write_json(path, run | test(model, settings, root))
    shutil.rmtree(model)


def draw_world(config: InterferenceConfig, seed: int, level: float) -> None:
    """Draw and prepare one level of one world."""
    folder = prepared(config, seed, level)
    world = folder.with_name(folder.name.replace("prepared", "world"))
    dials = [
        f"distractors={level}",
        f"spurious_edges={level}",
        f"wrong_labels={0.05 + 0.1 * level}",
    ]
    tiny.main([f"output={world}", f"images={config.images}", f"seed={seed}", *dials])
    vqa.main([f"data.root={world}", f"output={folder}", "detector=detected", "overwrite=true"])
    shutil.rmtree(world)  # questions, answers and regions are in the prepared folder


def prepared(config: InterferenceConfig, seed: int, level: float) -> Path:
    """The folder of one level of one world."""
    return Path(config.output) / "worlds" / f"prepared-{seed}-{level:g}"


def training(config: InterferenceConfig, job: Job, model: Path) -> list[str]:
    """The words that train a job's model."""
    steps_of_an_epoch = math.ceil(8 * config.images / config.batch_size)  # 10 questions a picture
    examples = config.steps * config.batch_size if config.steps < steps_of_an_epoch else 0
    words = {
        "output_dir": model,
        "seed": job.seed,
        "epochs": max(1, round(config.steps / steps_of_an_epoch)),
        "validate_every": 1000,  # the last epoch always counts, and no other should
        "batch_size": config.batch_size,
        "data.root": prepared(config, job.seed, job.level),
        "data.parser": "word_rules",
        "data.max_examples": examples,
        **{f"model.{key}": value for key, value in settings_of(job.way, config.own).items()},
    }
    return [f"{key}={value}" for key, value in words.items()]


def tests_of(config: InterferenceConfig, job: Job) -> list[tuple[Path, str, float]]:
    """(result file, way, level) of each test of a job; ``after:`` ways test the dense model."""
    levels = {job.level} if "same" in config.regimes else set()
    if job.level == 0 and "clean" in config.regimes:
        levels |= set(config.levels)
    ways = [job.way]
    if job.way == "dense":
        ways += [way for way in ways_of(config) if is_after(way)]
    results = Path(config.output) / "results"
    return [
        (
            results / way.replace(":", "-") / f"seed{job.seed}-{job.level:g}-{level:g}.json",
            way,
            level,
        )
        for way in ways
        for level in sorted(levels)
    ]


def test(model: Path, settings: dict[str, Any], root: Path) -> dict[str, Any]:
    """Accuracy of a checkpoint in per cent, with selection as ``settings`` say."""
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(model, folder, dirs_exist_ok=True)
        write_json(Path(folder) / "config.json", read_json(model / "config.json") | settings)
        report = evaluate_checkpoint(
            EvalConfig(model=folder, split="test", data=EvalData(root=str(root)))
        )
    return {
        "accuracy": report["overall"],
        "per_question_kind": report["per_question_type"],
        "selection": report["selection"],
        "questions": report["questions"],
    }


def check_settings(config: InterferenceConfig) -> None:
    """Refuse to mix results of different trainings; note these, unless nothing is to be run.

    Raises:
        ValueError: the folder holds results of other settings.
    """
    settings = {name: getattr(config, name) for name in ("images", "steps", "batch_size")}
    settings |= {way: settings_of(way, config.own) for way in ways_of(config)}
    check_same(Path(config.output), settings, note=not config.report)


if __name__ == "__main__":
    command: Callable[[list[str]], None] = main
    sys.exit(run_command(command))
