import math
from types import SimpleNamespace

import pytest
import torch
from torch.nn import functional as F

from tbkin.objectives.momentum import KeyQueue, MomentumContrast, momentum_contrast_loss
from tbkin.objectives.similarity import positive_mask
from tests.objectives import cusa_reference

FIELDS = ("image_embeds", "text_embeds", "momentum_image_embeds", "momentum_text_embeds")


def random_outputs(size=3, width=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    rows = {name: F.normalize(torch.randn(size, width, generator=generator)) for name in FIELDS}
    return SimpleNamespace(**rows)


def of(**arguments):
    return MomentumContrast(**{"embed_size": 4, "queue_size": 5, "ramp_steps": 0, **arguments})


def test_worked_by_hand():
    # Pictures [1, 0] and [0, 1], captions likewise; keys are the captions' and pictures' swapped,
    # and a third of the queue, [1, 0]. Temperature 1 / ln 2: a cosine of 1 counts 2, of 0 counts 1.
    rows = torch.eye(2)
    keys = torch.cat([rows.flip(0), torch.tensor([[1.0, 0.0]])])
    positives = torch.tensor([[True, False, True], [False, True, False]])
    # Picture 0 sees keys 0, 1, 0 of cosines 0, 1, 1: softmax [1, 2, 2] / 5. Its momentum picture
    # is [0, 1], cosines 1, 0, 0: [2, 1, 1] / 4. Targets, alpha 0.4: shares [1/2, 0, 1/2].
    targets = [0.4 * 0.5 + 0.6 * 0.5, 0.4 * 0.25, 0.4 * 0.25 + 0.6 * 0.5]
    first = -targets[0] * math.log(1 / 5) - (targets[1] + targets[2]) * math.log(2 / 5)
    # Picture 1: cosines 1, 0, 0: [2, 1, 1] / 4; momentum [1, 0]: 0, 1, 1: [1, 2, 2] / 5.
    targets = [0.4 * 0.2, 0.4 * 0.4 + 0.6, 0.4 * 0.4]
    second = -targets[0] * math.log(2 / 4) - (targets[1] + targets[2]) * math.log(1 / 4)
    loss = momentum_contrast_loss(rows, rows, keys, keys, positives, 0.4, 1 / math.log(2))
    assert loss.item() == pytest.approx((first + second) / 2)


def test_both_directions_by_a_slow_loop():
    outputs, tau, alpha, ids = random_outputs(), 0.5, 0.3, [0, 1, 0]
    image, text, image_key, text_key = (getattr(outputs, name).tolist() for name in FIELDS)

    def softmax(query, keys):
        weights = [
            math.exp(sum(map(math.prod, zip(query, key, strict=True))) / tau) for key in keys
        ]
        return [weight / sum(weights) for weight in weights]

    expected = 0.0
    for queries, own, keys in ((image, image_key, text_key), (text, text_key, image_key)):
        for i in range(3):
            opinion, found = softmax(own[i], keys), softmax(queries[i], keys)
            for j in range(3):
                share = (ids[i] == ids[j]) / ids.count(ids[i])
                target = alpha * opinion[j] + (1 - alpha) * share
                expected -= target * math.log(found[j]) / 6
    objective = of(alpha=alpha, temperature=tau)
    loss = objective(outputs, {"identities": torch.tensor(ids)})
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_targets_and_keys_are_constants():
    outputs = random_outputs()
    for name in FIELDS:
        getattr(outputs, name).requires_grad_()
    objective = of()
    objective(outputs, {"identities": torch.arange(3)}).backward()
    assert outputs.image_embeds.grad.abs().sum() > 0
    assert outputs.text_embeds.grad.abs().sum() > 0
    assert outputs.momentum_image_embeds.grad is None
    assert outputs.momentum_text_embeds.grad is None
    assert objective.temperature.value.grad != 0


def test_past_keys_of_the_same_picture_are_right():
    outputs, ids = random_outputs(), torch.arange(3)
    losses = {}
    for past in (torch.arange(3), torch.arange(3) + 10):
        objective = of(alpha=0.0)
        objective(random_outputs(seed=1), {"identities": past})
        losses[int(past[0])] = objective(outputs, {"identities": ids}).item()
    queued = random_outputs(seed=1)
    images, texts = (
        torch.cat([getattr(one, f"momentum_{side}_embeds") for one in (outputs, queued)])
        for side in ("image", "text")
    )
    for offset, loss in losses.items():
        positives = positive_mask(ids, torch.cat([ids, ids + offset]))
        expected = momentum_contrast_loss(
            outputs.image_embeds, outputs.text_embeds, images, texts, positives, 0.0, 0.07
        )
        assert loss == pytest.approx(expected.item(), rel=1e-5)
    assert losses[0] != pytest.approx(losses[10], rel=1e-3)


def test_by_pairs_only_the_own_key_is_right():
    by_pair, by_identity = of(positives="pair"), of()
    for number in range(3):
        outputs = random_outputs(seed=number)
        distinct = {"identities": torch.arange(3) + 3 * number}
        assert by_pair(outputs, {}).item() == pytest.approx(by_identity(outputs, distinct).item())


def test_alpha_rises_with_the_steps_of_training():
    outputs, batch = random_outputs(), {"identities": torch.arange(3)}
    objective = of(queue_size=0, alpha=0.4, ramp_steps=4)

    def expected(alpha):
        embeds = [getattr(outputs, name) for name in FIELDS]
        return momentum_contrast_loss(*embeds, torch.eye(3).bool(), alpha, 0.07).item()

    losses = [objective(outputs, batch).item() for _ in range(6)]
    wanted = [expected(alpha) for alpha in (0.0, 0.1, 0.2, 0.3, 0.4, 0.4)]
    assert losses == pytest.approx(wanted, rel=1e-5)
    objective.eval()
    objective.steps.fill_(2)
    assert objective(outputs, batch).item() == pytest.approx(wanted[2], rel=1e-5)
    assert objective.steps == 2


@pytest.mark.parametrize("batches", [[2, 2, 2], [3, 1, 4], [5], [1] * 7, [12, 2], [7, 7]])
def test_the_queue_keeps_the_last_of_any_batches(batches):
    queue, everything, number = KeyQueue(5, 2), [], 0
    for size in batches:
        rows = torch.arange(number, number + size).float()[:, None].expand(-1, 2)
        queue.push(rows, -rows, rows[:, 0].long())
        everything += range(number, number + size)
        number += size
        images, texts, ids = queue.keys()
        assert sorted(ids.tolist()) == everything[-5:]
        assert images[:, 0].tolist() == ids.tolist()
        assert texts[:, 1].tolist() == [-one for one in ids.tolist()]


def test_a_queue_of_size_0_stays_empty():
    queue = KeyQueue(0, 2)
    queue.push(torch.zeros(3, 2), torch.zeros(3, 2), torch.arange(3))
    assert len(queue) == 0


def test_the_backward_pass_works_after_the_keys_joined_and_evaluation_leaves_the_queue():
    objective, batch = of(), {"identities": torch.arange(3)}
    for _ in range(4):
        outputs = random_outputs()
        outputs.image_embeds.requires_grad_()
        objective(outputs, batch).backward()
    assert len(objective.queue) == 5
    before = objective.queue.pushed.item()
    objective.eval()
    objective(random_outputs(), batch)
    assert objective.queue.pushed == before


def test_the_ramp_comes_back_from_a_checkpoint_and_the_queue_starts_empty():
    trained, fresh = of(ramp_steps=10), of(ramp_steps=10)
    batch = {"identities": torch.arange(3)}
    trained(random_outputs(), batch)
    fresh.load_state_dict(trained.state_dict())
    assert sum(value.numel() for value in trained.state_dict().values()) == 2  # ramp, temperature
    assert (len(trained.queue), len(fresh.queue)) == (3, 0)
    assert fresh.ramp() == trained.ramp() == 0.1
    fresh(random_outputs(seed=1), batch)
    assert sorted(fresh.queue.keys()[2].tolist()) == [0, 1, 2]


@pytest.mark.parametrize("size", [1, 3])
def test_one_pair_and_equal_rows_are_finite(size):
    rows = F.normalize(torch.ones(size, 4))
    outputs = SimpleNamespace(**dict.fromkeys(FIELDS, rows))
    objective = of()
    for _ in range(2):
        assert objective(outputs, {"identities": torch.zeros(size).long()}).isfinite()


def test_the_models_width_holds_unless_another_is_named():
    for own, given in ((0, 4), (4, 8)):
        objective = of(embed_size=own)
        objective.set_widths(given, 2)
        objective(random_outputs(), {"identities": torch.arange(3)})
        assert len(objective.queue) == 3
    with pytest.raises(RuntimeError, match=r"call set_widths\(embedding_size, token_size\)"):
        of(embed_size=0)(random_outputs(), {"identities": torch.arange(3)})


def test_what_is_missing_or_wrong_is_named():
    outputs, batch = random_outputs(), {"identities": torch.arange(3)}
    with pytest.raises(ValueError, match=r"objectives\.momentum_contrast needs 'identities' in"):
        of()(outputs, {})
    with pytest.raises(ValueError, match=r"set objectives\.momentum_contrast\.embed_size=4"):
        of(embed_size=8)(outputs, batch)
    del outputs.momentum_text_embeds
    with pytest.raises(ValueError, match=r"momentum_contrast needs 'momentum_text_embeds' of the"):
        of()(outputs, batch)
    with pytest.raises(ValueError, match=r"alpha must be in \[0, 1\], got 2"):
        of(alpha=2)
    with pytest.raises(ValueError, match=r"queue_size is a whole number >= 0, got 0\.5"):
        of(queue_size=0.5)
    with pytest.raises(ValueError, match=r"embed_size is a whole number >= 0, got -1"):
        of(embed_size=-1)
    with pytest.raises(ValueError, match=r"momentum_contrast\.positives 'all'; choose from: ident"):
        of(positives="all")


def test_agrees_with_the_reference():
    # The recipe's momentum rows: RandomState(11), two normal draws of (8, 16), rounded.
    numpy = pytest.importorskip("numpy")
    reference = cusa_reference.load()
    state = numpy.random.RandomState(11)
    keys = []
    for features in (reference.image, reference.text):
        moved = features.numpy() + 0.1 * state.standard_normal((8, 16))
        keys.append(F.normalize(torch.from_numpy(numpy.round(moved, 6))))
    queries = F.normalize(reference.image), F.normalize(reference.text)
    loss = momentum_contrast_loss(*queries, *keys, positive_mask(reference.ids), 0.4, 0.07)
    expected = reference.expected["momentum_itc_alpha_0.4_tau_0.07"]
    assert loss.item() == cusa_reference.near(expected["mean"])
