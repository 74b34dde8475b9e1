"""COCO's instances layout, with the two ways in which people add relations to it: in and out.

Beside ``images``, ``annotations`` (``bbox`` is xywh pixels) and ``categories`` a file may have

* ``score`` and ``attributes`` (``[{"name", "score"}]``) in an annotation and a list ``relations``
  (``[{"image_id", "subject", "predicate", "object", "score"}]``, boxes numbered within the
  picture): what ``tbkin/detectors/annotated.py`` reads, and what is written here;
* ``rel_categories`` and ``rel_annotations`` (``[{"image_id", "subject_id", "predicate_id",
  "object_id"}]``, boxes by annotation id): SGG-Benchmark (Neau et al., BMVC 2025).
"""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TextIO

from tbkin.files import new_file
from tbkin.graphs.interchange.output import number_of
from tbkin.graphs.interchange.picture import (
    PictureRecord,
    clean_name,
    named,
    picture_size,
    settle_boxes,
)
from tbkin.graphs.regions import Regions
from tbkin.graphs.scene_graph import SceneGraph
from tbkin.json_stream import JsonStream

_KEPT = ("id", "category_id", "bbox", "score", "attributes")  # outlines stay out of memory


def read_coco(
    path: Path,
    counts: Counter[str],
    *,
    images: str = "",
    box_format: Literal["", "xyxy", "xywh", "cxcywh"] = "",
) -> Iterator[Regions]:
    """Pictures of a COCO file, in its order.

    Args:
        path: the JSON file.
        counts: what was dropped or mended -> how often; added to.
        images: folder of the pictures, for files that do not hold their sizes.
        box_format: settles what the boxes are where they do not fit as xywh.

    Raises:
        FileNotFoundError: no such file, or a picture whose size is needed.
        ValueError: a file of another layout, or boxes that are not xywh.
    """
    content = _Content()
    _read_lists(path, content)
    for image in content.images:
        number = image["id"]
        who = f"{path}, picture {number}"
        with named(who):
            annotations = content.annotations.pop(number, [])
            record = PictureRecord(str(image.get("image_id", number)), *_size(image, images, who))
            record.boxes = settle_boxes(
                [one["bbox"] for one in annotations],
                "xywh",
                box_format,
                (record.width, record.height),
                who,
            )
            record.labels = [content.categories[one["category_id"]] for one in annotations]
            record.scores = [one.get("score", 1.0) for one in annotations]
            record.attributes = [
                [(clean_name(name["name"]), name["score"]) for name in one.get("attributes") or []]
                for one in annotations
            ]
            record.relations = content.relations_of(number, annotations, counts)
        yield record.regions(counts)
    if content.annotations:
        counts["annotations of pictures that are not listed dropped"] += sum(
            len(found) for found in content.annotations.values()
        )


def write_coco(path: Path, graphs: Iterable[SceneGraph], counts: Counter[str]) -> int:
    """Write one COCO file with attributes and relations.

    Args:
        path: the JSON file.
        graphs: their picture parts are written. COCO numbers its pictures: an id that is no number,
            or is there already, gets a new one and stays in ``image_id``.
        counts: what was left out -> how often; added to.

    Returns:
        How many pictures.
    """
    categories: dict[str, int] = {}
    used: set[int] = set()
    count = 0
    with _Lists("images", "annotations", "relations") as lists, new_file(path) as file:
        for graph in graphs:
            if not graph.image_id and not graph.of_type("region"):
                counts["graphs without a picture left out"] += 1
                continue
            number = number_of(graph.image_id)
            image: dict[str, Any] = {"width": graph.width, "height": graph.height, "file_name": ""}
            if number is None or number in used:
                image["image_id"] = graph.image_id
                number = max(used, default=0) + 1
            used.add(number)
            lists.add("images", {"id": number, **image})
            _write_picture(graph, number, lists, categories, counts)
            count += 1
        lists.join(
            file,
            {
                "info": {"description": "scene graphs, written by tbkin"},
                "categories": [{"id": found, "name": name} for name, found in categories.items()],
            },
        )
    return count


@dataclass
class _Content:
    """A whole file, without its outlines."""

    images: list[dict[str, Any]] = field(default_factory=list)
    annotations: dict[Any, list[dict[str, Any]]] = field(default_factory=dict)  # by picture
    categories: dict[Any, str] = field(default_factory=dict)
    predicates: dict[Any, str] = field(default_factory=dict)
    relations: dict[Any, list[dict[str, Any]]] = field(default_factory=dict)  # by picture

    def relations_of(
        self, image: Any, annotations: list[dict[str, Any]], counts: Counter[str]
    ) -> list[tuple[int, str, int, float]]:
        """Of one picture, of either kind."""
        places = {one.get("id"): place for place, one in enumerate(annotations)}
        found = []
        for one in self.relations.get(image, []):
            if "subject" in one:
                ends = (one["subject"], one["object"])
                predicate = clean_name(one["predicate"])
            else:
                ends = (places.get(one["subject_id"]), places.get(one["object_id"]))
                predicate = self.predicates[one["predicate_id"]]
            if None in ends:
                counts["relations of boxes that are not listed dropped"] += 1
                continue
            found.append((ends[0], predicate, ends[1], float(one.get("score", 1.0))))
        return found


def _read_lists(path: Path, content: _Content) -> None:
    found = set()
    with JsonStream(path) as stream:
        for key in stream.each_key():
            found.add(key)
            if key not in (
                "images", "annotations", "categories", "rel_categories", "relations",
                "rel_annotations",
            ):  # fmt: skip
                stream.skip()
                continue
            for number, entry in enumerate(stream.items()):
                with named(f"{path}, {key}, entry {number}"):
                    _keep(key, entry, content)
    missing = {"images", "annotations", "categories"} - found
    if missing:
        raise ValueError(f"{path} is not a COCO annotation file: no {', '.join(sorted(missing))}.")


def _keep(key: str, entry: dict[str, Any], content: _Content) -> None:
    if key == "images":
        content.images.append({"id": entry["id"], **entry})
    elif key == "categories":
        content.categories[entry["id"]] = clean_name(entry["name"])
    elif key == "rel_categories":
        content.predicates[entry["id"]] = clean_name(entry["name"])
    elif key == "annotations":
        slim = {name: entry[name] for name in _KEPT if name in entry}
        content.annotations.setdefault(entry["image_id"], []).append(slim)
    else:
        content.relations.setdefault(entry["image_id"], []).append(entry)


def _size(image: dict[str, Any], images: str, who: str) -> tuple[int, int]:
    if image.get("width") is not None and image.get("height") is not None:
        return int(image["width"]), int(image["height"])
    if not images:
        raise ValueError(f"{who}: no width and height. Say where the pictures are: images=DIR.")
    return picture_size(Path(images), image["file_name"])


def _write_picture(
    graph: SceneGraph,
    number: int,
    lists: _Lists,
    categories: dict[str, int],
    counts: Counter[str],
) -> None:
    places = {node: place for place, node in enumerate(graph.of_type("region"))}
    attributes: dict[int, list[dict[str, Any]]] = {node: [] for node in places}
    for edge in graph.edges:
        if edge.type == "attribute" and edge.source in places:
            name = graph.nodes[edge.target].label
            attributes[edge.source].append({"name": name, "score": edge.weight})
        elif edge.type == "relation" and edge.source in places:
            relation = {
                "image_id": number,
                "subject": places[edge.source],
                "predicate": edge.predicate,
                "object": places[edge.target],
                "score": edge.weight,
            }
            lists.add("relations", relation)
        elif edge.type in ("spatial", "overlap"):
            counts["spatial and overlap edges left out"] += 1
        else:
            counts["edges of words left out"] += 1
    counts["words left out"] += len(graph.of_type("word"))
    for node, found in attributes.items():
        region = graph.nodes[node]
        left, top, right, bottom = region.box or (0.0, 0.0, 0.0, 0.0)
        annotation = {
            "id": lists.sizes["annotations"] + 1,
            "image_id": number,
            "category_id": categories.setdefault(region.label, len(categories) + 1),
            "bbox": [left, top, right - left, bottom - top],
            "area": (right - left) * (bottom - top),
            "iscrowd": 0,
            "score": region.score,
            "attributes": found,
        }
        lists.add("annotations", annotation)


class _Lists:
    """Several long lists of one JSON file, each kept on disk until they are joined."""

    def __init__(self, *names: str):
        self.sizes = dict.fromkeys(names, 0)
        self._files: dict[str, TextIO] = {}

    def __enter__(self) -> _Lists:
        self._files = {
            name: tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115 (closed below)
            for name in self.sizes
        }
        return self

    def __exit__(self, *error: object) -> None:
        for file in self._files.values():
            file.close()

    def add(self, name: str, entry: dict[str, Any]) -> None:
        """Append to a list."""
        comma = ",\n" if self.sizes[name] else ""
        self._files[name].write(comma + json.dumps(entry, ensure_ascii=False))
        self.sizes[name] += 1

    def join(self, file: TextIO, head: dict[str, Any]) -> None:
        """Write the object: the short entries, then each list."""
        file.write("{")
        for key, value in head.items():
            file.write(f"{json.dumps(key)}: {json.dumps(value, ensure_ascii=False)},\n")
        for place, (name, part) in enumerate(self._files.items()):
            file.write(",\n" * bool(place) + f"{json.dumps(name)}: [")
            part.seek(0)
            while text := part.read(1 << 20):
                file.write(text)
            file.write("]")
        file.write("}\n")
