"""One picture and one question, with the evidence."""

import json
import shutil

import pytest
from PIL import Image

from tbkin import predict
from tbkin.data.prepared import read_split
from tbkin.detectors.pixels import open_picture


@pytest.fixture
def question(tiny_root):
    return next(
        row for row in read_split(tiny_root.prepared, "test") if row["question_type"] == "position"
    )


@pytest.fixture
def picture(tiny_root, question):
    name = f"COCO_test2015_{question['image_id']:012d}.jpg"
    return tiny_root.official / "images" / "test2015" / name


def test_evidence_agrees_with_itself(trained, tiny_root, question, picture):
    predictor = predict.Predictor(trained, tiny_root.prepared / "regions")
    evidence = predictor(open_picture(picture), question["question"], str(question["image_id"]))
    graph = evidence.graph
    assert len(evidence.answers) == 5
    probabilities = [probability for _, probability in evidence.answers]
    assert probabilities == sorted(probabilities, reverse=True)
    assert len(evidence.node_kept) == len(evidence.node_relevance) == len(graph.nodes)
    assert len(evidence.edge_kept) == len(graph.edges)
    seen = [n for n, node in enumerate(graph.nodes) if node.type != "word"]
    share = sum(evidence.node_kept[n] for n in seen) / len(seen)
    assert evidence.nodes_kept == pytest.approx(share)
    assert max(evidence.node_relevance[n] for n in seen) == pytest.approx(1.0)
    fates = list(zip(graph.edges, evidence.edge_kept, strict=True))
    silent = [edge.type for edge, kept in fates if kept is None]
    assert set(silent) <= {"spatial", "overlap"}
    touching = [
        kept for edge, kept in fates if kept is not None and graph.nodes[edge.target].type != "word"
    ]
    assert evidence.edges_kept == pytest.approx(sum(touching) / len(touching))
    for weights in evidence.answer_attention:
        assert sum(weights) == pytest.approx(1.0, abs=1e-4)
        assert len(weights) == len(evidence.positions)


def test_training_and_prediction_give_the_same_answer(trained, tiny_root, tmp_path):
    from tbkin import evaluation

    evaluation.main(
        [f"model={trained}", f"data.root={tiny_root.prepared}", "split=test", f"output={tmp_path}"]
    )
    answered = {
        row["question_id"]: row["answer"]
        for row in json.loads((tmp_path / "predictions.json").read_text())
    }
    predictor = predict.Predictor(trained, tiny_root.prepared / "regions")
    for row in read_split(tiny_root.prepared, "test")[:6]:
        regions = predictor.store[row["image_id"]]
        path = next((tiny_root.official / "images").rglob(f"*{row['image_id']:012d}*"))
        evidence = predictor.explain(open_picture(path), regions, row["question"])
        assert evidence.answers[0][0] == answered[row["question_id"]]


def test_command_prints_json_and_writes_the_page(
    trained, tiny_root, question, picture, tmp_path, capsys
):
    report = tmp_path / "why.html"
    words = [f"model={trained}", f"image={picture}", f"question={question['question']}"]
    predict.main([*words, f"report={report}", "json=true"])
    printed = json.loads(capsys.readouterr().out)
    assert len(printed["answers"]) == 5
    assert printed["graph"]["schema"] == "tbkin.scene_graph/1"
    assert question["question"] in report.read_text()


def test_the_models_own_detector_sees_what_the_store_holds(trained, tiny_root, question, picture):
    image = open_picture(picture)
    stored = predict.Predictor(trained, tiny_root.prepared / "regions")
    fresh = predict.Predictor(trained)
    image_id = str(question["image_id"])
    assert (stored.regions(image, image_id).boxes == fresh.regions(image, image_id).boxes).all()


def test_a_picture_that_the_detectors_files_do_not_list(trained, picture):
    with pytest.raises(LookupError, match="no annotated boxes for image 12345"):
        predict.Predictor(trained)(open_picture(picture), "How many things?", "12345")


def test_empty_question(trained, picture, question):
    with pytest.raises(ValueError, match="the question is empty"):
        predict.Predictor(trained)(open_picture(picture), "  ", str(question["image_id"]))


def test_a_detector_that_the_model_was_not_trained_on_is_refused(trained, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(trained, folder)
    path = folder / "processor_config.json"
    settings = json.loads(path.read_text())
    settings["detector"] = {"name": "grid", "rows": 2}
    path.write_text(json.dumps(settings))
    with pytest.raises(ValueError, match=r"detector of the checkpoint .*got 'grid 2x6'"):
        predict.Predictor(folder)(Image.new("RGB", (8, 8)), "What is this?")
