"""``tbkin graph``: one picture, one text, one graph."""

import json

import pytest
from PIL import Image

from tbkin import graph as graph_module
from tbkin.graphs.scene_graph import SceneGraph

CAPTION = "a small red circle to the left of a square"


@pytest.fixture
def picture(tmp_path):
    """A red and a blue box, in a file of COCO's layout beside the picture."""
    Image.new("RGB", (100, 80), "white").save(tmp_path / "photo.png")
    annotations = [
        {"bbox": [10, 10, 20, 20], "category_id": 1, "attributes": [{"name": "red", "score": 0.9}]},
        {"bbox": [60, 10, 30, 30], "category_id": 2},
    ]
    content = {
        "images": [{"id": 7, "file_name": "photo.png"}],
        "categories": [{"id": 1, "name": "circle"}, {"id": 2, "name": "square"}],
        "annotations": [{"image_id": 7, **entry} for entry in annotations],
    }
    (tmp_path / "boxes.json").write_text(json.dumps(content))
    (tmp_path / "photo.png").rename(tmp_path / "7.png")
    return tmp_path


def words(picture):
    return [
        f"image={picture / '7.png'}",
        f"caption={CAPTION}",
        "parser=word_rules",
        "detector=annotated",
        f"detector.boxes=[{picture / 'boxes.json'}]",
    ]


def test_the_graph_as_one_json_object(picture, capsys):
    graph_module.main([*words(picture), "json=true"])
    graph = SceneGraph.from_dict(json.loads(capsys.readouterr().out))
    assert [graph.nodes[n].label for n in graph.of_type("region")] == ["circle", "square"]
    aligned = {
        (graph.nodes[edge.source].label, edge.predicate, graph.nodes[edge.target].label)
        for edge in graph.edges
        if edge.type == "alignment"
    }
    assert {("square", "object", "square"), ("red", "attribute", "red")} <= aligned
    assert ("left of", "relation", "circle") in aligned


def test_the_same_in_words(picture, capsys):
    graph_module.main(words(picture))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "seen: 2 regions in 100 x 80 pixels"
    assert lines[1].split() == "0 circle 1.00 [10 10 30 30] is red 0.90".split()
    assert "  ( circle , left of , square )" in lines
    assert "  square = 1 square  1.00" in lines


@pytest.mark.parametrize("suffix", ["html", "svg"])
def test_a_drawing(picture, suffix):
    report = picture / f"drawn.{suffix}"
    graph_module.main([*words(picture), f"report={report}"])
    assert "<svg" in report.read_text()
    assert "data:image/" in report.read_text()


def test_what_is_denied_is_told(capsys):
    graph_module.main(["caption=a man not wearing a hat", "parser=spacy_rules"])
    out = capsys.readouterr().out
    assert "( man )" in out
    assert "denied: " in out
    assert "wear" in out.split("denied: ")[1]


def test_a_picture_alone_gets_cells_and_a_hint(picture, capsys):
    graph_module.main([f"image={picture / '7.png'}", "detector.rows=1", "detector.columns=2"])
    said = capsys.readouterr()
    assert "seen: 2 regions" in said.out
    assert "detector=huggingface" in said.err


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], 'image=FILE or caption="…"'),
        (["caption=a dog", "report=x.gif"], r"x\.gif"),
        (["caption=a dog", "parser=spacyrules"], "unknown parser 'spacyrules'"),
        (["caption=a dog", "vectors=word2vec"], "vectors='word2vec' is unknown"),
        (["image=none.jpg"], r"no picture none\.jpg"),
        (["image=none.jpg", "detector=yolo"], "unknown detector 'yolo'; choose from: annotated"),
    ],
)
def test_wrong_settings_are_named(given, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        graph_module.main(given)
