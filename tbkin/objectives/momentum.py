"""Contrast with the keys of a slowly moving copy of the model, those of past batches included."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from tbkin.config import choose
from tbkin.objectives.masked import check_shape
from tbkin.objectives.similarity import (
    POSITIVES,
    Temperature,
    batch_field,
    cosines,
    even_shares,
    output_field,
    positive_mask,
    row_cross_entropy,
)


class MomentumContrast(nn.Module):
    """Contrastive loss against a momentum model's keys, whose own opinion softens the targets.

    The momentum model stays with the model: a copy of its encoders and heads that follows the
    weights by an exponential moving average (0.995 in the papers), sees the same batch without
    gradient, and gives the outputs ``momentum_image_embeds`` and ``momentum_text_embeds``.

    Source: Li et al., "ALBEF" (arXiv:2107.07651), eqs. of ITC with momentum distillation; PTP
    (arXiv:2212.09737), the second stage of DSSLP, has its defaults but for ``ramp_steps``.

    Args:
        queue_size: how many pairs of keys of past batches there are to contrast with besides the
            batch's own; any number, 0 for none.
        embed_size: width D of the embeddings; 0: the model's.
        alpha: share of the momentum model's opinion in the targets, in [0, 1].
        ramp_steps: over so many training steps (batches) alpha rises evenly from 0. The papers
            count two epochs in pre-training, one in retrieval; 0: none.
        temperature: start of the divisor of the cosines.
        temperature_range: its bounds.
        learn_temperature: whether it is learned.
        positives: ``"identity"``: keys of equal ``identities``, also those of past batches, as in
            ALBEF's retrieval; ``"pair"``: only the pair's own key, as in its pre-training.
    """

    def __init__(
        self,
        queue_size: int = 57600,
        embed_size: int = 0,
        alpha: float = 0.4,
        ramp_steps: int = 1000,
        temperature: float = 0.07,
        temperature_range: Sequence[float] = (0.001, 0.5),
        learn_temperature: bool = True,
        positives: Literal["identity", "pair"] = "identity",
    ):
        super().__init__()
        choose(POSITIVES, positives, "objectives.momentum_contrast.positives")
        if not 0 <= alpha <= 1:
            raise ValueError(f"objectives.momentum_contrast.alpha must be in [0, 1], got {alpha}.")
        for name, value in (
            ("queue_size", queue_size),
            ("embed_size", embed_size),
            ("ramp_steps", ramp_steps),
        ):
            if type(value) is not int or value < 0:
                raise ValueError(
                    f"objectives.momentum_contrast.{name} is a whole number >= 0, got {value!r}."
                )
        self.queue_size = queue_size
        self.queue = KeyQueue(queue_size, embed_size) if embed_size else None
        self.alpha = alpha
        self.ramp_steps = ramp_steps
        self.temperature = Temperature(
            temperature,
            temperature_range,
            learn_temperature,
            setting="objectives.momentum_contrast.temperature",
        )
        self.positives = positives
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))

    def set_widths(self, embedding_size: int, token_size: int) -> None:
        """The model's embeddings have ``embedding_size`` numbers; before the first batch."""
        if self.queue is None:
            self.queue = KeyQueue(self.queue_size, embedding_size)

    def forward(self, outputs: Any, batch: dict[str, Any]) -> Tensor:
        """Reads four outputs (B, D), unit rows: with and without ``momentum_``, of each side.

        They are ``image_embeds``, ``text_embeds``, ``momentum_image_embeds`` and
        ``momentum_text_embeds``. Of the batch ``identities`` (B,), unless ``positives="pair"``.
        In training the batch's keys then join the queue.
        """
        if self.queue is None:
            raise RuntimeError(
                "objectives.momentum_contrast does not know how wide the embeddings are: call "
                "set_widths(embedding_size, token_size) before the first batch, or set embed_size."
            )
        image_embeds, text_embeds, image_keys, text_keys = (
            output_field(outputs, f"{model}{side}_embeds", "momentum_contrast")
            for model in ("", "momentum_")
            for side in ("image", "text")
        )
        if image_keys.shape[1] != self.queue.images.shape[1]:
            raise ValueError(
                f"the model's embeddings have {image_keys.shape[1]} numbers, the queue's "
                f"{self.queue.images.shape[1]}: set "
                f"objectives.momentum_contrast.embed_size={image_keys.shape[1]}."
            )
        ids = self._ids(batch, image_embeds)
        past_images, past_texts, past_ids = self.queue.keys()
        loss = momentum_contrast_loss(
            image_embeds,
            text_embeds,
            torch.cat([image_keys.detach(), past_images.to(image_keys.dtype)]),
            torch.cat([text_keys.detach(), past_texts.to(text_keys.dtype)]),
            positive_mask(ids, torch.cat([ids, past_ids])),
            self.alpha * self.ramp(),
            self.temperature(),
        )
        if self.training:
            self.queue.push(image_keys, text_keys, ids)
            self.steps += 1
        return loss

    def _ids(self, batch: dict[str, Any], embeds: Tensor) -> Tensor:
        """Identities of the batch; to go by pairs, numbers that no other pair ever has."""
        if self.positives == "pair":
            return self.queue.pushed + torch.arange(len(embeds), device=embeds.device)
        ids = batch_field(
            batch,
            "identities",
            "momentum_contrast",
            "or set objectives.momentum_contrast.positives=pair",
        )
        check_shape("identities", ids, embeds.shape[:1])
        return ids

    def ramp(self) -> float:
        """How much of alpha holds by now, in [0, 1]."""
        return min(1.0, self.steps.item() / self.ramp_steps) if self.ramp_steps else 1.0


class KeyQueue(nn.Module):
    """The last keys of pictures and captions, with their identities, in a ring.

    It may have any size, and batches of any size may join it; ALBEF's must divide it. It starts
    empty (*ours*: ALBEF's starts with random rows), also after a checkpoint: it is not saved, since
    its keys are stale by then and of the size of a model.

    Args:
        size: how many pairs it keeps; 0: none.
        width: D of a key.
    """

    def __init__(self, size: int, width: int):
        super().__init__()
        self.register_buffer("images", torch.zeros(size, width), persistent=False)
        self.register_buffer("texts", torch.zeros(size, width), persistent=False)
        self.register_buffer("ids", torch.zeros(size, dtype=torch.long), persistent=False)
        self.register_buffer("pushed", torch.zeros((), dtype=torch.long), persistent=False)

    def __len__(self) -> int:
        """How many pairs it holds now."""
        return min(int(self.pushed), len(self.ids))

    def keys(self) -> tuple[Tensor, Tensor, Tensor]:
        """Pictures (N, D), captions (N, D) and identities (N,), in no order."""
        held = len(self)
        return self.images[:held], self.texts[:held], self.ids[:held]

    @torch.no_grad()
    def push(self, images: Tensor, texts: Tensor, ids: Tensor) -> None:
        """Let pairs join; the oldest leave.

        Args:
            images: (B, D).
            texts: (B, D).
            ids: (B,) int64.
        """
        size = len(self.ids)
        kept = min(len(ids), size)
        order = torch.arange(len(ids) - kept, len(ids), device=self.ids.device)
        places = (self.pushed + order) % max(size, 1)
        for ring, rows in ((self.images, images), (self.texts, texts), (self.ids, ids)):
            ring[places] = rows[len(ids) - kept :].to(ring.dtype)
        self.pushed += len(ids)


def momentum_contrast_loss(
    image_embeds: Tensor,
    text_embeds: Tensor,
    image_keys: Tensor,
    text_keys: Tensor,
    positives: Tensor,
    alpha: float = 0.4,
    temperature: Tensor | float = 0.07,
) -> Tensor:
    r"""Mean of both directions.

    .. math::
        L_{i2t} = -\frac{1}{B} \sum_i \sum_j y_{ij} \log \mathrm{softmax}_j(v_i \cdot t'_j / \tau),
        \quad y_i = \alpha\, \mathrm{softmax}(v'_i \cdot t'_j / \tau)
        + (1 - \alpha) \frac{m_{ij}}{\sum_k m_{ik}}

    and :math:`L_{t2i}` likewise of :math:`t_i \cdot v'_j`. Primed are the momentum model's, and
    targets are constants.

    Args:
        image_embeds: (B, D), :math:`v`, unit rows.
        text_embeds: (B, D), :math:`t`.
        image_keys: (M, D), :math:`v'`, M >= B, whose first B rows are those of the batch.
        text_keys: (M, D), :math:`t'`, likewise.
        positives: (B, M) bool, :math:`m`.
        alpha: :math:`\alpha` in [0, 1].
        temperature: :math:`\tau` > 0.
    """
    size = len(image_embeds)
    check_shape("positives", positives, torch.Size((size, len(text_keys))))
    image_to_text, text_to_image = (
        _one_way(queries, own[:size], keys, positives, alpha, temperature)
        for queries, own, keys in (
            (image_embeds, image_keys, text_keys),
            (text_embeds, text_keys, image_keys),
        )
    )
    return (image_to_text + text_to_image) / 2


def _one_way(
    queries: Tensor,
    momentum_queries: Tensor,
    keys: Tensor,
    positives: Tensor,
    alpha: float,
    temperature: Tensor | float,
) -> Tensor:
    logits = cosines(queries, keys.detach()) / temperature
    with torch.no_grad():
        opinion = (cosines(momentum_queries, keys) / temperature).softmax(dim=1)
        targets = alpha * opinion + (1 - alpha) * even_shares(positives, opinion.dtype)
    return row_cross_entropy(logits, targets)
