"""Run a trained model on a split: ``tbkin eval model=DIR data.root=DIR split=val output=DIR``.

Writes ``metrics.json``: the score, its parts, its baselines, and the protocol that it was made by,
which is printed with it. Beside it stands ``predictions.json`` in the benchmark's own format:
EvalAI's list of question_id and answer (``task=vqa``), sentence id -> box in pixels
(``task=grounding``); of ``task=retrieval`` ``scores.safetensors``, pictures by captions, which
``tbkin score retrieval`` reads, and with ``rerank=k`` ``reranked.safetensors``. Of
``task=pretraining`` it says how much of what is hidden the model restores; the same things are
hidden every time.

``refine=anchor_profile`` and the like also re-rank by one of MMRef's rules, whose weight is chosen
on ``refine_split`` (val) and reported beside weight 0 (``tbkin/refinement.py``); that split is
embedded for it, too.

A split that the checkpoint was trained on is refused unless ``seen=true``. Any number of processes
gives the same numbers; a stopped run goes on with the same command.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from safetensors.torch import save
from transformers.utils.logging import disable_progress_bar

from tbkin.config import choose, load_config, setting
from tbkin.data.collate import Collator
from tbkin.data.prepared import find_prepared, read_record
from tbkin.data.processing_tbkin import TBKINProcessor
from tbkin.files import file_hash, write_bytes, write_json
from tbkin.metrics.grounding_accuracy import COMPARISONS, IOUS
from tbkin.metrics.vqa_accuracy import RULES
from tbkin.model.configuration_tbkin import TBKINConfig
from tbkin.provenance import check_unseen, protocol_lines, protocol_of, split_record
from tbkin.ranking import look_again
from tbkin.refinement import candidates_of, check_split, refine
from tbkin.reports import REPORTS, Rules
from tbkin.reports_retrieval import TABLES
from tbkin.rerank import RERANKERS
from tbkin.running import Runner, build_accelerator, evaluate_in_shards, finish
from tbkin.tasks import TASKS, Task, check_judge, check_ranks

SELECTION = ("attention_kept", "attention_gate", "nodes_kept", "edges_kept")


@dataclass
class EvalData:
    """Where the examples come from."""

    root: str = setting("data/tiny", "prepared folder, or the official files' folder it is made of")
    max_examples: int = setting(0, "only the first so many examples; 0: all")
    workers: int = setting(0, "loader processes beside the main one")
    masking: Literal["graph", "simple", "random"] = setting(
        "graph", "what task=pretraining hides, see tbkin/data/masking.py"
    )

    def __post_init__(self) -> None:
        """Check ranges."""
        for name in ("max_examples", "workers"):
            if getattr(self, name) < 0:
                raise ValueError(f"data.{name} must be >= 0, got {getattr(self, name)}.")


@dataclass
class EvalConfig:
    """One evaluation."""

    model: str = setting("outputs/vqa_tiny", "checkpoint folder")
    split: str = setting("val", "split to run on")
    output: str = setting("", "folder to write; not set: <model>/eval-<data set>-<split>")
    task: str = setting("vqa", "row of tbkin/tasks.py")
    seen: bool = setting(False, "score a split even if the checkpoint was trained on it")
    rule: str = setting("official", f"of task=vqa: version of the script, {', '.join(RULES)}")
    iou: str = setting("plain", f"of task=grounding: form of the IoU, {', '.join(IOUS)}")
    comparison: str = setting("ge", "of task=grounding: ge: an IoU of just 0.5 passes; or gt")
    regress: bool = setting(True, "of task=grounding: move the chosen region before it is judged")
    rerank: str = setting(
        "", "of task=retrieval: how many of the best are ordered by the fused score; or all"
    )
    refine: str = setting(
        "",
        f"of task=retrieval: also scores refined by one of MMRef's rules: {', '.join(RERANKERS)}",
    )
    refine_split: str = setting("", "of refine: split that its weight is chosen on; not set: val")
    batch_size: int = setting(128, "examples a batch, over all processes together")
    json: bool = setting(False, "print one JSON object instead of a table")
    data: EvalData = field(default_factory=EvalData)

    def __post_init__(self) -> None:
        """Check names."""
        choose(REPORTS, self.task, "task")
        choose(dict.fromkeys(RULES), self.rule, "rule")
        choose(IOUS, self.iou, "iou")
        choose(COMPARISONS, self.comparison, "comparison")
        if self.rerank not in ("", "all") and not (self.rerank.isdecimal() and int(self.rerank)):
            raise ValueError(f"rerank must be a number >= 1 or all, got {self.rerank!r}.")
        if self.refine:
            choose(RERANKERS, self.refine, "refine")
        for name in ("rerank", "refine"):
            value = getattr(self, name)
            if value and self.task != "retrieval":
                raise ValueError(
                    f"{name}={value} is of no use to task={self.task}; it is for task=retrieval."
                )
        if self.refine_split and not self.refine:
            raise ValueError(
                f"refine_split={self.refine_split} is of no use without a rule; add one: "
                f"refine={' or '.join(RERANKERS)}"
            )
        if self.batch_size < 1:
            raise ValueError(f"batch_size must be >= 1, got {self.batch_size}.")


def main(arguments: list[str]) -> None:
    """Evaluate a checkpoint, write what came out, print the score."""
    config = load_config(EvalConfig, arguments, __doc__)
    report = evaluate_checkpoint(config)
    if report is None:  # not the first process
        return
    if config.json:
        sys.stdout.write(json.dumps(report) + "\n")
        return
    table = REPORTS[config.task].table(report)
    lines = [*([table] if table else []), *protocol_lines(report["protocol"])]
    sys.stdout.write("\n".join([*lines, f"written to: {report['output']}"]) + "\n")


def evaluate_checkpoint(config: EvalConfig) -> dict[str, Any] | None:
    """Run on a split and write ``metrics.json``, which is returned, and what was predicted."""
    disable_progress_bar()  # of transformers: a checkpoint is read in a blink
    task, report = TASKS[config.task], REPORTS[config.task]
    folder = Path(config.model)
    check_model(folder, config.task, task)
    root = find_prepared(config.data.root, config.task)
    processor = TBKINProcessor.from_pretrained(folder)
    model = task.model.from_pretrained(folder)
    check_ranks(config.task, model.config, f"init_from={folder} ")
    if config.rerank:
        check_judge(model)
    labels = list(model.config.id2label.values())
    if model.config.grounding_box == "direct" and not config.regress:
        raise ValueError(f"regress=false: {folder} says boxes directly, it chooses no region.")
    own = {name: getattr(config.data, name) for name in task.data_settings}
    dataset = task.dataset(root, config.split, processor, labels, config.data.max_examples, **own)
    images = {row["image_id"] for row in dataset.rows}
    seen = check_unseen(folder, root, config.split, images, config.seen)
    tuning, candidates = None, {}
    if config.refine:
        if model.config.scorer != "none":
            raise ValueError(
                f"refine={config.refine} refines cosines of embeddings, and {folder} ranks by "
                f"{model.config.scorer} scores; leave refine out."
            )
        candidates = candidates_of(config.refine, folder, model.config.embedding_size)
        limit = config.data.max_examples
        refine_split = config.refine_split or "val"
        tuning = task.dataset(root, refine_split, processor, labels, limit, **own)
        check_split(folder, root, config.split, refine_split, tuning)
    rules = Rules(
        config.rule,
        config.iou,
        config.comparison,
        config.regress,
        config.data.masking,
        config.rerank,
        model.config.scorer,
    )
    chosen_by = report.rules(rules)
    protocol = protocol_of(folder, root, config.split, len(dataset), chosen_by, seen)
    if len(dataset) == config.data.max_examples:
        protocol["notes"].append(f"only the first {len(dataset)} items of the split")
    if processor.fingerprint.get("boxes") not in (None, dataset.store.fingerprint["boxes"]):
        protocol["notes"].append(f"trained on other boxes: {processor.fingerprint['boxes']}")
    if config.task == "grounding":
        protocol["notes"].append(f"candidates: the {processor.max_regions} surest of a picture")

    accelerator = build_accelerator()
    model = accelerator.prepare_model(model, evaluation_mode=True)
    metric = report.metric(dataset, labels, rules, accelerator.unwrap_model(model))
    collate = Collator(processor.tokenizer.pad_token_id)
    size = max(1, config.batch_size // accelerator.num_processes)
    output = Path(config.output) if config.output else default_output(folder, root, config.split)
    decides = {
        "examples": protocol["sha256"],
        "first": len(dataset),
        "regions": dataset.store.fingerprint,
        "rules": protocol["rules"],
        "weights": protocol["model"]["sha256"],
        "config": file_hash(folder / "config.json"),
    }
    runner = Runner(accelerator, model, dataset, collate, metric, size, config.data.workers)
    mark = hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()[:12]
    unfinished = output / f"evaluating-{mark}"
    computed = evaluate_in_shards(runner, unfinished, decides)
    if rules.rerank:
        k = 0 if rules.rerank == "all" else int(rules.rerank)
        again = unfinished.with_name(f"{unfinished.name}-again")
        second = look_again(runner, computed and metric.scores(), k, again, decides)
        computed = computed and computed | {"second": second}
    if tuning is not None:
        digest = split_record(root, refine_split)["sha256"]
        also = decides | {"refine": {"sha256": digest, "first": len(tuning)}}
        # Named by the split: what a killed run embedded of another one is in nobody's way.
        name = f"{unfinished.name}-refine-{digest[:12]}-{len(tuning)}"
        of_tuning = {"split": refine_split, "sha256": digest, "items": len(tuning)}
        asked = {"rule": config.refine, "chosen_on": of_tuning}
        refined = refine(runner, tuning, candidates, asked, unfinished.with_name(name), also)
        computed = computed and computed | {"refined": refined}
    finish(accelerator)
    if computed is None:
        return None
    selection = {key: computed.pop(key) for key in list(computed) if key.startswith(SELECTION)}
    values = {
        "split": config.split,
        **report.values(metric, dataset, root, rules, computed),
        "selection": selection,
        "protocol": protocol,
        "model": str(folder),
        "output": str(output),
        "data": {"root": str(root), "regions": dataset.store.fingerprint},
        "files": read_record(root)["files"],
    }
    predictions, tables = report.predictions(metric), report.tables(metric, computed)
    for name in set(TABLES) - set(tables):
        (output / name).unlink(missing_ok=True)  # of an earlier run: it would belie the metrics
    if predictions is not None:
        write_json(output / "predictions.json", predictions)
    for name, content in tables.items():
        write_bytes(output / name, save(content))
    write_json(output / "metrics.json", values)
    for left in output.glob(f"{unfinished.name}*"):
        shutil.rmtree(left)
    return values


def default_output(folder: Path, root: Path, split: str) -> Path:
    """Where ``tbkin eval`` writes when ``output`` is not set."""
    return folder / f"eval-{split_record(root, split)['dataset']}-{split}"


def check_model(folder: Path, name: str, task: Task) -> None:
    """A checkpoint that can do the task.

    Raises:
        FileNotFoundError: no checkpoint.
        ValueError: one of another task.
    """
    if not (folder / "config.json").is_file():
        raise FileNotFoundError(f"no checkpoint in {folder}; train one with: tbkin train")
    made = (TBKINConfig.from_pretrained(folder).architectures or [""])[0]
    fitting = [
        task.model.__name__,
        *(row.model.__name__ for row in TASKS.values() if name in row.parts),
    ]
    if made not in fitting:
        raise ValueError(
            f"{folder} holds a {made or 'model of no known task'}; task={name} needs a "
            f"{' or a '.join(fitting)}. Name its own task, or train one with init_from={folder}."
        )


if __name__ == "__main__":
    from tbkin.config import run_command

    sys.exit(run_command(main))
