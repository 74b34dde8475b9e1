import csv
import json
import tracemalloc
from pathlib import Path

import pytest

from data_prep.captions import CaptionsConfig, main
from tbkin.config import run_command
from tbkin.graphs.facts import facts_of, read_facts
from tbkin.graphs.scene_graph import SceneGraph, read_scene_graphs
from tbkin.parsers import PARSERS
from tbkin.parsers.word_rules import WordRules

DEV = Path(__file__).resolve().parents[3] / "shared/data/factual/random_dev.csv"

TABLE = """\
image_id,region_id,caption,scene_graph
5,50,a red ball on a table,"( ball , on , table ) , ( ball , is , red )"
5,51,two dogs,"( dogs , is , 2 )"
6,60,,
"""
CAPTIONS = ["a red ball on a table", "two dogs", ""]


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "in.csv"
    path.write_text(TABLE)
    return path


@pytest.fixture
def prepare(tmp_path):
    """Run the step from one file to a new file of a name; return that file."""

    def run(source, name, *arguments):
        main([f"input={source}", f"output={tmp_path / name}", *arguments])
        return tmp_path / name

    return run


def rows_of(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_captions_to_graphs(table, prepare, capsys):
    path = prepare(table, "new/out.jsonl", "parser=word_rules")
    graphs = list(read_scene_graphs(path))
    assert [(g.nodes, g.words) for g in graphs] == [
        (WordRules()(caption).nodes, WordRules()(caption).words) for caption in CAPTIONS
    ]
    assert [graph.image_id for graph in graphs] == ["5", "5", "6"]
    kept = [json.loads(line)["columns"] for line in path.read_text().splitlines()]
    assert kept[1] == {"image_id": "5", "region_id": "51", "caption": "two dogs"}
    out = capsys.readouterr().out
    count = sum(len(facts_of(graph)) for graph in graphs)
    assert f"out.jsonl: 3 captions, {count} facts, 1 graphs without any" in out
    assert "parser word_rules" in out
    assert "captions a second" in out


def test_captions_to_facts(table, prepare):
    rows = rows_of(prepare(table, "out.csv", "parser=word_rules", "format=factual"))
    assert list(rows[0]) == ["image_id", "region_id", "caption", "scene_graph"]
    assert [row["region_id"] for row in rows] == ["50", "51", "60"]
    for row, caption in zip(rows, CAPTIONS, strict=True):
        assert row["caption"] == caption
        assert read_facts(row["scene_graph"]) == facts_of(WordRules()(caption))
    assert read_facts(rows[0]["scene_graph"])  # parsed anew, not copied


def test_both_directions(table, prepare):
    lines = prepare(table, "out.jsonl", "parser=gold")
    first, second, third = read_scene_graphs(lines)
    assert set(facts_of(first)) == {("ball", "on", "table"), ("ball", "is", "red")}
    assert first.words == "a red ball on a table".split()
    assert [first.words[node.index] for node in first.nodes] == ["ball", "table", "on", "red"]
    assert facts_of(second) == [("dogs", "is", "2")]
    assert third.nodes == []
    back = prepare(lines, "back.csv")
    for row, old in zip(rows_of(back), rows_of(table), strict=True):
        assert set(read_facts(row.pop("scene_graph"))) == set(read_facts(old.pop("scene_graph")))
        assert row == old
    # From the table once more: nothing changes any more.
    again = prepare(back, "again.csv", "parser=gold")
    assert again.read_text() == back.read_text()


def test_a_named_parser_reads_the_captions_of_lines_anew(table, prepare):
    lines = prepare(table, "out.jsonl", "parser=gold")
    parsed = prepare(lines, "parsed.csv", "parser=word_rules")
    assert parsed.read_text() == prepare(table, "same.csv", "parser=word_rules").read_text()


def test_plain_text(tmp_path, prepare):
    path = tmp_path / "in.txt"
    path.write_text("\ufeffa dog, running\n\na cat\r\n", encoding="utf-8", newline="")
    rows = rows_of(prepare(path, "out.csv", "parser=word_rules"))
    assert [row["caption"] for row in rows] == ["a dog, running", "", "a cat"]
    assert list(rows[0]) == ["caption", "scene_graph"]
    with pytest.raises(ValueError, match=r"in\.txt has no graphs; leave parser=gold out"):
        prepare(path, "gold.csv", "parser=gold")


def test_lists_of_others(tmp_path, prepare):
    # COCO's captions file, and one object a line; neither has graphs.
    path = tmp_path / "captions.json"
    rows = [{"image_id": 7, "id": 3, "caption": "a dog"}, {"image_id": 8, "id": 4, "caption": "x"}]
    path.write_text(json.dumps({"images": [], "annotations": rows}))
    out = prepare(path, "out.jsonl", "parser=word_rules")
    assert [graph.image_id for graph in read_scene_graphs(out)] == ["7", "8"]
    table = rows_of(prepare(path, "out.csv", "parser=word_rules"))
    assert table[0] == {
        "image_id": "7",
        "caption_id": "3",
        "caption": "a dog",
        "scene_graph": "( dog )",
    }
    with pytest.raises(ValueError, match=r"captions\.json has no graphs; leave parser=gold out"):
        prepare(path, "gold.csv", "parser=gold")
    lines = tmp_path / "lines.jsonl"
    lines.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert rows_of(prepare(lines, "two.csv", "parser=word_rules")) == table


def test_another_column_and_tabs(tmp_path, prepare):
    path = tmp_path / "in.tsv"
    path.write_text("id\tsentence\n7\ta dog\n")
    out = prepare(path, "out.tsv", "column=sentence", "parser=word_rules")
    assert out.read_text() == "id\tcaption\tscene_graph\n7\ta dog\t( dog )\n"
    with pytest.raises(ValueError, match=r"no column 'caption'; its columns: 'id', 'sentence'"):
        prepare(path, "other.tsv", "parser=word_rules")


def test_what_is_there_stays_unless_told(table, tmp_path, prepare, capsys):
    (tmp_path / "out.csv").write_text("mine")
    prepare(table, "out.csv")
    assert (tmp_path / "out.csv").read_text() == "mine"
    assert "overwrite=true" in capsys.readouterr().out
    prepare(table, "out.csv", "parser=word_rules", "overwrite=true")
    assert len(rows_of(tmp_path / "out.csv")) == 3


def test_a_bad_row_leaves_no_file(tmp_path, prepare):
    path = tmp_path / "in.csv"
    path.write_text("caption,scene_graph\na dog,( dog )\na cat,( cat\n")
    with pytest.raises(ValueError, match=r"in\.csv, row 2: .* stands outside a fact"):
        prepare(path, "out.jsonl", "parser=gold")
    assert list(tmp_path.iterdir()) == [path]


def test_a_batch_is_all_that_is_in_memory(tmp_path, prepare, monkeypatch):
    class Batches:
        def many(self, captions):
            batch = []
            for caption in captions:
                batch.append(caption)
                if len(batch) == 16:
                    yield from (SceneGraph() for _ in batch)
                    batch = []
            yield from (SceneGraph() for _ in batch)

    monkeypatch.setitem(PARSERS, "batches", Batches)

    def peak(lines):
        path = tmp_path / f"{lines}.txt"
        path.write_text(("a dog " * 100 + "\n") * lines)
        tracemalloc.start()
        prepare(path, f"{lines}.jsonl", "parser=batches")
        used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return used

    peak(100)
    # 3,000 more captions of 600 letters, were they kept, would be 1.8 MB.
    assert peak(4000) - peak(1000) < 300_000


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "tbkin prep captions needs input=FILE"),
        (["input=a.csv"], "needs output=FILE"),
        (["input=a.csv", "output=b.json"], "output=b.json must end in .jsonl or .csv or .tsv"),
        (
            ["input=a.csv", "output=b.csv", "format=jsonl"],
            "output=b.csv must end in .jsonl with format=jsonl",
        ),
        (
            ["input=a.csv", "output=b.csv", "format=x"],
            "unknown format 'x'; choose from: factual, jsonl",
        ),
        (
            ["input=a.csv", "output=b.csv", "parser=x"],
            "unknown parser 'x'; choose from: auto, gold",
        ),
        (["input=a.csv", "output=./a.csv"], "output=./a.csv is the input"),
        (["input=nowhere.csv", "output=b.csv"], "there is no file nowhere.csv"),
        (["input=nowhere.txt", "output=b.csv"], "there is no file nowhere.txt"),
    ],
)
def test_mistakes_in_the_command(arguments, complaint, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run_command(main, arguments) == 2
    assert complaint in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_format_follows_the_output():
    assert CaptionsConfig("a.csv", "b.jsonl").format == "jsonl"
    assert CaptionsConfig("a.csv", "b.tsv").format == "factual"


def test_help(capsys):
    assert run_command(main, ["--help"]) == 0
    text = capsys.readouterr().out
    assert "tbkin prep captions input=FILE output=FILE" in text
    for key in ("input", "output", "format", "parser", "column", "overwrite"):
        assert f"\n  {key} " in text


@pytest.mark.skipif(not DEV.is_file(), reason=f"real data not there: {DEV}")
def test_every_real_row_goes_there_and_back(prepare):
    back = rows_of(prepare(prepare(DEV, "dev.jsonl", "parser=gold"), "dev.csv"))
    real = rows_of(DEV)
    assert len(real) == 1000
    for row, old in zip(back, real, strict=True):
        assert set(read_facts(row.pop("scene_graph"))) == set(read_facts(old.pop("scene_graph")))
        assert list(row.items()) == list(old.items())
