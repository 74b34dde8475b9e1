import pytest
from hypothesis import given
from hypothesis import strategies as st

from tbkin.graphs.words import (
    HEAD_NOUN,
    KIND_OF_KIND,
    MAY_BE,
    SYNONYM,
    head_noun,
    is_generic,
    label_similarity,
    lemma,
    lemma_of_name,
)


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("Circles", "circle"),
        ("crosses", "cross"),  # "sses"
        ("boxes", "box"),
        ("benches", "bench"),
        ("parties", "party"),
        ("pies", "pie"),  # too short for "ies"
        ("people", "person"),
        ("wolves", "wolf"),
        ("buses", "bus"),
        ("glass", "glass"),  # "ss", "us" and "is" are no plurals
        ("cactus", "cactus"),
        ("tennis", "tennis"),
        ("gas", "gas"),  # three letters
        ("red", "red"),
        ("", ""),
    ],
)
def test_lemma(word, expected):
    assert lemma(word) == expected


@pytest.mark.parametrize(
    ("word", "label", "expected"),
    [
        ("circle", "circle", 1.0),
        ("Circles", "circle", 1.0),
        ("scissors", "scissors", 1.0),  # both sides lose their s
        ("man", "person", SYNONYM),
        ("women", "person", SYNONYM),
        ("big", "large", SYNONYM),
        ("sofa", "couch", SYNONYM),
        ("phone", "cell phone", SYNONYM),
        ("clock", "alarm clock", HEAD_NOUN),
        ("alarm", "alarm clock", 0.0),  # not the head
        ("dog", "cat", 0.0),
        ("large", "small", 0.0),
        ("person", "ball player", SYNONYM),  # the head noun's synonyms count
        ("girl", "person", KIND_OF_KIND),  # a kind of child
        ("animal", "poodle", KIND_OF_KIND),
        ("dog", "animal", SYNONYM),
        ("man", "woman", 0.0),  # two kinds of person
        ("player", "girl", MAY_BE),
        ("street sign", "stop sign", 0.0),  # two compounds of one head
        ("sign", "stop sign", HEAD_NOUN),
        ("big alarm clock", "alarm clock", HEAD_NOUN),
        ("alarm clocks", "clock", HEAD_NOUN),
        ("kitchen table", "dining table", SYNONYM),
        ("oval table", "dining table", HEAD_NOUN),
        ("dog", "hot dog", 0.0),
        ("hot dog", "dog", 0.0),
        ("hotdog", "hot dog", 1.0),
        ("skate board", "skateboard", 1.0),
        ("skate board", "surfboard", 0.0),
        ("Tooth-Brush", "toothbrush", 1.0),
        ("cell_phone", "Cell Phone", 1.0),
        ("airplane", "airplane,plane", 1.0),  # Visual Genome's names of one class
        ("couch", "chair,sofa", SYNONYM),
        ("dog", " , ", 0.0),
        ("red", "blue", 0.0),
        ("", "", 0.0),  # grid cells have no label: nothing names them
        ("circle", "", 0.0),
    ],
)
def test_similarity(word, label, expected):
    assert label_similarity(word, label) == expected


def test_strengths_lie_above_the_threshold_in_order():
    assert 0.5 < MAY_BE < 0.9 < KIND_OF_KIND < HEAD_NOUN < SYNONYM < 1


def test_generic_words_name_no_class():
    assert is_generic("things")
    assert is_generic("Object")
    assert not is_generic("circle")


def test_heads_of_compounds():
    assert head_noun("alarm clock") == "clock"
    assert head_noun("clock") == head_noun("hot dog") == head_noun("") == ""
    assert lemma_of_name(" Alarm_Clocks ") == "alarm clock"
    assert lemma_of_name("") == ""


@given(st.text(max_size=20), st.text(max_size=20))
def test_any_text_has_a_similarity_in_range(word, label):
    assert 0 <= label_similarity(word, label) <= 1
    if word.strip() and "," not in word:
        assert label_similarity(word, word) == 1
