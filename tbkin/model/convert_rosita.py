"""ROSITA's checkpoints -> TBKIN models that compute the same.

A checkpoint is a pickled dict of groups (``text_embeddings``, ``backbone``, ``mm_qa_head`` …), each
a state dict with names relative to that part of the network (Cui et al., "ROSITA: Enhancing
Vision-and-Language Semantic Alignments via Cross- and Intra-modal Knowledge Integration",
arXiv:2108.07073, and its code). Everything but the number of heads can be read off the tensors; a
head is 64 wide.
"""

from __future__ import annotations

import pickle
import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tbkin.config import choose
from tbkin.model.configuration_tbkin import TBKINConfig
from tbkin.model.heads import (
    TBKINForGrounding,
    TBKINForPreTraining,
    TBKINForQuestionAnswering,
)
from tbkin.model.modeling_tbkin import TBKINPreTrainedModel
from tbkin.model.retrieval import TBKINForImageTextRetrieval

Groups = dict[str, dict[str, Tensor]]

HEAD_WIDTH = 64
TRUNK = ("text_embeddings", "visual_embeddings", "backbone", "pooler")
TASKS: dict[str, tuple[type[TBKINPreTrainedModel], tuple[str, ...]]] = {
    "vqa": (TBKINForQuestionAnswering, ("mm_qa_head",)),
    "grounding": (TBKINForGrounding, ("mm_refs_head",)),
    "pretraining": (TBKINForPreTraining, ("text_mlm_head", "imgfeat_head", "mm_itm_head")),
    "retrieval": (TBKINForImageTextRetrieval, ("mm_itm_head",)),
}
HEADS = tuple(dict.fromkeys(group for _, groups in TASKS.values() for group in groups))
TIED = "text_mlm_head.decode.weight"
WORDS = "text_embeddings.word_embeddings.weight"

# What unpickling raises on bytes that are no pickle, or half of one.
UNREADABLE = (
    pickle.UnpicklingError,
    RuntimeError,
    EOFError,
    struct.error,
    AssertionError,
    LookupError,
    ValueError,
    TypeError,
    AttributeError,
)

# Our modules <- ROSITA's, outside the layers and inside one.
MODULES = {
    "tbkin.text.words": "text_embeddings.word_embeddings",
    "tbkin.text.positions": "text_embeddings.position_embeddings",
    "tbkin.text.types": "text_embeddings.token_type_embeddings",
    "tbkin.text.norm": "text_embeddings.layer_norm",
    "tbkin.regions.features": "visual_embeddings.dense_imgfeat",
    "tbkin.regions.boxes": "visual_embeddings.dense_bboxfeat",
    "tbkin.regions.norm": "visual_embeddings.layer_norm",
    "tbkin.pooler": "pooler.dense",
    "head.dense": "mm_qa_head.dense0",
    "head.norm": "mm_qa_head.layer_norm",
    "head.answers": "mm_qa_head.dense1",
    "grounding_head.dense": "mm_refs_head.dense",
    "grounding_head.norm": "mm_refs_head.layer_norm",
    "grounding_head.rank": "mm_refs_head.dense_rank",
    "grounding_head.box": "mm_refs_head.dense_reg",
    "match_head": "mm_itm_head.dense",
    "word_head": "text_mlm_head",
    "word_head.dense": "text_mlm_head.dense",
    "word_head.norm": "text_mlm_head.layer_norm",
    "region_head.dense": "imgfeat_head.dense",
    "region_head.norm": "imgfeat_head.layer_norm",
    "region_head.feature": "imgfeat_head.dense_feat",
    "region_head.object": "imgfeat_head.dense_obj",
    "region_head.attribute": "imgfeat_head.dense_attr",
}
LAYER_MODULES = {
    "attention.query": "mhatt.dense_q",
    "attention.key": "mhatt.dense_k",
    "attention.value": "mhatt.dense_v",
    "attention.merge": "mhatt.dense_merge",
    "attention_norm": "layer_norm0",
    "feed_forward.0": "ffn.dense0",
    "feed_forward.2": "ffn.dense1",
    "feed_forward_norm": "layer_norm1",
}


@dataclass(frozen=True)
class Conversion:
    """A checkpoint in our names.

    Attributes:
        model_class: the class whose heads the checkpoint has.
        config: sizes of the tensors; the rest as in :meth:`TBKINConfig.rosita_base`.
        state: our name -> tensor, float32.
        loaded: ROSITA's group -> its tensors that were taken over, the tied decoder included.
        new: our parameters that the checkpoint has not; :meth:`build` starts them anew.
        left_over: what of the checkpoint was not taken over.
    """

    model_class: type[TBKINPreTrainedModel]
    config: TBKINConfig
    state: dict[str, Tensor]
    loaded: dict[str, list[str]]
    new: list[str]
    left_over: list[str]

    def build(self) -> TBKINPreTrainedModel:
        """The model with these weights, in evaluation mode."""
        model = self.model_class(self.config)
        model.load_state_dict(self.state, strict=False)
        return model.eval()


def read_checkpoint(path: Path) -> dict[str, Any]:
    """A PyTorch file that holds a dict; only tensors and plain containers are unpickled.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it asks for more than data, is damaged, or holds no dict.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no checkpoint file {path}.")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except UNREADABLE as error:
        asked = re.search(r"GLOBAL (\S+)", str(error))
        reason = f"asks for {asked[1]}, which is no tensor" if asked else "is damaged"
        raise ValueError(
            f"{path} {reason}. It was refused and nothing in it was run; save it again as a dict "
            "of tensors."
        ) from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds a {type(content).__name__}, not a dict of tensors.")
    return content


def convert_rosita(
    checkpoint: Mapping[str, Any],
    task: str = "",
    labels: Sequence[str] | None = None,
    changes: dict[str, Any] | None = None,
) -> Conversion:
    """A ROSITA checkpoint as a TBKIN model of the same function.

    Args:
        checkpoint: group -> state dict, as :func:`read_checkpoint` gives it. Groups that are none
            of ROSITA's (``epoch``, ``net_optim``, ``amp``, others) are left over.
        task: a key of ``TASKS``; empty: that of the head which the checkpoint has (answers before
            grounding, before pre-training, before matching).
        labels: names of the answers, in the order of ROSITA's table.
        changes: settings of :class:`TBKINConfig` that differ from ROSITA's, for example
            ``graph_encoder="relational"`` or ``region_labels=True``: their gates start at 0, so
            that the function stays ROSITA's, up to rounding of the fused kernel. It does not with
            ``attributes_attended=True``, a ``graph_gate`` that is not 0, or a rule that drops
            something (attention, relevance or credibility).

    Raises:
        ValueError: a missing or an unknown key in a group of ROSITA's, a wrong shape, a decoder
            that is not tied to the word embeddings, an unknown task or setting.
    """
    groups = {name: checkpoint[name] for name in (*TRUNK, *HEADS) if name in checkpoint}
    missing = [name for name in TRUNK if name not in groups]
    if missing:
        raise ValueError(
            f"no ROSITA checkpoint: group {missing[0]} is missing; its groups are: "
            f"{', '.join(map(str, checkpoint)) or 'none'}."
        )
    for name, group in groups.items():
        strange = not isinstance(group, dict) or not all(map(torch.is_tensor, group.values()))
        if strange:
            raise ValueError(f"no ROSITA checkpoint: group {name} is not a dict of tensors.")
    width = tensor_sizes(groups)["hidden_size"]
    if width % HEAD_WIDTH:
        raise ValueError(f"ROSITA's heads are {HEAD_WIDTH} wide, which does not divide {width}.")
    heads = {"num_attention_heads": width // HEAD_WIDTH}
    others = [str(name) for name in checkpoint if name not in groups]
    return convert_groups(groups, task, labels, changes, heads, others)


def convert_groups(
    groups: Groups,
    task: str,
    labels: Sequence[str] | None,
    changes: dict[str, Any] | None,
    known: dict[str, Any],
    others: list[str],
) -> Conversion:
    """Groups of ROSITA's names, of whatever origin, in our names.

    Args:
        groups: those of ``TRUNK`` and ``HEADS`` that there are; the model's others are new.
        task: as in :func:`convert_rosita`, and so the next two.
        labels: names of the answers.
        changes: settings.
        known: settings that the tensors do not tell and nobody may change.
        others: what else the checkpoint holds, for the report.
    """
    task = task or _task_of(groups)
    model_class, heads = choose(TASKS, task, "task")
    used = {name: group for name, group in groups.items() if name in (*TRUNK, *heads)}
    known = {**known, **tensor_sizes(used)}
    answers = known.pop("num_labels", None)
    if labels is not None:
        if answers not in (None, len(labels)):
            raise ValueError(f"{len(labels)} answers were given; the head has {answers}.")
        known["id2label"] = dict(enumerate(labels))
        known["label2id"] = {label: number for number, label in enumerate(labels)}
        if len(known["label2id"]) < len(labels):
            raise ValueError("the answers given are not all different.")
    named = {} if answers is None or labels is not None else {"num_labels": answers}
    config = TBKINConfig.rosita_base(**named).changed(changes or {}, **known)

    flat = {f"{group}.{key}": part for group, all_ in used.items() for key, part in all_.items()}
    words, tied = flat.get(WORDS), flat.pop(TIED, None)
    if tied is not None and not torch.equal(tied, words):
        raise ValueError(f"{TIED} differs from the word embeddings, to which it must be tied.")
    with torch.device("meta"):
        wanted = dict(model_class(config).named_parameters())
    sources = rosita_names(config.num_hidden_layers)
    state, new, wrong = {}, [], []
    loaded: dict[str, list[str]] = {name: [] for name in used}
    if tied is not None:
        loaded["text_mlm_head"].append(TIED)
    for name, parameter in wanted.items():
        module, _, kind = name.rpartition(".")
        source = f"{sources[module]}.{kind}" if module in sources else ""
        group = source.split(".")[0]
        if group not in used:
            new.append(name)
        elif source not in flat:
            wrong.append(f"{source} is missing")
        elif flat[source].shape != parameter.shape:
            found, expected = tuple(flat.pop(source).shape), tuple(parameter.shape)
            wrong.append(f"{source} has the shape {found}, expected {expected}")
        else:
            state[name] = flat.pop(source).float()
            loaded[group].append(source)
    wrong += [f"{key} is not known" for key in flat]
    if wrong:
        more = f" (and {len(wrong) - 5} more)" if len(wrong) > 5 else ""
        raise ValueError(f"the checkpoint does not fit: {'; '.join(wrong[:5])}{more}.")
    left_over = [*(name for name in groups if name not in used), *others]
    return Conversion(model_class, config, state, loaded, new, left_over)


def rosita_names(layers: int) -> dict[str, str]:
    """Our module -> ROSITA's, for a network of so many layers."""
    return MODULES | {
        f"tbkin.fusion.layers.{number}.{ours}": f"backbone.layers.{number}.{theirs}"
        for number in range(layers)
        for ours, theirs in LAYER_MODULES.items()
    }


def tensor_sizes(groups: Groups) -> dict[str, Any]:
    """Settings of :class:`TBKINConfig` that the tensors tell (``num_labels`` with an answer head).

    Raises:
        ValueError: a tensor that tells a size is missing, or is no matrix.
    """

    def size(group: str, key: str, axis: int) -> int:
        found = groups[group].get(key)
        if found is None or found.dim() != 2:
            shape = "missing" if found is None else f"of shape {tuple(found.shape)}"
            raise ValueError(f"the checkpoint does not fit: {group}.{key} is {shape}.")
        return found.shape[axis]

    numbers = (re.match(r"layers\.(\d+)\.", key) for key in groups["backbone"])
    sizes = {
        "vocab_size": size("text_embeddings", "word_embeddings.weight", 0),
        "hidden_size": size("text_embeddings", "word_embeddings.weight", 1),
        "max_position_embeddings": size("text_embeddings", "position_embeddings.weight", 0),
        "type_vocab_size": size("text_embeddings", "token_type_embeddings.weight", 0),
        "num_hidden_layers": 1 + max((int(found[1]) for found in numbers if found), default=0),
        "intermediate_size": size("backbone", "layers.0.ffn.dense0.weight", 0),
    }
    if "visual_embeddings" in groups:
        sizes["region_feature_size"] = size("visual_embeddings", "dense_imgfeat.weight", 1)
        sizes["region_encoder"] = "linear"
    if "mm_qa_head" in groups:
        sizes["num_labels"] = size("mm_qa_head", "dense1.weight", 0)
    if "imgfeat_head" in groups:
        sizes["num_object_labels"] = size("imgfeat_head", "dense_obj.weight", 0)
        sizes["num_attribute_labels"] = size("imgfeat_head", "dense_attr.weight", 0)
    return sizes


def _task_of(groups: Groups) -> str:
    """The task of the heads that a checkpoint has."""
    present = {head for head in HEADS if head in groups}
    if present == {"mm_itm_head"}:
        return "retrieval"
    for task, (_, heads) in TASKS.items():
        if present & set(heads):
            return task
    raise ValueError(f"the checkpoint has no head; choose task= one of: {', '.join(TASKS)}.")
