import csv
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tbkin.graphs.facts import facts_of, graph_of_facts, phrase, read_facts, write_facts
from tbkin.graphs.scene_graph import Edge, Node, SceneGraph

FACTUAL = Path(__file__).resolve().parents[3] / "shared/data/factual"

TEXT = "( man , wear , hat ) , ( hat , is , red ) , ( dog )"
FACTS = [("man", "wear", "hat"), ("hat", "is", "red"), ("dog",)]


def graph(nodes, edges=(), words=()):
    return SceneGraph([Node("word", *node) for node in nodes], list(edges), list(words))


def relation(place, subject, target):
    return [
        Edge(place, "subject", subject, "relation"),
        Edge(place, "object", target, "relation"),
    ]


def test_notation():
    assert read_facts(TEXT) == FACTS
    assert write_facts(FACTS) == TEXT
    assert read_facts("") == read_facts("  ") == []
    assert write_facts([]) == ""


@pytest.mark.parametrize(
    ("text", "facts"),
    [
        ("(man,wear,hat),(hat,is,red),(dog)", FACTS),
        ("( man , wear , hat ), (hat, is, red) ,( dog )", FACTS),
        ("(man,wear,hat)\n(hat,is,red)(dog)", FACTS),
        ("( bed  spread , on \t top of , bed )", [("bed spread", "on top of", "bed")]),
        ("( people , is , 1,000 )", [("people", "is", "1,000")]),
        ("(boats,is,5)", [("boats", "is", "5")]),
        ("( dog ) , ( cat ) , ( dog )", [("dog",), ("cat",)]),
    ],
)
def test_notation_of_others(text, facts):
    assert read_facts(text) == facts


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("( man , hat )", r"'\( man , hat \)' is not a fact: it needs one part, or three"),
        ("( a , b , c , d )", r"is not a fact"),
        ("( man , , hat )", r"is not a fact"),
        ("( )", r"is not a fact"),
        ("( man ) , dog", r"'dog' stands outside a fact"),
        ("( man , wear , hat ) , ( hat , is", r"'\( hat  is' stands outside a fact"),
        ("a man", r"'a man' is not a list of facts such as"),
    ],
)
def test_what_is_no_notation(text, complaint):
    with pytest.raises(ValueError, match=complaint):
        read_facts(text)


@pytest.mark.parametrize(
    "fact",
    [("man", "hat"), (), ("",), ("man", "", "hat"), ("a (b)",), ("a, b",), ("a  b",), (" a",)],
)
def test_what_cannot_be_written(fact):
    with pytest.raises(ValueError, match="cannot be written as a fact"):
        write_facts([("dog",), fact])


def test_facts_of_a_graph():
    # "two men riding a brown horse near a barn": near hangs on nothing known as its subject.
    nodes = [
        ("man", 1, "object"),  # as written: men
        ("2", 0, "count"),
        ("horse", 5, "object"),
        ("brown", 4, "attribute"),
        ("ride", 2, "relation"),
        ("barn", 8, "object"),
        ("near", 6, "relation"),
    ]
    edges = [
        Edge(0, "is", 1, "attribute"),
        Edge(2, "is", 3, "attribute"),
        *relation(4, 0, 2),
        Edge(6, "object", 5, "relation"),
    ]
    words = "Two Men riding a brown horse near a barn".split()
    assert facts_of(graph(nodes, edges, words)) == [
        ("men", "is", "2"),
        ("horse", "is", "brown"),
        ("men", "ride", "horse"),
        ("barn",),
    ]


def test_what_is_denied_is_no_fact():
    # "the man without a hat is not tall and rides no red bike"
    words = "the man without a hat is not tall and rides no red bike".split()
    nodes = [
        Node("word", "man", 1, "object"),
        Node("word", "hat", 4, "object", negated=True),
        Node("word", "tall", 7, "attribute", negated=True),
        Node("word", "bike", 12, "object"),
        Node("word", "ride", 9, "relation", negated=True),
        Node("word", "red", 11, "attribute"),
    ]
    edges = [
        Edge(0, "is", 2, "attribute"),
        *relation(4, 0, 3),
        Edge(3, "is", 5, "attribute"),
    ]
    # Denied: the hat, "tall", "ride". Said: that the bike is red; the man, who is in no fact.
    assert facts_of(SceneGraph(nodes, edges, words)) == [("bike", "is", "red"), ("man",)]


def test_an_entity_is_named_once():
    two_dogs = [("dog", 0, "object"), ("dog", 1, "object"), ("red", 2, "attribute")]
    edges = [Edge(0, "is", 2, "attribute")]
    assert facts_of(graph(two_dogs, edges, ["dog", "Dog", "red"])) == [("dog", "is", "red")]
    assert facts_of(graph(two_dogs[:2], (), ["dog", "Dog"])) == [("dog",)]


def test_phrases_as_written():
    words = ["Old", "Bed", "Spreads"]
    nodes = [
        Node("word", "bed spread", 2, "object", text="bed spreads"),
        Node("word", "spread", 2, "object"),
        Node("word", "clock", -1, "object"),
        Node("word", "2", 0, "count"),
    ]
    phrases = [phrase(SceneGraph(nodes, [], words), place) for place in range(4)]
    assert phrases == ["bed spreads", "spreads", "clock", "2"]


def test_what_the_notation_cannot_write_is_left_out():
    nodes = [
        ("man", 0, "object"),
        ("(", 1, "object"),
        (":(", 2, "attribute"),
        ("at, or", 3, "relation"),
        ("1,000", 4, "count"),
    ]
    edges = [Edge(0, "is", 2, "attribute"), *relation(3, 0, 0), Edge(0, "is", 4, "attribute")]
    found = facts_of(graph(nodes, edges, ["m(an)", "(", ":(", "at", "1,000"]))
    assert found == [("m an", "is", ":"), ("m an", "is", "1,000"), ("m an", "at or", "m an")]
    assert read_facts(write_facts(found)) == found


def test_graph_of_facts_by_hand():
    facts = [("bed spread", "on", "beds"), ("bed spread", "is", "white"), ("beds", "is", "2")]
    built = graph_of_facts(facts, "white bed spread on two Beds".split())
    shown = [(node.label, node.index, node.role, node.text) for node in built.nodes]
    assert shown == [
        ("bed spread", 2, "object", "bed spread"),
        ("bed", 5, "object", ""),  # "beds" is the word there
        ("on", 3, "relation", ""),
        ("white", 0, "attribute", ""),
        ("2", -1, "count", ""),  # the caption says "two"
    ]
    assert [(edge.source, edge.predicate, edge.target) for edge in built.edges] == [
        (2, "subject", 0),
        (2, "object", 1),
        (0, "is", 3),
        (1, "is", 4),
    ]
    assert sorted(facts_of(built)) == sorted(facts)


def test_a_word_is_tied_once_and_by_lemma_last():
    built = graph_of_facts([("dogs", "chase", "dog"), ("dog", "is", "big")], ["dog", "dogs"])
    assert [node.index for node in built.nodes] == [1, 0, -1, -1]


WORDS = st.text("abcs1é", min_size=1, max_size=4)
PHRASES = st.lists(WORDS, min_size=1, max_size=3).map(" ".join)
TRIPLES = st.lists(st.tuples(PHRASES, st.one_of(st.just("is"), PHRASES), PHRASES), max_size=6)


@given(TRIPLES, st.lists(PHRASES, max_size=3), st.lists(WORDS, max_size=8))
def test_round_trips(triples, alone, words):
    named = {part for triple in triples for part in (triple[0], triple[2])}
    facts = list(dict.fromkeys([*triples, *((one,) for one in alone if one not in named)]))
    assert read_facts(write_facts(facts)) == facts
    built = graph_of_facts(facts, words)
    assert set(facts_of(built)) == set(facts)
    assert SceneGraph.from_dict(built.to_dict()) == built


@given(st.lists(st.tuples(st.text(max_size=6), st.text(max_size=6), st.text(max_size=6))))
def test_facts_of_any_graph_can_be_written(triples):
    nodes, edges = [], []
    for subject, said, target in triples:
        place = len(nodes)
        nodes += [(subject, -1, "object"), (said, -1, "relation"), (target, -1, "object")]
        edges += relation(place + 1, place, place + 2)
    facts = facts_of(graph(nodes, edges))
    assert read_facts(write_facts(facts)) == facts


@pytest.mark.skipif(not FACTUAL.is_dir(), reason=f"real data not there: {FACTUAL}")
@pytest.mark.parametrize("name", ["random_dev.csv", "random_train.csv"])
def test_every_real_graph_survives(name):
    with (FACTUAL / name).open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) >= 1000
    for row in rows[:8000]:
        facts = read_facts(row["scene_graph"])
        repeats = row["scene_graph"].count("(") > len(facts)
        assert repeats or write_facts(facts) == row["scene_graph"]
        assert set(facts_of(graph_of_facts(facts, row["caption"].split()))) == set(facts)
