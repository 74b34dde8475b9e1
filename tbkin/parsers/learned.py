"""Caption graphs by a small network trained on FACTUAL (*ours*; needs no other model).

A bidirectional LSTM labels every token (entity, attribute, part of a phrase) and every pair of
phrases (whose attribute, which relation, which verb says it). Trained by
``benchmarks/train_learned_parser.py`` on data of Li et al., "FACTUAL: A Benchmark for Faithful and
Consistent Textual Scene Graph Parsing", Findings of ACL 2023.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor

from tbkin.graphs.scene_graph import SceneGraph
from tbkin.parsers.learned_graph import Reading, graph_of, join_graphs
from tbkin.parsers.learned_model import ParserHeads
from tbkin.parsers.learned_vocabulary import SHIPPED, Vocabulary, WordFeatures, load_parser_files
from tbkin.parsers.learned_words import is_word, pieces_of, plain, split_words

WINDOW = 1024  # sentences that are sorted by length together
BATCH = 256  # captions that the network reads at once
CELLS = 65_536  # pairs times tokens that the network looks at at once; bounds the memory


class LearnedParser:
    """``LearnedParser()(sentence) -> SceneGraph`` of words; many sentences at once are faster.

    Args:
        folder: of the weights; by default those in the package.

    Raises:
        FileNotFoundError: the folder lacks a file.
    """

    def __init__(self, folder: str | Path | None = None):
        self.net, self.vocabulary = load_parser_files(Path(folder) if folder else SHIPPED)
        self.features = WordFeatures(self.vocabulary, self.net.sizes.grams)

    def __call__(self, sentence: str) -> SceneGraph:
        """Parse one sentence; never fails, whatever the text."""
        return next(self.many([sentence]))

    def many(self, sentences: Iterable[str]) -> Iterator[SceneGraph]:
        """The graph of each sentence, in order; reads ``WINDOW`` sentences ahead."""
        waiting = iter(sentences)
        while window := list(islice(waiting, WINDOW)):
            yield from self._parse(window)

    def _parse(self, sentences: list[str]) -> list[SceneGraph]:
        written = [split_words(sentence) for sentence in sentences]
        pieces = [
            (number, start, end)
            for number, tokens in enumerate(written)
            for start, end in pieces_of(tokens)
        ]
        spelt = self.vocabulary.spelt
        texts = [
            [spelt(plain(token)) for token in written[number][start:end]]
            for number, start, end in pieces
        ]
        graphs: list[list[SceneGraph]] = [[] for _ in sentences]
        for (number, start, end), reading in zip(pieces, self.read(texts), strict=True):
            graphs[number].append(
                graph_of(reading, written[number][start:end], self.vocabulary.verbs)
            )
        return [join_graphs(parts) if parts else SceneGraph() for parts in graphs]

    @torch.inference_mode()
    def read(self, captions: list[list[str]]) -> list[Reading]:
        """What each list of tokens says; lists of equal length go through the network together."""
        of_length: dict[int, list[int]] = defaultdict(list)
        for number, tokens in enumerate(captions):
            of_length[len(tokens)].append(number)
        found: dict[int, Reading] = {}
        for numbers in of_length.values():
            for at in range(0, len(numbers), BATCH):
                chosen = numbers[at : at + BATCH]
                batch = [captions[number] for number in chosen]
                states = self.net.encode(*self.features(batch))
                readings = read_states(self.net.heads, self.vocabulary, states, batch)
                found.update(zip(chosen, readings, strict=True))
        return [found[number] for number in range(len(captions))]


def read_states(
    heads: ParserHeads, vocabulary: Vocabulary, states: Tensor, captions: Sequence[list[str]]
) -> list[Reading]:
    """The likeliest labels of captions of equal length.

    Every attribute gets at least one owner where there is an entity.

    Args:
        heads: of the network.
        vocabulary: names of its labels.
        states: (B, T, D).
        captions: B lists of T tokens.
    """
    tags = vocabulary.tags
    readings: list[Reading] = []
    rows: list[tuple[int, int, int, bool]] = []  # caption, first, second, whether an attribute
    for number, (tokens, best) in enumerate(
        zip(captions, heads.tags(states).argmax(-1).tolist(), strict=True)
    ):
        reading = Reading(tokens, [])
        ends: dict[str, list[int]] = {"E": [], "A": []}
        for k, tag in enumerate(best):
            kind = tags[tag][0]
            if kind in ends:
                if not is_word(tokens[k]):
                    kind = "O"
                else:
                    ends[kind].append(k)
                    reading.forms[k] = tags[tag][2:]
            reading.kinds.append(kind)
        readings.append(reading)
        for i in ends["E"]:
            rows += [(number, i, j, False) for j in ends["E"] if i != j]
            rows += [(number, i, j, True) for j in ends["A"]]
    step = max(1, CELLS // states.shape[1])
    closest: dict[tuple[int, int], tuple[float, int]] = {}  # attribute -> its likeliest owner
    for at in range(0, len(rows), step):
        _read_pairs(heads, vocabulary, states, rows[at : at + step], readings, closest)
    for (number, j), (_, i) in closest.items():
        readings[number].owners.add((j, i))
    for reading in readings:  # an attribute of nothing is not said
        owned = {place for place, _ in reading.owners}
        for k in [k for k in reading.forms if reading.kinds[k] == "A" and k not in owned]:
            del reading.forms[k]
            reading.kinds[k] = "O"
    return readings


def _read_pairs(
    heads: ParserHeads,
    vocabulary: Vocabulary,
    states: Tensor,
    rows: list[tuple[int, int, int, bool]],
    readings: list[Reading],
    closest: dict[tuple[int, int], tuple[float, int]],
) -> None:
    """Put relations and sure owners into the readings, and the likeliest owners into closest."""
    row, first, second, _ = torch.tensor(rows).unbind(1)
    labels, verbs = heads.pairs(states, row, first, second)
    owned = (labels[:, 1] - labels[:, 0]).tolist()
    labels[:, 1] = -torch.inf  # "is" is no relation
    best = labels.argmax(1).tolist()
    said = verbs[:, :-1].argmax(1).tolist()
    for at, (number, i, j, attribute) in enumerate(rows):
        if attribute:
            if owned[at] > 0:
                readings[number].owners.add((j, i))
            closest[number, j] = max(closest.get((number, j), (-torch.inf, i)), (owned[at], i))
        elif best[at]:
            label = vocabulary.labels[best[at]]
            reading = readings[number]
            if label[0] != "+":
                reading.relations[i, j] = (-1, label)
            elif reading.tokens[said[at]][0].isalpha():  # "3.5" is no verb
                reading.relations[i, j] = (said[at], label[1:])
