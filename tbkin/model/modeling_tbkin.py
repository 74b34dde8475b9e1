"""The TBKIN model: embed text and regions, select knowledge, fuse over the graph, pool."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.data import Data
from transformers import PreTrainedModel

from tbkin.model.configuration_tbkin import TBKINConfig
from tbkin.model.embeddings import AttributeEmbeddings, RegionEmbeddings, TextEmbeddings
from tbkin.model.fusion import (
    FusionEncoder,
    SelectiveAttention,
    fused_mask,
    gate_mean,
    kept_pairs,
    kept_share,
    learned_thresholds,
)
from tbkin.model.graph_encoder import GraphLayer
from tbkin.model.initialization import check_edge_kinds
from tbkin.model.knowledge import KnowledgeSelection, credibility
from tbkin.model.outputs import TBKINOutput
from tbkin.model.sgraf import ExactLinear


class TBKINPreTrainedModel(PreTrainedModel):
    """Saving, loading and starting weights of every TBKIN model."""

    config_class = TBKINConfig
    base_model_prefix = "tbkin"

    @classmethod
    def from_pretrained(cls, folder: Any, *args: Any, **settings: Any) -> Any:
        """As ``PreTrainedModel.from_pretrained``; ValueError where edge kinds were others."""
        if folder is not None:
            check_edge_kinds(Path(folder))
        return super().from_pretrained(folder, *args, **settings)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """BERT's start: N(0, initializer_range), zero biases, LayerNorm at (1, 0)."""
        if isinstance(module, ExactLinear):
            module.reset_parameters()  # by a rule of its own
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=self._deviation(module))
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=self._deviation(module))
            if module.padding_idx is not None:
                nn.init.zeros_(module.weight[module.padding_idx])
        elif isinstance(module, nn.LayerNorm):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
        elif isinstance(module, GraphLayer):
            nn.init.constant_(module.gate, float(self.config.graph_gate))
            # Here, because transformers 5 passes over modules that own no parameter themselves.
            module.convolution.reset_parameters()
        elif isinstance(module, RegionEmbeddings):
            if module.label_gate is not None:
                nn.init.constant_(module.label_gate, float(self.config.graph_gate))
            if module.rarity is not None:
                nn.init.constant_(module.rarity, -4.0)  # few of the words fit a region
        elif isinstance(module, AttributeEmbeddings):
            nn.init.zeros_(module.kind)
        elif isinstance(module, SelectiveAttention) and module.threshold_shift is not None:
            nn.init.zeros_(module.threshold_shift)
        elif isinstance(module, TBKINModel):
            nn.init.zeros_(module.training_steps)

    def _deviation(self, module: nn.Module) -> float:
        """Standard deviation of a module's new weights."""
        return 0.0 if getattr(module, "starts_at_zero", False) else self.config.initializer_range


class TBKINModel(TBKINPreTrainedModel):
    """Text, regions and their unified scene graph -> fused states.

    Args:
        config: see :class:`~tbkin.model.configuration_tbkin.TBKINConfig`.
    """

    def __init__(self, config: TBKINConfig):
        super().__init__(config)
        self.text = TextEmbeddings(config)
        self.regions = RegionEmbeddings(config)
        with_graph = config.graph_encoder != "none"
        self.attributes = AttributeEmbeddings(config) if with_graph else None
        self.knowledge = KnowledgeSelection(config) if with_graph else None
        self.fusion = FusionEncoder(config)
        self.pooler = nn.Linear(config.hidden_size, config.hidden_size)
        # Forward passes in training so far: how far the thresholds have ramped up.
        self.register_buffer("training_steps", torch.zeros((), dtype=torch.long))
        self.post_init()

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        region_features: Tensor,
        region_boxes: Tensor,
        region_mask: Tensor,
        region_label_ids: Tensor | None = None,
        region_scores: Tensor | None = None,
        attribute_label_ids: Tensor | None = None,
        attribute_mask: Tensor | None = None,
        graph: Data | None = None,
        output_attentions: bool = False,
        counted: bool = True,
        **_: object,
    ) -> TBKINOutput:
        """Fuse a batch.

        Args:
            input_ids: (B, T) token ids; position 0 is what the pooler reads.
            attention_mask: (B, T), 1 = real token.
            region_features: (B, R, F).
            region_boxes: (B, R, 4) xyxy in [0, 1].
            region_mask: (B, R), 1 = real region.
            region_label_ids: (B, R, K) token ids of class and attributes, padded; needed by a model
                with ``region_labels``, as are the scores.
            region_scores: (B, R), the detector's confidence.
            attribute_label_ids: (B, V, K) token ids of the attribute nodes' names.
            attribute_mask: (B, V), 1 = real node.
            graph: the batch's scene graphs, see ``data/collate.py``. Without it a model with a
                graph encoder sees text and regions alone.
            output_attentions: also return every layer's logits, weights and keep mask.
            counted: whether the thresholds' ramp goes on by this pass, in training; of several
                passes over one batch one counts.
        """
        ramp = self._ramp(counted)
        text = self.text(input_ids)
        words = self.text.table() if self.config.region_labels else None
        regions, label_logits = self.regions(
            region_features, region_boxes, region_label_ids, region_scores, words
        )
        parts, masks = [text, regions], [attention_mask.bool(), region_mask.bool()]
        with_graph = self.attributes is not None and graph is not None
        if with_graph:
            parts.append(self.attributes(self.text.label(attribute_label_ids)))
            masks.append(attribute_mask.bool())
        sizes = (text.shape[1], regions.shape[1], parts[-1].shape[1] if with_graph else 0)
        states, mask = torch.cat(parts, dim=1), fused_mask(*masks)

        known, key_mask, key_bias, edge_weight = None, mask, None, None
        if with_graph:
            judges = label_logits is not None and self.config.credibility_rule != "none"
            judged = credibility(label_logits, region_label_ids) if judges else None
            nodes = torch.cat(masks[1:], dim=1)
            known = self.knowledge(states, masks[0], nodes, judged, graph, ramp)
            key_mask = known.node_keep
            key_bias = known.node_relevance.clamp(min=1e-6).log()
            edge_weight = graph.edge_weight * known.edge_relevance
            if not self.config.attributes_attended:
                attended = torch.arange(mask.shape[1], device=mask.device) < sum(sizes[:2])
                key_mask = key_mask & attended
        states, attentions = self.fusion(
            states, key_mask, key_bias, graph, edge_weight, ramp, sizes, output_attentions
        )
        pairs = kept_pairs(attentions, self.config.num_attention_heads, key_mask, mask, sizes)
        traces = attentions if output_attentions else None
        return TBKINOutput(
            fused_states=states,
            text_states=states[:, : sizes[0]],
            region_states=states[:, sizes[0] : sizes[0] + sizes[1]],
            pooled=torch.tanh(self.pooler(states[:, 0])),
            state_mask=mask,
            attention_kept=kept_share(pairs.sum(dim=1)),
            attention_pairs=pairs,
            attention_gate=gate_mean(attentions, key_mask, mask),
            attention_thresholds=learned_thresholds(self.fusion.layers, self.fusion.selection),
            region_word_logits=label_logits,
            node_relevance=known.node_relevance if known else None,
            node_keep=known.node_keep if known else None,
            edge_keep=known.edge_keep if known else None,
            edge_relevance=known.edge_relevance if known else None,
            knowledge_kept=known.kept if known else None,
            attention_logits=tuple(one.logits for one in traces) if traces else None,
            attentions=tuple(one.weights for one in traces) if traces else None,
            attention_keep=tuple(one.keep for one in traces) if traces else None,
        )

    def _ramp(self, counted: bool) -> float:
        """Share of the thresholds in force: grows with the training steps."""
        if self.training and counted:
            self.training_steps += 1
        if self.config.selection_ramp_steps <= 0:
            return 1.0
        return min(1.0, self.training_steps.item() / self.config.selection_ramp_steps)
