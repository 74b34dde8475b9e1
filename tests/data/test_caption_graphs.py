import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tbkin.data.caption_graphs import (
    CaptionRow,
    read_rows,
    write_graph_lines,
    write_graph_table,
)
from tbkin.graphs.facts import graph_of_facts
from tbkin.graphs.scene_graph import SceneGraph, read_scene_graphs

FACTS = [("man", "wear", "hat"), ("hat", "is", "red")]
TEXT = "( man , wear , hat ) , ( hat , is , red )"
CAPTION = 'A man, "in\na red" hat'


def table(tmp_path, text, name="x.csv"):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8", newline="")
    return path


def row(caption="a dog", **columns):
    return CaptionRow("here", caption, {**columns, "caption": caption})


def test_quirks_of_a_table(tmp_path):
    # Byte order mark, Windows lines, quotes, a comma, a line break, an empty caption, a blank line.
    text = f'\ufeffcaption,note,scene_graph\r\n"A man, ""in\na red"" hat",,"{TEXT}"\r\n\r\n,é,\r\n'
    first, second = read_rows(table(tmp_path, text))
    assert first.caption == CAPTION
    assert first.columns == {"caption": CAPTION, "note": "", "scene_graph": TEXT}
    assert first.facts() == FACTS
    assert (second.caption, second.columns["note"], second.facts()) == ("", "é", [])
    assert second.place.endswith("x.csv, row 2")


def test_tab_separated_and_another_column(tmp_path):
    path = table(tmp_path, "id\tsentence\n7\ta dog, running\n", "x.tsv")
    (only,) = read_rows(path, "sentence", graphs=False)
    assert (only.caption, only.columns) == ("a dog, running", {"id": "7", "caption": only.caption})


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        ("x.csv", "image,text\n1,2\n", r"has no column 'caption'; its columns: 'image', 'text'"),
        ("x.csv", "caption\na dog\n", r"has no column 'scene_graph'; its columns: 'caption'"),
        ("x.csv", "", r"has no column 'caption'; its columns: none: the file is empty"),
        ("x.csv", "caption,scene_graph,caption\n", r"names a column twice"),
        ("x.csv", "caption,scene_graph\nd,\na, dog,\n", r"row 2 \(line 3\) has 3 cells under 2"),
        ("x.csv", 'caption,scene_graph\n"a dog,\n', r"x\.csv, line 2: unexpected end of data"),
        ("x.json", "[]", r"x\.json is neither a table \(\.csv, \.tsv\) nor caption graphs"),
        ("x.jsonl", "a dog\n", r"x\.jsonl, row 1: no caption graph: Expecting value"),
        ("x.jsonl", "[1]\n", r"x\.jsonl, row 1: no caption graph"),
        ("x.jsonl", "{}\n", r"row 1: no caption graph: not a scene graph of schema"),
    ],
)
def test_files_that_are_something_else(tmp_path, name, text, complaint):
    with pytest.raises(ValueError, match=complaint):
        list(read_rows(table(tmp_path, text, name)))


def test_a_file_that_is_not_there_or_not_utf8(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no file .*x\.csv"):
        read_rows(tmp_path / "x.csv")
    for name in ("x.csv", "x.jsonl"):
        (tmp_path / name).write_bytes(b"caption,\xff,scene_graph\n")
    with pytest.raises(ValueError, match=r"x\.csv is not UTF-8"):
        list(read_rows(tmp_path / "x.csv"))
    with pytest.raises(ValueError, match=r"x\.jsonl, row 1: no caption graph: .*utf-8"):
        list(read_rows(tmp_path / "x.jsonl"))


def test_facts_that_are_none_name_their_row(tmp_path):
    path = table(tmp_path, "caption,scene_graph\nd,( dog )\nd,( dog\n")
    first, second = read_rows(path)
    assert first.facts() == [("dog",)]
    with pytest.raises(ValueError, match=r"x\.csv, row 2: .* stands outside a fact"):
        second.facts()


def test_a_table_is_written_as_it_was(tmp_path):
    text = f'image_id,caption,scene_graph,note\n1,"A man, ""in\na red"" hat","{TEXT}",x\n2,,,y\n'
    rows = list(read_rows(table(tmp_path, text)))
    write_graph_table(tmp_path / "y.csv", ((one, one.facts()) for one in rows))
    assert (tmp_path / "y.csv").read_bytes().decode() == text


def test_a_table_takes_its_header_from_the_first_row(tmp_path):
    write_graph_table(tmp_path / "x.tsv", [(row(id="1"), FACTS), (row("b", id="2"), [])])
    assert (
        tmp_path / "x.tsv"
    ).read_text() == f"id\tcaption\tscene_graph\n1\ta dog\t{TEXT}\n2\tb\t\n"
    with pytest.raises(ValueError, match="here has the columns caption, scene_graph, the first"):
        write_graph_table(tmp_path / "z.csv", [(row(id="1"), FACTS), (row(), FACTS)])
    write_graph_table(tmp_path / "none.csv", [])
    assert (tmp_path / "none.csv").read_text() == "caption,scene_graph\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["none.csv", "x.tsv"]


def test_lines_keep_everything_and_are_scene_graphs(tmp_path):
    path = tmp_path / "new" / "x.jsonl"
    graph = graph_of_facts(FACTS, ["A", "man", "in", "a", "red", "hat"])
    one = row(CAPTION, image_id="5", region_id="6", scene_graph="old")
    write_graph_lines(path, [(one, graph)])
    (back,) = read_rows(path)
    assert back.caption == CAPTION
    assert back.columns == {"image_id": "5", "region_id": "6", "caption": CAPTION}
    assert set(back.facts()) == set(FACTS)
    (read,) = read_scene_graphs(path)
    assert read.image_id == "5"
    assert (read.nodes, read.edges, read.words) == (graph.nodes, graph.edges, graph.words)


def test_lines_of_others_have_their_words_as_caption(tmp_path):
    graphs = [SceneGraph(words=["a", "dog"], image_id="5"), SceneGraph(words=["a", "cat"])]
    text = "".join(json.dumps(graph.to_dict()) + "\n" for graph in graphs)
    first, second = read_rows(table(tmp_path, text, "x.jsonl"))
    assert first.columns == {"image_id": "5", "caption": "a dog"}
    assert second.columns == {"caption": "a cat"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("round_trips")


ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]))


@given(st.lists(st.tuples(ANY_TEXT, ANY_TEXT), min_size=1, max_size=4))
def test_any_text_survives_both_forms(folder, cells):
    rows = [row(caption, note=note) for caption, note in cells]
    for name in ("x.csv", "x.tsv"):
        write_graph_table(folder / name, ((one, FACTS) for one in rows))
        back = list(read_rows(folder / name))
        assert [(one.caption, one.columns["note"]) for one in back] == cells
        assert all(one.facts() == FACTS for one in back)
    write_graph_lines(folder / "x.jsonl", ((one, graph_of_facts(FACTS)) for one in rows))
    back = list(read_rows(folder / "x.jsonl"))
    assert [(one.caption, one.columns["note"]) for one in back] == cells


def test_nothing_is_half_written(tmp_path):
    def rows():
        yield row(), FACTS
        raise KeyboardInterrupt

    path = tmp_path / "x.csv"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt):
        write_graph_table(path, rows())
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
