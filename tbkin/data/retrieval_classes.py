"""Captions by class folder: birds (CUB-200-2011) and flowers (Oxford-102) of Reed et al.

::

    FOLDER/text_c10/<class>/<picture>.txt   captions of a picture, one a line (ten)
    FOLDER/trainvalclasses.txt              classes to learn from, one a line; or trainclasses.txt
    FOLDER/valclasses.txt                   and valclasses.txt
    FOLDER/testclasses.txt                  classes to be judged by, none of them learned from
    …/images/<class>/<picture>.jpg          the pictures (flowers: all in one folder, jpg)

Without lists, or without one for training, what no list names is learned from. An identity is a
class: the number that its name begins or ends with (``001.Black_footed_Albatross``,
``class_00001``), where every class has its own, else its place among the sorted names, from 1.

Source: Reed et al., "Learning Deep Representations of Fine-Grained Visual Descriptions", CVPR 2016,
arXiv:1605.05395. That the other data sets' captions come as such folders too is *ours*.
"""

from __future__ import annotations

import re
from pathlib import Path

from tbkin.data.retrieval_files import Entry, Source

TEXTS = ("text_c10", "text")
"""What the folder of captions may be called."""

LISTS = {
    "train": "trainclasses.txt",
    "trainval": "trainvalclasses.txt",
    "val": "valclasses.txt",
    "test": "testclasses.txt",
}


def class_lists(folder: Path) -> dict[str, Path]:
    """The lists of classes that are beside a folder of captions; "train" alone needs "val"."""
    there = {name: folder / file for name, file in LISTS.items() if (folder / file).is_file()}
    if {"train", "val"} <= there.keys():
        there.pop("trainval", None)
    elif "trainval" in there:
        there.pop("train", None)
        there.pop("val", None)
    return there


def read_classes(source: Source) -> list[Entry]:
    """Entries of all classes, sorted by class and picture.

    Args:
        source: its file "captions" is the folder of captions; others are lists of classes.

    Raises:
        ValueError: a class in two lists, a listed class without captions, a text that is not UTF-8.
    """
    texts = source.files["captions"]
    folders = {path.name: path for path in sorted(texts.iterdir()) if path.is_dir()}
    numbers = number_classes(list(folders))
    split_of = _splits(source, set(folders))
    trained = {"train", "trainval"} & source.files.keys()
    entries = []
    for name, folder in folders.items():
        split = split_of.get(name, "" if trained else "train")
        if not split:  # the lists name all that is meant
            continue
        for path in sorted(folder.glob("*.txt")):
            try:
                lines = path.read_text(encoding="utf-8").splitlines()
            except UnicodeDecodeError as error:
                raise ValueError(f"{path} is not UTF-8 ({error}); copy it again.") from error
            entries += [
                Entry(
                    place=f"{path}, line {number}",
                    split=split,
                    key=f"{name}/{path.stem}",
                    caption=line.strip(),
                    picture=f"{name}/{path.stem}.jpg",
                    identity=numbers[name],
                )
                for number, line in enumerate(lines, start=1)
            ]
    return entries


def number_classes(names: list[str]) -> dict[str, int]:
    """Name of a class -> its number; see the module."""
    found = {}
    for name in names:
        match = re.match(r"(\d+)\D", name) or re.search(r"(\d+)$", name)
        if match:
            found[name] = int(match[1])
    if len(set(found.values())) == len(names):
        return found
    return {name: place for place, name in enumerate(sorted(names), start=1)}


def _splits(source: Source, classes: set[str]) -> dict[str, str]:
    """Class -> split, for the classes that lists name."""
    split_of: dict[str, str] = {}
    for key, path in source.files.items():
        if key not in LISTS:
            continue
        split = "train" if key == "trainval" else key
        for name in path.read_text(encoding="utf-8").split():
            if name not in classes:
                raise ValueError(
                    f"{path} names the class {name!r}, which has no folder in "
                    f"{source.files['captions']}."
                )
            if split_of.setdefault(name, split) != split:
                raise ValueError(f"{path}: class {name} is in {split_of[name]} as well.")
    return split_of
