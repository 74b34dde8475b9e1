import pytest
import torch

from tbkin.metrics.grounding_accuracy import IOUS, score_boxes
from tbkin.metrics.grounding_baselines import candidate_figures

CANDIDATES = {
    1: torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 6], [0, 0, 30, 30], [50, 50, 80, 80]]),
    2: torch.tensor([[0.0, 0, 10, 4]]),
    3: torch.zeros(0, 4),
}
GOLD = {
    10: {"image_id": 1, "box": [0.0, 0, 10, 10]},
    11: {"image_id": 1, "box": [0.0, 0, 10, 5]},
    12: {"image_id": 2, "box": [0.0, 0, 10, 10]},
    13: {"image_id": 3, "box": [0.0, 0, 10, 10]},
}


def test_figures_by_hand():
    # IoUs of sentence 10: 1, 0.6, 1/9, 0; of 11: 0.5, 5/6, 5/90, 0; of 12: 0.4; 13 has nothing.
    found = candidate_figures(CANDIDATES, GOLD)
    assert found["oracle"] == {
        "accuracy@0.5": 0.5,
        "accuracy@0.7": 0.5,
        "mean_iou": pytest.approx((1 + 5 / 6 + 0.4) / 4),
        "sentences": 4,
    }
    assert found["random"] == {
        "accuracy@0.5": (2 / 4 + 2 / 4) / 4,
        "accuracy@0.7": (1 / 4 + 1 / 4) / 4,
        "mean_iou": pytest.approx(((1 + 0.6 + 1 / 9) / 4 + (0.5 + 5 / 6 + 5 / 90) / 4 + 0.4) / 4),
        "sentences": 4,
    }
    # Of two of 30 x 30 the first.
    assert found["largest"] == {
        "accuracy@0.5": 0.0,
        "accuracy@0.7": 0.0,
        "mean_iou": pytest.approx((1 / 9 + 5 / 90 + 0.4) / 4),
        "sentences": 4,
    }
    # An IoU of exactly one half is not above it.
    strict = candidate_figures(CANDIDATES, GOLD, comparison="gt")
    assert strict["random"]["accuracy@0.5"] == (2 / 4 + 1 / 4) / 4


def random_world():
    random = torch.Generator().manual_seed(0)
    corners = torch.randint(0, 30, (60, 2), generator=random).double()
    boxes = torch.cat([corners, corners + torch.randint(5, 30, (60, 2), generator=random)], dim=1)
    candidates = {image: boxes[10 * image : 10 * image + 3 + image] for image in range(4)}
    gold = {
        100 + number: {"image_id": number % 4, "box": boxes[40 + number].tolist()}
        for number in range(20)
    }
    return candidates, gold


@pytest.mark.parametrize("form", IOUS)
def test_each_is_the_score_of_a_way_to_choose(form):
    candidates, gold = random_world()

    def score(choose):
        said = {n: candidates[row["image_id"]][choose(n)].tolist() for n, row in gold.items()}
        return score_boxes(said, gold, form)

    found = candidate_figures(candidates, gold, form)
    # Pictures have 3, 4, 5 and 6 candidates: in 60 rounds each comes up as often as any other.
    rounds = [score(lambda n, turn=turn: turn % len(candidates[gold[n]["image_id"]]))
              for turn in range(60)]  # fmt: skip
    sizes = {
        image: (boxes[:, 2:] - boxes[:, :2]).prod(dim=1).tolist()
        for image, boxes in candidates.items()
    }
    largest = score(lambda n: sizes[gold[n]["image_id"]].index(max(sizes[gold[n]["image_id"]])))
    for key in ("accuracy@0.5", "accuracy@0.7", "mean_iou"):
        mean = sum(one[key] for one in rounds) / 60
        assert found["random"][key] == pytest.approx(mean)
        assert found["largest"][key] == largest[key]
        assert all(found["oracle"][key] >= one[key] for one in rounds)
    assert found["oracle"]["accuracy@0.5"] > found["random"]["accuracy@0.5"] > 0


def test_annotated_boxes_reach_everything():
    gold = {n: row for n, row in GOLD.items() if n < 13}
    candidates = {
        image: torch.tensor([row["box"] for row in gold.values() if row["image_id"] == image])
        for image in (1, 2)
    }
    oracle = candidate_figures(candidates, gold)["oracle"]
    assert (oracle["accuracy@0.7"], oracle["mean_iou"]) == (1, 1)


def test_mistakes_are_named():
    with pytest.raises(LookupError, match="no candidate boxes of image 3"):
        candidate_figures({1: CANDIDATES[1], 2: CANDIDATES[2]}, GOLD)
    with pytest.raises(ValueError, match="no sentences to score"):
        candidate_figures(CANDIDATES, {})
    with pytest.raises(ValueError, match="annotated box of sentence 5 must be four"):
        candidate_figures(CANDIDATES, {5: {"image_id": 1, "box": [1]}})
    with pytest.raises(ValueError, match="unknown iou 'soft'"):
        candidate_figures(CANDIDATES, GOLD, "soft")
