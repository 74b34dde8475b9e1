"""Settings: dataclass defaults <- YAML files <- ``key=value`` on the command line.

The only module that uses OmegaConf, and the only one that knows what a command line looks like.
Everything below ``train.py`` takes plain arguments.
"""

from __future__ import annotations

import dataclasses
import difflib
import inspect
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

T = TypeVar("T")


def setting(default: Any, help: str) -> Any:
    """A dataclass field with a default and the sentence that ``--help`` prints for it."""
    if isinstance(default, list | dict):
        return dataclasses.field(default_factory=default.copy, metadata={"help": help})
    return dataclasses.field(default=default, metadata={"help": help})


def choose(table: Mapping[str, T], name: str, kind: str) -> T:
    """``table[name]``, or an error that lists the names there are."""
    if name not in table:
        raise ValueError(f"unknown {kind} {name!r}; choose from: {', '.join(sorted(table))}.")
    return table[name]


class HelpAsked(Exception):  # noqa: N818 - nothing is wrong
    """Somebody wrote ``--help``; the message is what to print."""


def load_config(schema: type[T], arguments: list[str], doc: str | None = None) -> T:
    """Build ``schema`` from command-line words.

    Args:
        schema: a dataclass; its defaults come first, its ``__post_init__`` checks the result.
        arguments: bare words are YAML files, merged in order; ``key=value`` words override them.

        doc: what the command does; with it, ``--help`` and ``-h`` are understood.

    Raises:
        ValueError: unknown key, wrong type, or a value out of range.
        FileNotFoundError: a YAML file that is not there.
        HelpAsked: what :func:`run_command` prints.
    """
    if doc is not None and not {"--help", "-h"}.isdisjoint(arguments):
        raise HelpAsked(help_text(doc, schema))
    overrides = [word for word in arguments if "=" in word]
    files = [word for word in arguments if "=" not in word]
    config = OmegaConf.structured(schema)
    try:
        for name in files:
            config = OmegaConf.merge(config, _read_yaml(name))
        for word in overrides:
            config = OmegaConf.merge(config, _read_word(word))
        return OmegaConf.to_object(config)
    except OmegaConfBaseException as error:
        raise ValueError(_one_line(error, schema)) from error


def save_yaml(config: Any, path: Path) -> None:
    """Write a dataclass config as YAML (values only)."""
    path.write_text(OmegaConf.to_yaml(OmegaConf.structured(config)))


def _read_yaml(name: str) -> DictConfig:
    path = Path(name)
    if not path.is_file():
        raise FileNotFoundError(
            f"no settings file {name!r}; a bare argument is a YAML file, "
            "a setting is written key=value."
        )
    try:
        loaded = OmegaConf.load(path)
    except YAMLError as error:
        raise ValueError(f"{name} is not YAML: {' '.join(str(error).split())}.") from error
    if not isinstance(loaded, DictConfig):
        raise ValueError(f"{name} holds no settings: expected lines of 'key: value'.")
    return loaded


def _read_word(word: str) -> DictConfig:
    try:
        return OmegaConf.from_dotlist([word])
    except YAMLError as error:
        raise ValueError(f"{word} cannot be read: {' '.join(str(error).split())}.") from error


def _one_line(error: OmegaConfBaseException, schema: type) -> str:
    """OmegaConf's message without its trailer, naming the key and the nearest one there is."""
    message = str(error).splitlines()[0].rstrip(".")
    key = getattr(error, "full_key", None)
    known = [name for name, _, _ in _rows(schema)]
    if key and key not in known and not any(name.startswith(f"{key}.") for name in known):
        near = difflib.get_close_matches(key, known, n=1, cutoff=0.6)
        mend = f"did you mean {near[0]!r}?" if near else f"it takes: {', '.join(known)}."
        return f"unknown setting {key!r}; {mend}"
    return f"{key}: {message}." if key else f"{message}."


def _rows(schema: type, prefix: str = "") -> list[tuple[str, Any, str]]:
    """(dotted key, default, help) of every setting of a dataclass and those inside it."""
    rows = []
    instance_defaults = OmegaConf.structured(schema)
    hints = {field.name: field for field in dataclasses.fields(schema)}
    for name, field in hints.items():
        value = OmegaConf.to_container(instance_defaults)[name]  # type: ignore[index]
        inner = OmegaConf.get_type(instance_defaults, name)
        if dataclasses.is_dataclass(inner):
            rows += _rows(inner, f"{prefix}{name}.")
        else:
            rows.append((prefix + name, value, field.metadata.get("help", "")))
    return rows


def describe(schema: type) -> str:
    """The settings of a dataclass, one a line, for ``--help``."""
    lines = []
    for name, value, help in _rows(schema):
        shown = "not set" if value in ("", None) else value
        lines.append(f"  {name:<32} {help} [{shown}]")
    return "\n".join(lines)


def help_text(doc: str | None, schema: type) -> str:
    """What a command prints for ``--help``: its docstring and its settings."""
    what = inspect.cleandoc(doc or "")
    return f"{what}\n\nSettings (key=value, or a YAML file of them):\n{describe(schema)}"


def run_command(main: Callable[[list[str]], None], arguments: list[str] | None = None) -> int:
    """Run a command; a user's mistake becomes one line on stderr and exit code 2.

    A command that is asked for help prints it instead.

    ``TBKIN_TRACEBACK=1`` shows where the error came from.
    """
    try:
        main(sys.argv[1:] if arguments is None else arguments)
    except HelpAsked as asked:
        sys.stdout.write(f"{asked}\n")
    except (KeyError, IndexError):  # our own mistakes, although they are LookupErrors
        raise
    except (ValueError, LookupError, OSError, ImportError) as error:
        if isinstance(error, BrokenPipeError) or os.environ.get("TBKIN_TRACEBACK"):
            raise
        sys.stderr.write(f"error: {error}\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write("stopped.\n")
        return 130
    return 0


@dataclasses.dataclass
class DataConfig:
    """Where the examples come from and how they are fed."""

    root: str = setting(
        "data/tiny", "folder with the official files, or the folder `tbkin prep` made of them"
    )
    roots: dict[str, str] = setting({}, "of a task of several parts: part -> folder; else root")
    train_split: str = setting("train", "split to learn from")
    val_split: str = setting("val", "split that chooses the best checkpoint")
    parser: str = setting(
        "auto",
        "of the questions: spacy_rules, word_rules or learned; auto: the best rules there are",
    )
    workers: int = setting(0, "loader processes beside the main one")
    max_examples: int = setting(0, "use only the first so many examples of a split; 0: all")
    masking: Literal["graph", "simple", "random"] = setting(
        "graph", "what pre-training hides, see tbkin/data/masking.py"
    )
    teachers: str = setting(
        "", "of retrieval: what `tbkin prep teachers` wrote; auto: data.root/teachers; empty: none"
    )
    prompt: dict[str, Any] = setting(
        {},
        "of retrieval: spatial prompts behind captions, as data.prompt.probability=0.5; see "
        "tbkin/data/prompts.py",
    )

    def __post_init__(self) -> None:
        """Check ranges."""
        if self.workers < 0:
            raise ValueError(f"data.workers must be >= 0, got {self.workers}.")
        if self.max_examples < 0:
            raise ValueError(f"data.max_examples must be >= 0, got {self.max_examples}.")


@dataclasses.dataclass
class OptimConfig:
    """AdamW and the schedule of its learning rate, see tbkin/optimization.py."""

    lr: float = setting(4e-4, "peak learning rate")
    betas: list[float] = setting([0.9, 0.98], "of Adam: decay of its two running means")
    eps: float = setting(1e-8, "of Adam: added to the root of the second mean")
    weight_decay: float = setting(0.01, "decoupled; not on biases, norms and embeddings")
    schedule: Literal["linear", "steps", "cosine"] = setting(
        "linear",
        "linear: rises, then falls to 0; steps: ROSITA's, in quarters, then decay_epochs; "
        "cosine: falls to min_lr, epoch by epoch",
    )
    warmup_ratio: float = setting(0.05, "share of the run that the learning rate rises")
    decay_epochs: list[int] = setting(
        [], "of schedule=steps: epochs (the first is 0) from whose start the rate is a tenth"
    )
    min_lr: float = setting(0.0, "of schedule=cosine: what the learning rate falls to")
    max_grad_norm: float = setting(1.0, "gradients are clipped to this norm")
    gradient_accumulation_steps: int = setting(1, "batches a step")

    def __post_init__(self) -> None:
        """Check ranges."""
        if self.lr <= 0:
            raise ValueError(f"optim.lr must be > 0, got {self.lr}.")
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"optim.betas must be two numbers in [0, 1), got {self.betas}.")
        if self.eps <= 0:
            raise ValueError(f"optim.eps must be > 0, got {self.eps}.")
        if self.decay_epochs and self.schedule != "steps":
            raise ValueError(
                f"optim.decay_epochs={self.decay_epochs} needs optim.schedule=steps; without it "
                "set optim.decay_epochs=[]."
            )
        if any(epoch < 1 for epoch in self.decay_epochs):
            raise ValueError(f"optim.decay_epochs must be >= 1, got {self.decay_epochs}.")
        if self.min_lr and self.schedule != "cosine":
            raise ValueError(
                f"optim.min_lr={self.min_lr} needs optim.schedule=cosine; without it set "
                "optim.min_lr=0."
            )
        if not 0 <= self.min_lr <= self.lr:
            raise ValueError(f"optim.min_lr must be in [0, optim.lr={self.lr}], got {self.min_lr}.")
        if not 0 <= self.warmup_ratio < 1:
            raise ValueError(f"optim.warmup_ratio must be in [0, 1), got {self.warmup_ratio}.")
        if self.max_grad_norm <= 0:
            raise ValueError(f"optim.max_grad_norm must be > 0, got {self.max_grad_norm}.")
        if self.gradient_accumulation_steps < 1:
            raise ValueError(
                "optim.gradient_accumulation_steps must be >= 1, "
                f"got {self.gradient_accumulation_steps}."
            )


@dataclasses.dataclass
class TrainConfig:
    """One training run."""

    task: str = setting("vqa", "what is learned: a row of tbkin/tasks.py")
    output_dir: str = setting(
        "", "where the best checkpoint and the records go; not set: outputs/<task>_tiny"
    )
    init_from: str = setting(
        "", "checkpoint folder to start from, of any task; empty: from scratch"
    )
    seed: int = setting(0, "of weights, order and dropout")
    epochs: int = setting(8, "passes over the training split")
    max_seconds: float = setting(0.0, "stop, fully decayed, after so many seconds; 0: no limit")
    batch_size: int = setting(32, "examples a batch, over all processes together")
    eval_batch_size: int = setting(128, "examples a batch in evaluation, likewise")
    validate_every: int = setting(1, "epochs between two validations; the last always counts")
    log_every: int = setting(20, "optimiser steps between two lines of log.jsonl")
    mixed_precision: Literal["no", "bf16", "fp16"] = setting("no", "autocast")
    data: DataConfig = dataclasses.field(default_factory=DataConfig)
    optim: OptimConfig = dataclasses.field(default_factory=OptimConfig)
    model: dict[str, Any] = setting({}, "settings of TBKINConfig, as model.hidden_size=256")
    objectives: dict[str, dict[str, Any]] = setting(
        {}, "objective -> its settings and weight; empty: those of the task"
    )

    def __post_init__(self) -> None:
        """Check ranges."""
        self.output_dir = self.output_dir or f"outputs/{self.task}_tiny"
        for name in ("epochs", "batch_size", "eval_batch_size", "validate_every", "log_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be >= 1, got {getattr(self, name)}.")
        if self.max_seconds < 0:
            raise ValueError(f"max_seconds must be >= 0, got {self.max_seconds}.")
