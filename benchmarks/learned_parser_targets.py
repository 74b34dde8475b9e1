"""What the learned parser is trained to say: gold facts tied to the words of their caption."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from tbkin.graphs.facts import Fact, facts_of
from tbkin.graphs.words import lemma
from tbkin.parsers.learned_graph import Reading, graph_of
from tbkin.parsers.learned_words import NUMBERS, is_word, tokenize


@dataclass
class Target(Reading):
    """The reading that gold facts ask for.

    Attributes:
        lost: facts that could not be tied to the tokens.
    """

    lost: list[Fact] = field(default_factory=list)


NUMBER_OF = {digits: word for word, digits in NUMBERS.items()}
IRREGULAR = {
    "lay": ("lying", "lies", "lain", "laid", "lie", "layed"), "have": ("has", "had", "having"),
    "hang": ("hung",), "hold": ("held",), "make": ("made",), "wear": ("worn", "wore"),
    "sit": ("sat", "sits"), "stand": ("stood",), "tie": ("tying",), "write": ("written", "wrote"),
    "fly": ("flown", "flew"), "stick": ("stuck",), "cut": ("cutting",), "see": ("seen", "saw"),
    "build": ("built",), "lead": ("led",), "eat": ("eaten", "ate"), "break": ("broken",),
    "drive": ("driven",), "ride": ("ridden", "rode"), "throw": ("thrown", "threw"),
    "do": ("does", "did", "done", "doing"), "draw": ("drawn",), "run": ("ran",),
    "show": ("shown",), "take": ("taken", "took"), "lie": ("lying", "laying"),
    "surround": ("surounded", "surronding"), "feed": ("fed",), "bite": ("bitten",),
    "catch": ("caught",), "lose": ("lost",), "spread": ("spreading",), "bend": ("bent",),
}  # fmt: skip


def base_forms(word: str) -> list[str]:
    """What ``word`` may be an inflected form of, in no order of likelihood, itself last.

    ``base_forms("sitting")`` is ``["sitt", "sit", "sitte", "sitting"]``.
    """
    forms = []
    for ending, put in (("ies", "y"), ("ied", "y"), ("es", ""), ("s", ""), ("ed", ""), ("ing", "")):
        stem = word.removesuffix(ending)
        if stem == word or len(stem) < 2:
            continue
        forms.append(stem + put)
        if len(stem) > 2 and stem[-1] == stem[-2]:
            forms.append(stem[:-1])
        if ending in ("ed", "ing"):
            forms.append(stem + "e")
    return [*forms, word]


def verb_matches(word: str, verb: str) -> bool:
    """Whether a token may be a form of a relation's verb."""
    return verb in base_forms(word) or word in IRREGULAR.get(verb, ())


def ends_of_phrase(phrase: list[str], tokens: list[str]) -> list[int]:
    """Places of the last token of every run that reads ``phrase``."""
    size = len(phrase)
    return [
        at + size - 1
        for at in range(len(tokens) - size + 1)
        if tokens[at : at + size] == phrase
    ]  # fmt: skip


def near(word: str, other: str) -> bool:
    """Whether one may be a misspelling of the other: at most two edits, the same first letter."""
    if min(len(word), len(other)) < 4 or word[0] != other[0]:
        return False
    return edits(word, other, 2) <= (1 if min(len(word), len(other)) < 6 else 2)


def edits(word: str, other: str, most: int) -> int:
    """Edit distance (insert, delete, replace, swap neighbours); ``most + 1`` when above."""
    if abs(len(word) - len(other)) > most:
        return most + 1
    before, last = None, list(range(len(other) + 1))
    for i, a in enumerate(word, 1):
        row = [i]
        for j, b in enumerate(other, 1):
            cost = min(last[j] + 1, row[-1] + 1, last[j - 1] + (a != b))
            if before and j > 1 and a == other[j - 2] and word[i - 2] == b:
                cost = min(cost, before[j - 2] + 1)
            row.append(cost)
        before, last = last, row
    return min(last[-1], most + 1)


def phrase_places(text: str, tokens: list[str], swaps: dict[str, Counter]) -> list[tuple]:
    """Where a text may be said: (last token, tokens before it, form), the best kind of match only.

    Args:
        text: of an entity or attribute.
        tokens: of the caption.
        swaps: text -> the tokens that stood for it elsewhere ("person" -> "guy").
    """
    words = text.split()
    if text.isdecimal():
        for spoken in (text, NUMBER_OF.get(text)):
            at = [k for k, token in enumerate(tokens) if token == spoken]
            if at:
                return [(k, 0, "copy") for k in at]
    at = ends_of_phrase(words, tokens)
    if at:
        return [(k, len(words) - 1, "copy") for k in at]
    retokened = tokenize(text)
    at = ends_of_phrase(retokened, tokens)
    if at:
        return [(k, len(retokened) - 1, "=" + text) for k in at]
    joined = "".join(words).replace("-", "")
    for size in (1, 2, 3):
        at = [
            k
            for k in range(size - 1, len(tokens))
            if "".join(tokens[k - size + 1 : k + 1]).replace("-", "") == joined
        ]
        if at:
            joins = size > 1 and "-" not in text and len(words) == 1
            return [(k, size - 1, "join" if joins else "=" + text) for k in at]
    if words[:-1]:
        at = [k for k in phrase_places(words[-1], tokens, {}) if k[2] != "copy"]
        at = [
            (k, n, f)
            for k, n, f in at
            if f in ("singular", "plural") and tokens[k - len(words) + 1 : k] == words[:-1]
        ]
        if at:
            return [(k, len(words) - 1, f) for k, _, f in at]
    if len(words) == 1:
        at = [k for k, t in enumerate(tokens) if lemma(t) == text and t != text]
        if at:
            return [(k, 0, "singular") for k in at]
        at = [k for k, t in enumerate(tokens) if lemma(text) == t]
        if at:
            return [(k, 0, "plural") for k in at]
        at = [k for k, t in enumerate(tokens) if near(t, text)]
        if at:
            return [(k, 0, "=" + text) for k in at]
    known = swaps.get(text)
    if known:
        rated = [(known[token], k) for k, token in enumerate(tokens) if token in known]
        if rated:
            return [(max(rated)[1], 0, "=" + text)]
    return []


def entities_of(facts: list[Fact]) -> list[str]:
    """Entities that the facts name, each once."""
    named: dict[str, None] = {}
    for fact in facts:
        named[fact[0]] = None
        if len(fact) == 3 and fact[1] != "is":
            named[fact[2]] = None
    return list(named)


def learn_swaps(captions: Iterable[tuple[list[str], list[Fact]]]) -> dict[str, Counter]:
    """Which tokens stand for a text that a caption does not contain, with how typical they are."""
    together: dict[str, Counter] = defaultdict(Counter)
    seen: Counter = Counter()
    for tokens, facts in captions:
        texts = [*entities_of(facts), *(f[2] for f in facts if len(f) == 3 and f[1] == "is")]
        missing = [text for text in texts if not phrase_places(text, tokens, {})]
        used = {word for fact in facts for part in fact for word in part.split()}
        free = {t for t in tokens if is_word(t)} - used
        seen.update(set(tokens))
        for text in missing:
            together[text].update(free)
    swaps: dict[str, Counter] = {}
    for text, tokens in together.items():
        rated = {t: n * n / seen[t] for t, n in tokens.items() if n >= 2 and n / seen[t] > 0.02}
        if rated:
            swaps[text] = Counter(rated)
    return swaps


def align(tokens: list[str], facts: list[Fact], swaps: dict[str, Counter]) -> Target:
    """Tie gold facts to the caption's tokens, as far as the tokens can carry them."""
    target = Target(tokens, ["O"] * len(tokens))
    options = {text: phrase_places(text, tokens, swaps) for text in entities_of(facts)}
    taken: dict[int, str] = {}

    def claim(place: int, before: int, kind: str, form: str, text: str) -> bool:
        """Give tokens to a phrase; False when they belong to another."""
        if taken.get(place) == kind + text and target.kinds[place] == kind:
            return True
        span = range(place - before, place + 1)
        if any(k in taken for k in span):
            return False
        for k in span:
            taken[k] = kind + text
            target.kinds[k] = "I"
        target.kinds[place] = kind
        target.forms[place] = form
        return True

    entity_at: dict[str, list[int]] = {}
    for text in sorted(options, key=lambda text: (len(options[text]), -len(text.split()))):
        for place, before, form in options[text]:
            if claim(place, before, "E", form, text):
                entity_at.setdefault(text, []).append(place)
    said: set[int] = set()
    for fact in facts:
        ends = fact[:1] if len(fact) == 1 or fact[1] == "is" else (fact[0], fact[2])
        if any(end not in entity_at for end in ends):
            target.lost.append(fact)
        elif len(fact) == 1:
            said.add(entity_at[fact[0]][0])
        elif fact[1] == "is":
            choices = [
                (abs(owner - place) + (0 if place < owner else 1), owner, place, before, form)
                for place, before, form in phrase_places(fact[2], tokens, swaps)
                for owner in entity_at[fact[0]]
            ]
            for _, owner, place, before, form in sorted(choices):
                if claim(place, before, "A", form, fact[2]):
                    target.owners.add((place, owner))
                    said.add(owner)
                    break
            else:
                target.lost.append(fact)
        elif not _relate(target, fact, entity_at, said):
            target.lost.append(fact)
    for text, places in entity_at.items():  # an entity's second mention says nothing
        if not any(place in said for place in places):
            said.add(places[0])
        for place in places:
            if place not in said:
                start = place
                while taken.get(start - 1) == "E" + text and target.kinds[start - 1] == "I":
                    start -= 1
                for k in range(start, place + 1):
                    target.kinds[k] = "O"
                target.forms.pop(place)
    return target


def _relate(target: Target, fact: Fact, entity_at: dict[str, list[int]], said: set[int]) -> bool:
    tokens = target.tokens
    verb, *rest = fact[1].split()
    verbs = [k for k, token in enumerate(tokens) if verb_matches(token, verb)]
    words = set(fact[1].split())
    best = None
    for subject in entity_at[fact[0]]:
        for other in entity_at[fact[2]]:
            if subject == other:
                continue
            low, high = sorted((subject, other))
            between = sum(token in words for token in tokens[low:high])
            for k in verbs or [-1]:
                inside = k < 0 or low < k < high
                cost = (not inside, -between, high - low, subject > other, abs(k - subject))
                if best is None or cost < best[0]:
                    best = (cost, subject, other, k)
    if best is None:
        return False
    _, subject, other, k = best
    if (subject, other) in target.relations:
        return False
    if k < 0 or fact[1] == "have" or verb in PREPOSITIONS:
        target.relations[subject, other] = (-1, fact[1])
    else:
        target.relations[subject, other] = (k, " ".join(rest))
    said.update((subject, other))
    return True


PREPOSITIONS = frozenset(
    """on in with under behind next near at inside above by between over around against across
    along beside to for alongside outside beyond close from in through below beneath of off down
    up onto into out as toward towards underneath amongst among left right past""".split()
)


def facts_of_reading(reading: Reading, verbs: dict[str, str]) -> list[Fact]:
    """The facts that a reading says, as the parser gives them."""
    return facts_of(graph_of(reading, reading.tokens, verbs))


def learn_lemmas(targets: Iterable[tuple[Target, list[Fact]]]) -> dict[str, str]:
    """Token -> the verb that gold relations write for it, most often."""
    counts: dict[str, Counter] = defaultdict(Counter)
    for target, facts in targets:
        for fact in facts:
            if len(fact) == 3 and fact[1] != "is":
                verb = fact[1].split()[0]
                if verb in PREPOSITIONS:
                    continue
                for token in target.tokens:
                    if verb_matches(token, verb):
                        counts[token][verb] += 1
    return {token: verbs.most_common(1)[0][0] for token, verbs in sorted(counts.items())}


def learn_slips(targets: Iterable[Target]) -> dict[str, str]:
    """Misspelt token -> the word that gold writes for it, where it does so more often than not."""
    meant: dict[str, Counter] = defaultdict(Counter)
    for target in targets:
        for place, form in target.forms.items():
            token = target.tokens[place]
            if form == "copy":
                meant[token][token] += 1
            elif form.startswith("=") and near(token, form[1:]):
                meant[token][form[1:]] += 1
    best = {token: counts.most_common(1)[0][0] for token, counts in sorted(meant.items())}
    return {token: word for token, word in best.items() if word != token and " " not in word}
