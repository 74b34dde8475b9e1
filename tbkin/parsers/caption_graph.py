"""Putting a caption graph together; both rule parsers end here."""

from __future__ import annotations

from tbkin.graphs.scene_graph import Edge, Node, SceneGraph


class CaptionGraph:
    """Collects word nodes and their edges while a parser walks through a sentence.

    Args:
        words: the words of the sentence, punctuation left out.
    """

    def __init__(self, words: list[str]):
        self.words = words
        self.nodes: list[Node] = []
        self.edges: list[Edge] = []
        self.place_of_word: dict[int, int] = {}

    def add(self, word: int, label: str, role: str) -> int:
        """Add a node for word number ``word`` unless it has one; return its place."""
        if word not in self.place_of_word:
            self.place_of_word[word] = len(self.nodes)
            self.nodes.append(Node("word", label, word, role))
        return self.place_of_word[word]

    def attribute(self, owner: int, word: int, label: str, role: str = "attribute") -> None:
        """Say that word ``word`` describes (``attribute``) or counts (``count``) a node."""
        self._join(owner, "is", self.add(word, label, role), "attribute")

    def relation(self, word: int, label: str, subject: int | None, target: int | None) -> None:
        """Say that word ``word`` relates two nodes; either may be unknown."""
        place = self.add(word, label, "relation")
        if subject is not None:
            self._join(place, "subject", subject, "relation")
        if target is not None:
            self._join(place, "object", target, "relation")

    def graph(self) -> SceneGraph:
        """The finished graph."""
        return SceneGraph(self.nodes, self.edges, self.words)

    def _join(self, source: int, predicate: str, target: int, kind: str) -> None:
        edge = Edge(source, predicate, target, kind)
        if source != target and edge not in self.edges:
            self.edges.append(edge)
