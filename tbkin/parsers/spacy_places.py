"""Prepositions of a dependency tree, those of several words as one ("in front of")."""

from __future__ import annotations

from dataclasses import dataclass

from tbkin.parsers.prepositions import NOTHING, PREPOSITIONS, SIDES, WHICH_SIDE, phrase_at
from tbkin.parsers.spacy_tree import Word


@dataclass
class Place:
    """A preposition.

    Attributes:
        words: its tokens.
        label: its name in a relation.
        target: the noun that it governs, or None.
    """

    words: list[Word]
    label: str
    target: Word | None

    @property
    def content(self) -> Word:
        """The word that stands for it in the graph: "left" for "to the left of"."""
        return max(
            self.words,
            key=lambda word: (word.low in SIDES or word.low in WHICH_SIDE, len(word.low)),
        )

    @property
    def governor(self) -> Word | None:
        """What it hangs from; where it heads a fragment itself, the noun before it."""
        word: Word | None = self.words[0]
        while word is not None and any(one is word for one in self.words):
            word = word.head
        if word is not None:
            return word
        before = [one for head in self.words for one in head.children]
        before = [one for one in before if one.is_noun and one.place < self.words[0].place]
        return before[-1] if before else None

    @property
    def is_whereabouts(self) -> bool:
        """Whether it says where in the picture, not at which thing: "on the left"."""
        target = self.target
        if target is None or target.child("prep"):
            return False
        if target.low == "distance":
            return self.label == "in"
        return target.low in ("left", "right") and self.label in ("on", "to", "at")


def find_places(words: list[Word]) -> list[Place]:
    """The prepositions of a text, in order."""
    places, at = [], 0
    while at < len(words):
        length, label = _phrase_at(words, at)
        if length:
            span = words[at : at + length]
            places.append(Place(span, label, _target(span, words)))
        at += max(length, 1)
    return places


def _phrase_at(words: list[Word], at: int) -> tuple[int, str]:
    """(number of words, name) of the preposition that starts at a word; (0, "") if none does."""
    word = words[at]
    if word.number < 0:
        return NOTHING
    length, label = phrase_at([one.low for one in words[at : at + 5]])
    if length > 1 and not (label == "part of" and _opens_phrase(words, at)):
        return length, label
    if word.dep in ("prep", "agent") or (
        word.tag in ("IN", "TO", "RP", "RB") and word.child("pobj")
    ):
        return 1, PREPOSITIONS.get(word.low, word.low)
    return NOTHING


def _opens_phrase(words: list[Word], at: int) -> bool:
    """Whether a noun phrase begins at a word: "part of a table"."""
    return at == 0 or words[at - 1].tag in ("DT", "IN", "JJ")


def _target(span: list[Word], words: list[Word]) -> Word | None:
    for word in reversed(span):
        for child in word.children:
            if child.dep == "pobj" and not any(child is one for one in span):
                return child
    end = span[-1].place + 1
    for word in words[end : end + 5]:
        if word.is_noun:
            return word
        if word.dep not in ("det", "amod", "compound", "nummod", "poss", "nmod"):
            return None
    return None
