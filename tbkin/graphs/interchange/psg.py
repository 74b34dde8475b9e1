"""Panoptic scene graphs (Yang et al., ECCV 2022, arXiv:2207.11247): ``psg.json``.

``{data: [{image_id, width, height, annotations, segments_info, relations: [[s, o, p]]}],
thing_classes, stuff_classes, predicate_classes, test_image_ids}``; classes are counted from 0,
things before stuff. Each annotation says by ``bbox_mode`` (of detectron2) what its box is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from tbkin.graphs.interchange.picture import PictureRecord, clean_name, named, settle_boxes
from tbkin.graphs.regions import Regions
from tbkin.json_stream import JsonStream

BOX_MODES = {0: "xyxy", 1: "xywh"}  # detectron2's BoxMode, absolute pixels


def read_psg(
    path: Path,
    counts: Counter[str],
    *,
    split: Literal["all", "train", "test"] = "all",
    box_format: Literal["", "xyxy", "xywh", "cxcywh"] = "",
) -> Iterator[Regions]:
    """Pictures of a PSG file, one at a time; the file is read twice, for its names first.

    Args:
        path: the JSON file.
        counts: what was dropped or mended -> how often; added to.
        split: ``test`` is what ``test_image_ids`` lists.
        box_format: settles what the boxes are where ``bbox_mode`` is missing or wrong.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a file of another layout, or boxes that are not what ``bbox_mode`` says.
    """
    if split not in ("all", "train", "test"):
        raise ValueError(f"unknown split {split!r}; choose from: all, test, train.")
    head = _read_head(path)
    with named(str(path)):
        classes = [clean_name(name) for name in head["thing_classes"] + head["stuff_classes"]]
        predicates = [clean_name(name) for name in head["predicate_classes"]]
        test = {str(number) for number in head.get("test_image_ids", [])}
    with JsonStream(path) as stream:
        for key in stream.each_key():
            if key != "data":
                stream.skip()
                continue
            for number, entry in enumerate(stream.items()):
                with named(f"{path}, entry {number} of data"):
                    image_id = str(entry["image_id"])
                    if split != "all" and (image_id in test) != (split == "test"):
                        continue
                    who = f"{path}, picture {image_id}"
                    record = _record(entry, who, classes, predicates, box_format)
                yield record.regions(counts)


def _record(
    entry: dict[str, Any],
    who: str,
    classes: list[str],
    predicates: list[str],
    box_format: str,
) -> PictureRecord:
    annotations, segments = entry["annotations"], entry.get("segments_info", [])
    numbers = [one["category_id"] for one in annotations]
    if segments and numbers != [one["category_id"] for one in segments]:
        raise ValueError(
            f"{who}: annotations and segments_info do not list the same classes in the same order, "
            "but relations count by them."
        )
    size = int(entry["width"]), int(entry["height"])
    modes = {one.get("bbox_mode") for one in annotations}
    if len(modes) > 1 and not box_format:
        raise ValueError(f"{who}: boxes of several modes, {modes}. Say box_format=NAME.")
    mode = modes.pop() if len(modes) == 1 else None
    if mode is not None and mode not in BOX_MODES and not box_format:
        raise ValueError(
            f"{who}: bbox_mode {mode} is not one of 0 (xyxy) and 1 (xywh). Say box_format=NAME."
        )
    declared = BOX_MODES.get(mode, "") if annotations else "xyxy"
    return PictureRecord(
        str(entry["image_id"]),
        *size,
        boxes=settle_boxes([one["bbox"] for one in annotations], declared, box_format, size, who),
        labels=[_name(classes, number, "class", who) for number in numbers],
        relations=[
            (int(subject), _name(predicates, predicate, "predicate", who), int(target), 1.0)
            for subject, target, predicate in entry["relations"]
        ],
    )


def _read_head(path: Path) -> dict[str, Any]:
    """Everything but the pictures."""
    head = {}
    with JsonStream(path) as stream:
        for key in stream.each_key():
            if key == "data":
                stream.skip()
            else:
                head[key] = stream.value()
    return head


def _name(names: list[str], number: int, kind: str, who: str) -> str:
    if not 0 <= number < len(names):
        raise ValueError(f"{who}: {kind} {number} of {len(names)}; they count from 0.")
    return names[number]
