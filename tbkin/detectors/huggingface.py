"""Any object detector of the transformers library, from a hub id or a local folder."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from PIL import Image
from torch import Tensor

from tbkin.boxes import clip_boxes, nms
from tbkin.detectors.pretrained_folder import find_folder, weights_hash
from tbkin.detectors.query_outputs import (
    cells_a_pixel,
    class_scores,
    finest_map,
    query_boxes,
    query_states,
)
from tbkin.detectors.roi import BINS, SAMPLES, roi_pool
from tbkin.detectors.text_prompts import build_prompts, word_scores
from tbkin.graphs.regions import Regions

FEATURES = ("map", "decoder", "none")
TEXT_MODELS = ("grounding-dino", "mm-grounding-dino")
TRIED = "RT-DETR, RT-DETRv2, D-FINE, DETR, conditional and deformable DETR, YOLOS, Grounding DINO"


class HuggingFaceDetector:
    """Regions from a DETR-like network (every query one box) of the transformers library.

    A query's label is its best class, or with Grounding DINO its best word. What scores at least
    ``threshold`` goes through NMS across all labels (*ours*: two names for one thing are one
    region), and the best ``max_regions`` stay.

    Features are the encoder's finest map pooled over each box ("map": what is there to be seen, at
    the smallest stride), or the decoder's last state of the query that gave the box ("decoder":
    what the network made of it).

    Args:
        model: local folder with ``config.json`` and ``*.safetensors``, or a hub id, with
            ``@revision`` if need be. Pickled weights are never loaded.
        threshold: least score of a region, in [0, 1].
        nms: IoU in [0, 1] above which the weaker of two boxes goes; 1 switches NMS off.
        max_regions: at most so many regions a picture, the best.
        features: "map", "decoder" or "none".
        vocabulary: what Grounding DINO looks for; for no other network. A vocabulary beyond the
            text encoder's limit is looked for in several passes.
        device: of torch.

    Raises:
        FileNotFoundError: no such folder, or a hub id that cannot be reached.
        ValueError: a setting out of range, pickled weights only, a checkpoint that needs timm, or
            a network that is no such detector.
    """

    def __init__(
        self,
        model: str | Path,
        threshold: float = 0.3,
        nms: float = 0.7,
        max_regions: int = 36,
        features: Literal["map", "decoder", "none"] = "map",
        vocabulary: Sequence[str] = (),
        device: str = "cpu",
    ):
        for name, value in (("threshold", threshold), ("nms", nms)):
            if not 0 <= value <= 1:
                raise ValueError(f"detector.{name} must be in [0, 1], got {value}.")
        if max_regions < 1:
            raise ValueError(f"detector.max_regions must be at least 1, got {max_regions}.")
        if features not in FEATURES:
            raise ValueError(f"unknown features {features!r}; choose from: {', '.join(FEATURES)}.")
        if isinstance(vocabulary, str):
            raise ValueError("detector.vocabulary is a list of words, as [dog,red car].")
        if torch.device(device).type == "cuda" and not torch.cuda.is_available():
            raise ValueError(
                "detector.device=cuda, but torch sees no GPU; set detector.device=cpu."
            )
        self.name = Path(model).name if Path(model).is_dir() else str(model)
        self.threshold, self.nms, self.max_regions = threshold, nms, max_regions
        self.features, self.vocabulary = features, tuple(vocabulary)
        folder = find_folder(model)
        config = _load_config(folder, self.name)
        self.reads_text = config.model_type in TEXT_MODELS
        if self.reads_text and not self.vocabulary:
            raise ValueError(
                f"{self.name} looks for what it is told: give detector.vocabulary=[WORD,...]."
            )
        if self.vocabulary and not self.reads_text:
            raise ValueError(
                f"{self.name} ({config.model_type}) knows its own "
                f"{len(config.id2label)} classes; detector.vocabulary is for Grounding DINO."
            )
        self.weights = weights_hash(folder)
        self.processor = _load_processor(folder, self.name)
        self.model = _load_model(folder, config, self.name).to(device).eval()
        self.device = torch.device(device)
        accepted = inspect.signature(self.model.forward).parameters
        self.inputs = [name for name in ("pixel_values", "pixel_mask") if name in accepted]
        self.prompts = self._read_vocabulary(folder) if self.reads_text else []

    def _read_vocabulary(self, folder: Path) -> list[Any]:
        from transformers import AutoTokenizer

        config = self.model.config
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        limit = min(config.max_text_len, config.text_config.max_position_embeddings)
        return build_prompts(self.vocabulary, tokenizer, limit)

    @torch.no_grad()
    def __call__(self, image: Image.Image, image_id: str = "") -> Regions:
        """Detect in one RGB picture; the best region comes first."""
        prepared = self.processor(images=image, return_tensors="pt")
        inputs = {name: prepared[name] for name in self.inputs if name in prepared}
        inputs = {name: value.to(self.device) for name, value in inputs.items()}
        passes = [self._keep(*part, inputs, image) for part in self._run(inputs)]
        boxes, scores, classes, features = (
            torch.cat(column) for column in zip(*passes, strict=True)
        )
        kept = nms(boxes, scores, self.nms)[: self.max_regions]
        return Regions(
            boxes=boxes[kept],
            width=image.width,
            height=image.height,
            labels=[self._label(number) for number in classes[kept].tolist()],
            scores=scores[kept].tolist(),
            attributes=[[] for _ in kept],
            features=None if self.features == "none" else features[kept],
            image_id=image_id,
        )

    def _run(self, inputs: dict[str, Tensor]) -> Iterator[tuple[Any, Tensor]]:
        """Outputs of the network and (Q, classes) scores; with text, once a prompt."""
        if not self.reads_text:
            outputs = self.model(**inputs)
            if getattr(outputs, "pred_boxes", None) is None:
                raise ValueError(
                    f"{self.name} ({self.model.config.model_type}) does not return one box a "
                    f"query; supported are {TRIED}."
                )
            yield outputs, class_scores(outputs.logits[0], len(self.model.config.id2label))
            return
        for prompt in self.prompts:
            ids = torch.tensor([prompt.ids], device=self.device)
            outputs = self.model(
                **inputs,
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                token_type_ids=torch.zeros_like(ids),
            )
            scores = torch.zeros(len(outputs.logits[0]), len(self.vocabulary), device=self.device)
            scores[:, list(prompt.words)] = word_scores(outputs.logits[0], prompt)
            yield outputs, scores

    def _keep(
        self, outputs: Any, scores: Tensor, inputs: dict[str, Tensor], image: Image.Image
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """What passes the threshold: boxes (N, 4), scores (N,), classes (N,), features (N, F)."""
        best, classes = scores.max(dim=1)
        boxes = query_boxes(outputs.pred_boxes[0].float(), image.width, image.height)
        boxes = clip_boxes(boxes, image.width, image.height)
        there = (best >= self.threshold) & (boxes[:, 2:] > boxes[:, :2]).all(dim=1)
        place = torch.nonzero(there).squeeze(1)
        features = self._features(outputs, place, boxes, inputs, image)
        found = boxes[place], best[place], classes[place], features
        return tuple(value.cpu() for value in found)

    def _features(
        self,
        outputs: Any,
        place: Tensor,
        boxes: Tensor,
        inputs: dict[str, Tensor],
        image: Image.Image,
    ) -> Tensor:
        queries = len(boxes)
        if self.features == "none":
            return boxes.new_zeros(len(place), 0)
        if self.features == "decoder":
            return query_states(outputs, queries)[place]
        height, width = inputs["pixel_values"].shape[2:]
        found = finest_map(outputs, (height, width), queries, self.model.config)
        seen_width, seen_height = _seen(inputs.get("pixel_mask"), width, height)
        across, down = cells_a_pixel(found, height, width)
        scale_x, scale_y = across * seen_width / image.width, down * seen_height / image.height
        return roi_pool(found, boxes[place], scale_x, scale_y)

    def _label(self, number: int) -> str:
        return self.vocabulary[number] if self.reads_text else self.model.config.id2label[number]

    @property
    def policy(self) -> str:
        """How the boxes were chosen, for the fingerprint of a region store."""
        words = ""
        if self.vocabulary:
            listed = hashlib.sha256("\n".join(self.vocabulary).encode()).hexdigest()[:16]
            words = f" vocabulary of {len(self.vocabulary)} words {listed}"
        return (
            f"{self.name} threshold {self.threshold:g} nms {self.nms:g} across labels "
            f"max {self.max_regions}{words}"
        )

    @property
    def extractor(self) -> str:
        """What computed the features; "" without."""
        if self.features == "none":
            return ""
        if self.features == "decoder":
            return f"{self.name} decoder"
        return f"{self.name} map 0 roi {BINS}x{BINS} of {SAMPLES}x{SAMPLES}"


def _seen(mask: Tensor | None, width: int, height: int) -> tuple[int, int]:
    """Width and height of the input that the picture fills; the rest is padding."""
    if mask is None:
        return width, height
    return int(mask[0].any(dim=0).sum()), int(mask[0].any(dim=1).sum())


def _load_config(folder: Path, name: str) -> Any:
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(
            f"{name}: its config.json is not of a network that the installed transformers knows: "
            f"{str(error).splitlines()[0]}"
        ) from error
    backbone = getattr(config, "backbone_config", None)
    kind = backbone.get("model_type") if isinstance(backbone, dict) else None
    kind = kind or getattr(backbone, "model_type", "")
    if getattr(config, "use_timm_backbone", False) or kind == "timm_backbone":
        raise ValueError(
            f"{name} needs the timm library for its backbone, which is not supported. Take one "
            "without: PekingU/rtdetr_v2_r18vd, ustc-community/dfine-small-coco, or for DETR the "
            "revision facebook/detr-resnet-50@no_timm."
        )
    return config


def _load_processor(folder: Path, name: str) -> Any:
    from transformers import AutoImageProcessor

    try:
        # Always Pillow, also where torchvision is installed: the two resize differently, and the
        # same picture must give the same features on every machine.
        return AutoImageProcessor.from_pretrained(folder, backend="pil", local_files_only=True)
    except (OSError, ValueError, ImportError) as error:
        raise ValueError(
            f"{name} has no usable preprocessor_config.json, which says how to resize and "
            f"normalise a picture: {str(error).splitlines()[0]}"
        ) from error


def _load_model(folder: Path, config: Any, name: str) -> Any:
    from transformers import (
        MODEL_FOR_OBJECT_DETECTION_MAPPING,
        AutoModelForObjectDetection,
        AutoModelForZeroShotObjectDetection,
    )

    family: Any = AutoModelForObjectDetection
    if config.model_type in TEXT_MODELS:
        family = AutoModelForZeroShotObjectDetection
    elif type(config) not in MODEL_FOR_OBJECT_DETECTION_MAPPING:
        raise ValueError(
            f"{name} is a {config.model_type} network, not a supported object detector; "
            f"supported are {TRIED}."
        )
    model, found = family.from_pretrained(
        folder,
        config=config,
        use_safetensors=True,
        local_files_only=True,
        dtype=torch.float32,
        output_loading_info=True,
    )
    missing = sorted(set(found["missing_keys"]) & {key for key, _ in model.named_parameters()})
    if missing:
        raise ValueError(
            f"{name} lacks {len(missing)} weights of a {type(model).__name__} (first: "
            f"{missing[0]}); they would be random. Give a checkpoint that was trained to detect."
        )
    return model
