"""A tokenizer that learns the words of new data, so that a checkpoint can be taught on."""

from __future__ import annotations

import json

from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast


def add_words(
    tokenizer: PreTrainedTokenizerFast, other: PreTrainedTokenizerFast
) -> tuple[PreTrainedTokenizerFast, int]:
    """The tokenizer with the words of another behind its own, whose ids stay.

    Args:
        tokenizer: of whole words (``build_tokenizer``); one of word pieces spells every word
            already and is returned as it is.
        other: of whole words.

    Returns:
        The tokenizer, and how many words were added.
    """
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    if state["model"]["type"] != "WordLevel":
        return tokenizer, 0
    known = state["model"]["vocab"]
    added = sorted(other.get_vocab().keys() - tokenizer.get_vocab().keys())
    if not added:
        return tokenizer, 0
    known.update(tokenizer.get_vocab())  # tokens added behind the words keep their numbers
    known.update({word: len(known) + place for place, word in enumerate(added)})
    longer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(state)), **tokenizer.special_tokens_map
    )
    return longer, len(added)
