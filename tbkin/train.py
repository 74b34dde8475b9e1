"""Training: ``accelerate launch tbkin/train.py configs/vqa.yaml key=value …``.

Without arguments: question answering on the tiny world, which is drawn first if it is not there.
The same as ``tbkin train``, ``python -m tbkin.train`` and ``accelerate launch -m tbkin.train``;
several processes with ``torchrun --nproc_per_node 2 tbkin/train.py`` (or accelerate's launcher).

Writes to ``output_dir``: the best checkpoint by validation score (one ``from_pretrained`` is
enough to predict), ``run.json`` (settings, versions, data hashes, scores), ``log.jsonl`` and, where
objectives have learned something themselves, ``objectives.safetensors``.
"""

from __future__ import annotations

import os
import sys

if not __package__:  # started as a file: Python put tbkin/ on the path, where we want its parent
    sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

import contextlib
import importlib.metadata
import json
import math
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import (
    DataLoaderConfiguration,
    DistributedDataParallelKwargs,
    broadcast,
    set_seed,
)
from torch import nn
from torch.utils.data import DataLoader
from tqdm import tqdm
from transformers.utils.logging import disable_progress_bar

from tbkin.config import TrainConfig, choose, load_config, run_command
from tbkin.data import tower_inputs
from tbkin.data.collate import Collator
from tbkin.data.prepared import STEPS, find_prepared, read_record
from tbkin.data.processing_tbkin import TBKINProcessor
from tbkin.data.teachers import teacher_scores
from tbkin.files import put_in_place, write_json
from tbkin.gathering import TEACHERS, gathered
from tbkin.momentum_model import MomentumModel
from tbkin.objectives import TotalLoss
from tbkin.objectives.learned import LEARNED, read_learned, save_learned, take_over
from tbkin.optimization import build_optimizer, epochs_done, set_lr
from tbkin.provenance import (
    new_run_id,
    pictures_by_collection,
    save_training_record,
    split_record,
    training_record,
)
from tbkin.running import Runner, build_accelerator, evaluate, finish, kept_by_block, quiet
from tbkin.starting_model import build, check_learns
from tbkin.tasks import TASKS, check_ranks

TINY_ROOT = "data/tiny"
LAUNCHED = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE")  # what a launcher sets
PACKAGES = ("torch", "transformers", "torch-geometric", "spacy", "accelerate", "omegaconf", "numpy")


def main(arguments: list[str] | None = None) -> None:
    """Read the settings and train."""
    arguments = sys.argv[1:] if arguments is None else arguments
    train(load_config(TrainConfig, arguments, __doc__))


def train(config: TrainConfig) -> dict[str, Any]:
    """One run, from settings to ``run.json``, whose content is returned."""
    task = choose(TASKS, config.task, "task")
    objectives = config.objectives or task.objectives
    total_loss = TotalLoss(objectives)
    accelerator = build_accelerator(
        gradient_accumulation_steps=config.optim.gradient_accumulation_steps,
        mixed_precision=config.mixed_precision,
        dataloader_config=DataLoaderConfiguration(split_batches=True, use_seedable_sampler=True),
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
    )
    disable_progress_bar()  # of transformers: a checkpoint is written in a blink
    set_seed(config.seed)
    for name in ("teachers", "prompt"):
        if getattr(config.data, name) and name not in task.training_settings:
            raise ValueError(f"data.{name} is of no use to task={config.task}; leave it out.")
    chooses_pairs = "matching" in objectives and hasattr(task.dataset, "pairs_of")
    if not chooses_pairs and objectives.get("matching", {}).get("rows"):
        raise ValueError(
            f"objectives.matching.rows is of no use to task={config.task}, whose wrong pairs are "
            "not chosen in the batch; leave it out."
        )
    for part in config.data.roots:
        choose(dict.fromkeys(task.parts), part, f"part of task {config.task} in data.roots")
    places = {
        name: config.data.roots.get(name, config.data.root) for name in task.parts or (config.task,)
    }
    if accelerator.is_local_main_process:
        for name, place in places.items():
            draw_tiny_world(place, name)
    accelerator.wait_for_everyone()
    roots = {name: find_prepared(place, name) for name, place in places.items()}
    root = roots if task.parts else roots[config.task]

    processor, model, note = build(config, task, root)
    if note and accelerator.is_main_process:
        sys.stderr.write(f"{note}\n")
    check_ranks(config.task, model.config, "")
    check_learns(model.config, total_loss.weights)
    labels = list(model.config.id2label.values())
    splits = [
        task.dataset(
            root,
            split,
            processor,
            labels,
            config.data.max_examples,
            **{name: getattr(config.data, name) for name in names},
        )
        for split, names in (
            (config.data.train_split, task.data_settings + task.training_settings),
            (config.data.val_split, task.data_settings),
        )
    ]
    collate = Collator(processor.tokenizer.pad_token_id, len(labels))
    loader = DataLoader(
        splits[0],
        batch_size=config.batch_size,
        shuffle=True,
        collate_fn=collate,
        num_workers=config.data.workers,
        persistent_workers=config.data.workers > 0,
    )
    total_loss.bind(splits[0], model.config.embedding_size, model.config.hidden_size)
    if config.init_from:
        learned = read_learned(Path(config.init_from))
        went_on = take_over(total_loss.objectives, total_loss.settings, learned)
        if learned.tensors and accelerator.is_main_process:
            sys.stderr.write(f"objectives of init_from={config.init_from}: {went_on}\n")
    momentum = None
    if "momentum_contrast" in objectives:
        momentum = MomentumModel(model.to(accelerator.device))
    optimizer = build_optimizer([model, total_loss], config.optim)
    model, optimizer, train_loader = accelerator.prepare(model, optimizer, loader)
    total_loss = total_loss.to(accelerator.device)
    if any(parameter.requires_grad for parameter in total_loss.parameters()):
        total_loss = accelerator.prepare(total_loss)

    run = new_run_id(config.seed)
    parts = splits[0].parts if task.parts else {config.task: splits[0]}
    seen = training_record(
        run,
        [split_record(folder, config.data.train_split) for folder in roots.values()],
        pictures_by_collection((roots[name], part.rows) for name, part in parts.items()),
        config.init_from,
    )
    if accelerator.unwrap_model(model).config.towers is not None:
        seen["known"] = False  # nobody knows what these have seen
    data = {name: read_record(folder) for name, folder in roots.items()}
    record: dict[str, Any] = {
        "run": run,
        "config": asdict(config),
        "model": accelerator.unwrap_model(model).config.to_diff_dict(),
        "parser": processor.parser,
        "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
        "data": data if task.parts else data[config.task],
        "regions": splits[0].store.fingerprint,
        "seed": config.seed,
        "processes": accelerator.num_processes,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
    }
    output = Path(config.output_dir)
    if accelerator.is_main_process:
        output.mkdir(parents=True, exist_ok=True)

    def run_model(batch: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        """Outputs and batch as objectives read them, with what no loader can know beforehand."""
        more = {}
        if chooses_pairs:
            more["pairs"] = splits[0].pairs_of(batch, collate)
            judged = objectives["matching"].get("rows", 0)  # of all processes together
            more["judged_rows"] = math.ceil(judged / accelerator.num_processes)
        if getattr(accelerator.unwrap_model(model), "scorer", None) is not None:
            more["scored"] = True
        outputs = model(**batch, **more)
        for side in TEACHERS:  # of its own share, which the process chose wrong pairs in
            if side in batch:
                batch = batch | {f"own_{side}_scores": teacher_scores(batch[side])}
        if momentum is not None:
            with accelerator.autocast():
                momentum.add_keys(accelerator.unwrap_model(model), outputs, batch)
        return outputs, gathered(accelerator, outputs, batch)

    def validate() -> dict[str, Any]:
        metric = task.metric(splits[1], labels, accelerator.unwrap_model(model))
        size = max(1, config.eval_batch_size // accelerator.num_processes)
        workers = config.data.workers
        return evaluate(Runner(accelerator, model, splits[1], collate, metric, size, workers))

    def save() -> None:
        if accelerator.is_main_process:
            learned = accelerator.unwrap_model(model), accelerator.unwrap_model(total_loss)
            save_checkpoint(*learned, processor, seen, output)

    result = fit(
        accelerator,
        config,
        model,
        total_loss,
        optimizer,
        train_loader,
        run_model,
        validate,
        save,
        task.monitor,
    )
    record |= result
    if accelerator.is_main_process:
        write_json(output / "run.json", record)
        sys.stderr.write(
            f"best {task.monitor}: {100 * result['best'][task.monitor]:.2f} % on "
            f"{config.data.val_split}, {result['steps']} steps, {result['seconds']:.0f} s; "
            f"checkpoint: {output} (run {run})\n"
        )
    finish(accelerator)
    return record


def fit(
    accelerator: Accelerator,
    config: TrainConfig,
    model: nn.Module,
    total_loss: nn.Module,
    optimizer: torch.optim.Optimizer,
    train_loader: DataLoader,
    run_model: Any,
    validate: Any,
    save: Any,
    monitor: str,
) -> dict[str, Any]:
    """The loop: steps, validation, and the best checkpoint.

    Returns:
        ``best`` and ``history`` of the validation scores, ``steps`` and ``seconds``.
    """
    total_steps = config.epochs * math.ceil(
        len(train_loader) / config.optim.gradient_accumulation_steps
    )
    best: dict[str, Any] = {}
    history: list[dict[str, Any]] = []
    step, began = 0, time.monotonic()
    objectives = accelerator.unwrap_model(total_loss)
    timed = config.max_seconds > 0
    bar = tqdm(
        total=round(config.max_seconds) if timed else total_steps,
        desc="training",
        unit="s" if timed else "step",
        disable=quiet(accelerator),
    )
    with open_log(accelerator, config.output_dir) as log:
        for epoch in range(config.epochs):
            train_loader.set_epoch(epoch)
            if hasattr(train_loader.dataset, "set_visit"):
                train_loader.dataset.set_visit(config.seed, epoch)
            model.train()
            for batch in train_loader:
                progress = share_done(accelerator, config, step / total_steps, began)
                if progress >= 1:
                    break
                set_lr(optimizer, config.optim, progress, config.epochs)
                objectives.set_epoch(int(epochs_done(progress, config.epochs)))
                with accelerator.accumulate(model):
                    outputs, batch = run_model(batch)
                    loss, terms = total_loss(outputs, batch)
                    check_finite(loss, step)
                    accelerator.backward(loss)
                    if accelerator.sync_gradients:
                        accelerator.clip_grad_norm_(model.parameters(), config.optim.max_grad_norm)
                    optimizer.step()
                    optimizer.zero_grad()
                if not accelerator.sync_gradients:
                    continue
                step += 1
                bar.update(int(time.monotonic() - began) - bar.n if timed else 1)
                if step % config.log_every == 0:
                    line = {
                        "step": step,
                        "epoch": epoch,
                        "loss": loss.item(),
                        **{name: term.item() for name, term in terms.items()},
                        "lr": optimizer.param_groups[0]["lr"],
                        "seconds": round(time.monotonic() - began, 2),
                        "attention_kept": outputs.attention_kept.mean().item(),
                        "attention_kept_by_block": kept_by_block(outputs.attention_pairs),
                    }
                    if outputs.attention_gate is not None:
                        line["attention_gate"] = outputs.attention_gate.item()
                    bar.set_postfix(loss=f"{line['loss']:.3f}", epoch=epoch + 1)
                    log(line)
            done = share_done(accelerator, config, step / total_steps, began) >= 1
            if (epoch + 1) % config.validate_every and not done and epoch + 1 < config.epochs:
                continue
            values = validate()
            history.append({"epoch": epoch, "step": step, **values})
            log({"step": step, "epoch": epoch, "validation": values})
            bar.set_postfix(**{monitor: f"{values[monitor]:.3f}"}, epoch=epoch + 1)
            if not best or values[monitor] > best[monitor]:
                best = {"epoch": epoch, "step": step, **values}
                save()
            if done:
                break
    bar.close()
    return {
        "best": best,
        "history": history,
        "steps": step,
        "seconds": round(time.monotonic() - began, 2),
    }


def share_done(
    accelerator: Accelerator, config: TrainConfig, share_of_steps: float, began: float
) -> float:
    """How much of the run is done, by steps or by the clock of the first process."""
    if not config.max_seconds:
        return share_of_steps
    elapsed = torch.tensor(time.monotonic() - began, device=accelerator.device)
    if accelerator.num_processes > 1:
        elapsed = broadcast(elapsed)
    return max(share_of_steps, elapsed.item() / config.max_seconds)


def check_finite(loss: torch.Tensor, step: int) -> None:
    """Stop at once rather than train on garbage."""
    if not torch.isfinite(loss):
        raise ValueError(
            f"the loss is {loss.item()} at step {step}; lower optim.lr, or check the features."
        )


def save_checkpoint(
    model: Any,
    total_loss: TotalLoss,
    processor: TBKINProcessor,
    seen: dict[str, Any],
    output: Path,
) -> None:
    """Write a checkpoint and what it has seen beside the old one, then put it in its place.

    What the objectives have learned goes into a file of its own, since prediction needs none of it.
    """
    unfinished = output / ".unfinished"
    shutil.rmtree(unfinished, ignore_errors=True)  # what a stopped run left
    unfinished.mkdir()
    model.save_pretrained(unfinished)
    processor.save_pretrained(unfinished)
    save_training_record(seen, unfinished)
    if not save_learned(total_loss.objectives, total_loss.settings, unfinished):
        (output / LEARNED).unlink(missing_ok=True)  # of an earlier run's objectives
    if processor.towers is None:
        shutil.rmtree(output / tower_inputs.FOLDER, ignore_errors=True)  # likewise
    for path in unfinished.iterdir():
        if path.is_dir():
            put_in_place(path, output / path.name)
        else:
            path.replace(output / path.name)
    unfinished.rmdir()


@contextmanager
def open_log(accelerator: Accelerator, output_dir: str) -> Iterator[Callable[[dict], None]]:
    """Gives ``log(line)``, which appends one JSON line to ``log.jsonl`` on the main process."""
    if not accelerator.is_main_process:
        yield lambda line: None
        return
    with (Path(output_dir) / "log.jsonl").open("w", encoding="utf-8") as file:

        def log(line: dict[str, Any]) -> None:
            file.write(json.dumps(line) + "\n")
            file.flush()

        yield log


def draw_tiny_world(root: str, task: str) -> None:
    """Draw and prepare the tiny world if that is what the run wants and it is not there."""
    if root != TINY_ROOT:
        return
    with contextlib.suppress(FileNotFoundError):
        find_prepared(root, task)
        return
    steps = [[STEPS.get(task, task), f"data.root={root}", "detector=detected"]]
    if not Path(root).is_dir():
        steps.insert(0, ["tiny", f"output={root}"])
    # One process prepares while the others wait: it must not take itself for one of several.
    alone = {name: value for name, value in os.environ.items() if name not in LAUNCHED}
    for words in steps:
        sys.stderr.write(f"not there yet: tbkin prep {' '.join(words)}\n")
        command = [sys.executable, "-m", "data_prep", *words]
        if subprocess.run(command, stdout=sys.stderr, env=alone, check=False).returncode:
            raise ValueError(f"tbkin prep {' '.join(words)} failed; see above.")


if __name__ == "__main__":
    sys.exit(run_command(main))
