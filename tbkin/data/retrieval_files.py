"""Image-text retrieval: pictures with any number of captions, whatever file they come from.

============================ =====================================================================
layout                       read by
============================ =====================================================================
Karpathy's dataset_*.json    ``retrieval_lists.py``; also lists of captions (ALBEF, BLIP, CUSA,
                             COCO's own files, tables)
{split}_caps.txt, _ims.npy   ``retrieval_legacy.py`` (SCAN, VSE-infinity, SGRAF)
person search                ``retrieval_persons.py`` (CUHK-PEDES, ICFG-PEDES, RSTPReid)
captions by class folder     ``retrieval_classes.py`` (birds and flowers of Reed et al.)
============================ =====================================================================

Readers make an :class:`Entry` of each caption; :func:`assemble` makes the same rows of all of them,
one a caption, the captions of a picture adjacent, everything in file order::

    {"caption_id": int, "image_id": int, "identity": int, "caption": str}

``retrieval_find.py`` finds the files.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from tbkin.detectors.precomputed_names import image_number

Row = dict[str, Any]

SPLITS = {"train": "train", "restval": "train", "val": "val", "dev": "val", "test": "test"}
"""What files call a split -> what we call it."""

CAPTIONS = {"coco": 5, "flickr30k": 5}
"""Captions of a picture that count, by the custom of the VSE family and the ECCV Caption tool; a
few pictures of COCO have six or seven, and ALBEF's family uses all of them."""

PUBLISHED: dict[str, dict[str, dict[str, int]]] = {
    "coco": {
        "train": {"pictures": 113_287},
        "val": {"pictures": 5_000},
        "test": {"pictures": 5_000},
    },
    "flickr30k": {
        "train": {"pictures": 29_000},
        "val": {"pictures": 1_014},
        "test": {"pictures": 1_000},
    },
    "cuhk_pedes": {
        "train": {"pictures": 34_054, "identities": 11_003},
        "val": {"pictures": 3_078, "identities": 1_000},
        "test": {"pictures": 3_074, "identities": 1_000},
    },
    "icfg_pedes": {
        "train": {"pictures": 34_674, "identities": 3_102},
        "test": {"pictures": 19_848, "identities": 1_000},
    },
    "rstpreid": {
        "train": {"pictures": 18_505, "identities": 3_701},
        "val": {"pictures": 1_000, "identities": 200},
        "test": {"pictures": 1_000, "identities": 200},
    },
    "cub": {
        "train": {"pictures": 8_855, "identities": 150},
        "test": {"pictures": 2_933, "identities": 50},
    },
    "flowers": {
        "train": {"pictures": 7_034, "identities": 82},
        "test": {"pictures": 1_155, "identities": 20},
    },
}
"""What the official files hold. COCO: train and restval (82,783 + 30,504). CUHK-PEDES: 40,206
pictures in all, 40,208 in some papers. Where no "val" is published, "train" holds it."""

RESTVAL = 30_504  # pictures of COCO's train that restval=false leaves out


@dataclass(frozen=True, slots=True)
class Entry:
    """One caption as a file says it.

    Attributes:
        place: where it was read, for messages.
        split: a key of ``SPLITS``.
        key: tells its picture from the others.
        caption: as written.
        picture: name of the picture's file, with folders where the data set has them; "" where
            only a number is known.
        image_id: the file's own number of the picture, if it has one.
        caption_id: likewise of the caption.
        identity: number of the person, or class, that the picture shows, where there are such.
        features: file and row of the picture's region features, where they come with it.
    """

    place: str
    split: str
    key: str
    caption: str
    picture: str = ""
    image_id: int | None = None
    caption_id: int | None = None
    identity: int | None = None
    features: tuple[Path, int] | None = None


class Source(NamedTuple):
    """Where entries come from.

    Attributes:
        dataset: "coco", "flickr30k", "cuhk_pedes", …; "" for what has no name.
        layout: "karpathy", "lists", "legacy", "persons" or "classes".
        files: what was read, by names of their own.
        official: whether the files have the names of the data set's own release, so that published
            numbers can be expected.
    """

    dataset: str
    layout: str
    files: dict[str, Path]
    official: bool = False


@dataclass(frozen=True)
class PicturesAndCaptions:
    """What a copy of a data set holds.

    Attributes:
        source: where it comes from.
        splits: "train", "val", "test", as far as there are such -> rows in file order.
        pictures: image id -> file name as the data set has it; "" where only the number is known.
        identities: whether a row's ``identity`` is more than its ``image_id``.
        numbered_by: what image ids are: "file" (the file's own), "name" (the number at the end of
            the picture's name) or "place" (among the pictures of all splits, from 0).
        features: image id -> file and row of its region features, where they come with it.
        captions: how many of a picture count; 0: all.
        left_out: counts of "captions" beyond those asked for, of "empty_captions" and of "pictures"
            that have no other ones.
    """

    source: Source
    splits: dict[str, list[Row]]
    pictures: dict[int, str] = field(repr=False)
    identities: bool = False
    numbered_by: str = "file"
    features: dict[int, tuple[Path, int]] = field(repr=False, default_factory=dict)
    captions: int = 0
    left_out: dict[str, int] = field(default_factory=dict)

    def official_counts(self, restval: bool = True) -> dict[str, dict[str, int]]:
        """``train_pictures``, … -> number ``found`` and ``published``, for files of official names.

        Args:
            restval: whether COCO's training split was read with its part "restval".
        """
        if not self.source.official:
            return {}
        published = PUBLISHED.get(self.source.dataset, {})
        compared = {}
        for split, numbers in published.items():
            rows = self.splits.get(split, [])
            if split == "train" and "val" not in published:
                rows = rows + self.splits.get("val", [])
            for what, number in numbers.items():
                key = {"pictures": "image_id", "identities": "identity"}[what]
                if (self.source.dataset, split) == ("coco", "train") and not restval:
                    number -= RESTVAL
                found = len({row[key] for row in rows})
                compared[f"{split}_{what}"] = {"found": found, "published": number}
        return compared


def assemble(
    entries: Iterable[Entry], source: Source, captions: int | None = None
) -> PicturesAndCaptions:
    """Rows of entries.

    Ids are those of the file where it gives each picture (each caption) one of its own; else a
    picture's is the number at the end of its name, where every picture has its own; else they count
    from 0. Identities stay as they are. Empty captions are left out, and pictures that have no
    others.

    Args:
        entries: in file order; those of a picture need not be adjacent.
        source: where they come from.
        captions: how many of a picture count, the first of them; 0: all; None: what ``CAPTIONS``
            says of the data set, else all.

    Raises:
        ValueError: no captions; a picture in two splits or with two identities; a picture without
            an identity among others that have one; a split of another name.
    """
    pictures: dict[str, list[Entry]] = {}
    left_out: Counter[str] = Counter()
    for entry in entries:
        before = pictures.setdefault(entry.key, [])
        if before:
            _check_same(before[0], entry)
        before.append(entry)
    in_file = list(pictures)
    for key, said in list(pictures.items()):
        pictures[key] = [entry for entry in said if entry.caption.strip()]
        left_out["empty_captions"] += len(said) - len(pictures[key])
        if not pictures[key]:
            left_out["pictures"] += 1
            del pictures[key]
    every = [entry for said in pictures.values() for entry in said]
    if not every:
        names = ", ".join(map(str, source.files.values()))
        raise ValueError(f"{names}: no captions; name files that hold some.")
    with_identity = [entry for entry in every if entry.identity is not None]
    if with_identity and len(with_identity) < len(every):
        first = next(entry for entry in every if entry.identity is None)
        raise ValueError(
            f"{first.place} has no identity, and others have one; give every picture one or none."
        )
    image_ids, numbered_by = number_pictures(pictures, in_file)
    caption_ids = _own_or_place([entry.caption_id for entry in every])
    limit = CAPTIONS.get(source.dataset, 0) if captions is None else captions
    splits: dict[str, list[Row]] = {}
    place = 0
    for key, said in pictures.items():
        for number, entry in enumerate(said):
            row = {
                "caption_id": caption_ids[place],
                "image_id": image_ids[key],
                "identity": image_ids[key] if entry.identity is None else entry.identity,
                "caption": entry.caption,
            }
            place += 1
            if limit and number >= limit:
                left_out["captions"] += 1
            else:
                splits.setdefault(split_of(entry), []).append(row)
    firsts = {image_ids[key]: said[0] for key, said in pictures.items()}
    return PicturesAndCaptions(
        source,
        {split: splits[split] for split in ("train", "val", "test") if split in splits},
        {number: entry.picture for number, entry in firsts.items()},
        identities=bool(with_identity),
        numbered_by=numbered_by,
        features={number: one.features for number, one in firsts.items() if one.features},
        captions=limit,
        left_out={what: count for what, count in left_out.items() if count},
    )


def number_pictures(
    pictures: dict[str, list[Entry]], in_file: list[str]
) -> tuple[dict[str, int], str]:
    """Key -> image id, and what the ids are; see :func:`assemble`.

    Args:
        pictures: key -> entries.
        in_file: keys of these and of pictures that are left out, in file order. Ids that count them
            are places, whoever gave them.
    """
    own = {key: {entry.image_id for entry in said} for key, said in pictures.items()}
    known = {next(iter(ids)) for ids in own.values() if len(ids) == 1} - {None}
    places = {key: place for place, key in enumerate(pictures)}
    if len(known) == len(pictures):
        given = {key: next(iter(ids)) for key, ids in own.items()}
        counted = all(given.get(key, place) == place for place, key in enumerate(in_file))
        return given, "place" if counted else "file"
    names = {key: PurePosixPath(said[0].picture) for key, said in pictures.items()}
    numbers = {
        key: int(image_number(Path(name.name)))
        for key, name in names.items()
        if re.search(r"[0-9]$", name.name.split(".")[0])
    }
    if len(set(numbers.values())) == len(pictures):
        return numbers, "name"
    return places, "place"


def read_pictures(folder: Path) -> dict[int, str]:
    """``pictures.json`` of a prepared folder: image id -> where the picture is.

    Absolute paths, or what the data set calls the pictures, if these were not there when the
    folder was made (it was made with region features that were there).

    Raises:
        FileNotFoundError: the folder has none.
    """
    path = folder / "pictures.json"
    if not path.is_file():
        raise FileNotFoundError(
            f"{folder} has no pictures.json; prepare the data again: tbkin prep retrieval."
        )
    return {int(number): name for number, name in json.loads(path.read_text("utf-8")).items()}


def plain_name(name: str) -> str:
    """A picture's name with forward slashes, and without "./" in front."""
    return name.replace("\\", "/").removeprefix("./")


def split_of(entry: Entry) -> str:
    """What we call the split of an entry.

    Raises:
        ValueError: it has a name that is not in ``SPLITS``.
    """
    if entry.split not in SPLITS:
        raise ValueError(
            f"{entry.place} has the split {entry.split!r}; known are: {', '.join(SPLITS)}."
        )
    return SPLITS[entry.split]


def _check_same(first: Entry, entry: Entry) -> None:
    """Raise ValueError where a picture is learned from and judged by, or is of two persons."""
    if split_of(entry) != split_of(first):
        raise ValueError(
            f"{entry.place}: picture {entry.picture or entry.key} is of split {entry.split}, and "
            f"of {first.split} in {first.place}; splits must not share pictures."
        )
    if entry.identity != first.identity:
        raise ValueError(
            f"{entry.place}: picture {entry.picture or entry.key} has the identity "
            f"{entry.identity}, and {first.identity} in {first.place}."
        )


def _own_or_place(ids: list[int | None]) -> list[int]:
    known = [number for number in ids if number is not None]
    return known if len(set(known)) == len(ids) else list(range(len(ids)))
