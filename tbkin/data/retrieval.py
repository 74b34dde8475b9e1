"""Image-text retrieval: prepared captions -> examples, and any picture with any caption."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import send_to_device
from torch import Tensor
from transformers import BatchEncoding

from tbkin.config import choose
from tbkin.data import picture_texts
from tbkin.data.picture_texts import PictureTexts
from tbkin.data.processing_tbkin import Example, TBKINProcessor
from tbkin.data.prompts import SpatialPrompts, generator_of, objects_of
from tbkin.data.teachers import TeacherStore
from tbkin.data.tower_inputs import picture_files
from tbkin.detectors.pixels import open_picture
from tbkin.graphs.build import join
from tbkin.graphs.scene_graph import SceneGraph
from tbkin.parsers.word_rules import WORD

TAUGHT = {"text": "caption_id", "image": "image_id"}  # teacher -> the id that it knows rows by
TAUGHT_OF = {"text": "captions", "image": "pictures"}
TRUE_OF = "true_of.json"  # of a prepared folder: caption id -> all pictures that it is true of
KEPT_CAPTIONS = 50_000  # whose graphs stay in memory once they are parsed


class RetrievalDataset(PictureTexts):
    """Captions of one split, each with its own picture; a picture comes once for each caption.

    Where the processor has towers, an example also holds what they read, and the picture's file is
    opened for it; what :meth:`pair` puts together does without.

    Args:
        root: prepared folder.
        split: "train", "val", "test".
        processor: makes examples.
        labels: none; every task passes them.
        max_examples: use only the first so many captions; 0: all.
        teachers: folder with ``text`` and ``image`` of ``tbkin prep teachers``; "auto": that of
            ``root``; "": none.
        prompt: settings of :class:`~tbkin.data.prompts.SpatialPrompts`; its probability is 0 unless
            it is among them.
    """

    column = "caption"
    step = "retrieval"

    def __init__(
        self,
        root: Path,
        split: str,
        processor: TBKINProcessor,
        labels: Sequence[str] = (),
        max_examples: int = 0,
        teachers: str = "",
        prompt: Mapping[str, Any] | None = None,
    ):
        super().__init__(root, split, processor, labels, max_examples)
        self.place_of = {row["caption_id"]: place for place, row in enumerate(self.rows)}
        self.teachers = {}
        if teachers:
            folder = root / "teachers" if teachers == "auto" else Path(teachers)
            self.teachers = {
                side: TeacherStore.open(folder / side, of) for side, of in TAUGHT_OF.items()
            }
            for side, store in self.teachers.items():
                store.check_split(root / f"{split}.jsonl")
                store.check([row[TAUGHT[side]] for row in self.rows])
        self.prompts = build_prompts(prompt or {}, processor)
        if self.prompts is not None:  # now rather than in the middle of an epoch
            self.prompts.check_room(
                label.replace("_", " ") for label in self.store.manifest["labels"] if label
            )
        self.files: dict[int, Path] = {}
        if processor.towers is not None:
            self.files = picture_files(root, split, image_ids_of(self))
        self._pixels: dict[int, Example] = {}  # of the last picture: its captions are adjacent
        # Shared, so that loader processes that outlive an epoch see the next one begin.
        self._visit = torch.zeros(2, dtype=torch.int64).share_memory_()
        self._said: dict[int, tuple[SceneGraph, BatchEncoding]] = {}

    def set_visit(self, seed: int, epoch: int) -> None:
        """Draw other prompts from now on, the same for the same seed and epoch (>= 0)."""
        self._visit[0], self._visit[1] = seed, epoch + 1

    def __getitem__(self, place: int) -> Example:
        example = super().__getitem__(place)
        row = self.rows[place]
        text = row[self.column]
        if self.prompts is not None:
            chance = generator_of(*self._visit.tolist(), row["caption_id"])
            objects = objects_of(self.store[row["image_id"]])
            text = self.prompts(text, objects, chance)
            if text != row[self.column]:
                seen, graph = self._picture(row["image_id"])
                example = self.processor.encode(seen, join(graph, self.processor.parse(text)))
                example |= self.labels_of(row, example)
        for side, store in self.teachers.items():
            example[f"{side}_teacher"] = store[[row[TAUGHT[side]]]][0]
        if self.processor.towers is not None:
            example |= self._tower_picture(row["image_id"]) | self.processor.towers.text(text)
        return example

    def labels_of(self, row: dict[str, Any], example: Example) -> Example:
        """``caption_id``, ``image_id`` and ``identity``; equal identities are positive pairs."""
        return {key: row[key] for key in ("caption_id", "image_id", "identity")}

    def _tower_picture(self, image_id: int) -> Example:
        if image_id not in self._pixels:
            picture = open_picture(self.files[image_id])
            self._pixels = {image_id: self.processor.towers.picture(picture)}
        return self._pixels[image_id]

    def pair(self, image_id: int, place: int) -> Example:
        """A picture with the caption of another row: the graph of both, and nothing to learn."""
        seen, graph = self._picture(image_id)
        if place not in self._said:
            if len(self._said) >= KEPT_CAPTIONS:
                self._said.clear()
            said = self.processor.parse(self.rows[place][self.column])
            self._said[place] = said, self.processor.tokenize(said.words)
        said, encoding = self._said[place]
        return self.processor.encode(seen, join(graph, said), encoding)

    def pairs_of(
        self, batch: dict[str, Any], collate: Callable[[list[Example]], dict[str, Any]]
    ) -> Callable[[Tensor, Tensor], dict[str, Any]]:
        """Puts pictures and captions of a batch together anew.

        Args:
            batch: with ``image_ids`` and ``caption_ids``.
            collate: examples -> batch.

        Returns:
            ``(rows of pictures, rows of captions) ->`` batch of those pairs, where the batch is.
        """
        images = batch["image_ids"].tolist()
        places = [self.place_of[caption] for caption in batch["caption_ids"].tolist()]

        def pairs(of_images: Tensor, of_captions: Tensor) -> dict[str, Any]:
            rows = zip(of_images.tolist(), of_captions.tolist(), strict=True)
            examples = [self.pair(images[image], places[caption]) for image, caption in rows]
            return send_to_device(collate(examples), batch["image_ids"].device)

        return pairs


def image_ids_of(dataset: RetrievalDataset) -> list[int]:
    """The pictures of a data set, each once, in file order."""
    return list(dict.fromkeys(row["image_id"] for row in dataset.rows))


def build_prompts(settings: Mapping[str, Any], processor: TBKINProcessor) -> SpatialPrompts | None:
    """The prompts of a run; None where there are none.

    Raises:
        ValueError: an unknown setting, texts longer than the model reads, which would lose their
            prompts, or a word of theirs that the model does not know.
    """
    check_prompt(settings)
    tokenizer = processor.tokenizer
    own = {"max_length": processor.max_text_length, "probability": 0.0, **settings}
    prompts = SpatialPrompts(
        count=lambda text: len(
            tokenizer(processor.parse(text).words, is_split_into_words=True)["input_ids"]
        ),
        **own,
    )
    if not prompts.probability:
        return None
    if prompts.max_length > processor.max_text_length:
        raise ValueError(
            f"data.prompt.max_length={prompts.max_length}, and the model reads the first "
            f"{processor.max_text_length} tokens of a text; leave max_length out."
        )
    said = words_of(prompts)
    unknown = [word for word in said if tokenizer.unk_token in tokenizer.tokenize(word)]
    if unknown:
        raise ValueError(
            f"the model does not know {', '.join(unknown)} of data.prompt; build its processor "
            "with these settings, or choose a grid of at most 3 and words of its captions, or of "
            "the default template."
        )
    return prompts


def words_of(prompts: SpatialPrompts) -> list[str]:
    """What prompts say beside names of objects, without punctuation."""
    return [word for text in prompts.words() for word in WORD.findall(text)]


def check_prompt(settings: Mapping[str, Any]) -> None:
    """Raise ValueError for a setting of ``data.prompt`` that there is not."""
    known = [field.name for field in dataclasses.fields(SpatialPrompts) if field.name != "count"]
    for name in settings:
        choose(dict.fromkeys(known), name, "setting of data.prompt")


def build_processor(
    root: Path, split: str, parser: str = "auto", prompt: Mapping[str, Any] | None = None
) -> TBKINProcessor:
    """A processor whose words are those of a split's captions, of prompts and of the detector.

    Args:
        root: prepared folder.
        split: whose captions are learned from.
        parser: see ``picture_texts.build_processor``.
        prompt: settings of the run's own prompts, whose words join those of the default ones.
    """
    check_prompt(prompt or {})
    words = [*words_of(SpatialPrompts()), *words_of(SpatialPrompts(**prompt or {}))]
    return picture_texts.build_processor(root, split, parser, RetrievalDataset.column, words)
