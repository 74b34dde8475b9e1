"""Which stored picture an image id means: the file's stem first, then its number."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

SUFFIXES = (".jpg", ".jpeg", ".png", ".npz", ".npy", ".webp", ".bmp", ".gif")
NUMBERED = re.compile(r"(?:([A-Za-z][A-Za-z0-9]*)_(?:\w+_)?)?0*(\d+)", re.ASCII)


class StoredNames:
    """The pictures of a feature file, found by any usual spelling of their ids.

    ``COCO_val2014_000000000042``, ``42`` and ``000000000042.jpg`` mean one picture. Words that
    name a data set must agree: ``flickr30k_000000000042`` is another one.

    Args:
        keys: the ids as the file spells them.
        where: the file or folder, for errors.
    """

    def __init__(self, keys: Iterable[str], where: str | Path):
        self.where = where
        self.keys = dict.fromkeys(keys)
        self.stems: dict[str, list[str]] = {}
        self.numbers: dict[str, list[str]] = {}
        for key in self.keys:
            stem = stem_of(key)
            self.stems.setdefault(stem, []).append(key)
            number = trailing_number(stem)
            if number:
                self.numbers.setdefault(number, []).append(key)

    def __len__(self) -> int:
        return len(self.keys)

    def candidates(self, image_id: str) -> list[str]:
        """Every stored key that the id may mean; none, one, or several."""
        if image_id in self.keys:
            return [image_id]
        stem = stem_of(image_id)
        if stem in self.stems:
            return self.stems[stem]
        match = NUMBERED.fullmatch(stem)
        if not match:
            return []
        found = self.numbers.get(trailing_number(stem), [])
        return [key for key in found if _agree(match[1], stem_of(key))]

    def find(self, image_id: str) -> str:
        """The stored key of an image id.

        Raises:
            LookupError: no such picture.
            ValueError: several pictures it may mean.
        """
        found = self.candidates(str(image_id))
        if not found:
            first = next(iter(self.keys), "none")
            raise LookupError(
                f"no region features for image {image_id} in {self.where} "
                f"({len(self)} images there). Ids there look like {first!r}."
            )
        if len(found) > 1:
            raise ValueError(
                f"image {image_id} may be {', '.join(map(repr, found[:3]))} in {self.where} "
                f"({len(found)} fit); give the whole name."
            )
        return found[0]


def stem_of(name: str) -> str:
    """``val2014/COCO_val2014_42.jpg.npz`` -> ``COCO_val2014_42``; UNITER's ``nlvr2_`` goes too."""
    stem = name.replace("\\", "/").rsplit("/", 1)[-1]
    while stem.lower().endswith(SUFFIXES):
        stem = stem.rpartition(".")[0]
    return stem.removeprefix("nlvr2_")


def trailing_number(stem: str) -> str:
    """The digits at the end without leading zeros: ``img007`` -> ``7``; "" where there are none."""
    digits = stem[len(stem.rstrip("0123456789")) :]
    return digits.lstrip("0") or digits[-1:]


def image_number(path: Path) -> str:
    """The id at the end of a COCO-style name: COCO_val2014_000000000042.jpg.npz -> "42"."""
    return trailing_number(path.name.split(".")[0])


def _agree(word: str | None, stem: str) -> bool:
    """Whether a stored stem may mean the number that was asked for with this data set's word."""
    if not word:
        return True  # a bare number
    other = NUMBERED.fullmatch(stem)
    return bool(other) and (not other[1] or other[1].lower() == word.lower())
