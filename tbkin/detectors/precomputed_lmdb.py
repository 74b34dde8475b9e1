"""Features in LMDB: UNITER's (msgpack or npz values) and MMF's (pickles, read as plain data).

A database is opened for one read and closed again (about 30 microseconds): LMDB refuses to open
one twice in a process, forked ones included, so a handle kept open breaks data loader workers.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from tbkin import plain_pickle
from tbkin.detectors.precomputed_mmf import mmf_regions
from tbkin.detectors.precomputed_npz import read_npz, uniter_regions
from tbkin.detectors.precomputed_record import Reader, StoredRegions, reading

UNITER_KEYS, MMF_KEYS = b"__keys__", b"keys"
MAGIC = (0xBEEFC0DE).to_bytes(4, "little")  # at byte 16 of the data file
EXTRA = "pip install 'tbkin[features]'"
_one_at_a_time = Lock()


class LmdbFeatures(Reader):
    """One database.

    Args:
        path: the database's folder, or its single file.
        layout: ``uniter_lmdb`` or ``mmf_lmdb``.
    """

    def __init__(self, path: Path, layout: str):
        with reading(path):
            keys = stored_keys(path, layout)
        self.counts = region_counts(path) if layout == "uniter_lmdb" else None
        super().__init__(path, layout, keys)

    def record(self, key: str, labels: bool) -> StoredRegions:
        """One value."""
        source = f"{self.path}, key {key}"
        with reading(source):
            with opened(self.path) as transaction:
                value = transaction.get(key.encode("utf-8"))
            if value is None:
                raise ValueError("its list of keys names it, and it is not there")
            if self.layout == "mmf_lmdb":
                content = plain_pickle.load(value, source)
                if not isinstance(content, dict) or "features" not in content:
                    raise ValueError("it holds no dict with features")
                return mmf_regions(np.asarray(content["features"]), content, source)
            if self.counts is not None and key not in self.counts:
                raise ValueError("the nbb file beside the database does not list it")
            count = None if self.counts is None else self.counts[key]
            return uniter_regions(decode_value(value), source, count)


def lmdb_layout(path: Path) -> str:
    """Which of the two layouts a database has.

    Raises:
        ValueError: it has the key list of neither, or of both.
    """
    with reading(path), opened(path) as transaction:
        uniter, mmf = (transaction.get(key) is not None for key in (UNITER_KEYS, MMF_KEYS))
        first = [key.decode("utf-8", "replace") for key, _ in _few(transaction)]
    if uniter == mmf:
        which = "both" if uniter else "neither"
        raise ValueError(
            f"{path} has {which} of the keys '__keys__' (UNITER) and 'keys' (MMF); its first keys "
            f"are {', '.join(first) or 'none'}. Name the layout if you know it."
        )
    return "uniter_lmdb" if uniter else "mmf_lmdb"


def stored_keys(path: Path, layout: str) -> list[str]:
    """The ids that a database lists."""
    name = UNITER_KEYS if layout == "uniter_lmdb" else MMF_KEYS
    with opened(path) as transaction:
        value = transaction.get(name)
    if value is None:
        raise ValueError(f"it has no key {name.decode()!r}")
    keys = (
        json.loads(value)
        if layout == "uniter_lmdb"
        else plain_pickle.load(value, f"{path}, key 'keys'")
    )
    if not isinstance(keys, list):
        raise ValueError(f"its list of keys is a {type(keys).__name__}")
    return [key.decode("utf-8") if isinstance(key, bytes) else str(key) for key in keys]


def region_counts(path: Path) -> dict[str, int] | None:
    """How many regions of each picture UNITER keeps, by the ``nbb_….json`` beside a database.

    ``feat_th0.2_max100_min10[_compressed]`` has ``nbb_th0.2_max100_min10.json``; for ``all`` the
    only such file counts, and without one every region does.
    """
    name = path.name.removesuffix("_compressed")
    if name.startswith("feat_numbb"):
        return None
    files = [path.parent / f"nbb_{name.removeprefix('feat_')}.json"]
    if not files[0].is_file():
        files = sorted(path.parent.glob("nbb_*.json")) if name == "all" else []
    if not files:
        return None
    if len(files) > 1:
        raise ValueError(
            f"{path} may go with any of {', '.join(file.name for file in files)}; keep one of them "
            "beside it."
        )
    with reading(files[0]):
        counts = json.loads(files[0].read_text("utf-8"))
        if not isinstance(counts, dict):
            raise ValueError("it is no JSON object of picture: number of regions")
        return {str(key): int(count) for key, count in counts.items()}


def is_lmdb(path: Path) -> bool:
    """Whether a folder or file is a database."""
    file = path / "data.mdb" if path.is_dir() else path
    if not file.is_file():
        return False
    with file.open("rb") as content:
        return content.read(20)[16:] == MAGIC


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """A read transaction; nothing is written, not even a lock file.

    Raises:
        ImportError: the extra is missing.
        ValueError: the file is cut off (reading it would kill the process) or damaged.
    """
    try:
        import lmdb
    except ImportError as error:
        raise ImportError(f"{path} is an LMDB; reading it needs lmdb: {EXTRA}.") from error
    folder = path.is_dir()
    with _one_at_a_time:
        try:
            environment = lmdb.open(
                os.fspath(path), subdir=folder, readonly=True, lock=False, create=False,
                readahead=False, max_spare_txns=0,
            )  # fmt: skip
        except lmdb.Error as error:
            raise ValueError(f"LMDB cannot open it: {error}") from error
        try:
            pages = environment.info()["last_pgno"] + 1
            expected = pages * environment.stat()["psize"]
            size = (path / "data.mdb" if folder else path).stat().st_size
            if size < expected:
                raise ValueError(f"it is cut off: {size} bytes of {expected}; copy it again")
            with environment.begin() as transaction:
                yield transaction
        except lmdb.Error as error:
            raise ValueError(f"LMDB cannot read it: {error}") from error
        finally:
            environment.close()


def decode_value(value: bytes) -> dict[str, np.ndarray]:
    """The arrays of a UNITER value: an npz, or msgpack with numpy arrays.

    Raises:
        ImportError: the extra is missing.
        ValueError: it is neither, or an array in it is pickled.
    """
    if value[:4] == b"PK\x03\x04":
        return read_npz(value)[0]
    try:
        import msgpack
    except ImportError as error:
        raise ImportError(f"this database holds msgpack; reading it needs {EXTRA}.") from error
    try:
        content = msgpack.unpackb(value, raw=True, strict_map_key=False)
    except (msgpack.UnpackException, ValueError) as error:
        raise ValueError(f"it is neither msgpack nor npz ({error})") from error
    if not isinstance(content, dict):
        raise ValueError(f"its msgpack holds a {type(content).__name__}, no dict")
    return {key.decode("utf-8"): decode_array(item) for key, item in content.items()}


def decode_array(item: Any) -> np.ndarray:
    """A numpy array as the package msgpack-numpy writes it; pickled kinds are refused."""
    if not isinstance(item, dict) or b"nd" not in item:
        raise ValueError(f"it holds a {type(item).__name__} where an array should be")
    kind, code = item.get(b"kind", b""), item.get(b"type")
    if kind == b"O" or not isinstance(code, bytes):
        raise ValueError("an array in it is pickled or structured; it was not opened")
    dtype = np.dtype(code.decode("ascii"))
    if dtype.kind not in "fiub":
        raise ValueError(f"an array in it is {dtype}, no numbers")
    shape = tuple(item[b"shape"]) if item[b"nd"] else ()
    if math.prod(shape) * dtype.itemsize != len(item[b"data"]):
        raise ValueError(f"an array in it is {shape} of {dtype} in {len(item[b'data'])} bytes")
    return np.frombuffer(item[b"data"], dtype).reshape(shape)


def _few(transaction: Any) -> list[tuple[bytes, bytes]]:
    cursor = transaction.cursor()
    return [pair for _, pair in zip(range(3), cursor, strict=False)]
