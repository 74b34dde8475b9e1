"""Run a trained model on a split: ``tbkin eval model=DIR data.root=DIR split=val output=DIR``.

Writes ``metrics.json``. Of questions (``task=vqa``) it holds, where the answers are known, the
score, its parts and its baselines, and ``predictions.json`` stands beside it in the benchmark's own
format (EvalAI's list of question_id and answer). Of ``task=pretraining`` it holds how much of what
is hidden the model restores; the same things are hidden every time.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

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
from tbkin.metrics.vqa_accuracy import RULES, VQAAccuracy, baselines, score_predictions
from tbkin.model.configuration_tbkin import TBKINConfig
from tbkin.model.fusion import kept_share
from tbkin.model.selection import BLOCKS
from tbkin.scoring import vqa_table
from tbkin.tasks import TASKS

SELECTION = ("attention_kept", "attention_gate", "nodes_kept", "edges_kept")


@dataclass
class EvalData:
    """Where the questions come from."""

    root: str = setting("data/tiny", "prepared folder, or the official files' folder it is made of")
    max_examples: int = setting(0, "only the first so many examples; 0: all")
    masking: Literal["graph", "simple", "random"] = setting(
        "graph", "what task=pretraining hides, see tbkin/data/masking.py"
    )


@dataclass
class EvalConfig:
    """One evaluation."""

    model: str = setting("outputs/vqa_tiny", "checkpoint folder")
    split: str = setting("val", "split to run on")
    output: str = setting("", "folder to write; not set: <model>/eval-<split>")
    rule: str = setting("official", "VQA script version: official or legacy")
    task: str = setting("vqa", "row of tbkin/tasks.py")
    batch_size: int = setting(128, "examples a batch, over all processes together")
    json: bool = setting(False, "print one JSON object instead of a table")
    data: EvalData = field(default_factory=EvalData)


def evaluate(
    accelerator: Accelerator, model: Any, loader: DataLoader, metric: Any
) -> dict[str, Any]:
    """Score a model on a loader, on all processes together.

    Args:
        accelerator: made ``loader`` and ``model`` ready.
        model: its outputs go to ``metric.rows``.
        loader: batches.
        metric: ``rows(outputs, batch)`` gives tensors (B, …), which are gathered from all
            processes for ``update(rows)``; judged by id, so that padding of the last batch never
            counts twice.

    Returns:
        The metric's values, and what share of attention and knowledge the thresholds kept:
        ``attention_kept`` a list with one share a layer, ``attention_kept_by_block`` such a list
        for each of ``BLOCKS`` (1 where a block has no pair), ``nodes_kept``, ``edges_kept``;
        ``attention_gate`` of learned thresholds.
    """
    was_training = model.training
    model.eval()
    pairs: Any = 0
    means: dict[str, list[torch.Tensor]] = {}
    with torch.no_grad():
        for batch in tqdm(
            loader, desc="evaluating", leave=False, disable=quiet(accelerator), unit="batch"
        ):
            outputs = model(**batch)
            rows = metric.rows(outputs, batch)
            for values in (outputs.pooled, *rows.values()):
                if not torch.isfinite(values).all():
                    raise ValueError("the model's outputs are not finite; its weights are damaged.")
            metric.update(accelerator.gather_for_metrics(rows))
            pairs = pairs + outputs.attention_pairs.long()  # whole numbers, and any device has them
            for name, value in _shares(outputs).items():
                means.setdefault(name, []).append(value)
    model.train(was_training)
    pairs = accelerator.reduce(pairs, reduction="sum")
    return {
        **metric.compute(),
        "attention_kept": kept_share(pairs.sum(dim=1)).tolist(),
        "attention_kept_by_block": kept_by_block(pairs),
        **{
            name: accelerator.reduce(torch.stack(values).mean(), reduction="mean").item()
            for name, values in means.items()
        },
    }


def kept_by_block(pairs: torch.Tensor) -> dict[str, list[float]]:
    """Which share of its attention each block kept, layer by layer.

    Args:
        pairs: (layers, 5, 2), numbers kept and valid, of ``outputs.attention_pairs``.
    """
    return dict(zip(BLOCKS, kept_share(pairs).T.tolist(), strict=True))


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
    """Evaluate a checkpoint, write what came out, print the score."""
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
    if config.task == "pretraining":
        sys.stdout.write(pretraining_table(report) + "\n")
    elif "overall" in report:
        sys.stdout.write(vqa_table(report) + "\n")
    sys.stdout.write(f"written to: {report['output']}\n")


def evaluate_checkpoint(config: EvalConfig) -> dict[str, Any] | None:
    """Run on a split and write ``metrics.json``, which is returned, and what was predicted."""
    disable_progress_bar()  # of transformers: a checkpoint is read in a blink
    task = choose(TASKS, config.task, "task")
    choose(dict.fromkeys(RULES), config.rule, "rule")
    folder = Path(config.model)
    if not (folder / "config.json").is_file():
        raise FileNotFoundError(f"no checkpoint in {folder}; train one with: tbkin train")
    made = (TBKINConfig.from_pretrained(folder).architectures or [""])[0]
    if made != task.model.__name__:
        raise ValueError(
            f"{folder} holds a {made or 'model of no known task'}; task={config.task} needs a "
            f"{task.model.__name__}. Name its own task, or train one with init_from={folder}."
        )
    root = find_prepared(config.data.root, config.task)
    processor = TBKINProcessor.from_pretrained(folder)
    model = task.model.from_pretrained(folder)
    labels = list(model.config.id2label.values())
    own = {name: getattr(config.data, name) for name in task.data_settings}
    dataset = task.dataset(root, config.split, processor, labels, config.data.max_examples, **own)
    accelerator = Accelerator(dataloader_config=DataLoaderConfiguration(split_batches=True))
    collate = Collator(processor.tokenizer.pad_token_id)
    loader = DataLoader(dataset, batch_size=config.batch_size, collate_fn=collate)
    model, loader = accelerator.prepare(model, loader)

    metric = task.metric(dataset, labels)
    if config.task == "vqa":
        questions = dataset.questions()
        known = all("answers" in row for row in questions.values())
        metric = VQAAccuracy(questions, labels, config.rule) if known else Answers(labels)
    values = evaluate(accelerator, model, loader, metric)
    finish(accelerator)
    if not accelerator.is_main_process:
        return None
    output = Path(config.output) if config.output else folder / f"eval-{config.split}"
    selection = {key: values.pop(key) for key in list(values) if key.startswith(SELECTION)}
    report: dict[str, Any] = {"split": config.split}
    if config.task == "vqa":
        report["questions"] = len(questions)
        if known:
            train = {row["question_id"]: row for row in read_split(root, "train")}
            report |= score_predictions(metric.predictions, questions, config.rule)
            report["baselines"] = {"from": "train", **baselines(train, questions, config.rule)}
        predictions = [
            {"question_id": question, "answer": answer}
            for question, answer in sorted(metric.predictions.items())
        ]
        write_json(output / "predictions.json", predictions)
    else:
        report |= {"captions": len(dataset), "masking": config.data.masking, **values}
    report |= {
        "selection": selection,
        "model": str(folder),
        "output": str(output),
        "data": {"root": str(root), "regions": dataset.store.fingerprint},
        "files": read_record(root)["files"],
    }
    write_json(output / "metrics.json", report)
    return report


def pretraining_table(report: dict[str, Any]) -> str:
    """Per cent, two places."""
    rows = {name: value for name, value in report.items() if name.endswith("_accuracy")}
    width = max(map(len, rows))
    lines = [f"restored, in per cent, {report['captions']} captions, masking {report['masking']}"]
    lines += [f"{name:<{width}}  {100 * value:6.2f}" for name, value in rows.items()]
    return "\n".join(lines)


class Answers:
    """Collects answers to questions whose truth nobody knows here (the official test split)."""

    def __init__(self, labels: list[str]):
        self.labels = labels
        self.predictions: dict[int, str] = {}

    def rows(self, outputs: Any, batch: dict[str, Any]) -> dict[str, torch.Tensor]:
        """Reads ``outputs.logits`` (B, A) and ``batch["question_ids"]`` (B,)."""
        return {"best": outputs.logits.argmax(dim=-1), "question_ids": batch["question_ids"]}

    def update(self, rows: dict[str, torch.Tensor]) -> None:
        """Note the best answers."""
        for question, place in zip(
            rows["question_ids"].tolist(), rows["best"].tolist(), strict=True
        ):
            self.predictions[question] = self.labels[place]

    def compute(self) -> dict[str, float]:
        """Nothing to compare with."""
        return {}


def _shares(outputs: Any) -> dict[str, torch.Tensor]:
    """Scalars of a batch."""
    shares = {}
    if outputs.knowledge_kept is not None:
        shares["nodes_kept"], shares["edges_kept"] = outputs.knowledge_kept
    if outputs.attention_gate is not None:
        shares["attention_gate"] = outputs.attention_gate
    return shares


if __name__ == "__main__":
    from tbkin.config import run_command

    sys.exit(run_command(main))
