"""Run a trained model on a split: ``tbkin eval model=DIR data.root=DIR split=val output=DIR``.

Writes ``predictions.json`` in the benchmark's own format (EvalAI's list of question_id and answer)
and, where the answers are known, ``metrics.json`` with the score, its parts and its baselines.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DataLoaderConfiguration
from torch.utils.data import DataLoader
from tqdm import tqdm
from transformers.utils.logging import disable_progress_bar

from tbkin.config import choose, help_text, load_config, setting
from tbkin.data.collate import Collator
from tbkin.data.prepared import find_prepared, read_record, read_split
from tbkin.data.processing_tbkin import TBKINProcessor
from tbkin.files import write_json
from tbkin.metrics.vqa_accuracy import RULES, baselines, score_predictions
from tbkin.scoring import vqa_table
from tbkin.tasks import TASKS


@dataclass
class EvalData:
    """Where the questions come from."""

    root: str = setting("data/tiny", "prepared folder, or the official files' folder it is made of")
    max_examples: int = setting(0, "only the first so many questions; 0: all")


@dataclass
class EvalConfig:
    """One evaluation."""

    model: str = setting("outputs/vqa_tiny", "checkpoint folder")
    split: str = setting("val", "split to answer")
    output: str = setting("", "folder to write; not set: <model>/eval-<split>")
    rule: str = setting("official", "VQA script version: official or legacy")
    task: str = setting("vqa", "row of tbkin/tasks.py")
    batch_size: int = setting(128, "questions a batch, over all processes together")
    json: bool = setting(False, "print one JSON object instead of a table")
    data: EvalData = field(default_factory=EvalData)


def evaluate(
    accelerator: Accelerator, model: Any, loader: DataLoader, metric: Any
) -> dict[str, Any]:
    """Score a model on a loader, on all processes together.

    Args:
        accelerator: made ``loader`` and ``model`` ready.
        model: its outputs go to ``metric.update``.
        loader: batches with ``question_ids``.
        metric: judged by id, so that padding of the last batch never counts twice.

    Returns:
        The metric's values, and what share of attention and knowledge the thresholds kept:
        ``attention_kept`` a list with one share a layer, ``nodes_kept``, ``edges_kept``.
    """
    was_training = model.training
    model.eval()
    shares = []
    with torch.no_grad():
        for batch in tqdm(
            loader, desc="evaluating", leave=False, disable=quiet(accelerator), unit="batch"
        ):
            outputs = model(**batch)
            if not torch.isfinite(outputs.logits).all():
                raise ValueError("the model's logits are not finite; its weights are damaged.")
            rows = {"logits": outputs.logits.float(), "question_ids": batch["question_ids"]}
            gathered = accelerator.gather_for_metrics(rows)
            metric.update(Logits(gathered["logits"]), gathered)
            shares.append(_shares(outputs))
    model.train(was_training)
    kept = accelerator.reduce(torch.stack(shares).mean(dim=0), reduction="mean").tolist()
    layers = len(outputs.attention_kept)
    values = {**metric.compute(), "attention_kept": kept[:layers]}
    if len(kept) > layers:
        values |= {"nodes_kept": kept[layers], "edges_kept": kept[layers + 1]}
    return values


@dataclass
class Logits:
    """The one field of the outputs that crosses processes."""

    logits: torch.Tensor


def quiet(accelerator: Accelerator) -> bool | None:
    """For tqdm: off on all processes but the first, and where nobody watches."""
    return None if accelerator.is_main_process else True


def finish(accelerator: Accelerator) -> None:
    """End a run so that none of several processes hangs; call it while the model still lives.

    gloo's threads drop the tensors of the last exchange when they next get the interpreter's lock.
    Whoever frees the wrapped model before that holds the lock and waits for those threads for ever
    (seen in one run of fifteen, torch 2.13 on CPU). Asleep, we leave the lock to them.
    """
    accelerator.wait_for_everyone()
    accelerator.end_training()
    if accelerator.num_processes > 1:
        time.sleep(1)


def main(arguments: list[str]) -> None:
    """Evaluate a checkpoint, write what it predicted, print the score."""
    if "--help" in arguments or "-h" in arguments:
        sys.stdout.write(help_text(__doc__, EvalConfig) + "\n")
        return
    config = load_config(EvalConfig, arguments)
    report = evaluate_checkpoint(config)
    if report is None:  # not the first process
        return
    if config.json:
        sys.stdout.write(json.dumps(report) + "\n")
        return
    if "overall" in report:
        sys.stdout.write(vqa_table(report) + "\n")
    sys.stdout.write(f"predictions and metrics: {report['output']}\n")


def evaluate_checkpoint(config: EvalConfig) -> dict[str, Any] | None:
    """Answer a split, write ``predictions.json`` and ``metrics.json``; the latter is returned."""
    disable_progress_bar()  # of transformers: a checkpoint is read in a blink
    task = choose(TASKS, config.task, "task")
    choose(dict.fromkeys(RULES), config.rule, "rule")
    folder = Path(config.model)
    if not (folder / "config.json").is_file():
        raise FileNotFoundError(f"no checkpoint in {folder}; train one with: tbkin train")
    root = find_prepared(config.data.root)
    processor = TBKINProcessor.from_pretrained(folder)
    model = task.model.from_pretrained(folder)
    labels = list(model.config.id2label.values())
    dataset = task.dataset(root, config.split, processor, labels, config.data.max_examples)
    accelerator = Accelerator(dataloader_config=DataLoaderConfiguration(split_batches=True))
    collate = Collator(processor.tokenizer.pad_token_id)
    loader = DataLoader(dataset, batch_size=config.batch_size, collate_fn=collate)
    model, loader = accelerator.prepare(model, loader)

    questions = dataset.questions()
    known = all("answers" in row for row in questions.values())
    metric = task.metric(questions, labels, config.rule) if known else Answers(labels)
    values = evaluate(accelerator, model, loader, metric)
    finish(accelerator)
    if not accelerator.is_main_process:
        return None
    output = Path(config.output) if config.output else folder / f"eval-{config.split}"
    report: dict[str, Any] = {"split": config.split, "questions": len(questions)}
    if known:
        train = {row["question_id"]: row for row in read_split(root, "train")}
        report |= score_predictions(metric.predictions, questions, config.rule)
        report["baselines"] = {"from": "train", **baselines(train, questions, config.rule)}
    report |= {
        "selection": {key: value for key, value in values.items() if key.endswith("kept")},
        "model": str(folder),
        "output": str(output),
        "data": {"root": str(root), "regions": dataset.store.fingerprint},
        "files": read_record(root)["files"],
    }
    predictions = [
        {"question_id": question, "answer": answer}
        for question, answer in sorted(metric.predictions.items())
    ]
    write_json(output / "predictions.json", predictions)
    write_json(output / "metrics.json", report)
    return report


class Answers:
    """Collects answers to questions whose truth nobody knows here (the official test split)."""

    def __init__(self, labels: list[str]):
        self.labels = labels
        self.predictions: dict[int, str] = {}

    def update(self, outputs: Any, batch: dict[str, Any]) -> None:
        """Reads ``outputs.logits`` (B, A) and ``batch["question_ids"]`` (B,)."""
        best = outputs.logits.argmax(dim=-1).tolist()
        for question, place in zip(batch["question_ids"].tolist(), best, strict=True):
            self.predictions[question] = self.labels[place]

    def compute(self) -> dict[str, float]:
        """Nothing to compare with."""
        return {}


def _shares(outputs: Any) -> torch.Tensor:
    parts = [outputs.attention_kept]
    if outputs.knowledge_kept is not None:
        parts.append(outputs.knowledge_kept)
    return torch.cat(parts)


if __name__ == "__main__":
    from tbkin.config import run_command

    sys.exit(run_command(main))
