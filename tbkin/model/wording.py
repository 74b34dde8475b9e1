"""What a model's thresholds are, in words, for pages and tables."""

from __future__ import annotations

from tbkin.model.configuration_tbkin import TBKINConfig
from tbkin.model.selection import SPARSE


def selection_in_words(config: TBKINConfig) -> str:
    """The attention site's rule in words."""
    if config.selection_rule == "none":
        return "none"
    layers = f"layers {config.selection_layers}" if config.selection_layers else "all layers"
    blocks = f", {', '.join(config.selection_blocks)} only" if config.selection_blocks else ""
    notes = ", in training only" if config.selection_phase == "train" else ""
    if config.selection_learning != "none":
        notes += ", learned a head"
    if not config.selection_renormalize and config.selection_rule not in SPARSE:
        notes += ", not renormalised"
    return f"{_rule(config.selection_rule, config.selection_threshold)} in {layers}{blocks}{notes}"


def knowledge_in_words(config: TBKINConfig) -> str:
    """The knowledge site's rules in words: what it believes, and what it finds relevant."""
    said = []
    judges = config.region_labels and config.read_labels
    if judges and config.credibility_rule != "none":
        said.append(f"credibility {_rule(config.credibility_rule, config.credibility_threshold)}")
    if config.knowledge_relevance:
        said.append(f"relevance {_rule(config.knowledge_rule, config.knowledge_threshold)}")
    return ", ".join(said) or "none"


def _rule(rule: str, threshold: float) -> str:
    """A rule, with its threshold if it has one."""
    return rule if rule == "none" or rule in SPARSE else f"{rule} {threshold:g}"
