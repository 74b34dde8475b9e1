import random

import pytest

from tbkin.answers import (
    answer_frequencies,
    build_answer_vocabulary,
    normalize_answer,
    normalize_answer_as_mmf,
    normalize_punctuation,
    soft_score,
    soft_targets,
)


@pytest.mark.parametrize(
    ("raw", "normalised", "as_mmf"),
    [  # made by running the official script; MMF's worked by hand, None where it is the same
        ("Two dogs.", "2 dogs", None),
        ("1,000", "1000", None),
        ("10,000-20,000", "1000020000", "10000 20000"),
        ("t-shirt", "t shirt", None),
        ("red/white", "red white", None),
        ("yes, sir", "yes sir", None),
        ("yes,sir", "yes sir", "yessir"),
        ("a.m.", "am", None),
        (".5", ".5", None),
        ("5.", "5", None),
        ("it's 2:50 pm", "it's 2:50 pm", "it 's 2:50 pm"),
        ("none", "0", None),
        ("dont", "don't", None),
        ("Im", "im", None),
        ("somebody'd", "somebodyd", None),
        ("A", "", None),
        ("twenty one", "twenty 1", None),
    ],
)
def test_golden_normalisations(raw, normalised, as_mmf):
    assert normalize_answer(raw) == normalised
    assert normalize_answer_as_mmf(raw) == (normalised if as_mmf is None else as_mmf)


@pytest.mark.parametrize(
    ("raw", "normalised"),
    [
        ("  the\tred\nball ", "red ball"),
        ("Yes", "yes"),
        ("ten a an the ZERO", "10 0"),
        ("", ""),
        ("(left", "left"),
        ("y'allll youve yall'd've", "y'all'll you've y'all'd've"),
        ("'ow'sat 'ows'at ow's'at", "'ow's'at 'ow's'at 'ow's'at"),
        ("let's she's", "let's she's"),
        ("shed wed well id", "shed wed well id"),  # words of their own, not in the table
        ("couldntve", "couldntve"),  # two apostrophes missing: not in the table
        ("what's up?", "what's up"),
    ],
)
def test_normalise_worked_by_hand(raw, normalised):
    assert normalize_answer(raw) == normalised


def test_where_a_mark_stands_decides_for_the_whole_text():
    assert normalize_punctuation("a-b c-d") == "a b c d"
    assert normalize_punctuation("a-b c -d") == "ab c d"
    assert normalize_punctuation("a-b 1,2") == "ab 12"
    assert normalize_punctuation("a-b, c/d") == "a b c d"  # the comma's place, not the hyphen's


def test_punctuation_keeps_case_articles_and_number_words():
    assert normalize_punctuation("The Two.") == "The Two"


def test_only_the_first_32_periods_go():
    assert normalize_answer("x" + "." * 32) == "x"
    assert normalize_answer("x" + "." * 35) == "x..."


@pytest.mark.parametrize(
    ("matches", "score"), [(0, 0.0), (1, 0.3), (2, 0.6), (3, 0.9), (4, 1.0), (7, 1.0), (10, 1.0)]
)
def test_soft_score_of_ten_annotators(matches, score):
    assert soft_score(matches) == score  # exactly: labels are compared by these numbers


def leave_one_out(matches, annotators):
    """The definition, literally."""
    matching = [True] * matches + [False] * (annotators - matches)
    total = 0.0
    for left_out in range(annotators):
        others = matching[:left_out] + matching[left_out + 1 :]
        total += min(1.0, sum(others) / 3)
    return total / annotators


def test_soft_score_is_the_literal_leave_one_out_mean():
    for annotators in range(1, 16):
        for matches in range(annotators + 1):
            expected = leave_one_out(matches, annotators)
            assert soft_score(matches, annotators) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("matches", "annotators"), [(11, 10), (-1, 10), (0, 0)])
def test_soft_score_refuses_impossible_counts(matches, annotators):
    with pytest.raises(ValueError, match=f"got {matches} of {annotators}"):
        soft_score(matches, annotators)


def test_soft_targets_count_normalised_answers():
    answers = ["two", "2", "Two.", "three", "3", "a dog", "cat", "cat", "cat", "cat"]
    assert soft_targets(answers) == {"cat": 1.0, "2": 0.9, "3": 0.6, "dog": 0.3}
    assert answers[0] == "two"


def test_soft_targets_of_few_annotators():
    assert soft_targets(["no", "no", "no"]) == {"no": pytest.approx(2 / 3)}
    assert soft_targets(["no"]) == {"no": 0.0}


def test_answer_frequencies_are_shares_of_the_annotators():
    answers = ["two", "2", "Two.", "three", "3", "a dog", "cat", "cat", "cat", "cat"]
    shares = answer_frequencies(answers)
    assert shares == pytest.approx({"cat": 0.4, "2": 0.3, "3": 0.2, "dog": 0.1})
    assert list(shares) == list(soft_targets(answers))
    assert answer_frequencies(["no", "No", "yes"]) == pytest.approx({"no": 2 / 3, "yes": 1 / 3})


def test_vocabulary_sorts_by_count_then_alphabet():
    answers = ["Yes"] * 3 + ["no", "No.", "no"] + ["2", "two"] + ["rare"]
    assert build_answer_vocabulary(answers, min_count=2) == ["no", "yes", "2"]
    assert build_answer_vocabulary(answers, min_count=3) == ["no", "yes"]


def test_vocabulary_does_not_depend_on_order():
    answers = ["b", "c", "d", "e"] * 2 + ["f"]
    expected = build_answer_vocabulary(answers, min_count=1)
    for seed in range(5):
        random.Random(seed).shuffle(answers)
        assert build_answer_vocabulary(iter(answers), min_count=1) == expected


def test_vocabulary_has_no_empty_answer():
    assert build_answer_vocabulary(["A", "the", "yes"], min_count=1) == ["yes"]


def test_vocabulary_names_a_bad_setting():
    with pytest.raises(ValueError, match="min_count must be >= 1, got 0"):
        build_answer_vocabulary([], min_count=0)
