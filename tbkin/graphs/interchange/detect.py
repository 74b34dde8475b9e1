"""Which format a file is, by what it holds; an error where that does not tell."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tbkin.graphs.interchange.benchmark_predictions import PREDICTIONS
from tbkin.graphs.interchange.visual_genome import OBJECTS, SCENE_GRAPHS
from tbkin.json_stream import JsonStream

_H5_SIGNATURE = b"\x89HDF\r\n\x1a\n"


def detect_format(path: Path) -> str:
    """Name of the reader for a file or folder.

    Raises:
        ValueError: none fits, or it does not tell; name the format then.
    """
    if path.is_dir():
        found = _of_folder(path)
    elif _is_h5(path):
        found = "vg150"
    else:
        found = _of_text(path)
    if not found:
        raise ValueError(
            f"cannot tell the format of {path}; name it: format=NAME "
            "(from=NAME in tbkin prep convert)."
        )
    return found


def _is_h5(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(_H5_SIGNATURE)) == _H5_SIGNATURE


def _of_folder(path: Path) -> str:
    names = {
        "visual_genome": (path / OBJECTS).is_file() or (path / SCENE_GRAPHS).is_file(),
        "benchmark_predictions": (path / PREDICTIONS).is_file(),
    }
    found = [name for name, there in names.items() if there]
    return found[0] if len(found) == 1 else ""


def _of_text(path: Path) -> str:
    """By the first keys of JSON or JSON Lines; a long list is not read to its end."""
    with JsonStream(path) as stream:
        start = stream.peek()
        if not start and path.suffix.lower() == ".jsonl":
            return "json_lines"  # of no graph
        if start == "[":
            first = next(stream.items(), None)
            return "visual_genome" if isinstance(first, dict) and "objects" in first else ""
        return _of_object(stream) if start == "{" else ""


def _of_object(stream: JsonStream) -> str:
    seen = set()
    for key in stream.each_key():
        seen.add(key)
        if key == "schema":
            return "json_lines"
        if key in ("images", "annotations", "categories", "rel_categories", "rel_annotations"):
            return "coco"
        if seen >= {"image_id", "objects", "relations"}:
            return "relation_rows"
        if key == "data" and stream.peek() == "[":
            first = next(stream.items(), None)
            return "psg" if isinstance(first, dict) and "segments_info" in first else ""
        value: Any = stream.value()
        if isinstance(value, dict) and value.keys() >= {"bbox", "rel_pairs"}:
            return "benchmark_predictions"
    return ""
