"""Caption graphs as facts, in FACTUAL's notation: ``( man , wear , hat ) , ( hat , is , red )``.

A fact is ``(entity,)``, ``(entity, "is", attribute)`` or ``(subject, relation, object)``. Entities
are as written, number and all; relations are lemmatised, a verb and its preposition one phrase;
a count is an attribute in digits. Notation: Li et al., "FACTUAL: A Benchmark for Faithful and
Consistent Textual Scene Graph Parsing", Findings of ACL 2023.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from tbkin.graphs.scene_graph import Edge, Node, SceneGraph
from tbkin.graphs.words import lemma, lemma_of_name

Fact = tuple[str, ...]

_FACT = re.compile(r"\(([^()]*)\)")
_BETWEEN = re.compile(r",(?!\d)|(?<!\d),")  # the comma of "1,000" stands between no two parts
_UNWRITABLE = re.compile(rf"[()]|{_BETWEEN.pattern}")


def read_facts(text: str) -> list[Fact]:
    """Facts of a graph in FACTUAL's notation, each once, in order.

    Spaces round parentheses and commas may be missing: ``(man,wear,hat),(dog)``. A comma between
    two digits is part of a number.

    Raises:
        ValueError: a fact of neither one nor three parts, or text outside parentheses.
    """
    rest = _FACT.sub("", text).replace(",", "").strip()
    if rest:
        raise ValueError(
            f"{text!r} is not a list of facts such as '( man , wear , hat ) , ( dog )': "
            f"{rest!r} stands outside a fact."
        )
    facts = []
    for inside in _FACT.findall(text):
        parts = tuple(" ".join(part.split()) for part in _BETWEEN.split(inside))
        if len(parts) not in (1, 3) or not all(parts):
            raise ValueError(
                f"'({inside})' is not a fact: it needs one part, or three with ' , ' between them."
            )
        facts.append(parts)
    return list(dict.fromkeys(facts))


def write_facts(facts: Iterable[Fact]) -> str:
    """Facts in FACTUAL's notation; no fact is the empty text.

    Raises:
        ValueError: a fact that could not be read again: of neither one nor three parts, or with
            an empty part, a parenthesis, or a comma that is not between two digits.
    """
    facts = list(facts)
    for fact in facts:
        if len(fact) not in (1, 3) or not all(part == _writable(part) != "" for part in fact):
            raise ValueError(
                f"{fact!r} cannot be written as a fact: it needs one or three parts, none empty, "
                "without parentheses, without commas but in numbers, without double spaces."
            )
    return " , ".join(f"( {' , '.join(fact)} )" for fact in facts)


def facts_of(graph: SceneGraph) -> list[Fact]:
    """What a caption graph asserts, each fact once; what it denies is left out.

    A relation counts when both its ends are known. An entity is a fact of its own only when it
    is in no other. Parentheses and commas (but those of numbers) are left out of phrases, because
    the notation cannot write them; a fact of which nothing is left then is left out too.
    """
    nodes = graph.nodes
    facts: dict[Fact, None] = {}
    named: set[int] = set()  # objects that some fact names
    ends: dict[int, dict[str, int]] = {}
    for edge in graph.edges:
        if edge.type == "attribute" and nodes[edge.source].type == "word":
            if not (nodes[edge.source].negated or nodes[edge.target].negated):
                entity, said = (phrase(graph, place) for place in (edge.source, edge.target))
                facts[entity, "is", said] = None
                named.add(edge.source)
        elif edge.type == "relation" and nodes[edge.source].type == "word":
            ends.setdefault(edge.source, {})[edge.predicate] = edge.target
    for place, end in ends.items():
        if len(end) == 2 and not any(nodes[p].negated for p in (place, *end.values())):
            subject, target = end["subject"], end["object"]
            said = _writable(nodes[place].label)
            facts[phrase(graph, subject), said, phrase(graph, target)] = None
            named |= {subject, target}
    spoken = {part for fact in facts for part in (fact[0], fact[-1])}
    for place, node in enumerate(nodes):
        if node.role == "object" and not node.negated and place not in named:
            entity = phrase(graph, place)
            if entity not in spoken:
                facts[(entity,)] = None
    return [fact for fact in facts if all(fact)]


def phrase(graph: SceneGraph, place: int) -> str:
    """A word node as a fact names it: the phrase as written, or the digits of a count."""
    node = graph.nodes[place]
    if node.role == "count":
        return _writable(node.label)
    if node.text or node.index < 0:
        return _writable(node.text or node.label)
    return _writable(graph.words[node.index].lower())


def _writable(text: str) -> str:
    """A phrase without what the notation cannot write, one space between its words."""
    return " ".join(_UNWRITABLE.sub(" ", text).split())


def graph_of_facts(facts: Iterable[Fact], words: Sequence[str] = ()) -> SceneGraph:
    """A caption graph that asserts the given facts.

    Args:
        facts: see the module; equal entities are one node.
        words: of the caption, punctuation left out. An entity, attribute or relation is tied to
            the first free word that is its head (equal, or of equal lemma), else to none.
    """
    lower = [word.lower() for word in words]
    taken: set[int] = set()
    nodes: list[Node] = []
    edges: list[Edge] = []
    objects: dict[str, int] = {}

    def word_of(text: str, *, head: int) -> int:
        parts = text.split()
        wanted = parts[head] if parts else ""
        for match in (lambda word: word == wanted, lambda word: lemma(word) == lemma(wanted)):
            for place, word in enumerate(lower):
                if place not in taken and match(word):
                    taken.add(place)
                    return place
        return -1

    def new(text: str, label: str, role: str, head: int) -> int:
        index = word_of(text, head=head)
        said = lower[index] if index >= 0 else ""
        plain = text == said or (role in ("count", "relation"))
        nodes.append(Node("word", label, index, role, text="" if plain else text))
        return len(nodes) - 1

    def entity(text: str) -> int:
        if text not in objects:
            objects[text] = new(text, lemma_of_name(text), "object", -1)
        return objects[text]

    for fact in facts:
        if len(fact) == 1:
            entity(fact[0])
        elif fact[1] == "is":
            role = "count" if fact[2].isdecimal() else "attribute"
            owner = entity(fact[0])
            edges.append(Edge(owner, "is", new(fact[2], fact[2], role, -1), "attribute"))
        else:
            subject, target = entity(fact[0]), entity(fact[2])
            place = new(fact[1], fact[1], "relation", 0)
            edges.append(Edge(place, "subject", subject, "relation"))
            edges.append(Edge(place, "object", target, "relation"))
    return SceneGraph(nodes, edges, list(words))
