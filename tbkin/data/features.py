"""Region store: the regions of many pictures in safetensors shards, read by memory map.

::

    FOLDER/manifest.json            schema, fingerprint, names of labels and attributes, shards
    FOLDER/shard-00000.safetensors  boxes (N, 4) f32 xyxy pixels, features (N, F) f16, scores (N,),
                                    labels (N,), attributes (N, K), attribute_scores (N, K),
                                    relations (M, 4) and their scores (M,), images (P, 7)

A row of ``images`` holds: image id, width, height, first and last + 1 row of its regions, first
and last + 1 row of its relations. Loader processes share the mapped pages (why safetensors: it is
nearly as quick as Arrow, holds no pickle, and is installed anyway).
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from tbkin.files import new_folder, write_json
from tbkin.graphs.regions import Regions

SCHEMA = "tbkin.regions/1"
IMAGES_A_SHARD = 1000
NO_ATTRIBUTE = -1


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
        regions: one entry a picture, with ``features`` and a numeric ``image_id``.
        mark: from :func:`fingerprint`.
        shard_size: pictures a shard.
    """
    names = _Names()
    shards: list[str] = []
    waiting: list[Regions] = []
    count = 0
    with new_folder(folder) as unfinished:

        def flush() -> None:
            shard = f"shard-{len(shards):05d}.safetensors"
            save_file(_tensors(waiting, names), unfinished / shard)
            shards.append(shard)
            waiting.clear()

        for entry in regions:
            waiting.append(entry)
            count += 1
            if len(waiting) == shard_size:
                flush()
        if waiting:
            flush()
        manifest = {
            "schema": SCHEMA,
            "fingerprint": mark,
            "images": count,
            "labels": names.labels,
            "attributes": names.attributes,
            "predicates": names.predicates,
            "shards": shards,
        }
        write_json(unfinished / "manifest.json", manifest)
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
        for number in range(len(self.manifest["shards"])):
            images = self._shard(number).get_tensor("images")
            self._images.append(images)
            for row, image_id in enumerate(images[:, 0].tolist()):
                self.places[str(image_id)] = (number, row)

    def __len__(self) -> int:
        return len(self.places)

    def __contains__(self, image_id: object) -> bool:
        return str(image_id) in self.places

    def __getstate__(self) -> dict[str, Any]:
        """Loader processes map the shards themselves: handles do not cross a fork or a spawn."""
        return {**self.__dict__, "_open": {}}

    def __getitem__(self, image_id: str | int) -> Regions:
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
        _, width, height, start, stop, first, last = self._images[number][row].tolist()
        labels, attributes = self.manifest["labels"], self.manifest["attributes"]
        predicates = self.manifest["predicates"]

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
            features=rows("features").float(),
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


def check_fingerprint(expected: dict[str, str], found: dict[str, str], where: str) -> None:
    """Raise ``ValueError`` when two kinds of features would be mixed."""
    differing = [key for key in expected if expected[key] != found.get(key)]
    if differing:
        lines = "; ".join(
            f"{key}: trained on {expected[key]!r}, got {found.get(key)!r}" for key in differing
        )
        raise ValueError(f"{where} holds other region features than the model knows ({lines}).")


class _Names:
    """Strings -> codes, in the order in which they come."""

    def __init__(self) -> None:
        self.labels: list[str] = []
        self.attributes: list[str] = []
        self.predicates: list[str] = []
        self._codes: dict[str, dict[str, int]] = {"labels": {}, "attributes": {}, "predicates": {}}

    def code(self, kind: str, name: str) -> int:
        codes = self._codes[kind]
        if name not in codes:
            codes[name] = len(codes)
            getattr(self, kind).append(name)
        return codes[name]


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
        images.append(
            (int(entry.image_id), entry.width, entry.height, start, stop, first, len(relations))
        )
        start = stop
        for pairs in entry.attributes:
            padding = [NO_ATTRIBUTE] * (width - len(pairs))
            attributes.append([names.code("attributes", name) for name, _ in pairs] + padding)
            attribute_scores.append([score for _, score in pairs] + [0.0] * len(padding))
    labels = [names.code("labels", label) for entry in entries for label in entry.labels]
    scores = [score for entry in entries for score in entry.scores]
    return {
        "images": torch.tensor(images, dtype=torch.int64),
        "boxes": torch.cat([entry.boxes for entry in entries]).float(),
        "features": torch.cat([entry.features for entry in entries]).half(),
        "labels": torch.tensor(labels, dtype=torch.int32),
        "scores": torch.tensor(scores, dtype=torch.float32),
        "attributes": torch.tensor(attributes, dtype=torch.int32).reshape(-1, width),
        "attribute_scores": torch.tensor(attribute_scores).reshape(-1, width),
        "relations": torch.tensor([r[:3] for r in relations], dtype=torch.int32).reshape(-1, 3),
        "relation_scores": torch.tensor([r[3] for r in relations], dtype=torch.float32),
    }
