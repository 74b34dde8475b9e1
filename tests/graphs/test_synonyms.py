import itertools

import pytest

from data_prep.tiny_scenes import COLORS, SHAPES, SIZES
from tbkin.graphs.synonyms import (
    FIRST_NAME,
    KINDS,
    NOT_ITS_HEAD,
    PEOPLE,
    ROLES,
    SYNONYMS,
    are_different,
    first_name,
    is_kind_of,
    may_be_one,
    usual_spelling,
)
from tbkin.graphs.words import label_similarity, lemma_of_name


def names(row):
    return [name.strip() for name in row.split(",")]


def test_no_name_has_two_meanings_among_the_synonyms():
    said = [name for row in SYNONYMS for name in names(row)]
    assert len(said) == len(set(said))
    assert all(len(names(row)) > 1 for row in SYNONYMS)
    assert all(name == " ".join(name.lower().split()) for name in [*said, *NOT_ITS_HEAD])


def test_nothing_is_a_kind_of_a_kind_of_itself():
    for thing, row in KINDS.items():
        for kind in names(row):
            assert first_name(kind) not in is_kind_of(thing), f"{thing} and {kind}"


@pytest.mark.parametrize(
    ("name", "steps"),
    [
        ("poodle", {"poodle": 0, "dog": 1, "animal": 2}),
        ("sofa", {"couch": 0, "furniture": 1, "seat": 1}),
        ("lady", {"woman": 0, "person": 1}),
        ("skier", {"skier": 0, "person": 1}),
        ("quark", {"quark": 0}),
    ],
)
def test_what_a_thing_is(name, steps):
    assert is_kind_of(name) == steps


@pytest.mark.parametrize(
    ("name", "other", "different"),
    [
        ("cat", "dog", True),
        ("man", "lady", True),
        ("circle", "square", True),
        ("poodle", "kitten", True),
        ("dog", "poodle", False),
        ("dog", "animal", False),
        ("couch", "sofa", False),
        ("player", "girl", False),
        ("player", "batter", False),
        ("dog", "quark", False),  # nothing is known
    ],
)
def test_are_different(name, other, different):
    assert are_different(name, other) is different
    assert are_different(other, name) is different


def test_who_may_be_who():
    assert may_be_one("player", "girl")
    assert may_be_one("gentleman", "waiter")
    assert not may_be_one("man", "woman")
    assert not may_be_one("player", "dog")
    assert not ROLES & PEOPLE


def test_spellings():
    assert usual_spelling("skate board") == "skateboard"
    assert usual_spelling("t-shirt") == "t-shirt"  # known as it is
    assert usual_spelling("base ball") == "baseball"
    assert usual_spelling("alarm clock") == "alarm clock"
    assert first_name("doughnut") == FIRST_NAME["donut"] == "donut"


def test_the_tiny_worlds_words_stay_apart():
    # Questions of the tiny world tell these apart; only the synonyms for sizes may meet.
    words = {*COLORS, *SHAPES, *SIZES, "left", "right", "left of", "right of", "above", "below"}
    assert len(words) > 12
    for word, other in itertools.combinations(sorted(words), 2):
        assert label_similarity(word, other) == 0.0, (word, other)
    for word in words:
        assert label_similarity(word, word) == 1.0
        # "What shape is the red thing?" asks for one, it names none.
        for asked in ("shape", "size", "color", "colour", "number"):
            assert label_similarity(asked, word) == 0.0
    assert lemma_of_name("Alarm_Clocks") == "alarm clock"
