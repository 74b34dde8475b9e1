"""Prepared questions -> examples."""

from collections import Counter

import pytest
import torch

from tbkin.answers import normalize_answer
from tbkin.data.collate import Collator
from tbkin.data.vqa import VQADataset, build_processor, read_answers


@pytest.fixture(scope="module")
def questions(tiny_root):
    processor = build_processor(tiny_root.prepared, "train", "word_rules")
    labels = read_answers(tiny_root.prepared)[::-1][2:]  # not all, and not in the file's order
    return VQADataset(tiny_root.prepared, "val", processor, labels), labels


def test_labels_and_frequencies_are_those_of_the_annotators(questions):
    dataset, labels = questions
    batch = Collator(0, len(labels))([dataset[place] for place in range(len(dataset))])
    seen = set()
    for row, question in enumerate(dataset.rows):
        counts = Counter(map(normalize_answer, question["answers"]))
        for place, label in enumerate(labels):
            count = counts[label]
            seen.add(count)
            assert batch["answer_frequencies"][row, place].item() == pytest.approx(count / 10)
            score = {0: 0.0, 1: 0.3, 2: 0.6, 3: 0.9}.get(count, 1.0)
            assert batch["labels"][row, place].item() == pytest.approx(score)
    assert {0, 10} < seen  # somebody disagrees somewhere
    assert (batch["answer_frequencies"].sum(dim=1) <= 1 + 1e-6).all()


def test_questions_of_the_test_split_have_no_labels(questions, tiny_root):
    dataset, labels = questions
    rows = [{key: row[key] for key in row if key != "answers"} for row in dataset.rows]
    bare = VQADataset(tiny_root.prepared, "val", dataset.processor, labels)
    bare.rows = rows
    batch = Collator(0, len(labels))([bare[0], bare[1]])
    assert {"labels", "answer_frequencies"}.isdisjoint(batch)
    assert torch.equal(batch["question_ids"], torch.tensor([r["question_id"] for r in rows[:2]]))
