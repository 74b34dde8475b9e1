"""tbkin: what in the picture and what in the sentence decided the answer.

Names are loaded when they are first used, so that a command's ``--help`` need not wait for torch.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_PLACES = {
    "Predictor": "tbkin.predict",
    "Regions": "tbkin.graphs.regions",
    "SceneGraph": "tbkin.graphs.scene_graph",
    "TBKINConfig": "tbkin.model.configuration_tbkin",
    "TBKINForGrounding": "tbkin.model.heads",
    "TBKINForImageTextRetrieval": "tbkin.model.retrieval",
    "TBKINForPreTraining": "tbkin.model.heads",
    "TBKINForQuestionAnswering": "tbkin.model.heads",
    "TBKINModel": "tbkin.model.modeling_tbkin",
    "TBKINProcessor": "tbkin.data.processing_tbkin",
    "build_scene_graph": "tbkin.graphs.build",
}
__all__ = ["__version__", *_PLACES]


def __getattr__(name: str) -> Any:
    """Load a public name from where it lives."""
    if name not in _PLACES:
        raise AttributeError(f"module 'tbkin' has no attribute {name!r}")
    return getattr(import_module(_PLACES[name]), name)
