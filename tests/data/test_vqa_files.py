import gzip
import json
from pathlib import Path

import pytest

from tbkin.data.vqa_files import (
    join,
    official_name,
    read_annotations,
    read_answer_list,
    read_json,
    read_questions,
)

DATA = Path(__file__).resolve().parents[3] / "shared/data"
REAL = DATA / "real_mini/vqa"
VOCABULARY = DATA / "vocab/vqa_trainval_ans2label.json"

QUESTION = {"image_id": 7, "question": "Is it é?", "question_id": 7001}
ANNOTATION = {
    "question_type": "is it",
    "multiple_choice_answer": "yes",
    "answers": [
        {"answer": "Yes.", "answer_confidence": "yes", "answer_id": 1},
        {"answer": "no", "answer_confidence": "maybe", "answer_id": 2},
    ],
    "image_id": 7,
    "answer_type": "yes/no",
    "question_id": 7001,
}


def write(path, content):
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def test_reads_and_joins(tmp_path):
    questions = read_questions(write(tmp_path / "q.json", {"questions": [QUESTION]}))
    annotations = read_annotations(write(tmp_path / "a.json", {"annotations": [ANNOTATION]}))
    assert questions == [QUESTION]
    assert join(questions, annotations) == {
        7001: {
            "question_id": 7001,
            "image_id": 7,
            "question": "Is it é?",
            "question_type": "is it",
            "answer_type": "yes/no",
            "multiple_choice_answer": "yes",
            "answers": ["Yes.", "no"],
        }
    }


def test_gzip_is_told_by_its_content(tmp_path):
    for name in ("q.json.gz", "q.json"):
        path = tmp_path / name
        path.write_bytes(gzip.compress(json.dumps({"questions": [QUESTION]}).encode()))
        assert read_questions(path) == [QUESTION]


def test_annotations_without_a_chosen_answer(tmp_path):
    row = {key: value for key, value in ANNOTATION.items() if key != "multiple_choice_answer"}
    path = write(tmp_path / "a.json", {"annotations": [row]})
    assert read_annotations(path)[0]["multiple_choice_answer"] == ""


def test_missing_file_is_named_with_the_mend(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no file .*absent\.json; download the official"):
        read_questions(tmp_path / "absent.json")


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b'{"questions": [', r"is not JSON"),
        (b"", r"is not JSON"),
        ('{"questions": "é"}'.encode("latin-1"), r"is not JSON in UTF-8"),
        (gzip.compress(b'{"questions": []}' * 99)[:-12], r"is a damaged gzip file"),
        (b"\x1f\x8bnonsense", r"is a damaged gzip file"),
        (gzip.compress(b"x" * 400)[:12] + b"\xff" * 30, r"is a damaged gzip file"),
    ],
)
def test_unreadable_files_are_named_in_one_line(tmp_path, content, complaint):
    path = tmp_path / "broken.json.gz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"broken\.json\.gz {complaint}.*do it again") as caught:
        read_json(path, "do it again")
    assert "\n" not in str(caught.value)


def test_wrong_file_says_what_it_holds(tmp_path):
    annotations = write(tmp_path / "a.json", {"info": {}, "annotations": [ANNOTATION]})
    with pytest.raises(ValueError, match=r"a\.json has no list 'questions' .*: info, annotations"):
        read_questions(annotations)
    with pytest.raises(ValueError, match=r"e\.json has no list 'questions' .*: nothing"):
        read_questions(write(tmp_path / "e.json", {}))
    with pytest.raises(ValueError, match=r"n\.json has no list 'questions' .*: nothing.*download"):
        read_questions(write(tmp_path / "n.json", 5))
    with pytest.raises(ValueError, match=r"a\.json: questions\[0\] needs 'image_id' of type int"):
        read_questions(write(tmp_path / "a.json", [ANNOTATION | {"image_id": None}]))


@pytest.mark.parametrize("content", [b'{"questions": [', b'{"questions": [{}', b"[1"])
def test_a_cut_file_is_named_with_the_mend(tmp_path, content):
    path = tmp_path / "cut.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"cut\.json.*; download the official files from"):
        read_questions(path)


def test_vqa_cp_files_are_the_lists_alone(tmp_path):
    # VQA-CP divides train and val anew; "coco_split" says whose picture it is.
    extra = {"coco_split": "val2014"}
    questions = write(tmp_path / "vqacp_v2_train_questions.json", [QUESTION | extra])
    annotations = write(tmp_path / "vqacp_v2_train_annotations.json", [ANNOTATION | extra])
    official = write(tmp_path / "a.json", {"annotations": [ANNOTATION]})
    assert read_questions(questions) == [QUESTION]
    assert read_annotations(annotations) == read_annotations(official)


def test_lists_stand_anywhere_in_the_file(tmp_path):
    content = {"info": {"year": 2017}, "questions": [QUESTION], "license": {}, "data_type": "x"}
    for keys in (list(content), list(content)[::-1]):
        path = write(tmp_path / "q.json", {key: content[key] for key in keys})
        assert read_questions(path) == [QUESTION]


def test_official_names():
    assert official_name("test-dev", "questions") == (
        "v2_OpenEnded_mscoco_test-dev2015_questions.json"
    )
    assert official_name("val", "annotations") == "v2_mscoco_val2014_annotations.json"


@pytest.mark.parametrize(
    "content",
    [
        ["b", "", "a"],
        {"a": 2, "b": 0, "": 1},
        [{"a": 2, "b": 0, "": 1}, {"2": "a", "0": "b", "1": ""}],
    ],
    ids=["list", "lxmert", "openvqa"],
)
def test_given_answers_keep_their_places(tmp_path, content):
    assert read_answer_list(write(tmp_path / "answers.json", content)) == ["b", "", "a"]


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ({"a": 1, "b": 2}, r"labels of 2 answers must be the numbers from 0 to 1, each once"),
        ({"a": 0, "b": 0}, r"labels of 2 answers must be"),
        ({"a": "0"}, r"labels of 1 answers must be"),
        ({"a": False}, r"labels of 1 answers must be"),
        ([], r"holds no list of answers; give a JSON list"),
        ({}, r"holds no list of answers"),
        (["a", 5], r"holds no list of answers"),
        ("a", r"holds no list of answers"),
        (["a", "b", "a"], r"the answer 'a' occurs twice"),
    ],
)
def test_given_answers_that_are_none(tmp_path, content, complaint):
    with pytest.raises(ValueError, match=rf"answers\.json.*{complaint}"):
        read_answer_list(write(tmp_path / "answers.json", content))


@pytest.mark.skipif(not VOCABULARY.is_file(), reason=f"no {VOCABULARY}")
def test_the_answers_of_the_literature():
    answers = read_answer_list(VOCABULARY)
    assert len(answers) == 3129
    assert [answers.index(answer) for answer in ("", "0", "1 inch")] == [0, 444, 2881]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"question_id": "7001"}, r"annotations\[0\] needs 'question_id' of type int, got '7001'"),
        ({"question_id": True}, r"needs 'question_id' of type int, got True"),
        ({"answer_type": None}, r"needs 'answer_type' of type str, got None"),
        ({"answers": "yes"}, r"needs 'answers' of type list"),
        ({"answers": []}, r"question_id 7001 needs 'answers'"),
        ({"answers": ["yes"]}, r"question_id 7001 needs 'answers' like .*got \['yes'\]"),
        ({"answers": [{"answer": 2}]}, r"question_id 7001 needs 'answers' like"),
    ],
)
def test_incomplete_annotations_are_named(tmp_path, change, complaint):
    path = write(tmp_path / "a.json", {"annotations": [ANNOTATION | change]})
    with pytest.raises(ValueError, match=rf"a\.json: .*{complaint}"):
        read_annotations(path)


def test_entries_that_are_no_records_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"q\.json: questions\[1\] needs 'question_id'"):
        read_questions(write(tmp_path / "q.json", {"questions": [QUESTION, 5]}))


def test_an_id_that_occurs_twice_is_named(tmp_path):
    path = write(tmp_path / "q.json", {"questions": [QUESTION, QUESTION]})
    with pytest.raises(ValueError, match=r"q\.json: question_id 7001 occurs twice"):
        read_questions(path)


def test_annotations_decide_which_questions_count():
    other = QUESTION | {"question_id": 7002}
    assert list(join([other, QUESTION], [ANNOTATION])) == [7001]


def test_annotation_without_its_question_names_both_files():
    match = r"a\.json: 1 of 1 annotations .*q\.json does not have \(question_id 7001\)"
    with pytest.raises(ValueError, match=match):
        join([], [ANNOTATION], "q.json", "a.json")


@pytest.mark.skipif(not REAL.is_dir(), reason=f"real data not there: {REAL}")
def test_official_files_plain_and_gzip():
    questions = read_questions(REAL / "v2_OpenEnded_mscoco_train2014_questions.json")
    annotations = read_annotations(REAL / "v2_mscoco_train2014_annotations.json")
    joined = join(questions, annotations)
    assert len(joined) == len(questions) == 281
    assert all(len(row["answers"]) == 10 for row in joined.values())
    packed = next((REAL / "text_only").glob("*questions*.json.gz"))
    assert len(read_questions(packed)) == 39_540
