import importlib.metadata

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tbkin.graphs.facts import facts_of
from tbkin.graphs.scene_graph import SceneGraph
from tbkin.parsers import PARSERS, load_parser, resolve_parser, spacy_rules
from tbkin.parsers.spacy_rules import installed_model

HAS_SPACY = installed_model() is not None
needs_model = pytest.mark.skipif(not HAS_SPACY, reason="no spaCy English model is installed")
NAMES = [pytest.param(name, marks=[needs_model] if "spacy" in name else []) for name in PARSERS]
EVERY = pytest.mark.parametrize("parser", NAMES)
BOTH = pytest.mark.parametrize("parser", [one for one in NAMES if "rules" in one.values[0]])

ODD_TEXTS = {
    "nothing": "",
    "white space": " \t\n ",
    "punctuation": '?!... --- ,,, () [] "\'"',
    "emoji": "🐶 next to 🚗🏽‍♂️?",
    "only function words": "is the of to what how many",
    "only relations": "left of above in on to the left of",
    "starts with a relation": "on the table",
    "ends with a relation": "the circle to the left of the",
    "one word": "circle",
    "numbers": "2 dogs, 3.5 cats & 1,000 birds",
    "Chinese": "红色圆圈左边的方块是什么颜色",
    "Arabic": "ما لون الدائرة",
    "Cyrillic": "какого цвета круг слева от квадрата",
    "combining marks": "e\u0301 z\u0335\u0321 a\u0300",
    "control characters": "a\x00b \u200b\u202e\ufeff circle",
    "contractions": "isn't it the dog's o'clock?",
    "markup": "<b>red</b> & 'x'; DROP TABLE circles",
    "upper case": "WHAT COLOR IS THE CIRCLE?",
    "repeated": "red red red circle circle",
}


def described(graph):
    """(objects, attribute pairs, counts, relations) by label."""
    label = [node.label for node in graph.nodes]
    roles = {role: {node.label for node in graph.nodes if node.role == role}
             for role in ("object", "count")}  # fmt: skip
    attributes = {
        (label[edge.source], label[edge.target])
        for edge in graph.edges
        if edge.type == "attribute" and graph.nodes[edge.target].role == "attribute"
    }
    relations = {}
    for edge in graph.edges:
        if edge.type == "relation":
            relations.setdefault(label[edge.source], {})[edge.predicate] = label[edge.target]
    return (
        roles["object"],
        attributes,
        roles["count"],
        {(ends.get("subject"), name, ends.get("object")) for name, ends in relations.items()},
    )


@BOTH
@pytest.mark.parametrize("text", ODD_TEXTS.values(), ids=ODD_TEXTS)
def test_odd_text_gives_a_sound_graph_of_its_words(parser, text):
    graph = load_parser(parser)(text)
    assert isinstance(graph, SceneGraph)
    graph.check()
    assert all(word in text for word in graph.words)
    assert {node.type for node in graph.nodes} <= {"word"}
    places = [node.index for node in graph.nodes]
    assert len(set(places)) == len(places), "a word has at most one node"
    assert all(edge.source != edge.target for edge in graph.edges)


@BOTH
def test_a_very_long_text_is_parsed_to_its_end(parser):
    graph = load_parser(parser)("the red circle above the blue square " * 285 + "the green star")
    assert len(graph.words) == 285 * 7 + 3
    assert graph.nodes
    assert max(node.index for node in graph.nodes) == len(graph.words) - 1


SENTENCES = {
    "What color is the circle to the left of the large red square?": (
        {"circle", "square"},
        {("square", "large"), ("square", "red")},
        set(),
        {("circle", "left of", "square")},
    ),
    "How many small green triangles are there?": (
        {"triangle"},
        {("triangle", "small"), ("triangle", "green")},
        set(),
        set(),
    ),
    "Is the star above the blue cross?": (
        {"star", "cross"},
        {("cross", "blue")},
        set(),
        {("star", "above", "cross")},
    ),
    "Is there a dog next to the couch?": (
        {"dog", "couch"},
        set(),
        set(),
        {("dog", "next to", "couch")},
    ),
    "What shape is the blue thing inside the square?": (
        {"thing", "square"},
        {("thing", "blue")},
        set(),
        {("thing", "inside", "square")},
    ),
    "Two black cats on top of a wooden table": (
        {"cat", "table"},
        {("cat", "black"), ("table", "wooden")},
        {"2"},
        {("cat", "on top of", "table")},
    ),
}


@BOTH
@pytest.mark.parametrize(("text", "expected"), SENTENCES.items(), ids=SENTENCES)
def test_both_parsers_understand_plain_sentences(parser, text, expected):
    assert described(load_parser(parser)(text)) == expected


@BOTH
def test_a_man_riding_a_brown_horse_on_the_beach(parser):
    objects, attributes, _, relations = described(
        load_parser(parser)("A man riding a brown horse on the beach")
    )
    assert objects == {"man", "horse", "beach"}
    assert attributes == {("horse", "brown")}
    assert ("man", "ride", "horse") in relations
    # Who is on the beach is a matter of attachment: the man (spaCy) or the last noun (word rules).
    assert relations - {("man", "ride", "horse")} <= {
        ("man", "on", "beach"),
        ("horse", "on", "beach"),
    }


@BOTH
def test_predicate_adjectives_garments_and_negation(parser):
    parse = load_parser(parser)
    assert described(parse("Is the circle red?"))[:2] == ({"circle"}, {("circle", "red")})
    relations = described(parse("A woman in a red dress holding an umbrella"))[3]
    assert relations == {("woman", "wear", "dress"), ("woman", "hold", "umbrella")}
    graph = parse("A man without a shirt is not wearing a hat.")
    assert {node.label for node in graph.nodes if node.negated} == {"with", "shirt", "wear", "hat"}
    assert facts_of(graph) == [("man",)]


@EVERY
@given(text=st.text(max_size=300))
@example(text="_")
@settings(max_examples=60, deadline=None)
def test_any_text_gives_a_sound_graph(parser, text):
    graph = load_parser(parser)(text)
    graph.check()
    facts_of(graph)
    assert all(word and word in text for word in graph.words)


@EVERY
@given(text=st.text(min_size=1, max_size=40))
@settings(max_examples=4, deadline=None)
def test_ten_thousand_characters_of_anything(parser, text):
    graph = load_parser(parser)((text * 10_000)[:10_000])
    graph.check()
    facts_of(graph)


FRAGMENTS = (
    "dog ", "dog's ", "snow covered ", "of a dog ", "and a dog ", "that the dog ", "them ", "can ",
    "in front of it ", "not ", "in ", "each other ", "a group of ", "running and ", "is ", "it ",
    "the dog has ", "-", "two of ", "left of ", "man wearing ", "a reflection of ", "he ", ", ",
    "long sleeved ", "no dog ", "next to walk ", "who is that is ", "colored ", "while ",
)  # fmt: skip


@EVERY
@given(parts=st.lists(st.sampled_from(FRAGMENTS), max_size=40))
@settings(max_examples=100, deadline=None)
def test_nonsense_of_meaningful_words_gives_a_sound_graph(parser, parts):
    graph = load_parser(parser)("".join(parts))
    graph.check()
    facts_of(graph)


@EVERY
@pytest.mark.parametrize(
    "fragment", ["dog's ", "and a dog ", "that the dog ", "of it ", "red and "]
)
def test_long_chains_do_not_exhaust_the_stack(parser, fragment):
    graph = load_parser(parser)((fragment * 5000)[:10_000])
    assert len(graph.words) > 1000


@BOTH
def test_word_nodes_point_at_their_words(parser):
    text = "What color is the circle to the left of the large red square?"
    graph = load_parser(parser)(text)
    assert graph.words == text.rstrip("?").split()
    at = {node.label: graph.words[node.index] for node in graph.nodes}
    # "to the left of" is represented by its content word.
    assert at == {
        "circle": "circle", "square": "square", "large": "large", "red": "red", "left of": "left"
    }  # fmt: skip


@BOTH
def test_upper_case_and_plural_do_not_matter(parser):
    parse = load_parser(parser)
    one = parse("how many small green triangles are there?")
    other = parse("How many small green triangle are there")
    assert described(one) == described(other)


def test_the_table_lists_the_parsers():
    assert set(PARSERS) >= {"spacy_rules", "word_rules"}
    with pytest.raises(ValueError, match=r"unknown parser 'spacy'; choose from: .*word_rules"):
        load_parser("spacy")


def test_without_a_spacy_model_auto_is_word_rules(monkeypatch):
    import tbkin.parsers

    monkeypatch.setattr(tbkin.parsers, "installed_model", lambda: None)
    monkeypatch.setattr(spacy_rules, "installed_model", lambda: None)
    assert resolve_parser("auto") == "learned"
    assert resolve_parser("auto", "question") == "word_rules"
    assert load_parser("auto", "question")("a red circle").nodes
    with pytest.raises(ValueError, match=r"none is installed; .*spacy download.*word_rules"):
        load_parser("spacy_rules")


def test_with_a_spacy_model_auto_is_spacy_rules(monkeypatch):
    import tbkin.parsers

    monkeypatch.setattr(tbkin.parsers, "installed_model", lambda: "en_core_web_sm")
    assert resolve_parser("auto", "question") == "spacy_rules"


@pytest.mark.parametrize(
    ("installed", "best"),
    [
        ([], None),
        (["de_core_news_lg"], None),  # not English
        (["en_core_web_sm", "en_core_web_md"], "en_core_web_md"),
        (["en_core_web_sm", "en_core_web_trf", "en_core_web_lg"], "en_core_web_trf"),
        (["en_mine"], "en_mine"),
    ],
)
def test_the_best_installed_model_is_used(monkeypatch, installed, best):
    points = [importlib.metadata.EntryPoint(name, name, "spacy_models") for name in installed]
    monkeypatch.setattr(spacy_rules, "entry_points", lambda group: points)
    assert installed_model() == best
