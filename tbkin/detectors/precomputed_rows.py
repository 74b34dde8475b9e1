"""Rows of large TSV files by their key, without holding the file in memory or writing beside it."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterable, Iterator
from itertools import islice, pairwise
from pathlib import Path

import numpy as np

BESIDE = (".label.tsv", ".hw.tsv", ".linelist.tsv", ".caption.tsv", ".lineidx")  # no features
OFFSET_MAP = "img_feat_offset_map.json"
KEY_BYTES = 4096  # no image id is longer
CHECKED = 100  # rows whose key is compared with an offset map


class Rows:
    """Rows of one or several TSV files, found by their first column.

    Where ``x.lineidx`` (the byte offset of every row) fits the file, only the keys are read;
    otherwise one pass over the file finds the rows. A row that is there twice must be the same.

    Args:
        files: the TSV files.
        header: whether each begins with column names.
    """

    def __init__(self, files: Iterable[Path], header: bool = False):
        self.files = list(files)
        self.places: dict[str, tuple[int, int]] = {}
        for number, path in enumerate(self.files):
            for key, offset in index_rows(path):
                if header and offset == 0:
                    continue
                if key in self.places and self._line(key) != _line_at(path, offset):
                    raise ValueError(f"{path} has two different rows of image {key}; keep one.")
                self.places[key] = (number, offset)

    def source(self, key: str) -> str:
        """File and row, for errors."""
        return f"{self.files[self.places[key][0]]}, row of {key}"

    def fields(self, key: str) -> list[bytes]:
        """The columns of one row.

        Raises:
            ValueError: another row is there now.
        """
        fields = split_row(self._line(key))
        if fields[0].decode("utf-8") != key:
            raise ValueError("the file changed while it was in use; open it again")
        return fields

    def _line(self, key: str) -> bytes:
        number, offset = self.places[key]
        return _line_at(self.files[number], offset)


def split_row(line: bytes) -> list[bytes]:
    """Columns of a row."""
    return line.rstrip(b"\r\n").split(b"\t")


def first_rows(path: Path, count: int) -> Iterator[list[bytes]]:
    """Up to ``count`` rows from the beginning of a file, without the empty ones."""
    with path.open("rb") as file:
        for line in islice(file, count):
            if line.strip():
                yield split_row(line)


def index_rows(path: Path) -> Iterator[tuple[str, int]]:
    """Key and byte offset of every row."""
    offsets = _line_index(path)
    known = _offset_map(path, offsets) or _keys_at(path, offsets) if offsets else None
    yield from known if known else _one_pass(path)


def decode_array(field: bytes, dtype: str) -> np.ndarray:
    """A flat array out of base64 of raw little-endian values; ``b'...'`` around it is cut."""
    if field[:2] in (b"b'", b'b"') and field[-1:] == field[1:2]:
        field = field[2:-1]  # a Python 3 csv writer that was given bytes
    try:
        return np.frombuffer(base64.b64decode(field, validate=True), dtype)
    except binascii.Error as error:
        raise ValueError(f"no base64 in a column that should hold it ({error})") from error


def _one_pass(path: Path) -> Iterator[tuple[str, int]]:
    with path.open("rb") as file:
        offset = 0
        for line in file:
            if line.strip():
                yield _key(line[:KEY_BYTES], offset, path), offset
            offset += len(line)


def _line_at(path: Path, offset: int) -> bytes:
    with path.open("rb") as file:
        file.seek(offset)
        return file.readline()


def _key(start: bytes, offset: int, path: Path) -> str:
    key, tab, _ = start.partition(b"\t")
    try:
        if tab and key:
            return key.decode("utf-8")
    except UnicodeDecodeError:
        pass
    raise ValueError(f"{path} is not a feature TSV: the row at byte {offset} begins with no id.")


def _line_index(path: Path) -> list[int] | None:
    """The offsets of ``x.lineidx``, or None where there is none that fits the file to its end."""
    for index in (path.with_suffix(".lineidx"), path.with_name(path.name + ".lineidx")):
        if not index.is_file():
            continue
        try:
            offsets = [int(line) for line in index.read_text("ascii").split()]
        except (ValueError, UnicodeDecodeError):
            return None
        size = path.stat().st_size
        rising = all(one < after for one, after in pairwise(offsets))
        if not offsets or offsets[0] != 0 or not rising or offsets[-1] >= size:
            return None
        with path.open("rb") as file:
            file.seek(offsets[-1])
            file.readline()
            return None if file.read(1) else offsets
    return None


def _keys_at(path: Path, offsets: list[int]) -> list[tuple[str, int]] | None:
    """Key of every offset, or None where one is not the beginning of a row."""
    found = []
    with path.open("rb", buffering=0) as file:
        for offset in offsets:
            file.seek(max(offset - 1, 0))
            start = file.read(KEY_BYTES)
            if offset and start[:1] != b"\n":
                return None
            found.append((_key(start[offset > 0 :], offset, path), offset))
    return found


def _offset_map(path: Path, offsets: list[int]) -> list[tuple[str, int]] | None:
    """Keys and byte offsets by ROSITA's key -> row file, or None where it does not fit."""
    try:
        rows = json.loads((path.parent / OFFSET_MAP).read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(rows, dict) or sorted(map(str, rows.values())) != sorted(
        map(str, range(len(offsets)))
    ):
        return None
    known = [(key, offsets[int(row)]) for key, row in rows.items()]
    some = sorted(known[:: max(1, len(known) // CHECKED)], key=lambda pair: pair[1])
    return known if _keys_at(path, [offset for _, offset in some]) == some else None
