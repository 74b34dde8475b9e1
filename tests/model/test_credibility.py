"""The knowledge site's first threshold: what a detector said and the features do not bear out."""

import math

import pytest
import torch

from tbkin.model.knowledge import credibility

QUESTION = "What color is the circle to the left of the large red square?"
DENSE = {"selection_rule": "none", "knowledge_rule": "none", "knowledge_relevance": False}


@pytest.fixture
def batch(tiny_processor, regions, collate):
    return collate([tiny_processor(regions, QUESTION)])


@pytest.fixture
def judged(small_model, batch):
    """(settings, keep): a threshold between the third and the fourth region of the picture."""
    with torch.no_grad():
        outputs = small_model(**DENSE)(**batch)
    found = credibility(outputs.region_word_logits, batch["region_label_ids"])[0]
    low, high = found.sort().values[:2].tolist()
    assert low < 0.9 * high
    threshold = (low * high) ** 0.5 / found.max().item()
    rule = {"credibility_rule": "rel_max", "credibility_threshold": threshold}
    return {**DENSE, **rule}, found > found.min()


def run(model, batch, **options):
    with torch.no_grad():
        return model(**batch, **options)


def with_features(batch, chosen, amount=0.0):
    """The batch with a little added to the features of the chosen regions."""
    features = batch["region_features"].clone()
    features[0, chosen] += amount * torch.linspace(-1, 1, features.shape[-1])
    return batch | {"region_features": features}


def test_credibility_worked_by_hand():
    # Words 1 and 2 were said of the first region and are read with probabilities 3/4 and 1/4; of
    # the second only word 3, read with 9/10 (the rest of its row is padding); of the third nothing.
    logits = torch.zeros(1, 3, 5)
    logits[0, 0, 1], logits[0, 0, 2] = math.log(3), -math.log(3)
    logits[0, 1, 3] = math.log(9)
    logits[..., 0] = 8.0  # what is read of padding is never asked
    said = torch.tensor([[[1, 2], [3, 0], [0, 0]]])
    assert credibility(logits, said)[0].tolist() == pytest.approx([0.5, 0.9, 1.0])


def test_more_padding_of_names_changes_nothing():
    logits = torch.randn(2, 3, 6, generator=torch.Generator().manual_seed(0))
    said = torch.tensor([[[1, 2], [3, 0], [0, 0]], [[5, 0], [4, 1], [2, 3]]])
    longer = torch.nn.functional.pad(said, (0, 3))
    assert torch.equal(credibility(logits, longer), credibility(logits, said))


def test_the_answers_cannot_teach_the_judge():
    logits = torch.zeros(1, 1, 3, requires_grad=True)
    assert not credibility(logits, torch.tensor([[[1]]])).requires_grad


def test_what_is_not_credible_never_influences_the_answers(small_model, batch, judged):
    settings, keep = judged
    model = small_model(**settings)
    before = run(model, batch)
    tokens = batch["attention_mask"].shape[1]
    assert before.node_keep[0, tokens : tokens + 4].tolist() == keep.tolist()
    assert not keep.all()

    after = run(model, with_features(batch, ~keep, 0.001))
    assert torch.equal(after.node_keep, before.node_keep)
    assert torch.equal(after.logits, before.logits)
    dense = small_model(**DENSE)
    moved = run(dense, with_features(batch, ~keep, 0.001)).logits - run(dense, batch).logits
    assert moved.abs().max() > 1e-6


def test_edges_and_attributes_of_a_dropped_region_go_with_it(small_model, batch, judged):
    settings, keep = judged
    outputs, graph = run(small_model(**settings), batch), batch["graph"]
    tokens = batch["attention_mask"].shape[1]
    gone = ~outputs.node_keep[0]
    assert torch.equal(~gone[graph.position][graph.edge_index].any(dim=0), outputs.edge_keep)

    # An attribute node stays where one of its regions stays.
    names = [{"red", "small"}, {"red", "large"}, {"blue"}, {"blue"}]
    nodes = ["red", "small", "large", "blue"]
    left = set().union(*(names[place] for place in keep.nonzero().flatten().tolist()))
    assert [not flag for flag in gone[tokens + 4 :].tolist()] == [name in left for name in nodes]
    assert outputs.knowledge_kept[0].item() == pytest.approx((~gone[tokens:]).float().mean().item())


def test_what_is_credible_counts_in_full(small_model, batch, judged):
    outputs = run(small_model(**judged[0]), batch)
    assert torch.equal(outputs.node_relevance, outputs.node_keep.float())
    assert torch.equal(outputs.edge_relevance, outputs.edge_keep.float())


def test_relevance_is_judged_among_the_credible(small_model, batch):
    weighs = {**DENSE, "knowledge_relevance": True, "knowledge_rule": "rel_max"}
    rule = {"credibility_rule": "top_k", "credibility_threshold": 2, "knowledge_threshold": 0.0}
    outputs = run(small_model(**weighs | rule), batch)
    tokens = batch["attention_mask"].shape[1]
    found = credibility(outputs.region_word_logits, batch["region_label_ids"])[0]
    relevance = outputs.node_relevance[0, tokens:]
    assert (relevance[: len(found)] > 0).tolist() == (found >= found.sort().values[-2]).tolist()
    assert relevance.max() == 1
    assert len(relevance.unique()) > 2  # it weighs those that are left


def test_the_threshold_ramps(small_model, batch, judged):
    model = small_model(**judged[0] | {"selection_ramp_steps": 10})
    assert run(model, batch).node_keep.all()
    model.tbkin.training_steps += 10
    assert not run(model, batch).node_keep.all()


def test_a_model_that_reads_nothing_believes_everything(small_model, batch, judged):
    outputs = run(small_model(**judged[0] | {"read_labels": False}), batch)
    assert outputs.node_keep.all()
    assert outputs.edge_keep.all()


def test_a_picture_without_regions(small_model, tiny_processor, empty_regions, collate, judged):
    outputs = run(small_model(**judged[0]), collate([tiny_processor(empty_regions, QUESTION)]))
    assert outputs.logits.isfinite().all()
    assert outputs.knowledge_kept.tolist() == [1.0, 1.0]


def test_an_unknown_rule_is_refused(small_model):
    with pytest.raises(ValueError, match=r"credibility_rule must be one of none, .*got 'best'"):
        small_model(credibility_rule="best")
