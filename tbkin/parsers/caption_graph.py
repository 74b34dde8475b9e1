"""Putting a caption graph together; every parser of ours ends here."""

from __future__ import annotations

from tbkin.graphs.scene_graph import Edge, Node, SceneGraph


class CaptionGraph:
    """Collects word nodes and their edges while a parser walks through a sentence.

    An object, an attribute and a count are one node a word, however often they are named; a
    relation is one node a triple, so that "trees and bushes growing on a lawn" keeps apart who
    grows where.

    Args:
        words: the words of the sentence, punctuation left out.
    """

    def __init__(self, words: list[str]):
        self.words = words
        self.nodes: list[Node] = []
        self.edges: list[Edge] = []
        self.place_of_word: dict[int, int] = {}
        self._joined: set[Edge] = set()

    def add(
        self, word: int, label: str, role: str, text: str = "", *, negated: bool = False
    ) -> int:
        """Add an object, attribute or count for word number ``word``, unless the word has a node.

        Args:
            word: position in ``words``; -1 for what no word says, which is always a new node.
            label: lemma of the word or phrase; the digits of a count.
            role: ``object``, ``attribute`` or ``count``.
            text: the whole phrase as written, where it is not just that word.
            negated: the text denies it.

        Returns:
            The node's place.
        """
        if word >= 0 and word in self.place_of_word:
            return self.place_of_word[word]
        place = self._new(word, label, role, text, negated)
        if word >= 0:
            self.place_of_word[word] = place
        return place

    def attribute(
        self,
        owner: int,
        word: int,
        label: str,
        role: str = "attribute",
        text: str = "",
        *,
        negated: bool = False,
    ) -> None:
        """Say that word ``word`` describes (``attribute``) or counts (``count``) a node."""
        place = self.add(word, label, role, text, negated=negated)
        self._join(owner, "is", place, "attribute")

    def relation(
        self,
        word: int,
        label: str,
        subject: int | None,
        target: int | None,
        *,
        negated: bool = False,
    ) -> None:
        """Say that word ``word`` relates two nodes; either may be unknown.

        Args:
            word: position of the phrase's content word; -1 when it is implied.
            label: lemmatised phrase, verb and preposition together ("sit in").
            subject: place of an object node.
            target: place of an object node.
            negated: the text denies it.
        """
        ends = {"subject": subject, "object": target}
        place = self._new(word, label, "relation", "", negated)
        for predicate, end in ends.items():
            if end is not None:
                self._join(place, predicate, end, "relation")

    def graph(self) -> SceneGraph:
        """The finished graph."""
        return SceneGraph(self.nodes, self.edges, self.words)

    def _new(self, word: int, label: str, role: str, text: str, negated: bool) -> int:
        said = self.words[word].lower() if word >= 0 else ""
        self.nodes.append(
            Node("word", label, word, role, text="" if text == said else text, negated=negated)
        )
        return len(self.nodes) - 1

    def _join(self, source: int, predicate: str, target: int, kind: str) -> None:
        edge = Edge(source, predicate, target, kind)
        if source != target and edge not in self._joined:
            self._joined.add(edge)
            self.edges.append(edge)
