"""The two doors: ``read_graphs`` and ``write_graphs``."""

import json
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tbkin.graphs.build import build_scene_graph, picture_graph
from tbkin.graphs.interchange import (
    READERS,
    WRITERS,
    detect_format,
    options_of,
    read_graphs,
    write_graphs,
)
from tbkin.graphs.scene_graph import SceneGraph
from tbkin.parsers.word_rules import WordRules
from tests.graphs.strategies import pictures, scene_graphs


@settings(max_examples=25, deadline=None)
@given(graphs=st.lists(scene_graphs(), max_size=3))
def test_json_lines_leave_nothing_out(tmp_path_factory, graphs):
    path = tmp_path_factory.mktemp("lines") / "graphs.jsonl"
    assert write_graphs(path, iter(graphs)) == len(graphs)
    assert list(read_graphs(path, "json_lines")) == graphs


@settings(max_examples=25, deadline=None)
@given(regions=pictures())
def test_geometry_is_what_the_builder_adds(tmp_path_factory, regions):
    folder = tmp_path_factory.mktemp("geometry")
    told, full = picture_graph(regions, geometry=False), picture_graph(regions)
    for name, format in (("a.jsonl", "json_lines"), ("a.json", "coco")):
        write_graphs(folder / name, [full], format)
        assert list(read_graphs(folder / name, format, geometry=True)) == [full]
    write_graphs(folder / "b.jsonl", [told])
    assert list(read_graphs(folder / "b.jsonl")) == [told]
    assert list(read_graphs(folder / "b.jsonl", geometry=True)) == [full]


def test_geometry_leaves_the_text_as_it_is(tmp_path, regions):
    graph = build_scene_graph(regions, WordRules()("a red circle left of a square"))
    write_graphs(tmp_path / "a.jsonl", [graph])
    (again,) = read_graphs(tmp_path / "a.jsonl", geometry=True)
    assert sorted(map(repr, again.edges)) == sorted(map(repr, graph.edges))
    assert again.nodes == graph.nodes


CONTENTS = {
    "coco": {"info": {}, "images": [], "annotations": [], "categories": []},
    "psg": {"data": [{"segments_info": []}], "thing_classes": []},
    "visual_genome": [{"image_id": 1, "objects": []}],
    "benchmark_predictions": {"0": {"bbox": [], "rel_pairs": []}},
}


@pytest.mark.parametrize(("name", "content"), CONTENTS.items(), ids=CONTENTS.keys())
def test_formats_are_told_by_what_a_file_holds(tmp_path, name, content):
    path = tmp_path / "file.json"
    path.write_text(json.dumps(content))
    assert detect_format(path) == name


def test_formats_of_lines_and_folders(tmp_path):
    lines = tmp_path / "a.jsonl"
    write_graphs(lines, [SceneGraph()])
    assert detect_format(lines) == "json_lines"
    lines.write_text('{"image_id": 1, "objects": [], "relations": []}\n')
    assert detect_format(lines) == "relation_rows"
    assert detect_format(lines.rename(tmp_path / "lines.json")) == "relation_rows"
    lines.write_text("")
    assert list(read_graphs(lines)) == []
    (tmp_path / "custom_prediction.json").write_text("{}")
    assert detect_format(tmp_path) == "benchmark_predictions"
    (tmp_path / "objects.json").write_text("[]")
    with pytest.raises(ValueError, match=r"cannot tell the format of .*; name it: format=NAME"):
        detect_format(tmp_path)  # two at once
    for text in ('{"a": 1}', "[1]", "[]", '"x"', '{"data": [1]}'):
        (tmp_path / "file.json").write_text(text)
        with pytest.raises(ValueError, match=r"cannot tell the format of .*file\.json"):
            detect_format(tmp_path / "file.json")


def test_wrong_names_fail_before_anything_is_read(tmp_path):
    path = tmp_path / "a.jsonl"
    with pytest.raises(FileNotFoundError, match=r"no file or folder .*a\.jsonl"):
        read_graphs(path)
    path.write_text("")
    with pytest.raises(ValueError, match=r"unknown format to read 'vg'; choose from: benchmark_"):
        read_graphs(path, "vg")
    with pytest.raises(ValueError, match=r"psg has no option 'spilt'; it takes: split, box_format"):
        read_graphs(path, "psg", spilt="test")
    with pytest.raises(ValueError, match=r"json_lines has no option 'a'; it takes: no options"):
        read_graphs(path, "json_lines", a=1)
    with pytest.raises(ValueError, match=r"unknown format to write 'png'; choose from: coco, dot"):
        write_graphs(path, [], "png")
    with pytest.raises(ValueError, match=r"out\.json does not tell its format .* coco, dot"):
        write_graphs(tmp_path / "out.json", [])


def test_every_reader_documents_its_options():
    for name, reader in READERS.items():
        for option in options_of(name):
            assert f"{option}:" in reader.__doc__, f"{name}: {option}"


@pytest.mark.parametrize("name", WRITERS)
def test_every_writer_replaces_what_is_there_only_when_done(tmp_path, name, regions):
    path = tmp_path / "out"
    graph = picture_graph(regions)
    write_graphs(path, [graph], name)

    def snapshot():
        files = sorted(one for one in tmp_path.rglob("*") if one.is_file())
        return {str(one.relative_to(tmp_path)): one.read_bytes() for one in files}

    def failing():
        yield graph
        raise KeyboardInterrupt

    before = snapshot()
    with pytest.raises(KeyboardInterrupt):
        write_graphs(path, failing(), name)
    assert snapshot() == before
    write_graphs(path, [], name)
    assert snapshot() != before


def test_counts_are_those_of_the_reader(tmp_path):
    content = {
        "images": [{"id": 1, "width": 10, "height": 10}],
        "categories": [{"id": 1, "name": "dog"}],
        "annotations": [{"image_id": 1, "category_id": 1, "bbox": [8, 8, 9, 9]}],
    }
    path = tmp_path / "a.json"
    path.write_text(json.dumps(content))
    counts = Counter()
    (graph,) = read_graphs(path, counts=counts, box_format="xywh")
    assert graph.nodes[0].box == (8, 8, 10, 10)
    assert counts == {"boxes cut to the picture": 1}
