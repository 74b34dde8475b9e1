"""The unified scene graph: what is seen, what is said, and how they align.

One picture and one text become one :class:`SceneGraph`. Its nodes are the picture's regions, the
attributes seen in it, and the text's content words; its edges say how they belong together.

========== ======================= ====================================================
edge type  from -> to              predicates
========== ======================= ====================================================
spatial    region -> region        ``left of``, ``right of``, ``above``, ``below``,
                                   ``inside``, ``around``
overlap    region -> region        ``overlaps``; the weight is the IoU
attribute  region -> attribute,    ``is``; the weight is the detector's confidence
           word -> word
relation   word -> word,           ``subject`` and ``object`` of a relation word; between
           region -> region        regions the predicate that a detector reported
alignment  word -> region,         what is aligned: ``object``, ``attribute``, ``relation``,
           word -> attribute       ``count``; the weight is the strength of the alignment
========== ======================= ====================================================

The idea of one graph over both modalities is ROSITA's (Cui et al., ACM Multimedia 2021,
arXiv:2108.07073); typed predicates, attribute nodes, aligned relations and counts are *ours*.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any

from tbkin.files import new_file

SCHEMA = "tbkin.scene_graph/1"
NODE_TYPES = ("region", "attribute", "word")
EDGE_TYPES = ("spatial", "overlap", "attribute", "relation", "alignment")
WORD_ROLES = ("object", "attribute", "relation", "count")
SPATIAL_PREDICATES = ("left of", "right of", "above", "below", "inside", "around")

_ENDS = {  # edge type -> the (source type, target type) pairs that it may join
    "spatial": {("region", "region")},
    "overlap": {("region", "region")},
    "attribute": {("region", "attribute"), ("word", "word")},
    "relation": {("word", "word"), ("region", "region")},
    "alignment": {("word", "region"), ("word", "attribute")},
}


@dataclass(frozen=True)
class Node:
    """One thing seen or said.

    Attributes:
        type: one of ``NODE_TYPES``.
        label: class name of a region, name of an attribute, lemma of a word.
        index: which region of the picture, or which word of the text; -1 for an attribute, and for
            what a text implies without saying it ("a clock face": the clock *has* a face).
        role: what a word does in its sentence, one of ``WORD_ROLES``; empty for the others.
        box: xyxy pixels, regions only.
        score: the detector's confidence in [0, 1]; 1 for words.
        text: a word node's whole phrase as written, lower case ("bed spreads"), where it is not
            just the word at ``index``.
        negated: the text says that it is *not* so ("not red", "wearing no hat").
    """

    type: str
    label: str
    index: int = -1
    role: str = ""
    box: tuple[float, float, float, float] | None = None
    score: float = 1.0
    text: str = ""
    negated: bool = False


_DEFAULTS = {one.name: one.default for one in fields(Node) if one.default is not MISSING}


@dataclass(frozen=True)
class Edge:
    """``source`` and ``target`` are positions in ``SceneGraph.nodes``; ``weight`` is in (0, 1]."""

    source: int
    predicate: str
    target: int
    type: str
    weight: float = 1.0


@dataclass
class SceneGraph:
    """Nodes and edges of one picture, one text, or both.

    Attributes:
        nodes: see :class:`Node`.
        edges: see :class:`Edge`; directed, at most one of a type, predicate and pair.
        words: the words of the text; word nodes point into it.
        width, height: size of the picture in pixels; 0 without a picture.
        image_id: whose picture; "" without.

    Raises:
        ValueError: an edge to a node that is not there, an unknown type, a box outside the picture.
    """

    nodes: list[Node] = field(default_factory=list)
    edges: list[Edge] = field(default_factory=list)
    words: list[str] = field(default_factory=list)
    width: int = 0
    height: int = 0
    image_id: str = ""

    def __post_init__(self) -> None:
        self.check()

    def check(self) -> None:
        """Raise ``ValueError`` unless the graph is sound."""
        for place, node in enumerate(self.nodes):
            _check_node(place, node, self)
        for edge in self.edges:
            _check_edge(edge, self.nodes)

    def of_type(self, kind: str) -> list[int]:
        """Positions of the nodes of one type, in order."""
        return [place for place, node in enumerate(self.nodes) if node.type == kind]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, with the schema's version."""
        nodes = [
            {key: value for key, value in vars(node).items() if value != _DEFAULTS.get(key)}
            for node in self.nodes
        ]
        return {
            "schema": SCHEMA,
            "image_id": self.image_id,
            "width": self.width,
            "height": self.height,
            "words": self.words,
            "nodes": nodes,
            "edges": [dict(vars(edge)) for edge in self.edges],
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> SceneGraph:
        """Read what :meth:`to_dict` wrote."""
        if values.get("schema") != SCHEMA:
            raise ValueError(
                f"not a scene graph of schema {SCHEMA!r}: got {values.get('schema')!r}. "
                "Write it again with this version of tbkin."
            )
        nodes = [
            Node(**{**node, "box": tuple(node["box"]) if node.get("box") else None})
            for node in values["nodes"]
        ]
        return cls(
            nodes=nodes,
            edges=[Edge(**edge) for edge in values["edges"]],
            words=list(values["words"]),
            width=values["width"],
            height=values["height"],
            image_id=values["image_id"],
        )


def write_scene_graphs(path: Path, graphs: Iterable[SceneGraph]) -> int:
    """Write JSON Lines, one graph a line, under a temporary name first; return how many."""
    count = 0
    with new_file(path) as file:
        for graph in graphs:
            file.write(json.dumps(graph.to_dict(), ensure_ascii=False) + "\n")
            count += 1
    return count


def read_scene_graphs(path: Path) -> Iterator[SceneGraph]:
    """Read JSON Lines that :func:`write_scene_graphs` wrote."""
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            try:
                yield SceneGraph.from_dict(json.loads(line))
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(f"{path}, line {number}: {error}") from error


def _check_node(place: int, node: Node, graph: SceneGraph) -> None:
    if node.type not in NODE_TYPES:
        raise ValueError(
            f"node {place} has type {node.type!r}; choose from: {', '.join(NODE_TYPES)}."
        )
    if not 0 <= node.score <= 1:
        raise ValueError(f"node {place} ({node.label}): score must be in [0, 1], got {node.score}.")
    if node.type == "word":
        if node.role not in WORD_ROLES:
            raise ValueError(
                f"node {place} ({node.label}): role {node.role!r}; "
                f"choose from: {', '.join(WORD_ROLES)}."
            )
        if not -1 <= node.index < len(graph.words):
            raise ValueError(
                f"node {place} ({node.label}): word {node.index} of a text of {len(graph.words)}."
            )
    if node.type == "region":
        if node.box is None or not all(math.isfinite(side) for side in node.box):
            raise ValueError(
                f"node {place} ({node.label}): a region needs a finite box, got {node.box}."
            )
        left, top, right, bottom = node.box
        if not (0 <= left <= right <= graph.width and 0 <= top <= bottom <= graph.height):
            raise ValueError(
                f"node {place} ({node.label}): box {node.box} leaves the picture of "
                f"{graph.width} x {graph.height} pixels; boxes are xyxy pixels."
            )


def _check_edge(edge: Edge, nodes: list[Node]) -> None:
    if edge.type not in EDGE_TYPES:
        raise ValueError(f"edge of type {edge.type!r}; choose from: {', '.join(EDGE_TYPES)}.")
    if not (0 <= edge.source < len(nodes) and 0 <= edge.target < len(nodes)):
        raise ValueError(
            f"edge {edge.source} -{edge.predicate}-> {edge.target} points outside "
            f"the {len(nodes)} nodes."
        )
    ends = (nodes[edge.source].type, nodes[edge.target].type)
    if ends not in _ENDS[edge.type]:
        raise ValueError(f"an edge of type {edge.type!r} may not join {ends[0]} and {ends[1]}.")
    if not 0 < edge.weight <= 1:
        raise ValueError(
            f"edge {edge.source} -{edge.predicate}-> {edge.target}: weight must be in (0, 1], "
            f"got {edge.weight}."
        )
