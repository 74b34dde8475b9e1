"""Accuracy of visual question answering by the official rule and by the two others in use.

============ ================================ ======================================= ==========
rule         prediction is normalised         ground truth is normalised              published
============ ================================ ======================================= ==========
``official`` in full, if the annotators       in full, if they differ                 since 2021
             differ, else its white space     else its white space
``legacy``   in full                          its punctuation, if they differ         2015-2021
``mmf``      in full, in MMF's spelling       likewise                                by MMF
============ ================================ ======================================= ==========

Commit a013f00 (March 2021) of the official script made ``official`` of ``legacy``, which most
published code vendors; MMF has a third. Every result here says which rule it was made with.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from torch import Tensor

from tbkin.answers import (
    normalize_answer,
    normalize_answer_as_mmf,
    normalize_punctuation,
    normalize_spaces,
)
from tbkin.config import choose


class VQAAccuracy:
    """VQA accuracy over a split, collected batch by batch.

    Answers are kept by question id, so an example that padding repeats counts once; the last stays.

    Args:
        questions: every question of the split: id -> ``{"answers": list[str], "answer_type": str,
            "question_type": str}``.
        labels: the answer behind each of the A logits.
        rule: one of ``RULES``.
    """

    def __init__(
        self,
        questions: Mapping[int, Mapping[str, Any]],
        labels: list[str],
        rule: str = "official",
    ):
        choose(_SPELL, rule, "rule")
        self.questions = questions
        self.labels = labels
        self.rule = rule
        self.predictions: dict[int, str] = {}

    def rows(self, outputs: Any, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """What crosses processes, for :meth:`update`.

        Args:
            outputs: reads ``logits`` (B, A).
            batch: reads ``question_ids`` (B,), whole numbers, negative for what is no question.
        """
        if outputs.logits.shape[1] != len(self.labels):
            raise ValueError(
                f"logits score {outputs.logits.shape[1]} answers but there are {len(self.labels)} "
                "labels; build the model with the labels of this vocabulary."
            )
        highest, best = outputs.logits.float().max(dim=1)
        return {
            "answers": best,
            "answer_logits": highest,
            "question_ids": batch["question_ids"],
        }

    def update(self, rows: Mapping[str, Tensor]) -> None:
        """Note the best answer to each question of a batch.

        Args:
            rows: of :meth:`rows`.
        """
        for question_id, label in zip(
            rows["question_ids"].tolist(), rows["answers"].tolist(), strict=True
        ):
            if question_id >= 0:
                self.predictions[question_id] = self.labels[label]

    def compute(self) -> dict[str, float]:
        """Return ``{"vqa_accuracy": ...}`` in [0, 1]; every question must have been answered."""
        overall = score_predictions(self.predictions, self.questions, self.rule)["overall"]
        return {"vqa_accuracy": overall / 100}


def score_predictions(
    predictions: Mapping[int, str],
    questions: Mapping[int, Mapping[str, Any]],
    rule: str = "official",
) -> dict[str, Any]:
    """Score one answer to every question.

    Args:
        predictions: question id -> answer, for exactly the ids of ``questions``.
        questions: question id -> ``{"answers", "answer_type", "question_type"}``; left as they are.
        rule: one of ``RULES``.

    Returns:
        ``overall``, ``per_answer_type`` and ``per_question_type`` in per cent, unrounded (Python 2
        and 3 round 0.625 differently), ``questions``, how many there are, and ``rule``.
    """
    _check_ids(predictions, questions)
    per_answer_type = defaultdict(list)
    per_question_type = defaultdict(list)
    scores = []
    for question_id, question in questions.items():
        score = question_accuracy(predictions[question_id], question["answers"], rule)
        scores.append(score)
        per_answer_type[question["answer_type"]].append(score)
        per_question_type[question["question_type"]].append(score)
    return {
        "overall": _per_cent(scores),
        "per_answer_type": {
            name: _per_cent(per_answer_type[name]) for name in sorted(per_answer_type)
        },
        "per_question_type": {
            name: _per_cent(per_question_type[name]) for name in sorted(per_question_type)
        },
        "questions": len(scores),
        "rule": rule,
    }


def question_accuracy(prediction: str, answers: list[str], rule: str = "official") -> float:
    """Accuracy of one answer, in [0, 1]: the mean over annotators, each left out in turn.

    Annotators are told apart by their place in ``answers``. The official script compares whole
    records instead, so it needs distinct ``answer_id`` values; on files that have them both agree.

    Args:
        prediction: the raw answer.
        answers: the annotators' raw answers, ten in VQA 2.0; left as they are, where the official
            script rewrites them and scores differently the second time.
        rule: one of ``RULES``.
    """
    said, truth = choose(_SPELL, rule, "rule")(prediction, answers)
    count = truth.count(said)
    # Not answers.soft_score, its closed form, but added up as the scripts do, in the annotators'
    # order: where a split's mean lies half-way between two printed figures, the last bit decides.
    return sum(min(1, (count - (answer == said)) / 3) for answer in truth) / len(truth)


def baselines(
    train_questions: Mapping[int, Mapping[str, Any]],
    questions: Mapping[int, Mapping[str, Any]],
    rule: str = "official",
) -> dict[str, Any]:
    """What is scored without looking at the picture.

    Args:
        train_questions: where the common answers are counted: each question's
            ``multiple_choice_answer``, or its annotators' commonest answer where that is missing.
        questions: what is scored; same keys.
        rule: one of ``RULES``.

    Returns:
        ``majority_answer``: ``answer`` and ``overall``, the commonest answer to everything;
        ``per_question_type``: ``overall``, the commonest of each ``question_type``, and the
        majority answer for a type that training does not have. Per cent.
    """
    if not train_questions:
        raise ValueError("no training questions to take the commonest answers from.")
    by_type = defaultdict(list)
    for question in train_questions.values():
        by_type[question["question_type"]].append(normalize_answer(main_answer(question)))
    majority = _commonest(answer for group in by_type.values() for answer in group)
    typical = {name: _commonest(group) for name, group in by_type.items()}
    always = dict.fromkeys(questions, majority)
    by_opening = {
        question_id: typical.get(question["question_type"], majority)
        for question_id, question in questions.items()
    }
    return {
        "majority_answer": {
            "answer": majority,
            "overall": score_predictions(always, questions, rule)["overall"],
        },
        "per_question_type": {"overall": score_predictions(by_opening, questions, rule)["overall"]},
    }


def main_answer(question: Mapping[str, Any]) -> str:
    """The one answer that stands for a question, as it was written.

    Args:
        question: its ``multiple_choice_answer`` is taken; where it is missing or empty (OK-VQA),
            the answer that most of ``answers`` are once normalised, in the spelling of the first of
            them.
    """
    chosen = question.get("multiple_choice_answer")
    if chosen:
        return chosen
    spellings: dict[str, str] = {}
    for answer in question["answers"]:
        spellings.setdefault(normalize_answer(answer), answer)
    return spellings[_commonest(map(normalize_answer, question["answers"]))]


def _spell_officially(prediction: str, answers: list[str]) -> tuple[str, list[str]]:
    """Current script: nothing but white space is touched when all annotators agree."""
    said, truth = normalize_spaces(prediction), [normalize_spaces(answer) for answer in answers]
    if len(set(truth)) > 1:
        return normalize_answer(said), [normalize_answer(answer) for answer in truth]
    return said, truth


def _spell_as_before(prediction: str, answers: list[str]) -> tuple[str, list[str]]:
    """Script of 2015 to 2021: the prediction always in full, the truth at most its punctuation."""
    truth = list(answers)
    if len(set(truth)) > 1:
        truth = [normalize_punctuation(answer) for answer in truth]
    return normalize_answer(prediction), truth


def _spell_as_mmf(prediction: str, answers: list[str]) -> tuple[str, list[str]]:
    """MMF: everything in full, whether the annotators agree or not."""
    return normalize_answer_as_mmf(prediction), [normalize_answer_as_mmf(one) for one in answers]


_SPELL = {"official": _spell_officially, "legacy": _spell_as_before, "mmf": _spell_as_mmf}
RULES = tuple(_SPELL)


def compare_ids(answered: Collection[int], asked: Collection[int]) -> list[str]:
    """What is wrong with the ids of a prediction file; nothing when both sets are equal.

    Args:
        answered: the question ids that have an answer.
        asked: the question ids of the split.
    """
    missing = sorted(set(asked) - set(answered))
    unknown = sorted(set(answered) - set(asked))
    complaints = []
    if missing:
        complaints.append(f"{len(missing)} of {len(asked)} questions have no answer{few(missing)}")
    if unknown:
        complaints.append(f"{len(unknown)} answers are to unknown questions{few(unknown)}")
    return complaints


def _check_ids(predictions: Mapping[int, str], questions: Mapping[int, Any]) -> None:
    """The official loader wants the two sets of ids to be equal, and so do we."""
    if not questions:
        raise ValueError("there are no questions to score.")
    complaints = compare_ids(predictions, questions)
    if complaints:
        raise ValueError(
            f"{' and '.join(complaints)}; answer every question of the split, no other."
        )


def few(ids: Sequence[int]) -> str:
    """The first three, in brackets, for messages."""
    shown = ", ".join(map(str, ids[:3]))
    return f" (ids {shown}, …)" if len(ids) > 3 else f" (ids {shown})"


def _per_cent(scores: list[float]) -> float:
    return 100 * sum(scores) / len(scores)


def _commonest(answers: Iterable[str]) -> str:
    """Ties go to the first in the alphabet, so that a baseline does not depend on file order."""
    counts = Counter(answers)
    return min(counts, key=lambda answer: (-counts[answer], answer))
