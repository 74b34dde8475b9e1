"""Sentence -> caption graph. A parser is any callable ``(sentence) -> SceneGraph`` of words.

A parser that is faster on many sentences at once has a method ``many(sentences)`` as well, which
yields their graphs in order; :func:`parse_many` uses it where there is one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Literal

from tbkin.config import choose
from tbkin.graphs.scene_graph import SceneGraph
from tbkin.parsers.learned import LearnedParser
from tbkin.parsers.spacy_rules import SpacyRules, installed_model
from tbkin.parsers.word_rules import WordRules

Parser = Callable[[str], SceneGraph]
Text = Literal["caption", "question"]

PARSERS: dict[str, Callable[[], Parser]] = {
    "learned": LearnedParser,
    "spacy_rules": SpacyRules,
    "word_rules": WordRules,
}


def resolve_parser(name: str, text: Text = "caption") -> str:
    """A parser's own name; ``auto`` is the best one there is.

    Args:
        name: one of ``PARSERS``, or "auto".
        text: what is parsed. ``learned`` has read captions only, on which it is the best
            (``benchmarks/parsers.py``); of questions the rules make more (looked at, not measured).
    """
    if name == "auto":
        if text == "caption":
            return "learned"
        return "spacy_rules" if installed_model() else "word_rules"
    choose(PARSERS, name, "parser")
    return name


def load_parser(name: str = "auto", text: Text = "caption") -> Parser:
    """The parser of that name, ready to use."""
    return PARSERS[resolve_parser(name, text)]()


def parse_many(parser: Parser, sentences: Iterable[str]) -> Iterator[SceneGraph]:
    """The graph of each sentence, in order; in batches where the parser can."""
    many = getattr(parser, "many", None)
    return many(sentences) if many is not None else map(parser, sentences)
