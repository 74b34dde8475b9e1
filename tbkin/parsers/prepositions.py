"""Prepositions of several words, and what relations are called; no parse is needed for these."""

from __future__ import annotations

PREPOSITIONS = {
    "next to": "next to", "close to": "close to", "near to": "near", "across from": "across from",
    "inside of": "inside", "outside of": "outside", "in between": "between", "off of": "off",
    "along side": "alongside", "along side of": "alongside", "alongside of": "alongside",
    "in front": "in front of", "on top": "on top of", "out of": "out of", "away from": "away from",
    "left of": "left of", "right of": "right of", "to left of": "left of", "upon": "on",
    "to right of": "right of", "up against": "against", "underneath": "under", "beneath": "under",
    "atop": "on top of", "amongst": "among", "amidst": "among", "w/": "with", "onto": "on",
    "on to": "on", "beside of": "beside", "besides": "beside", "toward": "towards",
    "part of": "part of", "side by side with": "side by side with",
}  # fmt: skip
# Sides of a thing, and the preposition that goes with each; "" for the one that is written.
SIDES = {
    "top": "on", "side": "on", "sides": "on", "back": "", "front": "", "bottom": "on",
    "middle": "on", "center": "in", "centre": "in", "edge": "on", "end": "in", "corner": "in",
    "left": "", "right": "", "rear": "at",
}  # fmt: skip
WHICH_SIDE = frozenset(
    "left right far other either both opposite back front upper lower very".split()
)
BEFORE_SIDE = frozenset("on in at to by along from near against".split())
DETERMINERS = frozenset("the a an its it's 's his her their".split())
NOTHING = (0, "")


def phrase_at(low: list[str]) -> tuple[int, str]:
    """(number of words, name) of the preposition of several words that begins a list.

    Args:
        low: words in lower case; five are enough.

    Returns:
        (0, "") if there is none.
    """
    if low and low[0] in BEFORE_SIDE:
        found = _side_phrase(low)
        if found[0]:
            return found
    for length in (4, 3, 2):
        label = PREPOSITIONS.get(" ".join(low[:length])) if length <= len(low) else None
        if label:
            return length, label
    return NOTHING


def _side_phrase(low: list[str]) -> tuple[int, str]:
    """(number of words, name) of "on the other side of" and its kin at the start of a list.

    Any preposition, any side; (0, "") for other words.
    """
    at, which = 1, ""
    if at < len(low) and low[at] in DETERMINERS:
        at += 1
    if at + 1 < len(low) and low[at] in WHICH_SIDE and low[at + 1] in SIDES:
        which = low[at]
        at += 1
    if at + 1 >= len(low) or low[at] not in SIDES or low[at + 1] != "of":
        return NOTHING
    side = low[at]
    for one in (which, side):
        if one in ("left", "right"):
            return at + 2, f"{one} of"
    if which in ("either", "both"):
        return at + 2, f"{low[0]} {which} {side} of"
    if side == "front" and low[0] in ("in", "on", "at"):
        return at + 2, "in front of"
    return at + 2, f"{SIDES[side] or low[0]} {side} of"
