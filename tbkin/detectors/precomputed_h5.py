"""BUTD-VQA's HDF5: 36 regions a picture, or adaptive numbers of them, with ``*_imgid2idx.pkl``.

Fixed: ``image_features`` (N, R, F), ``image_bb`` (N, R, 4) xyxy pixels, ``spatial_features``
(N, R, 6) shares. Adaptive: the same with all pictures' regions in one (M, …) and ``pos_boxes``
(N, 2), first and past-the-last row of each. The pickle maps image id -> N; only
:mod:`tbkin.plain_pickle` opens it. The picture's size is not stored; pixels over shares give it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tbkin import plain_pickle
from tbkin.detectors.precomputed_record import Reader, StoredRegions, reading
from tbkin.detectors.precomputed_vinvl import check_geometry

MAGIC = b"\x89HDF\r\n\x1a\n"
FEATURES, PIXELS, SHARES, RANGES = "image_features", "image_bb", "spatial_features", "pos_boxes"
EXTRA = "pip install 'tbkin[features]'"


class H5Features(Reader):
    """One HDF5 file with its index; it is opened for every read.

    Args:
        path: the HDF5 file.
    """

    stores_labels = False

    def __init__(self, path: Path):
        index = index_file(path)
        with reading(path), opened(path) as file:
            self.adaptive, count = check_datasets(file)
        with reading(index):
            self.places = read_index(index, count)
        super().__init__(path, "butd_h5", self.places)

    def record(self, key: str, labels: bool) -> StoredRegions:
        """One picture."""
        source, place = f"{self.path}, image {key}", self.places[key]
        with reading(source), opened(self.path) as file:
            rows: Any = place
            if self.adaptive:
                first, last = map(int, file[RANGES][place])
                if not 0 <= first <= last <= len(file[FEATURES]):
                    raise ValueError(f"its pos_boxes are {first} to {last}")
                rows = slice(first, last)
            features = file[FEATURES][rows]
            geometry = file[SHARES][rows] if SHARES in file else None
            if geometry is not None:
                check_geometry(geometry)
            if PIXELS not in file:
                return StoredRegions(source, features, geometry[:, :4], shares=True)
            boxes = file[PIXELS][rows]
        with reading(source):
            size = None if geometry is None else picture_size(boxes, geometry[:, :4])
            return StoredRegions(source, features, boxes, size=size)


def check_datasets(file: Any) -> tuple[bool, int]:
    """Whether the regions are adaptive, and the number of pictures.

    Raises:
        ValueError: the datasets are not those of the layout.
    """
    shapes = {name: getattr(file[name], "shape", ()) for name in file}
    adaptive = RANGES in shapes
    if FEATURES not in shapes or not (PIXELS in shapes or SHARES in shapes):
        raise ValueError(
            f"it has {', '.join(shapes) or 'nothing'}; expected {FEATURES}, {PIXELS} and {SHARES}"
        )
    axes = 2 if adaptive else 3
    length = shapes[FEATURES][0] if shapes[FEATURES] else 0
    for name, width in ((FEATURES, None), (PIXELS, 4), (SHARES, 6)):
        shape = shapes.get(name)
        if shape is None:
            continue
        same = len(shape) == axes and shape[:-1] == shapes[FEATURES][:-1]
        if not same or (width and shape[-1] != width):
            raise ValueError(
                f"its {name} are {shape} with {FEATURES} {shapes[FEATURES]}"
                + (" and pos_boxes" if adaptive else ", and no pos_boxes")
            )
    if adaptive and (len(shapes[RANGES]) != 2 or shapes[RANGES][1] != 2):
        raise ValueError(f"its {RANGES} are {shapes[RANGES]}, expected (pictures, 2)")
    return adaptive, shapes[RANGES][0] if adaptive else length


def picture_size(boxes: np.ndarray, shares: np.ndarray) -> tuple[int, int] | None:
    """(width, height) of the picture whose pixel boxes have these shares.

    None where every box is too thin to tell.

    Raises:
        ValueError: no one size fits all boxes.
    """
    size = []
    for axis in (0, 1):
        share, pixel = shares[:, axis::2].astype(np.float64), boxes[:, axis::2].astype(np.float64)
        square = (share * share).sum()
        if square < 1e-4:
            return None
        length = (share * pixel).sum() / square  # least squares
        if not np.isfinite(length) or abs(pixel - share * length).max() > 1 + 0.01 * abs(length):
            raise ValueError(f"its {PIXELS} and {SHARES} are not the same boxes")
        size.append(round(length))
    return size[0], size[1]


def index_file(path: Path) -> Path:
    """``train36.hdf5`` -> ``train36_imgid2idx.pkl`` or ``train_imgid2idx.pkl``.

    Raises:
        FileNotFoundError: neither is there.
    """
    names = dict.fromkeys(
        f"{stem}_imgid2idx.pkl" for stem in (path.stem, path.stem.removesuffix("36"))
    )
    for name in names:
        if (path.parent / name).is_file():
            return path.parent / name
    raise FileNotFoundError(
        f"{path} needs its index {' or '.join(names)} beside it: which row is which image."
    )


def read_index(path: Path, count: int) -> dict[str, int]:
    """Image id -> row, out of the pickled dict.

    Raises:
        ValueError: it is no such dict, or rows are outside the file or shared.
    """
    content = plain_pickle.load(path)
    if not isinstance(content, dict):
        raise ValueError(f"it holds a {type(content).__name__}, no dict of image id: row")
    places = {str(key): int(place) for key, place in content.items()}
    rows = set(places.values())
    if rows and not (min(rows) >= 0 and max(rows) < count):
        raise ValueError(f"its rows go from {min(rows)} to {max(rows)}; the file has {count}")
    if len(rows) < len(places):
        raise ValueError("two images have the same row")
    return places


def opened(path: Path) -> Any:
    """The file, for reading; close it."""
    try:
        import h5py
    except ImportError as error:
        raise ImportError(f"{path} is HDF5; reading it needs h5py: {EXTRA}.") from error
    return h5py.File(path, "r", locking=False)
