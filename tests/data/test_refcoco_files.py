import copy
import json
import os
import pickle
from pathlib import Path

import pytest

from tbkin.data.refcoco_files import (
    DATASETS,
    Expressions,
    datasets_named,
    join_refs,
    read_refer,
    read_refs,
    splits_of,
)
from tbkin.data.refcoco_find import read_expressions
from tbkin.plain_pickle import RefusedPickleError
from tests.data.refer_folder import INSTANCES, REFS, write_refer

REAL = Path(__file__).resolve().parents[3] / "shared/data/real_mini/refer"


def read(folder, by="unc", dataset="refcoco_unc"):
    return read_refer(folder / f"refs({by}).p", folder / "instances.json", dataset)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_every_sentence_stands_beside_its_box(tmp_path, protocol):
    found = read(write_refer(tmp_path, protocol=protocol))
    assert found.splits["train"] == [
        {
            "sentence_id": number,
            "ref_id": 0,
            "ann_id": 100,
            "image_id": 42,
            "expression": text,
            "box": [1.5, 2.0, 11.5, 22.0],  # x + width, y + height
            "category": "dog",
        }
        for number, text in ((0, "dog on left"), (1, "brown dog"))
    ]
    # Not the reference's own file_name, which ends in the annotation's id.
    assert found.pictures[42] == "COCO_train2014_000000000042.jpg"


def test_splits_are_those_of_the_refer_toolkit(tmp_path):
    # getRefIds(split="testA"): "A" in the name; "test": "test" in the name; train, val: equal.
    found = read(write_refer(tmp_path))
    sentences = {
        split: [row["sentence_id"] for row in rows] for split, rows in found.splits.items()
    }
    assert sentences == {"train": [0, 1], "val": [2], "testA": [3], "testB": [3, 4]}
    assert [row["sentence_id"] for row in found.of("test")] == [3, 4]  # each once
    assert found.of("val") is found.splits["val"]
    with pytest.raises(LookupError, match=r"no split 'dev' here; there is: train, val, testA, te"):
        found.of("dev")
    with pytest.raises(ValueError, match=r"ref 7 has the split 'dev'; known are train, val"):
        splits_of("dev", "ref 7")
    assert splits_of("test", "") == ["test"]


def by_the_toolkit(refs, instances, split):
    """What REFER's getRefIds, loadRefs and getRefBox give, as a slow loop over the raw lists."""
    found = []
    for ref in refs:
        if split in ("testA", "testB", "testC"):
            chosen = split[-1] in ref["split"]
        elif split == "test":
            chosen = "test" in ref["split"]
        else:
            chosen = ref["split"] == split
        for sentence in ref["sentences"] if chosen else []:
            [box] = [one["bbox"] for one in instances["annotations"] if one["id"] == ref["ann_id"]]
            found.append((ref["ref_id"], sentence["sent_id"], sentence["sent"], box))
    return found


@pytest.mark.parametrize("dataset", ["refcoco_unc", "refcoco+_unc", "refcocog_umd"])
def test_real_files_agree_with_the_toolkits_rules(dataset):
    if not REAL.is_dir():
        pytest.skip("needs the shared data")
    name, by = DATASETS[dataset]
    refs = json.loads((REAL / name / f"refs({by}).json").read_text(encoding="utf-8"))
    instances = json.loads((REAL / name / "instances.json").read_text(encoding="utf-8"))
    found = read_expressions(REAL, dataset)  # from refs(*).p
    for split in ("train", "val", "testA", "testB", "test"):
        expected = by_the_toolkit(refs, instances, split)
        if not expected:
            assert split not in found.splits
            continue
        rows = sorted(found.of(split), key=lambda row: row["sentence_id"])
        assert [(row["ref_id"], row["sentence_id"], row["expression"]) for row in rows] == sorted(
            (one[:3] for one in expected), key=lambda one: one[1]
        )
        boxes = {number: box for _, number, _, box in expected}
        for row in rows:
            x, y, width, height = boxes[row["sentence_id"]]
            assert row["box"] == [x, y, x + width, y + height]


def test_sizes_are_compared_with_the_published_ones(tmp_path):
    found = read(write_refer(tmp_path))
    assert found.official_counts() == {
        "val": {"found": 1, "published": 10_834},
        "testA": {"found": 1, "published": 5_657},
        "testB": {"found": 2, "published": 5_095},
    }
    google = Expressions("refcocog_google", "refer", {}, found.splits, {})
    assert google.official_counts() == {}


def test_a_pickle_of_python_2(tmp_path):
    # What Python 2 wrote: protocol 0, str as latin-1 bytes.
    write_refer(tmp_path)
    text = (
        b"(lp0\n(dp1\nS'ref_id'\nI3\nsS'ann_id'\nI103\nsS'image_id'\nI43\nsS'category_id'\nI1\n"
        b"sS'split'\nS'val'\nsS'sentences'\n(lp2\n(dp3\nS'sent_id'\nL4L\nsS'sent'\nS'caf\\xe9'\n"
        b"sasa."
    )
    assert pickle.loads(text, encoding="latin1")[0]["sentences"][0]["sent"] == "café"
    (tmp_path / "refs(unc).p").write_bytes(text)
    assert [row["expression"] for row in read(tmp_path).splits["val"]] == ["café"]


class Exploit:
    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_that_runs_code_is_refused_and_runs_nothing(tmp_path, protocol):
    mark = tmp_path / "mark"
    refs = [*copy.deepcopy(REFS), Exploit(f"touch '{mark}'")]
    write_refer(tmp_path, refs=refs, protocol=protocol)
    with pytest.raises(RefusedPickleError, match=r"refs\(unc\)\.p asks for .*system.*was refused"):
        read(tmp_path)
    assert not mark.exists()
    pickle.loads((tmp_path / "refs(unc).p").read_bytes())  # the exploit is real
    assert mark.exists()


def change(refs=None, instances=None):
    """Deep copies of the lists, changed by two functions."""
    lists = copy.deepcopy(REFS), copy.deepcopy(INSTANCES)
    for function, content in zip((refs, instances), lists, strict=True):
        if function:
            function(content)
    return {"refs": lists[0], "instances": lists[1]}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (change(instances=lambda one: one["annotations"].pop(1)),
         r"ref_id 1 is of annotation 101, which .*instances\.json does not have"),
        (change(instances=lambda one: one["images"].pop(1)),
         r"ref_id 2 is of image 43, which .*instances\.json does not have; give the two files"),
        (change(instances=lambda one: one["categories"].pop(0)),
         r"ref_id 2 is of category 1, which"),
        (change(refs=lambda one: one[1].update(image_id=43)),
         r"ref_id 1 is of image 43, but its annotation 101 is of image 42 in .*instances\.json"),
        (change(refs=lambda one: one[3]["sentences"][0].update(sent_id=0)),
         r"ref_id 3: sent_id 0 occurs twice"),
        (change(refs=lambda one: one[2].update(split="dev")),
         r"ref_id 2 has the split 'dev'; known are train"),
        (change(refs=lambda one: one[2].pop("ann_id")),
         r"refs\(unc\)\.p: reference 2 needs 'ann_id' of type int, got None"),
        (change(refs=lambda one: one[0]["sentences"][1].pop("sent")),
         r"a sentence of ref_id 0 needs 'sent' of type str"),
        (change(instances=lambda one: one["annotations"][0].update(bbox=[1, 2, 3])),
         r"annotation 100 has the box \[1, 2, 3\]; wanted \[x, y, width, height\]"),
        (change(instances=lambda one: one["annotations"][0].update(bbox=[1, 2, -3, 4])),
         r"annotation 100 has the box .*negative"),
        (change(instances=lambda one: one.pop("images")),
         r"instances\.json needs the lists images, annotations, categories"),
    ],
)  # fmt: skip
def test_files_that_do_not_fit_together_are_named(tmp_path, changed, message):
    write_refer(tmp_path, **changed)
    with pytest.raises(ValueError, match=message):
        read(tmp_path)


def test_a_file_that_is_no_list_of_references(tmp_path):
    (tmp_path / "refs(unc).p").write_bytes(pickle.dumps({"refs": []}))
    with pytest.raises(ValueError, match=r"refs\(unc\)\.p holds a dict, not a list"):
        read_refs(tmp_path / "refs(unc).p")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("refcocog_umd", ["refcocog_umd"]),
        ("unc", ["refcoco_unc"]),
        ("unc+", ["refcoco+_unc"]),
        ("gref", ["refcocog_google"]),
        ("gref_umd", ["refcocog_umd"]),
        ("refcocoplus-unc", ["refcoco+_unc"]),
        ("RefCOCO+", ["refcoco+_unc"]),
        ("refcocog", ["refcocog_umd", "refcocog_google"]),
        ("refcoco", ["refcoco_unc", "refcoco_google"]),
    ],
)
def test_names_of_the_field(name, expected):
    assert datasets_named(name) == expected


def test_an_unknown_name():
    with pytest.raises(
        ValueError, match=r"unknown data set 'flickr'; choose from: refcoco_unc.*gr"
    ):
        datasets_named("flickr")


def test_a_reference_without_sentences_gives_no_rows():
    refs = [{**REFS[0], "sentences": []}]
    lists = [INSTANCES[kind] for kind in ("images", "annotations", "categories")]
    splits, *_ = join_refs(refs, *lists, Path("refs"), Path("instances"))
    assert splits == {"train": []}
