"""Synonym sets and base forms of English words, from WordNet's own files.

Nothing of WordNet is part of this package and nothing is downloaded: :func:`find_wordnet` looks
for the files where Debian and NLTK put them. Format: wndb(5WN), base forms: morphy(7WN),
both part of WordNet 3.0, Princeton University, 2006.
"""

from __future__ import annotations

import itertools
import os
import re
import zipfile
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

Folder = Path | zipfile.Path  # NLTK leaves the folder in a zip file

PARTS_OF_SPEECH = {"noun": "n", "verb": "v", "adj": "a", "adv": "r"}
FILES = tuple(name for part in PARTS_OF_SPEECH for name in (f"index.{part}", f"{part}.exc"))

# Endings that morphy takes off, and what it puts in their place.
ENDINGS: dict[str, tuple[tuple[str, str], ...]] = {
    "n": (
        ("s", ""),
        ("ses", "s"),
        ("xes", "x"),
        ("zes", "z"),
        ("ches", "ch"),
        ("shes", "sh"),
        ("men", "man"),
        ("ies", "y"),
    ),
    "v": (
        ("s", ""),
        ("ies", "y"),
        ("es", "e"),
        ("es", ""),
        ("ed", "e"),
        ("ed", ""),
        ("ing", "e"),
        ("ing", ""),
    ),
    "a": (("er", ""), ("est", ""), ("er", "e"), ("est", "e")),
    "r": (),
}
# FACTUAL's evaluator looks nouns up with NLTK, which knows one ending more.
NOUN_ENDINGS = (*ENDINGS["n"], ("ves", "f"))

MEND = (
    "Install it (Debian, Ubuntu: apt-get install wordnet-base; elsewhere: pip install nltk && "
    "python -m nltk.downloader wordnet) or name its folder: wordnet=DIR"
)


class WordNet:
    """WordNet of one folder, read whole: about 150,000 words, half a second.

    Args:
        folder: where the indexes (``index.noun`` …) and the lists of irregular forms
            (``noun.exc`` …) are; a copy without the lists would give other figures.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a line of an index is not of WordNet's form.
    """

    def __init__(self, folder: Folder):
        self.folder = folder
        self._synsets: dict[str, dict[str, tuple[str, ...]]] = {}  # part of speech -> lemma
        self._irregular: dict[str, dict[str, list[str]]] = {}
        missing = [name for name in FILES if not (folder / name).is_file()]
        if missing:
            raise FileNotFoundError(
                f"{folder} is not WordNet's folder: it has no {', '.join(missing)}. {MEND}."
            )
        for name, letter in PARTS_OF_SPEECH.items():
            self._synsets[letter] = _read_index(folder / f"index.{name}", letter)
            self._irregular[letter] = _read_irregular(folder / f"{name}.exc")
        self.synsets = lru_cache(maxsize=100_000)(self._all_synsets)
        self.noun_lemma = lru_cache(maxsize=100_000)(self._noun_lemma)

    def _all_synsets(self, phrase: str) -> frozenset[str]:
        """Every synonym set that a phrase or its base form is in, as any part of speech.

        "parked" is thus in the sets of the noun "park" too, as in the published evaluators.

        Returns:
            Names such as ``n02958343``, good within this WordNet only; empty for an unknown word.
        """
        word = "_".join(phrase.lower().split())
        forms = {word, *self._base_forms(word)}
        return frozenset(
            name
            for known in self._synsets.values()
            for form in forms
            for name in known.get(form, ())
        )

    def _noun_lemma(self, word: str) -> str:
        """The shortest base form of a noun, itself included; an unknown word as it is.

        NLTK's rule, which FACTUAL's evaluator uses for words of every kind: "glasses" becomes
        "glass", and "has" becomes "ha".
        """
        nouns = self._synsets["n"]
        forms = self._irregular["n"].get(word)
        if forms is None:
            forms = _without_ending(word, NOUN_ENDINGS)
        known = [form for form in (word, *forms) if form in nouns]
        return min(known, key=len, default=word)

    def _base_forms(self, word: str) -> list[str]:
        """Irregular base forms, else the first word that taking off an ending gives."""
        irregular = [form for known in self._irregular.values() for form in known.get(word, ())]
        if irregular or word.endswith("ss") or len(word) <= 2:
            return irregular
        forms = (form for letter in ENDINGS for form in _without_ending(word, ENDINGS[letter]))
        known = (form for form in forms if any(form in one for one in self._synsets.values()))
        return list(itertools.islice(known, 1))


INSTALLED = ("/usr/share/wordnet",)
NLTK_INSTALLED = ("~/nltk_data", "/usr/share/nltk_data", "/usr/local/share/nltk_data")


def find_wordnet(folder: str = "") -> Folder:
    """WordNet's folder.

    Args:
        folder: a folder, or NLTK's ``wordnet.zip``. Without: ``$WNSEARCHDIR``, ``$WNHOME/dict``,
            ``corpora/wordnet`` below ``$NLTK_DATA``, ``/usr/share/wordnet`` and NLTK's usual
            folders; the first that has the files.

    Raises:
        FileNotFoundError: none has them; the message says what to type.
    """
    if folder:
        found = _opened(Path(folder).expanduser())
        if found is None:
            raise FileNotFoundError(f"wordnet={folder}: no folder with {', '.join(FILES)}. {MEND}.")
        return found
    for place in _usual_places():
        found = _opened(place)
        if found is not None:
            return found
    raise FileNotFoundError(f"matching by synonyms needs WordNet, which was not found. {MEND}.")


def version_of(folder: Folder) -> str:
    """WordNet's version by the licence on top of its files, "3.0"; "" where there is none."""
    with (folder / "index.noun").open("r", encoding="utf-8") as file:
        top = "".join(itertools.takewhile(lambda line: line.startswith(" "), file))
    found = re.search(r"WordNet (\d+\.\d+)", top)
    return found[1] if found else ""


def _usual_places() -> list[Path]:
    """Places that the environment names, then those where packages put it."""
    environ = os.environ
    places = [Path(environ["WNSEARCHDIR"])] if environ.get("WNSEARCHDIR") else []
    places += [Path(environ["WNHOME"]) / "dict"] if environ.get("WNHOME") else []
    places += _of_nltk(part for part in environ.get("NLTK_DATA", "").split(os.pathsep) if part)
    places += [Path(place) for place in INSTALLED]
    return places + _of_nltk(NLTK_INSTALLED)


def _of_nltk(roots: Iterable[str]) -> list[Path]:
    corpora = [Path(root).expanduser() / "corpora" for root in roots]
    return [place / name for place in corpora for name in ("wordnet", "wordnet.zip")]


def _opened(place: Path) -> Folder | None:
    """The folder if it has the files; a zip file is looked into."""
    folder: Folder = place
    if place.suffix == ".zip" and zipfile.is_zipfile(place):
        folder = zipfile.Path(place) / "wordnet"
    return folder if all((folder / name).is_file() for name in FILES) else None


def _read_index(path: Folder, letter: str) -> dict[str, tuple[str, ...]]:
    """Lemma -> names of its synonym sets.

    A line: lemma, part of speech, number of synsets, number of pointers, the pointers, two
    counts of senses, and as many offsets as there are synsets. The licence on top is indented.
    """
    known = {}
    with path.open("r", encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            if line.startswith(" "):
                continue
            lemma, *rest = line.split()
            offsets = rest[-int(rest[1]) :] if len(rest) > 4 and rest[1].isdecimal() else []
            if not offsets or not all(offset.isdecimal() for offset in offsets):
                raise ValueError(f"{path}, line {number} is no line of a WordNet index.")
            known[lemma] = tuple(letter + offset for offset in offsets)
    return known


def _read_irregular(path: Folder) -> dict[str, list[str]]:
    """Inflected form -> its base forms: "men man"."""
    with path.open("r", encoding="utf-8") as file:
        return {form: bases for form, *bases in map(str.split, file)}


def _without_ending(word: str, endings: tuple[tuple[str, str], ...]) -> list[str]:
    return [word[: -len(ending)] + instead for ending, instead in endings if word.endswith(ending)]
