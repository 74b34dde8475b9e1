import math

import pytest
import torch

from tbkin.objectives.masked import NOT_MASKED
from tbkin.objectives.reference_words import (
    ReferenceReconstruction,
    WordReconstruction,
    hide_words,
    sinusoidal_places,
)


def random_tensor(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def reconstruction():
    torch.manual_seed(0)
    return ReferenceReconstruction(vocabulary=7, dim=8, token_dim=6, heads=2)


def test_shares_of_what_is_hidden():
    embeds = torch.arange(1, 40_001).float().reshape(1000, 40, 1)
    words = torch.ones(1000, 40, dtype=torch.bool)
    words[:, 30:] = False  # padding
    mask_embed = torch.tensor([-5.0])
    shown, chosen = hide_words(embeds, words, mask_embed, 0.15, generator())
    assert not chosen[:, 30:].any()
    assert torch.equal(shown[~chosen], embeds[~chosen])
    count = chosen.sum().item()
    assert count / words.sum().item() == pytest.approx(0.15, abs=0.01)
    after = shown[chosen][:, 0]
    hidden, kept = (after == -5).float().mean(), (after == embeds[chosen][:, 0]).float().mean()
    assert hidden.item() == pytest.approx(0.8, abs=0.02)
    assert kept.item() == pytest.approx(0.1, abs=0.02)
    swapped = after[(after != -5) & (after != embeds[chosen][:, 0])].long() - 1
    assert words.flatten()[swapped].all()  # never by padding
    assert len(swapped.unique()) > 0.9 * len(swapped)


def test_the_generator_decides():
    given = random_tensor(3, 9, 4), torch.ones(3, 9, dtype=torch.bool), torch.zeros(4), 0.5
    first, again, other = (hide_words(*given, generator(seed)) for seed in (1, 1, 2))
    assert torch.equal(first[0], again[0])
    assert not torch.equal(first[1], other[1])


def test_no_words_hide_nothing():
    embeds = random_tensor(2, 3, 4)
    nothing = torch.zeros(2, 3, dtype=torch.bool)
    shown, chosen = hide_words(embeds, nothing, torch.zeros(4), 1.0, generator())
    assert torch.equal(shown, embeds)
    assert not chosen.any()


def test_places_worked_by_hand():
    places = sinusoidal_places(torch.zeros(1, 3, 4))
    assert places[0].tolist() == [0, 0, 1, 1]
    expected = [math.sin(2), math.sin(2 / 100), math.cos(2), math.cos(2 / 100)]
    assert places[2].tolist() == pytest.approx(expected)
    assert sinusoidal_places(torch.zeros(1, 3, 5)).shape == (3, 5)


def test_places_are_as_exact_in_half_precision():
    coarse = sinusoidal_places(torch.zeros(1, 400, 4, dtype=torch.bfloat16))
    assert torch.equal(coarse, sinusoidal_places(torch.zeros(1, 400, 4)))
    assert coarse[399, 0].item() == pytest.approx(math.sin(399), abs=1e-4)  # bfloat16: 400
    exact = sinusoidal_places(torch.zeros(1, 400, 4, dtype=torch.float64))
    assert exact[399, 0].item() == pytest.approx(math.sin(399), abs=1e-12)


def test_states_keep_their_dtype(reconstruction):
    tokens, mask, references, labels = given_words()
    coarse = reconstruction.bfloat16()
    loss = coarse(tokens.bfloat16(), mask, references.bfloat16(), labels)
    assert loss.isfinite()


def given_words(seed=0):
    tokens, references = random_tensor(2, 5, 6, seed=seed), random_tensor(2, 3, 8, seed=seed + 1)
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])
    labels = torch.tensor([[-100, 3, -100, 6, -100], [-100, 0, -100, -100, -100]])
    return tokens, mask, references, labels


def test_the_cost_is_the_mean_over_labelled_tokens(reconstruction):
    tokens, mask, references, labels = given_words()
    total = reconstruction(tokens, mask, references, labels)
    alone = []
    for row, place in labels.ne(NOT_MASKED).nonzero().tolist():
        one = torch.full_like(labels, NOT_MASKED)
        one[row, place] = labels[row, place]
        alone.append(reconstruction(tokens, mask, references, one).item())
    assert total.item() == pytest.approx(sum(alone) / 3, abs=1e-6)
    assert all(0.5 < cost < 8 for cost in alone)  # near ln 7 before training


def test_padding_and_the_captions_beside_it_do_not_matter(reconstruction):
    tokens, mask, references, labels = given_words()
    other = torch.where(mask.bool()[..., None], tokens, torch.tensor(9.0))
    cost = reconstruction(tokens, mask, references, labels)
    assert reconstruction(other, mask, references, labels).item() == pytest.approx(cost.item())
    second = reconstruction(tokens[1:, :3], mask[1:, :3], references[1:], labels[1:, :3])
    labels[0] = NOT_MASKED
    both = reconstruction(tokens, mask, references, labels)
    assert both.item() == pytest.approx(second.item(), abs=1e-6)


def test_neighbours_their_order_and_the_reference_matter(reconstruction):
    tokens, mask, references, labels = given_words()
    cost = reconstruction(tokens, mask, references, labels).item()
    other = tokens.clone()
    other[0, 4] = 2  # a word beside the hidden ones
    assert abs(reconstruction(other, mask, references, labels).item() - cost) > 1e-4
    swapped = tokens[:, [4, 1, 2, 3, 0]]
    assert abs(reconstruction(swapped, mask, references, labels).item() - cost) > 1e-4
    assert abs(reconstruction(tokens, mask, references.flip(0), labels).item() - cost) > 1e-4
    # The tokens of a reference have no order.
    turned = reconstruction(tokens, mask, references[:, [2, 0, 1]], labels)
    assert turned.item() == pytest.approx(cost, abs=1e-6)


def test_gradient_reaches_tokens_references_and_every_parameter(reconstruction):
    tokens, mask, references, labels = given_words()
    tokens.requires_grad_()
    references.requires_grad_()
    reconstruction(tokens, mask, references, labels).backward()
    assert tokens.grad[mask.bool()].abs().sum() > 0
    assert tokens.grad[~mask.bool()].abs().max() == 0
    assert (references.grad.abs().sum(dim=(1, 2)) > 0).all()
    for name, parameter in reconstruction.named_parameters():
        assert parameter.grad is not None, name


def test_nothing_to_restore_gives_0_and_a_gradient_of_0(reconstruction):
    tokens, mask, references, labels = given_words()
    references.requires_grad_()
    mask[1] = 0  # a caption of padding alone
    cost = reconstruction(tokens, mask, references, torch.full_like(labels, NOT_MASKED))
    cost.backward()
    assert cost.item() == 0
    assert references.grad.abs().max() == 0


def test_special_tokens_are_never_hidden():
    torch.manual_seed(0)
    words = WordReconstruction(7, [0, 2], dim=8, token_dim=6, heads=2, mask_probability=1.0)
    seen = []
    words.reconstruction.forward = lambda *given: seen.append(given) or torch.zeros(())
    ids = torch.tensor([[2, 3, 5, 2], [2, 4, 0, 0]])
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]])
    references = random_tensor(2, 1, 8)
    words(random_tensor(2, 4, 6), ids, mask, references)
    ((_, given_mask, given_references, labels),) = seen
    assert labels.tolist() == [[-100, 3, 5, -100], [-100, 4, -100, -100]]
    assert torch.equal(given_mask, mask)
    assert given_references is references


def test_the_reference_learns_which_word_is_hidden():
    # Each caption is start, one word, end, and the word is hidden: only its reference can tell.
    torch.manual_seed(0)
    words = WordReconstruction(6, [0, 1], dim=8, token_dim=4, heads=2, mask_probability=1.0)
    ids = torch.tensor([[0, word, 1] for word in (2, 3, 4, 5)])
    embeds, mask = random_tensor(6, 4)[ids], torch.ones(4, 3)
    references = torch.nn.Parameter(0.1 * random_tensor(4, 1, 8))

    def trained(learned):
        optimizer = torch.optim.Adam([*words.parameters(), *learned], lr=0.05)
        for _ in range(50):
            shown = embeds.clone()
            shown[:, 1] = 0
            optimizer.zero_grad()
            words.reconstruction(
                shown, mask, references, ids.masked_fill(ids < 2, NOT_MASKED)
            ).backward()
            optimizer.step()
        labels = ids.masked_fill(ids < 2, NOT_MASKED)
        return words.reconstruction(shown, mask, references, labels).item()

    references.data = references.data[:1].repeat(4, 1, 1)
    assert trained([]) == pytest.approx(math.log(4), abs=0.05)  # one reference for all: a guess
    references.data = 0.1 * random_tensor(4, 1, 8)
    assert trained([references]) < 0.1


def test_captions_of_other_processes_are_refused():
    words = WordReconstruction(7, [0], dim=8, token_dim=6, heads=2)
    with pytest.raises(ValueError, match=r"identities are those of 4 captions, .* of 2, input_ids"):
        words(
            random_tensor(2, 3, 6), torch.ones(2, 3).long(), torch.ones(2, 3), torch.zeros(4, 1, 8)
        )
