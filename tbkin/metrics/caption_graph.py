"""How far a caption graph agrees with a gold one: set match, SPICE and F1 of its parts.

A graph is a list of facts, as ``tbkin.graphs.facts`` has them: ``(entity,)``,
``(entity, "is", attribute)`` or ``(subject, relation, object)``. Order and repetition of facts
never matter.

Sources: SPICE: Anderson et al., ECCV 2016, arXiv:1607.08822. Set match, and the protocol of
:class:`Matching` with all its parts: Li et al., "FACTUAL", Findings of ACL 2023.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

Fact = tuple[str, ...]

KINDS = {1: "entity", 2: "attribute", 3: "relation"}  # parts of a SPICE tuple -> what it says


@dataclass(frozen=True)
class Matching:
    """When two words are the same.

    Attributes:
        name: what a report calls it.
        lemma: a word's base form; every word of every fact is replaced by it before anything is
            compared. ``None``: facts are compared as written.
        synsets: names of the synonym sets of a phrase; only SPICE uses them, for tuples that are
            nowhere equal. ``None``: equal tuples only.
    """

    name: str = "exact"
    lemma: Callable[[str], str] | None = None
    synsets: Callable[[str], Collection[str]] | None = None


EXACT = Matching()


def distinct(facts: Iterable[Fact], matching: Matching = EXACT) -> set[Fact]:
    """The facts, each once, every word in the form in which it is compared.

    The word "is" stays as it is: it marks an attribute.
    """
    lemma = matching.lemma
    if lemma is None:
        return set(facts)
    return {
        tuple(
            " ".join(word if word == "is" else lemma(word) for word in part.split())
            for part in fact
        )
        for fact in facts
    }


def set_match(predicted: Iterable[Fact], gold: Iterable[Fact], matching: Matching = EXACT) -> bool:
    """Whether both graphs assert the same set of facts."""
    return distinct(predicted, matching) == distinct(gold, matching)


def spice_tuples(facts: Iterable[Fact]) -> set[Fact]:
    """A graph in SPICE's form: what there is, what it is like, how it is related.

    Returns:
        Tuples of one part (every entity that a fact names), two (entity, attribute) and three
        (subject, relation, object), each once.
    """
    tuples: set[Fact] = set()
    for fact in facts:
        if len(fact) == 3 and fact[1] == "is":
            tuples |= {(fact[0],), (fact[0], fact[2])}
        elif len(fact) == 3:
            tuples |= {(fact[0],), (fact[2],), fact}
        else:
            tuples.add(fact)
    return tuples


def spice(
    predicted: Iterable[Fact], gold: Iterable[Fact], matching: Matching = EXACT
) -> tuple[float, float, float]:
    """Precision, recall and F1 of one caption's tuples, each in [0, 1].

    Equal tuples are paired first. With ``matching.synsets`` the rest is paired after that, each
    tuple at most once, in alphabetical order, where *every* part shares a synonym set with the
    part in its place; a phrase in no synonym set shares none, not even with itself (as
    published, so "next to" pairs with "next to" in equal tuples only).

    Two empty graphs agree: 1, 1, 1 (*ours*; published code has no such case). Where only one is
    empty all three are 0.
    """
    said = spice_tuples(distinct(predicted, matching))
    true = spice_tuples(distinct(gold, matching))
    if not said and not true:
        return 1.0, 1.0, 1.0
    pairs = len(said & true)
    if matching.synsets is not None:
        pairs += _synonym_pairs(said - true, true - said, matching.synsets)
    return _rates(pairs, len(said), len(true))


class CaptionGraphScores:
    """Figures of a corpus: ``update`` with one caption after the other, then ``compute``."""

    def __init__(self, matching: Matching = EXACT):
        self.matching = matching
        self.captions = 0
        self.matched = 0
        self.spice = [0.0, 0.0, 0.0]
        self.said: Counter[str] = Counter()
        self.true: Counter[str] = Counter()
        self.both: Counter[str] = Counter()

    def update(self, predicted: Iterable[Fact], gold: Iterable[Fact]) -> None:
        """Count one caption's graph against its gold graph."""
        predicted, gold = list(predicted), list(gold)
        self.captions += 1
        self.matched += set_match(predicted, gold, self.matching)
        for place, value in enumerate(spice(predicted, gold, self.matching)):
            self.spice[place] += value
        said = spice_tuples(distinct(predicted, self.matching))
        true = spice_tuples(distinct(gold, self.matching))
        for count, tuples in ((self.said, said), (self.true, true), (self.both, said & true)):
            count.update(KINDS[len(one)] for one in tuples)

    def compute(self) -> dict[str, float]:
        """All figures, each in [0, 1].

        Returns:
            ``set_match``: share of captions. ``spice_f1``, ``spice_precision``,
            ``spice_recall``: means over captions. ``entity_f1``, ``attribute_f1``,
            ``relation_f1``: of the tuples of one, two and three parts, counted over the whole
            corpus, equal tuples only, whatever the matching; 1 where neither side has any.

        Raises:
            ValueError: no caption was counted.
        """
        if not self.captions:
            raise ValueError("there is no caption to score.")
        precision, recall, f1 = (value / self.captions for value in self.spice)
        result = {
            "set_match": self.matched / self.captions,
            "spice_f1": f1,
            "spice_precision": precision,
            "spice_recall": recall,
        }
        for kind in KINDS.values():
            none = not self.said[kind] and not self.true[kind]
            rates = _rates(self.both[kind], self.said[kind], self.true[kind])
            result[f"{kind}_f1"] = 1.0 if none else rates[2]
        return result


def _synonym_pairs(
    said: set[Fact], true: set[Fact], synsets: Callable[[str], Collection[str]]
) -> int:
    """How many tuples find a partner of synonyms, the first that is free."""
    free = [[set(synsets(part)) for part in one] for one in sorted(true)]
    pairs = 0
    for one in sorted(said):
        sets = [synsets(part) for part in one]
        for place, other in enumerate(free):
            if len(sets) == len(other) and all(
                not there.isdisjoint(here) for here, there in zip(sets, other, strict=True)
            ):
                del free[place]
                pairs += 1
                break
    return pairs


def _rates(both: int, said: int, true: int) -> tuple[float, float, float]:
    """Precision, recall and F1 from counts; 0 where there is nothing to share."""
    if not both:
        return 0.0, 0.0, 0.0
    return both / said, both / true, 2 * both / (said + true)
