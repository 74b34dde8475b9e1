"""Score a prediction file by the official rule of its benchmark; needs no model.

tbkin score vqa predictions=FILE questions=FILE annotations=FILE [rule=legacy] [json=true]
tbkin score vqa_submission predictions=FILE questions=FILE [json=true]
tbkin score captions predictions=FILE gold=FILE [matching=lemma] [json=true]
tbkin score grounding predictions=FILE gold=FILE [iou=plus_one] [comparison=gt] [json=true]
tbkin score retrieval scores=FILE dataset=FILE [protocol=1k] [captions=all] [json=true]
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable
from typing import Any

from tbkin.config import choose, load_config, run_command, setting
from tbkin.data.vqa_files import join, read_annotations, read_json, read_questions
from tbkin.files import file_lines, files_record
from tbkin.metrics.vqa_accuracy import RULES, baselines, score_predictions
from tbkin.scoring_captions import score_captions
from tbkin.scoring_grounding import score_grounding
from tbkin.scoring_retrieval import score_retrieval
from tbkin.scoring_submission import score_submission


@dataclasses.dataclass
class VQAScoreConfig:
    """Which files are scored, and how."""

    predictions: str = setting("", 'JSON list of {"question_id": int, "answer": str}')
    questions: str = setting("", "official question file, .json or .json.gz")
    annotations: str = setting("", "official annotation file, .json or .json.gz")
    train_annotations: str | None = setting(
        None, "annotations that the baselines learn from; without: those that are scored"
    )
    rule: str = setting("official", f"whose script is followed: {', '.join(RULES)}")
    json: bool = setting(False, "print one JSON object, unrounded, instead of a table")

    def __post_init__(self) -> None:
        """Check names."""
        for name in ("predictions", "questions", "annotations"):
            if not getattr(self, name):
                raise ValueError(
                    f"{name} is missing; add {name}=FILE (more: tbkin score vqa --help)."
                )
        choose(dict.fromkeys(RULES), self.rule, "rule")


def main(arguments: list[str]) -> None:
    """``tbkin score BENCHMARK key=value …``."""
    if arguments and arguments[0] in ("--help", "-h"):
        names = ", ".join(sorted(SCORES))
        sys.stdout.write(f"{__doc__.strip()}\n\nBenchmarks (each has its own --help): {names}\n")
        return
    if not arguments:
        raise ValueError(
            f"tbkin score needs a benchmark; choose from: {', '.join(sorted(SCORES))}."
        )
    choose(SCORES, arguments[0], "benchmark")(arguments[1:])


def score_vqa(arguments: list[str]) -> None:
    """VQA accuracy of a prediction file in the format of the official challenge.

    tbkin score vqa predictions=FILE questions=FILE annotations=FILE [rule=legacy] [json=true]

    Printed beside it: what is scored without looking at the picture, by the commonest answer and by
    the commonest answer of each question type.
    """
    config = load_config(VQAScoreConfig, arguments, score_vqa.__doc__)
    questions = join(
        read_questions(config.questions),
        read_annotations(config.annotations),
        config.questions,
        config.annotations,
    )
    predictions = read_vqa_predictions(config.predictions)
    try:
        result = score_predictions(predictions, questions, config.rule)
    except ValueError as error:
        raise ValueError(f"{config.predictions} against {config.annotations}: {error}") from error
    if config.train_annotations:
        train = {row["question_id"]: row for row in read_annotations(config.train_annotations)}
        source = config.train_annotations
    else:
        train, source = questions, "scored annotations"
    result["baselines"] = {"from": source, **baselines(train, questions, config.rule)}
    names = ("predictions", "questions", "annotations", "train_annotations")
    files = {name: getattr(config, name) for name in names}
    result["files"] = files_record({name: path for name, path in files.items() if path})
    if config.json:
        text = json.dumps(result, ensure_ascii=False)
    else:
        text = "\n".join([vqa_table(result), *file_lines(result["files"])])
    sys.stdout.write(text + "\n")


def read_vqa_predictions(path: str) -> dict[int, str]:
    """Read ``[{"question_id": int, "answer": str}, …]``, plain or gzip.

    The last of several answers to one question counts, as in the official loader; stderr says so.
    """
    mend = 'write one JSON list of {"question_id": int, "answer": str}'
    content = read_json(path, mend)
    if not isinstance(content, list):
        raise ValueError(f"{path} holds a {type(content).__name__}, not a list; {mend}.")
    predictions: dict[int, str] = {}
    for place, entry in enumerate(content):
        for key, kind in (("question_id", int), ("answer", str)):
            value = entry.get(key) if isinstance(entry, dict) else None
            if not isinstance(value, kind) or isinstance(value, bool):
                raise ValueError(
                    f"{path}: entry {place} needs {key!r} of type {kind.__name__}, "
                    f"got {value!r}; {mend}."
                )
        predictions[entry["question_id"]] = entry["answer"]
    repeated = len(content) - len(predictions)
    if repeated:
        sys.stderr.write(
            f"warning: {path}: {repeated} of {len(content)} entries repeat a question_id; "
            "the last answer counts.\n"
        )
    return predictions


def vqa_table(result: dict[str, Any]) -> str:
    """Per cent, two places, as the official script prints them."""
    floor = result["baselines"]
    seen = ", which have seen the answers" if floor["from"] == "scored annotations" else ""
    rows = [
        ("overall", result["overall"]),
        *((f"answer type: {name}", value) for name, value in result["per_answer_type"].items()),
        *((f"question type: {name}", value) for name, value in result["per_question_type"].items()),
        (
            f"baseline: always {floor['majority_answer']['answer']!r}",
            floor["majority_answer"]["overall"],
        ),
        ("baseline: commonest answer of the type", floor["per_question_type"]["overall"]),
    ]
    width = max(len(name) for name, _ in rows)
    lines = [
        f"VQA accuracy in per cent, {result['questions']} questions, rule: {result['rule']}",
        *(f"{name:<{width}}  {value:6.2f}" for name, value in rows),
        f"(baselines from: {floor['from']}{seen})",
    ]
    return "\n".join(lines)


SCORES: dict[str, Callable[[list[str]], None]] = {
    "captions": score_captions,
    "grounding": score_grounding,
    "retrieval": score_retrieval,
    "vqa": score_vqa,
    "vqa_submission": score_submission,
}


if __name__ == "__main__":
    raise SystemExit(run_command(main))
