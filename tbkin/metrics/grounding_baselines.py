"""What the candidate boxes alone decide: the best that can be reached, and what chance reaches."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from tbkin.config import choose
from tbkin.metrics.grounding_accuracy import COMPARISONS, IOUS, THRESHOLDS, box_table, figures


def candidate_figures(
    candidates: Mapping[int, Tensor],
    gold: Mapping[int, Mapping[str, Any]],
    iou: str = "plain",
    comparison: str = "ge",
) -> dict[str, dict[str, Any]]:
    """Three ways to choose a candidate without reading the sentence.

    Args:
        candidates: image id -> (R, 4) xyxy pixels; a picture may have none, which counts as wrong.
        gold: sentence id -> ``{"image_id", "box"}``, xyxy pixels.
        iou: one of ``grounding_accuracy.IOUS``.
        comparison: one of ``grounding_accuracy.COMPARISONS``.

    Returns:
        ``accuracy@0.5``, ``accuracy@0.7``, ``mean_iou`` in [0, 1] and ``sentences`` each:

        * ``oracle``: the candidate that covers the thing best. Its accuracy is the *oracle recall*
          of the candidates, above which no choice among them gets.
        * ``random``: the expected value of drawing any candidate of the picture; nothing is drawn.
        * ``largest``: the largest candidate of the picture, the first of several.

    Raises:
        LookupError: a picture without an entry.
        ValueError: no sentence, or an annotated box that is none.
    """
    measure, passes = choose(IOUS, iou, "iou"), choose(COMPARISONS, comparison, "comparison")
    if not gold:
        raise ValueError("there are no sentences to score.")
    boxes = box_table({sentence: row["box"] for sentence, row in gold.items()}, "annotated")
    sentences = defaultdict(list)  # of a picture, by place
    for place, row in enumerate(gold.values()):
        sentences[row["image_id"]].append(place)
    best, largest = torch.zeros(2, len(boxes), dtype=torch.float64)
    expected = torch.zeros(len(boxes), 1 + len(THRESHOLDS), dtype=torch.float64)
    for image, places in sentences.items():
        if image not in candidates:
            raise LookupError(f"there are no candidate boxes of image {image}.")
        rivals = candidates[image].double()
        if not len(rivals):
            continue
        overlaps = measure(rivals, boxes[places][:, None])  # (sentences, R)
        best[places] = overlaps.amax(dim=1)
        size = rivals[:, 2:] - rivals[:, :2]
        largest[places] = overlaps[:, size.prod(dim=1).argmax()]
        drawn = [overlaps, *(passes(overlaps, limit).double() for limit in THRESHOLDS)]
        expected[places] = torch.stack([values.mean(dim=1) for values in drawn], dim=1)
    mean_iou, *shares = expected.mean(dim=0).tolist()
    names = [f"accuracy@{limit}" for limit in THRESHOLDS]
    return {
        "oracle": figures(best, comparison),
        "random": {
            **dict(zip(names, shares, strict=True)),
            "mean_iou": mean_iou,
            "sentences": len(boxes),
        },
        "largest": figures(largest, comparison),
    }
