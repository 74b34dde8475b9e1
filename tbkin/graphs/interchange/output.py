"""Files that appear whole or not at all."""

from __future__ import annotations

import re


def file_stem(image_id: str, number: int, used: set[str]) -> str:
    """A file name for one graph: its picture's id where that is a plain name, else its number.

    Args:
        image_id: of the graph; "" without a picture.
        number: of the graph among those written, from 0.
        used: names taken, in lower case because some disks do not tell cases apart; added to.
    """
    plain = re.fullmatch(r"[\w][\w.-]{0,99}", image_id, flags=re.ASCII)
    stem = image_id if plain else f"graph_{number:06d}"
    while stem.lower() in used:
        stem = f"{stem}_{number:06d}"
    used.add(stem.lower())
    return stem


def number_of(image_id: str) -> int | None:
    """The id as a number, if writing the number gives the id back ("7", not "007")."""
    if re.fullmatch(r"0|[1-9][0-9]{0,17}", image_id):
        return int(image_id)
    return None
