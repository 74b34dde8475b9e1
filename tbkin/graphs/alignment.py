"""Which words of a text name which regions of a picture, and how strongly.

ROSITA aligns an object word with a region when the word vectors of the word and of the region's
class name are near (Cui et al., ACM Multimedia 2021, arXiv:2108.07073; its curve and thresholds
are :func:`alignment_strength`). Attributes said of the word, aligned relations and counts are
*ours*.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

import torch

from tbkin.graphs.relations import INVERSE, PREDICATES_OF_PHRASE, pairwise_predicates
from tbkin.graphs.scene_graph import Edge, Node
from tbkin.graphs.words import is_generic, label_similarity, lemma_of_name

ALIGNED = 0.5  # weaker alignments are dropped; ROSITA's thresholds are 0.5 and, for strong, 0.9
STRONGLY_ALIGNED = 0.9

Similarity = Callable[[str, str], float]  # (what the text says, a region's label) -> [0, 1]


def alignment_strength(cosine: float) -> float:
    r"""ROSITA's curve from the cosine of two word vectors to the strength of their alignment.

    .. math:: s = 1 - \frac{e^{2d} - 1}{e^2 - 1}, \quad d = \min(1, 1.3 (1 - c))

    and 0 where s < 0.5. So s >= 0.5 from c = 0.449 on, and s > 0.9 ("strong") from c = 0.810 on;
    the numbers were made for 300-dimensional GloVe vectors.

    Args:
        cosine: c in [-1, 1].

    Returns:
        s, 0 or in [0.5, 1].
    """
    distance = min(1.0, max(0.0, 1.3 * (1.0 - cosine)))
    strength = 1.0 - math.expm1(2.0 * distance) / math.expm1(2.0)
    return strength if strength >= ALIGNED else 0.0


def attribute_similarity(similarity: Similarity) -> Similarity:
    """What compares attributes: the similarity's own method ``attribute``, else itself."""
    return getattr(similarity, "attribute", similarity)


def alignment_edges(
    nodes: list[Node],
    edges: list[Edge],
    first_word: int,
    similarity: Similarity = label_similarity,
) -> list[Edge]:
    """Alignment edges for the objects, attributes, relations and counts that a text names.

    An attribute or relation that the text denies ("not red") takes no part.

    Args:
        nodes: regions and attributes of the picture, then words.
        edges: between them.
        first_word: place of the first word node.
        similarity: compares an object word with a region's label, and, unless it has a method
            ``attribute``, an attribute of the text with one of the picture.
    """
    words = range(first_word, len(nodes))
    facets = _Facets(nodes, edges, first_word, similarity)
    aligned = {word: facets.regions_of(word) for word in words if nodes[word].role == "object"}
    found = [
        Edge(word, "object", region, "alignment", strength)
        for word, regions in aligned.items()
        for region, strength in regions.items()
    ]
    compare = attribute_similarity(similarity)
    attributes = [place for place in range(first_word) if nodes[place].type == "attribute"]
    relations = _Relations(nodes, edges, aligned)
    for word in words:
        if nodes[word].negated:
            continue
        if nodes[word].role == "attribute":
            for place in attributes:
                strength = compare(nodes[word].label, nodes[place].label)
                if strength >= ALIGNED:
                    found.append(Edge(word, "attribute", place, "alignment", strength))
        elif nodes[word].role == "relation":
            found += relations.aligned_with(word)
        elif nodes[word].role == "count":
            counted = aligned.get(facets.counted.get(word, -1), {})
            found += count_edges(word, nodes[word].label, counted)
    return found


def count_edges(word: int, said: str, aligned: dict[int, float]) -> list[Edge]:
    """A count word -> the regions that it counts, if they are as many as it says (*ours*).

    Sums of messages tell eight from nine badly; here the graph says whether a number holds, as it
    does for relations. One region too many or too few, which detectors often report, is aligned at
    half the strength, more not at all.

    Args:
        word: place of the count word.
        said: its number in digits; anything else counts nothing.
        aligned: region -> strength, of the object word that is counted; strong ones are counted.
    """
    regions = [region for region, strength in aligned.items() if strength >= STRONGLY_ALIGNED]
    missed = abs(int(said) - len(regions)) if said.isdecimal() else 2
    if missed > 1:
        return []
    strength = ALIGNED if missed else 1.0
    return [Edge(word, "count", region, "alignment", strength) for region in regions]


class _Facets:
    """Compares what is said of an object word with what is seen of each region.

    Class and attributes are the *facets* of a description. A region that fits all of them is
    aligned with the mean of their similarities; one facet may miss, because detectors err, at
    half the strength. A generic word ("thing") has no class to compare (*ours*). A region of which
    no attribute was reported cannot miss one: most detectors name classes only. What a label says
    itself counts as seen ("potted plant").
    """

    def __init__(
        self, nodes: list[Node], edges: list[Edge], first_word: int, similarity: Similarity
    ):
        self.nodes = nodes
        self.similarity = similarity
        self.seen: dict[int, list[str]] = {
            place: [] for place in range(first_word) if nodes[place].type == "region"
        }
        self.labels = dict.fromkeys(nodes[place].label for place in self.seen)
        self.said: dict[int, list[str]] = {}
        self.counted: dict[int, int] = {}  # count word -> its object word
        for edge in edges:
            if edge.type != "attribute":
                continue
            target = nodes[edge.target]
            if edge.source in self.seen:
                self.seen[edge.source].append(target.label)
            elif target.role == "count":
                self.counted[edge.target] = edge.source
            elif target.role == "attribute" and not target.negated:
                self.said.setdefault(edge.source, []).append(target.label)

    def regions_of(self, word: int) -> dict[int, float]:
        """Region -> strength of its alignment with an object word."""
        node = self.nodes[word]
        name = lemma_of_name(node.text) if " " in node.text else node.label
        generic = is_generic(node.label)
        said = self.said.get(word, ())
        compare = attribute_similarity(self.similarity)
        fit = {label: self.similarity(name, label) for label in self.labels} if not generic else {}
        strengths = {}
        for region, names in self.seen.items():
            facets = [] if generic else [fit[self.nodes[region].label]]
            if names:
                names = names + self.nodes[region].label.split()[:-1]
                facets += [max(compare(one, name) for name in names) for one in said]
            fits = [facet for facet in facets if facet >= ALIGNED]
            misses = len(facets) - len(fits)
            if misses == 0:
                strengths[region] = sum(fits) / len(fits) if fits else 1.0
            elif misses == 1 and fits:
                strengths[region] = ALIGNED
        return strengths


class _Relations:
    """Compares what the text relates with what holds between the picture's regions."""

    def __init__(self, nodes: list[Node], edges: list[Edge], aligned: dict[int, dict[int, float]]):
        self.nodes, self.edges, self.aligned = nodes, edges, aligned
        self.ends: dict[int, dict[str, int]] = {}
        for edge in edges:
            if edge.type == "relation" and nodes[edge.source].type == "word":
                self.ends.setdefault(edge.source, {})[edge.predicate] = edge.target
        self._holds: set[tuple[int, str, int]] | None = None

    def aligned_with(self, word: int) -> list[Edge]:
        """A relation word -> the regions that are the subject of a matching picture relation.

        The subject must be aligned with the relation's subject word, the other end with its object
        word; the strength is the product of the two alignments.
        """
        ends = self.ends.get(word, {})
        subjects = self.aligned.get(ends.get("subject", -1), {})
        objects = self.aligned.get(ends.get("object", -1), {})
        if not subjects or not objects:
            return []
        label = self.nodes[word].label
        wanted = {label, *PREDICATES_OF_PHRASE.get(label, ())}
        if self._holds is None:
            self._holds = _picture_relations(self.nodes, self.edges)
        found = []
        for subject, subject_strength in subjects.items():
            strength = max(
                (
                    subject_strength * object_strength
                    for target, object_strength in objects.items()
                    if target != subject
                    and any((subject, predicate, target) in self._holds for predicate in wanted)
                ),
                default=0.0,
            )
            if strength >= ALIGNED:
                found.append(Edge(word, "relation", subject, "alignment", strength))
        return found


@lru_cache(maxsize=10_000)
def base_forms(predicate: str) -> frozenset[str]:
    """A detector's predicate and what its verb may be in a parser's lemmas.

    "riding" -> "ride", "sitting on" -> "sit on", "has" -> "have". Forms that are no words do no
    harm, because no text has them.
    """
    verb, *rest = predicate.lower().split() or [""]
    verbs = {verb, _IRREGULAR_VERBS.get(verb, verb)}
    for ending in ("ing", "ed", "es", "s"):
        stem = verb.removesuffix(ending)
        if stem != verb and len(stem) > 1:
            verbs |= {stem, stem + "e"}
            if len(stem) > 2 and stem[-1] == stem[-2]:
                verbs.add(stem[:-1])
    return frozenset({predicate, *(" ".join([one, *rest]) for one in verbs)})


_IRREGULAR_VERBS = {"has": "have", "worn": "wear", "held": "hold", "lying": "lay", "eaten": "eat"}


def _picture_relations(nodes: list[Node], edges: list[Edge]) -> set[tuple[int, str, int]]:
    """Every (subject, predicate, object) that holds between two regions.

    Geometry answers for all pairs, also for those too far apart to have an edge of their own.
    """
    boxes = torch.tensor([node.box for node in nodes if node.type == "region"])
    predicates = pairwise_predicates(boxes)
    holds = {
        (source, predicate, target)
        for source, row in enumerate(predicates)
        for target, predicate in enumerate(row)
        if source != target and predicate
    }
    for edge in edges:
        if edge.type == "relation" and nodes[edge.source].type == "region":
            for predicate in base_forms(edge.predicate):
                holds.add((edge.source, predicate, edge.target))
            if edge.predicate in INVERSE:
                holds.add((edge.target, INVERSE[edge.predicate], edge.source))
    return holds
