import json
from pathlib import Path

import pytest

from tbkin.data.prepared import SCHEMA, default_output, find_prepared


def prepare(folder, **record):
    folder.mkdir(parents=True)
    (folder / "dataset.json").write_text(json.dumps({"schema": SCHEMA, **record}))
    return folder


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_data_set_is_found_by_its_root_where_it_is_the_only_one(here):
    folder = prepare(here / "prepared/refer-refcoco_unc", task="grounding", dataset="refcoco_unc")
    assert default_output("data/refer", "refcoco_unc") == folder.relative_to(here)
    assert find_prepared("data/refer", "grounding").resolve() == folder
    assert find_prepared(folder, "grounding") == folder


def test_folders_of_other_tasks_and_roots_are_passed_over(here):
    prepare(here / "prepared/refer", task="vqa")
    prepare(here / "prepared/refer-pretraining", task="pretraining")
    # Of a root called refer-old, whose name begins like ours.
    prepare(here / "prepared/refer-old-refcoco_unc", task="grounding", dataset="refcoco_unc")
    with pytest.raises(
        FileNotFoundError, match=r"no data prepared for grounding .*tbkin prep refcoco data\.root="
    ):
        find_prepared("data/refer", "grounding")
    assert find_prepared("data/refer-old", "grounding").name == "refer-old-refcoco_unc"


def test_several_data_sets_are_named(here):
    for dataset in ("refcoco_unc", "refcocog_umd"):
        prepare(here / f"prepared/refer-{dataset}", task="grounding", dataset=dataset)
    with pytest.raises(
        ValueError,
        match=r"more than once: .*refer-refcoco_unc, .*refer-refcocog_umd\. Name one of them: data",
    ):
        find_prepared("data/refer", "grounding")


def test_a_folder_of_another_root_of_the_same_name_is_no_find(here):
    prepare(here / "prepared/vqa", task="vqa", root=str(here / "a/vqa"))
    prepare(
        here / "prepared/refer-refcoco_unc",
        task="grounding",
        dataset="refcoco_unc",
        root=str(here / "a/refer"),
    )
    for name, task in (("vqa", "vqa"), ("refer", "grounding")):
        assert find_prepared(f"a/{name}", task).parent.name == "prepared"
        with pytest.raises(
            ValueError, match=rf"prepared from .*/a/{name}, not from b/{name}\. To "
        ):
            find_prepared(f"b/{name}", task)
    assert find_prepared("prepared/vqa") == Path("prepared/vqa")  # named itself: whatever it is of


def test_other_folders_beside_it_do_not_matter(here):
    for name, content in (("x", "{"), ("y", "[]"), ("z", '{"schema": "other/1"}')):
        (here / "prepared" / name).mkdir(parents=True)
        (here / "prepared" / name / "dataset.json").write_text(content)
    prepare(here / "prepared/refer-refcoco_unc", task="grounding", dataset="refcoco_unc")
    assert find_prepared("data/refer", "grounding").name == "refer-refcoco_unc"
    for name, complaint in (("x", "is damaged"), ("y", "has schema None"), ("z", "'other/1'")):
        with pytest.raises(ValueError, match=complaint):
            find_prepared(f"prepared/{name}", "grounding")
