"""The table of a scorer: each pair as it is by itself, whatever is scored beside it."""

import pytest
import torch

from tbkin.metrics import state_scores
from tbkin.metrics.state_scores import score_states
from tbkin.model.sgraf import FineGrainedScorer

WIDTH = 6


def made_up(*lengths, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(length, WIDTH, generator=generator) for length in lengths]


@pytest.mark.parametrize("kind", ["saf", "sgr"])
def test_against_pairs_one_by_one(monkeypatch, kind):
    monkeypatch.setattr(state_scores, "GROUP", 2)
    torch.manual_seed(0)
    scorer = FineGrainedScorer(kind, WIDTH, WIDTH, hidden_size=8, alignment_size=4)
    pictures, captions = made_up(3, 0, 5), made_up(4, 1, 6, 2, 4, seed=1)
    table = score_states(scorer, pictures, captions)
    assert (table.shape, table.dtype, table.requires_grad) == ((3, 5), torch.float32, False)
    assert table.std() > 1e-3
    for row, regions in enumerate(pictures):
        for column, words in enumerate(captions):
            present = [torch.ones(1, len(states)) for states in (regions, words)]
            with torch.no_grad():
                alone = scorer.score_pairs(regions[None], present[0], words[None], present[1])
            assert table[row, column].item() == pytest.approx(alone.item(), abs=1e-6)


def test_captions_of_one_length_are_scored_together(monkeypatch):
    monkeypatch.setattr(state_scores, "GROUP", 2)
    shapes = []

    class Counting(torch.nn.Linear):
        def forward(self, regions, region_mask, words, word_mask):
            shapes.append(tuple(words.shape[:2]))
            return region_mask.sum(dim=1)[:, None] * 10 + word_mask.sum(dim=1)

    table = score_states(Counting(1, 1), made_up(2, 3), made_up(9, 1, 8, 2))
    assert shapes == [(2, 2), (2, 9)]
    assert table.tolist() == [[29, 21, 28, 22], [39, 31, 38, 32]]
