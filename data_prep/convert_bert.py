"""BERT as the start of a model: ``tbkin prep convert_bert model=DIR output=DIR``.

Reads a folder of transformers (BertModel, BertForPreTraining or BertForMaskedLM) and writes one for
``from_pretrained``, as ROSITA's pre-training starts: text side, fusion layers and what BERT has of
the heads are BERT's, the visual side is new. The folder's vocab.txt or tokenizer.json becomes the
processor's tokenizer. task=vqa and others choose another head, which is new.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import BertTokenizerFast

from data_prep.convert_rosita import build_processor, check_inputs, read_answers, write_model
from data_prep.regions import make_way
from tbkin.config import load_config, setting
from tbkin.model.convert_bert import convert_bert

TOKENIZER_FILES = ("tokenizer.json", "vocab.txt")


@dataclass
class ConvertBertConfig:
    """One run of the step."""

    checkpoint: str = setting("", "BERT's folder, short model=DIR")
    output: str = setting("", "folder to write")
    task: str = setting("pretraining", "vqa, grounding, retrieval or pretraining")
    region_feature_size: int = setting(2048, "numbers in a region's features")
    answers: str = setting("", "JSON of the answers, as in convert_rosita")
    parser: str = setting("auto", "of questions, kept with the processor")
    seed: int = setting(0, "of the weights that are new")
    overwrite: bool = setting(False, "replace a folder that is there")
    json: bool = setting(False, "print one JSON object instead of a table")
    model: dict[str, Any] = setting(
        {}, "settings of TBKINConfig, as model.graph_encoder=relational"
    )

    def __post_init__(self) -> None:
        """Check ranges."""
        if self.region_feature_size < 1:
            raise ValueError(f"region_feature_size must be >= 1, got {self.region_feature_size}.")


def main(arguments: list[str]) -> None:
    """Convert one folder."""
    config = load_config(ConvertBertConfig, [_long(word) for word in arguments], __doc__)
    if not config.checkpoint or not config.output:
        raise ValueError("tbkin prep convert_bert needs model=DIR and output=DIR.")
    folder, output = Path(config.checkpoint), Path(config.output)
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder {folder}.")
    check_inputs(output, config.checkpoint, config.answers)
    if not make_way(output, config.overwrite):
        return
    labels = read_answers(Path(config.answers)) if config.answers else None
    conversion = convert_bert(folder, config.region_feature_size, config.task, labels, config.model)
    processor = None
    if any((folder / name).is_file() for name in TOKENIZER_FILES):
        tokenizer = BertTokenizerFast.from_pretrained(folder)
        if len(tokenizer) > conversion.config.vocab_size:
            raise ValueError(
                f"the tokenizer of {folder} has {len(tokenizer)} words, its weights only "
                f"{conversion.config.vocab_size}."
            )
        processor = build_processor(conversion, tokenizer, config.parser, clean=False)
    write_model(conversion, processor, output, f"vocab.txt to {folder}", config.seed, config.json)


def _long(word: str) -> str:
    """``model=DIR`` is short for ``checkpoint=DIR``: ``model.*`` are settings of ours."""
    return word.replace("model=", "checkpoint=", 1) if word.startswith("model=") else word
