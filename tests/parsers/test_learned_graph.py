import pytest

from tbkin.graphs.facts import facts_of
from tbkin.parsers.learned_graph import Reading, graph_of, join_graphs, phrase_text, plural


def reading(text, kinds, owners=(), relations=None, forms=None):
    """A reading of a text, one letter of ``kinds`` a token; phrases are copied by default."""
    made = {k: "copy" for k, kind in enumerate(kinds) if kind in "EA"} | (forms or {})
    return Reading(text.split(), list(kinds), made, set(owners), relations or {})


def graph(one, **verbs):
    return graph_of(one, one.tokens, verbs)


def test_a_caption_by_hand():
    # 0 two, 1 bed, 2 spreads, 3 lying, 4 on, 5 the, 6 dark, 7 green, 8 lawn
    one = reading(
        "two bed spreads lying on the dark green lawn",
        "AIEOOOIAE",
        owners=[(0, 2), (7, 8)],
        relations={(2, 8): (3, "on")},
    )
    found = graph(one, lying="lay")
    assert set(facts_of(found)) == {
        ("bed spreads", "is", "2"),
        ("lawn", "is", "dark green"),
        ("bed spreads", "lay on", "lawn"),
    }
    by_role = {node.role: node for node in found.nodes if node.role != "object"}
    assert (by_role["count"].label, by_role["count"].index) == ("2", 0)
    assert (by_role["relation"].label, by_role["relation"].index) == ("lay on", 3)
    entity = found.nodes[0]
    assert (entity.label, entity.text, entity.index) == ("bed spread", "bed spreads", 2)


def test_words_leave_punctuation_out_and_keep_the_case():
    one = reading("red , hat", "AOE", owners=[(0, 2)])
    found = graph_of(one, ["Red", ",", "HAT"], {})
    assert found.words == ["Red", "HAT"]
    assert [node.index for node in found.nodes] == [1, 0]
    assert facts_of(found) == [("hat", "is", "red")]


@pytest.mark.parametrize(
    ("form", "text"),
    [("copy", "surf boards"), ("join", "surfboards"), ("singular", "surf board"), ("=x y", "x y")],
)
def test_forms(form, text):
    assert phrase_text(reading("big surf boards", "OIE", forms={2: form}), 2) == text


def test_an_article_is_no_part_of_an_entity_but_may_be_of_an_attribute():
    assert phrase_text(reading("the snow", "IE"), 1) == "snow"
    assert phrase_text(reading("on the right", "IIA"), 2) == "on the right"
    assert phrase_text(reading("a", "E"), 0) == "a"


def test_plurals():
    assert [plural(word) for word in ("dog", "bus", "lady", "boy")] == [
        "dogs", "buses", "ladies", "boys",
    ]  # fmt: skip


def test_what_is_denied_is_marked_and_not_asserted():
    # 0 man, 1 with, 2 no, 3 red, 4 hat
    one = reading("man with no red hat", "EOOAE", [(3, 4)], {(0, 4): (-1, "with")})
    found = graph(one)
    assert facts_of(found) == [("man",)]
    assert [node.label for node in found.nodes if node.negated] == ["hat"]


def test_a_denied_verb_and_a_denied_attribute():
    one = reading("man is not wearing hat", "EOOOE", (), {(0, 4): (3, "")})
    assert facts_of(graph(one, wearing="wear")) == [("man",), ("hat",)]
    one = reading("cat is n't on mat", "EOOOE", (), {(0, 4): (-1, "on")})
    assert facts_of(graph(one)) == [("cat",), ("mat",)]
    assert facts_of(graph(reading("hat is not red", "EOOA", [(3, 0)]))) == [("hat",)]
    assert facts_of(graph(reading("no turn sign", "IAE", [(1, 2)]))) == [("sign", "is", "no turn")]


def test_an_implied_relation_points_at_no_word():
    one = reading("clock face", "EE", (), {(0, 1): (-1, "have")})
    (relation,) = [node for node in graph(one).nodes if node.role == "relation"]
    assert relation.index == -1
    one = reading("cup on top of table", "EOOOE", (), {(0, 4): (-1, "on top of")})
    (relation,) = [node for node in graph(one).nodes if node.role == "relation"]
    assert relation.index == 2  # "top", the longest of its words


def test_pieces_are_joined_in_order():
    first = graph(reading("red hat", "AE", [(0, 1)]))
    second = graph(reading("dog on mat", "EOE", (), {(0, 2): (-1, "on")}))
    both = join_graphs([first, second])
    assert both.words == ["red", "hat", "dog", "on", "mat"]
    assert set(facts_of(both)) == {("hat", "is", "red"), ("dog", "on", "mat")}
    assert [both.words[node.index] for node in both.nodes] == ["hat", "red", "dog", "mat", "on"]
    assert join_graphs([first]) is first


def test_an_indefinite_thing_of_a_denied_relation_is_denied_too():
    tokens = "a man not wearing a red hat".split()
    reading = Reading(
        tokens,
        ["O", "E", "O", "O", "O", "A", "E"],
        {1: "copy", 5: "copy", 6: "copy"},
        {(5, 6)},
        {(1, 6): (3, "")},
    )
    graph = graph_of(reading, tokens, {"wearing": "wear"})
    assert {node.label for node in graph.nodes if node.negated} == {"wear", "hat"}
    assert facts_of(graph) == [("man",)]
    tokens[4] = "the"  # that hat is somewhere
    graph = graph_of(reading, tokens, {"wearing": "wear"})
    assert {node.label for node in graph.nodes if node.negated} == {"wear"}
