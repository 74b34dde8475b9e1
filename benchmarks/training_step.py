"""How long is a training step at ROSITA's size? ``python benchmarks/training_step.py``.

Question answering with 12 layers of 768, 3,129 answers, batch 8, 20 tokens and 36 regions: forward
and backward, and the whole step with the optimiser, in float32 and with bfloat16 autocast. Beside
them stands the machine's speed, a float32 matrix product. ``rosita=DIR`` (a checkout of
github.com/MILVLG/rosita) runs the authors' network in the same rounds, with the optimiser that they
fine-tune with; ours are then given as shares of its time too. At ROSITA's size the forward and
backward pass that is known of the authors' code is printed as well, 1,550 ms where the matrix
product ran at 205 GFLOP/s, scaled (*ours*) to the product of this run: a guide, not a measurement.
Prints a table, or with ``json=true`` one JSON object.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tbkin.config import OptimConfig, load_config, run_command, setting
from tbkin.model.configuration_tbkin import TBKINConfig
from tbkin.model.heads import TBKINForQuestionAnswering
from tbkin.optimization import build_optimizer

KNOWN_SECONDS, KNOWN_GFLOPS = 1.55, 205  # of ROSITA's code: forward + backward, and the product
THEIRS = "ROSITA float32"
PRODUCTS = 5  # matrix products a round
TOKENS, REGIONS, FEATURES, ANSWERS, WORDS = 20, 36, 2048, 3129, 30522


@dataclass
class StepConfig:
    """What to measure."""

    rosita: str = setting("", "checkout of ROSITA to run beside; not set: ours alone")
    batch_size: int = setting(8, "samples")
    layers: int = setting(12, "of the encoder")
    rounds: int = setting(7, "rounds; the median counts")
    threads: int = setting(0, "of PyTorch; 0: its own choice")
    json: bool = setting(False, "print one JSON object instead of a table")

    def __post_init__(self) -> None:
        """Check ranges."""
        for name in ("batch_size", "layers", "rounds"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be >= 1, got {getattr(self, name)}.")


def main(arguments: list[str]) -> None:
    """Measure and print."""
    config = load_config(StepConfig, arguments, __doc__)
    if config.threads:
        torch.set_num_threads(config.threads)
    result = measure(config)
    if config.json:
        sys.stdout.write(json.dumps(result) + "\n")
        return
    sys.stdout.write(table(result, config) + "\n")


def table(result: dict[str, Any], config: StepConfig) -> str:
    """The result as text."""
    lines = [
        f"batch {config.batch_size}, {TOKENS} + {REGIONS} positions, {result['threads']} threads, "
        f"matrix product {result['gflops']:.0f} GFLOP/s",
        f"{'':<22} {'forward + backward':>18} {'with optimiser':>15}",
    ]
    for name, row in result["seconds"].items():
        times = result["times_rosita"].get(name)
        beside = f"   {times['passes']:.2f} x, {times['step']:.2f} x {THEIRS}" if times else ""
        lines.append(
            f"{name:<22} {1e3 * row['passes']:>15.0f} ms {1e3 * row['step']:>12.0f} ms{beside}"
        )
    if result["rosita_scaled"] is not None:
        scaled = 1e3 * result["rosita_scaled"]
        lines.append(
            f"{'ROSITA, scaled':<22} {scaled:>15.0f} ms{'':>15} (not measured: "
            f"{1e3 * KNOWN_SECONDS:,.0f} ms at {KNOWN_GFLOPS} GFLOP/s, scaled to this product)"
        )
    return "\n".join(lines)


def measure(config: StepConfig) -> dict[str, Any]:
    """Median seconds of every variant, which take turns within a round.

    Returns:
        ``seconds``: variant -> ``passes`` and ``step``; ``times_rosita``: the same of ours, each
        divided by ROSITA's of the same round (empty where it is not run); ``rosita_scaled``:
        seconds of ROSITA's passes, scaled from the known figure (None at another size);
        ``gflops``, ``threads`` and ``rounds``.
    """
    batch = make_batch(config.batch_size)
    ours = build_ours(config.layers)
    optimizer = build_optimizer([ours], OptimConfig())
    variants: dict[str, tuple[Callable[[], Tensor], torch.optim.Optimizer]] = {}
    if config.rosita:
        theirs = build_theirs(Path(config.rosita), config.layers)
        adam = torch.optim.Adam(theirs.parameters(), lr=5e-5, betas=(0.9, 0.98), eps=1e-9)
        variants[THEIRS] = (lambda: their_loss(theirs, batch), adam)
    variants["tbkin float32"] = (lambda: our_loss(ours, batch), optimizer)
    variants["tbkin bfloat16"] = (lambda: our_half_loss(ours, batch), optimizer)

    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in variants}
    products = []
    for _ in range(config.rounds + 1):
        products += [gflops() for _ in range(PRODUCTS)]
        for name, (loss, optim) in variants.items():
            began = time.perf_counter()
            loss().backward()
            passed = time.perf_counter()
            optim.step()
            optim.zero_grad()
            seconds[name].append((passed - began, time.perf_counter() - began))
    kept = {name: rows[1:] for name, rows in seconds.items()}  # the first round warms up
    speed = statistics.median(products[PRODUCTS:])
    return {
        "threads": torch.get_num_threads(),
        "rounds": config.rounds,
        "gflops": speed,
        "seconds": {name: medians(rows) for name, rows in kept.items()},
        "times_rosita": {
            name: medians(
                [
                    (own[0] / their[0], own[1] / their[1])
                    for own, their in zip(rows, kept[THEIRS], strict=True)
                ]
            )
            for name, rows in kept.items()
            if THEIRS in kept and name != THEIRS
        },
        "rosita_scaled": rosita_scaled(config, speed),
    }


def rosita_scaled(config: StepConfig, speed: float) -> float | None:
    """Seconds of ROSITA's passes where the product runs at ``speed`` GFLOP/s; None if unknown."""
    if (config.batch_size, config.layers) != (StepConfig.batch_size, StepConfig.layers):
        return None
    return KNOWN_SECONDS * KNOWN_GFLOPS / speed


def medians(rows: list[tuple[float, float]]) -> dict[str, float]:
    """The medians of (passes, step)."""
    passes, step = (statistics.median(column) for column in zip(*rows, strict=True))
    return {"passes": passes, "step": step}


def build_ours(layers: int) -> nn.Module:
    """Our network in training mode."""
    return TBKINForQuestionAnswering(TBKINConfig.rosita_base(num_hidden_layers=layers)).train()


def our_loss(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    """Binary cross-entropy in float32."""
    inputs = {name: tensor for name, tensor in batch.items() if name != "box_numbers"}
    return model(**inputs).loss


def our_half_loss(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    """The same with bfloat16 autocast, as ``mixed_precision=bf16`` trains."""
    with torch.autocast("cpu", torch.bfloat16):
        return our_loss(model, batch)


def build_theirs(folder: Path, layers: int) -> nn.Module:
    """ROSITA's network for questions, from the authors' checkout."""
    if not (folder / "rosita" / "modeling" / "transformer.py").is_file():
        raise FileNotFoundError(f"{folder} is no checkout of ROSITA: no rosita/modeling there.")
    sys.path.insert(0, str(folder / "rosita"))
    from modeling.finetune_tasks.vqa import Net  # type: ignore[import-not-found]

    settings = SimpleNamespace(
        HSIZE=768,
        HHEAD=12,
        HBASE=64,
        HFF=3072,
        LAYER=layers,
        DROPOUT_R=0.1,
        POS_EMB_IN_SIZE=512,
        TYPE_EMB_IN_SIZE=2,
        IMGFEAT_SIZE=FEATURES,
        BBOXFEAT_SIZE=5,
        USE_BBOXFEAT=True,
        WEIGHT_INIT_FACTOR=0.02,
    )
    return Net(settings, {"vocab_size": WORDS, "ans_size": ANSWERS}).train()


def their_loss(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    """Their forward pass and the same loss as ours."""
    names = ("input_ids", "attention_mask", "region_features", "region_mask", "box_numbers")
    logits = model(tuple(batch[name] for name in names))[-1]
    loss = F.binary_cross_entropy_with_logits(logits, batch["labels"], reduction="sum")
    return loss / len(logits)


def make_batch(size: int) -> dict[str, Tensor]:
    """Random inputs without padding; ``box_numbers`` are ROSITA's five a box."""
    generator = torch.Generator().manual_seed(0)
    corners = torch.rand(size, REGIONS, 2, 2, generator=generator).sort(dim=2).values
    boxes = corners.flatten(2)
    area = (boxes[..., 2:] - boxes[..., :2]).prod(dim=-1, keepdim=True)
    return {
        "input_ids": torch.randint(104, WORDS, (size, TOKENS), generator=generator),
        "attention_mask": torch.ones(size, TOKENS),
        "region_features": torch.rand(size, REGIONS, FEATURES, generator=generator),
        "region_boxes": boxes,
        "box_numbers": torch.cat([boxes, area], dim=-1),
        "region_mask": torch.ones(size, REGIONS),
        "labels": (torch.rand(size, ANSWERS, generator=generator) > 0.999).float(),
    }


def gflops(size: int = 2048) -> float:
    """Billions of operations a second of one float32 matrix product."""
    left, right = torch.rand(size, size), torch.rand(size, size)
    began = time.perf_counter()
    torch.mm(left, right)
    return 2 * size**3 / (time.perf_counter() - began) / 1e9


if __name__ == "__main__":
    sys.exit(run_command(main))
