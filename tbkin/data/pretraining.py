"""Masked pre-training: prepared captions and their pictures -> examples with something hidden.

An example is a caption with its own picture or, half of the time, with another one. One side of it
is masked (``data/masking.py``) and, if the two belong together, must be restored. The scene graph
is that of what is left (*ours*): a hidden region has lost its detector's words, attributes and
relations, and alignment is computed without hidden words and hidden regions, since an edge that was
found by comparing them would give them away. A hidden word's node stays with its edges in the text.

Source: Cui et al., "ROSITA", ACM Multimedia 2021, arXiv:2108.07073, and its code.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from transformers import BatchEncoding

from tbkin.config import choose
from tbkin.data import picture_texts
from tbkin.data.features import RegionStore, check_fingerprint
from tbkin.data.knowledge_graph import KnowledgeGraph, knowledge_graph, number_pieces, words_of
from tbkin.data.masking import (
    FORMS,
    Masks,
    corrupt_regions,
    corrupt_tokens,
    draw_masks,
    draw_side,
    ordinary_tokens,
)
from tbkin.data.picture_texts import PictureCache
from tbkin.data.prepared import read_split
from tbkin.data.processing_tbkin import Example, TBKINProcessor
from tbkin.graphs.build import join
from tbkin.graphs.kinds import GEOMETRY
from tbkin.graphs.knowledge import CooccurrencePrior
from tbkin.graphs.scene_graph import SceneGraph
from tbkin.objectives.masked import NOT_MASKED

MATCHED = 0.5  # share of the captions that come with their own picture
KEPT_TEXTS = 20_000  # captions with their graphs
OBJECT, ATTRIBUTE = "object ", "attribute "  # what the names of the classes begin with


class PretrainingDataset(Dataset[Example]):
    """Captions of one split, each with its own or another picture, partly hidden.

    What is hidden, and which picture comes with it, depends on the caption's id alone until
    :meth:`set_visit` says otherwise: an evaluation asks the same every time.

    Args:
        root: folder that ``tbkin prep pretraining`` made.
        split: "train", "val", …
        processor: makes examples; its tokenizer has a mask token.
        labels: the classes of regions that the model knows, see :func:`read_labels`.
        max_examples: use only the first so many; 0: all.
        masking: form of masking, see ``data/masking.py``.
    """

    def __init__(
        self,
        root: Path,
        split: str,
        processor: TBKINProcessor,
        labels: Sequence[str],
        max_examples: int = 0,
        masking: str = "graph",
    ):
        choose(FORMS, masking, "form of masking")
        if processor.tokenizer.mask_token_id is None:
            raise ValueError("pre-training needs a tokenizer with a mask token; this one has none.")
        rows = read_split(root, split)
        self.rows = rows[:max_examples] if max_examples else rows
        self.graphs = GraphLines(root / "graphs" / f"{split}.jsonl", len(rows))
        self.prior = CooccurrencePrior.load(root / "prior.json")
        self.store = RegionStore(root / "regions")
        if processor.fingerprint:
            check_fingerprint(processor.fingerprint, self.store.fingerprint, str(root))
        self.processor, self.masking = processor, masking
        self.replacements = ordinary_tokens(processor.tokenizer)
        self.objects, self.attributes = (_places(labels, kind) for kind in (OBJECT, ATTRIBUTE))
        self.images = sorted({row["image_id"] for row in self.rows})
        missing = [image_id for image_id in self.images if image_id not in self.store]
        if missing:
            raise LookupError(
                f"{len(missing)} pictures of split {split!r} have no regions in {root / 'regions'} "
                f"(first: {missing[0]}). Prepare the data again: "
                "tbkin prep pretraining overwrite=true"
            )
        # Shared, so that loader processes that outlive an epoch see the next one begin.
        self._visit = torch.zeros(2, dtype=torch.int64).share_memory_()
        self._picture = PictureCache(self.store, processor)
        self._texts: dict[int, tuple[SceneGraph, BatchEncoding]] = {}
        self._knowledge: dict[int, KnowledgeGraph] = {}  # of captions with their own pictures

    def __len__(self) -> int:
        return len(self.rows)

    def set_visit(self, seed: int, epoch: int) -> None:
        """Hide other things from now on, the same for the same seed and epoch (>= 0)."""
        self._visit[0], self._visit[1] = seed, epoch + 1

    def __getitem__(self, place: int) -> Example:
        row = self.rows[place]
        generator = np.random.default_rng([*self._visit.tolist(), row["caption_id"]])
        matched = generator.random() < MATCHED or len(self.images) < 2
        image_id = row["image_id"] if matched else self._other(row["image_id"], generator)
        seen, picture = self._picture(image_id)
        said, encoding = self._text(place)
        pieces = number_pieces(encoding.word_ids())
        if matched and place in self._knowledge:
            knowledge = self._knowledge[place]
        else:
            knowledge = knowledge_graph(join(picture, said), self.prior, pieces)
            if matched and len(self._knowledge) < KEPT_TEXTS:
                self._knowledge[place] = knowledge
        masks = draw_masks(knowledge, draw_side(generator), self.masking, generator)
        hidden = {word for word, own in pieces.items() if masks.text[own].any()}
        graph = join_visible(picture, said, set(np.flatnonzero(masks.image).tolist()), hidden)
        example = self.processor.encode(seen, graph, encoding)
        return (
            example
            | self._hide_words(example, encoding.word_ids(), masks, generator, matched)
            | self._hide_regions(example, picture, masks, generator, matched)
            | {"match_label": int(matched), "caption_id": row["caption_id"]}
        )

    def _hide_words(
        self,
        example: Example,
        word_ids: list[int | None],
        masks: Masks,
        generator: np.random.Generator,
        matched: bool,
    ) -> Example:
        """Corrupted tokens, and which they were."""
        mask = np.zeros(len(word_ids), dtype=bool)
        mask[[token for token, word in enumerate(word_ids) if word is not None]] = masks.text
        tokens = example["input_ids"]
        scored = mask & (matched and masks.side == "text")
        return {
            "input_ids": corrupt_tokens(
                tokens,
                mask,
                self.processor.tokenizer.mask_token_id,
                self.replacements,
                generator,
            ).tolist(),
            "word_labels": np.where(scored, tokens, NOT_MASKED).tolist(),
        }

    def _hide_regions(
        self,
        example: Example,
        picture: SceneGraph,
        masks: Masks,
        generator: np.random.Generator,
        matched: bool,
    ) -> Example:
        """Corrupted features without the detector's words, and what they were."""
        features: Tensor = example["region_features"]
        scored = torch.from_numpy(masks.image & (matched and masks.side == "image"))
        return {
            "region_features": corrupt_regions(features, masks.image, self._any_region, generator),
            "region_label_ids": [
                [] if hidden else ids
                for ids, hidden in zip(example["region_label_ids"], masks.image, strict=True)
            ],
            "feature_labels": features,
            "region_targets": scored,
            **region_classes(picture, scored, self.objects, self.attributes),
        }

    def _other(self, image_id: int, generator: np.random.Generator) -> int:
        """Another picture of the split."""
        place = int(generator.integers(len(self.images) - 1))
        return self.images[place] if self.images[place] < image_id else self.images[place + 1]

    def _any_region(self, generator: np.random.Generator) -> Tensor:
        """The feature (F,) of a random region of a random picture that has regions."""
        while True:  # ends: the picture whose region is replaced has one
            image_id = self.images[int(generator.integers(len(self.images)))]
            features = self._picture(image_id)[0]["region_features"]
            if len(features):
                return features[int(generator.integers(len(features)))]

    def _text(self, place: int) -> tuple[SceneGraph, BatchEncoding]:
        """The graph of a caption, and its tokens."""
        if place in self._texts:
            return self._texts[place]
        said = self.graphs[place]
        text = said, self.processor.tokenize(said.words)
        if len(self._texts) < KEPT_TEXTS:
            self._texts[place] = text
        return text


class GraphLines:
    """Graphs of a JSON Lines file by their place, read when they are asked for.

    Args:
        path: what ``write_scene_graphs`` wrote.
        count: how many there must be.
    """

    def __init__(self, path: Path, count: int):
        self.path = path
        if not path.is_file():
            raise FileNotFoundError(f"there is no file {path}; prepare the data again.")
        with path.open("rb") as file:
            lengths = [len(line) for line in file]
        if len(lengths) != count:
            raise ValueError(
                f"{path} holds {len(lengths)} graphs of {count} captions; prepare the data again."
            )
        self.starts = np.cumsum([0, *lengths])

    def __getitem__(self, place: int) -> SceneGraph:
        with self.path.open("rb") as file:
            file.seek(self.starts[place])
            line = file.readline()
        try:
            return SceneGraph.from_dict(json.loads(line))
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{self.path}, line {place + 1}: {error}") from error


def join_visible(
    picture: SceneGraph, said: SceneGraph, regions: set[int], words: set[int]
) -> SceneGraph:
    """The unified graph of what is not hidden.

    Args:
        picture: of ``picture_graph``; node ``i`` is region ``i``.
        said: graph of a text.
        regions: the hidden ones. They keep their boxes and what follows from these.
        words: the hidden ones. Their nodes stay, with their edges in the text; nothing is aligned
            by them, nor by what they say of others.
    """
    quiet = [
        replace(node, role="count")  # the only role that nothing is aligned by
        if words.intersection(words_of(node, said.words))
        else node
        for node in said.nodes
    ]
    seen = without_regions(picture, regions)
    graph = join(seen, replace(said, nodes=quiet))
    edges = [edge for edge in graph.edges if edge.type != "alignment" or edge.target not in regions]
    return replace(graph, nodes=seen.nodes + said.nodes, edges=edges)


def without_regions(picture: SceneGraph, regions: set[int]) -> SceneGraph:
    """A picture's graph in which nothing but their boxes is known of some regions.

    Attributes that no other region has go, too.
    """
    if not regions:
        return picture
    edges = [
        edge
        for edge in picture.edges
        if edge.type in GEOMETRY or not {edge.source, edge.target} & regions
    ]
    named = {edge.target for edge in edges if edge.type == "attribute"}
    kept = [
        place for place, node in enumerate(picture.nodes) if node.type == "region" or place in named
    ]
    new = {old: place for place, old in enumerate(kept)}
    return replace(
        picture,
        nodes=[
            replace(picture.nodes[place], label="") if place in regions else picture.nodes[place]
            for place in kept
        ],
        edges=[replace(edge, source=new[edge.source], target=new[edge.target]) for edge in edges],
    )


def region_classes(
    picture: SceneGraph,
    scored: Tensor,
    objects: dict[str, int],
    attributes: dict[str, int],
) -> dict[str, Tensor]:
    """What the detector said of the regions that must be restored.

    Args:
        picture: of ``picture_graph``.
        scored: (R,) bool.
        objects: name -> class.
        attributes: likewise.

    Returns:
        ``object_labels``, ``attribute_labels`` (R,) int64, the latter the surest attribute; -100
        where nothing must be restored, or nothing was said that the model knows.
        ``object_confidence``, ``attribute_confidence`` (R,) in [0, 1], 0 there.
    """
    surest: dict[int, tuple[float, str]] = {}
    for edge in picture.edges:
        if edge.type == "attribute":
            found = (edge.weight, picture.nodes[edge.target].label)
            surest[edge.source] = max(surest.get(edge.source, (0.0, "")), found)
    count = len(scored)
    classes = {}
    for kind in ("object", "attribute"):
        classes[f"{kind}_labels"] = torch.full((count,), NOT_MASKED)
        classes[f"{kind}_confidence"] = torch.zeros(count)
    for region in scored.nonzero().flatten().tolist():
        node = picture.nodes[region]
        for kind, known, (confidence, name) in (
            ("object", objects, (node.score, node.label)),
            ("attribute", attributes, surest.get(region, (0.0, ""))),
        ):
            if name in known:
                classes[f"{kind}_labels"][region] = known[name]
                classes[f"{kind}_confidence"][region] = confidence
    return classes


def read_labels(root: Path) -> list[str]:
    """The classes of the regions of a prepared folder: "object dog", …, then "attribute red", …."""
    manifest = RegionStore(root / "regions").manifest
    return [
        *(OBJECT + name for name in manifest["labels"] if name),
        *(ATTRIBUTE + name for name in manifest["attributes"]),
    ]


def label_counts(labels: Sequence[str]) -> dict[str, int]:
    """Settings of the model's heads: at least one class each, so that the heads are there."""
    return {
        "num_object_labels": max(1, len(_places(labels, OBJECT))),
        "num_attribute_labels": max(1, len(_places(labels, ATTRIBUTE))),
    }


def build_processor(root: Path, split: str, parser: str = "auto") -> TBKINProcessor:
    """A processor whose words are those of a split's captions and of the detector.

    Its parser is one of questions: captions are parsed in preparation.
    """
    return picture_texts.build_processor(root, split, parser, "caption")


def _places(labels: Sequence[str], kind: str) -> dict[str, int]:
    """Name -> class, of one kind."""
    names = [label.removeprefix(kind) for label in labels if label.startswith(kind)]
    return {name: place for place, name in enumerate(names)}
