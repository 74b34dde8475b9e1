"""Writing so that nothing is ever half-written, and telling files apart."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """A temporary folder that becomes ``folder`` when the block ends without an error.

    A folder that is there already is replaced in that moment; after an error it is as it was.
    """
    unfinished = folder.with_name(f"{folder.name}.unfinished-{os.getpid()}")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    try:
        yield unfinished
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    put_in_place(unfinished, folder)


def put_in_place(unfinished: Path, folder: Path) -> None:
    """Rename a finished folder to its own name; what was there before is replaced."""
    old = folder.with_name(f"{folder.name}.old-{os.getpid()}")
    if folder.exists():
        folder.rename(old)
    unfinished.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


@contextmanager
def new_file(path: Path) -> Iterator[TextIO]:
    """A UTF-8 file that gets its name when the block ends without an error; lines end as told."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}.unfinished-{os.getpid()}")
    try:
        with unfinished.open("w", encoding="utf-8", newline="") as file:
            yield file
        unfinished.replace(path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file under a temporary name and rename it; its folder is made if need be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}.unfinished-{os.getpid()}")
    try:
        unfinished.write_bytes(content)
        unfinished.replace(path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise


def write_text(path: Path, text: str) -> None:
    """``write_bytes`` of UTF-8; lines end as told."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path, content: Any) -> None:
    """``write_text`` of indented JSON."""
    write_text(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def files_record(files: Mapping[str, str | Path]) -> dict[str, dict[str, str]]:
    """Name -> ``{"path", "sha256"}`` of each file, for the record of what was made from them."""
    return {
        name: {"path": str(path), "sha256": file_hash(Path(path))} for name, path in files.items()
    }


def file_lines(record: Mapping[str, Mapping[str, str]]) -> list[str]:
    """A record of :func:`files_record` as lines to print below a score."""
    return [
        f"({name}: {entry['path']}, sha256 {entry['sha256']})" for name, entry in record.items()
    ]


def weight_files(folder: Path) -> list[Path]:
    """The files of a model's weights in a checkpoint folder, one or several parts.

    Other tables may stand beside them: what objectives learned, scores.
    """
    return sorted(folder.glob("model*.safetensors"))


def file_hash(path: Path) -> str:
    """sha256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
