"""How well are words aligned with classes? ``python benchmarks/alignment.py``.

``alignment_gold.json`` holds noun phrases of COCO captions with the COCO categories that they name,
judged by hand. The tables of ``graphs/synonyms.py`` were written with those called *seen* at hand;
those called *new* are the phrases of other captions that none of the seen equals, so that plain
words ("dog") are not among them: they are the hard part, and the fairer test (the hand that judged
them had written the tables; no table was changed for one of them). For each way of comparing words
it prints precision and recall of the pairs (phrase, category), weighted by how often the phrase was
said: strong alignments (0.9 and more), and all (0.5 and more). Pairs that the judgement leaves open
("animal" for a dog, "bag" for a backpack) count neither way.

With ``data=DIR`` (real_mini: captions, instances and expressions of the same pictures) two figures
without a judgement of ours: *there*, how many of a caption's words that are strongly aligned with
some class have such a thing annotated in the picture; *found*, how many RefCOCO expressions have a
word that is strongly aligned with the class of the thing they mean ("shirt on the left" cannot).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tbkin.config import help_text, load_config, run_command, setting
from tbkin.graphs.alignment import ALIGNED, STRONGLY_ALIGNED, Similarity
from tbkin.graphs.scene_graph import SceneGraph
from tbkin.graphs.word_vectors import VectorSimilarity, load_similarity
from tbkin.graphs.words import lemma_of_name
from tbkin.parsers import load_parser, parse_many

GOLD = Path(__file__).with_name("alignment_gold.json")
CATEGORIES = """
person,bicycle,car,motorcycle,airplane,bus,train,truck,boat,traffic light,
fire hydrant,stop sign,parking meter,bench,bird,cat,dog,horse,sheep,cow,elephant,bear,zebra,giraffe,
backpack,umbrella,handbag,tie,suitcase,frisbee,skis,snowboard,sports ball,kite,baseball bat,
baseball glove,skateboard,surfboard,tennis racket,bottle,wine glass,cup,fork,knife,spoon,bowl,
banana,apple,sandwich,orange,broccoli,carrot,hot dog,pizza,donut,cake,chair,couch,potted plant,bed,
dining table,toilet,tv,laptop,mouse,remote,keyboard,cell phone,microwave,oven,toaster,sink,
refrigerator,book,clock,vase,scissors,teddy bear,hair drier,toothbrush""".replace("\n", "").split(
    ","
)


@dataclass
class AlignmentConfig:
    """What to measure."""

    vectors: list[str] = setting([], "more ways, as [glove:FILE,encoder:DIR,spacy:MODEL]")
    data: str = setting("", "folder like real_mini, for the figures on pictures")
    parser: str = setting("auto", "of captions and expressions")
    cosines: bool = setting(False, "also print precision and recall by cosine, without tables")
    json: bool = setting(False, "one JSON object instead of the table")


def main(arguments: list[str]) -> None:
    """Measure and print."""
    if "--help" in arguments:
        sys.stdout.write(help_text(__doc__, AlignmentConfig) + "\n")
        return
    config = load_config(AlignmentConfig, arguments)
    gold = json.loads(GOLD.read_text(encoding="utf-8"))
    pictures = Pictures(Path(config.data), config.parser) if config.data else None
    rows = {}
    for name, similarity in ways(config.vectors):
        rows[name] = judged(similarity, gold["seen"], "seen") | judged(
            similarity, gold["new"], "new"
        )
        if pictures is not None:
            rows[name] |= pictures.measure(similarity)
        if config.cosines and isinstance(similarity, VectorSimilarity) and not similarity.tables:
            for threshold in (0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95):
                row = judged(by_cosine(similarity, threshold), gold["seen"], "seen")
                rows[f"{name}, cosine {threshold:.2f}"] = row
    print(json.dumps(rows, indent=1) if config.json else table(rows))


def ways(sources: list[str]) -> Iterator[tuple[str, Similarity]]:
    """The ways of comparing, by name."""
    yield "same lemma", lambda word, label: float(lemma_of_name(word) == lemma_of_name(label))
    yield "embedded default", load_similarity("embedded")
    for source in sources:
        kind = source.partition(":")[0]
        similarity = load_similarity(source)
        alone = VectorSimilarity(similarity.vectors, tables=False)
        yield f"{kind} alone (ROSITA)", alone
        if (similarity.weak, similarity.strong) != (alone.weak, alone.strong):
            alone = VectorSimilarity(
                similarity.vectors, similarity.weak, similarity.strong, tables=False
            )
            yield f"{kind} alone, own scale", alone
        yield f"{kind} with tables", similarity


def by_cosine(similarity: VectorSimilarity, threshold: float) -> Similarity:
    """1 from a cosine on."""
    return lambda word, label: float((similarity.cosine(word, label) or 0.0) >= threshold)


def judged(similarity: Similarity, gold: dict[str, Any], part: str) -> dict[str, float]:
    """Precision (P) and recall (R) against the hand-made judgement, weighted by mentions."""
    right = {"strong": 0, "all": 0}
    wrong = {"strong": 0, "all": 0}
    named = 0
    for phrase, (count, names, may) in gold.items():
        named += count * len(names)
        for category in CATEGORIES:
            strength = similarity(phrase, category)
            for kind, threshold in (("strong", STRONGLY_ALIGNED), ("all", ALIGNED)):
                if strength < threshold:
                    continue
                if category in names:
                    right[kind] += count
                elif category not in may and "*" not in may:
                    wrong[kind] += count
    result = {}
    for kind in right:
        result[f"{part} {kind} P"] = right[kind] / max(1, right[kind] + wrong[kind])
        result[f"{part} {kind} R"] = right[kind] / max(1, named)
    return result


class Pictures:
    """Captions, expressions and annotated things of the same pictures.

    Args:
        folder: with ``annotations/`` and ``refer/`` as real_mini has them.
        parser: name of the caption parser.
    """

    def __init__(self, folder: Path, parser: str):
        def read(path: str) -> Any:
            return json.loads((folder / path).read_text(encoding="utf-8"))

        instances = read("annotations/instances_mini2017.json")
        names = {one["id"]: one["name"] for one in instances["categories"]}
        present: dict[int, set[str]] = {}
        for one in instances["annotations"]:
            present.setdefault(one["image_id"], set()).add(names[one["category_id"]])
        parse = load_parser(parser)
        captions = [
            (present[one["image_id"]], one["caption"])
            for one in read("annotations/captions_mini2017.json")["annotations"]
            if one["image_id"] in present
        ]
        graphs = parse_many(parse, [text for _, text in captions])
        self.captions = [
            (things, _objects(graph)) for (things, _), graph in zip(captions, graphs, strict=True)
        ]
        sentences = [
            (names[ref["category_id"]], sentence["sent"])
            for path in ("refcoco/refs(unc)", "refcoco+/refs(unc)", "refcocog/refs(umd)")
            for ref in read(f"refer/{path}.json")
            for sentence in ref["sentences"]
            if ref["category_id"] in names
        ]
        graphs = parse_many(parse, [text for _, text in sentences])
        self.expressions = [
            (name, _objects(graph)) for (name, _), graph in zip(sentences, graphs, strict=True)
        ]

    def measure(self, similarity: Similarity) -> dict[str, float]:
        """Shares in [0, 1]."""
        there = []
        for things, objects in self.captions:
            for word in objects:
                aligned = {
                    category
                    for category in CATEGORIES
                    if similarity(word, category) >= STRONGLY_ALIGNED
                }
                if aligned:
                    there.append(bool(aligned & things))
        found = [
            any(similarity(word, name) >= STRONGLY_ALIGNED for word in objects)
            for name, objects in self.expressions
        ]
        return {
            "there": sum(there) / max(1, len(there)),
            "of words": len(there),
            "found": sum(found) / max(1, len(found)),
            "of refs": len(found),
        }


def _objects(graph: SceneGraph) -> list[str]:
    return [
        lemma_of_name(node.text) if " " in node.text else node.label
        for node in graph.nodes
        if node.role == "object"
    ]


def table(rows: dict[str, dict[str, float]]) -> str:
    """Plain text, shares in per cent."""
    columns = list(max(rows.values(), key=len))
    wide = max(map(len, rows))
    lines = [" " * wide + "".join(f"  {name:>12}" for name in columns)]
    for name, row in rows.items():
        cells = [_cell(row.get(column)) for column in columns]
        lines.append(f"{name:<{wide}}" + "".join(f"  {cell:>12}" for cell in cells))
    return "\n".join(lines)


def _cell(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,}" if isinstance(value, int) else f"{100 * value:.1f}"


if __name__ == "__main__":
    command: Callable[[list[str]], None] = main
    sys.exit(run_command(command))
