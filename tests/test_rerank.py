import math

import pytest
import torch
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tbkin.rerank import (
    RERANKERS,
    AnchorProfile,
    AttendedReference,
    GalleryNeighbour,
    weigh,
)


def random_tensor(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


QUERY, GALLERY, REFERENCES = (
    random_tensor(count, 6, seed=seed) for seed, count in enumerate((7, 11, 9))
)
SCORES = F.normalize(QUERY, dim=1) @ F.normalize(GALLERY, dim=1).T


def rerankers(**settings):
    """One of each kind, two of those that can leave references out."""
    return [
        AnchorProfile(REFERENCES, **settings),
        AnchorProfile(REFERENCES, top_references=3, **settings),
        AttendedReference(REFERENCES, **settings),
        AttendedReference(REFERENCES, top_references=3, **settings),
        GalleryNeighbour(neighbours=3, **settings),
    ]


def slow_profile(row, temperature, top=None):
    """Share of each reference, one at a time."""
    cosines = [F.cosine_similarity(row, reference, dim=0).item() for reference in REFERENCES]
    kept = sorted(range(len(cosines)), key=lambda place: -cosines[place])[:top]
    weights = [
        math.exp(cosine / temperature) if place in kept else 0.0
        for place, cosine in enumerate(cosines)
    ]
    return torch.tensor([weight / sum(weights) for weight in weights])


def test_profiles_worked_by_hand():
    # References along x and y, temperature 1 / ln 3. A query along x has cosines 1 and 0, shares
    # 3/4 and 1/4; a picture half way between has a half each; one along y 1/4 and 3/4.
    references = torch.tensor([[2.0, 0], [0, 5]])
    query, gallery = torch.tensor([[3.0, 0]]), torch.tensor([[1.0, 1], [0, 1], [4, 0]])
    length, half = math.sqrt(10) / 4, math.sqrt(0.5)
    found = AnchorProfile(references, temperature=1 / math.log(3)).similarity(query, gallery)
    expected = [(3 / 8 + 1 / 8) / (length * half), (3 / 16 + 3 / 16) / length**2, 1]
    assert found[0].tolist() == pytest.approx(expected)
    # The references that they attend to are (3, 1), (1, 1) and (1, 3), up to their lengths: the
    # same cosines, as these references are along the axes.
    found = AttendedReference(references, temperature=1 / math.log(3)).similarity(query, gallery)
    assert found[0].tolist() == pytest.approx(expected)
    # With one reference each there is only one's own: the same one or another.
    found = AnchorProfile(references, top_references=1).similarity(query, gallery[1:])
    assert found[0].tolist() == pytest.approx([0, 1])


@pytest.mark.parametrize("top", [None, 4])
def test_profiles_agree_with_the_slow_loop(top):
    query, gallery = (
        torch.stack([slow_profile(row, 0.2, top) for row in rows]) for rows in (QUERY, GALLERY)
    )
    given = {"references": REFERENCES, "temperature": 0.2, "top_references": top}
    expected = F.cosine_similarity(query[:, None], gallery[None], dim=2)
    assert torch.allclose(AnchorProfile(**given).similarity(QUERY, GALLERY), expected, atol=1e-5)
    unit = F.normalize(REFERENCES, dim=1)
    expected = F.cosine_similarity((query @ unit)[:, None], (gallery @ unit)[None], dim=2)
    found = AttendedReference(**given).similarity(QUERY, GALLERY)
    assert torch.allclose(found, expected, atol=1e-5)


def test_attended_references_are_not_profiles():
    profile, attended = (
        kind(REFERENCES, temperature=0.3).similarity(QUERY, GALLERY)
        for kind in (AnchorProfile, AttendedReference)
    )
    assert not torch.allclose(profile, attended, atol=0.05)


def test_neighbours_worked_by_hand():
    # The pictures at 0 and 60 degrees are each other's nearest, that at 180 degrees has 60's. Means
    # of two stand at 30, 30 and 120 degrees, seen from a query at 0 degrees.
    angles = torch.tensor([0.0, 60, 180]).deg2rad()
    gallery = torch.stack([angles.cos(), angles.sin()], dim=1) * torch.tensor([[1.0], [3], [2]])
    query = torch.tensor([[2.0, 0]])
    found = GalleryNeighbour(neighbours=2).similarity(query, gallery)
    assert found[0].tolist() == pytest.approx([3**0.5 / 2, 3**0.5 / 2, -0.5], abs=1e-6)
    alone = GalleryNeighbour(neighbours=1).similarity(query, gallery)
    assert alone[0].tolist() == pytest.approx([1, 0.5, -1], abs=1e-6)
    everyone = GalleryNeighbour(neighbours=50).similarity(query, gallery)[0]
    assert torch.allclose(everyone, everyone[:1].expand(3))


def test_weight_0_is_off():
    for reranker in rerankers():
        assert reranker.weight == 0
        assert reranker.rerank(QUERY, GALLERY, SCORES) is SCORES


def test_weights_add_the_similarity():
    for reranker in rerankers(weight=0.7):
        similarity = reranker.similarity(QUERY, GALLERY)
        assert similarity.shape == (7, 11)
        assert similarity.abs().max() <= 1 + 1e-6
        expected = SCORES + 0.7 * similarity
        assert torch.equal(reranker.rerank(QUERY, GALLERY, SCORES), expected)
        assert not torch.allclose(expected, SCORES, atol=0.01)


@pytest.mark.parametrize("block", [1, 3, 11])
def test_blocks_do_not_change_the_result(block):
    whole, blocked = rerankers(weight=1.0), rerankers(weight=1.0, block=block)
    for one, other in zip(whole, blocked, strict=True):
        expected = one.rerank(QUERY, GALLERY, SCORES)
        assert torch.allclose(other.rerank(QUERY, GALLERY, SCORES), expected, atol=1e-6)


class Shapes(TorchDispatchMode):
    """Notes the shape of every tensor that any operation makes."""

    def __init__(self):
        super().__init__()
        self.seen = set()

    def __torch_dispatch__(self, function, types, given=(), settings=None):
        made = function(*given, **(settings or {}))
        self.seen |= {
            tuple(one.shape) for one in tree_leaves(made) if isinstance(one, torch.Tensor)
        }
        return made


def test_blocks_bound_what_is_in_memory():
    # 40 queries, 50 pictures, 60 references of 3 numbers, in blocks of 2: but for the scores
    # nothing is larger than the references. (40, 60) profiles would be, (50, 50) cosines, too.
    query, gallery, references = (random_tensor(rows, 3) for rows in (40, 50, 60))
    for reranker in (
        AnchorProfile(references, block=2),
        AnchorProfile(references, block=2, top_references=4),
        AttendedReference(references, block=2),
        GalleryNeighbour(block=2),
    ):
        with Shapes() as shapes:
            reranker.similarity(query, gallery)
        assert (40, 50) in shapes.seen
        assert max(map(math.prod, shapes.seen - {(40, 50)})) <= 60 * 3


def test_lengths_and_order_do_not_matter():
    order = torch.tensor([4, 0, 6, 2, 8, 10, 1, 3, 5, 7, 9])
    for reranker in rerankers():
        similarity = reranker.similarity(QUERY, GALLERY)
        longer = reranker.similarity(3 * QUERY, GALLERY * torch.rand(11, 1).add(0.1))
        assert torch.allclose(longer, similarity, atol=1e-5)
        mixed = reranker.similarity(QUERY.flip(0), GALLERY[order])
        assert torch.allclose(mixed, similarity.flip(0)[:, order], atol=1e-5)


def test_embeddings_of_half_precision_and_of_0_are_finite():
    for reranker in rerankers(weight=1.0):
        coarse = reranker.rerank(QUERY.half(), GALLERY.half(), SCORES)
        assert coarse.dtype == torch.float32
        assert torch.allclose(coarse, reranker.rerank(QUERY, GALLERY, SCORES), atol=0.05)
        nothing = reranker.rerank(torch.zeros(1, 6), torch.zeros(1, 6), torch.zeros(1, 1))
        assert nothing.isfinite().all()


def test_a_profile_helps_where_references_know_better():
    # Queries and pictures share the reference they lie at; noise in a direction that references do
    # not have hides it from the cosine.
    references = torch.eye(8)[:4]
    clean = references + 0.0
    query = clean + 3 * torch.eye(8)[4:]
    gallery = clean + 3 * torch.eye(8)[[5, 6, 7, 4]]
    cosine = F.normalize(query, dim=1) @ F.normalize(gallery, dim=1).T
    right = torch.arange(4)
    assert cosine.argmax(dim=1).ne(right).all()
    for kind in (AnchorProfile, AttendedReference):
        refined = kind(references, temperature=0.1, weight=1.0).rerank(query, gallery, cosine)
        assert refined.argmax(dim=1).equal(right), kind


def test_a_weight_is_chosen_beside_0():
    scores = torch.tensor([[0.5, 0.4], [0.3, 0.2]])
    similarity = torch.tensor([[0.0, 0.0], [0.0, 1.0]])

    def right(given):
        return given.argmax(dim=1).eq(torch.arange(2)).float().mean().item()

    found = weigh(scores, similarity, [0.05, 0.0, 0.2], right)
    assert found == {0.0: 0.5, 0.05: 0.5, 0.2: 1.0}
    assert next(iter(found)) == 0
    assert max(found, key=found.get) == 0.2


def test_all_are_in_the_table():
    assert {type(reranker) for reranker in rerankers()} == set(RERANKERS.values())


def test_wrong_input_is_named():
    with pytest.raises(ValueError, match="temperature must be above 0, got 0"):
        AnchorProfile(REFERENCES, temperature=0)
    with pytest.raises(ValueError, match="top_references must be 1 or more, got 0"):
        AttendedReference(REFERENCES, top_references=0)
    with pytest.raises(ValueError, match="neighbours must be 1 or more, got 0"):
        GalleryNeighbour(neighbours=0)
    for weight in (math.nan, math.inf):
        with pytest.raises(ValueError, match="weight must be a finite number"):
            GalleryNeighbour(weight=weight)
        with pytest.raises(ValueError, match="weight must be a finite number"):
            AnchorProfile(REFERENCES, weight=weight)
    for kind in (AnchorProfile, AttendedReference):
        with pytest.raises(ValueError, match="block must be 1 or more, got 0"):
            kind(REFERENCES, block=0)
    for reranker in rerankers():
        with pytest.raises(
            ValueError, match=r"each of 7 queries .* 11 in the gallery, got \(11, 7\)"
        ):
            reranker.rerank(QUERY, GALLERY, SCORES.T)
