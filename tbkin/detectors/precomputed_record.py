"""What a feature file says of one picture, and random access to many of them."""

from __future__ import annotations

import struct
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tbkin.detectors.precomputed_names import StoredNames
from tbkin.plain_pickle import RefusedPickleError

DAMAGE = (ValueError, OSError, EOFError, LookupError, TypeError, AttributeError, MemoryError)
DAMAGE += (OverflowError, ArithmeticError, zipfile.BadZipFile, zlib.error, struct.error)
DAMAGE += (RuntimeError,)  # zipfile's word for encrypted; NotImplementedError is one


@dataclass
class StoredRegions:
    """The regions of one picture as stored.

    Attributes:
        source: file (and row), for errors.
        features: (R, F) float.
        boxes: (R, 4) xyxy; pixels of a picture of ``size``, or shares of its size in [0, 1].
        shares: whether boxes are shares.
        size: (width, height) of the picture the features were made on, where the layout has it.
        objects, object_scores: (R,) class ids from 0, background not counted, and confidences.
        attributes, attribute_scores: (R,) the same for attributes.
        classes: how many object classes there are, where the file tells.
        names: R class names, where the layout stores names.
    """

    source: str
    features: np.ndarray
    boxes: np.ndarray
    shares: bool = False
    size: tuple[int, int] | None = None
    objects: np.ndarray | None = None
    object_scores: np.ndarray | None = None
    attributes: np.ndarray | None = None
    attribute_scores: np.ndarray | None = None
    classes: int | None = None
    names: list[str] | None = None

    def __post_init__(self) -> None:
        self.features, self.boxes = np.asarray(self.features), np.asarray(self.boxes)
        for name, value in (("features", self.features), ("boxes", self.boxes)):
            if value.ndim != 2 or value.dtype.kind not in "fiu":
                raise ValueError(f"its {name} are {value.dtype} of shape {value.shape}")
        count = len(self.boxes)
        if self.boxes.shape[1] != 4 or len(self.features) != count:
            raise ValueError(
                f"it has features of shape {self.features.shape} for boxes of {self.boxes.shape}"
            )
        for name in ("objects", "object_scores", "attributes", "attribute_scores"):
            value = getattr(self, name)
            if value is not None and np.shape(value) != (count,):
                raise ValueError(f"its {name} have shape {np.shape(value)} for {count} boxes")
        if self.names is not None and len(self.names) != count:
            raise ValueError(f"it has {len(self.names)} names for {count} boxes")
        if self.size is not None and min(self.size) < 1:
            raise ValueError(f"its picture is {self.size[0]} x {self.size[1]} pixels")


class Reader(ABC):
    """Random access to the stored regions of many pictures; holds no file open between reads.

    So it can be pickled, forked and read from several processes.

    Args:
        path: file or folder.
        layout: its name in ``LAYOUTS``.
        keys: the ids as the file spells them.
    """

    stores_labels = True  # False: the layout has none, so a vocabulary is a mistake

    def __init__(self, path: Path, layout: str, keys: Any):
        self.path, self.layout, self.names = path, layout, StoredNames(keys, path)

    def __contains__(self, image_id: str) -> bool:
        return len(self.names.candidates(str(image_id))) == 1

    def __len__(self) -> int:
        return len(self.names)

    def read(self, image_id: str, labels: bool = False) -> StoredRegions:
        """The stored regions of one picture.

        Args:
            image_id: in any usual spelling.
            labels: whether class ids are wanted, where they need an own file or pickle.

        Raises:
            LookupError: no such picture.
            ValueError: several, or the file is damaged.
        """
        return self.record(self.names.find(image_id), labels)

    @abstractmethod
    def record(self, key: str, labels: bool) -> StoredRegions:
        """The stored regions under one of the file's own keys."""


@contextmanager
def reading(source: Any) -> Iterator[None]:
    """Whatever a damaged file raises becomes a ``ValueError`` that names it."""
    try:
        yield
    except RefusedPickleError:
        raise
    except DAMAGE as error:
        reason = str(error) or type(error).__name__
        if reason.startswith(f"{source} is "):
            raise
        reason = reason.removeprefix(f"{source}, ")
        raise ValueError(f"{source} is not a region feature file: {reason}") from error


def whole_ids(values: np.ndarray) -> np.ndarray:
    """(R,) class ids as int64; floats that are whole numbers are ids too."""
    values = np.asarray(values)
    if values.dtype.kind not in "fiu" or not np.isfinite(values).all() or (values % 1 != 0).any():
        raise ValueError(f"its class ids are no whole numbers ({values.dtype})")
    return values.astype(np.int64)


def class_scores(values: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """(R,) confidences, out of those or out of (R, C) probabilities of all classes.

    Where the best class is the id only when column 0 is left out, that column is background.
    """
    values = np.asarray(values)
    if values.ndim != 2 or values.shape[1] < 2 or not len(values):
        return values.reshape(len(values)) if values.ndim == 2 else values
    with_background = (values[:, 1:].argmax(1) == ids).all() and (values.argmax(1) != ids).any()
    return values[:, 1:].max(1) if with_background else values.max(1)


def rows_first(features: np.ndarray, count: int) -> np.ndarray:
    """(R, F) out of (R, F) or (F, R), by the number of boxes.

    Raises:
        ValueError: neither side has as many entries as there are boxes, or both have.
    """
    if features.ndim == 3 and len(features) == 1:
        features = features[0]
    if features.ndim != 2 or count not in features.shape:
        raise ValueError(f"its features are {features.shape}, and there are {count} boxes")
    if features.shape == (count, count):
        raise ValueError(
            f"its features are {features.shape} for {count} boxes: regions may be rows or columns; "
            "write them again with another number of boxes, as (regions, features)"
        )
    return features if features.shape[0] == count else features.T
