"""What one can say about a scene of the tiny world: descriptions and expressions.

A *description* is ``(size, color, shape)`` with None for what it leaves open, so that
``(None, "red", "circle")`` is said "red circle" and ``("small", None, None)`` "small thing".
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np

from data_prep.tiny_scenes import (
    COLORS,
    PREDICATES,
    SHAPES,
    SIZES,
    Scene,
    Thing,
    is_clear,
    relation,
)

T = TypeVar("T")
Description = tuple[str | None, str | None, str | None]

ASPECTS = ("size", "color", "shape")  # the order of a description, and of the words
DESCRIPTIONS: list[Description] = [
    (size, color, shape)
    for size in (None, *SIZES)
    for color in (None, *COLORS)
    for shape in (None, *SHAPES)
]
NUMBER_WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


class Lookup:
    """Which objects of a scene fit a description or a relation.

    A set of objects is an int: bit ``i`` stands for ``scene.things[i]``.
    """

    def __init__(self, scene: Scene):
        self.scene = scene
        self.things = scene.things
        self.everything = (1 << len(scene.things)) - 1
        self.words: dict[str | None, int] = dict.fromkeys((*SIZES, *COLORS, *SHAPES), 0)
        self.words[None] = self.everything
        self.clear = [0] * len(scene.things)  # clear[i]: all whose relation to i is clear
        self.related = {predicate: [0] * len(scene.things) for predicate in PREDICATES}
        for number, thing in enumerate(scene.things):
            for word in (thing.size, thing.color, thing.shape):
                self.words[word] |= 1 << number
            for anchor, other in enumerate(scene.things):
                if anchor != number:
                    self.related[relation(thing.box, other.box)][anchor] |= 1 << number
                    if is_clear(thing.box, other.box):
                        self.clear[anchor] |= 1 << number
        self.names = [self._unique(number) for number in range(len(scene.things))]

    def fitting(self, description: Description) -> int:
        """The objects that fit."""
        size, color, shape = description
        return self.words[size] & self.words[color] & self.words[shape]

    def _unique(self, number: int) -> list[Description]:
        alone = 1 << number
        return [part for part in parts_of(self.things[number]) if self.fitting(part) == alone]

    def clear_pairs(self) -> list[tuple[int, str, int]]:
        """All (object, predicate, anchor) on which people would agree."""
        numbers = range(len(self.things))
        return [
            (number, relation(self.things[number].box, self.things[anchor].box), anchor)
            for anchor in numbers
            for number in numbers
            if self.clear[anchor] >> number & 1
        ]

    def told_apart(self, number: int, predicate: str, anchor: int) -> list[Description]:
        """Descriptions that only this object fits among those so related to the anchor.

        Another object that fits must not lie near a diagonal of the anchor either.
        """
        alone = 1 << number
        unclear = self.everything & ~self.clear[anchor] & ~(1 << anchor)
        rivals = (self.related[predicate][anchor] | unclear) & ~alone
        return [part for part in parts_of(self.things[number]) if not self.fitting(part) & rivals]


def parts_of(thing: Thing) -> list[Description]:
    """Every description that fits, from "thing" to "small red circle"; short ones first."""
    parts = [
        (size, color, shape)
        for size in (None, thing.size)
        for color in (None, thing.color)
        for shape in (None, thing.shape)
    ]
    return sorted(parts, key=length)


def length(description: Description) -> int:
    """How many aspects it names."""
    return 3 - description.count(None)


def pick(items: list[T] | tuple[T, ...], rng: np.random.Generator) -> T:
    """One of them, all equally likely."""
    return items[int(rng.integers(len(items)))]


def pick_name(names: list[Description], rng: np.random.Generator) -> Description:
    """Mostly one that names no more than needed, sometimes any."""
    if rng.random() < 0.2:
        return pick(names, rng)
    return pick([name for name in names if not any(_says_less(less, name) for less in names)], rng)


def _says_less(less: Description, more: Description) -> bool:
    return less != more and all(a in (None, b) for a, b in zip(less, more, strict=True))


def say(description: Description, rng: np.random.Generator, plural: bool = False) -> str:
    """The words without an article, as "small red circle" or "large objects"."""
    size, color, shape = description
    noun = shape or pick(("thing", "object"), rng)
    if plural:
        noun += "es" if noun.endswith("s") else "s"
    return " ".join(word for word in (size, color, noun) if word)


def with_article(words: str) -> str:
    """Put "a" or "an" before the words."""
    return ("an " if words[0] in "aeiou" else "a ") + words


def say_predicate(predicate: str, rng: np.random.Generator) -> str:
    """Say "left of" or "to the left of"; "above" and "below" have one wording."""
    if predicate in ("left of", "right of") and rng.random() < 0.4:
        return f"to the {predicate}"
    return predicate


def write_expressions(
    lookup: Lookup, rng: np.random.Generator, targets: int = 3, sentences: int = 2
) -> list[tuple[int, list[str]]]:
    """Expressions that single out an object: by itself, by one relation, or by two.

    Returns:
        Up to ``targets`` pairs of an object's number and its different expressions.
    """
    pairs = lookup.clear_pairs()
    referred = []
    for number in rng.permutation(len(lookup.things)).tolist():
        said: list[str] = []
        for _ in range(4 * sentences):
            expression = _expression(lookup, pairs, number, rng)
            if expression and expression not in said:
                said.append(expression)
            if len(said) == sentences:
                break
        if said:
            referred.append((number, said))
        if len(referred) == targets:
            break
    return referred


def _expression(
    lookup: Lookup, pairs: list[tuple[int, str, int]], number: int, rng: np.random.Generator
) -> str | None:
    """One expression of random kind; None where the drawn kind does not single it out."""
    article = pick(("", "the "), rng)
    hops = pick((0, 1, 1, 2), rng)
    if hops == 0:
        names = lookup.names[number]
        return article + say(pick_name(names, rng), rng) if names else None
    mine = [pair for pair in pairs if pair[0] == number]
    if not mine:
        return None
    _, predicate, anchor = pick(mine, rng)
    parts = lookup.told_apart(number, predicate, anchor)
    if not parts:
        return None
    words = f"{article}{say(pick_name(parts, rng), rng)} {say_predicate(predicate, rng)} "
    if hops == 1:
        names = lookup.names[anchor]
        return f"{words}the {say(pick_name(names, rng), rng)}" if names else None
    theirs = [pair for pair in pairs if pair[0] == anchor and lookup.names[pair[2]]]
    theirs = [pair for pair in theirs if pair[2] != number and lookup.told_apart(*pair)]
    if not theirs:
        return None
    _, predicate, last = pair = pick(theirs, rng)
    middle = say(pick_name(lookup.told_apart(*pair), rng), rng)
    link = pick((" ", " that is "), rng) + say_predicate(predicate, rng)
    return f"{words}the {middle}{link} the {say(pick_name(lookup.names[last], rng), rng)}"
