import pytest
from hypothesis import given
from hypothesis import strategies as st

from tbkin.parsers.learned_spelling import Speller
from tbkin.parsers.learned_words import PIECE, is_word, pieces_of, plain, split_words, tokenize


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("A dog, on the mat.", ["a", "dog", ",", "on", "the", "mat", "."]),
        ("man's t-shirt isn't red", ["man", "'s", "t-shirt", "is", "n't", "red"]),
        ("the boy\u2019s bike", ["the", "boy", "'s", "bike"]),
        ("1,000 birds & 3.5 cats", ["1,000", "birds", "&", "3.5", "cats"]),
        ("snow_board(er)", ["snow", "_", "board", "(", "er", ")"]),
        ("\uff32\uff25\uff24 hat", ["red", "hat"]),  # full-width letters
        ("", []),
    ],
)
def test_tokens(text, tokens):
    assert tokenize(text) == tokens


@given(st.text(max_size=300))
def test_tokens_are_slices_of_the_text_in_order(text):
    at = 0
    for token in split_words(text):
        at = text.index(token, at) + len(token)
        assert not any(sign.isspace() for sign in token)


def test_a_short_text_is_one_piece_and_a_long_one_is_cut_between_sentences():
    assert pieces_of(["a", ".", "b"]) == [(0, 3)]
    assert pieces_of([]) == []
    # Sentences of 15 tokens: two fit into 40, three do not.
    tokens = [*"abcdefghijklmn", "."] * 3
    assert pieces_of(tokens) == [(0, 30), (30, 45)]


@given(st.lists(st.sampled_from(["a", ".", ",", "b"]), max_size=300))
def test_pieces_cover_a_text_once_and_are_short(tokens):
    pieces = pieces_of(tokens)
    assert [k for start, end in pieces for k in range(start, end)] == list(range(len(tokens)))
    assert all(0 < end - start <= PIECE for start, end in pieces)


def test_only_signs_are_no_word():
    assert [is_word(token) for token in ("dog", "'s", "2", "?", "''")] == [
        True, True, True, False, False,
    ]  # fmt: skip


def test_a_giant_word_is_read_by_its_first_letters():
    assert plain("X" * 5000) == "x" * 64


@pytest.fixture
def speller():
    return Speller(["plate", "plane", "mug", "mugs", "wing"], {"pate"}, {"frisbe": "frisbee"})


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("palte", "plate"),  # neighbours swapped
        ("plat", "plate"),  # a letter missing; of plate and plane only plate is one step away
        ("plaze", "plate"),  # both are one step away: the more frequent comes first
        ("pate", "pate"),  # a word of its own
        ("mugd", "mugd"),  # only another ending
        ("xing", "xing"),  # the first letter is not in doubt
        ("frisbe", "frisbee"),  # from the table
        ("wng", "wng"),  # too short to say
        ("plåte", "plåte"),  # not a few Latin letters
        ("plate", "plate"),
    ],
)
def test_slips_of_one_letter(speller, word, meant):
    assert speller(word) == meant
    assert speller(word) == meant  # and again, from memory
