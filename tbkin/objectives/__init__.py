"""Objectives by name, and their weighted sum."""

from __future__ import annotations

import inspect
from typing import Any

from torch import Tensor, nn

from tbkin.config import choose
from tbkin.objectives.answer import Answer
from tbkin.objectives.region_words import RegionWords

OBJECTIVES: dict[str, type[nn.Module]] = {
    "answer": Answer,
    "region_words": RegionWords,
}


class TotalLoss(nn.Module):
    """Weighted sum of the objectives that a run names.

    Args:
        settings: objective -> its constructor's arguments, and ``weight`` (default 1).
    """

    def __init__(self, settings: dict[str, dict[str, Any]]):
        super().__init__()
        self.objectives = nn.ModuleDict()
        self.weights: dict[str, float] = {}
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

    def forward(self, outputs: Any, batch: dict[str, Any]) -> tuple[Tensor, dict[str, Tensor]]:
        """The scalar to minimise, and each unweighted term by name."""
        terms = {name: objective(outputs, batch) for name, objective in self.objectives.items()}
        return sum(self.weights[name] * term for name, term in terms.items()), terms


def _arguments(kind: type[nn.Module]) -> list[str]:
    """Names that a constructor takes; ``nn.Module``'s own takes ``*args`` and ``**kwargs``."""
    several = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    parameters = inspect.signature(kind).parameters
    return [name for name, parameter in parameters.items() if parameter.kind not in several]
