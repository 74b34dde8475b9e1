import pytest

from tbkin.graphs.words import HEAD_NOUN, SYNONYM, is_generic, label_similarity, lemma


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
        ("", "", 0.0),  # grid cells have no label: nothing names them
        ("circle", "", 0.0),
    ],
)
def test_similarity(word, label, expected):
    assert label_similarity(word, label) == expected


def test_strengths_lie_above_the_threshold_in_order():
    assert 0.5 < HEAD_NOUN < SYNONYM < 1


def test_generic_words_name_no_class():
    assert is_generic("things")
    assert is_generic("Object")
    assert not is_generic("circle")
