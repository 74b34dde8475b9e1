"""Official VQA 2.0 files and pictures, ready to train on: ``tbkin prep vqa data.root=DIR``.

Finds the files by their official names in ``data.root`` and the folders directly in it, or takes
each by its own key. Without a validation file a share of the training pictures is held out.
Writes ``output`` (``prepared/<name of root>`` by default): questions, answers, regions.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from data_prep.official import hold_out, official_file, pictures_of, with_boxes
from data_prep.regions import extract, make_way
from tbkin.answers import build_answer_vocabulary, normalize_answer
from tbkin.config import help_text, load_config, setting
from tbkin.data.prepared import SCHEMA, default_output
from tbkin.data.vqa_files import join, read_annotations, read_questions
from tbkin.detectors import DetectorSettings, short_detector
from tbkin.files import file_hash, new_folder, put_in_place, write_json, write_text

SUBSETS = {  # split -> the official files' name for it
    "train": "train2014",
    "val": "val2014",
    "test": "test2015",
    "test-dev": "test-dev2015",
}
Row = dict[str, Any]


@dataclass
class VQAFiles:
    """Where the official files are."""

    root: str = setting("", "folder with the official files")
    images: list[str] = setting([], "folders of pictures; empty: root")
    train_questions: str = setting("", "file; found in root by its official name")
    train_annotations: str = setting("", "file; found in root by its official name")
    val_questions: str = setting("", "file; found in root by its official name")
    val_annotations: str = setting("", "file; found in root by its official name")
    test_questions: str = setting("", "file; found in root by its official name")
    test_annotations: str = setting("", "file, where there is one; found likewise")


@dataclass
class VQAConfig:
    """One run of the step."""

    data: VQAFiles = field(default_factory=VQAFiles)
    output: str = setting("", "folder to write; not set: prepared/<name of root>")
    overwrite: bool = setting(False, "replace a folder that is there")
    detector: DetectorSettings = field(default_factory=DetectorSettings)
    min_answer_count: int = setting(9, "answers given to fewer training questions are not learned")
    val_share: float = setting(0.2, "training pictures held out when there is no validation file")

    def __post_init__(self) -> None:
        """Check ranges."""
        if not 0 < self.val_share < 1:
            raise ValueError(f"val_share must be in (0, 1), got {self.val_share}.")
        if self.min_answer_count < 1:
            raise ValueError(f"min_answer_count must be >= 1, got {self.min_answer_count}.")


def main(arguments: list[str]) -> None:
    """Parse the settings and prepare."""
    if "--help" in arguments or "-h" in arguments:
        sys.stdout.write(help_text(__doc__, VQAConfig) + "\n")
        return
    config = load_config(VQAConfig, short_detector(arguments))
    named = any(value for key, value in asdict(config.data).items() if key != "root")
    if not config.data.root and not named:
        raise ValueError("tbkin prep vqa needs data.root=DIR, or each file by its own key.")
    output = Path(config.output) if config.output else default_output(config.data.root or "vqa")
    if not make_way(output, config.overwrite):
        return
    files = find_files(config.data)
    splits, held_out = read_splits(files, config.val_share)
    pictures = pictures_of(splits, config.data.images or [config.data.root])
    labels = build_answer_vocabulary(
        (row["multiple_choice_answer"] for row in splits["train"]), config.min_answer_count
    )
    if not labels:
        raise ValueError(
            f"no answer occurs {config.min_answer_count} times in {files['train_annotations']}; "
            "lower min_answer_count."
        )
    detector = with_boxes(config.detector, config.data.root)
    store = output.with_name(f"{output.name}.regions")  # the long part, which can be resumed
    if extract(pictures, detector, store, overwrite=config.overwrite) is None:
        sys.stdout.write(f"{store}: this process has done its share\n")
        return

    with new_folder(output) as unfinished:
        for split, rows in splits.items():
            lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
            write_text(unfinished / f"{split}.jsonl", lines)
        write_json(unfinished / "answers.json", labels)
        put_in_place(store, unfinished / "regions")
        record = {
            "schema": SCHEMA,
            "task": "vqa",
            "root": config.data.root,
            "files": {
                key: {"path": str(path), "sha256": file_hash(path)} for key, path in files.items()
            },
            "splits": {
                split: {
                    "questions": len(rows),
                    "pictures": len({row["image_id"] for row in rows}),
                    "questions_with_a_known_answer": _answerable(rows, labels),
                }
                for split, rows in splits.items()
            },
            "val_held_out_from_train": held_out,
            "answers": len(labels),
            "detector": asdict(detector),
        }
        write_json(unfinished / "dataset.json", record)
    _report(output, record)


def find_files(data: VQAFiles) -> dict[str, Path]:
    """``train_questions`` … -> file, for those that are there.

    Raises:
        FileNotFoundError: a file that was named is missing, or no training questions are found.
    """
    given = {key: value for key, value in asdict(data).items() if key not in ("root", "images")}
    files: dict[str, Path] = {}
    for split, subset in SUBSETS.items():
        for kind, name in (
            ("questions", f"v2_OpenEnded_mscoco_{subset}_questions.json"),
            ("annotations", f"v2_mscoco_{subset}_annotations.json"),
        ):
            key = f"{split}_{kind}"
            if given.get(key):
                files[key] = Path(given[key])
                if not files[key].is_file():
                    raise FileNotFoundError(f"data.{key}: no file {given[key]}.")
            elif data.root and not any(given.values()):
                found = official_file(Path(data.root), name)
                if found is not None:
                    files[key] = found
    if "train_questions" not in files or "train_annotations" not in files:
        raise FileNotFoundError(
            f"no training questions and annotations in {data.root or '(data.root is not set)'}: "
            "looked for v2_OpenEnded_mscoco_train2014_questions.json and "
            "v2_mscoco_train2014_annotations.json there and one folder down. Name them with "
            "data.train_questions=FILE data.train_annotations=FILE."
        )
    return files


def read_splits(files: dict[str, Path], val_share: float) -> tuple[dict[str, list[Row]], bool]:
    """The questions of every split, and whether validation was held out from training."""
    splits: dict[str, list[Row]] = {}
    for split in SUBSETS:
        questions = files.get(f"{split}_questions")
        annotations = files.get(f"{split}_annotations")
        if questions is None:
            continue
        rows = read_questions(questions)
        if annotations is not None:
            joined = join(
                rows,
                read_annotations(annotations),
                questions_path=questions,
                annotations_path=annotations,
            )
            rows = list(joined.values())
        if not rows:
            raise ValueError(f"{questions} holds no questions for split {split!r}; fetch it again.")
        splits[split] = rows
    held_out = "val" not in splits
    if held_out:
        splits["train"], splits["val"] = hold_out(splits["train"], val_share)
    return splits, held_out


def _answerable(rows: list[Row], labels: list[str]) -> int:
    known = set(labels)
    return sum(
        any(normalize_answer(answer) in known for answer in row.get("answers", [])) for row in rows
    )


def _report(output: Path, record: dict[str, Any]) -> None:
    lines = [f"{output}: {record['answers']} answers"]
    for split, counts in record["splits"].items():
        lines.append(
            f"  {split:<9}{counts['questions']:>8} questions {counts['pictures']:>7} pictures"
        )
    if record["val_held_out_from_train"]:
        lines.append("  val is held out from the training file, by picture")
    sys.stdout.write("\n".join(lines) + "\n")
