"""What CUSA's, DSSLP's and VSE's own code computed (shared/reference/cusa_values.json), if there.

Everything below is float64; values are checked against the file's eight decimals.
"""

import json
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

FILE = Path(__file__).resolve().parents[3] / "shared/reference/cusa_values.json"


class Reference:
    """The file's inputs as tensors, and its expected values by group."""

    def __init__(self):
        record = json.loads(FILE.read_text(encoding="utf-8"))
        self.expected = record["expected"]
        self.inputs = record["inputs"]
        self.ids = torch.tensor(self.inputs["ids"])
        self.image, self.text = self.rows("image"), self.rows("text")
        self.scores = F.normalize(self.image) @ F.normalize(self.text).T
        self.image_scores, self.text_scores = own(self.image), own(self.text)
        self.image_teacher = own(self.rows("teacher_image"))
        self.text_teacher = own(self.rows("teacher_text"))

    def rows(self, name):
        return torch.tensor(self.inputs[name], dtype=torch.float64)

    def head(self, name, features):
        """LayerNorm, then the linear map; unit rows."""
        weight, bias = (
            torch.tensor(self.inputs[part][name], dtype=torch.float64)
            for part in ("head_weight", "head_bias")
        )
        return F.normalize(F.linear(F.layer_norm(features, features.shape[1:]), weight, bias))


def own(rows):
    rows = F.normalize(rows)
    return rows @ rows.T


def load():
    """The reference, or a skip that says what is missing."""
    if not FILE.is_file():
        pytest.skip(f"no reference values in {FILE}")
    return Reference()


def near(expected):
    return pytest.approx(expected, rel=5e-8, abs=2e-7)
