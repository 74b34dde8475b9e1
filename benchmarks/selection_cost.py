"""What does a threshold cost? ``python benchmarks/selection_cost.py``.

Times forward and backward of the whole model, each rule against dense attention (PyTorch's fused
kernel), at 56 positions (20 tokens, 36 regions) and at 136 (36 and 100). The rules take turns
within a round and each is divided by the dense pass of its own round, so that a busy machine slows
both. A GPU was not measured: thresholded attention makes its (B, H, L, L) weights there too, which
a fused kernel never stores, and the ratios may differ. Prints a table, or with ``json=true`` one
JSON object.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from dataclasses import dataclass

import torch
from torch import Tensor

from tbkin.config import load_config, run_command, setting
from tbkin.model.configuration_tbkin import TBKINConfig
from tbkin.model.modeling_tbkin import TBKINModel

# Thresholds that drop a good part of the weights of new, random attention.
RULES = {
    "prob": 0.015,
    "logit": 0.0,
    "rel_max": 0.5,
    "rel_mean": 0.9,
    "top_k": 8,
    "sparsemax": 0.0,
    "entmax15": 0.0,
}
POSITIONS = ((20, 36), (36, 100))
SIZES = {
    "base": {},
    "small": {
        "num_hidden_layers": 2,
        "hidden_size": 128,
        "num_attention_heads": 4,
        "intermediate_size": 256,
        "region_feature_size": 192,
        "initializer_range": 0.05,  # so that attention is about as sharp as the base size's
        "hidden_dropout_prob": 0.0,
        "attention_dropout_prob": 0.0,
    },
}


@dataclass
class CostConfig:
    """What to measure."""

    size: str = setting("base", "base (ROSITA's: 12 layers of 768) or small (the demo's)")
    rules: list[str] = setting(list(RULES), "rules to measure")
    batch_size: int = setting(8, "samples")
    rounds: int = setting(7, "rounds; the median counts")
    threads: int = setting(0, "of PyTorch; 0: its own choice")
    json: bool = setting(False, "print one JSON object instead of a table")

    def __post_init__(self) -> None:
        """Check names."""
        if self.size not in SIZES:
            raise ValueError(f"size must be one of {', '.join(SIZES)}, got {self.size!r}.")
        for rule in self.rules:
            if rule not in RULES:
                raise ValueError(f"rules: unknown rule {rule!r}; there are: {', '.join(RULES)}.")


def main(arguments: list[str]) -> None:
    """Measure and print."""
    config = load_config(CostConfig, arguments, __doc__)
    if config.threads:
        torch.set_num_threads(config.threads)
    result = {
        "size": config.size,
        "batch_size": config.batch_size,
        "threads": torch.get_num_threads(),
        "rounds": config.rounds,
        "positions": [measure(config, *positions) for positions in POSITIONS],
    }
    if config.json:
        sys.stdout.write(json.dumps(result) + "\n")
        return
    lines = [f"{config.size}, batch {config.batch_size}, {result['threads']} threads"]
    for row in result["positions"]:
        lines.append(f"{row['positions']} positions, dense {row['dense_seconds'] * 1e3:.0f} ms")
        lines += [
            f"  {rule:<10} {cost['times_dense']:.2f} x dense, kept {cost['kept']:.0%}"
            for rule, cost in row["rules"].items()
        ]
    sys.stdout.write("\n".join(lines) + "\n")


def measure(config: CostConfig, tokens: int, regions: int) -> dict:
    """Time all rules at one length."""
    models = {
        rule: build(config.size, rule, threshold)
        for rule, threshold in {"none": 0.0, **RULES}.items()
        if rule in ("none", *config.rules)
    }
    batch = make_batch(config, tokens, regions)
    seconds: dict[str, list[float]] = {rule: [] for rule in models}
    kept = {}
    for _ in range(config.rounds + 1):
        for rule, model in models.items():
            began = time.perf_counter()
            outputs = model(**batch)
            outputs.pooled.sum().backward()
            seconds[rule].append(time.perf_counter() - began)
            kept[rule] = outputs.attention_kept.mean().item()
    dense = seconds.pop("none")[1:]
    return {
        "positions": tokens + regions,
        "dense_seconds": statistics.median(dense),
        "rules": {
            rule: {
                "times_dense": statistics.median(
                    own / other for own, other in zip(values[1:], dense, strict=True)
                ),
                "kept": kept[rule],
            }
            for rule, values in seconds.items()
        },
    }


def build(size: str, rule: str, threshold: float) -> TBKINModel:
    """A new model in training mode; the same weights for every rule."""
    torch.manual_seed(0)
    config = TBKINConfig.rosita_base(
        vocab_size=1000, selection_rule=rule, selection_threshold=threshold, **SIZES[size]
    )
    return TBKINModel(config).train()


def make_batch(config: CostConfig, tokens: int, regions: int) -> dict[str, Tensor]:
    """Random inputs without padding."""
    features = {"region_feature_size": 2048, **SIZES[config.size]}["region_feature_size"]
    generator = torch.Generator().manual_seed(0)
    shape = (config.batch_size, regions)
    return {
        "input_ids": torch.randint(5, 1000, (config.batch_size, tokens), generator=generator),
        "attention_mask": torch.ones(config.batch_size, tokens),
        "region_features": torch.rand(*shape, features, generator=generator),
        "region_boxes": torch.rand(*shape, 4, generator=generator),
        "region_mask": torch.ones(shape),
    }


if __name__ == "__main__":
    sys.exit(run_command(main))
