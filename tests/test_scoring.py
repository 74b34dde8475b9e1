import json
from pathlib import Path

import pytest

from tbkin.config import run_command
from tbkin.data.vqa_files import read_annotations
from tbkin.scoring import main

REAL = Path(__file__).resolve().parents[2] / "shared/data/real_mini/vqa"
REAL_QUESTIONS = REAL / "v2_OpenEnded_mscoco_train2014_questions.json"
REAL_ANNOTATIONS = REAL / "v2_mscoco_train2014_annotations.json"

ROWS = [  # question id, question type, answer type, ten answers
    (1, "is the", "yes/no", ["yes"] * 10),
    (2, "is the", "yes/no", ["no"] * 8 + ["yes"] * 2),
    (3, "how many", "number", ["2"] * 10),
]


def annotation(number, question_type, answer_type, answers):
    return {
        "question_id": number,
        "image_id": 5,
        "question_type": question_type,
        "answer_type": answer_type,
        "multiple_choice_answer": max(set(answers), key=answers.count),
        "answers": [{"answer": answer, "answer_id": i} for i, answer in enumerate(answers, 1)],
    }


@pytest.fixture
def files(tmp_path):
    """Words of a command that scores three questions: 100, 60, and "two" for ten times "2"."""
    contents = {
        "predictions": [
            {"question_id": 1, "answer": "yes"},
            {"question_id": 2, "answer": "yes"},
            {"question_id": 3, "answer": "two"},
        ],
        "questions": {
            "questions": [{"question_id": r[0], "image_id": 5, "question": "?"} for r in ROWS]
        },
        "annotations": {"annotations": [annotation(*row) for row in ROWS]},
    }
    for name, content in contents.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    return ["vqa", *(f"{name}={tmp_path}/{name}.json" for name in contents)]


def rewrite(tmp_path, name, content):
    (tmp_path / f"{name}.json").write_text(json.dumps(content))


def printed_json(arguments, capsys):
    main([*arguments, "json=true"])
    return json.loads(capsys.readouterr().out)


def test_json_is_one_object_with_everything(files, capsys):
    result = printed_json(files, capsys)
    assert list(result) == [
        "overall",
        "per_answer_type",
        "per_question_type",
        "questions",
        "rule",
        "baselines",
        "files",
    ]
    assert result["files"].keys() == {"predictions", "questions", "annotations"}
    assert result["overall"] == pytest.approx(160 / 3, abs=1e-12)
    assert result["per_answer_type"] == pytest.approx({"yes/no": 80.0, "number": 0.0})
    assert result["per_question_type"] == pytest.approx({"is the": 80.0, "how many": 0.0})
    assert result["questions"] == 3
    assert result["rule"] == "official"


def test_the_older_rule(files, capsys):
    result = printed_json([*files, "rule=legacy"], capsys)
    assert result["rule"] == "legacy"
    assert result["overall"] == pytest.approx(260 / 3)


def test_the_rule_of_mmf(files, capsys):
    # Ten times "2" is what "two" is spelled as, which the current script leaves alone.
    result = printed_json([*files, "rule=mmf"], capsys)
    assert result["rule"] == "mmf"
    assert result["overall"] == pytest.approx(260 / 3)


def test_baselines_of_the_scored_file_say_so(files, capsys):
    # Commonest: 2, no, yes tie -> "2": 0, 0, 1. By type: "no" (0, 1) and "2" (1).
    assert printed_json(files, capsys)["baselines"] == {
        "from": "scored annotations",
        "majority_answer": {"answer": "2", "overall": pytest.approx(100 / 3)},
        "per_question_type": {"overall": pytest.approx(200 / 3)},
    }


def test_baselines_of_a_training_file(files, tmp_path, capsys):
    rewrite(tmp_path, "train", {"annotations": [annotation(9, "is the", "yes/no", ["yes"] * 10)]})
    result = printed_json([*files, f"train_annotations={tmp_path}/train.json"], capsys)
    assert result["files"]["train_annotations"]["path"] == f"{tmp_path}/train.json"
    assert result["baselines"] == {
        "from": f"{tmp_path}/train.json",
        "majority_answer": {"answer": "yes", "overall": pytest.approx(160 / 3)},
        "per_question_type": {"overall": pytest.approx(160 / 3)},
    }


def test_table_rounds_to_two_places_and_names_the_rule(files, capsys):
    main(files)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "VQA accuracy in per cent, 3 questions, rule: official"
    values = {tuple(line.rsplit(maxsplit=1)) for line in lines[1:-4]}
    assert ("overall", "53.33") in values
    assert ("answer type: yes/no", "80.00") in values
    assert ("question type: how many", "0.00") in values
    assert ("baseline: always '2'", "33.33") in values
    assert lines[-4] == "(baselines from: scored annotations, which have seen the answers)"
    for name, line in zip(("predictions", "questions", "annotations"), lines[-3:], strict=True):
        assert line.startswith(f"({name}: ")
        assert "sha256" in line


def test_the_last_of_two_answers_counts_and_stderr_says_so(files, tmp_path, capsys):
    rewrite(
        tmp_path,
        "predictions",
        [{"question_id": n, "answer": answer} for n, answer in [(1, "no"), (2, "no"), (3, "2")]]
        + [{"question_id": 1, "answer": "yes"}],
    )
    main([*files, "json=true"])
    printed = capsys.readouterr()
    assert json.loads(printed.out)["overall"] == pytest.approx(100.0)
    assert "predictions.json: 1 of 4 entries repeat a question_id" in printed.err


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("predictions", {"a": 1}, r"predictions\.json holds a dict, not a list; write one JSON"),
        ("predictions", [{"answer": "x"}], r"predictions\.json: entry 0 needs 'question_id'"),
        ("predictions", [{"question_id": 1}], r"predictions\.json: entry 0 needs 'answer'"),
        ("predictions", [{"question_id": "1", "answer": "x"}], r"of type int, got '1'"),
        ("predictions", [{"question_id": 1, "answer": 2}], r"of type str, got 2"),
        ("predictions", [3], r"predictions\.json: entry 0 needs"),
        (
            "predictions",
            [{"question_id": 1, "answer": "x"}],
            r"predictions\.json against .*annotations\.json: 2 of 3 questions .*\(ids 2, 3\)",
        ),
        (
            "predictions",
            [{"question_id": n, "answer": "x"} for n in range(1, 5)],
            r"1 answers are to unknown questions \(ids 4\)",
        ),
        ("questions", {"info": 1}, r"questions\.json has no list 'questions'"),
        ("questions", {"questions": []}, r"annotations\.json: 3 of 3 .*questions\.json does not"),
        ("annotations", {"annotations": []}, r"no questions to score"),
    ],
)
def test_mistakes_in_files_are_one_line(files, tmp_path, capsys, name, content, complaint):
    rewrite(tmp_path, name, content)
    with pytest.raises(ValueError, match=complaint):
        main(files)
    assert run_command(main, files) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("error: ")
    assert printed.err.count("\n") == 1


def test_files_that_are_missing_or_not_json(files, tmp_path, capsys):
    (tmp_path / "predictions.json").write_text("question_id,answer\n1,yes\n")
    with pytest.raises(ValueError, match=r"predictions\.json is not JSON .*; write one JSON list"):
        main(files)
    (tmp_path / "predictions.json").unlink()
    assert run_command(main, files) == 2
    assert "there is no file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "needs a benchmark; choose from: captions, grounding, retrieval, vqa"),
        (["vqaa"], "unknown benchmark 'vqaa'; choose from: captions, grounding, retrieval, vqa"),
        (["vqa"], "predictions is missing; add predictions=FILE"),
        (["vqa", "predictions=p", "questions=q"], "annotations is missing"),
        (["vqa", "prediction=p"], "unknown setting 'prediction'; did you mean 'predictions'"),
        (
            ["vqa", "predictions=p", "questions=q", "annotations=a", "rule=new"],
            "unknown rule 'new'; choose from: legacy, mmf, official",
        ),
    ],
)
def test_mistakes_in_the_command_exit_2(arguments, complaint, capsys):
    assert run_command(main, arguments) == 2
    error = capsys.readouterr().err
    assert complaint in error
    assert error.count("\n") == 1


def test_help(capsys):
    assert run_command(main, ["--help"]) == 0
    assert "vqa" in capsys.readouterr().out
    assert run_command(main, ["vqa", "--help"]) == 0
    text = capsys.readouterr().out
    for key in ("predictions", "questions", "annotations", "train_annotations", "rule", "json"):
        assert f"\n  {key} " in text


@pytest.mark.skipif(not REAL.is_dir(), reason=f"real data not there: {REAL}")
def test_chosen_answers_of_real_questions(tmp_path, capsys):
    rows = read_annotations(REAL_ANNOTATIONS)
    chosen = [
        {"question_id": row["question_id"], "answer": row["multiple_choice_answer"]} for row in rows
    ]
    (tmp_path / "chosen.json").write_text(json.dumps(chosen))
    arguments = [
        "vqa",
        f"predictions={tmp_path}/chosen.json",
        f"questions={REAL_QUESTIONS}",
        f"annotations={REAL_ANNOTATIONS}",
    ]
    result = printed_json(arguments, capsys)
    assert result["questions"] == len(rows)
    assert 85 < result["overall"] < 100
    assert result["baselines"]["majority_answer"]["overall"] < result["overall"]
    assert result["baselines"]["per_question_type"]["overall"] < result["overall"]
