"""The folders that ``tbkin prep vqa`` and the like make, and how a run finds them.

::

    FOLDER/dataset.json   schema, task, root and the official files with their sha256, counts,
                          detector, box_source (in words, where the regions come from),
                          picture_ids (whose numbers they are; without it COCO's)
    FOLDER/train.jsonl …  one question a line, with its ten answers where they are known
    FOLDER/answers.json   the answer vocabulary, a list of strings
    FOLDER/regions/       a region store

``tbkin prep pretraining`` writes one caption a line (``caption_id``, ``image_id``, ``caption``), no
answers, and beside them

::

    FOLDER/graphs/        the captions' graphs, one a line, in files of the same names
    FOLDER/prior.json     what goes together in the training captions (``graphs/knowledge.py``)

``tbkin prep refcoco`` writes one referring expression a line (``tbkin/data/refcoco_files.py``) and
no answers; its ``dataset.json`` also has ``dataset`` (``refcoco_unc``, …), ``layout`` and how many
expressions the candidates cover.

``tbkin prep retrieval`` and ``tbkin prep persons`` write one caption a line, those of a picture
adjacent (``tbkin/data/retrieval_files.py``: ``caption_id``, ``image_id``, ``identity``,
``caption``), and beside them

::

    FOLDER/pictures.json  image id -> where the picture is
    FOLDER/true_of.json   caption id -> the pictures that it is true of, where the data set says so

Their ``dataset.json`` also has ``dataset`` ("coco", …; "" without a name), ``layout``,
``identities`` (whether pictures show persons or classes with numbers of their own), ``image_ids``
(what the ids are) and what was left out.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

SCHEMA = "tbkin.dataset/1"
STEPS = {"grounding": "refcoco"}  # task -> the step that prepares it, where their names differ


def find_prepared(root: str | Path, task: str = "vqa") -> Path:
    """The prepared folder for ``data.root``.

    Args:
        root: the prepared folder itself, or the folder with the official files that it was made
            of, when it is where ``tbkin prep`` puts it.
        task: what it must be prepared for.

    Raises:
        FileNotFoundError: nothing prepared for the task; names the command that does it.
        ValueError: several data sets of the root are prepared for it, or one of another root that
            has the same name; names them.
    """
    root = Path(root)
    found = []
    for folder in (root, default_output(root, task)):
        if (folder / "dataset.json").is_file():
            record = read_record(folder)
            found.append(f"{folder} is for {record['task']}")
            if record["task"] == task:
                if folder != root:
                    check_root(folder, root)
                return folder
    named = _named_by_dataset(root, task)
    if len(named) > 1:
        raise ValueError(
            f"{root} is prepared for {task} more than once: {', '.join(map(str, named))}. "
            f"Name one of them: data.root={named[0]}"
        )
    if named:
        check_root(named[0], root)
        return named[0]
    raise FileNotFoundError(
        f"no data prepared for {task} in {root} or {default_output(root, task)}"
        f"{f' ({found[0]})' if found else ''}. "
        f"Prepare them with: tbkin prep {STEPS.get(task, task)} data.root={root}"
    )


def _named_by_dataset(root: Path, task: str) -> list[Path]:
    """``prepared/<name of root>-<data set>``, one for each data set of the task."""
    found = []
    for path in sorted(Path("prepared").glob("*/dataset.json")):
        try:
            record = read_record(path.parent)
        except ValueError:  # somebody else's, or damaged: none of the root's
            continue
        own = default_output(root, record.get("dataset", ""))
        if record["task"] == task and record.get("dataset") and path.parent == own:
            found.append(path.parent)
    return found


def check_root(folder: Path, root: str | Path) -> None:
    """Raise ValueError if a prepared folder was made of another root of the same name."""
    made_of = read_record(folder).get("root")
    if made_of and resolved(made_of) != resolved(root):
        raise ValueError(
            f"{folder} was prepared from {made_of}, not from {root}. To use it, name it itself: "
            f"data.root={folder}; to prepare {root} as well, give tbkin prep another output=DIR."
        )


def resolved(root: str | Path) -> str:
    """A root as ``dataset.json`` keeps it, whatever folder a command is given in; "" for none."""
    return str(Path(root).resolve()) if str(root) else ""


def default_output(root: str | Path, task: str = "vqa") -> Path:
    """Where ``tbkin prep`` writes when ``output`` is not set.

    Args:
        root: the folder with the official files.
        task: the task, or the data set where a root holds several (``refcoco_unc``).

    Returns:
        ``prepared/<name of root>`` for questions, ``prepared/<name of root>-<task>`` for others.
    """
    name = Path(root).resolve().name
    return Path("prepared") / (name if task == "vqa" else f"{name}-{task}")


def read_record(folder: Path) -> dict[str, Any]:
    """``dataset.json`` of a prepared folder.

    Raises:
        ValueError: it is damaged, or of another schema.
    """
    path = folder / "dataset.json"
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error}); prepare the data again.") from error
    schema = record.get("schema") if isinstance(record, dict) else None
    if schema != SCHEMA:
        raise ValueError(
            f"{path} has schema {schema!r}, this version reads {SCHEMA!r}; prepare the data again."
        )
    return record


def read_split(folder: Path, split: str) -> list[dict[str, Any]]:
    """The questions (or captions, or expressions) of one split.

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
