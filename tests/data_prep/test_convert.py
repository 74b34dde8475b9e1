"""Scene graphs from one format to another."""

import json

import pytest

from data_prep import convert
from tbkin.config import run_command
from tbkin.graphs.interchange import read_graphs


@pytest.fixture
def genome(tiny_root):
    return tiny_root.official / "visual_genome"


def test_there_and_back(genome, tmp_path, capsys):
    lines, coco, again = tmp_path / "a.jsonl", tmp_path / "b.json", tmp_path / "c.jsonl"
    convert.main([f"input={genome}", f"output={lines}"])
    out = capsys.readouterr().out
    graphs = list(read_graphs(lines))
    regions = sum(len(graph.of_type("region")) for graph in graphs)
    assert f"{lines}: 40 graphs\n" in out
    assert f"  read: {regions} region nodes\n" in out
    convert.main([f"input={lines}", f"output={coco}", "from=json_lines", "to=coco"])
    convert.main([f"input={coco}", f"output={again}"])
    assert again.read_bytes() == lines.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.jsonl", "b.json", "c.jsonl"]


def test_what_was_mended_and_what_was_not_kept_is_said(tmp_path, capsys):
    content = {
        "images": [{"id": 1, "width": 10, "height": 10}],
        "categories": [{"id": 1, "name": "dog"}],
        "annotations": [
            {"image_id": 1, "category_id": 1, "bbox": [8, 8, 9, 9]},
            {"image_id": 1, "category_id": 1, "bbox": [0, 0, 5, 5], "score": 0.5},
        ],
    }
    source = tmp_path / "a.json"
    source.write_text(json.dumps(content))
    words = [f"input={source}", f"output={tmp_path / 'vg'}", "to=visual_genome", "geometry=true"]
    convert.main([*words, "options.box_format=xywh"])
    out = capsys.readouterr().out
    assert "  mended: 1 boxes cut to the picture\n" in out
    assert "  not kept: 1 scores below 1 left out\n" in out
    assert "  not kept: 1 spatial and overlap edges left out\n" in out


def test_an_output_that_is_there_is_kept_unless_overwritten(genome, tmp_path, capsys):
    output = tmp_path / "a.jsonl"
    output.write_text("mine")
    convert.main([f"input={genome}", f"output={output}", "limit=2"])
    assert output.read_text() == "mine"
    assert "is there already; overwrite=true makes it again" in capsys.readouterr().out
    convert.main([f"input={genome}", f"output={output}", "limit=2", "overwrite=true"])
    assert len(list(read_graphs(output))) == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], r"needs input=PATH and output=PATH"),
        (["input=IN"], r"needs input=PATH and output=PATH"),
        (["input=IN", "output=IN"], r"input and output are both"),
        (["input=IN", "output=OUT.jsonl", "from=vg"], r"unknown format to read 'vg'"),
        (["input=IN", "output=OUT", "to=png"], r"unknown format to write 'png'"),
        (["input=IN", "output=OUT"], r"OUT does not tell its format by its ending"),
        (["input=IN", "output=OUT.jsonl", "options.size=1"], r"no option 'size'; it takes: image"),
        (["input=IN", "output=OUT.jsonl", "form=vg"], r"unknown setting 'form'"),
        (["input=absent", "output=OUT.jsonl"], r"no file or folder absent"),
        (["input=IN", "output=OUT.jsonl", "limit=-1"], r"limit must be >= 0, got -1"),
    ],
)
def test_mistakes_are_told_and_nothing_is_written(genome, tmp_path, words, message, capsys):
    words = [
        word.replace("IN", str(genome)).replace("OUT", str(tmp_path / "OUT")) for word in words
    ]
    assert run_command(convert.main, words) == 2
    assert capsys.readouterr().err.startswith("error: ")
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        convert.main(words)
    assert list(tmp_path.iterdir()) == []


def test_help_names_every_format(capsys):
    from tbkin.graphs.interchange import READERS, WRITERS

    assert run_command(convert.main, ["--help"]) == 0
    out = capsys.readouterr().out
    for name in {*READERS, *WRITERS, "geometry", "options", "overwrite"}:
        assert name in out
