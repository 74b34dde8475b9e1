import pytest
import torch

from tbkin.metrics.average_precision import (
    average_precisions,
    average_precisions_at_r,
    class_precision,
    eccv_figures,
    inverse_negative_penalties,
    mean_by_class,
    person_search_figures,
    precisions_at,
    r_precisions,
)
from tbkin.metrics.ranks import right_ranks
from tbkin.metrics.relation import Relation

# One query, right items at ranks 1, 3 and 6 of 7.
LINE = torch.tensor([[7.0, 6, 5, 4, 3, 2, 1]])
RIGHT = Relation.of_lists([[0, 2, 5]], 7)


def test_one_query_by_hand():
    ranks = right_ranks(LINE, RIGHT)
    assert average_precisions(ranks).item() == pytest.approx((1 / 1 + 2 / 3 + 3 / 6) / 3)
    assert inverse_negative_penalties(ranks).item() == pytest.approx(3 / 6)
    assert r_precisions(ranks).item() == pytest.approx(2 / 3)  # of the best three, 1 and 3
    assert average_precisions_at_r(ranks).item() == pytest.approx((1 + 2 / 3) / 3)
    for k, share in ((1, 1.0), (2, 0.5), (5, 0.4), (7, 3 / 7)):
        assert precisions_at(ranks, k).item() == pytest.approx(share)


def slow_values(scores, right):
    """AP, INP, R-Precision and AP@R of each query by their definitions, ties pessimistic."""
    values = []
    for row, truth in zip(scores.tolist(), right.tolist(), strict=True):
        order = sorted(range(len(row)), key=lambda place: (-row[place], truth[place]))
        hits = [truth[place] for place in order]
        total = sum(hits)
        precision = [sum(hits[:r]) / r for r in range(1, len(hits) + 1)]
        values.append(
            (
                sum(p for p, hit in zip(precision, hits, strict=True) if hit) / total,
                total / max(r for r, hit in enumerate(hits, start=1) if hit),
                precision[total - 1],
                sum(precision[r] * hits[r] for r in range(total)) / total,
            )
        )
    return torch.tensor(values, dtype=torch.float64).T


@pytest.mark.parametrize("levels", [3, 10_000])
@pytest.mark.parametrize("share", [0.1, 0.6])
def test_against_loops(levels, share):
    generator = torch.Generator().manual_seed(levels)
    scores = torch.randint(0, levels, (20, 31), generator=generator).float()
    right = torch.rand(20, 31, generator=generator) < share
    right[torch.arange(20), torch.randint(0, 31, (20,), generator=generator)] = True
    ranks = right_ranks(scores, Relation.of_mask(right))
    found = torch.stack(
        [
            average_precisions(ranks),
            inverse_negative_penalties(ranks),
            r_precisions(ranks),
            average_precisions_at_r(ranks),
        ]
    )
    torch.testing.assert_close(found, slow_values(scores, right), rtol=0, atol=1e-12)


def test_person_search_is_a_mean_over_captions_in_per_cent():
    scores = torch.cat([LINE, torch.tensor([[1.0, 2, 3, 4, 5, 6, 7]])])
    right = Relation.of_lists([[0, 2, 5], [5]], 7)
    found = person_search_figures(scores, right)
    assert found["mAP"] == pytest.approx(50 * ((1 + 2 / 3 + 1 / 2) / 3 + 1 / 2))
    assert found["mINP"] == pytest.approx(50 * (1 / 2 + 1 / 2))
    assert (found["R@1"], found["R@5"], found["mean_rank"]) == (50, 100, 1.5)


def test_excluded_pairs_are_no_candidates():
    # Without the two wrong ones in front, ranks are 1, 2 and 4.
    gone = Relation.of_lists([[1, 3]], 7)
    found = person_search_figures(LINE, RIGHT, gone)
    assert found["mAP"] == pytest.approx(100 * (1 + 1 + 3 / 4) / 3)
    assert found["mINP"] == pytest.approx(75)


def test_eccv_values_by_hand():
    found = eccv_figures(LINE, RIGHT)
    assert found == pytest.approx(
        {"mAP@R": 100 * (1 + 2 / 3) / 3, "R-Precision": 200 / 3, "R@1": 100.0}
    )
    # A fourth right item that is no candidate: R is 4, and the hits are those of 1 and 3.
    found = eccv_figures(LINE, RIGHT, sizes=torch.tensor([4]))
    assert found["R-Precision"] == pytest.approx(50)
    assert found["mAP@R"] == pytest.approx(100 * (1 + 2 / 3) / 4)


def test_classes_count_alike():
    assert mean_by_class(torch.tensor([1.0, 0, 0, 1.0]), torch.tensor([5, 5, 5, 9])) == (
        pytest.approx((1 / 3 + 1) / 2)
    )


def test_class_precision_by_hand():
    # Class 0 has two queries and pictures 0, 1, 2; class 1 one query and picture 3.
    gallery = torch.tensor([0, 0, 0, 1])
    scores = torch.tensor([[4.0, 3, 2, 1], [1, 2, 3, 4], [4, 3, 2, 1]])
    # Best two: right, right = 1; wrong, right = 1/2; none = 0.
    found = class_precision(scores, torch.tensor([0, 0, 1]), gallery, k=2)
    assert found == pytest.approx(100 * ((1 + 1 / 2) / 2 + 0) / 2)
    # Of a gallery of four the best fifty are four: 3/4, 3/4 and 1/4.
    assert class_precision(scores, torch.tensor([0, 0, 1]), gallery) == pytest.approx(50)
