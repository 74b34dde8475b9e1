import hashlib
import json
import pickle

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from tbkin.config import run_command
from tbkin.scoring import main
from tbkin.scoring_retrieval import first_captions, read_scores

# Captions of four test pictures: 3, 6, 5 and 2; five of each at most are 15, all are 16.
COUNTS = (3, 6, 5, 2)


def karpathy(counts=COUNTS, split="test"):
    images, sentid = [], 500
    for place, count in enumerate(counts):
        numbers = range(sentid, sentid + count)
        sentid += count
        sentences = [
            {"raw": f"thing {number}", "tokens": ["thing"], "imgid": place, "sentid": number}
            for number in numbers
        ]
        images.append(
            {
                "filename": f"COCO_val2014_{70 + place:012d}.jpg",
                "filepath": "val2014",
                "cocoid": 70 + place,
                "imgid": place,
                "split": split,
                "sentids": list(numbers),
                "sentences": sentences,
            }
        )
    return {"images": images, "dataset": "coco"}


@pytest.fixture
def dataset(tmp_path):
    """A file whose training picture stands in the middle and must not count."""
    content = karpathy()
    other = karpathy((4,), "restval")["images"][0]
    other |= {"cocoid": 9, "filename": "COCO_train2014_000000000009.jpg"}
    for number, sentence in enumerate(other["sentences"]):
        sentence["sentid"] = number
    content["images"].insert(2, other)
    path = tmp_path / "dataset_coco.json"
    path.write_text(json.dumps(content))
    return path


def own_of(counts):
    """(pictures, captions) bool."""
    return np.repeat(np.arange(len(counts)), counts) == np.arange(len(counts))[:, None]


def save(path, table):
    np.save(path, table)
    return path


def printed_json(capsys, *arguments):
    main(["retrieval", *map(str, arguments), "json=true"])
    return json.loads(capsys.readouterr().out)


def test_perfect_scores_and_what_is_told_of_them(dataset, tmp_path, capsys):
    counts = [min(count, 5) for count in COUNTS]
    scores = save(tmp_path / "scores.npy", own_of(counts).astype(np.float32))
    result = printed_json(capsys, f"scores={scores}", f"dataset={dataset}", "split=test")
    perfect = {"R@1": 100, "R@5": 100, "R@10": 100, "median_rank": 1, "mean_rank": 1}
    files = result.pop("files")
    assert result == {
        "image_to_text": perfect,
        "text_to_image": perfect,
        "rsum": 600,
        "pictures": 4,
        "captions": 15,
        "protocol": "5k",
        "folds": 1,
        "captions_per_picture": "5",
        "ties": "pessimistic",
        "dataset": "coco",
        "split": "test",
    }
    assert files == {
        name: {"path": str(path), "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
        for name, path in (("scores", scores), ("dataset", dataset))
    }


def test_ties_by_hand(dataset, tmp_path, capsys):
    # Everything equal: picture 0 has 3 of 16 captions, so 13 wrong ones are before it; and so on.
    scores = save(tmp_path / "scores.npy", np.zeros((4, 16)))
    result = printed_json(capsys, f"scores={scores}", f"dataset={dataset}", "captions=all")
    ranks = [1 + 16 - count for count in COUNTS]
    assert result["image_to_text"]["mean_rank"] == np.mean(ranks)
    assert result["image_to_text"]["median_rank"] == np.median(ranks)
    assert result["text_to_image"]["mean_rank"] == 4
    assert (result["rsum"], result["captions"]) == (200, 16)  # the four pictures are among five


@pytest.mark.parametrize("captions", ["2", "5", "all"])
def test_folds_are_scored_alone_and_averaged(dataset, tmp_path, capsys, captions):
    counts = [count if captions == "all" else min(count, int(captions)) for count in COUNTS]
    table = np.random.default_rng(0).standard_normal((4, sum(counts)))
    arguments = [f"dataset={dataset}", f"captions={captions}"]
    scores = save(tmp_path / "scores.npy", table)
    result = printed_json(capsys, f"scores={scores}", *arguments, "protocol=1k", "fold_images=2")
    assert (result["folds"], result["protocol"]) == (2, "1k")
    parts = []
    middle = sum(counts[:2])
    for name, counted, part in (
        ("first", COUNTS[:2], table[:2, :middle]),
        ("second", COUNTS[2:], table[2:, middle:]),
    ):
        alone = tmp_path / f"{name}.json"
        alone.write_text(json.dumps(karpathy(counted)))
        path = save(tmp_path / f"{name}.npy", part)
        parts.append(
            printed_json(capsys, f"scores={path}", f"dataset={alone}", f"captions={captions}")
        )
    for way in ("image_to_text", "text_to_image"):
        for name, value in result[way].items():
            assert value == pytest.approx((parts[0][way][name] + parts[1][way][name]) / 2)
    assert result["rsum"] == pytest.approx((parts[0]["rsum"] + parts[1]["rsum"]) / 2)


def test_every_file_of_the_same_scores_says_the_same(dataset, tmp_path, capsys):
    table = np.random.default_rng(1).integers(0, 6, (4, 16)).astype(np.float32)
    save(tmp_path / "a.npy", table)
    save(tmp_path / "b.npy", np.asfortranarray(table.astype(np.float64)))
    save(tmp_path / "c.npy", table.astype(np.float16))
    save(tmp_path / "d.npy", table.astype(np.int32))
    tensor = torch.from_numpy(table)
    save_file({"scores": tensor, "other": torch.zeros(1)}, tmp_path / "e.safetensors")
    save_file({"anything": tensor.bfloat16()}, tmp_path / "f.safetensors")
    results = []
    for path in sorted([*tmp_path.glob("?.npy"), *tmp_path.glob("?.safetensors")]):
        found = printed_json(capsys, f"scores={path}", f"dataset={dataset}", "captions=all")
        del found["files"]
        results.append(found)
    assert len(results) == 6
    assert all(found == results[0] for found in results)
    assert 0 < results[0]["rsum"] < 600


def test_the_mean_of_tables(dataset, tmp_path, capsys):
    chance = np.random.default_rng(2)
    tables = [chance.random((4, 16)).astype(np.float32) for _ in range(3)]
    paths = [tmp_path / name for name in ("saf.npy", "sgr.safetensors", "more.npy")]
    save(paths[0], tables[0])
    save_file({"scores": torch.from_numpy(tables[1])}, paths[1])
    save(paths[2], tables[2].astype(np.float16))
    tables[2] = tables[2].astype(np.float16)
    mean = save(tmp_path / "mean.npy", sum(table.astype(np.float32) for table in tables) / 3)
    words = [f"dataset={dataset}", "captions=all"]
    found = printed_json(capsys, "scores=" + ",".join(map(str, paths)), *words)
    expected = printed_json(capsys, f"scores={mean}", *words)
    files = found.pop("files")
    del expected["files"]
    assert found == expected
    assert [files[f"scores {number}"]["path"] for number in (1, 2, 3)] == list(map(str, paths))
    alone = [printed_json(capsys, f"scores={path}", *words) for path in paths]
    assert all(found["image_to_text"] != one["image_to_text"] for one in alone)
    comma = save(tmp_path / "a,b.npy", tables[0])  # a file of this name is that file
    assert printed_json(capsys, f"scores={comma}", *words)["rsum"] == alone[0]["rsum"]


def test_tables_that_have_no_mean(dataset, tmp_path):
    first = save(tmp_path / "a.npy", np.zeros((4, 16)))
    other = save(tmp_path / "b.npy", np.zeros((4, 15)))
    both = tmp_path / "c.safetensors"
    save_file({"image_scores": torch.zeros(4, 16), "caption_scores": torch.zeros(16, 4)}, both)
    with pytest.raises(ValueError, match=r"b.npy is \(4, 15\) and .*a.npy \(4, 16\); the mean is"):
        main(["retrieval", f"scores={first},{other}", f"dataset={dataset}"])
    with pytest.raises(ValueError, match=r"c\.safetensors has a table for each direction"):
        main(["retrieval", f"scores={first},{both}", f"dataset={dataset}"])
    with pytest.raises(FileNotFoundError, match=r"no file .*d\.npy"):
        main(["retrieval", f"scores={first},{tmp_path / 'd.npy'}", f"dataset={dataset}"])


def prepared(folder, rows, identities):
    folder.mkdir()
    keys = ("caption_id", "image_id", "identity")
    lines = [json.dumps(dict(zip(keys, row, strict=True)) | {"caption": "x"}) for row in rows]
    (folder / "test.jsonl").write_text("\n".join(lines) + "\n")
    record = {
        "schema": "tbkin.dataset/1",
        "task": "retrieval",
        "dataset": "cuhk_pedes" if identities else "coco",
        "splits": {"test": {"pictures": 3, "captions": 4}},
        "identities": identities,
        "files": {},
    }
    (folder / "dataset.json").write_text(json.dumps(record))
    return folder


def test_a_prepared_folder(tmp_path, capsys):
    rows = [(1, 30, 30), (2, 30, 30), (3, 10, 10), (4, 20, 20)]
    folder = prepared(tmp_path / "prepared", rows, identities=False)
    scores = save(tmp_path / "scores.npy", own_of((2, 1, 1)).astype(float))
    result = printed_json(capsys, f"scores={scores}", f"dataset={folder}")
    assert (result["rsum"], result["dataset"], result["split"]) == (600, "coco", "test")
    assert "mAP" not in result["text_to_image"]
    assert result["files"]["dataset"]["path"] == str(folder / "test.jsonl")


def test_person_search(tmp_path, capsys):
    # Pictures 30 and 20 show person 7; a caption of one is right for the other.
    rows = [(1, 30, 7), (2, 30, 7), (3, 10, 8), (4, 20, 7)]
    folder = prepared(tmp_path / "prepared", rows, identities=True)
    table = np.array([[0.9, 0.1, 0.5, 0.1], [0.5, 0.2, 0.1, 0.3], [0.1, 0.3, 0.4, 0.2]])
    scores = save(tmp_path / "scores.npy", table)
    result = printed_json(capsys, f"scores={scores}", f"dataset={folder}")
    # Pictures in file order: 30, 10, 20. Caption 1: right, wrong, right. 2: right, wrong, right.
    # 3 looks for picture 10: last of three. 4: wrong, right, right.
    found = result["text_to_image"]
    assert found["R@1"] == 50
    assert found["mean_rank"] == (1 + 1 + 3 + 2) / 4
    first, second, third = (1 + 2 / 3) / 2, 1 / 3, (1 / 2 + 2 / 3) / 2
    assert found["mAP"] == pytest.approx(100 * (2 * first + second + third) / 4)
    assert found["mINP"] == pytest.approx(100 * (2 / 3 + 2 / 3 + 1 / 3 + 2 / 3) / 4)
    assert found["AP@50"] == pytest.approx(100 * (2 / 3 + 1 / 3) / 2)  # person by person
    assert result["image_to_text"]["R@1"] == pytest.approx(100 / 3)  # picture 30 alone
    assert result["captions_per_picture"] == "all"
    arguments = ["retrieval", f"scores={scores}", f"dataset={folder}", "protocol=1k"]
    with pytest.raises(ValueError, match="identities must not be cut; set protocol=5k"):
        main(arguments)


def test_a_list_of_captions_without_splits_is_taken_whole(tmp_path, capsys):
    entries = [{"image": "a.jpg", "caption": ["x", "y"]}, {"image": "b.jpg", "caption": "z"}]
    path = tmp_path / "flickr30k_test.json"
    path.write_text(json.dumps(entries))
    scores = save(tmp_path / "scores.npy", own_of((2, 1)).astype(float))
    result = printed_json(capsys, f"scores={scores}", f"dataset={path}")
    assert (result["rsum"], result["dataset"]) == (600, "flickr30k_test")


def test_first_captions():
    rows = [{"image_id": image, "caption_id": number} for number, image in enumerate([4, 4, 4, 2])]
    assert [row["caption_id"] for row in first_captions(rows, "2")] == [0, 1, 3]
    assert first_captions(rows, "all") == rows


def test_table(dataset, tmp_path, capsys):
    scores = save(tmp_path / "scores.npy", np.zeros((4, 15)))
    main(["retrieval", f"scores={scores}", f"dataset={dataset}"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "Retrieval in per cent, 4 pictures, 15 captions, protocol 5k"
    assert lines[2] == (
        "text to image: R@1 0.00, R@5 100.00, R@10 100.00, median rank 4.00, mean rank 4.00"
    )
    assert lines[3] == "rsum: 200.00"
    assert "(captions per picture: 5)" in lines
    assert lines[-1].startswith(f"(dataset: {dataset}, sha256 ")


@pytest.mark.parametrize(
    ("shape", "mend"),
    [
        ((4, 16), "set captions=all."),
        ((15, 4), "rows must be pictures and columns captions: transpose it."),
        ((4, 17), "check dataset= and split=, or the number of captions of a picture."),
    ],
)
def test_a_shape_that_does_not_fit_says_what_would(dataset, tmp_path, capsys, shape, mend):
    scores = save(tmp_path / "scores.npy", np.zeros(shape))
    assert run_command(main, ["retrieval", f"scores={scores}", f"dataset={dataset}"]) == 2
    error = capsys.readouterr().err
    assert f"the scores are {shape}, and (pictures, captions) must be" in error
    assert "captions=5: (4, 15), captions=all: (4, 16); " in error
    assert error.endswith(f"{mend}\n")


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ([], "scores is missing; add scores=FILE"),
        (["scores={npy}"], "dataset is missing; add dataset=FILE"),
        (["scores={npy}", "dataset={json}", "protocol=2k"], "unknown protocol '2k'; choose from"),
        (["scores={npy}", "dataset={json}", "captions=0"], "captions must be a number >= 1 or all"),
        (["scores={npy}", "dataset={json}", "fold_images=0"], "fold_images must be >= 1, got 0"),
        (
            ["scores={npy}", "dataset={json}", "protocol=1k"],
            "4 pictures are 0 folds of 1000 and 4 pictures left over; set fold_images",
        ),
        (
            ["scores={npy}", "dataset={json}", "protocol=1k", "fold_images=3"],
            "4 pictures are 1 folds of 3 and 1 pictures left over",
        ),
        (["scores=nowhere.npy", "dataset={json}"], "no file nowhere.npy; write one table"),
        (["scores={json}", "dataset={json}"], "is neither .npy nor .safetensors"),
        (["scores={npy}", "dataset={json}", "split=val"], "no captions of split 'val'"),
        (["scores={npy}", "dataset={folder}"], "has no dataset.json; give Karpathy's file"),
    ],
)
def test_mistakes_in_the_command(dataset, tmp_path, capsys, words, complaint):
    places = {
        "npy": save(tmp_path / "scores.npy", np.zeros((4, 15))),
        "json": dataset,
        "folder": tmp_path,
    }
    assert run_command(main, ["retrieval", *(word.format(**places) for word in words)]) == 2
    error = capsys.readouterr().err
    assert complaint in error
    assert error.count("\n") == 1


def test_nan_is_refused(dataset, tmp_path):
    table = np.zeros((4, 15))
    table[1, 7] = np.nan
    scores = save(tmp_path / "scores.npy", table)
    with pytest.raises(ValueError, match=r"scores\.npy against .*query 1 and gallery item 7"):
        main(["retrieval", f"scores={scores}", f"dataset={dataset}"])


def test_files_that_hold_no_table(tmp_path):
    class Loud:
        def __reduce__(self):
            return print, ("a pickle was run",)

    objects = tmp_path / "objects.npy"
    np.save(objects, np.array([Loud()], dtype=object), allow_pickle=True)
    bare = tmp_path / "bare.npy"
    bare.write_bytes(pickle.dumps(Loud()))
    half = tmp_path / "half.npy"
    half.write_bytes(save(tmp_path / "whole.npy", np.zeros((9, 9))).read_bytes()[:200])
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(b"no header")
    for path in (objects, bare, half):
        with pytest.raises(ValueError, match=r"\.npy is no table of numbers"):
            read_scores(path)
    with pytest.raises(ValueError, match="is damaged"):
        read_scores(damaged)
    save_file({"a": torch.zeros(2, 2), "b": torch.zeros(2, 2)}, tmp_path / "two.safetensors")
    with pytest.raises(
        ValueError, match=r"one of the name 'scores', or image_scores and .*; there are: a, b. Name"
    ):
        read_scores(tmp_path / "two.safetensors")
    for table in (np.zeros(4), np.zeros((2, 2), dtype=bool), np.zeros((2, 2), dtype=complex)):
        with pytest.raises(ValueError, match=r"holds .* of shape .*; write one table of numbers"):
            read_scores(save(tmp_path / "other.npy", table))
    with pytest.raises(ValueError, match=r"is no table of numbers"):
        read_scores(save(tmp_path / "words.npy", np.array([["a"]])))


def test_a_table_for_each_direction(dataset, tmp_path, capsys):
    # Pictures find their captions; captions, by a table of their own, find their pictures last.
    own = torch.from_numpy(own_of([min(count, 5) for count in COUNTS])).float()
    path = tmp_path / "reranked.safetensors"
    save_file({"image_scores": own, "caption_scores": -own.T.contiguous()}, path)
    arguments = [f"scores={path}", f"dataset={dataset}"]
    for more, last in ((["protocol=5k"], 4), (["protocol=1k", "fold_images=2"], 2)):
        result = printed_json(capsys, *arguments, *more)
        assert result["image_to_text"]["mean_rank"] == 1
        assert result["text_to_image"]["mean_rank"] == last
    with pytest.raises(ValueError, match=r"a table for each direction, .* leave eccv= out"):
        main(["retrieval", *arguments, "eccv=true"])
    save_file({"image_scores": own, "caption_scores": own.clone()}, path)
    with pytest.raises(ValueError, match=r"caption_scores must be captions by pictures.*\(4, 15\)"):
        read_scores(path)


def test_captions_of_a_picture_that_do_not_stand_together_are_refused(tmp_path):
    # Columns in file order would be of the pictures a, b, a; by picture they are a, a, b.
    names = ["a.jpg", "b.jpg", "a.jpg"]
    rows = [{"image_path": name, "caption": f"thing {n}"} for n, name in enumerate(names)]
    path = tmp_path / "captions.json"
    path.write_text(json.dumps(rows))
    scores = save(tmp_path / "scores.npy", np.zeros((2, 3)))
    arguments = ["retrieval", f"scores={scores}", f"dataset={path}", "captions=all"]
    with pytest.raises(
        ValueError, match=r"captions\.json.*picture a\.jpg, whose others .* next to"
    ):
        main(arguments)
    path.write_text(json.dumps(sorted(rows, key=lambda row: row["image_path"])))
    main(arguments)


def test_a_pickle_is_never_run(tmp_path, capsys):
    test_files_that_hold_no_table(tmp_path)
    assert "a pickle was run" not in capsys.readouterr().out


def test_another_task_is_refused(tmp_path):
    folder = prepared(tmp_path / "prepared", [(1, 30, 30)], identities=False)
    record = json.loads((folder / "dataset.json").read_text())
    (folder / "dataset.json").write_text(json.dumps(record | {"task": "vqa"}))
    scores = save(tmp_path / "scores.npy", np.zeros((1, 1)))
    with pytest.raises(ValueError, match=r"prepared for vqa, not for retrieval; .*prep retrieval"):
        main(["retrieval", f"scores={scores}", f"dataset={folder}"])


def test_eccv_caption_of_other_data(dataset, tmp_path, monkeypatch, capsys):
    scores = save(tmp_path / "scores.npy", np.zeros((4, 15)))
    arguments = ["retrieval", f"scores={scores}", f"dataset={dataset}", "eccv=true"]
    monkeypatch.setattr("tbkin.metrics.extended_coco.find_spec", lambda name: None)
    assert run_command(main, arguments) == 2
    assert "pip install 'tbkin[eccv-caption]'" in capsys.readouterr().err
    data = tmp_path / "eccv_caption/data"
    data.mkdir(parents=True)
    (data / "original_image_to_caption.json").write_text(json.dumps({70: [500]}))
    monkeypatch.setattr("tbkin.metrics.extended_coco.data_folder", lambda: data)
    with pytest.raises(ValueError, match=r"3 are foreign \(ids 71, 72, 73\); leave eccv= out"):
        main(arguments)


def test_help(capsys):
    assert run_command(main, ["retrieval", "--help"]) == 0
    text = capsys.readouterr().out
    assert "tbkin score retrieval scores=FILE" in text
    for key in ("scores", "dataset", "split", "protocol", "captions", "fold_images", "eccv"):
        assert f"\n  {key} " in text
