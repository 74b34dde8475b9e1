"""Captions for retrieval as lists, in any layout of ``captions.py``: Karpathy's files and others.

* ``dataset_coco.json``, ``dataset_flickr30k.json`` (Karpathy and Fei-Fei, CVPR 2015): one file that
  says the split of each picture; COCO's "restval" is trained on, too. Ids are ``cocoid`` and
  ``sentid``.
* ``{coco,flickr30k}_{train,val,test}.json`` (ALBEF, BLIP, X-VLM): ``{"image", "caption"[,
  "image_id"]}``, in evaluation with a list of captions.
* ``new_{train,val,test}.json`` (CUSA): ``{"image_path", "caption", "image_id"}``.
* COCO's ``captions_*.json``, and tables: ``.csv`` or ``.tsv`` with a column of captions and one of
  pictures, perhaps ``split``, ``caption_id`` and ``identity``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from tbkin.data.captions import IMAGE_KEYS, read_captions
from tbkin.data.retrieval_files import Entry, Source, plain_name, split_of

FILE_KEYS = ("image_path", "image", "file_name", "filename")
"""Where a file says the picture's path, before keys that may only be ids."""

COCO_NAME = re.compile(r"(?:.*/)?COCO_(?:train|val|test)20\d\d_\d{12}\.\w+")


def read_lists(
    source: Source, column: str = "caption", restval: bool = True
) -> tuple[Source, list[Entry]]:
    """Entries of all files of a source.

    Args:
        source: its files by the split that they are of, or as "captions": a file that says the
            split of each caption, and counts as "train" where it does not.
        column: what the captions are called in tables and lists.
        restval: whether "restval" is read; it is part of COCO's training split.

    Returns:
        The source, which is called "coco" if it has no name and all its pictures are COCO's; and
        the entries in file order.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: another layout, a split of another name, nothing of the split that a file is
            named for, or no restval to leave out.
    """
    entries: list[Entry] = []
    for split, path in source.files.items():
        of_all = split == "captions"
        own = [
            entry
            for entry in _entries(path, column, "train" if of_all else split)
            if of_all or split_of(entry) == split
        ]
        if not own:
            raise ValueError(f"{path} holds no captions of split {split!r}; name another file.")
        entries += own
    if not restval:
        kept = [entry for entry in entries if entry.split != "restval"]
        if source.layout != "karpathy" and len(kept) == len(entries):
            raise ValueError(
                "restval=false: these lists do not say which captions are of COCO's restval; give "
                "Karpathy's dataset_coco.json, or leave restval=false out."
            )
        entries = kept
    if not source.dataset and all(COCO_NAME.fullmatch(entry.picture) for entry in entries):
        source = source._replace(dataset="coco")
    return source, entries


def _entries(path: Path, column: str, split: str) -> Iterator[Entry]:
    for row in read_captions(path, column):
        columns = row.columns
        keys = (*FILE_KEYS, *IMAGE_KEYS)
        said = [plain_name(columns[key]) for key in keys if columns.get(key)]
        name = next((one for one in said if not one.isdecimal()), "")
        number = next((int(one) for one in said if one.isdecimal()), None)
        own = columns.get("caption_id", "")
        yield Entry(
            place=row.place,
            split=columns.get("split") or split,
            key=name or str(number),
            caption=row.caption,
            picture=name,
            image_id=number,
            caption_id=int(own) if own.isdecimal() else None,
            identity=_whole(columns.get("identity", ""), row.place),
        )


def _whole(text: str, place: str) -> int | None:
    if not text:
        return None
    try:
        return int(text)
    except ValueError as error:
        raise ValueError(f"{place}: identity must be a whole number, got {text!r}.") from error
