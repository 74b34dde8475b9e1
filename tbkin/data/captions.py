"""Files of captions, in every layout that we know, one row after the other.

=================== ==============================================================================
``.json``           COCO's captions; Karpathy's ``dataset_*.json``; a list of objects with
                    ``image_id`` or ``image_path`` (or ``image``, ``file_name``) and ``caption``,
                    which may be a list of captions. Also gzip.
``.csv``, ``.tsv``  a header with ``caption`` and ``image_id`` or ``image_path`` (or so) in it;
                    ``scene_graph`` in FACTUAL's notation where there is one
``.jsonl``          our caption graphs, or such objects as in ``.json``, one a line
=================== ==============================================================================
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Container, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from tbkin.data.caption_graphs import CAPTION, GRAPH, CaptionRow, read_rows
from tbkin.detectors.precomputed_names import image_number
from tbkin.json_stream import read_lists

IMAGE_KEYS = ("image_id", "image_path", "image", "file_name", "filename", "img_id", "cocoid")
_MEND = (
    "expected COCO captions, Karpathy's dataset file, or a list of {image_id, caption}, as .json; "
    "a table with those columns as .csv or .tsv; or caption graphs as .jsonl"
)


def read_captions(path: Path, column: str = CAPTION) -> Iterator[CaptionRow]:
    """Captions of a file, in its order.

    Args:
        path: see the module.
        column: what the captions are called in tables and lists.

    Returns:
        Rows whose columns are strings: ``caption``, ``caption_id`` where the file has one, and
        what names the picture, one of ``IMAGE_KEYS``. ``graph`` is set for caption graphs only.

    Raises:
        FileNotFoundError: no such file.
        ValueError: another layout, or an entry without a caption; the message says which.
    """
    suffixes = path.suffixes[-2:]
    if suffixes[-1:] == [".json"] or suffixes == [".json", ".gz"]:
        return _read_json(path, column)
    if suffixes[-1:] == [".jsonl"] and path.is_file() and not _holds_graphs(path):
        return _read_lines(path, column)
    return read_rows(path, column, graphs=False)


def image_in(row: CaptionRow, known: Container[str]) -> str | None:
    """The id under which a row's picture is known, or None.

    Tried in this order: what the row says; without its folder; without its suffix, too; and the
    number at the end of the name, without leading zeros, as COCO's files have it.
    """
    for name in image_names(row):
        path = PurePosixPath(name)
        whole = path.with_suffix("").as_posix() if path.name else name
        for one in (name, path.name, whole, path.stem, image_number(Path(path.name))):
            if one and one in known:
                return one
    return None


def image_names(row: CaptionRow) -> list[str]:
    """What a row calls its picture."""
    return [row.columns[key] for key in IMAGE_KEYS if row.columns.get(key)]


def _holds_graphs(path: Path) -> bool:
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        first = next((line for line in file if line.strip()), "")
    return '"nodes"' in first or not first


def _read_json(path: Path, column: str) -> Iterator[CaptionRow]:
    numbers: Counter[str] = Counter()
    seen = set()
    for name, entry in read_lists(path, ("annotations", "images")):
        seen.add(name)
        if entry is None:
            continue
        numbers[name] += 1
        if name != "images":
            yield from _entry(entry, f"{path}, entry {numbers[name]}", column)
        elif isinstance(entry, dict) and "sentences" in entry:
            seen.add("sentences")
            yield from _karpathy(entry, f"{path}, image {numbers[name]}")
    if not seen & {"", "annotations", "sentences"}:
        raise ValueError(f"{path} is no file of captions: {_MEND}.")


def _read_lines(path: Path, column: str) -> Iterator[CaptionRow]:
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                entry = json.loads(line)
            except ValueError as error:
                raise ValueError(f"{path}, line {number} is not JSON ({error}).") from error
            yield from _entry(entry, f"{path}, line {number}", column)


def _entry(entry: Any, place: str, column: str) -> Iterator[CaptionRow]:
    """An object with one caption or several; its scalars become columns."""
    said = entry.get(column) if isinstance(entry, dict) else None
    captions = said if isinstance(said, list) else [said]
    if not captions or not all(isinstance(one, str) for one in captions):
        keys = ", ".join(entry) if isinstance(entry, dict) else repr(entry)[:60]
        raise ValueError(f"{place} has no {column!r} of text: got {keys}; {_MEND}.")
    columns = {
        "caption_id" if key == "id" else str(key): str(value)
        for key, value in entry.items()
        if isinstance(value, str | int | float) and key not in (column, GRAPH)
    }
    if not any(columns.get(key) for key in IMAGE_KEYS):
        raise ValueError(
            f"{place} does not say which picture it is of; it needs one of: "
            f"{', '.join(IMAGE_KEYS)}."
        )
    for caption in captions:
        yield CaptionRow(place, caption, {**columns, CAPTION: caption})


def _karpathy(image: dict[str, Any], place: str) -> Iterator[CaptionRow]:
    try:
        columns = {"file_name": str(image["filename"]), "split": str(image.get("split", ""))}
        if "cocoid" in image:  # Flickr30k has none; its imgid is a running number of the file
            columns = {"image_id": str(image["cocoid"]), **columns}
        rows = [(str(one.get("sentid", "")), one["raw"]) for one in image["sentences"]]
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{place} is not as in Karpathy's files: {error!r}.") from error
    for caption_id, caption in rows:
        yield CaptionRow(place, caption, {**columns, "caption_id": caption_id, CAPTION: caption})
