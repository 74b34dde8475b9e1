"""What a training run starts from: processor and model, new or grown out of a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from tbkin.config import TrainConfig
from tbkin.data.collate import Collator
from tbkin.data.features import check_fingerprint
from tbkin.data.processing_tbkin import Example, TBKINProcessor
from tbkin.data.tower_inputs import TowerInputs
from tbkin.data.vocabulary import add_words
from tbkin.detectors.pretrained_folder import find_folder
from tbkin.model.configuration_tbkin import TBKINConfig
from tbkin.model.initialization import read_weights, start_from
from tbkin.model.retrieval import TBKINForImageTextRetrieval
from tbkin.model.towers import Towers, load_towers, settings_of
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
BESIDE_TOWERS = ("matching", "uni_modal_soft_label")  # what frozen ones leave to learn
THRESHOLDS = ("selection_", "knowledge_", "credibility_")  # settings of the model that ramp up


def build(config: TrainConfig, task: Task, root: Path) -> tuple[TBKINProcessor, nn.Module, str]:
    """Processor and model: new ones for these data, or grown out of those of ``init_from``.

    With ``model.towers`` another model's towers are part of it, with their weights.

    Returns:
        Both, and what there is to say about the checkpoint and towers; empty without.
    """
    changes = dict(config.model)
    towers = find_towers(changes.pop("towers", ""), config, task)
    own = {"prompt": config.data.prompt} if "prompt" in task.training_settings else {}
    processor = task.build_processor(root, config.data.train_split, config.data.parser, **own)
    if towers is not None:
        processor.towers = TowerInputs.from_pretrained(towers)
    labels = task.read_labels(root)
    sample = task.dataset(root, config.data.train_split, processor, labels, 1)[0]
    width = sample["region_features"].shape[1]
    known = {
        "region_feature_size": width,
        "id2label": dict(enumerate(labels)),
        "label2id": {label: place for place, label in enumerate(labels)},
        **task.label_counts(labels),
    }
    weights, notes = {}, []
    if towers is not None:
        encoder = load_towers(towers)
        settings = settings_of(encoder.config)
        width = features_width(encoder, sample)
        known |= {"towers": settings, "embedding_size": width}
        weights = encoder.state_dict()
        notes.append(f"towers: {type(encoder).__name__} of {towers}, embeddings of {width} numbers")
        changes.pop("embedding_size", None)  # a recipe's, for towers of ours
    if config.init_from:
        start = Path(config.init_from)
        processor, model, report = build_from(
            start, changes, task, processor, known, config.data.parser
        )
        notes.append(report)
    else:
        model_config = TBKINConfig.from_changes(
            {"region_encoder": "patches" if pixels(processor) else "linear", **changes},
            vocab_size=len(processor.tokenizer),
            pad_token_id=processor.tokenizer.pad_token_id,
            **known,
        )
        model = task.model(model_config)
    if weights:
        model.towers.model.load_state_dict(weights)
    return processor, model, "\n".join(notes)


def find_towers(name: Any, config: TrainConfig, task: Task) -> Path | None:
    """The folder of ``model.towers``, fetched if it is a hub id; None where there is none.

    Raises:
        ValueError: the task or the checkpoint that the run starts from has no use for it.
        FileNotFoundError: as :func:`~tbkin.detectors.pretrained_folder.find_folder`.
    """
    if not name:
        return None
    if not isinstance(name, str):
        raise ValueError(f"model.towers must be a folder or a hub id, got {name!r}.")
    if task.model is not TBKINForImageTextRetrieval:
        raise ValueError(
            f"model.towers={name} is of no use to task={config.task}; it is for task=retrieval."
        )
    start = Path(config.init_from)
    if (
        config.init_from
        and (start / "config.json").is_file()
        and TBKINConfig.from_pretrained(start).towers
    ):
        raise ValueError(
            f"init_from={start} brings towers of its own, with what they have learned; leave "
            "model.towers out, or start from a checkpoint without."
        )
    return find_folder(name, "dual encoder", "model.towers")


def check_learns(config: TBKINConfig, weights: Mapping[str, float]) -> None:
    """Raise ValueError for frozen towers with objectives that nothing which is used learns by.

    Args:
        config: of the model.
        weights: objective -> its weight in the sum.
    """
    if config.freeze_towers and not any(weights.get(name, 0) > 0 for name in BESIDE_TOWERS):
        raise ValueError(
            f"model.freeze_towers=true leaves {', '.join(weights)} nothing to learn that ranks or "
            "judges; add objectives.matching.weight=1, which trains the judge of pairs, or leave "
            "freeze_towers out."
        )


@torch.no_grad()
def features_width(encoder: PreTrainedModel, sample: Example) -> int:
    """How many numbers a dual encoder's features have.

    Args:
        encoder: of ``load_towers``.
        sample: an example with what it reads.

    Raises:
        ValueError: those of pictures and texts are not as many.
    """
    image, text = Towers(encoder).eval()(Collator(0)([sample]))
    if image.shape != text.shape:
        raise ValueError(
            f"the features of {type(encoder).__name__} are {image.shape[1]} wide for pictures and "
            f"{text.shape[1]} for texts; model.towers needs a model that compares them."
        )
    return image.shape[1]


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
    new_towers, retrieves = fresh.towers is not None, task.model is TBKINForImageTextRetrieval
    if new_towers:
        processor.towers = fresh.towers
    elif old.towers and retrieves:  # a recipe's width is for towers of ours
        changes = {name: value for name, value in changes.items() if name != "embedding_size"}
    elif old.towers:
        processor.towers, known = None, known | {"towers": None, "freeze_towers": False}
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
    anew = () if same else task.labelled
    if new_towers:
        anew = (*anew, "image_uni_head.", "text_uni_head.")  # they read other features
    report = start_from(model, read_weights(folder), (old.vocab_size, size), anew)
    if new_towers:  # whose weights come from elsewhere
        report.new = [name for name in report.new if not name.startswith("towers.")]
    if any(name.startswith(THRESHOLDS) for name in changes):
        model.tbkin.training_steps.zero_()  # other thresholds ramp up anew
    return processor, model, f"init_from={folder}: {report}; {words} new words"


def pixels(processor: TBKINProcessor) -> bool:
    """Whether the regions come as pixels, which a patch encoder must look at."""
    return processor.fingerprint.get("extractor", "").startswith("pixels")
