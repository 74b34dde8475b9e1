"""Reading other people's pickles as plain data: nothing in the file is ever run.

A pickle is a small program, and ``pickle.load`` runs it. Some data sets come as nothing else
(``refs(unc).p``, MMF's feature files, ``imgid2idx.pkl``). Here lists, dicts, strings, numbers, sets
and numpy arrays of those are built; the first other name that a file asks for ends the reading. No
module is imported. Arrays are only described by the file and made by us (*ours*), because a crafted
state of a numpy dtype is enough to make numpy read bytes as pointers.

A hostile file can still waste memory or time, or end the process (a tuple nested a million deep as
a key). It cannot run code.
"""

from __future__ import annotations

import ast
import math
import pickle
import re
from collections import OrderedDict
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

DEEPEST = 100  # containers inside one another; ours
MAX_BYTES = 2**31  # of one pickle; ours. refs(unc).p has 40 MB
MAX_HEADER = 10_000  # characters of an .npy header, as in numpy
MAGIC = b"\x93NUMPY"
DTYPE = re.compile(r"[<>=|]?([?biufcSUaO])(\d{0,6})")
BAD = (pickle.UnpicklingError, EOFError, AttributeError, ImportError, IndexError, KeyError)
BAD += (TypeError, ValueError, MemoryError, OverflowError, RecursionError, UnicodeError)


class RefusedPickleError(ValueError):
    """The file asks for something that is no plain data."""


def load(source: str | Path | bytes | BinaryIO, source_name: str = "") -> Any:
    """The plain data of a pickle, of Python 2 or 3, any protocol.

    Args:
        source: path, the pickle's bytes, or an open binary file (read to its end).
        source_name: what errors call it; the path where there is one.

    Returns:
        None, bool, int, float, complex, str, bytes, list, tuple, dict (also for an
        ``OrderedDict``), set, frozenset, numpy scalars and arrays of those. Strings of Python 2 are
        read as latin-1.

    Raises:
        RefusedPickleError: (a ``ValueError``) it asks for a class or function.
        ValueError: it is damaged, nested more than 100 deep, holds itself, or is over 2 GiB.
        FileNotFoundError: there is no such file.
    """
    data, name = _content(source, source_name)
    try:
        return _Plain().value(_Unpickler(BytesIO(data), name).load())
    except RefusedPickleError:
        raise
    except BAD as error:
        reason = str(error) or type(error).__name__
        raise ValueError(f"{name} is not a readable pickle of plain data: {reason}") from error


def load_npy(
    source: str | Path | bytes | BinaryIO, source_name: str = "", objects: bool = True
) -> Any:
    """The array of an ``.npy`` file; an array of objects goes through :func:`load`.

    Args:
        source: path, the file's bytes, or an open binary file.
        source_name: what errors call it; the path where there is one.
        objects: whether an array of objects, which is a pickle, is opened at all.

    Returns:
        numpy array; for a stored single object (as ``numpy.save`` writes a dict) that object.

    Raises:
        RefusedPickleError: an object in it is no plain data.
        ValueError: it is no whole ``.npy`` file.
    """
    data, name = _content(source, source_name)
    try:
        header, start = _npy_header(data)
        kind, shape = _dtype_of(header["descr"]), _shape_of(header["shape"])
        if not kind.hasobject:
            order = "F" if header["fortran_order"] else "C"
            return _array(kind, shape, data[start:], order)
    except BAD as error:
        raise ValueError(f"{name} is not a whole .npy file: {error}") from error
    if not objects:
        raise ValueError(f"{name} is an array of pickled objects, where numbers belong.")
    found = load(data[start:], name)
    if not isinstance(found, np.ndarray) or found.size != math.prod(shape):
        raise ValueError(f"{name} is not a whole .npy file: its header speaks of {shape} objects.")
    return found.item() if shape == () else found.reshape(shape)


class _Unpickler(pickle.Unpickler):
    """Gives stand-ins for the few names that plain data needs, and refuses the rest."""

    def __init__(self, file: BinaryIO, name: str):
        super().__init__(file, encoding="latin1")
        self.name = name

    def find_class(self, module: str, name: str) -> Any:
        """Look a name up in our table; nothing is imported."""
        make = ADMITTED.get((module, name))
        if make is None:
            raise RefusedPickleError(
                f"{self.name} asks for {module}.{name}, which is no plain data. It was refused and "
                "nothing in the file was run. Only lists, dicts, sets, strings, numbers and numpy "
                "arrays of them are read; have the file written again with nothing else in it."
            )
        return _StandIn(make)

    def persistent_load(self, pid: Any) -> Any:
        """Refused: it would ask the reader for an object of its own."""
        raise RefusedPickleError(
            f"{self.name} asks for an object outside the file (persistent id {pid!r}), which is no "
            "plain data. It was refused and nothing in the file was run."
        )


class _StandIn:
    """What a file gets for a name: it can call it, and cannot change it."""

    __slots__ = ("_make",)

    def __init__(self, make: Callable[..., Any]):
        object.__setattr__(self, "_make", make)

    def __call__(self, *arguments: Any) -> Any:
        return self._make(*arguments)

    def __setstate__(self, state: Any) -> None:
        raise ValueError("it tries to change a function")

    def __setattr__(self, name: str, value: Any) -> None:
        raise ValueError("it tries to change a function")


class _Dtype:
    """The file's description of an element; :meth:`made` gives the dtype that we make of it."""

    __slots__ = ("code", "order")

    def __init__(self, code: Any, align: Any = False, copy: Any = False):
        self.code, self.order = _dtype_of(code).str.lstrip("<>=|"), "="

    def __setstate__(self, state: Any) -> None:
        _version, order, *rest = state
        subtype, names, fields = rest[:3]
        if order not in ("<", ">", "=", "|") or (subtype, names, fields) != (None, None, None):
            raise ValueError("a numpy dtype in it is not a plain number or string")
        if len(rest) > 3 and self.code[0] in "SU" and rest[3] > 0:
            self.code = f"{self.code[0]}{rest[3] // (4 if self.code[0] == 'U' else 1)}"
        self.order = order

    def made(self) -> np.dtype:
        """Of our own making, so that no flag of the file reaches numpy."""
        return np.dtype(self.code).newbyteorder(self.order)


class _Array:
    """The file's description of an array, until :class:`_Plain` makes it."""

    __slots__ = ("kind", "order", "raw", "shape")

    def __setstate__(self, state: Any) -> None:
        _version, shape, dtype, fortran, raw = state
        self.describe(dtype, shape, raw, "F" if fortran else "C")

    def describe(self, dtype: Any, shape: Any, raw: Any, order: str) -> None:
        """Take and check the description."""
        if not isinstance(dtype, _Dtype):
            raise ValueError("an array in it has no dtype")
        self.kind, self.shape, self.raw, self.order = dtype.made(), _shape_of(shape), raw, order
        if isinstance(raw, list) != self.kind.hasobject:
            raise ValueError(f"an array of {self.kind} in it holds a {type(raw).__name__}")
        if self.kind.hasobject and len(raw) != math.prod(self.shape):
            raise ValueError(f"an array of shape {self.shape} in it has {len(raw)} objects")


def _new_array(kind: Any, shape: Any = (0,), code: Any = b"b") -> _Array:
    if not (isinstance(kind, _StandIn) and kind._make is _no_call):
        raise ValueError(f"it makes a numpy array out of {kind!r}")
    return _Array()


def _no_call(*arguments: Any) -> Any:
    raise ValueError("it calls numpy.ndarray itself")


def _from_buffer(raw: Any, dtype: Any, shape: Any, order: Any = "C", *rest: Any) -> _Array:
    array = _Array()
    array.describe(dtype, shape, raw, "F" if order == "F" else "C")
    return array


def _scalar(dtype: Any, raw: Any = b"") -> Any:
    if not isinstance(dtype, _Dtype) or dtype.made().hasobject:
        raise ValueError("a numpy scalar in it is no number or string")
    return _array(dtype.made(), (1,), raw, "C")[0]


def _text_to_bytes(text: Any, encoding: Any = "latin1") -> bytes:
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise ValueError(f"it encodes a {type(text).__name__} as {encoding}")
    return text.encode("latin-1")


def _bytes_of(*arguments: Any) -> bytes:
    return _text_to_bytes(*arguments) if arguments else b""  # never bytes(10**12)


def _collection(kind: Callable[..., Any]) -> Callable[..., Any]:
    def make(items: Any = ()) -> Any:
        if not isinstance(items, list | tuple | set | frozenset):
            raise ValueError(f"it makes a {kind.__name__} out of a {type(items).__name__}")
        return kind(items)

    return make


ADMITTED: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): _collection(OrderedDict),
    ("_codecs", "encode"): _text_to_bytes,
    ("numpy", "ndarray"): _no_call,
    ("numpy", "dtype"): _Dtype,
}
for _module in ("builtins", "__builtin__"):
    ADMITTED[_module, "set"] = _collection(set)
    ADMITTED[_module, "frozenset"] = _collection(frozenset)
    ADMITTED[_module, "bytes"] = _bytes_of
    ADMITTED[_module, "bytearray"] = _bytes_of
    ADMITTED[_module, "complex"] = lambda real, imaginary: complex(float(real), float(imaginary))
for _module in ("numpy.core", "numpy._core"):
    ADMITTED[f"{_module}.multiarray", "_reconstruct"] = _new_array
    ADMITTED[f"{_module}.multiarray", "scalar"] = _scalar
    ADMITTED[f"{_module}.numeric", "_frombuffer"] = _from_buffer


ATOMS = frozenset((str, int, float, bool, bytes, type(None)))
CONTAINERS = (list, tuple, dict, set, frozenset, _Array, _Dtype, _StandIn)


class _Plain:
    """Copies what was unpickled into real containers, each shared object once."""

    def __init__(self) -> None:
        self.done: dict[int, tuple[Any, Any]] = {}  # id -> (original, kept alive; its copy)

    def value(self, value: Any, depth: int = 0) -> Any:
        """The copy of one value; arrays are made here."""
        if type(value) in ATOMS:
            return value
        if not isinstance(value, CONTAINERS):
            return bytes(value) if isinstance(value, bytearray) else value
        if depth > DEEPEST:
            raise ValueError(f"it is nested more than {DEEPEST} deep, or holds itself")
        known = self.done.get(id(value))
        if known is None:
            known = self.done[id(value)] = (value, self._copy(value, depth + 1))
        return known[1]

    def _copy(self, value: Any, depth: int) -> Any:
        copy = self.value
        if isinstance(value, dict):  # dict.items: an attribute of that name may hide value.items
            return {copy(key, depth): copy(item, depth) for key, item in dict.items(value)}
        if isinstance(value, list | tuple | set | frozenset):
            return type(value)([copy(item, depth) for item in value])
        if not isinstance(value, _Array) or not hasattr(value, "raw"):
            raise ValueError("a bare function or type in it is no data")
        if not value.kind.hasobject:
            return _array(value.kind, value.shape, value.raw, value.order)
        objects = np.empty(len(value.raw), dtype=object)
        for place, item in enumerate(value.raw):
            objects[place] = copy(item, depth)
        return objects.reshape(value.shape, order=value.order)


def _array(kind: np.dtype, shape: tuple[int, ...], raw: Any, order: str) -> np.ndarray:
    """Numbers or strings out of exactly as many bytes, in the machine's byte order."""
    if isinstance(raw, str):
        raw = raw.encode("latin-1")  # a pickle of Python 2
    if not isinstance(raw, bytes | bytearray | memoryview):  # never bytes(10**12)
        raise ValueError(f"an array of {kind} in it holds a {type(raw).__name__}")
    expected = math.prod(shape) * kind.itemsize
    if len(raw) != expected:
        raise ValueError(f"an array {shape} of {kind} needs {expected} bytes, got {len(raw)}")
    if not expected:
        return np.zeros(shape, kind)
    flat = np.frombuffer(raw, kind).astype(kind.newbyteorder("="))
    return flat.reshape(shape, order=order)


def _dtype_of(code: Any) -> np.dtype:
    """A dtype of numbers, strings or objects from its code, as ``<f4``."""
    code = code.decode("latin-1") if isinstance(code, bytes) else code
    if not isinstance(code, str) or not DTYPE.fullmatch(code):
        raise ValueError(f"arrays of {code!r} are not plain numbers or strings")
    return np.dtype("O" if "O" in code else code.replace("a", "S"))


def _shape_of(shape: Any) -> tuple[int, ...]:
    whole = isinstance(shape, tuple) and all(type(size) is int and size >= 0 for size in shape)
    if not whole or len(shape) > 32:
        raise ValueError(f"{shape!r} is not a shape")
    return shape


def _npy_header(data: bytes) -> tuple[dict[str, Any], int]:
    """The header of an .npy file (format 1 to 3) and where its data begin."""
    if not data.startswith(MAGIC) or len(data) < 12 or data[6] not in (1, 2, 3):
        raise ValueError("it does not begin like one")
    width = 2 if data[6] == 1 else 4
    length = int.from_bytes(data[8 : 8 + width], "little")
    start = 8 + width + length
    if length > MAX_HEADER or start > len(data):
        raise ValueError("its header is cut off or too long")
    text = data[8 + width : start].decode("utf-8" if data[6] == 3 else "latin-1")
    try:
        header = ast.literal_eval(text.strip())
    except (SyntaxError, MemoryError, RecursionError) as error:
        raise ValueError("its header is no dict") from error
    if not isinstance(header, dict) or set(header) != {"descr", "fortran_order", "shape"}:
        raise ValueError("its header has not the three keys of the format")
    return header, start


def _content(source: str | Path | bytes | BinaryIO, source_name: str) -> tuple[bytes, str]:
    """All bytes of a source, and its name."""
    if isinstance(source, str | Path):
        path = Path(source)
        if not path.is_file():
            raise FileNotFoundError(f"no file {path}.")
        name = source_name or str(path)
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    else:
        name = source_name or getattr(source, "name", "") or "the data"
        data = bytes(source) if isinstance(source, bytes | bytearray | memoryview) else b""
        data = data or (source.read(MAX_BYTES + 1) if hasattr(source, "read") else b"")
    if len(data) > MAX_BYTES:
        raise ValueError(f"{name} is over {MAX_BYTES >> 30} GiB; no such pickle is read.")
    return data, str(name)
