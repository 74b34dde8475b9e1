"""tbkin: what in the picture and what in the sentence decided the answer."""

from tbkin.data.processing_tbkin import TBKINProcessor
from tbkin.graphs.build import build_scene_graph
from tbkin.graphs.regions import Regions
from tbkin.graphs.scene_graph import SceneGraph
from tbkin.model.configuration_tbkin import TBKINConfig
from tbkin.model.heads import TBKINForQuestionAnswering
from tbkin.model.modeling_tbkin import TBKINModel
from tbkin.predict import Predictor

__version__ = "0.1.0"

__all__ = [
    "Predictor",
    "Regions",
    "SceneGraph",
    "TBKINConfig",
    "TBKINForQuestionAnswering",
    "TBKINModel",
    "TBKINProcessor",
    "__version__",
    "build_scene_graph",
]
