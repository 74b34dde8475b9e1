"""Rows of the scene graph data sets of SGG-Benchmark on the Hugging Face hub, as JSON Lines.

One picture a line: ``image_id, width, height, objects: [{id, category_id, bbox (xywh pixels)}],
relations: [{subject_id, predicate_id, object_id}]``; relations point to the objects' ids. The rows
hold numbers only: the names are in the data set's description, a JSON object with ``categories``
and ``rel_categories`` (Neau et al., BMVC 2025).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from tbkin.graphs.interchange.picture import PictureRecord, clean_name, named, settle_boxes
from tbkin.graphs.regions import Regions

INFO = "dataset_info.json"


def read_relation_rows(
    path: Path,
    counts: Counter[str],
    *,
    names: str = "",
    box_format: Literal["", "xyxy", "xywh", "cxcywh"] = "",
) -> Iterator[Regions]:
    """Pictures of a file of rows, one at a time.

    Args:
        path: the JSON Lines file (``dataset.remove_columns("image").to_json(path)``).
        counts: what was dropped or mended -> how often; added to.
        names: file with ``categories`` and ``rel_categories``, as it is or as the text of
            ``description``; without it ``dataset_info.json`` beside the rows.
        box_format: settles what the boxes are where they do not fit as xywh.

    Raises:
        FileNotFoundError: no such file.
        ValueError: files of another layout, or boxes that are not xywh.
    """
    classes, predicates = _read_names(Path(names) if names else path.with_name(INFO))
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}.")
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            who = f"{path}, line {number}"
            try:
                entry = json.loads(line)
            except ValueError as error:
                raise ValueError(f"{who} is not JSON: {error}.") from error
            with named(who):
                record = _record(entry, classes, predicates, box_format, who, counts)
            yield record.regions(counts)


def _record(
    entry: dict[str, Any],
    classes: dict[str, str],
    predicates: dict[str, str],
    box_format: str,
    who: str,
    counts: Counter[str],
) -> PictureRecord:
    size = int(entry["width"]), int(entry["height"])
    objects = entry["objects"]
    places = {one["id"]: place for place, one in enumerate(objects)}
    record = PictureRecord(
        str(entry["image_id"]),
        *size,
        boxes=settle_boxes([one["bbox"] for one in objects], "xywh", box_format, size, who),
        labels=[classes[str(one["category_id"])] for one in objects],
    )
    for one in entry["relations"]:
        ends = places.get(one["subject_id"]), places.get(one["object_id"])
        if None in ends:
            counts["relations of objects that are not listed dropped"] += 1
            continue
        predicate = predicates[str(one["predicate_id"])]
        record.relations.append((ends[0], predicate, ends[1], 1.0))  # type: ignore[arg-type]
    return record


def _read_names(path: Path) -> tuple[dict[str, str], dict[str, str]]:
    """Number, as text, -> name, of classes and of predicates."""
    if not path.is_file():
        raise FileNotFoundError(
            f"no {path}: the rows hold numbers, and it should name them. Say where the names are: "
            "names=FILE."
        )
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if "categories" not in content and "description" in content:
            content = json.loads(content["description"])
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path} holds no names in JSON: {error}.") from error
    with named(str(path)):
        return _table(content["categories"]), _table(content["rel_categories"])


def _table(names: Any) -> dict[str, str]:
    """A list of names or of ``{"id", "name"}``, or number -> name."""
    if isinstance(names, dict):
        return {str(number): clean_name(name) for number, name in names.items()}
    return {
        str(one["id"] if isinstance(one, dict) else place): clean_name(
            one["name"] if isinstance(one, dict) else one
        )
        for place, one in enumerate(names)
    }
