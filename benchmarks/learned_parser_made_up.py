"""Captions that nobody wrote, for training the learned parser: swapped words, and questions."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence

from learned_parser_targets import Target

from tbkin.parsers.learned_graph import Reading

_PLACES = frozenset(
    {"on", "in", "under", "behind", "next to", "near", "above", "beside", "on top of", "by"}
)


def made_up_captions(
    targets: Sequence[Target], number: int, chance: random.Random
) -> list[list[str]]:
    """Training captions with words replaced by others that played the same part somewhere.

    They have no gold graph: a teacher must label them.
    """
    told: dict[str, list[str]] = defaultdict(list)  # part -> words, as often as they play it
    for target in targets:
        for place, part in parts(target).items():
            told[part].append(target.tokens[place])
    found = []
    for _ in range(number):
        target = chance.choice(targets)
        tokens = list(target.tokens)
        places = parts(target)
        for place, part in places.items():
            if chance.random() < 0.5:
                tokens[place] = chance.choice(told[part])
        found.append(tokens)
    return found


def parts(target: Reading) -> dict[int, str]:
    """Token -> the part that it plays; only tokens that another word could stand for."""
    verbs = {verb for verb, _ in target.relations.values() if verb >= 0}
    found = {}
    for place, (token, kind) in enumerate(zip(target.tokens, target.kinds, strict=True)):
        if place in verbs:
            found[place] = "verb" + _ending(token)
        elif kind == "I":
            found[place] = "inside"
        elif kind != "O" and target.forms[place] == "copy":
            found[place] = kind + ("s" if kind == "E" and token.endswith("s") else "")
    return found


def _ending(token: str) -> str:
    return next((end for end in ("ing", "ed", "s") if token.endswith(end)), "")


def questions(targets: Sequence[Target], number: int, chance: random.Random) -> list[Reading]:
    """Questions about training captions, with what they take for granted as their reading.

    "a red shirt" gives "what color is the shirt ?" (shirt) and "is the shirt red ?" (shirt is
    red); "man wearing hat" gives "what is the man wearing ?" (man) and "is the man wearing the
    hat ?". The phrasing is *ours*: FACTUAL has no questions.
    """
    found: list[Reading] = []
    usable = [t for t in targets if not t.lost and any(f == "copy" for f in t.forms.values())]
    for _ in range(4 * number if usable else 0):
        if len(found) == number:
            break
        target = chance.choice(usable)
        ends = [k for k, kind in enumerate(target.kinds) if kind == "E"]
        if not ends or any(form != "copy" for form in target.forms.values()):
            continue
        entity = chance.choice(ends)
        relation = next(
            ((o, v, r) for (s, o), (v, r) in sorted(target.relations.items())
             if s == entity and v >= 0 and target.tokens[v].endswith("ing")),
            None,
        )  # fmt: skip
        owned = [a for a, owner in sorted(target.owners) if owner == entity]
        place = next(
            ((s, o, r) for (s, o), (v, r) in sorted(target.relations.items())
             if v < 0 and r in _PLACES),
            None,
        )  # fmt: skip
        draft = _Draft(target)
        be = "are" if target.tokens[entity].endswith("s") else "is"
        kind = chance.randrange(8)
        if kind == 0:
            draft.say(chance.choice(["what color", "where", "what shape", "what kind"]), be, "the")
            draft.phrase(entity)
        elif kind == 1 and owned:
            draft.say(be, "the")
            draft.owner(draft.phrase(entity), draft_attribute=owned[0])
        elif kind == 2 and be == "are":
            draft.say("how many")
            draft.phrase(entity)
            draft.say(chance.choice(["are there", "can you see", "are shown"]))
        elif kind == 3 and relation:
            draft.say("what", be, "the")
            draft.phrase(entity)
            draft.say(target.tokens[relation[1]], *relation[2].split())
        elif kind == 4 and relation:
            draft.say(be, "the")
            subject = draft.phrase(entity)
            draft.say(target.tokens[relation[1]])
            verb = len(draft.tokens) - 1
            draft.say(*relation[2].split(), "the")
            draft.relations[subject, draft.phrase(relation[0])] = (verb, relation[2])
        elif kind == 5:
            draft.say(chance.choice(["is there a", "do you see the", "can you see the"]))
            draft.phrase(entity)
            draft.say(chance.choice(["in the picture", "", ""]))
        elif kind == 6 and place:
            draft.say(chance.choice(["what is", "who is", "what are"]))
            draft.say(place[2], "the")
            draft.phrase(place[1])
        elif kind == 7 and place:
            draft.say(chance.choice(["is the", "is there a", "do you see a"]))
            subject = draft.phrase(place[0])
            draft.say(place[2], "the")
            draft.relations[subject, draft.phrase(place[1])] = (-1, place[2])
        else:
            continue
        draft.say("?")
        found.append(draft.reading())
    return found


class _Draft:
    """A question while it is put together from the phrases of a caption."""

    def __init__(self, target: Target):
        self.target = target
        self.tokens: list[str] = []
        self.kinds: list[str] = []
        self.owners: set[tuple[int, int]] = set()
        self.relations: dict[tuple[int, int], tuple[int, str]] = {}

    def say(self, *words: str) -> None:
        """Add words that are part of no phrase."""
        for word in " ".join(words).split():
            self.tokens.append(word)
            self.kinds.append("O")

    def phrase(self, end: int) -> int:
        """Add the caption's phrase that ends at a token; returns its new end."""
        start = end
        while start > 0 and self.target.kinds[start - 1] == "I":
            start -= 1
        self.tokens += self.target.tokens[start : end + 1]
        self.kinds += self.target.kinds[start : end + 1]
        return len(self.tokens) - 1

    def owner(self, entity: int, draft_attribute: int) -> None:
        """Add an attribute's phrase and tie it to the entity."""
        self.owners.add((self.phrase(draft_attribute), entity))

    def reading(self) -> Reading:
        """The question with its labels."""
        forms = {k: "copy" for k, kind in enumerate(self.kinds) if kind in "EA"}
        return Reading(self.tokens, self.kinds, forms, self.owners, self.relations)
