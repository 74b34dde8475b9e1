"""The settings files: each is read, names what there is, and goes with those it says it does."""

from pathlib import Path

import pytest

from tbkin.config import TrainConfig, load_config
from tbkin.model.configuration_tbkin import TBKINConfig
from tbkin.objectives import TotalLoss
from tbkin.tasks import TASKS

CONFIGS = Path(__file__).parents[1] / "configs"
FILES = sorted(CONFIGS.rglob("*.yaml"))
RECIPES = sorted((CONFIGS / "objectives").glob("*.yaml"))
RETRIEVAL = [path for path in FILES if "task: retrieval" in path.read_text().splitlines()]


def read(*paths):
    """Settings, and the names that only a run would look up."""
    config = load_config(TrainConfig, [str(path) for path in paths])
    TotalLoss(config.objectives or TASKS[config.task].objectives)
    TBKINConfig.from_changes(config.model)
    return config


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(CONFIGS)))
def test_every_file_is_read(path):
    config = read(path)
    text = path.read_text()
    assert text.startswith("# ")
    assert "data.root" in text or "tbkin train" in text
    if "\ntask: " in text:
        assert config.output_dir.startswith("outputs/")


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_recipes_go_behind_every_data_set(recipe):
    own = load_config(TrainConfig, [str(recipe)])
    assert len(RETRIEVAL) == 4
    for path in RETRIEVAL:
        config = read(path, recipe)
        assert config.task == "retrieval"
        before = load_config(TrainConfig, [str(path)]).objectives
        names = before | own.objectives
        assert config.objectives == {
            name: before.get(name, {}) | own.objectives.get(name, {}) for name in names
        }


def test_large_retrieval_leaves_its_objectives_to_the_recipe():
    for path in RETRIEVAL:
        objectives = load_config(TrainConfig, [str(path)]).objectives
        assert bool(objectives) == (path.parent.name == "tiny")


def test_recipes_leave_widths_to_the_model():
    widths = {"dim", "token_dim", "embed_size"}
    for recipe in RECIPES:
        for settings in load_config(TrainConfig, [str(recipe)]).objectives.values():
            assert not widths & settings.keys()


def test_soft_labels_come_with_teachers():
    for recipe in RECIPES:
        config = load_config(TrainConfig, [str(recipe)])
        soft = {"cross_modal_soft_label", "uni_modal_soft_label"} & config.objectives.keys()
        assert bool(soft) == (config.data.teachers == "auto")
