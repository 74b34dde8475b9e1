"""Caption graphs from spaCy's dependency parse: rules of *ours* in the manner of SPICE's parser.

Nouns are objects, their modifiers attributes and counts; prepositions and verbs relate them.
"""

from __future__ import annotations

from functools import lru_cache
from importlib.metadata import entry_points
from typing import Any

from tbkin.graphs.scene_graph import SceneGraph
from tbkin.graphs.words import lemma
from tbkin.parsers.caption_graph import CaptionGraph
from tbkin.parsers.word_rules import ASKED, RELATIONS

ORDER = ("trf", "lg", "md", "sm")  # spaCy's English models, best first


def installed_model() -> str | None:
    """Name of the best spaCy English model that is installed, or None. Does not import spaCy."""
    names = [point.name for point in entry_points(group="spacy_models")]
    english = [name for name in names if name.startswith("en_")]
    ranks = {name: min((ORDER.index(size) for size in ORDER if f"_{size}" in name), default=9)
             for name in english}  # fmt: skip
    return min(english, key=lambda name: (ranks[name], name), default=None)


class SpacyRules:
    """``SpacyRules()(sentence) -> SceneGraph`` of words.

    Args:
        model: name of an installed spaCy model; by default the best English one there is.

    Raises:
        ValueError: no model is installed.
    """

    def __init__(self, model: str | None = None):
        name = model or installed_model()
        if name is None:
            raise ValueError(
                "parser spacy_rules needs a spaCy English model and none is installed; install "
                "one (python -m spacy download en_core_web_sm) or set data.parser=word_rules."
            )
        self.nlp = _load(name)

    def __call__(self, sentence: str) -> SceneGraph:
        """Parse one sentence."""
        return _graph_of(self.nlp(sentence))


@lru_cache(maxsize=2)
def _load(name: str) -> Any:
    import spacy

    return spacy.load(name, exclude=["ner"])


def _graph_of(doc: Any) -> SceneGraph:
    tokens = [token for token in doc if not (token.is_punct or token.is_space)]
    place = {token.i: number for number, token in enumerate(tokens)}
    graph = CaptionGraph([token.text for token in tokens])
    phrases = _relation_phrases(tokens)
    in_phrase = {token.i for span, _ in phrases for token in span}

    nodes: dict[int, int] = {}  # token -> node
    for token in tokens:
        if _is_object(token) and token.i not in in_phrase:
            nodes[token.i] = graph.add(place[token.i], lemma(token.text), "object")
    for token in tokens:
        owner = _owner(token)
        if token.i in in_phrase or token.i in nodes or owner is None or owner.i not in nodes:
            continue
        role = "count" if token.dep_ == "nummod" else "attribute"
        graph.attribute(nodes[owner.i], place[token.i], token.lower_, role)

    for span, label in phrases:
        subject, target = _ends(span)
        if target is None or target.i not in nodes:
            continue
        word = max(span, key=lambda token: len(token.text))
        graph.relation(
            place[word.i], label, None if subject is None else nodes.get(subject.i), nodes[target.i]
        )
    for token in tokens:
        if token.pos_ == "VERB" and token.i not in in_phrase:
            subject, target = _child(token, "nsubj"), _child(token, "dobj")
            if subject is None and token.dep_ == "acl":
                subject = token.head
            if subject is not None and target is not None and {subject.i, target.i} <= set(nodes):
                graph.relation(place[token.i], token.lemma_, nodes[subject.i], nodes[target.i])
    return graph.graph()


def _is_object(token: Any) -> bool:
    """A noun that names something, not a part of a compound and not what a question asks for."""
    if token.pos_ not in ("NOUN", "PROPN") or token.dep_ == "compound":
        return False
    return token.lower_ not in ASKED


def _owner(token: Any) -> Any | None:
    """The noun that an attribute or a count belongs to."""
    if token.dep_ in ("amod", "nummod", "compound") and token.lower_ != "many":
        return token.head
    if token.dep_ == "acomp":  # "the circle is red"
        return _child(token.head, "nsubj")
    return None


def _relation_phrases(tokens: list[Any]) -> list[tuple[list[Any], str]]:
    """Runs of tokens that form a relation of the table, or a preposition of their own."""
    found, place = [], 0
    while place < len(tokens):
        length, label = 1, ""
        for pattern, name in RELATIONS:
            run = tokens[place : place + len(pattern)]
            if tuple(token.lower_ for token in run) == pattern:
                length, label = len(pattern), name
                break
        if not label and tokens[place].dep_ == "prep" and tokens[place].lower_ != "of":
            label = tokens[place].lower_
        if label:
            found.append((tokens[place : place + length], label))
        place += length
    return found


def _ends(span: list[Any]) -> tuple[Any | None, Any | None]:
    """Subject and object of a relation phrase: the noun it hangs from, and the one it governs."""
    inside = {token.i for token in span}
    target = next(
        (child for token in reversed(span) for child in token.children
         if child.i not in inside and child.dep_ in ("pobj", "dobj", "npadvmod")),
        None,
    )  # fmt: skip
    top = span[0]
    while top.i in inside and top.head.i != top.i:  # the root is its own head
        top = top.head
    if top.i in inside:
        return None, target
    if top.pos_ in ("AUX", "VERB"):
        subject = _child(top, "nsubj") or _child(top, "attr")
        if subject is None and top.dep_ in ("acl", "relcl"):
            subject = top.head
        return subject, target
    return top, target


def _child(token: Any, relation: str) -> Any | None:
    return next((child for child in token.children if child.dep_.startswith(relation)), None)
