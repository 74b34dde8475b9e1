"""Attention before and after the threshold: numbers, files, ROSITA's view."""

import json
import math

import pytest
import torch
from safetensors import safe_open

from tbkin.graphs.scene_graph import Edge, Node, SceneGraph
from tbkin.visualize.attention import (
    AttentionExport,
    check_attention_path,
    content_words,
    load_attention,
    save_attention,
    top_regions,
)
from tbkin.visualize.masked import (
    brightness,
    rosita_attention,
    view_weights,
    without_region,
    without_word,
)

NAMES = ["[CLS]", "red", "[SEP]", "0 ball", "1 box"]


def export_of(before, after, valid=None, **changes):
    """One layer; the pairs are all said to lie in one block."""
    before, after = torch.tensor(before), torch.tensor(after)
    keep = after > 0
    valid = torch.ones(before.shape[-1], dtype=torch.bool) if valid is None else valid
    count = float(valid.sum() * before.shape[-1] * before.shape[1])
    values = {
        "logits": before.clamp(min=1e-6).log(),
        "before": before,
        "after": after,
        "keep": keep,
        "valid": valid,
        "pairs": torch.tensor([[[float(keep.sum()), count], [0.0, 0.0]]]),
        "blocks": ["text-image", "graph"],
        "positions": NAMES,
        "sizes": (3, 2, 0),
        "words": [-1, 0, -1],
    }
    return AttentionExport(**{**values, **changes})


def two_heads():
    """Every position looks alike; head 0 keeps the red ball alone, head 1 keeps both regions."""
    before = [[0.1, 0.1, 0.1, 0.5, 0.2], [0.1, 0.1, 0.0, 0.4, 0.4]]
    after = [[0.0, 0.0, 0.0, 1.0, 0.0], [0.0, 0.0, 0.0, 0.5, 0.5]]
    return export_of([[[row] * 5 for row in before]], [[[row] * 5 for row in after]])


def test_a_row_is_the_mean_over_the_heads():
    attention = two_heads()
    row = attention.row(-1, 1, attention.regions())
    assert row.before == pytest.approx([0.45, 0.3])
    assert row.after == pytest.approx([0.75, 0.25])
    assert row.heads == [1.0, 0.5]
    assert row.valid == [True, True]
    assert attention.row(0, 1, attention.tokens()).heads == [0.0, 0.0, 0.0]


def test_shares_by_block():
    # Kept: 5 rows x (1 + 2) pairs, of 5 x 5 x 2.
    attention = two_heads()
    assert attention.shares() == [[pytest.approx(15 / 50), None]]
    assert attention.lines() == ["layer 1: text-image 30%, graph -"]


def test_whether_a_layer_drops_anything():
    weights = torch.full((1, 2, 5, 5), 0.2).tolist()
    assert two_heads().drops(0)
    assert not export_of(weights, weights).drops(0)
    # What the knowledge threshold dropped before is not this layer's doing.
    without = torch.full((1, 2, 5, 5), 0.25)
    without[..., 4] = 0
    valid = torch.tensor([True] * 4 + [False])
    assert not export_of(without.tolist(), without.tolist(), valid).drops(0)


def test_layers_that_are_not_there():
    with pytest.raises(ValueError, match="layer 1 of 1; the first is 0, the last 0"):
        two_heads().drops(1)


def test_content_words_are_those_that_were_read():
    nodes = [Node("word", "red", 0, "attribute"), Node("word", "ball", 1, "object")]
    nodes.append(Node("word", "face", -1, "object"))  # said without a word
    graph = SceneGraph(nodes, [], ["red", "ball"])
    assert content_words(graph, two_heads()) == [0]  # "ball" was cut off


def test_top_regions_are_relevant_and_kept():
    graph = SceneGraph(
        [Node("region", "", place, box=(0, 0, 1, 1)) for place in range(3)]
        + [Node("word", "a", 0, "object")],
        [],
        ["a"],
        9,
        9,
    )
    assert top_regions(graph, [0.2, 0.9, 0.5, 1.0], [True, False, True, True]) == [2, 0, 1]


@pytest.mark.parametrize("name", ["deep/attention.json", "deep/attention.safetensors"])
def test_files_hold_exactly_what_was_saved(tmp_path, name):
    attention = two_heads()
    attention.logits = torch.randn(1, 2, 5, 5, generator=torch.Generator().manual_seed(0))
    attention.positions = ["[CLS]", "猫", "[SEP]", "0 ball", '1 "box"']
    save_attention(tmp_path / name, attention)
    loaded = load_attention(tmp_path / name)
    for field, value in vars(attention).items():
        found = getattr(loaded, field)
        if isinstance(value, torch.Tensor):
            assert found.dtype == value.dtype
            assert torch.equal(found, value)
        else:
            assert found == value
    assert [path.name for path in (tmp_path / "deep").iterdir()] == [name.split("/")[1]]


def test_names_are_in_the_metadata(tmp_path):
    save_attention(tmp_path / "a.safetensors", two_heads())
    with safe_open(tmp_path / "a.safetensors", "pt") as file:
        names = json.loads(file.metadata()["tbkin"])
    assert names["schema"] == "tbkin.attention/1"
    assert names["positions"] == NAMES
    assert names["sizes"] == [3, 2, 0]


def test_other_files_are_refused(tmp_path):
    with pytest.raises(
        ValueError, match=r"a\.npz: attention is written to \.json or \.safetensors"
    ):
        check_attention_path(tmp_path / "a.npz")
    (tmp_path / "a.json").write_text('{"schema": "tbkin.scene_graph/1"}')
    with pytest.raises(ValueError, match=r"schema must be tbkin\.attention/1, got 'tbkin.scene"):
        load_attention(tmp_path / "a.json")


def test_rosita_attention_worked_by_hand():
    # Of row 1 the columns 2 and 3: ln 1 and ln 2 in head 0, ln 3 and ln 1 in head 1. Sums: ln 3 and
    # ln 2, so the weights are 3/5 and 2/5. The other rows and columns do not matter.
    logits = torch.full((2, 4, 4), 7.0)
    logits[0, 1, 2:] = torch.tensor([1.0, 2.0]).log()
    logits[1, 1, 2:] = torch.tensor([3.0, 1.0]).log()
    assert rosita_attention(logits, 1, torch.tensor([2, 3])).tolist() == pytest.approx([0.6, 0.4])
    # Of position 3 no key is valid, and position 2 is not asked.
    valid = torch.tensor([True, True, True, False])
    asked = torch.tensor([True, True])
    assert view_weights(logits, 1, valid, 2, asked) == [1.0, 0.0]
    assert view_weights(logits, 1, valid, 2, ~asked) == [0.0, 0.0]
    assert view_weights(logits, 1, valid | True, 2, asked) == pytest.approx([0.6, 0.4])


def test_one_softmax_of_the_sum_is_not_the_mean_of_softmaxes():
    logits = torch.tensor([[[2.0, 0.0]], [[2.0, 0.0]]])
    weights = rosita_attention(logits, 0, torch.tensor([0, 1]))
    assert weights[0].item() == pytest.approx(1 / (1 + math.exp(-4)))


def test_brightness_worked_by_hand():
    assert brightness([0.1, 0.3, 0.5], 0.1, 0.5) == pytest.approx([0.0, 0.5**0.3, 1.0])
    assert brightness([0.25, 0.25], 0.25, 0.25) == [1.0, 1.0]
    assert brightness([0.0], 0.0, 0.0) == [0.0]
    assert brightness([], 0.0, 0.0) == []


def test_a_masked_word_keeps_its_role_only():
    nodes = [
        Node("word", "spread", 2, "object", text="bed spreads"),
        Node("word", "red", 0, "attribute"),
    ]
    said = SceneGraph(nodes, [Edge(0, "is", 1, "attribute")], ["red", "bed", "spreads"])
    masked = without_word(said, 2, "[MASK]")
    assert masked.words == ["red", "bed", "[MASK]"]
    assert masked.nodes == [Node("word", "[MASK]", 2, "object"), nodes[1]]
    assert masked.edges == said.edges
    assert said.words[2] == "spreads"


def test_a_masked_region_keeps_box_and_score_only(regions):
    masked = without_region(regions, 0)
    assert masked.labels == ["", "square", "star", "cross"]
    assert masked.attributes == [[], *regions.attributes[1:]]
    assert masked.relations == []  # "0 left of 1"
    assert masked.features[0].abs().sum() == 0
    assert torch.equal(masked.features[1:], regions.features[1:])
    assert torch.equal(masked.boxes, regions.boxes)
    assert masked.scores == regions.scores
    assert regions.features[0].abs().sum() > 0
    assert without_region(regions, 2).relations == regions.relations
    with pytest.raises(ValueError, match="no region 4 to mask; there are 4, and the first is 0"):
        without_region(regions, 4)
