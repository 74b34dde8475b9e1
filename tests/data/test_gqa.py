"""GQA's files through the reader of VQA 2.0."""

import json

import pytest

from tbkin.answers import soft_targets
from tbkin.data.vqa_files import join, read_annotations, read_questions
from tbkin.metrics.vqa_accuracy import score_predictions

FILE = {
    "02930152": {
        "imageId": "2354786",
        "question": "Is the sky dark?",
        "answer": "yes",
        "types": {"structural": "verify", "semantic": "attr", "detailed": "verifyAttr"},
        "semantic": [{"operation": "select", "dependencies": [], "argument": "sky (2486325)"}],
        "fullAnswer": "Yes, the sky is dark.",
    },
    "07333408": {
        "imageId": "2375429",
        "question": "What is on the white wall?",
        "answer": "pipe",
        "types": {"structural": "query", "semantic": "rel", "detailed": "relS"},
    },
    "201307251": {
        "imageId": "7",
        "question": "Is it a t-shirt or a hat?",
        "answer": "t-shirt",
        "types": {"structural": "choose", "semantic": "obj", "detailed": "choose"},
    },
}


@pytest.fixture
def write(tmp_path):
    def written(content):
        path = tmp_path / "train_balanced_questions.json"
        path.write_text(json.dumps(content))
        return path

    return written


def test_one_file_is_questions_and_annotations(write):
    path = write(FILE)
    rows = join(read_questions(path), read_annotations(path), path, path)
    assert rows[2930152] == {
        "question_id": 2930152,
        "image_id": 2354786,
        "question": "Is the sky dark?",
        "question_type": "verify",
        "answer_type": "binary",
        "multiple_choice_answer": "yes",
        "answers": ["yes"] * 10,
    }
    assert [(row["question_type"], row["answer_type"]) for row in rows.values()] == [
        ("verify", "binary"),
        ("query", "open"),
        ("choose", "binary"),
    ]
    assert list(rows) == [2930152, 7333408, 201307251]


def test_the_one_answer_is_worth_1_and_scored_as_equal_or_not(write):
    path = write(FILE)
    rows = join(read_questions(path), read_annotations(path))
    assert soft_targets(rows[7333408]["answers"]) == {"pipe": 1.0}
    said = {2930152: "Yes", 7333408: "pipe", 201307251: "t shirt"}
    result = score_predictions(said, rows)
    assert result["overall"] == pytest.approx(100 / 3)
    assert result["per_answer_type"] == {"binary": 0.0, "open": 100.0}
    # What a model learns of "t-shirt" is "t shirt", which only the rule mmf takes for it.
    assert soft_targets(rows[201307251]["answers"]) == {"t shirt": 1.0}
    assert score_predictions(said, rows, "mmf")["overall"] == 100


def test_a_test_file_has_questions_only(write):
    path = write({"01": {"imageId": "5", "question": "Is it?", "isBalanced": True}})
    assert read_questions(path) == [{"question_id": 1, "image_id": 5, "question": "Is it?"}]
    with pytest.raises(ValueError, match=r"annotations\[0\] needs 'question_type' of type str"):
        read_annotations(path)


@pytest.mark.parametrize(
    ("question_id", "image_id", "complaint"),
    [
        ("02930152", "n161313", r"imageId 'n161313' is not a whole number.*test-dev"),
        ("02930152", "007", r"imageId '007' is not a whole number"),
        ("q1", "7", r"question id 'q1' is not a whole number"),
        ("-1", "7", r"question id '-1' is not"),
        ("", "7", r"question id '' is not"),
        ("\u0663", "7", "question id '\u0663' is not"),  # an Arabic three
    ],
)
def test_ids_that_are_no_numbers_are_refused(write, question_id, image_id, complaint):
    path = write({question_id: {"imageId": image_id, "question": "?"}})
    with pytest.raises(ValueError, match=rf"train_balanced_questions\.json: {complaint}"):
        read_questions(path)


@pytest.mark.parametrize(
    ("ids", "lossless"),
    [
        (["02", "10", "999"], True),  # padded to two
        (["2", "10"], True),  # not padded
        (["0", "10"], True),
        (["02", "003"], False),  # padded to two, and to three
        (["02", "3"], False),  # padded to two, or not
        (["02", "002"], False),
    ],
)
def test_zeros_in_front_must_be_a_padding(write, ids, lossless):
    path = write({name: {"imageId": "7", "question": "?"} for name in ids})
    if lossless:
        assert [row["question_id"] for row in read_questions(path)] == list(map(int, ids))
    else:
        with pytest.raises(ValueError, match=r"begin with zeros at lengths|occurs twice"):
            read_questions(path)


def test_incomplete_questions_are_named(write):
    with pytest.raises(ValueError, match=r"questions\[0\] needs 'question' of type str, got None"):
        read_questions(write({"1": {"imageId": "7"}}))
    path = write(
        {"1": {"imageId": "7", "question": "?", "answer": 5, "types": {"structural": "x"}}}
    )
    with pytest.raises(ValueError, match=r"annotation of question_id 1 needs 'answers'"):
        read_annotations(path)
