"""What a fused picture and text are asked: heads and the models that carry them."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from tbkin.model.configuration_tbkin import TBKINConfig
from tbkin.model.modeling_tbkin import TBKINModel, TBKINPreTrainedModel
from tbkin.model.outputs import TBKINForQuestionAnsweringOutput
from tbkin.objectives.answer import answer_loss


class AnswerHead(nn.Module):
    """Pooled state -> a logit for each known answer (ROSITA's head, section 2.3 of its code)."""

    def __init__(self, config: TBKINConfig):
        super().__init__()
        hidden = config.hidden_size
        self.dense = nn.Linear(hidden, 2 * hidden)
        self.norm = nn.LayerNorm(2 * hidden, eps=config.layer_norm_eps)
        self.answers = nn.Linear(2 * hidden, config.num_labels)

    def forward(self, pooled: Tensor) -> Tensor:
        """(B, D) -> (B, A)."""
        return self.answers(self.norm(nn.functional.gelu(self.dense(pooled))))


class TBKINForQuestionAnswering(TBKINPreTrainedModel):
    """Answers from a closed vocabulary, ``config.id2label``."""

    def __init__(self, config: TBKINConfig):
        super().__init__(config)
        self.tbkin = TBKINModel(config)
        self.head = AnswerHead(config)
        self.post_init()

    def forward(
        self, labels: Tensor | None = None, **inputs: Any
    ) -> TBKINForQuestionAnsweringOutput:
        """Answer a batch.

        Args:
            labels: (B, A) soft scores in [0, 1]; then ``loss`` is filled in.
            **inputs: as :meth:`TBKINModel.forward` takes them.
        """
        fused = self.tbkin(**inputs)
        logits = self.head(fused.pooled)
        loss = None if labels is None else answer_loss(logits, labels)
        return TBKINForQuestionAnsweringOutput(loss=loss, logits=logits, **fused)
