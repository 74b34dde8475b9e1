"""MMF's features: ``X.npy`` (R, F) with ``X_info.npy``, or the dicts that its LMDB holds.

The info is a pickled dict ``bbox`` (R, 4) xyxy pixels, ``num_boxes, image_height, image_width,
objects, cls_prob``; only :mod:`tbkin.plain_pickle` opens it. Object ids count from 0 without
background. Rows past ``num_boxes`` are what non-maximum suppression left over, or padding.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tbkin.detectors.precomputed_record import (
    Reader,
    StoredRegions,
    class_scores,
    reading,
    whole_ids,
)
from tbkin.plain_pickle import load_npy

INFO = "_info"


class MmfFolder(Reader):
    """Pairs of npy files, at any depth of a folder.

    Args:
        path: the folder.
        files: its ``X_info.npy`` files.
    """

    def __init__(self, path: Path, files: list[Path]):
        self.files = {str(features_of(file).relative_to(path)): file for file in files}
        super().__init__(path, "mmf_npy", self.files)

    def record(self, key: str, labels: bool) -> StoredRegions:
        """One pair."""
        info = self.files[key]
        features = features_of(info)
        with reading(features):
            values = load_npy(features, objects=False)
        with reading(info):
            return mmf_regions(values, load_npy(info), str(features))


def features_of(info: Path) -> Path:
    """``X_info.npy`` -> ``X.npy``."""
    return info.with_name(info.name.removesuffix(f"{INFO}.npy") + ".npy")


def mmf_regions(features: np.ndarray, info: Any, source: str) -> StoredRegions:
    """Regions of an array and its info.

    Raises:
        ValueError: a key is missing, or sizes do not fit.
    """
    if not isinstance(info, dict):
        raise ValueError(f"it holds a {type(info).__name__}, no dict")
    missing = [name for name in ("bbox", "image_height", "image_width") if name not in info]
    if missing:
        raise ValueError(f"it has no {', '.join(missing)}; it has {', '.join(map(str, info))}")
    boxes = np.asarray(info["bbox"])
    count = int(info.get("num_boxes", len(boxes)))
    if not 0 <= count <= min(len(boxes), len(features)):
        raise ValueError(f"num_boxes is {count}, with {len(boxes)} boxes, {len(features)} features")
    found = {}
    if info.get("objects") is not None:
        found["objects"] = whole_ids(np.asarray(info["objects"])[:count])
        if info.get("cls_prob") is not None:
            scores = np.asarray(info["cls_prob"])[:count]
            found["object_scores"] = class_scores(scores, found["objects"])
    size = int(info["image_width"]), int(info["image_height"])
    return StoredRegions(source, features[:count], boxes[:count], size=size, **found)
