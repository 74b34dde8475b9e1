"""One picture as somebody's file describes it -> :class:`Regions`, with a tally of what was mended.

Every reader of this folder ends here, so that boxes are cut, doubles merged and relations of
dropped boxes dropped in one way.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch
from PIL import Image

from tbkin.graphs.regions import Regions

Box = tuple[float, float, float, float]
BOX_FORMATS = ("xyxy", "xywh", "cxcywh")
SLACK = 1.0  # pixels that rounding may push a box over the picture's edge


@dataclass
class PictureRecord:
    """What a file says of one picture.

    Attributes:
        image_id: whose picture.
        width, height: in pixels.
        boxes: xyxy pixels, as the file has them: they may leave the picture.
        labels: one a box.
        scores: one a box, in [0, 1]; left empty where the file has none.
        attributes: for each box its (name, confidence); left empty likewise.
        relations: (subject, predicate, object, confidence), numbered as ``boxes``.
    """

    image_id: str
    width: int
    height: int
    boxes: list[Box] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    attributes: list[list[tuple[str, float]]] = field(default_factory=list)
    relations: list[tuple[int, str, int, float]] = field(default_factory=list)

    def regions(self, counts: Counter[str]) -> Regions:
        """Boxes cut to the picture, those without area left out, doubles merged.

        Args:
            counts: what was mended -> how often; added to.

        Raises:
            ValueError: a box that is not four finite numbers, a score outside [0, 1], a relation
                to a box that is not there.
        """
        who = f"picture {self.image_id}"
        kept: dict[int, Box] = {}
        for place, box in enumerate(self.boxes):
            cut = _cut(checked_box(box, f"{who}, box {place}"), self.width, self.height)
            if cut[2] <= cut[0] or cut[3] <= cut[1]:
                counts["boxes without area in the picture dropped"] += 1
                continue
            if cut != tuple(box):
                counts["boxes cut to the picture"] += 1
            kept[place] = cut
        scores = self.scores or [1.0] * len(self.boxes)
        attributes = self.attributes or [[] for _ in self.boxes]
        return Regions(
            boxes=torch.tensor(list(kept.values()), dtype=torch.float32).reshape(-1, 4),
            width=self.width,
            height=self.height,
            labels=[self.labels[place] for place in kept],
            scores=[checked_score(scores[place], f"{who}, box {place}") for place in kept],
            attributes=[
                _merged_attributes(attributes[place], f"{who}, box {place}", counts)
                for place in kept
            ],
            relations=self._relations(list(kept), who, counts),
            image_id=self.image_id,
        )

    def _relations(
        self, kept: list[int], who: str, counts: Counter[str]
    ) -> list[tuple[int, str, int, float]]:
        """Between kept boxes, renumbered; the best confidence where one is said twice."""
        place_of = {old: new for new, old in enumerate(kept)}
        best: dict[tuple[int, str, int], float] = {}
        for subject, predicate, target, score in self.relations:
            for end in (subject, target):
                if not 0 <= end < len(self.boxes):
                    raise ValueError(
                        f"{who}: relation {predicate!r} points to box {end} "
                        f"of {len(self.boxes)}; they count from 0."
                    )
            if subject not in place_of or target not in place_of:
                counts["relations of dropped boxes dropped"] += 1
                continue
            score = checked_score(score, f"{who}, relation {predicate!r}")
            if score == 0:
                counts["relations of score 0 dropped"] += 1
                continue
            key = (place_of[subject], predicate, place_of[target])
            if key in best:
                counts["relations said twice merged"] += 1
            best[key] = max(score, best.get(key, 0.0))
        return [(*key, score) for key, score in best.items()]


def settle_boxes(
    boxes: Sequence[Sequence[float]],
    declared: str,
    asked: str,
    size: tuple[float, float],
    who: str,
    others: Sequence[str] = ("xyxy", "xywh"),
) -> list[Box]:
    """Boxes in the format that their file declares -> xyxy; never a guess.

    Args:
        boxes: four numbers each, in pixels.
        declared: format of the file, one of ``BOX_FORMATS``; "" where it declares none.
        asked: what the user says it is, which settles it; "" for what the file declares.
        size: (width, height) of the picture, in the boxes' pixels.
        who: the picture, for errors.
        others: formats that such files are mistaken for.

    Raises:
        ValueError: no format, or a box that leaves the picture as declared but fits it in another
            format. The message names ``box_format``, which settles it.
    """
    if asked and asked not in BOX_FORMATS:
        raise ValueError(f"unknown box_format {asked!r}; choose from: {', '.join(BOX_FORMATS)}.")
    if not declared and not asked:
        raise ValueError(
            f"{who}: the file does not say what its boxes are. "
            f"Say box_format=NAME, one of {', '.join(BOX_FORMATS)}."
        )
    if asked:
        return [to_xyxy(checked_box(box, f"{who}, box {n}"), asked) for n, box in enumerate(boxes)]
    settled = []
    for number, box in enumerate(boxes):
        box = checked_box(box, f"{who}, box {number}")
        found = to_xyxy(box, declared)
        if not _fits(found, size):
            fitting = [
                other for other in others if other != declared and _fits(to_xyxy(box, other), size)
            ]
            if fitting:
                raise ValueError(
                    f"{who}: box {number}, {list(box)}, does not fit {size[0]:g} x {size[1]:g} "
                    f"pixels as {declared}, which the file should hold, but does as "
                    f"{' and as '.join(fitting)}. Say which it is: box_format={fitting[0]}, or "
                    f"box_format={declared} to cut it to the picture."
                )
        settled.append(found)
    return settled


def to_xyxy(box: Box, box_format: str) -> Box:
    """One box of any of ``BOX_FORMATS`` -> left, top, right, bottom."""
    first, second, third, fourth = box
    if box_format == "xyxy":
        return box
    if box_format == "xywh":
        return first, second, first + third, second + fourth
    return (first - third / 2, second - fourth / 2, first + third / 2, second + fourth / 2)


def picture_size(folder: Path | None, name: str) -> tuple[int, int]:
    """(width, height) of a picture, from its file's header.

    Args:
        folder: where to look for ``name``, and then for its last part; ``None``: at ``name`` only.
        name: path of the picture in the file that mentions it.

    Raises:
        FileNotFoundError: not there.
        ValueError: not a picture.
    """
    places = [Path(name)] if folder is None else [folder / name, folder / Path(name).name]
    for path in places:
        if path.is_file():
            try:
                with Image.open(path) as image:
                    return image.size
            except OSError as error:
                raise ValueError(f"{path} is not a picture: {error}.") from error
    raise FileNotFoundError(
        f"no picture {places[-1]}, whose size is needed. Say where the pictures are: images=DIR."
    )


def clean_name(text: object, lowercase: bool = False) -> str:
    """A label with single spaces and nothing that UTF-8 cannot hold."""
    plain = " ".join(str(text).split()).encode("utf-8", "replace").decode("utf-8")
    return plain.lower() if lowercase else plain


def checked_box(box: Sequence[object], who: str) -> Box:
    """Four finite numbers, or an error that says whose they are."""
    try:
        first, second, third, fourth = (float(value) for value in box)  # type: ignore[arg-type]
    except (TypeError, ValueError) as error:
        raise ValueError(f"{who}: a box is four numbers, got {box!r}.") from error
    if not all(map(math.isfinite, (first, second, third, fourth))):
        raise ValueError(f"{who}: a box is four finite numbers, got {box!r}.")
    return first, second, third, fourth


def checked_score(score: object, who: str) -> float:
    """A confidence in [0, 1]; rounding may carry it a little over 1."""
    value = float(score)  # type: ignore[arg-type]
    if not -1e-6 <= value <= 1 + 1e-4:
        raise ValueError(f"{who}: a score must be in [0, 1], got {score}.")
    return min(1.0, max(0.0, value))


@contextmanager
def named(who: str) -> Iterator[None]:
    """Turn a missing key or a wrong type in somebody's file into an error that says where."""
    try:
        yield
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise ValueError(f"{who}: not laid out as this format is ({error!r}).") from error


def _merged_attributes(
    attributes: list[tuple[str, float]], who: str, counts: Counter[str]
) -> list[tuple[str, float]]:
    best: dict[str, float] = {}
    for name, score in attributes:
        score = checked_score(score, f"{who}, attribute {name!r}")
        if score == 0:
            counts["attributes of score 0 dropped"] += 1
            continue
        if name in best:
            counts["attributes said twice merged"] += 1
        best[name] = max(score, best.get(name, 0.0))
    return list(best.items())


def _fits(box: Box, size: tuple[float, float]) -> bool:
    left, top, right, bottom = box
    return -SLACK <= left <= right <= size[0] + SLACK and -SLACK <= top <= bottom <= size[1] + SLACK


def _cut(box: Box, width: int, height: int) -> Box:
    left, top, right, bottom = box
    return max(left, 0.0), max(top, 0.0), min(right, float(width)), min(bottom, float(height))
