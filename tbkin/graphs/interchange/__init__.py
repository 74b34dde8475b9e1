"""Other people's scene graphs, in and out: ``read_graphs(path)``, ``write_graphs(path, graphs)``.

One file a format; a reader turns a file into :class:`Regions` or whole graphs, one at a time, and
:func:`read_graphs` makes them all graphs by the builder that detected regions go through. A new
format is one file and one line below.
"""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import torch

from tbkin.config import choose
from tbkin.graphs.build import picture_graph
from tbkin.graphs.interchange.benchmark_predictions import read_benchmark_predictions
from tbkin.graphs.interchange.coco import read_coco, write_coco
from tbkin.graphs.interchange.detect import detect_format
from tbkin.graphs.interchange.dot import write_dot
from tbkin.graphs.interchange.graphml import write_graphml
from tbkin.graphs.interchange.json_lines import read_json_lines, write_json_lines
from tbkin.graphs.interchange.psg import read_psg
from tbkin.graphs.interchange.relation_rows import read_relation_rows
from tbkin.graphs.interchange.vg150 import read_vg150
from tbkin.graphs.interchange.visual_genome import read_visual_genome, write_visual_genome
from tbkin.graphs.relations import overlap_edges, spatial_edges
from tbkin.graphs.scene_graph import Edge, SceneGraph

__all__ = ["READERS", "WRITERS", "detect_format", "options_of", "read_graphs", "write_graphs"]

READERS: dict[str, Callable[..., Iterator[Any]]] = {
    "json_lines": read_json_lines,
    "visual_genome": read_visual_genome,
    "vg150": read_vg150,
    "benchmark_predictions": read_benchmark_predictions,
    "psg": read_psg,
    "coco": read_coco,
    "relation_rows": read_relation_rows,
}
WRITERS: dict[str, Callable[[Path, Iterable[SceneGraph], Counter[str]], int]] = {
    "json_lines": write_json_lines,
    "graphml": write_graphml,
    "coco": write_coco,
    "dot": write_dot,
    "visual_genome": write_visual_genome,
}
_BY_SUFFIX = {".jsonl": "json_lines", ".graphml": "graphml", ".dot": "dot"}


def read_graphs(
    path: str | Path,
    format: str = "auto",
    geometry: bool = False,
    counts: Counter[str] | None = None,
    **options: Any,
) -> Iterator[SceneGraph]:
    """Scene graphs from a file or folder of any format of ``READERS``, one at a time.

    Args:
        path: the file or folder.
        format: a name in ``READERS``; ``auto`` looks into the file, and asks where it is not sure.
        geometry: add the spatial and overlap edges that follow from the boxes. Without it a graph
            holds what the file says.
        counts: what was dropped or mended -> how often; added to while the graphs are read.
        options: of the reader, see its function.

    Returns:
        Graphs with region nodes (label, box cut to the picture, score), one attribute node a name
        and picture, "is" edges and the relations with the file's own predicates.

    Raises:
        FileNotFoundError: no such path.
        ValueError: unknown format or option at once; while reading, a file of another layout.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"no file or folder {path}.")
    name = detect_format(path) if format == "auto" else format
    reader = choose(READERS, name, "format to read")
    for key in options:
        if key not in options_of(name):
            allowed = ", ".join(options_of(name)) or "no options"
            raise ValueError(f"reading {name} has no option {key!r}; it takes: {allowed}.")
    found = reader(path, Counter() if counts is None else counts, **options)
    return (_graph_of(one, geometry) for one in found)


def write_graphs(
    path: str | Path,
    graphs: Iterable[SceneGraph],
    format: str = "auto",
    counts: Counter[str] | None = None,
) -> int:
    """Write scene graphs in a format of ``WRITERS``; return how many.

    Args:
        path: the file or folder; what is there is replaced when all is written.
        graphs: may be an iterator; they are written one at a time.
        format: a name in ``WRITERS``; ``auto`` goes by the ending: .jsonl, .graphml or .dot.
        counts: what the format has no place for -> how often; added to.

    Raises:
        ValueError: unknown format, or an ending that does not tell.
    """
    path = Path(path)
    if format == "auto":
        if path.suffix.lower() not in _BY_SUFFIX:
            raise ValueError(
                f"{path} does not tell its format by its ending; choose from: "
                f"{', '.join(sorted(WRITERS))}."
            )
        format = _BY_SUFFIX[path.suffix.lower()]
    writer = choose(WRITERS, format, "format to write")
    return writer(path, graphs, Counter() if counts is None else counts)


def options_of(name: str) -> list[str]:
    """What the reader of a format can be told."""
    parameters = inspect.signature(READERS[name]).parameters.values()
    return [one.name for one in parameters if one.kind is one.KEYWORD_ONLY]


def with_geometry(graph: SceneGraph) -> SceneGraph:
    """The graph with its spatial and overlap edges made anew from the boxes."""
    places = graph.of_type("region")
    boxes = torch.tensor([graph.nodes[place].box for place in places]).reshape(-1, 4)
    made = [
        Edge(places[edge.source], edge.predicate, places[edge.target], edge.type, edge.weight)
        for edge in spatial_edges(boxes) + overlap_edges(boxes)
    ]
    told = [edge for edge in graph.edges if edge.type not in ("spatial", "overlap")]
    return SceneGraph(
        graph.nodes, made + told, graph.words, graph.width, graph.height, graph.image_id
    )


def _graph_of(found: Any, geometry: bool) -> SceneGraph:
    if not isinstance(found, SceneGraph):
        return picture_graph(found, geometry=geometry)
    return with_geometry(found) if geometry else found
