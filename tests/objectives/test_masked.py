import math
from types import SimpleNamespace

import pytest
import torch

from tbkin.objectives.masked import (
    MaskedAttributes,
    MaskedFeatures,
    MaskedObjects,
    MaskedWords,
    counted_mean,
    masked_class_loss,
    masked_feature_loss,
)

SURE = [0.0, math.log(3.0)]  # softmax: [1/4, 3/4]
RIGHT, WRONG = math.log(4 / 3), math.log(4)  # what it costs if class 1 or class 0 is true


def test_classes_worked_by_hand():
    # Three of four positions were hidden: right, wrong, wrong.
    logits = torch.tensor([[SURE, SURE], [SURE, [100.0, -100.0]]])
    labels = torch.tensor([[1, 0], [0, -100]])
    loss = masked_class_loss(logits, labels)
    assert loss.item() == pytest.approx((RIGHT + WRONG + WRONG) / 3)


def test_confidence_weighs_but_the_number_of_positions_divides():
    # Confidences 0.5 and 0.2; a confidence of 0 does not count, nor one where nothing was hidden.
    logits = torch.tensor([[SURE] * 4])
    labels = torch.tensor([[1, 0, 0, -100]])
    confidence = torch.tensor([[0.5, 0.2, 0.0, 0.9]])
    loss = masked_class_loss(logits, labels, confidence)
    assert loss.item() == pytest.approx((0.5 * RIGHT + 0.2 * WRONG) / 2)


def test_features_worked_by_hand():
    # Differences 0.5 and 3 of the first region: (0.5 * 0.25 + 2.5) / 2; 0 of the second.
    labels = torch.tensor([[[1.0, 1], [2, 2], [0, 0]]])
    predictions = labels + torch.tensor([[[0.5, -3], [0, 0], [9, 9]]])
    targets = torch.tensor([[True, True, False]])
    loss = masked_feature_loss(predictions, labels, targets)
    assert loss.item() == pytest.approx((0.125 + 2.5) / 2 / 2)


def test_each_objective_reads_its_own_fields():
    class_logits = torch.tensor([[SURE, SURE]])
    outputs = SimpleNamespace(
        word_logits=torch.tensor([[SURE]]),
        object_logits=class_logits,
        attribute_logits=class_logits,
        feature_predictions=torch.tensor([[[2.0], [0.0]]]),
    )
    batch = {
        "word_labels": torch.tensor([[1]]),
        "object_labels": torch.tensor([[0, -100]]),
        "object_confidence": torch.tensor([[0.5, 1.0]]),
        "attribute_labels": torch.tensor([[-100, 1]]),
        "attribute_confidence": torch.tensor([[1.0, 0.25]]),
        "feature_labels": torch.zeros(1, 2, 1),
        "region_targets": torch.tensor([[True, False]]),
    }
    assert MaskedWords()(outputs, batch).item() == pytest.approx(RIGHT)
    assert MaskedObjects()(outputs, batch).item() == pytest.approx(0.5 * WRONG)
    assert MaskedAttributes()(outputs, batch).item() == pytest.approx(0.25 * RIGHT)
    assert MaskedFeatures()(outputs, batch).item() == pytest.approx(1.5)  # 2 - 1/2


def test_what_was_not_hidden_does_not_matter():
    logits, labels = torch.randn(2, 3, 4), torch.tensor([[1, -100, 2], [-100, 3, -100]])
    features, targets = torch.randn(2, 3, 5), labels >= 0
    other_logits = torch.where(targets[..., None], logits, torch.randn(2, 3, 4))
    assert torch.equal(masked_class_loss(other_logits, labels), masked_class_loss(logits, labels))
    loss = masked_feature_loss(features, torch.zeros(2, 3, 5), targets)
    other = torch.where(targets[..., None], features, torch.randn(2, 3, 5))
    assert torch.equal(masked_feature_loss(other, torch.zeros(2, 3, 5), targets), loss)


@pytest.mark.parametrize("confidence", [None, torch.ones(1, 2)])
def test_nothing_hidden_gives_0_and_a_gradient_of_0(confidence):
    logits = torch.randn(1, 2, 3, requires_grad=True)
    loss = masked_class_loss(logits, torch.full((1, 2), -100), confidence)
    loss.backward()
    assert loss.item() == 0
    assert logits.grad.tolist() == torch.zeros(1, 2, 3).tolist()


def test_no_region_hidden_gives_0_and_a_gradient_of_0():
    predictions = torch.randn(1, 2, 3, requires_grad=True)
    loss = masked_feature_loss(predictions, torch.randn(1, 2, 3), torch.zeros(1, 2).bool())
    loss.backward()
    assert loss.item() == 0
    assert predictions.grad.tolist() == torch.zeros(1, 2, 3).tolist()


def test_gradients_are_those_of_finite_differences():
    labels, confidence = torch.tensor([[1, -100, 2]]), torch.tensor([[0.5, 1.0, 0.3]])
    logits = torch.randn(1, 3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda given: masked_class_loss(given, labels, confidence), logits
    )
    features = torch.randn(1, 3, 4, dtype=torch.float64)
    assert torch.autograd.gradcheck(
        lambda given: masked_feature_loss(given, features, labels >= 0), logits
    )


def test_the_counted_mean_divides_by_the_number():
    # (0.5 * 4 + 1 * 6) / 2: not by the sum of the weights, 1.5, nor by 3.
    mean = counted_mean(torch.tensor([4.0, 6, 8]), torch.tensor([0.5, 1, 0]))
    assert mean.item() == 4


def test_labels_of_another_shape_are_refused():
    logits = torch.zeros(1, 2, 3)
    labels = torch.zeros(1, 2, dtype=torch.long)
    with pytest.raises(ValueError, match=r"labels of masked positions .*\(1, 2\).*, got \(2, 1\)"):
        masked_class_loss(logits, labels.T)
    with pytest.raises(ValueError, match=r"confidence of masked labels .*\(1, 2\).*, got \(2,\)"):
        masked_class_loss(logits, labels, torch.ones(2))
    with pytest.raises(ValueError, match=r"feature_labels .*\(1, 2, 3\).*, got \(1, 1, 3\)"):
        masked_feature_loss(logits, torch.zeros(1, 1, 3), torch.ones(1, 2))
    with pytest.raises(ValueError, match=r"region_targets .*\(1, 2\).*, got \(1, 1\)"):
        masked_feature_loss(logits, logits, torch.ones(1, 1))


def test_agrees_with_rosita(reference):
    inputs, outputs = reference("pretraining")
    words = inputs["text_side"][:, None] * inputs["word_weight"] * inputs["word_predict"] > 0
    regions = inputs["image_side"][:, None] * inputs["region_predict"] > 0

    def hidden(labels, chosen):
        return torch.where(chosen, inputs[labels], -100)

    batch = {
        "word_labels": hidden("word_label", words),
        "object_labels": hidden("object_label", regions),
        "object_confidence": inputs["object_confidence"],
        "attribute_labels": hidden("attribute_label", regions),
        "attribute_confidence": inputs["attribute_confidence"],
        "feature_labels": inputs["feature_label"],
        "region_targets": regions & (inputs["feature_weight"] > 0),
    }
    assert (words.sum(), batch["region_targets"].sum()) == (6, 6)
    for objective, loss in [
        (MaskedWords(), "loss_word"),
        (MaskedFeatures(), "loss_feature"),
        (MaskedObjects(), "loss_object"),
        (MaskedAttributes(), "loss_attribute"),
    ]:
        assert objective(SimpleNamespace(**outputs), batch).item() == pytest.approx(
            outputs[loss].item(), abs=2e-6
        )
