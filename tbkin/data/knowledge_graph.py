"""The unified scene graph over word pieces and regions, which structural knowledge masking walks.

Source: Cui et al., "ROSITA: Enhancing Vision-and-Language Semantic Alignments via Cross- and
Intra-modal Knowledge Integration", ACM Multimedia 2021, arXiv:2108.07073. Its weights are those of
``graphs/knowledge.py`` and ``graphs/alignment.py``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from tbkin.boxes import inclusive_box_iou
from tbkin.graphs.knowledge import CooccurrencePrior, weigh_text_edges
from tbkin.graphs.scene_graph import Node, SceneGraph
from tbkin.graphs.words import is_generic

OVERLAPPING = 0.2  # IoU above which two regions have an edge (from ROSITA's code)

Pieces = tuple[int, ...]


@dataclass(frozen=True)
class ObjectWord:
    """An object that a text names.

    Attributes:
        pieces: its word pieces, of all its words ("alarm", "clock"); not empty.
        neighbours: (pieces, weight) of each attribute and relation word said of it, the weight in
            (0, 1]: ROSITA's min(5 p, 0.5) + 0.2 and min(20 p, 0.5) + 0.2.
    """

    pieces: Pieces
    neighbours: tuple[tuple[Pieces, float], ...] = ()


@dataclass(frozen=True, eq=False)
class KnowledgeGraph:
    """The unified scene graph of a text of W word pieces and a picture of R regions.

    Attributes:
        object_words: objects of the text; pieces are numbered from 0, without start and end token.
        regions: (R, R) IoU where it is above 0.2, else 0; symmetric, 0 on the diagonal.
        links: (W, R) strength of the alignment of each piece with each region, 0 where there is
            none; the pieces of a word share its row, and only object words have any.

    Raises:
        ValueError: shapes that do not fit, values out of range, a piece that is not there.
    """

    object_words: tuple[ObjectWord, ...]
    regions: np.ndarray
    links: np.ndarray

    def __post_init__(self) -> None:
        if self.links.ndim != 2 or self.regions.shape != (self.links.shape[1],) * 2:
            raise ValueError(
                "a knowledge graph needs links (pieces, regions) and regions (regions, regions), "
                f"got {self.links.shape} and {self.regions.shape}."
            )
        for name, values in (("links", self.links), ("regions", self.regions)):
            if not ((values >= 0) & (values <= 1)).all():  # also refuses NaN
                raise ValueError(f"{name} of a knowledge graph must be in [0, 1].")
        if np.diagonal(self.regions).any() or not np.array_equal(self.regions, self.regions.T):
            raise ValueError("regions of a knowledge graph must be symmetric, 0 on the diagonal.")
        for word in self.object_words:
            self._check(word)

    def _check(self, word: ObjectWord) -> None:
        groups = [word.pieces, *(pieces for pieces, _ in word.neighbours)]
        if not all(groups):
            raise ValueError(f"object word {word}: a word without pieces cannot take part.")
        for piece in (piece for pieces in groups for piece in pieces):
            if not 0 <= piece < len(self.links):
                raise ValueError(
                    f"object word {word}: piece {piece} of a text of {len(self.links)} pieces."
                )
        for _, weight in word.neighbours:
            if not 0 < weight <= 1:
                raise ValueError(f"object word {word}: weight must be in (0, 1], got {weight}.")

    @property
    def words(self) -> np.ndarray:
        """(W, W) weights of all text edges, symmetric."""
        return self.text_edges(self.object_words)

    def text_edges(self, object_words: Iterable[ObjectWord]) -> np.ndarray:
        """(W, W) weights of the edges of some object words: all pieces of both words, both ways.

        Where a pair is joined more than once, the largest weight counts (*ours*).
        """
        edges = np.zeros((len(self.links),) * 2)
        for word in object_words:
            for pieces, weight in word.neighbours:
                block = np.ix_(word.pieces, pieces)
                edges[block] = np.maximum(edges[block], weight)
        return np.maximum(edges, edges.T)


def knowledge_graph(
    scene_graph: SceneGraph,
    prior: CooccurrencePrior,
    pieces_of_word: Mapping[int, Sequence[int]],
) -> KnowledgeGraph:
    """The knowledge graph of a unified scene graph.

    Text edges are weighed by the prior, alignment is that of the graph's edges, regions overlap by
    their boxes with inclusive pixels, as ROSITA's do. An object of several words takes part with
    all of them (*ours*: "alarm" alone would give "clock" away); words without pieces (cut off, or
    not said) are left out.

    Args:
        scene_graph: picture and text, from ``graphs/build.py``; either may be missing.
        prior: how often objects have attributes and relations.
        pieces_of_word: word -> its pieces, see :func:`number_pieces`; all W pieces of the text.

    Raises:
        ValueError: pieces that are not numbered from 0 without a gap.
    """
    num_pieces = sum(map(len, pieces_of_word.values()))
    if {piece for own in pieces_of_word.values() for piece in own} != set(range(num_pieces)):
        raise ValueError(
            f"the pieces of a text's words must be numbered 0 to {num_pieces - 1}, each once, "
            f"without start and end token; got {dict(pieces_of_word)}."
        )
    graph = weigh_text_edges(scene_graph, prior)
    places = graph.of_type("word")
    words = {place: words_of(graph.nodes[place], graph.words) for place in places}
    pieces = {
        place: [tuple(pieces_of_word[word]) for word in said if pieces_of_word.get(word)]
        for place, said in words.items()
    }
    objects: dict[Pieces, dict[Pieces, float]] = {}
    for place in places:
        if graph.nodes[place].role == "object" and pieces[place]:
            objects.setdefault(_joined(pieces[place]), {})
    regions = {place: number for number, place in enumerate(graph.of_type("region"))}
    links = np.zeros((num_pieces, len(regions)))
    for edge in graph.edges:
        # A relation points to its ends, an object to its attributes; both are said of the object.
        said_of = edge.target if edge.type == "relation" else edge.source
        other = edge.source if edge.type == "relation" else edge.target
        own = _joined(pieces.get(said_of, ()))
        if graph.nodes[said_of].role != "object" or not own:
            continue
        if edge.type == "alignment" and edge.predicate == "object":
            if is_generic(graph.nodes[said_of].label):
                continue  # "things" fit every region and say nothing of any
            block = np.ix_(own, [regions[edge.target]])
            links[block] = np.maximum(links[block], edge.weight)
        elif edge.type in ("attribute", "relation"):
            for group in pieces[other]:
                if not set(group) & set(own):
                    known = objects[own].get(group, 0.0)
                    objects[own][group] = max(known, edge.weight)
    object_words = tuple(ObjectWord(own, tuple(near.items())) for own, near in objects.items())
    overlaps = _overlaps([graph.nodes[place].box for place in regions])
    return KnowledgeGraph(object_words, overlaps, links)


def number_pieces(word_ids: Sequence[int | None]) -> dict[int, list[int]]:
    """Word -> its pieces, numbered from 0 without the special tokens.

    Args:
        word_ids: of each token the word, None for a special token (a fast tokenizer's
            ``encoding.word_ids()``).
    """
    pieces: dict[int, list[int]] = {}
    for number, word in enumerate(word for word in word_ids if word is not None):
        pieces.setdefault(word, []).append(number)
    return pieces


def _joined(groups: Iterable[Pieces]) -> Pieces:
    return tuple(sorted({piece for group in groups for piece in group}))


def words_of(node: Node, words: Sequence[str]) -> list[int]:
    """The words of the text that a word node stands for: its phrase as far as it is there.

    A relation's label ends in the preposition as written ("sit on"), a compound's phrase in its
    head; the word at ``node.index`` itself may be spelt in another way than the label.
    """
    phrase = (node.text or node.label).lower().split()
    said = [word.lower() for word in words]
    for offset in range(len(phrase)):
        start = node.index - offset
        here = said[max(start, 0) : start + len(phrase)]
        if start < 0 or len(here) != len(phrase):
            continue
        if all(here[n] == phrase[n] for n in range(len(phrase)) if n != offset):
            return list(range(start, start + len(phrase)))
    found = [node.index]
    for word in phrase[1:]:  # a phrase with something in between: "sitting quietly on"
        if word not in said[found[-1] + 1 :]:
            break
        found.append(said.index(word, found[-1] + 1))
    return found


def _overlaps(boxes: Sequence[tuple[float, ...]]) -> np.ndarray:
    """(R, R) IoU above 0.2, else 0, of xyxy pixel boxes whose last pixel is theirs; no self."""
    corners = torch.tensor(boxes, dtype=torch.float64).reshape(-1, 4)
    iou = inclusive_box_iou(corners, corners).clamp(max=1.0).fill_diagonal_(0.0).numpy()
    return np.where(iou > OVERLAPPING, iou, 0.0)
