"""Boxes that somebody wrote down: COCO instances, or a detector's output in the same layout."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from tbkin.boxes import clip_boxes, xywh_to_xyxy
from tbkin.detectors.precomputed import image_number
from tbkin.graphs.regions import Regions

SAME_SHAPE = 0.01  # how far the shapes of a picture and of its copy may differ


class AnnotatedBoxes:
    """Regions from COCO-style files (``images``, ``annotations``, ``categories``).

    Beside the official fields an annotation may carry ``score`` and ``attributes``
    (``[{"name", "score"}]``), and the file ``relations`` (``[{"image_id", "subject", "predicate",
    "object", "score"}]``, numbered within the picture), which is how a detector's output is kept.

    Args:
        files: one or more such JSON files.

    Raises:
        FileNotFoundError, ValueError: a file that is missing or is not of this layout.
        LookupError: when called for a picture that none of the files lists.
        ValueError: when called with a picture of another shape than the listed one.
    """

    def __init__(self, files: str | Path | Sequence[str | Path]):
        names = [files] if isinstance(files, str | Path) else list(files)
        self.files = [Path(name) for name in names]
        self.images: dict[int, dict[str, Any]] = {}
        self.annotations: dict[int, list[dict[str, Any]]] = {}
        self.relations: dict[int, list[dict[str, Any]]] = {}
        self.categories: dict[int, str] = {}
        for path in self.files:
            self._read(path)

    def _read(self, path: Path) -> None:
        if not path.is_file():
            raise FileNotFoundError(f"no annotation file {path}.")
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            self.images.update({entry["id"]: entry for entry in content["images"]})
            self.categories.update({entry["id"]: entry["name"] for entry in content["categories"]})
            for entry in content["annotations"]:
                self.annotations.setdefault(entry["image_id"], []).append(entry)
            for entry in content.get("relations", []):
                self.relations.setdefault(entry["image_id"], []).append(entry)
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"{path} is not a COCO annotation file with images, annotations and categories: "
                f"{error!r}."
            ) from error

    def __call__(self, image: Image.Image, image_id: str = "") -> Regions:
        """The annotated boxes of one picture, cut to it; boxes without area are left out."""
        number = self._number_of(image_id)
        if number is None:
            raise LookupError(
                f"no boxes for image {image_id} in "
                f"{', '.join(str(path) for path in self.files)} ({len(self.images)} images there)."
            )
        entries = self.annotations.get(number, [])
        boxes = torch.tensor([entry["bbox"] for entry in entries], dtype=torch.float32)
        boxes = xywh_to_xyxy(boxes.reshape(-1, 4)) * self._scale(number, image, image_id)
        boxes = clip_boxes(boxes, *image.size)
        kept = [
            place
            for place, (left, top, right, bottom) in enumerate(boxes.tolist())
            if right > left and bottom > top
        ]
        renumbered = {old: new for new, old in enumerate(kept)}
        entries = [entries[place] for place in kept]
        return Regions(
            boxes=boxes[kept],
            width=image.width,
            height=image.height,
            labels=[self.categories[entry["category_id"]] for entry in entries],
            scores=[float(entry.get("score", 1.0)) for entry in entries],
            attributes=[
                [(one["name"], float(one["score"])) for one in entry.get("attributes", [])]
                for entry in entries
            ],
            relations=[
                (
                    renumbered[one["subject"]],
                    one["predicate"],
                    renumbered[one["object"]],
                    float(one["score"]),
                )
                for one in self.relations.get(number, [])
                if one["subject"] in renumbered and one["object"] in renumbered
            ],
            image_id=image_id,
        )

    extractor = weights = ""  # brings no features

    @cached_property
    def _ids(self) -> dict[str, int]:
        """File name without suffix, with and without folders, and the number it ends in -> id.

        Own exports often count pictures from 1, whatever the numbers in the files' names: an id
        counts only where the name has no number. A number that two names end in stands for neither.
        """
        names: dict[str, int] = {}
        numbers: dict[str, int | None] = {}
        for known, entry in self.images.items():
            path = PurePosixPath(str(entry.get("file_name") or known)).with_suffix("")
            names |= {path.as_posix(): known, path.name: known}
            number = image_number(path) or str(known)
            numbers[number] = None if number in numbers else known
        return {**{n: one for n, one in numbers.items() if n and one is not None}, **names}

    def _number_of(self, image_id: str) -> int | None:
        """The files' own id of a picture."""
        path = PurePosixPath(image_id)
        for name in (image_id, path.name, image_number(path)):
            if name in self._ids:
                return self._ids[name]
        return None

    def _scale(self, number: int, image: Image.Image, image_id: str) -> Tensor:
        """(4,) from the pixels of the annotated picture to those of the opened one."""
        entry = self.images[number]
        size = (entry.get("width") or image.width, entry.get("height") or image.height)
        shape = (size[0] * image.height) / (size[1] * image.width)
        if abs(shape - 1) > SAME_SHAPE:
            turned = " Is one of them turned (EXIF)?" if size == image.size[::-1] else ""
            raise ValueError(
                f"image {image_id} was {size[0]} x {size[1]} pixels when its boxes were drawn, and "
                f"is {image.width} x {image.height} here; another shape is another picture.{turned}"
            )
        return torch.tensor([image.width / size[0], image.height / size[1]] * 2)

    @property
    def policy(self) -> str:
        """How the boxes were chosen, for the fingerprint of a region store."""
        return "annotated " + " ".join(path.name for path in self.files)
