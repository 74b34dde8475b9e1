"""A parser that needs no model: function words and known verbs cut a sentence up (*ours*).

Between two of them stand a noun (the last word) and its attributes (the words before it);
prepositions and verbs relate the nouns to their left and right. Wrong for much of English, right
for short captions and plain questions, and always there. Its names of relations, its counts and
its negation are those of ``spacy_rules``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise

from tbkin.graphs.scene_graph import SceneGraph
from tbkin.graphs.words import lemma, lemma_of_name
from tbkin.parsers.caption_graph import CaptionGraph
from tbkin.parsers.lexicon import (
    ADJECTIVES,
    AGENTIVE,
    ANIMATE,
    ASKED,
    COLOURED,
    COLOURS,
    CONTAINERS,
    COVERING,
    GARMENTS,
    IGNORED,
    NAME_NOUNS,
    NAMING,
    OWNERS,
    PARTITIVES,
    PARTS,
    RENAMED,
    SHADES,
    SPELLINGS,
    WRITTEN_FOR,
)
from tbkin.parsers.word_chunks import ASKING, COPULAS, DESCRIBING, Chunk, cut, number_in

WORD = re.compile(r"\w+(?:'\w+)?", re.UNICODE)
STOP = re.compile(r"[.!?;]\s")


class WordRules:
    """``WordRules()(sentence) -> SceneGraph`` of words."""

    def __call__(self, sentence: str) -> SceneGraph:
        """Parse one sentence; never fails, whatever the text."""
        found = list(WORD.finditer(sentence))
        gaps = [""] + [sentence[a.end() : b.start()] for a, b in pairwise(found)]
        commas = {place for place, gap in enumerate(gaps) if ", " in gap}
        stops = {place for place, gap in enumerate(gaps) if STOP.search(gap)}
        return _Reader([match.group() for match in found], commas, stops).read()


@dataclass
class _Relation:
    """A relation that waits for its object."""

    word: int
    label: str
    subjects: list[int]
    negated: bool
    verb: str = ""  # base form, where there is a verb in it
    passive: bool = False  # "covered in": the object does it

    @property
    def denies(self) -> bool:
        """Whether the text says that it does not hold."""
        return self.negated or self.label == "without"


class _Reader:
    """Walks once through the phrases of a sentence; the arguments are those of ``cut``."""

    def __init__(self, words: list[str], commas: set[int], stops: set[int]):
        self.low = [word.lower() for word in words]
        self.graph = CaptionGraph(words)
        self.chunks = cut(self.low, commas, stops)
        self.heads: list[int] = []  # nodes of the last noun phrase and of those joined to it
        self.topic: int | None = None  # the last person or animal that was no object
        self.pending: _Relation | None = None
        self.last: _Relation | None = None  # the last relation that found its object
        self.quantity: list[tuple[int, str, str]] = []  # what "two slices of" says of the bread
        self.some: tuple[int, list[tuple[int, str, str]]] | None = None  # "two of them"
        self.share: int | None = None  # the node of these
        self.shares: set[int] = set()  # words of such nodes
        self.counting = False  # "two slices" was read, and its "of" comes
        self.part: tuple[list[int], str] | None = None  # "the leg of": waits for its owner
        self.asks = bool(self.low) and self.low[0] in COPULAS

    def read(self) -> SceneGraph:
        """The graph of the sentence."""
        for at, chunk in enumerate(self.chunks):
            before = self.chunks[at - 1].kind if at else ""
            after = self.chunks[at + 1].kind if at + 1 < len(self.chunks) else ""
            if chunk.kind == "noun":
                self._noun(chunk, before, after)
            elif chunk.kind == "verb":
                self._close_verb()
                self.pending = self._relation(chunk, self._who(chunk, before))
            elif chunk.kind == "place":
                self._place(chunk, before)
            elif chunk.kind == "stop":
                self._close_verb()
                self.heads, self.last, self.part = [], None, None
            elif chunk.kind == "pronoun":
                self._pronoun(chunk)
            elif chunk.kind == "of":
                self._of(before)
        self._close_verb()
        return self.graph.graph()

    def _relation(self, chunk: Chunk, subjects: list[int]) -> _Relation:
        verb = chunk.label if chunk.kind == "verb" else ""
        label = "wear" if verb == "dress" else chunk.label
        return _Relation(chunk.words[0], label, subjects, chunk.negated, verb)

    def _who(self, chunk: Chunk, before: str) -> list[int]:
        """Who does what a verb says: what stands before it, or the person spoken of."""
        if before == "and" and self.last is not None:
            return self.last.subjects
        animate = [node for node in self.heads if self._is_animate(node)]
        if self.topic is not None and not animate and chunk.label in AGENTIVE:
            return [self.topic]
        return list(self.heads)

    def _is_animate(self, node: int) -> bool:
        return self.graph.nodes[node].label.rpartition(" ")[2] in ANIMATE

    def _place(self, chunk: Chunk, before: str) -> None:
        pending = self.pending
        if pending is not None and pending.verb:
            if before != "verb":
                self._close_verb()
            elif pending.verb in COVERING and chunk.label in ("in", "with", "by"):
                pending.passive = True
                return
            else:
                pending.label += "" if pending.verb == "dress" else f" {chunk.label}"
                return
        chained = before == "and" and self.last is not None
        subjects = self.last.subjects if chained and self.last else list(self.heads)
        self.pending = self._relation(chunk, subjects)

    def _of(self, before: str) -> None:
        """Read "of": after a part, or in "made of"; quantities are seen to where they are read."""
        if before == "verb" and self.pending is not None and self.pending.verb == "make":
            self.pending.label = "make of"
        elif before == "noun" and self.heads and not self.counting:
            container = CONTAINERS.get(self.graph.nodes[self.heads[-1]].label)
            self.part = (list(self.heads), container or "have")

    def _pronoun(self, chunk: Chunk) -> None:
        """Take "it" for the first thing that the sentence names."""
        objects = [place for place, one in enumerate(self.graph.nodes) if one.role == "object"]
        if self.counting:
            self.some = (chunk.words[0], self.quantity)
            self.quantity, self.counting = [], False
        elif self.pending is not None and objects and objects[0] not in self.pending.subjects:
            self._relate(objects[0], chunk, "")

    def _describe_some(self, words: list[int]) -> None:
        """Read "seven of them small": "them" is another node of what was counted last."""
        some, self.some = self.some, None
        pronoun, quantity = some or (-1, [])
        counts = [int(said) for _, said, role in quantity if role == "count"]
        whole = self._counted(counts[0]) if counts else None
        if whole is None:
            return
        named = self.graph.nodes[whole]
        said = named.text or self.low[named.index]
        node = self.graph.add(pronoun, named.label, "object", said)
        for word in words:
            self._attribute(node, word, False)
        for word, said, role in quantity:
            self.graph.attribute(node, word, said, role, said if role == "attribute" else "")
        self.share = node
        self.shares.add(pronoun)

    def _counted(self, least: int) -> int | None:
        """The last thing that the text counts, if it says that they are at least so many."""
        nodes = self.graph.nodes
        for edge in reversed(self.graph.edges):
            if nodes[edge.target].role == "count" and nodes[edge.source].index not in self.shares:
                return edge.source if int(nodes[edge.target].label) >= least else None
        return None

    def _close_verb(self) -> None:
        """A verb that found no object describes its subject: "a man standing"."""
        pending, self.pending = self.pending, None
        if pending is None or not pending.verb or pending.verb == "have":
            return
        said = self.low[pending.word]
        if said.endswith("s") or pending.label != pending.verb or self.low[0] in ASKING:
            return
        for node in pending.subjects:
            self.graph.attribute(node, pending.word, said, text=said, negated=pending.negated)

    def _noun(self, chunk: Chunk, before: str, after: str) -> None:
        words = list(chunk.words)
        if before == "pronoun" and all(self.low[word] in DESCRIBING for word in words):
            another = after == "of" and number_in(self.low[words[-1]])  # "two of them red, one of"
            self._describe_some(words[:-1] if another else words)
            if another:
                self._is_quantity(words[-1:], chunk)
            return
        if after == "of" and self._is_quantity(words, chunk):
            return
        if self._is_predicate(chunk, words, before):
            share = before == "and" and self.share is not None  # "two of them large and red"
            for node in [self.share] if share else self.heads:
                for word in words:
                    self._attribute(node, word, chunk.negated)
            return
        predicate = self._split_predicate(chunk, words)
        node = self._read_noun(words, chunk)
        for word in predicate:
            self._attribute(node, word, False)
        self._relate(node, chunk, before)

    def _is_quantity(self, words: list[int], chunk: Chunk) -> bool:
        """Whether the phrase only says how much of what follows, or asks for a quality of it."""
        head = self.low[words[-1]]
        if head not in PARTITIVES and head not in ASKED and not number_in(head):
            return False
        self.counting = True
        for word in words[:-1]:
            digits = number_in(self.low[word])
            if digits:
                self.quantity.append((word, digits, "count"))
            elif self.low[word] not in IGNORED:
                self.quantity.append((word, self.low[word], "attribute"))
        if number_in(head):
            self.quantity.append((words[-1], number_in(head), "count"))
        elif PARTITIVES.get(head):
            counted = any(role == "count" for _, _, role in self.quantity)
            said = lemma(PARTITIVES[head]) if counted else PARTITIVES[head]
            self.quantity.append((words[-1], said, "attribute"))
        return True

    def _is_predicate(self, chunk: Chunk, words: list[int], before: str) -> bool:
        """Whether what follows "is" or "and" describes the subject: "the table is wooden"."""
        if not self.heads or chunk.article or before not in ("copula", "and"):
            return False
        last = self.low[words[-1]]
        if before == "and" or self.asks:
            return before == "and" and all(self.low[word] in ADJECTIVES for word in words)
        return last in ADJECTIVES or (len(words) == 1 and not last.endswith("s"))

    def _split_predicate(self, chunk: Chunk, words: list[int]) -> list[int]:
        """The adjectives that end a question: "is the circle red"."""
        found: list[int] = []
        while self.asks and chunk.article and len(words) > 1:
            if self.low[words[-1]] not in ADJECTIVES:
                break
            if self.low[words[-2]] in ADJECTIVES and not found and len(words) == 2:
                break
            found.append(words.pop())
        return found

    def _read_noun(self, words: list[int], chunk: Chunk) -> int:
        """The node of a noun phrase, with its attributes, counts and owners."""
        *before, noun = words
        name = [noun]
        owner = None
        if before and self.low[before[-1]] in OWNERS and lemma(self.low[noun]) in PARTS:
            owner = before.pop()
        while before and self._belongs_to_name(before[-1]):
            name.insert(0, before.pop())
        text = " ".join(self.low[word] for word in name)
        text = RENAMED.get(text, SPELLINGS.get(text, text))
        described = before
        for place, word in enumerate(before):
            if self.low[word].endswith("'s") or self.low[word] == "s":
                described = before[place + 1 :]
                owner = word if self.low[word] != "s" else before[place - 1] if place else None
        denied = self.pending is not None and self.pending.denies and not chunk.definite
        node = self.graph.add(
            noun, lemma_of_name(text), "object", text, negated=chunk.negated or denied
        )
        if owner is not None:
            said = self.low[owner].removesuffix("'s")
            whose = self.graph.add(owner, lemma(said), "object", said)
            self.graph.relation(-1, "have", whose, node)
        shade: list[int] = []
        for word in described:
            low = self.low[word]
            after = self.low[word + 1] if word + 1 < len(self.low) else ""
            if low in SHADES and (after in COLOURS or after in COLOURED):
                shade.append(word)
                continue
            self._attribute(node, word, False, " ".join(self.low[one] for one in shade))
            shade = []
        for word, said, role in self.quantity:
            self.graph.attribute(node, word, said, role, said if role == "attribute" else "")
        self.quantity, self.counting, self.share = [], False, None
        return node

    def _belongs_to_name(self, word: int) -> bool:
        return self.low[word] in NAME_NOUNS or self.low[word] in NAMING

    def _attribute(self, node: int, word: int, negated: bool, shade: str = "") -> None:
        low = self.low[word]
        digits = number_in(low)
        if digits:
            self.graph.attribute(node, word, digits, "count", negated=negated)
        elif low not in IGNORED and low not in COLOURED and low not in ("one", "1"):
            said = f"{shade} {low}".strip()
            said = WRITTEN_FOR.get(said, said)
            self.graph.attribute(node, word, said, text=said, negated=negated)

    def _relate(self, node: int, chunk: Chunk, before: str) -> None:
        """Give a noun its place in what has been said so far."""
        pending, self.pending = self.pending, None
        joined = before == "and"
        if self.part is not None:
            parts, label = self.part
            self.part = None
            for part in parts:
                self.graph.relation(-1, label, node, part)
            self.heads = parts
            return
        if pending is not None:
            nobody = [] if pending.verb else [None]
            for subject in pending.subjects or nobody:
                self._say(pending, subject, node)
            self.last, self.heads = pending, [node]
        elif joined and self.last is not None:
            for subject in self.last.subjects:
                self._say(self.last, subject, node)
            self.heads = [node]
        else:
            self.heads = [*self.heads, node] if joined else [node]
            if self._is_animate(node):
                self.topic = node

    def _say(self, relation: _Relation, subject: int | None, node: int) -> None:
        label = "with" if relation.label == "without" else relation.label
        head = self.graph.nodes[node].label
        if label == "in" and (head in GARMENTS or head + "s" in GARMENTS):
            label = "wear"
        ends = (node, subject) if relation.passive else (subject, node)
        self.graph.relation(relation.word, label, *ends, negated=relation.denies)
