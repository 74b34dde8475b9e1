"""The simulated detector of the tiny world: true boxes with the errors that its dials set."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from data_prep.tiny_scenes import (
    CATEGORY_IDS,
    COLORS,
    HEIGHT,
    PREDICATES,
    SHAPES,
    SIZES,
    WIDTH,
    Scene,
    generator,
    relation,
)

LABELS = {"size": list(SIZES), "color": list(COLORS), "shape": list(SHAPES)}
# Beta distributions of scores: right labels are surer than wrong ones, but the two overlap.
RIGHT_SCORE, WRONG_SCORE = (8, 2), (5, 4)
MIN_SIDE = 4.0  # pixels


@dataclass(frozen=True)
class Dials:
    """How the detector errs; ``TinyConfig`` says what each one means."""

    wrong_labels: float = 0.05
    jitter: float = 2.0
    box_noise: float = 0.0
    false_boxes: float = 0.10
    missed_boxes: float = 0.0
    distractors: float = 0.0
    spurious_edges: float = 0.0


def detect(
    scene: Scene, seed: int, dials: Dials
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Detections of one picture in COCO results form, and the relations reported among them.

    Distractors score like false boxes; they differ in that they may cover objects.
    """
    rng = {
        purpose: generator(seed, scene.split, scene.index, purpose)
        for purpose in (
            *("labels", "scores", "jitter", "box noise", "missed"),
            *("false boxes", "distractors", "edges", "order"),
        )
    }
    found = []
    for thing in scene.things:
        labels, right = _read_labels(thing, dials.wrong_labels, rng["labels"])
        box = _jittered(thing.box, dials, rng["jitter"], rng["box noise"])
        scores = _scores(right, rng["scores"])
        if rng["missed"].random() >= dials.missed_boxes:
            found.append(_detection(scene, box, labels, scores))
    things = len(scene.things)
    taken = [thing.box for thing in scene.things]
    for purpose, share, avoid in (
        ("false boxes", dials.false_boxes, taken),
        ("distractors", dials.distractors, []),
    ):
        for _ in range(_whole(share * things, rng[purpose])):
            labels = {
                kind: words[rng[purpose].integers(len(words))] for kind, words in LABELS.items()
            }
            box = _random_box(labels["size"], avoid, rng[purpose])
            scores = _scores([False] * 3, rng[purpose])
            found.append(_detection(scene, box, labels, scores))
    found = [found[number] for number in rng["order"].permutation(len(found))]
    edges = _whole(dials.spurious_edges * things, rng["edges"])
    return found, _spurious(scene, found, edges, rng["edges"])


def _read_labels(
    thing: Any, wrong_labels: float, rng: np.random.Generator
) -> tuple[dict[str, str], list[bool]]:
    """Size, colour and shape as the detector reads them, and whether each is right."""
    labels, right = {}, []
    for kind, words in LABELS.items():
        true = getattr(thing, kind)
        others = [word for word in words if word != true]
        other = others[rng.integers(len(others))]
        right.append(bool(rng.random() >= wrong_labels))
        labels[kind] = true if right[-1] else other
    return labels, right


def _scores(right: list[bool], rng: np.random.Generator) -> list[float]:
    return [round(float(rng.beta(*(RIGHT_SCORE if good else WRONG_SCORE))), 3) for good in right]


def _jittered(
    box: tuple[int, int, int, int],
    dials: Dials,
    jitter: np.random.Generator,
    noise: np.random.Generator,
) -> list[float]:
    """Move each of the four edges; stay in the picture and at least ``MIN_SIDE`` wide and high."""
    x, y, width, height = box
    edges = np.array([x, y, x + width, y + height]) + dials.jitter * jitter.normal(size=4)
    sides = np.array([width, height, width, height])
    left, top, right, bottom = edges + dials.box_noise * sides * noise.uniform(-1, 1, size=4)
    left, right = _ordered(left, right, WIDTH)
    top, bottom = _ordered(top, bottom, HEIGHT)
    return [left, top, round(right - left, 2), round(bottom - top, 2)]


def _ordered(low: float, high: float, limit: int) -> tuple[float, float]:
    low, high = min(low, high), max(low, high)
    low = min(max(low, 0.0), limit - MIN_SIDE)
    high = min(max(high, low + MIN_SIDE), float(limit))
    low, high = round(float(low), 2), round(float(high), 2)
    return low, max(high, low + MIN_SIDE)


def _random_box(size: str, avoid: list, rng: np.random.Generator) -> list[float]:
    """A box of the labelled size: of 30 places, the first that covers the least of ``avoid``."""
    side = float(rng.integers(SIZES[size][0], SIZES[size][1] + 1))
    lefts = rng.uniform(0, WIDTH - side, size=30).round(2).tolist()
    tops = rng.uniform(0, HEIGHT - side, size=30).round(2).tolist()
    places = [[x, y, side, side] for x, y in zip(lefts, tops, strict=True)]
    return min(places, key=lambda place: sum(_shared_area(place, box) for box in avoid))


def _shared_area(box: Any, other: Any) -> float:
    width = min(box[0] + box[2], other[0] + other[2]) - max(box[0], other[0])
    height = min(box[1] + box[3], other[1] + other[3]) - max(box[1], other[1])
    return max(width, 0.0) * max(height, 0.0)


def _whole(expected: float, rng: np.random.Generator) -> int:
    """A whole number whose mean is ``expected``: one of its two neighbours."""
    return int(expected + rng.random())


def _detection(
    scene: Scene, box: list[float], labels: dict[str, str], scores: list[float]
) -> dict[str, Any]:
    size_score, color_score, shape_score = scores
    return {
        "image_id": scene.image_id,
        "bbox": box,
        "category_id": CATEGORY_IDS[labels["shape"]],
        "score": shape_score,
        "attributes": [
            {"name": labels["color"], "score": color_score},
            {"name": labels["size"], "score": size_score},
        ],
    }


def _spurious(
    scene: Scene, found: list[dict[str, Any]], count: int, rng: np.random.Generator
) -> list[dict[str, Any]]:
    """Relations between random detections that contradict where their boxes lie."""
    pairs = [(s, o) for s in range(len(found)) for o in range(len(found)) if s != o]
    relations = []
    for number in rng.permutation(len(pairs))[:count]:
        subject, other = pairs[number]
        true = relation(found[subject]["bbox"], found[other]["bbox"])
        wrong = [predicate for predicate in PREDICATES if predicate != true]
        relations.append(
            {
                "image_id": scene.image_id,
                "subject": subject,
                "predicate": wrong[rng.integers(len(wrong))],
                "object": other,
                "score": _scores([False], rng)[0],
            }
        )
    return relations
