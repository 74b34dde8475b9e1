"""Boxes of referring expressions against annotated ones: ``tbkin score grounding``."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from tbkin.config import choose, load_config, setting
from tbkin.data.features import RegionStore
from tbkin.data.prepared import read_record, read_split
from tbkin.data.refcoco_find import read_expressions
from tbkin.data.vqa_files import read_json
from tbkin.files import file_lines, files_record
from tbkin.metrics.grounding_accuracy import COMPARISONS, IOUS, score_boxes
from tbkin.metrics.grounding_baselines import candidate_figures

FORMS = {
    "plain": "float boxes",
    "plus_one": "the last pixels belong to the boxes, as in ROSITA",
    "integer_gold": "annotated x, y, width, height cut to whole numbers first, as in TransVG",
}
SIGNS = {"ge": ">=", "gt": ">"}
COLUMNS = {"accuracy@0.5": "acc@0.5", "accuracy@0.7": "acc@0.7", "mean_iou": "mean IoU"}
MEND = 'write one JSON object {"<sentence_id>": [x1, y1, x2, y2]}, in pixels'


@dataclasses.dataclass
class GroundingScoreConfig:
    """Which files are scored, and how."""

    predictions: str = setting("", 'JSON object {"<sentence_id>": [x1, y1, x2, y2]}, in pixels')
    gold: str = setting("", "such a file, a prepared grounding folder, or official files")
    dataset: str = setting("", "of official files: refcoco_unc, refcocog_umd, …")
    split: str = setting("", "of a folder: val, testA, …")
    iou: str = setting("plain", f"form of the IoU: {', '.join(IOUS)}")
    comparison: str = setting("ge", "right at an IoU of at least 0.5 (ge) or above it (gt)")
    json: bool = setting(False, "print one JSON object, unrounded, instead of a table")

    def __post_init__(self) -> None:
        """Check names."""
        for name in ("predictions", "gold"):
            if not getattr(self, name):
                raise ValueError(
                    f"{name} is missing; add {name}=FILE (more: tbkin score grounding --help)."
                )
        choose(IOUS, self.iou, "iou")
        choose(COMPARISONS, self.comparison, "comparison")


@dataclasses.dataclass
class Gold:
    """The annotated boxes of a split.

    Attributes:
        rows: sentence id -> ``{"box": xyxy pixels}`` and what else is known.
        origin: what tells the split from others, for the protocol.
        files: name -> file that was read.
        candidates: image id -> (R, 4) xyxy pixels, boxes that could be chosen; None: unknown.
    """

    rows: dict[int, dict[str, Any]]
    origin: dict[str, str]
    files: dict[str, Path]
    candidates: Mapping[int, Tensor] | None = None


def score_grounding(arguments: list[str]) -> None:
    """Grounding accuracy of a prediction file, one decision a sentence.

    tbkin score grounding predictions=FILE gold=FILE [iou=plus_one] [comparison=gt] [json=true]
    tbkin score grounding predictions=FILE gold=FOLDER split=testA [dataset=refcoco_unc]

    A box is right when its IoU with the annotated one reaches 0.5 (0.7 stands beside it), by the
    form of the IoU that is asked for: plain (float boxes; most peers), plus_one (ROSITA's pixels)
    or integer_gold (TransVG's annotations). comparison=gt is UNITER's. MAttNet, ALBEF and X-VLM
    take overlaps of one pixel or less for none, which plain does not copy.

    gold is a file like the predictions, a folder that tbkin prep refcoco made, or a folder of
    official files (refs(…).p and instances.json, or a layout that tbkin prep refcoco reads). Of
    folders, accuracy is told by length and category; a prepared one adds what its candidates
    allow: the best of them (oracle recall), a random one and the largest.
    """
    config = load_config(GroundingScoreConfig, arguments, score_grounding.__doc__)
    predictions = read_boxes(config.predictions)
    gold = read_gold(Path(config.gold), config.dataset, config.split)
    try:
        result = score_boxes(predictions, gold.rows, config.iou, config.comparison)
    except ValueError as error:
        raise ValueError(f"{config.predictions} against {config.gold}: {error}") from error
    if gold.candidates is not None:
        result["candidates"] = candidate_figures(
            gold.candidates, gold.rows, config.iou, config.comparison
        )
    files = {"predictions": Path(config.predictions), **gold.files}
    result |= gold.origin
    result["files"] = files_record(files)
    text = json.dumps(result, ensure_ascii=False) if config.json else _report(result)
    sys.stdout.write(text + "\n")


def read_boxes(path: str | Path) -> dict[int, Any]:
    """Read ``{"<sentence_id>": [x1, y1, x2, y2], …}``, plain or gzip.

    Returns:
        Sentence id -> what the file has for it, in the order of the file; not yet checked.
    """
    content = read_json(path, MEND, pairs=tuple)  # a dict would keep one of two equal keys
    if not isinstance(content, tuple):
        raise ValueError(f"{path} holds a {type(content).__name__}, not an object; {MEND}.")
    boxes: dict[int, Any] = {}
    for key, box in content:
        if not (key.isascii() and key.isdigit()):
            raise ValueError(f"{path}: {key!r} is no sentence id, a whole number; {MEND}.")
        if int(key) in boxes:
            raise ValueError(f"{path}: sentence {int(key)} has two boxes; {MEND}.")
        boxes[int(key)] = box
    return boxes


def read_gold(gold: Path, dataset: str = "", split: str = "") -> Gold:
    """The annotated boxes.

    Args:
        gold: a file of boxes, a prepared grounding folder, or a folder of official files.
        dataset: which one of the official files, "" where there is one only.
        split: of a folder; else "".
    """
    if not gold.is_dir():
        for name, value in (("dataset", dataset), ("split", split)):
            if value:
                raise ValueError(
                    f"{name}={value} is for a gold folder; {gold} is a file. Leave {name}= out."
                )
        rows = {sentence: {"box": box} for sentence, box in read_boxes(gold).items()}
        return Gold(rows, {}, {"gold": gold})
    if (gold / "dataset.json").is_file():
        return _prepared(gold, dataset, split)
    found = read_expressions(gold, dataset)
    rows = {row["sentence_id"]: row for row in found.of(split)}
    return Gold(
        rows,
        {"dataset": found.dataset, "split": split, "layout": found.layout},
        {f"gold {name}": path for name, path in found.files.items()},
    )


def grounding_table(result: dict[str, Any]) -> str:
    """Per cent, two places.

    Args:
        result: of ``score_boxes``; ``candidates`` of ``candidate_figures`` where they are known.
    """
    rows = [
        ("all sentences", result),
        *((f"candidates: {name}", value) for name, value in result.get("candidates", {}).items()),
        *((f"{name} words", value) for name, value in result["per_length"].items()),
        *((f"category: {name}", value) for name, value in result["per_category"].items()),
    ]
    width = max(len(name) for name, _ in rows)
    lines = [
        f"Grounding in per cent, {result['sentences']} sentences, one decision each, right at an "
        f"IoU {SIGNS[result['comparison']]} 0.5 (0.7)",
        f"IoU: {result['iou']} ({FORMS[result['iou']]})",
        " " * width + "".join(f"{head:>10}" for head in [*COLUMNS.values(), "sentences"]),
    ]
    for name, value in rows:
        shown = "".join(f"{100 * value[column]:10.2f}" for column in COLUMNS)
        lines.append(f"{name:<{width}}{shown}{value['sentences']:10}")
    return "\n".join(lines)


def _report(result: dict[str, Any]) -> str:
    """The table, and below it what was scored."""
    origin = [
        f"({name.replace('_', ' ')}: {result[name]})"
        for name in ("dataset", "split", "layout", "box_source")
        if name in result
    ]
    return "\n".join([grounding_table(result), *origin, *file_lines(result["files"])])


def _prepared(folder: Path, dataset: str, split: str) -> Gold:
    """The gold of a prepared folder."""
    record = read_record(folder)
    if record["task"] != "grounding":
        raise ValueError(
            f"{folder} is prepared for {record['task']}, not for grounding; "
            "prepare one with: tbkin prep refcoco"
        )
    if dataset and dataset != record["dataset"]:
        raise ValueError(f"{folder} holds {record['dataset']}, not dataset={dataset}.")
    choose(record["splits"], split, "split")
    rows = {row["sentence_id"]: row for row in read_split(folder, split)}
    store = RegionStore(folder / "regions")
    images = {row["image_id"] for row in rows.values()}
    return Gold(
        rows,
        {"dataset": record["dataset"], "split": split, "box_source": record["box_source"]},
        {"gold": folder / f"{split}.jsonl"},
        {image: store.without_features(image).boxes for image in images},
    )
