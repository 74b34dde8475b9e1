"""The folder that ``tbkin prep vqa`` makes, and how a run finds it.

::

    FOLDER/dataset.json   schema, task, the official files with their sha256, counts, detector
    FOLDER/train.jsonl …  one question a line, with its ten answers where they are known
    FOLDER/answers.json   the answer vocabulary, a list of strings
    FOLDER/regions/       a region store
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

SCHEMA = "tbkin.dataset/1"


def find_prepared(root: str | Path) -> Path:
    """The prepared folder for ``data.root``.

    Args:
        root: the prepared folder itself, or the folder with the official files that it was made
            of, when it is where ``tbkin prep`` puts it.

    Raises:
        FileNotFoundError: nothing prepared; names the command that does it.
    """
    root = Path(root)
    for folder in (root, default_output(root)):
        if (folder / "dataset.json").is_file():
            return folder
    raise FileNotFoundError(
        f"no prepared data in {root} or {default_output(root)}. "
        f"Prepare them with: tbkin prep vqa data.root={root}"
    )


def default_output(root: str | Path) -> Path:
    """Where ``tbkin prep vqa`` writes when ``output`` is not set: ``prepared/<name of root>``."""
    return Path("prepared") / Path(root).resolve().name


def read_record(folder: Path) -> dict[str, Any]:
    """``dataset.json`` of a prepared folder."""
    record = json.loads((folder / "dataset.json").read_text())
    if record.get("schema") != SCHEMA:
        raise ValueError(
            f"{folder / 'dataset.json'} has schema {record.get('schema')!r}, this version reads "
            f"{SCHEMA!r}; prepare the data again."
        )
    return record


def read_split(folder: Path, split: str) -> list[dict[str, Any]]:
    """The questions of one split.

    Raises:
        FileNotFoundError: there is no such split; names those there are.
        ValueError: the split is empty or a line is damaged.
    """
    path = folder / f"{split}.jsonl"
    if not path.is_file():
        there = sorted(found.stem for found in folder.glob("*.jsonl"))
        raise FileNotFoundError(f"no split {split!r} in {folder}; there is: {', '.join(there)}.")
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            rows.append(json.loads(line))
        except ValueError as error:
            raise ValueError(
                f"{path}, line {number} is damaged ({error}); prepare the data again."
            ) from error
    if not rows:
        raise ValueError(
            f"split {split!r} of {folder} is empty; prepare the data again from files that have "
            "questions for it."
        )
    return rows
