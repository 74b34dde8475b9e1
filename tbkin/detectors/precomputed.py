"""Region features that somebody else extracted: one npz a picture, the bottom-up layout."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from tbkin.boxes import clip_boxes
from tbkin.graphs.regions import Regions

FEATURE_KEYS, BOX_KEYS = ("x", "features"), ("boxes", "bbox")


class PrecomputedFeatures:
    """Regions with features from ``FOLDER/<anything ending in the image id>.npz``.

    Reads ``x`` or ``features`` (R, F) or (F, R), and ``boxes`` or ``bbox`` (R, 4) xyxy pixels. The
    pickled ``info`` that some extractors add is never opened.

    Args:
        folder: where the npz files are, at any depth.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise FileNotFoundError(f"no folder of region features {self.folder}.")
        self.files = {image_number(path): path for path in sorted(self.folder.rglob("*.npz"))}

    def __call__(self, image: Image.Image, image_id: str = "") -> Regions:
        """The stored regions of one picture."""
        path = self.files.get(image_id.lstrip("0") or image_id[-1:])
        if path is None:
            raise LookupError(
                f"no region features for image {image_id} in {self.folder} "
                f"({len(self.files)} images there)."
            )
        try:
            with np.load(path, allow_pickle=False) as content:
                features, boxes = _pick(content, FEATURE_KEYS), _pick(content, BOX_KEYS)
        except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise ValueError(f"{path} is not a region feature file: {error}") from error
        features = torch.from_numpy(features).float()
        if features.shape[0] != len(boxes):
            features = features.T
        count = len(boxes)
        return Regions(
            boxes=clip_boxes(torch.from_numpy(boxes).float(), *image.size),
            width=image.width,
            height=image.height,
            labels=[""] * count,
            scores=[1.0] * count,
            attributes=[[] for _ in range(count)],
            features=features,
            image_id=image_id,
        )

    @property
    def policy(self) -> str:
        """How the boxes were chosen, for the fingerprint of a region store."""
        return f"precomputed {self.folder.name}"


def image_number(path: Path) -> str:
    """The id at the end of a COCO-style name: COCO_val2014_000000000042.jpg.npz -> "42"."""
    stem = path.name.split(".")[0]
    digits = stem[len(stem.rstrip("0123456789")) :]
    return digits.lstrip("0") or digits[-1:]


def _pick(content: np.lib.npyio.NpzFile, keys: tuple[str, ...]) -> np.ndarray:
    for key in keys:
        if key in content.files:
            return content[key]
    raise ValueError(f"it has none of {', '.join(keys)}; it has {', '.join(content.files)}")
