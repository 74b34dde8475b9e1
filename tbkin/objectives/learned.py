"""What objectives learn themselves: beside a checkpoint, and on in the next run.

Prediction needs none of it. A run that starts from a checkpoint goes on with it where it is of the
same kind; otherwise a learned temperature, say, would fall back in the second of two stages.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

LEARNED = "objectives.safetensors"  # of a checkpoint: objective.name -> tensor

Settings = Mapping[str, Mapping[str, Any]]


class Learned(NamedTuple):
    """The content of :data:`LEARNED`.

    Attributes:
        tensors: ``objective.name`` -> tensor, parameters and buffers.
        settings: objective -> what the run set, by name.
    """

    tensors: dict[str, Tensor]
    settings: Settings


class TakenOver(NamedTuple):
    """What of another run's objectives goes on.

    Attributes:
        taken: ``objective.name`` of the parameters that do.
        anew: of those that start as without a checkpoint -> why.
    """

    taken: list[str]
    anew: dict[str, str]

    def __str__(self) -> str:
        """One line, with each reason once."""
        parts = [f"taken over: {', '.join(self.taken) or 'nothing'}"]
        for why in dict.fromkeys(self.anew.values()):
            names = [name for name, reason in self.anew.items() if reason == why]
            parts.append(f"anew, {why}: {', '.join(names)}")
        return "; ".join(parts)


def save_learned(objectives: nn.ModuleDict, settings: Settings, folder: Path) -> bool:
    """Write :data:`LEARNED` if anything is learned, and say whether it is."""
    tensors = {name: tensor.contiguous() for name, tensor in objectives.state_dict().items()}
    if tensors:
        save_file(tensors, folder / LEARNED, {"settings": json.dumps(settings)})
    return bool(tensors)


def read_learned(folder: Path) -> Learned:
    """What the objectives of a checkpoint have learned; nothing where there is no file."""
    if not (folder / LEARNED).is_file():
        return Learned({}, {})
    with safe_open(folder / LEARNED, framework="pt") as file:
        said = json.loads((file.metadata() or {}).get("settings", "{}"))
        return Learned({name: file.get_tensor(name) for name in file.keys()}, said)  # noqa: SIM118


@torch.no_grad()
def take_over(objectives: nn.ModuleDict, settings: Settings, learned: Learned) -> TakenOver:
    """Go on with what the objectives of another run have learned.

    A parameter goes on where name and shape fit and both runs have the same settings for it, be
    they named or left at the defaults. Those of an objective that knows single objects go on with
    the same objects (its buffer ``known``) alone. Queues, and what is fixed or counted, are not
    learned: they start anew.

    Args:
        objectives: those of this run, bound to its data. They are changed.
        settings: of this run, objective -> settings by name.
        learned: of the other run.
    """
    buffers = dict(objectives.named_buffers())
    found = TakenOver([], {})
    for key, tensor in objectives.named_parameters():
        name, _, place = key.partition(".")
        defaults = _defaults(objectives[name])
        own, past = (
            _of_parameter(place.partition(".")[0], defaults | run.get(name, {}))
            for run in (settings, learned.settings)
        )
        before = learned.tensors.get(key)
        if before is None:
            found.anew[key] = "not in the checkpoint"
        elif not _same_objects(buffers.get(f"{name}.known"), learned.tensors.get(f"{name}.known")):
            found.anew[key] = "the data have other objects"
        elif own != past:
            found.anew[key] = "set otherwise"
        elif before.shape != tensor.shape:
            found.anew[key] = "of another shape"
        else:
            tensor.copy_(before)
            found.taken.append(key)
    return found


def _defaults(objective: nn.Module) -> dict[str, Any]:
    """What its constructor takes for settings that nobody names."""
    parameters = inspect.signature(type(objective)).parameters.values()
    return {one.name: one.default for one in parameters if one.default is not one.empty}


def _of_parameter(parameter: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Those that decide how a parameter starts and what it means: ``temperature_form``, too.

    Tuples become lists, as they have in the file.
    """
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in settings.items()
        if name == parameter or name.startswith(f"{parameter}_")
    }


def _same_objects(own: Tensor | None, past: Tensor | None) -> bool:
    """Also where neither knows any."""
    if own is None or past is None:
        return own is past
    return torch.equal(own.cpu(), past.cpu())
