"""Referring expressions: prepared expressions -> examples."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tbkin.boxes import normalize_boxes
from tbkin.data import picture_texts
from tbkin.data.picture_texts import PictureTexts
from tbkin.data.processing_tbkin import Example, TBKINProcessor
from tbkin.objectives.grounding import grounding_labels


class RefCOCODataset(PictureTexts):
    """Expressions of one split, the candidates of their pictures, and which of them is meant.

    Labels are ROSITA's, see :func:`~tbkin.objectives.grounding.grounding_labels`.
    """

    column = "expression"
    step = "refcoco"

    def labels_of(self, row: dict[str, Any], example: Example) -> Example:
        """``sentence_id``, ``target_box``, and the labels of the regions."""
        width, height = example["picture_size"].tolist()
        target = torch.tensor(row["box"], dtype=torch.float32)
        boxes = example["region_boxes"] * torch.tensor([width, height] * 2)
        found = grounding_labels(boxes, target, torch.ones(len(boxes)))
        return {
            "sentence_id": row["sentence_id"],
            "target_box": normalize_boxes(target[None], width, height)[0],
            "rank_labels": found.rank_labels,
            "box_labels": found.box_labels,
            "box_label_mask": found.box_label_mask,
        }

    def expressions(self) -> dict[int, dict[str, Any]]:
        """Sentence id -> its row, for the metric."""
        return {row["sentence_id"]: row for row in self.rows}

    def candidates(self) -> dict[int, Tensor]:
        """Image id -> (R, 4) xyxy pixels of the regions that the model chooses among."""
        boxes = {}
        for image_id in sorted({row["image_id"] for row in self.rows}):
            seen, _ = self._picture(image_id)
            boxes[image_id] = seen["region_boxes"] * seen["picture_size"].repeat(2)
        return boxes


def build_processor(root: Path, split: str, parser: str = "auto") -> TBKINProcessor:
    """A processor whose words are those of a split's expressions and of the detector."""
    return picture_texts.build_processor(root, split, parser, RefCOCODataset.column)
