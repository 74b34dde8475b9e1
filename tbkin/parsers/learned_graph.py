"""From the learned parser's labels of tokens and pairs to a caption graph."""

from __future__ import annotations

from dataclasses import dataclass, field

from tbkin.graphs.scene_graph import SceneGraph
from tbkin.graphs.words import lemma, lemma_of_name
from tbkin.parsers.caption_graph import CaptionGraph
from tbkin.parsers.learned_words import NUMBERS, is_word
from tbkin.parsers.verbs import verb_lemma

_NOT = frozenset({"not", "n't", "never"})
_NO = frozenset({"no", "not", "n't", "without"})
_ARTICLES = frozenset({"a", "an", "the"})
_BETWEEN = _ARTICLES | {"any"}  # may stand between a denial and what it denies


@dataclass
class Reading:
    """What a caption says, in terms of its tokens.

    Attributes:
        tokens: lower-case tokens of the caption.
        kinds: one a token: O, I (belongs to the phrase that the next token continues), E (last
            word of an entity) or A (last word of an attribute or count).
        forms: how the phrase that ends at an E or A is written: ``copy``, ``join`` (without
            spaces), ``singular``, ``plural``, or ``=`` and another text.
        owners: (attribute token, entity token).
        relations: (subject token, object token) -> (verb token or -1, rest of the label).
    """

    tokens: list[str]
    kinds: list[str]
    forms: dict[int, str] = field(default_factory=dict)
    owners: set[tuple[int, int]] = field(default_factory=set)
    relations: dict[tuple[int, int], tuple[int, str]] = field(default_factory=dict)


def graph_of(reading: Reading, written: list[str], verbs: dict[str, str]) -> SceneGraph:
    """The caption graph of a reading.

    Args:
        reading: of one caption.
        written: its tokens as written, as many as ``reading.tokens``.
        verbs: token -> base form of a verb, where rules would not find it.
    """
    tokens, kinds = reading.tokens, reading.kinds
    words: list[str] = []
    place_of: list[int] = []
    for token in written:
        place_of.append(len(words) if is_word(token) else -1)
        if place_of[-1] >= 0:
            words.append(token)
    graph = CaptionGraph(words)
    said_by = {
        ends: [verb] if verb >= 0 else _said_at(reading, *ends, rest)
        for ends, (verb, rest) in sorted(reading.relations.items())
    }
    denied = {
        ends for ends, said in said_by.items() if any(k > 0 and tokens[k - 1] in _NOT for k in said)
    }
    affirmed = {k for ends in said_by.keys() - denied for k in ends}
    absent = {k for _, k in denied if k not in affirmed and _is_indefinite(reading, k)}
    node_of: dict[int, int] = {}
    for k, kind in enumerate(kinds):
        if kind == "E":
            text = phrase_text(reading, k)
            node_of[k] = graph.add(
                place_of[k], lemma_of_name(text), "object", text,
                negated=k in absent or _denied(reading, k, _NO),
            )  # fmt: skip
    for k, owner in sorted(reading.owners):
        text = phrase_text(reading, k)
        role = "count" if text.isdecimal() else "attribute"
        graph.attribute(
            node_of[owner], place_of[k], text, role, text, negated=_denied(reading, k, _NOT)
        )
    for ends, said in said_by.items():
        subject, other = ends
        verb, rest = reading.relations[ends]
        longest = max(said, key=lambda k: len(tokens[k]), default=-1)
        graph.relation(
            place_of[longest] if said else -1,
            relation_label(tokens, verb, rest, verbs),
            node_of[subject],
            node_of[other],
            negated=ends in denied,
        )
    return graph.graph()


def _is_indefinite(reading: Reading, place: int) -> bool:
    """Whether "a", "an" or "any" opens the phrase: "not wearing a hat" tells of no hat at all."""
    at = _start(reading.kinds, place) - 1
    while at >= 0 and reading.kinds[at] in "AI":
        at -= 1
    return at >= 0 and reading.tokens[at] in ("a", "an", "any")


def join_graphs(graphs: list[SceneGraph]) -> SceneGraph:
    """One graph of the pieces of a text, in order."""
    if len(graphs) == 1:
        return graphs[0]
    nodes, edges, words = [], [], []
    for graph in graphs:
        at, before = len(nodes), len(words)
        nodes += [
            type(node)(
                node.type, node.label, node.index + before if node.index >= 0 else -1, node.role,
                text=node.text, negated=node.negated,
            )
            for node in graph.nodes
        ]  # fmt: skip
        edges += [
            type(edge)(edge.source + at, edge.predicate, edge.target + at, edge.type)
            for edge in graph.edges
        ]
        words += graph.words
    return SceneGraph(nodes, edges, words)


def phrase_text(reading: Reading, place: int) -> str:
    """The phrase that ends at a token, written as its form says."""
    tokens, kinds, form = reading.tokens, reading.kinds, reading.forms[place]
    if form.startswith("="):
        return form[1:]
    words = tokens[_start(kinds, place) : place + 1]
    while kinds[place] == "E" and len(words) > 1 and words[0] in _ARTICLES:
        words = words[1:]
    if form == "join":
        return "".join(words)
    if form == "singular":
        words = [*words[:-1], lemma(words[-1])]
    elif form == "plural":
        words = [*words[:-1], plural(words[-1])]
    elif kinds[place] == "A" and len(words) == 1:
        return NUMBERS.get(words[0], words[0])
    return " ".join(words)


def plural(word: str) -> str:
    """The regular plural of a noun."""
    if word.endswith(("s", "x", "ch", "sh")):
        return word + "es"
    if word.endswith("y") and len(word) > 1 and word[-2] not in "aeiou":
        return word[:-1] + "ies"
    return word + "s"


def relation_label(tokens: list[str], verb: int, rest: str, verbs: dict[str, str]) -> str:
    """A relation's label: the verb's base form and what follows it."""
    if verb < 0:
        return rest
    token = tokens[verb]
    return f"{verbs.get(token) or verb_lemma(token)} {rest}".strip()


def _start(kinds: list[str], place: int) -> int:
    """First token of the phrase that ends at a token."""
    while place > 0 and kinds[place - 1] == "I":
        place -= 1
    return place


def _denied(reading: Reading, place: int, by: frozenset[str]) -> bool:
    """Whether a word of denial stands before a phrase, its attributes skipped."""
    k = _start(reading.kinds, place) - 1
    while k >= 0 and (reading.kinds[k] in "AI" or reading.tokens[k] in _BETWEEN):
        k -= 1
    return k >= 0 and reading.kinds[k] == "O" and reading.tokens[k] in by


def _said_at(reading: Reading, subject: int, other: int, rest: str) -> list[int]:
    """The tokens between two entities that say a relation without a verb; none if implied."""
    low, high = sorted((subject, other))
    words = set(rest.split())
    return [
        k for k in range(low + 1, high)
        if reading.tokens[k] in words and reading.kinds[k] == "O" and is_word(reading.tokens[k])
    ]  # fmt: skip
