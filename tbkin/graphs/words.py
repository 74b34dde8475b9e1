"""Comparing words with labels, without any download.

Good for labels that questions use literally; blind to meaning beyond its short table of synonyms.
"""

from __future__ import annotations

from functools import lru_cache

GENERIC = frozenset({"thing", "object", "item", "something", "anything", "one", "stuff"})

# Groups of words that people use for one another when they talk of what a detector names.
SYNONYMS = (
    ("person", "people", "man", "woman", "boy", "girl", "guy", "lady", "child", "kid", "player"),
    ("bicycle", "bike", "cycle"),
    ("motorcycle", "motorbike"),
    ("airplane", "plane", "aeroplane", "jet"),
    ("couch", "sofa"),
    ("tv", "television", "screen", "monitor"),
    ("cell phone", "phone", "cellphone", "mobile"),
    ("dining table", "table", "desk"),
    ("potted plant", "plant"),
    ("sports ball", "ball"),
    ("car", "automobile"),
    ("refrigerator", "fridge"),
    ("teddy bear", "teddy"),
    ("large", "big", "huge"),
    ("small", "little", "tiny"),
    ("gray", "grey"),
)
_GROUP_OF = {word: number for number, group in enumerate(SYNONYMS) for word in group}

SYNONYM = 0.95
HEAD_NOUN = 0.92  # "clock" for "alarm clock"

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


@lru_cache(maxsize=100_000)
def label_similarity(word: str, label: str) -> float:
    """How well a word names a label: 1 the same, 0.95 a synonym, 0.92 its head noun, else 0."""
    if not word or not label:
        return 0.0
    word, label = lemma(word), label.lower()
    head = lemma(label.split()[-1])
    if word in (label, lemma(label)):
        return 1.0
    group = _GROUP_OF.get(word)
    if group is not None and group in (_GROUP_OF.get(label), _GROUP_OF.get(head)):
        return SYNONYM
    return HEAD_NOUN if word == head else 0.0
