"""Two stages: who is looked at again, and what the second look makes of the scores."""

from types import SimpleNamespace

import pytest
import torch
from accelerate import Accelerator

from tbkin.ranking import Candidates, Judge, MatchScores, PairDataset, look_again
from tbkin.running import Runner

IMAGES, CAPTIONS = 6, 9


def first_scores():
    return torch.randn(IMAGES, CAPTIONS, generator=torch.Generator().manual_seed(0))


def test_candidates_worked_by_hand():
    # Scores: picture 0 has 3, 2, 1; picture 1 has 0, 4, 5.
    found = Candidates.of(torch.tensor([[3.0, 2.0, 1.0], [0.0, 4.0, 5.0]]), 1)
    assert found.captions.tolist() == [[0], [2]]
    assert found.images.tolist() == [[0], [1], [1]]
    # (0, 0) and (1, 2) are the best of both sides; they come once.
    assert found.pairs().tolist() == [[0, 0], [1, 1], [1, 2]]


@pytest.mark.parametrize("k", [0, 2, 50])
def test_each_pair_comes_once(k):
    found = Candidates.of(first_scores(), k)
    slowly = {
        (row, column) for row, columns in enumerate(found.captions.tolist()) for column in columns
    } | {(row, column) for column, rows in enumerate(found.images.tolist()) for row in rows}
    pairs = list(map(tuple, found.pairs().tolist()))
    assert pairs == sorted(slowly)
    assert (len(pairs) == IMAGES * CAPTIONS) == (k != 2)


def test_fits_are_the_log_odds_of_belonging_together():
    metric = MatchScores(3)
    outputs = SimpleNamespace(match_logits=torch.tensor([[1.0, 3.0], [0.5, 0.0]]))
    rows = metric.rows(outputs, {"pair_ids": torch.tensor([2, 0])})
    odds = outputs.match_logits.softmax(dim=1)
    assert torch.allclose(rows["fits"], (odds[:, 1] / odds[:, 0]).log())
    metric.update({name: torch.tensor(values.tolist()) for name, values in rows.items()})
    assert metric.scores[[2, 0]].tolist() == [2.0, -0.5]
    assert metric.scores[1].isnan()


class Pairs:
    """A data set of nine captions; picture i has number 10 i."""

    def __init__(self):
        images = [10 * (number * IMAGES // CAPTIONS) for number in range(CAPTIONS)]
        self.rows = [{"caption_id": n, "image_id": image} for n, image in enumerate(images)]

    def pair(self, image_id, place):
        return {"image": image_id // 10, "caption": place}


class Judging(torch.nn.Module):
    """Knows how well each picture and caption fit, and counts what it is asked."""

    def __init__(self, fits):
        super().__init__()
        self.fits, self.asked = fits, []

    def match(self, image, caption, pair_ids):
        self.asked += zip(image.tolist(), caption.tolist(), strict=True)
        fits = self.fits[image, caption]
        return SimpleNamespace(
            match_logits=torch.stack([torch.ones_like(fits), 1 + fits], dim=1),
            pooled=fits[:, None],
            attention_pairs=torch.ones(1, 5, 2),
            knowledge_kept=None,
            attention_gate=None,
        )


def collate(examples):
    batch = {name: torch.tensor([one[name] for one in examples]) for name in ("image", "caption")}
    return batch | {"pair_ids": torch.tensor([one["pair_id"] for one in examples])}


def second_stage(k, folder):
    fits = torch.randn(IMAGES, CAPTIONS, generator=torch.Generator().manual_seed(1))
    model = Judging(fits)
    runner = Runner(Accelerator(), model, Pairs(), collate, None, 4)
    return fits, model, look_again(runner, first_scores(), k, folder / "second", {"a": 1})


def test_pictures_and_captions_are_put_together_by_place():
    dataset = PairDataset(Pairs(), torch.tensor([[5, 0], [1, 8]]))
    assert [dataset[0], dataset[1]] == [
        {"image": 5, "caption": 0, "pair_id": 0},
        {"image": 1, "caption": 8, "pair_id": 1},
    ]


def test_the_best_k_are_ordered_by_the_second_look_above_all_others(tmp_path):
    fits, model, found = second_stage(3, tmp_path)
    for scores, first, fused in (
        (found.image_scores, first_scores(), fits),
        (found.caption_scores, first_scores().T, fits.T),
    ):
        for row in range(len(scores)):
            by_first = first[row].argsort(descending=True).tolist()
            best = sorted(by_first[:3], key=lambda item: -fused[row, item])
            assert scores[row].argsort(descending=True).tolist() == best + by_first[3:]
    assert len(model.asked) == len(set(model.asked)) == found.cost["passes"]
    assert set(model.asked) == set(map(tuple, Candidates.of(first_scores(), 3).pairs().tolist()))
    assert (found.cost["k"], found.cost["all_pairs"]) == (3, IMAGES * CAPTIONS)


def test_all_pairs_are_ordered_by_the_second_look_alone(tmp_path):
    fits, model, found = second_stage(0, tmp_path)
    assert torch.equal(found.image_scores.argsort(dim=1), fits.argsort(dim=1))
    assert torch.equal(found.caption_scores.argsort(dim=1), fits.T.argsort(dim=1))
    assert len(model.asked) == found.cost["passes"] == found.cost["all_pairs"]
    assert found.cost["k"] == "all"


@pytest.mark.parametrize("training", [True, False])
def test_a_judge_is_as_its_model_is(training):
    model = torch.nn.Linear(1, 1).train(training)
    assert Judge(model).training is model.training is training
