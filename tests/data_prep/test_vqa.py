"""Official VQA files -> prepared folder."""

import gzip
import hashlib
import json
import shutil
from itertools import groupby
from pathlib import Path

import pytest

from data_prep import regions, vqa
from tbkin import evaluation, train
from tbkin.config import TrainConfig, load_config
from tbkin.data.features import RegionStore
from tbkin.data.prepared import read_split
from tbkin.objectives.answer import Answer

SHARED = Path(__file__).parents[2].parent / "shared" / "data"
REAL = SHARED / "real_mini"
VOCABULARY = SHARED / "vocab" / "vqa_trainval_ans2label.json"
OFFICIAL = {
    "questions": "v2_OpenEnded_mscoco_{}2014_questions.json",
    "annotations": "v2_mscoco_{}2014_annotations.json",
}


def test_everything_in_the_files_arrives(tiny_root):
    record = json.loads((tiny_root.prepared / "dataset.json").read_text())
    assert {split: counts["pictures"] for split, counts in record["splits"].items()} == {
        "train": 32,
        "val": 4,
        "test": 4,
    }
    path = tiny_root.official / "vqa" / "v2_OpenEnded_mscoco_val2014_questions.json"
    assert (
        record["files"]["val_questions"]["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    )
    questions = json.loads(path.read_text())["questions"]
    rows = {row["question_id"]: row for row in read_split(tiny_root.prepared, "val")}
    assert {q["question_id"]: q["question"] for q in questions} == {
        key: row["question"] for key, row in rows.items()
    }
    assert all(len(row["answers"]) == 10 for row in rows.values())
    assert len(RegionStore(tiny_root.prepared / "regions")) == 40


def test_files_named_one_by_one_and_gzip(tiny_root, tmp_path):
    source = tiny_root.official / "vqa"
    words = [f"data.images=[{tiny_root.official / 'images'}]", f"output={tmp_path / 'p'}"]
    for split, subset in (("train", "train2014"), ("val", "val2014")):
        for kind, name in (
            ("questions", f"v2_OpenEnded_mscoco_{subset}_questions.json"),
            ("annotations", f"v2_mscoco_{subset}_annotations.json"),
        ):
            path = tmp_path / f"{split}-{kind}.json.gz"
            path.write_bytes(gzip.compress((source / name).read_bytes()))
            words.append(f"data.{split}_{kind}={path}")
    vqa.main([*words, "min_answer_count=2"])
    assert (tmp_path / "p" / "train.jsonl").read_text() == (
        tiny_root.prepared / "train.jsonl"
    ).read_text()


def test_without_a_validation_file_pictures_are_held_out(tiny_root, tmp_path):
    root = tmp_path / "tiny"
    shutil.copytree(tiny_root.official, root)
    for path in (root / "vqa").glob("*val2014*"):
        path.unlink()
    vqa.main(
        [f"data.root={root}", f"output={tmp_path / 'p'}", "min_answer_count=2", "val_share=0.25"]
    )
    train_rows, val_rows = (read_split(tmp_path / "p", split) for split in ("train", "val"))
    train_ids, val_ids = ({row["image_id"] for row in rows} for rows in (train_rows, val_rows))
    assert (len(train_ids), len(val_ids)) == (24, 8)
    assert not train_ids & val_ids
    assert json.loads((tmp_path / "p" / "dataset.json").read_text())["val_held_out_from_train"]


def prepare(tiny_root, folder, *words):
    """Prepare the tiny world again, in a folder of its own; what ``dataset.json`` says."""
    vqa.main([f"data.root={tiny_root.official}", f"output={folder}", "detector=grid", *words])
    return json.loads((folder / "dataset.json").read_text())


def test_numbers_that_are_not_the_published_ones_are_said_and_recorded(tiny_root, tmp_path, capsys):
    prepare(tiny_root, tmp_path / "tiny", "min_answer_count=2")
    assert "note: not the published" not in capsys.readouterr().err  # nobody published a tiny world
    root = tmp_path / "mine"
    shutil.copytree(tiny_root.official, root)
    (root / "tiny.json").unlink()
    record = prepare(tiny_root, tmp_path / "p", f"data.root={root}", "min_answer_count=2")
    train = record["splits"]["train"]["questions"]
    counts = record["official_counts"]
    assert counts["train_questions"] == {"found": train, "published": 443_757}
    assert counts["train_answers"] == {"found": 10 * train, "published": 4_437_570}
    assert counts["val_answers"]["published"] == 2_143_540
    assert counts["test_questions"]["published"] == 447_793
    error = capsys.readouterr().err
    note = next(line for line in error.splitlines() if line.startswith("note: "))
    assert f"train_questions {train:,} of 443,757" in note
    assert f"train_answers {10 * train:,} of 4,437,570" in note


def test_the_published_numbers_are_demanded(tiny_root, tmp_path):
    with pytest.raises(ValueError, match=r"official=true: train_questions .* of 443,757.*fetch"):
        prepare(tiny_root, tmp_path / "p", "min_answer_count=2", "official=true")
    assert not list(tmp_path.iterdir())


def test_files_with_the_published_numbers_pass():
    files = {f"train_{kind}": Path(name.format("train")) for kind, name in OFFICIAL.items()}
    files["train_annotations"] = files["train_annotations"].with_suffix(".json.gz")
    counts = {"train": {"questions": 443_757, "answers": 4_437_570}}
    assert vqa.compare_counts(files, counts, demanded=True) == {
        "train_questions": {"found": 443_757, "published": 443_757},
        "train_answers": {"found": 4_437_570, "published": 4_437_570},
    }
    other = files | {"train_questions": Path("mine.json")}
    assert list(vqa.compare_counts(other, counts, demanded=False)) == ["train_answers"]
    with pytest.raises(ValueError, match=r"no published number is known for: mine\.json; fetch"):
        vqa.compare_counts(other, counts, demanded=True)


def test_a_given_vocabulary_is_used_as_it_is(tiny_root, tmp_path, capsys):
    path = tmp_path / "ans2label.json"
    path.write_text(json.dumps({"red": 1, "yes": 0, "A Dog.": 2}))
    record = prepare(tiny_root, tmp_path / "p", f"answers={path}")
    assert json.loads((tmp_path / "p" / "answers.json").read_text()) == ["yes", "red", "A Dog."]
    assert record["answers"] == 3
    assert record["files"]["answers"]["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert "1 of 3 answers" in capsys.readouterr().err
    with pytest.raises(FileNotFoundError, match=r"nowhere\.json"):
        prepare(tiny_root, tmp_path / "q", f"answers={tmp_path}/nowhere.json")


@pytest.mark.skipif(not VOCABULARY.is_file(), reason="the usual 3,129 answers are not at hand")
def test_the_vocabulary_of_the_literature(tiny_root, tmp_path):
    record = prepare(tiny_root, tmp_path / "p", f"answers={VOCABULARY}")
    assert record["answers"] == 3129
    counts = record["splits"]["train"]
    assert counts["questions_with_a_known_answer"] == counts["questions"]


def given(tmp_path, contents):
    """Words that name files with these contents, and the files."""
    words = []
    for key, content in contents.items():
        path = tmp_path / f"{key}.json"
        path.write_text(json.dumps(content))
        words.append(f"data.{key}={path}")
    return words


def official(tiny_root, split, kind):
    """The list in an official file of the tiny world."""
    path = tiny_root.official / "vqa" / OFFICIAL[kind].format(split)
    return json.loads(path.read_text())[kind]


def test_vqa_cp_gives_what_vqa_gives(tiny_root, tmp_path):
    words = given(
        tmp_path,
        {
            f"{split}_{kind}": [
                row | {"coco_split": "val2014"} for row in official(tiny_root, split, kind)
            ]
            for split in ("train", "val")
            for kind in OFFICIAL
        },
    )
    images = f"data.images=[{tiny_root.official / 'images'}]"
    words += [images, f"output={tmp_path / 'p'}", "min_answer_count=2", "detector=grid"]
    vqa.main(words)
    for name in ("train.jsonl", "val.jsonl", "answers.json"):
        assert (tmp_path / "p" / name).read_text() == (tiny_root.prepared / name).read_text()
    assert json.loads((tmp_path / "p" / "dataset.json").read_text())["official_counts"] == {}


def test_gqa_trains(tiny_root, tmp_path):
    answers = {
        row["question_id"]: row["multiple_choice_answer"]
        for row in official(tiny_root, "train", "annotations")
    }
    content = {
        f"{row['question_id']:08d}": {
            "imageId": str(row["image_id"]),
            "question": row["question"],
            "answer": answers[row["question_id"]],
            "types": {"structural": "query"},
        }
        for row in official(tiny_root, "train", "questions")
    }
    words = given(tmp_path, {"train_questions": content, "train_annotations": content})
    images = f"data.images=[{tiny_root.official / 'images'}]"
    prepared = tmp_path / "p"
    vqa.main([*words, images, f"output={prepared}", "min_answer_count=2", "detector=grid"])
    assert json.loads((prepared / "dataset.json").read_text())["picture_ids"] == "visual_genome"
    rows = read_split(prepared, "train") + read_split(prepared, "val")
    assert len(rows) == len(content)
    assert all(row["answers"] == [answers[row["question_id"]]] * 10 for row in rows)
    words = [f"data.root={prepared}", f"output_dir={tmp_path / 'm'}", "data.parser=word_rules"]
    run = train.train(load_config(TrainConfig, [*words, "epochs=1"]))
    right = run["best"]["vqa_accuracy"] * len(read_split(prepared, "val"))
    assert right == pytest.approx(round(right))  # an answer is right or wrong, nothing between
    assert right > 0
    learned = json.loads((tmp_path / "m" / "trained_on.json").read_text())["images"]
    pictures = {row["image_id"] for row in read_split(prepared, "train")}
    assert learned == {"visual_genome": sorted(pictures)}


def test_gqa_and_vqa_are_not_put_into_one_folder(tiny_root, tmp_path):
    of_gqa = {"00000007": {"imageId": "5", "question": "What?", "answer": "dog"}}
    words = given(tmp_path, {"train_questions": of_gqa, "train_annotations": of_gqa})
    for kind in ("questions", "annotations"):
        words.append(f"data.val_{kind}={tiny_root.official / 'vqa' / OFFICIAL[kind].format('val')}")
    with pytest.raises(ValueError, match=r"picture ids of Visual Genome \(.* and COCO \(.*val2014"):
        vqa.main([*words, f"output={tmp_path / 'p'}", "detector=grid"])


@pytest.mark.parametrize("name", ["vqa", "rosita_vqa"])
def test_rositas_schedule_runs_and_objectives_learn_the_epoch(
    name, tiny_root, tmp_path, monkeypatch
):
    told = []
    set_epoch = Answer.set_epoch
    monkeypatch.setattr(
        Answer, "set_epoch", lambda self, epoch: (told.append(epoch), set_epoch(self, epoch))
    )
    config = Path(__file__).parents[2] / "configs" / f"{name}.yaml"
    words = [str(config), f"data.root={tiny_root.prepared}", f"output_dir={tmp_path / 'm'}"]
    small = ["model.num_hidden_layers=1", "model.hidden_size=32", "model.num_attention_heads=2"]
    words += [*small, "model.intermediate_size=32", "data.parser=word_rules", "log_every=1"]
    loaded = load_config(TrainConfig, words)
    assert loaded.epochs == 15
    assert (loaded.optim.betas, loaded.optim.eps) == ([0.9, 0.98], 1e-9)
    assert loaded.optim.weight_decay == 0
    run = train.train(loaded)
    lines = [json.loads(line) for line in (tmp_path / "m" / "log.jsonl").read_text().splitlines()]
    steps = [line for line in lines if "lr" in line]
    per_epoch = run["steps"] // 15
    rates = [line["lr"] / loaded.optim.lr for line in steps[::per_epoch]]
    assert rates == pytest.approx([0.25, 0.5, 0.75, 1, 1, 1, 0.1, 0.1, 0.1, *[0.01] * 6])
    assert [len(list(same)) for _, same in groupby(told)] == [per_epoch] * 15
    assert told == sorted(told)
    assert told[::per_epoch] == list(range(15))
    assert loaded.objectives["answer"]["kl_epochs"] == 3


def test_what_is_there_is_left_alone(tiny_root, capsys):
    before = (tiny_root.prepared / "dataset.json").stat().st_mtime_ns
    vqa.main([f"data.root={tiny_root.official}", f"output={tiny_root.prepared}"])
    assert "overwrite=true" in capsys.readouterr().out
    assert (tiny_root.prepared / "dataset.json").stat().st_mtime_ns == before


@pytest.mark.skipif(not REAL.is_dir(), reason="the real pictures are not at hand")
@pytest.mark.parametrize("detector", ["grid", "annotated"])
def test_real_pictures_and_official_files_go_through(detector, tmp_path, capsys):
    prepared = tmp_path / "prepared"
    vqa.main(
        [
            f"data.root={REAL}",
            f"output={prepared}",
            f"detector.name={detector}",
            "min_answer_count=3",
        ]
    )
    record = json.loads((prepared / "dataset.json").read_text())
    assert sum(counts["questions"] for counts in record["splits"].values()) == 281
    assert sum(counts["pictures"] for counts in record["splits"].values()) == 185
    store = RegionStore(prepared / "regions")
    labels = set(store.manifest["labels"])
    assert ("person" in labels) == (detector == "annotated")
    config = Path(__file__).parents[2] / "configs" / "vqa.yaml"
    words = [str(config), f"data.root={prepared}", f"output_dir={tmp_path / 'm'}", "epochs=1"]
    train.main([*words, "model.num_hidden_layers=1", "model.hidden_size=32"])
    capsys.readouterr()
    evaluation.main([f"model={tmp_path / 'm'}", f"data.root={prepared}"])
    printed = capsys.readouterr().out
    assert "overall" in printed
    assert "baseline" in printed


def test_the_boxes_are_told_in_words(tiny_root, tmp_path):
    assert prepare(tiny_root, tmp_path / "p")["box_source"] == "grid: 6 x 6 cells"
    record = json.loads((tiny_root.prepared / "dataset.json").read_text())
    assert record["box_source"].startswith("detections: detections_")


def test_what_stops_after_the_regions_does_not_lose_them(tiny_root, tmp_path, monkeypatch):
    output = tmp_path / "p"

    def stopped(files):
        raise KeyboardInterrupt

    monkeypatch.setattr(vqa, "files_record", stopped)
    with pytest.raises(KeyboardInterrupt):
        prepare(tiny_root, output)
    monkeypatch.undo()
    assert [path.name for path in tmp_path.iterdir()] == ["p.regions"]
    monkeypatch.setattr(regions, "write_shards", lambda *_, **__: 1 / 0)
    with pytest.raises(ValueError, match=r"p\.regions was begun with other settings"):
        prepare(tiny_root, output, "detector.rows=2")
    prepare(tiny_root, output)
    assert len(RegionStore(output / "regions")) == 40
    assert [path.name for path in tmp_path.iterdir()] == ["p"]


def test_ok_vqa_which_chooses_no_answer(tiny_root, tmp_path):
    """As OK-VQA's files: no multiple_choice_answer; the commonest of the ten stands for it."""
    contents = {}
    for split in ("train", "val"):
        contents[f"{split}_questions"] = {"questions": official(tiny_root, split, "questions")}
        rows = [dict(row) for row in official(tiny_root, split, "annotations")]
        for row in rows:
            chosen = row.pop("multiple_choice_answer")
            told = [chosen] * 6 + ["other"] * 4
            row["answers"] = [{"answer": one, "answer_id": n} for n, one in enumerate(told, 1)]
        contents[f"{split}_annotations"] = {"annotations": rows}
    words = given(tmp_path, contents)
    images = f"data.images=[{tiny_root.official / 'images'}]"
    vqa.main([*words, images, f"output={tmp_path / 'p'}", "min_answer_count=2", "detector=grid"])
    expected = (tiny_root.prepared / "answers.json").read_text()  # of what VQA 2.0 chooses
    assert (tmp_path / "p" / "answers.json").read_text() == expected


@pytest.mark.parametrize(
    ("gone", "complaint"),
    [
        ("val_annotations", r"no val annotations named, and once a file is named none is looked "
         r"for.*data\.val_questions=FILE data\.val_annotations=FILE; without both"),
        ("val_questions", r"no val questions named"),
        ("train_questions", r"no train questions named"),
        ("train_annotations", r"no train annotations named"),
    ],
)  # fmt: skip
def test_questions_and_annotations_go_together(tmp_path, gone, complaint):
    kinds = ("questions", "annotations")
    keys = [f"{split}_{kind}" for split in ("train", "val") for kind in kinds]
    files = vqa.VQAFiles(root=str(tmp_path))
    for key in [*keys, "test_questions"]:
        (tmp_path / key).touch()
        setattr(files, key, "" if key == gone else str(tmp_path / key))
    with pytest.raises(FileNotFoundError, match=complaint):
        vqa.find_files(files)
    setattr(files, gone, str(tmp_path / gone))
    assert set(vqa.find_files(files)) == {*keys, "test_questions"}  # which need no answers


def test_an_official_file_without_its_other_half(tmp_path):
    for split, kind in (("train", "questions"), ("train", "annotations"), ("val", "questions")):
        (tmp_path / OFFICIAL[kind].format(split)).touch()
    looked = r"looked for v2_mscoco_val2014_annotations\.json there and one folder down"
    with pytest.raises(FileNotFoundError, match=rf"no val annotations in .*: {looked}"):
        vqa.find_files(vqa.VQAFiles(root=str(tmp_path)))


def test_answers_that_no_label_spells_are_told(capsys):
    rows = [{"answers": ["t-shirt"] * 10}, {"answers": ["hat"] * 10}, {"answers": ["2-3"] * 10}]
    vqa.tell_unreachable({"train": rows, "val": rows}, ["t shirt", "hat"])
    vqa.tell_unreachable({"val": [{"answers": ["t-shirt", "T-shirt"]}]}, ["t shirt"])  # normalised
    assert capsys.readouterr().err.splitlines() == [
        "note: to 1 of 3 questions of val all annotators gave one answer that is learned in "
        "another spelling (first: 't-shirt' as 't shirt'): rule=official scores it 0, letter by "
        "letter; rule=mmf compares what is normalised."
    ]


def test_a_folder_of_another_root_of_the_same_name(tiny_root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for parent in ("a", "b"):
        shutil.copytree(tiny_root.official, tmp_path / parent / "vqa")
    vqa.main(["data.root=a/vqa", "detector=grid"])
    with pytest.raises(
        ValueError, match=r"prepared/vqa was prepared from /.*/a/vqa, not from b/vqa"
    ):
        vqa.main(["data.root=b/vqa", "detector=grid"])
