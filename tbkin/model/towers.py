"""Another model's towers in place of our own: CLIP, SigLIP or any dual encoder of transformers.

Its towers embed pictures and texts, each alone; TBKIN's layers stay the judge of pairs. So a
pre-trained model ranks from the first step, and the scene graph decides among its best (*ours*).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel

METHODS = ("get_image_features", "get_text_features")
PREFIX = "tower_"  # of the batch's fields that are theirs, see ``data/collate.py``
TEXT_FIELDS = ("input_ids", "attention_mask")
OF_A_MACHINE = ("_name_or_path", "transformers_version", "dtype", "torch_dtype")


class Towers(nn.Module):
    """A dual encoder of transformers, by its two methods.

    Args:
        model: of :func:`load_towers` or :func:`build_towers`.
        frozen: whether it is left as it is: no gradients, and no dropout in training.
    """

    def __init__(self, model: PreTrainedModel, frozen: bool = False):
        super().__init__()
        self.model, self.frozen = model, frozen
        self.train()

    def train(self, mode: bool = True) -> Towers:
        """As of any module; frozen towers stay in evaluation, without gradients."""
        if self.frozen:  # here, since from_pretrained makes weights anew, and then sets the mode
            self.model.requires_grad_(False)
        return super().train(mode and not self.frozen)

    def forward(self, batch: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
        """Features (B, P) of the pictures and of the texts, not normalised.

        Args:
            batch: reads ``tower_pixel_values`` (B, 3, H, W), ``tower_input_ids`` (B, S), and what
                else there is with that prefix.
        """
        own = {
            name.removeprefix(PREFIX): value
            for name, value in batch.items()
            if name.startswith(PREFIX)
        }
        for name in ("pixel_values", "input_ids"):
            if name not in own:
                raise ValueError(
                    f"the model's towers need {PREFIX}{name} in the batch; RetrievalDataset gives "
                    "it where its processor has towers, processor.towers makes it of a picture "
                    "and a text."
                )
        text = {name: own.pop(name) for name in TEXT_FIELDS if name in own}
        return self.image(**own), self.text(**text)

    def image(self, pixel_values: Tensor, **more: Tensor) -> Tensor:
        """Pictures as the tower's image processor makes them -> (B, P).

        Args:
            pixel_values: (B, 3, H, W); SigLIP 2 of any resolution takes (B, patches, numbers).
            **more: its ``pixel_attention_mask`` and ``spatial_shapes``.
        """
        return self._vectors(self.model.get_image_features(pixel_values=pixel_values, **more))

    def text(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """Texts as the tower's tokenizer makes them -> (B, P).

        Args:
            input_ids: (B, S).
            attention_mask: (B, S), 1 = real token; None for towers that learned without.
        """
        mask = {} if attention_mask is None else {"attention_mask": attention_mask}
        return self._vectors(self.model.get_text_features(input_ids=input_ids, **mask))

    def _vectors(self, outputs: Any) -> Tensor:
        """The tensor itself, or (transformers 5) the pooled field that holds the projection."""
        found = outputs if isinstance(outputs, Tensor) else outputs.pooler_output
        if found is None or found.ndim != 2:
            shape = None if found is None else tuple(found.shape)
            raise ValueError(
                f"{type(self.model).__name__} gives features of shape {shape}, not one vector for "
                "a picture or text; model.towers needs a dual encoder such as CLIP or SigLIP."
            )
        return found


def build_towers(settings: dict[str, Any]) -> PreTrainedModel:
    """A dual encoder with new weights.

    Args:
        settings: its config as a dictionary, see :func:`settings_of`.

    Raises:
        ValueError: it is none.
    """
    model = AutoModel.from_config(AutoConfig.for_model(**settings), dtype=torch.float32)
    check_dual(model, f"towers of type {settings['model_type']}")
    return model


def load_towers(folder: Path) -> PreTrainedModel:
    """A dual encoder of a local folder, from safetensors alone, in float32.

    Raises:
        ValueError: it is none, its weights lack something, or transformers does not know it.
    """
    try:
        model, found = AutoModel.from_pretrained(
            folder,
            use_safetensors=True,
            local_files_only=True,
            output_loading_info=True,
            dtype=torch.float32,
        )
    except (OSError, ValueError) as error:
        raise ValueError(f"model.towers={folder}: {str(error).splitlines()[0]}") from error
    check_dual(model, f"model.towers={folder}")
    missing = sorted(found["missing_keys"])
    if missing:
        raise ValueError(
            f"model.towers={folder} lacks {len(missing)} weights of a {type(model).__name__} "
            f"(first: {missing[0]}); they would be random. Give a trained model."
        )
    return model


def check_dual(model: nn.Module, named: str) -> None:
    """Raise ValueError for a model that does not embed pictures and texts."""
    lacking = [method for method in METHODS if not hasattr(model, method)]
    if lacking:
        raise ValueError(
            f"{named} is a {type(model).__name__}, which has no {' and no '.join(lacking)}; give a "
            "dual encoder of transformers such as CLIP, SigLIP or ALIGN (a "
            "VisionTextDualEncoderModel joins a model of pictures and one of texts)."
        )


def settings_of(config: PreTrainedConfig) -> dict[str, Any]:
    """A config as JSON values that say nothing of where it came from, nor of a precision."""

    def cleaned(values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        return {name: cleaned(value) for name, value in values.items() if name not in OF_A_MACHINE}

    return json.loads(json.dumps(cleaned(config.to_dict())))
