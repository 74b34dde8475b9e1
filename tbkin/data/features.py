"""Region store: the regions of many pictures in safetensors shards, read by memory map.

::

    FOLDER/manifest.json            schema, fingerprint, names of labels and attributes, shards,
                                    notes (image id -> what was done about it)
    FOLDER/shard-00000.safetensors  boxes (N, 4) f32 xyxy pixels, features (N, F) f16, scores (N,),
                                    labels (N,), attributes (N, K), attribute_scores (N, K),
                                    relations (M, 4) and their scores (M,), images (P, 6)

A row of ``images`` holds: width, height, first and last + 1 row of its regions, first and last + 1
row of its relations. A shard's metadata name its image ids, labels, attributes and predicates, so
that shards can be written in any order and by any process. Loader processes share the mapped pages
(why safetensors: it is nearly as quick as Arrow, holds no pickle, and is installed anyway).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from tbkin.files import new_folder, write_json
from tbkin.graphs.regions import Regions

SCHEMA = "tbkin.regions/2"
IMAGES_A_SHARD = 250
NO_ATTRIBUTE = -1
KEY = "regions"  # of a shard's metadata
NAMED = ("labels", "attributes", "predicates")


def fingerprint(extractor: str, weights: str, boxes: str) -> dict[str, str]:
    """What features must have in common to be used together.

    Args:
        extractor: what computed the features, with its settings ("pixels 8x8").
        weights: hash of its weights; "" without.
        boxes: how the boxes were chosen ("grid 6x6").
    """
    return {"extractor": extractor, "weights": weights, "boxes": boxes}


def write_regions(
    folder: Path, regions: Iterable[Regions], mark: dict[str, str], shard_size: int = IMAGES_A_SHARD
) -> int:
    """Write a store, all of it or nothing; return the number of pictures.

    Args:
        folder: what is there already is replaced.
        regions: one entry a picture, with ``features`` and an ``image_id``.
        mark: from :func:`fingerprint`.
        shard_size: pictures a shard.
    """
    shards: list[Path] = []
    waiting: list[Regions] = []
    with new_folder(folder) as unfinished:

        def flush() -> None:
            shards.append(unfinished / f"shard-{len(shards):05d}.safetensors")
            write_shard(shards[-1], waiting)
            waiting.clear()

        for entry in regions:
            waiting.append(entry)
            if len(waiting) == shard_size:
                flush()
        if waiting:
            flush()
        return write_manifest(unfinished, shards, mark)


def write_shard(
    path: Path, regions: Iterable[Regions], notes: Mapping[str, str] | None = None
) -> None:
    """Write some pictures' regions to one file.

    Args:
        path: the file.
        regions: one entry a picture, with ``features`` and an ``image_id``.
        notes: image id -> what was done about it ("unreadable, left out"); read after ``regions``.

    Raises:
        ValueError: regions without features, or with such as half precision cannot hold.
    """
    names = _Names()
    entries = list(regions)
    tensors = _tensors(entries, names)
    metadata = {"images": [entry.image_id for entry in entries], "notes": dict(notes or {})}
    metadata |= {kind: list(names.codes[kind]) for kind in NAMED}
    save_file(tensors, path, {KEY: json.dumps(metadata)})  # one key: safetensors shuffles several


def write_manifest(folder: Path, shards: Sequence[Path], mark: dict[str, str]) -> int:
    """Make a folder of shards a store; return the number of pictures.

    Raises:
        ValueError: two pictures have the same id.
    """
    names: dict[str, dict[str, None]] = {kind: {} for kind in NAMED}
    seen: set[str] = set()
    notes: dict[str, str] = {}
    count = 0
    for path in shards:
        with safe_open(path, framework="pt") as file:
            metadata = _metadata(file, path)
        for kind in NAMED:
            names[kind].update(dict.fromkeys(metadata[kind]))
        for image_id in metadata["images"]:
            if image_id in seen:
                raise ValueError(f"{folder}: two pictures have the id {image_id!r}.")
            seen.add(image_id)
        notes.update(metadata["notes"])
        count += len(metadata["images"])
    manifest = {
        "schema": SCHEMA,
        "fingerprint": mark,
        "images": count,
        **{kind: list(known) for kind, known in names.items()},
        "notes": notes,
        "shards": [path.name for path in shards],
    }
    write_json(folder / "manifest.json", manifest)
    return count


class RegionStore:
    """Read-only view of a store: ``store["42"] -> Regions`` with features.

    Args:
        folder: what :func:`write_regions` wrote.

    Raises:
        FileNotFoundError, ValueError: not a finished store of this schema.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        path = self.folder / "manifest.json"
        if not path.is_file():
            raise FileNotFoundError(
                f"no region store in {self.folder} (manifest.json is missing). "
                f"Write one with: tbkin prep regions images=DIR output={self.folder}"
            )
        try:
            self.manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{path} is damaged ({error}); prepare the regions again.") from error
        if self.manifest.get("schema") != SCHEMA:
            raise ValueError(
                f"{path} has schema {self.manifest.get('schema')!r}, this version reads "
                f"{SCHEMA!r}; prepare the regions again."
            )
        self.fingerprint: dict[str, str] = self.manifest["fingerprint"]
        self.places: dict[str, tuple[int, int]] = {}
        self._open: dict[int, Any] = {}
        self._images: list[Tensor] = []
        self._names: list[dict[str, list[str]]] = []
        for number in range(len(self.manifest["shards"])):
            shard = self._shard(number)
            metadata = _metadata(shard, self.folder / self.manifest["shards"][number])
            self._images.append(shard.get_tensor("images"))
            self._names.append({kind: metadata[kind] for kind in NAMED})
            for row, image_id in enumerate(metadata["images"]):
                self.places[image_id] = (number, row)

    def __len__(self) -> int:
        return len(self.places)

    def __contains__(self, image_id: object) -> bool:
        return str(image_id) in self.places

    def __getstate__(self) -> dict[str, Any]:
        """Loader processes map the shards themselves: handles do not cross a fork or a spawn."""
        return {**self.__dict__, "_open": {}}

    def __getitem__(self, image_id: str | int) -> Regions:
        regions = self.without_features(image_id)
        number, row = self.places[str(image_id)]
        _, _, start, stop, _, _ = self._images[number][row].tolist()
        features = self._shard(number).get_slice("features")[start:stop].float()
        return replace(regions, features=features)

    def without_features(self, image_id: str | int) -> Regions:
        """A picture's regions for a graph: the mapped pages of the features stay untouched."""
        place = self.places.get(str(image_id))
        if place is None:
            raise LookupError(
                f"no region features for image {image_id} in {self.folder} "
                f"({len(self.places)} images there). "
                f"Write them with: tbkin prep regions images=DIR output={self.folder} "
                "overwrite=true"
            )
        number, row = place
        shard = self._shard(number)
        width, height, start, stop, first, last = self._images[number][row].tolist()
        labels, attributes, predicates = (self._names[number][kind] for kind in NAMED)

        def rows(name: str, begin: int = start, end: int = stop) -> Tensor:
            return shard.get_slice(name)[begin:end]

        named = zip(rows("attributes").tolist(), rows("attribute_scores").tolist(), strict=True)
        links = zip(
            rows("relations", first, last).tolist(),
            rows("relation_scores", first, last).tolist(),
            strict=True,
        )
        return Regions(
            boxes=rows("boxes"),
            width=width,
            height=height,
            labels=[labels[code] for code in rows("labels").tolist()],
            scores=rows("scores").tolist(),
            attributes=[
                [
                    (attributes[code], score)
                    for code, score in zip(codes, scores, strict=True)
                    if code != NO_ATTRIBUTE
                ]
                for codes, scores in named
            ],
            relations=[
                (subject, predicates[code], target, score)
                for (subject, code, target), score in links
            ],
            image_id=str(image_id),
        )

    def _shard(self, number: int) -> Any:
        if number not in self._open:
            path = self.folder / self.manifest["shards"][number]
            try:
                self._open[number] = safe_open(path, framework="pt")
            except (SafetensorError, OSError) as error:
                raise ValueError(
                    f"{path} is missing or damaged ({error}); prepare the regions again."
                ) from error
        return self._open[number]


def check_fingerprint(
    expected: dict[str, str], found: dict[str, str], where: str, same_boxes: bool = True
) -> None:
    """Raise ``ValueError`` when two kinds of features would be mixed.

    Args:
        expected: what the model, or the other half of the data, has.
        found: what ``where`` has.
        where: for the message.
        same_boxes: whether the boxes must have been chosen alike, too. One may train on annotated
            boxes and test on detections, as long as the features are computed alike.
    """
    keys = [key for key in expected if same_boxes or key != "boxes"]
    differing = [key for key in keys if expected[key] != found.get(key)]
    if differing:
        lines = "; ".join(
            f"{key}: expected {expected[key]!r}, got {found.get(key)!r}" for key in differing
        )
        raise ValueError(f"{where} holds region features of another kind ({lines}).")


class _Names:
    """Strings -> codes, in the order in which they come."""

    def __init__(self) -> None:
        self.codes: dict[str, dict[str, int]] = {kind: {} for kind in NAMED}

    def code(self, kind: str, name: str) -> int:
        return self.codes[kind].setdefault(name, len(self.codes[kind]))


def _metadata(file: Any, path: Path) -> dict[str, Any]:
    """What :func:`write_shard` noted in a shard."""
    found = json.loads((file.metadata() or {}).get(KEY, "{}"))
    missing = [key for key in ("images", "notes", *NAMED) if key not in found]
    if missing:
        raise ValueError(
            f"{path} does not say its {', '.join(missing)}; prepare the regions again."
        )
    return found


def _tensors(entries: list[Regions], names: _Names) -> dict[str, Tensor]:
    """One shard's tensors."""
    width = max([1, *(len(one) for entry in entries for one in entry.attributes)])
    images, relations = [], []
    attributes, attribute_scores = [], []
    start = 0
    for entry in entries:
        if entry.features is None:
            raise ValueError(f"regions of image {entry.image_id} have no features to store.")
        if not torch.isfinite(entry.features.half()).all():
            raise ValueError(
                f"regions of image {entry.image_id} have features that are not finite, or beyond "
                "65504, the most that a store (half precision) holds."
            )
        first = len(relations)
        for subject, predicate, target, score in entry.relations:
            relations.append((subject, names.code("predicates", predicate), target, score))
        stop = start + len(entry)
        images.append((entry.width, entry.height, start, stop, first, len(relations)))
        start = stop
        for pairs in entry.attributes:
            padding = [NO_ATTRIBUTE] * (width - len(pairs))
            attributes.append([names.code("attributes", name) for name, _ in pairs] + padding)
            attribute_scores.append([score for _, score in pairs] + [0.0] * len(padding))
    labels = [names.code("labels", label) for entry in entries for label in entry.labels]
    scores = [score for entry in entries for score in entry.scores]
    nothing = [torch.zeros(0, 0)]  # a shard whose pictures were all unreadable
    return {
        "images": torch.tensor(images, dtype=torch.int64).reshape(-1, 6),
        "boxes": torch.cat([entry.boxes for entry in entries] or nothing).float().reshape(-1, 4),
        "features": torch.cat([entry.features for entry in entries] or nothing).half(),
        "labels": torch.tensor(labels, dtype=torch.int32),
        "scores": torch.tensor(scores, dtype=torch.float32),
        "attributes": torch.tensor(attributes, dtype=torch.int32).reshape(-1, width),
        "attribute_scores": torch.tensor(attribute_scores).reshape(-1, width),
        "relations": torch.tensor([r[:3] for r in relations], dtype=torch.int32).reshape(-1, 3),
        "relation_scores": torch.tensor([r[3] for r in relations], dtype=torch.float32),
    }
