"""What the models return.

Axis letters, here and everywhere: B batch, T tokens, R regions, V attribute nodes, N graph nodes
of a batch, E edges of a batch, L = T + R + V fused length, H heads, D hidden, F feature, A answers.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from transformers.utils import ModelOutput


@dataclass
class TBKINOutput(ModelOutput):
    """Output of :class:`~tbkin.model.modeling_tbkin.TBKINModel`.

    Attributes:
        fused_states: (B, L, D), tokens, then regions, then attribute nodes.
        text_states: (B, T, D), the tokens' part of them.
        region_states: (B, R, D), the regions' part.
        pooled: (B, D), in [-1, 1].
        state_mask: (B, L) bool, True where there is something, also where selection dropped it.
        attention_kept: (layers,), share of the valid query-key pairs that each layer kept.
        attention_pairs: (layers, 5, 2), how many pairs were kept and valid in each block of
            ``BLOCKS``, over all samples and heads.
        attention_gate: scalar in [0, 1], mean gate of the learned thresholds; None without them.
        attention_thresholds: (layers, H), where the learned thresholds stand, in the rule's own
            terms; nan in layers that do not learn; None without them.
        region_word_logits: (B, R, vocabulary), words read off the regions' features, before the
            sigmoid; None if the model does not read them.
        node_relevance: (B, L) in [0, 1], how much a position matters to the text; the best has 1.
        node_keep: (B, L) bool, True where a position reached the fusion layers.
        edge_keep: (E,) bool, True where an edge carried messages.
        edge_relevance: (E,) in [0, 1], 0 where not kept.
        knowledge_kept: (2,), share of the nodes and of the edges that were kept.
        attention_logits: with ``output_attentions``, for each layer (B, H, L, L) before the
            softmax; the dense weights are their softmax over the valid keys.
        attentions: with ``output_attentions``, for each layer (B, H, L, L) weights after selection.
        attention_keep: with ``output_attentions``, for each layer (B, H, L, L) bool.
    """

    fused_states: Tensor | None = None
    text_states: Tensor | None = None
    region_states: Tensor | None = None
    pooled: Tensor | None = None
    state_mask: Tensor | None = None
    attention_kept: Tensor | None = None
    attention_pairs: Tensor | None = None
    attention_gate: Tensor | None = None
    attention_thresholds: Tensor | None = None
    region_word_logits: Tensor | None = None
    node_relevance: Tensor | None = None
    node_keep: Tensor | None = None
    edge_keep: Tensor | None = None
    edge_relevance: Tensor | None = None
    knowledge_kept: Tensor | None = None
    attention_logits: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None
    attention_keep: tuple[Tensor, ...] | None = None


@dataclass
class TBKINForQuestionAnsweringOutput(TBKINOutput):
    """Output of :class:`~tbkin.model.heads.TBKINForQuestionAnswering`.

    Attributes:
        loss: scalar, when labels were given.
        logits: (B, A), one a known answer, before the sigmoid.
    """

    loss: Tensor | None = None
    logits: Tensor | None = None


@dataclass
class TBKINForGroundingOutput(TBKINOutput):
    """Output of :class:`~tbkin.model.heads.TBKINForGrounding`.

    The first two with ``grounding_box="regions"``, the last with ``"direct"``; None otherwise.

    Attributes:
        box_logits: (B, R), how well each region fits the expression; the lowest number on padding.
        box_deltas: (B, R, 4), from each region to the box meant, see ``tbkin.boxes.decode_boxes``.
        direct_boxes: (B, 4) the box meant, normalised xyxy: its centre and size are in [0, 1], its
            corners may leave the picture.
    """

    box_logits: Tensor | None = None
    box_deltas: Tensor | None = None
    direct_boxes: Tensor | None = None


@dataclass
class TBKINForMultiTaskOutput(TBKINForGroundingOutput):
    """Output of :class:`~tbkin.model.heads.TBKINForMultiTask`: of both heads, for every example.

    Attributes:
        logits: (B, A), one a known answer, before the sigmoid.
    """

    logits: Tensor | None = None


@dataclass
class TBKINForImageTextRetrievalOutput(TBKINOutput):
    """Output of :class:`~tbkin.model.retrieval.TBKINForImageTextRetrieval`.

    With embeddings, the fields of :class:`TBKINOutput` are those of the pictures by themselves;
    only ``text_states`` are of the texts by themselves, ``attention_kept`` and ``attention_pairs``
    of pictures and texts. Where towers of another model embed, they are those of the right pairs
    that are judged, one row for each; without such, ``pooled`` (B, embedding size) are the
    pictures' features, and no attention is counted. Then too ``region_word_logits`` have, in
    training, a row for each picture of the batch, however many are judged.

    Attributes:
        match_logits: (P, 2); class 1 = picture and text belong together. P = B, the pairs of the
            batch; in training with wrong pairs three times the rows judged: right pairs, pictures
            with a wrong text, texts with a wrong picture.
        match_labels: (P,) 1 = right, 0 = wrong, -100 = not to be judged; in training.
        match_negatives: which ones were wrong, see ``objectives.matching.HardNegatives``.
        image_embeds, text_embeds: (B, embedding size) unit rows, for pictures with texts.
        image_uni_embeds, text_uni_embeds: likewise, for pictures with pictures, texts with texts.
        momentum_image_embeds, momentum_text_embeds: as ``image_embeds`` and ``text_embeds``, of a
            slowly moving copy of the model; in training with ``momentum_contrast``.
        text_token_embeds: (B, T, D), the tokens before any layer mixed them.
        scores: (B, B) float32, picture i with text j: the model's scorer's, where it was asked for
            them; else products of embeddings, once those of all processes are gathered.
    """

    match_logits: Tensor | None = None
    match_labels: Tensor | None = None
    match_negatives: tuple[Tensor, ...] | None = None
    image_embeds: Tensor | None = None
    text_embeds: Tensor | None = None
    image_uni_embeds: Tensor | None = None
    text_uni_embeds: Tensor | None = None
    momentum_image_embeds: Tensor | None = None
    momentum_text_embeds: Tensor | None = None
    text_token_embeds: Tensor | None = None
    scores: Tensor | None = None


@dataclass
class TBKINForPreTrainingOutput(TBKINOutput):
    """Output of :class:`~tbkin.model.heads.TBKINForPreTraining`.

    Attributes:
        word_logits: (B, T, vocabulary).
        feature_predictions: (B, R, F).
        object_logits: (B, R, object classes); None where the model predicts none.
        attribute_logits: (B, R, attribute classes); likewise.
        match_logits: (B, 2); class 1 = picture and text belong together.
    """

    word_logits: Tensor | None = None
    feature_predictions: Tensor | None = None
    object_logits: Tensor | None = None
    attribute_logits: Tensor | None = None
    match_logits: Tensor | None = None
