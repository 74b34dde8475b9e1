from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tbkin.metrics.recall import (
    KS,
    Recall,
    folds,
    mean_figures,
    rank_figures,
    recall_figures,
    retrieval_figures,
)
from tbkin.metrics.relation import Relation


def slow_figures(scores, right):
    """Loops over Python numbers: rank = 1 + wrong items at least as good as the best right one."""
    ranks = []
    for row, truth in zip(scores.tolist(), right.tolist(), strict=True):
        best = max(score for score, true in zip(row, truth, strict=True) if true)
        ranks.append(
            1 + sum(score >= best and not true for score, true in zip(row, truth, strict=True))
        )
    ordered = sorted(ranks)
    middle = (ordered[(len(ranks) - 1) // 2] + ordered[len(ranks) // 2]) / 2
    return {
        **{f"R@{k}": 100 * sum(rank <= k for rank in ranks) / len(ranks) for k in KS},
        "median_rank": middle,
        "mean_rank": sum(ranks) / len(ranks),
    }


def of_recipe(seed, images=6):
    """The retrieval case of CUSA's reference values, which are its recipe, of any size."""
    scores = np.round(np.random.RandomState(seed).standard_normal((images, 5 * images)), 6)
    own = np.arange(5 * images) // 5 == np.arange(images)[:, None]
    return torch.tensor(np.round(scores + 0.3 * own, 6)), torch.tensor(own)


def test_both_directions_by_hand():
    # Two pictures, captions 0 and 1 of the first, 2 of the second.
    scores = torch.tensor([[0.1, 0.7, 0.7], [0.2, 0.9, 0.3]])
    right = Relation.of_ids(torch.tensor([0, 1]), torch.tensor([0, 0, 1]))
    # Picture 0: its best is 0.7, and so is the wrong one's: rank 2. Picture 1: 0.3 after 0.9: 2.
    # Captions: 0.1 after 0.2: 2; 0.7 after 0.9: 2; 0.3 after 0.7: 2.
    # With 0.71 for caption 1 and picture 0 that picture is at 1.
    worst = {"R@1": 0.0, "R@5": 100.0, "R@10": 100.0, "median_rank": 2.0, "mean_rank": 2.0}
    figures = retrieval_figures(scores, right)
    assert figures == {"image_to_text": worst, "text_to_image": worst, "rsum": 400.0}
    scores[0, 1] = 0.71
    figures = retrieval_figures(scores, right)
    assert figures["image_to_text"] == worst | {"R@1": 50.0, "median_rank": 1.5, "mean_rank": 1.5}
    assert figures["rsum"] == 450.0


def test_equivalent_captions_count():
    # Picture 0 prefers caption 1, written for picture 1 and true of both.
    scores = torch.tensor([[0.5, 0.9], [0.1, 0.4]])
    own = Relation.of_mask(torch.eye(2))
    equivalent = Relation.of_mask(torch.tensor([[1, 1], [0, 1]]))
    assert recall_figures(scores, own)["R@1"] == 50
    assert recall_figures(scores, equivalent)["R@1"] == 100
    assert retrieval_figures(scores, own)["text_to_image"]["R@1"] == 50
    assert retrieval_figures(scores, equivalent)["text_to_image"]["R@1"] == 100


@pytest.mark.parametrize("images", [1, 6, 25])
def test_recipe_of_the_reference_values_against_loops(images):
    scores, own = of_recipe(7, images)
    figures = retrieval_figures(scores, Relation.of_mask(own))
    assert figures["image_to_text"] == pytest.approx(slow_figures(scores, own), abs=1e-12)
    assert figures["text_to_image"] == pytest.approx(slow_figures(scores.T, own.T), abs=1e-12)
    assert figures["rsum"] == pytest.approx(
        sum(figures[way][f"R@{k}"] for way in ("image_to_text", "text_to_image") for k in KS)
    )


def test_many_ties_against_loops():
    generator = torch.Generator().manual_seed(3)
    scores = torch.randint(0, 4, (12, 60), generator=generator).float()
    own = torch.arange(60) // 5 == torch.arange(12)[:, None]
    right = Relation.of_mask(own)
    assert recall_figures(scores, right) == pytest.approx(slow_figures(scores, own))
    turned = recall_figures(scores.T, right.transposed())
    assert turned == pytest.approx(slow_figures(scores.T, own.T))


def test_captions_may_have_scores_of_their_own():
    scores = torch.eye(3)
    figures = retrieval_figures(scores, Relation.of_mask(torch.eye(3)), 1 - scores)
    assert figures["image_to_text"]["R@1"] == 100
    assert figures["text_to_image"] == slow_figures(1 - scores, torch.eye(3).bool())
    assert figures["text_to_image"]["R@1"] == 0


def test_pictures_look_for_pictures_of_their_class_and_not_for_themselves():
    # Cosines: 0 and 1 alike, 2 and 3 alike; classes a, b, a, b, so nobody's neighbour is right.
    scores = torch.tensor([[9.0, 8, 1, 2], [8, 9, 2, 1], [1, 2, 9, 8], [2, 1, 8, 9]])
    classes = torch.tensor([0, 1, 0, 1])
    ids = torch.tensor([40, 41, 42, 43])
    right, itself = Relation.of_ids(classes, classes), Relation.of_ids(ids, ids)
    assert recall_figures(scores, right)["R@1"] == 100  # every picture finds itself
    found = recall_figures(scores, right, excluded=itself)
    assert found["R@1"] == 0
    assert found["mean_rank"] == 3  # behind both pictures of the other class


def test_mean_and_median_of_ranks():
    assert rank_figures(torch.tensor([1, 5, 6, 20])) == {
        "R@1": 25.0,
        "R@5": 50.0,
        "R@10": 75.0,
        "median_rank": 5.5,
        "mean_rank": 8.0,
    }


def test_folds_are_consecutive_and_have_their_own_captions():
    pictures_of = torch.tensor([0, 0, 1, 2, 2, 2, 3])
    assert list(folds(pictures_of, 4, 2)) == [
        (slice(0, 2), slice(0, 3)),
        (slice(2, 4), slice(3, 7)),
    ]
    with pytest.raises(ValueError, match="14 pictures are 1 folds of 10 and 4 pictures left over"):
        list(folds(torch.arange(14), 14, 10))
    with pytest.raises(ValueError, match="left over"):  # fewer than one fold
        list(folds(torch.arange(4), 4, 10))


def test_mean_of_folds():
    scores, own = of_recipe(1, 8)
    parts = [
        retrieval_figures(scores[rows, columns], Relation.of_mask(own[rows, columns]))
        for rows, columns in folds(torch.arange(40) // 5, 8, 4)
    ]
    figures = mean_figures(parts)
    for way in ("image_to_text", "text_to_image"):
        for name, value in figures[way].items():
            assert value == pytest.approx((parts[0][way][name] + parts[1][way][name]) / 2)
    assert figures["rsum"] == pytest.approx((parts[0]["rsum"] + parts[1]["rsum"]) / 2)


def dataset_of(*rows):
    keys = ("caption_id", "image_id", "identity")
    return SimpleNamespace(rows=[dict(zip(keys, row, strict=True)) for row in rows])


def feed(metric, image_ids, caption_ids, image_embeds, text_embeds):
    outputs = SimpleNamespace(
        image_embeds=torch.tensor(image_embeds), text_embeds=torch.tensor(text_embeds)
    )
    batch = {"image_ids": torch.tensor(image_ids), "caption_ids": torch.tensor(caption_ids)}
    metric.update(metric.rows(outputs, batch))


def test_metric_counts_each_picture_once():
    # Captions 1, 2 of picture 10, caption 3 of picture 20. Caption 2 looks like picture 20.
    metric = Recall(dataset_of((1, 10, 10), (2, 10, 10), (3, 20, 20)))
    a, b = [1.0, 0.0], [0.0, 1.0]
    feed(metric, [20, 10], [3, 1], [b, a], [b, a])
    feed(metric, [10, 10], [2, 1], [a, a], [[0.6, 0.8], a])  # 1 again, as padding repeats it
    values = metric.compute()
    # Picture 10: caption 1 at cosine 1, right. Picture 20: caption 3. Caption 2: picture 20 first.
    assert values["image_to_text_recall@1"] == 1
    assert values["text_to_image_recall@1"] == pytest.approx(2 / 3)
    assert values["recall@1"] == pytest.approx(5 / 6)
    assert values["recall@5"] == values["recall@10"] == 1
    assert values["rsum"] == pytest.approx(5 + 2 / 3)


def test_metric_goes_by_identity():
    # Two pictures of one person: each caption is right for both.
    a, b = [1.0, 0.0], [0.0, 1.0]
    crossed = ([10, 20], [1, 2], [a, b], [b, a])
    alone, person = (
        Recall(dataset_of((1, 10, first), (2, 20, second))) for first, second in ((10, 20), (5, 5))
    )
    feed(alone, *crossed)
    feed(person, *crossed)
    assert alone.compute()["recall@1"] == 0
    assert person.compute()["recall@1"] == 1


def test_order_of_the_batches_does_not_matter():
    generator = torch.Generator().manual_seed(0)
    images, texts = torch.randn(6, 8, generator=generator), torch.randn(30, 8, generator=generator)
    dataset = dataset_of(*((number, number // 5, number // 5) for number in range(30)))

    def values(order):
        metric = Recall(dataset)
        for part in order.split(7):
            outputs = SimpleNamespace(image_embeds=images[part // 5], text_embeds=texts[part])
            batch = {"image_ids": part // 5, "caption_ids": part}
            metric.update(metric.rows(outputs, batch))
        return metric.compute()

    expected = values(torch.arange(30))
    assert values(torch.randperm(30, generator=generator)) == expected
    own = torch.arange(30) // 5 == torch.arange(6)[:, None]
    slow = slow_figures(images @ texts.T, own)
    assert expected["image_to_text_recall@5"] == pytest.approx(slow["R@5"] / 100)


def test_metric_needs_the_whole_split():
    metric = Recall(dataset_of((1, 10, 10), (2, 20, 20)))
    feed(metric, [10], [1], [[1.0]], [[1.0]])
    with pytest.raises(ValueError, match=r"1 of 2 pictures have no embedding \(ids 20\)"):
        metric.compute()
    feed(metric, [20], [1], [[1.0]], [[1.0]])
    with pytest.raises(ValueError, match=r"1 of 2 captions have no embedding \(ids 2\)"):
        metric.compute()


class Overlap(torch.nn.Linear):
    """Scores a pair by the products of its regions' and words' only number, added up."""

    def forward(self, regions, region_mask, words, word_mask):
        sums = [(regions[..., 0] * region_mask).sum(dim=1), (words[..., 0] * word_mask).sum(dim=1)]
        return sums[0][:, None] * sums[1]


def with_states(metric, image_ids, caption_ids, regions, words):
    """As ``feed``, with states of one number each; None is padding, which holds 99."""
    sides = []
    for rows in (regions, words):
        states = torch.tensor([[99.0 if one is None else one for one in row] for row in rows])
        sides.append(
            (states[..., None], torch.tensor([[one is not None for one in row] for row in rows]))
        )
    count = len(image_ids)
    outputs = SimpleNamespace(
        image_embeds=torch.eye(2)[torch.tensor(image_ids) // 10 - 1],
        text_embeds=torch.eye(2)[[0] * count],
        region_states=sides[0][0],
        text_states=sides[1][0],
    )
    batch = {
        "image_ids": torch.tensor(image_ids),
        "caption_ids": torch.tensor(caption_ids),
        "region_mask": sides[0][1],
        "attention_mask": sides[1][1].long(),
    }
    rows = metric.rows(outputs, batch)
    metric.update(rows)
    return rows


def test_a_scorer_ranks_by_states_without_their_padding():
    # By embeddings every caption is picture 10's. Pictures weigh 3 and -1, captions 2, 1 and -4:
    # scores 6, 3, -12 and -2, -1, 4, so every caption finds its own picture.
    metric = Recall(dataset_of((1, 10, 10), (2, 10, 10), (3, 20, 20)), Overlap(1, 1))
    rows = with_states(
        metric, [10, 10], [1, 2], [[1, 2, None], [1, 2, None]], [[2, None], [0.5, 0.5]]
    )
    assert rows["image_ids"].tolist() == [10]  # a picture's states are sent once
    assert (len(rows["region_states"]), len(rows["text_states"])) == (1, 2)
    with pytest.raises(ValueError, match="1 of 2 pictures have no embedding"):
        metric.scores()
    with_states(metric, [20], [3], [[-1]], [[-4]])
    assert metric.scores().tolist() == [[6, 3, -12], [-2, -1, 4]]
    assert metric.compute()["recall@1"] == 1
    assert metric.scores() is metric.scores()  # made once
    with_states(metric, [20], [3], [[-1]], [[4]])  # the last stays
    assert metric.scores().tolist() == [[6, 3, 12], [-2, -1, -4]]
    without = Recall(dataset_of((1, 10, 10), (2, 10, 10), (3, 20, 20)))
    with_states(without, [10, 20], [1, 3], [[1], [1]], [[1], [1]])
    with_states(without, [10], [2], [[1]], [[1]])
    assert without.compute()["text_to_image_recall@1"] == pytest.approx(2 / 3)
    assert without.scores()[:].tolist() == [[1, 1, 1], [0, 0, 0]]
