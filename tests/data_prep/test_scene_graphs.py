import json
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

import data_prep.scene_graphs
from data_prep.scene_graphs import main
from tbkin.config import run_command
from tbkin.data.features import fingerprint, write_regions
from tbkin.graphs.build import build_scene_graph, picture_graph
from tbkin.graphs.facts import graph_of_facts
from tbkin.graphs.knowledge import CooccurrencePrior
from tbkin.graphs.scene_graph import read_scene_graphs, write_scene_graphs
from tbkin.parsers.word_rules import WordRules

ROOT = Path(__file__).parents[2]
TEXTS = ["the red circle", "a square left of a star", "", "blue cross é"]


@pytest.fixture
def world(tmp_path, regions):
    """Three pictures of the same things, and four captions of two of them."""
    pictures = [replace(regions, image_id=name) for name in ("7", "8", "holiday/photo")]
    write_regions(tmp_path / "store", pictures, fingerprint("x", "", "y"))
    rows = [
        {"image_id": 8, "id": 1, "caption": TEXTS[0]},
        {"image_id": 7, "id": 2, "caption": TEXTS[1]},
        {"image_id": 7, "id": 3, "caption": TEXTS[2]},
        {"image_id": 8, "id": 4, "caption": TEXTS[3]},
    ]
    (tmp_path / "captions.json").write_text(json.dumps({"images": [], "annotations": rows}))
    return tmp_path


def run(world, *more, output="graphs.jsonl"):
    """Run the step with the word rules; return the records that it wrote."""
    words = [f"regions={world}/store", f"captions={world}/captions.json", "parser=word_rules"]
    main([*words, f"output={world}/{output}", *more])
    return [json.loads(line) for line in (world / output).read_text().splitlines()]


def test_one_graph_a_caption_in_order(world, regions):
    records = run(world)
    graphs = list(read_scene_graphs(world / "graphs.jsonl"))
    assert [graph.image_id for graph in graphs] == ["8", "7", "7", "8"]
    assert [record["columns"] for record in records] == [
        {"image_id": name, "caption_id": str(number), "caption": text}
        for number, (name, text) in enumerate(zip("8778", TEXTS, strict=True), start=1)
    ]
    for graph, text in zip(graphs, TEXTS, strict=True):
        expected = build_scene_graph(regions, WordRules()(text))
        assert [node.label for node in graph.nodes] == [node.label for node in expected.nodes]
        assert len(graph.edges) == len(expected.edges)
        assert graph.words == expected.words
    assert not (world / "graphs.jsonl.parts").exists()


def test_without_captions_the_pictures_alone(world):
    main([f"regions={world}/store", f"output={world}/p.jsonl", "geometry=false"])
    graphs = list(read_scene_graphs(world / "p.jsonl"))
    assert [graph.image_id for graph in graphs] == ["7", "8", "holiday/photo"]
    assert {edge.type for graph in graphs for edge in graph.edges} == {"attribute", "relation"}


def test_knowledge_weighs_the_text(world):
    prior = CooccurrencePrior({"circle": {"red": 0.02}}, {"square": {"left of star": 0.01}})
    prior.save(world / "prior.json")
    run(world, f"knowledge={world}/prior.json")
    first, second, *_ = read_scene_graphs(world / "graphs.jsonl")

    def text_weights(graph):
        return [
            edge.weight
            for edge in graph.edges
            if graph.nodes[edge.source].type == "word" and edge.type != "alignment"
        ]

    assert text_weights(first) == pytest.approx([0.3])  # 5 x 0.02 + 0.2
    assert text_weights(second) == pytest.approx([0.4, 0.2])  # 20 x 0.01 + 0.2; never seen


def test_vectors_of_the_users_choice(world, capsys):
    (world / "glove.txt").write_text("circle 1 0\nwombat 1 0.1\n")
    (world / "captions.json").write_text(json.dumps([{"image_id": 7, "caption": "a wombat"}]))

    def aligned(*more):
        run(world, "overwrite=true", *more)
        (graph,) = read_scene_graphs(world / "graphs.jsonl")
        return [graph.nodes[edge.target].label for edge in graph.edges if edge.type == "alignment"]

    assert aligned() == []
    assert "embedded default: tables" in capsys.readouterr().err
    assert aligned(f"vectors=glove:{world}/glove.txt") == ["circle"]
    assert "glove.txt (2 words, 2 numbers each); aligned from" in capsys.readouterr().err


def test_caption_graphs_are_taken_as_they_are(world):
    graph = graph_of_facts([("circle", "is", "red")], ["red", "circle"])
    graph.image_id = "7"
    write_scene_graphs(world / "said.jsonl", [graph])
    for parser in ("gold", "auto"):
        main(
            [
                f"regions={world}/store",
                f"captions={world}/said.jsonl",
                f"output={world}/{parser}.jsonl",
                f"parser={parser}",
            ]
        )
        (found,) = read_scene_graphs(world / f"{parser}.jsonl")
        assert [node for node in found.nodes if node.type == "word"] == graph.nodes
    (world / "t.csv").write_text(
        'image_id,caption,scene_graph\n7,red circle,"( circle , is , red )"\n'
    )
    words = [f"regions={world}/store", f"captions={world}/t.csv", "parser=gold"]
    main([*words, f"output={world}/t.jsonl"])
    (found,) = read_scene_graphs(world / "t.jsonl")
    assert [node.label for node in found.nodes if node.type == "word"] == ["circle", "red"]


def test_a_picture_without_regions(world, capsys):
    rows = [{"image_path": "a/9.jpg", "caption": "x"}, {"image_path": "a/7.jpg", "caption": "y"}]
    (world / "captions.json").write_text(json.dumps(rows))
    with pytest.raises(LookupError, match=r"of 1 of 2 captions \(.*entry 1: a/9.jpg; regions of 3"):
        run(world)
    assert not list(world.glob("graphs*"))
    assert len(run(world, "missing=skip")) == 1
    assert "1 of 2 captions are left out" in capsys.readouterr().err
    (world / "captions.json").write_text(json.dumps(rows[:1]))
    with pytest.raises(LookupError, match=r"of 1 of 1 captions"):
        run(world, "missing=skip", output="other.jsonl")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "needs regions=STORE and output=FILE.jsonl"),
        (["vectors=word2vec"], "vectors='word2vec' is unknown; choose from: embedded"),
        (["parser=nope"], "unknown parser 'nope'"),
        (["knowledge=none.json"], "no co-occurrence table none.json"),
        (["captions=none.json"], "none.json"),
        (["regions=none"], "no region store in none"),
        (["missing=maybe"], "missing"),
        (["captoins=x"], "did you mean 'captions'"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(world, capsys, words, message):
    base = [
        f"regions={world}/store",
        f"output={world}/graphs.jsonl",
        f"captions={world}/captions.json",
    ]
    assert run_command(main, [*base, *words] if words else []) == 2
    error = capsys.readouterr().err.splitlines()
    assert message in error[-1]
    assert not list(world.glob("graphs.jsonl*"))


def test_an_output_that_is_there_is_kept(world, capsys):
    run(world)
    before = (world / "graphs.jsonl").stat().st_mtime_ns
    run(world)
    assert "is there already; overwrite=true" in capsys.readouterr().out
    assert (world / "graphs.jsonl").stat().st_mtime_ns == before
    assert len(run(world, "overwrite=true")) == 4


def test_a_killed_run_goes_on(world, monkeypatch, capsys):
    rows = [{"image_id": 7 + place % 2, "caption": f"circle {place}"} for place in range(20)]
    (world / "captions.json").write_text(json.dumps(rows))
    expected = run(world, output="whole.jsonl")
    program = (
        "import sys, time, data_prep.scene_graphs as step; join = step.join; step.A_SHARD = 4\n"
        "step.join = lambda *words: (time.sleep(0.03), join(*words))[1]\n"
        "step.main(sys.argv[1:])"
    )
    words = [f"regions={world}/store", f"captions={world}/captions.json", "parser=word_rules"]
    words.append(f"output={world}/graphs.jsonl")
    process = subprocess.Popen([sys.executable, "-c", program, *words], cwd=ROOT)
    parts = world / "graphs.jsonl.parts"
    deadline = time.monotonic() + 60
    while not (parts / "shard-00001.jsonl").exists() and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (world / "graphs.jsonl").exists()
    finished = len(list(parts.glob("shard-?????.jsonl")))
    assert 2 <= finished < 5

    monkeypatch.setattr(data_prep.scene_graphs, "A_SHARD", 4)
    with pytest.raises(
        ValueError, match=r"other settings \(geometry: begun with True, now False\)"
    ):
        run(world, "geometry=false")
    joined = []
    join = data_prep.scene_graphs.join
    monkeypatch.setattr(
        data_prep.scene_graphs, "join", lambda *words: joined.append(1) or join(*words)
    )
    assert run(world) == expected
    assert len(joined) == 20 - 4 * finished
    assert not parts.exists()
    # Changed captions are other settings too.
    assert "20 scene graphs" in capsys.readouterr().out


def test_processes_share_the_captions(world, monkeypatch, capsys):
    expected = run(world, output="whole.jsonl")
    monkeypatch.setattr(data_prep.scene_graphs, "A_SHARD", 1)
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    words = [f"regions={world}/store", f"captions={world}/captions.json", "parser=word_rules"]
    main([*words, f"output={world}/graphs.jsonl"])
    assert "has done its share" in capsys.readouterr().out
    shards = sorted(path.name for path in (world / "graphs.jsonl.parts").glob("shard*"))
    assert shards == ["shard-00001.jsonl", "shard-00003.jsonl"]
    monkeypatch.setenv("RANK", "0")
    assert run(world) == expected


def test_a_process_that_is_late_leaves_what_others_finished(world):
    run(world)
    before = (world / "graphs.jsonl").read_bytes()
    config = data_prep.scene_graphs.SceneGraphsConfig(
        regions=str(world / "store"), output=str(world / "graphs.jsonl")
    )
    assert data_prep.scene_graphs.build(config, world / "graphs.jsonl", None) is None
    assert (world / "graphs.jsonl").read_bytes() == before
    assert not (world / "graphs.jsonl.parts").exists()


def test_joining_leaves_nothing_half_written(tmp_path):
    (tmp_path / "a").write_text("1\n")
    with pytest.raises(FileNotFoundError):
        data_prep.scene_graphs.join_files([tmp_path / "a", tmp_path / "none"], tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_the_same_graphs_as_in_use(world, regions):
    # Preparation and prediction call the same function.
    run(world)
    first = next(read_scene_graphs(world / "graphs.jsonl"))
    stored = data_prep.scene_graphs.RegionStore(world / "store")["8"]
    assert first == build_scene_graph(stored, WordRules()(TEXTS[0]))
    assert picture_graph(stored).nodes == first.nodes[:8]


def test_help(capsys):
    assert run_command(main, ["--help"]) == 0
    out = capsys.readouterr().out
    for name in ("regions", "captions", "vectors", "knowledge", "missing"):
        assert f"  {name} " in out
