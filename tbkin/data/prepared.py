"""The folders that ``tbkin prep vqa`` and the like make, and how a run finds them.

::

    FOLDER/dataset.json   schema, task, the official files with their sha256, counts, detector
    FOLDER/train.jsonl …  one question a line, with its ten answers where they are known
    FOLDER/answers.json   the answer vocabulary, a list of strings
    FOLDER/regions/       a region store

``tbkin prep pretraining`` writes one caption a line (``caption_id``, ``image_id``, ``caption``), no
answers, and beside them

::

    FOLDER/graphs/        the captions' graphs, one a line, in files of the same names
    FOLDER/prior.json     what goes together in the training captions (``graphs/knowledge.py``)
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

SCHEMA = "tbkin.dataset/1"


def find_prepared(root: str | Path, task: str = "vqa") -> Path:
    """The prepared folder for ``data.root``.

    Args:
        root: the prepared folder itself, or the folder with the official files that it was made
            of, when it is where ``tbkin prep`` puts it.
        task: what it must be prepared for.

    Raises:
        FileNotFoundError: nothing prepared for the task; names the command that does it.
    """
    root = Path(root)
    found = []
    for folder in (root, default_output(root, task)):
        if (folder / "dataset.json").is_file():
            found.append(f"{folder} is for {read_record(folder)['task']}")
            if read_record(folder)["task"] == task:
                return folder
    raise FileNotFoundError(
        f"no data prepared for {task} in {root} or {default_output(root, task)}"
        f"{f' ({found[0]})' if found else ''}. "
        f"Prepare them with: tbkin prep {task} data.root={root}"
    )


def default_output(root: str | Path, task: str = "vqa") -> Path:
    """Where ``tbkin prep TASK`` writes when ``output`` is not set.

    ``prepared/<name of root>`` for questions, ``prepared/<name of root>-<task>`` for others.
    """
    name = Path(root).resolve().name
    return Path("prepared") / (name if task == "vqa" else f"{name}-{task}")


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
    """The questions (or captions) of one split.

    Raises:
        FileNotFoundError: there is no such split; names those there are.
        ValueError: the split is empty or a line is damaged.
    """
    path = folder / f"{split}.jsonl"
    if not path.is_file():
        there = sorted(found.stem for found in folder.glob("*.jsonl"))
        raise FileNotFoundError(f"no split {split!r} in {folder}; there is: {', '.join(there)}.")
    rows = []
    with path.open(encoding="utf-8", newline="\n") as file:  # other line ends may stand in a text
        for number, line in enumerate(file, start=1):
            try:
                rows.append(json.loads(line))
            except ValueError as error:
                raise ValueError(
                    f"{path}, line {number} is damaged ({error}); prepare the data again."
                ) from error
    if not rows:
        raise ValueError(
            f"split {split!r} of {folder} is empty; prepare the data again from files that have "
            "something for it."
        )
    return rows
