"""Mends for what spaCy's parser gets wrong in captions.

Its models learn from newspapers, and captions are fragments: participles are read as main verbs,
nouns without an article as verbs. Each mend is one such error; all of them are *ours*.
"""

from __future__ import annotations

from tbkin.parsers.lexicon import COLOURS, NOUNS_IN_ING, STRANDED
from tbkin.parsers.spacy_tree import NOUN_TAGS, Word

BEFORE_NOUN = ("det", "amod", "compound", "nummod", "poss")


def mend(words: list[Word]) -> None:
    """Correct common errors of a tree in place."""
    for one in MENDS:
        for word in words:
            one(word, words)


def _neighbour(word: Word, words: list[Word], step: int) -> Word | None:
    place = word.place + step
    return words[place] if 0 <= place < len(words) else None


def _move_before(limit: Word, source: Word, target: Word) -> None:
    """Give ``target`` the children that ``source`` has before the word ``limit``."""
    for child in list(source.children):
        if child.place < limit.place and child is not target:
            child.attach(target, child.dep)


def _left_of(word: Word, words: list[Word]) -> None:
    """Mend "the square right of the cross": a square, not a "right"."""
    if word.low not in ("left", "right"):
        return
    noun, after = _neighbour(word, words, -1), _neighbour(word, words, 1)
    if noun is None or after is None or after.low != "of" or noun.number < 0:
        return
    if noun.tag in ("DT", "IN", "TO", "VBZ", "VBP", "PRP$", "CC"):
        return
    if noun.tag not in NOUN_TAGS:
        noun.tag = "NN"
    if any(one is word for one in noun.above()):
        _move_before(noun, word, noun)
        noun.attach(word.head, "attr" if word.dep in ("acomp", "advmod", "acl") else word.dep)
    word.attach(noun, "prep")
    word.tag = "RB"


def _noun_in_ing(word: Word, words: list[Word]) -> None:
    """Mend "hanging from building": a noun, unless an object follows or "is" stands before."""
    if word.low not in NOUNS_IN_ING or word.tag not in ("VBG", "VB", "VBP"):
        return
    before, after = _neighbour(word, words, -1), _neighbour(word, words, 1)
    if (after is not None and after.tag in ("DT", "PRP$")) or word.child("aux"):
        return
    word.tag = "NN"
    if before is not None and word.dep in ("pcomp", "xcomp", "acl", "advcl"):
        if before.tag in ("IN", "TO"):
            word.attach(before, "pobj")
        elif before.tag.startswith("VB"):
            word.attach(before, "dobj")


def _bare_head(word: Word, words: list[Word]) -> None:
    """Mend "the mule in a stable": what opens a caption before a preposition is a noun."""
    if word.dep != "ROOT" or word.tag not in ("JJ", "VB", "RB", "XX", "FW") or word.place > 2:
        return
    if word.low in ("next", "close"):
        return
    after = _neighbour(word, words, 1)
    if after is None or after.tag != "IN" or after.head is not word:
        return
    if not word.child("nsubj", "aux"):
        word.tag = "NN"


def _verb_after_next_to(word: Word, words: list[Word]) -> None:
    """Mend "next to log hut": the log is no verb."""
    to, close = _neighbour(word, words, -1), _neighbour(word, words, -2)
    if word.tag != "VB" or to is None or close is None or to.low != "to":
        return
    if close.low not in ("next", "close"):
        return
    word.tag = "NN"
    noun = word.child("dobj")
    if noun is not None:
        noun.attach(word.head, "pobj")
        word.attach(noun, "compound")


def _colour(word: Word, words: list[Word]) -> None:
    """Mend "grey and black cats": grey is no noun."""
    if word.low not in COLOURS or word.dep == "amod":
        return
    noun = word.child("conj")
    if noun is None or noun.tag not in NOUN_TAGS:
        return
    if not any(one.low in COLOURS for one in noun.children):
        return
    for child in list(word.children):
        if child is not noun and child.dep not in ("cc", "punct"):
            child.attach(noun, child.dep)
    noun.attach(word.head, word.dep)
    word.attach(noun, "amod")
    word.tag = "JJ"


def _have(word: Word, words: list[Word]) -> None:
    """Mend "the bowl has cherries": no auxiliary of a noun, but the verb."""
    noun = word.head
    if word.low not in ("has", "have", "had") or word.dep != "aux" or noun is None:
        return
    if noun.tag in NOUN_TAGS and noun.place > word.place:
        word.attach(noun.head, noun.dep)
        word.tag = "VBZ"
        _move_before(word, noun, word)
        noun.attach(word, "dobj")


def _glued_participle(word: Word, words: list[Word]) -> None:
    """Mend "girl holding lantern": the participle is no adjective of the lantern."""
    target = word.head
    if word.tag != "VBG" or word.dep not in ("amod", "compound") or target is None:
        return
    noun = _neighbour(word, words, -1)
    if noun is None or noun.tag not in NOUN_TAGS or target.place < word.place:
        return
    if target.head is not noun:
        if noun.head is not word and noun.head is not target:
            return
        _move_before(word, target, noun)
        _move_before(word, word, noun)
        noun.attach(target.head, target.dep)
    word.attach(noun, "acl")
    target.attach(word, "dobj")


def _noun_participle(word: Word, words: list[Word]) -> None:
    """Mend "a radio playing on a shelf": the participle was read as the noun."""
    if word.tag not in ("NN", "NNP") or not word.low.endswith("ing"):
        return
    if word.low in NOUNS_IN_ING or len(word.low) < 6:
        return
    noun, after = _neighbour(word, words, -1), _neighbour(word, words, 1)
    if noun is None or noun.tag not in NOUN_TAGS or noun.head is not word:
        return
    if after is None or after.tag not in ("IN", "DT", "RB", "RP", ".", "TO"):
        return
    noun.attach(word.head, word.dep)
    _move_before(noun, word, noun)
    word.attach(noun, "acl")
    word.tag = "VBG"


def _opening_participle(word: Word, words: list[Word]) -> None:
    """Mend "parked cars near a curb": no verb, but an adjective of the noun that follows."""
    if word.dep != "ROOT" or word.tag not in ("VBD", "VBN", "VBG") or word.place > 1:
        return
    noun = word.child("dobj")
    if noun is None or word.child("nsubj", "nsubjpass", "aux", "auxpass"):
        return
    if noun.child("det", "poss"):
        return
    noun.attach(None, "ROOT")
    for child in list(word.children):
        if child.place > noun.place:
            child.attach(noun, child.dep)
    word.attach(noun, "amod")


def _subject(word: Word, words: list[Word]) -> None:
    """Mend "goat standing in the hay": the goat is no part of a name."""
    if not word.is_verb or word.child("nsubj", "nsubjpass", "expl"):
        return
    for noun in reversed(word.children):
        if (
            noun.place < word.place
            and noun.tag in NOUN_TAGS
            and noun.dep in ("compound", "amod", "npadvmod", "nmod", "dep")
        ):
            noun.dep = "nsubj"
            for other in word.all(*BEFORE_NOUN):
                if other.place < noun.place:
                    other.attach(noun, other.dep)
            return


def _can(word: Word, words: list[Word]) -> None:
    """Mend "trash can is filled": a can."""
    if word.low == "can" and word.dep in ("nsubj", "nsubjpass", "pobj", "dobj"):
        word.tag = "NN"
        before = _neighbour(word, words, -1)
        if before is not None and before.head is word:
            before.dep = "compound"


def _verb_among_nouns(word: Word, words: list[Word]) -> None:
    """Mend "eating pizza and drinking milk": drinking goes with eating, not with pizza."""
    noun = word.head
    if word.dep != "conj" or word.tag not in ("VBG", "VBZ") or not word.child("dobj"):
        return
    if noun is not None and noun.tag in NOUN_TAGS:
        verb = next((one for one in noun.above() if one.tag.startswith("VB")), None)
        if verb is not None:
            word.attach(verb, "conj")


def _bare_relative(word: Word, words: list[Word]) -> None:
    """Mend "the sofa the cats are sitting on": of two subjects, the first is what they sit on."""
    if not word.tag.startswith("VB"):
        return
    children = [one for one in word.children if one.dep != "punct"]
    last = children[-1] if children else None
    if last is not None and (last.low not in STRANDED or last.place < word.place or last.children):
        last = None
    names = [one for one in children if one.place < word.place and one.tag in NOUN_TAGS]
    before = _neighbour(names[0], words, -1) if names else None
    if word.dep == "relcl":
        if last is not None and not word.child("dobj") and any(one.dep == "nsubj" for one in names):
            last.dep = "prep"
        return
    if len(names) == 2 and (last is not None or not word.child("dobj")):
        first, second = names
    elif len(names) == 1 and last is not None and before is not None and before.dep == "compound":
        first, second = before, names[0]  # "bench girl is sitting on"
        _move_before(first, second, first)
    else:
        return
    first.attach(word.head, word.dep)
    second.dep = "nsubj"
    word.attach(first, "relcl")
    if last is not None:
        last.dep = "prep"


MENDS = (
    _left_of, _noun_in_ing, _bare_head, _verb_after_next_to, _colour, _have, _glued_participle,
    _noun_participle, _opening_participle, _subject, _can, _verb_among_nouns, _bare_relative,
)  # fmt: skip
