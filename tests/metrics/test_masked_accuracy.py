from types import SimpleNamespace

import pytest
import torch

from tbkin.metrics.masked_accuracy import MaskedAccuracy, count_right


def one_hot(classes, best):
    """Logits whose best class is given."""
    return torch.nn.functional.one_hot(torch.tensor(best), classes).float()


def step(metric, captions, words, objects, attributes, match):
    """Each of the last four: (best, labels)."""
    outputs = SimpleNamespace(
        word_logits=one_hot(5, words[0]),
        object_logits=one_hot(4, objects[0]),
        attribute_logits=one_hot(3, attributes[0]),
        match_logits=one_hot(2, match[0]),
    )
    batch = {
        "word_labels": torch.tensor(words[1]),
        "object_labels": torch.tensor(objects[1]),
        "attribute_labels": torch.tensor(attributes[1]),
        "match_labels": torch.tensor(match[1]),
        "caption_ids": torch.tensor(captions),
    }
    rows = metric.rows(outputs, batch)
    assert all(len(value) == len(captions) for value in rows.values())
    metric.update(rows)


def test_right_and_asked_of_each_row():
    logits = one_hot(3, [[0, 1, 2], [2, 2, 2]])
    labels = torch.tensor([[0, 2, -100], [-100, -100, -100]])
    # First row: 0 is right, 1 for 2 is wrong, the third is not asked. Second row: nothing asked.
    assert count_right(logits, labels).tolist() == [[1, 2], [0, 0]]


def test_shares_and_their_mean_by_hand():
    metric = MaskedAccuracy()
    step(
        metric,
        [1, 2],
        words=([[1, 2], [3, 3]], [[1, 4], [3, -100]]),  # 1 of 2, 1 of 1
        objects=([[0], [1]], [[0], [2]]),  # 1 of 1, 0 of 1
        attributes=([[0], [0]], [[-100], [0]]),  # -, 1 of 1
        match=([1, 1], [1, 0]),  # 1, 0
    )
    values = metric.compute()
    assert values == {
        "masked_word_accuracy": pytest.approx(2 / 3),
        "masked_object_accuracy": pytest.approx(1 / 2),
        "masked_attribute_accuracy": pytest.approx(1.0),
        "match_accuracy": pytest.approx(1 / 2),
        "pretraining_accuracy": pytest.approx((2 / 3 + 1 / 2 + 1 + 1 / 2) / 4),
    }


def test_a_repeated_caption_counts_once_and_batches_may_differ_in_width():
    metric = MaskedAccuracy()
    nothing = ([[0]], [[-100]])
    step(metric, [1], ([[1]], [[1]]), nothing, nothing, ([1], [1]))
    step(metric, [2], ([[1, 2]], [[0, 0]]), nothing, nothing, ([1], [0]))
    step(metric, [1], ([[1]], [[1]]), nothing, nothing, ([1], [1]))
    values = metric.compute()
    assert values["masked_word_accuracy"] == pytest.approx(1 / 3)
    assert values["match_accuracy"] == 0.5
    assert "masked_object_accuracy" not in values  # never asked
    assert values["pretraining_accuracy"] == pytest.approx((1 / 3 + 1 / 2) / 2)
