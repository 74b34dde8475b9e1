import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tbkin.data.knowledge_graph import KnowledgeGraph, ObjectWord
from tbkin.data.knowledge_matrix import (
    anchor_nodes,
    anchor_probabilities,
    knowledge_matrix,
    masking_probabilities,
)
from tests.data.knowledge_graphs import (
    BALL,
    DOG,
    hand_graph,
    knowledge_graphs,
    needs_reference,
    reference,
)

SIDES = ("text", "image")


def probabilities(graph, side, anchors, combination="contained"):
    text, image = masking_probabilities(graph, side, anchors, combination)
    return text.tolist(), image.tolist()


def about(values):
    return pytest.approx(values, abs=1e-9)


# --- ROSITA's own case


def anchors_of(graph, expected, side):
    """The anchors of a reference case, from the numbers of its anchor nodes."""
    if side == "image":
        return expected["anchor_nodes"]
    nodes = set(expected["anchor_nodes"])
    return [n for n, word in enumerate(graph.object_words) if nodes & set(word.pieces)]


def check_case(graph, case, side, expected, exact):
    anchors = anchors_of(graph, expected, side)
    assert anchor_nodes(graph, side, anchors) == expected["anchor_nodes"]
    matrix = knowledge_matrix(graph, side, anchors)
    assert (matrix is None) == ("P" not in expected)
    if matrix is not None:
        assert matrix.text_nodes.tolist() == expected["text_nodes"]
        assert matrix.image_nodes.tolist() == expected["image_nodes"]
        assert matrix.transition == pytest.approx(np.array(expected["P"]), abs=exact)
        assert matrix.smoothed == pytest.approx(np.array(expected["P_smoothed"]), abs=exact)
    text, image = masking_probabilities(graph, side, anchors, "maximum")
    assert text == pytest.approx(np.array(expected["text_probability"]), abs=exact)
    assert image == pytest.approx(np.array(expected["image_probability"]), abs=exact)


@needs_reference
def test_rositas_own_cases():
    case, graph = reference()
    exact = case["tolerance"]
    for one in case["cases"]:
        check_case(graph, one, one["side"], one["corrected"], exact)
        if one["equal"]:
            check_case(graph, one, one["side"], one["as_published"], exact)
        if "per_anchor" not in one["corrected"]:
            continue
        anchors = anchors_of(graph, one["corrected"], one["side"])
        rows = anchor_probabilities(graph, one["side"], anchors)
        for row, own in zip(rows, one["corrected"]["per_anchor"], strict=True):
            expected = own["text_probability"] + own["image_probability"]
            assert row == pytest.approx(np.array(expected), abs=exact), one["name"]


@needs_reference
def test_our_rule_lets_no_anchor_speak_for_what_it_does_not_reach():
    # Anchors dog and grass: each gives the other's regions 0.1 in the plain maximum.
    case, graph = reference()
    one = next(one for one in case["cases"] if one["name"] == "text_two_anchors")["corrected"]
    dog, grass = (np.array(own["image_probability"]) for own in one["per_anchor"])
    text, image = probabilities(graph, "text", anchors_of(graph, one, "text"))
    assert image == pytest.approx([dog[0], dog[1], 0, grass[3], 0, 0, dog[6]], abs=1e-5)
    assert text == pytest.approx(one["text_probability"], abs=1e-5)


# --- by hand


def test_one_anchor_of_the_text_worked_by_hand():
    # Nodes red, dog, runs, region 0, region 1; the weak link to region 1 is no edge.
    #   dog: text (3/4, 0, 1/4), region 0; halves:      (3/8, 0, 1/8, 1/2, 0)
    #   red, runs: dog.  region 0: dog and region 1, half each.  region 1: region 0.
    # Two hops from the dog: back to it 3/8 + 1/8 + 1/4, to region 1 1/4.
    # P' of the dog: 0.8 (3/8, 0, 1/8, 1/2, 0) + 0.2 (0, 3/4, 0, 0, 1/4).
    graph = hand_graph()
    matrix = knowledge_matrix(graph, "text", [0])
    assert (matrix.text_nodes.tolist(), matrix.image_nodes.tolist()) == ([0, 1, 2], [0, 1])
    expected = [
        [0, 1, 0, 0, 0],
        [3 / 8, 0, 1 / 8, 1 / 2, 0],
        [0, 1, 0, 0, 0],
        [0, 1 / 2, 0, 0, 1 / 2],
        [0, 0, 0, 1, 0],
    ]
    assert matrix.transition == about(np.array(expected))
    assert matrix.smoothed[1].tolist() == about([0.3, 0.15, 0.1, 0.4, 0.05])
    # Text 0.9 P', the anchor itself 1; image 0.1 (1 - P').
    text, image = probabilities(graph, "text", [0])
    assert text == about([0.27, 1, 0.09, 0])
    assert image == about([0.06, 0.095, 0])


def test_one_anchor_of_the_picture_worked_by_hand():
    # Region 0 overlaps itself with 1 and region 1 with 1/2: (2/3, 1/3) of its own half.
    #   region 0: (0, 1/2, 0 | 1/3, 1/6).  dog: (3/8, 0, 1/8 | 1/2, 0).  region 1: region 0.
    # Two hops from region 0: red 3/16, dog 1/6, runs 1/16, itself 1/4 + 1/9 + 1/6, region 1 1/18.
    text, image = probabilities(hand_graph(), "image", [0])
    assert image == about([1, 0.9 * (0.8 / 6 + 0.2 / 18), 0])
    red, dog, runs = 0.2 * 3 / 16, 0.8 / 2 + 0.2 / 6, 0.2 / 16
    assert text == about([0.1 * (1 - red), 0.1 * (1 - dog), 0.1 * (1 - runs), 0])


def test_two_anchors_worked_by_hand():
    # The ball and region 2 have only each other: P' 0.8 to region 2, which gets 0.1 x 0.2.
    # What the dog gives is as if it were alone; the ball does not reach regions 0 and 1.
    graph = hand_graph()
    text, image = probabilities(graph, "text", [0, 1])
    assert text == about([0.27, 1, 0.09, 1])
    assert image == about([0.06, 0.095, 0.02])
    # The plain maximum hides all regions with 0.1, as each is missed by one anchor.
    text, image = probabilities(graph, "text", [0, 1], "maximum")
    assert text == about([0.27, 1, 0.09, 1])
    assert image == about([0.1, 0.1, 0.1])


def test_without_a_strong_link_anchors_alone_are_masked():
    links = np.where(hand_graph().links == 1.0, 0.9, hand_graph().links)  # 0.9 is not above 0.9
    graph = KnowledgeGraph(hand_graph().object_words, hand_graph().regions, links)
    for combination in ("contained", "maximum"):
        assert probabilities(graph, "text", [0], combination) == ([0, 1, 0, 0], [0, 0, 0])
        assert probabilities(graph, "image", [0, 1], combination) == ([0] * 4, [1, 1, 0])
    assert knowledge_matrix(graph, "text", [0]) is None


def test_an_anchor_without_strong_link_beside_one_that_has():
    # Region 1 is in the matrix by its overlaps: (2/3 itself, 1/3 region 0). One hop leads to no
    # word, two hops by way of region 0 lead to the dog: 1/3 x 1/2. Both blocks of region 0's row
    # are as with one anchor, (0, 1/2, 0 | 1/3, 1/6).
    graph = hand_graph()
    row = anchor_probabilities(graph, "image", [0, 1])[1]
    assert row[DOG] == about(0.1 * (1 - 0.2 / 6))
    assert row[4] == about(0.9 * (0.8 / 3 + 0.2 * (1 / 3 * 2 / 3 + 1 / 3 * 1 / 3)))
    # Alone it reaches no word, so it has no say about the dog in our rule: region 0's share.
    alone, together = (
        anchor_probabilities(graph, "image", [0, 1])[0][DOG],
        masking_probabilities(graph, "image", [0, 1])[0][DOG],
    )
    assert together == alone


def test_an_anchor_whose_row_has_no_mass_on_the_other_side_hides_nothing_there():
    # A third object word "cat" without link, whose neighbour "runs" is the dog's too. Its two hops
    # end in the text, so the regions get 0 from it, not 0.1.
    base = hand_graph()
    cat = ObjectWord((4,), (((2,), 0.2),))
    graph = KnowledgeGraph(
        (*base.object_words, cat), base.regions, np.vstack([base.links, np.zeros(3)])
    )
    row = anchor_probabilities(graph, "text", [0, 2])[1]
    assert row[5:].tolist() == [0, 0, 0]
    # runs: dog and cat, half each, by one hop; by two hops dog 1/2, cat 1/2 itself.
    assert row[:5].tolist() == about([0, 0.9 * 0.2 / 2, 0.9 * 0.8, 0, 1])


# --- the five slips of the published code


def test_slip_1_overlaps_of_every_strong_region_count():
    # The dog has regions 0 and 2; 1 overlaps 0 and 3 overlaps 2.
    regions = np.zeros((4, 4))
    regions[[0, 1, 2, 3], [1, 0, 3, 2]] = 0.5
    links = np.zeros((1, 4))
    links[0, [0, 2]] = 1.0
    graph = KnowledgeGraph((ObjectWord((0,)),), regions, links)
    assert knowledge_matrix(graph, "text", [0]).image_nodes.tolist() == [0, 1, 2, 3]
    _, image = probabilities(graph, "text", [0])
    assert image[0] == about(image[2])
    assert image[1] == about(image[3])
    assert min(image) > 0


def test_slip_2_no_anchor_overwrites_another():
    # Of two pieces of one word both are masked, though each gives the other little.
    links = np.array([[1.0], [1.0]])
    graph = KnowledgeGraph((ObjectWord((0, 1)),), np.zeros((1, 1)), links)
    assert probabilities(graph, "text", [0])[0] == [1, 1]
    assert anchor_probabilities(graph, "text", [0])[0][1] < 0.5
    # Two overlapping anchors of the picture, in either order.
    for anchors in ([0, 1], [1, 0]):
        assert probabilities(hand_graph(), "image", anchors)[1][:2] == [1, 1]


def test_slip_3_a_row_without_edges_spoils_no_other():
    # The ball has no text edge and no region beside its own, so blocks of it are empty.
    graph = hand_graph()
    matrix = knowledge_matrix(graph, "text", [0, 1])
    assert np.isfinite(matrix.smoothed).all()
    assert matrix.smoothed[1].tolist() == about([0.3, 0.15, 0.1, 0, 0.4, 0.05, 0])


def test_slip_4_a_linked_word_without_text_edges_takes_part():
    graph = hand_graph()
    matrix = knowledge_matrix(graph, "text", [1])
    assert (matrix.text_nodes.tolist(), matrix.image_nodes.tolist()) == ([BALL], [2])
    assert probabilities(graph, "text", [1]) == ([0, 0, 0, 1], [0, 0, about(0.02)])


def test_slip_5_all_heads_of_an_object_are_anchors():
    # "alarm clock", the second word alone aligned.
    links = np.array([[0.0], [1.0], [0.0]])
    graph = KnowledgeGraph((ObjectWord((0, 1), (((2,), 0.4),)),), np.zeros((1, 1)), links)
    assert anchor_nodes(graph, "text", [0]) == [0, 1]
    text, image = probabilities(graph, "text", [0])
    assert text[:2] == [1, 1]
    assert 0 < image[0] < 0.1
    # From the picture both heads' edge to what is said of them counts.
    assert knowledge_matrix(graph, "image", [0]).text_nodes.tolist() == [0, 1, 2]


# --- what must hold for any graph


@given(knowledge_graphs(), st.data())
def test_probabilities_are_probabilities(graph, data):
    for side, count in zip(SIDES, (len(graph.object_words), len(graph.regions)), strict=True):
        anchors = data.draw(
            st.lists(st.sampled_from(range(count)), unique=True) if count else st.just([])
        )
        ours = np.concatenate(masking_probabilities(graph, side, anchors))
        plain = np.concatenate(masking_probabilities(graph, side, anchors, "maximum"))
        assert len(ours) == sum(graph.links.shape)
        assert ((ours >= 0) & (ours <= plain) & (plain <= 1)).all()  # false for NaN
        own = np.array(anchor_nodes(graph, side, anchors), dtype=int)
        assert (ours[own + (side == "image") * len(graph.links)] == 1).all()
        other = slice(len(graph.links), None) if side == "text" else slice(len(graph.links))
        assert (plain[other] <= 0.1 + 1e-12).all()
        matrix = knowledge_matrix(graph, side, anchors)
        if matrix is not None:
            assert matrix.transition.sum(axis=1) == pytest.approx(np.ones(len(matrix.transition)))
        if len(anchors) == 1:
            rows = anchor_probabilities(graph, side, anchors)
            assert ours == pytest.approx(rows.max(axis=0))


@given(knowledge_graphs(), st.data())
def test_another_order_of_pieces_and_regions_gives_the_same(graph, data):
    pieces = np.array(data.draw(st.permutations(range(len(graph.links)))), dtype=int)
    regions = np.array(data.draw(st.permutations(range(len(graph.regions)))), dtype=int)
    words = data.draw(st.permutations(range(len(graph.object_words))))
    place = np.argsort(pieces)  # old piece -> new piece

    def moved(group):
        return tuple(int(place[piece]) for piece in group)

    other = KnowledgeGraph(
        tuple(
            ObjectWord(
                moved(graph.object_words[word].pieces),
                tuple((moved(p), weight) for p, weight in graph.object_words[word].neighbours),
            )
            for word in words
        ),
        graph.regions[np.ix_(regions, regions)],
        graph.links[np.ix_(pieces, regions)],
    )
    for side, order in (("text", words), ("image", regions.tolist())):
        anchors = data.draw(st.lists(st.sampled_from(order), unique=True) if order else st.just([]))
        text, image = masking_probabilities(graph, side, anchors)
        again = masking_probabilities(other, side, [order.index(anchor) for anchor in anchors])
        assert again[0] == pytest.approx(text[pieces], abs=1e-9)
        assert again[1] == pytest.approx(image[regions], abs=1e-9)


def test_no_words_no_regions_no_anchors():
    alone = KnowledgeGraph((ObjectWord((0,), (((1,), 0.3),)),), np.zeros((0, 0)), np.zeros((2, 0)))
    assert probabilities(alone, "text", [0]) == ([1, 0], [])
    assert probabilities(alone, "image", []) == ([0, 0], [])
    wordless = KnowledgeGraph((), np.zeros((2, 2)), np.zeros((0, 2)))
    assert probabilities(wordless, "image", [1]) == ([], [0, 1])
    assert probabilities(hand_graph(), "text", []) == ([0] * 4, [0] * 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("words", [0]), "unknown side to mask 'words'; choose from: image, text"),
        (("text", [2]), "anchor 2 of a graph of 2 object words"),
        (("image", [-1]), "anchor -1 of a graph of 3 regions"),
        (("text", [0], "sum"), "unknown combination of anchors 'sum'"),
    ],
)
def test_errors(arguments, message):
    with pytest.raises(ValueError, match=message):
        masking_probabilities(hand_graph(), *arguments)
