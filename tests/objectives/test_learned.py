from types import SimpleNamespace

import pytest
import torch

from tbkin.objectives import TotalLoss
from tbkin.objectives.learned import LEARNED, Learned, read_learned, save_learned, take_over


def bound(settings, identities=(3, 12, 70), width=4):
    torch.manual_seed(0)
    total = TotalLoss(settings)
    rows = [{"identity": identity} for identity in identities]
    total.bind(SimpleNamespace(rows=rows), width, 6)
    return total


def moved(total):
    """Every parameter a tenth further on."""
    with torch.no_grad():
        for parameter in total.parameters():
            parameter += 0.1
    return total


def through_a_file(total, folder):
    assert save_learned(total.objectives, total.settings, folder)
    return read_learned(folder)


def on(total, learned):
    return take_over(total.objectives, total.settings, learned)


SETTINGS = {"contrastive": {}, "identity": {"weight": 2.0}, "uni_modal_soft_label": {}}


def test_everything_goes_on_where_everything_is_the_same(tmp_path):
    before = moved(bound(SETTINGS))
    after = bound(SETTINGS | {"contrastive": {"weight": 3}})  # weights are no business of theirs
    found = on(after, through_a_file(before, tmp_path))
    assert found.anew == {}
    assert "contrastive.temperature.value" in found.taken
    assert str(found).startswith("taken over: contrastive.temperature.value, identity.classifier.")
    for (name, one), other in zip(after.named_parameters(), before.parameters(), strict=True):
        assert torch.equal(one, other), name


def test_what_is_fixed_starts_as_the_run_says(tmp_path):
    before = bound({"cross_modal_soft_label": {"teacher_temperature": 0.5}})
    after = bound({"cross_modal_soft_label": {}})
    on(after, through_a_file(before, tmp_path))
    assert after.objectives["cross_modal_soft_label"].teacher_temperature.value == 1.0


@pytest.mark.parametrize(
    ("settings", "now", "data", "why"),
    [
        ({"contrastive": {}}, {"contrastive": {"temperature": 0.03}}, {}, "set otherwise"),
        # The same number would mean its logarithm.
        (
            {"contrastive": {}},
            {"contrastive": {"temperature_form": "log_scale"}},
            {},
            "set otherwise",
        ),
        (
            {"identity": {}},
            {"identity": {}},
            {"identities": (3, 12, 71)},
            "the data have other objects",
        ),
        (
            {"identity": {}},
            {"identity": {}},
            {"identities": (3, 12)},
            "the data have other objects",
        ),
        ({"identity": {}}, {"identity": {}}, {"width": 5}, "of another shape"),
        ({"identity": {}}, {"contrastive": {}}, {}, "not in the checkpoint"),
    ],
)
def test_what_does_not_fit_starts_anew(tmp_path, settings, now, data, why):
    before = moved(bound(settings))
    after, untouched = bound(now, **data), bound(now, **data)
    found = on(after, through_a_file(before, tmp_path))
    assert found.taken == []
    assert set(found.anew.values()) == {why}
    assert str(found).startswith(f"taken over: nothing; anew, {why}: ")
    for one, other in zip(after.parameters(), untouched.parameters(), strict=True):
        assert torch.equal(one, other)


def test_the_same_setting_in_both_runs_goes_on(tmp_path):
    settings = {"contrastive": {"temperature": 0.04}}
    found = on(bound(settings), through_a_file(moved(bound(settings)), tmp_path))
    assert found.taken == ["contrastive.temperature.value"]


@pytest.mark.parametrize(
    ("objective", "written"),
    [
        ("contrastive", {"temperature": 0.05, "temperature_range": [0.01, 0.10]}),
        ("uni_modal_soft_label", {"temperature": [0.45, 0.45]}),
    ],
)
def test_a_default_that_is_written_out_is_the_same_setting(tmp_path, objective, written):
    for before, after in (({}, written), (written, {})):
        learned = through_a_file(moved(bound({objective: before})), tmp_path)
        now = bound({objective: after})
        assert on(now, learned).taken == [f"{objective}.temperature.value"]
        for name, one in now.named_parameters():
            assert torch.equal(one, learned.tensors[name.removeprefix("objectives.")])


def test_nothing_learned_leaves_no_file(tmp_path):
    total = bound({"answer": {}})
    assert not save_learned(total.objectives, total.settings, tmp_path)
    assert not (tmp_path / LEARNED).exists()
    assert read_learned(tmp_path) == Learned({}, {})
