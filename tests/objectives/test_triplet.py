import math
from types import SimpleNamespace

import pytest
import torch

from tbkin.objectives.similarity import positive_mask
from tbkin.objectives.triplet import Triplet, triplet_loss
from tests.objectives import cusa_reference

SCORES = torch.tensor(
    [
        [0.5, 0.6, 0.4],
        [0.1, 0.9, 0.8],
        [0.7, 0.2, 0.3],
    ]
)
PAIRS = torch.eye(3, dtype=torch.bool)


def test_worked_by_hand():
    # Margin 0.2. Pictures: row 0 has 0.6 + 0.2 - 0.5 = 0.3 and 0.1; row 1 none (-0.6) and 0.1;
    # row 2 has 0.6 and 0.1. Captions: column 0 has none (-0.2) and 0.4; column 1 none (-0.1, -0.5);
    # column 2 has 0.3 and 0.7.
    every = (0.3 + 0.1) + 0.1 + (0.6 + 0.1) + 0.4 + (0.3 + 0.7)
    worst = 0.3 + 0.1 + 0.6 + 0.4 + 0.7
    assert triplet_loss(SCORES, PAIRS, mining="all").item() == pytest.approx(every)
    assert triplet_loss(SCORES, PAIRS, mining="hardest").item() == pytest.approx(worst)
    assert triplet_loss(SCORES, PAIRS, 0.2, "all", "mean").item() == pytest.approx(every / 3)


def test_pairs_of_one_identity_are_no_wrong_ones():
    # Pictures 0 and 2 are the same: of the above, (0, 2) and (2, 0) count in no row or column.
    outputs = SimpleNamespace(scores=SCORES)
    batch = {"identities": torch.tensor([7, 8, 7])}
    every = 0.3 + 0.1 + 0.1 + 0.7
    worst = 0.3 + 0.1 + 0.1 + 0.7
    assert Triplet(mining="all")(outputs, batch).item() == pytest.approx(every)
    assert Triplet()(outputs, batch).item() == pytest.approx(worst)
    by_pair = Triplet(positives="pair")(outputs, batch)
    assert by_pair.item() == pytest.approx(triplet_loss(SCORES, PAIRS).item())


def test_the_right_pair_is_never_wrong():
    nobody = torch.zeros(3, 3, dtype=torch.bool)
    for mining in ("all", "hardest"):
        loss = triplet_loss(SCORES, nobody, mining=mining).item()
        assert loss == pytest.approx(triplet_loss(SCORES, PAIRS, mining=mining).item())


def test_warm_up_epochs_count_all_wrong_ones():
    outputs, batch = SimpleNamespace(scores=SCORES), {"identities": torch.arange(3)}
    objective = Triplet(warmup_epochs=2)
    losses = []
    for epoch in range(4):
        objective.set_epoch(epoch)
        losses.append(objective(outputs, batch).item())
    every, worst = (triplet_loss(SCORES, PAIRS, mining=how).item() for how in ("all", "hardest"))
    assert losses == pytest.approx([every, every, worst, worst])


def test_the_gradient_is_that_of_the_hardest_only():
    scores = SCORES.clone().requires_grad_()
    triplet_loss(scores, PAIRS).backward()
    # Wrong pairs that cost: (0, 1), (1, 2), (2, 0) of the rows; (2, 0) and (1, 2) of the columns.
    assert scores.grad.tolist() == [[-2, 1, 0], [0, -1, 2], [2, 0, -2]]


@pytest.mark.parametrize("mining", ["all", "hardest"])
@pytest.mark.parametrize("size", [1, 3])
def test_one_pair_and_equal_identities_cost_nothing(mining, size):
    scores = torch.ones(size, size, requires_grad=True)
    loss = Triplet(mining=mining)(
        SimpleNamespace(scores=scores), {"identities": torch.zeros(size).long()}
    )
    loss.backward()
    assert loss.item() == 0
    assert (scores.grad == 0).all()


def test_equal_scores_are_the_plateau():
    # Every hinge is the margin: 2 B margin for the hardest, (B - 1) times as much for all.
    scores, pairs = torch.ones(4, 4), torch.eye(4).bool()
    assert triplet_loss(scores, pairs).item() == pytest.approx(2 * 4 * 0.2)
    assert triplet_loss(scores, pairs, mining="all").item() == pytest.approx(2 * 4 * 0.2 * 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"margin": -0.1}, r"objectives\.triplet\.margin must be >= 0, got -0\.1"),
        ({"margin": math.nan}, r"objectives\.triplet\.margin must be >= 0, got nan"),
        ({"mining": "max"}, r"objectives\.triplet\.mining 'max'; choose from: all, hardest"),
        ({"positives": "x"}, r"objectives\.triplet\.positives 'x'; choose from: identity, pair"),
        ({"reduction": "x"}, r"objectives\.triplet\.reduction 'x'; choose from: mean, sum"),
        ({"warmup_epochs": 0.5}, r"objectives\.triplet\.warmup_epochs is a whole number >= 0"),
    ],
)
def test_wrong_settings_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        Triplet(**arguments)


def test_wrong_batches_are_named():
    with pytest.raises(ValueError, match=r"objectives\.triplet needs 'identities'"):
        Triplet()(SimpleNamespace(scores=SCORES), {})
    with pytest.raises(ValueError, match=r"as many captions as pictures.*\(2, 3\)"):
        triplet_loss(SCORES[:2], PAIRS[:2])


def test_agrees_with_vses_code():
    reference = cusa_reference.load()
    expected = reference.expected["triplet_margin_0.2"]
    near, scores, pairs = cusa_reference.near, reference.scores, torch.eye(8).bool()
    same = positive_mask(reference.ids)
    for mining, name, same_id in (
        ("all", "diag_mask_sum_of_hinges", 2.895419),
        ("hardest", "diag_mask_max_violation", 1.627631),
    ):
        total = triplet_loss(scores, pairs, 0.2, mining).item()
        assert total == near(expected[name]["total_sum"])
        mean = triplet_loss(scores, pairs, 0.2, mining, "mean").item()
        assert mean == near(expected[name]["total_mean_per_sample"])
        # The specification's table, six decimals.
        assert triplet_loss(scores, same, 0.2, mining).item() == pytest.approx(same_id, abs=1e-6)
