"""A picture and a text, each by itself and both together: the two scores of retrieval.

*Embeddings* rank everything: a picture with its scene graph and a text with its graph go through
the same fusion layers apart from one another, and their dot product is the first score. The *fused
score* re-ranks the best: both go through together, with the edges that align them.

The two cross-modal and two uni-modal heads are CUSA's (AAAI 2024, doi:10.1609/aaai.v38i16.29789):
LayerNorm and a linear map. That one network serves as both towers and as the judge of pairs is
*ours*; the judge alone is ROSITA's (arXiv:2108.07073).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from tbkin.model.configuration_tbkin import TBKINConfig
from tbkin.model.fusion import kept_share
from tbkin.model.heads import MATCH_CLASSES
from tbkin.model.modeling_tbkin import TBKINModel, TBKINPreTrainedModel
from tbkin.model.outputs import TBKINForImageTextRetrievalOutput, TBKINOutput
from tbkin.objectives.matching import hard_negatives
from tbkin.objectives.similarity import positive_mask

NOT_JUDGED = -100  # label of a wrong pair where the batch has none; cross-entropy leaves it out
NEGATIVES_TEMPERATURE = 0.07  # of the scores that wrong pairs are drawn by; ALBEF's at its start
Pairs = Callable[[Tensor, Tensor], dict[str, Any]]
PICTURE = ("region_features", "region_boxes", "region_mask", "region_label_ids", "region_scores")
ATTRIBUTES = ("attribute_label_ids", "attribute_mask")


class EmbeddingHead(nn.Module):
    """Pooled state -> a unit vector: LayerNorm (eps 1e-5), Linear, L2 norm, as in CUSA."""

    def __init__(self, config: TBKINConfig):
        super().__init__()
        self.norm = nn.LayerNorm(config.hidden_size)
        self.linear = nn.Linear(config.hidden_size, config.embedding_size)

    def forward(self, pooled: Tensor) -> Tensor:
        """(B, D) -> (B, embedding size), float32 unit rows."""
        return nn.functional.normalize(self.linear(self.norm(pooled)).float(), dim=-1)


class TBKINForImageTextRetrieval(TBKINPreTrainedModel):
    """Embeddings of pictures and texts, and whether the two of a pair belong together.

    With ``config.embedding_size == 0`` it is ROSITA's: it only judges pairs.
    """

    def __init__(self, config: TBKINConfig):
        super().__init__(config)
        self.tbkin = TBKINModel(config)
        self.match_head = nn.Linear(config.hidden_size, MATCH_CLASSES)
        if config.embedding_size:
            self.image_head, self.text_head = EmbeddingHead(config), EmbeddingHead(config)
            self.image_uni_head, self.text_uni_head = EmbeddingHead(config), EmbeddingHead(config)
        self.post_init()

    def forward(
        self,
        identities: Tensor | None = None,
        pairs: Pairs | None = None,
        **inputs: Any,
    ) -> TBKINForImageTextRetrievalOutput:
        """Embed the pictures and texts of a batch; judge pairs of them.

        Args:
            identities: (B,), equal where a picture and a text belong together; None: each picture
                with its own text alone.
            pairs: ``(rows of pictures, rows of texts) ->`` inputs of those pairs of this batch,
                each with its own unified graph. Then every pair of the batch is judged, and for
                each picture one wrong text and for each text one wrong picture, those that the
                embeddings are likeliest to confuse (ALBEF, arXiv:2107.07651).
            **inputs: as :meth:`TBKINModel.forward` takes them.
        """
        if not self.config.embedding_size:
            return self.match(**inputs)
        image, text = self.image(**inputs), self.text(**inputs)
        attention = image.attention_pairs + text.attention_pairs
        image_embeds, text_embeds = self.image_head(image.pooled), self.text_head(text.pooled)
        judged: dict[str, Any] = {}
        if pairs is not None:
            judged = self._judge_confused(image_embeds, text_embeds, identities, pairs)
        return TBKINForImageTextRetrievalOutput(
            **image
            | {"attention_pairs": attention, "attention_kept": kept_share(attention.sum(dim=1))},
            image_embeds=image_embeds,
            text_embeds=text_embeds,
            image_uni_embeds=self.image_uni_head(image.pooled),
            text_uni_embeds=self.text_uni_head(text.pooled),
            text_token_embeds=self.tbkin.text(inputs["input_ids"]),
            **judged,
        )

    def match(self, **inputs: Any) -> TBKINForImageTextRetrievalOutput:
        """Judge the pairs of a batch: each picture with the text of the same row."""
        fused = self.tbkin(**inputs)
        return TBKINForImageTextRetrievalOutput(match_logits=self.match_head(fused.pooled), **fused)

    def image(self, input_ids: Tensor, attention_mask: Tensor, **inputs: Any) -> TBKINOutput:
        """The pictures of a batch by themselves, read at the first token."""
        tokens = input_ids.shape[1]
        return self.tbkin(
            input_ids=input_ids[:, :1],
            attention_mask=attention_mask[:, :1],
            **{name: inputs.get(name) for name in (*PICTURE, *ATTRIBUTES)},
            graph=part_of(inputs.get("graph"), _length(input_ids, inputs), 1, tokens, None),
        )

    def text(self, input_ids: Tensor, attention_mask: Tensor, **inputs: Any) -> TBKINOutput:
        """The texts of a batch by themselves."""
        nothing = {
            name: None if inputs.get(name) is None else inputs[name][:, :0]
            for name in (*PICTURE, *ATTRIBUTES)
        }
        tokens = input_ids.shape[1]
        return self.tbkin(
            input_ids=input_ids,
            attention_mask=attention_mask,
            **nothing,
            graph=part_of(inputs.get("graph"), _length(input_ids, inputs), 0, 0, tokens),
            counted=False,
        )

    def _judge_confused(
        self, image_embeds: Tensor, text_embeds: Tensor, identities: Tensor | None, pairs: Pairs
    ) -> dict[str, Any]:
        """Logits and labels of the right pairs and of those that are most alike.

        They must be in the outputs from the start: what is set later, DDP does not see.
        """
        scores = image_embeds.detach() @ text_embeds.detach().T
        rows = torch.arange(len(scores), device=scores.device)
        positives = positive_mask(rows if identities is None else identities)
        wrong = hard_negatives(scores / NEGATIVES_TEMPERATURE, positives)
        chosen = ((rows, rows), (rows, wrong.captions), (wrong.images, rows))
        found = (torch.ones_like(positives[0]), wrong.caption_found, wrong.image_found)
        logits = [
            self.match(**pairs(images, texts), counted=False).match_logits
            for images, texts in chosen
        ]
        labels = [
            torch.full_like(rows, label).masked_fill(~there, NOT_JUDGED)
            for label, there in zip((1, 0, 0), found, strict=True)
        ]
        return {
            "match_logits": torch.cat(logits),
            "match_labels": torch.cat(labels),
            "match_negatives": wrong,
        }


def part_of(
    graph: Data | None, length: int, kept: int, first: int, last: int | None
) -> Data | None:
    """The graph of some of the fused positions, and of the edges between them.

    Args:
        graph: of a batch, see ``data/collate.py``; None: None.
        length: L of the fused states that the graph was made for.
        kept: how many positions come before those of the part in its own states.
        first: the first of the part's positions in each row.
        last: the first that is not among them any more; None: all to the end.
    """
    if graph is None:
        return None
    last = length if last is None else last
    row, place = graph.position // length, graph.position % length
    there = (place >= first) & (place < last)
    number = there.cumsum(0) - 1
    edges = there[graph.edge_index].all(dim=0)
    kind = graph.edge_kind[edges]
    width = kept + last - first
    counts = torch.bincount(kind, minlength=len(graph.kind_counts))
    return Data(
        num_nodes=int(there.sum()),
        position=row[there] * width + kept + place[there] - first,
        batch=graph.batch[there],
        edge_index=number[graph.edge_index[:, edges]],
        edge_kind=kind,
        kind_counts=counts.tolist(),
        edge_weight=graph.edge_weight[edges],
        edge_seen=graph.edge_seen[edges],
        edge_batch=graph.edge_batch[edges],
        edge_slot=graph.edge_slot[edges],
        edge_slots=graph.edge_slots,
    )


def _length(input_ids: Tensor, inputs: dict[str, Any]) -> int:
    """L of the fused states of picture and text together."""
    attributes = inputs.get("attribute_mask")
    seen = inputs["region_mask"].shape[1] + (0 if attributes is None else attributes.shape[1])
    return input_ids.shape[1] + seen
