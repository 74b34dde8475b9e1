"""The attention site of a whole model: kernel, phases, blocks, counts, learned thresholds."""

import pytest
import torch

from tbkin.model.fusion import HARDEST, SOFTEST
from tbkin.model.heads import TBKINForQuestionAnswering
from tbkin.model.selection import BLOCKS, block_numbers

DENSE = {"selection_rule": "none", "knowledge_rule": "none"}
STRICT = {"selection_rule": "rel_max", "selection_threshold": 0.4, "knowledge_rule": "none"}
QUESTION = "What color is the circle to the left of the large red square?"


@pytest.fixture
def batch(tiny_processor, regions, collate):
    """Two texts of different length about one picture."""
    return collate([tiny_processor(regions, QUESTION), tiny_processor(regions, "how many stars")])


@torch.no_grad()
def run(model, batch, **options):
    return model(**batch, **options)


def sizes_of(batch):
    return tuple(batch[f"{name}_mask"].shape[1] for name in ("attention", "region", "attribute"))


@pytest.mark.parametrize("graph", ["relational", "none"])
def test_the_fused_kernel_agrees_with_the_traced_weights(small_model, batch, graph):
    model = small_model(**DENSE, graph_encoder=graph)
    fused, traced = run(model, batch), run(model, batch, output_attentions=True)
    assert fused.attention_logits is None
    assert torch.allclose(fused.logits, traced.logits, atol=1e-5)
    assert (fused.attention_kept == 1).all()
    assert torch.equal(fused.attention_pairs, traced.attention_pairs)


@pytest.mark.parametrize("rule", ["prob", "rel_max", "rel_mean"])
def test_a_threshold_of_zero_is_the_dense_model_bit_for_bit(small_model, batch, rule):
    dense = run(small_model(**DENSE), batch)
    zero = small_model(**{**DENSE, "selection_rule": rule, "selection_threshold": 0.0})
    assert torch.equal(run(zero, batch).logits, dense.logits)


def test_more_than_all_keys_is_the_dense_model_bit_for_bit(small_model, batch):
    dense = run(small_model(**DENSE), batch)
    every = small_model(**{**DENSE, "selection_rule": "top_k", "selection_threshold": 99})
    assert torch.equal(run(every, batch).logits, dense.logits)


@pytest.mark.parametrize("phase", ["both", "train", "eval"])
def test_selection_is_in_force_in_its_phase(small_model, batch, phase):
    model = small_model(**STRICT, selection_phase=phase)
    in_eval = bool((run(model, batch).attention_kept < 1).all())
    model.train()
    in_training = bool((run(model, batch).attention_kept < 1).all())
    assert in_training == (phase in ("both", "train"))
    assert in_eval == (phase in ("both", "eval"))


@pytest.mark.parametrize("block", BLOCKS)
def test_only_the_named_block_selects(small_model, batch, block):
    model = small_model(**STRICT, selection_blocks=[block])
    outputs = run(model, batch, output_attentions=True)
    inside = block_numbers(sizes_of(batch)) == BLOCKS.index(block)
    queries = torch.cat(
        [batch[f"{name}_mask"] for name in ("attention", "region", "attribute")], dim=1
    ).bool()
    valid = (queries[:, None, :, None] & queries[:, None, None, :]).expand(-1, 2, -1, -1)
    for keep in outputs.attention_keep:
        assert keep[valid & ~inside].all()
        assert not keep[valid & inside].all()
    shares = outputs.attention_pairs[..., 0] / outputs.attention_pairs[..., 1]
    for place, name in enumerate(BLOCKS):
        assert bool((shares[:, place] < 1).all()) == (name == block)


def test_pairs_are_counted_block_by_block(small_model, batch):
    outputs = run(small_model(**STRICT), batch, output_attentions=True)
    numbers = block_numbers(sizes_of(batch))
    queries = torch.cat(
        [batch[f"{name}_mask"] for name in ("attention", "region", "attribute")], dim=1
    ).bool()
    for layer, keep in enumerate(outputs.attention_keep):
        for place in range(len(BLOCKS)):
            kept = valid = 0
            for row, query, key in (queries[:, :, None] & queries[:, None, :]).nonzero().tolist():
                if numbers[query, key] == place:
                    valid += 2  # heads
                    kept += keep[row, :, query, key].sum().item()
            assert outputs.attention_pairs[layer, place].tolist() == [kept, valid]


@pytest.mark.parametrize("rule", ["sparsemax", "entmax15"])
def test_sparse_rules_run_in_the_model(small_model, batch, rule):
    model = small_model(**{**DENSE, "selection_rule": rule})
    outputs = run(model, batch, output_attentions=True)
    for weights, keep in zip(outputs.attentions, outputs.attention_keep, strict=True):
        assert torch.equal(weights > 0, keep)
    assert (outputs.attention_kept < 1).all()
    model(**batch, labels=torch.rand(2, 3)).loss.backward()
    assert all(
        parameter.grad.isfinite().all() for parameter in model.tbkin.fusion.layers.parameters()
    )


def test_pairs_are_counted_exactly_under_autocast(small_model, batch):
    model = small_model(**STRICT)
    many = {**batch, "attention_mask": batch["attention_mask"].clone()}
    many["attention_mask"][0, 7:] = 0
    exact = run(model, many).attention_pairs[..., 1]
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(run(model, many).attention_pairs[..., 1], exact)
    assert exact.max() > 256  # more than eight bits hold


# Thresholds that learn


LEARNED = {**STRICT, "selection_layers": [1], "selection_ramp_steps": 1}


def trained(model):
    """The same model, its ramp behind it."""
    model.tbkin.training_steps.fill_(1)
    return model


@pytest.mark.parametrize("learning", ["straight_through", "sigmoid"])
def test_selecting_layers_learn_their_thresholds(small_model, batch, learning, tmp_path):
    model = trained(small_model(**LEARNED, selection_learning=learning))
    first, second = (layer.attention.threshold_shift for layer in model.tbkin.fusion.layers)
    assert first is None
    assert second.shape == (2,)
    outputs = model.train()(**batch, labels=torch.rand(2, 3))
    outputs.loss.backward()
    assert (second.grad != 0).all()
    assert 0 < outputs.attention_gate < 1
    assert outputs.attention_thresholds[0].isnan().all()
    assert torch.allclose(outputs.attention_thresholds[1], 0.4 * second.detach().exp())
    with torch.no_grad():
        second += 0.7
    model.eval().save_pretrained(tmp_path)
    again = TBKINForQuestionAnswering.from_pretrained(tmp_path)
    assert torch.equal(run(again, batch).logits, run(model, batch).logits)


def test_a_new_learned_threshold_is_the_fixed_one(small_model, batch):
    fixed = trained(small_model(**LEARNED))
    learned = trained(small_model(**LEARNED, selection_learning="sigmoid"))
    with torch.no_grad():  # the fixture moves every parameter off its start
        learned.tbkin.fusion.layers[1].attention.threshold_shift.zero_()
    assert torch.allclose(run(fixed, batch).logits, run(learned, batch).logits, atol=1e-6)
    assert run(fixed, batch).attention_gate is None


def test_soft_gates_harden_over_the_ramp(small_model, batch):
    model = small_model(**{**LEARNED, "selection_ramp_steps": 10}, selection_learning="sigmoid")
    fusion, sizes = model.tbkin.fusion, sizes_of(batch)

    def in_force(ramp):
        return fusion._in_force(ramp, sizes, torch.device("cpu"))

    model.train()
    assert in_force(0.0).rule == "none"
    halfway = in_force(0.5)
    assert not halfway.hard
    assert halfway.temperature == pytest.approx((SOFTEST * HARDEST) ** 0.5)
    assert in_force(1.0).hard
    assert in_force(1.0).temperature == pytest.approx(HARDEST)
    model.eval()
    assert in_force(0.5).hard  # what is used is what is kept


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"selection_blocks": ["text-picture"]}, "selection_blocks must be one of text-text, "),
        ({"selection_phase": "test"}, "selection_phase must be one of both, train, eval"),
        ({"selection_rule": "top_k", "selection_threshold": 0.5}, "must be >= 1 for rule top_k"),
        ({"knowledge_rule": "prob", "knowledge_threshold": -0.1}, "knowledge_threshold must be >="),
        ({"selection_threshold": float("nan")}, "selection_threshold must be >= 0"),
        ({"selection_rule": "prob", "selection_threshold": 5}, "must be <= 1 for rule prob"),
        ({"credibility_rule": "top_k"}, "credibility_threshold must be >= 1 for rule top_k"),
        (
            {"selection_learning": "straight_through", "selection_phase": "eval"},
            "selection_phase=eval has none",
        ),
        ({"selection_learning": "sigmoid"}, "selection_ramp_steps, which must be >= 1; got 0"),
        (
            {"selection_rule": "sparsemax", "selection_learning": "sigmoid"},
            "selection_learning needs a rule with a threshold to learn",
        ),
        (
            {"selection_threshold": 0.0, "selection_learning": "straight_through"},
            "needs a selection_threshold > 0 to start from",
        ),
    ],
)
def test_wrong_settings_are_one_clear_error(small_model, changes, message):
    with pytest.raises(ValueError, match=message):
        small_model(**changes)
