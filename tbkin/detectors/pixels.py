"""Region features that need no download: the region's own pixels (*ours*).

The model's small patch encoder learns what to see in them.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

SIDE = 8


def open_picture(path: str | Path) -> Image.Image:
    """A picture in RGB, fully decoded, upright as its EXIF orientation says.

    Raises:
        FileNotFoundError, ValueError: it is missing, or Pillow cannot read it.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"no picture {path}; check the path or the image folder.")
    try:
        with Image.open(path) as file:
            return ImageOps.exif_transpose(file).convert("RGB")
    except (UnidentifiedImageError, OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path} is not a readable picture ({error}); copy it again.") from error


def pixel_features(image: Image.Image, boxes: Tensor, side: int = SIDE) -> Tensor:
    """Each region's crop, resized to ``side`` x ``side``.

    Args:
        image: RGB.
        boxes: (R, 4) xyxy pixels inside the picture.
        side: pixels a side of what the crop is resized to.

    Returns:
        (R, 3 * side * side) float32 in [0, 1]; channel, row, column from slow to fast.
    """
    crops = []
    for left, top, right, bottom in boxes.tolist():
        # A box thinner than a pixel still has a colour.
        left, top = min(left, image.width - 1), min(top, image.height - 1)
        box = (left, top, max(right, left + 1), max(bottom, top + 1))
        crops.append(np.asarray(image.resize((side, side), Image.Resampling.BOX, box=box)))
    if not crops:
        return torch.zeros(0, 3 * side * side)
    stacked = torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2)
    return stacked.reshape(len(crops), -1).float() / 255
