"""Settings of the model, in Hugging Face's manner.

Without ``from __future__ import annotations``: ``@strict`` does not check types that are strings.
"""

import dataclasses
import difflib
from typing import Any

from huggingface_hub.dataclasses import strict
from transformers import AutoConfig, PreTrainedConfig

from tbkin.model.selection import RULES


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
        layer_norm_eps: ROSITA's 1e-12.
        initializer_range: standard deviation of new weights; BERT's 0.02 suits 768 wide models, in
            a narrow one it drowns the labels.
        region_feature_size: F.
        region_encoder: ``linear`` for a detector's features, ``patches`` for pixels.
        region_labels: whether the detector's words (class and attributes) reach the model,
            through the word embeddings (tied; *ours*).
        read_labels: whether the model also reads those words off the region's features, because
            detectors err (*ours*); trained by the objective ``region_words``.
        graph_encoder: ``relational``, or ``none``: then the scene graph is not used.
        graph_gate: start value of the gate of each graph layer; 0 starts at the model without.
        selection_rule, selection_threshold, selection_renormalize: see ``select``; the attention
            site. TBKIN's own threshold is unknown.
        selection_layers: layers that select, by number; empty: all.
        selection_ramp_steps: training steps over which the threshold grows from 0.
        knowledge_rule, knowledge_threshold: the knowledge site (*ours*): graph nodes and edges
            whose relevance to the text falls below it never reach the fusion layers.
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
    layer_norm_eps: float = 1e-12
    initializer_range: float = 0.12
    region_feature_size: int = 192
    region_encoder: str = "patches"
    region_labels: bool = True
    read_labels: bool = True
    graph_encoder: str = "relational"
    graph_gate: float | int = 1.0
    selection_rule: str = "rel_max"
    selection_threshold: float | int = 0.05
    selection_renormalize: bool = True
    selection_layers: list[int] | None = None
    selection_ramp_steps: int = 500
    knowledge_rule: str = "rel_max"
    knowledge_threshold: float | int = 0.1
    pad_token_id: int | None = 0

    def validate_choices(self) -> None:
        """Names that are written out in settings files."""
        for name, value, choices in (
            ("selection_rule", self.selection_rule, RULES),
            ("knowledge_rule", self.knowledge_rule, RULES),
            ("graph_encoder", self.graph_encoder, ("relational", "none")),
            ("region_encoder", self.region_encoder, ("linear", "patches")),
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
        for layer in self.selection_layers or ():
            if not 0 <= layer < self.num_hidden_layers:
                raise ValueError(
                    f"selection_layers: layer {layer} of {self.num_hidden_layers}; the first is 0."
                )

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
        names = cls.own_settings()
        for name in changes:
            if name in known:
                raise ValueError(f"model.{name} follows from the data and cannot be set.")
            if name not in names:
                near = difflib.get_close_matches(name, names, n=1)
                mend = f"did you mean {near[0]!r}?" if near else f"it takes: {', '.join(names)}."
                raise ValueError(f"TBKINConfig has no setting {name!r}; {mend}")
        try:
            return cls(**known, **changes)
        except Exception as error:  # huggingface_hub wraps our messages in its own error types
            reason = error.__cause__ or error
            raise ValueError(f"model settings: {reason}") from error


# So that transformers' Auto classes, which a processor loads its tokenizer with, know the folder.
AutoConfig.register(TBKINConfig.model_type, TBKINConfig)
