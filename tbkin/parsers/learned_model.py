"""The network of the learned parser: words -> labels of tokens and of pairs of phrases.

Written for batches of captions of equal length, so that there is no padding to get wrong.

Axis letters: B captions, T tokens, U different words, P pairs, D width of a token's state.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

GRAMS = 24  # character n-grams kept of a word


@dataclass
class ParserSizes:
    """Sizes of :class:`ParserNet`; stored beside the weights."""

    words: int
    vectors: int
    tags: int
    labels: int
    grams: int = 8192
    vector_width: int = 50
    word_width: int = 100
    gram_width: int = 64
    width: int = 256
    layers: int = 2
    pair_width: int = 192
    dropout: float = 0.3


def gram_rows(word: str, rows: int) -> list[int]:
    """Rows of a word's character n-grams (3 to 5 letters) in a hashed table; row 0 is padding."""
    marked = f"<{word[:20]}>"
    grams = {marked[at : at + n] for n in (3, 4, 5) for at in range(len(marked) - n + 1)}
    found = sorted(1 + zlib.crc32(gram.encode()) % (rows - 1) for gram in grams)
    return found[:GRAMS] + [0] * (GRAMS - len(found))


class ParserHeads(nn.Module):
    """Labels of tokens, and of ordered pairs of tokens.

    Args:
        states: D.
        tags: how many labels a token may have.
        labels: how many labels a pair may have.
        width: of a pair's state.
        dropout: on the states and the pairs.
    """

    def __init__(self, states: int, tags: int, labels: int, width: int, dropout: float):
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.tag = nn.Sequential(
            nn.Linear(states, width), nn.GELU(), nn.Dropout(dropout), nn.Linear(width, tags)
        )
        self.first = nn.Linear(states, width)
        self.second = nn.Linear(states, width, bias=False)
        self.between = nn.Linear(states, width, bias=False)
        self.distance = nn.Embedding(21, width)
        self.mix = nn.Linear(width, width)
        self.asks = nn.Linear(width, width)
        self.offers = nn.Linear(states, width)
        self.nobody = nn.Parameter(torch.zeros(width))
        self.heard = nn.Linear(states, width)
        self.label = nn.Linear(width, labels)

    def tags(self, states: Tensor) -> Tensor:
        """(B, T, D) -> logits (B, T, tags)."""
        return self.tag(self.dropout(states))

    def pairs(self, states: Tensor, row: Tensor, i: Tensor, j: Tensor) -> tuple[Tensor, Tensor]:
        """Label ordered pairs of tokens.

        Args:
            states: (B, T, D).
            row: (P,) caption of a pair.
            i: (P,) its first token.
            j: (P,) its second token.

        Returns:
            Label logits (P, labels), and logits (P, T + 1) of which token is the relation's verb;
            the last column stands for none.
        """
        states = self.dropout(states)
        last = states.shape[1] - 1
        low, high = torch.minimum(i, j), torch.maximum(i, j)
        sums = F.pad(self.between(states).cumsum(1), (0, 0, 1, 0))
        span = (sums[row, high] - sums[row, low + 1]) / (high - low).clamp(min=1).unsqueeze(1)
        pair = self.first(states)[row, i] + self.second(states)[row, j] + span
        pair = pair + self.distance((j - i).clamp(-10, 10) + 10)
        pair = self.dropout(F.gelu(self.mix(F.gelu(pair))))
        offers = self.offers(states)
        asks = self.asks(pair)
        verb = torch.einsum("pd,ptd->pt", asks, offers[row])
        none = asks @ self.nobody
        verb = torch.cat([verb, none.unsqueeze(1)], 1) / pair.shape[1] ** 0.5
        share = verb.softmax(1)[:, : last + 1]
        said = torch.einsum("pt,ptd->pd", share, self.heard(states)[row])
        return self.label(self.dropout(F.gelu(pair + said))), verb


class ParserNet(nn.Module):
    """Word features, a bidirectional LSTM, and :class:`ParserHeads`."""

    def __init__(self, sizes: ParserSizes):
        super().__init__()
        self.sizes = sizes
        self.words = nn.Embedding(sizes.words, sizes.word_width)
        self.vectors = nn.Embedding(sizes.vectors, sizes.vector_width)
        self.grams = nn.EmbeddingBag(sizes.grams, sizes.gram_width, mode="mean", padding_idx=0)
        inputs = sizes.word_width + sizes.vector_width + sizes.gram_width
        self.dropout = nn.Dropout(sizes.dropout)
        self.encoder = nn.LSTM(
            inputs, sizes.width, sizes.layers, bidirectional=True, batch_first=True,
            dropout=sizes.dropout,
        )  # fmt: skip
        self.heads = ParserHeads(
            2 * sizes.width, sizes.tags, sizes.labels, sizes.pair_width, sizes.dropout
        )

    def encode(self, places: Tensor, words: Tensor, vectors: Tensor, grams: Tensor) -> Tensor:
        """States of the tokens.

        Args:
            places: (B, T) which of the batch's different words stands where.
            words: (U,) row of each different word in the table of known words; 0 unknown.
            vectors: (U,) row in the table of word vectors; 0 unknown.
            grams: (U, GRAMS) rows of its character n-grams.

        Returns:
            (B, T, D)
        """
        features = torch.cat([self.words(words), self.vectors(vectors), self.grams(grams)], 1)
        return self.encoder(self.dropout(features[places]))[0]
