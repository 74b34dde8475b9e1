"""Noun phrases of a dependency tree: what is named, what it is called, how it is described."""

from __future__ import annotations

from dataclasses import dataclass, field

from tbkin.graphs.words import lemma
from tbkin.parsers.lexicon import (
    ATTRIBUTE_NOUNS,
    COLOURED,
    COLOURS,
    FORBIDDEN,
    HAVING,
    IGNORED,
    NAMING,
    NUMBERS,
    OWNERS,
    PARTS,
    SHADES,
    SPELLINGS,
    TWO_WORD_ATTRIBUTES,
    WRITTEN_FOR,
)
from tbkin.parsers.spacy_tree import Word, written

MODIFIERS = frozenset(
    """compound nmod amod nummod det poss advmod quantmod npadvmod neg predet preconj cc""".split()
)
LONGEST_NAME = 8  # words; bounds the work on odd texts
NAME_PARTS = frozenset({"compound", "nmod"})


@dataclass
class Thing:
    """A noun phrase.

    Attributes:
        text: its name as written, lower case, without its attributes.
        attributes: word, and the phrase as written.
        count: number word, and its digits.
        owners: nouns that have it ("the clock face": the clock).
        parts: what an adjective says that it has: the adjective, the part's name, and the word
            that describes the part ("long sleeved": sleeved, "sleeve", long).
        covers: participle, and the noun that covers it ("moss covered stone": the moss).
        negated: "no clouds".
        used: places of words that are accounted for.
    """

    text: str
    attributes: list[tuple[Word, str]] = field(default_factory=list)
    count: tuple[Word, str] | None = None
    owners: list[Word] = field(default_factory=list)
    parts: list[tuple[Word, str, Word]] = field(default_factory=list)
    covers: list[tuple[Word, Word]] = field(default_factory=list)
    negated: bool = False
    used: set[int] = field(default_factory=set)


def read_thing(head: Word) -> Thing:
    """The noun phrase around its head noun."""
    thing = Thing(head.low)
    name = [head]
    before = [child for child in head.children if child.place < head.place]
    for child in reversed(before):
        if child.place in thing.used or child.dep not in MODIFIERS:
            continue
        first = _just_before(child, before)
        if first is not None and (first.low, child.low) in TWO_WORD_ATTRIBUTES:
            thing.attributes.append((child, written([first, child])))
            thing.used.add(first.place)
        elif first is not None and (part := _part(child)) and part != lemma(head.low):
            thing.parts.append((child, part, first))
            thing.used.add(first.place)
        else:
            _read_modifier(child, head, thing, name)
    text = written(name)
    thing.text = SPELLINGS.get(text, text)
    thing.attributes.reverse()
    return thing


def adjective(word: Word) -> str:
    """An attribute as written, with what belongs to it: "dark blue", "dome shaped"."""
    before = [
        one
        for one in word.children
        if one.place < word.place
        and one.number >= 0
        and (
            one.dep in ("compound", "npadvmod", "nmod")
            or (
                one.dep in ("advmod", "amod")
                and (one.low in SHADES or one.low == "multi" or word.low in COLOURED)
            )
        )
    ]
    if before and word.low in COLOURED and before[-1].low in COLOURS:
        return written(before)  # "maroon colored" is maroon
    text = written([*before, word])
    return WRITTEN_FOR.get(text, text)


def _just_before(word: Word, others: list[Word]) -> Word | None:
    near = (one for one in [*word.children, *others] if one.place == word.place - 1)
    return next((one for one in near if one.tag[:2] in ("JJ", "CD", "RB", "NN")), None)


def _part(word: Word) -> str:
    """The part that "long sleeve", "long sleeved" or "four legged" names; empty for others."""
    if word.dep == "compound" and lemma(word.low) in HAVING:
        return lemma(word.low)
    if word.dep != "amod" or not word.low.endswith("ed"):
        return ""
    stem = word.low[:-2]
    return next(
        (one for one in (stem, stem[:-1], stem + "e", lemma(stem + "es")) if one in HAVING), ""
    )


def _read_modifier(child: Word, head: Word, thing: Thing, name: list[Word]) -> None:
    low = child.low
    if low in ("not", "neither", "nor"):
        thing.negated = True
    elif low == "no":
        thing.negated = not any(one.low in FORBIDDEN for one in head.children)
    elif low == "both":
        thing.count = (child, "2")
    elif low in NUMBERS or (low.isdecimal() and len(low) < 4):
        if low not in ("one", "1"):
            thing.count = (child, NUMBERS.get(low, low))
    elif child.dep == "poss":
        if child.tag.startswith("N"):
            thing.owners += child.conjuncts()
    elif child.number < 0 or low in IGNORED or child.dep not in ("amod", *NAME_PARTS, "npadvmod"):
        return
    elif _is_name_part(child):
        if len(name) == 1 and _is_owner(low, lemma(head.low)):
            thing.owners.append(child)
        else:
            name.append(child)
        for inner in reversed(child.children):
            if inner.place < child.place and len(name) < LONGEST_NAME:
                _read_modifier(inner, head, thing, name)
    else:
        _read_attribute(child, thing)


def _is_name_part(word: Word) -> bool:
    """Whether a modifier belongs to the name: "tennis" in "tennis court", not "brick"."""
    if word.low in NAMING:
        return True
    if word.dep not in NAME_PARTS or not word.tag.startswith("N"):
        return False
    return word.low not in COLOURS and lemma(word.low) not in ATTRIBUTE_NOUNS


def _is_owner(low: str, head: str) -> bool:
    """Whether "X Y" is X's Y: "clock face". A tree trunk is called so."""
    return head in PARTS and lemma(low) in OWNERS and (low, head) != ("tree", "trunk")


def _read_attribute(child: Word, thing: Thing) -> None:
    if child.low == "covered":
        cover = child.child("npadvmod", "compound", "nmod", "amod", "advmod")
        if cover is not None and cover.tag.startswith("NN"):
            cover.dep = "npadvmod"  # now a noun of its own
            thing.covers.append((child, cover))
            return
    for word in reversed(child.conjuncts()):
        if word.number < 0:
            continue
        last, text = thing.attributes[-1] if thing.attributes else (None, "")
        if (
            last is not None
            and word.low in SHADES
            and last.place == word.place + 1
            and (last.low in COLOURS or last.low in COLOURED)
        ):
            thing.attributes[-1] = (last, f"{word.low} {text}")
            continue
        thing.attributes.append((word, adjective(word)))
        for one in reversed(word.all("amod", "advmod")):  # "long yellow train"
            own = one.place < word.place and one.tag.startswith("JJ")
            if own and one.low not in SHADES and one.low not in IGNORED:
                thing.attributes.append((one, adjective(one)))
