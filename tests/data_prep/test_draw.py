"""Scene graph files -> drawings."""

import re

import pytest
from PIL import Image

from data_prep import draw
from tbkin.config import run_command
from tbkin.graphs.scene_graph import Edge, Node, SceneGraph, write_scene_graphs


def cup(image_id, label="cup"):
    nodes = [
        Node("region", label, 0, box=(10, 5, 40, 25)),
        Node("word", label, 0, "object"),
        Node("word", "thing", 1, "object"),
    ]
    edges = [Edge(1, "object", 0, "alignment", 0.9), Edge(2, "object", 0, "alignment", 0.6)]
    return SceneGraph(nodes, edges, [label, "thing"], 60, 40, image_id)


@pytest.fixture
def graphs(tmp_path):
    path = tmp_path / "graphs.jsonl"
    write_scene_graphs(path, [cup("42"), cup("7", "dog"), cup("42", "mug")])
    return path


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    Image.new("RGB", (60, 40), "red").save(folder / "COCO_val2014_000000000042.png")
    Image.new("RGB", (30, 20), "blue").save(folder / "7.png")
    return folder


def page(path):
    return path.read_text(encoding="utf-8")


def test_a_page_of_all_graphs(graphs, pictures, tmp_path, capsys):
    output = tmp_path / "new" / "x.html"
    draw.main([f"graph={graphs}", f"images={pictures}", f"output={output}"])
    assert capsys.readouterr().out == f"{output}: 3 scene graphs\n"
    assert len(re.findall("<section", page(output))) == 3
    assert page(output).count("<image ") == 6  # each picture and the part of its region
    assert "<title>graphs.jsonl</title>" in page(output)
    draw.main([f"graph={graphs}", f"output={output}", "limit=2"])
    assert "is there already; overwrite=true" in capsys.readouterr().out
    words = [f"graph={graphs}", f"output={output}", "limit=2", "overwrite=true", "title=Cups"]
    draw.main(words)
    assert "2 scene graphs (limit=0 draws the others too)" in capsys.readouterr().out
    assert len(re.findall("<section", page(output))) == 2
    assert "<image " not in page(output)  # boxes on a plain ground
    assert "<title>Cups</title>" in page(output)


@pytest.mark.parametrize(
    ("choice", "said"),
    [(["index=1"], "0 dog"), (["image_id=7"], "0 dog"), (["index=2", "image_id=42"], "0 mug")],
)
def test_one_graph_of_several(choice, said, graphs, pictures, tmp_path):
    output = tmp_path / "x.svg"
    picture = pictures / ("7.png" if said == "0 dog" else "COCO_val2014_000000000042.png")
    draw.main([f"graph={graphs}", f"output={output}", f"image={picture}", *choice])
    assert f">{said}</text>" in page(output)
    assert page(output).count("<image ") == 2


def test_weak_alignments_are_left_out(graphs, tmp_path):
    output = tmp_path / "x.svg"
    draw.main([f"graph={graphs}", f"output={output}", "index=0", "min_strength=0.7"])
    assert ">0.90</text>" in page(output)
    assert ">0.60</text>" not in page(output)


def test_a_png_as_large_as_asked(graphs, tmp_path):
    pytest.importorskip("resvg_py")
    sizes = []
    for scale in (1, 2):
        output = tmp_path / f"{scale}.png"
        draw.main([f"graph={graphs}", f"output={output}", "index=0", f"scale={scale}"])
        with Image.open(output) as drawn:
            sizes.append(drawn.size)
    assert sizes[1] == (2 * sizes[0][0], 2 * sizes[0][1])


def test_pictures_that_are_not_there(graphs, pictures, tmp_path, capsys):
    (pictures / "7.png").unlink()
    output = tmp_path / "x.html"
    draw.main([f"graph={graphs}", f"images={pictures}", f"output={output}"])
    assert "1 pictures are not in" in capsys.readouterr().err
    assert page(output).count("<image ") == 4


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["output=x.svg"], "needs graph=FILE.jsonl and output="),
        (["graph=none.jsonl", "output=x.svg"], "no scene graph file none.jsonl"),
        (["graph={graphs}", "output=x.pdf"], "x.pdf: a drawing ends in .html, .svg, .png"),
        (["graph={graphs}", "output=x.svg"], "holds several scene graphs, x.svg shows one: choose"),
        (
            ["graph={graphs}", "output=x.svg", "image_id=42"],
            "several scene graphs of image 42, x.svg",
        ),
        (["graph={graphs}", "output=x.html", "image_id=8"], "holds no scene graph of image 8"),
        (["graph={graphs}", "output=x.svg", "index=3"], "holds 3 scene graphs, .* index=3 is none"),
        (
            ["graph={graphs}", "output=x.html", "image={pictures}/7.png"],
            "is one picture, but the graphs are of 2, such as '42' and '7'",
        ),
        (
            ["graph={graphs}", "output=x.svg", "index=0", "image={square}"],
            "picture is 50 x 50 pixels, but the graph of image 42 was made from one of 60 x 40",
        ),
        (["graph={graphs}", "output=x.svg", "index=0", "image=no.png"], "no picture no.png"),
        (["graph={graphs}", "output=x.html", "images={empty}"], "holds none of the pictures of"),
        (["graph={graphs}", "output=x.html", "images=a", "image=b"], "image=FILE or images=DIR"),
        (["graph={graphs}", "output=x.html", "index=-2"], "index must be >= -1, got -2"),
        (["graph={graphs}", "output=x.html", "min_strength=2"], "min_strength must be in"),
        (["graph={graphs}", "output=x.png", "scale=0"], r"scale must be in \(0, 8\], got 0.0"),
        (["graph={broken}", "output=x.html"], "broken.jsonl, line 1: "),
    ],
)
def test_mistakes_are_named_and_leave_nothing(
    words, message, graphs, pictures, tmp_path, monkeypatch
):
    folder = tmp_path / "empty"
    folder.mkdir()
    monkeypatch.chdir(folder)
    places = {"graphs": graphs, "pictures": pictures, "empty": folder}
    places |= {"square": tmp_path / "square.png", "broken": tmp_path / "broken.jsonl"}
    Image.new("RGB", (50, 50)).save(places["square"])
    places["broken"].write_text("{}\n")
    with pytest.raises((ValueError, LookupError, OSError), match=message):
        draw.main([word.format(**places) for word in words])
    assert list(folder.iterdir()) == []


def test_a_mistake_is_one_line(capsys):
    assert run_command(draw.main, ["graph=none.jsonl", "output=x.svg"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_help(capsys):
    assert run_command(draw.main, ["--help"]) == 0
    said = capsys.readouterr().out
    for name in ("graph", "image_id", "min_strength", "overwrite"):
        assert f"\n  {name} " in said
