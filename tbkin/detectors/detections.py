"""Boxes that a detector wrote to a file of its own: candidates of the grounding literature.

==================== =========================================================================
file                 content
==================== =========================================================================
COCO results         list of ``{image_id, bbox, score, category_id}``
MAttNet's            list of ``{det_id, image_id, box, score, category_id, category_name}``, as
                     ``res101_coco_minus_refer_notime_dets.json``; also inside ``{"dets": […]}``
ALBEF's, X-VLM's     ``{"<image_id>": [[x, y, w, h, …], …]}`` (``dets.json``)
==================== =========================================================================

Boxes are xywh pixels everywhere. Layouts: MAttNet (github.com/lichengunc/MAttNet), ALBEF
(github.com/salesforce/ALBEF, ``dataset/utils.py``).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tbkin.detectors.annotated import AnnotatedBoxes
from tbkin.detectors.coco_labels import COCO_LABELS

# Ids of instances_*.json run from 1 to 90; ten of them were never annotated.
UNUSED_IDS = {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}
COCO_CATEGORIES = dict(
    zip((number for number in range(1, 91) if number not in UNUSED_IDS), COCO_LABELS, strict=True)
)
UNNAMED = -1  # category of a box whose class the file does not tell


class Detections(AnnotatedBoxes):
    """Regions from files of detections, found by the number that a picture's name ends in.

    A box is called what the file calls it, else by its COCO category; otherwise its label is "".
    What ALBEF's lists hold behind x, y, w, h is left alone: its score is 1.

    Args:
        files: one or more of the layouts above.

    Raises:
        FileNotFoundError, ValueError: a file that is missing or of none of these layouts.
        LookupError: when called for a picture in which the files have no box.
    """

    def _read(self, path: Path) -> None:
        if not path.is_file():
            raise FileNotFoundError(f"no detections {path}.")
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{path} is not JSON ({error}); copy it again.") from error
        if isinstance(content, dict) and isinstance(content.get("dets"), list):
            content = content["dets"]
        if not self.categories:
            self.categories = {**COCO_CATEGORIES, UNNAMED: ""}
            self._codes = {name: number for number, name in self.categories.items()}
        try:
            entries = _by_picture(content) if isinstance(content, dict) else list(content)
            for entry in entries:
                self._add(entry)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"{path} holds no detections ({error!r}): wanted a list of {{image_id, bbox or "
                "box, score}} or {image_id: [[x, y, w, h], …]}. A COCO file with images and "
                "annotations is read by detector=detected."
            ) from error

    def _add(self, entry: dict[str, Any]) -> None:
        number = int(entry["image_id"])
        x, y, width, height = entry["box"] if "box" in entry else entry["bbox"]
        name = entry.get("category_name")
        if name is None:
            code = entry.get("category_id", UNNAMED)
            code = code if code in COCO_CATEGORIES else UNNAMED
        else:
            code = self._codes.setdefault(name, 1000 + len(self._codes))  # beyond COCO's ids
            self.categories[code] = name
        self.images.setdefault(number, {"id": number})
        self.annotations.setdefault(number, []).append(
            {
                "bbox": [float(x), float(y), float(width), float(height)],
                "category_id": code,
                "score": float(entry.get("score", 1.0)),
            }
        )

    @property
    def policy(self) -> str:
        """How the boxes were chosen, for the fingerprint of a region store."""
        return "detections " + " ".join(path.name for path in self.files)


def _by_picture(content: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {"image_id": image_id, "box": box[:4]}
        for image_id, boxes in content.items()
        for box in boxes
    ]
