"""Fine-grained scores: by hand, against plain loops over one pair, and what must not matter."""

import math

import pytest
import torch

from tbkin.model.sgraf import (
    AttentivePooling,
    FineGrainedScorer,
    SimilarityFilter,
    SimilarityGraph,
    attend,
)

KIND = pytest.mark.parametrize("kind", ["saf", "sgr"])
HIDDEN, ALIGNMENT = 8, 6
SETTINGS = {"region_size": 7, "word_size": 5, "hidden_size": HIDDEN, "alignment_size": ALIGNMENT}


def scorer_of(kind, dtype=torch.float64, **changes):
    torch.manual_seed(0)
    scorer = FineGrainedScorer(kind, **{**SETTINGS, **changes})
    with torch.no_grad():
        for weights in scorer.parameters():  # no bias at zero, nothing near the flat start
            weights.add_(0.5 * torch.randn_like(weights))
    return scorer.to(dtype)


def made_up(pictures=4, captions=5, regions=6, words=7, dtype=torch.float64):
    """States and masks; picture i lacks its last i regions, caption j its last j words."""
    generator = torch.Generator().manual_seed(1)
    region_states = torch.randn(pictures, regions, 7, generator=generator, dtype=dtype)
    word_states = torch.randn(captions, words, 5, generator=generator, dtype=dtype)
    region_mask = torch.arange(regions)[None] < regions - torch.arange(pictures)[:, None]
    word_mask = torch.arange(words)[None] < words - torch.arange(captions)[:, None]
    return region_states, region_mask, word_states, word_mask


# By hand


def test_attend_worked_by_hand():
    # Regions (1, 0) and (0, 1), words (0.6, 0.8) and (1, 0). Cosines of region 1: 0.6 and 1, their
    # length is sqrt(1.36); of region 2: 0.8 and 0, length 0.8.
    regions = torch.eye(2, dtype=torch.float64)
    words = torch.tensor([[0.6, 0.8], [1.0, 0.0]], dtype=torch.float64)
    here = torch.ones(2, dtype=torch.bool)
    first, second = attend(regions, here, words, here, smoothing=2.0, slope=0.1).tolist()
    one, two = math.exp(2 * 0.6 / math.sqrt(1.36)), math.exp(2 * 1.0)  # of word 1, not divided
    assert first == pytest.approx([one / math.hypot(one, two), two / math.hypot(one, two)])
    one, two = math.exp(2 * 1 / math.sqrt(1.36)), math.exp(0)
    assert second == pytest.approx([one / math.hypot(one, two), two / math.hypot(one, two)])


def test_attend_leaks_below_zero():
    # One word (1, 0), regions (-1, 0) and (0, 1): the leaky cosines -0.1 and 0 have the lengths 0.1
    # and 0 over the words, which gives -1 and 0.
    regions = torch.tensor([[-1.0, 0.0], [0.0, 1.0]])
    word, here = torch.tensor([[1.0, 0.0]]), torch.ones(1, dtype=torch.bool)
    ((x, y),) = attend(regions, here.expand(2), word, here, smoothing=3.0, slope=0.1).tolist()
    assert -y / x == pytest.approx(math.exp(3.0), rel=1e-5)
    ((x, y),) = attend(regions, here.expand(2), word, here, smoothing=3.0, slope=0.0).tolist()
    assert -y / x == pytest.approx(1.0)


def one_pair(kind, **changes):
    """A picture of the one region (1, 0), a caption of the one word (0, 1), weights by hand."""
    scorer = FineGrainedScorer(kind, hidden_size=2, alignment_size=2, **changes)
    with torch.no_grad():
        # Every squared difference is (1, 1): the wholes align as (1, 0), the words as (1, 1) / √2.
        scorer.align_wholes.weight.copy_(torch.tensor([[3.0, 0.0], [0.0, 0.0]]))
        scorer.align_words.weight.copy_(torch.eye(2))
        scorer.score.weight.copy_(torch.tensor([[1.0, -1.0]]))
        scorer.score.bias.fill_(0.25)
    region, word, here = torch.tensor([[[1.0, 0]]]), torch.tensor([[[0, 1.0]]]), torch.ones(1, 1)
    return scorer, (region, here, word, here)


def test_saf_worked_by_hand():
    scorer, pair = one_pair("saf")
    with torch.no_grad():
        # sqrt(2) * (0, ln 3) . (1, 1) / sqrt(2) = ln 3: gates 1/2 and 3/4, shares 0.4 and 0.6.
        scorer.reading.gate.weight.copy_(torch.tensor([[0.0, math.log(3)]]))
        scorer.reading.gate.bias.zero_()
    # 0.4 * (1, 0) + 0.6 * (1, 1) / sqrt(2); its first number less its second: 0.4. With 0.25: 0.65.
    assert scorer(*pair).item() == pytest.approx(1 / (1 + math.exp(-0.65)))


def test_sgr_worked_by_hand():
    scorer, pair = one_pair("sgr", steps=1)
    (step,) = scorer.reading.steps
    with torch.no_grad():
        # The whole, (1, 0), asks (0, ln 3 * sqrt(2)): logits 0 and ln 3, shares 1/4 and 3/4.
        step.receive.weight.copy_(torch.tensor([[0, 0], [math.log(3) * math.sqrt(2), 0]]))
        step.send.weight.copy_(torch.eye(2))
        step.update.weight.copy_(torch.tensor([[2.0, 0.0], [-1.0, 0.0]]))
    # 1/4 (1, 0) + 3/4 (1, 1) / sqrt(2) begins with 0.7803301; doubled, and below zero cut off.
    expected = 2 * (0.25 + 0.75 / math.sqrt(2)) + 0.25
    assert scorer(*pair).item() == pytest.approx(1 / (1 + math.exp(-expected)))


# One pair, with plain loops


def dot(x, y):
    return sum(a * b for a, b in zip(x, y, strict=True))


def unit(x):
    return [a / math.sqrt(dot(x, x)) for a in x]


def shares(logits):
    total = sum(math.exp(logit) for logit in logits)
    return [math.exp(logit) / total for logit in logits]


def mix(weights, rows):
    return [
        sum(w * row[k] for w, row in zip(weights, rows, strict=True)) for k in range(len(rows[0]))
    ]


def linear(layer, x):
    bias = [0.0] * layer.out_features if layer.bias is None else layer.bias.tolist()
    return [dot(row, x) + b for row, b in zip(layer.weight.tolist(), bias, strict=True)]


def pooled(pooling, rows):
    mean = mix([1 / len(rows)] * len(rows), rows)
    asked = [math.tanh(q) for q in linear(pooling.query, mean)]
    logits = []
    for row in rows:
        keys = [math.tanh(k) for k in linear(pooling.key, row)]
        logits += linear(pooling.weigh, [k * q for k, q in zip(keys, asked, strict=True)])
    return unit(mix(shares(logits), rows))


def aligned(layer, x, y):
    return unit(linear(layer, [(a - b) ** 2 for a, b in zip(x, y, strict=True)]))


def slow_score(scorer, kind, regions, words, smoothing=9.0, slope=0.1):
    """The score of one picture (lists of region numbers) and one caption, without padding."""
    regions = [unit(linear(scorer.region_projection, row)) for row in regions]
    words = [unit(linear(scorer.word_projection, row)) for row in words]
    fit = [[dot(region, word) for word in words] for region in regions]
    fit = [unit([c if c > 0 else slope * c for c in row]) for row in fit]
    nodes = [
        aligned(
            scorer.align_wholes,
            pooled(scorer.region_pooling, regions),
            pooled(scorer.word_pooling, words),
        )
    ]
    for j, word in enumerate(words):
        seen = mix(shares([smoothing * row[j] for row in fit]), regions)
        nodes.append(aligned(scorer.align_words, unit(seen), word))
    if kind == "saf":
        root = math.sqrt(len(nodes[0]))
        weight, bias = scorer.reading.gate.weight[0].tolist(), scorer.reading.gate.bias.item()
        gates = [1 / (1 + math.exp(-root * dot(weight, node) - bias)) for node in nodes]
        read = mix([gate / sum(gates) for gate in gates], nodes)
    else:
        for step in scorer.reading.steps:
            sent = [linear(step.send, node) for node in nodes]
            received = [linear(step.receive, node) for node in nodes]
            mixed = [mix(shares([dot(r, s) for s in sent]), nodes) for r in received]
            nodes = [[max(0.0, x) for x in linear(step.update, node)] for node in mixed]
        read = nodes[0]
    return 1 / (1 + math.exp(-linear(scorer.score, read)[0]))


@KIND
def test_agrees_with_plain_loops(kind):
    scorer, (regions, region_mask, words, word_mask) = scorer_of(kind), made_up()
    scores = scorer(regions, region_mask, words, word_mask).tolist()
    for i in range(4):
        for j in range(5):
            seen, said = regions[i][region_mask[i]].tolist(), words[j][word_mask[j]].tolist()
            assert scores[i][j] == pytest.approx(slow_score(scorer, kind, seen, said), abs=1e-9)
    assert max(map(max, scores)) - min(map(min, scores)) > 0.01  # else all would agree


# What must not matter


@KIND
def test_padding_does_not_matter(kind):
    scorer, (regions, region_mask, words, word_mask) = scorer_of(kind), made_up()
    scores = scorer(regions, region_mask, words, word_mask)
    noise = [1e3 * torch.randn_like(states) for states in (regions, words)]
    other = torch.where(region_mask[..., None], regions, noise[0])
    others = torch.where(word_mask[..., None], words, noise[1])
    assert torch.allclose(scorer(other, region_mask, others, word_mask), scores, atol=1e-12)

    wider = [
        torch.nn.functional.pad(states, (0, 0, 0, 3), value=5.0) for states in (regions, words)
    ]
    masks = [torch.nn.functional.pad(mask, (0, 3)) for mask in (region_mask, word_mask)]
    assert torch.allclose(scorer(wider[0], masks[0], wider[1], masks[1]), scores, atol=1e-12)


@KIND
def test_order_does_not_matter(kind):
    scorer, (regions, region_mask, words, word_mask) = scorer_of(kind), made_up()
    scores = scorer(regions, region_mask, words, word_mask)
    at, to = torch.randperm(6), torch.randperm(7)
    shuffled = scorer(regions[:, at], region_mask[:, at], words[:, to], word_mask[:, to])
    assert torch.allclose(shuffled, scores, atol=1e-12)

    at, to = torch.randperm(4), torch.randperm(5)  # of pictures and of captions
    moved = scorer(regions[at], region_mask[at], words[to], word_mask[to])
    assert torch.allclose(moved, scores[at][:, to], atol=1e-12)


@KIND
@pytest.mark.parametrize("training", [True, False])
def test_a_pair_does_not_depend_on_the_others(kind, training):
    scorer, (regions, region_mask, words, word_mask) = scorer_of(kind).train(training), made_up()
    scores = scorer(regions, region_mask, words, word_mask)
    alone = scorer(regions[2:3], region_mask[2:3], words[3:4], word_mask[3:4])
    assert alone.item() == pytest.approx(scores[2, 3].item(), abs=1e-12)
    pairs = scorer.score_pairs(regions, region_mask, words[:4], word_mask[:4])
    assert torch.allclose(pairs, scores[:, :4].diagonal(), atol=1e-12)


@KIND
@pytest.mark.parametrize("pairs", [1, 3, 4, 8, 11, 19])  # of the 4 x 5 there are
def test_blocks_change_neither_scores_nor_gradients_and_keep_their_bound(kind, pairs):
    inputs = made_up()
    whole, parts = scorer_of(kind), scorer_of(kind, max_elements=pairs * 7 * HIDDEN)
    sizes = []
    parts.align_words.register_forward_pre_hook(lambda _, given: sizes.append(given[0].numel()))
    scores, blocks = whole(*inputs), parts(*inputs)
    assert torch.allclose(blocks, scores, atol=1e-12)
    assert len(sizes) > 1
    assert max(sizes) <= pairs * 7 * HIDDEN

    weights = torch.arange(20.0).view(4, 5)
    (scores * weights).sum().backward()
    (blocks * weights).sum().backward()
    for one, other in zip(whole.parameters(), parts.parameters(), strict=True):
        assert torch.allclose(one.grad, other.grad, atol=1e-10)
    with torch.no_grad():
        assert torch.allclose(parts(*inputs), scores, atol=1e-12)


# What must happen


@KIND
def test_gradient_reaches_both_sides_and_every_weight(kind):
    scorer, (regions, region_mask, words, word_mask) = scorer_of(kind), made_up()
    regions.requires_grad_()
    words.requires_grad_()
    scorer(regions, region_mask, words, word_mask).logit().square().sum().backward()
    assert ((regions.grad.abs().sum(dim=-1) > 0) == region_mask).all()
    assert ((words.grad.abs().sum(dim=-1) > 0) == word_mask).all()
    for name, weights in scorer.named_parameters():
        assert weights.grad.abs().sum() > 0, name


@KIND
def test_learns_which_pairs_belong_together(kind):
    # Words are a fixed turn of the regions' states, which an untrained scorer knows nothing of.
    generator = torch.Generator().manual_seed(3)
    regions = torch.randn(12, 4, 7, generator=generator)
    words = regions[:, :3] @ torch.randn(7, 5, generator=generator)
    masks = torch.ones(12, 4), torch.ones(12, 3)
    torch.manual_seed(0)
    scorer = FineGrainedScorer(kind, **{**SETTINGS, "hidden_size": 16, "alignment_size": 16})
    optimizer = torch.optim.Adam(scorer.parameters(), lr=0.01)
    belongs = torch.eye(12)

    def best():
        return (scorer(regions, masks[0], words, masks[1]).argmax(dim=1) == torch.arange(12)).sum()

    before = best()
    for _ in range(150):
        logits = scorer(regions, masks[0], words, masks[1]).logit(eps=1e-6)
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(logits, belongs).backward()
        optimizer.step()
    assert before <= 5
    assert best() == 12


@KIND
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_stays_near_full(kind, dtype):
    scorer, inputs = scorer_of(kind, torch.float32), made_up(dtype=torch.float32)
    scores = scorer(*inputs)
    with torch.autocast("cpu", dtype=dtype):
        mixed = scorer(*inputs)
    regions, region_mask, words, word_mask = inputs
    half = scorer.to(dtype)(regions.to(dtype), region_mask, words.to(dtype), word_mask)
    for found in (mixed, half):
        assert found.dtype == torch.float32
        assert torch.allclose(found, scores, atol=0.05)
    half.sum().backward()
    assert all(weights.grad.isfinite().all() for weights in scorer.parameters())


@KIND
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_equal_sides_and_empty_ones_are_finite(kind, dtype):
    # A word that is its picture's only region: every difference is 0, and so is the alignment.
    scorer = FineGrainedScorer(kind, hidden_size=HIDDEN, alignment_size=ALIGNMENT).to(dtype)
    states = torch.randn(3, 1, HIDDEN, dtype=dtype).requires_grad_()
    for mask in (torch.ones(3, 1), torch.zeros(3, 1), torch.tensor([[1.0], [0.0], [1.0]])):
        scores = scorer(states, mask, states, mask)
        assert scores.isfinite().all()
        scores.sum().backward()
        assert states.grad.isfinite().all()
        assert all(weights.grad.isfinite().all() for weights in scorer.parameters())


def test_no_gate_closes_for_good():
    # Gates of e^-200 are 0 in float32; their shares are not.
    saf = SimilarityFilter(2)
    with torch.no_grad():
        saf.gate.weight.zero_()
        saf.gate.bias.fill_(-200.0)
    alignments = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    assert saf(alignments, torch.ones(2, dtype=torch.bool)).tolist() == pytest.approx([0.5, 0.5])


def test_each_reasoning_step_has_maps_of_its_own():
    assert len(SimilarityGraph(4, steps=3).steps) == 3
    assert sum(weights.numel() for weights in SimilarityGraph(4, steps=3).parameters()) == 9 * 16


def test_pooling_of_nothing_is_zero():
    pooling, states = AttentivePooling(4), torch.randn(2, 3, 4)
    mask = torch.tensor([[True, True, False], [False, False, False]])
    whole = pooling(states, mask)
    assert whole.norm(dim=-1).tolist() == pytest.approx([1.0, 0.0])


# Settings


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "scan"}, "unknown kind of fine-grained scores 'scan'; choose from: saf, sgr"),
        ({"smoothing": 0.0}, "smoothing must be > 0, got 0.0"),
        ({"slope": 1.0}, r"slope must be in \[0, 1\), got 1.0"),
        ({"steps": 0}, "steps must be >= 1, got 0"),
        ({"max_elements": 0}, "max_elements must be >= 1, got 0"),
    ],
)
def test_settings_out_of_range_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        FineGrainedScorer(**settings)


def test_inputs_that_do_not_fit_are_named():
    scorer, (regions, region_mask, words, word_mask) = scorer_of("saf"), made_up()
    with pytest.raises(ValueError, match=r"region_states must be \(number, regions, 7\), got \(5,"):
        scorer(words, word_mask, words, word_mask)
    with pytest.raises(ValueError, match=r"word_mask must be \(5, 7\) .* got \(4, 6\)"):
        scorer(regions, region_mask, words, region_mask)
    with pytest.raises(ValueError, match="got 4 pictures and 5 captions"):
        scorer.score_pairs(regions, region_mask, words, word_mask)
