import pytest
import torch
from torch.nn import functional as F

from tbkin.metrics.recall import KS
from tbkin.metrics.relation import Relation
from tbkin.metrics.uni_modal import same_identity, same_modality_figures, sharing, uni_modal_figures


def unit(*shape, seed=0):
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=1)


def dense(relation):
    mask = torch.zeros(relation.shape, dtype=torch.bool)
    mask[relation.rows, relation.columns] = True
    return mask


def slow_figures(embeds, right):
    """Loops over numbers, the query itself left out, wrong items first among equals."""
    scores, ranks = (embeds @ embeds.T).tolist(), []
    for i, row in enumerate(scores):
        others = [j for j in range(len(row)) if j != i]
        found = [row[j] for j in others if right[i][j]]
        if found:
            ranks.append(1 + sum(row[j] >= max(found) for j in others if not right[i][j]))
    return {f"R@{k}": 100 * sum(rank <= k for rank in ranks) / len(ranks) for k in KS}, len(ranks)


def test_worked_by_hand():
    # Pictures 0, 1 and 3 are of one class. Products, without those with themselves:
    #   0: 2 with 1, 0 with 2, -2 with 3   its best right one, 1, stands first
    #   1: 2 with 0, 2 with 2, 1 with 3    0 ties with 2, which is wrong: rank 2
    #   3: -2 with 0, 1 with 1, 1 with 2   likewise
    # Picture 2 has nobody of its class and is not asked.
    embeds = torch.tensor([[2.0, 0], [1, 2], [0, 1], [-1, 1]])
    figures = same_modality_figures(embeds, same_identity({10: 7, 11: 7, 12: 8, 13: 7}))
    assert (figures["queries"], figures["left_out"], figures["right_items"]) == (3, 1, 2.0)
    assert figures["R@1"] == pytest.approx(100 / 3)
    assert (figures["R@5"], figures["median_rank"]) == (100, 2)


@pytest.mark.parametrize("seed", range(3))
def test_both_modalities_against_loops(seed):
    images, captions = unit(9, 4, seed=seed), unit(20, 4, seed=seed + 9)
    captions[5] = captions[17]  # a tie
    generator = torch.Generator().manual_seed(seed)
    classes = torch.randint(5, (9,), generator=generator).tolist()
    owners = torch.randint(9, (20,), generator=generator).tolist()
    of_images = same_identity(dict(enumerate(classes)))
    of_captions = same_identity(dict(enumerate(owners)))
    figures = uni_modal_figures(images, captions, of_images, of_captions)
    for way, embeds, ids in (
        ("image_to_image", images, classes),
        ("text_to_text", captions, owners),
    ):
        right = [[one == other for other in ids] for one in ids]
        expected, asked = slow_figures(embeds, right)
        found = figures[way]
        assert {name: found[name] for name in expected} == pytest.approx(expected)
        assert (found["queries"], found["left_out"]) == (asked, len(ids) - asked)


def test_an_item_never_finds_itself():
    # Every item is alone with its class but for the last two, which are farthest from one another.
    embeds = unit(6, 3)
    embeds[5] = -embeds[4]
    figures = same_modality_figures(embeds, same_identity({n: min(n, 4) for n in range(6)}))
    assert figures["queries"] == 2
    assert (figures["R@1"], figures["median_rank"]) == (0.0, 5.0)


def test_nothing_to_find_is_counted_and_has_no_figures():
    figures = same_modality_figures(unit(4, 3), same_identity({n: n for n in range(4)}))
    assert figures == {"queries": 0, "left_out": 4, "right_items": 0.0}


def test_what_shares_a_truth_belongs_together():
    # Captions 0 and 1 of picture 0, 2 of picture 1, 3 of picture 2; caption 1 is true of 1, too.
    true = Relation.of_mask(torch.tensor([[1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 0, 1]]))
    pictures, captions = sharing(true)
    assert dense(pictures).tolist() == [
        [True, True, False],
        [True, True, False],
        [False] * 2 + [True],
    ]
    expected = torch.eye(4).bool()
    expected[0, 1] = expected[1, 0] = expected[1, 2] = expected[2, 1] = True
    assert torch.equal(dense(captions), expected)
