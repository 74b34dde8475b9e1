import gzip
import hashlib
import json
import pickle
from pathlib import Path

import pytest
import torch

from tbkin.config import run_command
from tbkin.data.features import fingerprint, write_regions
from tbkin.graphs.regions import Regions
from tbkin.scoring import main

REFER = Path(__file__).resolve().parents[2] / "shared/data/real_mini/refer"

# Three things of one picture; 4, 3 and 8 words; the second is 20 x 10.
BOXES = {1: [0, 0, 10, 10], 2: [30.0, 0, 50, 10], 3: [0, 50, 10, 60]}
EXPRESSIONS = {
    1: "the dog on top",
    2: "a long one",
    3: "the cat that sits below everything else here",
}


@pytest.fixture
def predictions(tmp_path):
    """IoUs 1, 0.5 and 0."""
    boxes = {**BOXES, 2: [30, 0, 40, 10], 3: [90, 90, 99, 99]}
    return write(tmp_path / "predictions.json", boxes)


@pytest.fixture
def gold(tmp_path):
    return write(tmp_path / "gold.json", BOXES)


@pytest.fixture
def refer(tmp_path):
    """Official files of the same boxes, all in testA."""
    folder = tmp_path / "refer/refcoco"
    folder.mkdir(parents=True)
    refs = [
        {
            "ref_id": number,
            "ann_id": number,
            "image_id": 7,
            "category_id": 1 + (number == 3),
            "file_name": "x_7_1.jpg",
            "split": "testA",
            "sent_ids": [number],
            "sentences": [{"sent_id": number, "sent": text, "raw": text, "tokens": text.split()}],
        }
        for number, text in EXPRESSIONS.items()
    ]
    (folder / "refs(unc).p").write_bytes(pickle.dumps(refs, protocol=2))
    annotations = [
        {
            "id": number,
            "image_id": 7,
            "category_id": 1,
            "bbox": [box[0], box[1], box[2] - box[0], box[3] - box[1]],
        }
        for number, box in BOXES.items()
    ]
    names = [{"id": 1, "name": "dog"}, {"id": 2, "name": "cat"}]
    images = [{"id": 7, "file_name": "7.jpg", "width": 100, "height": 100}]
    write(
        folder / "instances.json",
        {"images": images, "annotations": annotations, "categories": names},
    )
    return folder


@pytest.fixture
def prepared(tmp_path):
    """The same as a prepared folder, with two candidates."""
    folder = tmp_path / "prepared"
    regions = Regions(
        boxes=torch.tensor([[0.0, 0, 10, 10], [0, 0, 100, 90]]),
        width=100,
        height=100,
        labels=["dog", "thing"],
        scores=[0.9, 0.8],
        attributes=[[], []],
        features=torch.zeros(2, 3),
        image_id="7",
    )
    folder.mkdir()
    write_regions(folder / "regions", [regions], fingerprint("test", "", "test"))
    rows = [
        {"sentence_id": number, "image_id": 7, "box": box, "expression": EXPRESSIONS[number]}
        for number, box in BOXES.items()
    ]
    lines = [json.dumps(row | {"category": "dog"}) for row in rows]
    (folder / "val.jsonl").write_text("\n".join(lines) + "\n")
    record = {
        "schema": "tbkin.dataset/1",
        "task": "grounding",
        "dataset": "refcoco_unc",
        "files": {},
        "splits": {"val": {"sentences": 3, "refs": 3, "pictures": 1}},
        "detector": {"name": "annotated"},
        "box_source": "detections: dets.json",
    }
    write(folder / "dataset.json", record)
    return folder


def write(path, content):
    path.write_text(json.dumps(content))
    return path


def printed_json(capsys, *arguments):
    main(["grounding", *arguments, "json=true"])
    return json.loads(capsys.readouterr().out)


def test_two_files(predictions, gold, capsys):
    result = printed_json(capsys, f"predictions={predictions}", f"gold={gold}")
    files = result.pop("files")
    assert result == {
        "accuracy@0.5": pytest.approx(2 / 3),
        "accuracy@0.7": pytest.approx(1 / 3),
        "mean_iou": pytest.approx(0.5),
        "sentences": 3,
        "iou": "plain",
        "comparison": "ge",
        "per_length": {},
        "per_category": {},
    }
    assert files == {
        name: {"path": str(path), "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
        for name, path in (("predictions", predictions), ("gold", gold))
    }


def test_other_rules(predictions, gold, tmp_path, capsys):
    files = [f"predictions={predictions}", f"gold={gold}"]
    result = printed_json(capsys, *files, "comparison=gt")
    assert (result["accuracy@0.5"], result["comparison"]) == (pytest.approx(1 / 3), "gt")
    # 11 x 11 of 21 x 11 pixels.
    result = printed_json(capsys, *files, "iou=plus_one")
    assert result["iou"] == "plus_one"
    assert result["mean_iou"] == pytest.approx((1 + 11 / 21) / 3)
    write(gold, {**BOXES, 2: [30.5, 0, 50.4, 10.2]})  # w, h 19.9, 10.2 -> 30, 0, 49, 10
    result = printed_json(capsys, *files, "iou=integer_gold")
    assert result["mean_iou"] == pytest.approx((1 + 10 / 19) / 3)


def test_a_packed_file_is_read_as_well(predictions, gold, tmp_path, capsys):
    packed = tmp_path / "predictions.json.gz"
    packed.write_bytes(gzip.compress(predictions.read_bytes()))
    assert printed_json(capsys, f"predictions={packed}", f"gold={gold}")["sentences"] == 3


@pytest.mark.parametrize("dataset", [[], ["dataset=refcoco_unc"], ["dataset=unc"]])
@pytest.mark.parametrize("root", ["refer", "refer/refcoco"])
def test_official_files(predictions, refer, tmp_path, capsys, dataset, root):
    arguments = [f"predictions={predictions}", f"gold={tmp_path / root}", "split=testA", *dataset]
    result = printed_json(capsys, *arguments)
    assert result["accuracy@0.5"] == pytest.approx(2 / 3)
    assert (result["dataset"], result["split"]) == ("refcoco_unc", "testA")
    lengths = {name: value["accuracy@0.5"] for name, value in result["per_length"].items()}
    assert lengths == {"3-5": 1.0, "6-10": 0.0}
    assert result["per_category"]["cat"]["accuracy@0.5"] == 0.0
    assert result["per_category"]["dog"]["sentences"] == 2
    refs = refer / "refs(unc).p"
    assert result["files"]["gold refs"] == {
        "path": str(refs),
        "sha256": hashlib.sha256(refs.read_bytes()).hexdigest(),
    }
    assert "candidates" not in result


def test_a_prepared_folder_adds_what_its_candidates_allow(predictions, prepared, capsys):
    arguments = [f"predictions={predictions}", f"gold={prepared}", "split=val"]
    result = printed_json(capsys, *arguments)
    assert result["accuracy@0.5"] == pytest.approx(2 / 3)
    assert result["box_source"] == "detections: dets.json"
    # The thing itself, a box of 9000 around 200, and around 100.
    candidates = result["candidates"]
    assert candidates["oracle"]["accuracy@0.5"] == pytest.approx(1 / 3)
    assert candidates["oracle"]["mean_iou"] == pytest.approx((1 + 200 / 9000 + 100 / 9000) / 3)
    assert candidates["random"]["accuracy@0.5"] == pytest.approx(1 / 6)
    assert candidates["largest"]["accuracy@0.5"] == 0
    assert list(result["files"]) == ["predictions", "gold"]


def test_table(predictions, prepared, capsys):
    main(
        [
            "grounding",
            f"predictions={predictions}",
            f"gold={prepared}",
            "split=val",
            "comparison=gt",
        ]
    )
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == (
        "Grounding in per cent, 3 sentences, one decision each, right at an IoU > 0.5 (0.7)"
    )
    assert lines[1] == "IoU: plain (float boxes)"
    rows = {tuple(line.split()) for line in lines[3:10]}
    assert ("all", "sentences", "33.33", "33.33", "50.00", "3") in rows
    assert ("candidates:", "random", "16.67", "16.67", "17.41", "3") in rows  # (1 + 4 / 90) / 6
    assert ("3-5", "words", "50.00", "50.00", "75.00", "2") in rows
    assert ("category:", "dog", "33.33", "33.33", "50.00", "3") in rows
    digest = hashlib.sha256(predictions.read_bytes()).hexdigest()
    assert lines[-5:-1] == [
        "(dataset: refcoco_unc)",
        "(split: val)",
        "(box source: detections: dets.json)",
        f"(predictions: {predictions}, sha256 {digest})",
    ]
    assert lines[-1].startswith(f"(gold: {prepared / 'val.jsonl'}, sha256 ")


def test_a_key_that_stands_twice_is_not_passed_over(predictions, gold):
    boxes = predictions.read_text().rstrip()
    predictions.write_text(boxes.removesuffix("}") + ', "2": [30, 0, 50, 10]}')
    assert len(json.loads(predictions.read_text())) == 3  # a dict keeps the last
    with pytest.raises(ValueError, match=r"predictions\.json: sentence 2 has two boxes"):
        main(["grounding", f"predictions={predictions}", f"gold={gold}"])


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ([1], r"predictions\.json holds a list, not an object; write one JSON object"),
        ({"a": [0, 0, 1, 1]}, r"predictions\.json: 'a' is no sentence id"),
        ({"-1": [0, 0, 1, 1]}, r"predictions\.json: '-1' is no sentence id"),
        ({"1": [0, 0, 1, 1], "01": [0, 0, 1, 1]}, r"predictions\.json: sentence 1 has two boxes"),
        (
            {1: [0, 0, 1, 1]},
            r"predictions\.json against .*gold\.json: 2 of 3 sentences have no box \(ids 2, 3\)",
        ),
        ({**BOXES, 4: [0, 0, 1, 1]}, r"1 boxes are of unknown sentences \(ids 4\)"),
        ({**BOXES, 2: [0, 0, 1]}, r"predicted box of sentence 2 must be four finite numbers"),
        ({**BOXES, 2: [0, 0, 1, float("nan")]}, r"predicted box of sentence 2 must be four finite"),
        ({**BOXES, 2: [50, 20, 10, 10]}, r"sentence 2 ends before it starts"),
    ],
)
def test_mistakes_in_files_are_one_line(predictions, gold, capsys, content, complaint):
    write(predictions, content)
    arguments = ["grounding", f"predictions={predictions}", f"gold={gold}"]
    with pytest.raises(ValueError, match=complaint):
        main(arguments)
    assert run_command(main, arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("error: ")
    assert printed.err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "predictions is missing; add predictions=FILE"),
        (["predictions={predictions}"], "gold is missing; add gold=FILE"),
        (["predictions={predictions}", "gold=nowhere"], "there is no file nowhere"),
        (["predictions={predictions}", "gold={gold}", "iou=giou"], "unknown iou 'giou'; choose"),
        (["predictions={predictions}", "gold={gold}", "comparison=ge0"], "unknown comparison"),
        (["predictions={predictions}", "gold={gold}", "split=val"], "is a file. Leave split= out"),
        (["predictions={predictions}", "gold={gold}", "dataset=unc"], "Leave dataset= out"),
        (["predictions={predictions}", "gold={prepared}"], "unknown split ''; choose from: val"),
        (
            ["predictions={predictions}", "gold={prepared}", "split=val", "dataset=refcocog_umd"],
            "holds refcoco_unc, not dataset=refcocog_umd",
        ),
        (["predictions={predictions}", "gold={refer}"], "no split '' here; there is: testA"),
        (
            ["predictions={predictions}", "gold={refer}", "split=val"],
            "no split 'val' here; there is: testA",
        ),
    ],
)
def test_mistakes_in_the_command(predictions, gold, prepared, refer, capsys, arguments, complaint):
    files = {"predictions": predictions, "gold": gold, "prepared": prepared, "refer": refer}
    words = [word.format(**files) for word in arguments]
    assert run_command(main, ["grounding", *words]) == 2
    error = capsys.readouterr().err
    assert complaint in error
    assert error.count("\n") == 1


def test_a_folder_for_questions_is_refused(predictions, prepared, capsys):
    record = json.loads((prepared / "dataset.json").read_text())
    write(prepared / "dataset.json", record | {"task": "vqa"})
    with pytest.raises(ValueError, match=r"is prepared for vqa, not for grounding; .*prep refcoco"):
        main(["grounding", f"predictions={predictions}", f"gold={prepared}", "split=val"])


def test_help(capsys):
    assert run_command(main, ["grounding", "--help"]) == 0
    text = capsys.readouterr().out
    assert "tbkin score grounding predictions=FILE gold=FILE" in text
    for key in ("predictions", "gold", "dataset", "split", "iou", "comparison", "json"):
        assert f"\n  {key} " in text


@pytest.mark.skipif(not REFER.is_dir(), reason=f"real data not there: {REFER}")
@pytest.mark.parametrize("dataset", ["refcoco", "refcoco+", "refcocog"])
def test_a_real_split_against_itself(dataset, tmp_path, capsys):
    by = "umd" if dataset == "refcocog" else "unc"
    refs = json.loads((REFER / dataset / f"refs({by}).json").read_text())
    content = json.loads((REFER / dataset / "instances.json").read_text())
    boxes = {one["id"]: one["bbox"] for one in content["annotations"]}
    said = {}
    for ref in refs:
        x, y, w, h = boxes[ref["ann_id"]]
        if ref["split"] == "val":
            said |= {one["sent_id"]: [x, y, x + w, y + h] for one in ref["sentences"]}
    path = write(tmp_path / "said.json", said)
    arguments = [f"predictions={path}", f"gold={REFER}", f"dataset={dataset}_{by}", "split=val"]
    result = printed_json(capsys, *arguments)
    assert (result["accuracy@0.7"], result["mean_iou"]) == (1, 1)
    assert result["sentences"] == len(said) > 0
    assert sum(value["sentences"] for value in result["per_length"].values()) == len(said)
    # Cutting the annotations to whole numbers costs little, but it costs.
    result = printed_json(capsys, *arguments, "iou=integer_gold")
    assert 0.95 < result["mean_iou"] < 1
