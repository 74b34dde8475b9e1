import json

import pytest

from data_prep.knowledge import main, one_or_more, with_graphs
from tbkin.config import run_command
from tbkin.data.caption_graphs import CaptionRow
from tbkin.graphs.facts import graph_of_facts
from tbkin.graphs.scene_graph import write_scene_graphs

TABLE = """caption,scene_graph
brown dogs on grass,"( dogs , is , brown ) , ( dogs , on , grass )"
a brown dog,"( dog , is , brown )"
"""


@pytest.fixture
def table(tmp_path):
    (tmp_path / "a.csv").write_text(TABLE)
    return tmp_path / "a.csv"


def count(tmp_path, *words):
    main([*words, f"output={tmp_path}/prior.json", "overwrite=true"])
    return json.loads((tmp_path / "prior.json").read_text())


def test_facts_are_counted(tmp_path, table, capsys):
    assert count(tmp_path, f"captions={table}", "min_count=1") == {
        "attr_count": {"dog": {"brown": 1.0}},
        "rel_count": {"dog": {"on grass": 0.5}, "grass": {"dog on": 1.0}},
    }
    assert "1 attributes and 2 relations of 2 objects, from 2 captions" in capsys.readouterr().out
    # By default what only one object has is left out.
    assert count(tmp_path, f"captions={table}") == {
        "attr_count": {"dog": {"brown": 1.0}},
        "rel_count": {},
    }


def test_several_files_and_caption_graphs(tmp_path, table):
    graph = graph_of_facts([("dog", "is", "red")], ["a", "red", "dog"])
    write_scene_graphs(tmp_path / "g.jsonl", [graph])
    found = count(tmp_path, f"captions=[{table},{tmp_path}/g.jsonl]", "min_count=1")
    assert found["attr_count"]["dog"] == pytest.approx({"brown": 2 / 3, "red": 1 / 3})


def test_plain_captions_need_a_parser(tmp_path, table, capsys):
    rows = [{"image_id": 1, "caption": "a red dog"}, {"image_id": 2, "caption": "the red dogs"}]
    (tmp_path / "c.json").write_text(json.dumps(rows))
    words = [f"captions={tmp_path}/c.json", f"output={tmp_path}/prior.json"]
    assert run_command(main, words) == 2
    assert "c.json, entry 1 has no graph; add parser=auto" in capsys.readouterr().err
    assert not list(tmp_path.glob("prior*"))
    assert count(tmp_path, words[0], "parser=word_rules")["attr_count"] == {"dog": {"red": 1.0}}
    # A parser's name parses anew even what has a graph.
    assert count(tmp_path, f"captions={table}", "parser=word_rules")["attr_count"] == {
        "dog": {"brown": 1.0}
    }


def test_order_is_kept_over_batches(monkeypatch):
    monkeypatch.setattr("data_prep.knowledge.PARSED_AT_ONCE", 3)
    monkeypatch.setattr("data_prep.knowledge.load_parser", lambda name: said)

    def said(text):
        return graph_of_facts([(text,)])

    rows = [
        CaptionRow("", f"n{place}", {}, graph_of_facts([(f"own{place}",)]) if place % 3 else None)
        for place in range(8)
    ]
    found = [graph.nodes[0].label for _, graph in with_graphs(iter(rows), "auto")]
    assert found == ["n0", "own1", "own2", "n3", "own4", "own5", "n6", "own7"]
    found = [graph.nodes[0].label for _, graph in with_graphs(iter(rows), "mine")]
    assert found == [f"n{place}" for place in range(8)]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "needs captions=FILE and output=FILE.json"),
        (["captions=none.csv", "output=x.json"], "there is no file none.csv"),
        (["captions=a.csv", "output=x.json", "min_count=0"], "min_count must be >= 1, got 0"),
    ],
)
def test_mistakes(tmp_path, monkeypatch, capsys, words, message):
    monkeypatch.chdir(tmp_path)
    assert run_command(main, words) == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_one_file_is_a_list_of_one():
    assert one_or_more(["captions=a", "x=1"], "captions") == ["captions=[a]", "x=1"]
    assert one_or_more(["captions=[a,b]"], "captions") == ["captions=[a,b]"]
