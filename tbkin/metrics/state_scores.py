"""Scores of all pictures of a split with all its captions, by a scorer of regions and words.

Apart from rounding, a pair's score depends on neither the other pairs nor on padding, so the table
is the same however the split was cut into batches.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

GROUP = 256  # captions scored together; of about one length, so that little of it is padding


@torch.no_grad()
def score_states(scorer: Any, pictures: Sequence[Tensor], captions: Sequence[Tensor]) -> Tensor:
    """The table that a scorer makes, where its weights are.

    Args:
        scorer: module ``(region states (I, R, D), mask (I, R), word states (C, T, D), mask (C, T))
            ->`` scores (I, C), as ``model/sgraf.py`` has it.
        pictures: of each picture (its regions, D), anywhere.
        captions: of each caption (its words, D).

    Returns:
        (I, C) float32 on the CPU, picture by caption.
    """
    device = next(scorer.parameters()).device
    regions = _padded(pictures, device)
    table = torch.empty(len(pictures), len(captions))
    by_length = sorted(range(len(captions)), key=lambda place: len(captions[place]))
    for start in range(0, len(captions), GROUP):
        places = by_length[start : start + GROUP]
        words = _padded([captions[place] for place in places], device)
        table[:, places] = scorer(*regions, *words).cpu().float()
    return table


def _padded(states: Sequence[Tensor], device: torch.device) -> tuple[Tensor, Tensor]:
    """(N, longest, D) and where something is, (N, longest) bool."""
    lengths = torch.tensor([len(one) for one in states], device=device)
    padded = pad_sequence(list(states), batch_first=True).to(device)
    return padded, torch.arange(padded.shape[1], device=device) < lengths[:, None]
