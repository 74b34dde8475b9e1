import math
from types import SimpleNamespace

import pytest
import torch

from tbkin.objectives import TotalLoss
from tbkin.objectives.answer import Answer, answer_kl_loss, answer_loss


def test_answer_loss_worked_by_hand():
    # sigma(0) = 1/2: each answer of the first question costs ln 2, whatever its score.
    # sigma(ln 3) = 3/4, score 1: ln 4/3. sigma(-ln 3) = 1/4, score 0.3: 0.3 ln 4 + 0.7 ln 4/3.
    logits = torch.tensor([[0.0, 0.0], [math.log(3), -math.log(3)]])
    labels = torch.tensor([[1.0, 0.6], [1.0, 0.3]])
    first = 2 * math.log(2)
    second = math.log(4 / 3) + 0.3 * math.log(4) + 0.7 * math.log(4 / 3)
    assert answer_loss(logits, labels).item() == pytest.approx((first + second) / 2)


def test_answer_loss_is_summed_over_answers_and_averaged_over_questions():
    logits, labels = torch.randn(3, 5), torch.rand(3, 5)
    loss = answer_loss(logits, labels)
    assert answer_loss(logits.repeat(4, 1), labels.repeat(4, 1)).item() == pytest.approx(
        loss.item()
    )
    twice = answer_loss(logits.repeat(1, 2), labels.repeat(1, 2))
    assert twice.item() == pytest.approx(2 * loss.item())


def test_answer_loss_is_least_where_the_probability_is_the_score():
    labels = torch.rand(2, 4).clamp(0.05, 0.95)
    logits = torch.logit(labels).requires_grad_()
    answer_loss(logits, labels).backward()
    assert logits.grad.abs().max() < 1e-6


def test_answer_loss_is_finite_for_extreme_logits():
    logits = torch.tensor([[1000.0, -1000.0]])
    assert answer_loss(logits, torch.tensor([[1.0, 0.0]])).item() == 0
    assert answer_loss(logits, torch.tensor([[0.0, 1.0]])).item() == pytest.approx(2000)


def test_the_objective_is_the_function_and_the_model_uses_it_too():
    outputs, batch = SimpleNamespace(logits=torch.randn(2, 3)), {"labels": torch.rand(2, 3)}
    assert Answer()(outputs, batch) == answer_loss(outputs.logits, batch["labels"])


def test_the_mean_is_the_sum_divided_by_the_number_of_answers():
    outputs, batch = SimpleNamespace(logits=torch.randn(2, 5)), {"labels": torch.rand(2, 5)}
    summed, mean = Answer()(outputs, batch), Answer(reduction="mean")(outputs, batch)
    assert mean.item() == pytest.approx(summed.item() / 5)


def test_an_unknown_reduction_says_what_there_is():
    with pytest.raises(ValueError, match=r"answer\.reduction is sum or mean, got 'none'\."):
        Answer(reduction="none")


def test_answer_kl_worked_by_hand():
    # softmax([ln 3, 0]) = [3/4, 1/4] against [1/2, 1/2]: (ln 2/3 + ln 2) / 2 over two answers.
    # Against [0.6, 0], where four people said something unknown: 0.6 ln (0.6 / 0.75).
    logits = torch.tensor([[math.log(3.0), 0.0]] * 2)
    frequencies = torch.tensor([[0.5, 0.5], [0.6, 0.0]])
    first = (math.log(2 / 3) + math.log(2)) / 2 / 2
    second = 0.6 * math.log(0.8) / 2
    mean, summed = (answer_kl_loss(logits, frequencies, None, name) for name in ("mean", "sum"))
    assert mean.item() == pytest.approx((first + second) / 2, abs=1e-7)
    assert summed.item() == pytest.approx(first + second, abs=1e-7)
    assert answer_kl_loss(logits, frequencies) == summed


def test_answer_kl_is_0_and_least_where_the_probabilities_are_the_frequencies():
    frequencies = torch.tensor([[0.1, 0.2, 0.7], [0.5, 0.3, 0.2]])
    logits = frequencies.log().requires_grad_()
    loss = answer_kl_loss(logits, frequencies)
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-7)
    assert logits.grad.abs().max() < 1e-7


def test_kl_for_the_first_epochs_then_cross_entropy():
    outputs = SimpleNamespace(logits=torch.randn(2, 3))
    batch = {"labels": torch.rand(2, 3), "answer_frequencies": torch.rand(2, 3)}
    total = TotalLoss({"answer": {"kl_epochs": 2, "weight": 0.5}, "sparsity": {}})
    outputs.attention_gate = torch.zeros(())
    kl = answer_kl_loss(outputs.logits, batch["answer_frequencies"])
    bce = answer_loss(outputs.logits, batch["labels"])
    assert total(outputs, batch)[1]["answer"] == kl  # the first epoch, before anyone says so
    for epoch, expected in ((0, kl), (1, kl), (2, bce), (9, bce), (1, kl)):
        total.set_epoch(epoch)
        loss, terms = total(outputs, batch)
        assert terms["answer"] == expected
        assert loss.item() == pytest.approx(0.5 * expected.item())


def test_without_kl_epochs_frequencies_are_not_needed():
    objective = Answer()
    objective.set_epoch(0)
    outputs, batch = SimpleNamespace(logits=torch.randn(2, 3)), {"labels": torch.rand(2, 3)}
    assert objective(outputs, batch) == answer_loss(outputs.logits, batch["labels"])


@pytest.mark.parametrize("value", [-1, 1.5, True, "3"])
def test_kl_epochs_that_are_no_number_of_epochs(value):
    with pytest.raises(ValueError, match=r"objectives\.answer\.kl_epochs is a whole number >= 0"):
        Answer(kl_epochs=value)


@pytest.mark.parametrize(("kl_epochs", "field"), [(0, "labels"), (1, "answer_frequencies")])
def test_questions_without_answers_are_left_out(kl_epochs, field):
    def objective():
        return Answer(kl_epochs=kl_epochs)

    logits, labels = torch.randn(3, 4), torch.rand(3, 4)
    valid = torch.tensor([1, 0, 1])
    loss = objective()(SimpleNamespace(logits=logits), {field: labels, "label_valid": valid})
    known = [0, 2]
    alone = objective()(SimpleNamespace(logits=logits[known]), {field: labels[known]})
    assert loss.item() == pytest.approx(alone.item())
    every = {field: labels, "label_valid": torch.ones(3)}
    assert objective()(SimpleNamespace(logits=logits), every).item() == pytest.approx(
        objective()(SimpleNamespace(logits=logits), {field: labels}).item()
    )


@pytest.mark.parametrize("function", [answer_loss, answer_kl_loss])
def test_no_question_with_an_answer_gives_0_and_no_push(function):
    logits = torch.randn(2, 3, requires_grad=True)
    loss = function(logits, torch.rand(2, 3), torch.zeros(2))
    loss.backward()
    assert loss.item() == 0
    assert logits.grad.tolist() == [[0, 0, 0]] * 2


@pytest.mark.parametrize("function", [answer_loss, answer_kl_loss])
def test_gradients_are_those_of_finite_differences(function):
    logits = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    labels, valid = torch.rand(3, 4, dtype=torch.float64), torch.tensor([1.0, 0.0, 1.0])
    assert torch.autograd.gradcheck(lambda given: function(given, labels, valid), logits)


def test_labels_of_another_shape_are_refused():
    with pytest.raises(
        ValueError, match=r"answer_frequencies must have the shape \(2, 3\) .*, got \(2, 1\)\."
    ):
        answer_kl_loss(torch.zeros(2, 3), torch.ones(2, 1))
    with pytest.raises(
        ValueError, match=r"label_valid must have the shape \(2,\) .*, got \(2, 1\)"
    ):
        answer_loss(torch.zeros(2, 3), torch.ones(2, 3), torch.ones(2, 1))


def test_agrees_with_rosita(reference):
    inputs, outputs = reference("vqa")
    given = SimpleNamespace(logits=outputs["answer_logits"])
    batch = {
        "labels": inputs["label_bce"],
        "answer_frequencies": inputs["label_kl"],
        "label_valid": inputs["label_valid"],
    }
    objectives = {
        "bce": Answer(reduction="mean"),
        "kl": Answer(reduction="mean", kl_epochs=3),
    }
    for name, objective in objectives.items():
        assert objective(given, batch).item() == pytest.approx(
            outputs[f"loss_{name}"].item(), abs=1e-6
        )
        alone = [
            objective(
                SimpleNamespace(logits=given.logits[[row]]),
                {field: batch[field][[row]] for field in ("labels", "answer_frequencies")},
            ).item()
            for row in range(4)
        ]
        assert alone == pytest.approx(outputs[f"loss_{name}_per_sample"].tolist(), abs=1e-6)
