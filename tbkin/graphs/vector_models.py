"""Word vectors from models: spaCy's, and sentence encoders."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np


class SpacyVectors:
    """Vectors of an installed spaCy model.

    Args:
        model: its name.

    Raises:
        ValueError: it is not installed, or has no vectors.
    """

    def __init__(self, model: str):
        import spacy

        mend = "install one that has: python -m spacy download en_core_web_md (or en_core_web_lg)."
        try:
            skipped = ("tok2vec", "tagger", "parser", "senter", "ner", "attribute_ruler")
            self.vocab = spacy.load(model, exclude=[*skipped, "lemmatizer"]).vocab
        except (OSError, ValueError) as error:
            raise ValueError(f"spaCy model {model!r} cannot be loaded ({error}); {mend}") from error
        if not self.vocab.vectors.n_keys:
            raise ValueError(
                f"spaCy model {model!r} has no word vectors (small models have none); {mend}"
            )
        self.model = model

    def vector(self, name: str) -> np.ndarray | None:
        """Unit vector (D,), float32; None for an unknown word."""
        if not name or not self.vocab.has_vector(name):
            return None
        vector = np.asarray(self.vocab.get_vector(name), dtype=np.float32)
        norm = float(np.linalg.norm(vector))
        return vector / norm if norm > 0 else None

    def describe(self) -> str:
        """Name and size."""
        keys, width = self.vocab.vectors.n_keys, self.vocab.vectors_length
        return f"spaCy {self.model} ({keys:,} words, {width} numbers each)"


class EncoderVectors:
    """Embeddings of a sentence encoder: any text has one, compounds are understood whole.

    Its cosines are lower than those of word vectors for names of one thing, so its thresholds are
    its own (:attr:`cosines`).

    Args:
        folder: what transformers can load (``config.json``, tokenizer, safetensors). How tokens
            are pooled is read from sentence-transformers' ``1_Pooling/config.json``; without it,
            the mean over the tokens.

    Raises:
        FileNotFoundError: no model there.
        ValueError: a pooling that is not known here.
    """

    # Weak and strong, chosen by benchmarks/alignment.py for all-MiniLM-L6-v2.
    cosines = (0.65, 0.85)

    def __init__(self, folder: str | Path):
        folder = Path(folder)
        if not (folder / "config.json").is_file():
            raise FileNotFoundError(
                f"no sentence encoder in {folder} (config.json is missing); give the folder of a "
                "model such as sentence-transformers/all-MiniLM-L6-v2."
            )
        from transformers import AutoModel, AutoTokenizer

        self.pooling = _pooling(folder)
        self.tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        self.model = AutoModel.from_pretrained(folder, local_files_only=True).eval()
        self.folder = folder

    def vector(self, name: str) -> np.ndarray | None:
        """Unit vector (D,), float32; None for the empty text."""
        return self.vectors([name])[0] if name.strip() else None

    def vectors(self, names: list[str]) -> np.ndarray:
        """Unit vectors (N, D), float32."""
        import torch

        tokens = self.tokenizer(names, padding=True, truncation=True, return_tensors="pt")
        with torch.no_grad():
            states = self.model(**tokens).last_hidden_state
        pooled = pool(states, tokens["attention_mask"], self.pooling)
        return torch.nn.functional.normalize(pooled, dim=-1).numpy()

    def describe(self) -> str:
        """Which model."""
        return f"sentence encoder {self.folder.name} ({self.model.config.hidden_size} numbers)"


def pool(states: Any, mask: Any, how: str) -> Any:
    """Token states (N, T, D) and their mask (N, T) -> (N, D), by ``mean``, ``max`` or ``cls``."""
    if how == "cls":
        return states[:, 0]
    present = mask.unsqueeze(-1).bool()
    if how == "max":
        return states.masked_fill(~present, float("-inf")).amax(dim=1)
    return (states * present).sum(dim=1) / present.sum(dim=1).clamp(min=1)


def _pooling(folder: Path) -> str:
    path = folder / "1_Pooling" / "config.json"
    if not path.is_file():
        return "mean"
    content = json.loads(path.read_text(encoding="utf-8"))
    used = [key for key, value in content.items() if key.startswith("pooling_mode_") and value]
    names = {
        "pooling_mode_mean_tokens": "mean",
        "pooling_mode_max_tokens": "max",
        "pooling_mode_cls_token": "cls",
    }
    if len(used) != 1 or used[0] not in names:
        raise ValueError(
            f"{path} asks for {', '.join(used) or 'no pooling'}; "
            f"known here is one of: {', '.join(names)}."
        )
    return names[used[0]]
