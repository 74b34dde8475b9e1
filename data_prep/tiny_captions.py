"""The captions of the tiny world, and what each of them claims.

Every caption is said from a *claim*, the set of facts that it states; it is true of every scene
that has all of them. A fact is one of

- ``("count", description, n)``: exactly n objects fit the description;
- ``("some", description)``: one object fits it, or more;
- ``("related", description, parts)``: one object fits the description and lies as ``parts`` say,
  one or two pairs of a predicate and a description, each fulfilled by a different other object.

"A large red circle" in a list of objects is a count of exactly one; anywhere else it is some large
red circle, whether or not there are more. A list of kinds says nothing about other kinds, since the
writer stops after four; a list of shapes names all that are there, so it denies the others. Only
clear relations count: two objects near a diagonal of each other make no sentence true.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from itertools import combinations

import numpy as np

from data_prep.tiny_language import (
    DESCRIPTIONS,
    NUMBER_WORDS,
    Description,
    Lookup,
    pick,
    say,
    say_predicate,
    with_article,
)
from data_prep.tiny_scenes import COLORS, SHAPES, Thing

Fact = tuple
Claim = frozenset[Fact]
Caption = tuple[str, Claim]

CAPTIONS = 5  # of every picture


def write_captions(lookup: Lookup, rng: np.random.Generator) -> list[Caption]:
    """Five true sentences about the picture with their claims, in random order."""
    captions = [
        _caption_of_groups(lookup, rng),
        _caption_of_shapes(lookup, rng),
        _caption_of_count(lookup, rng),
        _caption_of_pair(lookup, rng),
        _caption_of_chain(lookup, rng),
    ]
    return [captions[number] for number in rng.permutation(CAPTIONS)]


def says_where(claim: Claim) -> bool:
    """Whether the claim speaks of places, not only of what is there."""
    return any(fact[0] == "related" for fact in claim)


def true_of(claims: Iterable[Claim], lookups: Iterable[Lookup]) -> list[list[int]]:
    """For each claim the numbers of the scenes that it is true of, smallest first.

    Takes about a millisecond a scene and 20 microseconds a claim.
    """
    having: dict[Fact, set[int]] = defaultdict(set)
    for number, lookup in enumerate(lookups):
        for fact in facts_of(lookup):
            having[fact].add(number)
    none: set[int] = set()
    found = []
    for claim in claims:
        rarest, *others = sorted((having.get(fact, none) for fact in claim), key=len)
        found.append(sorted(rarest.intersection(*others)))
    return found


def facts_of(lookup: Lookup) -> set[Fact]:
    """Every fact of the scene that a caption could state."""
    things = lookup.things
    facts = {("count", part, lookup.fitting(part).bit_count()) for part in DESCRIPTIONS}
    facts |= {("some", _full(thing)) for thing in things}
    relations: list[list[tuple[str, Description]]] = [[] for _ in things]
    for number, predicate, anchor in lookup.clear_pairs():
        facts.add(_related(_full(things[number]), [(predicate, _full(things[anchor]))]))
        relations[number].append((predicate, _plain(things[anchor])))
    for thing, parts in zip(things, relations, strict=True):
        facts |= {_related(_plain(thing), [part]) for part in parts}
        facts |= {_related(_plain(thing), two) for two in combinations(parts, 2)}
    return facts


def _related(description: Description, parts: Iterable[tuple[str, Description]]) -> Fact:
    """The fact; the order in which its relations are said does not matter."""
    return "related", description, tuple(sorted(parts))


def _full(thing: Thing) -> Description:
    return thing.size, thing.color, thing.shape


def _plain(thing: Thing) -> Description:
    return None, thing.color, thing.shape


def _counted(description: Description, count: int, rng: np.random.Generator) -> str:
    if count == 1:
        return with_article(say(description, rng))
    return f"{NUMBER_WORDS[count]} {say(description, rng, plural=True)}"


def _joined(phrases: list[str]) -> str:
    return phrases[0] if len(phrases) == 1 else f"{', '.join(phrases[:-1])} and {phrases[-1]}"


def _sentence(words: str) -> str:
    return words[0].upper() + words[1:] + "."


def _caption_of_groups(lookup: Lookup, rng: np.random.Generator) -> Caption:
    """Up to four kinds of object with all that one can say about them."""
    groups = list(Counter(_full(thing) for thing in lookup.things).items())
    shown = [groups[number] for number in rng.permutation(len(groups))[:4]]
    listed = _joined([_counted(description, count, rng) for description, count in shown])
    sentence = _sentence(pick(("a picture with ", "", "we see "), rng) + listed)
    return sentence, frozenset(("count", description, count) for description, count in shown)


def _caption_of_shapes(lookup: Lookup, rng: np.random.Generator) -> Caption:
    """How many of each shape."""
    counts = Counter(thing.shape for thing in lookup.things)
    shapes = list(counts.items())
    shown = [shapes[number] for number in rng.permutation(len(shapes))]
    listed = _joined([_counted((None, None, shape), count, rng) for shape, count in shown])
    sentence = _sentence(listed + pick(("", " on a light background", " in a picture"), rng))
    return sentence, frozenset(("count", (None, None, shape), counts[shape]) for shape in SHAPES)


def _caption_of_count(lookup: Lookup, rng: np.random.Generator) -> Caption:
    """How many objects, how many of them of one size or colour, and one of them."""
    thing = pick(lookup.things, rng)
    word = pick((thing.size, thing.color), rng)
    total, same = len(lookup.things), lookup.words[word].bit_count()
    share = "all" if same == total else NUMBER_WORDS[same]
    example = with_article(say(_full(thing), rng))
    sentence = _sentence(
        f"{NUMBER_WORDS[total]} {pick(('shapes', 'objects'), rng)}, {share} of them {word}, "
        f"{pick(('with', 'among them'), rng)} {example}"
    )
    counted = (None, word, None) if word in COLORS else (word, None, None)
    return sentence, frozenset(
        (("count", (None, None, None), total), ("count", counted, same), ("some", _full(thing)))
    )


def _caption_of_pair(lookup: Lookup, rng: np.random.Generator) -> Caption:
    """How one object lies to another."""
    number, predicate, anchor = pick(lookup.clear_pairs(), rng)
    first, second = _full(lookup.things[number]), _full(lookup.things[anchor])
    sentence = _sentence(
        f"{with_article(say(first, rng))} {pick(('', 'is '), rng)}{say_predicate(predicate, rng)} "
        f"{with_article(say(second, rng))}"
    )
    return sentence, frozenset((_related(first, [(predicate, second)]),))


def _caption_of_chain(lookup: Lookup, rng: np.random.Generator) -> Caption:
    """How one object lies to two others, each with its colour and shape."""
    pairs = lookup.clear_pairs()
    number, predicate, anchor = pick(pairs, rng)
    first, second = _plain(lookup.things[number]), _plain(lookup.things[anchor])
    parts = [(predicate, second)]
    words = (
        f"{with_article(say(first, rng))} is {say_predicate(predicate, rng)} "
        f"{with_article(say(second, rng))}"
    )
    more = [pair for pair in pairs if pair[0] == number and pair[2] != anchor]
    if more:
        _, predicate, other = pick(more, rng)
        third = _plain(lookup.things[other])
        parts.append((predicate, third))
        words += f" and {say_predicate(predicate, rng)} {with_article(say(third, rng))}"
    return _sentence(words), frozenset((_related(first, parts),))
