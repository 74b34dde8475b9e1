"""Telling the identities of the training data apart, and where an identity stands among them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tbkin.objectives.similarity import batch_field, output_field


class Identity(nn.Module):
    """Picture and caption should both tell whom or what they show; one linear layer for both.

    Source: the identity loss of IRRA (arXiv:2303.12501) and its code, which classifies features
    before they have unit length; our heads give them after (*ours*). The layer belongs to the
    training data: it is made by :meth:`bind`, and prediction does not need it.

    Args:
        dim: D, width of the embeddings; 0: the model's.
    """

    known: Tensor | None

    def __init__(self, dim: int = 0):
        super().__init__()
        self.dim = dim
        self.classifier: nn.Linear | None = None
        self.register_buffer("known", None)  # saved, since the classes stand in its order

    def set_widths(self, embedding_size: int, token_size: int) -> None:
        """The model's embeddings have ``embedding_size`` numbers; before :meth:`bind`."""
        self.dim = self.dim or embedding_size

    def bind(self, dataset: Any) -> None:
        """One class for each ``identity`` of ``dataset.rows``; before the optimiser is made."""
        check_known_width("identity", "dim", self.dim)
        self.known = known_identities(dataset.rows)
        self.classifier = nn.Linear(self.dim, len(self.known), bias=False)
        nn.init.normal_(self.classifier.weight, std=0.001)

    def forward(self, outputs: Any, batch: dict[str, Any]) -> Tensor:
        """Reads ``outputs.image_embeds`` and ``text_embeds`` (B, D), ``batch["identities"]`` (B,).

        Raises:
            RuntimeError: not bound to a data set.
            LookupError: an identity that the data set does not have.
        """
        if self.classifier is None:
            raise RuntimeError(not_bound("identity"))
        image = check_width(output_field(outputs, "image_embeds", "identity"), self.dim, "identity")
        text = check_width(output_field(outputs, "text_embeds", "identity"), self.dim, "identity")
        places = places_of(batch_field(batch, "identities", "identity"), self.known)
        return identity_loss(self.classifier(image), self.classifier(text), places)


def identity_loss(image_logits: Tensor, text_logits: Tensor, labels: Tensor) -> Tensor:
    """Mean of the cross-entropies of the pictures and of the captions.

    Args:
        image_logits: (B, identities).
        text_logits: (B, identities).
        labels: (B,) int64, places of the identities.
    """
    return (F.cross_entropy(image_logits, labels) + F.cross_entropy(text_logits, labels)) / 2


def known_identities(rows: list[dict[str, Any]]) -> Tensor:
    """(m,) int64, the different ``identity`` values of prepared rows, ascending."""
    return torch.tensor(sorted({row["identity"] for row in rows}))


def places_of(identities: Tensor, known: Tensor) -> Tensor:
    """Where identities stand among the known ones: (B,) and (m,) -> (B,) int64 in [0, m).

    Raises:
        LookupError: one of them is not known; names it.
    """
    known = known.to(identities.device)
    places = torch.searchsorted(known, identities).clamp(max=len(known) - 1)
    strange = known[places] != identities
    if strange.any():
        raise LookupError(
            f"identity {identities[strange][0].item()} is none of the {len(known)} of the training "
            "data that the objective was bound to; bind it to the data set that is trained on."
        )
    return places


def check_width(embeds: Tensor, dim: int, objective: str, setting: str = "dim") -> Tensor:
    """The embeddings, if they have the width that the objective was made for.

    Raises:
        ValueError: they do not; names the setting.
    """
    if embeds.shape[-1] != dim:
        raise ValueError(
            f"objectives.{objective}.{setting} is {dim}, the model's embeddings have "
            f"{embeds.shape[-1]}; set objectives.{objective}.{setting}={embeds.shape[-1]}."
        )
    return embeds


def check_known_width(objective: str, setting: str, width: int) -> None:
    """Raise RuntimeError where neither the settings nor the model have said a width."""
    if not width:
        raise RuntimeError(
            f"objectives.{objective}.{setting} is 0, the model's: call set_widths(embedding_size, "
            "token_size) first, or name the width."
        )


def not_bound(objective: str) -> str:
    """What to say of an objective that does not know its training data."""
    return (
        f"objectives.{objective} does not know the training data: call bind(dataset) before the "
        "optimiser is made."
    )
