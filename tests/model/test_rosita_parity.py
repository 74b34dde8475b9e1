"""Converted networks compute what ROSITA's own code computed (shared/reference/rosita_tiny)."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tbkin.boxes import clip_boxes, decode_boxes
from tbkin.model.convert_rosita import convert_rosita, read_checkpoint
from tbkin.model.heads import (
    TBKINForGrounding,
    TBKINForPreTraining,
    TBKINForQuestionAnswering,
)
from tbkin.model.retrieval import TBKINForImageTextRetrieval

REFERENCE = Path(__file__).resolve().parents[3] / "shared/reference/rosita_tiny"
pytestmark = pytest.mark.skipif(not REFERENCE.is_dir(), reason="no reference networks of ROSITA")

STATES = ("pooled", "text_states", "region_states")
CLASSES = {
    "vqa": (TBKINForQuestionAnswering, 630_066, 51),
    "rec": (TBKINForGrounding, 418_309, 53),
    "itr": (TBKINForImageTextRetrieval, 213_954, 63),
    "pretraining": (TBKINForPreTraining, 410_914, 47),
}
PREDICTIONS = {  # ROSITA's name -> ours; the rank scores only on real regions
    "vqa": {"answer_logits": "logits"},
    "rec": {"rank_scores": "box_logits", "box_deltas": "box_deltas"},
    "itr": {"match_logits": "match_logits"},
    "pretraining": {
        "word_logits": "word_logits",
        "feature_predictions": "feature_predictions",
        "object_logits": "object_logits",
        "attribute_logits": "attribute_logits",
        "match_logits": "match_logits",
    },
}
SIZES = {  # width, heads, layers, feed-forward, vocabulary, as in the folder's table
    "vqa": (128, 2, 2, 512, 1000),
    "rec": (128, 2, 2, 256, 600),
    "itr": (64, 1, 3, 256, 600),
    "pretraining": (128, 2, 1, 512, 600),
}
EVERY = pytest.mark.parametrize("task", list(CLASSES))


def convert(task, **changes):
    return convert_rosita(read_checkpoint(REFERENCE / f"checkpoint_{task}.pth"), changes=changes)


def batch_of(inputs):
    return {
        "input_ids": inputs["text_ids"],
        "attention_mask": inputs["text_mask"],
        "region_features": inputs["region_features"],
        "region_boxes": inputs["region_boxes"][..., :4],  # the fifth is the area of these
        "region_mask": inputs["region_mask"],
    }


def load(task):
    inputs = load_file(REFERENCE / f"inputs_{task}.safetensors")
    return inputs, batch_of(inputs), load_file(REFERENCE / f"outputs_{task}.safetensors")


@torch.no_grad()
def run(model, batch, **options):
    return model(**batch, **options)


def worst(found, expected, where=slice(None)):
    assert found.shape == expected.shape
    return (found - expected)[where].abs().max().item()


@EVERY
def test_sizes_are_read_off_the_tensors(task):
    conversion = convert(task)
    config, (model_class, parameters, tensors) = conversion.config, CLASSES[task]
    width, heads, layers, inner, vocabulary = SIZES[task]
    assert conversion.model_class is model_class
    assert (config.hidden_size, config.num_attention_heads) == (width, heads)
    assert (config.num_hidden_layers, config.intermediate_size) == (layers, inner)
    assert (config.vocab_size, config.max_position_embeddings) == (vocabulary, 64)
    assert (config.region_feature_size, config.type_vocab_size) == (256, 2)
    assert config.layer_norm_eps == 1e-12
    assert sum(len(names) for names in conversion.loaded.values()) == tensors
    assert sum(part.numel() for part in conversion.build().parameters()) == parameters
    assert conversion.new == []
    assert set(conversion.left_over) <= {"epoch", "net_optim", "amp"}
    if task == "vqa":
        assert config.num_labels == 50
    if task == "pretraining":
        assert (config.num_object_labels, config.num_attribute_labels) == (48, 24)


@EVERY
@pytest.mark.parametrize(("kind", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 3e-6)])
def test_every_state_and_prediction(task, kind, tolerance):
    inputs, batch, expected = load(task)
    floats = {name: part.to(kind) if part.is_floating_point() else part
              for name, part in batch.items()}  # fmt: skip
    outputs = run(convert(task).build().to(kind), floats)
    for name in STATES:  # padded positions too
        assert worst(outputs[name], expected[name]) < tolerance
    real = inputs["region_mask"].bool()
    for name, ours in PREDICTIONS[task].items():
        where = real if name == "rank_scores" else slice(None)
        assert worst(outputs[ours], expected[name], where) < tolerance


def test_attention_scores_and_weights_of_every_layer_and_head():
    _, batch, _ = load("vqa")
    expected = load_file(REFERENCE / "attention_vqa.safetensors")
    sample = expected["sample"].item()
    alone = {name: part[sample : sample + 1] for name, part in batch.items()}
    outputs = run(convert("vqa").build(), alone, output_attentions=True)
    real = torch.cat([alone["attention_mask"], alone["region_mask"]], dim=1)[0].bool()
    assert real.sum() == 18
    scores = torch.stack(outputs.attention_logits)[:, 0]
    weights = torch.stack(outputs.attentions)[:, 0]
    assert worst(scores, expected["scores"], (..., real)) < 1e-5
    assert worst(weights, expected["weights"]) < 1e-5
    assert (weights[..., ~real] == 0).all()
    assert outputs.attention_kept.tolist() == [1.0, 1.0]  # nothing is selected


def test_the_region_that_is_chosen_and_its_box():
    inputs, batch, expected = load("rec")
    outputs = run(convert("rec").build(), batch)
    chosen = outputs.box_logits.argmax(dim=1)
    assert chosen.tolist() == expected["chosen_region"].tolist()
    boxes = decode_boxes(outputs.box_deltas, inputs["region_xyxy"])
    rows = torch.arange(4)
    side = inputs["image_size"].max(dim=1).values
    for row in rows:
        height, width = inputs["image_size"][row].tolist()
        clipped = clip_boxes(boxes[row, chosen[row]], width - 1, height - 1)
        assert (clipped - expected["chosen_box"][row]).abs().max() < 1e-5 * side[row]


def test_wrong_pairs_and_all_pairs():
    inputs, batch, expected = load("itr")
    model = convert("itr").build()
    text, image = ("input_ids", "attention_mask"), ("region_features", "region_boxes")
    image = (*image, "region_mask")
    for side, names in (("text", text), ("image", image)):
        other = inputs[f"negative_{side}"]
        outputs = run(model, batch | {name: batch[name][other] for name in names})
        assert worst(outputs.match_logits, expected[f"match_logits_negative_{side}"]) < 1e-5
        assert worst(outputs.pooled, expected[f"pooled_negative_{side}"]) < 1e-5
    pictures, texts = torch.arange(4).repeat_interleave(4), torch.arange(4).repeat(4)
    pairs = {name: batch[name][texts] for name in text}
    pairs |= {name: batch[name][pictures] for name in image}
    matrix = run(model, pairs).match_logits.softmax(dim=-1)[:, 1].view(4, 4)
    assert worst(matrix, expected["match_matrix"]) < 1e-5
    assert worst(matrix.diagonal(), expected["match_probability"]) < 1e-5


@EVERY
def test_more_padding_changes_nothing_that_is_real(task):
    _, batch, _ = load(task)
    model = convert(task).build()
    expected = run(model, batch)
    longer = dict(batch)
    for name, filler in (("region_features", 0.7), ("region_boxes", 0.7), ("region_mask", 0.0)):
        part = batch[name]
        rows = torch.full((4, 3, *part.shape[2:]), filler)
        longer[name] = torch.cat([part, rows], dim=1)
    found = run(model, longer)
    regions = batch["region_mask"].shape[1]
    for name, before in expected.items():
        if name in ("fused_states", "state_mask", "attention_pairs", "attention_kept"):
            continue
        after = found[name][:, :regions] if "region" in name or "box" in name else found[name]
        if name in ("feature_predictions", "object_logits", "attribute_logits"):
            after = after[:, :regions]
        assert worst(after, before) < 1e-5, name


@EVERY
def test_saved_and_loaded_it_is_the_same(task, tmp_path):
    _, batch, _ = load(task)
    model = convert(task).build()
    model.save_pretrained(tmp_path)
    again = CLASSES[task][0].from_pretrained(tmp_path).eval()
    before, after = run(model, batch), run(again, batch)
    assert all(torch.equal(after[name], before[name]) for name in before)


@EVERY
def test_with_a_graph_encoder_and_no_graph_it_is_the_same(task):
    _, batch, expected = load(task)
    conversion = convert(task, graph_encoder="relational")
    assert any(name.startswith("tbkin.fusion.graph_layers") for name in conversion.new)
    outputs = run(conversion.build(), batch)
    assert worst(outputs.pooled, expected["pooled"]) < 1e-5
