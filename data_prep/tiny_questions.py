"""Questions about the scenes of the tiny world, and how ten people would answer them.

Every picture offers all its possible questions as candidates; the one whose answer the split has
used least is asked, so that knowing the question's kind says little about the answer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from data_prep.tiny_language import (
    ASPECTS,
    DESCRIPTIONS,
    NUMBER_WORDS,
    Description,
    Lookup,
    length,
    pick,
    pick_name,
    say,
    say_predicate,
    with_article,
)
from data_prep.tiny_scenes import PREDICATES, SHAPES, Scene, generator

RIGHT_SHARE = 0.93  # how often an annotator is right
LEAST_RIGHT = 6  # of ten: 4 give the right answer its full score, 6 make it the majority
ODD_SPELLING = 0.03  # how often an annotator writes "two" or "Red."; at most twice a question
SIMILAR = {  # the wrong answers of annotators
    "red": ("orange", "brown"),
    "orange": ("red", "yellow"),
    "yellow": ("orange", "green"),
    "green": ("blue", "yellow"),
    "blue": ("purple", "green"),
    "purple": ("blue", "red"),
    "brown": ("black", "red"),
    "black": ("brown", "blue"),
    "small": ("large",),
    "large": ("small",),
    "yes": ("no",),
    "no": ("yes",),
}


@dataclass(frozen=True)
class Candidate:
    """A question that could be asked.

    Attributes:
        content: what it asks; ``_word_*`` turns it into a sentence.
        answer: the right one.
        balance: the keys whose counts decide, most important first, which candidate is asked.
    """

    content: tuple[Any, ...]
    answer: str
    balance: tuple[Any, ...]


def write_questions(
    lookup: Lookup,
    candidates: dict[str, list[Candidate]],
    kinds: list[str],
    used: Counter,
    rng: np.random.Generator,
) -> list[tuple[str, str, str]]:
    """Ask one question of each listed kind.

    Args:
        lookup: the scene.
        candidates: what ``find_candidates`` returned for it.
        kinds: keys of ``KINDS``, repeated as often as they are to be asked.
        used: counts of the split so far; grows.
        rng: decides ties and wording.

    Returns:
        ``(kind, question, answer)`` in the order of ``kinds``.
    """
    asked: set[tuple] = set()
    questions = []
    for kind in kinds:
        fresh = [item for item in candidates[kind] if (kind, item.content) not in asked]
        chosen = _least_used(fresh or candidates[kind], kind, used, rng)
        asked.add((kind, chosen.content))
        used.update((kind, depth, key) for depth, key in enumerate(chosen.balance))
        questions.append((kind, KINDS[kind].word(lookup, chosen, rng), chosen.answer))
    return questions


def _least_used(
    candidates: list[Candidate], kind: str, used: Counter, rng: np.random.Generator
) -> Candidate:
    for depth in range(len(candidates[0].balance)):
        counts = [used[kind, depth, item.balance[depth]] for item in candidates]
        least = min(counts)
        candidates = [i for i, count in zip(candidates, counts, strict=True) if count == least]
    return pick(candidates, rng)


def find_candidates(lookup: Lookup) -> dict[str, list[Candidate]] | None:
    """All questions of each kind, or None where the scene lacks a kind or an aspect to ask for."""
    candidates = {}
    for kind, row in KINDS.items():
        candidates[kind] = row.find(lookup)
        if not candidates[kind]:
            return None
    aspects = {item.content[0] for item in candidates["attribute"]}
    return candidates if len(aspects) == len(ASPECTS) else None


def _blank(description: Description, aspect: str) -> bool:
    return description[ASPECTS.index(aspect)] is None


def _find_attribute(lookup: Lookup) -> list[Candidate]:
    """(aspect, object): another aspect or two of the object single it out."""
    return [
        Candidate((aspect, number), answer, (aspect, answer))
        for number, thing in enumerate(lookup.things)
        for aspect in ASPECTS
        if any(_blank(name, aspect) for name in lookup.names[number])
        for answer in [getattr(thing, aspect)]
    ]


def _word_attribute(lookup: Lookup, candidate: Candidate, rng: np.random.Generator) -> str:
    aspect, number = candidate.content
    names = [name for name in lookup.names[number] if _blank(name, aspect)]
    return _ask_aspect(aspect, say(pick_name(names, rng), rng), rng)


def _ask_aspect(aspect: str, named: str, rng: np.random.Generator) -> str:
    if rng.random() < 0.3:
        return f"What is the {aspect} of the {named}?"
    return f"What {aspect} is the {named}?"


def _find_relation(lookup: Lookup) -> list[Candidate]:
    """(aspect, object, predicate, anchor, description).

    The description also fits objects elsewhere, except in about one scene of five, where a relation
    that is not needed is asked too.
    """
    needed, others = [], []
    for number, predicate, anchor in lookup.clear_pairs():
        if not lookup.names[anchor]:
            continue
        for part in lookup.told_apart(number, predicate, anchor):
            elsewhere = lookup.fitting(part) & ~(1 << number) & ~(1 << anchor)
            for aspect in ASPECTS:
                if _blank(part, aspect):
                    answer = getattr(lookup.things[number], aspect)
                    item = Candidate(
                        (aspect, number, predicate, anchor, part),
                        answer,
                        (aspect, answer, (predicate, aspect)),
                    )
                    (needed if elsewhere else others).append(item)
    if lookup.scene.index % 5 == 4:
        return needed + others
    return needed


def _word_relation(lookup: Lookup, candidate: Candidate, rng: np.random.Generator) -> str:
    aspect, _, predicate, anchor, part = candidate.content
    anchor_name = say(pick_name(lookup.names[anchor], rng), rng)
    words = f"{say(part, rng)} {say_predicate(predicate, rng)} the {anchor_name}"
    return _ask_aspect(aspect, words, rng)


def _near_miss(lookup: Lookup, description: Description) -> bool:
    """Whether nothing fits but something would if one aspect were another."""
    if lookup.fitting(description):
        return False
    for place, word in enumerate(description):
        if word is not None and lookup.fitting(
            (*description[:place], None, *description[place + 1 :])
        ):
            return True
    return False


def _find_count(lookup: Lookup) -> list[Candidate]:
    """(description,): the zero ones are near misses.

    How many objects there are at all is asked in every other scene: asked more often, it would be
    nearly every question whose answer is above 6.
    """
    found = []
    for description in DESCRIPTIONS:
        if not length(description) and lookup.scene.index % 2:
            continue
        count = lookup.fitting(description).bit_count()
        if count or _near_miss(lookup, description):
            found.append(Candidate((description,), str(count), (str(count),)))
    return found


def _word_count(lookup: Lookup, candidate: Candidate, rng: np.random.Generator) -> str:
    named = say(candidate.content[0], rng, plural=True)
    return pick((f"How many {named} are there?", f"How many {named} are in the picture?"), rng)


def _find_existence(lookup: Lookup) -> list[Candidate]:
    """(description,): what is not there is a near miss; each pattern is half yes, half no."""
    found = []
    for description in DESCRIPTIONS:
        pattern = tuple(word is not None for word in description)
        if length(description) < 1 or description[1:] == (None, None):
            continue
        if lookup.fitting(description):
            found.append(Candidate((description,), "yes", ("yes", (pattern, "yes"))))
        elif _near_miss(lookup, description):
            found.append(Candidate((description,), "no", ("no", (pattern, "no"))))
    return found


def _word_existence(lookup: Lookup, candidate: Candidate, rng: np.random.Generator) -> str:
    description = candidate.content[0]
    if rng.random() < 0.3:
        return f"Are there any {say(description, rng, plural=True)}?"
    end = pick(("", " in the picture"), rng)
    return f"Is there {with_article(say(description, rng))}{end}?"


def _find_position(lookup: Lookup) -> list[Candidate]:
    """(object, predicate, anchor): the false predicate is any of the other three."""
    found = []
    for number, true, anchor in lookup.clear_pairs():
        if lookup.names[number] and lookup.names[anchor]:
            for predicate in PREDICATES:
                answer = "yes" if predicate == true else "no"
                balance = (answer, (predicate, answer))
                found.append(Candidate((number, predicate, anchor), answer, balance))
    return found


def _word_position(lookup: Lookup, candidate: Candidate, rng: np.random.Generator) -> str:
    number, predicate, anchor = candidate.content
    first = say(pick_name(lookup.names[number], rng), rng)
    second = say(pick_name(lookup.names[anchor], rng), rng)
    return f"Is the {first} {say_predicate(predicate, rng)} the {second}?"


@dataclass(frozen=True)
class Kind:
    """How the questions of one kind are found and worded, and their official answer type."""

    find: Callable[[Lookup], list[Candidate]]
    word: Callable[[Lookup, Candidate, np.random.Generator], str]
    answer_type: str


KINDS = {
    "attribute": Kind(_find_attribute, _word_attribute, "other"),
    "relation": Kind(_find_relation, _word_relation, "other"),
    "count": Kind(_find_count, _word_count, "number"),
    "existence": Kind(_find_existence, _word_existence, "yes/no"),
    "position": Kind(_find_position, _word_position, "yes/no"),
}


def kinds_of(scene: Scene, questions_per_image: int) -> list[str]:
    """The kinds asked of a picture: over the split they come in equal shares, to within one."""
    first = scene.index * questions_per_image
    names = list(KINDS)
    return [names[(first + number) % len(names)] for number in range(questions_per_image)]


def answer_by_ten(
    scene: Scene, questions: list[tuple[str, str, str]], seed: int
) -> list[list[dict[str, Any]]]:
    """The ten annotators' answers to each question, as the official file lists them."""
    rng = generator(seed, scene.split, scene.index, "annotators")
    return [_ten_answers(answer, rng) for _, _, answer in questions]


def _ten_answers(answer: str, rng: np.random.Generator) -> list[dict[str, Any]]:
    chances = rng.random((10, 4))
    right = chances[:, 0] < RIGHT_SHARE
    for annotator in rng.permutation(10):
        if right.sum() >= LEAST_RIGHT:
            break
        right[annotator] = True
    odd_left = 2
    records = []
    for annotator in range(10):
        _, odd, which, sure = chances[annotator].tolist()
        if right[annotator]:
            written, limits = answer, (0.85, 0.97)
            if odd < ODD_SPELLING and odd_left:
                written = _choice(_spellings(answer), which)
                odd_left -= 1
        else:
            written, limits = _choice(_wrong_answers(answer), which), (0.4, 0.8)
        confidence = "yes" if sure < limits[0] else "maybe" if sure < limits[1] else "no"
        records.append(
            {"answer": written, "answer_confidence": confidence, "answer_id": annotator + 1}
        )
    return records


def _choice(words: tuple[str, ...] | list[str], chance: float) -> str:
    return words[int(chance * len(words))]


def _spellings(answer: str) -> tuple[str, ...]:
    """Other ways to write it that the official normalisation folds into it."""
    if answer.isdigit():
        return NUMBER_WORDS[int(answer)], NUMBER_WORDS[int(answer)].capitalize(), answer + "."
    if answer in SHAPES:
        return f"a {answer}", answer.capitalize(), f"{answer}."
    return answer.capitalize(), f"{answer}."


def _wrong_answers(answer: str) -> tuple[str, ...] | list[str]:
    if answer.isdigit():
        return [str(near) for near in (int(answer) - 1, int(answer) + 1) if near >= 0]
    return SIMILAR.get(answer) or [shape for shape in SHAPES if shape != answer]
