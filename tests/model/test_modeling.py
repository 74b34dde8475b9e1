from itertools import pairwise

import pytest
import torch
from torch_geometric.data import Data

from tbkin.graphs.kinds import CODES, KINDS
from tbkin.model.configuration_tbkin import TBKINConfig
from tbkin.model.graph_encoder import RelationalConvolution
from tbkin.model.heads import TBKINForQuestionAnswering
from tbkin.model.knowledge import share
from tbkin.objectives.answer import answer_loss

QUESTION = "What color is the circle to the left of the large red square?"
OTHER = "how many small stars are there"
DENSE = {"selection_rule": "none", "knowledge_rule": "none"}
SELECTING = pytest.mark.parametrize(
    "rules",
    [
        DENSE,
        {"selection_rule": "rel_max", "selection_threshold": 0.3, "knowledge_rule": "none"},
        {
            "selection_rule": "prob",
            "selection_threshold": 0.06,
            "knowledge_rule": "rel_max",
            "knowledge_threshold": 0.5,
        },
        {
            "selection_rule": "top_k",
            "selection_threshold": 4,
            "knowledge_rule": "top_k",
            "knowledge_threshold": 3,
        },
        {"selection_rule": "rel_mean", "selection_threshold": 0.7, "graph_encoder": "none"},
    ],
    ids=["dense", "attention", "both", "top_k", "no graph"],
)


@pytest.fixture
def example(tiny_processor, regions):
    return tiny_processor(regions, QUESTION)


@pytest.fixture
def examples(tiny_processor, regions, empty_regions, example):
    """Different texts and pictures; the last two have no regions or no words."""
    return [
        example,
        tiny_processor(regions, OTHER),
        tiny_processor(empty_regions, QUESTION),
        tiny_processor(regions, ""),
    ]


def close(found, expected, tolerance=1e-5):
    assert found.shape == expected.shape
    assert (found - expected).abs().max() < tolerance


@torch.no_grad()
def run(model, batch, **options):
    return model(**batch, **options)


def padded(batch, tokens=0, regions=0, attributes=0, names=0):
    """The batch with more padding, whatever it holds."""
    counts = {"attention_mask": tokens, "region_mask": regions, "attribute_mask": attributes}
    sizes = [batch[name].shape[1] for name in counts]
    starts = torch.tensor([0, sizes[0], sizes[0] + sizes[1]])
    more = torch.tensor([0, tokens, tokens + regions])
    longer = dict(batch)
    for name, tensor in batch.items():
        count = {
            "input_ids": tokens,
            "attention_mask": tokens,
            "attribute_label_ids": attributes,
            "attribute_mask": attributes,
        }.get(name, regions if name.startswith("region") else None)
        if count is None:
            continue
        rows = tensor.new_zeros(tensor.shape[0], count, *tensor.shape[2:])
        if name in ("region_features", "region_boxes", "region_scores"):
            rows += 0.7  # padding need not be zero
        longer[name] = torch.cat([tensor, rows], dim=1)
        if names and name.endswith("label_ids"):
            ids = longer[name]
            longer[name] = torch.cat([ids, ids.new_zeros(*ids.shape[:2], names)], dim=2)
    graph, length = batch["graph"].clone(), sum(sizes)
    row, place = graph.position // length, graph.position % length
    segment = (place[:, None] >= starts[None]).sum(dim=1) - 1
    graph.position = row * (length + tokens + regions + attributes) + place + more[segment]
    longer["graph"] = graph
    return longer


# What must not matter


@SELECTING
def test_padding_never_changes_the_answers(small_model, examples, collate, rules):
    model, batch = small_model(**rules), collate(examples[:2])
    expected = run(model, batch)
    for more in ({"tokens": 3}, {"regions": 2}, {"attributes": 2}, {"names": 2},
                 {"tokens": 1, "regions": 5, "attributes": 1, "names": 1}):  # fmt: skip
        found = run(model, padded(batch, **more))
        close(found.logits, expected.logits)
        close(found.attention_kept, expected.attention_kept)
        if expected.knowledge_kept is not None:
            close(found.knowledge_kept, expected.knowledge_kept)


def test_padding_never_changes_the_answers_after_training_either(small_model, examples, collate):
    # The word table is read by every region, so the padding's row of it must not learn.
    model, batch = small_model(), collate(examples[:2])
    batch["labels"] = torch.rand(2, 3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(3):
        outputs = model(**batch)
        loss = outputs.loss
        if outputs.region_word_logits is not None:
            loss = loss + outputs.region_word_logits.square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    close(run(model, padded(batch, names=3)).logits, run(model, batch).logits)


@SELECTING
def test_an_example_does_not_depend_on_the_others_of_its_batch(
    small_model, examples, collate, rules
):
    model = small_model(**rules)
    together = run(model, collate(examples)).logits
    order = [2, 0, 3, 1]
    close(run(model, collate([examples[n] for n in order])).logits, together[order])
    for row, example in enumerate(examples):
        close(run(model, collate([example])).logits, together[[row]])
    assert (together[0] - together[1]).abs().max() > 1e-3  # the text matters
    assert (together[0] - together[2]).abs().max() > 1e-3  # the picture matters


def test_the_order_of_edges_within_a_kind_does_not_matter(small_model, example, collate):
    model, batch = small_model(), collate([example])
    graph = batch["graph"].clone()
    order = torch.randperm(len(graph.edge_kind), generator=torch.Generator().manual_seed(0))
    order = order[torch.argsort(graph.edge_kind[order], stable=True)]
    for name in ("edge_kind", "edge_weight", "edge_seen", "edge_batch", "edge_slot"):
        graph[name] = graph[name][order]
    graph.edge_index = graph.edge_index[:, order]
    close(run(model, batch | {"graph": graph}).logits, run(model, batch).logits)


@pytest.mark.parametrize("rule", ["none", "rel_max", "prob", "top_k", "rel_mean", "logit"])
def test_nothing_seen_and_nothing_said_still_gets_an_answer(
    small_model, tiny_processor, empty_regions, collate, rule
):
    batch = collate([tiny_processor(empty_regions, "")] * 2)
    threshold = 1 if rule == "top_k" else 0.05
    sites = ("selection", "knowledge")
    model = small_model(
        **{f"{site}_rule": rule for site in sites},
        **{f"{site}_threshold": threshold for site in sites},
    )
    outputs = run(model, batch)
    assert outputs.logits.isfinite().all()
    assert outputs.knowledge_kept.isfinite().all()
    close(outputs.logits[0], outputs.logits[1])


# The graph


def without(batch, *names):
    """The batch without the edges of some kinds, in both directions."""
    graph = batch["graph"].clone()
    gone = {CODES[name] for name in names}
    keep = torch.tensor([kind % len(KINDS) not in gone for kind in graph.edge_kind.tolist()])
    assert not keep.all()
    for name in ("edge_kind", "edge_weight", "edge_seen", "edge_batch", "edge_slot"):
        graph[name] = graph[name][keep]
    graph.edge_index = graph.edge_index[:, keep]
    graph.kind_counts = torch.bincount(graph.edge_kind, minlength=2 * len(KINDS)).tolist()
    return batch | {"graph": graph}


def test_removing_an_alignment_edge_changes_the_answers(small_model, example, collate):
    model, batch = small_model(**DENSE), collate([example])
    logits = run(model, batch).logits
    for name in ("aligned object", "aligned relation", "region is attribute", "text object"):
        fewer = run(model, without(batch, name)).logits
        assert (fewer - logits).abs().max() > 1e-4, name


def test_the_kind_and_the_weight_of_an_edge_matter(small_model, example, collate):
    model, batch = small_model(**DENSE), collate([example])
    logits = run(model, batch).logits
    for name, change in (("edge_weight", 0.5), ("edge_weight", 0.0)):
        graph = batch["graph"].clone()
        graph[name] = graph[name] * change
        assert (run(model, batch | {"graph": graph}).logits - logits).abs().max() > 1e-4
    graph = batch["graph"].clone()
    graph.kind_counts = graph.kind_counts[::-1]
    assert (run(model, batch | {"graph": graph}).logits - logits).abs().max() > 1e-4


def test_a_closed_gate_leaves_the_model_without_a_graph(small_model, examples, collate):
    # The same shared weights; without attribute nodes, which the other model does not have.
    closed = small_model(graph_gate=0.0, **DENSE)
    batch = collate([strip_attributes(one) for one in examples[:2]])
    for parameter in closed.tbkin.knowledge.parameters():  # every relevance at 1
        torch.nn.init.zeros_(parameter)
    plain = small_model(graph_encoder="none", **DENSE)
    extra = plain.load_state_dict(closed.state_dict(), strict=False)
    assert not extra.missing_keys
    assert {name.split(".")[1] for name in extra.unexpected_keys} == {
        "attributes", "knowledge", "fusion"
    }  # fmt: skip
    expected = run(plain, batch).logits
    close(run(closed, batch).logits, expected, 1e-6)
    assert torch.equal(
        run(closed, without(batch, "aligned object")).logits, run(closed, batch).logits
    )
    with torch.no_grad():
        for layer in closed.tbkin.fusion.graph_layers:
            layer.gate.fill_(0.5)
    assert (run(closed, batch).logits - expected).abs().max() > 1e-3


def strip_attributes(example):
    """The example without attribute nodes and without the edges that touch them."""
    keep = example["node_segment"] != 2
    number = keep.cumsum() - 1
    edges = example["edges"]
    sound = keep[edges[:, 0]] & keep[edges[:, 1]]
    fewer = edges[sound].copy()
    fewer[:, :2] = number[fewer[:, :2]]
    names = ("edge_weight", "edge_seen", "edge_of")
    return example | {
        "attribute_label_ids": [],
        "node_segment": example["node_segment"][keep],
        "node_slot": example["node_slot"][keep],
        "edges": fewer,
        **{name: example[name][sound] for name in names},
    }


def test_convolution_agrees_with_a_slow_loop():
    torch.manual_seed(0)
    kinds, nodes, edges = 5, 6, 20
    convolution = RelationalConvolution(3, kinds)
    states = torch.randn(nodes, 3)
    kind = torch.randint(kinds, (edges,)).sort().values
    index, weight = torch.randint(nodes - 1, (2, edges)), torch.rand(edges)  # no edge to the last
    counts = torch.bincount(kind, minlength=kinds).tolist()
    expected = torch.zeros(nodes, 3)
    for edge in range(edges):
        source, target = index[:, edge].tolist()
        expected[target] += weight[edge] * (states[source] @ convolution.matrices[kind[edge]])
    with torch.no_grad():
        found = convolution(states, index, counts, weight)
        close(found, expected)
        assert (found[-1] == 0).all()
        nothing = convolution(states, index[:, :0], [0] * kinds, weight[:0])
    assert (nothing == 0).all()


# Selection at both sites


@pytest.fixture
def knowing(small_model, example, collate):
    """Settings under which some of the regions fall below the knowledge threshold."""
    outputs = run(small_model(**DENSE), collate([example]))
    tokens = len(example["input_ids"])
    relevance = outputs.node_relevance[0, tokens : tokens + 4].sort().values.tolist()
    low, high = max(pairwise(relevance), key=lambda pair: pair[1] / pair[0])
    threshold = (low * high) ** 0.5
    assert low < 0.97 * threshold
    return {**DENSE, "knowledge_rule": "rel_max", "knowledge_threshold": threshold}


def dropped_and_kept(model, batch):
    """The regions that the knowledge threshold drops, and those that it keeps."""
    tokens = batch["attention_mask"].shape[1]
    keep = run(model, batch).node_keep[0, tokens : tokens + 4]
    return (~keep).nonzero().flatten().tolist(), keep.nonzero().flatten().tolist()


def test_what_knowledge_selection_drops_never_influences_the_answers(
    small_model, example, collate, knowing
):
    model, batch = small_model(**knowing), collate([example])
    (dropped, *_), (kept, *_) = dropped_and_kept(model, batch)

    def perturbed(region, amount=0.01):
        features = batch["region_features"].clone()
        features[0, region] += amount * torch.linspace(-1, 1, features.shape[-1])
        return batch | {"region_features": features}

    before = run(model, batch)
    after = run(model, perturbed(dropped))
    assert torch.equal(after.node_keep, before.node_keep)
    assert torch.equal(after.logits, before.logits)
    moved = run(model, perturbed(kept))
    assert torch.equal(moved.node_keep, before.node_keep)
    assert (moved.logits - before.logits).abs().max() > 1e-6

    every = small_model(**DENSE)
    change = run(every, perturbed(dropped)).logits - run(every, batch).logits
    assert change.abs().max() > 1e-6


def test_a_dropped_node_is_attended_to_by_nobody_and_its_edges_are_silent(
    small_model, example, collate, knowing
):
    model, batch = small_model(**knowing), collate([example])
    outputs = run(model, batch, output_attentions=True)
    gone = ~outputs.node_keep[0]
    assert gone.any()
    for weights in outputs.attentions:
        assert (weights[0, :, :, gone] == 0).all()
        assert (weights[0, :, :, ~gone].sum(dim=-1) - 1).abs().max() < 1e-5
    graph = batch["graph"]
    touching = gone[graph.position][graph.edge_index].any(dim=0)
    assert touching.any()
    assert not outputs.edge_keep[touching].any()


def test_relevance_and_what_is_kept_agree_with_the_formula(small_model, example, collate, knowing):
    model, batch = small_model(**knowing), collate([example])
    outputs, knowledge = run(model, batch), model.tbkin.knowledge
    tokens = batch["attention_mask"].shape[1]
    with torch.no_grad():
        text = model.tbkin.text(batch["input_ids"])[0]
        regions = model.tbkin.regions(
            batch["region_features"],
            batch["region_boxes"],
            batch["region_label_ids"],
            batch["region_scores"],
            model.tbkin.text.words.weight,
        )[0][0]
        attributes = model.tbkin.attributes(model.tbkin.text.label(batch["attribute_label_ids"]))[0]
        logits = []
        for node in [*regions, *attributes]:
            products = [
                (knowledge.key.weight @ node) @ (knowledge.query.weight @ token) / 16**0.5
                for token in text
            ]
            logits.append(torch.stack(products).exp().sum().log())
        shares = torch.stack(logits).softmax(dim=0)
        keep = shares >= knowing["knowledge_threshold"] * shares.max()
        relevance = shares / shares.max() * keep
    assert outputs.node_keep[0, tokens:].tolist() == keep.tolist()
    close(outputs.node_relevance[0, tokens:], relevance)
    assert (outputs.node_relevance[0, :tokens] == 1).all()
    assert outputs.node_keep[0, :tokens].all()
    assert outputs.knowledge_kept[0].item() == pytest.approx(keep.float().mean().item())
    seen = batch["graph"].edge_seen
    share = outputs.edge_keep[seen].float().mean().item()
    assert outputs.knowledge_kept[1].item() == pytest.approx(share)


def test_a_new_model_holds_everything_for_relevant(example, collate, small_model, knowing):
    config = small_model(**knowing).config
    outputs = run(TBKINForQuestionAnswering(config).eval(), collate([example]))
    assert (outputs.node_relevance == 1).all()
    assert (outputs.knowledge_kept == 1).all()


@pytest.mark.parametrize("layers", [None, [], [1], [0, 1]])
def test_only_the_named_layers_select(small_model, example, collate, layers):
    rules = {"selection_rule": "top_k", "selection_threshold": 2, "knowledge_rule": "none"}
    model = small_model(**rules, selection_layers=layers)
    kept = run(model, collate([example])).attention_kept
    for layer in range(2):
        assert (kept[layer] < 0.5) == (layer in (layers or [0, 1]))
        assert (kept[layer] == 1) == (layer not in (layers or [0, 1]))


def test_dropping_without_renormalising_leaves_rows_below_one(small_model, example, collate):
    rules = {"selection_rule": "rel_max", "selection_threshold": 0.5, "knowledge_rule": "none"}
    batch = collate([example])
    ones = run(small_model(**rules), batch, output_attentions=True).attentions[0]
    fewer = run(
        small_model(**rules, selection_renormalize=False), batch, output_attentions=True
    ).attentions[0]
    assert (ones.sum(dim=-1) - 1).abs().max() < 1e-5
    assert (fewer.sum(dim=-1) < 0.99).any()


@pytest.mark.parametrize("rule", ["prob", "rel_max", "rel_mean"])
def test_thresholds_ramp_with_the_training_steps(small_model, examples, collate, rule):
    rules = {"selection_rule": rule, "knowledge_rule": rule}
    most = {"prob": 0.1, "rel_max": 0.8, "rel_mean": 0.9}[rule]
    full = {"selection_threshold": most, "knowledge_threshold": most / 2}
    half = {"selection_threshold": most / 2, "knowledge_threshold": most / 4}
    batch = collate(examples[:2])
    ramping = small_model(**rules, **full, selection_ramp_steps=10)
    dense = run(small_model(**rules, **dict.fromkeys(full, 0.0)), batch)
    found = run(ramping, batch)  # no training step yet
    assert torch.equal(found.logits, dense.logits)
    assert (found.attention_kept == 1).all()

    ramping.train()
    for _ in range(5):
        run(ramping, batch)
    ramping.eval()
    for _ in range(3):  # evaluation does not count
        found = run(ramping, batch)
    assert ramping.tbkin.training_steps == 5
    expected = run(small_model(**rules, **half), batch)
    assert torch.equal(found.logits, expected.logits)
    assert (found.attention_kept < 1).all()

    ramping.tbkin.training_steps.fill_(99)
    strict = run(small_model(**rules, **full), batch)
    assert torch.equal(run(ramping, batch).logits, strict.logits)
    assert (strict.attention_kept < expected.attention_kept).all()


def test_a_count_is_not_ramped_but_waits_for_the_first_step(small_model, example, collate):
    rules = {"selection_rule": "top_k", "selection_threshold": 4, "knowledge_rule": "none"}
    model, batch = small_model(**rules, selection_ramp_steps=10), collate([example])
    assert (run(model, batch).attention_kept == 1).all()
    model.tbkin.training_steps.fill_(1)
    expected = run(small_model(**rules), batch)
    assert torch.equal(run(model, batch).logits, expected.logits)


@SELECTING
def test_attention_kept_is_the_mean_of_the_keep_masks_over_valid_pairs(
    small_model, examples, collate, rules
):
    model, batch = small_model(**rules), collate(examples)
    outputs = run(model, batch, output_attentions=True)
    names = ["attention_mask", "region_mask"]
    names += ["attribute_mask"] if rules.get("graph_encoder") != "none" else []
    queries = torch.cat([batch[name] for name in names], dim=1).bool()
    keys = queries if outputs.node_keep is None else outputs.node_keep
    rows, length = queries.shape
    assert len(outputs.attentions) == len(outputs.attention_keep) == 2
    for layer, (weights, keep) in enumerate(
        zip(outputs.attentions, outputs.attention_keep, strict=True)
    ):
        assert weights.shape == keep.shape == (rows, 2, length, length)
        assert keep.dtype == torch.bool
        assert ((weights > 0) <= keep).all()
        kept = valid = 0
        for row in range(rows):
            real = queries[row].nonzero().flatten().tolist()
            choices = keys[row].nonzero().flatten().tolist()
            valid += 2 * len(real) * len(choices)
            kept += sum(keep[row, :, query, choices].sum().item() for query in real)
            assert not keep[row][:, :, ~keys[row]].any()
        assert outputs.attention_kept[layer].item() == pytest.approx(kept / valid)


def test_attentions_come_only_when_asked_for(small_model, example, collate):
    outputs = run(small_model(), collate([example]))
    assert outputs.attentions is None
    assert outputs.attention_keep is None
    assert outputs.logits.shape == (1, 3)
    assert outputs.fused_states.shape == (1, 15 + 4 + 4, 16)
    assert outputs.pooled.abs().max() <= 1


# Training, saving, settings


def test_the_loss_is_that_of_the_objective(small_model, examples, collate):
    batch = collate(examples)
    batch["labels"] = torch.rand(4, 3)
    outputs = run(small_model(), batch)
    assert outputs.loss == answer_loss(outputs.logits, batch["labels"])
    del batch["labels"]
    assert run(small_model(), batch).loss is None


@pytest.mark.parametrize("encoder", ["patches", "linear"])
def test_a_gradient_reaches_every_parameter(small_model, examples, collate, encoder):
    model = small_model(region_encoder=encoder, **DENSE).train()
    batch = collate(examples)
    batch["labels"] = torch.rand(4, 3)
    model(**batch).loss.backward()
    gradients = {
        name: torch.zeros(1) if parameter.grad is None else parameter.grad
        for name, parameter in model.named_parameters()
    }
    without = {name for name, gradient in gradients.items() if gradient.abs().max() < 1e-7}
    assert without - cannot_learn(model, batch) == set()
    assert all(gradient.isfinite().all() for gradient in gradients.values())


def test_a_new_model_learns_in_every_part(small_model, examples, collate):
    """From its own start, what is at zero must not keep itself or others there."""
    model = TBKINForQuestionAnswering(small_model(**DENSE).config).train()
    batch = collate(examples)
    batch["labels"] = torch.rand(4, 3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    start = {name: parameter.clone() for name, parameter in model.named_parameters()}
    for _ in range(3):
        optimizer.zero_grad()
        model(**batch).loss.backward()
        optimizer.step()
    still = {name for name, value in model.named_parameters() if torch.equal(value, start[name])}
    assert still - cannot_learn(model, batch) == set()


def cannot_learn(model, batch):
    """Names of parameters that this batch cannot teach."""
    absent = [kind for kind, count in enumerate(batch["graph"].kind_counts) if not count]
    assert len(absent) < len(KINDS)
    return {
        name
        for name, _ in model.named_parameters()
        # Softmax over the keys does not see what all keys have in common.
        if name.endswith("attention.key.bias")
        or any(name.endswith(f"convolution.matrices.{kind}") for kind in absent)
    }


@pytest.mark.parametrize("encoder", ["relational", "none"])
def test_saved_and_loaded_it_gives_the_same_answers_bit_for_bit(
    tmp_path, small_model, examples, collate, encoder
):
    model = small_model(graph_encoder=encoder, selection_ramp_steps=10)
    model.tbkin.training_steps.fill_(5)
    batch = collate(examples)
    expected = run(model, batch, output_attentions=True)
    model.save_pretrained(tmp_path)
    torch.manual_seed(1)
    loaded = TBKINForQuestionAnswering.from_pretrained(tmp_path)
    assert not loaded.training
    assert loaded.config.id2label == {0: "red", 1: "blue", 2: "2"}
    assert loaded.tbkin.training_steps == 5
    state = loaded.state_dict()
    assert set(state) == set(model.state_dict())
    for name, value in model.state_dict().items():
        assert torch.equal(state[name], value), name
    found = run(loaded, batch, output_attentions=True)
    assert torch.equal(found.logits, expected.logits)
    for one, other in zip(found.attention_keep, expected.attention_keep, strict=True):
        assert torch.equal(one, other)


def test_another_number_of_answers_keeps_the_rest_of_the_weights(tmp_path, small_model):
    model = small_model()
    model.save_pretrained(tmp_path)
    loaded = TBKINForQuestionAnswering.from_pretrained(
        tmp_path, num_labels=5, ignore_mismatched_sizes=True
    )
    assert loaded.head.answers.out_features == 5
    for name, value in model.tbkin.state_dict().items():
        assert torch.equal(loaded.tbkin.state_dict()[name], value), name


def test_a_graph_added_to_a_checkpoint_starts_as_a_new_one_does(
    tmp_path, small_model, example, collate
):
    plain = small_model(graph_encoder="none")
    plain.save_pretrained(tmp_path)
    loaded = TBKINForQuestionAnswering.from_pretrained(
        tmp_path, graph_encoder="relational", graph_gate=0.25
    )
    for layer in loaded.tbkin.fusion.graph_layers:
        assert (layer.gate == 0.25).all()
        stacked = torch.stack(list(layer.convolution.matrices))
        # Half an identity, and noise of deviation 0.5 / sqrt(16).
        close(stacked.mean(dim=0), 0.5 * torch.eye(16), 0.1)
        assert stacked.std(dim=0).mean().item() == pytest.approx(0.125, rel=0.1)
    assert (loaded.tbkin.knowledge.key.weight == 0).all()
    assert (loaded.tbkin.knowledge.edge_kind.weight == 0).all()
    assert run(loaded, collate([example])).logits.isfinite().all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"hiden_size": 8},
            r"^TBKINConfig has no setting 'hiden_size'; did you mean 'hidden_size'\?$",
        ),
        ({"zzzzzz": 8}, r"has no setting 'zzzzzz'; it takes: vocab_size, hidden_size, "),
        ({"vocab_size": 8}, r"^model\.vocab_size follows from the data and cannot be set\.$"),
        ({"hidden_size": "big"}, r"^model settings: .*'hidden_size' expected int, got str"),
        ({"region_labels": "maybe"}, r"'region_labels' expected bool, got str"),
        ({"graph_gate": "open"}, r"'graph_gate'.*got str"),
        ({"selection_layers": 1}, r"'selection_layers'.*got int"),
        ({"selection_threshold": "high"}, r"'selection_threshold'.*got str"),
        ({"hidden_size": 10, "num_attention_heads": 4}, r"4 does not divide 10"),
        ({"selection_rule": "topk"}, r"selection_rule must be one of none, top_k, .*; got 'topk'"),
        ({"knowledge_rule": "x"}, r"knowledge_rule must be one of none, .*; got 'x'"),
        ({"graph_encoder": "gat"}, r"graph_encoder must be one of relational, none; got 'gat'"),
        ({"region_encoder": "cnn"}, r"region_encoder must be one of linear, patches; got 'cnn'"),
        ({"hidden_dropout_prob": 1.0}, r"hidden_dropout_prob must be in \[0, 1\), got 1\.0"),
        ({"attention_dropout_prob": -0.1}, r"attention_dropout_prob must be in \[0, 1\)"),
        ({"selection_layers": [2]}, r"selection_layers: layer 2 of 2; the first is 0"),
        ({"selection_layers": [-1]}, r"selection_layers: layer -1 of 2"),
    ],
)
def test_a_wrong_setting_is_one_clear_error(changes, message):
    with pytest.raises(ValueError, match=message):
        TBKINConfig.from_changes({"num_hidden_layers": 2, **changes}, vocab_size=10)


def test_settings_take_effect_and_whole_numbers_are_numbers():
    config = TBKINConfig.from_changes({"hidden_size": 64, "graph_gate": 1}, vocab_size=10)
    assert (config.hidden_size, config.graph_gate, config.vocab_size) == (64, 1, 10)
    assert "hidden_size" in TBKINConfig.own_settings()
    assert "id2label" not in TBKINConfig.own_settings()


def test_a_batch_keeps_its_graph_type(example, collate):
    assert isinstance(collate([example])["graph"], Data)


def test_where_nothing_is_there_nothing_was_dropped():
    nothing = torch.zeros(2, 3, dtype=torch.bool)
    some = torch.tensor([True, True, False, False])
    assert share(nothing, nothing).item() == 1.0
    assert share(torch.tensor([True, False, True, False]), some).item() == 0.5
