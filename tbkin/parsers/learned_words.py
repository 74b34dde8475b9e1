"""Words of a caption as the learned parser reads them: tokens and pieces."""

from __future__ import annotations

import re
import unicodedata

# Words keep hyphens and apostrophes inside ("t-shirt", "o'clock"), but a possessive or a
# contracted "is" stands alone, and so does "n't"; any other sign is a token of its own.
_TOKEN = re.compile(
    r"['\u2019]s\b|n['\u2019]t\b|\d+(?:[.,]\d+)+|[^\W_]+?(?=n['\u2019]t\b)"
    r"|[^\W_]+(?:[-'\u2019](?!s\b)[^\W_]+)*|\S",
    re.IGNORECASE,
)
_LONGEST = 64  # letters of a word that the network looks at

PIECE = 40  # tokens that the network reads at once; FACTUAL's longest caption has about 30
_SENTENCE_ENDS = frozenset(".!?;")

NUMBERS = {
    word: str(value)
    for value, word in enumerate(
        "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen "
        "fifteen sixteen seventeen eighteen nineteen twenty".split()
    )
}


def split_words(text: str) -> list[str]:
    """Tokens of a text as written, punctuation apart."""
    return _TOKEN.findall(text)


def plain(token: str) -> str:
    """A token without the differences that must not matter: case, Unicode form, length."""
    if token.isascii():  # nothing to normalise
        return token.lower()[:_LONGEST]
    return unicodedata.normalize("NFKC", token).replace("\u2019", "'").lower()[:_LONGEST]


def tokenize(text: str) -> list[str]:
    """Tokens of a text as the network knows them."""
    return [plain(token) for token in split_words(text)]


def is_word(token: str) -> bool:
    """Whether a token is more than punctuation."""
    return token.isalnum() or any(sign.isalnum() for sign in token)


def pieces_of(tokens: list[str]) -> list[tuple[int, int]]:
    """Cut a long text into (start, end) of at most ``PIECE`` tokens, between sentences if it can.

    A text that fits is one piece, whatever its punctuation: captions of several short sentences
    speak of the same things.
    """
    if len(tokens) <= PIECE:
        return [(0, len(tokens))] if tokens else []
    found = []
    start = 0
    while start < len(tokens):
        end = min(start + PIECE, len(tokens))
        if end < len(tokens):
            stops = [k + 1 for k in range(start, end) if tokens[k] in _SENTENCE_ENDS]
            commas = [k + 1 for k in range(start + PIECE // 2, end) if tokens[k] == ","]
            end = (stops or commas or [end])[-1]
        found.append((start, end))
        start = end
    return found
