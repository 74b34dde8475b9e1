"""A text vocabulary for Grounding DINO: words -> prompts, token scores -> word scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Prompt:
    """Some words of the vocabulary as one text ``[CLS] word . word . [SEP]``.

    Attributes:
        ids: the text's token ids.
        words: places of its words in the vocabulary.
        spans: first and past-the-last token of each of them.
    """

    ids: tuple[int, ...]
    words: tuple[int, ...]
    spans: tuple[tuple[int, int], ...]


def build_prompts(vocabulary: Sequence[str], tokenizer: Any, limit: int) -> list[Prompt]:
    """As few prompts as hold all words, in order, each of at most ``limit`` tokens.

    Grounding DINO hides the words of a prompt from one another (the full stop parts them), so
    that splitting a long vocabulary changes little but the time: the picture is looked at once a
    prompt.

    Args:
        vocabulary: words or short phrases; lower-cased, as the network was trained.
        tokenizer: of the network's text encoder.
        limit: of tokens, with the first and last.

    Raises:
        ValueError: a word that is empty, holds a full stop, or is longer than ``limit``.
    """
    (stop,) = tokenizer(".", add_special_tokens=False)["input_ids"]
    first, last = tokenizer.cls_token_id, tokenizer.sep_token_id
    prompts: list[Prompt] = []
    ids: list[int] = [first]
    words: list[int] = []
    spans: list[tuple[int, int]] = []
    for place, word in enumerate(vocabulary):
        tokens = tokenizer(word.strip().lower(), add_special_tokens=False)["input_ids"]
        if not tokens or "." in word:
            raise ValueError(
                f"detector.vocabulary holds {word!r}; a word must have letters and no full stop, "
                "which parts the words."
            )
        if len(tokens) + 3 > limit:
            raise ValueError(
                f"detector.vocabulary: {word!r} has {len(tokens)} tokens, and the text encoder "
                f"takes {limit - 3}; shorten it."
            )
        if len(ids) + len(tokens) + 2 > limit:
            prompts.append(Prompt((*ids, last), tuple(words), tuple(spans)))
            ids, words, spans = [first], [], []
        spans.append((len(ids), len(ids) + len(tokens)))
        words.append(place)
        ids += [*tokens, stop]
    if words:
        prompts.append(Prompt((*ids, last), tuple(words), tuple(spans)))
    return prompts


def word_scores(logits: Tensor, prompt: Prompt) -> Tensor:
    """How well every query fits every word of a prompt.

    The mean over the word's tokens of their sigmoid, as the authors evaluate on COCO (Liu et al.,
    "Grounding DINO", 2023, arXiv:2303.05499).

    Args:
        logits: (Q, T), one a query and token.
        prompt: the text that the tokens are of.

    Returns:
        (Q, words of the prompt) in [0, 1].
    """
    scores = logits.sigmoid()
    return torch.stack([scores[:, start:end].mean(dim=1) for start, end in prompt.spans], dim=1)
