import csv
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tbkin.graphs.facts import read_facts
from tbkin.graphs.words import lemma
from tbkin.metrics.caption_graph import (
    EXACT,
    CaptionGraphScores,
    Matching,
    distinct,
    set_match,
    spice,
    spice_tuples,
)

FACTUAL = Path(__file__).resolve().parents[3] / "shared/data/factual"

GOLD = read_facts("( man , wear , hat ) , ( hat , is , red ) , ( man , is , 2 )")

# Who shares a set with whom; "on" is in none, as in WordNet most prepositions are.
SETS = {
    "man": {"adult", "person"},
    "guy": {"person"},
    "boy": {"child"},
    "kid": {"child", "goat"},
    "goat": {"goat"},
    "wear": {"clothed"},
    "have on": {"clothed"},
}
LEMMA = Matching("lemma", lemma)
SYNONYMS = Matching("synonyms", None, lambda phrase: SETS.get(phrase, ()))


def test_tuples_by_hand():
    assert spice_tuples(GOLD) == {
        ("man",),
        ("hat",),
        ("hat", "red"),
        ("man", "2"),
        ("man", "wear", "hat"),
    }
    assert spice_tuples(read_facts("( dog ) , ( dog , chase , dog )")) == {
        ("dog",),
        ("dog", "chase", "dog"),
    }
    assert spice_tuples([]) == set()


def test_set_match_is_of_sets():
    assert set_match([*reversed(GOLD), GOLD[0]], GOLD)
    assert not set_match(GOLD[:2], GOLD)
    assert not set_match([*GOLD, ("dog",)], GOLD)
    assert set_match([], [])


def test_spice_by_hand():
    # Said: man, hat, (hat, blue), (man, wear, hat) = 4; true: the 5 above; shared: 3.
    said = read_facts("( man , wear , hat ) , ( hat , is , blue )")
    assert spice(said, GOLD) == pytest.approx((3 / 4, 3 / 5, 2 / 3))
    # Swapped, precision is recall.
    assert spice(GOLD, said) == pytest.approx((3 / 5, 3 / 4, 2 / 3))
    # Said: man, (man, in, hat), hat; shared: man, hat.
    assert spice([("man", "in", "hat")], GOLD) == pytest.approx((2 / 3, 2 / 5, 1 / 2))


def test_repeating_oneself_gains_nothing():
    # dog once; of cat and dog half is right.
    assert spice([("dog",), ("dog",), ("cat",)], [("dog",)]) == pytest.approx((1 / 2, 1, 2 / 3))
    assert spice([("dog",)], [("dog",), ("dog",)]) == (1, 1, 1)


def test_saying_nothing():
    assert spice([], []) == (1, 1, 1)
    assert spice([], GOLD) == spice(GOLD, []) == spice([("cat",)], GOLD) == (0, 0, 0)


def test_lemma_compares_every_word():
    said = read_facts("( Men , wear , red hats )")
    assert spice(said, [("man", "wear", "red hat")]) == (0, 0, 0)
    assert spice(said, [("man", "wear", "red hat")], LEMMA) == (1, 1, 1)
    assert set_match(said, [("man", "wear", "red hat")], LEMMA)
    # Two facts that become one are one.
    assert distinct([("hat",), ("hats",)], LEMMA) == {("hat",)}


def test_the_word_is_keeps_its_form():
    # A base form of "is" must not turn an attribute into a relation.
    cut = Matching("cut", lambda word: word[0])
    assert spice_tuples(distinct([("hat", "is", "red")], cut)) == {("h",), ("h", "r")}


def test_synonyms_by_hand():
    # (guy) ~ (man), (guy, have on, hat): hat is in no set, so nothing but (hat) = (hat) is left.
    said, true = [("guy", "have on", "hat")], [("man", "wear", "hat")]
    assert spice(said, true) == pytest.approx((1 / 3, 1 / 3, 1 / 3))
    assert spice(said, true, SYNONYMS) == pytest.approx((2 / 3, 2 / 3, 2 / 3))
    # All three places known: (guy, have on, kid) ~ (man, wear, boy), (guy) ~ (man), (kid) ~ (boy).
    assert spice([("guy", "have on", "kid")], [("man", "wear", "boy")], SYNONYMS) == (1, 1, 1)
    # A tuple matches none of another length.
    assert spice([("guy",)], [("boy", "is", "man")], SYNONYMS)[0] == 0
    # Set match stays as it was.
    assert not set_match(said, true, SYNONYMS)


def test_equal_tuples_are_paired_first():
    # Said boy, kid; true goat, kid. If boy took kid, then kid could take goat: 2 pairs. But
    # kid = kid comes first, and boy ~ goat is none: 1 pair.
    said, true = [("boy",), ("kid",)], [("goat",), ("kid",)]
    assert spice(said, true, SYNONYMS) == (1 / 2, 1 / 2, 1 / 2)


def test_a_gold_tuple_is_paired_once():
    # boy and goat both know kid: one of them gets it.
    assert spice([("boy",), ("goat",)], [("kid",)], SYNONYMS) == pytest.approx((1 / 2, 1, 2 / 3))


def test_corpus_by_hand():
    scores = CaptionGraphScores()
    # Both right: entities man, hat; attribute; relation. SPICE 1.
    scores.update(GOLD[:2], GOLD[:2])
    # Said dog, (dog, big); true dog, cat, (dog, chase, cat). SPICE 1/2, 1/3, 2/5.
    scores.update([("dog", "is", "big")], [("dog", "chase", "cat")])
    # Nothing of nothing.
    scores.update([], [])
    # Entities: shared 3 of 3 and 4; attributes 1 of 2 and 1; relations 1 of 1 and 2.
    assert scores.compute() == pytest.approx(
        {
            "set_match": 2 / 3,
            "spice_f1": (1 + 2 / 5 + 1) / 3,
            "spice_precision": (1 + 1 / 2 + 1) / 3,
            "spice_recall": (1 + 1 / 3 + 1) / 3,
            "entity_f1": 6 / 7,
            "attribute_f1": 2 / 3,
            "relation_f1": 2 / 3,
        }
    )


def test_parts_use_no_synonyms_and_what_nobody_says_is_right():
    scores = CaptionGraphScores(SYNONYMS)
    scores.update([("guy",)], [("man",)])
    figures = scores.compute()
    assert figures["spice_f1"] == 1
    assert figures["entity_f1"] == 0
    assert figures["attribute_f1"] == figures["relation_f1"] == 1


def test_no_caption_no_score():
    with pytest.raises(ValueError, match="no caption to score"):
        CaptionGraphScores().compute()


PARTS = st.sampled_from([*SETS, "on", "hats", "hat"])
FACTS = st.lists(
    st.one_of(
        st.tuples(PARTS),
        st.tuples(PARTS, st.just("is"), PARTS),
        st.tuples(PARTS, PARTS, PARTS),
    ),
    max_size=6,
)
FEW = FACTS.map(lambda facts: facts[:2])
MATCHINGS = st.sampled_from([EXACT, LEMMA, SYNONYMS])


@given(FACTS, FACTS, MATCHINGS, st.randoms())
def test_invariances(said, true, matching, chance):
    rates = spice(said, true, matching)
    assert all(0 <= rate <= 1 for rate in rates)
    assert spice(true, true, matching) == (1, 1, 1)
    mixed, other = [*said, *said], list(true)
    chance.shuffle(mixed)
    chance.shuffle(other)
    assert spice(mixed, other, matching) == rates
    assert set_match(mixed, other, matching) == set_match(said, true, matching)
    assert rates[2] >= spice(said, true)[2] or matching is LEMMA
    if matching is not SYNONYMS:
        assert spice(true, said, matching)[2] == rates[2]
    if set_match(said, true, matching):
        assert rates[2] == 1


def alike(one, other):
    return len(one) == len(other) and all(
        set(SETS.get(a, ())) & set(SETS.get(b, ())) for a, b in zip(one, other, strict=True)
    )


def most_pairs(left, right):
    """Slow: every way to pair, or not to pair, the first of ``left``."""
    if not left:
        return 0
    without = most_pairs(left[1:], right)
    ways = (1 + most_pairs(left[1:], right - {one}) for one in right if alike(left[0], one))
    return max(without, *ways, 0)


@given(FEW, FEW)
def test_against_every_way_of_pairing(said_facts, true_facts):
    # In order, the first that is free: never more than the most that can be paired, and never
    # less than half of it, because each pair stands in the way of two others at most.
    said, true = spice_tuples(said_facts), spice_tuples(true_facts)
    most = most_pairs(sorted(said - true), true - said)
    if said and true:
        pairs = round(spice(said_facts, true_facts, SYNONYMS)[0] * len(said)) - len(said & true)
        assert most / 2 <= pairs <= most


def slow_figures(rows):
    """All figures once more, with lists and loops, for exact matching."""
    sums = {"set_match": 0, "spice_f1": 0}
    counts = {kind: [0, 0, 0] for kind in (1, 2, 3)}
    for said, true in rows:
        sums["set_match"] += sorted(set(said)) == sorted(set(true))
        tuples = []
        for facts in (said, true):
            found = []
            for fact in facts:
                if len(fact) == 1:
                    new = [fact]
                elif fact[1] == "is":
                    new = [fact[:1], (fact[0], fact[2])]
                else:
                    new = [fact[:1], fact[2:], fact]
                for one in new:
                    if one not in found:
                        found.append(one)
            tuples.append(found)
        left = list(tuples[1])
        pairs = 0
        for one in tuples[0]:
            if one in left:
                left.remove(one)
                pairs += 1
                counts[len(one)][0] += 1
        for number, found in enumerate(tuples, start=1):
            for one in found:
                counts[len(one)][number] += 1
        precision, recall = pairs / len(tuples[0]), pairs / len(tuples[1])
        if pairs:
            sums["spice_f1"] += 2 * precision * recall / (precision + recall)
    figures = {name: value / len(rows) for name, value in sums.items()}
    for length, name in ((1, "entity"), (2, "attribute"), (3, "relation")):
        both, said, true = counts[length]
        figures[f"{name}_f1"] = 2 * both / (said + true)
    return figures


@pytest.mark.skipif(not FACTUAL.is_dir(), reason=f"real data not there: {FACTUAL}")
def test_real_graphs_against_the_slow_way():
    with (FACTUAL / "random_dev.csv").open(newline="", encoding="utf-8") as file:
        graphs = [read_facts(row["scene_graph"]) for row in csv.DictReader(file)]
    chance = random.Random(0)
    words = sorted({part for facts in graphs for fact in facts for part in fact} - {"is"})
    rows = []
    for facts in graphs:  # a third right, the rest with facts lost or words exchanged
        said = [fact for fact in facts if chance.random() < 0.9] or facts
        if chance.random() < 0.5:
            said = [(chance.choice(words), *fact[1:]) for fact in said]
        rows.append((said, facts))
    scores = CaptionGraphScores()
    for said, facts in rows:
        scores.update(said, facts)
    slow = slow_figures(rows)
    assert 0.2 < slow["set_match"] < 0.8
    assert {name: scores.compute()[name] for name in slow} == pytest.approx(slow)
