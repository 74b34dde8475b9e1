"""What a training run starts from: processor and model, new or grown out of a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from tbkin.config import TrainConfig
from tbkin.data.features import check_fingerprint
from tbkin.data.processing_tbkin import TBKINProcessor
from tbkin.data.vocabulary import add_words
from tbkin.model.configuration_tbkin import TBKINConfig
from tbkin.model.initialization import read_weights, start_from
from tbkin.tasks import Task

SHAPES = (  # settings of the model that a checkpoint brings and nobody can change
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "max_position_embeddings",
    "type_vocab_size",
    "region_encoder",
)
THRESHOLDS = ("selection_", "knowledge_", "credibility_")  # settings of the model that ramp up


def build(config: TrainConfig, task: Task, root: Path) -> tuple[TBKINProcessor, nn.Module, str]:
    """Processor and model: new ones for these data, or grown out of those of ``init_from``.

    Returns:
        Both, and what there is to say about the checkpoint; empty without.
    """
    processor = task.build_processor(root, config.data.train_split, config.data.parser)
    labels = task.read_labels(root)
    sample = task.dataset(root, config.data.train_split, processor, labels, 1)[0]
    width = sample["region_features"].shape[1]
    known = {
        "region_feature_size": width,
        "id2label": dict(enumerate(labels)),
        "label2id": {label: place for place, label in enumerate(labels)},
        **task.label_counts(labels),
    }
    if config.init_from:
        start = Path(config.init_from)
        return build_from(start, config.model, task, processor, known, config.data.parser)
    model_config = TBKINConfig.from_changes(
        {
            "region_encoder": "patches" if pixels(processor) else "linear",
            **config.model,
        },
        vocab_size=len(processor.tokenizer),
        pad_token_id=processor.tokenizer.pad_token_id,
        **known,
    )
    return processor, task.model(model_config), ""


def build_from(
    folder: Path,
    changes: dict[str, Any],
    task: Task,
    fresh: TBKINProcessor,
    known: dict[str, Any],
    parser: str,
) -> tuple[TBKINProcessor, nn.Module, str]:
    """Processor and model that start from a checkpoint of any task.

    Args:
        folder: the checkpoint.
        changes: settings of the model that differ from its own.
        task: what is learned next.
        fresh: the processor that the data would get without a checkpoint; its words are added.
        known: settings of the model that the data decide.
        parser: of questions, as the run asks for it; ``auto``: the checkpoint's.
    """
    for name in ("config.json", "processor_config.json"):
        if not (folder / name).is_file():
            raise FileNotFoundError(
                f"no {name} in init_from={folder}; name a folder that tbkin train wrote, or that "
                "tbkin prep convert_rosita or convert_bert wrote with a vocabulary."
            )
    old = TBKINConfig.from_pretrained(folder)
    for name in SHAPES:
        if changes.get(name, getattr(old, name)) != getattr(old, name):
            raise ValueError(
                f"model.{name}={changes[name]} does not fit init_from={folder}, which has "
                f"{getattr(old, name)}; leave it out."
            )
    if known["region_feature_size"] != old.region_feature_size:
        raise ValueError(
            f"the region features of the data are {known['region_feature_size']} wide, those of "
            f"init_from={folder} {old.region_feature_size}; prepare the regions with its detector, "
            "or convert BERT again with region_feature_size=."
        )
    processor = TBKINProcessor.from_pretrained(folder)
    processor.tokenizer, words = add_words(processor.tokenizer, fresh.tokenizer)
    if not processor.fingerprint:  # of a converted checkpoint
        processor.parser = fresh.parser
    check_fingerprint(processor.fingerprint, fresh.fingerprint, "data.root", same_boxes=False)
    processor.fingerprint, processor.detector = fresh.fingerprint, fresh.detector
    if parser != "auto":
        processor.parser = fresh.parser
    size = max(old.vocab_size, len(processor.tokenizer))
    model_config = old.changed(changes, vocab_size=size, pad_token_id=old.pad_token_id, **known)
    model = task.model(model_config)
    same = list(old.id2label.values()) == list(model_config.id2label.values())
    report = start_from(
        model, read_weights(folder), (old.vocab_size, size), () if same else task.labelled
    )
    if any(name.startswith(THRESHOLDS) for name in changes):
        model.tbkin.training_steps.zero_()  # other thresholds ramp up anew
    return processor, model, f"init_from={folder}: {report}; {words} new words"


def pixels(processor: TBKINProcessor) -> bool:
    """Whether the regions come as pixels, which a patch encoder must look at."""
    return processor.fingerprint.get("extractor", "").startswith("pixels")
