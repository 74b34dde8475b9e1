"""A parser that needs no model: function words cut a sentence into noun phrases (*ours*).

Between two function words stand a noun (the last word) and its attributes (the words before it);
a preposition between two noun phrases relates them. Wrong for much of English, right for short
captions and questions, and always there.
"""

from __future__ import annotations

import re

from tbkin.graphs.scene_graph import SceneGraph
from tbkin.graphs.words import lemma
from tbkin.parsers.caption_graph import CaptionGraph

WORD = re.compile(r"\w+(?:'\w+)?", re.UNICODE)

# Longest first: the words of a relation, and the name that the graph gives it.
RELATIONS: tuple[tuple[tuple[str, ...], str], ...] = (
    (("to", "the", "left", "of"), "left of"),
    (("to", "the", "right", "of"), "right of"),
    (("on", "the", "left", "of"), "left of"),
    (("on", "the", "right", "of"), "right of"),
    (("on", "top", "of"), "on top of"),
    (("in", "front", "of"), "in front of"),
    (("left", "of"), "left of"),
    (("right", "of"), "right of"),
    (("next", "to"), "next to"),
    (("close", "to"), "near"),
    *(
        ((word,), word)
        for word in (
            "above", "below", "over", "under", "beneath", "underneath", "beside", "near", "behind",
            "inside", "in", "on", "at", "by", "with", "wearing", "holding", "riding", "eating",
        )
    ),
)  # fmt: skip

NUMBERS = frozenset("one two three four five six seven eight nine ten".split())
FUNCTION_WORDS = frozenset(
    """a an the this that these those some any no every each all both
    is are was were be been being do does did has have had can could will would should may might
    there here it its he she his her their they we you your i my
    what which who whom whose where when why how many much
    and or but if of to from for as not than then so very too also
    """.split()
)
ASKED = frozenset({"color", "colour", "shape", "size", "kind", "type", "number", "time"})


class WordRules:
    """``WordRules()(sentence) -> SceneGraph`` of words."""

    def __call__(self, sentence: str) -> SceneGraph:
        """Parse one sentence; never fails, whatever the text."""
        words = WORD.findall(sentence)
        lower = [word.lower() for word in words]
        graph = CaptionGraph(words)
        phrase: list[int] = []
        head: int | None = None  # node of the last noun phrase
        pending: tuple[int, str, int | None] | None = None  # a relation that waits for its object

        def close() -> None:
            nonlocal head, pending
            if not phrase:
                return
            *before, noun = phrase
            phrase.clear()
            head = graph.add(noun, lemma(lower[noun]), "object")
            for word in before:
                role = "count" if lower[word] in NUMBERS else "attribute"
                graph.attribute(head, word, lower[word], role)
            if pending is not None:
                word, label, subject = pending
                graph.relation(word, label, subject, head)
                pending = None

        place = 0
        while place < len(words):
            relation = _relation_at(lower, place)
            if relation is not None:
                length, label = relation
                close()
                # The content word of "to the left of" is "left"; single words are themselves.
                offset = max(range(length), key=lambda k: len(lower[place + k]))
                pending = (place + offset, label, head)
                place += length
                continue
            if lower[place] in FUNCTION_WORDS or lower[place] in ASKED:
                close()
            else:
                phrase.append(place)
            place += 1
        close()
        return graph.graph()


def _relation_at(lower: list[str], place: int) -> tuple[int, str] | None:
    """(number of words, name) of the relation that starts at a word, if one does."""
    for pattern, label in RELATIONS:
        if tuple(lower[place : place + len(pattern)]) == pattern:
            return len(pattern), label
    return None
