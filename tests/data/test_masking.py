from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tbkin.data.knowledge_graph import KnowledgeGraph, ObjectWord
from tbkin.data.knowledge_matrix import masking_probabilities
from tbkin.data.masking import (
    FORMS,
    corrupt_regions,
    corrupt_tokens,
    draw_masks,
    draw_side,
    image_anchor_probabilities,
    ordinary_tokens,
)
from tbkin.data.processing_tbkin import build_tokenizer
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

DRAWS = 4000  # standard error of a share: at most 0.008
NEAR = 0.03


def shares(graph, side, form, seed=0, draws=DRAWS):
    """How often each piece and each region is hidden."""
    generator = np.random.default_rng(seed)
    drawn = [draw_masks(graph, side, form, generator) for _ in range(draws)]
    return (
        np.mean([masks.text for masks in drawn], axis=0),
        np.mean([masks.image for masks in drawn], axis=0),
    )


def either(*chances):
    """The probability that at least one of independent events happens."""
    neither = 1.0
    for chance in chances:
        neither = neither * (1 - np.asarray(chance))
    return 1 - neither


def expected_of_graph_form(graph, side, anchor_chances, base):
    """The sum over all sets of anchors: their probability times what they mask."""
    text, image = np.zeros(len(graph.links)), np.zeros(len(graph.regions))
    for chosen in product([False, True], repeat=len(anchor_chances)):
        weight = np.prod(np.where(chosen, anchor_chances, 1 - np.array(anchor_chances)))
        more = masking_probabilities(graph, side, np.flatnonzero(chosen))
        text, image = text + weight * more[0], image + weight * more[1]
    return (either(text, base), image) if side == "text" else (text, either(image, base))


# --- what is drawn


def test_graph_form_of_the_text_has_the_probabilities_of_its_anchors():
    # Dog and ball are anchors with 0.5 each: region 0 is hidden with 0.5 x 0.06 (dog or both),
    # region 2 with 0.5 x 0.02; red with 0.5 x 0.27, or by itself with 0.15.
    graph = hand_graph()
    expected = expected_of_graph_form(graph, "text", [0.5, 0.5], 0.15)
    assert expected[1] == pytest.approx([0.03, 0.0475, 0.01])
    assert expected[0][[RED, DOG]] == pytest.approx([1 - 0.865 * 0.85, 1 - 0.5 * 0.85])
    text, image = shares(graph, "text", "graph")
    assert text == pytest.approx(expected[0], abs=NEAR)
    assert image == pytest.approx(expected[1], abs=NEAR / 2)


def test_graph_form_of_the_picture_has_the_probabilities_of_its_anchors():
    # Region 0 is masked by itself, or taken along by region 1, which is and spreads; what the
    # anchors do is independent of it.
    graph = hand_graph()
    base = [either(0.15, 0.15 * 0.3)] * 2 + [0.15]
    expected = expected_of_graph_form(graph, "image", image_anchor_probabilities(graph), base)
    text, image = shares(graph, "image", "graph")
    assert text == pytest.approx(expected[0], abs=NEAR)
    assert image == pytest.approx(expected[1], abs=NEAR)
    assert 0 < text[DOG] < text[RED] < 0.1  # the better aligned, the more rarely


def test_base_masking_of_regions_spreads_in_the_graph_form_but_not_in_the_random_one():
    # Five regions overlap region 0 and nothing is aligned: 0.15, or any of the five takes it along.
    regions = np.zeros((6, 6))
    regions[0, 1:] = regions[1:, 0] = 0.5
    graph = KnowledgeGraph((), regions, np.zeros((0, 6)))
    _, image = shares(graph, "image", "graph")
    assert image[0] == pytest.approx(either(0.15, *[0.15 * 0.3] * 5), abs=NEAR)
    assert image[1:] == pytest.approx([either(0.15, 0.15 * 0.3)] * 5, abs=NEAR)
    _, image = shares(graph, "image", "random")
    assert image == pytest.approx([0.15] * 6, abs=NEAR)


def test_simple_form_of_the_text_worked_by_hand():
    # The dog with 0.15 or as an anchor; red and runs with 0.15 or 0.6 and 0.2 if it is one.
    text, image = shares(hand_graph(), "text", "simple")
    expected = np.zeros(4)
    expected[[RED, DOG, RUNS, BALL]] = [0.405, 0.575, 0.235, 0.575]
    assert expected[[RED, DOG, RUNS]] == pytest.approx(
        [either(0.15, 0.5 * p) for p in (0.6, 1, 0.2)]
    )
    assert text == pytest.approx(expected, abs=NEAR)
    assert not image.any()


def test_simple_form_takes_the_maximum_over_anchors_and_hides_whole_words():
    # A word of two pieces, said of two objects with 0.7 and 0.5: over the four sets of anchors
    # (0 + 0.7 + 0.5 + 0.7) / 4 = 0.475, not 1 - 0.65 x 0.75 = 0.5125.
    objects = (ObjectWord((0,), (((2, 3), 0.7),)), ObjectWord((1,), (((2, 3), 0.5),)))
    graph = KnowledgeGraph(objects, np.zeros((0, 0)), np.zeros((4, 0)))
    text, _ = shares(graph, "text", "simple", draws=20_000)
    assert text[2:] == pytest.approx(either(0.475, 0.15), abs=0.012)
    assert either(0.5125, 0.15) - either(0.475, 0.15) > 0.03
    # Without base masking the two pieces go together: they differ by its chance alone.
    generator = np.random.default_rng(0)
    drawn = [draw_masks(graph, "text", "simple", generator).text for _ in range(DRAWS)]
    differ = np.mean([mask[2] != mask[3] for mask in drawn])
    assert differ == pytest.approx((1 - 0.475) * 2 * 0.15 * 0.85, abs=NEAR)


def test_simple_form_of_the_picture_worked_by_hand():
    # Anchors: 0.9 x (1, 0.6, 1). Region 0: 0.15, or 0.9, or region 1 takes it along by either.
    graph = hand_graph()
    assert image_anchor_probabilities(graph) == pytest.approx([0.9, 0.54, 0.9])
    text, image = shares(graph, "image", "simple")
    expected = [
        either(0.15, 0.9, 0.3 * 0.15, 0.3 * 0.54),
        either(0.15, 0.54, 0.3 * 0.15, 0.3 * 0.9),
        either(0.15, 0.9),
    ]
    assert image == pytest.approx(expected, abs=NEAR)
    assert not text.any()


def test_random_form_masks_the_chosen_side_alone():
    text, image = shares(hand_graph(), "text", "random")
    assert text == pytest.approx([0.15] * 4, abs=NEAR)
    assert not image.any()
    text, image = shares(hand_graph(), "image", "random")
    assert image == pytest.approx([0.15] * 3, abs=NEAR)
    assert not text.any()


def test_a_region_takes_all_that_overlap_it_along_or_none():
    # Regions 1 and 2 overlap region 0, not each other. Both are hidden and it is too: more often
    # than if each went by itself.
    regions = np.zeros((3, 3))
    regions[0, 1:] = regions[1:, 0] = 0.5
    links = np.array([[1.0, 0.0, 0.0]])
    graph = KnowledgeGraph((ObjectWord((0,)),), regions, links)
    generator = np.random.default_rng(0)
    drawn = [draw_masks(graph, "image", "simple", generator).image for _ in range(DRAWS)]
    both = np.mean([mask[1] and mask[2] for mask in drawn])
    along = either(0.15 * 0.3, 0.9 * 0.3)  # region 0 spreads
    assert both == pytest.approx(along + (1 - along) * 0.15**2, abs=NEAR)


def test_the_mean_similarity_of_a_region_passes_over_zeros():
    links = np.array([[0.5, 0.0], [1.0, 0.0], [0.0, 0.0]])
    graph = KnowledgeGraph((), np.zeros((2, 2)), links)
    assert image_anchor_probabilities(graph).tolist() == pytest.approx([0.9 * 0.75, 0.0])


@needs_reference
def test_rositas_own_chances_of_regions_to_be_anchors():
    case, graph = reference()
    expected = case["graph"]["image_anchor_probability"]
    assert image_anchor_probabilities(graph) == pytest.approx(expected, abs=case["tolerance"])


def test_sides_are_drawn_evenly():
    generator = np.random.default_rng(0)
    drawn = [draw_side(generator) for _ in range(DRAWS)]
    assert set(drawn) == {"text", "image"}
    assert np.mean([side == "text" for side in drawn]) == pytest.approx(0.5, abs=NEAR)


@pytest.mark.parametrize("form", FORMS)
@given(graph=knowledge_graphs(), seed=st.integers(0, 99))
def test_the_same_state_gives_the_same_masks(form, graph, seed):
    for side in ("text", "image"):
        masks, again = (
            draw_masks(graph, side, form, np.random.default_rng(seed)) for _ in range(2)
        )
        assert masks.text.tolist() == again.text.tolist()
        assert masks.image.tolist() == again.image.tolist()
        assert masks.side == side
        assert (masks.text.dtype, masks.image.dtype) == (bool, bool)
        assert (len(masks.text), len(masks.image)) == graph.links.shape


def test_nothing_may_be_drawn():
    graph = KnowledgeGraph((), np.zeros((0, 0)), np.zeros((1, 0)))
    generator = np.random.default_rng(0)
    drawn = [draw_masks(graph, "text", "graph", generator).text.any() for _ in range(DRAWS)]
    assert np.mean(drawn) == pytest.approx(0.15, abs=NEAR)


def test_unknown_form_or_side():
    with pytest.raises(ValueError, match="unknown form of masking 'usg'; choose from: graph, rand"):
        draw_masks(hand_graph(), "text", "usg", np.random.default_rng(0))
    with pytest.raises(ValueError, match="unknown side to mask 'both'; choose from: image, text"):
        draw_masks(hand_graph(), "both", "graph", np.random.default_rng(0))


# --- what stands in their place


def test_tokens_are_hidden_replaced_or_kept_80_10_10():
    ids = np.full(20_000, 7)
    mask = np.ones(len(ids), dtype=bool)
    mask[:5000] = False
    replacements = np.arange(10, 30)
    after = corrupt_tokens(ids, mask, 4, replacements, np.random.default_rng(0))
    assert (ids == 7).all()  # a copy
    assert (after[:5000] == 7).all()
    masked = after[5000:]
    assert np.mean(masked == 4) == pytest.approx(0.8, abs=0.015)
    assert np.mean(masked == 7) == pytest.approx(0.1, abs=0.015)
    counts = np.array([(masked == code).sum() for code in replacements])
    assert counts.sum() + (masked == 4).sum() + (masked == 7).sum() == len(masked)
    assert counts / counts.sum() == pytest.approx([1 / 20] * 20, abs=0.03)


def test_special_tokens_never_replace_a_word():
    tokenizer = build_tokenizer([["red", "dog", "runs"]])
    ordinary = ordinary_tokens(tokenizer)
    assert tokenizer.convert_ids_to_tokens(ordinary.tolist()) == ["dog", "red", "runs"]
    ids = np.full(5000, tokenizer.unk_token_id)
    mask = np.ones(len(ids), dtype=bool)
    generator = np.random.default_rng(0)
    after = corrupt_tokens(ids, mask, tokenizer.mask_token_id, ordinary, generator)
    allowed = {tokenizer.mask_token_id, tokenizer.unk_token_id, *ordinary.tolist()}
    assert set(after.tolist()) == allowed


def test_regions_are_hidden_replaced_or_kept_80_10_10():
    features = torch.arange(1.0, 10_001)[:, None].repeat(1, 2)
    mask = np.ones(len(features), dtype=bool)
    mask[:2000] = False
    others = -torch.arange(1.0, 6)[:, None].repeat(1, 2)
    after = corrupt_regions(
        features,
        mask,
        lambda generator: others[generator.integers(len(others))],
        np.random.default_rng(0),
    )
    assert features[:, 0].tolist() == list(range(1, 10_001))  # a copy
    assert torch.equal(after[:2000], features[:2000])
    assert torch.equal(after[:, 0], after[:, 1])
    masked, before = after[2000:, 0], features[2000:, 0]
    assert (masked == 0).float().mean().item() == pytest.approx(0.8, abs=0.02)
    assert (masked == before).float().mean().item() == pytest.approx(0.1, abs=0.02)
    assert (masked < 0).float().mean().item() == pytest.approx(0.1, abs=0.02)
    assert set(masked[masked < 0].tolist()) == {-1, -2, -3, -4, -5}
    assert after.dtype == features.dtype


def test_corruption_depends_on_its_generator_alone():
    ids, mask = np.arange(50), np.ones(50, dtype=bool)
    first, second, other = (
        corrupt_tokens(ids, mask, 99, np.arange(100, 110), np.random.default_rng(seed))
        for seed in (0, 0, 1)
    )
    assert first.tolist() == second.tolist() != other.tolist()


def test_corruption_says_what_does_not_fit():
    generator = np.random.default_rng(0)
    with pytest.raises(ValueError, match=r"a mask of shape \(2,\) for 3 tokens or regions"):
        corrupt_tokens([1, 2, 3], np.ones(2, dtype=bool), 4, np.arange(5), generator)
    with pytest.raises(ValueError, match=r"a mask of shape \(2,\) for 1 tokens or regions"):
        corrupt_regions(torch.ones(1, 4), np.ones(2, dtype=bool), torch.ones, generator)
    with pytest.raises(ValueError, match="no token to replace"):
        corrupt_tokens([1], np.ones(1, dtype=bool), 4, np.arange(0), generator)
