import math
from types import SimpleNamespace

import pytest
import torch

from tbkin.objectives.identity import Identity, identity_loss, known_identities, places_of

ROWS = [{"identity": identity} for identity in (70, 3, 70, 12, 3)]


def bound(dim=2):
    objective = Identity(dim)
    objective.bind(SimpleNamespace(rows=ROWS))
    return objective


def outputs_of(image, text):
    return SimpleNamespace(image_embeds=torch.tensor(image), text_embeds=torch.tensor(text))


def test_worked_by_hand():
    # softmax([0, ln 3]) = [1/4, 3/4]: the picture says 1 rightly, the caption 1 wrongly.
    sure = torch.tensor([[0.0, math.log(3.0)]])
    right, wrong = torch.tensor([1]), torch.tensor([0])
    assert identity_loss(sure, sure, right).item() == pytest.approx(math.log(4 / 3))
    assert identity_loss(sure, sure, wrong).item() == pytest.approx(math.log(4))
    even = torch.zeros(1, 2)
    mixed = identity_loss(even, sure, wrong).item()
    assert mixed == pytest.approx((math.log(2) + math.log(4)) / 2)


def test_identities_have_places():
    known = known_identities(ROWS)
    assert known.tolist() == [3, 12, 70]
    assert places_of(torch.tensor([70, 3, 12, 70]), known).tolist() == [2, 0, 1, 2]
    for stranger in (-1, 11, 71):
        with pytest.raises(LookupError, match=f"identity {stranger} is none of the 3"):
            places_of(torch.tensor([3, stranger]), known)


def test_one_layer_reads_both_sides():
    objective = bound()
    assert objective.classifier.weight.shape == (3, 2)
    assert objective.classifier.bias is None
    objective.classifier.weight.data = torch.tensor([[math.log(3.0), 0], [0, 0], [0, 0]])
    batch = {"identities": torch.tensor([3])}
    loss = objective(outputs_of([[1.0, 0]], [[0.0, 1]]), batch)
    # Picture: softmax([ln 3, 0, 0]) = [3/5, 1/5, 1/5]; caption: all thirds.
    assert loss.item() == pytest.approx((math.log(5 / 3) + math.log(3)) / 2)
    batch = {"identities": torch.tensor([70])}
    loss = objective(outputs_of([[0.0, 1]], [[1.0, 0]]), batch)
    assert loss.item() == pytest.approx((math.log(3) + math.log(5)) / 2)


def test_it_learns_to_tell_them_apart():
    objective = bound()
    outputs = outputs_of([[1.0, 0], [0.0, 1]], [[0.9, 0.1], [0.1, 0.9]])
    batch = {"identities": torch.tensor([3, 12])}
    optimizer = torch.optim.SGD(objective.parameters(), lr=5.0)
    losses = []
    for _ in range(50):
        loss = objective(outputs, batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] == pytest.approx(math.log(3), abs=0.01)
    assert losses[-1] < 0.1


def test_the_models_width_holds_unless_another_is_named():
    outputs = outputs_of([[1.0, 0, 0]], [[0.0, 1, 0]])
    for own, given in ((0, 3), (3, 7)):
        objective = Identity(own)
        objective.set_widths(given, 5)
        objective.bind(SimpleNamespace(rows=ROWS))
        assert objective.classifier.weight.shape == (3, 3)
        assert objective(outputs, {"identities": torch.tensor([3])}).isfinite()
    with pytest.raises(RuntimeError, match=r"objectives\.identity\.dim is 0, .* set_widths\("):
        bound(0)


def test_what_is_missing_is_named():
    outputs, batch = outputs_of([[1.0, 0]], [[0.0, 1]]), {"identities": torch.tensor([3])}
    with pytest.raises(RuntimeError, match=r"objectives\.identity .*bind\(dataset\)"):
        Identity(2)(outputs, batch)
    with pytest.raises(ValueError, match=r"objectives\.identity\.dim is 5, .* have 2; set .*dim=2"):
        bound(5)(outputs, batch)
    with pytest.raises(ValueError, match="identity needs 'text_embeds'"):
        bound()(SimpleNamespace(image_embeds=outputs.image_embeds), batch)
    with pytest.raises(ValueError, match="identity needs 'identities'"):
        bound()(outputs, {})
