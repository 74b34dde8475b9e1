"""Long lists in JSON files, one entry after the other.

``json.load`` makes objects of the whole file, several times as large as its text; here only the
text stays in memory.
"""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

_SPACE = re.compile(r"[ \t\n\r]*")
_DECODER = json.JSONDecoder()


def stream_lists(path: Path, names: Collection[str]) -> Iterator[tuple[str, Any]]:
    """Entries of lists of a JSON file, plain or gzip (told by its first bytes).

    Args:
        path: a file that holds a list, or an object with lists in it.
        names: which members of an object are wanted; the others are passed over.

    Returns:
        (name, entry) of each entry, in the order of the file; a list alone has the name "". A list
        that begins is told by (name, None), so that an empty one is told from none; the entry
        null comes as (name, None) too, and means nothing.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a file that is not JSON.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}.")
    try:
        yield from _members(_read(path), names)
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not JSON, or cut off ({error}).") from error


def _read(path: Path) -> str:
    content = path.read_bytes()
    try:
        if content.startswith(b"\x1f\x8b"):
            content = gzip.decompress(content)
        return content.decode("utf-8-sig")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is damaged ({error}).") from error


def _members(text: str, names: Collection[str]) -> Iterator[tuple[str, Any]]:
    place = _skip(text, 0)
    if text[place : place + 1] == "[":
        place = yield from _entries(text, place, "")
    elif text[place : place + 1] == "{":
        place = _skip(text, place + 1)
        while text[place : place + 1] != "}":
            name, place = _DECODER.raw_decode(text, place)
            if not isinstance(name, str):
                raise json.JSONDecodeError("Expecting a name", text, place)
            place = _skip(text, _expect(text, _skip(text, place), ":"))
            if name in names and text[place : place + 1] == "[":
                place = yield from _entries(text, place, name)
            else:
                place = _DECODER.raw_decode(text, place)[1]
            place = _after(text, place, "}")
        place += 1
    else:
        place = _DECODER.raw_decode(text, place)[1]
    if _skip(text, place) != len(text):
        raise json.JSONDecodeError("Extra data", text, place)


def _entries(text: str, place: int, name: str) -> Iterator[tuple[str, Any]]:
    """Yield the entries of a list; return the place behind it."""
    yield name, None
    place = _skip(text, place + 1)
    while text[place : place + 1] != "]":
        entry, place = _DECODER.raw_decode(text, place)
        yield name, entry
        place = _after(text, place, "]")
    return place + 1


def _after(text: str, place: int, end: str) -> int:
    """Behind the comma that follows a value, or at the end sign."""
    place = _skip(text, place)
    if text[place : place + 1] == end:
        return place
    place = _skip(text, _expect(text, place, ","))
    if text[place : place + 1] == end:
        raise json.JSONDecodeError("Expecting a value", text, place)
    return place


def _expect(text: str, place: int, sign: str) -> int:
    if text[place : place + 1] != sign:
        raise json.JSONDecodeError(f"Expecting {sign!r}", text, place)
    return place + 1


def _skip(text: str, place: int) -> int:
    return _SPACE.match(text, place).end()  # type: ignore[union-attr]
