"""Grounding accuracy: does the predicted box overlap the annotated one well enough?

One decision a sentence, not one a thing (RefCOCO has about three sentences a thing). Peers count
differently, so every result here says which form of the IoU and which comparison it was made with:

================ ========================================================= ======================
``plain``        float boxes, width = right - left                         most peers; our default
``plus_one``     the right and bottom pixel belong to the box              ROSITA
``integer_gold`` plain, the annotation's x, y, width and height cut to     TransVG
                 whole numbers *before* corners are made
================ ========================================================= ======================

``ge`` counts an IoU of exactly the threshold as right (all peers but UNITER), ``gt`` does not
(UNITER). Two more forms are not offered: MAttNet's (also ALBEF's and X-VLM's) is the plain one but
for overlaps of one pixel or less in width or height, which it takes for none and which reach 0.5 on
no box of more than two pixels; MDETR compares the generalised IoU, which is stricter.

Annotations are held as xyxy, that is x, y, x + width, y + height, in double precision.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tbkin.boxes import (
    clip_boxes,
    decode_boxes,
    paired_box_iou,
    with_last_pixel,
    xywh_to_xyxy,
    xyxy_to_xywh,
)
from tbkin.config import choose
from tbkin.metrics.vqa_accuracy import few

THRESHOLDS = (0.5, 0.7)
LENGTHS = {"1-2": 2, "3-5": 5, "6-10": 10, "> 10": sys.maxsize}  # words, name -> at most
SIZE_SLACK = 1e-3
"""Added to a size that is cut to whole pixels: COCO's boxes have two decimals, and the difference
of two sums, even in single precision, may fall short of a whole number by less than this."""


class GroundingAccuracy:
    """Grounding accuracy over a split, collected batch by batch.

    Boxes are kept by sentence id, so an example that padding repeats counts once; the last stays.

    Args:
        expressions: every sentence of the split: id -> ``{"box": xyxy pixels, …}``.
        iou: one of ``IOUS``.
        comparison: one of ``COMPARISONS``.
        regress: whether the chosen region is moved as the model says; without, it is the answer.
    """

    def __init__(
        self,
        expressions: Mapping[int, Mapping[str, Any]],
        iou: str = "plain",
        comparison: str = "ge",
        regress: bool = True,
    ):
        choose(IOUS, iou, "iou")
        choose(COMPARISONS, comparison, "comparison")
        self.expressions = expressions
        self.iou, self.comparison, self.regress = iou, comparison, regress
        self.predictions: dict[int, list[float]] = {}

    def rows(self, outputs: Any, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """What crosses processes, for :meth:`update`.

        Args:
            outputs: as :func:`predicted_boxes` reads them.
            batch: likewise, and ``sentence_ids`` (B,), negative for what is no expression.
        """
        boxes = predicted_boxes(outputs, batch, self.regress)
        return {"boxes": boxes, "sentence_ids": batch["sentence_ids"]}

    def update(self, rows: Mapping[str, Tensor]) -> None:
        """Note the boxes of a batch.

        Args:
            rows: of :meth:`rows`.
        """
        for sentence, box in zip(
            rows["sentence_ids"].tolist(), rows["boxes"].tolist(), strict=True
        ):
            if sentence >= 0:
                self.predictions[sentence] = box

    def compute(self) -> dict[str, float]:
        """Shares in [0, 1]; every sentence must have a box.

        Returns:
            ``grounding_accuracy`` (at an IoU of 0.5), ``accuracy@0.7``, ``mean_iou``.
        """
        result = score_boxes(self.predictions, self.expressions, self.iou, self.comparison)
        return {
            "grounding_accuracy": result["accuracy@0.5"],
            "accuracy@0.7": result["accuracy@0.7"],
            "mean_iou": result["mean_iou"],
        }


@torch.no_grad()
def predicted_boxes(outputs: Any, batch: Mapping[str, Any], regress: bool = True) -> Tensor:
    """The box that a grounding model says each expression of a batch means.

    The best region, moved by its deltas. :func:`~tbkin.boxes.decode_boxes` leaves right and bottom
    one pixel further than the training targets had them, as ROSITA does; that pixel is taken off
    again here (*ours*), so that a model without error has an IoU of 1 in every form.

    Args:
        outputs: reads ``box_logits`` (B, R) and ``box_deltas`` (B, R, 4); or ``direct_boxes``
            (B, 4), normalised xyxy, where the model has no others.
        batch: reads ``region_boxes`` (B, R, 4) normalised xyxy, ``region_mask`` (B, R) and
            ``picture_sizes`` (B, 2), width and height in pixels.
        regress: False leaves the best region where it is; direct boxes have none.

    Returns:
        (B, 4) float32 xyxy pixels within the picture; 0 where a picture has no region to choose.
    """
    sizes = batch["picture_sizes"].float().repeat(1, 2)
    if outputs.box_logits is None:
        return clip_boxes(outputs.direct_boxes.float(), 1, 1) * sizes
    mask = batch["region_mask"].bool()
    if not mask.any():  # nothing to choose in any picture
        return torch.zeros_like(sizes)
    best = outputs.box_logits.masked_fill(~mask, -torch.inf).argmax(dim=1)
    row = torch.arange(len(best), device=best.device)
    boxes = batch["region_boxes"][row, best].float()
    if regress:
        moved = decode_boxes(outputs.box_deltas[row, best].float(), boxes * sizes)
        corner, opposite = moved.split(2, dim=1)
        boxes = torch.cat([corner, torch.maximum(opposite - 1, corner)], dim=1) / sizes
    return clip_boxes(boxes, 1, 1) * sizes * mask.any(dim=1, keepdim=True)


def score_boxes(
    predictions: Mapping[int, Any],
    gold: Mapping[int, Mapping[str, Any]],
    iou: str = "plain",
    comparison: str = "ge",
) -> dict[str, Any]:
    """Score one box for every sentence.

    Args:
        predictions: sentence id -> four numbers, xyxy pixels, for exactly the ids of ``gold``.
        gold: sentence id -> ``{"box": xyxy pixels}``, and ``expression`` and ``category`` where
            they are known.
        iou: one of ``IOUS``.
        comparison: one of ``COMPARISONS``.

    Returns:
        ``accuracy@0.5``, ``accuracy@0.7`` and ``mean_iou``, shares in [0, 1], ``sentences``, how
        many there are, ``iou`` and ``comparison``; the first four again under
        ``per_length["1-2"]`` … (words of the expression, split at white space) and under
        ``per_category[name]``, both empty where no row has what they need.

    Raises:
        ValueError: ids that differ, or what is no box; it is named.
    """
    _check_ids(predictions, gold)
    overlaps = choose(IOUS, iou, "iou")(
        box_table({sentence: predictions[sentence] for sentence in gold}, "predicted"),
        box_table({sentence: row["box"] for sentence, row in gold.items()}, "annotated"),
    )
    lengths, categories = defaultdict(list), defaultdict(list)
    for place, row in enumerate(gold.values()):
        if "expression" in row:
            lengths[_length(row["expression"])].append(place)
        if row.get("category"):
            categories[row["category"]].append(place)
    return {
        **figures(overlaps, comparison),
        "iou": iou,
        "comparison": comparison,
        "per_length": {
            name: figures(overlaps[lengths[name]], comparison) for name in LENGTHS if lengths[name]
        },
        "per_category": {
            name: figures(overlaps[categories[name]], comparison) for name in sorted(categories)
        },
    }


def figures(overlaps: Tensor, comparison: str = "ge") -> dict[str, Any]:
    """What is said of a group of sentences.

    Args:
        overlaps: (N,) IoUs, N > 0.
        comparison: one of ``COMPARISONS``.

    Returns:
        ``accuracy@0.5``, ``accuracy@0.7``, ``mean_iou`` in [0, 1], and ``sentences``, N.
    """
    passes = choose(COMPARISONS, comparison, "comparison")
    shares = {f"accuracy@{limit}": passes(overlaps, limit).double() for limit in THRESHOLDS}
    return {
        **{name: values.mean().item() for name, values in shares.items()},
        "mean_iou": overlaps.mean().item(),
        "sentences": len(overlaps),
    }


def box_table(boxes: Mapping[int, Any], kind: str) -> Tensor:
    """Boxes as one table, in double precision.

    Args:
        boxes: sentence id -> four numbers, xyxy pixels.
        kind: "predicted" or "annotated", for messages.

    Returns:
        (N, 4) float64, in the order of ``boxes``.

    Raises:
        ValueError: what is no box; its sentence is named.
    """
    for sentence, box in boxes.items():
        if not (isinstance(box, list | tuple) and len(box) == 4 and all(map(_is_number, box))):
            raise ValueError(
                f"the {kind} box of sentence {sentence} must be four finite numbers, left, top, "
                f"right, bottom in pixels; got {str(box)[:60]}."
            )
        if box[2] < box[0] or box[3] < box[1]:
            raise ValueError(
                f"the {kind} box of sentence {sentence} ends before it starts "
                f"({', '.join(f'{value:g}' for value in box)}); boxes are left, top, right, bottom "
                "in pixels, not left, top, width, height."
            )
    return torch.from_numpy(np.array(list(boxes.values()), dtype=np.float64).reshape(-1, 4))


def _is_number(value: Any) -> bool:
    """A finite number, and one of pixels: areas must be finite too."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e9


def _plain(boxes: Tensor, annotated: Tensor) -> Tensor:
    return paired_box_iou(boxes, annotated)


def _plus_one(boxes: Tensor, annotated: Tensor) -> Tensor:
    return paired_box_iou(with_last_pixel(boxes), with_last_pixel(annotated))


def _integer_gold(boxes: Tensor, annotated: Tensor) -> Tensor:
    corner, size = xyxy_to_xywh(annotated).split(2, dim=-1)
    cut = torch.cat([corner.trunc(), (size + SIZE_SLACK).trunc()], dim=-1)
    return paired_box_iou(boxes, xywh_to_xyxy(cut))


# (…, 4) predicted and (…, 4) annotated boxes -> (…) IoUs; shapes are broadcast
IOUS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "plain": _plain,
    "plus_one": _plus_one,
    "integer_gold": _integer_gold,
}
COMPARISONS: dict[str, Callable[[Tensor, float], Tensor]] = {"ge": torch.ge, "gt": torch.gt}


def _length(expression: str) -> str:
    words = len(expression.split())
    return next(name for name, most in LENGTHS.items() if words <= most)


def _check_ids(predictions: Mapping[int, Any], gold: Mapping[int, Any]) -> None:
    """Every sentence needs one box, and every box one sentence."""
    if not gold:
        raise ValueError("there are no sentences to score.")
    missing = [sentence for sentence in gold if sentence not in predictions]
    unknown = [sentence for sentence in predictions if sentence not in gold]
    complaints = []
    if missing:
        complaints.append(
            f"{len(missing)} of {len(gold)} sentences have no box{few(sorted(missing))}"
        )
    if unknown:
        complaints.append(f"{len(unknown)} boxes are of unknown sentences{few(sorted(unknown))}")
    if complaints:
        raise ValueError(
            f"{' and '.join(complaints)}; give one box for every sentence of the split, no other."
        )
