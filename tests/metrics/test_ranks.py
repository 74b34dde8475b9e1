import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tbkin.metrics import ranks as module
from tbkin.metrics.ranks import Products, right_ranks
from tbkin.metrics.relation import Relation


def slow_ranks(scores, right, excluded):
    """Places from a sort in which, of equal scores, wrong items come first."""
    found = []
    for row, truth, gone in zip(scores.tolist(), right.tolist(), excluded.tolist(), strict=True):
        items = [place for place in range(len(row)) if not gone[place]]
        items.sort(key=lambda place: (-row[place], truth[place]))
        found.append([rank for rank, place in enumerate(items, start=1) if truth[place]])
    return found


def test_ties_by_hand():
    # Right: 0 and 3. Of 5, 5, 4, 4, 4: the wrong 5 stands before the right one, 0 is second; the
    # wrong 4s come before the right one, 3 is fifth.
    right = Relation.of_lists([[0, 3]], 5)
    found = right_ranks(torch.tensor([[5.0, 5, 4, 4, 4]]), right)
    assert found.ranks.tolist() == [2, 5]
    assert found.first().tolist() == [2]
    assert found.last().tolist() == [5]
    assert found.number.tolist() == [1, 2]


def test_right_items_do_not_push_each_other_back():
    # All equal: three right items behind one wrong one. A best right item's rank is 1 + 1.
    found = right_ranks(torch.zeros(1, 4), Relation.of_lists([[0, 1, 3]], 4))
    assert found.ranks.tolist() == [2, 3, 4]


def test_a_constant_score_reaches_nothing():
    found = right_ranks(torch.ones(3, 9), Relation.of_ids(torch.arange(3), torch.arange(9)))
    assert found.first().tolist() == [9, 9, 9]


@st.composite
def tables(draw):
    """Scores with many ties, infinite ones among them, and at least one right item a query."""
    queries, gallery = draw(st.integers(1, 6)), draw(st.integers(1, 12))
    number = st.sampled_from([-float("inf"), -1.0, 0.0, 0.5, 2.0, float("inf")])
    row = st.lists(number, min_size=gallery, max_size=gallery)
    scores = torch.tensor(draw(st.lists(row, min_size=queries, max_size=queries)))
    kind = st.lists(
        st.sampled_from(["right", "wrong", "gone"]), min_size=gallery, max_size=gallery
    ).filter(lambda kinds: "right" in kinds)
    kinds = draw(st.lists(kind, min_size=queries, max_size=queries))
    masks = [
        torch.tensor([[one == name for one in row] for row in kinds]) for name in ("right", "gone")
    ]
    return scores, *masks


@settings(deadline=None, max_examples=150)
@given(tables(), st.sampled_from([1, 30, 1 << 22]), st.sampled_from([None, 1, 2]))
def test_against_a_sort(table, block, most):
    scores, right, gone = table
    expected = slow_ranks(scores, right, gone)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_BLOCK", block)
        found = right_ranks(scores, Relation.of_mask(right), Relation.of_mask(gone), most)
    by_query = [found.ranks[found.queries == query].tolist() for query in range(len(scores))]
    assert by_query == [ranks[:most] for ranks in expected]
    assert found.counts.tolist() == [len(ranks) for ranks in expected]
    assert found.first().tolist() == [ranks[0] for ranks in expected]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.int32])
def test_any_real_type(dtype):
    scores = torch.tensor([[1, 3, 2, 3], [0, -1, 2, 2]]).to(dtype)
    found = right_ranks(scores, Relation.of_lists([[1, 2], [3]], 4))
    assert found.ranks.tolist() == [2, 3, 2]


def test_order_of_the_gallery_and_of_the_queries_does_not_matter():
    generator = torch.Generator().manual_seed(0)
    scores = torch.randint(0, 9, (7, 35), generator=generator).float()
    people, pictures = torch.arange(7), torch.arange(35) % 7
    expected = right_ranks(scores, Relation.of_ids(people, pictures)).ranks.view(7, 5)
    rows, columns = (torch.randperm(size, generator=generator) for size in (7, 35))
    moved = right_ranks(scores[rows][:, columns], Relation.of_ids(people[rows], pictures[columns]))
    assert torch.equal(moved.ranks.view(7, 5), expected[rows])


def test_a_choice_of_queries():
    scores = torch.tensor([[1.0, 2, 3], [3, 2, 1], [2, 3, 1]])
    asked = torch.tensor([2, 0])
    found = right_ranks(scores, Relation.of_lists([[0], [2]], 3), queries=asked)
    assert found.ranks.tolist() == [2, 1]


def test_products_stand_for_the_table():
    generator = torch.Generator().manual_seed(1)
    queries = torch.randint(-3, 4, (9, 4), generator=generator).float()
    gallery = torch.randint(-3, 4, (11, 4), generator=generator).float()
    products = Products(queries, gallery)
    right = Relation.of_ids(torch.arange(9), torch.arange(11) % 9)
    expected = right_ranks(queries @ gallery.T, right).ranks
    assert torch.equal(right_ranks(products, right).ranks, expected)
    assert products.T.shape == (11, 9)
    half = Products(queries.half(), gallery.half())
    assert half[:2].dtype == torch.float32
    assert torch.equal(right_ranks(half, right).ranks, expected)


def test_nan_is_refused_and_named():
    scores = torch.zeros(3, 4)
    scores[2, 1] = float("nan")
    right = Relation.of_lists([[0], [0], [0]], 4)
    with pytest.raises(ValueError, match=r"query 2 and gallery item 1 .* NaN has no rank"):
        right_ranks(scores, right)
    # Asked in another order and not all, the row of the scores is named all the same.
    two = Relation.of_lists([[0], [0]], 4)
    with pytest.raises(ValueError, match=r"query 2 and gallery item 1 "):
        right_ranks(scores, two, queries=torch.tensor([2, 0]))


def test_a_query_without_a_right_item_is_refused():
    scores = torch.zeros(3, 4)
    with pytest.raises(ValueError, match=r"1 of 3 queries have no right item .*\(places \[1\]\)"):
        right_ranks(scores, Relation.of_lists([[0], [], [2]], 4))
    own = Relation.of_lists([[0], [1], [2]], 4)
    with pytest.raises(ValueError, match="3 of 3 queries have no right item"):
        right_ranks(scores, own, excluded=own)
    with pytest.raises(ValueError, match=r"right must be of as many .*\(3, 4\); got \(3, 5\)"):
        right_ranks(scores, Relation.of_lists([[0], [0], [2]], 5))
