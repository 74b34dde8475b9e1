"""What one run of a model did: where it looked, what the thresholds dropped, and masked views.

The numbers behind :class:`~tbkin.visualize.Evidence`, whatever the model was asked.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tbkin.data.collate import Collator
from tbkin.data.processing_tbkin import Example, TBKINProcessor, most_confident
from tbkin.graphs.build import build_scene_graph, join
from tbkin.graphs.regions import Regions
from tbkin.graphs.scene_graph import SceneGraph
from tbkin.model.modeling_tbkin import TBKINPreTrainedModel
from tbkin.model.selection import BLOCKS, select
from tbkin.model.wording import knowledge_in_words, selection_in_words
from tbkin.visualize.attention import AttentionExport
from tbkin.visualize.masked import MaskedView, view_weights, without_region, without_word


@dataclass
class Run:
    """One run of a model on one picture and one text.

    Attributes:
        graph: the unified graph of the regions that the model saw and of the text.
        example: what was seen.
        batch: of this example alone.
        outputs: of the model, with ``output_attentions``.
    """

    graph: SceneGraph
    example: Example
    batch: dict[str, Any]
    outputs: Any


def fused_pass(model: TBKINPreTrainedModel) -> Callable[..., Any]:
    """The pass in which picture and text meet: a retrieval model's own one embeds them apart."""
    return getattr(model, "match", model)


@torch.no_grad()
def run_model(
    model: TBKINPreTrainedModel, processor: TBKINProcessor, regions: Regions, text: str
) -> Run:
    """Run a model once; of the regions it sees the most confident, as in training."""
    regions = most_confident(regions, processor.max_regions)
    example = processor(regions, text)
    graph = build_scene_graph(regions, processor.parse(text))
    batch = Collator(processor.tokenizer.pad_token_id)([example])
    return Run(graph, example, batch, fused_pass(model)(**batch, output_attentions=True))


def trace(
    model: TBKINPreTrainedModel, processor: TBKINProcessor, run: Run, position: int
) -> dict[str, Any]:
    """The fields of ``Evidence`` that are the same whatever the text is.

    Args:
        model: that ran.
        processor: of the model.
        run: what it did.
        position: the fused position that the answer is read from; 0 is the first token.
    """
    attention = _attention(model, processor, run)
    outputs = run.outputs
    knows = outputs.knowledge_kept is not None
    return {
        "graph": run.graph,
        **_knowledge(run),
        "attention_kept": outputs.attention_kept.tolist(),
        "positions": attention.positions,
        "answer_attention": attention.after.mean(dim=1)[:, position].tolist(),
        "answer_attention_kept": attention.keep.float().mean(dim=1)[:, position].tolist(),
        "selection": selection_in_words(model.config),
        "knowledge": knowledge_in_words(model.config) if knows else "no graph",
        "attention": attention,
        "attention_thresholds": _thresholds(outputs.attention_thresholds),
    }


@torch.no_grad()
def masked_views(
    model: TBKINPreTrainedModel,
    processor: TBKINProcessor,
    regions: Regions,
    text: str,
    words: list[int],
    places: list[int],
) -> list[MaskedView]:
    """Where the model looks for a word or a region that it cannot see, in ROSITA's manner.

    Each runs the model once, all in one batch. Of a masked thing the model sees its place
    alone. *Ours*: the scene graph does not know it either, or its alignment would tell; and
    [CLS] and [SEP] are left out of where a region looks.

    Args:
        model: any TBKIN model.
        processor: of the model.
        regions: of the picture, with features.
        text: as the model is asked.
        words: which of the text's words to mask, each on its own, whole.
        places: which regions to mask, each on its own.

    Raises:
        ValueError: a word or region that the model does not see, or a tokenizer without a mask.
    """
    if not words and not places:
        return []
    tokenizer = processor.tokenizer
    if words and tokenizer.mask_token is None:
        raise ValueError("the checkpoint's tokenizer has no mask token; it cannot mask words.")
    regions = most_confident(regions, processor.max_regions)
    said, (seen, picture) = processor.parse(text), processor.seen(regions)
    word_of_token = _words_of_tokens(processor, said.words)
    examples = []
    for word in words:
        if word not in word_of_token:
            raise ValueError(
                f"no word {word} to mask; there are {len(said.words)}, the first is 0, and the "
                f"model sees those that fit in {processor.max_text_length} tokens."
            )
        masked = without_word(said, word, tokenizer.mask_token)
        examples.append(processor.encode(seen, join(picture, masked)))
    for place in places:
        hidden, rest = processor.seen(without_region(regions, place))
        examples.append(processor.encode(hidden, join(rest, said)))

    batch = Collator(tokenizer.pad_token_id)(examples)
    outputs = fused_pass(model)(**batch, output_attentions=True)
    logits, valid = outputs.attention_logits[-1], _valid_keys(model, batch, outputs)
    first = batch["input_ids"].shape[1]  # of the regions
    views = []
    for row, word in enumerate(words):
        query = word_of_token.index(word)  # what stands before is as it was
        asked = torch.ones(len(regions), dtype=torch.bool)
        weights = view_weights(logits[row], query, valid[row], first, asked)
        views.append(MaskedView("word", word, weights))
    for row, place in enumerate(places, start=len(words)):
        asked = torch.tensor(word_of_token) >= 0
        weights = view_weights(logits[row], first + place, valid[row], 0, asked)
        views.append(MaskedView("region", place, weights))
    return views


def _words_of_tokens(processor: TBKINProcessor, words: list[str]) -> list[int]:
    """(T,) which word each token belongs to, -1 for none; as ``TBKINProcessor.encode`` cuts."""
    numbers = processor.tokenize(words).word_ids()
    return [-1 if word is None else word for word in numbers]


def _valid_keys(model: TBKINPreTrainedModel, batch: dict[str, Any], outputs: Any) -> Tensor:
    """(B, L) bool, positions that may be attended to."""
    masks = [batch["attention_mask"], batch["region_mask"], batch["attribute_mask"]]
    length = outputs.attention_logits[0].shape[-1]
    valid = torch.cat(masks, dim=1).bool()[:, :length]  # without a graph no attribute nodes
    if outputs.node_keep is not None:
        valid = valid & outputs.node_keep
    if not model.config.attributes_attended:
        valid[:, masks[0].shape[1] + masks[1].shape[1] :] = False
    return valid


def _attention(model: TBKINPreTrainedModel, processor: TBKINProcessor, run: Run) -> AttentionExport:
    """All of the attention of a run."""
    outputs, positions = run.outputs, _positions(model, processor, run)
    logits = torch.stack(outputs.attention_logits)[:, 0]
    valid = _valid_keys(model, run.batch, outputs)[0]
    seen = (len(run.example["input_ids"]), len(run.example["region_boxes"]))
    return AttentionExport(
        logits=logits,
        before=select(logits, valid, "none")[0],
        after=torch.stack(outputs.attentions)[:, 0],
        keep=torch.stack(outputs.attention_keep)[:, 0],
        valid=valid,
        pairs=outputs.attention_pairs,
        blocks=list(BLOCKS),
        positions=positions,
        sizes=(*seen, len(positions) - sum(seen)),
        words=_words_of_tokens(processor, run.graph.words),
    )


def _positions(model: TBKINPreTrainedModel, processor: TBKINProcessor, run: Run) -> list[str]:
    """Names of the fused positions: tokens, regions, attribute nodes."""
    graph = run.graph
    tokens = processor.tokenizer.convert_ids_to_tokens(run.example["input_ids"])
    regions = [
        f"{graph.nodes[node].index} {graph.nodes[node].label}".strip()
        for node in graph.of_type("region")
    ]
    attributes = [graph.nodes[node].label for node in graph.of_type("attribute")]
    return [*tokens, *regions, *(attributes if model.tbkin.attributes else [])]


def _knowledge(run: Run) -> dict[str, Any]:
    """Relevance and fate of every node and edge of the graph, in its own numbering."""
    graph, batch, outputs = run.graph, run.batch, run.outputs
    count, edges = len(graph.nodes), len(graph.edges)
    if outputs.knowledge_kept is None:
        return {
            "node_relevance": [1.0] * count,
            "node_kept": [node.type != "attribute" for node in graph.nodes],
            "edge_kept": [None] * edges,
            "edge_relevance": [0.0] * edges,
            "nodes_kept": 1.0,
            "edges_kept": 0.0,
        }
    position = batch["graph"].position
    relevance, keep = outputs.node_relevance[0], outputs.node_keep[0]
    node_relevance, node_kept = [1.0] * count, [True] * count
    places = [n for n, node in enumerate(graph.nodes) if node.type != "word"]
    for node in places:  # the first nodes of the batch, in the same order
        node_relevance[node] = relevance[position[node]].item()
        node_kept[node] = bool(keep[position[node]])
    edge_kept: list[bool | None] = [None] * edges
    edge_relevance = [0.0] * edges
    slots = {  # place within the example -> place in the batch, which is sorted by kind
        slot: place for place, slot in enumerate(batch["graph"].edge_slot.tolist())
    }
    for slot, edge in enumerate(run.example["edge_of"].tolist()):
        if edge >= 0:
            place = slots[slot]
            edge_kept[edge] = bool(edge_kept[edge]) or bool(outputs.edge_keep[place])
            edge_relevance[edge] = max(edge_relevance[edge], outputs.edge_relevance[place].item())
    nodes_kept, edges_kept = outputs.knowledge_kept.tolist()
    return {
        "node_relevance": node_relevance,
        "node_kept": node_kept,
        "edge_kept": edge_kept,
        "edge_relevance": edge_relevance,
        "nodes_kept": nodes_kept,
        "edges_kept": edges_kept,
    }


def _thresholds(learned: Tensor | None) -> list[list[float] | None] | None:
    """(layers, H), nan in layers that do not learn -> lists, None for such a layer."""
    if learned is None:
        return None
    return [None if math.isnan(heads[0]) else heads for heads in learned.tolist()]
