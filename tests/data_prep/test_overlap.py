import json
from pathlib import Path

import pytest
from PIL import Image

from data_prep import overlap, refcoco
from tbkin.cli import main
from tbkin.config import run_command
from tbkin.data.prepared import read_record, read_split
from tests.data.refer_folder import write_refer


@pytest.fixture
def prepared(tmp_path, monkeypatch):
    """``prepared/refer-refcoco_unc``: 42 in train and val, 43 in testA and testB."""
    monkeypatch.chdir(tmp_path)
    write_refer(tmp_path / "refer" / "refcoco")
    for number in (42, 43):
        Image.new("RGB", (40, 30)).save(tmp_path / "refer" / f"{number}.jpg")
    refcoco.main([f"data.root={tmp_path}/refer", "detector=annotated"])
    return Path("prepared/refer-refcoco_unc")


def write(name, content):
    Path(name).write_text(json.dumps(content))
    return name


def test_shares_of_pictures_and_expressions(prepared, capsys):
    seen = write("image_data.json", [{"image_id": 1, "coco_id": 42}, {"image_id": 2, "coco_id": 9}])
    other = write("ids.json", [43, 44])
    capsys.readouterr()
    overlap.main([f"split={prepared}", f"against=[{seen},{other}]", "json=true"])
    result = json.loads(capsys.readouterr().out)
    # 42 has 2 training expressions and 1 of val; 43 one of testA, which is in testB too, and one.
    assert (result["pictures"], result["texts"], result["what"]) == (2, 6, "expressions")
    assert [
        (row["name"], row["pictures"], row["shared_pictures"], row["shared_texts"])
        for row in result["against"]
    ] == [("image_data.json", 2, 1, 3), ("ids.json", 2, 1, 3), ("any of them", 4, 2, 6)]


def test_the_table(prepared, capsys):
    capsys.readouterr()
    overlap.main(["split=refer:unc:testB", f"against=[{write('ids.json', [43, 44])}]"])
    assert capsys.readouterr().out.splitlines() == [
        "refer:unc:testB: 1 pictures, 2 expressions",
        "  in ids.json       1 of 1 (100.0 %) pictures,       2 of 2 (100.0 %) expressions",
    ]
    overlap.main([f"split={write('a.json', [1, 2, 3, 4])}", "against=[ids.json]"])
    assert capsys.readouterr().out.splitlines() == [
        "a.json: 4 pictures",
        "  in ids.json       0 of 4 (0.0 %)",
    ]


def test_the_ids_are_written(prepared):
    seen = write("ids.json", [43])
    overlap.main(["split=refer:unc", f"against=[{seen}]", "output=out.json"])
    written = json.loads(Path("out.json").read_text())
    assert (written["shared"], written["others"], written["split"]) == ([43], [42], "refer:unc")


def test_a_prepared_folder_without_the_shared_pictures(prepared, capsys):
    before = {path: path.read_bytes() for path in prepared.rglob("*") if path.is_file()}
    rows = read_split(prepared, "val")
    extra = [{**rows[0], "image_id": 43, "sentence_id": 90}]
    (prepared / "val.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows + extra))
    before[prepared / "val.jsonl"] = (prepared / "val.jsonl").read_bytes()
    assert read_record(prepared)["pictures_shared_with_train"] == {"val": 1}
    seen = write("ids.json", [42])
    overlap.main([f"split={prepared}:val", f"against=[{seen}]", "filter=clean"])
    assert read_split(Path("clean"), "val") == extra
    assert read_split(Path("clean"), "train") == read_split(prepared, "train")
    record = read_record(Path("clean"))
    assert record["filtered"] == {
        "from": str(prepared),
        "splits": ["val"],
        "against": ["ids.json"],
        "left_out_pictures": 1,
    }
    assert record["splits"]["val"]["sentences"] == 1
    assert record["pictures_shared_with_train"] == {}  # 42 is gone from val
    assert "official_counts" not in record
    assert record["box_source"] == "annotated boxes"
    assert record["splits"]["val"]["oracle@0.5"] == 0  # the cat's box, in the man's picture
    assert {path: path.read_bytes() for path in before} == before  # nothing changed in place
    overlap.main([f"split={prepared}:val", f"against=[{seen}]", "filter=clean"])
    assert "clean is there already" in capsys.readouterr().out


def test_questions_and_captions_are_filtered_too(tiny_root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = read_split(tiny_root.prepared, "train")
    first = rows[0]["image_id"]
    seen = write("ids.json", [first])
    folder = tmp_path / "captions"
    (folder / "graphs").mkdir(parents=True)
    record = {"schema": "tbkin.dataset/1", "task": "pretraining", "splits": {"train": {}}}
    write("captions/dataset.json", record)
    captions = [{"caption_id": k, "image_id": k, "caption": "a"} for k in (first, 901, first, 902)]
    lines = ["".join(f"{json.dumps(row)}\n" for row in captions), "g0\ng1\ng2\ng3\n"]
    (folder / "train.jsonl").write_text(lines[0])
    (folder / "graphs" / "train.jsonl").write_text(lines[1])
    for source, output in ((tiny_root.prepared, "q"), (folder, "c")):
        overlap.main([f"split={source}:train", f"against=[{seen}]", f"filter={output}"])
    assert read_split(Path("q"), "train") == [row for row in rows if row["image_id"] != first]
    assert read_record(Path("q"))["splits"]["train"]["pictures"] == 31
    assert Path("q/answers.json").read_text() == (tiny_root.prepared / "answers.json").read_text()
    assert Path("c/graphs/train.jsonl").read_text() == "g1\ng3\n"
    assert (folder / "graphs" / "train.jsonl").read_text() == lines[1]
    assert read_record(Path("c"))["splits"]["train"] == {"captions": 2, "pictures": 2}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "needs split=PATH and against=[PATH,…]"),
        (["split=none", "against=[ids.json]"], "no file or folder none"),
        (["split=refer:unc", "against=[ids.json]", "filter=x"], "filter= needs a prepared folder"),
        (["split=prepared/refer-refcoco_unc:val", "against=[ids.json]", "filter=x"],
         "every picture of prepared/refer-refcoco_unc:val is in ids.json; nothing is left"),
        (["split=prepared/refer-refcoco_unc:val", "against=[ids.json]", "overwrite=true",
          "filter=prepared/../prepared/refer-refcoco_unc"], "is the folder that split= names"),
        (["split=prepared/refer-refcoco_unc:dev", "against=[ids.json]"], "no split 'dev'"),
    ],
)  # fmt: skip
def test_errors_are_one_line_and_leave_nothing(prepared, capsys, words, message):
    write("ids.json", [42])
    assert run_command(main, ["prep", "overlap", *words]) == 2
    assert message in capsys.readouterr().err
    assert not Path("x").exists()


def test_numbers_of_another_collection_are_refused(prepared, capsys):
    record = read_record(prepared)
    write(prepared / "dataset.json", record | {"picture_ids": "visual_genome"})
    words = ["prep", "overlap", f"split={prepared}:val"]
    assert run_command(main, [*words, f"against=[{write('ids.json', [42])}]"]) == 2
    assert "the picture ids of Visual Genome and ids.json those of COCO" in capsys.readouterr().err
    assert run_command(main, [*words, f"against=[{prepared}:testA]"]) in (0, None)


def test_how_many_grids_are_left_is_counted_again(prepared):
    dets = write("dets.json", [{"image_id": 43, "box": [0, 0, 7, 3], "score": 0.9}])
    words = ["data.root=refer", "detector=detections", f"detector.boxes=[{dets}]", "output=d"]
    refcoco.main(words)
    assert read_record(Path("d"))["box_source"].endswith(
        "dets.json (1 of 2 pictures: a grid instead)"
    )
    for split in ("train", "val"):
        (Path("d") / f"{split}.jsonl").write_text(
            "".join(
                json.dumps({**row, "image_id": number}) + "\n"
                for row in read_split(Path("d"), split)
                for number in (42, 43)
            )
        )
    overlap.main(["split=d", f"against=[{write('ids.json', [42])}]", "filter=clean"])
    assert read_record(Path("clean"))["box_source"] == "detections: dets.json"
