"""ROSITA's checkpoints as models: ``tbkin prep convert_rosita checkpoint=FILE output=DIR``.

Writes a folder for ``from_pretrained`` (``config.json``, ``model.safetensors``) that computes what
ROSITA computes. With ``vocabulary=vocab.txt`` (BERT's, which ROSITA uses) it holds a processor too,
so that ``tbkin train init_from=DIR`` and ``tbkin predict model=DIR regions=STORE`` work.

Examples:
  tbkin prep convert_rosita checkpoint=rosita-vqa.pkl output=models/rosita_vqa \
      vocabulary=vocab.txt answers=answer_dict.json
  tbkin prep convert_rosita checkpoint=rosita-base.pkl output=models/tbkin \
      vocabulary=vocab.txt model.graph_encoder=relational

Graph layers and the detector's words, added by model.*, start with their gates at 0, so that the
function stays ROSITA's until they are trained; model.attributes_attended=true, another
model.graph_gate and a threshold change it at once. The checkpoint is read as plain data: a file
that asks for anything else is refused.
"""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast
from transformers.utils.logging import disable_progress_bar

from data_prep.regions import make_way
from tbkin.config import load_config, setting
from tbkin.data.processing_tbkin import ROSITA_CLEANING, SPECIAL_TOKENS, TBKINProcessor
from tbkin.files import new_folder
from tbkin.model.convert_rosita import Conversion, convert_rosita, read_checkpoint
from tbkin.model.heads import TBKINForQuestionAnswering
from tbkin.model.retrieval import TBKINForImageTextRetrieval
from tbkin.parsers import resolve_parser

TEXT_LENGTH, RETRIEVAL_TEXT_LENGTH, REGIONS = 20, 30, 36  # ROSITA's


@dataclass
class ConvertRositaConfig:
    """One run of the step."""

    checkpoint: str = setting("", "ROSITA's file (.pkl, .pth)")
    output: str = setting("", "folder to write")
    task: str = setting("", "vqa, grounding, retrieval or pretraining; not set: the head's")
    vocabulary: str = setting("", "BERT's vocab.txt; not set: no processor is written")
    answers: str = setting("", "JSON of the answers: a list, answer -> number, or ROSITA's pair")
    parser: str = setting("auto", "of questions, kept with the processor")
    seed: int = setting(0, "of the weights that are new")
    overwrite: bool = setting(False, "replace a folder that is there")
    json: bool = setting(False, "print one JSON object instead of a table")
    model: dict[str, Any] = setting(
        {}, "settings of TBKINConfig, as model.graph_encoder=relational"
    )


def main(arguments: list[str]) -> None:
    """Convert one checkpoint."""
    config = load_config(ConvertRositaConfig, arguments, __doc__)
    if not config.checkpoint or not config.output:
        raise ValueError("tbkin prep convert_rosita needs checkpoint=FILE and output=DIR.")
    output = Path(config.output)
    check_inputs(output, config.checkpoint, config.vocabulary, config.answers)
    if not make_way(output, config.overwrite):
        return
    tokenizer = rosita_tokenizer(Path(config.vocabulary)) if config.vocabulary else None
    labels = read_answers(Path(config.answers)) if config.answers else None
    checkpoint = read_checkpoint(Path(config.checkpoint))
    conversion = convert_rosita(checkpoint, config.task, labels, config.model)
    if tokenizer is not None and len(tokenizer) != conversion.config.vocab_size:
        raise ValueError(
            f"{config.vocabulary} has {len(tokenizer)} words, the checkpoint "
            f"{conversion.config.vocab_size}; ROSITA's is that of bert-base-uncased."
        )
    processor = None
    if tokenizer is not None:
        processor = build_processor(conversion, tokenizer, config.parser, clean=True)
    write_model(conversion, processor, output, "vocabulary=vocab.txt", config.seed, config.json)


def check_inputs(output: Path, *inputs: str) -> None:
    """Raise ``ValueError`` if replacing ``output`` would delete one of the inputs; "": none."""
    whole = output.resolve()
    for one in filter(None, inputs):
        path = Path(one)
        places = (path.resolve(), path.parent.resolve() / path.name)  # a link's target, and itself
        if any(place.is_relative_to(whole) for place in places):
            raise ValueError(f"{one} lies in output={output}; the input is never touched.")


def rosita_tokenizer(path: Path) -> PreTrainedTokenizerFast:
    """BERT's lower-casing WordPiece behind ROSITA's cleaning of the text.

    ROSITA first removes every character that is neither a word's nor white space, and underscores:
    "left-hand" becomes "lefthand". So does this tokenizer, of the text or the words that it gets;
    a :class:`TBKINProcessor` with ``clean`` does it before the parser cuts the text into words.

    Args:
        path: a word or piece a line, in the order of its numbers.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no vocabulary file {path}.")
    words = path.read_text(encoding="utf-8").splitlines()
    numbers = {word: number for number, word in enumerate(words)}
    missing = [token for token in SPECIAL_TOKENS if token not in numbers]
    if missing or len(numbers) < len(words):
        what = f"no {missing[0]}" if missing else "a word twice"
        raise ValueError(f"{path} is no vocabulary of BERT: it has {what}.")
    tokenizer = Tokenizer(models.WordPiece(numbers, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Sequence(
        [ROSITA_CLEANING, normalizers.BertNormalizer(lowercase=True)]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        special_tokens=[(token, numbers[token]) for token in ("[CLS]", "[SEP]")],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
    )


def read_answers(path: Path) -> list[str]:
    """Names of the answers in the order of their numbers.

    Args:
        path: JSON: a list of answers; answer -> number; or ROSITA's pair of tables, answer ->
            number and number -> answer.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no file of answers {path}.")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}.") from error
    if isinstance(content, list) and content and all(isinstance(one, str) for one in content):
        return content
    table = content[0] if isinstance(content, list) and content else content
    if not isinstance(table, dict) or sorted(map(str, table.values())) != sorted(
        map(str, range(len(table)))
    ):
        raise ValueError(
            f"{path} is no table of answers: expected a list, answer -> number (0, 1, …), or both "
            "tables of ROSITA."
        )
    answers = sorted(table, key=lambda answer: int(table[answer]))
    if isinstance(content, list) and len(content) > 1:
        back = content[1]
        if not isinstance(back, dict) or [back.get(str(n)) for n in range(len(answers))] != answers:
            raise ValueError(f"{path}: its two tables of answers contradict one another.")
    return answers


def build_processor(
    conversion: Conversion, tokenizer: PreTrainedTokenizerFast, parser: str, clean: bool
) -> TBKINProcessor:
    """A processor with ROSITA's lengths; its features come from elsewhere.

    Args:
        conversion: of a checkpoint.
        tokenizer: whose ids are those of the checkpoint.
        parser: of questions.
        clean: whether texts lose their signs, as ROSITA's do.
    """
    retrieval = conversion.model_class is TBKINForImageTextRetrieval
    return TBKINProcessor(
        tokenizer,
        parser=resolve_parser(parser, "question"),
        max_text_length=RETRIEVAL_TEXT_LENGTH if retrieval else TEXT_LENGTH,
        max_regions=REGIONS,
        detector={"name": "precomputed"},
        clean=clean,
    )


def write_model(
    conversion: Conversion,
    processor: TBKINProcessor | None,
    output: Path,
    way_to_processor: str,
    seed: int,
    as_json: bool,
) -> None:
    """Write the folder and say what came of the checkpoint.

    Args:
        conversion: of a checkpoint.
        processor: written beside the model; None: left out.
        output: folder; replaced if it is there.
        way_to_processor: the setting that would have brought one.
        seed: of the weights that the checkpoint has not.
        as_json: one JSON object instead of a table.
    """
    disable_progress_bar()
    torch.manual_seed(seed)
    model = conversion.build()
    with new_folder(output) as unfinished:
        model.save_pretrained(unfinished)
        if processor is not None:
            processor.save_pretrained(unfinished)
    lacking = []
    if processor is None:
        lacking.append(f"a processor, without which nothing trains: add {way_to_processor}")
    named = model.config.id2label[0] != "LABEL_0"
    if isinstance(model, TBKINForQuestionAnswering) and not named:
        lacking.append("names of the answers: add answers=FILE.json")
    parameters = sum(parameter.numel() for parameter in model.parameters())
    record = {
        "output": str(output),
        "model": type(model).__name__,
        "parameters": parameters,
        "loaded": conversion.loaded,
        "new": conversion.new,
        "left_over": conversion.left_over,
        "lacking": lacking,
    }
    sys.stdout.write((json.dumps(record) if as_json else _table(record)) + "\n")


def _table(record: dict[str, Any]) -> str:
    """The report for people; parameters of one part of the model share a line."""
    rows = [("loaded", group, len(names)) for group, names in record["loaded"].items()]
    parts = Counter(re.split(r"\.\d+\.|\.[^.]+$", name)[0] for name in record["new"])
    rows += [("new", part, count) for part, count in parts.items()]
    width = max(len(part) for _, part, _ in rows)
    lines = [f"{record['output']}: {record['model']}, {record['parameters']:,} parameters"]
    lines += [f"  {what:<9} {part:<{width}} {count:>4} tensors" for what, part, count in rows]
    lines += [f"  left over {name}" for name in record["left_over"]]
    lines += [f"  lacking   {what}" for what in record["lacking"]]
    return "\n".join(lines)
