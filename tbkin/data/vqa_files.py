"""The official VQA 2.0 question and annotation files, plain or gzip (https://visualqa.org)."""

from __future__ import annotations

import gzip
import json
import zlib
from pathlib import Path
from typing import Any

_DOWNLOAD = "download the official files from https://visualqa.org/download.html"


def read_questions(path: str | Path) -> list[dict[str, Any]]:
    """The questions of a file such as ``v2_OpenEnded_mscoco_val2014_questions.json``.

    Returns:
        ``{"question_id": int, "image_id": int, "question": str}`` each, in file order.
    """
    rows = _records(path, "questions", {"question_id": int, "image_id": int, "question": str})
    return [{key: row[key] for key in ("question_id", "image_id", "question")} for row in rows]


def read_annotations(path: str | Path) -> list[dict[str, Any]]:
    """The annotations of a file such as ``v2_mscoco_val2014_annotations.json``.

    Returns:
        ``{"question_id": int, "question_type": str, "answer_type": str,
        "multiple_choice_answer": str, "answers": list[str]}`` each, in file order; answers are raw,
        one an annotator; ``multiple_choice_answer`` is empty where the file has none (OK-VQA).
    """
    wanted = {"question_id": int, "question_type": str, "answer_type": str, "answers": list}
    rows = _records(path, "annotations", wanted)
    return [
        {
            "question_id": row["question_id"],
            "question_type": row["question_type"],
            "answer_type": row["answer_type"],
            "multiple_choice_answer": row.get("multiple_choice_answer", ""),
            "answers": _answers(row, path),
        }
        for row in rows
    ]


def join(
    questions: list[dict[str, Any]],
    annotations: list[dict[str, Any]],
    questions_path: str | Path = "the question file",
    annotations_path: str | Path = "the annotation file",
) -> dict[int, dict[str, Any]]:
    """Put each annotation beside its question.

    Args:
        questions: from :func:`read_questions`.
        annotations: from :func:`read_annotations`. They decide which questions count: a question
            without one is left out, as the official evaluation does.
        questions_path: for messages.
        annotations_path: for messages.

    Returns:
        question id -> ``{"question_id", "image_id", "question", "question_type", "answer_type",
        "multiple_choice_answer", "answers"}``, in the order of the annotations.
    """
    known = {question["question_id"]: question for question in questions}
    lost = [row["question_id"] for row in annotations if row["question_id"] not in known]
    if lost:
        raise ValueError(
            f"{annotations_path}: {len(lost)} of {len(annotations)} annotations are of questions "
            f"that {questions_path} does not have (question_id {lost[0]}); "
            "give the two files of the same split."
        )
    return {row["question_id"]: known[row["question_id"]] | row for row in annotations}


def read_json(path: str | Path, mend: str) -> Any:
    """Read a JSON file, plain or gzip (told by its first bytes, not by its name).

    Args:
        path: the file.
        mend: how a user gets a good one; ends each message.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}; {mend}.")
    content = path.read_bytes()
    try:
        if content.startswith(b"\x1f\x8b"):
            content = gzip.decompress(content)
        return json.loads(content)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{path} is a damaged gzip file ({error}); {mend}.") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not JSON in UTF-8 ({error}); {mend}.") from error


def _records(path: str | Path, kind: str, wanted: dict[str, type]) -> list[dict[str, Any]]:
    """The list ``kind`` of an official file, its entries complete and their ids distinct."""
    content = read_json(path, _DOWNLOAD)
    if not isinstance(content, dict) or not isinstance(content.get(kind), list):
        found = ", ".join(content) if isinstance(content, dict) else f"a {type(content).__name__}"
        raise ValueError(f"{path} has no list {kind!r} (it holds: {found}); {_DOWNLOAD}.")
    rows = content[kind]
    seen = set()
    for place, row in enumerate(rows):
        for key, kind_of_value in wanted.items():
            value = row.get(key) if isinstance(row, dict) else None
            if not isinstance(value, kind_of_value) or isinstance(value, bool):
                raise ValueError(
                    f"{path}: {kind}[{place}] needs {key!r} of type {kind_of_value.__name__}, "
                    f"got {value!r}; {_DOWNLOAD}."
                )
        if row["question_id"] in seen:
            raise ValueError(
                f"{path}: question_id {row['question_id']} occurs twice in {kind!r}; "
                "keep one of them."
            )
        seen.add(row["question_id"])
    return rows


def _answers(row: dict[str, Any], path: str | Path) -> list[str]:
    """The annotators' raw answers of one annotation."""
    answers = [entry.get("answer") if isinstance(entry, dict) else None for entry in row["answers"]]
    if not answers or not all(isinstance(answer, str) for answer in answers):
        raise ValueError(
            f"{path}: the annotation of question_id {row['question_id']} needs 'answers' like "
            f'[{{"answer": "yes"}}, …], got {str(row["answers"])[:60]}; {_DOWNLOAD}.'
        )
    return answers
