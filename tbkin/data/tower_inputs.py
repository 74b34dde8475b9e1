"""What another model's towers read of a picture and of a text, see ``model/towers.py``."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from PIL import Image
from transformers import AutoConfig, AutoImageProcessor, AutoTokenizer

from tbkin.data.retrieval_files import read_pictures

FOLDER = "towers"  # of a checkpoint
PIXELS = ("pixel_values", "pixel_attention_mask", "spatial_shapes")
TOKENS = ("input_ids", "attention_mask")
WORDS = ("tokenizer.json", "vocab.json", "vocab.txt", "*.model", "*.bpe")  # a tokenizer's, any one
PADDED = ("siglip", "siglip2")  # learned from texts padded to full length, without a mask


class TowerInputs:
    """The towers' own tokenizer and image processor.

    Args:
        tokenizer: of transformers.
        image_processor: likewise.
        config: of the towers.
    """

    def __init__(self, tokenizer: Any, image_processor: Any, config: Any):
        self.tokenizer, self.image_processor, self.config = tokenizer, image_processor, config
        longest = getattr(config.get_text_config(), "max_position_embeddings", None)
        self.max_length = min(filter(None, (tokenizer.model_max_length, longest)))
        self.masked = (
            config.model_type not in PADDED and "attention_mask" in tokenizer.model_input_names
        )

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> TowerInputs:
        """Those of the towers' own folder, or of the folder that :meth:`save_pretrained` wrote.

        Raises:
            ValueError: it lacks a tokenizer or how to prepare a picture.
        """
        try:
            # Without one transformers may make a tokenizer that knows no word: all texts are alike.
            if not any(path for name in WORDS for path in Path(folder).glob(name)):
                raise ValueError(f"none of {', '.join(WORDS)} is there.")
            config = AutoConfig.from_pretrained(folder, local_files_only=True)
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
            # Always Pillow, so that pixels are the same with torchvision and without.
            images = AutoImageProcessor.from_pretrained(
                folder, backend="pil", local_files_only=True
            )
        except (OSError, ValueError, ImportError) as error:
            raise ValueError(
                f"{folder} has no usable tokenizer and preprocessor_config.json beside the towers: "
                f"{str(error).strip().splitlines()[0]} Copy the whole folder of the model."
            ) from error
        return cls(tokenizer, images, config)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write what :meth:`from_pretrained` reads."""
        for part in (self.tokenizer, self.image_processor, self.config):
            part.save_pretrained(folder)

    def picture(self, image: Image.Image) -> dict[str, Any]:
        """RGB picture -> ``tower_pixel_values`` (3, H, W), and what else the towers need of it."""
        found = self.image_processor(images=[image], return_tensors="pt")
        return {f"tower_{name}": found[name][0] for name in PIXELS if name in found}

    def text(self, text: str) -> dict[str, Any]:
        """Text -> ``tower_input_ids`` and, where the towers learned with it, the mask; lists."""
        found = self.tokenizer(
            text,
            truncation=True,
            max_length=self.max_length,
            padding=False if self.masked else "max_length",
        )
        return {f"tower_{name}": found[name] for name in (TOKENS if self.masked else TOKENS[:1])}


def picture_files(root: Path, split: str, image_ids: Iterable[int]) -> dict[int, Path]:
    """Image id -> file, of pictures of a prepared retrieval folder.

    Raises:
        FileNotFoundError: some are not where ``pictures.json`` says; nothing is left out.
    """
    told = read_pictures(root)
    files = {image_id: Path(told.get(image_id, "")) for image_id in image_ids}
    missing = [image_id for image_id, path in files.items() if not path.is_file()]
    if missing:
        named = told.get(missing[0], "") or "which pictures.json does not have"
        raise FileNotFoundError(
            f"{len(missing)} of {len(files)} pictures of split {split!r} are not there (first: "
            f"{missing[0]}, {named}), and model.towers looks at them; prepare the data again with "
            "data.images=[DIR]: tbkin prep retrieval overwrite=true"
        )
    return files
