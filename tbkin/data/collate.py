"""Examples -> a batch. Every field of the batch is made here, and nowhere else.

============================ ========== =======================================================
``input_ids, attention_mask`` (B, T)     token ids and 1 = real token
``region_features``           (B, R, F)  float32
``region_boxes``              (B, R, 4)  xyxy in [0, 1]
``region_mask``               (B, R)     1 = real region
``region_label_ids``          (B, R, K)  token ids of class and attribute names, padded
``region_scores``             (B, R)     the detector's confidence
``attribute_label_ids``       (B, V, K)  token ids of attribute nodes' names, padded
``attribute_mask``            (B, V)     1 = real node
``picture_sizes``             (B, 2)     width and height in pixels
``labels``                    (B, A)     soft scores of the answers, if the examples have them
``answer_frequencies``        (B, A)     share of the annotators who gave each answer, likewise
``label_valid``               (B,)       False for what is no question; only if there is such
``question_ids``              (B,)       -1 for what is no question
``sentence_ids``              (B,)       of grounding; -1 for what is no expression
``target_boxes``              (B, 4)     xyxy in [0, 1] of what an expression means; else 0
``rank_labels``               (B, R)     which regions cover it, see ``objectives/grounding.py``;
                                         also ``box_labels`` (B, R, 4), ``box_label_mask`` (B, R)
``word_labels``               (B, T)     of pre-training: ids of the hidden tokens, -100 elsewhere
``feature_labels``            (B, R, F)  likewise: the features before they were hidden
``region_targets``            (B, R)     True where a region must be restored
``object_labels``             (B, R)     its class, -100 elsewhere; also ``attribute_labels``
``object_confidence``         (B, R)     of that class, 0 elsewhere; also ``attribute_confidence``
``match_labels``              (B,)       1 = text and picture belong together
``caption_ids``               (B,)       of pre-training and retrieval
``image_ids``                 (B,)       of retrieval
``pair_ids``                  (B,)       of pictures and captions that are looked at again
``identities``                (B,)       of retrieval: equal ones are positive pairs; the image id
                                         where pictures show no persons or classes
``image_teacher``             (B, d)     of retrieval: unit rows of a frozen encoder, if the
                                         examples have them; likewise ``text_teacher``
``tower_pixel_values``        (B, …)     of retrieval by another model's towers: pictures as its
                                         image processor makes them, (3, H, W) each; for SigLIP 2
                                         ``tower_pixel_attention_mask`` and ``tower_spatial_shapes``
``tower_input_ids``           (B, S)     captions by its tokenizer; ``tower_attention_mask`` too, if
                                         the towers learned with one
``graph``                     PyG        see :func:`collate_graphs`
============================ ========== =======================================================

The graphs form one homogeneous PyG ``Data`` with ``edge_kind``, the input that R-GCN layers take:
collating ``HeteroData`` with its dictionary of edge types costs more than a training step here.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Data

from tbkin.data.processing_tbkin import Example
from tbkin.data.tower_inputs import PIXELS, TOKENS
from tbkin.graphs.kinds import NUM_KINDS
from tbkin.objectives.masked import NOT_MASKED

NO_ID = -1  # of what is no question, or no expression, in a batch of both
IDS = {
    "question_id": "question_ids",
    "sentence_id": "sentence_ids",
    "caption_id": "caption_ids",
    "image_id": "image_ids",
    "identity": "identities",
    "pair_id": "pair_ids",
}
"""Field of an example -> field of the batch, int64 as it is."""


class Collator:
    """``Collator(pad, answers)(examples) -> batch``.

    Args:
        pad: id of the padding token.
        answers: A; 0 when the examples carry no answers.
    """

    def __init__(self, pad: int, answers: int = 0):
        self.pad, self.answers = pad, answers

    def __call__(self, examples: list[Example]) -> dict[str, Any]:
        """See the module's table."""
        input_ids = _pad_lists([example["input_ids"] for example in examples], self.pad)
        lengths = torch.tensor([len(example["input_ids"]) for example in examples])
        regions = [len(example["region_boxes"]) for example in examples]
        attributes = [len(example["attribute_label_ids"]) for example in examples]
        batch: dict[str, Any] = {
            "input_ids": input_ids,
            "attention_mask": _mask(lengths, input_ids.shape[1]),
            "region_features": _pad_rows([example["region_features"] for example in examples]),
            "region_boxes": _pad_rows([example["region_boxes"] for example in examples]),
            "region_scores": _pad_rows([example["region_scores"] for example in examples]),
            "region_mask": _mask(torch.tensor(regions), max(regions)),
            "region_label_ids": _pad_names(
                [example["region_label_ids"] for example in examples], self.pad
            ),
            "attribute_label_ids": _pad_names(
                [example["attribute_label_ids"] for example in examples], self.pad
            ),
            "attribute_mask": _mask(torch.tensor(attributes), max(attributes)),
            "picture_sizes": torch.stack([example["picture_size"] for example in examples]),
        }
        sizes = (input_ids.shape[1], max(regions), max(attributes))
        batch["graph"] = collate_graphs(examples, sizes)
        for name, field in IDS.items():
            if name in examples[0]:
                batch[field] = torch.tensor([example[name] for example in examples])
        for field in ("image_teacher", "text_teacher"):
            if field in examples[0]:
                batch[field] = torch.stack([example[field] for example in examples])
        for field in (f"tower_{name}" for name in PIXELS):
            if field in examples[0]:
                batch[field] = torch.stack([example[field] for example in examples])
        for field in (f"tower_{name}" for name in TOKENS):
            if field in examples[0]:  # of one length, or masked: then the padding's id is nothing
                batch[field] = _pad_lists([example[field] for example in examples], 0)
        if "rank_labels" in examples[0]:
            for name in ("rank_labels", "box_labels", "box_label_mask"):
                batch[name] = _pad_rows([example[name] for example in examples])
            batch["target_boxes"] = torch.stack([example["target_box"] for example in examples])
        if self.answers and "answer_scores" in examples[0]:
            for field, name in (
                ("labels", "answer_scores"),
                ("answer_frequencies", "answer_frequencies"),
            ):
                parts = [example.get(name, {}) for example in examples]
                batch[field] = _answer_rows(parts, self.answers)
            asked = batch["question_ids"] != NO_ID
            if not asked.all():
                batch["label_valid"] = asked
        if "word_labels" in examples[0]:
            batch |= _hidden(examples)
        return batch


def _answer_rows(parts: list[dict[int, float]], answers: int) -> Tensor:
    """B times {answer: value} -> (B, A), zeros elsewhere."""
    rows = torch.zeros(len(parts), answers)
    for row, part in enumerate(parts):
        for answer, value in part.items():
            rows[row, answer] = value
    return rows


def _hidden(examples: list[Example]) -> dict[str, Tensor]:
    """What pre-training must restore."""
    labels = ("object_labels", "attribute_labels")
    values = ("feature_labels", "region_targets", "object_confidence", "attribute_confidence")
    return {
        "word_labels": _pad_lists([example["word_labels"] for example in examples], NOT_MASKED),
        **{name: _pad_rows([one[name] for one in examples], NOT_MASKED) for name in labels},
        **{name: _pad_rows([one[name] for one in examples]) for name in values},
        "match_labels": torch.tensor([example["match_label"] for example in examples]),
    }


def collate_graphs(examples: list[Example], sizes: tuple[int, int, int]) -> Data:
    """All graphs of a batch as one.

    Args:
        examples: with the fields of ``graph_arrays``.
        sizes: T, R and V of the batch.

    Returns:
        ``position`` (N,) of each node in the (B * L) fused states; ``batch`` (N,);
        ``edge_index`` (2, E) between nodes and ``edge_kind`` (E,), sorted by kind;
        ``kind_counts``; ``edge_weight`` (E,); ``edge_seen`` (E,) bool, whether it touches the
        picture; ``edge_batch`` and ``edge_slot`` (E,), its row and its place in that row;
        ``edge_slots``, the most edges of a row.
    """
    length = sum(sizes)
    starts = np.array([0, sizes[0], sizes[0] + sizes[1]])
    counts = np.array([len(example["node_slot"]) for example in examples])
    edge_counts = np.array([len(example["edges"]) for example in examples])
    first_node = np.concatenate([[0], counts.cumsum()])
    node_batch = np.repeat(np.arange(len(examples)), counts)
    edge_batch = np.repeat(np.arange(len(examples)), edge_counts)

    segment = np.concatenate([example["node_segment"] for example in examples])
    slot = np.concatenate([example["node_slot"] for example in examples])
    edges = np.concatenate([example["edges"] for example in examples]).astype(np.int64)
    edge_slot = np.concatenate([np.arange(count) for count in edge_counts])
    order = np.argsort(edges[:, 2], kind="stable")
    ends = (edges[:, :2] + first_node[edge_batch][:, None])[order]
    weight = np.concatenate([example["edge_weight"] for example in examples])
    seen = np.concatenate([example["edge_seen"] for example in examples])
    return Data(
        num_nodes=int(counts.sum()),
        position=torch.from_numpy(node_batch * length + starts[segment] + slot),
        batch=torch.from_numpy(node_batch),
        edge_index=torch.from_numpy(np.ascontiguousarray(ends.T)),
        edge_kind=torch.from_numpy(edges[order, 2]),
        kind_counts=np.bincount(edges[:, 2], minlength=NUM_KINDS).tolist(),
        edge_weight=torch.from_numpy(weight[order]),
        edge_seen=torch.from_numpy(seen[order]),
        edge_batch=torch.from_numpy(edge_batch[order]),
        edge_slot=torch.from_numpy(edge_slot[order].astype(np.int64)),
        edge_slots=int(edge_counts.max(initial=0)),
    )


def _mask(lengths: Tensor, width: int) -> Tensor:
    return (torch.arange(width)[None] < lengths[:, None]).long()


def _pad_lists(rows: list[list[int]], value: int) -> Tensor:
    width = max(len(row) for row in rows)
    return torch.tensor([row + [value] * (width - len(row)) for row in rows])


def _pad_rows(parts: list[Tensor], value: float = 0.0) -> Tensor:
    """B tensors (n, …) -> (B, max n, …), zeros or another value behind."""
    return torch.nn.utils.rnn.pad_sequence(parts, batch_first=True, padding_value=value)


def _pad_names(parts: list[list[list[int]]], value: int) -> Tensor:
    """B lists of n lists of token ids -> (B, max n, K)."""
    count = max(len(names) for names in parts)
    width = max([1, *(len(name) for names in parts for name in names)])
    padded = np.full((len(parts), count, width), value, dtype=np.int64)
    for row, names in enumerate(parts):
        for place, name in enumerate(names):
            padded[row, place, : len(name)] = name
    return torch.from_numpy(padded)
