import pytest
import torch

from tbkin.metrics.relation import Relation


def dense(relation):
    mask = torch.zeros(relation.shape, dtype=torch.bool)
    mask[relation.rows, relation.columns] = True
    return mask


MASK = torch.tensor([[1, 0, 1, 0], [0, 0, 0, 0], [1, 1, 0, 0]]).bool()


@pytest.mark.parametrize(
    "relation",
    [
        Relation.of_mask(MASK),
        Relation.of_mask(MASK.float()),
        Relation.of_mask(MASK.float().to_sparse()),
        Relation.of_lists([[2, 0, 2], [], [1, 0]], 4),
        Relation.of_pairs(torch.tensor([2, 0, 2, 0]), torch.tensor([0, 2, 1, 0]), (3, 4)),
        Relation.of_mask(MASK.T).transposed(),
        Relation.of_mask(torch.ones(3, 4)).without(Relation.of_mask(~MASK)),
    ],
)
def test_every_way_to_write_the_same_pairs(relation):
    assert torch.equal(dense(relation), MASK)
    assert list(zip(relation.rows.tolist(), relation.columns.tolist(), strict=True)) == [
        (0, 0),
        (0, 2),
        (2, 0),
        (2, 1),
    ]
    assert relation.counts.tolist() == [2, 0, 2]


def test_equal_ids_belong_together():
    queries, gallery = torch.tensor([7, -3, 7, 9]), torch.tensor([9, 7, 5, 7, 7])
    relation = Relation.of_ids(queries, gallery)
    assert torch.equal(dense(relation), queries[:, None] == gallery)
    assert relation.columns.tolist() == [1, 3, 4, 1, 3, 4, 0]  # ascending within a query
    assert relation.shape == (4, 5)
    assert Relation.of_ids(queries, torch.tensor([], dtype=torch.int64)).counts.tolist() == [0] * 4


def test_an_explicit_zero_of_a_sparse_table_is_no_pair():
    sparse = torch.sparse_coo_tensor([[0, 1], [1, 0]], [0.0, 1.0], (2, 2), check_invariants=True)
    assert Relation.of_mask(sparse).counts.tolist() == [0, 1]


def test_a_block_counts_rows_from_its_start():
    rows, columns = Relation.of_mask(MASK).block(1, 3)
    assert (rows.tolist(), columns.tolist()) == ([1, 1], [0, 1])


def test_a_place_that_does_not_exist_is_named():
    with pytest.raises(ValueError, match=r"there is no gallery item 4; .* there are 4"):
        Relation.of_lists([[1, 4]], 4)
    with pytest.raises(ValueError, match="there is no query -1"):
        Relation.of_pairs(torch.tensor([-1]), torch.tensor([0]), (2, 2))


def test_relations_of_other_shapes_are_not_compared():
    with pytest.raises(ValueError, match=r"\(3, 4\) and \(4, 3\) cannot be compared"):
        Relation.of_mask(MASK).without(Relation.of_mask(MASK.T))
