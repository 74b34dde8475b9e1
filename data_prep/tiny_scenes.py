"""The scenes of the tiny world and their pictures: coloured shapes on a light background."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

WIDTH, HEIGHT = 160, 120  # pixels of every picture
FEWEST, MOST = 4, 9  # objects of a picture
GAP = 3  # pixels that stay free between two boxes and at the border
FIRST_IMAGE_ID = {"train2014": 1, "val2014": 200_001, "test2015": 300_001}
SPLITS = tuple(FIRST_IMAGE_ID)

SIZES = {"small": (14, 17), "large": (26, 31)}  # side of the box in pixels, both ends included
COLORS = {  # RGB; every object varies a little around it
    "red": (214, 38, 42),
    "orange": (244, 134, 28),
    "yellow": (240, 216, 48),
    "green": (44, 156, 66),
    "blue": (40, 84, 206),
    "purple": (146, 62, 178),
    "brown": (124, 76, 40),
    "black": (34, 34, 38),
}
PREDICATES = ("left of", "right of", "above", "below")
CLEAR_DEGREES = 10.0  # people agree on a relation that is so far from the diagonals

# What a random number is drawn for. Each has its own generator for each picture, so that a dial of
# the detector changes neither pictures nor questions. New purposes go to the end.
PURPOSES = (
    "scene",
    "paint",
    "questions",
    "annotators",
    "captions",
    "expressions",
    "labels",
    "scores",
    "jitter",
    "missed",
    "false boxes",
    "distractors",
    "edges",
    "order",
    "box noise",
    "near duplicates",
    "placing",
)


def _star() -> list[tuple[float, float]]:
    points = []
    for corner in range(10):
        radius = 1.0 if corner % 2 == 0 else 0.45
        angle = math.pi * corner / 5
        points.append((radius * math.sin(angle), -radius * math.cos(angle)))
    left, right = min(x for x, _ in points), max(x for x, _ in points)
    top, bottom = min(y for _, y in points), max(y for _, y in points)
    return [((x - left) / (right - left), (y - top) / (bottom - top)) for x, y in points]


def _circle(corners: int = 32) -> list[tuple[float, float]]:
    angles = [2 * math.pi * corner / corners for corner in range(corners)]
    return [(0.5 + 0.5 * math.cos(angle), 0.5 + 0.5 * math.sin(angle)) for angle in angles]


_IN, _OUT = 0.32, 0.68
SHAPES = {  # polygons that touch all four sides of the unit square; y points down
    "circle": _circle(),
    "square": [(0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0)],
    "triangle": [(0.5, 0.0), (1.0, 1.0), (0.0, 1.0)],
    "star": _star(),
    "cross": [
        *[(_IN, 0.0), (_OUT, 0.0), (_OUT, _IN), (1.0, _IN), (1.0, _OUT), (_OUT, _OUT)],
        *[(_OUT, 1.0), (_IN, 1.0), (_IN, _OUT), (0.0, _OUT), (0.0, _IN), (_IN, _IN)],
    ],
}
CATEGORY_IDS = {shape: number for number, shape in enumerate(SHAPES, start=1)}


@dataclass(frozen=True)
class Thing:
    """One drawn object; ``box`` is ``(x, y, width, height)`` in whole pixels."""

    size: str
    color: str
    shape: str
    box: tuple[int, int, int, int]

    def polygon(self) -> list[tuple[float, float]]:
        """Outline in pixels of the picture."""
        x, y, width, height = self.box
        return [(x + u * width, y + v * height) for u, v in SHAPES[self.shape]]


@dataclass(frozen=True)
class Scene:
    """What one picture shows; ``index`` counts from 0 within the split.

    A near duplicate has the picture id of the scene that it was drawn from, ``source``, and the
    ``change``; None and "" elsewhere.
    """

    split: str
    index: int
    things: tuple[Thing, ...]
    source: int | None = None
    change: str = ""

    @property
    def image_id(self) -> int:
        """COCO picture id, shared by no other split."""
        return FIRST_IMAGE_ID[self.split] + self.index

    @property
    def file_name(self) -> str:
        """Official name, as ``COCO_val2014_000000200001.jpg``."""
        return f"COCO_{self.split}_{self.image_id:012d}.jpg"

    def thing_id(self, number: int) -> int:
        """Annotation id (COCO) and object id (Visual Genome) of the object ``number``."""
        return self.image_id * 10 + number + 1

    def caption_id(self, number: int) -> int:
        """COCO caption id and Karpathy's ``sentid`` of the caption ``number``."""
        return self.image_id * 10 + number


def generator(seed: int, split: str, index: int, purpose: str) -> np.random.Generator:
    """The random numbers of one picture for one purpose."""
    return np.random.default_rng([seed, SPLITS.index(split), index, PURPOSES.index(purpose)])


def offset(box: tuple, other: tuple) -> tuple[float, float]:
    """Vector from the centre of ``other`` to the centre of ``box``; both ``(x, y, w, h)``."""
    return (
        box[0] + box[2] / 2 - other[0] - other[2] / 2,
        box[1] + box[3] / 2 - other[1] - other[3] / 2,
    )


def relation(box: tuple, other: tuple) -> str:
    """How ``box`` lies to ``other``: the dominant axis between the centres decides."""
    dx, dy = offset(box, other)
    if abs(dx) > abs(dy):
        return "left of" if dx < 0 else "right of"
    return "above" if dy < 0 else "below"


def is_clear(box: tuple, other: tuple) -> bool:
    """Whether the vector between the centres keeps ``CLEAR_DEGREES`` from the diagonals."""
    dx, dy = offset(box, other)
    return abs(math.degrees(math.atan2(abs(dy), abs(dx))) - 45) >= CLEAR_DEGREES


def draw_scene(split: str, index: int, rng: np.random.Generator) -> Scene:
    """Sample ``FEWEST`` to ``MOST`` objects whose boxes keep ``GAP`` from one another.

    Most scenes use only some of the colours and shapes: then counts grow beyond one, and a
    description without its relation fits several objects.
    """
    colors = _some(list(COLORS), (2, 3, 4, 8), rng)
    shapes = _some(list(SHAPES), (2, 3, 5), rng)
    count = int(rng.integers(FEWEST, MOST + 1))
    small_share = rng.choice([0.25, 0.5, 0.75])
    while True:
        things: list[Thing] = []
        for _ in range(count):
            size = "small" if rng.random() < small_share else "large"
            side = draw_side(size, rng)
            box = free_box(side, [thing.box for thing in things], rng)
            if box is None:
                break
            color = colors[rng.integers(len(colors))]
            things.append(Thing(size, color, shapes[rng.integers(len(shapes))], box))
        if len(things) == count:
            return Scene(split, index, tuple(things))


def _some(names: list[str], how_many: tuple[int, ...], rng: np.random.Generator) -> list[str]:
    chosen = rng.permutation(len(names))[: how_many[rng.integers(len(how_many))]]
    return [names[number] for number in chosen]


def draw_side(size: str, rng: np.random.Generator) -> int:
    """Side in pixels of an object of that size."""
    return int(rng.integers(SIZES[size][0], SIZES[size][1] + 1))


def free_box(
    side: int, boxes: list[tuple[int, int, int, int]], rng: np.random.Generator
) -> tuple[int, int, int, int] | None:
    """A square box of that side that keeps ``GAP`` from all others, or None after 60 attempts."""
    lefts = rng.integers(GAP, WIDTH - GAP - side + 1, size=60).tolist()
    tops = rng.integers(GAP, HEIGHT - GAP - side + 1, size=60).tolist()
    for x, y in zip(lefts, tops, strict=True):
        if is_free((x, y, side, side), boxes):
            return x, y, side, side
    return None


def is_free(box: tuple[int, int, int, int], boxes: list[tuple[int, int, int, int]]) -> bool:
    """Whether the box keeps ``GAP`` from all others."""
    x, y, width, height = box
    return all(
        x + width + GAP <= left
        or left + other_width + GAP <= x
        or y + height + GAP <= top
        or top + other_height + GAP <= y
        for left, top, other_width, other_height in boxes
    )


def paint(scene: Scene, rng: np.random.Generator) -> Image.Image:
    """Draw the scene: tinted, slightly graded and noisy background, anti-aliased shapes."""
    image = Image.fromarray(_background(rng))
    for thing in scene.things:
        x, y, width, height = thing.box
        mask = Image.new("L", (4 * width, 4 * height))
        outline = [(u * (4 * width - 1), v * (4 * height - 1)) for u, v in SHAPES[thing.shape]]
        ImageDraw.Draw(mask).polygon(outline, fill=255)
        tint = rng.integers(-10, 11, size=3) + COLORS[thing.color]
        image.paste(tuple(np.clip(tint, 0, 255).tolist()), (x, y), mask.reduce(4))
    return image


def _background(rng: np.random.Generator) -> np.ndarray:
    """(HEIGHT, WIDTH, 3) bytes."""
    tint = rng.uniform(222, 246, size=3).astype(np.float32)
    slope_x, slope_y = rng.uniform(-10, 10, size=2).tolist()
    across = slope_x * np.linspace(-1, 1, WIDTH, dtype=np.float32)[None, :, None]
    down = slope_y * np.linspace(-1, 1, HEIGHT, dtype=np.float32)[:, None, None]
    noise = 3 * rng.standard_normal((HEIGHT, WIDTH, 3), dtype=np.float32)
    return np.clip(tint + across + down + noise, 0, 255).astype(np.uint8)
