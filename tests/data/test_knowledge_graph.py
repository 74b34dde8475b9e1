import numpy as np
import pytest
from hypothesis import given

from tbkin.data.knowledge_graph import (
    OVERLAPPING,
    KnowledgeGraph,
    ObjectWord,
    knowledge_graph,
    number_pieces,
    words_of,
)
from tbkin.graphs.knowledge import CooccurrencePrior
from tbkin.graphs.scene_graph import Edge, Node, SceneGraph
from tests.data.knowledge_graphs import (
    BALL,
    DOG,
    RED,
    RUNS,
    hand_graph,
    knowledge_graphs,
    needs_reference,
    reference,
)


def word(label, role, index, **changes):
    return Node("word", label, index, role, **changes)


def one_piece_each(count):
    return {number: [number] for number in range(count)}


@needs_reference
def test_rositas_own_edges_similarity_and_overlaps():
    case, graph = reference()
    values, exact = case["graph"], case["tolerance"]
    pieces = values["pieces_of_word"]
    expected = np.zeros((len(values["pieces"]),) * 2)
    for edge in values["text_edges"]:
        for neighbour in edge["neighbours"]:
            for own in pieces[edge["word"]]:
                for other in pieces[neighbour]:
                    expected[own, other] = max(expected[own, other], edge["weight"])
                    expected[other, own] = expected[own, other]
    assert graph.words == pytest.approx(expected, abs=exact)
    assert graph.links == pytest.approx(np.array(values["similarity"]), abs=exact)
    iou = np.array(values["iou"]) * (1 - np.eye(len(values["iou"])))
    assert graph.regions == pytest.approx(np.where(iou > OVERLAPPING, iou, 0.0), abs=exact)
    assert [list(one.pieces) for one in graph.object_words] == [
        pieces[head] for ((head,),) in values["scene_graph"]["objs"]
    ]


def test_a_scene_graph_by_hand():
    # "wooden alarm clock next to two cats", a region of 10 x 10 pixels and one of 10 x 9 in it.
    nodes = [
        Node("region", "clock", 0, box=(0.0, 0.0, 9.0, 9.0)),
        Node("region", "cat", 1, box=(0.0, 0.0, 9.0, 8.0)),
        Node("region", "mat", 2, box=(0.0, 9.0, 9.0, 18.0)),
        word("alarm clock", "object", 2, text="alarm clock"),
        word("wooden", "attribute", 0),
        word("next to", "relation", 3),
        word("cat", "object", 6),
        word("2", "count", 5, text="two"),
    ]
    edges = [
        Edge(3, "is", 4, "attribute"),
        Edge(5, "subject", 3, "relation"),
        Edge(5, "object", 6, "relation"),
        Edge(6, "is", 7, "attribute"),
        Edge(3, "object", 0, "alignment", 0.92),
        Edge(6, "object", 1, "alignment", 1.0),
        Edge(5, "relation", 0, "alignment", 0.92),  # only object words are linked
        Edge(0, "around", 1, "spatial"),
    ]
    words = "wooden alarm clock next to two cats".split()
    scene = SceneGraph(nodes, edges, words, width=20, height=20)
    prior = CooccurrencePrior({"clock": {"wooden": 0.04}}, {"cat": {"clock next to": 0.01}})
    pieces = {0: [0, 1], 1: [2], 2: [3], 3: [4], 4: [5], 5: [6], 6: [7, 8]}
    graph = knowledge_graph(scene, prior, pieces)
    # The clock: wooden 5 x 0.04 + 0.2, "next to cat" never seen. The cats: two never seen,
    # "clock next to" 20 x 0.01 + 0.2. A preposition of two words is two words.
    clock = ObjectWord((2, 3), (((0, 1), pytest.approx(0.4)), ((4,), 0.2), ((5,), 0.2)))
    near = (((4,), pytest.approx(0.4)), ((5,), pytest.approx(0.4)), ((6,), 0.2))
    assert graph.object_words == (clock, ObjectWord((7, 8), near))
    expected = np.zeros((9, 3))
    expected[[2, 3], 0], expected[[7, 8], 1] = 0.92, 1.0
    assert graph.links.tolist() == expected.tolist()
    # Inclusive pixels: 10 x 10 and 10 x 9 share 90 of 100; rows 9 to 18 share row 9 with the
    # first, 10 of 190 pixels, which is too little for an edge.
    assert graph.regions.tolist() == [[0, 0.9, 0], [0.9, 0, 0], [0, 0, 0]]


def test_words_that_are_cut_off_or_not_said_take_no_part():
    nodes = [
        word("face", "object", -1),
        word("dog", "object", 1),
        word("red", "attribute", 0),
        word("ball", "object", 2),
        word("big", "attribute", 3),
    ]
    edges = [
        Edge(0, "is", 2, "attribute"),
        Edge(1, "is", 2, "attribute"),
        Edge(1, "is", 4, "attribute"),
        Edge(3, "is", 2, "attribute"),
    ]
    scene = SceneGraph(nodes, edges, ["red", "dog", "ball", "big"])
    graph = knowledge_graph(scene, CooccurrencePrior(), one_piece_each(2))
    assert graph.object_words == (ObjectWord((1,), (((0,), 0.2),)),)
    assert graph.links.shape == (2, 0)
    assert graph.regions.shape == (0, 0)


def test_a_phrase_with_something_in_between_is_all_of_its_words():
    words = "a dog sitting quietly on green grass".split()
    assert words_of(word("sit on", "relation", 2), words) == [2, 4]
    assert words_of(word("stand next to", "relation", 2), words) == [2]  # "next" is not there
    assert words_of(word("dog", "object", 1), words) == [1]


def test_what_fits_every_region_is_linked_to_none():
    nodes = [
        Node("region", "cup", 0, box=(0.0, 0.0, 9.0, 9.0)),
        word("thing", "object", 0, text="things"),
        word("cup", "object", 1),
    ]
    edges = [Edge(1, "object", 0, "alignment", 1.0), Edge(2, "object", 0, "alignment", 1.0)]
    scene = SceneGraph(nodes, edges, ["things", "cup"], width=20, height=20)
    graph = knowledge_graph(scene, CooccurrencePrior(), one_piece_each(2))
    assert graph.links.tolist() == [[0.0], [1.0]]
    assert len(graph.object_words) == 2


def test_an_object_named_by_two_nodes_is_one_and_no_neighbour_of_itself():
    nodes = [
        word("hot dog", "object", 1, text="hot dog"),
        word("hot dog", "object", 1, text="hot dog"),
        word("hot", "attribute", 0),
        word("big", "attribute", 2),
    ]
    edges = [Edge(0, "is", 2, "attribute"), Edge(1, "is", 3, "attribute")]
    scene = SceneGraph(nodes, edges, ["hot", "dog", "big"])
    graph = knowledge_graph(scene, CooccurrencePrior(), one_piece_each(3))
    assert graph.object_words == (ObjectWord((0, 1), (((2,), 0.2),)),)


def test_nothing_seen_and_nothing_said():
    graph = knowledge_graph(SceneGraph(), CooccurrencePrior(), {})
    assert graph.object_words == ()
    assert graph.links.shape == graph.regions.shape == graph.words.shape == (0, 0)


def test_pieces_are_numbered_without_special_tokens():
    assert number_pieces([None, 0, 1, 1, 2, None, None]) == {0: [0], 1: [1, 2], 2: [3]}


def test_all_pieces_of_two_words_are_joined_both_ways_with_the_largest_weight():
    first = ObjectWord((0, 1), (((2, 3), 0.3),))
    second = ObjectWord((2,), (((0,), 0.5),))
    graph = KnowledgeGraph((first, second), np.zeros((0, 0)), np.zeros((4, 0)))
    assert graph.words.tolist() == [
        [0, 0, 0.5, 0.3],
        [0, 0, 0.3, 0.3],
        [0.5, 0.3, 0, 0],
        [0.3, 0.3, 0, 0],
    ]
    # Of the first word alone: edges belong to the word that they are said of.
    assert graph.text_edges([first])[0].tolist() == [0, 0, 0.3, 0.3]


@given(knowledge_graphs())
def test_text_edges_are_symmetric_and_within_their_weights(graph):
    assert np.array_equal(graph.words, graph.words.T)
    assert set(np.unique(graph.words)) <= {
        0.0,
        *(weight for one in graph.object_words for _, weight in one.neighbours),
    }


def test_the_hand_graph_is_what_its_comment_says():
    words = hand_graph().words
    assert words[DOG].tolist() == [0.6, 0, 0.2, 0]
    assert words[:, DOG].tolist() == [0.6, 0, 0.2, 0]
    assert not words[BALL].any()
    assert words[RED, RUNS] == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"regions": np.zeros((2, 2))}, r"links \(pieces, regions\).*got \(4, 3\) and \(2, 2\)"),
        ({"links": np.zeros(4)}, r"got \(4,\) and \(3, 3\)"),
        ({"links": np.full((4, 3), np.nan)}, r"links of a knowledge graph must be in \[0, 1\]"),
        ({"regions": np.full((3, 3), 2.0)}, r"regions of a knowledge graph must be in \[0, 1\]"),
        ({"regions": np.eye(3)}, "symmetric, 0 on the diagonal"),
        ({"regions": np.triu(np.ones((3, 3)), 1)}, "symmetric, 0 on the diagonal"),
        ({"object_words": (ObjectWord((4,)),)}, "piece 4 of a text of 4 pieces"),
        ({"object_words": (ObjectWord((0,), (((-1,), 0.3),)),)}, "piece -1 of a text of 4"),
        ({"object_words": (ObjectWord(()),)}, "a word without pieces"),
        ({"object_words": (ObjectWord((0,), (((1,), 0.0),)),)}, r"weight must be in \(0, 1\]"),
    ],
)
def test_what_does_not_fit_is_named(changes, message):
    with pytest.raises(ValueError, match=message):
        KnowledgeGraph(**{**vars(hand_graph()), **changes})


def test_pieces_must_be_all_of_the_text():
    with pytest.raises(ValueError, match=r"numbered 0 to 1, each once.*got \{0: \[1\], 1: \[2\]\}"):
        knowledge_graph(SceneGraph(), CooccurrencePrior(), {0: [1], 1: [2]})
