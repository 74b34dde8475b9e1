"""Which word pieces and regions a pre-training sample hides, and what stands in their place.

One side of a sample, drawn by :func:`draw_side`, is masked and scored; where the other side loses
nodes as well, they are hidden and nothing more. Three forms choose what is hidden:

- ``graph``: ROSITA's structural knowledge masking over both sides (``data/knowledge_matrix.py``);
- ``simple``: what ROSITA's released script runs, over the chosen side only;
- ``random``: each node of the chosen side with probability 0.15, for comparison.

Source: Cui et al., "ROSITA", ACM Multimedia 2021, arXiv:2108.07073; numbers from the pre-training
loaders of its code (``graph``: revision d2bd673; ``simple``: the last one).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from tbkin.config import choose
from tbkin.data.knowledge_graph import KnowledgeGraph, Pieces
from tbkin.data.knowledge_matrix import masking_probabilities

BASE = 0.15  # of every node of the chosen side
TEXT_ANCHOR = 0.5  # of each object word
IMAGE_ANCHOR = 0.9  # times the mean of a region's similarities
SPREAD = 0.3  # that a masked region takes its overlapping regions along
MASKED, REPLACED = 0.8, 0.1  # of the chosen nodes; the rest stay as they are


class Masks(NamedTuple):
    """What is hidden of a sample.

    Attributes:
        text: (W,) bool, word pieces.
        image: (R,) bool, regions.
        side: ``text`` or ``image``, the side whose masked nodes are scored.
    """

    text: np.ndarray
    image: np.ndarray
    side: str


def draw_side(generator: np.random.Generator) -> str:
    """``text`` or ``image``, each with probability 0.5."""
    return "text" if generator.random() < 0.5 else "image"


def draw_masks(
    graph: KnowledgeGraph, side: str, form: str, generator: np.random.Generator
) -> Masks:
    """Draw what is hidden; the same state of the generator gives the same masks.

    Nothing may be drawn at all; then nothing is hidden and nothing scored, as in ROSITA.

    Args:
        graph: pieces, regions and what joins them.
        side: ``text`` or ``image``, from :func:`draw_side`.
        form: ``graph``, ``simple`` or ``random``.
        generator: the only source of chance.

    Raises:
        ValueError: an unknown side or form.
    """
    draw = choose(choose(FORMS, form, "form of masking"), side, "side to mask")
    text, image = draw(graph, generator)
    return Masks(text, image, side)


def image_anchor_probabilities(graph: KnowledgeGraph) -> np.ndarray:
    """(R,) 0.9 times the mean of each region's similarities above 0; 0 where it has none."""
    counts = (graph.links > 0).sum(axis=0)
    return IMAGE_ANCHOR * graph.links.sum(axis=0) / np.maximum(counts, 1)


def corrupt_tokens(
    token_ids: Sequence[int],
    mask: np.ndarray,
    mask_token: int,
    replacements: np.ndarray,
    generator: np.random.Generator,
) -> np.ndarray:
    """Masked tokens become the mask token (80 %), a random token (10 %) or stay (10 %).

    Args:
        token_ids: (L,).
        mask: (L,) bool; false for start and end token.
        mask_token: what hides a token.
        replacements: random tokens are drawn from these, see :func:`ordinary_tokens`.
        generator: the only source of chance.

    Returns:
        (L,) int64, a copy.

    Raises:
        ValueError: lengths that differ, no token to draw from.
    """
    corrupted = np.array(token_ids, dtype=np.int64)
    hidden, replaced = _fates(mask, len(corrupted), generator)
    if not len(replacements):
        raise ValueError("there is no token to replace others with; the tokenizer has no words.")
    corrupted[hidden] = mask_token
    corrupted[replaced] = generator.choice(replacements, size=int(replaced.sum()))
    return corrupted


def ordinary_tokens(tokenizer: PreTrainedTokenizerBase) -> np.ndarray:
    """(V',) the ids of a vocabulary that are no special tokens, ascending."""
    special = set(tokenizer.all_special_ids)
    return np.array(
        [code for code in sorted(tokenizer.get_vocab().values()) if code not in special]
    )


def corrupt_regions(
    features: Tensor,
    mask: np.ndarray,
    draw_region: Callable[[np.random.Generator], Tensor],
    generator: np.random.Generator,
) -> Tensor:
    """Masked regions get a feature of zeros (80 %), that of another region (10 %) or stay (10 %).

    Boxes are not touched: they tell the model which region to predict.

    Args:
        features: (R, F).
        mask: (R,) bool.
        draw_region: the feature (F,) of a random region of a random picture.
        generator: the only source of chance.

    Returns:
        (R, F), a copy.

    Raises:
        ValueError: lengths that differ.
    """
    corrupted = features.clone()
    hidden, replaced = _fates(mask, len(corrupted), generator)
    corrupted[torch.from_numpy(hidden)] = 0
    for region in np.flatnonzero(replaced):
        corrupted[region] = draw_region(generator)
    return corrupted


Drawn = tuple[np.ndarray, np.ndarray]


def _graph_text(graph: KnowledgeGraph, generator: np.random.Generator) -> Drawn:
    base = _at_random(len(graph.links), generator)
    anchors = np.flatnonzero(generator.random(len(graph.object_words)) < TEXT_ANCHOR)
    text, image = _draw_nodes(graph, "text", anchors, generator)
    return base | text, image


def _graph_image(graph: KnowledgeGraph, generator: np.random.Generator) -> Drawn:
    base = _at_random(len(graph.regions), generator)
    base |= _overlapping(graph, base, generator)
    anchors = np.flatnonzero(_drawn(image_anchor_probabilities(graph), generator))
    text, image = _draw_nodes(graph, "image", anchors, generator)
    return text, base | image


def _simple_text(graph: KnowledgeGraph, generator: np.random.Generator) -> Drawn:
    text = _at_random(len(graph.links), generator)
    chances: dict[Pieces, float] = {}  # of whole words; the maximum over the anchors
    for word in graph.object_words:
        if generator.random() < TEXT_ANCHOR:
            text[list(word.pieces)] = True
            for pieces, weight in word.neighbours:
                chances[pieces] = max(chances.get(pieces, 0.0), weight)
    for pieces, chance in chances.items():
        text[list(pieces)] |= generator.random() < chance
    return text, _none(len(graph.regions))


def _simple_image(graph: KnowledgeGraph, generator: np.random.Generator) -> Drawn:
    image = _none(len(graph.regions))
    for chances in (np.full(len(graph.regions), BASE), image_anchor_probabilities(graph)):
        centres = _drawn(chances, generator)
        image |= centres | _overlapping(graph, centres, generator)
    return _none(len(graph.links)), image


def _random_text(graph: KnowledgeGraph, generator: np.random.Generator) -> Drawn:
    return _at_random(len(graph.links), generator), _none(len(graph.regions))


def _random_image(graph: KnowledgeGraph, generator: np.random.Generator) -> Drawn:
    return _none(len(graph.links)), _at_random(len(graph.regions), generator)


FORMS = {
    "graph": {"text": _graph_text, "image": _graph_image},
    "simple": {"text": _simple_text, "image": _simple_image},
    "random": {"text": _random_text, "image": _random_image},
}


def _draw_nodes(
    graph: KnowledgeGraph, side: str, anchors: Sequence[int], generator: np.random.Generator
) -> Drawn:
    text, image = masking_probabilities(graph, side, anchors)
    return _drawn(text, generator), _drawn(image, generator)


def _overlapping(
    graph: KnowledgeGraph, centres: np.ndarray, generator: np.random.Generator
) -> np.ndarray:
    """The regions that overlap a centre; a centre takes all of its own along, or none."""
    spreading = centres & (generator.random(len(centres)) < SPREAD)
    return (graph.regions[spreading] > 0).any(axis=0)


def _fates(
    mask: np.ndarray, count: int, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Which of ``count`` nodes are hidden, and which replaced; both (N,) bool."""
    if mask.shape != (count,):
        raise ValueError(f"a mask of shape {mask.shape} for {count} tokens or regions.")
    fate = generator.random(count)
    return mask & (fate < MASKED), mask & (fate >= MASKED) & (fate < MASKED + REPLACED)


def _at_random(count: int, generator: np.random.Generator) -> np.ndarray:
    return generator.random(count) < BASE


def _drawn(chances: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    return generator.random(len(chances)) < chances


def _none(count: int) -> np.ndarray:
    return np.zeros(count, dtype=bool)
