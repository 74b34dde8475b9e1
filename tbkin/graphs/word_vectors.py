"""Alignment by word vectors of the user's choice: ``load_similarity("glove:glove.6B.300d.txt")``.

Vectors give the cosine, :func:`~tbkin.graphs.alignment.alignment_strength` makes a strength of it,
and the tables of ``graphs/words.py`` add what they know: names of one thing are aligned whatever
their vectors say, and two kinds of one thing (cat and dog, man and woman) never are. Attributes
are compared by the tables alone, because vectors of colours are all near one another, and because
ROSITA aligns objects only.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Protocol

import numpy as np

from tbkin.graphs.alignment import Similarity, alignment_strength
from tbkin.graphs.synonyms import NOT_ITS_HEAD, are_different
from tbkin.graphs.vector_files import ROSITA_COSINES, read_vectors
from tbkin.graphs.vector_models import EncoderVectors, SpacyVectors
from tbkin.graphs.words import head_noun, label_similarity, lemma_of_name

WEAK_COSINE, STRONG_COSINE = ROSITA_COSINES

KINDS = {
    "embedded": "spelling and tables of synonyms; nothing to install (default)",
    "glove:FILE": "GloVe or word2vec text, also .gz; or a .npy matrix with its words beside it",
    "spacy:MODEL": "vectors of an installed spaCy model, such as en_core_web_md",
    "encoder:DIR": "folder of a sentence encoder that transformers can load",
}


class WordVectors(Protocol):
    """Where vectors come from."""

    def vector(self, name: str) -> np.ndarray | None:
        """Unit vector (D,) of a lower-case word or phrase; None if there is none."""

    def describe(self) -> str:
        """What and how many they are."""


class EmbeddedSimilarity:
    """The default, which needs no download: :func:`~tbkin.graphs.words.label_similarity`.

    Measured by ``benchmarks/alignment.py`` on 1,571 noun phrases of captions that its tables were
    not written for (321 of them name a COCO class), strong alignments:

    ================================= ========= ======
    way                               precision recall
    ================================= ========= ======
    the same lemma                    100.0     10.7
    this                              95.4      80.5
    GloVe 6B, 50 numbers              61.5      40.4
    that with these tables            95.4      80.5
    all-MiniLM-L6-v2                  88.0      29.9
    that with these tables            92.4      82.5
    ================================= ========= ======

    Vectors of 50 numbers add nothing to the tables, so none are shipped. Beyond everyday things,
    where the tables know little, an encoder or long vectors have more to give.
    """

    MEASURED = (
        "tables of synonyms, no vectors; finds 81 % of what new noun phrases name among COCO's "
        "classes, and 95 % of what it finds is right"
    )

    def __call__(self, word: str, label: str) -> float:
        """Strength in [0, 1]."""
        return label_similarity(word, label)

    attribute = staticmethod(label_similarity)

    def describe(self) -> str:
        """What it is and how good."""
        return f"embedded default: {self.MEASURED} (measured by benchmarks/alignment.py)"


class VectorSimilarity:
    """Compares object words with labels by word vectors, and by the tables.

    A compound without a vector of its own is looked up by its head noun, as ROSITA's vocabulary
    does; a word without a vector is left to the tables.

    Args:
        vectors: see :class:`WordVectors`.
        weak: cosine from which on two words are aligned (strength 0.5).
        strong: cosine from which on they are strongly aligned (strength 0.9). The defaults are
            ROSITA's, made for 300-dimensional GloVe; other vectors have other scales, and their
            cosines are mapped linearly so that these two points come to lie on ROSITA's curve.
        tables: whether the tables of synonyms have their say as well (*ours*); False is ROSITA's
            comparison.

    Raises:
        ValueError: not -1 <= weak < strong <= 1.
    """

    def __init__(
        self,
        vectors: WordVectors,
        weak: float = WEAK_COSINE,
        strong: float = STRONG_COSINE,
        tables: bool = True,
    ):
        if not -1 <= weak < strong <= 1:
            raise ValueError(
                f"cosines must be -1 <= weak < strong <= 1, got weak={weak}, strong={strong}."
            )
        self.vectors = vectors
        self.weak, self.strong, self.tables = weak, strong, tables
        self._scale = (STRONG_COSINE - WEAK_COSINE) / (strong - weak)
        # Bounded, so that memory stays flat; what captions speak of recurs.
        self._vector = lru_cache(maxsize=5_000)(vectors.vector)
        self._cached = lru_cache(maxsize=50_000)(self._compare)

    def __call__(self, word: str, label: str) -> float:
        """Strength in [0, 1]; 0 below 0.5."""
        return self._cached(word, label)

    attribute = staticmethod(label_similarity)

    def cosine(self, word: str, label: str) -> float | None:
        """Of two names, each looked up whole or else by its head noun; None without vectors."""
        found, other = self._look_up(word), self._look_up(label)
        if found is None or other is None or (found[1] and other[1]):
            return None  # two compounds known by their heads only may be two things
        return float(found[0] @ other[0])

    def describe(self) -> str:
        """What is compared, and from which cosines on."""
        return (
            f"{self.vectors.describe()}; aligned from cosine {self.weak:g}, strongly from "
            f"{self.strong:g}{', with tables of synonyms' if self.tables else ''}"
        )

    def _compare(self, word: str, label: str) -> float:
        known = label_similarity(word, label) if self.tables else 0.0
        if known >= 1:
            return known
        word = lemma_of_name(word)
        names = [lemma_of_name(part) for part in label.split(",") if part.strip()]
        return max([known, *(self._strength(word, name) for name in names if word)])

    def _strength(self, word: str, name: str) -> float:
        if self.tables and are_different(head_noun(word) or word, head_noun(name) or name):
            return 0.0
        cosine = self.cosine(word, name)
        if cosine is None:
            return 0.0
        return alignment_strength(min(1.0, WEAK_COSINE + (cosine - self.weak) * self._scale))

    def _look_up(self, name: str) -> tuple[np.ndarray, bool] | None:
        """(vector, whether it is only the head noun's)."""
        for spelling in dict.fromkeys((name, name.replace(" ", "_"), name.replace(" ", "-"))):
            vector = self._vector(spelling)
            if vector is not None:
                return vector, False
        if " " not in name or name in NOT_ITS_HEAD:
            return None
        vector = self._vector(head_noun(name))
        return None if vector is None else (vector, True)


def load_similarity(
    source: str = "embedded", weak: float | None = None, strong: float | None = None
) -> Similarity:
    """The similarity that a setting names; see ``KINDS``.

    Args:
        source: such as "embedded", "glove:vectors/glove.6B.300d.txt", "spacy:en_core_web_md".
        weak: cosine from which on two words are aligned; None: what suits the vectors.
        strong: likewise strongly aligned.

    Raises:
        ValueError, FileNotFoundError: an unknown kind, or vectors that cannot be had.
    """
    kind, _, name = source.partition(":")
    if source == "embedded":
        if weak is not None or strong is not None:
            raise ValueError("vectors=embedded has no cosines; weak and strong are for the others.")
        return EmbeddedSimilarity()
    if not name or kind not in ("glove", "spacy", "encoder"):
        raise ValueError(f"vectors={source!r} is unknown; choose from: {', '.join(KINDS)}.")
    vectors: WordVectors
    if kind == "glove":
        vectors = read_vectors(name)
    elif kind == "spacy":
        vectors = SpacyVectors(name)
    else:
        vectors = EncoderVectors(name)
    usual = getattr(vectors, "cosines", (WEAK_COSINE, STRONG_COSINE))
    return VectorSimilarity(
        vectors, usual[0] if weak is None else weak, usual[1] if strong is None else strong
    )
