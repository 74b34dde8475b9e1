"""Regions and a text -> one example: token ids, region tensors, and the scene graph as arrays."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BatchEncoding, PreTrainedTokenizerFast, ProcessorMixin

from tbkin.boxes import normalize_boxes
from tbkin.data import tower_inputs
from tbkin.data.tower_inputs import TowerInputs
from tbkin.graphs.build import join, picture_graph
from tbkin.graphs.kinds import CODES, GEOMETRY, KINDS, kind_of
from tbkin.graphs.regions import Regions
from tbkin.graphs.scene_graph import SceneGraph
from tbkin.model import configuration_tbkin  # noqa: F401 - registers the folder's model type
from tbkin.parsers import load_parser

Example = dict[str, Any]
SEGMENTS = {"word": 0, "region": 1, "attribute": 2}
SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")

# ROSITA's loaders take re.sub(r"[^\w\s]|_", "", text). Python's \w is letters and numbers, those of
# "m²" and "½" among them, without marks; \w here is not. White space that BERT drops goes as well.
ROSITA_CLEANING = normalizers.Replace(Regex(r"[^\p{L}\p{N}\p{Z}\t\n\r]"), "")


class TBKINProcessor(ProcessorMixin):
    """Everything between a detector's regions and the model.

    Args:
        tokenizer: a fast tokenizer with padding, start and end tokens.
        parser: name of the question parser, kept with the checkpoint so that use and training
            agree.
        max_text_length: tokens, start and end included; longer texts are cut.
        max_regions: the most confident so many regions are used.
        fingerprint: of the region features that the model was trained on.
        detector: settings of the detector that made the regions, for new pictures.
        geometry: whether spatial and overlap edges carry messages too. Off: what a question needs
            of them reaches the model as aligned relations, and learning is quicker without.
        clean: whether a text loses its signs before it is parsed ("left-hand" becomes "lefthand")
            and is cut into words by white space alone, so that its tokens are ROSITA's.
        towers: what another model's towers read, where they stand in for ours; saved in a folder of
            its own within the checkpoint.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerFast,
        parser: str = "auto",
        max_text_length: int = 24,
        max_regions: int = 64,
        fingerprint: dict[str, str] | None = None,
        detector: dict[str, Any] | None = None,
        geometry: bool = False,
        clean: bool = False,
        towers: TowerInputs | None = None,
    ):
        super().__init__(tokenizer)
        self.parser = parser
        self.max_text_length = max_text_length
        self.max_regions = max_regions
        self.fingerprint = fingerprint or {}
        self.detector = detector or {"name": "grid"}
        self.geometry = geometry
        self.clean = clean
        self.towers = towers

    @classmethod
    def from_pretrained(cls, folder: str | Path, **settings: Any) -> TBKINProcessor:
        """That of a checkpoint folder."""
        processor = super().from_pretrained(folder, **settings)
        of_towers = Path(folder) / tower_inputs.FOLDER
        if of_towers.is_dir():
            processor.towers = TowerInputs.from_pretrained(of_towers)
        return processor

    def save_pretrained(self, folder: str | Path, **settings: Any) -> list[str]:
        """Write it into a checkpoint folder."""
        written = super().save_pretrained(folder, **settings)
        if self.towers is not None:
            self.towers.save_pretrained(Path(folder) / tower_inputs.FOLDER)
        return written

    def __call__(self, regions: Regions, text: str) -> Example:
        """One example from the regions of a picture, with features, and a text."""
        seen, graph = self.seen(regions)
        return self.encode(seen, join(graph, self.parse(text)))

    def parse(self, text: str) -> SceneGraph:
        """The text's graph of words."""
        if not self.clean:
            return self._parser(text)
        cleaned = ROSITA_CLEANING.normalize_str(text)
        return with_words(self._parser(cleaned), cleaned.split())

    def seen(self, regions: Regions) -> tuple[Example, SceneGraph]:
        """The picture's share of an example, and its graph; the same for every question."""
        if regions.features is None:
            raise ValueError(f"regions of image {regions.image_id} have no features.")
        regions = most_confident(regions, self.max_regions)
        names = [
            [label, *(name for name, _ in attributes)]
            for label, attributes in zip(regions.labels, regions.attributes, strict=True)
        ]
        example = {
            "picture_size": torch.tensor([regions.width, regions.height], dtype=torch.float32),
            "region_features": regions.features,
            "region_boxes": normalize_boxes(regions.boxes, regions.width, regions.height),
            "region_scores": torch.tensor(regions.scores, dtype=torch.float32),
            "region_label_ids": [
                [code for name in several for code in self._label_ids(name)] for several in names
            ],
        }
        return example, picture_graph(regions)

    def tokenize(self, words: list[str]) -> BatchEncoding:
        """The tokens of a text, and which word each belongs to."""
        return self.tokenizer(
            words, is_split_into_words=True, truncation=True, max_length=self.max_text_length
        )

    def encode(
        self, seen: Example, graph: SceneGraph, encoding: BatchEncoding | None = None
    ) -> Example:
        """Add a text to the picture's share of an example.

        Args:
            seen: first value of :meth:`seen`.
            graph: picture and text joined.
            encoding: of :meth:`tokenize` for the graph's words, where it is at hand.
        """
        if encoding is None:
            encoding = self.tokenize(graph.words)
        token_of_word: dict[int, int] = {}
        for token, word in enumerate(encoding.word_ids()):
            if word is not None:
                token_of_word.setdefault(word, token)
        attributes = graph.of_type("attribute")
        return {
            **seen,
            "input_ids": encoding["input_ids"],
            "attribute_label_ids": [self._label_ids(graph.nodes[n].label) for n in attributes],
            **graph_arrays(graph, token_of_word, self.geometry),
        }

    @cached_property
    def _parser(self) -> Any:
        return load_parser(self.parser, "question")

    def _label_ids(self, name: str) -> list[int]:
        known = self.__dict__.setdefault("_label_cache", {})
        if name not in known:
            words = name.replace("_", " ").split()
            known[name] = (
                self.tokenizer(words, is_split_into_words=True, add_special_tokens=False)[
                    "input_ids"
                ]
                if words
                else []
            )
        return known[name]

    def to_dict(self) -> dict[str, Any]:
        """What is saved; caches are not."""
        return {
            key: value
            for key, value in super().to_dict().items()
            if key not in ("_parser", "_label_cache", "towers")
        }


def with_words(graph: SceneGraph, words: list[str]) -> SceneGraph:
    """A text's graph over words that were parted otherwise.

    spaCy reads "dont" as "do nt": both words' nodes then belong to "dont".

    Args:
        graph: of a parser.
        words: those of the same text, which its own are found in one after another.

    Raises:
        ValueError: the parser's words are not in the text.
    """
    if graph.words == words:
        return graph
    letters = "".join(words)
    owner = [number for number, word in enumerate(words) for _ in word]  # of each letter
    numbers, start = [], 0
    for word in graph.words:
        place = letters.find(word, start)
        if place < 0 or not word:
            raise ValueError(f"the parser's word {word!r} is not in the text {' '.join(words)!r}.")
        numbers.append(owner[place])
        start = place + len(word)
    nodes = []
    for node in graph.nodes:
        if node.index >= 0:
            said, number = graph.words[node.index], numbers[node.index]
            whole = node.text or ("" if said == words[number] else said.lower())
            node = replace(node, index=number, text=whole)
        nodes.append(node)
    return replace(graph, nodes=nodes, words=words)


def graph_arrays(
    graph: SceneGraph, token_of_word: dict[int, int], geometry: bool = False
) -> Example:
    """A scene graph as the arrays that the model's batch is made of.

    Args:
        graph: any scene graph; word nodes whose word was cut off are left out with their edges.
        token_of_word: word -> its first token.
        geometry: whether spatial and overlap edges are among them.

    Returns:
        ``node_segment`` (N,) 0 text, 1 region, 2 attribute; ``node_slot`` (N,) place within the
        segment; ``edges`` (E, 3) source, target, kind, each edge in both directions;
        ``edge_weight`` (E,); ``edge_seen`` (E,) whether it touches the picture; ``edge_of`` (E,)
        which edge of the scene graph it is, -1 for those between the text and its words. The last
        node is the text's first token.
    """
    segment, slot, place = [], [], {}
    attributes = 0
    for number, node in enumerate(graph.nodes):
        where = attributes if node.type == "attribute" else node.index
        if node.type == "word":
            if node.index not in token_of_word:
                continue
            where = token_of_word[node.index]
        attributes += node.type == "attribute"
        place[number] = len(segment)
        segment.append(SEGMENTS[node.type])
        slot.append(where)
    text = len(segment)

    rows: list[tuple[int, int, int, float, bool, int]] = []

    def add(source: int, target: int, kind: int, weight: float, seen: bool, number: int) -> None:
        rows.append((source, target, kind, weight, seen, number))
        rows.append((target, source, kind + len(KINDS), weight, seen, number))

    for number, edge in enumerate(graph.edges):
        if edge.source not in place or edge.target not in place:
            continue
        if edge.type in GEOMETRY and not geometry:
            continue
        kind, swapped = kind_of(edge, graph.nodes[edge.source].type == "region")
        ends = (place[edge.source], place[edge.target])
        source, target = ends[::-1] if swapped else ends
        add(source, target, kind, edge.weight, segment[source] + segment[target] > 0, number)
    for number, node in enumerate(graph.nodes):
        if node.type == "word" and number in place:
            add(text, place[number], CODES[f"text {node.role}"], 1.0, False, -1)

    columns = list(zip(*rows, strict=True)) or [()] * 6
    return {
        "node_segment": np.array([*segment, SEGMENTS["word"]], dtype=np.int64),
        "node_slot": np.array([*slot, 0], dtype=np.int64),
        "edges": np.array(columns[:3], dtype=np.int32).reshape(3, -1).T,
        "edge_weight": np.array(columns[3], dtype=np.float32),
        "edge_seen": np.array(columns[4], dtype=bool),
        "edge_of": np.array(columns[5], dtype=np.int32),
    }


def most_confident(regions: Regions, count: int) -> Regions:
    """The regions with the highest scores, in their old order."""
    if len(regions) <= count:
        return regions
    order = sorted(range(len(regions)), key=lambda place: -regions.scores[place])
    kept = sorted(order[:count])
    renumbered = {old: new for new, old in enumerate(kept)}
    return Regions(
        boxes=regions.boxes[kept],
        width=regions.width,
        height=regions.height,
        labels=[regions.labels[place] for place in kept],
        scores=[regions.scores[place] for place in kept],
        attributes=[regions.attributes[place] for place in kept],
        relations=[
            (renumbered[subject], predicate, renumbered[target], score)
            for subject, predicate, target, score in regions.relations
            if subject in renumbered and target in renumbered
        ],
        features=None if regions.features is None else regions.features[kept],
        image_id=regions.image_id,
    )


def build_tokenizer(texts: Iterable[Sequence[str]], min_count: int = 1) -> PreTrainedTokenizerFast:
    """A lower-case word tokenizer from the words of some texts; needs no download.

    Args:
        texts: word lists.
        min_count: rarer words are unknown.
    """
    counts: dict[str, int] = {}
    for words in texts:
        for word in words:
            counts[word.lower()] = counts.get(word.lower(), 0) + 1
    known = sorted(word for word, count in counts.items() if count >= min_count)
    vocabulary = {word: code for code, word in enumerate([*SPECIAL_TOKENS, *known])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        special_tokens=[("[CLS]", vocabulary["[CLS]"]), ("[SEP]", vocabulary["[SEP]"])],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
    )
