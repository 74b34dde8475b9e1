"""Question and annotation files, plain or gzip, of VQA 2.0 and of benchmarks that follow it.

The layout is told by the content:

* VQA 2.0 (https://visualqa.org) and OK-VQA: an object with the list ``questions`` or
  ``annotations``.
* VQA-CP v1 and v2: the list alone. ``coco_split`` is passed over: COCO's image ids are unique over
  train and val.
* GQA: see :mod:`tbkin.data.gqa`.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from sys import intern
from typing import Any

from tbkin.data.gqa import GQAReader, is_gqa
from tbkin.json_stream import JsonStream

SUBSETS = {  # split -> the official files' name for it
    "train": "train2014",
    "val": "val2014",
    "test": "test2015",
    "test-dev": "test-dev2015",
}
PUBLISHED = {  # split -> numbers of the official VQA 2.0 files (https://visualqa.org/download.html)
    "train": {"questions": 443_757, "answers": 4_437_570},
    "val": {"questions": 214_354, "answers": 2_143_540},
    "test": {"questions": 447_793},
    "test-dev": {"questions": 107_394},  # as papers give it; part of test
}
_DOWNLOAD = "download the official files from https://visualqa.org/download.html"
_QUESTION = {"question_id": int, "image_id": int, "question": str}
_ANNOTATION = {"question_id": int, "question_type": str, "answer_type": str, "answers": list}


def official_name(split: str, kind: str) -> str:
    """Name of the official VQA 2.0 file of ``questions`` or ``annotations``."""
    if kind == "questions":
        return f"v2_OpenEnded_mscoco_{SUBSETS[split]}_questions.json"
    return f"v2_mscoco_{SUBSETS[split]}_annotations.json"


def read_questions(path: str | Path) -> list[dict[str, Any]]:
    """The questions of a file such as ``v2_OpenEnded_mscoco_val2014_questions.json``.

    Returns:
        ``{"question_id": int, "image_id": int, "question": str}`` each, in file order.
    """
    return [
        {key: row[key] for key in ("question_id", "image_id", "question")}
        for row in _checked(path, "questions", _QUESTION)
    ]


def read_annotations(path: str | Path) -> list[dict[str, Any]]:
    """The annotations of a file such as ``v2_mscoco_val2014_annotations.json``.

    Returns:
        ``{"question_id": int, "question_type": str, "answer_type": str,
        "multiple_choice_answer": str, "answers": list[str]}`` each, in file order; answers are raw,
        one an annotator; ``multiple_choice_answer`` is empty where the file has none (OK-VQA).
    """
    # Interned: two million answers have some ten thousand spellings.
    return [
        {
            "question_id": row["question_id"],
            "question_type": intern(row["question_type"]),
            "answer_type": intern(row["answer_type"]),
            "multiple_choice_answer": intern(str(row.get("multiple_choice_answer") or "")),
            "answers": _answers(row, path),
        }
        for row in _checked(path, "annotations", _ANNOTATION)
    ]


def picture_collection(path: str | Path) -> str:
    """Whose numbers the picture ids of a question file are, as ``picture_ids.py`` names them.

    "visual_genome" for GQA's files, "coco" for all others.
    """
    with JsonStream(Path(path), mend=_DOWNLOAD) as stream:
        if stream.peek() == "{":
            for _ in stream.each_key():  # the first: a question of GQA is an object, a list is long
                gqa = stream.peek() == "{" and is_gqa(stream.value())
                return "visual_genome" if gqa else "coco"
    return "coco"


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


def read_answer_list(path: str | Path) -> list[str]:
    """An answer vocabulary that somebody else made, in the order of its labels.

    Args:
        path: a JSON file, plain or gzip: a list of answers, ``{answer: label}`` with the labels
            0 … A - 1 (LXMERT's and UNITER's ``trainval_ans2label.json``), or OpenVQA's and ROSITA's
            list of two such objects, ``[{answer: label}, {label: answer}]``.
    """
    mend = "give a JSON list of answers, {answer: label}, or the list [{answer: label}, …]"
    content = read_json(path, mend)
    if isinstance(content, list) and content and isinstance(content[0], dict):
        content = content[0]
    if isinstance(content, dict):
        labels = list(content.values())
        numbers = all(type(label) is int for label in labels)
        if not numbers or sorted(labels) != list(range(len(labels))):
            raise ValueError(
                f"{path}: the labels of {len(labels)} answers must be the numbers from 0 to "
                f"{len(labels) - 1}, each once; {mend}."
            )
        content = sorted(content, key=content.__getitem__)
    wrong = not isinstance(content, list) or not content
    if wrong or not all(isinstance(answer, str) for answer in content):
        raise ValueError(f"{path} holds no list of answers; {mend}.")
    if len(set(content)) < len(content):
        twice = next(answer for place, answer in enumerate(content) if answer in content[:place])
        raise ValueError(f"{path}: the answer {twice!r} occurs twice; keep one of them.")
    return content


def read_json(
    path: str | Path, mend: str, pairs: Callable[[list[tuple[str, Any]]], Any] | None = None
) -> Any:
    """Read a JSON file, plain or gzip (told by its first bytes, not by its name).

    Args:
        path: the file.
        mend: how a user gets a good one; ends each message.
        pairs: makes something else than a dict of each object's (key, value) pairs.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}; {mend}.")
    content = path.read_bytes()
    try:
        if content.startswith(b"\x1f\x8b"):
            content = gzip.decompress(content)
        return json.loads(content, object_pairs_hook=pairs)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{path} is a damaged gzip file ({error}); {mend}.") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not JSON in UTF-8 ({error}); {mend}.") from error


def _checked(path: str | Path, kind: str, wanted: dict[str, type]) -> Iterator[dict[str, Any]]:
    """The entries of a file, each complete and their ids distinct."""
    seen = set()
    for place, row in enumerate(_entries(Path(path), kind)):
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
        yield row


def _entries(path: Path, kind: str) -> Iterator[Any]:
    """The list ``kind`` of a file in any of the layouts, entry by entry: never all at once."""
    gqa = GQAReader(path)
    holds: list[str] = []  # members of the object that are something else
    found = False
    with JsonStream(path, mend=_DOWNLOAD) as stream:
        if stream.peek() == "[":
            yield from stream.items()
            found = True
        elif stream.peek() == "{":
            for name in stream.each_key():
                if name == kind and stream.peek() == "[":
                    yield from stream.items()
                    found = True
                    continue
                value = stream.value()
                if is_gqa(value):
                    yield gqa.entry(name, value)
                    found = True
                else:
                    holds.append(name)
        else:
            stream.value()
        stream.end()
    if not found:
        raise ValueError(
            f"{path} has no list {kind!r} (it holds: {', '.join(holds) or 'nothing'}); {_DOWNLOAD}."
        )
    gqa.end()


def _answers(row: dict[str, Any], path: str | Path) -> list[str]:
    """The annotators' raw answers of one annotation."""
    answers = [entry.get("answer") if isinstance(entry, dict) else None for entry in row["answers"]]
    if not answers or not all(isinstance(answer, str) for answer in answers):
        raise ValueError(
            f"{path}: the annotation of question_id {row['question_id']} needs 'answers' like "
            f'[{{"answer": "yes"}}, …], got {str(row["answers"])[:60]}; {_DOWNLOAD}.'
        )
    return [intern(answer) for answer in answers]
