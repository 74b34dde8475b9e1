"""What a fused picture and text are asked: heads and the models that carry them.

The heads are ROSITA's (arXiv:2108.07073 and its code). A head has the same name in every model that
carries it, so that one model's checkpoint starts the other.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from tbkin.boxes import cxcywh_to_xyxy
from tbkin.model.configuration_tbkin import TBKINConfig
from tbkin.model.modeling_tbkin import TBKINModel, TBKINPreTrainedModel
from tbkin.model.outputs import (
    TBKINForGroundingOutput,
    TBKINForMultiTaskOutput,
    TBKINForPreTrainingOutput,
    TBKINForQuestionAnsweringOutput,
)
from tbkin.objectives.answer import answer_loss

MATCH_CLASSES = 2  # 1 = picture and text belong together


class TransformHead(nn.Module):
    """What most heads begin with: Linear, GELU (exact, with erf), LayerNorm.

    Args:
        config: sizes.
        width: what it ends with.
    """

    def __init__(self, config: TBKINConfig, width: int):
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, width)
        self.norm = nn.LayerNorm(width, eps=config.layer_norm_eps)

    def transform(self, states: Tensor) -> Tensor:
        """(…, D) -> (…, width)."""
        return self.norm(nn.functional.gelu(self.dense(states)))


class AnswerHead(TransformHead):
    """Pooled state -> a logit for each known answer."""

    def __init__(self, config: TBKINConfig):
        super().__init__(config, 2 * config.hidden_size)
        self.answers = nn.Linear(2 * config.hidden_size, config.num_labels)

    def forward(self, pooled: Tensor) -> Tensor:
        """(B, D) -> (B, A)."""
        return self.answers(self.transform(pooled))


class GroundingHead(TransformHead):
    """Region states -> how well each fits the expression, and from where to where its box moves."""

    def __init__(self, config: TBKINConfig):
        super().__init__(config, config.hidden_size)
        self.rank = nn.Linear(config.hidden_size, 1)
        self.box = nn.Linear(config.hidden_size, 4)

    def forward(self, region_states: Tensor, region_mask: Tensor) -> tuple[Tensor, Tensor]:
        """(B, R, D) and (B, R), 1 = real region -> (B, R) and (B, R, 4).

        ROSITA ranks padding with the regions. Here its logits are the lowest number there is, so
        that neither argmax nor softmax takes it (*ours*).
        """
        states = self.transform(region_states)
        ranks = self.rank(states).squeeze(-1)
        lowest = torch.finfo(ranks.dtype).min
        return ranks.masked_fill(~region_mask.bool(), lowest), self.box(states)


class DirectBoxHead(TransformHead):
    """Pooled state -> the box that the expression means, without choosing a region.

    Centre and size after a sigmoid, as in DETR (arXiv:2005.12872) and MDETR (arXiv:2104.12763);
    with ROSITA's hidden layer instead of their two with ReLU (*ours*).
    """

    def __init__(self, config: TBKINConfig):
        super().__init__(config, config.hidden_size)
        self.box = nn.Linear(config.hidden_size, 4)

    def forward(self, pooled: Tensor) -> Tensor:
        """(B, D) -> (B, 4) normalised xyxy, float32: half precision has steps of 1 / 256."""
        return cxcywh_to_xyxy(self.box(self.transform(pooled)).float().sigmoid())


class WordHead(TransformHead):
    """Token states -> a logit for each word; the word embeddings are the decoder."""

    def __init__(self, config: TBKINConfig):
        super().__init__(config, config.hidden_size)
        self.bias = nn.Parameter(torch.zeros(config.vocab_size))

    def forward(self, text_states: Tensor, words: Tensor) -> Tensor:
        """(B, T, D) and the word embeddings (vocabulary, D) -> (B, T, vocabulary)."""
        return nn.functional.linear(self.transform(text_states), words, self.bias)


class RegionHead(TransformHead):
    """Region states -> features and, where the config counts them, object and attribute classes."""

    def __init__(self, config: TBKINConfig):
        super().__init__(config, config.hidden_size)
        hidden, objects = config.hidden_size, config.num_object_labels
        attributes = config.num_attribute_labels
        self.feature = nn.Linear(hidden, config.region_feature_size)
        self.object = nn.Linear(hidden, objects) if objects else None
        self.attribute = nn.Linear(hidden, attributes) if attributes else None

    def forward(self, region_states: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """(B, R, D) -> (B, R, F), (B, R, object classes), (B, R, attribute classes)."""
        states = self.transform(region_states)
        return (
            self.feature(states),
            self.object(states) if self.object is not None else None,
            self.attribute(states) if self.attribute is not None else None,
        )


class TBKINForQuestionAnswering(TBKINPreTrainedModel):
    """Answers from a closed vocabulary, ``config.id2label``."""

    _keys_to_ignore_on_load_unexpected: ClassVar = [r"^grounding_head\."]  # of a multi-task model

    def __init__(self, config: TBKINConfig):
        super().__init__(config)
        self.tbkin = TBKINModel(config)
        self.head = AnswerHead(config)
        self.post_init()

    def forward(
        self, labels: Tensor | None = None, **inputs: Any
    ) -> TBKINForQuestionAnsweringOutput:
        """Answer a batch.

        Args:
            labels: (B, A) soft scores in [0, 1]; then ``loss`` is filled in.
            **inputs: as :meth:`TBKINModel.forward` takes them.
        """
        fused = self.tbkin(**inputs)
        logits = self.head(fused.pooled)
        loss = None if labels is None else answer_loss(logits, labels)
        return TBKINForQuestionAnsweringOutput(loss=loss, logits=logits, **fused)


class TBKINForGrounding(TBKINPreTrainedModel):
    """Which region a referring expression means, and the box that it means.

    With ``config.grounding_box == "direct"`` only the box.
    """

    _keys_to_ignore_on_load_unexpected: ClassVar = [r"^head\."]  # of a multi-task model

    def __init__(self, config: TBKINConfig):
        super().__init__(config)
        self.tbkin = TBKINModel(config)
        if config.grounding_box == "direct":
            self.direct_box_head = DirectBoxHead(config)
        else:
            self.grounding_head = GroundingHead(config)
        self.post_init()

    def forward(self, region_mask: Tensor, **inputs: Any) -> TBKINForGroundingOutput:
        """Rank the regions of a batch and move their boxes, or say the box directly.

        Args:
            region_mask: (B, R), 1 = real region.
            **inputs: the rest, as :meth:`TBKINModel.forward` takes it.
        """
        fused = self.tbkin(region_mask=region_mask, **inputs)
        if self.config.grounding_box == "direct":
            return TBKINForGroundingOutput(direct_boxes=self.direct_box_head(fused.pooled), **fused)
        ranks, deltas = self.grounding_head(fused.region_states, region_mask)
        return TBKINForGroundingOutput(box_logits=ranks, box_deltas=deltas, **fused)


class TBKINForMultiTask(TBKINPreTrainedModel):
    """Answers questions and ranks the regions for expressions, on one backbone.

    Its checkpoint can be loaded as a :class:`TBKINForQuestionAnswering` or a
    :class:`TBKINForGrounding`: the heads have their names.
    """

    def __init__(self, config: TBKINConfig):
        super().__init__(config)
        if config.grounding_box != "regions":
            raise ValueError("questions and expressions together need grounding_box=regions.")
        self.tbkin = TBKINModel(config)
        self.head = AnswerHead(config)
        self.grounding_head = GroundingHead(config)
        self.post_init()

    def forward(self, region_mask: Tensor, **inputs: Any) -> TBKINForMultiTaskOutput:
        """Run both heads on every example; objectives and metrics know whose example it is.

        Args:
            region_mask: (B, R), 1 = real region.
            **inputs: the rest, as :meth:`TBKINModel.forward` takes it.
        """
        fused = self.tbkin(region_mask=region_mask, **inputs)
        ranks, deltas = self.grounding_head(fused.region_states, region_mask)
        return TBKINForMultiTaskOutput(
            logits=self.head(fused.pooled), box_logits=ranks, box_deltas=deltas, **fused
        )


class TBKINForPreTraining(TBKINPreTrainedModel):
    """Hidden words, hidden regions, and whether picture and text belong together."""

    def __init__(self, config: TBKINConfig):
        super().__init__(config)
        self.tbkin = TBKINModel(config)
        self.word_head = WordHead(config)
        self.region_head = RegionHead(config)
        self.match_head = nn.Linear(config.hidden_size, MATCH_CLASSES)
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """As every TBKIN model; and no word is likelier at first."""
        super()._init_weights(module)
        if isinstance(module, WordHead):
            nn.init.zeros_(module.bias)

    def forward(self, **inputs: Any) -> TBKINForPreTrainingOutput:
        """Predict every token and every region of a batch, hidden or not.

        Args:
            **inputs: as :meth:`TBKINModel.forward` takes them.
        """
        fused = self.tbkin(**inputs)
        features, objects, attributes = self.region_head(fused.region_states)
        return TBKINForPreTrainingOutput(
            word_logits=self.word_head(fused.text_states, self.tbkin.text.words.weight),
            feature_predictions=features,
            object_logits=objects,
            attribute_logits=attributes,
            match_logits=self.match_head(fused.pooled),
            **fused,
        )
