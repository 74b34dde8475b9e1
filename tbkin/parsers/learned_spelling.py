"""Misspelt words of captions: annotators write "palte" and mean "plate", and gold graphs say so."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_SHORTEST, _LONGEST = 4, 16
_ENDINGS = "sdyr"


class Speller:
    """``Speller(...)(word) -> word``, corrected if it is a slip of one letter, else as it was.

    Args:
        common: words that a slip may have been meant as, the most frequent first.
        known: words that are right as they are.
        table: slips seen in training -> what was meant.
    """

    def __init__(self, common: Sequence[str], known: Collection[str], table: Mapping[str, str]):
        self.rank = {word: place for place, word in enumerate(common)}
        self.known = frozenset(known)
        self.found = dict(table)
        self.table = table

    def __call__(self, word: str) -> str:
        """The word that was meant."""
        if word in self.found:
            return self.found[word]
        if word in self.rank or word in self.known:
            return word
        if not self.may_mend(word):
            return word
        close = [
            other for other in _one_letter_away(word) if other in self.rank and _slip(word, other)
        ]
        best = min(close, key=self.rank.__getitem__, default=word)
        if len(self.found) > 50_000:  # keeps memory flat on endless text
            self.found = dict(self.table)
        self.found[word] = best
        return best

    @staticmethod
    def may_mend(word: str) -> bool:
        """Whether a word is of the kind that is corrected: a few Latin letters, no more."""
        return _SHORTEST <= len(word) <= _LONGEST and word.isascii() and word.isalpha()


def _one_letter_away(word: str) -> Iterator[str]:
    """Every word that differs by one letter more, less, other or swapped, but not the first."""
    for at in range(1, len(word) + 1):
        before, after = word[:at], word[at:]
        for letter in _LETTERS:
            yield before + letter + after
            if after:
                yield before + letter + after[1:]
        if after:
            yield before + after[1:]
        if len(after) > 1:
            yield before + after[1] + after[0] + after[2:]


def _slip(word: str, other: str) -> bool:
    """Whether two close words differ by more than an ending ("mug" and "mugs" are both right)."""
    return word.rstrip(_ENDINGS) != other.rstrip(_ENDINGS)
