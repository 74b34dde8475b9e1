"""What Scene-Graph-Benchmark (Tang et al., CVPR 2020, arXiv:2002.11949) predicts for own pictures.

``custom_prediction.json`` maps the picture's number to its boxes and relations, and
``custom_data_info.json`` names pictures, classes and predicates. Boxes are xyxy pixels of the
picture *as the network saw it*, resized by the rule of :func:`resized_size`; forks that scale them
back need ``boxes=original``. The files do not hold the pictures' sizes: they come from the
pictures, or from a file.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from tbkin.graphs.interchange.picture import (
    SLACK,
    Box,
    PictureRecord,
    checked_box,
    checked_score,
    clean_name,
    named,
    picture_size,
)
from tbkin.graphs.regions import Regions
from tbkin.json_stream import read_members

PREDICTIONS, INFO = "custom_prediction.json", "custom_data_info.json"
MIN_SIDE, MAX_SIDE = 600, 1000  # of the benchmark's configurations


def read_benchmark_predictions(
    path: Path,
    counts: Counter[str],
    *,
    info: str = "",
    images: str = "",
    sizes: str = "",
    boxes: Literal["resized", "original"] = "resized",
    min_side: int = MIN_SIDE,
    max_side: int = MAX_SIDE,
    min_box_score: float = 0.0,
    min_relation_score: float = 0.0,
    max_relations: int = 0,
) -> Iterator[Regions]:
    """Pictures of a prediction file, one at a time.

    Args:
        path: ``custom_prediction.json`` or its folder.
        counts: what was dropped or mended -> how often; added to.
        info: ``custom_data_info.json``, where it is not beside the other.
        images: folder of the pictures; without it they are looked for where the info file says.
        sizes: JSON file ``{picture's file name: [width, height]}``, in place of the pictures.
        boxes: whether the boxes are in pixels of the resized or of the original picture.
        min_side: ``INPUT.MIN_SIZE_TEST`` of the network.
        max_side: ``INPUT.MAX_SIZE_TEST`` of the network.
        min_box_score: in [0, 1]; weaker boxes are dropped, and counted.
        min_relation_score: in [0, 1]; weaker relations are dropped, and counted.
        max_relations: keep only so many a picture, the surest; 0: all.

    Raises:
        FileNotFoundError: a file or a picture that is missing.
        ValueError: files of another layout, or boxes that leave the picture they should be in.
    """
    if boxes not in ("resized", "original"):
        raise ValueError(f"unknown boxes {boxes!r}; choose from: original, resized.")
    for name, value in (
        ("min_box_score", min_box_score),
        ("min_relation_score", min_relation_score),
    ):
        checked_score(value, name)
    path = path / PREDICTIONS if path.is_dir() else path
    names = _read_info(Path(info) if info else path.with_name(INFO))
    table = _read_sizes(sizes) if sizes else None
    for key, entry in read_members(path):
        with named(f"{path}, picture {key}"):
            file_name = _at(names["files"], key, "idx_to_files")
            if table is None:
                size = picture_size(Path(images) if images else None, file_name)
            elif Path(file_name).name in table:
                size = table[Path(file_name).name]
            else:
                raise ValueError(f"{sizes} does not list the picture {Path(file_name).name}.")
            limit = resized_size(*size, min_side, max_side) if boxes == "resized" else size
            record = PictureRecord(image_id_of(file_name), *size)
            who = f"{path}, picture {key} ({Path(file_name).name})"
            places = {}
            for number, box in enumerate(entry["bbox"]):
                score = checked_score(entry["bbox_scores"][number], f"{who}, box {number}")
                if score < min_box_score:
                    counts["boxes below min_box_score dropped"] += 1
                    continue
                places[number] = len(places)
                record.boxes.append(_scaled(box, limit, size, boxes, f"{who}, box {number}"))
                record.labels.append(_at(names["classes"], entry["bbox_labels"][number], "class"))
                record.scores.append(score)
            record.relations = _relations(
                entry, places, names["predicates"], min_relation_score, counts
            )
        if max_relations:
            counts["relations beyond max_relations dropped"] += max(
                0, len(record.relations) - max_relations
            )
            record.relations = sorted(record.relations, key=lambda one: -one[3])[:max_relations]
        yield record.regions(counts)


def resized_size(width: int, height: int, min_side: int, max_side: int) -> tuple[int, int]:
    """(width, height) of a picture as maskrcnn-benchmark's networks see it.

    The shorter side becomes ``min_side``, or less where the longer one would pass ``max_side``; the
    longer side is cut to whole pixels.
    """
    short, long = min(width, height), max(width, height)
    side = min_side
    if long / short * min_side > max_side:
        side = round(max_side * short / long)
    if short == side:
        return width, height
    if width < height:
        return side, int(side * height / width)
    return int(side * width / height), side


def image_id_of(file_name: str) -> str:
    """The number that a picture's name ends in, as everywhere here; the whole stem without one."""
    stem = Path(file_name).stem
    digits = re.search(r"[0-9]+$", stem)
    return (digits[0].lstrip("0") or "0") if digits else clean_name(stem)


def _relations(
    entry: dict[str, Any],
    places: dict[int, int],
    predicates: Any,
    min_score: float,
    counts: Counter[str],
) -> list[tuple[int, str, int, float]]:
    found = []
    triples = zip(entry["rel_pairs"], entry["rel_labels"], entry["rel_scores"], strict=True)
    for (subject, target), label, score in triples:
        if score < min_score:
            counts["relations below min_relation_score dropped"] += 1
        elif not {subject, target} <= set(range(len(entry["bbox"]))):
            raise IndexError(f"relation between boxes {subject} and {target}")
        elif subject not in places or target not in places:
            counts["relations of dropped boxes dropped"] += 1
        else:
            predicate = _at(predicates, label, "predicate")
            found.append((places[subject], predicate, places[target], float(score)))
    return found


def _scaled(box: Any, limit: tuple[int, int], size: tuple[int, int], boxes: str, who: str) -> Box:
    """A box of the resized picture in pixels of the original."""
    left, top, right, bottom = checked = checked_box(box, who)
    if (
        not -SLACK <= left <= right <= limit[0] + SLACK
        or not -SLACK <= top <= bottom <= limit[1] + SLACK
    ):
        other = "original" if boxes == "resized" else "resized"
        raise ValueError(
            f"{who}: {list(checked)} is no xyxy box of the {boxes} picture of {limit[0]} x "
            f"{limit[1]} pixels ({size[0]} x {size[1]} before resizing). If the boxes are in "
            f"pixels of the {other} picture, say boxes={other}; if the network saw other sizes, "
            "say min_side= and max_side=."
        )
    across, down = size[0] / limit[0], size[1] / limit[1]
    return left * across, top * down, right * across, bottom * down


def _read_info(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise FileNotFoundError(f"no {path}: it names pictures and classes. Say info=FILE.")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}.") from error
    with named(str(path)):
        return {
            "files": content["idx_to_files"],
            "classes": content["ind_to_classes"],
            "predicates": content["ind_to_predicates"],
        }


def _read_sizes(name: str) -> dict[str, tuple[int, int]]:
    path = Path(name)
    if not path.is_file():
        raise FileNotFoundError(f"no file of sizes {path}.")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return {Path(key).name: (int(w), int(h)) for key, (w, h) in content.items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(
            f'{path} is not a table of sizes, {{"picture.jpg": [width, height]}}: {error}.'
        ) from error


def _at(names: Any, number: Any, kind: str) -> str:
    """Entry of a list, or of a table whose keys are numbers as text; 0 is the background."""
    table = names if isinstance(names, dict) else dict(enumerate(names))
    for key in (number, str(number), int(number)):
        if key in table:
            return clean_name(table[key]) if kind != "idx_to_files" else str(table[key])
    raise IndexError(f"{kind} {number} of {len(table)}")
