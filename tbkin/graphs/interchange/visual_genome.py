"""Visual Genome (Krishna et al., IJCV 2017, arXiv:1602.07332): in and out, captions in.

Two generations of files hold the same things:

* ``objects.json``, ``attributes.json`` and ``relationships.json``, each a list with one entry a
  picture; relationships carry whole objects;
* ``scene_graphs.json``, one list; relationships carry object ids.

``image_data.json`` holds the pictures' sizes for both. From version to version, ids are called
``image_id`` or ``id``, objects have ``name`` or ``names``, an object's attributes may be missing or
lie one level deeper under ``attribute``, and objects that were found to be one are kept with their
``merged_object_ids``. Boxes leave the picture or have no area: they are cut or dropped.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

from tbkin.files import new_file, new_folder
from tbkin.graphs.interchange.output import number_of
from tbkin.graphs.interchange.picture import (
    Box,
    PictureRecord,
    checked_box,
    clean_name,
    named,
    to_xyxy,
)
from tbkin.graphs.regions import Regions
from tbkin.graphs.scene_graph import SceneGraph
from tbkin.json_stream import read_items

BROKEN_IMAGE_IDS = ("1592", "1722", "4616", "4617")  # their files cannot be read
SIZES, OBJECTS, SCENE_GRAPHS = "image_data.json", "objects.json", "scene_graphs.json"


class RegionDescription(NamedTuple):
    """What somebody wrote about one part of a picture; ``box`` is xyxy pixels."""

    image_id: str
    region_id: str
    phrase: str
    box: Box


def read_visual_genome(
    path: Path,
    counts: Counter[str],
    *,
    image_data: str = "",
    sizes: Literal["image_data", "boxes"] = "image_data",
    broken: Literal["drop", "keep"] = "drop",
    lowercase: bool = True,
) -> Iterator[Regions]:
    """Pictures of a Visual Genome folder, one at a time.

    Args:
        path: the folder, or its ``scene_graphs.json`` or ``objects.json``. A folder that holds both
            generations is read from ``objects.json``, the one that newer releases have.
        counts: what was dropped or mended -> how often; added to.
        image_data: the file with the pictures' sizes, where it is not beside the others.
        sizes: ``boxes`` does without that file: a picture ends where its last box does.
        broken: what to do with the four pictures of ``BROKEN_IMAGE_IDS``, which the SGG code of the
            field drops.
        lowercase: names, attributes and predicates in lower case, as that code has them.

    Raises:
        FileNotFoundError: no such files; names the one that is missing.
        LookupError: a picture whose size is not known.
        ValueError: files of another layout.
    """
    if sizes not in ("image_data", "boxes"):
        raise ValueError(f"unknown sizes {sizes!r}; choose from: boxes, image_data.")
    if broken not in ("drop", "keep"):
        raise ValueError(f"unknown broken {broken!r}; choose from: drop, keep.")
    source = _source(path)
    table = read_sizes(source.parent, image_data) if sizes == "image_data" else None
    for image_id, entries in _pictures(source, counts):
        if broken == "drop" and image_id in BROKEN_IMAGE_IDS:
            counts["broken pictures dropped"] += 1
            continue
        with named(f"{source}, picture {image_id}"):
            scene = _Scene(image_id, lowercase)
            for entry in entries["objects"] + entries["attributes"]:
                scene.add(entry)
            for entry in entries["relationships"]:
                scene.relate(entry, counts)
        counts["objects merged into others"] += scene.merged
        record = scene.record
        if table is None:
            record.width = math.ceil(max((box[2] for box in record.boxes), default=0))
            record.height = math.ceil(max((box[3] for box in record.boxes), default=0))
        elif image_id not in table:
            raise LookupError(
                f"{image_data or source.parent / SIZES} does not list picture {image_id}, "
                f"which {source} does."
            )
        else:
            record.width, record.height = table[image_id]
        yield record.regions(counts)


def read_region_descriptions(
    path: Path, counts: Counter[str] | None = None, image_data: str = ""
) -> Iterator[RegionDescription]:
    """The captions of ``region_descriptions.json``, one at a time.

    Args:
        path: that file, or its folder.
        counts: what was dropped or mended -> how often; added to.
        image_data: the file with the pictures' sizes, where it is not beside the other.

    Raises:
        FileNotFoundError, LookupError, ValueError: as :func:`read_visual_genome`.
    """
    counts = Counter() if counts is None else counts
    path = path / "region_descriptions.json" if path.is_dir() else path
    table = read_sizes(path.parent, image_data)
    for entry in read_items(path):
        with named(f"{path}, {str(entry)[:80]}"):
            image_id, found = _id_of(entry), []
            for one in entry["regions"]:
                number = _id_of(one, "region_id")
                box = _box_of(one, f"picture {image_id}, region {number}")
                found.append((number, clean_name(one["phrase"]), box))
        if image_id not in table:
            raise LookupError(f"the picture {image_id} of {path} has no known size.")
        width, height = table[image_id]
        for region_id, phrase, (left, top, right, bottom) in found:
            box = (max(left, 0.0), max(top, 0.0), min(right, width), min(bottom, height))
            if box[2] <= box[0] or box[3] <= box[1] or not phrase:
                counts["descriptions without area or words dropped"] += 1
                continue
            if box != (left, top, right, bottom):
                counts["boxes cut to the picture"] += 1
            yield RegionDescription(image_id, region_id, phrase, box)


def read_sizes(folder: Path, image_data: str = "") -> dict[str, tuple[int, int]]:
    """Picture -> (width, height), in the file's order.

    Args:
        folder: where ``image_data.json`` is.
        image_data: the file itself, if it is elsewhere.
    """
    path = Path(image_data) if image_data else folder / SIZES
    if not path.is_file():
        raise FileNotFoundError(
            f"no {path}: Visual Genome keeps the pictures' sizes there. Put it beside the other "
            "files, say where it is with image_data=FILE, or use sizes=boxes to let each picture "
            "end where its last box does."
        )
    table = {}
    for number, entry in enumerate(read_items(path)):
        with named(f"{path}, entry {number}"):
            table[_id_of(entry)] = int(entry["width"]), int(entry["height"])
    return table


def write_visual_genome(path: Path, graphs: Iterable[SceneGraph], counts: Counter[str]) -> int:
    """Write a folder with ``scene_graphs.json`` and ``image_data.json``.

    Args:
        path: the folder.
        graphs: their picture parts are written. Texts, scores, spatial and overlap edges have no
            place in this layout.
        counts: what was left out -> how often; added to.

    Returns:
        How many pictures.
    """
    images: list[dict[str, Any]] = []
    seen: set[str] = set()
    ids = {"object_id": 0, "relationship_id": 0}
    with new_folder(path.absolute()) as folder:
        with new_file(folder / SCENE_GRAPHS) as file:
            file.write("[")
            for graph in graphs:
                if not graph.image_id:
                    counts["graphs without a picture left out"] += 1
                    continue
                if graph.image_id in seen:
                    counts["graphs of a picture already written left out"] += 1
                    continue
                seen.add(graph.image_id)
                number = number_of(graph.image_id)
                key = {"image_id": graph.image_id if number is None else number}
                entry = {**key, **_entry_of(graph, ids, counts)}
                file.write(",\n" * bool(images) + json.dumps(entry, ensure_ascii=False))
                size = {"url": "", "width": graph.width, "height": graph.height}
                images.append({**key, **size, "coco_id": None, "flickr_id": None})
            file.write("]\n")
        with new_file(folder / SIZES) as file:
            file.write(json.dumps(images, ensure_ascii=False) + "\n")
    return len(images)


class _Scene:
    """The objects of one picture, known by every id that was ever theirs."""

    def __init__(self, image_id: str, lowercase: bool):
        self.record = PictureRecord(image_id, 0, 0)
        self.lowercase = lowercase
        self.merged = 0
        self._places: dict[str, int] = {}

    def add(self, entry: dict[str, Any]) -> int:
        """The object's place, new or known; attributes that the entry names are added to it."""
        if isinstance(entry.get("attribute"), dict):  # older dumps
            inner = entry["attribute"]
            entry = {**inner, "object_id": inner.get("object_id", entry.get("object_id"))}
        own = _id_of(entry, "object_id")
        aliases = [own, *(str(one) for one in entry.get("merged_object_ids") or [])]
        known = [self._places[one] for one in aliases if one in self._places]
        if known and own not in self._places:
            self.merged += 1
        place = known[0] if known else self._new(entry)
        for alias in aliases:
            self._places.setdefault(alias, place)
        self.record.attributes[place] += [(name, 1.0) for name in self._attributes_of(entry)]
        return place

    def relate(self, entry: dict[str, Any], counts: Counter[str]) -> None:
        """Add a relation of either generation."""
        predicate = clean_name(entry["predicate"], self.lowercase)
        if "subject_id" in entry:
            ends = [self._places.get(str(entry[name])) for name in ("subject_id", "object_id")]
        else:
            ends = [self.add(entry["subject"]), self.add(entry["object"])]
        if None in ends:
            counts["relations of objects that are not listed dropped"] += 1
            return
        self.record.relations.append((ends[0], predicate, ends[1], 1.0))  # type: ignore[arg-type]

    def _new(self, entry: dict[str, Any]) -> int:
        names = entry.get("names") or entry.get("object_names") or [entry.get("name", "")]
        who = f"picture {self.record.image_id}, object {_id_of(entry, 'object_id')}"
        self.record.boxes.append(_box_of(entry, who))
        self.record.labels.append(clean_name(names[0], self.lowercase))
        self.record.attributes.append([])
        return len(self.record.labels) - 1

    def _attributes_of(self, entry: dict[str, Any]) -> list[str]:
        found = entry.get("attributes") or entry.get("attribute") or []
        names = [found] if isinstance(found, str) else found
        cleaned = (clean_name(name, self.lowercase) for name in names)
        return [name for name in dict.fromkeys(cleaned) if name]


class _Beside:
    """Entries of a file that lists the same pictures, in the same order or another.

    Visual Genome's files agree in their order, so that hardly anything waits in memory.
    """

    def __init__(self, path: Path, key: str):
        self.path, self.key = path, key
        self._entries = read_items(path) if path.is_file() else iter(())
        self._waiting: dict[str, list[Any]] = {}

    def take(self, image_id: str) -> list[Any]:
        if image_id in self._waiting:
            return self._waiting.pop(image_id)
        for number, entry in enumerate(self._entries):
            with named(f"{self.path}, entry {number}"):
                found, values = _id_of(entry), entry.get(self.key) or []
            if found == image_id:
                return values
            self._waiting[found] = values
        return []

    def rest(self) -> int:
        """Pictures that nobody took."""
        return len(self._waiting) + sum(1 for _ in self._entries)


def _source(path: Path) -> Path:
    """The file that lists the pictures."""
    if path.is_file():
        return path
    for name in (OBJECTS, SCENE_GRAPHS):
        if (path / name).is_file():
            return path / name
    raise FileNotFoundError(f"no {OBJECTS} and no {SCENE_GRAPHS} in {path}.")


def _pictures(source: Path, counts: Counter[str]) -> Iterator[tuple[str, dict[str, list[Any]]]]:
    """(image id, its objects, attributes and relationships) of either generation."""
    keys = ("attributes", "relationships")
    apart = source.name == OBJECTS
    beside = {key: _Beside(source.parent / f"{key}.json", key) for key in keys if apart}
    for number, entry in enumerate(read_items(source)):
        with named(f"{source}, entry {number}"):
            image_id = _id_of(entry)
            found = {key: entry.get(key) or [] for key in keys}
            found["objects"] = entry["objects"]
        for key, file in beside.items():
            found[key] = found[key] + file.take(image_id)
        yield image_id, found
    for file in beside.values():
        counts[f"pictures of {file.path.name} that {OBJECTS} does not list"] += file.rest()


def _id_of(entry: dict[str, Any], key: str = "image_id") -> str:
    """Early dumps call every id ``id``."""
    found = entry.get(key, entry.get("id"))
    if found is None:
        raise KeyError(key)
    return str(found)


def _box_of(entry: dict[str, Any], who: str) -> Box:
    width = entry["w"] if "w" in entry else entry["width"]
    height = entry["h"] if "h" in entry else entry["height"]
    return to_xyxy(checked_box((entry["x"], entry["y"], width, height), who), "xywh")


def _entry_of(graph: SceneGraph, ids: dict[str, int], counts: Counter[str]) -> dict[str, Any]:
    """Objects and relationships of one picture; ``ids`` are the last ones used."""
    objects: dict[int, dict[str, Any]] = {}
    for place in graph.of_type("region"):
        node = graph.nodes[place]
        left, top, right, bottom = node.box or (0.0, 0.0, 0.0, 0.0)
        ids["object_id"] += 1
        sides = {"x": left, "y": top, "w": right - left, "h": bottom - top}
        objects[place] = {
            "object_id": ids["object_id"],
            **{name: int(side) if side == int(side) else side for name, side in sides.items()},
            "names": [node.label],
            "synsets": [],
            "attributes": [],
        }
        counts["scores below 1 left out"] += node.score < 1
    relationships = []
    for edge in graph.edges:
        if edge.type == "attribute" and edge.source in objects:
            objects[edge.source]["attributes"].append(graph.nodes[edge.target].label)
        elif edge.type == "relation" and edge.source in objects:
            ids["relationship_id"] += 1
            relationships.append(
                {
                    "relationship_id": ids["relationship_id"],
                    "predicate": edge.predicate,
                    "subject_id": objects[edge.source]["object_id"],
                    "object_id": objects[edge.target]["object_id"],
                    "synsets": [],
                }
            )
        else:
            kind = "edges of the text" if edge.type != "alignment" else "alignment edges"
            if edge.type in ("spatial", "overlap"):
                kind = "spatial and overlap edges"
            counts[f"{kind} left out"] += 1
    counts["words left out"] += len(graph.of_type("word"))
    return {"objects": list(objects.values()), "relationships": relationships}
