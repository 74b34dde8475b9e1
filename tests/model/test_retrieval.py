"""Pictures and texts by themselves and together: embeddings, graphs of parts, judged pairs."""

import json
import math
from types import SimpleNamespace

import pytest
import torch
from torch_geometric.data import Data

from tbkin.data.collate import Collator
from tbkin.model.configuration_tbkin import TBKINConfig
from tbkin.model.retrieval import TBKINForImageTextRetrieval, part_of, read_off
from tbkin.objectives.matching import NOT_JUDGED
from tbkin.objectives.triplet import Triplet
from tests.conftest import FEATURES, place_regions
from tests.model.rosita import random_batch

TEXTS = (
    "a small red circle to the left of a large red square",
    "a blue star",
    "how many blue crosses are there above the circle inside the square",
)
KIND = pytest.mark.parametrize("kind", ["saf", "sgr"])
SCORER = {"scorer_size": 12, "alignment_size": 8}
EMBEDS = ("image_embeds", "text_embeds", "image_uni_embeds", "text_uni_embeds")
PART_OF_GRAPH = ("position", "batch", "edge_index", "edge_kind", "edge_weight", "edge_seen",
                 "edge_batch", "edge_slot")  # fmt: skip


def pictures():
    """The picture of four things, one of the last two of them, and one of nothing."""
    whole = place_regions()

    def some(first):
        return type(whole)(
            boxes=whole.boxes[first:],
            width=100,
            height=100,
            labels=whole.labels[first:],
            scores=whole.scores[first:],
            attributes=whole.attributes[first:],
            features=whole.features[first:],
            image_id=str(first),
        )

    return [whole, some(2), some(4)]


@pytest.fixture
def small_retrieval(tiny_processor):
    """``make(**changes) -> TBKINForImageTextRetrieval`` with no weight at its start value."""

    def make(**changes):
        torch.manual_seed(0)
        settings = {
            "hidden_size": 16,
            "num_attention_heads": 2,
            "intermediate_size": 32,
            "num_hidden_layers": 2,
            "initializer_range": 0.3,
            "graph_gate": 0.5,
            "selection_ramp_steps": 0,
            "embedding_size": 8,
            **changes,
        }
        config = TBKINConfig.from_changes(
            settings,
            vocab_size=len(tiny_processor.tokenizer),
            pad_token_id=tiny_processor.tokenizer.pad_token_id,
            region_feature_size=FEATURES,
            num_labels=0,
        )
        model = TBKINForImageTextRetrieval(config).eval()
        with torch.no_grad():
            for name, parameter in sorted(model.named_parameters()):
                if not name.endswith("gate"):
                    noise = torch.Generator().manual_seed(sum(map(ord, name)))
                    parameter += 0.2 * torch.randn(parameter.shape, generator=noise)
            model.tbkin.text.words.weight[config.pad_token_id] = 0
        return model

    return make


@pytest.fixture
def world(tiny_processor):
    """``.batch(rows of pictures, rows of texts)``, and ``.asked``, what it was asked for."""
    seen, asked = pictures(), []
    collate = Collator(tiny_processor.tokenizer.pad_token_id)

    def batch(of_pictures, of_texts):
        rows = list(zip(of_pictures, of_texts, strict=True))
        asked.append(rows)
        return collate([tiny_processor(seen[picture], TEXTS[text]) for picture, text in rows])

    return SimpleNamespace(
        batch=batch,
        pairs=lambda first, second: batch(first.tolist(), second.tolist()),
        asked=asked,
    )


@torch.no_grad()
def run(model, batch, **more):
    return model(**batch, **more)


def close(first, second):
    return torch.allclose(first, second, atol=1e-5)


# Embeddings


@pytest.mark.parametrize(
    "changes",
    [{}, {"graph_encoder": "none"}, {"region_labels": False, "read_labels": False},
     {"attributes_attended": False}],
    ids=["all", "no graph", "no labels", "attributes unattended"],
)  # fmt: skip
def test_each_side_is_embedded_without_the_other_and_without_the_batch(
    small_retrieval, world, changes
):
    model = small_retrieval(**changes)
    straight = run(model, world.batch([0, 1, 2], [0, 1, 2]))
    crossed = run(model, world.batch([0, 1, 2], [1, 2, 0]))
    for name in EMBEDS[::2]:
        assert close(crossed[name], straight[name]), name
    for name in EMBEDS[1::2]:
        assert close(crossed[name], straight[name][[1, 2, 0]]), name
    for row in range(3):
        alone = run(model, world.batch([row], [row]))
        for name in EMBEDS:
            assert close(alone[name], straight[name][row : row + 1]), name
    for name in EMBEDS:  # and yet they tell their rows apart
        assert straight[name].shape == (3, 8)
        assert close(straight[name].norm(dim=1), torch.ones(3))
        assert (straight[name] @ straight[name].T).fill_diagonal_(0).max() < 0.999, name
    assert not close(straight.image_embeds, straight.image_uni_embeds)
    assert not close(straight.text_embeds, straight.text_uni_embeds)


def test_each_side_sees_the_graph_of_its_own(small_retrieval, world):
    batch = world.batch([0, 1, 2], [0, 1, 2])
    model = small_retrieval()
    before = run(model, batch)
    after = run(model, batch | {"graph": None})
    assert not close(before.image_embeds[:1], after.image_embeds[:1])
    assert not close(before.text_embeds[:1], after.text_embeds[:1])


def test_embeddings_are_single_precision_unit_rows_in_half_precision(small_retrieval, world):
    batch = world.batch([0, 1], [0, 1])
    full = run(small_retrieval(), batch)
    with torch.autocast("cpu", torch.bfloat16):
        half = run(small_retrieval(), batch)
    assert half.image_embeds.dtype == torch.float32
    assert torch.allclose(half.image_embeds.norm(dim=1), torch.ones(2), atol=1e-5)
    assert torch.allclose(half.text_embeds, full.text_embeds, atol=0.1)


def test_tokens_before_any_layer_know_nothing_of_each_other(small_retrieval, world):
    model, batch = small_retrieval(), world.batch([0, 1], [1, 0])
    before = run(model, batch).text_token_embeds
    assert before.shape == (*batch["input_ids"].shape, 16)
    batch["input_ids"][:, 2] = batch["input_ids"][1, 1]
    moved = (run(model, batch).text_token_embeds - before).abs().amax(dim=(0, 2))
    assert moved[2] > 0.01
    assert moved.index_fill(0, torch.tensor(2), 0).max() == 0


def test_without_embeddings_it_is_rositas():
    torch.manual_seed(0)
    sizes = {"vocab_size": 23, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
             "intermediate_size": 32, "region_feature_size": 12}  # fmt: skip
    judge = TBKINForImageTextRetrieval(TBKINConfig.rosita_base(**sizes)).eval()
    assert {name.split(".")[0] for name in judge.state_dict()} == {"tbkin", "match_head"}
    batch = random_batch()[0]
    outputs = run(judge, batch)
    assert outputs.image_embeds is None
    assert outputs.match_logits.shape == (2, 2)
    assert torch.equal(outputs.match_logits, judge.match_head(outputs.pooled))
    both = TBKINForImageTextRetrieval(TBKINConfig.rosita_base(**sizes, embedding_size=4)).eval()
    both.load_state_dict(judge.state_dict(), strict=False)
    assert torch.equal(both.match(**batch).match_logits, outputs.match_logits)
    assert run(both, batch).match_logits is None


def test_saved_and_loaded_it_is_the_same(small_retrieval, world, tmp_path):
    model, batch = small_retrieval(), world.batch([0, 1, 2], [2, 0, 1])
    model.save_pretrained(tmp_path)
    loaded = TBKINForImageTextRetrieval.from_pretrained(tmp_path).eval()
    assert loaded.config.embedding_size == 8
    before, after = run(model, batch), run(loaded, batch)
    assert all(torch.equal(after[name], before[name]) for name in EMBEDS)
    assert torch.equal(loaded.match(**batch).match_logits, model.match(**batch).match_logits)


# The graph of a part


def small_graph():
    """Two rows of L = 5: tokens 0 and 1, regions 2 and 3, an attribute 4; kinds ascend.

    ==== === ======== =====================
    node row position what
    ==== === ======== =====================
    0    0   2        region
    1    0   4        attribute
    2    0   1        word
    3    0   0        first token
    4    1   5 + 3    region
    5    1   5 + 0    first token
    ==== === ======== =====================
    """
    return Data(
        num_nodes=6,
        position=torch.tensor([2, 4, 1, 0, 8, 5]),
        batch=torch.tensor([0, 0, 0, 0, 1, 1]),
        # region-attribute, word-region (crosses), word-token, region-token (crosses)
        edge_index=torch.tensor([[1, 2, 2, 4], [0, 0, 3, 5]]),
        edge_kind=torch.tensor([0, 1, 1, 3]),
        kind_counts=[1, 2, 0, 1],
        edge_weight=torch.tensor([0.1, 0.2, 0.3, 0.4]),
        edge_seen=torch.tensor([True, True, False, True]),
        edge_batch=torch.tensor([0, 0, 0, 1]),
        edge_slot=torch.tensor([0, 1, 2, 0]),
        edge_slots=3,
    )


def test_the_part_of_the_pictures_worked_by_hand():
    # One token is kept, so a row is 1 + 3 long, and position p of the row becomes 1 + p - 2.
    part = part_of(small_graph(), 5, kept=1, first=2, last=None)
    assert part.num_nodes == 3
    assert part.position.tolist() == [1, 3, 4 + 2]
    assert part.batch.tolist() == [0, 0, 1]
    assert part.edge_index.tolist() == [[1], [0]]  # attribute -> region, as numbered here
    assert part.edge_kind.tolist() == [0]
    assert part.kind_counts == [1, 0, 0, 0]
    assert part.edge_weight.tolist() == pytest.approx([0.1])
    assert (part.edge_seen.tolist(), part.edge_batch.tolist()) == ([True], [0])
    assert (part.edge_slot.tolist(), part.edge_slots) == ([0], 3)


def test_the_part_of_the_texts_worked_by_hand():
    part = part_of(small_graph(), 5, kept=0, first=0, last=2)
    assert part.num_nodes == 3
    assert part.position.tolist() == [1, 0, 2 + 0]  # a row is 2 long
    assert part.batch.tolist() == [0, 0, 1]
    assert part.edge_index.tolist() == [[0], [1]]
    assert part.kind_counts == [0, 1, 0, 0]
    assert part.edge_weight.tolist() == pytest.approx([0.3])
    assert part.edge_slot.tolist() == [2]


def test_the_whole_is_a_part_and_no_graph_has_none():
    graph = small_graph()
    part = part_of(graph, 5, kept=0, first=0, last=None)
    assert all(torch.equal(part[name], graph[name]) for name in PART_OF_GRAPH)
    assert part.kind_counts == graph.kind_counts
    assert part_of(None, 5, 0, 0, None) is None


# Judged pairs


def test_right_and_confused_pairs_are_judged(small_retrieval, world):
    model, batch = small_retrieval(), world.batch([0, 1, 2], [0, 1, 2])
    world.asked.clear()
    torch.manual_seed(1)
    outputs = run(model, batch, pairs=world.pairs)
    wrong = outputs.match_negatives
    rows = [0, 1, 2]
    assert world.asked == [
        list(zip(rows, rows, strict=True)),
        list(zip(rows, wrong.captions.tolist(), strict=True)),
        list(zip(wrong.images.tolist(), rows, strict=True)),
    ]
    assert all(wrong.captions != torch.arange(3))
    assert all(wrong.images != torch.arange(3))
    assert outputs.match_labels.tolist() == [1, 1, 1, 0, 0, 0, 0, 0, 0]
    # What the pairs were judged by is their own graph, not the batch's.
    for place, pair in enumerate(pair for asked in list(world.asked) for pair in asked):
        alone = model.match(**world.batch([pair[0]], [pair[1]])).match_logits
        assert close(alone, outputs.match_logits[place : place + 1])


def test_the_first_rows_are_judged_by_partners_out_of_the_whole_batch(small_retrieval, world):
    model, batch = small_retrieval(), world.batch([0, 1, 2], [0, 1, 2])
    same = torch.tensor([5, 5, 6])  # so that the only wrong partner of row 0 is row 2
    world.asked.clear()
    outputs = run(model, batch, identities=same, pairs=world.pairs, judged_rows=1)
    assert world.asked == [[(0, 0)], [(0, 2)], [(2, 0)]]
    assert outputs.match_labels.tolist() == [1, 0, 0]
    assert len(outputs.match_logits) == 3
    assert len(outputs.image_embeds) == 3  # which are still those of all


def test_embeddings_read_the_first_state_and_the_mean_of_those_there_are(small_retrieval, world):
    model, batch = small_retrieval(), world.batch([0, 1], [0, 1])
    side = model.text(**batch)
    read = read_off(side)
    for row, count in enumerate(batch["attention_mask"].sum(dim=1).tolist()):
        mean = sum(side.fused_states[row, place] for place in range(count)) / count
        assert close(read[row], torch.cat([side.pooled[row], mean]))


def test_what_was_judged_is_among_the_outputs_that_ddp_sees(small_retrieval, world):
    outputs = run(small_retrieval(), world.batch([0, 1], [0, 1]), pairs=world.pairs)
    assert {"match_logits", "match_labels", "match_negatives"} <= set(outputs.keys())


def test_pairs_of_one_identity_are_never_wrong(small_retrieval, world):
    model, batch = small_retrieval(), world.batch([0, 1, 2], [0, 1, 2])
    two = run(model, batch, identities=torch.tensor([7, 7, 9]), pairs=world.pairs)
    assert two.match_negatives.captions[:2].tolist() == [2, 2]
    assert two.match_negatives.images[:2].tolist() == [2, 2]
    assert two.match_labels.tolist() == [1, 1, 1, 0, 0, 0, 0, 0, 0]
    same = run(model, batch, identities=torch.tensor([7, 7, 7]), pairs=world.pairs)
    assert same.match_labels.tolist() == [1, 1, 1] + [NOT_JUDGED] * 6
    one = run(model, world.batch([0], [0]), pairs=world.pairs)
    assert one.match_labels.tolist() == [1, NOT_JUDGED, NOT_JUDGED]


def test_a_batch_is_one_step_of_the_ramp_however_often_it_is_passed(small_retrieval, world):
    model = small_retrieval(selection_ramp_steps=4).train()
    batch = world.batch(range(3), range(3))
    model(**batch)  # pictures and texts
    model(**batch, pairs=world.pairs)  # and three times pairs
    assert model.tbkin.training_steps.item() == 2
    model.match(**batch)  # a model that only judges counts that
    assert model.tbkin.training_steps.item() == 3


# A scorer


@KIND
def test_a_scorer_compares_regions_and_words_of_every_pair(small_retrieval, world, kind):
    model = small_retrieval(scorer=kind, **SCORER)
    batch = world.batch([0, 1, 2], [0, 1, 2])  # the last picture has no region
    outputs = run(model, batch, scored=True)
    assert (outputs.scores.shape, outputs.scores.dtype) == ((3, 3), torch.float32)
    assert outputs.scores.std() > 1e-3
    for picture in range(3):
        for text in range(3):  # as the two alone, which share no padding with the others
            alone = run(model, world.batch([picture], [text]), scored=True).scores
            assert close(alone, outputs.scores[picture, text])
    assert run(model, batch).scores is None  # unless asked for
    assert run(small_retrieval(), batch, scored=True).scores is None
    without = small_retrieval()
    without.load_state_dict(model.state_dict(), strict=False)
    before = run(without, batch)
    assert all(torch.equal(outputs[name], before[name]) for name in EMBEDS)


def test_scores_of_states_are_those_of_the_model(small_retrieval, world):
    model, batch = small_retrieval(scorer="sgr", **SCORER), world.batch([0, 1], [0, 1])
    outputs = run(model, batch, scored=True)
    with torch.no_grad():
        scores = model.scorer(
            outputs.region_states,
            batch["region_mask"],
            outputs.text_states,
            batch["attention_mask"],
        )
    assert torch.equal(scores, outputs.scores)


@KIND
def test_a_saved_scorer_is_the_same(small_retrieval, world, tmp_path, kind):
    model, batch = small_retrieval(scorer=kind, **SCORER), world.batch([0, 1, 2], [2, 0, 1])
    model.save_pretrained(tmp_path)
    loaded = TBKINForImageTextRetrieval.from_pretrained(tmp_path).eval()
    before, after = run(model, batch, scored=True), run(loaded, batch, scored=True)
    assert torch.equal(after.scores, before.scores)


def test_a_checkpoint_of_before_there_were_scorers_has_none(small_retrieval, world, tmp_path):
    model, batch = small_retrieval(), world.batch([0, 1], [1, 0])
    model.save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    settings = json.loads(path.read_text())
    for name in ("scorer", *SCORER):
        settings.pop(name, None)
    path.write_text(json.dumps(settings))
    loaded = TBKINForImageTextRetrieval.from_pretrained(tmp_path).eval()
    assert loaded.scorer is None
    assert torch.equal(run(loaded, batch).image_embeds, run(model, batch).image_embeds)


def test_a_new_scorer_starts_by_its_own_rule(tiny_processor):
    config = TBKINConfig(
        scorer="sgr", hidden_size=64, scorer_size=48, alignment_size=24, initializer_range=0.5
    )
    torch.manual_seed(0)
    scorer = TBKINForImageTextRetrieval(config).scorer
    # Glorot: uniform within sqrt(6 / (in + out)).
    for name, (inwards, out) in {
        "align_words": (48, 24),
        "region_pooling.key": (48, 48),
        "reading.steps.2.update": (24, 24),
    }.items():
        weight, bound = scorer.get_submodule(name).weight, math.sqrt(6 / (inwards + out))
        assert 0.9 * bound < weight.abs().max() <= bound, name
        assert weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.1), name
    assert (scorer.word_pooling.key.bias == 0).all()
    assert scorer.region_projection.weight.std().item() == pytest.approx(0.5, rel=0.1)  # BERT's


@KIND
def test_a_scorer_learns_a_handful_of_pairs_by_the_triplet_loss(small_retrieval, world, kind):
    # Wide enough that of SGR's alignments some are above 0 whatever the start.
    wide = SCORER | {"alignment_size": 32}
    model = small_retrieval(scorer=kind, **wide).train()
    batch = world.batch([0, 1, 2], [0, 1, 2])
    batch["image_ids"] = batch["identities"] = torch.arange(3)
    optimizer, loss_of = torch.optim.Adam(model.parameters(), 3e-3), Triplet()
    for _ in range(60):
        loss = loss_of(model(**batch, scored=True), batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    scores = run(model.eval(), batch, scored=True).scores
    wrong = scores.masked_fill(torch.eye(3, dtype=torch.bool), -torch.inf)
    assert (scores.diag() > wrong.amax(dim=1) + 0.1).all()
    assert (scores.diag() > wrong.amax(dim=0) + 0.1).all()


def test_what_a_scorer_confuses_is_judged(small_retrieval, world, monkeypatch):
    model, batch = small_retrieval(scorer="saf", **SCORER), world.batch([0, 1, 2], [0, 1, 2])
    told = torch.tensor([[0.0, 9, -9], [-9, 0, 9], [9, -9, 0]])
    monkeypatch.setattr(model.scorer, "forward", lambda *states: told)
    wrong = run(model, batch, pairs=world.pairs, scored=True).match_negatives
    assert (wrong.captions.tolist(), wrong.images.tolist()) == ([1, 2, 0], [2, 0, 1])


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"scorer": "scan"}, "scorer must be one of none, saf, sgr; got 'scan'"),
        ({"scorer": "saf", "scorer_size": 0}, "scorer_size must be >= 1, got 0"),
        ({"scorer": "saf", "alignment_size": -1}, "alignment_size must be >= 1, got -1"),
        ({"scorer": "saf", "embedding_size": 0}, "scorer=saf ranks .* set embedding_size"),
        ({"scorer": "sgr", "towers": {"model_type": "clip"}}, "scorer=sgr reads .* towers of"),
    ],
)
def test_scorers_that_cannot_be_are_refused(settings, complaint):
    with pytest.raises(ValueError, match=complaint):
        TBKINConfig.from_changes(settings)
