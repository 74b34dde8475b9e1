import pytest
import torch

from tbkin.boxes import box_iou
from tbkin.graphs.relations import (
    INVERSE,
    PREDICATES_OF_PHRASE,
    overlap_edges,
    pairwise_predicates,
    spatial_edges,
)
from tbkin.graphs.scene_graph import SPATIAL_PREDICATES


def random_boxes(count, seed=0):
    corners = torch.rand(count, 2, 2, generator=torch.Generator().manual_seed(seed)) * 100
    return torch.cat([corners.amin(dim=1), corners.amax(dim=1)], dim=1)


@pytest.mark.parametrize(
    ("box", "other", "expected"),
    [
        ([0, 0, 10, 10], [40, 0, 50, 10], "left of"),
        ([40, 0, 50, 10], [0, 0, 10, 10], "right of"),
        ([0, 0, 10, 10], [0, 40, 10, 50], "above"),
        ([0, 40, 10, 50], [0, 0, 10, 10], "below"),
        ([0, 0, 10, 10], [30, 25, 40, 35], "left of"),  # 30 sideways, 25 down
        ([0, 0, 10, 10], [25, 30, 35, 40], "above"),  # 25 sideways, 30 down
        ([40, 40, 50, 50], [0, 0, 100, 100], "inside"),
        ([0, 0, 100, 100], [40, 40, 50, 50], "around"),
        ([9, 0, 19, 10], [10, 0, 50, 10], "inside"),  # 90 of its 100 lie in the other
        ([8, 0, 18, 10], [10, 0, 50, 10], "left of"),  # 80 do not suffice
    ],
)
def test_each_predicate_on_hand_placed_boxes(box, other, expected):
    predicates = pairwise_predicates(torch.tensor([box, other]).float())
    assert predicates[0][1] == expected
    assert predicates[1][0] == INVERSE[expected]


def test_boxes_with_one_centre_have_no_predicate_and_no_edge():
    boxes = torch.tensor([[0.0, 0, 9, 9], [0, 0, 9, 9], [4, -20, 5, 29]])
    assert [predicates[:] for predicates in pairwise_predicates(boxes)] == [[""] * 3] * 3
    assert spatial_edges(boxes) == []


def test_all_that_are_as_near_as_the_last_neighbour_are_near():
    # A row of five: the middle box has two at distance 10 and two at 20.
    boxes = torch.tensor([[10.0 * k, 0, 10 * k + 8, 8] for k in range(5)])
    pairs = {(edge.source, edge.target) for edge in spatial_edges(boxes, neighbours=1)}
    assert pairs == {(0, 1), (1, 2), (2, 3), (3, 4)}


def test_the_fixture(regions):
    predicates = pairwise_predicates(regions.boxes)
    assert predicates[0][1:] == ["left of", "left of", "left of"]
    assert predicates[1][2:] == ["around", "above"]
    assert predicates[2][3] == "above"


def test_predicates_of_a_pair_are_inverse():
    predicates = pairwise_predicates(random_boxes(12))
    seen = set()
    for i in range(12):
        for j in range(12):
            if i != j:
                assert predicates[j][i] == INVERSE[predicates[i][j]]
                seen.add(predicates[i][j])
    assert seen == set(SPATIAL_PREDICATES)


def test_moving_or_scaling_the_picture_changes_nothing():
    boxes = random_boxes(8)
    assert pairwise_predicates(boxes) == pairwise_predicates(boxes * 4 + 16)


def test_spatial_edges_are_one_a_pair_from_low_to_high(regions):
    edges = spatial_edges(regions.boxes)
    assert [(edge.source, edge.predicate, edge.target) for edge in edges] == [
        (0, "left of", 1),
        (0, "left of", 2),
        (0, "left of", 3),
        (1, "around", 2),
        (1, "above", 3),
        (2, "above", 3),
    ]
    assert {edge.type for edge in edges} == {"spatial"}


def test_only_near_pairs_get_an_edge():
    # Centres at 0, 10, 21 and 60: the nearest of each is 1, 0, 1 and 2.
    boxes = torch.tensor([[x, 0.0, x + 2, 2] for x in (0, 10, 21, 60)])
    pairs = {(edge.source, edge.target) for edge in spatial_edges(boxes, neighbours=1)}
    assert pairs == {(0, 1), (1, 2), (2, 3)}
    assert len(spatial_edges(boxes, neighbours=99)) == 6


def test_spatial_edges_agree_with_a_slow_loop():
    boxes, neighbours = random_boxes(10), 3
    centres = [((a + c) / 2, (b + d) / 2) for a, b, c, d in boxes.tolist()]

    def nearest(i):
        def distance(j):
            return (centres[i][0] - centres[j][0]) ** 2 + (centres[i][1] - centres[j][1]) ** 2

        return sorted((j for j in range(10) if j != i), key=distance)[:neighbours]

    expected = {(i, j) for i in range(10) for j in range(i + 1, 10)
                if j in nearest(i) or i in nearest(j)}  # fmt: skip
    assert {(edge.source, edge.target) for edge in spatial_edges(boxes, neighbours)} == expected


@pytest.mark.parametrize("count", [0, 1])
def test_fewer_than_two_boxes_have_no_edges(count):
    assert spatial_edges(random_boxes(count)) == []
    assert overlap_edges(random_boxes(count)) == []


def test_overlap_worked_by_hand():
    # 10 x 10 each, moved by 5: 50 shared of 150.
    (edge,) = overlap_edges(torch.tensor([[0.0, 0, 10, 10], [5, 0, 15, 10], [50, 50, 60, 60]]))
    assert (edge.source, edge.predicate, edge.target, edge.type) == (0, "overlaps", 1, "overlap")
    assert edge.weight == pytest.approx(1 / 3)


def test_overlap_edges_agree_with_a_slow_loop():
    boxes = random_boxes(15)
    expected = {}
    for i in range(15):
        for j in range(i + 1, 15):
            iou = box_iou(boxes[i : i + 1], boxes[j : j + 1]).item()
            if iou > 0.2:
                expected[i, j] = pytest.approx(iou, abs=1e-6)
    found = {(edge.source, edge.target): edge.weight for edge in overlap_edges(boxes)}
    assert found == expected
    assert 0 < len(found) < 105


def test_phrases_name_known_predicates_only():
    for phrase, predicates in PREDICATES_OF_PHRASE.items():
        assert set(predicates) <= set(SPATIAL_PREDICATES), phrase
    for predicate in ("left of", "right of", "above", "below", "inside"):
        assert predicate in PREDICATES_OF_PHRASE[predicate]
