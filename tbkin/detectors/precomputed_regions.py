"""Stored regions put on the opened picture: sizes checked, boxes scaled, ids named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from tbkin.boxes import clip_boxes
from tbkin.detectors.precomputed_record import StoredRegions
from tbkin.graphs.regions import Regions

OUTSIDE = 0.01  # of the picture's size, plus a pixel: rounding of extractors; ours
SAME_SHAPE = 0.01  # how far aspect ratios of stored and opened picture may differ; ours


def regions_of(
    stored: StoredRegions,
    image: Image.Image,
    image_id: str,
    object_names: list[str] | None = None,
    attribute_names: list[str] | None = None,
) -> Regions:
    """Stored regions as regions of the opened picture.

    Boxes that were made on another size of the same picture are scaled.

    Args:
        stored: what the file says.
        image: the picture.
        image_id: its id.
        object_names: class id -> name; without it labels are "" unless the file holds names.
        attribute_names: attribute id -> name; without it there are no attributes.

    Raises:
        ValueError: boxes or sizes do not fit, or an id has no name; names the file.
    """
    count = len(stored.boxes)
    labels = stored.names or [""] * count
    if object_names is not None:
        labels = _named(stored, stored.objects, object_names, "objects", stored.classes)
    attributes: list[list[tuple[str, float]]] = [[] for _ in range(count)]
    if attribute_names is not None:
        found = _named(stored, stored.attributes, attribute_names, "attributes", None)
        scores = _confidences(stored, stored.attribute_scores, count)
        attributes = [[pair] for pair in zip(found, scores, strict=True)]
    return Regions(
        boxes=clip_boxes(torch.from_numpy(_pixel_boxes(stored, image, image_id)), *image.size),
        width=image.width,
        height=image.height,
        labels=list(labels),
        scores=_confidences(stored, stored.object_scores, count),
        attributes=attributes,
        features=torch.from_numpy(stored.features.astype(np.float32)),
        image_id=image_id,
    )


def _pixel_boxes(stored: StoredRegions, image: Image.Image, image_id: str) -> np.ndarray:
    """(R, 4) float32 xyxy pixels of the opened picture, checked against both sizes."""
    boxes, opened = stored.boxes.astype(np.float64), np.array(image.size, np.float64)
    where = f"{stored.source}: image {image_id}"
    if not np.isfinite(boxes).all():
        raise ValueError(f"{where} has boxes that are not finite.")
    if (boxes[:, 2:] < boxes[:, :2]).any():
        raise ValueError(f"{where} has a box whose right or lower edge comes first; not xyxy.")
    size = np.array(stored.size or image.size, np.float64)
    if stored.size and abs((size[0] / size[1]) / (opened[0] / opened[1]) - 1) > SAME_SHAPE:
        turned = " Is one of them turned (EXIF)?" if (size[::-1] == opened).all() else ""
        raise ValueError(
            f"{where} was {size[0]:.0f} x {size[1]:.0f} pixels when its features were made, and is "
            f"{image.width} x {image.height} here; another shape is another picture.{turned}"
        )
    if not len(boxes):
        return boxes.astype(np.float32)
    highest = boxes.max()
    if stored.shares:
        if highest > 1 + OUTSIDE or boxes.min() < -OUTSIDE:
            raise ValueError(
                f"{where} has boxes up to {highest:g}; this layout holds shares of the picture's "
                "size, from 0 to 1."
            )
        return (boxes * np.tile(opened, 2)).astype(np.float32)
    if highest <= 1 + OUTSIDE and size.min() > 4:
        raise ValueError(
            f"{where} has no box beyond {highest:g}; this layout holds pixels, and those look like "
            "shares of the picture's size."
        )
    limit = np.tile(size * (1 + OUTSIDE) + 1, 2)
    if stored.size and ((boxes > limit).any() or (boxes < -OUTSIDE * limit - 1).any()):
        raise ValueError(
            f"{where} has a box {boxes[(boxes > limit).any(1).argmax()].round(1).tolist()} outside "
            f"its own picture of {size[0]:.0f} x {size[1]:.0f} pixels; boxes are xyxy pixels."
        )
    if not stored.size and (boxes[:, :2] > limit[:2]).any():
        raise ValueError(
            f"{where} has a box that begins outside the picture of {image.width} x {image.height} "
            "pixels: its features were made on another size, which this file does not tell."
        )
    return (boxes * np.tile(opened / size, 2)).astype(np.float32)


def _named(
    stored: StoredRegions, ids: np.ndarray | None, names: list[str], what: str, classes: int | None
) -> list[str]:
    """The name of every id."""
    if ids is None:
        raise ValueError(
            f"{stored.source} holds no ids of {what}, so {what}_vocabulary has nothing to name; "
            "leave it out."
        )
    if classes is not None and classes != len(names):
        raise ValueError(
            f"{stored.source} knows {classes} classes and {what}_vocabulary has {len(names)}; "
            "it is the vocabulary of another detector."
        )
    if len(ids) and (ids.min() < 0 or ids.max() >= len(names)):
        raise ValueError(
            f"{stored.source} has ids of {what} from {ids.min()} to {ids.max()}; the vocabulary "
            f"has {len(names)} names, for ids from 0 without background."
        )
    return [names[number] for number in ids.tolist()]


def _confidences(stored: StoredRegions, scores: np.ndarray | None, count: int) -> list[float]:
    if scores is None:
        return [1.0] * count
    scores = np.asarray(scores, np.float64)
    if len(scores) and not (scores.min() >= -1e-3 and scores.max() <= 1 + 1e-3):
        raise ValueError(
            f"{stored.source} has confidences from {scores.min():g} to {scores.max():g}; they are "
            "probabilities, from 0 to 1."
        )
    return scores.clip(0, 1).tolist()


def read_vocabulary(path: str | Path) -> list[str]:
    """Names of ids from a file with one a line; a comma joins synonyms, of which the first counts.

    The bottom-up detector's ``objects_vocab.txt`` (1,600) and ``attributes_vocab.txt`` (400). Ids
    count from 0 without background; a first line ``__background__`` or ``__no_attribute__`` is left
    out.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no vocabulary file {path}.")
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not a vocabulary: {error}") from error
    names = [line.split(",")[0].strip() for line in lines]
    while names and not names[-1]:
        names.pop()
    if names and names[0].startswith("__"):
        names = names[1:]
    if not names or not all(names):
        raise ValueError(f"{path} is not a vocabulary: it has an empty line, or no names at all.")
    return names
