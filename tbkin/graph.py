"""The unified scene graph of one picture and one text: ``tbkin graph image=FILE caption="…"``.

Prints what is seen, what is said and how they align; ``json=true`` prints the graph itself, and
``report=FILE.html`` (or .svg, .png) draws it. Either the picture or the text may be missing.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path

from tbkin.config import load_config, run_command, setting
from tbkin.detectors import DetectorSettings, build_detector, short_detector
from tbkin.detectors.pixels import open_picture
from tbkin.detectors.precomputed import image_number
from tbkin.graphs.build import build_scene_graph
from tbkin.graphs.facts import facts_of, phrase, write_facts
from tbkin.graphs.knowledge import CooccurrencePrior, weigh_text_edges
from tbkin.graphs.scene_graph import SceneGraph
from tbkin.graphs.word_vectors import load_similarity
from tbkin.parsers import load_parser
from tbkin.visualize import check_drawing_path, write_drawing


@dataclass
class GraphConfig:
    """One picture and one text."""

    image: str = setting("", "picture")
    caption: str = setting("", "what is said of it: a caption, a question, an expression")
    parser: str = setting("auto", "parser of the text; auto takes the best one installed")
    vectors: str = setting("embedded", "word vectors of the alignment; glove:FILE, encoder:DIR, …")
    knowledge: str = setting("", "co-occurrence priors that weigh the text's edges, a JSON file")
    report: str = setting("", "drawing to write: .html, .svg or .png")
    json: bool = setting(False, "print the graph as one JSON object")
    detector: DetectorSettings = field(default_factory=DetectorSettings)

    def __post_init__(self) -> None:
        """Check that there is something to do."""
        if not self.image and not self.caption.strip():
            raise ValueError('tbkin graph needs image=FILE or caption="…", or both.')


def main(arguments: list[str]) -> None:
    """Build, print and draw one graph."""
    config = load_config(GraphConfig, short_detector(arguments), __doc__)
    if config.report:
        check_drawing_path(Path(config.report))
    similarity = load_similarity(config.vectors)
    prior = CooccurrencePrior.load(Path(config.knowledge)) if config.knowledge else None
    image = open_picture(config.image) if config.image else None
    regions = None
    if image is not None:
        name = Path(config.image)
        detector = build_detector(config.detector)
        regions = detector(image, image_number(name) or name.stem)
    said = None
    if config.caption.strip():
        asked = config.caption.rstrip().endswith("?")
        said = load_parser(config.parser, "question" if asked else "caption")(config.caption)
        if prior is not None:
            said = weigh_text_edges(said, prior)
    graph = build_scene_graph(regions, said, similarity)
    if config.report:
        write_drawing(config.report, graph, image, config.caption)
    if config.json:
        sys.stdout.write(json.dumps(graph.to_dict(), ensure_ascii=False) + "\n")
        return
    sys.stdout.write(describe(graph) + "\n")
    if regions is not None and not any(regions.labels):
        sys.stderr.write(
            "the regions have no names, so that nothing can be aligned; for objects: "
            "detector=huggingface detector.model=HUB_ID_OR_FOLDER, or detector=onnx "
            "detector.model=FILE\n"
        )


def describe(graph: SceneGraph) -> str:
    """A graph in words: regions, facts of the text, alignments; one a line."""
    lines = []
    if graph.width:
        lines.append(f"seen: {len(graph.of_type('region'))} regions in "
                     f"{graph.width} x {graph.height} pixels")  # fmt: skip
    attributes: dict[int, list[str]] = {}
    for edge in graph.edges:
        if edge.type == "attribute" and graph.nodes[edge.target].type == "attribute":
            name = f"{graph.nodes[edge.target].label} {edge.weight:.2f}"
            attributes.setdefault(edge.source, []).append(name)
    for place in graph.of_type("region"):
        node = graph.nodes[place]
        box = " ".join(f"{side:.0f}" for side in node.box or ())
        said = f"  is {', '.join(attributes[place])}" if place in attributes else ""
        lines.append(f"  {_name(graph, place):<24} {node.score:.2f}  [{box}]{said}")
    if graph.words:
        lines.append(f"said: {' '.join(graph.words)}")
        lines += [f"  {write_facts([fact])}" for fact in facts_of(graph)]
        denied = {
            node.label if node.role == "relation" else phrase(graph, place): None
            for place, node in enumerate(graph.nodes)
            if node.negated
        }
        if denied:
            lines.append(f"  denied: {', '.join(denied)}")
    aligned = [edge for edge in graph.edges if edge.type == "alignment"]
    if graph.width and graph.words:
        lines.append(f"aligned: {len(aligned)}")
    lines += [
        f"  {phrase(graph, edge.source)} = {_name(graph, edge.target)}  {edge.weight:.2f}"
        + (f"  ({edge.predicate})" if edge.predicate != "object" else "")
        for edge in aligned
    ]
    return "\n".join(lines)


def _name(graph: SceneGraph, place: int) -> str:
    node = graph.nodes[place]
    return f"{node.index} {node.label or 'cell'}" if node.type == "region" else node.label


if __name__ == "__main__":
    sys.exit(run_command(main))
