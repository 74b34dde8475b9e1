"""A dual encoder as it is: a checkpoint that ranks by it without training."""

import json

import pytest
import torch
from safetensors.torch import load_file

from data_prep import towers
from tbkin import evaluation
from tests.model.small_towers import write_clip


def test_the_checkpoint_ranks_without_training(captions_root, tmp_path, capsys):
    clip, output = write_clip(tmp_path / "clip"), tmp_path / "model"
    words = [f"towers={clip}", f"data.root={captions_root}", f"output={output}",
             "data.parser=word_rules", "model.hidden_size=32",
             "model.freeze_towers=true"]  # fmt: skip
    towers.main(words)
    assert f"towers: CLIPModel of {clip}, embeddings of 24 numbers" in capsys.readouterr().out
    weights, start = load_file(output / "model.safetensors"), load_file(clip / "model.safetensors")
    for name, value in start.items():
        assert torch.equal(weights[f"towers.model.{name}"], value), name
    evaluation.main(
        ["task=retrieval", f"model={output}", f"data.root={captions_root}", "split=train",
         f"output={tmp_path / 'eval'}", "data.max_examples=20"]
    )  # fmt: skip
    metrics = json.loads((tmp_path / "eval" / "metrics.json").read_text())
    assert metrics["captions"] == 20
    assert metrics["protocol"]["seen_in_training"]["split_seen"] is None  # nobody knows
    towers.main(words)
    assert "overwrite=true makes it again" in capsys.readouterr().out


def test_what_it_needs_is_said():
    with pytest.raises(ValueError, match=r"needs towers=NAME, data.root=DIR and output=DIR"):
        towers.main(["towers=clip"])
