"""Cutting a sentence into phrases by its function words and known verbs; no model is needed."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass, field

from tbkin.graphs.words import lemma
from tbkin.parsers.lexicon import (
    ADJECTIVES,
    ANIMATE,
    ASKED,
    COLOURS,
    DEFINITE,
    FUNCTION_WORDS,
    KNOWN_VERBS,
    NOUNS_IN_ING,
    NUMBERS,
    PARTICLES,
    RENAMED,
)
from tbkin.parsers.prepositions import PREPOSITIONS, phrase_at
from tbkin.parsers.verbs import verb_lemma

SIMPLE_PREPOSITIONS = frozenset(
    """above below over under beneath underneath beside near behind inside in on at by with around
    across between against through along into onto upon atop outside towards toward alongside
    without beyond among down past off from""".split()
)
COPULAS = frozenset("is are was were be being isn't aren't wasn't weren't".split())
NEGATIONS = frozenset(
    "not never no neither isn't aren't wasn't weren't don't doesn't didn't can't".split()
)
PARTICLES_ALONE = frozenset("up out off together away back".split())
ASKING = frozenset("what which who whom whose where when why how".split())
DESCRIBING = ADJECTIVES | COLOURS | NUMBERS.keys()
ARTICLES = frozenset("a an the this that these those some any his her its their no".split())


@dataclass
class Chunk:
    """A phrase.

    Attributes:
        kind: ``noun`` (a noun phrase), ``verb``, ``place`` (a preposition), ``copula``, ``and``
            (a comma too), ``of``, ``pronoun`` ("it", "them" as objects), ``stop`` (the sentence
            ends) or ``break`` (other function words).
        words: their places in the sentence; of a relation only its content word.
        label: base form of a verb, name of a preposition.
        article: a determiner stands before the noun phrase.
        definite: it is "the" or a possessive.
        negated: "not", "no" or their kin stand before.
    """

    kind: str
    words: list[int] = field(default_factory=list)
    label: str = ""
    article: bool = False
    definite: bool = False
    negated: bool = False


def cut(low: list[str], commas: Container[int] = (), stops: Container[int] = ()) -> list[Chunk]:
    """The phrases of a sentence.

    Args:
        low: its words in lower case, without punctuation.
        commas: places of the words that a comma stands before.
        stops: places of the words that begin another sentence.
    """
    chunks: list[Chunk] = []
    negated = article = definite = False
    at = 0
    while at < len(low):
        word, length = low[at], 1
        chunk = None
        if at in stops:
            chunks.append(Chunk("stop"))
            negated = article = definite = False
        elif at in commas and not _joins_adjectives(low, at - 1, chunks):
            chunks.append(Chunk("and"))
            negated = article = definite = False
        many, label = phrase_at(low[at : at + 5])
        if word in NEGATIONS:
            negated = True
        if many:
            length = many
            content = max(range(at, at + many), key=lambda place: len(low[place]))
            chunk = Chunk("place", [content], label)
        elif word in COPULAS:
            chunk = Chunk("copula", [at])
        elif word == "of":
            chunk = Chunk("of", [at])
        elif word in ("and", "or"):
            if not _joins_adjectives(low, at, chunks) and not (chunks and chunks[-1].kind == "and"):
                chunk = Chunk("and", [at])
        elif word in SIMPLE_PREPOSITIONS:
            chunk = Chunk("place", [at], PREPOSITIONS.get(word, word))
        elif word in ("to", "for") and chunks and chunks[-1].kind == "verb":
            if verb_lemma(low[at + 1] if at + 1 < len(low) else "") not in KNOWN_VERBS:
                chunk = Chunk("place", [at], word)
        elif word in PARTICLES_ALONE and chunks and chunks[-1].kind == "verb":
            chunks[-1].label += f" {word}" if (chunks[-1].label, word) in PARTICLES else ""
        elif word in ("it", "them") and chunks and chunks[-1].kind in ("verb", "place", "of"):
            chunk = Chunk("pronoun", [at])
        elif not article and _is_verb(low, at, chunks):
            chunk = Chunk("verb", [at], verb_lemma(word))
        elif word in ARTICLES:
            article, definite = True, definite or word in DEFINITE
        elif (word in FUNCTION_WORDS or word in ASKED) and word not in RENAMED:
            chunk = Chunk("break", [at], word)
        elif chunks and chunks[-1].kind == "noun" and not article:
            chunks[-1].words.append(at)
        else:
            chunks.append(Chunk("noun", [at], "", article, definite, negated))
            article = definite = negated = False
        if chunk is not None:
            if chunk.kind in ("place", "verb"):
                chunk.negated, negated = negated, False
            article = definite = False
            chunks.append(chunk)
        at += length
    return chunks


def _joins_adjectives(low: list[str], at: int, chunks: list[Chunk]) -> bool:
    """Whether "and" stands between adjectives of one noun: "a red and white bus"."""
    if not chunks or chunks[-1].kind != "noun" or at + 2 >= len(low):
        return False
    return low[at + 1] in DESCRIBING and all(low[one] in DESCRIBING for one in chunks[-1].words)


def _is_verb(low: list[str], at: int, chunks: list[Chunk]) -> bool:
    """Whether a word is a verb here: a known one, after a noun or "is", in a verb's form.

    "Parked cars" and "standing man" open a noun phrase: there the participle describes.
    """
    word = low[at]
    base = verb_lemma(word)
    before = chunks[-1].kind if chunks else ""
    if word in NOUNS_IN_ING or word in ADJECTIVES:
        return False
    animate = before == "noun" and (low[at - 1] in ANIMATE or lemma(low[at - 1]) in ANIMATE)
    if animate and word.endswith("ing") and len(word) > 5:
        return True  # whatever it means, people do it
    if base not in KNOWN_VERBS:
        return False
    if before == "noun" and all(low[place] in DESCRIBING for place in chunks[-1].words):
        return False  # "green painted sign"
    if word in ("has", "have", "having"):
        return before == "noun"
    formed = word.endswith("ing") or word != base
    if before == "noun":
        if not formed:
            return _plural_before(low, at)
        return not (word.endswith("s") and _ends(low, at))
    participle = formed and not word.endswith("s")
    if before == "break" and at and low[at - 1] in ("we", "you", "i"):
        return True
    if before == "copula" or (before == "break" and at and low[at - 1] in ASKING | {"not", "who"}):
        return participle
    return word.endswith("ing") and before in ("and", "") and not _ends(low, at) and bool(chunks)


def _plural_before(low: list[str], at: int) -> bool:
    """Whether "planes fly", "people wear": a plural, and something follows."""
    before = low[at - 1]
    plural = before.endswith("s") or before in ("people", "men", "women", "children")
    return plural and not _ends(low, at)


def _ends(low: list[str], at: int) -> bool:
    return at + 1 >= len(low) or low[at + 1] in COPULAS


def number_in(word: str) -> str:
    """The digits of a number word or of a short number; empty for others and for one."""
    if word in ("one", "1"):
        return ""
    return NUMBERS.get(word) or (word if word.isdecimal() and len(word) < 4 else "")
