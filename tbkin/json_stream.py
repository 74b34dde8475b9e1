"""Large JSON files value by value: what is in memory is one value, not the file.

Visual Genome's files are single arrays of hundreds of megabytes. The standard library decodes a
file at once or a value out of a text; this joins the two with a buffer that grows only as far as
the value in hand.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Collection, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

_DECODER = json.JSONDecoder()
_SPACE = " \t\n\r"
_CUT = 16  # an error so near the end of the buffer may only mean that the buffer ends there
_MORE = 2  # a number so near the end may go on: "12" as "123", "12e-" as "12e-3"


class JsonStream:
    """Read one JSON file from start to end.

    Used as a context manager. At any time the reader stands before a value, which :meth:`value`,
    :meth:`items` or :meth:`each_key` takes.

    Args:
        path: a UTF-8 file, plain or gzip (told by its first bytes); a byte-order mark is skipped.
        chunk: characters to read at a time, at least.
        mend: how a user gets a good file; ends each message.

    Raises:
        FileNotFoundError: no such file.
        ValueError: while reading, text that is not JSON; names the file and the place.
    """

    def __init__(self, path: Path, chunk: int = 1 << 20, mend: str = ""):
        self._dot = f"; {mend}." if mend else "."
        if not path.is_file():
            raise FileNotFoundError(f"no file {path}{self._dot}")
        self.path = path
        self._chunk = chunk
        self._file = _open(path)
        self._buffer = ""
        self._at = 0  # in the buffer
        self._before = 0  # characters that have left the buffer

    def __enter__(self) -> JsonStream:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    def peek(self) -> str:
        """The next character that is not white space, left where it is; "" at the end."""
        while True:
            while self._at < len(self._buffer):
                if self._buffer[self._at] not in _SPACE:
                    return self._buffer[self._at]
                self._at += 1
            if not self._fill():
                return ""

    def value(self) -> Any:
        """Decode the next value whole."""
        self.peek()
        while True:
            try:
                found, end = _DECODER.raw_decode(self._buffer, self._at)
            except json.JSONDecodeError as error:
                # An open string may end anywhere; every other error is near the buffer's end, if
                # more text can mend it.
                open_end = error.msg.startswith("Unterminated string")
                mendable = open_end or error.pos >= len(self._buffer) - _CUT
                if mendable and self._fill():
                    continue
                raise self._error(error.msg, error.pos) from error
            except RecursionError as error:
                raise self._error("nested too deeply", self._at) from error
            if end + _MORE >= len(self._buffer) and self._fill():
                continue
            self._at = end
            return found

    def items(self) -> Iterator[Any]:
        """Decode the elements of the array that comes next, one after another."""
        self._take("[", "an array")
        if self.peek() == "]":
            self._at += 1
            return
        while True:
            yield self.value()
            if self._end_of("]"):
                return

    def each_key(self) -> Iterator[str]:
        """The keys of the object that comes next; take each value before the next key."""
        self._take("{", "an object")
        if self.peek() == "}":
            self._at += 1
            return
        while True:
            if self.peek() != '"':
                raise self._error("a key in double quotes was expected", self._at)
            key = self.value()
            self._take(":", "a colon")
            yield key
            if self._end_of("}"):
                return

    def skip(self) -> None:
        """Pass over the next value; an array's elements one at a time."""
        if self.peek() == "[":
            for _ in self.items():
                pass
        else:
            self.value()

    def end(self) -> None:
        """Make sure that nothing follows."""
        if self.peek():
            raise self._error("the end was expected", self._at)

    def _end_of(self, bracket: str) -> bool:
        """Take the comma or the closing bracket; whether it was the bracket."""
        found = self.peek()
        if found not in (",", bracket) or not found:
            raise self._error(f"',' or '{bracket}' was expected", self._at)
        self._at += 1
        return found == bracket

    def _take(self, character: str, name: str) -> None:
        if self.peek() != character:
            raise self._error(f"{name} was expected", self._at)
        self._at += 1

    def _fill(self) -> bool:
        """Read on, at least as much again as is waiting, so that long values cost linear time."""
        waiting = len(self._buffer) - self._at
        try:
            text = self._file.read(max(self._chunk, waiting))
        except UnicodeDecodeError as error:
            raise ValueError(f"{self.path} is not UTF-8 text: {error}{self._dot}") from error
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise ValueError(f"{self.path} is damaged: {error}{self._dot}") from error
        if not text:
            return False  # with every place in the buffer as it was
        self._before += self._at
        self._buffer, self._at = self._buffer[self._at :] + text, 0
        return True

    def _error(self, what: str, place: int) -> ValueError:
        return ValueError(
            f"{self.path} is not the JSON expected: {what} at character "
            f"{self._before + place}{self._dot}"
        )


def _open(path: Path) -> TextIO:
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    if packed:
        return gzip.open(path, "rt", encoding="utf-8-sig")
    return path.open(encoding="utf-8-sig")


def read_items(path: Path) -> Iterator[Any]:
    """The elements of a file that is one JSON array."""
    with JsonStream(path) as stream:
        yield from stream.items()


def read_members(path: Path) -> Iterator[tuple[str, Any]]:
    """(key, value) of a file that is one JSON object, each value whole."""
    with JsonStream(path) as stream:
        for key in stream.each_key():
            yield key, stream.value()


def read_lists(path: Path, names: Collection[str]) -> Iterator[tuple[str, Any]]:
    """Entries of lists of a JSON file.

    Args:
        path: a file that holds a list, or an object with lists in it.
        names: which members of an object are wanted; the others are passed over.

    Returns:
        (name, entry) of each entry, in the order of the file; a list alone has the name "". A list
        that begins is told by (name, None), so that an empty one is told from none; the entry
        null comes as (name, None) too, and means nothing.
    """
    with JsonStream(path) as stream:
        if stream.peek() == "[":
            yield "", None
            yield from (("", entry) for entry in stream.items())
        elif stream.peek() == "{":
            for name in stream.each_key():
                if name in names and stream.peek() == "[":
                    yield name, None
                    yield from ((name, entry) for entry in stream.items())
                else:
                    stream.skip()
        else:
            stream.value()
        stream.end()
