import math
from types import SimpleNamespace

import pytest
import torch
from torch.nn import functional as F

from tbkin.config import OptimConfig
from tbkin.objectives.distribution_matching import distribution_matching_loss, distribution_targets
from tbkin.objectives.mmref import (
    ReferenceBank,
    References,
    fusion_loss,
    guidance_loss,
    reference_contrast,
)
from tbkin.optimization import build_optimizer

ROWS = [{"identity": identity} for identity in (70, 3, 70, 12, 3, 55)]


class Tokenizer:
    """Eleven tokens, the first three special."""

    all_special_ids = (0, 1, 2)

    def __len__(self):
        return 11


def random_tensor(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def unit(*shape, seed=0):
    return F.normalize(random_tensor(*shape, seed=seed), dim=-1)


def test_contrast_worked_by_hand():
    # The feature lies along reference 0 and across reference 1: cosines 1 and 0, and with a
    # temperature of 1 / ln 3 the shares are 3/4 and 1/4. Lengths do not count.
    features, references = torch.tensor([[5.0, 0]]), torch.tensor([[1.0, 0], [0, 2]])
    for place, share in ((0, 3 / 4), (1, 1 / 4)):
        loss = reference_contrast(features, references, torch.tensor([place]), 1 / math.log(3))
        assert loss.item() == pytest.approx(-math.log(share))
    both = reference_contrast(
        features.repeat(2, 1), references, torch.tensor([0, 1]), 1 / math.log(3)
    )
    assert both.item() == pytest.approx((math.log(4 / 3) + math.log(4)) / 2)


@pytest.mark.parametrize("negatives", ["all", "batch"])
def test_contrast_agrees_with_the_slow_loop(negatives):
    features, references = random_tensor(6, 4).double(), random_tensor(9, 4, seed=1).double()
    places = torch.tensor([7, 2, 2, 0, 7, 5])
    others = range(9) if negatives == "all" else (0, 2, 5, 7)
    total = 0.0
    for feature, place in zip(features, places.tolist(), strict=True):
        sims = {j: (F.cosine_similarity(feature, references[j], dim=0) / 0.1).exp() for j in others}
        total -= (sims[place] / sum(sims.values())).log().item() / 6
    loss = reference_contrast(features, references, places, 0.1, negatives)
    assert loss.item() == pytest.approx(total, abs=1e-9)


def test_fusion_moves_references_only_and_guidance_features_only():
    features, references = unit(4, 3).requires_grad_(), unit(5, 3, seed=1).requires_grad_()
    places = torch.tensor([0, 3, 3, 1])
    fused = fusion_loss(features, references, places)
    fused.backward()
    assert features.grad is None
    assert references.grad.abs().sum() > 0
    references.grad = None
    guided = guidance_loss(features, references, places)
    guided.backward()
    assert references.grad is None
    assert features.grad.abs().sum() > 0
    assert guided.item() == fused.item()


def test_fusion_to_convergence_finds_the_object_of_each_reference():
    objects, each = 6, 8
    centres = unit(objects, 16, seed=3)
    places = torch.arange(objects).repeat(each)
    features = F.normalize(centres[places] + 0.3 * unit(objects * each, 16, seed=4), dim=1)
    torch.manual_seed(0)
    bank = ReferenceBank(objects, 16)

    def share_nearest_their_own():
        return (features @ bank.matrix().T).argmax(dim=1).eq(places).float().mean().item()

    assert share_nearest_their_own() < 0.5
    optimizer = torch.optim.Adam(bank.parameters(), lr=0.1)
    for _ in range(60):
        optimizer.zero_grad()
        fusion_loss(features, bank.matrix(), places).backward()
        optimizer.step()
    assert share_nearest_their_own() == 1
    means = torch.stack([features[places == one].mean(dim=0) for one in range(objects)])
    nearest = (bank.matrix() @ means.T).argmax(dim=1)
    assert nearest.tolist() == list(range(objects))


@pytest.mark.parametrize("tokens", [1, 3])
def test_the_bank_gives_unit_rows(tokens):
    bank = ReferenceBank(5, 4, tokens)
    places = torch.tensor([4, 0, 4])
    rows = bank(places)
    assert rows.shape == (3, tokens, 4)
    assert torch.allclose(rows.norm(dim=2), torch.ones(3, tokens))
    assert torch.equal(rows[0], rows[2])
    matrix = bank.matrix()
    assert torch.allclose(matrix.norm(dim=1), torch.ones(5))
    assert torch.allclose(matrix[places], F.normalize(rows.mean(dim=1), dim=1), atol=1e-6)


def bound(**settings):
    torch.manual_seed(0)
    settings = {"dim": 8, "token_dim": 6, "heads": 2, "mask_probability": 0.5} | settings
    objective = References(**settings)
    dataset = SimpleNamespace(rows=ROWS, processor=SimpleNamespace(tokenizer=Tokenizer()))
    objective.bind(dataset)
    return objective


def given(seed=0):
    image, text = unit(4, 8, seed=seed), unit(4, 8, seed=seed + 1)
    outputs = SimpleNamespace(
        image_embeds=image.requires_grad_(),
        text_embeds=text.requires_grad_(),
        scores=image @ text.T,
        text_token_embeds=random_tensor(4, 7, 6, seed=seed).requires_grad_(),
    )
    ids = torch.randint(3, 11, (4, 7), generator=torch.Generator().manual_seed(seed))
    batch = {
        "identities": torch.tensor([70, 3, 3, 55]),
        "input_ids": ids,
        "attention_mask": torch.ones(4, 7, dtype=torch.long),
    }
    return outputs, batch


def test_the_models_widths_hold_unless_others_are_named():
    outputs, batch = given()
    dataset = SimpleNamespace(rows=ROWS, processor=SimpleNamespace(tokenizer=Tokenizer()))
    for own, given_widths in (({}, (8, 6)), ({"dim": 8, "token_dim": 6}, (12, 16))):
        objective = References(heads=2, **own)
        objective.set_widths(*given_widths)
        objective.bind(dataset)
        assert objective.bank.matrix().shape == (4, 8)
        assert objective(outputs, batch).isfinite()
    with pytest.raises(ValueError, match=r"heads must divide dim=6, got 4"):
        References().set_widths(6, 8)
    References(word_weight=0.0).set_widths(6, 8)  # no heads where no words are restored
    for settings in ({}, {"dim": 8}):
        with pytest.raises(RuntimeError, match=r"references\.(token_)?dim is 0, .* set_widths\("):
            References(**settings).bind(dataset)


def test_the_terms_add_up_by_their_weights():
    outputs, batch = given()
    objective = bound(pair_weight=2.0, fuse_weight=3.0, guide_weight=5.0, word_weight=0.0)
    places = torch.tensor([3, 0, 0, 2] * 2)  # among 3, 12, 55, 70
    embeds = torch.cat([outputs.image_embeds, outputs.text_embeds])
    contrast = reference_contrast(embeds, objective.bank.matrix(), places)
    pairs = distribution_matching_loss(outputs.scores, distribution_targets(batch["identities"]))
    assert objective(outputs, batch).item() == pytest.approx((2 * pairs + 8 * contrast).item())

    objective = bound(pair_weight=0.0, fuse_weight=0.0, guide_weight=0.0, word_weight=7.0)
    objective.words.generator.manual_seed(5)
    total = objective(outputs, batch)
    objective.words.generator.manual_seed(5)
    words = objective.words(
        outputs.text_token_embeds,
        batch["input_ids"],
        batch["attention_mask"],
        objective.bank(places[:4]),
    )
    assert words.item() > 0.5
    assert total.item() == pytest.approx(7 * words.item())


def test_settings_reach_their_terms():
    outputs, batch = given()
    plain = {"word_weight": 0.0, "pair_weight": 0.0}
    base = bound(**plain)(outputs, batch).item()
    assert bound(**plain, temperature=0.5)(outputs, batch).item() != pytest.approx(base, abs=1e-3)
    assert bound(**plain, negatives="batch")(outputs, batch).item() < base
    pairs = {"word_weight": 0.0, "fuse_weight": 0.0, "guide_weight": 0.0}
    sharp, blunt = (bound(**pairs, scale=scale)(outputs, batch).item() for scale in (50.0, 1.0))
    assert sharp != pytest.approx(blunt, abs=1e-3)
    assert bound(tokens=3).bank(torch.tensor([0])).shape == (1, 3, 8)


def test_every_gradient_arrives():
    outputs, batch = given()
    objective = bound(tokens=2)
    objective(outputs, batch).backward()
    for name, parameter in objective.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
    for name in ("image_embeds", "text_embeds", "text_token_embeds"):
        assert getattr(outputs, name).grad.abs().sum() > 0, name


def test_what_is_hidden_depends_on_the_seed_alone():
    outputs, batch = given()
    words_only = {"pair_weight": 0.0, "fuse_weight": 0.0, "guide_weight": 0.0}
    first, again, other = (bound(**words_only, seed=seed) for seed in (1, 1, 2))
    other.load_state_dict(first.state_dict())
    torch.manual_seed(9)
    expected = first(outputs, batch).item()
    torch.manual_seed(10)
    assert again(outputs, batch).item() == expected
    assert other(outputs, batch).item() != expected
    assert first(outputs, batch).item() != expected  # the next step hides others


def test_the_order_of_the_batch_does_not_matter():
    outputs, batch = given()
    objective = bound(word_weight=0.0)
    order = torch.tensor([2, 0, 3, 1])
    mixed = SimpleNamespace(
        image_embeds=outputs.image_embeds[order],
        text_embeds=outputs.text_embeds[order],
        scores=outputs.scores[order][:, order],
    )
    loss = objective(mixed, {"identities": batch["identities"][order]})
    assert loss.item() == pytest.approx(objective(outputs, batch).item(), rel=1e-5)


@pytest.mark.parametrize("negatives", ["all", "batch"])
@pytest.mark.parametrize("count", [1, 4])
def test_one_pair_and_one_identity_are_finite(negatives, count):
    outputs, batch = given()
    rows = SimpleNamespace(
        image_embeds=outputs.image_embeds[:1].expand(count, -1),
        text_embeds=outputs.image_embeds[:1].expand(count, -1),
        scores=torch.ones(count, count),
        text_token_embeds=torch.zeros(count, 7, 6),
    )
    batch = {
        "identities": torch.full((count,), 12),
        "input_ids": batch["input_ids"][:count],
        "attention_mask": batch["attention_mask"][:count],
    }
    objective = bound(negatives=negatives)
    loss = objective(rows, batch)
    loss.backward()
    assert loss.isfinite()
    assert all(parameter.grad.isfinite().all() for parameter in objective.parameters())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_coarse_embeddings_are_compared_in_float32(dtype):
    outputs, batch = given()
    coarse = SimpleNamespace(
        image_embeds=outputs.image_embeds.to(dtype),
        text_embeds=outputs.text_embeds.to(dtype),
        scores=outputs.scores,
        text_token_embeds=outputs.text_token_embeds.to(dtype),
    )
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
        loss = bound()(coarse, batch)
    loss.backward()
    assert loss.isfinite()
    assert loss.item() == pytest.approx(bound()(outputs, batch).item(), rel=0.05)


def test_references_do_not_decay():
    # Their lengths would shrink for nothing; what the reconstruction multiplies with does decay.
    objective = bound()
    optimizer = build_optimizer([objective], OptimConfig(weight_decay=0.5))
    decayed, free = ({id(one) for one in group["params"]} for group in optimizer.param_groups)
    assert (optimizer.param_groups[0]["weight_decay"], len(decayed) > 0) == (0.5, True)
    assert id(objective.bank.vectors.weight) in free
    assert id(objective.words.reconstruction.tokens.weight) in decayed


def test_what_is_missing_is_named():
    outputs, batch = given()
    with pytest.raises(RuntimeError, match=r"objectives\.references .*bind\(dataset\)"):
        References(dim=8)(outputs, batch)
    with pytest.raises(ValueError, match=r"references\.dim is 4, .* 8; set .*references\.dim=8"):
        bound(dim=4)(outputs, batch)
    with pytest.raises(ValueError, match=r"references\.token_dim is 5, .* 6; set .*token_dim=6"):
        bound(token_dim=5)(outputs, batch)
    for name in ("image_embeds", "scores", "text_token_embeds"):
        less = SimpleNamespace(**{**vars(outputs), name: None})
        with pytest.raises(ValueError, match=f"references needs '{name}' of the model's outputs"):
            bound()(less, batch)
    for name in ("identities", "input_ids", "attention_mask"):
        less = {key: value for key, value in batch.items() if key != name}
        with pytest.raises(ValueError, match=f"references needs '{name}' in the batch"):
            bound()(outputs, less)
    less = {"identities": batch["identities"]}
    assert bound(word_weight=0.0)(outputs, less).isfinite()


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"temperature": 0}, r"references\.temperature must be above 0, got 0"),
        ({"negatives": "some"}, "negatives 'some'; choose from: all, batch"),
        ({"dim": 6, "heads": 4}, "heads must divide dim=6, got 4"),
        ({"mask_probability": 0}, r"mask_probability must be in \(0, 1\], got 0"),
        ({"tokens": 0}, "tokens must be 1 or more, got 0"),
        ({"heads": 0}, r"references\.heads must be 1 or more, got 0"),
        ({"dim": -1}, r"references\.dim must be 1 or more, or 0 for the model's, got -1"),
        ({"token_dim": -1}, r"references\.token_dim must be 1 or more, or 0 .*, got -1"),
        ({"scale": 0}, r"references\.scale must be above 0, got 0"),
        ({"guide_weight": -1.0}, r"references\.guide_weight must be >= 0, got -1"),
        ({"word_weight": math.nan}, r"references\.word_weight must be >= 0, got nan"),
    ],
)
def test_wrong_settings_are_named(settings, complaint):
    with pytest.raises(ValueError, match=complaint):
        References(**settings)
