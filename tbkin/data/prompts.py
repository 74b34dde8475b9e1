"""Spatial text prompts: "The block 3 has a chair", said behind a training caption.

The picture is a grid of blocks, numbered row by row from 0 at the top left; the prompt says in
which one an object has its centre. Three variants:

- ``plain``: PTP's released training command. One object, its block in the picture before any crop;
  caption and prompt are cleaned and cut together, so that long captions lose their prompt.
- ``refined``: PTP's other one. One object; its block in the crop, ``x`` if nothing of it is left;
  22 words of the caption, 8 of the prompt.
- ``reserved`` (*ours*): one of the objects of which enough is left; its block after crop and flip;
  the caption is cut so that the prompt has room; without an object no prompt.

Prompts are for training only: evaluation, teachers and ids take the caption as it is. Region
features are of whole pictures, so ``tbkin train`` passes no :class:`View` and blocks are those of
the whole picture; whoever trains on crops passes each visit's own. However a prompt is made, a
model sees no more of it than its tokenizer leaves: ``plain`` and ``refined`` count words, not
tokens.

Source: Wang et al., "Position-guided Text Prompt for Vision-Language Pre-training", CVPR 2023,
arXiv:2212.09737, and its code; DSSLP (github.com/Leon001211/DSSLP) took it over as its second
stage. General grids, articles and templates are *ours*.
"""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from tbkin.config import choose
from tbkin.data.caption_cleaning import clean_ptp
from tbkin.graphs.regions import Regions

TEMPLATE = "The block {block} has {article} {object}"
FIELDS = ("block", "article", "object")
GONE = "x"  # the block of what the crop has cut away, in the refined variant
PLAIN_WORDS = 30  # of caption and prompt together
CAPTION_WORDS, PROMPT_WORDS = 22, 8  # of the refined variant
MAX_OBJECTS = 10  # PTP: the first of the detector's

_LIKE_A_CONSONANT = re.compile(r"uni(?!n|m)|ute|uri|use|uku|eu|ewe|one\b", re.IGNORECASE)
_SILENT_H = re.compile(r"hour|heir|hono", re.IGNORECASE)


@dataclass(frozen=True)
class View:
    """The part of a picture that training sees.

    Attributes:
        left, top, width, height: of the crop, pixels of the picture. What it is resized to
            afterwards moves nothing from block to block.
        flip: whether it is mirrored, left to right, after the crop.
    """

    left: float
    top: float
    width: float
    height: float
    flip: bool = False

    def __post_init__(self) -> None:
        if not (self.width > 0 and self.height > 0):
            raise ValueError(f"a view must be larger than 0, got {self.width} x {self.height}.")


@dataclass(frozen=True)
class PictureObjects:
    """What a prompt may speak of.

    Attributes:
        boxes: N of xyxy, pixels.
        names: N, as the detector calls them.
        width, height: of the picture, pixels.
    """

    boxes: Sequence[Sequence[float]]
    names: Sequence[str]
    width: float
    height: float

    def __post_init__(self) -> None:
        if len(self.boxes) != len(self.names):
            raise ValueError(f"{len(self.boxes)} boxes and {len(self.names)} names of objects.")


def objects_of(regions: Regions, max_objects: int = MAX_OBJECTS) -> PictureObjects:
    """The first objects of a picture that have a name (a grid's cells have none)."""
    named = [place for place, label in enumerate(regions.labels) if label][:max_objects]
    return PictureObjects(
        boxes=regions.boxes[named].tolist(),
        names=[regions.labels[place].replace("_", " ") for place in named],
        width=regions.width,
        height=regions.height,
    )


def block_of(box: Sequence[float], width: float, height: float, grid: int = 3) -> int:
    r"""The block that a box has its centre in.

    .. math::
        N \cdot \min(\lfloor N c_y / H \rfloor, N - 1) + \min(\lfloor N c_x / W \rfloor, N - 1)

    Args:
        box: xyxy, pixels.
        width: W, of the picture (of the view, for a box in it), pixels.
        height: H, likewise.
        grid: N, blocks a side.

    Returns:
        0 (top left) to N² - 1. A centre outside the picture counts to the nearest block of its
        row or column.
    """
    if grid < 1 or not (width > 0 and height > 0):
        raise ValueError(
            f"blocks need a grid of at least 1 and a picture: got grid {grid}, {width} x {height}."
        )
    left, top, right, bottom = box
    column = int((left + right) / 2 / width * grid)
    row = int((top + bottom) / 2 / height * grid)
    return grid * min(max(row, 0), grid - 1) + min(max(column, 0), grid - 1)


def box_in_view(box: Sequence[float], view: View) -> tuple[list[float], float]:
    """What is left of a box after crop and flip.

    Args:
        box: xyxy, pixels of the picture.
        view: what is seen of it.

    Returns:
        The box, xyxy in pixels of the view, and the share of its area that is left, in [0, 1];
        at a share of 0 the box means nothing.
    """
    left, right = (min(max(x - view.left, 0), view.width) for x in (box[0], box[2]))
    top, bottom = (min(max(y - view.top, 0), view.height) for y in (box[1], box[3]))
    area = (box[2] - box[0]) * (box[3] - box[1])
    share = (right - left) * (bottom - top) / area if area > 0 else 0.0
    if view.flip:
        left, right = view.width - right, view.width - left
    return [left, top, right, bottom], share


def article_of(name: str) -> str:
    """``a`` or ``an``, by how the name sounds: a unicycle, an hourglass."""
    like_a_vowel = name[:1].lower() in tuple("aeiou") and not _LIKE_A_CONSONANT.match(name)
    return "an" if like_a_vowel or _SILENT_H.match(name) else "a"


def generator_of(seed: int, visit: int, caption_id: int) -> np.random.Generator:
    """Chance for one visit (epoch) of one caption, whichever process loads it, in any order."""
    return np.random.default_rng([seed, visit, caption_id])


def raw_suffix(prompt: str) -> str:
    """What PTP puts behind a caption before it cleans both; only a full stop without a prompt."""
    return f". {prompt} ." if prompt else "."


def words_in(text: str) -> int:
    """How many words a text has."""
    return len(text.split())


@dataclass(frozen=True)
class SpatialPrompts:
    """``prompts(caption, objects, generator) ->`` the caption with its prompt.

    Attributes:
        variant: ``plain``, ``refined`` or ``reserved``, see the module.
        probability: of a prompt at all; PTP: 1. The caption is then treated as if the picture had
            no object.
        grid: blocks a side; PTP: 3.
        template: of the prompt, with ``{block}``, ``{object}`` and, if wanted, ``{article}``.
        article: ``a``: always, as in PTP; ``a_or_an``: as the name sounds.
        min_share: ``reserved``: least share of a box's area that must be left, in [0, 1]. Ours.
        max_length: ``reserved``: most that caption and prompt may have together, counted by
            ``count``.
        count: ``reserved``: length of a text; words unless told otherwise. For a tokenizer's
            budget: ``lambda text: len(tokenizer(text)["input_ids"])``.

    Raises:
        ValueError: an unknown variant, a setting out of range, a template with other fields.
    """

    variant: Literal["plain", "refined", "reserved"] = "reserved"
    probability: float = 1.0
    grid: int = 3
    template: str = TEMPLATE
    article: Literal["a", "a_or_an"] = "a"
    min_share: float = 0.3
    max_length: int = 40
    count: Callable[[str], int] = words_in

    def __post_init__(self) -> None:
        variants = dict.fromkeys(("plain", "refined", "reserved"))
        choose(variants, str(self.variant), "variant of prompts")
        choose(dict.fromkeys(("a", "a_or_an")), str(self.article), "article of prompts")
        for name in ("probability", "min_share"):
            value = getattr(self, name)
            if not isinstance(value, int | float) or not 0 <= value <= 1:
                raise ValueError(f"prompt.{name} must be a number in [0, 1], got {value!r}.")
        for name in ("grid", "max_length"):
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                raise ValueError(f"prompt.{name} must be a whole number >= 1, got {value!r}.")
        if not isinstance(self.template, str):
            raise ValueError(f"prompt.template must be a text, got {self.template!r}.")
        fields = [field for _, field, _, _ in string.Formatter().parse(self.template) if field]
        if not {"block", "object"} <= set(fields) <= set(FIELDS):
            raise ValueError(
                f"prompt.template must hold {{block}} and {{object}}, and may hold {{article}}; "
                f"got {self.template!r}."
            )

    def words(self) -> list[str]:
        """What prompts say beside names of objects, for a vocabulary of words."""
        said = [
            self.template.format(block=block, article=article, object="")
            for block in (*range(self.grid**2), GONE)
            for article in ("a", "an")
        ]
        return list(dict.fromkeys(word for text in said for word in text.split()))

    def __call__(
        self,
        caption: str,
        objects: PictureObjects,
        generator: np.random.Generator,
        view: View | None = None,
    ) -> str:
        """Draw and append.

        Args:
            caption: any text.
            objects: of its picture, in the detector's order.
            generator: the only source of chance, see :func:`generator_of`.
            view: crop and flip of this visit; None: the whole picture.
        """
        view = view or View(0, 0, objects.width, objects.height)
        wanted = generator.random() < self.probability
        prompt = self.draw(objects, generator, view) if wanted else ""
        if self.variant == "plain":
            return clean_ptp(caption + raw_suffix(prompt), PLAIN_WORDS)
        if self.variant == "refined":
            said = clean_ptp(prompt, PROMPT_WORDS)
            return f"{clean_ptp(caption, CAPTION_WORDS)}. {said}".rstrip()
        return self.join(caption, prompt) if prompt else caption

    def draw(self, objects: PictureObjects, generator: np.random.Generator, view: View) -> str:
        """The prompt of one object, every one as likely; "" where there is none to speak of."""
        seen = [box_in_view(box, view) for box in objects.boxes]
        places = range(len(seen))
        if self.variant == "reserved":
            least = self.min_share
            places = [place for place in places if seen[place][1] >= least and seen[place][1] > 0]
        if not places:
            return ""
        place = places[int(generator.integers(len(places)))]
        box, share = seen[place]
        name = objects.names[place]
        if self.variant == "plain":
            block = str(block_of(objects.boxes[place], objects.width, objects.height, self.grid))
        else:
            block = str(block_of(box, view.width, view.height, self.grid)) if share > 0 else GONE
        return self.say(block, name)

    def say(self, block: str, name: str) -> str:
        """The prompt of one object in a block."""
        article = article_of(name) if self.article == "a_or_an" else "a"
        return self.template.format(block=block, article=article, object=name)

    def check_room(self, names: Iterable[str]) -> None:
        """Raise ValueError if the prompt of any object is longer than ``max_length``.

        Args:
            names: of all objects there may be.
        """
        if self.variant == "reserved":
            for name in names:
                self.join("", self.say(str(self.grid**2 - 1), name))

    def join(self, caption: str, prompt: str) -> str:
        """Caption and prompt within ``max_length``; words go from the end of the caption.

        Raises:
            ValueError: the prompt alone is longer.
        """
        words = caption.split()
        while True:
            start = " ".join(words).rstrip(" .")
            text = f"{start}. {prompt}" if start else prompt
            length = self.count(text)
            if length <= self.max_length:
                return text
            if not words:
                raise ValueError(
                    f"prompt.max_length={self.max_length} has no room for the prompt {prompt!r} "
                    f"({length}); raise it, or choose a shorter template."
                )
            words.pop()
