"""What a transformers detector returns for its queries, in the toolkit's terms.

DETR and its descendants return one class distribution and one box a query; families differ in how
the scores are meant and in how the encoder's map is laid out. Pure functions, one picture each.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

STRIDES = (4, 8, 16, 32, 64)
NO_MAP = "take features from detector.source=decoder (the queries' own states) or pixels"


def class_scores(logits: Tensor, classes: int) -> Tensor:
    """Scores in [0, 1] of every class for every query.

    Args:
        logits: (Q, classes) of networks trained with a sigmoid a class (RT-DETR, D-FINE,
            deformable and conditional DETR), or (Q, classes + 1) with "no object" last, trained
            with a softmax (DETR, YOLOS).
        classes: how many names the network has.

    Returns:
        (Q, classes).
    """
    if logits.shape[-1] == classes:
        return logits.sigmoid()
    if logits.shape[-1] == classes + 1:
        return logits.softmax(dim=-1)[:, :-1]
    raise ValueError(
        f"the detector scores {logits.shape[-1]} classes but its config.json names {classes}; "
        "id2label must have one name a class."
    )


def query_boxes(boxes: Tensor, width: int, height: int) -> Tensor:
    """(Q, 4) centre x, centre y, width, height as shares of the picture -> xyxy pixels."""
    centre, half = boxes[:, :2], boxes[:, 2:] / 2
    corners = torch.cat([centre - half, centre + half], dim=1)
    return corners * boxes.new_tensor([width, height, width, height])


def query_states(outputs: Any, queries: int) -> Tensor:
    """The decoder's last hidden state, (Q, D).

    YOLOS has one sequence for patches and queries; its queries are the last.
    """
    states = outputs.last_hidden_state
    if states is None or states.shape[1] < queries:
        raise ValueError(
            "this detector does not return its decoder's states; take features from "
            "detector.source=pixels."
        )
    return states[0, -queries:]


def finest_map(outputs: Any, size: tuple[int, int], queries: int, config: Any) -> Tensor:
    """The encoder's map with the smallest stride, (C, H, W).

    RT-DETR and D-FINE return a list of maps; the others return one sequence of cells, row by row
    and level by level, whose shape follows from the size of the input and from its length.

    Args:
        outputs: of the detector, one picture.
        size: height and width of the network's input in pixels.
        queries: how many queries there are (YOLOS: tokens at the end that are no cells).
        config: of the detector.
    """
    encoded = getattr(outputs, "encoder_last_hidden_state", None)
    if encoded is None:
        encoded = getattr(outputs, "encoder_last_hidden_state_vision", None)
    if isinstance(encoded, list | tuple):
        return encoded[0][0]
    height, width = size
    if getattr(config, "model_type", "") == "yolos":
        patch = config.patch_size
        rows, columns = height // patch, width // patch
        cells = outputs.last_hidden_state[0, 1:-queries]  # the first token is the class token
    elif isinstance(encoded, Tensor) and encoded.ndim == 4:
        return encoded[0]
    elif isinstance(encoded, Tensor):
        cells = encoded[0]
        rows, columns = _first_level(len(cells), height, width)
    else:
        raise ValueError(f"this detector returns no encoder map to pool; {NO_MAP}.")
    if len(cells) < rows * columns:
        raise ValueError(f"the encoder returns {len(cells)} cells, no whole map; {NO_MAP}.")
    return cells[: rows * columns].T.reshape(-1, rows, columns)


def cells_a_pixel(found: Tensor, height: int, width: int) -> tuple[float, float]:
    """How many columns and rows of a map (C, H, W) a pixel of the network's input is.

    One over the stride, if there is one that explains both sides: the outermost cells of an input
    that is no multiple of it lie partly beyond its edge.
    """
    rows, columns = found.shape[1:]
    for stride in STRIDES:
        if (-(-height // stride), -(-width // stride)) == (rows, columns):
            return 1 / stride, 1 / stride
    return columns / width, rows / height


def _first_level(cells: int, height: int, width: int) -> tuple[int, int]:
    """Rows and columns of the first of some maps, each of half the size of the one before."""
    for stride in STRIDES:
        first = rows, columns = -(-height // stride), -(-width // stride)
        total = rows * columns
        while total < cells and (rows > 1 or columns > 1):
            rows, columns = -(-rows // 2), -(-columns // 2)
            total += rows * columns
        if total == cells:
            return first
    raise ValueError(
        f"cannot tell the shape of the encoder's map: {cells} cells for an input of {width} x "
        f"{height} pixels; {NO_MAP}."
    )
