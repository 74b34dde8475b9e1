"""Objectives by name, and their weighted sum."""

from __future__ import annotations

import inspect
from typing import Any

from torch import Tensor, nn

from tbkin.config import choose
from tbkin.objectives.answer import Answer
from tbkin.objectives.contrastive import Contrastive
from tbkin.objectives.cusa import CrossModalSoftLabel, UniModalSoftLabel
from tbkin.objectives.distribution_matching import DistributionMatching
from tbkin.objectives.grounding import GroundingBox, GroundingDirect, GroundingRank
from tbkin.objectives.identity import Identity
from tbkin.objectives.masked import MaskedAttributes, MaskedFeatures, MaskedObjects, MaskedWords
from tbkin.objectives.matching import Matching
from tbkin.objectives.mmref import References
from tbkin.objectives.momentum import MomentumContrast
from tbkin.objectives.region_words import RegionWords
from tbkin.objectives.sparsity import Sparsity
from tbkin.objectives.transport import Transport
from tbkin.objectives.triplet import Triplet
from tbkin.objectives.vsl import VisualSemantic

OBJECTIVES: dict[str, type[nn.Module]] = {
    "answer": Answer,
    "contrastive": Contrastive,
    "cross_modal_soft_label": CrossModalSoftLabel,
    "distribution_matching": DistributionMatching,
    "grounding_box": GroundingBox,
    "grounding_direct": GroundingDirect,
    "grounding_rank": GroundingRank,
    "identity": Identity,
    "masked_attributes": MaskedAttributes,
    "masked_features": MaskedFeatures,
    "masked_objects": MaskedObjects,
    "masked_words": MaskedWords,
    "matching": Matching,
    "momentum_contrast": MomentumContrast,
    "references": References,
    "region_words": RegionWords,
    "sparsity": Sparsity,
    "transport": Transport,
    "triplet": Triplet,
    "uni_modal_soft_label": UniModalSoftLabel,
    "visual_semantic": VisualSemantic,
}


class TotalLoss(nn.Module):
    """Weighted sum of the objectives that a run names.

    Args:
        settings: objective -> its constructor's arguments, and ``weight`` (default 1).

    Attributes:
        objectives: by name.
        settings: as they were given.
    """

    def __init__(self, settings: dict[str, dict[str, Any]]):
        super().__init__()
        self.objectives = nn.ModuleDict()
        self.weights: dict[str, float] = {}
        self.settings = {name: dict(arguments) for name, arguments in settings.items()}
        for name, arguments in settings.items():
            kind = choose(OBJECTIVES, name, "objective")
            allowed = ["weight", *_arguments(kind)]
            for key in arguments:
                if key not in allowed:
                    raise ValueError(
                        f"objectives.{name} has no setting {key!r}; it takes: {', '.join(allowed)}."
                    )
            own = dict(arguments)
            self.weights[name] = float(own.pop("weight", 1.0))
            self.objectives[name] = kind(**own)

    def set_epoch(self, epoch: int) -> None:
        """Tell the objectives that go by it which epoch of training it is; the first is 0."""
        for objective in self.objectives.values():
            if hasattr(objective, "set_epoch"):
                objective.set_epoch(epoch)

    def bind(self, dataset: Any, embedding_size: int, token_size: int) -> None:
        """Tell objectives what they are for; once, before the optimiser is made.

        Args:
            dataset: the training data, for those that have ``bind(dataset)``.
            embedding_size: width of the model's ``image_embeds`` and ``text_embeds``, for those
                that have ``set_widths(embedding_size, token_size)``, which comes first.
            token_size: of its ``text_token_embeds``.
        """
        for objective in self.objectives.values():
            if hasattr(objective, "set_widths"):
                objective.set_widths(embedding_size, token_size)
            if hasattr(objective, "bind"):
                objective.bind(dataset)

    def forward(self, outputs: Any, batch: dict[str, Any]) -> tuple[Tensor, dict[str, Tensor]]:
        """The scalar to minimise, and each unweighted term by name."""
        terms = {name: objective(outputs, batch) for name, objective in self.objectives.items()}
        return sum(self.weights[name] * term for name, term in terms.items()), terms


def _arguments(kind: type[nn.Module]) -> list[str]:
    """Names that a constructor takes; ``nn.Module``'s own takes ``*args`` and ``**kwargs``."""
    several = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    parameters = inspect.signature(kind).parameters
    return [name for name, parameter in parameters.items() if parameter.kind not in several]
