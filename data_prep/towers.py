"""A dual encoder as it is, to rank with: ``tbkin prep towers towers=CLIP data.root=PREPARED``.

Writes a retrieval checkpoint in which CLIP's, SigLIP's or another dual encoder's towers embed
pictures and captions (``tbkin/model/towers.py``), for ``tbkin eval`` without training: the figures
that a trained judge of pairs must beat. Its own judge has learned nothing, so rerank= is refused
until it has. The prepared folder gives the detector and the words that the judge begins with.

Examples:
  tbkin prep towers towers=DIR/clip-vit-base-patch32 data.root=prepared/coco-coco
      output=outputs/clip
  tbkin eval task=retrieval model=outputs/clip data.root=prepared/coco-coco split=test
  tbkin train configs/tiny/retrieval.yaml data.root=prepared/coco-coco init_from=outputs/clip
      model.freeze_towers=true
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from data_prep.regions import make_way
from tbkin.config import DataConfig, TrainConfig, load_config, setting
from tbkin.data.prepared import find_prepared
from tbkin.files import new_folder
from tbkin.starting_model import build
from tbkin.tasks import TASKS


@dataclass
class TowersData:
    """What the judge begins with."""

    root: str = setting("", "prepared retrieval folder, or the root that it was made of")
    parser: str = setting("auto", "of captions, kept with the processor")


@dataclass
class TowersConfig:
    """One run of the step."""

    data: TowersData = field(default_factory=TowersData)
    towers: str = setting("", "dual encoder: folder or hub id")
    output: str = setting("", "folder to write")
    seed: int = setting(0, "of the judge's weights")
    model: dict[str, Any] = setting({}, "settings of TBKINConfig, as model.hidden_size=256")
    overwrite: bool = setting(False, "replace a folder that is there")


def main(arguments: list[str]) -> None:
    """Write one checkpoint."""
    config = load_config(TowersConfig, arguments, __doc__)
    if not (config.towers and config.data.root and config.output):
        raise ValueError("tbkin prep towers needs towers=NAME, data.root=DIR and output=DIR.")
    output = Path(config.output)
    if not make_way(output, config.overwrite):
        return
    torch.manual_seed(config.seed)
    start = TrainConfig(
        task="retrieval",
        data=DataConfig(root=config.data.root, parser=config.data.parser),
        model=config.model | {"towers": config.towers},
    )
    root = find_prepared(config.data.root, "retrieval")
    processor, model, note = build(start, TASKS["retrieval"], root)
    with new_folder(output) as unfinished:
        model.save_pretrained(unfinished)
        processor.save_pretrained(unfinished)
    sys.stdout.write(f"{output}: {note}\n")
