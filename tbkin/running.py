"""Running a model over a split, so that neither processes nor kills change what comes out.

Process ``r`` of ``n`` takes examples of its own and no other's; none is padded, so none counts
twice. What came out is a list of *records*, one a batch, tensors and what JSON can say: training
gathers them, ``tbkin eval`` writes them to shards that a stopped run leaves for the next.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object, send_to_device
from safetensors import safe_open
from safetensors.torch import save_file
from torch.utils.data import DataLoader, Dataset, Subset
from tqdm import tqdm

from tbkin.model.fusion import kept_share
from tbkin.model.selection import BLOCKS
from tbkin.resume import write_shards

SMALLEST_SHARD, LARGEST_SHARD = 256, 2048  # examples; a killed process loses at most so many
SHARDS = 32  # that a split makes, where their sizes allow it; the same for any number of processes
Record = dict[str, Any]


def build_accelerator(**settings: Any) -> Accelerator:
    """An ``Accelerator`` that joins the processes of a launcher on a CPU, too.

    Without a GPU accelerate takes each of torchrun's processes for one alone, unless it is told to
    use the CPU: all of them would train, each by itself, into one folder.

    Args:
        settings: of ``Accelerator``.
    """
    launched = int(os.environ.get("WORLD_SIZE", "1")) > 1
    found = torch.accelerator.current_accelerator()
    on_cpu = found is None or found.type == "mps"  # of which there is one, and no way to join
    return Accelerator(cpu=launched and on_cpu, **settings)


class Runner:
    """What is the same for every batch of an evaluation.

    Args:
        accelerator: says which process this is, and where its model lives.
        model: prepared or not; its outputs go to ``metric.rows``.
        dataset: examples by place.
        collate: examples -> batch.
        metric: ``rows(outputs, batch)`` gives tensors, ``update(rows)`` takes those of one batch
            after another, ``compute()`` says what they are worth. Its rows carry ids.
        batch_size: examples a batch, in this process.
        workers: loader processes.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        model: Any,
        dataset: Dataset,
        collate: Callable[[list[Any]], dict[str, Any]],
        metric: Any,
        batch_size: int,
        workers: int = 0,
    ):
        self.accelerator, self.dataset, self.collate = accelerator, dataset, collate
        # Without DDP, whose processes would wait for one another's batches.
        self.model = accelerator.unwrap_model(model)
        self.metric, self.batch_size, self.workers = metric, batch_size, workers

    @torch.no_grad()
    def records(self, places: Sequence[int]) -> Iterator[Record]:
        """Run some examples of the dataset.

        Returns:
            For each batch ``rows`` of the metric, copied to where no accelerator is, ``examples``,
            how many they are, ``pairs``, the sums of ``outputs.attention_pairs``, and ``shares``,
            scalars by name.

        Raises:
            ValueError: the model's outputs are not finite.
        """
        loader = DataLoader(
            Subset(self.dataset, places),
            batch_size=self.batch_size,
            collate_fn=self.collate,
            num_workers=self.workers,
        )
        was_training = self.model.training
        self.model.eval()
        for batch in loader:
            batch = send_to_device(batch, self.accelerator.device)
            outputs = self.model(**batch)
            rows = self.metric.rows(outputs, batch)
            for values in (outputs.pooled, *rows.values()):
                if not torch.isfinite(values).all():
                    raise ValueError("the model's outputs are not finite; its weights are damaged.")
            yield {
                # Copies: a row that is part of a larger tensor must not keep all of that.
                "rows": {
                    name: values.to("cpu", copy=True).contiguous() for name, values in rows.items()
                },
                "examples": len(outputs.pooled),
                "pairs": outputs.attention_pairs.tolist(),
                "shares": _shares(outputs),
            }
        self.model.train(was_training)


def evaluate(runner: Runner) -> dict[str, Any]:
    """Score a model on all processes together; each gets the same values.

    Returns:
        What :func:`summarize` does.
    """
    accelerator = runner.accelerator
    mine = range(accelerator.process_index, len(runner.dataset), accelerator.num_processes)
    batches = -(-len(mine) // runner.batch_size)
    bar = tqdm(
        runner.records(mine),
        desc="evaluating",
        total=batches,
        leave=False,
        disable=quiet(accelerator),
        unit="batch",
    )
    return summarize(gather_object(list(bar)), runner.metric)


def evaluate_in_shards(
    runner: Runner, folder: Path, settings: Mapping[str, Any], shard_size: int = 0
) -> dict[str, Any] | None:
    """Score a model on all processes together; a stopped run goes on where it was.

    Args:
        runner: what is run.
        folder: of the shards, on a disk that all processes share; the caller removes it when what
            came out is safe.
        settings: JSON values that decide what comes out; begun with others, the folder is refused.
        shard_size: examples a shard; 0: as the split's size has it.

    Returns:
        What :func:`summarize` does, in the first process; None in the others.

    Raises:
        ValueError: the first process does not see what the others wrote.
    """
    size = min(LARGEST_SHARD, max(SMALLEST_SHARD, len(runner.dataset) // SHARDS))

    def write(path: Path, places: Iterable[int]) -> None:
        write_records(path, runner.records(list(places)))

    def shards() -> list[Path] | None:
        return write_shards(
            folder,
            range(len(runner.dataset)),
            write,
            settings,
            suffix=".safetensors",
            size=shard_size or size,
            unit="example",
            total=len(runner.dataset),
        )

    shards()
    runner.accelerator.wait_for_everyone()
    if not runner.accelerator.is_main_process:
        return None
    paths = shards()
    if paths is None:
        raise ValueError(
            f"{folder} lacks what other processes wrote; set output= to a folder on a disk that "
            "all processes share."
        )
    return summarize((record for path in paths for record in read_records(path)), runner.metric)


def write_records(path: Path, records: Iterable[Record]) -> None:
    """Write a shard: rows as tensors ``"{batch}.{row}"``, all else as JSON in the metadata."""
    tensors, others = {}, []
    for number, record in enumerate(records):
        tensors |= {f"{number}.{name}": values for name, values in record["rows"].items()}
        others.append({name: value for name, value in record.items() if name != "rows"})
    save_file(tensors, path, {"records": json.dumps(others)})


def read_records(path: Path) -> Iterator[Record]:
    """The records of a shard, one by one."""
    with safe_open(path, framework="pt") as file:
        names: dict[str, list[str]] = {}
        for key in file.keys():  # noqa: SIM118 - no mapping
            number, name = key.split(".", 1)
            names.setdefault(number, []).append(name)
        for number, record in enumerate(json.loads(file.metadata()["records"])):
            rows = {name: file.get_tensor(f"{number}.{name}") for name in names[str(number)]}
            yield {"rows": rows, **record}


def summarize(records: Iterable[Record], metric: Any) -> dict[str, Any]:
    """The metric's values, and what share of attention and knowledge the thresholds kept.

    Returns:
        ``attention_kept`` a list with one share a layer, ``attention_kept_by_block`` such a list
        for each of ``BLOCKS`` (1 where a block has no pair), ``nodes_kept`` and ``edges_kept``,
        means over the examples of their batches' shares; ``attention_gate`` of learned thresholds.
    """
    pairs: Any = 0
    examples = 0
    shares: dict[str, float] = {}
    for record in records:
        metric.update(record["rows"])
        pairs = pairs + torch.tensor(record["pairs"]).long()
        examples += record["examples"]
        for name, value in record["shares"].items():
            shares[name] = shares.get(name, 0.0) + value * record["examples"]
    return {
        **metric.compute(),
        "attention_kept": kept_share(pairs.sum(dim=1)).tolist(),
        "attention_kept_by_block": kept_by_block(pairs),
        **{name: total / examples for name, total in shares.items()},
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


def _shares(outputs: Any) -> dict[str, float]:
    """Scalars of a batch."""
    shares = {}
    if outputs.knowledge_kept is not None:
        shares = dict(
            zip(("nodes_kept", "edges_kept"), outputs.knowledge_kept.tolist(), strict=True)
        )
    if outputs.attention_gate is not None:
        shares["attention_gate"] = outputs.attention_gate.item()
    return shares
