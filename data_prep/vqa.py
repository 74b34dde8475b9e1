"""Official VQA 2.0 files and pictures, ready to train on: ``tbkin prep vqa data.root=DIR``.

Finds the files by their official names in ``data.root`` and the folders directly in it, or takes
each by its own key: so VQA-CP's lists and GQA's files (both keys of a split name the same file).
Where one is named none is looked for.
Files of official names are compared with the published numbers; differences are said and recorded,
and refused with ``official=true``. Without a validation file a share of the training pictures is
held out. The answers that can be learned are counted, or given with ``answers=FILE``.
Writes ``output`` (``prepared/<name of root>`` by default): questions, answers, regions.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from data_prep.official import (
    box_source,
    hold_out,
    is_tiny,
    official_file,
    pictures_of,
    with_boxes,
)
from data_prep.regions import extract, make_way
from tbkin.answers import build_answer_vocabulary, normalize_answer
from tbkin.config import load_config, setting
from tbkin.data.features import RegionStore
from tbkin.data.picture_ids import COLLECTIONS
from tbkin.data.prepared import SCHEMA, default_output, resolved
from tbkin.data.vqa_files import (
    PUBLISHED,
    SUBSETS,
    join,
    official_name,
    picture_collection,
    read_annotations,
    read_answer_list,
    read_questions,
)
from tbkin.detectors import DetectorSettings, short_detector
from tbkin.files import files_record, new_folder, put_in_place, write_json, write_text
from tbkin.metrics.vqa_accuracy import main_answer

Row = dict[str, Any]
FOUND = "file; if none is named, found in root by its official name"


@dataclass
class VQAFiles:
    """Where the official files are."""

    root: str = setting("", "folder with the official files")
    images: list[str] = setting([], "folders of pictures; empty: root")
    train_questions: str = setting("", FOUND)
    train_annotations: str = setting("", FOUND)
    val_questions: str = setting("", FOUND)
    val_annotations: str = setting("", FOUND)
    test_questions: str = setting("", FOUND)
    test_annotations: str = setting("", f"{FOUND}, where there is one")


@dataclass
class VQAConfig:
    """One run of the step."""

    data: VQAFiles = field(default_factory=VQAFiles)
    output: str = setting("", "folder to write; not set: prepared/<name of root>")
    overwrite: bool = setting(False, "replace a folder that is there")
    detector: DetectorSettings = field(default_factory=DetectorSettings)
    answers: str = setting(
        "", "file with the answers to learn: JSON list, {answer: label} or [{answer: label}, …]"
    )
    min_answer_count: int = setting(
        9, "without such a file: answers given to fewer training questions are not learned"
    )
    official: bool = setting(False, "refuse files that do not have the published numbers")
    val_share: float = setting(0.2, "training pictures held out when there is no validation file")

    def __post_init__(self) -> None:
        """Check ranges."""
        if not 0 < self.val_share < 1:
            raise ValueError(f"val_share must be in (0, 1), got {self.val_share}.")
        if self.min_answer_count < 1:
            raise ValueError(f"min_answer_count must be >= 1, got {self.min_answer_count}.")


def main(arguments: list[str]) -> None:
    """Parse the settings and prepare."""
    config = load_config(VQAConfig, short_detector(arguments), __doc__)
    named = any(value for key, value in asdict(config.data).items() if key != "root")
    if not config.data.root and not named:
        raise ValueError("tbkin prep vqa needs data.root=DIR, or each file by its own key.")
    output = Path(config.output) if config.output else default_output(config.data.root or "vqa")
    if not make_way(output, config.overwrite, config.data.root):
        return
    files = find_files(config.data)
    labels: list[str] = []
    if config.answers:
        files["answers"] = Path(config.answers)
        labels = given_answers(config.answers)
    collection = one_collection(files)
    splits, held_out, counts = read_splits(files, config.val_share)
    tiny = is_tiny(config.data.root)
    official_counts = compare_counts(files, counts, config.official, quiet=tiny)
    pictures = pictures_of(splits, config.data.images or [config.data.root])
    if not labels:
        labels = counted_answers(splits["train"], config.min_answer_count, files)
    tell_unreachable(splits, labels)
    detector = with_boxes(config.detector, config.data.root)
    store = output.with_name(f"{output.name}.regions")  # the long part, which can be resumed
    if extract(pictures, detector, store, overwrite=config.overwrite) is None:
        sys.stdout.write(f"{store}: this process has done its share\n")
        return

    settings = asdict(detector)
    record = {
        "schema": SCHEMA,
        "task": "vqa",
        "root": resolved(config.data.root),
        "files": files_record(files),
        "picture_ids": collection,
        "splits": {
            split: {
                "questions": len(rows),
                "pictures": len({row["image_id"] for row in rows}),
                "questions_with_a_known_answer": _answerable(rows, labels),
            }
            for split, rows in splits.items()
        },
        "official_counts": official_counts,
        "val_held_out_from_train": held_out,
        "answers": len(labels),
        "detector": settings,
        "box_source": box_source(settings, RegionStore(store), [int(name) for name in pictures]),
    }
    with new_folder(output) as unfinished:
        for split, rows in splits.items():
            lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
            write_text(unfinished / f"{split}.jsonl", lines)
        write_json(unfinished / "answers.json", labels)
        write_json(unfinished / "dataset.json", record)
        put_in_place(store, unfinished / "regions")  # last: what stops before it leaves the store
    _report(output, record)


def find_files(data: VQAFiles) -> dict[str, Path]:
    """``train_questions`` … -> file, for those that are there.

    Raises:
        FileNotFoundError: a file that was named is missing, no training questions are found, or
            questions to train or validate on have no annotations, or annotations no questions.
    """
    given = {key: value for key, value in asdict(data).items() if key not in ("root", "images")}
    files: dict[str, Path] = {}
    for split in SUBSETS:
        for kind in ("questions", "annotations"):
            key = f"{split}_{kind}"
            if given.get(key):
                files[key] = Path(given[key])
                if not files[key].is_file():
                    raise FileNotFoundError(f"data.{key}: no file {given[key]}.")
            elif data.root and not any(given.values()):
                found = official_file(Path(data.root), official_name(split, kind))
                if found is not None:
                    files[key] = found
    wanted = ["train_questions", "train_annotations"]  # a test may have questions alone
    wanted += [f"{split}_questions" for split in SUBSETS if f"{split}_annotations" in files]
    wanted += ["val_annotations"] if "val_questions" in files else []
    missing = [key for key in wanted if key not in files]
    if missing:
        split, kind = missing[0].rsplit("_", 1)
        where = data.root or "(data.root is not set)"
        looked = f"in {where}: looked for {official_name(split, kind)} there and one folder down"
        if any(given.values()):
            looked = "named, and once a file is named none is looked for"
        raise FileNotFoundError(
            f"no {split} {kind} {looked}. Name what belongs together, as in "
            f"data.{split}_questions=FILE data.{split}_annotations=FILE"
            + ("; without both validation is held out from train." if split == "val" else ".")
        )
    return files


def one_collection(files: dict[str, Path]) -> str:
    """Whose numbers the picture ids of the question files are (``tbkin/data/picture_ids.py``).

    Raises:
        ValueError: they are not all of one collection; a folder has one picture to a number.
    """
    questions = [path for key, path in files.items() if key.endswith("_questions")]
    found = {picture_collection(path): path for path in questions}
    if len(found) > 1:
        listed = " and ".join(f"{COLLECTIONS[name]} ({path})" for name, path in found.items())
        raise ValueError(
            f"the question files have picture ids of {listed}, and one folder cannot hold both; "
            "prepare each by itself (answers=FILE gives both the same answers)."
        )
    return next(iter(found))


class Splits(NamedTuple):
    """What the files hold.

    Attributes:
        rows: split -> its questions, with answers where they are known.
        held_out: whether validation was held out from training.
        counts: split -> number of ``questions`` and ``answers`` in its files.
    """

    rows: dict[str, list[Row]]
    held_out: bool
    counts: dict[str, dict[str, int]]


def read_splits(files: dict[str, Path], val_share: float) -> Splits:
    """The questions of every split that has files."""
    splits: dict[str, list[Row]] = {}
    counts: dict[str, dict[str, int]] = {}
    for split in SUBSETS:
        questions = files.get(f"{split}_questions")
        annotations = files.get(f"{split}_annotations")
        if questions is None:
            continue
        rows = read_questions(questions)
        counts[split] = {"questions": len(rows)}
        if annotations is not None:
            answered = read_annotations(annotations)
            counts[split]["answers"] = sum(len(row["answers"]) for row in answered)
            joined = join(rows, answered, questions_path=questions, annotations_path=annotations)
            rows = list(joined.values())
        if not rows:
            raise ValueError(f"{questions} holds no questions for split {split!r}; fetch it again.")
        splits[split] = rows
    held_out = "val" not in splits
    if held_out:
        splits["train"], splits["val"] = hold_out(splits["train"], val_share)
    return Splits(splits, held_out, counts)


def compare_counts(
    files: dict[str, Path],
    counts: dict[str, dict[str, int]],
    demanded: bool,
    quiet: bool = False,
) -> dict[str, dict[str, int]]:
    """Compare files of official names with the published numbers (cuts of the files are usual).

    Args:
        files: of :func:`find_files`.
        counts: of :func:`read_splits`.
        demanded: whether a difference, or a file that cannot be compared, is an error rather than
            a line on stderr.
        quiet: no such line.

    Returns:
        ``train_questions``, ``train_answers`` … -> ``{"found", "published"}``, as far as known.
    """
    compared = {}
    unknown = []
    for split, found in counts.items():
        for what, number in found.items():
            kind = "annotations" if what == "answers" else what
            path = files[f"{split}_{kind}"]
            published = PUBLISHED.get(split, {}).get(what)
            if published and path.name.removesuffix(".gz") == official_name(split, kind):
                compared[f"{split}_{what}"] = {"found": number, "published": published}
            else:
                unknown.append(str(path))
    differences = [
        f"{name} {pair['found']:,} of {pair['published']:,}"
        for name, pair in compared.items()
        if pair["found"] != pair["published"]
    ]
    if demanded and (differences or unknown):
        no_number = f"no published number is known for: {', '.join(unknown)}" if unknown else ""
        raise ValueError(
            f"official=true: {'; '.join(filter(None, [', '.join(differences), no_number]))}; fetch "
            "the files from https://visualqa.org/download.html again, or leave official=true out."
        )
    if differences and not quiet:
        sys.stderr.write(
            f"note: not the published numbers of VQA 2.0: {', '.join(differences)} "
            "(official=true refuses this)\n"
        )
    return compared


def given_answers(path: str) -> list[str]:
    """The answers of a file; stderr says if some can never be a training target."""
    labels = read_answer_list(path)
    others = [label for label in labels if normalize_answer(label) != label]
    if others:
        sys.stderr.write(
            f"note: {len(others)} of {len(labels)} answers of {path} are not spelled as the "
            f"official script normalises answers (first: {others[0]!r}), so no training target has "
            "them; the model keeps their places.\n"
        )
    return labels


def counted_answers(train: list[Row], min_count: int, files: dict[str, Path]) -> list[str]:
    """The answers that enough training questions have; one counts for each question."""
    labels = build_answer_vocabulary(map(main_answer, train), min_count)
    if not labels:
        raise ValueError(
            f"no answer occurs {min_count} times in {files['train_annotations']}; lower "
            "min_answer_count."
        )
    return labels


def tell_unreachable(splits: dict[str, list[Row]], labels: list[str]) -> None:
    """Say how many questions the rule ``official`` scores 0 because of the spelling of labels.

    Where all annotators agree it compares letter by letter, as GQA does, and labels are normalised:
    "t-shirt" is learned, and said, as "t shirt".
    """
    known = set(labels)
    for split in ("val", "test", "test-dev"):
        answered = [row["answers"] for row in splits.get(split, []) if "answers" in row]
        agreed = [answers[0] for answers in answered if len(set(answers)) == 1]
        lost = [one for one in agreed if one not in known and normalize_answer(one) in known]
        if lost:
            sys.stderr.write(
                f"note: to {len(lost)} of {len(answered)} questions of {split} all annotators gave "
                f"one answer that is learned in another spelling (first: {lost[0]!r} as "
                f"{normalize_answer(lost[0])!r}): rule=official scores it 0, letter by letter; "
                "rule=mmf compares what is normalised.\n"
            )


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
