"""Scene graphs to look at: ``tbkin prep draw graph=FILE.jsonl image=FILE output=x.html``.

The output's suffix says what is written. ``.html``: one page with all graphs of the file (up to
``limit``), their facts and the strengths of their alignments; it opens without a network.
``.svg`` and ``.png``: one graph, chosen with ``index`` or ``image_id`` if the file has several;
a PNG needs the extra ``png``.

Pictures: ``image`` is the picture of every graph drawn, ``images`` a folder (or a folder with an
``index.json``) where they are found by their ids, as ``tbkin prep regions`` numbers them. Without
one, boxes stand on a plain ground. Another size of the same picture is fine.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from PIL import Image

from data_prep.regions import find_pictures, make_way
from tbkin.config import load_config, setting
from tbkin.detectors.pixels import open_picture
from tbkin.graphs.scene_graph import SceneGraph, read_scene_graphs
from tbkin.visualize import check_drawing_path, check_picture, write_drawing


@dataclass
class DrawConfig:
    """One run of the step."""

    graph: str = setting("", "JSON Lines file of scene graphs")
    output: str = setting("", "drawing to write: .html, .svg or .png")
    image: str = setting("", "the picture of the graphs that are drawn")
    images: str = setting("", "folder of pictures, found by the graphs' image ids")
    index: int = setting(-1, "draw only the graph of this number in the file, from 0; -1: all")
    image_id: str = setting("", "draw only graphs of this image")
    limit: int = setting(20, "graphs on a page at most; 0: all")
    title: str = setting("", "of the page or drawing; not set: the file's name, of a drawing none")
    min_strength: float = setting(0.0, "leave out alignments weaker than this, in [0, 1]")
    max_edges: int = setting(60, "edges of a type at most, the strongest; 0: all")
    scale: float = setting(2.0, "pixels of a PNG a pixel of the drawing")
    overwrite: bool = setting(False, "replace a drawing that is there")

    def __post_init__(self) -> None:
        """Check ranges."""
        for name, least in (("index", -1), ("limit", 0), ("max_edges", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be >= {least}, got {getattr(self, name)}.")
        if not 0 <= self.min_strength <= 1:
            raise ValueError(f"min_strength must be in [0, 1], got {self.min_strength}.")
        if not 0 < self.scale <= 8:
            raise ValueError(f"scale must be in (0, 8], got {self.scale}.")
        if self.image and self.images:
            raise ValueError("give image=FILE or images=DIR, not both.")


def main(arguments: list[str]) -> None:
    """Draw the graphs that the settings choose."""
    config = load_config(DrawConfig, arguments, __doc__)
    if not config.graph or not config.output:
        raise ValueError("tbkin prep draw needs graph=FILE.jsonl and output=x.html, .svg or .png.")
    output = Path(config.output)
    one = check_drawing_path(output) != ".html"
    if not make_way(output, config.overwrite):
        return
    limit = 1 if one else config.limit
    chosen = _chosen(config)
    graphs = list(islice(chosen, limit or None))
    more = next(chosen, None) is not None
    if not graphs:
        raise ValueError(f"{config.graph} holds no scene graph{_of_which(config)}.")
    if one and more:
        raise ValueError(
            f"{config.graph} holds several scene graphs{_of_which(config)}, {output.name} shows "
            "one: choose it with index=0, 1, … or image_id=…, or write .html, which shows them "
            "all."
        )
    images = _pictures(config, graphs)
    title = config.title or ("" if one else Path(config.graph).name)
    write_drawing(
        output,
        graphs,
        images,
        title,
        min_strength=config.min_strength,
        max_edges=config.max_edges,
        scale=config.scale,
    )
    said = f"{output}: {len(graphs)} scene graph{'s' if len(graphs) > 1 else ''}"
    sys.stdout.write(said + (" (limit=0 draws the others too)\n" if more else "\n"))


def _chosen(config: DrawConfig) -> Iterator[SceneGraph]:
    """The graphs of the file that the settings name, read one by one."""
    path = Path(config.graph)
    if not path.is_file():
        raise FileNotFoundError(
            f"no scene graph file {path}; `tbkin prep scene_graphs` writes one."
        )
    count = 0
    for graph in read_scene_graphs(path):
        if config.index in (-1, count) and config.image_id in ("", graph.image_id):
            yield graph
        if count == config.index:
            return
        count += 1
    if config.index >= 0:
        raise ValueError(
            f"{path} holds {count} scene graphs, counted from 0; index={config.index} is none."
        )


def _of_which(config: DrawConfig) -> str:
    said = f" of image {config.image_id}" if config.image_id else ""
    return said + (f" with index {config.index}" if config.index >= 0 else "")


def _pictures(config: DrawConfig, graphs: list[SceneGraph]) -> list[Image.Image | None]:
    """The picture of each graph; None where there is none."""
    if config.image:
        ids = sorted({graph.image_id for graph in graphs})
        if len(ids) > 1:
            raise ValueError(
                f"image={config.image} is one picture, but the graphs are of {len(ids)}, such as "
                f"{ids[0]!r} and {ids[1]!r}: choose with image_id=…, or give images=DIR."
            )
        image = open_picture(config.image)
        for graph in graphs:
            check_picture(graph, image)
        return [image] * len(graphs)
    if not config.images:
        return [None] * len(graphs)
    paths = find_pictures([Path(config.images)], "auto")
    wanted = {graph.image_id for graph in graphs if graph.width}
    missing = sorted(wanted - set(paths))
    if missing and missing == sorted(wanted):
        raise LookupError(
            f"{config.images} holds none of the pictures of {config.graph}, such as {missing[0]!r} "
            f"({len(paths)} pictures there); give the folder that the graphs were made from."
        )
    if missing:
        sys.stderr.write(
            f"{len(missing)} pictures are not in {config.images}, such as {missing[0]!r}; their "
            "boxes are drawn without\n"
        )
    pictures = {name: open_picture(paths[name]) for name in sorted(wanted - set(missing))}
    return [pictures.get(graph.image_id) if graph.width else None for graph in graphs]
