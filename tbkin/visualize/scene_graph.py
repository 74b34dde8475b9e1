"""A scene graph as a file to look at: ``write_drawing(path, graph, image)``, SVG, HTML or PNG.

The drawing holds everything it shows: pictures are in it, nothing is fetched.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

from PIL import Image

from tbkin.files import write_bytes, write_text
from tbkin.graphs.scene_graph import SceneGraph
from tbkin.visualize.boxes import CROWDED, boxes_block
from tbkin.visualize.edges import ROLE_COLORS, choose_lines
from tbkin.visualize.graph import STRUCK, Marks, legend_block, scene_graph_block
from tbkin.visualize.graph_page import graphs_page
from tbkin.visualize.png import check_rasteriser, rasterise
from tbkin.visualize.svg import (
    INK,
    SOFT,
    Area,
    Block,
    drawing,
    fit,
    rectangle,
    text,
    text_width,
)

SUFFIXES = (".html", ".svg", ".png")
# Dark enough for white numbers; neighbours in the list differ most.
COLORS = """#c0392b #1f6fb2 #2e7d32 #7b3fa0 #a85400 #00727f #ad1a6d #5d6d00 #3949ab #8d4b2a #006b54
#6d4c9f""".split()
WIDTH = 1060  # of the drawing, if its graph does not need more
PICTURE = (780, 600)  # the picture fills the one or the other
LEGEND = 230  # beside the picture, if it leaves so much room
ASPECT = 0.01  # how far the shapes of picture and graph may differ


def draw_scene_graph(
    graph: SceneGraph,
    image: Image.Image | None = None,
    title: str = "",
    *,
    min_strength: float = 0.0,
    max_edges: int = 60,
) -> str:
    """Picture, text and graph as one self-contained ``<svg>``.

    The sentence on top, then the picture with its boxes, then three columns: attributes, regions
    in the colours of their boxes, and the words in reading order. Alignments carry their strength
    in figures, in width and in opacity. Spatial and overlap edges are drawn if they are few, or
    if they make a relation of the text true; the last line of the legend counts the rest.

    Args:
        graph: of a picture, a text, both or nothing.
        image: its picture, RGB; None: boxes on a plain ground.
        title: a line on top.
        min_strength: alignments weaker than this are left out, in [0, 1].
        max_edges: of alignments, of attributes and of detected relations each, the strongest so
            many are drawn, but never more than 12 relations: others are listed beside the
            picture, as far as there is room. 0: all.

    Raises:
        ValueError: the picture's shape differs from the graph's by more than 1 %.
    """
    check_picture(graph, image)
    lines, left_out = choose_lines(
        graph, geometry=True, min_strength=min_strength, max_edges=max_edges
    )
    marks = _marks(graph)
    nodes = scene_graph_block(
        graph, image if graph.width else None, marks, lines, left_out, legend=False
    )
    width = max(WIDTH, nodes.width)
    parts = [_title_block(graph, title, width)]
    beside = None
    if image is not None or graph.width:
        spoken_of = {line.target for line in lines if line.kind == "object"}
        order = sorted(
            graph.of_type("region"), key=lambda place: _importance(graph, place, spoken_of)
        )
        named = spoken_of if len(spoken_of) < CROWDED else set()
        seen = boxes_block(image, graph, marks, order, named, PICTURE)
        free = width - seen.width - 40
        if free >= LEGEND:
            beside = legend_block(graph, lines, left_out, free, room=seen.height)
        body = [seen.at(10, 0)]
        if beside is not None:
            body.append(beside.at(seen.width + 30, 0))
        height = max(seen.height, beside.height if beside is not None else 0)
        parts.append(Block(body, width, height))
    parts.append(Block([nodes.at((width - nodes.width) / 2, 0)], width, nodes.height))
    if beside is None:
        parts.append(legend_block(graph, lines, left_out, width))
    body, y = [], 12.0
    for part in parts:
        if part.height:
            body.append(part.at(0, y))
            y += part.height + 18
    ground = rectangle(Area(0, 0, width, y), 'fill="#ffffff"')
    return drawing(Block([ground, *body], width, y), title or _described(graph))


def write_drawing(
    path: str | Path,
    graphs: SceneGraph | Sequence[SceneGraph],
    images: Image.Image | Sequence[Image.Image | None] | None = None,
    title: str = "",
    *,
    min_strength: float = 0.0,
    max_edges: int = 60,
    scale: float = 2.0,
) -> None:
    """Write one drawing, or a page of several, as the path's suffix says.

    Args:
        path: ``.html``: a page with the drawing, its facts and its strengths; ``.svg``; or
            ``.png``, for which the extra ``png`` must be installed. Its folder is made if need be.
        graphs: one, or for ``.html`` any number of them.
        images: the picture of each graph, RGB; None: unknown.
        title: of the page or drawing.
        min_strength: see :func:`draw_scene_graph`.
        max_edges: see :func:`draw_scene_graph`.
        scale: pixels of a PNG a pixel of the drawing.

    Raises:
        ValueError: another suffix, several graphs for one drawing, a picture of another shape.
        ImportError: ``.png`` without the extra.
    """
    path = Path(path)
    suffix = check_drawing_path(path)
    graphs = [graphs] if isinstance(graphs, SceneGraph) else list(graphs)
    if images is None:
        images = [None] * len(graphs)
    images = [images] if isinstance(images, Image.Image) else list(images)
    if len(images) != len(graphs):
        raise ValueError(
            f"{len(graphs)} graphs and {len(images)} pictures; give one picture (or None) a graph."
        )
    if suffix != ".html" and len(graphs) != 1:
        raise ValueError(
            f"{path} can show one graph, got {len(graphs)}; choose one, or write .html, which "
            "shows them all."
        )
    drawings = [
        draw_scene_graph(
            graph,
            image,
            title if suffix != ".html" else "",
            min_strength=min_strength,
            max_edges=max_edges,
        )
        for graph, image in zip(graphs, images, strict=True)
    ]
    if suffix == ".html":
        write_text(path, graphs_page(title or "Scene graphs", graphs, drawings, min_strength))
    elif suffix == ".svg":
        write_text(path, drawings[0] + "\n")
    else:
        write_bytes(path, rasterise(drawings[0], scale))


def check_drawing_path(path: Path) -> str:
    """The suffix of a drawing's path, if it can be written; to be called before long work.

    Raises:
        ValueError: no suffix of a drawing.
        ImportError: ``.png`` without the extra ``png``.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise ValueError(f"{path}: a drawing ends in {', '.join(SUFFIXES)}, got {suffix!r}.")
    if suffix == ".png":
        check_rasteriser()
    return suffix


def check_picture(graph: SceneGraph, image: Image.Image | None) -> None:
    """Raise ``ValueError`` if a picture cannot be the graph's."""
    if image is None or not graph.width or not graph.height:
        return
    shape = (image.width / image.height) / (graph.width / graph.height)
    if abs(shape - 1) > ASPECT:
        whose = f" of image {graph.image_id}" if graph.image_id else ""
        raise ValueError(
            f"the picture is {image.width} x {image.height} pixels, but the graph{whose} was made "
            f"from one of {graph.width} x {graph.height}; give the picture that the graph was made "
            "from (another size of the same shape is fine)."
        )


def _marks(graph: SceneGraph) -> Marks:
    """Every region has a colour; they repeat after twelve, so boxes carry numbers too."""
    colors, said = [], []
    for place, node in enumerate(graph.nodes):
        colors.append(COLORS[place % len(COLORS)] if node.type == "region" else "#8a94a3")
        if node.type == "region":
            box = " ".join(f"{side:.0f}" for side in node.box)
            said.append(f"score {node.score:.2f}, box {box}")
        else:
            said.append("")
    edge_said = [f"{edge.type}, weight {edge.weight:.2f}" for edge in graph.edges]
    kept = [True] * len(graph.nodes)
    return Marks(colors, kept, said, [True] * len(graph.edges), edge_said)


def _importance(graph: SceneGraph, place: int, spoken_of: set[int]) -> tuple[bool, float]:
    """Boxes that the text speaks of are on top, among them small ones on large ones."""
    left, top, right, bottom = graph.nodes[place].box
    return place in spoken_of, -(right - left) * (bottom - top)


def _title_block(graph: SceneGraph, title: str, width: float) -> Block:
    """The title, and the sentence with its words in the colours of their roles."""
    parts, bottom = [], 0.0
    if title:
        parts.append(text((10, 20), fit(title, width - 20, 18), INK, 18, anchor="start"))
        bottom = 34.0
    node_of = {node.index: node for node in reversed(graph.nodes) if node.type == "word"}
    rows: list[list[str]] = []
    room = 0.0
    for index, word in enumerate(graph.words):
        word, node = fit(word, width - 20, 15), node_of.get(index)
        room -= text_width(f"{word} ", 15)
        if room < 0 or not rows:
            rows.append([])
            room = width - 20 - text_width(f"{word} ", 15)
        color = ROLE_COLORS[node.role] if node is not None else SOFT
        more = f" {STRUCK}" if node is not None and node.negated else ""
        rows[-1].append(f'<tspan fill="{color}"{more}>{escape(word)}</tspan>')
    end = bottom
    for row in rows:
        parts.append(f'<text x="10" y="{end + 17:.1f}" font-size="15">{" ".join(row)}</text>')
        end += 24
    if not (graph.nodes or graph.words):
        parts.append(text((10, bottom + 17), "The graph is empty.", SOFT, 15, anchor="start"))
        end = bottom + 24
    return Block(parts, width, end)


def _described(graph: SceneGraph) -> str:
    """What a screen reader says of the drawing."""
    counts = [f"{len(graph.of_type(kind))} {kind}s" for kind in ("region", "attribute", "word")]
    return f"Scene graph: {', '.join(counts)}, {len(graph.edges)} edges"
