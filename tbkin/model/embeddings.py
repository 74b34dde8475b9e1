"""Tokens, regions and attribute nodes -> states that the fusion layers share.

The visual side follows ROSITA (arXiv:2108.07073 and its code: feature and box projections under
one LayerNorm); the tied label embedding and the patch encoder are *ours*.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tbkin.boxes import box_geometry
from tbkin.model.configuration_tbkin import TBKINConfig


class TextEmbeddings(nn.Module):
    """Word and position embeddings; the word table also names regions and attributes."""

    def __init__(self, config: TBKINConfig):
        super().__init__()
        self.words = nn.Embedding(config.vocab_size, config.hidden_size, config.pad_token_id)
        self.positions = nn.Embedding(config.max_position_embeddings, config.hidden_size)
        types = config.type_vocab_size
        self.types = nn.Embedding(types, config.hidden_size) if types else None
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)
        self.pad_token_id = config.pad_token_id

    def forward(self, input_ids: Tensor) -> Tensor:
        """(B, T) token ids -> (B, T, D)."""
        places = torch.arange(input_ids.shape[1], device=input_ids.device)
        states = self.words(input_ids) + self.positions(places)
        if self.types is not None:  # BERT's second type is for a second sentence
            states = states + self.types.weight[0]
        return self.dropout(self.norm(states))

    def table(self) -> Tensor:
        """(vocabulary, D) word embeddings; padding stays zero, as it does in ``nn.Embedding``."""
        if self.pad_token_id is None:
            return self.words.weight
        padding = torch.tensor([self.pad_token_id], device=self.words.weight.device)
        return self.words.weight.index_fill(0, padding, 0.0)

    def label(self, label_ids: Tensor) -> Tensor:
        """(…, K) token ids of names, padded -> (…, D), the sum of their word embeddings."""
        return nn.functional.embedding(label_ids, self.table()).sum(dim=-2)


class RegionEmbeddings(nn.Module):
    """Features, boxes and, if the detector has words, its labels -> region states.

    A detector's labels err. With ``read_labels`` the model reads every region's words off its
    features as well, and embeds what it read beside what the detector said (*ours*).
    """

    def __init__(self, config: TBKINConfig):
        super().__init__()
        size, hidden = config.region_feature_size, config.hidden_size
        if config.region_encoder == "patches":
            self.features: nn.Module = nn.Sequential(
                nn.Linear(size, 2 * hidden), nn.GELU(), nn.Linear(2 * hidden, hidden)
            )
        else:
            self.features = nn.Linear(size, hidden)
        self.boxes = nn.Linear(5, hidden)
        self.said = LabelEmbedding(config) if config.region_labels else None
        self.scores = nn.Linear(1, hidden) if config.region_labels else None
        self.label_gate = (
            nn.Parameter(torch.full((hidden,), float(config.graph_gate)))
            if config.region_labels
            else None
        )
        reads = config.region_labels and config.read_labels
        self.reader = nn.Sequential(nn.GELU(), nn.Linear(hidden, hidden)) if reads else None
        self.rarity = nn.Parameter(torch.zeros(config.vocab_size)) if reads else None
        self.read = LabelEmbedding(config) if reads else None
        self.norm = nn.LayerNorm(hidden, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(
        self,
        region_features: Tensor,
        region_boxes: Tensor,
        region_label_ids: Tensor | None,
        region_scores: Tensor | None,
        words: Tensor | None,
    ) -> tuple[Tensor, Tensor | None]:
        """Embed the regions of each picture.

        Args:
            region_features: (B, R, F).
            region_boxes: (B, R, 4) xyxy in [0, 1].
            region_label_ids: (B, R, K) token ids of the detector's names; None only for a model
                without ``region_labels``, as the scores.
            region_scores: (B, R) in [0, 1].
            words: (vocabulary, D), the word embeddings; None as the label ids.

        Returns:
            (B, R, D), and the logits (B, R, vocabulary) of the words read off the features.
        """
        states = self.features(region_features) + self.boxes(box_geometry(region_boxes))
        label_logits = None
        if self.said is not None:
            if region_label_ids is None or region_scores is None:
                raise ValueError(
                    "a model with region_labels=true needs region_label_ids and region_scores."
                )
            named = nn.functional.embedding(region_label_ids, words).sum(dim=-2)
            labels = self.said(named) + self.scores(region_scores[..., None])
            if self.reader is not None:
                label_logits = self.reader(states) @ words.T + self.rarity
                labels = labels + self.read(label_logits.sigmoid() @ words)
            states = states + self.label_gate * labels
        return self.dropout(self.norm(states)), label_logits


class LabelEmbedding(nn.Module):
    """(…, D) sum of word embeddings -> (…, D), of one size however many words there were."""

    def __init__(self, config: TBKINConfig):
        super().__init__()
        self.norm = nn.LayerNorm(config.hidden_size)
        self.linear = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(self, words: Tensor) -> Tensor:
        """Normalise and project."""
        return self.linear(self.norm(words))


class AttributeEmbeddings(nn.Module):
    """Names of attribute nodes -> their states."""

    def __init__(self, config: TBKINConfig):
        super().__init__()
        self.kind = nn.Parameter(torch.zeros(config.hidden_size))
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, attribute_labels: Tensor) -> Tensor:
        """(B, V, D) embedded names -> (B, V, D)."""
        return self.dropout(self.norm(attribute_labels + self.kind))
