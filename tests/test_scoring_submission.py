"""``tbkin score vqa_submission``."""

import gzip
import hashlib
import json

import pytest

from tbkin.config import run_command
from tbkin.scoring import main

GOOD = [{"question_id": n, "answer": "yes"} for n in (1, 2, 3, 4, 5)]


@pytest.fixture
def check(tmp_path, capsys):
    """``check(content) -> (exit code, stdout, stderr)`` of a submission to five questions."""

    def run(content, *words, questions="v2_OpenEnded_mscoco_val2014_questions.json"):
        asked = [{"question_id": n, "image_id": 9, "question": "?"} for n in (1, 2, 3, 4, 5)]
        (tmp_path / questions).write_text(json.dumps({"questions": asked}))
        raw = content if isinstance(content, bytes) else json.dumps(content).encode()
        (tmp_path / "s.json").write_bytes(raw)
        arguments = [f"predictions={tmp_path}/s.json", f"questions={tmp_path}/{questions}"]
        code = run_command(main, ["vqa_submission", *arguments, *words])
        return code, *capsys.readouterr()

    return run


def test_a_good_one_says_what_was_checked(check, tmp_path):
    code, out, err = check(GOOD, "json=true")
    report = json.loads(out)
    raw = (tmp_path / "s.json").read_bytes()
    assert (code, err) == (0, "")
    assert report["entries"] == 5
    assert report["bytes"] == len(raw)
    assert report["sha256"] == hashlib.sha256(raw).hexdigest()
    assert report["notes"] == []
    assert "every question once" in report["checked"]
    code, out, _ = check(GOOD)
    assert code == 0
    assert "valid for" in out
    assert report["sha256"] in out
    assert "every question once" in out


def test_the_order_does_not_matter(check):
    assert check(GOOD[::-1])[0] == 0


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (GOOD[:1], "4 of 5 questions have no answer (ids 2, 3, 4, …)"),
        (
            [*GOOD, {"question_id": 77, "answer": "no"}],
            "1 answers are to unknown questions (ids 77)",
        ),
        ([*GOOD, GOOD[2], GOOD[2]], "1 questions are answered more than once (ids 3)"),
        ([*GOOD[1:], {"question_id": "1", "answer": "a"}], "entry 4 has '1'"),
        ([*GOOD[1:], {"question_id": True, "answer": "a"}], "no 'question_id' of type int"),
        ([*GOOD[1:], {"question_id": 1.0, "answer": "a"}], "no 'question_id' of type int"),
        ([{"question_id": 1, "answer": 2}, *GOOD[1:]], "1 of 5 entries have no 'answer' of"),
        ([{"question_id": 1}, *GOOD[1:]], "entry 0 has 'None'"),
        ([*GOOD, "yes"], "1 of 6 entries have no 'question_id'"),
        ({"answers": GOOD}, "holds a dict, not a list"),
        ([], "5 of 5 questions have no answer"),
        (b"[", "is not JSON in plain UTF-8"),
        (b"\xef\xbb\xbf" + json.dumps(GOOD).encode(), "is not JSON in plain UTF-8"),
        (json.dumps(GOOD).encode("utf-16"), "is not JSON in plain UTF-8"),
        (gzip.compress(json.dumps(GOOD).encode()), "is gzip; unpack it"),
    ],
)
def test_a_bad_one_is_exit_code_2_and_says_why(check, content, complaint):
    code, out, err = check(content, "json=true")
    assert (code, out) == (2, "")
    assert complaint in err
    assert "s.json" in err
    assert err.count("\n") == 1


def test_everything_that_is_wrong_is_said_at_once(check):
    bad = [GOOD[0], GOOD[0], {"question_id": 99, "answer": None}]
    _, _, err = check(bad)
    for complaint in (
        "1 of 3 entries have no 'answer'",
        "answered more than once (ids 1)",
        "4 of 5 questions have no answer",
        "1 answers are to unknown questions (ids 99)",
    ):
        assert complaint in err


def test_what_the_server_takes_is_a_note(check):
    odd = [dict(entry, confidence=0.5) for entry in GOOD[:4]] + [{"question_id": 5, "answer": " "}]
    code, out, _ = check(odd, "json=true")
    assert code == 0
    assert json.loads(out)["notes"] == [
        "entries have more keys, which the server passes over: confidence",
        "1 answers are empty (ids 5)",
    ]


def test_test_dev_alone_is_not_what_the_server_wants(check):
    _, out, _ = check(GOOD, questions="v2_OpenEnded_mscoco_test-dev2015_questions.json")
    assert "note: the server wants all 447,793 questions of test2015, for test-dev too" in out
    _, out, _ = check(GOOD, questions="v2_OpenEnded_mscoco_test2015_questions.json")
    assert "has 5 questions, the published file 447,793" in out


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ([], "predictions is missing; add predictions=FILE"),
        (["predictions=p"], "questions is missing; add questions=FILE"),
        (["predictions=p", "questions=nowhere.json"], "no file nowhere.json"),
    ],
)
def test_what_is_missing_is_named(words, complaint, capsys):
    assert run_command(main, ["vqa_submission", *words]) == 2
    assert complaint in capsys.readouterr().err


def test_a_missing_submission_and_help(check, tmp_path, capsys):
    check(GOOD)
    (tmp_path / "s.json").unlink()
    questions = f"questions={tmp_path}/v2_OpenEnded_mscoco_val2014_questions.json"
    words = ["vqa_submission", f"predictions={tmp_path}/s.json", questions]
    assert run_command(main, words) == 2
    assert "there is no file" in capsys.readouterr().err
    assert run_command(main, ["vqa_submission", "--help"]) == 0
    assert "test-dev" in capsys.readouterr().out
