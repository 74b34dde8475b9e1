"""Relations of a dependency tree: prepositions, verbs, and the two together."""

from __future__ import annotations

from dataclasses import dataclass

from tbkin.graphs.words import lemma
from tbkin.parsers.lexicon import (
    ASKED,
    CONTAINERS,
    COVERING,
    GARMENTS,
    HAD_WITH,
    HELD_IN,
    MOTION,
    NUMBERS,
    PARTICLES,
    PARTITIVES,
    PATHS,
    PERCEIVING,
    RESTING,
    STATES,
    WORN_WITH,
)
from tbkin.parsers.spacy_nouns import adjective, read_thing
from tbkin.parsers.spacy_places import Place, find_places
from tbkin.parsers.spacy_sentence import (
    Sentence,
    is_animate,
    is_mutual,
    is_negated,
    is_partitive,
)
from tbkin.parsers.spacy_tree import Word
from tbkin.parsers.verbs import verb_lemma


@dataclass
class Claim:
    """One noun is said to stand in a relation to another; ``word`` says so."""

    subject: Word
    word: Word
    label: str
    target: Word
    negated: bool = False


@dataclass
class Remark:
    """A noun is said to have an attribute or a count (then ``text`` is in digits)."""

    owner: Word
    word: Word
    text: str
    role: str = "attribute"
    negated: bool = False


class Relations:
    """What a sentence claims beyond its noun phrases.

    Args:
        sentence: whose words to read.

    Attributes:
        claims: relations, in no order.
        remarks: attributes and counts from outside the noun phrase.
        unnamed: places of nouns that are no object of their own ("the *top* of a hill").
    """

    def __init__(self, sentence: Sentence):
        self.sentence = sentence
        self.claims: list[Claim] = []
        self.remarks: list[Remark] = []
        self.unnamed: set[int] = set()
        self._read: set[int] = set()  # places of prepositions that are accounted for

        words = sentence.words
        places = find_places(words)
        spans = {word.place for place in places for word in place.words}
        self.unnamed |= spans
        of_verb: dict[int, list[Place]] = {}
        of_word = {word.place: place for place in places for word in place.words}
        for place in places:
            head = place.governor
            if head is not None and place.words[0].dep == "conj":
                over = head if head.place in of_word else head.head
                if over is not None and over.place in of_word:
                    head = of_word[over.place].governor  # "below a star and right of a cross"
            if head is None:
                continue
            if place.is_whereabouts:
                self._whereabouts(place, head)
                continue
            before = words[place.words[0].place - 1]
            if place.label == "to" and before.low in ("up", "down"):
                place.label = f"{before.low} to"
            if head.tag in ("RB", "RP") and head.dep in ("advmod", "prt", "prep"):
                head = head.head or head  # "lying down on": on hangs from down
            if head.is_verb:
                of_verb.setdefault(head.place, []).append(place)
            else:
                self._noun_and_place(head, place)
        for word in words:
            if word.is_verb and word.place not in spans:
                self._verb(word, of_verb.get(word.place, []))
        self.claims = [
            one for one in self.claims if not {one.subject.place, one.target.place} & spans
        ]
        self._drop_what_is_said_twice()

    def _claim(
        self, subject: Word, word: Word, label: str, target: Word, denied: bool = False
    ) -> None:
        self.claims.append(Claim(subject, word, label, target, denied))

    def _remark(
        self, owners: list[Word], word: Word, text: str, role: str = "attribute", denied=False
    ) -> None:
        self.remarks += [Remark(owner, word, text, role, denied) for owner in owners]

    def _place_claim(self, subject: Word, place: Place, target: Word, denied: bool) -> None:
        """A preposition alone between two nouns; garments are worn, hands are had."""
        label = place.label
        if label == "in" and (target.low in GARMENTS or lemma(target.low) in GARMENTS):
            label = "wear"
        elif label == "with" and is_animate(subject):
            label = (
                "wear" if target.low in WORN_WITH else "have" if target.low in HAD_WITH else label
            )
        elif label == "without":
            label, denied = "with", True
        self._claim(subject, place.content, label, target, denied)

    def _whereabouts(self, place: Place, head: Word) -> None:
        target = place.target
        assert target is not None
        self.unnamed.add(target.place)
        words = [*place.words, *target.all("det"), target]
        self._remark(self.sentence.owners(head), target, " ".join(word.low for word in words))

    def _noun_and_place(self, head: Word, place: Place) -> None:
        """A preposition that hangs from a noun or an adjective."""
        first = place.words[0]
        if first.place in self._read:
            return
        if is_mutual(place.target):
            for owner in self.sentence.owners(head):
                self._claim(owner, place.content, place.label, owner)
            return
        targets = self.sentence.named(place.target)
        if not targets:
            return
        if head.dep == "pobj" and head.head is not None and head.head.low == "without":
            head = head.head.head or head  # where the man is, not the shirt that he has not
        group = head.head
        listed = ("conj", "appos")
        shared = head.is_noun and head.dep in listed and place.label not in ("of", "with")
        while shared and group is not None and group.is_noun and not group.child("prep"):
            head = group  # "a drink and a sandwich on a table": both
            shared, group = head.dep in listed, head.head
        if place.label == "of":
            self._of(head, place, targets)
            return
        if head.is_noun or head.tag in ("PRP", "CD"):
            after_all = first.place > head.conjuncts()[-1].place
            owners = self.sentence.named(head) if after_all else [head]
        else:
            owners = self.sentence.described(head)
        for owner in owners:
            for target in targets:
                if owner is not target:
                    self._place_claim(owner, place, target, is_negated(first))

    def _of(self, head: Word, place: Place, wholes: list[Word]) -> None:
        """Read "of": a quantity, a content, or what something is part of."""
        if is_partitive(head):
            self._quantity(head, wholes)
        elif not head.is_noun:
            label = {"full": "have", "made": "make of"}.get(head.low)
            for owner in self.sentence.described(head) if label else []:
                for whole in wholes:
                    self._claim(owner, head, label, whole)
        elif not (lemma(head.low) == "reflection" and self._reflection(head, place, wholes)):
            label = CONTAINERS.get(lemma(head.low), "have")
            for whole in wholes:
                self._claim(whole, place.words[0], label, head)

    def _quantity(self, head: Word, wholes: list[Word]) -> None:
        """Read "two large slices of bread": the bread is 2, large, and slice."""
        self.unnamed.add(head.place)
        number = head.child("nummod")
        text = PARTITIVES.get(head.low, "")
        if text:
            self._remark(wholes, head, lemma(text) if number else text)
        for word, described in read_thing(head).attributes:
            self._remark(wholes, word, described)
        number = number or head
        whole = head.child("prep").child("pobj")
        if number.low in NUMBERS and number.low != "one" and whole.tag != "PRP":
            self._remark(wholes, number, NUMBERS[number.low], "count")

    def _reflection(self, head: Word, place: Place, wholes: list[Word]) -> bool:
        """Read "a reflection of a boat in the water": the boat reflects in the water."""
        where = [one for one in head.all("prep") if one is not place.words[0]]
        where += [one for whole in wholes for one in whole.all("prep")]
        for preposition in where:
            self._read.add(preposition.place)
            for target in self.sentence.named(preposition.child("pobj")):
                for whole in wholes:
                    self._claim(whole, head, f"reflect {preposition.low}", target)
        if where:
            self.unnamed.add(head.place)
        return bool(where)

    def _verb(self, verb: Word, places: list[Place]) -> None:
        base = verb_lemma(verb.low)
        who = self.sentence.subjects(verb)
        denied = is_negated(verb)
        if base == "be":
            self._be(verb, who, places, denied)
            return
        if any(is_mutual(one) for one in verb.all("dobj")):
            for one in who:
                self._claim(one, verb, base, one, denied)
            return
        objects = self._objects(verb, base, who, places)
        name = "wear" if base == "dress" else base + _particle(verb, base)
        before = len(self.claims)
        for target in objects:
            for subject in who:
                if subject is not target:
                    self._claim(subject, verb, name, target, denied)
        for place in places:
            self._verb_and_place(verb, base, name, who, objects, place, denied)
        inner = verb.child("xcomp", "ccomp")
        alone = len(self.claims) == before and (inner is None or not inner.is_verb)
        asked = self.sentence.is_question  # "what is he holding": he is not "holding"
        if alone and not asked and verb.tag in ("VBG", "VBN") and base != "have":
            self._remark(who, verb, verb.low, denied=denied)
        for one in verb.all("acomp", "oprd"):
            self._remark(who, one, one.low, denied=denied)

    def _objects(self, verb: Word, base: str, who: list[Word], places: list[Place]) -> list[Word]:
        objects = [
            one for child in verb.all("dobj", "dative") for one in self.sentence.named(child)
        ]
        if objects:
            return objects
        clause = verb.child("ccomp")
        if clause is not None and base in PERCEIVING:  # "she has her eyes closed"
            return self.sentence.named(clause.child("nsubj", "nsubjpass"))
        if verb.dep == "relcl" and verb.child("nsubj") and not places and verb.head not in who:
            return [verb.head] if verb.head is not None else []  # "the hat the man is wearing"
        return []

    def _verb_and_place(
        self,
        verb: Word,
        base: str,
        name: str,
        who: list[Word],
        objects: list[Word],
        place: Place,
        denied: bool,
    ) -> None:
        """A verb and one of its prepositions."""
        mutual = is_mutual(place.target)
        for target in who if mutual else self._targets(verb, place):
            if base == "have" and objects and target in who:  # "the wall has a clock on it"
                self.claims = [one for one in self.claims if one.word is not verb]
                for one in objects:
                    self._place_claim(one, place, target, denied)
            elif _is_agent(verb, base, place):
                for subject in who:
                    self._claim(target, verb, base, subject, denied)
            elif place.label != "of" or base == "make":
                for subject in who:
                    if (subject is target) != mutual:
                        continue
                    if not objects:
                        label = name if base == "dress" else f"{name} {place.label}"
                        self._claim(subject, verb, label, target, denied)
                    elif place.label == "in" and target.low in HELD_IN and base in HELD_IN:
                        for one in objects:  # "holding a bat in his hand"
                            self._place_claim(one, place, target, denied)
                    else:
                        self._place_claim(subject, place, target, denied)

    def _targets(self, verb: Word, place: Place) -> list[Word]:
        if place.target is None and verb.dep == "relcl" and place.words[0].place > verb.place:
            return [verb.head] if verb.head is not None else []
        return self.sentence.named(place.target)

    def _be(self, verb: Word, who: list[Word], places: list[Place], denied: bool) -> None:
        """A copula: adjectives, adverbs and places of its subject."""
        if not who:  # "what color is the circle to the left of the star"
            nouns = [one for child in verb.all("attr") for one in self.sentence.named(child)]
            who = [one for one in nouns if one.is_noun and one.low not in ASKED]
        spoken = {word.place for place in places for word in place.words}
        for child in verb.all("acomp", "attr", "oprd"):
            contrast = any(one.low == "but" for one in child.children)  # "not red but green"
            for one in child.conjuncts():
                said = one.tag.startswith("JJ") or (child.dep == "acomp" and one.tag[:2] == "VB")
                if not said or one.place in spoken or one.low in ("next", "close"):
                    continue
                if not (one.child("prep") and one.low in ("full", "made", "ready", "able")):
                    denies = (denied and not (contrast and one is not child)) or is_negated(one)
                    self._remark(who, one, adjective(one), denied=denies)
        for one in verb.all("advmod", "prt"):
            if one.low in STATES and one.place not in spoken:
                self._remark(who, one, one.low, denied=denied)
        for place in places:
            for target in self._targets(verb, place) if place.label != "of" else []:
                for subject in who:
                    if subject is not target:
                        self._place_claim(subject, place, target, denied)

    def _drop_what_is_said_twice(self) -> None:
        """Drop "with" in "a sky with a plane flying in it": the plane flies in the sky."""
        weak = ("with", "have")
        others = {
            (one.target.place, one.subject.place) for one in self.claims if one.label not in weak
        }
        self.claims = [
            one
            for one in self.claims
            if one.label not in weak or (one.subject.place, one.target.place) not in others
        ]


def _is_agent(verb: Word, base: str, place: Place) -> bool:
    """Whether the preposition names who does it: "held by a man", "covered in snow"."""
    if base in COVERING and place.label in ("in", "with", "by"):
        return True
    passive = verb.tag == "VBN" or verb.child("auxpass", "agent") is not None
    by = place.words[0].dep == "agent" or (place.label == "by" and passive)
    return by and base not in RESTING


def _particle(verb: Word, base: str) -> str:
    """What a particle adds to a verb: " down" in "going down the road", nothing in "hold up"."""
    particle = verb.child("prt")
    if particle is not None and (base, particle.low) in PARTICLES:
        return f" {particle.low}"
    if particle is None:
        adverbs = verb.all("advmod")
        particle = next((one for one in adverbs if one.tag == "RP" or one.low in PATHS), None)
    target = verb.child("dobj")
    if particle is None or target is None or not verb.place < particle.place < target.place:
        return ""
    moves = base in MOTION and particle.low in ("up", "out", "off", "on", "in")
    return f" {particle.low}" if moves or particle.low in PATHS else ""
