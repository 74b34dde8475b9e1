"""Scenes of the tiny world that are drawn from earlier ones: small changes, and new places."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from data_prep.tiny_captions import Claim, facts_of
from data_prep.tiny_language import Lookup, pick
from data_prep.tiny_scenes import (
    COLORS,
    FEWEST,
    GAP,
    HEIGHT,
    MOST,
    SHAPES,
    SIZES,
    WIDTH,
    Scene,
    Thing,
    draw_side,
    free_box,
    is_free,
)

KEPT_CAPTIONS = 3  # of the five captions of a scene, how many stay true after a change at least

Things = tuple[Thing, ...]


def change_scene(source: Scene, claims: list[Claim], index: int, rng: np.random.Generator) -> Scene:
    """The scene with one object recoloured, resized, moved, removed or added.

    Args:
        source: scene to change.
        claims: what its captions claim; ``KEPT_CAPTIONS`` of them stay true.
        index: the new scene's, in the same split.
        rng: decides what is changed.
    """
    while True:
        change = pick(tuple(CHANGES), rng)
        things = CHANGES[change](source.things, int(rng.integers(len(source.things))), rng)
        if things is None:
            continue
        scene = Scene(source.split, index, things, source.image_id, change)
        facts = facts_of(Lookup(scene))
        if sum(claim <= facts for claim in claims) >= KEPT_CAPTIONS:
            return scene


def place_anew(source: Scene, index: int, rng: np.random.Generator) -> Scene:
    """The same kinds of object, each at a new place; sides vary within their size."""
    while True:
        things: list[Thing] = []
        for thing in source.things:
            side = draw_side(thing.size, rng)
            box = free_box(side, [placed.box for placed in things], rng)
            if box is None:
                break
            things.append(Thing(thing.size, thing.color, thing.shape, box))
        if len(things) == len(source.things):
            return Scene(source.split, index, tuple(things))


def _with(things: Things, number: int, thing: Thing) -> Things:
    return (*things[:number], thing, *things[number + 1 :])


def _other_boxes(things: Things, number: int) -> list[tuple[int, int, int, int]]:
    return [thing.box for place, thing in enumerate(things) if place != number]


def _recolored(things: Things, number: int, rng: np.random.Generator) -> Things:
    thing = things[number]
    color = pick([color for color in COLORS if color != thing.color], rng)
    return _with(things, number, Thing(thing.size, color, thing.shape, thing.box))


def _resized(things: Things, number: int, rng: np.random.Generator) -> Things | None:
    """Of the other size around the same centre; None where there is no room."""
    thing = things[number]
    (size,) = (size for size in SIZES if size != thing.size)
    side = draw_side(size, rng)
    x, y = (thing.box[axis] + (thing.box[axis + 2] - side) // 2 for axis in (0, 1))
    inside = GAP <= x <= WIDTH - GAP - side and GAP <= y <= HEIGHT - GAP - side
    if not inside or not is_free((x, y, side, side), _other_boxes(things, number)):
        return None
    return _with(things, number, Thing(size, thing.color, thing.shape, (x, y, side, side)))


def _moved(things: Things, number: int, rng: np.random.Generator) -> Things | None:
    """At a place apart from its old one, or nobody would see it; None where there is no room."""
    thing = things[number]
    box = free_box(thing.box[2], [thing.box for thing in things], rng)
    if box is None:
        return None
    return _with(things, number, Thing(thing.size, thing.color, thing.shape, box))


def _removed(things: Things, number: int, _: np.random.Generator) -> Things | None:
    return (*things[:number], *things[number + 1 :]) if len(things) > FEWEST else None


def _added(things: Things, _: int, rng: np.random.Generator) -> Things | None:
    """One more, of any kind."""
    size, color, shape = (pick(tuple(words), rng) for words in (SIZES, COLORS, SHAPES))
    box = free_box(draw_side(size, rng), [thing.box for thing in things], rng)
    if box is None or len(things) == MOST:
        return None
    return (*things, Thing(size, color, shape, box))


CHANGES: dict[str, Callable[[Things, int, np.random.Generator], Things | None]] = {
    "recolored": _recolored,
    "resized": _resized,
    "moved": _moved,
    "removed": _removed,
    "added": _added,
}
