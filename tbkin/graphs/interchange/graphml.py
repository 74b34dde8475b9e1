"""GraphML out, for networkx, Gephi, yEd and their like: nothing of the graph is left out."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from tbkin.files import new_file, new_folder
from tbkin.graphs.interchange.output import file_stem
from tbkin.graphs.scene_graph import SceneGraph

# Characters that XML 1.0 cannot hold, not even escaped.
_FORBIDDEN = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_KEYS = {  # of what -> name -> type of GraphML
    "graph": {"image_id": "string", "width": "int", "height": "int", "words": "string"},
    "node": {
        "type": "string",
        "label": "string",
        "index": "int",
        "role": "string",
        "left": "double",
        "top": "double",
        "right": "double",
        "bottom": "double",
        "score": "double",
        "text": "string",
        "negated": "boolean",
    },
    "edge": {"type": "string", "predicate": "string", "weight": "double"},
}


def write_graphml(path: Path, graphs: Iterable[SceneGraph], counts: Counter[str]) -> int:
    """Write one file, or a folder with one file a graph.

    Args:
        path: a name that ends in ``.graphml`` is a file and takes one graph; any other is a folder.
        graphs: what to write.
        counts: what was mended -> how often; added to.

    Returns:
        How many graphs.

    Raises:
        ValueError: several graphs, or none, for one file.
    """
    return write_each(path, graphs, ".graphml", lambda graph: graphml_text(graph, counts))


def write_each(
    path: Path,
    graphs: Iterable[SceneGraph],
    suffix: str,
    text_of: Callable[[SceneGraph], str],
) -> int:
    """Write ``text_of(graph)``: one file where ``path`` ends in ``suffix``, else a folder."""
    if path.suffix.lower() == suffix:
        texts = (text_of(graph) for graph in graphs)
        text = next(texts, None)
        if text is None or next(texts, None) is not None:
            what = "no graph" if text is None else "several graphs"
            raise ValueError(
                f"{path} takes one graph, got {what}; a name without {suffix} is a folder."
            )
        with new_file(path) as file:
            file.write(text)
        return 1
    used: set[str] = set()
    count = 0
    with new_folder(path.absolute()) as folder:
        for graph in graphs:
            with new_file(folder / f"{file_stem(graph.image_id, count, used)}{suffix}") as file:
                file.write(text_of(graph))
            count += 1
    return count


def graphml_text(graph: SceneGraph, counts: Counter[str] | None = None) -> str:
    """One graph as a GraphML document.

    Boxes are four numbers; ``words`` is a JSON list. Empty texts are left out. Characters that XML
    cannot hold become U+FFFD.
    """
    counts = Counter() if counts is None else counts
    lines = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        '<graphml xmlns="http://graphml.graphdrawing.org/xmlns">',
    ]
    for kind, keys in _KEYS.items():
        lines += [
            f'<key id="{kind}_{name}" for="{kind}" attr.name="{name}" attr.type="{value_type}"/>'
            for name, value_type in keys.items()
        ]
    lines.append('<graph edgedefault="directed">')
    words = json.dumps(graph.words, ensure_ascii=False)
    size = {"width": graph.width, "height": graph.height}
    lines += _data("graph", {"image_id": graph.image_id, **size, "words": words}, counts)
    for place, node in enumerate(graph.nodes):
        values: dict[str, Any] = {
            name: getattr(node, name)
            for name in ("type", "label", "index", "role", "score", "text", "negated")
        }
        if node.box is not None:
            values |= dict(zip(("left", "top", "right", "bottom"), node.box, strict=True))
        lines += [f'<node id="n{place}">', *_data("node", values, counts), "</node>"]
    for place, edge in enumerate(graph.edges):
        lines.append(f'<edge id="e{place}" source="n{edge.source}" target="n{edge.target}">')
        values = {"type": edge.type, "predicate": edge.predicate, "weight": edge.weight}
        lines += [*_data("edge", values, counts), "</edge>"]
    return "\n".join([*lines, "</graph>", "</graphml>", ""])


def _data(kind: str, values: dict[str, Any], counts: Counter[str]) -> list[str]:
    lines = []
    for name in _KEYS[kind]:
        value = values.get(name, "")
        if value == "" and isinstance(value, str):
            continue
        if isinstance(value, str):
            value, mended = _FORBIDDEN.subn("\ufffd", value)
            counts["characters that XML cannot hold replaced"] += mended
            # A bare carriage return would be read back as a line feed.
            text = escape(value, {"\r": "&#13;"})
        elif isinstance(value, bool):
            text = str(value).lower()
        else:
            text = repr(value)
        lines.append(f'<data key="{kind}_{name}">{text}</data>')
    return lines
