import pytest
import torch

from tbkin.metrics.ranks import right_ranks
from tbkin.metrics.relation import Relation
from tbkin.metrics.top_k import best_of_table, rerank_scores, top_k


@pytest.mark.parametrize("block", [1, 2, 7, 64, 4096])
@pytest.mark.parametrize("k", [1, 3, 20, 60, 99])
def test_against_a_full_stable_sort(k, block):
    # Whole numbers: products are exact, and many are equal.
    generator = torch.Generator().manual_seed(k)
    queries = torch.randint(-2, 3, (33, 3), generator=generator).float()
    gallery = torch.randint(-2, 3, (60, 3), generator=generator).float()
    expected = (queries @ gallery.T).sort(dim=1, descending=True, stable=True)
    scores, places = top_k(queries, gallery, k, block)
    assert torch.equal(scores, expected.values[:, :k])
    assert torch.equal(places, expected.indices[:, :k])


def test_of_equal_items_the_first_ones_are_taken():
    scores, places = top_k(torch.ones(2, 1), torch.ones(50, 1), 4, block=8)
    assert places.tolist() == [[0, 1, 2, 3]] * 2
    assert scores.tolist() == [[1.0] * 4] * 2


def test_no_queries():
    scores, places = top_k(torch.zeros(0, 3), torch.ones(5, 3), 2)
    assert scores.shape == places.shape == (0, 2)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ((torch.ones(1, 2), torch.ones(3, 2), 0), "k must be >= 1, got 0"),
        ((torch.ones(1, 2), torch.ones(3, 2), 1, 0), "block must be >= 1, got 0"),
        ((torch.ones(1, 2), torch.ones(3, 4), 1), r"shape \(1, 2\) .* shape \(3, 4\)"),
        ((torch.ones(1, 2), torch.ones(0, 2), 1), r"expected \(Q, D\) and \(G, D\), G > 0"),
        ((torch.full((1, 2), torch.nan), torch.ones(3, 2), 1), r"not numbers \(NaN\)"),
    ],
)
def test_mistakes(arguments, complaint):
    with pytest.raises(ValueError, match=complaint):
        top_k(*arguments)


@pytest.mark.parametrize("block", [1, 7, 512])
@pytest.mark.parametrize("k", [1, 3, 60, 99])
def test_of_a_table_against_a_full_stable_sort(k, block):
    generator = torch.Generator().manual_seed(k)
    scores = torch.randint(0, 9, (33, 60), generator=generator).float()
    for table in (scores, scores.T):
        expected = table.sort(dim=1, descending=True, stable=True)
        values, places = best_of_table(table, k, block)
        assert torch.equal(values, expected.values[:, :k])
        assert torch.equal(places, expected.indices[:, :k])


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ((torch.ones(1, 3), 0), "k must be >= 1, got 0"),
        ((torch.ones(1, 3), 1, 0), "block must be >= 1, got 0"),
        ((torch.ones(2, 0), 1), r"scores must be \(Q, G\), G > 0, got \(2, 0\)"),
        ((torch.full((1, 3), torch.nan), 1), r"not numbers \(NaN\)"),
    ],
)
def test_mistakes_about_a_table(arguments, complaint):
    with pytest.raises(ValueError, match=complaint):
        best_of_table(*arguments)


def test_reranked_by_hand():
    # Candidates 1, 3, 0 (the best three by the first score), fused 0.2, 0.9, 0.9: 3 and 0 tie,
    # then 1, then 2 and 4 as before.
    scores = torch.tensor([[0.5, 0.9, -2.0, 0.8, 0.4]])
    new = rerank_scores(scores, torch.tensor([[0.2, 0.9, 0.9]]), torch.tensor([[1, 3, 0]]))
    assert new[0, 3] == new[0, 0] > new[0, 1] > scores[0, 4]
    assert torch.equal(new[0, [2, 4]], scores[0, [2, 4]])
    assert scores[0, 0] == 0.5  # the table given is left alone


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("offset", [-1e6, 0.0, 1e6])
def test_every_order_survives_whatever_the_scores_are(scale, offset):
    generator = torch.Generator().manual_seed(0)
    scores = (torch.randn(6, 500, generator=generator) + offset) * scale
    candidates = scores.topk(200).indices
    fused = torch.randn(6, 200, generator=generator) * 1e-7 - 50.0  # hardly told apart
    new = rerank_scores(scores, fused, candidates)
    inside = new.gather(1, candidates)
    sign = lambda table: (table[:, :, None] - table[:, None]).sign()  # noqa: E731
    assert torch.equal(sign(inside), sign(fused))
    outside = new.scatter(1, candidates, -torch.inf)
    assert (inside.amin(dim=1) > outside.amax(dim=1)).all()
    kept = outside > -torch.inf
    assert torch.equal(new[kept], scores[kept])


def test_all_candidates_are_ordered_by_the_fused_score_alone():
    scores, fused = torch.tensor([[3.0, 1, 2]]), torch.tensor([[0.1, 0.2, 0.3]])
    new = rerank_scores(scores, fused, torch.tensor([[2, 1, 0]]))
    assert new.argsort(descending=True).tolist() == [[0, 1, 2]]


def test_no_constant_for_the_rest():
    # With one score for all that is not re-ranked, a right item there would be last of the ties.
    scores = torch.tensor([[0.9, 0.8, 0.7, 0.1, 0.2]])
    new = rerank_scores(scores, torch.tensor([[0.0, 1.0]]), torch.tensor([[0, 1]]))
    assert right_ranks(new, Relation.of_lists([[2]], 5)).first().tolist() == [3]


@pytest.mark.parametrize(
    ("fused", "candidates", "complaint"),
    [
        ([[1.0, 2.0]], [[0]], r"fused and candidates must be \(Q, k\)"),
        ([[1.0, 2.0]], [[0, 3]], "places in a gallery of 3, counted from 0; got 0 to 3"),
        ([[1.0, 2.0]], [[1, 1]], "name a gallery item twice"),
        ([[1.0, float("nan")]], [[0, 1]], "NaN"),
    ],
)
def test_mistakes_of_reranking(fused, candidates, complaint):
    with pytest.raises(ValueError, match=complaint):
        rerank_scores(torch.zeros(1, 3), torch.tensor(fused), torch.tensor(candidates))


def test_nothing_is_above_an_infinite_score():
    scores = torch.tensor([[0.0, float("inf")]])
    with pytest.raises(ValueError, match="no candidate has an infinite score"):
        rerank_scores(scores, torch.tensor([[1.0]]), torch.tensor([[0]]))
    new = rerank_scores(scores, torch.tensor([[1.0]]), torch.tensor([[1]]))
    assert new[0, 1] > new[0, 0]
