"""Made-up evidence for a drawn picture, and a reader of pages."""

import math
from html.parser import HTMLParser

import torch
from PIL import Image, ImageDraw

from tbkin.graphs.scene_graph import Edge, Node, SceneGraph
from tbkin.visualize import Evidence, write_report
from tbkin.visualize.attention import AttentionExport
from tbkin.visualize.masked import MaskedView

SHAPES = [  # label, colour, xyxy pixels of a picture of 160 x 120
    ("square", "red", (84, 22, 138, 76)),
    ("circle", "blue", (20, 30, 58, 68)),
    ("circle", "green", (112, 84, 140, 112)),
    ("triangle", "orange", (58, 80, 92, 114)),
    ("square", "gray", (6, 86, 30, 110)),
    ("circle", "purple", (62, 6, 80, 24)),
    ("square", "teal", (142, 4, 158, 20)),
]
WORDS = "What color is the circle left of the large red square ?".split()


def drawn():
    image = Image.new("RGB", (160, 120), "#f3efe6")
    pen = ImageDraw.Draw(image)
    for label, color, (left, top, right, bottom) in SHAPES:
        if label == "circle":
            pen.ellipse((left, top, right, bottom), fill=color)
        elif label == "square":
            pen.rectangle((left, top, right, bottom), fill=color)
        else:
            pen.polygon(((left, bottom), (right, bottom), ((left + right) / 2, top)), fill=color)
    return image


def shapes_graph(labels=None):
    """Regions 0 to 6, attributes 7 to 14, words 15 to 19."""
    names = labels or [label for label, _, _ in SHAPES]
    nodes = [
        Node("region", name, index, box=box, score=0.9)
        for index, (name, (_, _, box)) in enumerate(zip(names, SHAPES, strict=True))
    ]
    nodes += [Node("attribute", color) for _, color, _ in SHAPES] + [Node("attribute", "large")]
    said = ((4, "circle", "object"), (5, "left of", "relation"), (8, "large", "attribute"))
    said += ((9, "red", "attribute"), (10, "square", "object"))
    nodes += [Node("word", label, index, role) for index, label, role in said]
    edges = [Edge(one, "is", 7 + one, "attribute", 0.9) for one in range(7)]
    edges += [Edge(0, "is", 14, "attribute", 0.8), Edge(19, "is", 17, "attribute")]
    edges += [Edge(19, "is", 18, "attribute"), Edge(16, "subject", 15, "relation")]
    edges += [Edge(16, "object", 19, "relation")]
    edges += [Edge(15, "object", one, "alignment", 1.0) for one in (1, 2, 5)]
    edges += [Edge(19, "object", 0, "alignment", 1.0), Edge(16, "relation", 1, "alignment", 1.0)]
    edges += [Edge(19, "object", one, "alignment", 0.5) for one in (4, 6)]
    edges += [Edge(17, "attribute", 14, "alignment"), Edge(18, "attribute", 7, "alignment")]
    edges += [Edge(0, "right of", 1, "spatial"), Edge(0, "above", 2, "spatial")]
    edges += [Edge(1, "above", 3, "spatial"), Edge(3, "right of", 4, "spatial")]
    return SceneGraph(nodes, edges, list(WORDS), 160, 120)


def evidence_of(graph, **changes):
    """Evidence with made-up numbers that differ from one another."""
    nodes, edges = len(graph.nodes), len(graph.edges)
    said = [node.type == "word" for node in graph.nodes]
    relevance = [1.0 if word else 0.97 - 0.93 * (7 * i % 11) / 11 for i, word in enumerate(said)]
    kept = [value >= 0.3 for value in relevance]
    geometry = [edge.type in ("spatial", "overlap") for edge in graph.edges]
    carried = [
        None if plain else kept[edge.source] and kept[edge.target]
        for plain, edge in zip(geometry, graph.edges, strict=True)
    ]
    positions = ["[CLS]", *graph.words]
    positions += [f"{node.index} {node.label}" for node in graph.nodes if node.type == "region"]
    positions += [node.label for node in graph.nodes if node.type == "attribute"]
    attention, heads = [], []
    for layer in range(4):
        raw = [math.exp(2.5 * math.sin(1.7 * i + layer)) for i in range(len(positions))]
        raw = [value if value > 0.4 else 0.0 for value in raw]
        attention.append([value / sum(raw) for value in raw])
        heads.append([0.0 if value == 0 else 0.75 for value in raw])
    values = {
        "image": drawn(),
        "text": "What color is the circle left of the large red square?",
        "answers": [("blue", 0.913), ("purple", 0.224), ("red", 0.087), ("yes", 0.04), ("2", 0.01)],
        "graph": graph,
        "node_relevance": relevance,
        "node_kept": kept,
        "edge_kept": carried,
        "edge_relevance": [0.5] * edges,
        "attention_kept": [0.812, 0.544, 0.327, 0.161],
        "nodes_kept": 0.623,
        "edges_kept": 0.417,
        "positions": positions,
        "answer_attention": attention,
        "answer_attention_kept": heads,
        "selection": "rel_max 0.05 in all layers",
        "knowledge": "rel_max 0.3",
        "truth": "blue",
        "score": 1.0,
    }
    assert len(relevance) == nodes
    return Evidence(**{**values, **changes})


class Page(HTMLParser):
    """Tags must balance; keeps what the tests ask for."""

    ALONE = ("meta", "br", "img", "hr", "input", "link")

    def __init__(self, source):
        super().__init__()
        self.open, self.started, self.text = [], [], ""
        self.feed(source)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.started.append((tag, dict(attributes)))
        if tag not in self.ALONE:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.started.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("style", "script"):
            self.text += data

    def nodes(self, kept):
        return {
            int(values["data-node"])
            for _, values in self.started
            if values.get("data-kept") == kept
        }


def page_of(tmp_path, evidence, **arguments):
    write_report(tmp_path / "new" / "page.html", evidence, "Why", **arguments)
    source = (tmp_path / "new" / "page.html").read_text(encoding="utf-8")
    return source, Page(source)


def many_nodes():
    """36 regions without labels, 4 attributes, a long question, one aligned word."""
    nodes = [
        Node("region", "", i, box=(i % 6 * 26, i // 6 * 20, i % 6 * 26 + 30, i // 6 * 20 + 20))
        for i in range(36)
    ]
    nodes += [Node("attribute", name) for name in ("red", "grün", "青い", "")]
    words = ["word"] * 60 + ["x" * 80]
    nodes += [Node("word", "word", 3, "object"), Node("word", "x", 60, "count")]
    edges = [Edge(i, "is", 36 + i % 4, "attribute", 0.5) for i in range(36)]
    edges += [Edge(40, "object", 35, "alignment", 0.7), Edge(2, "overlaps", 8, "overlap", 0.3)]
    return SceneGraph(nodes, edges, words, 160, 120)


LAYERS, HEADS = 4, 2
HIDDEN = 6  # a region that the knowledge threshold dropped


def attention_of(graph, threshold, seed=0):
    """Made-up attention; weights below ``threshold`` of their row's largest are dropped."""
    counts = [len(graph.of_type(kind)) for kind in ("region", "attribute")]
    sizes = (len(graph.words) + 1, *counts)
    length = sum(sizes)
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(LAYERS, HEADS, length, length, generator=generator)
    valid = torch.ones(length, dtype=torch.bool)
    if counts[0] > HIDDEN:
        valid[sizes[0] + HIDDEN] = False
    before = torch.softmax(logits.masked_fill(~valid, -1e9), dim=-1)
    keep = (before >= threshold * before.amax(dim=-1, keepdim=True)) & valid
    after = before * keep
    after = after / after.sum(dim=-1, keepdim=True)
    pairs = torch.ones(LAYERS, 2, 2)
    pairs[:, 0, 0], pairs[:, 1] = torch.tensor([0.831, 0.642, 0.453, 0.264]), 0.0
    positions = evidence_of(graph).positions
    words = [-1, *range(len(graph.words))]
    blocks = ["text-<image>", "graph"]
    return AttentionExport(
        logits, before, after, keep, valid, pairs, blocks, positions, sizes, words
    )


def lit_evidence(threshold=0.3, graph=None, **changes):
    graph = graph or shapes_graph()
    attention = attention_of(graph, threshold)
    masked = [
        MaskedView("word", 4, [0.6, 0.1, 0.05, 0.05, 0.15, 0.05, 0.0]),
        MaskedView("region", 0, [0.0, *[1 / len(graph.words)] * len(graph.words)]),
    ]
    return evidence_of(graph, **{"attention": attention, "masked": masked, **changes})
