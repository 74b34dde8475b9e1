"""The heads, and how one model's checkpoint starts another."""

import math

import pytest
import torch

import tbkin
from tbkin.model.configuration_tbkin import TBKINConfig
from tbkin.model.heads import (
    DirectBoxHead,
    GroundingHead,
    RegionHead,
    TBKINForGrounding,
    TBKINForPreTraining,
    TBKINForQuestionAnswering,
    WordHead,
)
from tbkin.model.retrieval import TBKINForImageTextRetrieval
from tbkin.objectives.grounding import grounding_direct_loss
from tests.model.rosita import random_batch

MODELS = [
    TBKINForQuestionAnswering,
    TBKINForGrounding,
    TBKINForImageTextRetrieval,
    TBKINForPreTraining,
]
EVERY = pytest.mark.parametrize("model_class", MODELS)


def config(**changes):
    settings = {
        "vocab_size": 23,
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "max_position_embeddings": 30,
        "region_feature_size": 12,
        "num_object_labels": 7,
        "num_attribute_labels": 4,
        "num_labels": 3,
        "initializer_range": 0.3,
    }
    return TBKINConfig.rosita_base(**{**settings, **changes})


def build(model_class, **changes):
    """In evaluation mode, no parameter at its start value."""
    torch.manual_seed(0)
    model = model_class(config(**changes)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn(parameter.shape)
    return model


@pytest.fixture
def batch():
    return random_batch()[0]


@torch.no_grad()
def run(model, batch):
    return model(**batch)


# What a head computes


def gelu(x):
    return x / 2 * (1 + math.erf(x / math.sqrt(2)))


def test_words_worked_by_hand():
    # dense is the identity: g(1) = 0.841345, g(-1) = -0.158655. Two numbers a > b are (1, -1) after
    # LayerNorm. Words (2, 0), (0, 3), (1, 1) then score 2, -3, 0, and the bias is 10, 20, 30.
    head = WordHead(config(hidden_size=2, vocab_size=3))
    with torch.no_grad():
        head.dense.weight.copy_(torch.eye(2))
        head.dense.bias.zero_()
        head.bias.copy_(torch.tensor([10.0, 20.0, 30.0]))
        assert head.transform(torch.tensor([1.0, -1.0])).tolist() == pytest.approx([1.0, -1.0])
        states = torch.tensor([[[1.0, -1.0], [-1.0, 1.0]]])
        logits = head(states, torch.tensor([[2.0, 0.0], [0.0, 3.0], [1.0, 1.0]]))
    assert logits[0, 0].tolist() == pytest.approx([12.0, 17.0, 30.0], abs=1e-4)
    assert logits[0, 1].tolist() == pytest.approx([8.0, 23.0, 30.0], abs=1e-4)


def test_gelu_is_the_exact_one():
    head = GroundingHead(config(hidden_size=2))
    head.norm = torch.nn.Identity()
    with torch.no_grad():
        head.dense.weight.copy_(torch.eye(2))
        head.dense.bias.zero_()
        found = head.transform(torch.tensor([2.0, -2.0]))
    # The tanh form differs by 1e-4 here.
    assert found.tolist() == pytest.approx([gelu(2.0), gelu(-2.0)], abs=1e-6)


def test_epsilon_is_the_configs():
    assert GroundingHead(config()).norm.eps == 1e-12
    assert RegionHead(config(layer_norm_eps=1e-5)).norm.eps == 1e-5


def test_padded_regions_are_never_chosen(batch):
    model = build(TBKINForGrounding)
    with torch.no_grad():
        model.grounding_head.rank.bias.fill_(-50.0)  # every real region scores far below 0
    outputs = run(model, batch)
    padding = batch["region_mask"] == 0
    assert outputs.box_logits.shape == (2, 5)
    assert outputs.box_deltas.shape == (2, 5, 4)
    assert padding.any()
    assert (outputs.box_logits[padding] == torch.finfo(torch.float32).min).all()
    assert (outputs.box_logits[~padding] > -100).all()
    assert (outputs.box_logits.softmax(dim=1)[padding] == 0).all()
    assert (outputs.box_logits.argmax(dim=1) < batch["region_mask"].sum(dim=1)).all()
    half = model.to(torch.bfloat16)
    floats = ("region_features", "region_boxes")
    logits = run(half, {name: part.bfloat16() if name in floats else part
                        for name, part in batch.items()}).box_logits  # fmt: skip
    assert torch.isfinite(logits).all()
    assert (logits.softmax(dim=1)[padding] == 0).all()


def test_a_direct_box_worked_by_hand():
    # Whatever the state, the head says its bias: sigmoid of 0 is 1/2, of ln 3 it is 3/4.
    head = DirectBoxHead(config())
    with torch.no_grad():
        head.box.weight.zero_()
        head.box.bias.copy_(torch.tensor([0.0, 0.0, math.log(3), -math.log(3)]))
        box = head(torch.randn(2, 16))
    # Centre (1/2, 1/2), size 3/4 x 1/4.
    assert box.tolist() == [pytest.approx([1 / 8, 3 / 8, 7 / 8, 5 / 8])] * 2


def test_a_direct_model_says_a_box_of_each_text_and_has_no_other_head(batch):
    model = build(TBKINForGrounding, grounding_box="direct")
    outputs = run(model, batch)
    assert outputs.box_logits is None
    assert outputs.box_deltas is None
    assert outputs.direct_boxes.shape == (2, 4)
    assert (outputs.direct_boxes[:, 2:] > outputs.direct_boxes[:, :2]).all()
    alone = run(model, {name: part[:1] for name, part in batch.items()})
    assert torch.allclose(alone.direct_boxes, outputs.direct_boxes[:1], atol=1e-5)
    half = model.to(torch.bfloat16)
    floats = ("region_features", "region_boxes")
    boxes = run(half, {name: part.bfloat16() if name in floats else part
                       for name, part in batch.items()}).direct_boxes  # fmt: skip
    assert boxes.dtype == torch.float32
    assert torch.allclose(boxes, outputs.direct_boxes, atol=0.1)


def test_a_direct_model_learns_with_every_parameter_and_is_saved(batch, tmp_path):
    model = build(TBKINForGrounding, grounding_box="direct")
    outputs = model(**batch)
    targets = torch.tensor([[0.1, 0.1, 0.4, 0.5], [0.5, 0.2, 0.9, 0.9]])
    grounding_direct_loss(outputs.direct_boxes, targets).backward()
    names = [name for name, part in model.named_parameters()
             if part.grad is None or not part.grad.abs().sum() > 0]  # fmt: skip
    assert names == []
    model.save_pretrained(tmp_path)
    loaded = TBKINForGrounding.from_pretrained(tmp_path).eval()
    assert loaded.config.grounding_box == "direct"
    assert torch.equal(run(loaded, batch).direct_boxes, outputs.direct_boxes.detach())


def test_the_choice_of_the_box_head_leaves_the_default_model_alone():
    by_default = TBKINForGrounding(config()).state_dict()
    assert config().grounding_box == "regions"
    assert not any(name.startswith("direct_box_head") for name in by_default)
    direct = TBKINForGrounding(config(grounding_box="direct")).state_dict()
    assert {name.split(".")[0] for name in by_default} == {"tbkin", "grounding_head"}
    assert {name.split(".")[0] for name in direct} == {"tbkin", "direct_box_head"}
    with pytest.raises(Exception, match="grounding_box must be one of regions, direct; got 'detr'"):
        config(grounding_box="detr")


def test_the_word_embeddings_are_the_decoder(batch):
    model = build(TBKINForPreTraining)
    sizes = [tuple(part.shape) for part in model.parameters()]
    assert sizes.count((23, 16)) == 1
    outputs = model(**batch)
    assert outputs.word_logits.shape == (2, 6, 23)
    unused = sorted(set(range(1, 23)) - set(batch["input_ids"].flatten().tolist()))[0]
    outputs.word_logits[..., unused].sum().backward()
    assert model.tbkin.text.words.weight.grad[unused].abs().sum() > 0
    before = outputs.word_logits.detach()
    with torch.no_grad():
        model.tbkin.text.words.weight[unused] += 1.0
    moved = (run(model, batch).word_logits - before).abs().amax(dim=(0, 1))
    assert moved[unused] > 0.1
    assert moved[torch.arange(23) != unused].max() < 1e-5


def test_what_is_predicted_of_a_region(batch):
    outputs = run(build(TBKINForPreTraining), batch)
    assert outputs.feature_predictions.shape == (2, 5, 12)
    assert outputs.object_logits.shape == (2, 5, 7)
    assert outputs.attribute_logits.shape == (2, 5, 4)
    assert outputs.match_logits.shape == (2, 2)
    model = build(TBKINForPreTraining, num_object_labels=0, num_attribute_labels=0)
    outputs = run(model, batch)
    assert outputs.object_logits is None
    assert outputs.attribute_logits is None
    model = build(TBKINForPreTraining, region_encoder="patches")
    assert run(model, batch).feature_predictions.shape == (2, 5, 12)


@EVERY
def test_every_parameter_learns(model_class, batch):
    model = build(model_class)
    outputs = model(**batch)
    names = ["logits", "box_deltas", "match_logits", "word_logits"]
    names += ["feature_predictions", "object_logits", "attribute_logits"]
    terms = [outputs[name].square().sum() for name in names if outputs.get(name) is not None]
    if "box_logits" in outputs:
        terms.append((outputs.box_logits * batch["region_mask"]).square().sum())
    sum(terms).backward()
    still = [
        name for name, part in model.named_parameters()
        if part.grad is None or not part.grad.abs().sum() > 0
    ]  # fmt: skip
    # A region is found by its own state; ROSITA's network has the pooler all the same.
    unused = ["tbkin.pooler.weight", "tbkin.pooler.bias"]
    assert still == (unused if model_class is TBKINForGrounding else [])


def test_the_answers_loss_is_still_filled_in(batch):
    outputs = run(build(TBKINForQuestionAnswering), {**batch, "labels": torch.rand(2, 3)})
    assert outputs.loss > 0


# One checkpoint, several models


@EVERY
def test_saved_and_loaded_it_is_the_same(model_class, batch, tmp_path):
    model = build(model_class)
    model.save_pretrained(tmp_path)
    before = run(model, batch)
    after = run(getattr(tbkin, model_class.__name__).from_pretrained(tmp_path).eval(), batch)
    assert list(before) == list(after)
    assert all(torch.equal(after[name], before[name]) for name in before)


@EVERY
def test_a_pretrained_model_starts_every_other(model_class, batch, tmp_path):
    trained = build(TBKINForPreTraining)
    trained.save_pretrained(tmp_path)
    model = model_class.from_pretrained(tmp_path).eval()
    assert torch.equal(run(model, batch).pooled, run(trained, batch).pooled)
    if model_class is TBKINForImageTextRetrieval:
        assert torch.equal(run(model, batch).match_logits, run(trained, batch).match_logits)


def test_what_a_checkpoint_lacks_starts_anew(batch, tmp_path):
    # Not as whatever the memory held: transformers makes the missing weights without values.
    build(TBKINForQuestionAnswering).save_pretrained(tmp_path)
    model = TBKINForPreTraining.from_pretrained(tmp_path).eval()
    assert (model.word_head.bias == 0).all()
    assert (model.region_head.feature.bias == 0).all()
    assert (model.region_head.norm.weight == 1).all()
    assert model.match_head.weight.std().item() == pytest.approx(0.3, rel=0.5)
    assert torch.isfinite(run(model, batch).word_logits).all()
