"""How fast is it? ``python benchmarks/speed.py model=DIR data.root=DIR``.

Prints training steps a second and questions answered a second (batch 1 and batch 64) as JSON:
medians of several rounds in one process, examples made beforehand.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch

from tbkin.config import OptimConfig, help_text, load_config, run_command, setting
from tbkin.data.collate import Collator
from tbkin.data.prepared import find_prepared
from tbkin.data.processing_tbkin import TBKINProcessor
from tbkin.data.vqa import VQADataset
from tbkin.evaluation import EvalData
from tbkin.model.heads import TBKINForQuestionAnswering
from tbkin.optimization import build_optimizer


@dataclass
class SpeedConfig:
    """What to measure."""

    model: str = setting("demo/model", "checkpoint folder")
    batch_size: int = setting(32, "of training")
    rounds: int = setting(7, "rounds a figure; the median counts")
    data: EvalData = field(default_factory=lambda: EvalData(root="demo/prepared-0"))


def main(arguments: list[str]) -> None:
    """Measure and print."""
    if "--help" in arguments:
        sys.stdout.write(help_text(__doc__, SpeedConfig) + "\n")
        return
    config = load_config(SpeedConfig, arguments)
    processor = TBKINProcessor.from_pretrained(config.model)
    model = TBKINForQuestionAnswering.from_pretrained(config.model)
    labels = list(model.config.id2label.values())
    root = find_prepared(config.data.root)
    dataset = VQADataset(root, "train", processor, labels, max(640, 10 * config.batch_size))
    examples = [dataset[place] for place in range(len(dataset))]
    collate = Collator(processor.tokenizer.pad_token_id, len(labels))

    def batches(size: int) -> list[list]:
        return [examples[k : k + size] for k in range(0, 10 * size, size)]

    def answer(size: int) -> float:
        model.eval()
        with torch.no_grad():
            return rate(lambda part: model(**collate(part)), batches(size), config.rounds) * size

    optimizer = build_optimizer([model], OptimConfig())

    def step(part: list) -> None:
        model(**collate(part)).loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    result = {
        "questions_per_second_batch_1": answer(1),
        "questions_per_second_batch_64": answer(64),
    }
    model.train()
    result["training_steps_per_second"] = rate(step, batches(config.batch_size), config.rounds)
    result |= {
        "training_batch_size": config.batch_size,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "threads": torch.get_num_threads(),
        "model": str(Path(config.model)),
    }
    print(json.dumps(result, indent=1))


def rate(work: Callable[[list], object], parts: list[list], rounds: int) -> float:
    """Calls of ``work`` a second: the median over rounds, after one that does not count."""
    seconds = []
    for _ in range(rounds + 1):
        began = time.perf_counter()
        for part in parts:
            work(part)
        seconds.append((time.perf_counter() - began) / len(parts))
    return 1 / statistics.median(seconds[1:])


if __name__ == "__main__":
    sys.exit(run_command(main))
