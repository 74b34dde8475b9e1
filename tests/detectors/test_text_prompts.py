import math

import pytest
import torch

from tbkin.detectors.text_prompts import Prompt, build_prompts, word_scores


class Letters:
    """A tokenizer: a token a letter, spaces dropped; [CLS] is 1, [SEP] 2, the full stop 3."""

    cls_token_id, sep_token_id = 1, 2

    def __call__(self, text, add_special_tokens):
        assert not add_special_tokens
        return {"input_ids": [3 if c == "." else ord(c) for c in text if c.isalnum() or c == "."]}


def tokens(prompt, number):
    start, end = prompt.spans[number]
    return "".join(map(chr, prompt.ids[start:end]))


def test_words_stand_between_full_stops():
    (prompt,) = build_prompts(["cat", "Red Car "], Letters(), 20)
    assert prompt.ids == (1, *map(ord, "cat"), 3, *map(ord, "redcar"), 3, 2)
    assert prompt.words == (0, 1)
    assert prompt.spans == ((1, 4), (5, 11))


def test_a_long_vocabulary_is_split_at_the_limit():
    # A word of three letters takes four tokens, and each prompt two more: two words fill 10.
    words = ["cat", "dog", "hen", "cow", "fox"]
    prompts = build_prompts(words, Letters(), 10)
    assert [prompt.words for prompt in prompts] == [(0, 1), (2, 3), (4,)]
    assert [len(build_prompts(words, Letters(), limit)) for limit in (9, 13, 14, 22)] == [
        5,
        3,
        2,
        1,
    ]


@pytest.mark.parametrize("limit", range(8, 30))
def test_every_word_is_in_one_prompt_within_the_limit(limit):
    words = ["a", "bird", "cat", "dog", "ee", "flock", "g", "hi"] * 2
    prompts = build_prompts(words, Letters(), limit)
    assert [place for prompt in prompts for place in prompt.words] == list(range(16))
    for prompt in prompts:
        assert len(prompt.ids) <= limit
        for number, place in enumerate(prompt.words):
            assert tokens(prompt, number) == words[place]


@pytest.mark.parametrize("word", ["", "  ", "a. b", "!?"])
def test_words_that_are_none_are_refused(word):
    with pytest.raises(ValueError, match=r"detector\.vocabulary holds .*no full stop"):
        build_prompts(["cat", word], Letters(), 20)


def test_a_word_beyond_the_limit_is_named():
    with pytest.raises(ValueError, match="'elephants' has 9 tokens, and the text encoder takes 5"):
        build_prompts(["cat", "elephants"], Letters(), 8)


def test_the_score_of_a_word_is_the_mean_of_its_tokens():
    # sigmoid(log 3) = 3/4, sigmoid(-inf) = 0, sigmoid(0) = 1/2.
    prompt = Prompt(ids=(1, 9, 3, 8, 7, 3, 2), words=(4, 5), spans=((1, 2), (3, 5)))
    logits = torch.tensor([[9.0, math.log(3), 9, -math.inf, 0, 9, 9]])
    assert word_scores(logits, prompt).tolist() == [pytest.approx([0.75, 0.25])]
