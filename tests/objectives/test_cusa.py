import math
from types import SimpleNamespace

import pytest
import torch
from torch.nn import functional as F

from tbkin.objectives.contrastive import Contrastive
from tbkin.objectives.cusa import (
    CrossModalSoftLabel,
    UniModalSoftLabel,
    cross_modal_soft_label_loss,
    soft_label_loss,
    uni_modal_soft_label_loss,
)
from tests.objectives import cusa_reference


@pytest.fixture
def float64():
    """Temperatures that are made meanwhile are float64, as CUSA's numbers."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def random_batch(size=5, dtype=torch.float64):
    """Outputs of a model and a batch with two teachers, whose cosines are cosines."""
    generator = torch.Generator().manual_seed(0)
    image, text, image_teacher, text_teacher = (
        F.normalize(torch.randn(size, 6, generator=generator, dtype=dtype)) for _ in range(4)
    )
    outputs = SimpleNamespace(scores=image @ text.T, image_uni_embeds=image, text_uni_embeds=text)
    batch = {
        "image_teacher_scores": image_teacher @ image_teacher.T,
        "text_teacher_scores": text_teacher @ text_teacher.T,
    }
    return outputs, batch


def test_two_candidates_worked_by_hand():
    # Teacher: softmax([ln 3, 0]) = [3/4, 1/4]. Student: softmax([0, 0]) = [1/2, 1/2].
    teacher, student = torch.tensor([[math.log(3.0), 0.0]]), torch.zeros(1, 2)
    entropy = 0.75 * math.log(4 / 3) + 0.25 * math.log(4)
    kl = soft_label_loss(student, teacher).item()
    assert kl == pytest.approx(0.75 * math.log(1.5) + 0.25 * math.log(0.5))
    cross_entropy = soft_label_loss(student, teacher, "contrastive").item()
    assert cross_entropy == pytest.approx(math.log(2))
    assert cross_entropy == pytest.approx(kl + entropy)
    mean = soft_label_loss(student, teacher, "contrastive", "mean").item()
    assert mean == pytest.approx(math.log(2) / 2)


def test_each_direction_follows_its_own_teacher():
    scores = torch.tensor([[4.0, 0.0], [0.0, 4.0]])
    agrees, disagrees = scores, scores.flip(1)
    objective = CrossModalSoftLabel(
        temperature=1.0, temperature_range=[0.1, 1], teacher_temperature=1.0
    )

    def loss(image_teacher_scores, text_teacher_scores):
        batch = {
            "image_teacher_scores": image_teacher_scores,
            "text_teacher_scores": text_teacher_scores,
        }
        return objective(SimpleNamespace(scores=scores), batch).item()

    assert loss(agrees, agrees) == pytest.approx(0.0, abs=1e-6)
    assert loss(disagrees, agrees) == pytest.approx(loss(agrees, disagrees))
    assert loss(disagrees, disagrees) == pytest.approx(2 * loss(disagrees, agrees))


def test_text_to_image_goes_by_the_transposed_scores_and_its_own_temperatures():
    outputs, batch = random_batch()
    objective = CrossModalSoftLabel(
        temperature=[0.4, 0.6], teacher_temperature=[0.9, 0.3], learn_temperature=False
    )
    image_teacher, text_teacher = batch["image_teacher_scores"], batch["text_teacher_scores"]
    expected = 0.0
    for scores, teacher, tau, teacher_tau in (
        (outputs.scores, image_teacher, 0.4, 0.9),
        (outputs.scores.T, text_teacher, 0.6, 0.3),
    ):
        for i in range(5):
            q = [math.exp(teacher[i, j] / teacher_tau) for j in range(5)]
            p = [math.exp(scores[i, j] / tau) for j in range(5)]
            for j in range(5):
                share = q[j] / sum(q)
                expected += share * math.log(share / (p[j] / sum(p))) / 10
    assert objective(outputs, batch).item() == pytest.approx(expected, abs=1e-6)


def test_modes_worked_by_hand():
    # At row 0 the teachers say 0.8 and 0.2, or -0.8 and 0.2: the mean is 0.5 or -0.3, the root of
    # the product 0.4 or, what is negative counting as 0, 0.
    one, scores = torch.ones(2, 2), torch.zeros(2, 2)
    text = one * 0.2 + 0.8 * torch.eye(2)
    for likeness, add, dot in ((0.8, 0.5, 0.4), (-0.8, -0.3, 0.0)):
        image = one * likeness + (1 - likeness) * torch.eye(2)
        for mode, joined in (("add", add), ("dot", dot)):
            target = one * joined + (1 - joined) * torch.eye(2)
            found = cross_modal_soft_label_loss(scores, image, text, mode=mode).item()
            assert found == pytest.approx(soft_label_loss(scores, target).item())
    each = cross_modal_soft_label_loss(scores, image, text).item()
    of_each = (soft_label_loss(scores, image) + soft_label_loss(scores, text)).item() / 2
    assert each == pytest.approx(of_each)


def test_uni_modal_is_0_where_the_model_is_as_its_teachers():
    outputs, batch = random_batch()
    image, text = outputs.image_uni_embeds, outputs.text_uni_embeds
    teachers = {"image_teacher_scores": image @ image.T, "text_teacher_scores": text @ text.T}
    objective = UniModalSoftLabel(temperature=0.5, teacher_temperature=0.5)
    assert objective(outputs, teachers).item() == pytest.approx(0, abs=1e-7)
    assert objective(outputs, batch).item() > 0.01
    swapped = {
        "image_teacher_scores": teachers["text_teacher_scores"],
        "text_teacher_scores": teachers["image_teacher_scores"],
    }
    assert objective(outputs, swapped).item() > 0.01


def test_uni_modal_keeps_the_diagonal():
    # Rows at right angles: cosines [1, 0]; the teacher finds both the same: [1, 1].
    rows = torch.eye(2)
    batch = dict.fromkeys(("image_teacher_scores", "text_teacher_scores"), torch.ones(2, 2))
    outputs = SimpleNamespace(image_uni_embeds=rows, text_uni_embeds=rows)
    loss = UniModalSoftLabel(temperature=1.0)(outputs, batch)
    share = math.e / (math.e + 1)
    assert loss.item() == pytest.approx(-math.log(2) - math.log(share * (1 - share)) / 2)


@pytest.mark.parametrize("objective", [CrossModalSoftLabel, UniModalSoftLabel])
def test_teachers_get_no_gradient_their_temperature_may(objective):
    outputs, batch = random_batch()
    for teacher in batch.values():
        teacher.requires_grad_()
    fixed, learned = objective(), objective(learn_teacher_temperature=True)
    for one in (fixed, learned):
        one(outputs, batch).backward()
    assert all(teacher.grad is None for teacher in batch.values())
    assert [name for name, _ in fixed.named_parameters()] == ["temperature.value"]
    assert learned.teacher_temperature.value.grad.abs() > 1e-4


def test_gradients_of_all_temperatures_are_those_of_finite_differences():
    outputs, batch = random_batch()
    numbers = torch.tensor([0.45, 0.48, 0.95, 0.30], dtype=torch.float64, requires_grad=True)
    image, text = outputs.image_uni_embeds @ outputs.image_uni_embeds.T, outputs.scores

    def cross(student, other_student, teacher, other_teacher):
        taus = (student, other_student), (teacher, other_teacher)
        return cross_modal_soft_label_loss(outputs.scores, *batch.values(), *taus)

    def uni(student, other_student, teacher, other_teacher):
        taus = (student, other_student), (teacher, other_teacher)
        return uni_modal_soft_label_loss(image, text, *batch.values(), *taus)

    assert torch.autograd.gradcheck(cross, tuple(numbers))
    assert torch.autograd.gradcheck(uni, tuple(numbers))


def test_kinds_have_the_same_gradient_while_the_teachers_temperature_is_fixed():
    outputs, batch = random_batch()
    gradients = []
    for kind in ("kl", "contrastive"):
        scores = outputs.scores.clone().requires_grad_()
        cross_modal_soft_label_loss(scores, *batch.values(), kind=kind).backward()
        gradients.append(scores.grad)
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("mode", ["each", "add", "dot"])
@pytest.mark.parametrize("size", [1, 3])
def test_one_pair_and_equal_rows_are_finite(mode, size):
    rows = F.normalize(torch.ones(size, 4), dim=1).requires_grad_()
    teachers = torch.ones(size, size)
    outputs = SimpleNamespace(scores=rows @ rows.T, image_uni_embeds=rows, text_uni_embeds=rows)
    batch = {"image_teacher_scores": teachers, "text_teacher_scores": teachers}
    loss = CrossModalSoftLabel(mode=mode)(outputs, batch) + UniModalSoftLabel()(outputs, batch)
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-6)
    assert rows.grad.isfinite().all()


@pytest.mark.parametrize("value", [0.0, math.nan])
def test_a_picture_without_sound_teacher_features_is_an_error(value):
    outputs, batch = random_batch()
    batch["image_teacher_scores"][3] = value
    for objective in (CrossModalSoftLabel(), UniModalSoftLabel()):
        with pytest.raises(ValueError, match=r"image_teacher_scores, row 3 is all 0 or not a num"):
            objective(outputs, batch)


def test_missing_fields_are_named():
    outputs, batch = random_batch()
    del batch["text_teacher_scores"]
    for objective, name in (
        (CrossModalSoftLabel(), "cross_modal_soft_label"),
        (UniModalSoftLabel(), "uni_modal_soft_label"),
    ):
        message = rf"objectives\.{name} needs 'text_teacher_scores' in the batch.*prep teachers"
        with pytest.raises(ValueError, match=message):
            objective(outputs, batch)
    with pytest.raises(ValueError, match=r"needs 'text_uni_embeds' of the model's outputs"):
        UniModalSoftLabel()(SimpleNamespace(image_uni_embeds=torch.eye(2)), batch)
    with pytest.raises(ValueError, match=r"image_teacher_scores must have the shape \(4, 4\)"):
        CrossModalSoftLabel()(SimpleNamespace(scores=torch.eye(4)), batch)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mode": "all"}, r"cross_modal_soft_label\.mode 'all'; choose from: add, dot, each"),
        ({"kind": "ce"}, r"cross_modal_soft_label\.kind 'ce'; choose from: contrastive, kl"),
        ({"row_reduction": "x"}, r"label\.row_reduction 'x'; choose from: mean, sum"),
        ({"temperature": [1, 2, 3]}, r"label\.temperature is one number, or 2 in a list, got"),
        ({"teacher_temperature": -1}, r"label\.teacher_temperature must be > 0, got -1"),
    ],
)
def test_wrong_settings_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        CrossModalSoftLabel(**arguments)


def test_soft_labels_agree_with_cusas_code():
    reference = cusa_reference.load()
    scores = {
        "i2t_vs_teacher_image": (reference.scores, reference.image_teacher),
        "t2i_vs_teacher_text": (reference.scores.T, reference.text_teacher),
        "i2i_vs_teacher_image": (reference.image_scores, reference.image_teacher),
        "t2t_vs_teacher_text": (reference.text_scores, reference.text_teacher),
    }
    checked = 0
    for name, (rows, teacher) in scores.items():
        for teacher_tau in (1.0, 0.1):
            for kind, arguments in (
                ("kl", ("kl",)),
                ("softce_sum", ("contrastive", "sum")),
                ("softce_mean", ("contrastive", "mean")),
            ):
                found = soft_label_loss(rows / 0.45, teacher / teacher_tau, *arguments).item()
                key = f"{name}_{kind}_tau0.45_soft{teacher_tau}"
                assert found == cusa_reference.near(reference.expected["soft_label"][key]), key
                checked += 1
    assert checked == 24


def forward_case(reference, contrastive, cross=None, uni=None):
    """Terms of a step with heads, their weighted sum, and its gradients."""
    image = reference.image.clone().requires_grad_()
    text = reference.text.clone().requires_grad_()
    outputs = SimpleNamespace(
        scores=reference.head("cross_image", image) @ reference.head("cross_text", text).T,
        image_uni_embeds=reference.head("uni_image", image),
        text_uni_embeds=reference.head("uni_text", text),
    )
    batch = {
        "identities": reference.ids,
        "image_teacher_scores": reference.image_teacher,
        "text_teacher_scores": reference.text_teacher,
    }
    terms = {"contrastive": contrastive(outputs, batch)}
    if cross:
        terms["csa"] = 0.1 * cross(outputs, batch)
    if uni:
        terms["usa"] = 0.5 * uni(outputs, batch)
    terms["total"] = sum(terms.values())
    terms["total"].backward()
    return terms, image.grad.norm().item(), text.grad.norm().item()


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(
    ("name", "reduction", "has_cross", "has_uni"),
    [
        ("cusa_default", "mean", True, True),
        ("contrastive_only", "mean", False, False),
        ("cusa_contrastive_sum", "sum", True, True),
        ("csa_only", "mean", True, False),
    ],
)
def test_a_whole_step_agrees_with_cusas_code(name, reduction, has_cross, has_uni):
    reference = cusa_reference.load()
    expected, near = reference.expected["forward"][name], cusa_reference.near
    contrastive = Contrastive(row_reduction=reduction)
    cross = CrossModalSoftLabel() if has_cross else None
    uni = UniModalSoftLabel() if has_uni else None
    terms, image_gradient, text_gradient = forward_case(reference, contrastive, cross, uni)
    for term, value in terms.items():
        key = "total" if term == "total" else f"{term}_weighted"
        assert value.item() == near(expected[key]), term
    assert image_gradient == near(expected["grad_image_l2"])
    assert text_gradient == near(expected["grad_text_l2"])
    gradients = expected["grad_temperatures"]
    assert contrastive.temperature.value.grad.item() == near(gradients["tau"])
    if cross:
        assert cross.temperature.value.grad.item() == near(gradients["cross_tau"])
    if uni:
        assert uni.temperature.value.grad.tolist() == near(
            [gradients["uni_tau_image"], gradients["uni_tau_text"]]
        )


@pytest.mark.usefixtures("float64")
def test_dsslps_first_stage_is_the_cross_modal_term_alone():
    reference = cusa_reference.load()
    expected = reference.expected["dsslp_stage1"]["cross_softlabel_on"]
    terms, image_gradient, _ = forward_case(
        reference, Contrastive(row_reduction="mean"), CrossModalSoftLabel()
    )
    assert terms["csa"].item() == cusa_reference.near(expected["csa_weighted"])
    assert terms["total"].item() == cusa_reference.near(expected["total"])
    assert image_gradient == cusa_reference.near(expected["grad_image_l2"])


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(("mode", "expected"), [("add", 0.018541), ("dot", 0.015661)])
def test_modes_agree_with_cusas_code(mode, expected):
    # The specification's table, six decimals.
    terms, _, _ = forward_case(cusa_reference.load(), Contrastive(), CrossModalSoftLabel(mode=mode))
    assert terms["csa"].item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.usefixtures("float64")
def test_odd_temperatures_are_moved_to_their_bounds():
    # The recipe's odd case: of the teachers' temperatures of USA, 1.51 becomes 1 and 0.02 becomes
    # 0.1, and both still have a gradient there.
    reference = cusa_reference.load()
    uni = UniModalSoftLabel(
        temperature=[0.51, 0.58],
        learn_temperature=False,
        teacher_temperature=[1.51, 0.02],
        learn_teacher_temperature=True,
    )
    terms, _, _ = forward_case(reference, Contrastive(), uni=uni)
    assert uni.teacher_temperature.value.tolist() == [1.0, 0.1]
    image = reference.head("uni_image", reference.image)
    text = reference.head("uni_text", reference.text)
    expected = uni_modal_soft_label_loss(
        image @ image.T,
        text @ text.T,
        reference.image_teacher,
        reference.text_teacher,
        (0.51, 0.58),
        (1.0, 0.1),
    )
    assert terms["usa"].item() == cusa_reference.near(0.5 * expected.item())
    assert uni.teacher_temperature.value.grad.abs().min() > 1e-4
