"""What usually goes together: how often an object has an attribute, or a relation, in captions.

ROSITA weighs the edges of a text by such frequencies (Cui et al., ACM Multimedia 2021,
arXiv:2108.07073; weights and file layout from its code). What counts as one occurrence is *ours*:

- an object is an object word of a caption graph that is not denied, by the lemma of its head noun
  ("clock" for "alarm clock");
- the frequency of a pair is the number of objects of that lemma that have the phrase at least once,
  divided by the number of objects of that lemma, so that it is in (0, 1];
- an attribute's phrase is its label, a count's its digits;
- a relation gives its subject the phrase "relation object" and its object "subject relation", as
  in "chase frisbee" for the dog and "dog chase" for the frisbee; an end that is not known is left
  out of the phrase.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tbkin.files import write_text
from tbkin.graphs.scene_graph import Edge, SceneGraph
from tbkin.graphs.words import lemma

Frequencies = dict[str, dict[str, float]]


@dataclass
class CooccurrencePrior:
    """How often objects have attributes and relations.

    Attributes:
        attr_count: object lemma -> attribute phrase -> frequency in [0, 1].
        rel_count: object lemma -> relation phrase -> frequency in [0, 1].

    Raises:
        ValueError: a frequency out of [0, 1].
    """

    attr_count: Frequencies = field(default_factory=dict)
    rel_count: Frequencies = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("attr_count", "rel_count"):
            for word, phrases in getattr(self, name).items():
                for phrase, value in phrases.items():
                    if isinstance(value, bool) or not 0 <= value <= 1:
                        raise ValueError(
                            f"{name}[{word!r}][{phrase!r}] must be a frequency in [0, 1], "
                            f"got {value!r}."
                        )

    def attribute_weight(self, word: str, phrase: str) -> float:
        """min(5 p, 0.5) + 0.2, in [0.2, 0.7]; p is 0 for what was never seen."""
        return min(5 * self.attr_count.get(word, {}).get(phrase, 0.0), 0.5) + 0.2

    def relation_weight(self, word: str, phrase: str) -> float:
        """min(20 p, 0.5) + 0.2, in [0.2, 0.7]; p is 0 for what was never seen."""
        return min(20 * self.rel_count.get(word, {}).get(phrase, 0.0), 0.5) + 0.2

    def save(self, path: Path) -> None:
        """Write JSON in the layout of ROSITA's ``text_piror_*.json``, sorted."""
        content = {"attr_count": self.attr_count, "rel_count": self.rel_count}
        write_text(path, json.dumps(content, ensure_ascii=False, sort_keys=True, indent=0) + "\n")

    @classmethod
    def load(cls, path: Path) -> CooccurrencePrior:
        """Read what :meth:`save` wrote, or ROSITA's own file.

        Raises:
            FileNotFoundError, ValueError: no such file, or another layout.
        """
        if not path.is_file():
            raise FileNotFoundError(
                f"no co-occurrence table {path}; make one with: "
                f"tbkin prep knowledge captions=FILE output={path}"
            )
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            tables = {name: content[name] for name in ("attr_count", "rel_count")}
            return cls(**tables)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(
                f"{path} is no co-occurrence table ({error}); expected JSON with attr_count and "
                "rel_count, each object -> phrase -> frequency."
            ) from error


def build_prior(graphs: Iterable[SceneGraph], min_count: int = 1) -> CooccurrencePrior:
    """Count over caption graphs, one at a time.

    Args:
        graphs: from a parser; nodes and edges of pictures are passed over.
        min_count: pairs that fewer objects have are left out (they still count in the divisor).
    """
    objects: Counter[str] = Counter()
    pairs: dict[str, defaultdict[str, Counter[str]]] = {
        "attribute": defaultdict(Counter),
        "relation": defaultdict(Counter),
    }
    for graph in graphs:
        seen = {(place, kind, phrase) for _, place, kind, phrase in text_edges(graph)}
        # What a parser took for an attribute may be an end of a relation all the same.
        named = {place for place, _, _ in seen}
        named |= {n for n, node in enumerate(graph.nodes) if node.role == "object"}
        for place in named:
            if not graph.nodes[place].negated:
                objects[head_lemma(graph.nodes[place].label)] += 1
        for place, kind, phrase in seen:
            pairs[kind][head_lemma(graph.nodes[place].label)][phrase] += 1
    frequencies = {
        kind: {
            word: {
                phrase: count / objects[word]
                for phrase, count in sorted(phrases.items())
                if count >= min_count
            }
            for word, phrases in sorted(table.items())
            if any(count >= min_count for count in phrases.values())
        }
        for kind, table in pairs.items()
    }
    return CooccurrencePrior(frequencies["attribute"], frequencies["relation"])


def weigh_text_edges(graph: SceneGraph, prior: CooccurrencePrior) -> SceneGraph:
    """The same graph with the weights of the text's attribute and relation edges from a prior.

    A relation's edge to its subject is weighed by the subject's phrase, that to its object by the
    object's. What the text denies gets the weight of what was never seen, 0.2.
    """
    edges = list(graph.edges)
    for number, edge in enumerate(edges):
        if _is_text_edge(edge, graph):
            edges[number] = replace(edge, weight=0.2)
    for number, place, kind, phrase in text_edges(graph):
        word = head_lemma(graph.nodes[place].label)
        weigh = prior.attribute_weight if kind == "attribute" else prior.relation_weight
        edges[number] = replace(edges[number], weight=weigh(word, phrase))
    return replace(graph, edges=edges)


def text_edges(graph: SceneGraph) -> Iterator[tuple[int, int, str, str]]:
    """(edge, place of the object, "attribute" or "relation", phrase) of what a text asserts."""
    nodes = graph.nodes
    ends: dict[int, dict[str, int]] = {}
    for edge in graph.edges:
        if edge.type == "relation" and nodes[edge.source].type == "word":
            ends.setdefault(edge.source, {})[edge.predicate] = edge.target
    for number, edge in enumerate(graph.edges):
        if not _is_text_edge(edge, graph):
            continue
        involved = {edge.source, edge.target, *ends.get(edge.source, {}).values()}
        if any(nodes[place].negated for place in involved):
            continue
        if edge.type == "attribute":
            yield number, edge.source, "attribute", nodes[edge.target].label
            continue
        said = {place: head_lemma(nodes[place].label) for place in ends[edge.source].values()}
        relation = nodes[edge.source].label
        if edge.predicate == "subject":
            other = said.get(ends[edge.source].get("object", -1), "")
            yield number, edge.target, "relation", f"{relation} {other}".strip()
        else:
            other = said.get(ends[edge.source].get("subject", -1), "")
            yield number, edge.target, "relation", f"{other} {relation}".strip()


def head_lemma(label: str) -> str:
    """Lemma of the last word of a label: "alarm clocks" -> "clock"."""
    return lemma(label.split()[-1]) if label.strip() else ""


def _is_text_edge(edge: Edge, graph: SceneGraph) -> bool:
    return edge.type in ("attribute", "relation") and graph.nodes[edge.source].type == "word"


def describe(prior: CooccurrencePrior) -> dict[str, Any]:
    """How much a prior holds."""
    return {
        "objects": len(prior.attr_count.keys() | prior.rel_count.keys()),
        "attributes": sum(map(len, prior.attr_count.values())),
        "relations": sum(map(len, prior.rel_count.values())),
    }
