"""What ``objectives.py`` compares: what each arm minimises, and what is tried of it.

Every arm has a grid of :data:`TRIALS` values. Those of the baseline are its learning rate and the
form of its loss; all others take the two that were best for it and try their own weight (margin,
probability). Weights are given as factors of what the authors published.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tbkin.config import choose

TRIALS = 6
BASELINE = "contrastive"
TEACHERS = {"": "teachers", "pictures": "teachers_pictures", "oracle": "teachers_oracle"}
"""What is behind an arm's name and ``@`` -> folder of its teachers.

Nothing: the encoders of the settings. ``pictures``: a caption's teacher is what the picture encoder
says of its picture. ``oracle``: of both it is what the tiny world knows of the picture.
"""
SAME = {"sld": "csa"}
"""DSSLP's first stage is CSA's loss with CSA's weight: one training, reported under both names."""

FORMS: dict[str, dict[str, Any]] = {
    "divisor": {"temperature": 0.05, "temperature_form": "divisor"},  # CUSA's run files
    "log_scale": {  # CLIP's
        "temperature": 0.07, "temperature_form": "log_scale", "temperature_range": [0.01, 0.5]
    },
}  # fmt: skip
CSA_WEIGHT, USA_WEIGHT = 0.1, 0.5  # CUSA's, beside a contrastive loss that is B times smaller
FACTORS = [0.03, 0.1, 0.3, 1.0, 3.0, 10.0]
# A teacher's cosines over 1 are CUSA's default, and 0.1 is its sharpest; 0.05 is ours.
TEMPERATURES = [1.0, 0.1, 0.05]
SOFT = [
    {"factor": factor, "teacher_temperature": temperature}
    for temperature, factor in itertools.product(TEMPERATURES, [0.1, 1.0])
]


@dataclass(frozen=True)
class Stage:
    """One training; the next one goes on with its model."""

    objectives: dict[str, dict[str, Any]]
    prompt: float = 0.0  # chance of a spatial prompt behind a caption


@dataclass(frozen=True)
class Arm:
    """One line of the table.

    Attributes:
        grid: what is tried, JSON values.
        stages: ``(value, chosen, batch size) -> `` trainings that share the budget evenly;
            ``chosen`` has the best value of each arm in ``after``.
        after: arms whose choice this one starts from, the baseline always among them.
        teachers: whether it needs teacher features.
        data: data sets it is run on.
    """

    grid: list[Any]
    stages: Callable[[Any, Mapping[str, Any], int], list[Stage]]
    after: tuple[str, ...] = (BASELINE,)
    teachers: bool = False
    data: tuple[str, ...] = ("tiny", "coco")


def arm_of(name: str) -> Arm:
    """The arm of a name, whoever its teachers are.

    Raises:
        ValueError: no such arm, or other teachers for one that needs none.
    """
    own, _, teacher = name.partition("@")
    arm = choose(ARMS, SAME.get(own, own), "arm")
    if teacher and (teacher not in TEACHERS or not arm.teachers):
        asked = [f"{known}@{one}" for known, its in ARMS.items() if its.teachers
                 for one in TEACHERS if one]  # fmt: skip
        raise ValueError(f"unknown arm {name!r}; of teachers there are: {', '.join(asked)}.")
    return arm


def teachers_of(name: str) -> str:
    """The folder of an arm's teachers within the prepared one; "" of an arm without."""
    return TEACHERS[name.partition("@")[2]] if arm_of(name).teachers else ""


def runs_on(name: str, data: str) -> bool:
    """Whether an arm is run on a data set; other teachers than the encoders on ``tiny`` alone."""
    return data in arm_of(name).data and ("@" not in name or data == "tiny")


def trained_as(name: str) -> str:
    """The arm whose runs are those of an arm."""
    own, at, teacher = name.partition("@")
    return SAME.get(own, own) + at + teacher


def _contrastive(value: Any, chosen: Mapping[str, Any], batch_size: int) -> list[Stage]:
    return [Stage({"contrastive": FORMS[value["form"]]})]


def _base(chosen: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    return {"contrastive": FORMS[chosen[BASELINE]["form"]]}


def _soft(csa: bool, usa: bool) -> Callable[[Any, Mapping[str, Any], int], list[Stage]]:
    def stages(value: Any, chosen: Mapping[str, Any], batch_size: int) -> list[Stage]:
        objectives = _base(chosen)
        scale = value["factor"] * batch_size
        own = {
            "teacher_temperature": value["teacher_temperature"],
            "teacher_temperature_range": [min(TEMPERATURES), max(TEMPERATURES)],
        }
        if csa:
            objectives["cross_modal_soft_label"] = {"weight": CSA_WEIGHT * scale, **own}
        if usa:
            objectives["uni_modal_soft_label"] = {"weight": USA_WEIGHT * scale, **own}
        return [Stage(objectives)]

    return stages


def _prompted(value: Any, chosen: Mapping[str, Any], batch_size: int) -> list[Stage]:
    return [Stage(_base(chosen), prompt=value)]


def _two_stages(value: Any, chosen: Mapping[str, Any], batch_size: int) -> list[Stage]:
    """Both with soft labels, as in ``configs/objectives/dsslp.yaml``."""
    (first,) = _soft(csa=True, usa=False)(value, chosen, batch_size)
    return [first, Stage(first.objectives, prompt=value["probability"])]


def _triplet(value: Any, chosen: Mapping[str, Any], batch_size: int) -> list[Stage]:
    warmup = {"warmup_epochs": 1} if value["mining"] == "hardest" else {}
    return [Stage({"triplet": {**value, **warmup}})]


def _visual_semantic(value: Any, chosen: Mapping[str, Any], batch_size: int) -> list[Stage]:
    (base,) = _triplet(chosen["triplet"], chosen, batch_size)
    return [Stage({**base.objectives, "visual_semantic": {"weight": value}})]


def _references(value: Any, chosen: Mapping[str, Any], batch_size: int) -> list[Stage]:
    """The matching of pairs inside keeps its weight of 1; no contrastive loss beside it."""
    weights = dict.fromkeys(("fuse_weight", "guide_weight", "word_weight"), value)
    return [Stage({"references": weights})]


ARMS = {
    BASELINE: Arm(
        [
            {"lr": lr, "form": form}
            for lr, form in itertools.product([4e-4, 8e-4, 1.6e-3], ["divisor", "log_scale"])
        ],
        _contrastive,
        after=(),
        data=("tiny", "persons", "coco"),
    ),
    "csa": Arm(SOFT, _soft(csa=True, usa=False), teachers=True),
    "usa": Arm(SOFT, _soft(csa=False, usa=True), teachers=True),
    "cusa": Arm(SOFT, _soft(csa=True, usa=True), teachers=True),
    "stp": Arm([0.1, 0.2, 0.3, 0.5, 0.75, 1.0], _prompted),
    "sld_stp": Arm(
        [{**value, "probability": 0.5} for value in SOFT],
        _two_stages,
        teachers=True,
    ),
    "triplet": Arm(
        [
            {"margin": margin, "mining": mining}
            for margin, mining in itertools.product([0.1, 0.2, 0.4], ["hardest", "all"])
        ],
        _triplet,
    ),
    "vsl": Arm(FACTORS, _visual_semantic, after=(BASELINE, "triplet")),
    "mmref": Arm(FACTORS, _references, data=("persons",)),
}
