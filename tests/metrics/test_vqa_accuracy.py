import copy
import random
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from tbkin.answers import normalize_answer, normalize_punctuation
from tbkin.data.vqa_files import join, read_annotations, read_questions
from tbkin.metrics.vqa_accuracy import (
    RULES,
    VQAAccuracy,
    baselines,
    main_answer,
    question_accuracy,
    score_predictions,
)

REAL = Path(__file__).resolve().parents[3] / "shared/data/real_mini/vqa"
GOLDEN = [
    # Ground truth, prediction, current script, older script: made by running both. MMF, worked by
    # hand: both sides are always spelled in full, so only "on table" is not "table".
    (["a dog"] * 10, "a dog", 1.0, 0.0, 1.0),
    (["2"] * 10, "two", 0.0, 1.0, 1.0),
    (["yes"] * 10, "Yes", 0.0, 1.0, 1.0),
    (["Yes"] * 10, "yes", 0.0, 0.0, 1.0),
    (["two"] * 7 + ["2"] * 3, "two", 1.0, 0.9, 1.0),
    (["the left"] * 6 + ["left"] * 2 + ["right"] * 2, "left", 1.0, 0.6, 1.0),
    (["on table"] * 4 + ["table."] * 3 + ["floor"] * 3, "table", 0.9, 0.9, 0.9),
]


@pytest.mark.parametrize(("answers", "prediction", "official", "legacy", "mmf"), GOLDEN)
def test_golden_cases_of_all_scripts(answers, prediction, official, legacy, mmf):
    assert question_accuracy(prediction, answers) == official
    assert question_accuracy(prediction, answers, "official") == official
    assert question_accuracy(prediction, answers, "legacy") == legacy
    assert question_accuracy(prediction, answers, "mmf") == mmf


def test_there_are_three_rules():
    assert RULES == ("official", "legacy", "mmf")


@pytest.mark.parametrize(
    ("answers", "prediction", "official", "mmf"),
    [
        # MMF deletes the comma where the official script puts a space ("yes sir").
        (["yes,sir"] * 5 + ["no"] * 5, "yessir", 0.0, 1.0),
        (["10,000-20,000"] * 9 + ["x"], "10000 20000", 0.0, 1.0),
        # "it's red" is "it 's red" on both sides; "whats" becomes "what's", not "what 's".
        (["it's red"] * 5 + ["red"] * 5, "it 's red", 0.0, 1.0),
        (["what's"] * 5 + ["red"] * 5, "whats", 1.0, 0.0),
    ],
)
def test_where_mmf_spells_otherwise(answers, prediction, official, mmf):
    assert question_accuracy(prediction, answers, "official") == official
    assert question_accuracy(prediction, answers, "mmf") == mmf


def test_white_space_of_the_ground_truth():
    # Stripped by the current script, so all agree; the older one sees two spellings and keeps both.
    answers = ["yes"] * 5 + ["yes\n"] * 5
    assert question_accuracy("yes", answers) == 1.0
    assert question_accuracy("yes", ["yes"] * 2 + ["yes "] * 8, "legacy") == pytest.approx(0.6)


def test_equal_answers_without_answer_ids_are_different_annotators():
    # Three equal and seven equal others: 90, where comparing records without ids would give 70.
    assert question_accuracy("cat", ["cat"] * 3 + ["dog"] * 7) == 0.9


def test_only_the_first_32_periods_of_an_answer_go():
    answers = ["x"] * 9 + ["y"]
    assert question_accuracy("x" + "." * 32, answers) == 1.0
    assert question_accuracy("x" + "." * 33, answers) == 0.0


@pytest.mark.parametrize(
    ("right", "printed"),
    [
        # One question of 48, 90 / 48 = 1.875. Added up in the annotators' order, their scores
        # 2/3 2/3 1 1 1 1 1 1 1 2/3 make 8.999999999999998, and 2/3 2/3 2/3 1 1 1 1 1 1 1 make 9.
        ("xxyyyyyyyx", "1.87"),
        ("xxxyyyyyyy", "1.88"),
    ],
)
def test_half_way_between_two_printed_figures_as_the_official_script_prints_it(right, printed):
    kind = {"answer_type": "other", "question_type": "what"}
    questions = {number: {"answers": ["y"] * 10, **kind} for number in range(47)}
    questions[47] = {"answers": list(right), **kind}
    for rule in RULES:
        result = score_predictions(dict.fromkeys(questions, "x"), questions, rule)
        assert f"{result['overall']:.2f}" == printed  # of running both official scripts


def literal(prediction, answers, rule):
    """The scripts as the specification words them, one annotator after the other."""

    def tidy(text):
        return text.replace("\n", " ").replace("\t", " ").strip()

    if rule == "official":
        prediction, answers = tidy(prediction), [tidy(answer) for answer in answers]
        if len(set(answers)) > 1:
            prediction, answers = normalize_answer(prediction), list(map(normalize_answer, answers))
    elif rule == "mmf":

        def apart(text):
            for old, new in ((",", ""), ("?", ""), ("'s", " 's")):
                text = text.replace(old, new)
            return normalize_answer(text)

        prediction, answers = apart(prediction.lower()), [apart(text.lower()) for text in answers]
    else:
        prediction = normalize_answer(prediction)
        if len(set(answers)) > 1:
            answers = list(map(normalize_punctuation, answers))
    total = 0.0
    for left_out in range(len(answers)):
        others = [answer for place, answer in enumerate(answers) if place != left_out]
        total += min(1.0, others.count(prediction) / 3)
    return total / len(answers)


@pytest.mark.parametrize("rule", RULES)
def test_equals_the_literal_leave_one_out(rule):
    generator = random.Random(0)
    words = ["yes", "Yes", "yes ", "a dog", "dog", "dog.", "2", "two", "t-shirt", "t shirt", "A"]
    words += ["it's", "it 's", "a,b", "ab", "a b"]
    seen = set()
    for _ in range(2000):
        some = generator.sample(words, generator.randint(1, 4))
        answers = generator.choices(some, k=generator.choice([1, 3, 5, 10]))
        prediction = generator.choice(words)
        expected = literal(prediction, answers, rule)
        seen.add(round(expected, 3))
        assert question_accuracy(prediction, answers, rule) == pytest.approx(expected, abs=1e-12)
    assert {0.0, 0.3, 0.6, 0.9, 1.0} <= seen


@pytest.mark.skipif(not REAL.is_dir(), reason=f"real data not there: {REAL}")
@pytest.mark.parametrize("rule", RULES)
def test_real_questions_equal_the_slow_loop_in_every_breakdown(rule):
    names = ("OpenEnded_mscoco_train2014_questions", "mscoco_train2014_annotations")
    asked, answered = (REAL / f"v2_{name}.json" for name in names)
    questions = join(read_questions(asked), read_annotations(answered))
    generator = random.Random(1)
    said = ["yes", "No", "two", "2", "a dog.", "t-shirt", "it's", "red, white", "10,000"]
    predictions = {
        number: generator.choice([*question["answers"], *said])
        for number, question in questions.items()
    }
    scores = {
        number: literal(predictions[number], question["answers"], rule)
        for number, question in questions.items()
    }
    assert 0.2 < sum(scores.values()) / len(scores) < 0.8

    def slow(chosen):
        return 100 * sum(scores[number] for number in chosen) / len(chosen)

    result = score_predictions(predictions, questions, rule)
    assert result["overall"] == pytest.approx(slow(list(scores)), abs=1e-9)
    for kind in ("answer_type", "question_type"):
        groups = {}
        for number, question in questions.items():
            groups.setdefault(question[kind], []).append(number)
        expected = {name: slow(numbers) for name, numbers in groups.items()}
        assert result[f"per_{kind}"] == pytest.approx(expected, abs=1e-9)


def test_unknown_rule_lists_the_rules():
    with pytest.raises(
        ValueError, match="unknown rule 'offical'; choose from: legacy, mmf, official"
    ):
        question_accuracy("yes", ["yes"], "offical")


def question(answers, answer_type="other", question_type="what is", **more):
    return {
        "answers": answers,
        "answer_type": answer_type,
        "question_type": question_type,
        **more,
    }


QUESTIONS = {
    11: question(["yes"] * 10, "yes/no", "is the"),
    12: question(["no"] * 8 + ["yes"] * 2, "yes/no", "is the"),
    13: question(["3"] * 9 + ["4"], "number", "how many"),
    14: question(["cat"] * 3 + ["dog"] * 7),
}
PREDICTIONS = {11: "yes", 12: "yes", 13: "5", 14: "cat"}  # 1, 0.6, 0, 0.9


def test_scores_worked_by_hand():
    result = score_predictions(PREDICTIONS, QUESTIONS)
    assert result["overall"] == pytest.approx(100 * 2.5 / 4)
    assert result["per_answer_type"] == pytest.approx(
        {"yes/no": 80.0, "number": 0.0, "other": 90.0}
    )
    assert result["per_question_type"] == pytest.approx(
        {"is the": 80.0, "how many": 0.0, "what is": 90.0}
    )
    assert result["questions"] == 4
    assert result["rule"] == "official"


def test_scores_are_not_rounded():
    questions = {number: question(["yes"] * 10) for number in range(3)}
    result = score_predictions({0: "yes", 1: "no", 2: "no"}, questions, "legacy")
    assert result["overall"] == pytest.approx(100 / 3, abs=1e-12)
    assert result["rule"] == "legacy"


@pytest.mark.parametrize("rule", RULES)
def test_scoring_twice_gives_the_same_and_changes_nothing(rule):
    questions = {number: question(list(answers)) for number, (answers, *_) in enumerate(GOLDEN)}
    predictions = {number: said for number, (_, said, *_) in enumerate(GOLDEN)}
    before = copy.deepcopy((questions, predictions))
    first = score_predictions(predictions, questions, rule)
    assert score_predictions(predictions, questions, rule) == first
    assert (questions, predictions) == before


def test_missing_and_unknown_questions_are_named():
    with pytest.raises(ValueError, match=r"2 of 4 questions have no answer \(ids 13, 14\)"):
        score_predictions({11: "yes", 12: "no"}, QUESTIONS)
    with pytest.raises(ValueError, match=r"1 answers are to unknown questions \(ids 99\)"):
        score_predictions(PREDICTIONS | {99: "yes"}, QUESTIONS)
    with pytest.raises(ValueError, match=r"4 of 4 .* \(ids 11, 12, 13, …\) and 1 answers"):
        score_predictions({99: "yes"}, QUESTIONS)
    with pytest.raises(ValueError, match="no questions to score"):
        score_predictions({}, {})


def update(metric, question_ids, best):
    logits = torch.zeros(len(best), len(metric.labels))
    logits[torch.arange(len(best)), torch.tensor(best)] = 1.0
    batch = {"question_ids": torch.tensor(question_ids)}
    metric.update(metric.rows(SimpleNamespace(logits=logits), batch))


def test_metric_over_batches():
    metric = VQAAccuracy(QUESTIONS, ["yes", "5", "cat"])
    update(metric, [11, 12], [0, 0])
    update(metric, [13, 14], [1, 2])
    assert metric.predictions == PREDICTIONS
    assert metric.compute() == {"vqa_accuracy": pytest.approx(0.625)}


def test_repeated_examples_count_once_and_the_last_stays():
    metric = VQAAccuracy(QUESTIONS, ["yes", "5", "cat"])
    update(metric, [11, 12, 13, 14], [1, 0, 1, 2])
    update(metric, [11, 14, 14], [0, 2, 2])
    assert metric.compute() == {"vqa_accuracy": pytest.approx(0.625)}


def test_what_is_no_question_is_passed_over():
    metric = VQAAccuracy(QUESTIONS, ["yes", "5", "cat"])
    update(metric, [11, -1, 12, 13, 14], [0, 2, 0, 1, 2])
    assert metric.predictions == PREDICTIONS


def test_metric_uses_its_rule():
    questions = {1: question(["2"] * 10)}
    for rule, expected in (("official", 0.0), ("legacy", 1.0), ("mmf", 1.0)):
        metric = VQAAccuracy(questions, ["two"], rule)
        update(metric, [1], [0])
        assert metric.compute() == {"vqa_accuracy": expected}


def test_metric_says_what_is_wrong():
    with pytest.raises(ValueError, match="unknown rule 'new'"):
        VQAAccuracy(QUESTIONS, ["yes"], "new")
    metric = VQAAccuracy(QUESTIONS, ["yes", "no"])
    with pytest.raises(ValueError, match="3 answers but there are 2 labels"):
        metric.rows(SimpleNamespace(logits=torch.zeros(1, 3)), {})
    update(metric, [11], [0])
    with pytest.raises(ValueError, match="3 of 4 questions have no answer"):
        metric.compute()


def test_baselines_worked_by_hand():
    train = {
        1: question([], question_type="is the", multiple_choice_answer="yes"),
        2: question([], question_type="is the", multiple_choice_answer="Yes"),
        3: question([], question_type="is the", multiple_choice_answer="no"),
        4: question([], question_type="how many", multiple_choice_answer="three"),
    }
    # Always "yes": 1, 0.6, 0, 0. By type: "yes", "yes", "3", and for "what is" again "yes".
    assert baselines(train, QUESTIONS) == {
        "majority_answer": {"answer": "yes", "overall": pytest.approx(100 * 1.6 / 4)},
        "per_question_type": {"overall": pytest.approx(100 * 2.6 / 4)},
    }


def test_baselines_without_a_chosen_answer_and_with_ties():
    # Commonest answers: yes, no, 3, dog: a tie that the alphabet decides.
    result = baselines(QUESTIONS, QUESTIONS)
    assert result["majority_answer"]["answer"] == "3"
    # By type: "is the" ties at no / yes -> "no": 0 and 1; "3": 1; "dog": 1.
    assert result["per_question_type"]["overall"] == pytest.approx(75.0)


def test_the_answer_that_stands_for_a_question():
    answers = ["T-shirt", "hat", "t-shirt", "a hat", "t shirt"]
    assert main_answer({"multiple_choice_answer": "A Hat", "answers": answers}) == "A Hat"
    for missing in ({}, {"multiple_choice_answer": ""}, {"multiple_choice_answer": None}):
        assert main_answer({**missing, "answers": answers}) == "T-shirt"  # three, as spelled first
    assert main_answer({"answers": ["b", "a"]}) == "a"  # a tie


def test_baselines_need_training_questions():
    with pytest.raises(ValueError, match="no training questions"):
        baselines({}, QUESTIONS)
