"""Settings of the model, in Hugging Face's manner.

Without ``from __future__ import annotations``: ``@strict`` does not check types that are strings.
"""

import dataclasses
import difflib
import math
from typing import Any

from huggingface_hub.dataclasses import strict
from transformers import AutoConfig, PreTrainedConfig

from tbkin.model.selection import BLOCKS, LEARNABLE_RULES, RULES
from tbkin.model.sgraf import KINDS

PHASES = ("both", "train", "eval")
LEARNING = ("none", "straight_through", "sigmoid")
SCORERS = ("none", *KINDS)


@strict
class TBKINConfig(PreTrainedConfig):
    """What a TBKIN model is made of.

    Args:
        vocab_size: entries of the tokenizer.
        hidden_size: D.
        num_hidden_layers: fusion layers; with a graph encoder each follows a graph layer.
        num_attention_heads: must divide ``hidden_size``.
        intermediate_size: width of the feed-forward layers.
        hidden_dropout_prob, attention_dropout_prob: in [0, 1).
        max_position_embeddings: longest text in tokens.
        type_vocab_size: token types; 2 in BERT and ROSITA, which use only the first; 0: none.
        layer_norm_eps: ROSITA's 1e-12.
        initializer_range: standard deviation of new weights; BERT's 0.02 suits 768 wide models, in
            a narrow one it drowns the labels.
        region_feature_size: F.
        region_encoder: ``linear`` for a detector's features, ``patches`` for pixels.
        region_labels: whether the detector's words (class and attributes) reach the model,
            through the word embeddings (tied; *ours*).
        read_labels: whether the model also reads those words off the region's features, because
            detectors err (*ours*); trained by the objective ``region_words``.
        num_object_labels, num_attribute_labels: classes that pre-training predicts of a region.
        grounding_box: where a grounding model takes the box from: ``regions``, the best region,
            moved (ROSITA), or ``direct``, four numbers off the pooled state (as in DETR, MDETR).
        embedding_size: width of retrieval's embeddings; 0: a retrieval model only judges pairs.
        towers: the config of another dual encoder of transformers whose towers embed pictures and
            texts in place of ours, see ``model/towers.py``; ``embedding_size`` is the width of its
            features. In training ``model.towers=NAME`` is its folder or hub id.
        freeze_towers: whether these towers stay as they are in training.
        scorer: what ranks pictures and texts: ``none``, the products of their embeddings; ``saf``
            or ``sgr``, fine-grained scores of regions and words, see ``model/sgraf.py``.
        scorer_size, alignment_size: widths within the scorer (authors: 1024 and 256; ours keep
            their ratio).
        graph_encoder: ``relational``, or ``none``: then the scene graph is not used.
        graph_gate: start value of the gates of all that the graph adds (graph layers, detector's
            words); 0 starts exactly at the model without.
        attributes_attended: whether attribute nodes are attended to like regions; otherwise what
            they hold reaches the others through the graph layers only.
        selection_rule, selection_threshold, selection_renormalize: see ``select``; the attention
            site. TBKIN's own threshold is unknown.
        selection_layers: layers that select, by number; empty: all.
        selection_blocks: which of ``BLOCKS`` may lose weights; empty: all.
        selection_phase: ``train``, ``eval`` or ``both``.
        selection_ramp_steps: forward passes in training over which the thresholds of both sites
            grow from 0. Counts, logits and the sparse rules have no 0 to grow from; they are in
            force after the first.
        selection_learning: ``none``: the threshold is fixed. ``straight_through`` or ``sigmoid``:
            each layer and head learns its own, see ``select_learning`` (*ours*).
        knowledge_rule, knowledge_threshold: the knowledge site (*ours*): graph nodes and edges
            whose relevance to the text falls below it never reach the fusion layers.
        knowledge_relevance: whether relevance to the text is learned at all; False: every node and
            edge that is credible counts fully.
        credibility_rule, credibility_threshold: the knowledge site too (*ours*): regions whose
            features do not bear out what the detector said of them never reach the fusion layers
            (``logit`` compares the logarithm of the credibility); see
            :func:`~tbkin.model.knowledge.credibility`. Needs the objective ``region_words``, which
            teaches the reading; without ``read_labels`` every region is believed.
    """

    model_type = "tbkin"

    vocab_size: int = 1000
    hidden_size: int = 128
    num_hidden_layers: int = 2
    num_attention_heads: int = 4
    intermediate_size: int = 256
    hidden_dropout_prob: float | int = 0.0
    attention_dropout_prob: float | int = 0.0
    max_position_embeddings: int = 64
    type_vocab_size: int = 0
    layer_norm_eps: float = 1e-12
    initializer_range: float = 0.12
    region_feature_size: int = 192
    region_encoder: str = "patches"
    region_labels: bool = True
    read_labels: bool = True
    num_object_labels: int = 0
    num_attribute_labels: int = 0
    grounding_box: str = "regions"
    embedding_size: int = 128
    towers: dict[str, Any] | None = None
    freeze_towers: bool = False
    scorer: str = "none"
    scorer_size: int = 128
    alignment_size: int = 32
    graph_encoder: str = "relational"
    graph_gate: float | int = 1.0
    attributes_attended: bool = True
    selection_rule: str = "rel_max"
    selection_threshold: float | int = 0.05
    selection_renormalize: bool = True
    selection_layers: list[int] | None = None
    selection_blocks: list[str] | None = None
    selection_phase: str = "both"
    selection_ramp_steps: int = 500
    selection_learning: str = "none"
    knowledge_rule: str = "rel_max"
    knowledge_threshold: float | int = 0.1
    knowledge_relevance: bool = True
    credibility_rule: str = "none"
    credibility_threshold: float | int = 0.4
    pad_token_id: int | None = 0

    def validate_choices(self) -> None:
        """Names that are written out in settings files."""
        for name, value, choices in (
            ("selection_rule", self.selection_rule, RULES),
            ("selection_phase", self.selection_phase, PHASES),
            ("selection_learning", self.selection_learning, LEARNING),
            ("knowledge_rule", self.knowledge_rule, RULES),
            ("credibility_rule", self.credibility_rule, RULES),
            ("scorer", self.scorer, SCORERS),
            ("graph_encoder", self.graph_encoder, ("relational", "none")),
            ("region_encoder", self.region_encoder, ("linear", "patches")),
            ("grounding_box", self.grounding_box, ("regions", "direct")),
            *(("selection_blocks", block, BLOCKS) for block in self.selection_blocks or ()),
        ):
            if value not in choices:
                raise ValueError(f"{name} must be one of {', '.join(choices)}; got {value!r}.")

    def validate_sizes(self) -> None:
        """Numbers that must fit one another."""
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"num_attention_heads must divide hidden_size: {self.num_attention_heads} does "
                f"not divide {self.hidden_size}."
            )
        for name in ("hidden_dropout_prob", "attention_dropout_prob"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must be in [0, 1), got {getattr(self, name)}.")
        if self.embedding_size < 0:
            raise ValueError(f"embedding_size must be >= 0, got {self.embedding_size}.")
        for name in ("scorer_size", "alignment_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be >= 1, got {getattr(self, name)}.")
        for layer in self.selection_layers or ():
            if not 0 <= layer < self.num_hidden_layers:
                raise ValueError(
                    f"selection_layers: layer {layer} of {self.num_hidden_layers}; the first is 0."
                )

    def validate_towers(self) -> None:
        """Towers that can be built."""
        if self.towers is not None and not (self.embedding_size and "model_type" in self.towers):
            raise ValueError(
                "towers must be the config of a dual encoder, with its model_type, and "
                "embedding_size the width of its features; in training model.towers=FOLDER sets "
                "both."
            )
        if self.freeze_towers and self.towers is None:
            raise ValueError(
                "freeze_towers=true, and there are no towers of another model; name them with "
                "model.towers=FOLDER, or leave it out."
            )

    def validate_scorer(self) -> None:
        """A scorer has regions and words to read."""
        if self.scorer == "none":
            return
        if not self.embedding_size:
            raise ValueError(
                f"scorer={self.scorer} ranks what the model reads by itself, and with "
                "embedding_size=0 it only judges pairs; set embedding_size, or scorer=none."
            )
        if self.towers is not None:
            raise ValueError(
                f"scorer={self.scorer} reads the states of the model's own regions and words, and "
                "towers of another model give none; leave one of the two out."
            )

    def validate_thresholds(self) -> None:
        """Thresholds that mean something under their rule."""
        for site in ("selection", "knowledge", "credibility"):
            rule, threshold = getattr(self, f"{site}_rule"), getattr(self, f"{site}_threshold")
            low = {"logit": -math.inf, "top_k": 1}.get(rule, 0)
            if not threshold >= low:  # also for nan
                raise ValueError(
                    f"{site}_threshold must be >= {low} for rule {rule}, got {threshold}."
                )
            if rule in ("prob", "rel_max") and threshold > 1:
                raise ValueError(f"{site}_threshold must be <= 1 for rule {rule}, got {threshold}.")
        if self.selection_learning != "none" and self.selection_rule not in LEARNABLE_RULES:
            raise ValueError(
                f"selection_learning needs a rule with a threshold to learn "
                f"({', '.join(LEARNABLE_RULES)}), not {self.selection_rule}."
            )
        relative = self.selection_learning != "none" and self.selection_rule != "logit"
        if relative and self.selection_threshold <= 0:
            raise ValueError(
                "selection_learning needs a selection_threshold > 0 to start from, "
                f"got {self.selection_threshold}."
            )
        if self.selection_learning != "none" and self.selection_phase == "eval":
            raise ValueError(
                "selection_learning needs selection in training; selection_phase=eval has none."
            )
        if self.selection_learning == "sigmoid" and self.selection_ramp_steps < 1:
            raise ValueError(
                "selection_learning=sigmoid hardens over selection_ramp_steps, which must be >= 1; "
                f"got {self.selection_ramp_steps}. straight_through needs none."
            )

    @classmethod
    def rosita_base(cls, **changes: Any) -> "TBKINConfig":
        """ROSITA's base size: its function exactly (``graph_encoder=none``, no selection).

        With ``graph_encoder="relational"`` it still starts there, up to rounding: every gate opens
        from 0, and attribute nodes are not attended to (arXiv:2108.07073 and its code).

        Args:
            changes: settings that differ, for example ``id2label`` of another answer vocabulary.
        """
        answers = 3129
        rosita = {
            "vocab_size": 30522,
            "hidden_size": 768,
            "num_hidden_layers": 12,
            "num_attention_heads": 12,
            "intermediate_size": 3072,
            "hidden_dropout_prob": 0.1,
            "attention_dropout_prob": 0.1,
            "max_position_embeddings": 512,
            "type_vocab_size": 2,
            "initializer_range": 0.02,
            "region_feature_size": 2048,
            "region_encoder": "linear",
            "region_labels": False,
            "read_labels": False,
            "num_object_labels": 1600,
            "num_attribute_labels": 400,
            "embedding_size": 0,
            "graph_encoder": "none",
            "graph_gate": 0.0,
            "attributes_attended": False,
            "selection_rule": "none",
            "selection_ramp_steps": 0,
            "knowledge_rule": "none",
        }
        if "id2label" not in changes and "num_labels" not in changes:
            rosita["num_labels"] = answers
        return cls(**{**rosita, **changes})

    @classmethod
    def own_settings(cls) -> list[str]:
        """Names of the settings that this class adds."""
        inherited = {field.name for field in dataclasses.fields(PreTrainedConfig)}
        return [field.name for field in dataclasses.fields(cls) if field.name not in inherited]

    @classmethod
    def from_changes(cls, changes: dict[str, Any], **known: Any) -> "TBKINConfig":
        """The defaults with a user's changes; unknown names are errors.

        Args:
            changes: what the user set.
            known: what the data decide (sizes, answers); the user may not change these.
        """
        cls.check_names(changes, known)
        return cls._build({**known, **changes})

    def changed(self, changes: dict[str, Any], **known: Any) -> "TBKINConfig":
        """These settings with a user's changes; unknown names are errors.

        Args:
            changes: what the user set.
            known: as in :meth:`from_changes`.
        """
        self.check_names(changes, known)
        return self._build({**self.to_dict(), **known, **changes})

    @classmethod
    def check_names(cls, changes: dict[str, Any], known: dict[str, Any]) -> None:
        """Raise ValueError for a setting that there is not, or that the data decide."""
        names = cls.own_settings()
        for name in changes:
            if name in known:
                raise ValueError(f"model.{name} follows from the data and cannot be set.")
            if name not in names:
                near = difflib.get_close_matches(name, names, n=1)
                mend = f"did you mean {near[0]!r}?" if near else f"it takes: {', '.join(names)}."
                raise ValueError(f"TBKINConfig has no setting {name!r}; {mend}")

    @classmethod
    def _build(cls, settings: dict[str, Any]) -> "TBKINConfig":
        try:
            return cls(**settings)
        except Exception as error:  # huggingface_hub wraps our messages in its own error types
            reason = error.__cause__ or error
            raise ValueError(f"model settings: {reason}") from error


# So that transformers' Auto classes, which a processor loads its tokenizer with, know the folder.
AutoConfig.register(TBKINConfig.model_type, TBKINConfig)
