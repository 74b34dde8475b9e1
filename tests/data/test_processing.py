from dataclasses import replace

import numpy as np
import pytest
import torch

from tbkin.data.processing_tbkin import (
    TBKINProcessor,
    build_tokenizer,
    graph_arrays,
    most_confident,
)
from tbkin.graphs.build import build_scene_graph, join, picture_graph
from tbkin.graphs.kinds import CODES, KINDS, kind_of
from tbkin.parsers.word_rules import WordRules

QUESTION = "What color is the circle to the left of the large red square?"


def same(found, expected):
    assert set(found) == set(expected)
    for key, value in expected.items():
        if isinstance(value, torch.Tensor | np.ndarray):
            assert found[key].shape == value.shape, key
            assert found[key].dtype == value.dtype, key
            assert bool((found[key] == value).all()), key
        else:
            assert found[key] == value, key


def words_of(processor, ids):
    return processor.tokenizer.convert_ids_to_tokens(ids)


def test_tokens_are_the_words_in_lower_case_between_start_and_end(tiny_processor, regions):
    ids = tiny_processor(regions, "What COLOR is the zebra?")["input_ids"]
    assert words_of(tiny_processor, ids) == "[CLS] what color is the [UNK] [SEP]".split()


def test_region_tensors(tiny_processor, regions):
    example = tiny_processor(regions, QUESTION)
    assert torch.equal(example["region_features"], regions.features)
    assert torch.allclose(example["region_boxes"], regions.boxes / 100)
    assert example["region_scores"].tolist() == pytest.approx([0.9, 0.8, 0.7, 0.6])
    assert [words_of(tiny_processor, ids) for ids in example["region_label_ids"]] == [
        ["circle", "red", "small"],
        ["square", "red", "large"],
        ["star", "blue"],
        ["cross", "blue"],
    ]
    assert [words_of(tiny_processor, ids) for ids in example["attribute_label_ids"]] == [
        ["red"],
        ["small"],
        ["large"],
        ["blue"],
    ]


def test_names_of_several_words_and_no_name(tiny_processor, regions):
    regions.labels = ["blue_star", "large red square", "", "cross"]
    regions.attributes = [[], [], [], []]
    ids = tiny_processor(regions, QUESTION)["region_label_ids"]
    assert [words_of(tiny_processor, one) for one in ids] == [
        ["blue", "star"],
        ["large", "red", "square"],
        [],
        ["cross"],
    ]


def test_nodes_point_at_their_token_region_or_attribute(tiny_processor, regions):
    example = tiny_processor(regions, QUESTION)
    graph = build_scene_graph(regions, WordRules()(QUESTION))
    tokens = words_of(tiny_processor, example["input_ids"])
    names = [words_of(tiny_processor, ids)[0] for ids in example["attribute_label_ids"]]
    segments, slots = example["node_segment"].tolist(), example["node_slot"].tolist()
    assert len(segments) == len(graph.nodes) + 1
    for node, segment, slot in zip(graph.nodes, segments, slots, strict=False):
        if node.type == "word":
            assert segment == 0
            assert tokens[slot] == graph.words[node.index].lower()
        elif node.type == "region":
            assert (segment, slot) == (1, node.index)
        else:
            assert segment == 2
            assert names[slot] == node.label
    assert (segments[-1], slots[-1]) == (0, 0)  # the text's first token
    assert tokens[0] == "[CLS]"


@pytest.mark.parametrize("geometry", [False, True])
def test_every_edge_is_there_in_both_directions(regions, geometry):
    graph = build_scene_graph(regions, WordRules()(QUESTION))
    token_of_word = {word: word + 1 for word in range(len(graph.words))}
    arrays = graph_arrays(graph, token_of_word, geometry)
    text = len(graph.nodes)
    expected = []
    for number, edge in enumerate(graph.edges):
        if edge.type in ("spatial", "overlap") and not geometry:
            continue
        ends = (edge.source, edge.target)
        types = {graph.nodes[end].type for end in ends}
        kind, swapped = kind_of(edge, graph.nodes[edge.source].type == "region")
        if swapped:
            ends = ends[::-1]
        seen = types != {"word"}
        weight = np.float32(edge.weight)
        expected.append((*ends, kind, weight, seen, number))
        expected.append((*ends[::-1], kind + len(KINDS), weight, seen, number))
    for number, node in enumerate(graph.nodes):
        if node.type == "word":
            kind = CODES[f"text {node.role}"]
            expected.append((text, number, kind, 1.0, False, -1))
            expected.append((number, text, kind + len(KINDS), 1.0, False, -1))
    found = list(
        zip(
            *arrays["edges"].T.tolist(),
            arrays["edge_weight"],
            arrays["edge_seen"].tolist(),
            arrays["edge_of"].tolist(),
            strict=True,
        )
    )
    assert sorted(found) == sorted(expected)
    kinds = {KINDS[row[2] % len(KINDS)] for row in found}
    assert {"aligned object", "aligned relation", "word is attribute", "text object"} <= kinds
    assert ("left of" in kinds) == geometry


def test_swapped_predicates_point_the_other_way(regions):
    # Region 1 is around region 2: stored as 2 inside 1.
    arrays = graph_arrays(picture_graph(regions), {}, geometry=True)
    inside = CODES["inside"]
    edges = arrays["edges"].tolist()
    assert [2, 1, inside] in edges
    assert [1, 2, inside + len(KINDS)] in edges
    assert [1, 2, inside] not in edges


def test_words_that_are_cut_take_their_nodes_and_edges_along(tiny_processor, regions):
    # Start, what, color, is, the, circle, to, end: "left", "large", "red", "square" are gone.
    short = TBKINProcessor(tiny_processor.tokenizer, parser="word_rules", max_text_length=8)
    example = short(regions, QUESTION)
    tokens = words_of(short, example["input_ids"])
    assert tokens == "[CLS] what color is the circle to [SEP]".split()
    text_slots = [
        slot
        for segment, slot in zip(example["node_segment"], example["node_slot"], strict=True)
        if segment == 0
    ]
    assert [tokens[slot] for slot in text_slots] == ["circle", "[CLS]"]
    assert example["edges"][:, :2].max() < len(example["node_slot"])
    whole = tiny_processor(regions, QUESTION)
    assert len(example["edges"]) < len(whole["edges"])
    # What is left is what the graph of the first six words gives; its edges have other numbers.
    expected = tiny_processor(regions, "what color is the circle to")
    same(example | {"edge_of": 0}, expected | {"edge_of": 0})


@pytest.mark.parametrize("text", ["", "?!", "🐶", "the of is"])
def test_a_text_without_content_words(tiny_processor, regions, text):
    example = tiny_processor(regions, text)
    assert example["input_ids"][0] == tiny_processor.tokenizer.cls_token_id
    assert example["node_segment"].tolist() == [1] * 4 + [2] * 4 + [0]


def test_a_picture_without_regions(tiny_processor, empty_regions):
    example = tiny_processor(empty_regions, QUESTION)
    assert example["region_boxes"].shape == (0, 4)
    assert example["region_label_ids"] == example["attribute_label_ids"] == []
    assert set(example["node_segment"].tolist()) == {0}
    assert not example["edge_seen"].any()
    bare = tiny_processor(empty_regions, "")
    assert bare["edges"].shape == (0, 3)
    assert bare["node_slot"].tolist() == [0]


def test_regions_need_features(tiny_processor, regions):
    with pytest.raises(ValueError, match=r"image 7 have no features"):
        tiny_processor(replace(regions, features=None), QUESTION)


def test_one_picture_serves_many_questions(tiny_processor, regions):
    seen, graph = tiny_processor.seen(regions)
    for text in (QUESTION, "how many stars are there?", QUESTION):
        again = tiny_processor.encode(seen, join(graph, tiny_processor.parse(text)))
        same(again, tiny_processor(regions, text))


def test_the_most_confident_regions_keep_their_order_and_are_renumbered(regions):
    regions.scores = [0.2, 0.9, 0.1, 0.8]
    regions.relations = [(0, "left of", 1, 0.5), (3, "below", 1, 0.5), (1, "around", 2, 0.5)]
    few = most_confident(regions, 2)
    assert few.labels == ["square", "cross"]
    assert few.scores == [0.9, 0.8]
    assert few.boxes.tolist() == regions.boxes[[1, 3]].tolist()
    assert torch.equal(few.features, regions.features[[1, 3]])
    assert few.attributes == [regions.attributes[1], regions.attributes[3]]
    assert few.relations == [(1, "below", 0, 0.5)]
    assert (few.width, few.height, few.image_id) == (100, 100, "7")
    assert most_confident(regions, 4) is regions


def test_the_processor_uses_the_most_confident_regions(tiny_processor, regions):
    few = TBKINProcessor(tiny_processor.tokenizer, parser="word_rules", max_regions=2)
    same(few(regions, QUESTION), tiny_processor(most_confident(regions, 2), QUESTION))


def test_saved_and_loaded_it_keeps_every_setting(tmp_path, tiny_processor, regions):
    settings = {
        "parser": "word_rules",
        "max_text_length": 9,
        "max_regions": 3,
        "fingerprint": {"extractor": "pixels 8x8", "weights": "", "boxes": "grid 6x6"},
        "detector": {"name": "grid", "rows": 3, "boxes": []},
        "geometry": True,
    }
    processor = TBKINProcessor(tiny_processor.tokenizer, **settings)
    before = processor(regions, QUESTION)  # caches are filled and must not be saved
    processor.save_pretrained(tmp_path)
    loaded = TBKINProcessor.from_pretrained(tmp_path)
    for name, value in settings.items():
        assert getattr(loaded, name) == value, name
        assert value != getattr(TBKINProcessor(tiny_processor.tokenizer), name), name
    same(loaded(regions, QUESTION), before)
    assert loaded.tokenizer.pad_token_id == 0
    assert loaded.tokenizer.mask_token == "[MASK]"


def test_tokenizer_counts_and_special_tokens():
    tokenizer = build_tokenizer([["Red", "red", "Dog"], ["red"]], min_count=2)
    assert tokenizer.convert_tokens_to_ids(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]) == [
        0, 1, 2, 3, 4
    ]  # fmt: skip
    assert len(tokenizer) == 6  # and "red"
    assert tokenizer("RED dog")["input_ids"] == [2, 5, 1, 3]
    assert tokenizer.pad_token_id == 0


def test_the_same_words_in_another_order_give_the_same_tokenizer():
    one = build_tokenizer([["b", "a"], ["c"]]).get_vocab()
    assert one == build_tokenizer([["c", "a"], ["b", "b"]]).get_vocab()
