"""A picture and a text, each by itself and both together: the two scores of retrieval.

*Embeddings* rank everything: a picture with its scene graph and a text with its graph go through
the same fusion layers apart from one another, and their dot product is the first score. The *fused
score* re-ranks the best: both go through together, with the edges that align them.

The two cross-modal and two uni-modal heads are CUSA's (AAAI 2024, doi:10.1609/aaai.v38i16.29789):
LayerNorm and a linear map. What they read off a side, and that one network serves as both towers
and as the judge of pairs, is *ours*; the judge alone is ROSITA's (arXiv:2108.07073).

With ``config.towers`` another dual encoder, such as CLIP, embeds both (``model/towers.py``): its
own projections are the cross-modal heads, and the network here is the judge alone (*ours*).
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
from tbkin.model.selection import BLOCKS
from tbkin.model.sgraf import FineGrainedScorer
from tbkin.model.towers import Towers, build_towers
from tbkin.objectives.matching import NOT_JUDGED, HardNegatives, hard_negatives
from tbkin.objectives.similarity import positive_mask

NEGATIVES_TEMPERATURE = 0.07  # of the scores that wrong pairs are drawn by; ALBEF's at its start
Pairs = Callable[[Tensor, Tensor], dict[str, Any]]
PICTURE = ("region_features", "region_boxes", "region_mask", "region_label_ids", "region_scores")
ATTRIBUTES = ("attribute_label_ids", "attribute_mask")


class EmbeddingHead(nn.Module):
    """What is read off a side -> a unit vector: LayerNorm (eps 1e-5), Linear, L2 norm, as in CUSA.

    Args:
        width: of what goes in.
        size: of what comes out.
    """

    def __init__(self, width: int, size: int):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.linear = nn.Linear(width, size)

    def forward(self, read: Tensor) -> Tensor:
        """(B, width) -> (B, size), float32 unit rows."""
        return unit_rows(self.linear(self.norm(read)))


class TBKINForImageTextRetrieval(TBKINPreTrainedModel):
    """Embeddings of pictures and texts, and whether the two of a pair belong together.

    With ``config.embedding_size == 0`` it is ROSITA's: it only judges pairs.
    """

    def __init__(self, config: TBKINConfig):
        super().__init__(config)
        self.tbkin = TBKINModel(config)
        self.match_head = nn.Linear(config.hidden_size, MATCH_CLASSES)
        self.towers = None
        width, size = 2 * config.hidden_size, config.embedding_size
        if config.towers is not None:
            self.towers = Towers(build_towers(config.towers), config.freeze_towers)
            width = size
        elif size:
            self.image_head, self.text_head = EmbeddingHead(width, size), EmbeddingHead(width, size)
        if size:
            self.image_uni_head = EmbeddingHead(width, size)
            self.text_uni_head = EmbeddingHead(width, size)
        self.scorer = None
        if config.scorer != "none":
            self.scorer = FineGrainedScorer(
                config.scorer,
                config.hidden_size,
                config.hidden_size,
                config.scorer_size,
                config.alignment_size,
            )
        self.post_init()

    def forward(
        self,
        identities: Tensor | None = None,
        pairs: Pairs | None = None,
        judged_rows: int = 0,
        scored: bool = False,
        **inputs: Any,
    ) -> TBKINForImageTextRetrievalOutput:
        """Embed the pictures and texts of a batch; judge pairs of them.

        Args:
            identities: (B,), equal where a picture and a text belong together; None: each picture
                with its own text alone.
            pairs: ``(rows of pictures, rows of texts) ->`` inputs of those pairs of this batch,
                each with its own unified graph. Then every pair of the batch is judged, and for
                each picture one wrong text and for each text one wrong picture, those that the
                embeddings, or else ``scores``, are likeliest to confuse (ALBEF, arXiv:2107.07651).
            judged_rows: only the first so many rows are judged, by wrong partners out of the whole
                batch; 0: all.
            scored: whether the model's scorer compares all pictures with all texts of the batch,
                as objectives need it; who ranks a split compares ``region_states`` and
                ``text_states`` once all are there. A model without a scorer gives no scores.
            **inputs: as :meth:`TBKINModel.forward` takes them; for towers of another model also
                ``tower_pixel_values`` and the like, see ``data/collate.py``.
        """
        if not self.config.embedding_size:
            return self.match(**inputs)
        if self.towers is not None:
            return self._by_towers(self.towers, identities, pairs, judged_rows, inputs)
        image, text = self.image(**inputs), self.text(**inputs)
        attention = image.attention_pairs + text.attention_pairs
        image_read, text_read = read_off(image), read_off(text)
        image_embeds, text_embeds = self.image_head(image_read), self.text_head(text_read)
        scores = None
        if scored and self.scorer is not None:
            scores = self.scorer(
                image.region_states,
                inputs["region_mask"],
                text.text_states,
                inputs["attention_mask"],
            )
        judged: dict[str, Any] = {}
        if pairs is not None:
            by = image_embeds @ text_embeds.T if scores is None else scores
            judged, _ = self._judge_confused(by, identities, pairs, judged_rows)
        return TBKINForImageTextRetrievalOutput(
            **image
            | {"attention_pairs": attention, "attention_kept": kept_share(attention.sum(dim=1))}
            | {"text_states": text.text_states},
            scores=scores,
            image_embeds=image_embeds,
            text_embeds=text_embeds,
            image_uni_embeds=self.image_uni_head(image_read),
            text_uni_embeds=self.text_uni_head(text_read),
            text_token_embeds=self.tbkin.text(inputs["input_ids"]),
            **judged,
        )

    def match(self, **inputs: Any) -> TBKINForImageTextRetrievalOutput:
        """Judge the pairs of a batch: each picture with the text of the same row."""
        fused = self.tbkin(**inputs)
        return TBKINForImageTextRetrievalOutput(match_logits=self.match_head(fused.pooled), **fused)

    def image(self, input_ids: Tensor, attention_mask: Tensor, **inputs: Any) -> TBKINOutput:
        """The pictures of a batch by themselves, read at the first token.

        Raises:
            ValueError: towers of another model embed them, these passes have learned nothing.
        """
        self._check_own()
        tokens = input_ids.shape[1]
        return self.tbkin(
            input_ids=input_ids[:, :1],
            attention_mask=attention_mask[:, :1],
            **{name: inputs.get(name) for name in (*PICTURE, *ATTRIBUTES)},
            graph=part_of(inputs.get("graph"), _length(input_ids, inputs), 1, tokens, None),
        )

    def text(self, input_ids: Tensor, attention_mask: Tensor, **inputs: Any) -> TBKINOutput:
        """The texts of a batch by themselves; errors as in :meth:`image`."""
        self._check_own()
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

    def _check_own(self) -> None:
        if self.towers is not None:
            raise ValueError(
                f"towers of another model ({self.config.towers['model_type']}) embed pictures and "
                "texts here, from pixels; take their features, model.towers.image and .text, with "
                "what processor.towers makes."
            )

    def _by_towers(
        self,
        towers: Towers,
        identities: Tensor | None,
        pairs: Pairs | None,
        judged_rows: int,
        inputs: dict[str, Any],
    ) -> TBKINForImageTextRetrievalOutput:
        """As :meth:`forward`, embedded by another model.

        The fields of :class:`TBKINOutput` are those of the right pairs, where pairs are judged, and
        have as many rows as are judged; else no attention is counted, and ``pooled`` (B, embedding
        size) are the pictures' features. In training regions are read by themselves, either way:
        ``region_word_logits`` have all B rows, for labels that are the whole batch's.
        """
        image, text = towers(inputs)
        image_embeds, text_embeds = unit_rows(image), unit_rows(text)
        if pairs is not None:
            by = image_embeds @ text_embeds.T
            judged, right = self._judge_confused(by, identities, pairs, judged_rows)
            seen = {name: right[name] for name in right.keys() - {"match_logits"}}
        else:
            counts = (self.config.num_hidden_layers, len(BLOCKS), 2)
            nothing = torch.zeros(counts, dtype=torch.long, device=image.device)
            judged = {}
            seen = {
                "pooled": image,
                "attention_pairs": nothing,
                "attention_kept": kept_share(nothing.sum(dim=1)),
            }
        if self.training:
            seen["region_word_logits"] = self._read_regions(**inputs)
        return TBKINForImageTextRetrievalOutput(
            **seen,
            image_embeds=image_embeds,
            text_embeds=text_embeds,
            image_uni_embeds=self.image_uni_head(image),
            text_uni_embeds=self.text_uni_head(text),
            text_token_embeds=self.tbkin.text(inputs["input_ids"]),
            **judged,
        )

    def _read_regions(
        self,
        region_features: Tensor,
        region_boxes: Tensor,
        region_label_ids: Tensor | None = None,
        region_scores: Tensor | None = None,
        **_: object,
    ) -> Tensor | None:
        """The words that the judge reads off regions, before any layer mixes them."""
        words = self.tbkin.text.table() if self.config.region_labels else None
        read = self.tbkin.regions(
            region_features, region_boxes, region_label_ids, region_scores, words
        )
        return read[1]

    def _judge_confused(
        self, scores: Tensor, identities: Tensor | None, pairs: Pairs, count: int
    ) -> tuple[dict[str, Any], TBKINForImageTextRetrievalOutput]:
        """Logits and labels of the right pairs and of those that are most alike.

        With them, what the judge makes of the right pairs alone.

        They must be in the outputs from the start: what is set later, DDP does not see.
        """
        every = torch.arange(len(scores), device=scores.device)
        positives = positive_mask(every if identities is None else identities)
        wrong = hard_negatives(scores.detach() / NEGATIVES_TEMPERATURE, positives)
        wrong = HardNegatives(*(field[: count or None] for field in wrong))
        rows = every[: count or None]
        chosen = ((rows, rows), (rows, wrong.captions), (wrong.images, rows))
        found = (torch.ones_like(wrong.image_found), wrong.caption_found, wrong.image_found)
        # Of the passes over one batch one counts: with towers of another model the first here.
        counted = (self.towers is not None, False, False)
        fused = [
            self.match(**pairs(images, texts), counted=counts)
            for (images, texts), counts in zip(chosen, counted, strict=True)
        ]
        labels = [
            torch.full_like(rows, label).masked_fill(~there, NOT_JUDGED)
            for label, there in zip((1, 0, 0), found, strict=True)
        ]
        judged = {
            "match_logits": torch.cat([one.match_logits for one in fused]),
            "match_labels": torch.cat(labels),
            "match_negatives": wrong,
        }
        return judged, fused[0]


def read_off(side: TBKINOutput) -> Tensor:
    """The pooled state and the mean of all states, (B, 2 D).

    The mean is *ours*: attention is averaging too, but the first token alone has only as many looks
    at a side as there are layers.
    """
    there = side.state_mask[..., None]
    mean = (side.fused_states * there).sum(dim=1) / there.sum(dim=1).clamp(min=1)
    return torch.cat([side.pooled, mean], dim=1)


def unit_rows(rows: Tensor) -> Tensor:
    """(B, D) -> (B, D) float32, each row of length 1."""
    return nn.functional.normalize(rows.float(), dim=-1)


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
