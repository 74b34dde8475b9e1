"""Who is meant in a sentence: what noun phrases and pronouns name, and who does what is said."""

from __future__ import annotations

from tbkin.graphs.words import lemma
from tbkin.parsers.lexicon import AGENTIVE, ANIMATE, ASKED, PARTITIVES, RENAMED
from tbkin.parsers.spacy_tree import Word
from tbkin.parsers.verbs import verb_lemma

RELATIVE = frozenset({"WDT", "WP", "WP$"})
NOUN_LIKE = frozenset({"JJ", "JJR", "JJS", "VBG", "VBN", "CD", "RB", "FW"})
NOUN_PLACES = frozenset({"pobj", "dobj", "nsubj", "ROOT", "conj"})
DEEPEST = 6  # steps from one word to who is meant; texts that need more are no sentences


class Sentence:
    """The words of a text, and the questions that rules ask about them.

    Args:
        words: the tree, mended.
    """

    def __init__(self, words: list[Word]):
        self.words = words
        self.is_question = bool(words) and words[0].tag in ("WP", "WDT", "WRB")

    def named(self, word: Word | None, depth: int = 0) -> list[Word]:
        """The nouns that a noun phrase names: all that are coordinated, pronouns resolved."""
        if word is None or depth > DEEPEST:
            return []
        return [noun for one in word.conjuncts() for noun in self._one_named(one, depth)]

    def _one_named(self, word: Word, depth: int) -> list[Word]:
        if word.tag in RELATIVE or (word.low == "that" and not word.is_noun):
            clause = next((one for one in (word, *word.above()) if one.dep == "relcl"), None)
            return [clause.head] if clause is not None and clause.head is not None else []
        if word.tag == "PRP":
            return self._antecedent(word, depth)
        if is_mutual(word):
            return []
        if is_partitive(word):
            return self.named(word.child("prep").child("pobj"), depth + 1)
        if word.is_noun:
            return [word]
        if word.tag in NOUN_LIKE and word.dep in NOUN_PLACES and word.number >= 0:
            return [word] if word.low not in ("one", "other") else []
        return []

    def _antecedent(self, word: Word, depth: int) -> list[Word]:
        """What a pronoun stands for: the text's first noun, or whom it names by itself."""
        before = [one for one in self.words[: word.place] if one.is_noun]
        before = [one for one in before if one.dep != "pobj"] or before
        if before and depth < DEEPEST:
            return self._one_named(before[0], depth + 1)
        return [word] if word.low in RENAMED and not before else []

    def subjects(self, verb: Word, depth: int = 0) -> list[Word]:
        """Who does what a verb says."""
        if depth > DEEPEST:
            return []
        if verb.child("expl"):  # "there is a cat"
            return self.named(verb.child("attr", "dobj"), depth + 1)
        own = verb.child("nsubj", "nsubjpass")
        if own is not None:
            return self.named(own, depth + 1)
        head = verb.head
        if head is None:
            return []
        if head.is_verb:
            return self.subjects(head, depth + 1)
        if verb.dep not in ("acl", "relcl"):
            return [head] if head.is_noun else self.subjects(head, depth + 1)
        who = self._agent(verb, head, depth)
        first = who.head if who is head and who.dep == "conj" else None
        if first is not None and first.is_noun and not first.child("acl", "relcl", "prep"):
            who = first  # "a man and a woman walking": both
        return self.named(who, depth + 1)

    def _agent(self, verb: Word, noun: Word, depth: int) -> Word:
        """Who does what a participle says: not the shorts, but the man in the shorts."""
        if verb.tag != "VBG" or verb_lemma(verb.low) not in AGENTIVE:
            return noun
        if any(is_animate(one) for one in noun.conjuncts()):
            return noun
        for one in noun.above():
            if is_animate(one):
                return one
            if one.is_verb:
                who = [one for one in self.subjects(one, depth + 1) if is_animate(one)]
                return who[0] if who else noun
        return noun

    def described(self, word: Word) -> list[Word]:
        """Whom an adjective, adverb or other word without a noun of its own is said of."""
        name = word.child("nsubj", "npadvmod")
        if name is not None and name.is_noun:
            return self.named(name)
        head = word.head
        if head is None:
            return []
        if head.is_verb:
            return self.subjects(head)
        return self.named(head) if head.is_noun else []

    def owners(self, head: Word) -> list[Word]:
        """Whom a phrase is about that hangs from a word."""
        if head.is_verb:
            return self.subjects(head)
        return self.named(head) if head.is_noun else self.described(head)


def is_animate(word: Word) -> bool:
    """Whether a noun names a person or an animal."""
    return word.low in ANIMATE or lemma(word.low) in ANIMATE


def is_mutual(word: Word | None) -> bool:
    """Whether it is "each other"."""
    if word is None:
        return False
    if word.low == "other":
        return any(one.low == "each" for one in word.children)
    return word.low == "eachother"


def is_partitive(word: Word) -> bool:
    """Whether it only says how many, how much or what of what follows: "a group of birds"."""
    if word.low not in PARTITIVES and word.low not in ASKED and word.tag != "CD":
        return False
    inner = word.child("prep")
    return inner is not None and inner.low == "of" and inner.child("pobj") is not None


def is_negated(word: Word) -> bool:
    """Whether "not", "never" or their kin deny it."""
    return any(one.dep == "neg" or one.low in ("not", "never", "n't") for one in word.children)
