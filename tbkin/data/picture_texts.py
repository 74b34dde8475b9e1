"""Texts about pictures: prepared rows -> examples, whatever is asked of the model.

Most data sets differ in what a text is called and in what is to be learned from it; all of them
share how a picture's regions and graph meet the text.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch.utils.data import Dataset

from tbkin.data.features import RegionStore, check_fingerprint
from tbkin.data.prepared import read_split
from tbkin.data.processing_tbkin import Example, TBKINProcessor, build_tokenizer
from tbkin.graphs.build import join
from tbkin.graphs.scene_graph import SceneGraph
from tbkin.parsers import resolve_parser
from tbkin.parsers.word_rules import WORD

KEPT_TEXTS = 50_000  # texts that stay in memory once they are encoded; about 5 KB each
KEPT_BYTES = 2**29  # of region features that stay in memory of each process


class PictureCache:
    """``cache(image_id) -> `` the picture's share of an example, and its graph.

    All texts about a picture share them. At most ``KEPT_BYTES`` of features stay in memory.
    """

    def __init__(self, store: RegionStore, processor: TBKINProcessor):
        self.store, self.processor = store, processor
        self.pictures: dict[int, tuple[Example, SceneGraph]] = {}

    def __call__(self, image_id: int) -> tuple[Example, SceneGraph]:
        """What is kept, or made now."""
        if image_id not in self.pictures:
            seen = self.processor.seen(self.store[image_id])
            size = max(1, seen[0]["region_features"].nbytes)
            if len(self.pictures) >= max(1, KEPT_BYTES // size):
                self.pictures.clear()
            self.pictures[image_id] = seen
        return self.pictures[image_id]


class PictureTexts(Dataset[Example]):
    """Texts of one split with the regions of their pictures.

    Subclasses name the ``column`` of a row that holds its text, the ``step`` of ``tbkin prep`` that
    writes the folder, and say in :meth:`labels_of` what the model should learn from a row.

    Args:
        root: prepared folder.
        split: "train", "val", "test", …
        processor: makes examples.
        labels: names of the model's outputs, in their order.
        max_examples: use only the first so many; 0: all.
    """

    column: str
    step: str

    def __init__(
        self,
        root: Path,
        split: str,
        processor: TBKINProcessor,
        labels: Sequence[str] = (),
        max_examples: int = 0,
    ):
        rows = read_split(root, split)
        self.rows = rows[:max_examples] if max_examples else rows
        self.store = RegionStore(root / "regions")
        if processor.fingerprint:
            found = self.store.fingerprint
            check_fingerprint(processor.fingerprint, found, str(root), same_boxes=False)
        self.processor = processor
        self.index = {label: place for place, label in enumerate(labels)}
        self._check_pictures(root, split)
        self._picture = PictureCache(self.store, processor)
        self._texts: dict[int, Example] = {}  # what an example has beside its picture's share

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, place: int) -> Example:
        row = self.rows[place]
        seen, graph = self._picture(row["image_id"])
        if place in self._texts:
            return seen | self._texts[place]
        text = self.processor.parse(row[self.column])
        example = self.processor.encode(seen, join(graph, text))
        example |= self.labels_of(row, example)
        if len(self._texts) < KEPT_TEXTS:
            self._texts[place] = {key: example[key] for key in example.keys() - seen.keys()}
        return example

    def labels_of(self, row: dict[str, Any], example: Example) -> Example:
        """Fields that say which text this is, and what should be learned from it."""
        raise NotImplementedError

    def _check_pictures(self, root: Path, split: str) -> None:
        """Fail in the first second rather than in the middle of an epoch."""
        wanted = {row["image_id"] for row in self.rows}
        missing = sorted(image_id for image_id in wanted if image_id not in self.store)
        if missing:
            raise LookupError(
                f"{len(missing)} pictures of split {split!r} have no regions in {root / 'regions'} "
                f"(first: {missing[0]}). Prepare the data again: "
                f"tbkin prep {self.step} overwrite=true"
            )


def build_processor(
    root: Path, split: str, parser: str, column: str, more: Sequence[str] = ()
) -> TBKINProcessor:
    """A processor whose words are those of a split's texts and of the detector.

    Args:
        root: prepared folder.
        split: the split to learn from.
        parser: ``auto`` is settled here, so that the checkpoint names the parser it was trained
            with.
        column: what the texts are called in the split.
        more: further words.
    """
    store = RegionStore(root / "regions")
    names = [*store.manifest["labels"], *store.manifest["attributes"]]
    texts = [WORD.findall(row[column]) for row in read_split(root, split)]
    record = json.loads((root / "dataset.json").read_text())
    return TBKINProcessor(
        build_tokenizer([*texts, *(name.replace("_", " ").split() for name in names), list(more)]),
        parser=resolve_parser(parser, "question"),
        fingerprint=store.fingerprint,
        detector=record["detector"],
    )
