"""A plain grid of cells: regions of any picture, without a detector."""

from __future__ import annotations

import torch
from PIL import Image

from tbkin.graphs.regions import Regions


class Grid:
    """Cut a picture into ``rows`` x ``columns`` cells, row by row; they have no labels.

    Args:
        rows, columns: at least 1 each.
    """

    def __init__(self, rows: int = 6, columns: int = 6):
        if rows < 1 or columns < 1:
            raise ValueError(f"a grid needs at least 1 x 1 cells, got {rows} x {columns}.")
        self.rows, self.columns = rows, columns

    def __call__(self, image: Image.Image, image_id: str = "") -> Regions:
        """All cells of one picture."""
        width, height = image.size
        x = torch.linspace(0, width, self.columns + 1)
        y = torch.linspace(0, height, self.rows + 1)
        boxes = [
            torch.stack([x[column], y[row], x[column + 1], y[row + 1]])
            for row in range(self.rows)
            for column in range(self.columns)
        ]
        count = len(boxes)
        return Regions(
            boxes=torch.stack(boxes),
            width=width,
            height=height,
            labels=[""] * count,
            scores=[1.0] * count,
            attributes=[[] for _ in boxes],
            image_id=image_id,
        )

    extractor = weights = ""  # brings no features

    @property
    def policy(self) -> str:
        """How the boxes were chosen, for the fingerprint of a region store."""
        return f"grid {self.rows}x{self.columns}"
