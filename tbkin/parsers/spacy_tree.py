"""spaCy's dependency tree as plain words that rules can read and mend."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

NOUN_TAGS = frozenset({"NN", "NNS", "NNP", "NNPS"})
INSIDE_A_NAME = frozenset({"compound", "nmod", "amod"})
NO_CLAUSE = frozenset({"amod", "aux", "auxpass", "compound", "pobj", "dobj"})
LONGEST_LIST = 20  # no caption coordinates more; bounds the work on odd texts


@dataclass(eq=False, slots=True)
class Word:
    """One token of the tree.

    Attributes:
        place: among all tokens of the text, punctuation included.
        number: among the words, punctuation left out; -1 for punctuation.
        text: as written.
        low: the same in lower case.
        tag: Penn Treebank part of speech ("NNS").
        dep: dependency on ``head`` ("nsubj").
        head: None for a root.
        children: in the order of the text.
        hyphen: a hyphen joins it to the word before.
    """

    place: int
    number: int
    text: str
    low: str
    tag: str
    dep: str
    head: Word | None = None
    children: list[Word] = field(default_factory=list)
    hyphen: bool = False

    @property
    def is_noun(self) -> bool:
        """Whether it names something, and is no part of a longer name."""
        return self.tag in NOUN_TAGS and self.number >= 0 and self.dep not in INSIDE_A_NAME

    @property
    def is_verb(self) -> bool:
        """Whether it heads a clause, finite or not."""
        return self.tag.startswith("VB") and self.dep not in NO_CLAUSE

    def child(self, *deps: str) -> Word | None:
        """The first child with one of the dependencies."""
        for child in self.children:
            if child.dep in deps:
                return child
        return None

    def all(self, *deps: str) -> list[Word]:
        """All children with one of the dependencies."""
        return [child for child in self.children if child.dep in deps]

    def above(self) -> Iterator[Word]:
        """The heads from the next one to the root."""
        word = self.head
        while word is not None:
            yield word
            word = word.head

    def conjuncts(self) -> list[Word]:
        """The word and what is coordinated with it, in order.

        In "a star, a cross and a circle", the parser may take the cross for an apposition.
        """
        found = [self]
        for word in found:
            found += word.all("conj")
            found += [one for one in word.all("appos") if one.child("conj", "appos")]
            if len(found) >= LONGEST_LIST:
                break
        return sorted(found[:LONGEST_LIST], key=lambda word: word.place)

    def attach(self, head: Word | None, dep: str) -> None:
        """Hang the word elsewhere, unless that would close a circle."""
        if head is self or (head is not None and any(one is self for one in head.above())):
            return
        if self.head is not None:
            self.head.children.remove(self)
        self.head, self.dep = head, dep
        if head is not None:
            head.children.append(self)
            head.children.sort(key=lambda word: word.place)


def read_tree(doc: Any, skip: int = 0) -> list[Word]:
    """The tokens of a spaCy document as a tree.

    Args:
        doc: a ``spacy.tokens.Doc`` with tags and dependencies.
        skip: how many tokens at its beginning to leave out. White space is always left out.
    """
    tokens = [token for token in doc if token.i >= skip and not token.is_space]
    words: list[Word] = []
    of_token: dict[int, Word] = {}
    number = 0
    for place, token in enumerate(tokens):
        counts = not token.is_punct
        words.append(
            Word(place, number if counts else -1, token.text, token.lower_, token.tag_, token.dep_)
        )
        of_token[token.i] = words[-1]
        number += counts
    for word, token in zip(words, tokens, strict=True):
        head = token.head
        while head.i not in of_token and head.head.i != head.i:
            head = head.head
        if head.i != token.i and head.i in of_token:
            word.head = of_token[head.i]
            word.head.children.append(word)
    for before, word in pairwise(words):
        word.hyphen = before.text == "-"
    return words


def written(parts: list[Word]) -> str:
    """Words as the text has them, lower case: "wine glass", "t-shirt"."""
    parts = sorted(parts, key=lambda word: word.place)
    text = parts[0].low
    for before, word in pairwise(parts):
        text += ("-" if word.hyphen and word.place == before.place + 2 else " ") + word.low
    return text
