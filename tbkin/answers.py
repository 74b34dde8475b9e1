"""Answers of visual question answering: how they are spelled, weighed and counted.

The spelling rules are those of the official VQA evaluation (Antol et al., "VQA: Visual Question
Answering", ICCV 2015; Goyal et al., CVPR 2017). Published figures were made with its oddities, so
they are reproduced rather than mended.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from functools import lru_cache

PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'  # apostrophe, colon and period are not in the official set
ARTICLES = frozenset({"a", "an", "the"})
NUMBER_WORDS = {
    "none": "0",
    "zero": "0",
    "one": "1",
    "two": "2",
    "three": "3",
    "four": "4",
    "five": "5",
    "six": "6",
    "seven": "7",
    "eight": "8",
    "nine": "9",
    "ten": "10",
}

# The official script passes ``re.UNICODE``, whose value is 32, where ``sub`` expects a count.
MOST_PERIODS = 32

# The official table lists, for each of these words, every spelling that lacks one apostrophe. Its
# rows for "Im", "Ive", "Id've" and "I'dve" are left out, since lower-cased words never match them,
# and so are "let's" and "she's", which it maps to themselves.
_WITH_APOSTROPHE = """
    ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't
    haven't he'd he'd've he's how'd how'll how's isn't it'd it'd've it'll ma'am mightn't mightn't've
    might've mustn't must've needn't not've o'clock oughtn't 'ow's'at shan't she'd've should've
    shouldn't shouldn't've somebody'd've somebody'll somebody's someone'd someone'd've someone'll
    someone's something'd something'd've something'll that's there'd there'd've there're there's
    they'd they'd've they'll they're they've 'twas wasn't we'd've we've weren't what'll what're
    what's what've when's where'd where's where've who'd who'd've who'll who's who've why'll why're
    why's won't would've wouldn't wouldn't've y'all y'all'll y'all'd've you'd you'd've you'll you're
    you've
"""
CONTRACTIONS = {
    word[:place] + word[place + 1 :]: word
    for word in _WITH_APOSTROPHE.split()
    for place, letter in enumerate(word)
    if letter == "'"
} | {"somebody'd": "somebodyd"}  # the one row that takes an apostrophe away

_DIGIT_COMMA_DIGIT = re.compile(r"\d,\d")
_PERIOD = re.compile(r"\.(?!\d)")


# Millions of answers have few spellings: the results for the latest ones are kept.
_remember = lru_cache(maxsize=1 << 16)


@_remember
def normalize_answer(text: str) -> str:
    """Spell an answer as the official evaluation compares it: ``"Two dogs."`` -> ``"2 dogs"``.

    White space, then punctuation, then word by word: lower case, number words to digits, articles
    dropped, missing apostrophes put back. May leave nothing: ``"A"`` -> ``""``.
    """
    words = normalize_punctuation(normalize_spaces(text)).lower().split()
    words = [NUMBER_WORDS.get(word, word) for word in words]
    return " ".join(CONTRACTIONS.get(word, word) for word in words if word not in ARTICLES)


@_remember
def normalize_answer_as_mmf(text: str) -> str:
    """Spell an answer as the toolkit MMF does: ``"yes,sir"`` -> ``"yessir"``.

    Lower case; every comma and question mark deleted and every ``'s`` set apart; the rest is
    :func:`normalize_answer`. So ``"it's"`` -> ``"it 's"``, while a missing apostrophe is still put
    back in one piece: ``"whats"`` -> ``"what's"``.

    Source: what facebookresearch/mmf's ``EvalAIAnswerProcessor`` does; the words are ours.
    """
    return normalize_answer(text.lower().replace(",", "").replace("?", "").replace("'s", " 's"))


@_remember
def normalize_spaces(text: str) -> str:
    """Newlines and tabs become spaces; none are left at the ends."""
    return text.replace("\n", " ").replace("\t", " ").strip()


@_remember
def normalize_punctuation(text: str) -> str:
    """Delete a mark, or put a space for it; drop periods that no digit follows.

    A mark is deleted everywhere if it stands next to a space anywhere in ``text``, or if ``text``
    holds digit-comma-digit; otherwise it becomes a space: ``"t-shirt"`` -> ``"t shirt"``.
    """
    delete_all = _DIGIT_COMMA_DIGIT.search(text) is not None
    result = text
    for mark in PUNCTUATION:
        if mark in text:
            delete = delete_all or f"{mark} " in text or f" {mark}" in text
            result = result.replace(mark, "" if delete else " ")
    return _PERIOD.sub("", result, count=MOST_PERIODS)


def soft_score(matches: int, annotators: int = 10) -> float:
    r"""Score of an answer that ``matches`` of the annotators gave.

    Each annotator is left out in turn and the answer is compared with the others:

    .. math::
        \frac{1}{n} \sum_{i=1}^{n} \min\left(1, \frac{\text{matches among all but } i}{3}\right)

    With ten annotators this is 0, 0.3, 0.6, 0.9, 1 for 0, 1, 2, 3, 4 or more matches; it is not
    ``min(1, matches / 3)``. With few annotators even unanimity scores below 1 (three of three:
    2/3), and a lone annotator, who has nobody to be compared with, always scores 0.

    Returns:
        Score in [0, 1].
    """
    if not 0 <= matches <= annotators or annotators < 1:
        raise ValueError(
            f"matches must be between 0 and the number of annotators (at least 1), "
            f"got {matches} of {annotators}."
        )
    # In thirds, as whole numbers: 0.3 comes out as 0.3 and 1 as 1.
    those_who_match = matches * min(3, matches - 1)
    the_others = (annotators - matches) * min(3, matches)
    return (those_who_match + the_others) / (3 * annotators)


def soft_targets(answers: list[str]) -> dict[str, float]:
    """What each answer of one question is worth as a training target.

    Args:
        answers: one raw answer an annotator, ten in VQA 2.0.

    Returns:
        Normalised answer -> its score in [0, 1], the commonest first, ties in the order given.
    """
    counts = Counter(map(normalize_answer, answers))
    return {answer: soft_score(count, len(answers)) for answer, count in counts.most_common()}


def answer_frequencies(answers: list[str]) -> dict[str, float]:
    """How large a share of the annotators gave each answer of one question.

    Args:
        answers: one raw answer an annotator, ten in VQA 2.0.

    Returns:
        Normalised answer -> count / annotators in (0, 1], adding up to 1; ordered as in
        :func:`soft_targets`.
    """
    counts = Counter(map(normalize_answer, answers))
    return {answer: count / len(answers) for answer, count in counts.most_common()}


def build_answer_vocabulary(answers: Iterable[str], min_count: int) -> list[str]:
    """The answers a classifier can give, the commonest first, ties in alphabetical order.

    Args:
        answers: raw answers of the training split. The 3,129 labels of the literature count each
            question's ``multiple_choice_answer``; annotators' answers give a longer list.
        min_count: how often an answer must occur once normalised; >= 1 (the literature: 9).

    Returns:
        Normalised answers, none empty; depends on how often each was seen, not on the order.
    """
    if min_count < 1:
        raise ValueError(f"min_count must be >= 1, got {min_count}.")
    counts: Counter[str] = Counter()
    for raw, count in Counter(answers).items():  # each spelling is normalised once
        counts[normalize_answer(raw)] += count
    del counts[""]
    kept = [answer for answer, count in counts.items() if count >= min_count]
    return sorted(kept, key=lambda answer: (-counts[answer], answer))
