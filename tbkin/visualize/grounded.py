"""What an expression means in a picture: the box, the regions it was chosen among, and the truth.

``ranking`` and ``described`` put it in words, ``frames`` and ``probability_color`` in a picture.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from tbkin.boxes import paired_box_iou
from tbkin.graphs.scene_graph import SceneGraph
from tbkin.metrics.grounding_accuracy import THRESHOLDS
from tbkin.visualize.boxes import Frame
from tbkin.visualize.layout import name_of

COVERS = THRESHOLDS[0]  # IoU from which a box is right
PREDICTED, ANNOTATED = "#1d5fa8", "#14703a"
PALE, DARK = (190, 200, 214), (23, 63, 122)  # the ends of the probability scale
MOST_ATTRIBUTES = 2  # that a candidate is called by


@dataclass
class GroundedBox:
    """What an expression means, as a model says. R regions of the graph.

    Attributes:
        box: xyxy pixels of a picture of ``graph.width`` x ``graph.height``.
        probabilities: (R,), how likely each region is the one meant; they add up to 1. Empty: the
            model says the box directly and ranks no regions.
        true_box: what the annotators meant, likewise; None: unknown.
    """

    box: list[float]
    probabilities: list[float] = field(default_factory=list)
    true_box: list[float] | None = None

    @property
    def iou(self) -> float | None:
        """Plain IoU of the box with the true one, in [0, 1]; None: unknown."""
        return None if self.true_box is None else plain_iou(self.box, self.true_box)

    def best(self, count: int) -> list[tuple[int, float]]:
        """The likeliest regions with their probabilities, best first; the first was chosen."""
        order = sorted(range(len(self.probabilities)), key=lambda one: -self.probabilities[one])
        return [(region, self.probabilities[region]) for region in order[:count]]


def plain_iou(box: list[float], other: list[float]) -> float:
    """IoU of two xyxy boxes, as scores have it by default."""
    pair = torch.tensor([box, other], dtype=torch.float64)
    return paired_box_iou(pair[0], pair[1]).item()


def described(graph: SceneGraph, region: int) -> str:
    """A region by its number, its two surest attributes and its label, such as "3 red circle"."""
    place = graph.of_type("region")[region]
    seen = [
        edge
        for edge in graph.edges
        if edge.source == place
        and edge.type == "attribute"
        and graph.nodes[edge.target].type == "attribute"
    ]
    seen.sort(key=lambda edge: -edge.weight)
    names = [graph.nodes[edge.target].label for edge in seen[:MOST_ATTRIBUTES]]
    label = graph.nodes[place].label
    return " ".join([str(region), *names, label]) if label else name_of(graph, place)


def ranking(graph: SceneGraph, grounded: GroundedBox, count: int) -> list[tuple[str, float, bool]]:
    """(name, probability, whether it covers the true box) of the likeliest regions."""
    boxes = [graph.nodes[place].box for place in graph.of_type("region")]
    truth = grounded.true_box
    return [
        (
            described(graph, region),
            probability,
            truth is not None and plain_iou(list(boxes[region]), truth) >= COVERS,
        )
        for region, probability in grounded.best(count)
    ]


def frames(grounded: GroundedBox) -> list[Frame]:
    """The box, and the true one dashed."""
    found = [Frame(grounded.box, "predicted", PREDICTED)]
    if grounded.true_box is not None:
        found.append(Frame(grounded.true_box, "annotated", ANNOTATED, dashed=True))
    return found


def probability_color(probability: float) -> str:
    """From pale (0) to dark blue (1); its root, so that small ones differ."""
    share = min(max(probability, 0.0), 1.0) ** 0.5
    mixed = [round(low + share * (high - low)) for low, high in zip(PALE, DARK, strict=True)]
    return "#{:02x}{:02x}{:02x}".format(*mixed)
