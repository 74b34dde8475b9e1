"""BERT's weights -> a TBKIN model whose text side is BERT; ROSITA's pre-training starts there.

BERT (Devlin et al., arXiv:1810.04805) as transformers saves it. Its parts are renamed to ROSITA's
groups and go through the same conversion; the visual side is new.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from tbkin.model.convert_rosita import (
    TIED,
    Conversion,
    Groups,
    convert_groups,
    read_checkpoint,
)

# BERT's modules -> ROSITA's, outside the layers and inside one.
MODULES = {
    "embeddings.word_embeddings": "text_embeddings.word_embeddings",
    "embeddings.position_embeddings": "text_embeddings.position_embeddings",
    "embeddings.token_type_embeddings": "text_embeddings.token_type_embeddings",
    "embeddings.LayerNorm": "text_embeddings.layer_norm",
    "pooler.dense": "pooler.dense",
    "cls.predictions": "text_mlm_head",
    "cls.predictions.transform.dense": "text_mlm_head.dense",
    "cls.predictions.transform.LayerNorm": "text_mlm_head.layer_norm",
    "cls.seq_relationship": "mm_itm_head.dense",
}
LAYER_MODULES = {
    "attention.self.query": "mhatt.dense_q",
    "attention.self.key": "mhatt.dense_k",
    "attention.self.value": "mhatt.dense_v",
    "attention.output.dense": "mhatt.dense_merge",
    "attention.output.LayerNorm": "layer_norm0",
    "intermediate.dense": "ffn.dense0",
    "output.dense": "ffn.dense1",
    "output.LayerNorm": "layer_norm1",
}
LAYER = re.compile(r"encoder\.layer\.(\d+)\.(.+)")
OLD_NAMES = {"gamma": "weight", "beta": "bias"}  # of LayerNorm, in files of 2018 and 2019
BUFFERS = ("embeddings.position_ids", "embeddings.token_type_ids")


def convert_bert(
    folder: Path,
    region_feature_size: int,
    task: str = "",
    labels: Sequence[str] | None = None,
    changes: dict[str, Any] | None = None,
) -> Conversion:
    """A BERT folder as a TBKIN model.

    Args:
        folder: see :func:`bert_weights`.
        region_feature_size: F.
        task: a key of ``tbkin.model.convert_rosita.TASKS``; empty: ``pretraining``.
        labels: names of the answers.
        changes: settings that differ from ROSITA's, dropout (which is BERT's) among them.

    Raises:
        FileNotFoundError: the folder has no ``config.json`` or no weights.
        ValueError: it is no BERT of the usual kind, or its tensors do not fit one another.
    """
    settings = bert_settings(folder)
    groups, others = bert_weights(folder)
    for name in ("text_embeddings", "backbone"):
        if name not in groups:
            raise ValueError(f"{folder} has no BERT weights: nothing in it makes up {name}.")
    known = {
        "num_attention_heads": settings["num_attention_heads"],
        "layer_norm_eps": settings.get("layer_norm_eps", 1e-12),
        "pad_token_id": 0,
        "region_feature_size": region_feature_size,
    }
    free = {
        "hidden_dropout_prob": settings.get("hidden_dropout_prob", 0.1),
        "attention_dropout_prob": settings.get("attention_probs_dropout_prob", 0.1),
        "initializer_range": settings.get("initializer_range", 0.02),
    }
    changes = {**free, **(changes or {})}
    return convert_groups(groups, task or "pretraining", labels, changes, known, others)


def bert_settings(folder: Path) -> dict[str, Any]:
    """``config.json`` of a BERT folder, if we can do as it says."""
    path = folder / "config.json"
    if not path.is_file():
        raise FileNotFoundError(f"no config.json in {folder}; a folder of transformers has one.")
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}.") from error
    if not isinstance(settings, dict):
        raise ValueError(f"{path} holds a {type(settings).__name__}, not settings by name.")
    heads = settings.get("num_attention_heads")
    if not isinstance(heads, int) or heads < 1:
        found = repr(heads) if "num_attention_heads" in settings else "missing"
        raise ValueError(f"{path}: num_attention_heads is {found}; BERT-base has 12.")
    for name, value in (
        ("model_type", "bert"),
        ("hidden_act", "gelu"),
        ("position_embedding_type", "absolute"),
        ("is_decoder", False),
        ("pad_token_id", 0),  # which names of regions are padded with, and credibility passes over
    ):
        # Folders of the first years do not name what was the only choice then.
        if settings.get(name, value) != value:
            raise ValueError(f"{path}: {name} is {settings[name]!r}; only {value!r} can be read.")
    return settings


def bert_weights(folder: Path) -> tuple[Groups, list[str]]:
    """The tensors of a BERT folder in ROSITA's groups and names.

    Args:
        folder: with ``model.safetensors``, or ``pytorch_model.bin`` (weights-only) where there is
            none, of a ``BertModel``, ``BertForPreTraining`` or ``BertForMaskedLM``. Names with or
            without ``bert.``, LayerNorms also with ``gamma`` and ``beta``.

    Returns:
        ROSITA's group -> state dict, for the groups that BERT has; and the names left over.
        The next-sentence head becomes the match head with its two rows exchanged, because its
        class 0 means "is next" where ROSITA's class 1 means a match (*ours*: ROSITA takes the rows
        as they are, and starts inverted).
    """
    groups: Groups = {}
    others = []
    for key, tensor in _tensors(folder).items():
        module, _, kind = key.removeprefix("bert.").rpartition(".")
        kind = OLD_NAMES.get(kind, kind)
        layer = LAYER.fullmatch(module)
        if f"{module}.{kind}" in BUFFERS:
            continue
        if module == "cls.predictions.decoder":  # the word embeddings and the bias once more
            name = TIED if kind == "weight" else "text_mlm_head.bias"
        elif layer and layer[2] in LAYER_MODULES:
            name = f"backbone.layers.{layer[1]}.{LAYER_MODULES[layer[2]]}.{kind}"
        elif module in MODULES:
            name = f"{MODULES[module]}.{kind}"
        else:
            others.append(key)
            continue
        group, _, rest = name.partition(".")
        if group == "mm_itm_head":
            tensor = tensor.flip(0)
        groups.setdefault(group, {})[rest] = tensor
    return groups, others


def _tensors(folder: Path) -> dict[str, Tensor]:
    """What a folder's file of weights holds."""
    path = folder / "model.safetensors"
    if path.is_file():
        try:
            return load_file(path)
        except SafetensorError as error:
            raise ValueError(f"{path} is damaged ({error}); copy it again.") from error
    if (folder / "pytorch_model.bin").is_file():
        return read_checkpoint(folder / "pytorch_model.bin")
    raise FileNotFoundError(f"neither model.safetensors nor pytorch_model.bin in {folder}.")
