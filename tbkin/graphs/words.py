"""Comparing words with labels, without any download: spelling, compounds, tables of synonyms."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from tbkin.graphs.synonyms import NOT_ITS_HEAD, first_name, is_kind_of, may_be_one, usual_spelling

GENERIC = frozenset({"thing", "object", "item", "something", "anything", "one", "stuff"})

SYNONYM = 0.95
HEAD_NOUN = 0.92  # "clock" for "alarm clock"
KIND_OF_KIND = 0.91  # "poodle" for "animal"
MAY_BE = 0.6  # "player" for "girl"

_IRREGULAR = {
    "people": "person",
    "men": "man",
    "women": "woman",
    "children": "child",
    "feet": "foot",
    "teeth": "tooth",
    "mice": "mouse",
    "knives": "knife",
    "leaves": "leaf",
    "shelves": "shelf",
    "wolves": "wolf",
    "geese": "goose",
    "sheep": "sheep",
    "buses": "bus",
}


@lru_cache(maxsize=100_000)
def lemma(word: str) -> str:
    """The singular of an English noun, lower case; other words mostly come out as they are."""
    word = word.lower()
    if word in _IRREGULAR:
        return _IRREGULAR[word]
    if len(word) > 4 and word.endswith("ies"):
        return word[:-3] + "y"
    if len(word) > 4 and word.endswith(("sses", "shes", "ches", "xes", "zes")):
        return word[:-2]
    if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")):
        return word[:-1]
    return word


def is_generic(word: str) -> bool:
    """Whether a noun names no class of its own ("thing")."""
    return lemma(word) in GENERIC


@lru_cache(maxsize=50_000)
def label_similarity(word: str, label: str) -> float:
    """How well a word names a label, by spelling and by the tables of ``graphs/synonyms.py``.

    Compounds are compared whole, then by their head noun, as ROSITA's vocabulary does it
    ("alarm clock" counts as a clock); two compounds that share no more than their head are two
    things (street sign, stop sign).

    Args:
        word: a noun or attribute of the text, or a compound ("alarm clock").
        label: name of a class or attribute; a comma joins names of one class, as in Visual Genome's
            vocabulary.

    Returns:
        1 the same, 0.95 a synonym or a kind of it, 0.92 its head noun, 0.91 a kind of a kind of it,
        0.6 what somebody does and who it may be, else 0.
    """
    said = _name(word)
    if not said.plain:
        return 0.0
    return max((_similarity(said, name) for name in _names(label)), default=0.0)


def lemma_of_name(name: str) -> str:
    """Lower case, the last word in the singular: "Alarm_Clocks" -> "alarm clock"."""
    *first, last = name.lower().replace("_", " ").split() or [""]
    return " ".join([*first, lemma(last)])


def head_noun(name: str) -> str:
    """The last word of a compound that is a kind of it: "alarm clock" -> "clock".

    Returns:
        "" where there is none: single words, and compounds that mean something else ("hot dog").
    """
    return "" if name in NOT_ITS_HEAD or " " not in name else name.rsplit(" ", 1)[1]


class _Name(NamedTuple):
    """What is worth knowing of a name before it is compared with thousands of others."""

    plain: str  # lower case, single spaces
    lemma: str
    squeezed: str  # "cell phone", "cell-phone" and "cellphone" are one word
    usual: str  # as the tables spell it
    first: str  # of its synonyms
    kind_of: dict[str, int]
    head: _Name | None  # of a compound


@lru_cache(maxsize=20_000)
def _name(name: str) -> _Name:
    plain = " ".join(name.lower().replace("_", " ").split())
    whole = lemma_of_name(name)
    squeezed, usual = whole.replace(" ", "").replace("-", ""), usual_spelling(whole)
    head = head_noun(usual)
    return _Name(
        plain,
        whole,
        squeezed,
        usual,
        first_name(usual),
        is_kind_of(usual),
        _name(head) if head else None,
    )


@lru_cache(maxsize=20_000)
def _names(label: str) -> tuple[_Name, ...]:
    return tuple(name for name in map(_name, label.split(",")) if name.plain)


def _similarity(word: _Name, label: _Name) -> float:
    if word.lemma in (label.plain, label.lemma) or word.squeezed == label.squeezed:
        return 1.0
    direct = _by_table(word, label)
    if direct:
        return direct
    if word.head and label.head:
        # Two compounds: one must be the other's tail, or the tail a synonym of the other.
        longer, shorter = sorted((word.usual, label.usual), key=len, reverse=True)
        named = word.head.first == label.first or label.head.first == word.first
        return HEAD_NOUN if named or longer.endswith(" " + shorter) else 0.0
    if label.head and " " not in word.usual:
        return HEAD_NOUN if label.head.usual == word.usual else _by_table(word, label.head)
    if word.head and " " not in label.usual:
        return HEAD_NOUN if word.head.usual == label.usual else _by_table(word.head, label)
    return 0.0


def _by_table(word: _Name, label: _Name) -> float:
    steps = word.kind_of.get(label.first, label.kind_of.get(word.first))
    if steps is not None:
        return SYNONYM if steps <= 1 else KIND_OF_KIND
    if "person" in word.kind_of and "person" in label.kind_of:
        return MAY_BE if may_be_one(word.usual, label.usual) else 0.0
    return 0.0
