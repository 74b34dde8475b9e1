"""Starting a model from another one's checkpoint: what both have is copied, the rest is new."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from tbkin.files import weight_files
from tbkin.graphs.kinds import KINDS

BACKBONE = "tbkin."
EDGE_KINDS = "knowledge.edge_kind.weight"  # has a row for each kind of edge


@dataclass
class Report:
    """Names of the weights, by what became of them.

    Attributes:
        loaded: taken over, also those whose word table grew.
        new: the checkpoint has none that fits.
        left_over: of the checkpoint, for which the model has no place.
    """

    loaded: list[str] = field(default_factory=list)
    new: list[str] = field(default_factory=list)
    left_over: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        """One line; groups that are only in part what a list says have their number of weights."""
        sizes = Counter(map(_group, [*self.loaded, *self.new]))
        parts = [
            f"{kind} {_groups(names, sizes) or 'nothing'}"
            for kind, names in (("loaded", self.loaded), ("new", self.new))
        ]
        left = _groups(self.left_over, Counter(map(_group, self.left_over)))
        return "; ".join([*parts, f"left over {left or 'nothing'}"])


def read_weights(folder: Path) -> dict[str, Tensor]:
    """The weights of a checkpoint folder.

    Raises:
        FileNotFoundError: there are none as safetensors.
    """
    files = weight_files(folder)
    if not files:
        raise FileNotFoundError(
            f"no model*.safetensors in {folder}; convert or save the model again."
        )
    check_edge_kinds(folder)
    return {name: value for path in files for name, value in load_file(path).items()}


def check_edge_kinds(folder: Path) -> None:
    """Raise ValueError for a checkpoint of a version that knew other kinds of edges.

    Their weights are numbered, so those of another list would be read at the wrong places.
    """
    for path in weight_files(folder):
        with safe_open(path, "pt") as file:
            for name in file.keys():  # noqa: SIM118 - no dict
                count = file.get_slice(name).get_shape()[0] if name.endswith(EDGE_KINDS) else None
                if count not in (None, len(KINDS)):
                    raise ValueError(
                        f"{folder} was trained by a version of tbkin whose graphs have {count} "
                        f"kinds of edges, this one has {len(KINDS)}; train or convert it again."
                    )


@torch.no_grad()
def start_from(
    model: nn.Module,
    weights: Mapping[str, Tensor],
    words: tuple[int, int],
    fresh: Sequence[str] = (),
) -> Report:
    """Copy into a new model every weight of the same name and shape.

    Args:
        model: changed in place.
        weights: of a checkpoint.
        words: how many words the checkpoint and the model know. What has a row for each word keeps
            those of the first, and what the model began with for the others.
        fresh: prefixes of the names that stay new whatever their shape, because their rows mean
            something else (other labels).

    Raises:
        ValueError: the backbone has a weight of another shape.
    """
    report = Report(left_over=[name for name in weights if name not in model.state_dict()])
    for name, value in model.state_dict().items():
        start = weights.get(name)
        if start is None or name.startswith(tuple(fresh)):
            report.new.append(name)
        elif start.shape == value.shape:
            value.copy_(start)
            report.loaded.append(name)
        elif (len(start), len(value)) == words and start.shape[1:] == value.shape[1:]:
            value[: len(start)].copy_(start)
            report.loaded.append(name)
        elif name.startswith(BACKBONE):
            raise ValueError(
                f"the checkpoint has {name} in the shape {tuple(start.shape)}, the model in "
                f"{tuple(value.shape)}; leave out the model settings that change it."
            )
        else:
            report.new.append(name)
    return report


def _group(name: str) -> str:
    """``tbkin.text.words.weight`` -> ``tbkin.text``; ``head.dense.bias`` -> ``head``."""
    return ".".join(name.split(".")[: 2 if name.startswith(BACKBONE) else 1])


def _groups(names: Iterable[str], sizes: Counter[str]) -> str:
    found = Counter(map(_group, names))
    return ", ".join(
        group if count == sizes[group] else f"{group} ({count} of {sizes[group]})"
        for group, count in found.items()
    )
