"""Region features that somebody else extracted, in the layouts that the field uses.

The layouts are listed in :mod:`tbkin.detectors.precomputed_open`. Nothing in a file is run
(:mod:`tbkin.plain_pickle`), and nothing is written into the input.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from tbkin.config import choose
from tbkin.detectors.precomputed_names import image_number
from tbkin.detectors.precomputed_open import LAYOUTS, TRIED_ROWS, open_features
from tbkin.detectors.precomputed_regions import read_vocabulary, regions_of
from tbkin.graphs.regions import Regions

__all__ = ["LAYOUTS", "PrecomputedFeatures", "image_number", "open_features"]


class PrecomputedFeatures:
    """Regions with features from a file or folder of any layout in ``LAYOUTS``.

    Labels are never invented: without a vocabulary they are "" (VinVL's label file has names).
    Class and attribute ids count from 0 without background in every layout.

    Args:
        path: file or folder.
        layout: a name of ``LAYOUTS``, or ``auto``: decided by content, never by guess.
        objects_vocabulary: file with a class name a line (``objects_vocab.txt``).
        attributes_vocabulary: the same for attributes; every region then gets its best one.
        labels: ``none`` leaves labels and attributes out, VinVL's too. With ``auto``, pickled
            ``info`` is read (as plain data) where a vocabulary needs it.

    Raises:
        FileNotFoundError: there is no such file or folder.
        ValueError: the content is no layout, or may be several; says what was found.
    """

    def __init__(
        self,
        path: str | Path,
        layout: str = "auto",
        objects_vocabulary: str | Path = "",
        attributes_vocabulary: str | Path = "",
        labels: Literal["auto", "none"] = "auto",
    ):
        choose({"auto": None, "none": None}, labels, "labels")
        self.path = Path(path)
        self.object_names = self.attribute_names = None
        if labels == "auto" and objects_vocabulary:
            self.object_names = read_vocabulary(objects_vocabulary)
        if labels == "auto" and attributes_vocabulary:
            self.attribute_names = read_vocabulary(attributes_vocabulary)
        self.reader = open_features(self.path, layout, labels == "auto")
        self.wants_names = bool(self.object_names or self.attribute_names)
        if self.wants_names and not self.reader.stores_labels:
            raise ValueError(
                f"{self.path} is {self.reader.layout}, which holds no class ids: leave "
                "objects_vocabulary and attributes_vocabulary out."
            )
        self._width: int | None = None

    def __call__(self, image: Image.Image, image_id: str = "") -> Regions:
        """The stored regions of one picture.

        Raises:
            LookupError: no such picture in the file.
            ValueError: several fit, the file is damaged, or it is of a picture of another shape.
        """
        stored = self.reader.read(image_id, labels=self.wants_names)
        width = stored.features.shape[1]
        if not len(stored.boxes):
            stored.features = np.zeros((0, self.feature_width), np.float32)
        elif self._width is None:
            self._width = width
        elif width != self._width:
            raise ValueError(
                f"{stored.source} has {width} features a region, images before it {self._width}; "
                "they are of different extractors."
            )
        return regions_of(stored, image, image_id, self.object_names, self.attribute_names)

    def __len__(self) -> int:
        return len(self.reader)

    def __contains__(self, image_id: str) -> bool:
        return image_id in self.reader

    @property
    def feature_width(self) -> int:
        """F, from the first picture that has regions."""
        if self._width is None:
            self._width = 0
            for key, _ in zip(self.reader.names.keys, range(TRIED_ROWS), strict=False):
                stored = self.reader.record(key, False)
                if len(stored.boxes):
                    self._width = stored.features.shape[1]
                    break
        return self._width

    @property
    def policy(self) -> str:
        """How the boxes were chosen: as somebody else did, who may have several files a split."""
        return f"precomputed {self.reader.layout}"

    @property
    def extractor(self) -> str:
        """What made the features, as far as the file tells, for the fingerprint."""
        return f"precomputed {self.reader.layout} {self.feature_width}"

    @property
    def weights(self) -> str:
        """Hash of the extractor's weights: no layout tells."""
        return ""
