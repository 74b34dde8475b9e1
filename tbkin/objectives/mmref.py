"""Multi-Modal Reference Learning (MMRef): what is known of an object in all its data, as a vector.

The paper has no public code and its full text could not be read: the idea and the two training
modules are the authors', the equations below are our reading of a review of them, as far as that
goes, and *ours* beyond it. Do not compare with published numbers; compare with and without.

Source: "Multi-Modal Reference Learning", IEEE Transactions on Multimedia 27, 2025
(arXiv:2504.07718).
"""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tbkin.config import choose
from tbkin.objectives.distribution_matching import (
    distribution_matching_loss,
    distribution_targets,
)
from tbkin.objectives.identity import (
    check_known_width,
    check_width,
    known_identities,
    not_bound,
    places_of,
)
from tbkin.objectives.reference_words import WordReconstruction
from tbkin.objectives.similarity import batch_field, cosines, output_field

NEGATIVES = {
    "all": "the references of all other objects",
    "batch": "those of the other objects of the batch",
}


class ReferenceBank(nn.Module):
    """A learned reference for each object of the training data; of unit length in use.

    References start at random (*ours*; how MMRef's start is not known).

    Args:
        num_objects: m.
        dim: D, that of the embeddings.
        tokens: P >= 1 vectors an object (*ours*); of them all, the mean is *the* reference. With
            one alone, attention to an object's reference has nothing to choose from.
    """

    def __init__(self, num_objects: int, dim: int, tokens: int = 1):
        super().__init__()
        self.shape = (tokens, dim)
        self.vectors = nn.Embedding(num_objects, tokens * dim)  # embeddings do not decay

    def forward(self, places: Tensor) -> Tensor:
        """(n,) places of objects in [0, m) -> (n, P, D), each token of unit length."""
        return F.normalize(self.vectors(places).unflatten(1, self.shape), dim=2)

    def matrix(self) -> Tensor:
        """(m, D), one reference an object, of unit length."""
        tokens = F.normalize(self.vectors.weight.unflatten(1, self.shape), dim=2)
        return F.normalize(tokens.mean(dim=1), dim=1)


class References(nn.Module):
    """MMRef's training: references that know all of an object, and embeddings guided by them.

    The weighted sum of four terms: pictures and captions of an identity match
    (:func:`~tbkin.objectives.distribution_matching.distribution_matching_loss`), references gather
    what pictures and captions say (:func:`fusion_loss`), embeddings follow their reference
    (:func:`guidance_loss`), and the reference restores hidden words of the captions
    (:class:`~tbkin.objectives.reference_words.WordReconstruction`). All weights 1, the temperature
    and the number of heads are *ours*.

    References belong to the training data: they are made by :meth:`bind`; prediction needs them
    only where ``tbkin.rerank`` is asked to.

    Args:
        dim: D, width of the embeddings; 0: the model's.
        tokens: P, vectors a reference.
        temperature: of the contrastive terms, > 0, no unit, smaller is sharper.
        negatives: what an object's reference is told from, ``"all"`` others or those in the
            ``"batch"``.
        pair_weight: of the matching of pictures and captions; 0 where another objective does it.
        fuse_weight: of the references' learning. It shares no gradient with ``guide_weight``: their
            ratio is one of learning rates.
        guide_weight: of the embeddings' learning from the references.
        word_weight: of the hidden words; 0 for models that give no ``text_token_embeds``.
        scale: fixed factor of the scores in the matching.
        token_dim: E, width of the captions' token embeddings; 0: the model's.
        heads: of attention in the reconstruction; divides ``dim``.
        mask_probability: share of the tokens that are hidden.
        seed: of the hiding.
    """

    known: Tensor | None

    def __init__(
        self,
        dim: int = 0,
        tokens: int = 1,
        temperature: float = 0.05,
        negatives: Literal["all", "batch"] = "all",
        pair_weight: float = 1.0,
        fuse_weight: float = 1.0,
        guide_weight: float = 1.0,
        word_weight: float = 1.0,
        scale: float = 50.0,
        token_dim: int = 0,
        heads: int = 4,
        mask_probability: float = 0.15,
        seed: int = 0,
    ):
        super().__init__()
        choose(NEGATIVES, negatives, "objectives.references.negatives")
        if not temperature > 0:
            raise ValueError(
                f"objectives.references.temperature must be above 0, got {temperature!r}."
            )
        if not 0 < mask_probability <= 1:
            raise ValueError(
                "objectives.references.mask_probability must be in (0, 1], "
                f"got {mask_probability!r}."
            )
        if not 0 < scale < math.inf:
            raise ValueError(f"objectives.references.scale must be above 0, got {scale!r}.")
        for name, size in {"tokens": tokens, "heads": heads}.items():
            if size < 1:
                raise ValueError(f"objectives.references.{name} must be 1 or more, got {size!r}.")
        for name, size in {"dim": dim, "token_dim": token_dim}.items():
            if size < 0:
                raise ValueError(
                    f"objectives.references.{name} must be 1 or more, or 0 for the model's, "
                    f"got {size!r}."
                )
        for name, share in (
            ("pair_weight", pair_weight),
            ("fuse_weight", fuse_weight),
            ("guide_weight", guide_weight),
            ("word_weight", word_weight),
        ):
            if not 0 <= share < math.inf:
                raise ValueError(f"objectives.references.{name} must be >= 0, got {share!r}.")
        self.dim, self.tokens = dim, tokens
        self.temperature = temperature
        self.negatives: Literal["all", "batch"] = negatives
        self.pair_weight, self.fuse_weight = pair_weight, fuse_weight
        self.guide_weight, self.word_weight = guide_weight, word_weight
        self.scale = scale
        self.token_dim, self.heads = token_dim, heads
        self.mask_probability, self.seed = mask_probability, seed
        self.register_buffer("known", None)  # saved, since the references stand in its order
        self.bank: ReferenceBank | None = None
        self.words: WordReconstruction | None = None
        self._check_heads()

    def set_widths(self, embedding_size: int, token_size: int) -> None:
        """How wide the model's embeddings and its token embeddings are; before :meth:`bind`."""
        self.dim, self.token_dim = self.dim or embedding_size, self.token_dim or token_size
        self._check_heads()

    def bind(self, dataset: Any) -> None:
        """One reference for each identity of the training data; before the optimiser is made.

        Args:
            dataset: ``rows`` with ``identity``; with a ``word_weight`` also
                ``processor.tokenizer``, whose words are predicted.
        """
        check_known_width("references", "dim", self.dim)
        self.known = known_identities(dataset.rows)
        self.bank = ReferenceBank(len(self.known), self.dim, self.tokens)
        if self.word_weight:
            check_known_width("references", "token_dim", self.token_dim)
            tokenizer = dataset.processor.tokenizer
            self.words = WordReconstruction(
                len(tokenizer),
                tokenizer.all_special_ids,
                self.dim,
                self.token_dim,
                self.heads,
                self.mask_probability,
                self.seed,
            )

    def forward(self, outputs: Any, batch: dict[str, Any]) -> Tensor:
        """The weighted sum of the terms.

        Args:
            outputs: reads ``image_embeds`` and ``text_embeds`` (B, D); for matching, ``scores``
                (B, B); for words, ``text_token_embeds`` (B, T, E), the captions' token embeddings
                before any layer mixed them.
            batch: reads ``identities`` (B,) int64; for words also ``input_ids`` and
                ``attention_mask`` (B, T).

        Returns:
            Scalar.

        Raises:
            RuntimeError: not bound to a data set.
            LookupError: an identity that the data set does not have.
        """
        bank, known = self._bound()
        identities = batch_field(batch, "identities", "references")
        places = places_of(identities, known)
        embeds = torch.cat(
            [
                check_width(output_field(outputs, name, "references"), self.dim, "references")
                for name in ("image_embeds", "text_embeds")
            ]
        )
        both, references = torch.cat([places, places]), bank.matrix()
        contrast = both, self.temperature, self.negatives
        loss = self.fuse_weight * fusion_loss(embeds, references, *contrast)
        loss = loss + self.guide_weight * guidance_loss(embeds, references, *contrast)
        if self.pair_weight:
            scores = output_field(outputs, "scores", "references")
            targets = distribution_targets(identities)
            loss = loss + self.pair_weight * distribution_matching_loss(scores, targets, self.scale)
        if self.words is not None:
            token_embeds = output_field(outputs, "text_token_embeds", "references")
            check_width(token_embeds, self.token_dim, "references", "token_dim")
            input_ids = batch_field(batch, "input_ids", "references")
            mask = batch_field(batch, "attention_mask", "references")
            words = self.words(token_embeds, input_ids, mask, bank(places))
            loss = loss + self.word_weight * words
        return loss

    def _check_heads(self) -> None:
        if self.word_weight and self.dim % self.heads:
            raise ValueError(
                f"objectives.references.heads must divide dim={self.dim}, got {self.heads}."
            )

    def _bound(self) -> tuple[ReferenceBank, Tensor]:
        """The references and whose they are, once there are any."""
        if self.bank is None or self.known is None:
            raise RuntimeError(not_bound("references"))
        return self.bank, self.known


def fusion_loss(
    features: Tensor,
    references: Tensor,
    places: Tensor,
    temperature: float = 0.05,
    negatives: Literal["all", "batch"] = "all",
) -> Tensor:
    """Global fusion: references come nearer to the features of their object; features stay.

    :func:`reference_contrast` without a gradient to the features, as MMRef stops it.
    """
    return reference_contrast(features.detach(), references, places, temperature, negatives)


def guidance_loss(
    features: Tensor,
    references: Tensor,
    places: Tensor,
    temperature: float = 0.05,
    negatives: Literal["all", "batch"] = "all",
) -> Tensor:
    """Guidance: features come nearer to the reference of their object; references stay (*ours*).

    The mirror of :func:`fusion_loss`; it does what a classifier of identities would.
    """
    return reference_contrast(features, references.detach(), places, temperature, negatives)


def reference_contrast(
    features: Tensor,
    references: Tensor,
    places: Tensor,
    temperature: float = 0.05,
    negatives: Literal["all", "batch"] = "all",
) -> Tensor:
    r"""Each feature tells the reference of its object from others.

    .. math::
        -\frac{1}{M} \sum_{e} \log \frac{\exp(\cos(R_{y_e}, e) / \tau)}
        {\sum_j \exp(\cos(R_j, e) / \tau)}

    MMRef's contrastive loss as we read it: which references are negatives, and the temperature, are
    *ours*.

    Args:
        features: (M, D), of pictures and captions alike.
        references: (m, D), :math:`R`.
        places: (M,) int64 in [0, m), :math:`y`, whose features they are.
        temperature: :math:`\tau` > 0.
        negatives: j runs over ``"all"`` references, or over those of objects in the ``"batch"``.

    Returns:
        Scalar >= 0; 0 where there is nothing to tell apart.
    """
    choose(NEGATIVES, negatives, "negatives")
    if negatives == "batch":
        present, places = places.unique(return_inverse=True)
        references = references[present]
    return F.cross_entropy(cosines(features, references) / temperature, places)
