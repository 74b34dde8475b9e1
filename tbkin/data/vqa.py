"""Visual question answering: prepared questions -> examples."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tbkin.answers import answer_frequencies, soft_targets
from tbkin.data import picture_texts
from tbkin.data.picture_texts import PictureTexts
from tbkin.data.processing_tbkin import Example, TBKINProcessor


class VQADataset(PictureTexts):
    """Questions of one split with the regions of their pictures."""

    column = "question"
    step = "vqa"

    def labels_of(self, row: dict[str, Any], example: Example) -> Example:
        """``question_id``; where people answered, soft scores and frequencies of their answers."""
        labels: Example = {"question_id": row["question_id"]}
        if "answers" in row:
            labels["answer_scores"] = self._known(soft_targets(row["answers"]))
            labels["answer_frequencies"] = self._known(answer_frequencies(row["answers"]))
        return labels

    def _known(self, values: dict[str, float]) -> dict[int, float]:
        """The values above 0 of the answers that the model knows, by the place of their logits."""
        return {
            self.index[answer]: value
            for answer, value in values.items()
            if value > 0 and answer in self.index
        }

    def questions(self) -> dict[int, dict[str, Any]]:
        """Question id -> its row, for the metric."""
        return {row["question_id"]: row for row in self.rows}


def read_answers(root: Path) -> list[str]:
    """The answer vocabulary of a prepared folder."""
    return json.loads((root / "answers.json").read_text(encoding="utf-8"))


def build_processor(root: Path, split: str, parser: str = "auto") -> TBKINProcessor:
    """A processor whose words are those of a split's questions and of the detector."""
    return picture_texts.build_processor(root, split, parser, VQADataset.column)
