"""Caption graphs from spaCy's dependency parse: rules of *ours* in the manner of SPICE's parser.

Nouns are objects, their modifiers attributes and counts; prepositions and verbs relate them. What
becomes a name, an attribute or a relation follows FACTUAL's annotation (``graphs/facts.py``).

The way of a sentence: ``spacy_tree`` reads spaCy's tree, ``spacy_mends`` corrects it,
``spacy_sentence`` tells who is meant, ``spacy_nouns`` reads noun phrases, ``spacy_places``
prepositions, and ``spacy_relations`` puts them together.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache
from importlib.metadata import entry_points
from typing import Any

from tbkin.graphs.scene_graph import SceneGraph
from tbkin.graphs.words import lemma_of_name
from tbkin.parsers.caption_graph import CaptionGraph
from tbkin.parsers.lexicon import ASKED, DEFINITE, NUMBERS, OPENERS, RENAMED
from tbkin.parsers.spacy_mends import mend
from tbkin.parsers.spacy_nouns import Thing, read_thing
from tbkin.parsers.spacy_relations import Relations
from tbkin.parsers.spacy_sentence import Sentence, is_partitive
from tbkin.parsers.spacy_tree import Word, read_tree

ORDER = ("trf", "lg", "md", "sm")  # spaCy's English models, best first
UNUSED = ("ner", "senter", "lemmatizer", "attribute_ruler")  # parts of a model no rule looks at
BATCH_SIZE = 256  # the fastest of 64, 256 and 1,000 on captions of six words


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
        """Parse one sentence; never fails, whatever the text."""
        text, added = framed(sentence)
        return graph_of(self.nlp(text), added)

    def many(self, sentences: Iterable[str]) -> Iterator[SceneGraph]:
        """The graph of each sentence, in order; read and parsed in batches, lazily."""
        texts = (framed(sentence) for sentence in sentences)
        for doc, added in self.nlp.pipe(texts, as_tuples=True, batch_size=BATCH_SIZE):
            yield graph_of(doc, added)


@lru_cache(maxsize=2)
def _load(name: str) -> Any:
    import spacy

    return spacy.load(name, exclude=list(UNUSED))


def framed(sentence: str) -> tuple[str, int]:
    """A sentence as spaCy reads it best, and how many tokens at its beginning are ours.

    Taggers take the bare noun that opens many captions for a verb ("towel hanging on a hook"). An
    article in front and a full stop tell them what they look at; on FACTUAL's captions
    this is worth 1.7 points of set match.
    """
    text = sentence.strip()
    if not text:
        return "", 0
    first = text.split(maxsplit=1)[0].lower()
    added = int(first.isalpha() and first not in OPENERS)
    return ("the " if added else "") + text + ("" if text[-1] in ".?!" else " ."), added


def graph_of(doc: Any, skip: int = 0) -> SceneGraph:
    """The caption graph of a parsed text.

    Args:
        doc: a ``spacy.tokens.Doc`` with tags and dependencies.
        skip: how many tokens at its beginning are not the text's.
    """
    words = read_tree(doc, skip)
    mend(words)
    sentence = Sentence(words)
    relations = Relations(sentence)
    builder = _Builder(words, _denied(relations))
    for word in words:
        if not word.is_noun or word.place in relations.unnamed or is_partitive(word):
            continue
        if not (sentence.is_question and word.low in ASKED):
            builder.node(word)
    for one in relations.remarks:
        if not (sentence.is_question and one.owner.low in ASKED):
            builder.remark(one.owner, one.word, one.text, one.role, one.negated)
    for one in relations.claims:
        ends = (one.subject, one.target)
        if not (sentence.is_question and any(end.low in ASKED for end in ends)):
            builder.graph.relation(
                one.word.number, one.label, *map(builder.node, ends), negated=one.negated
            )
    return builder.graph.graph()


def _denied(relations: Relations) -> set[int]:
    """Places of objects that the text denies: "a man without *a shirt*", but not "*the* camera"."""
    denied = {one.target.place: one.target for one in relations.claims if one.negated}
    for one in relations.claims:
        if not one.negated:
            denied.pop(one.target.place, None)
            denied.pop(one.subject.place, None)
    return {
        place
        for place, word in denied.items()
        if not any(child.low in DEFINITE or child.dep == "poss" for child in word.children)
    }


class _Builder:
    """Adds a noun phrase to the graph when something first speaks of it."""

    def __init__(self, words: list[Word], denied: set[int]):
        self.words = words
        self.graph = CaptionGraph([word.text for word in words if word.number >= 0])
        self.denied = denied
        self.places: dict[int, int] = {}  # place of the noun -> place of its node

    def node(self, word: Word) -> int:
        """The node of a noun."""
        if word.place in self.places:
            return self.places[word.place]
        thing = read_thing(word)
        text = RENAMED.get(word.low, thing.text)
        place = self.places[word.place] = self.graph.add(
            word.number,
            lemma_of_name(text),
            "object",
            text,
            negated=thing.negated or word.place in self.denied or self._is_excluded(word),
        )
        self._describe(word, thing)
        return place

    def _is_excluded(self, word: Word) -> bool:
        """Whether the noun phrase comes after "not": "a dog, not a cat"."""
        start = min([word.place, *(child.place for child in word.children)])
        return start > 0 and self.words[start - 1].low == "not"

    def remark(
        self, owner: Word, word: Word, text: str, role: str = "attribute", negated: bool = False
    ) -> None:
        """Say that a noun has an attribute or a count."""
        place = self.node(owner)
        if word.number != owner.number:
            said = text if role == "attribute" else ""
            self.graph.attribute(place, word.number, text, role, said, negated=negated)

    def _describe(self, word: Word, thing: Thing) -> None:
        place = self.places[word.place]
        for one, text in thing.attributes:
            self.remark(word, one, text)
        if thing.count is not None:
            self.remark(word, *thing.count, role="count")
        for one, name, described in thing.parts:
            part = self.graph.add(one.number, name, "object", name)
            self.graph.relation(-1, "have", place, part)
            if described.low in NUMBERS:
                self.graph.attribute(part, described.number, NUMBERS[described.low], "count")
            else:
                self.graph.attribute(part, described.number, described.low, text=described.low)
        for one, cover in thing.covers:
            self.graph.relation(one.number, "cover", self.node(cover), place)
        for owner in thing.owners:
            self.graph.relation(-1, "have", self.node(owner), place)
