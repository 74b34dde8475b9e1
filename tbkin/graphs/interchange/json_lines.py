"""tbkin's own format, one graph a line: the only one that leaves nothing out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from tbkin.graphs.scene_graph import SceneGraph, read_scene_graphs, write_scene_graphs


def read_json_lines(path: Path, counts: Counter[str]) -> Iterator[SceneGraph]:
    """Graphs that tbkin wrote; see ``tbkin/graphs/scene_graph.py``."""
    return read_scene_graphs(path)


def write_json_lines(path: Path, graphs: Iterable[SceneGraph], counts: Counter[str]) -> int:
    """Write one graph a line; return how many."""
    return write_scene_graphs(path, graphs)
