"""A submission to the VQA challenge, before it is sent: ``tbkin score vqa_submission``."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from tbkin.config import load_config, setting
from tbkin.data.vqa_files import PUBLISHED, SUBSETS, read_questions
from tbkin.metrics.vqa_accuracy import compare_ids, few

FIELDS = {"question_id": int, "answer": str}
CHECKS = (
    "one JSON list in plain UTF-8",
    "question_id a whole number",
    "answer a string",
    "every question once",
    "no other ids",
)


@dataclasses.dataclass
class SubmissionConfig:
    """Which files are compared."""

    predictions: str = setting("", 'JSON list of {"question_id": int, "answer": str}')
    questions: str = setting("", "official question file, .json or .json.gz; of test2015 to submit")
    json: bool = setting(False, "print one JSON object instead of lines")

    def __post_init__(self) -> None:
        """Check names."""
        for name in ("predictions", "questions"):
            if not getattr(self, name):
                raise ValueError(
                    f"{name} is missing; add {name}=FILE (more: tbkin score vqa_submission --help)."
                )


def score_submission(arguments: list[str]) -> None:
    """Check a submission to the VQA challenge; a bad one is exit code 2, with all that is wrong.

    tbkin score vqa_submission predictions=FILE questions=FILE [json=true]

    The server wants an answer to every question of test2015, for test-dev as well as for test-std,
    and refuses gaps, other ids and repetitions.
    """
    config = load_config(SubmissionConfig, arguments, score_submission.__doc__)
    report = check_submission(config.predictions, config.questions)
    text = json.dumps(report, ensure_ascii=False) if config.json else _lines(report)
    sys.stdout.write(text + "\n")


def check_submission(predictions: str | Path, questions: str | Path) -> dict[str, Any]:
    """Check a submission.

    Args:
        predictions: the file as it would be sent: plain JSON.
        questions: official question file whose ids are wanted.

    Returns:
        ``predictions``, ``questions``, ``entries``, ``bytes``, ``sha256``, ``checked`` and
        ``notes``, what is no mistake but worth knowing.

    Raises:
        ValueError: it would be refused; everything that is wrong, with counts and the first ids.
        FileNotFoundError: a file is missing.
    """
    asked = {row["question_id"] for row in read_questions(questions)}
    if not asked:
        raise ValueError(f"{questions} has no questions; give the official file of the split.")
    path = Path(predictions)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}; write it with tbkin eval.")
    raw = path.read_bytes()
    entries = _read(raw, path)
    complaints = _complaints(entries, asked)
    if complaints:
        raise ValueError(f"{path} is no valid submission for {questions}: {'; '.join(complaints)}.")
    return {
        "predictions": str(path),
        "questions": str(questions),
        "entries": len(entries),
        "bytes": len(raw),
        "sha256": hashlib.sha256(raw).hexdigest(),
        "checked": list(CHECKS),
        "notes": _notes(entries, Path(questions), len(asked)),
    }


def _read(raw: bytes, path: Path) -> list[Any]:
    """The list in the file, read as strictly as the server does: no gzip, no byte-order mark."""
    mend = 'send one JSON list of {"question_id": int, "answer": str} in plain UTF-8'
    if raw.startswith(b"\x1f\x8b"):
        raise ValueError(f"{path} is gzip; unpack it: {mend}.")
    try:
        content = json.loads(raw.decode("utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not JSON in plain UTF-8 ({error}); {mend}.") from error
    if not isinstance(content, list):
        raise ValueError(f"{path} holds a {type(content).__name__}, not a list; {mend}.")
    return content


def _complaints(entries: list[Any], asked: set[int]) -> list[str]:
    """All that the server would refuse."""
    complaints = []
    good: Counter[int] = Counter()
    wrong: dict[str, list[int]] = {key: [] for key in FIELDS}  # field -> places of entries
    for place, entry in enumerate(entries):
        bad = [key for key, kind in FIELDS.items() if not _is_a(entry, key, kind)]
        for key in bad:
            wrong[key].append(place)
        if "question_id" not in bad:
            good[entry["question_id"]] += 1
    for key, kind in FIELDS.items():
        if wrong[key]:
            entry = entries[wrong[key][0]]
            value = entry.get(key) if isinstance(entry, dict) else entry
            complaints.append(
                f"{len(wrong[key])} of {len(entries)} entries have no {key!r} of type "
                f"{kind.__name__} (first: entry {wrong[key][0]} has {str(value)[:40]!r})"
            )
    repeated = sorted(number for number, count in good.items() if count > 1)
    if repeated:
        complaints.append(f"{len(repeated)} questions are answered more than once{few(repeated)}")
    return complaints + compare_ids(good, asked)


def _is_a(entry: Any, key: str, kind: type) -> bool:
    """Whether an entry has a value of just this type: ``True`` is no number."""
    return isinstance(entry, dict) and type(entry.get(key)) is kind


def _notes(entries: list[dict[str, Any]], questions: Path, asked: int) -> list[str]:
    """What the server takes, and the sender may not have meant."""
    notes = []
    extra = sorted({key for entry in entries for key in entry} - set(FIELDS))
    if extra:
        notes.append(f"entries have more keys, which the server passes over: {', '.join(extra)}")
    empty = sorted(entry["question_id"] for entry in entries if not entry["answer"].strip())
    if empty:
        notes.append(f"{len(empty)} answers are empty{few(empty)}")
    wanted = PUBLISHED["test"]["questions"]
    if SUBSETS["test-dev"] in questions.name:
        notes.append(
            f"the server wants all {wanted:,} questions of {SUBSETS['test']}, for test-dev too: "
            "check against that file"
        )
    elif SUBSETS["test"] in questions.name and asked != wanted:
        notes.append(f"{questions.name} has {asked:,} questions, the published file {wanted:,}")
    return notes


def _lines(report: dict[str, Any]) -> str:
    lines = [
        f"{report['predictions']}: valid for {report['questions']}",
        f"entries: {report['entries']:,}, size: {report['bytes'] / 1e6:.1f} MB",
        f"sha256: {report['sha256']}",
        f"checked: {', '.join(report['checked'])}",
        *(f"note: {note}" for note in report["notes"]),
    ]
    return "\n".join(lines)
