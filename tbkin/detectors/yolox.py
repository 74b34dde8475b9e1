"""Objects by a YOLOX network in an ONNX file: no torch model, one core, milliseconds a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from tbkin.boxes import clip_boxes, nms
from tbkin.detectors.coco_labels import COCO_LABELS
from tbkin.detectors.roi import BINS, SAMPLES, roi_pool
from tbkin.files import file_hash
from tbkin.graphs.regions import Regions

STRIDES = (8, 16, 32)
PADDING = 114  # the grey that YOLOX was trained with around a picture
FEATURE_STRIDE = 16
CANDIDATES = 1000  # the best so many boxes compete in NMS (*ours*; the tail costs time, not AP)
INSTALL = "install them with: pip install 'tbkin[onnx]'"


class OnnxDetector:
    """A YOLOX detector (Ge et al., "YOLOX", 2021, arXiv:2107.08430) run by onnxruntime.

    The network takes ``1x3xHxW``, BGR, 0 to 255, the picture scaled into the top left corner and
    the rest 114. It returns ``1xNx(5 + classes)``, one row a cell of strides 8, 16 and 32: centre
    and logarithm of the size in cells, objectness, and a score a class, both after their sigmoid.
    Each cell names its best class; its score is objectness times class score.

    Region features come from the network too: its widest map of stride 16 (where coarse and fine
    features meet before the head) is pooled over each box.

    Args:
        model: the ONNX file.
        threshold: least score of a region, in [0, 1].
        nms: IoU in [0, 1] above which the weaker of two boxes of one class goes.
        max_regions: at most so many regions a picture, the best.
        labels: the names of the classes, in the network's order.
        features: "auto", "none", or the name of a graph tensor (1, C, h, w) to pool.
        threads: of onnxruntime.

    Raises:
        FileNotFoundError, ImportError: the file or onnxruntime is missing.
        ValueError: a setting out of range, or a network of another layout.
    """

    def __init__(
        self,
        model: str | Path,
        threshold: float = 0.35,
        nms: float = 0.45,
        max_regions: int = 36,
        labels: Sequence[str] = COCO_LABELS,
        features: str = "auto",
        threads: int = 1,
    ):
        self.path = Path(model)
        if not self.path.is_file():
            raise FileNotFoundError(f"no ONNX detector {self.path}; check detector.model.")
        for name, value in (("threshold", threshold), ("nms", nms)):
            if not 0 <= value <= 1:
                raise ValueError(f"detector.{name} must be in [0, 1], got {value}.")
        if max_regions < 1:
            raise ValueError(f"detector.max_regions must be at least 1, got {max_regions}.")
        self.threshold, self.nms, self.max_regions = threshold, nms, max_regions
        self.labels = list(labels)
        self.session = _session(self.path.read_bytes(), self.path, threads)
        self.input_name, self.width, self.height = self._check_layout()
        self.grid, self.strides = _cells(self.width, self.height)
        self._check_not_decoded()
        self.feature_name, self.feature_size = "", 0
        if features != "none":
            self._add_features(features, threads)
        self.weights = file_hash(self.path)

    def _check_layout(self) -> tuple[str, int, int]:
        """Name, width and height of the input, if the network is a YOLOX."""
        inputs, outputs = self.session.get_inputs(), self.session.get_outputs()
        found = "; ".join(
            f"{kind} {', '.join(f'{one.name} {_shape(one.shape)}' for one in values)}"
            for kind, values in (("input", inputs), ("output", outputs))
        )
        wanted = (
            f"{self.path} is not a YOLOX network: it has {found}. Wanted: one float input "
            "1x3xHxW of fixed size, multiples of 32, and one output 1xNx(5 + classes) with a row "
            "for every cell of strides 8, 16 and 32."
        )
        if len(inputs) != 1 or len(outputs) != 1 or inputs[0].type != "tensor(float)":
            raise ValueError(wanted)
        shape, result = inputs[0].shape, outputs[0].shape
        fixed = all(isinstance(size, int) for size in [*shape, *result])
        if len(shape) != 4 or len(result) != 3 or not fixed:
            raise ValueError(wanted)
        height, width = shape[2:]
        cells = sum((height // stride) * (width // stride) for stride in STRIDES)
        if shape[:2] != [1, 3] or height % 32 or width % 32 or result[:2] != [1, cells]:
            raise ValueError(wanted)
        if result[2] != 5 + len(self.labels):
            raise ValueError(
                f"{self.path} scores {result[2] - 5} classes, but there are {len(self.labels)} "
                "labels; give one name a class, in the network's order."
            )
        return inputs[0].name, width, height

    def _check_not_decoded(self) -> None:
        """Refuse exports whose boxes are pixels already: the shapes are the same."""
        grey = np.full((1, 3, self.height, self.width), PADDING, dtype=np.float32)
        rows = torch.from_numpy(self.session.run(None, {self.input_name: grey})[0][0])
        # Offsets in cells are small everywhere; as pixels, the centres of the cells in the lower
        # right corner (of stride 8) are near the size of the input.
        last = self.grid.sum(dim=1) >= (self.width + self.height) / STRIDES[0] - 4
        if rows[last, :2].mean() > max(self.width, self.height) / 4:
            raise ValueError(
                f"{self.path} returns boxes in pixels: it was exported with decoding. Export it "
                "again without (YOLOX: leave out --decode_in_inference)."
            )

    def _add_features(self, features: str, threads: int) -> None:
        """Make a map of the network a second output, in memory only."""
        try:
            import onnx
        except ImportError as error:
            raise ImportError(
                f"region features of an ONNX detector need onnx; {INSTALL}, or take "
                "features from detector.source=pixels."
            ) from error
        network = onnx.load(str(self.path))
        maps = _maps(onnx.shape_inference.infer_shapes(network))
        if features == "auto":
            features = self._widest(maps)
        if features not in maps:
            raise ValueError(
                f"{self.path} has no map {features!r} (1xCxhxw); among its maps are: "
                f"{', '.join(list(maps)[-8:]) or 'none'}."
            )
        self.feature_name, self.feature_size = features, maps[features][0]
        network.graph.output.append(
            onnx.helper.make_tensor_value_info(
                features, onnx.TensorProto.FLOAT, [1, *maps[features]]
            )
        )
        self.session = _session(network.SerializeToString(), self.path, threads)

    def _widest(self, maps: dict[str, tuple[int, int, int]]) -> str:
        """The map of stride 16 with the most channels; of equals the last."""
        size = (self.height // FEATURE_STRIDE, self.width // FEATURE_STRIDE)
        fitting = {name: shape[0] for name, shape in maps.items() if shape[1:] == size}
        if not fitting:
            raise ValueError(
                f"{self.path} has no map of stride {FEATURE_STRIDE} ({size[0]}x{size[1]}) to take "
                "region features from; take them from detector.source=pixels."
            )
        return max(reversed(fitting), key=lambda name: fitting[name])

    def __call__(self, image: Image.Image, image_id: str = "") -> Regions:
        """Detect in one RGB picture; the best region comes first."""
        pixels, scale = self._prepare(image)
        rows, *maps = self.session.run(None, {self.input_name: pixels})
        boxes, scores, classes = self._decode(torch.from_numpy(rows[0]), scale, image.size)
        kept = nms(boxes, scores, self.nms, classes)[: self.max_regions]
        boxes = boxes[kept]
        features = None
        if maps:
            found = torch.from_numpy(maps[0][0])
            scale_x = scale[0] * found.shape[2] / self.width
            scale_y = scale[1] * found.shape[1] / self.height
            features = roi_pool(found, boxes, scale_x, scale_y)
        return Regions(
            boxes=boxes,
            width=image.width,
            height=image.height,
            labels=[self.labels[number] for number in classes[kept].tolist()],
            scores=scores[kept].clamp(0, 1).tolist(),
            attributes=[[] for _ in kept],
            features=features,
            image_id=image_id,
        )

    def _prepare(self, image: Image.Image) -> tuple[np.ndarray, tuple[float, float]]:
        """Input of the network, and how many of its pixels a pixel of the picture is (x, y)."""
        ratio = min(self.width / image.width, self.height / image.height)
        # At least one pixel, for pictures that are a line.
        size = max(int(image.width * ratio), 1), max(int(image.height * ratio), 1)
        scale = size[0] / image.width, size[1] / image.height
        small = image if size == image.size else image.resize(size, Image.Resampling.BILINEAR)
        canvas = np.full((1, 3, self.height, self.width), PADDING, dtype=np.float32)
        canvas[0, :, : size[1], : size[0]] = np.asarray(small)[:, :, ::-1].transpose(2, 0, 1)
        return canvas, scale

    def _decode(
        self, rows: Tensor, scale: tuple[float, float], size: tuple[int, int]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Rows of the network -> boxes (N, 4) in the picture, scores (N,), classes (N,)."""
        best, classes = rows[:, 5:].max(dim=1)
        scores = rows[:, 4] * best
        place = torch.nonzero(scores >= self.threshold).squeeze(1)
        if len(place) > CANDIDATES:
            order = torch.sort(scores[place], descending=True, stable=True).indices
            place = place[order[:CANDIDATES]]
        strides = self.strides[place, None]
        centre = (rows[place, :2] + self.grid[place]) * strides
        half = rows[place, 2:4].exp() * strides / 2
        boxes = torch.cat([centre - half, centre + half], dim=1)
        boxes = clip_boxes(boxes / boxes.new_tensor([*scale, *scale]), *size)
        there = (boxes[:, 2:] > boxes[:, :2]).all(dim=1)  # a box in the padding is cut to nothing
        return boxes[there], scores[place][there], classes[place][there]

    @property
    def policy(self) -> str:
        """How the boxes were chosen, for the fingerprint of a region store."""
        return (
            f"yolox {self.width}x{self.height} threshold {self.threshold:g} nms {self.nms:g} "
            f"class-wise max {self.max_regions}"
        )

    @property
    def extractor(self) -> str:
        """What computed the features; "" without."""
        if not self.feature_name:
            return ""
        return (
            f"{self.path.name} {self.feature_name} {self.feature_size} "
            f"roi {BINS}x{BINS} of {SAMPLES}x{SAMPLES}"
        )


def _session(content: bytes, path: Path, threads: int) -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise ImportError(f"an ONNX detector needs onnxruntime; {INSTALL}.") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3  # its warnings are about the file, not about what we do
    try:
        return onnxruntime.InferenceSession(content, options, ["CPUExecutionProvider"])
    except Exception as error:  # its errors share no parent of their own
        reason = str(error).splitlines()[0]
        raise ValueError(f"onnxruntime cannot load {path}: {reason}") from error


def _cells(width: int, height: int) -> tuple[Tensor, Tensor]:
    """Column and row (N, 2) of every cell, row by row and stride by stride, and its stride (N,)."""
    grids, strides = [], []
    for stride in STRIDES:
        rows, columns = torch.meshgrid(
            torch.arange(height // stride), torch.arange(width // stride), indexing="ij"
        )
        grids.append(torch.stack([columns.flatten(), rows.flatten()], dim=1))
        strides.append(torch.full((rows.numel(),), stride))
    return torch.cat(grids).float(), torch.cat(strides).float()


def _maps(network: Any) -> dict[str, tuple[int, int, int]]:
    """Name -> (C, h, w) of every float tensor 1xCxhxw of known size, in the graph's order."""
    shapes = {}
    for value in network.graph.value_info:
        kind = value.type.tensor_type
        sizes = [one.dim_value for one in kind.shape.dim]
        if kind.elem_type == 1 and len(sizes) == 4 and sizes[0] == 1 and min(sizes) > 0:
            shapes[value.name] = (sizes[1], sizes[2], sizes[3])
    made = [name for node in network.graph.node for name in node.output]
    return {name: shapes[name] for name in made if name in shapes}


def _shape(sizes: Sequence[Any]) -> str:
    return "x".join(str(size) for size in sizes)
