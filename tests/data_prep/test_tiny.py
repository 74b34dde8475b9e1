import hashlib
import json
import pickletools

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

import data_prep.tiny
from data_prep.tiny import main
from tbkin.config import run_command

IMAGES = 20


def draw(folder, **settings):
    words = [f"{name}={value}" for name, value in {"images": IMAGES, **settings}.items()]
    main([f"output={folder}", *words])
    return folder


def hashes(folder):
    """Name -> hash of every file."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def read(folder, name):
    return json.loads((folder / name).read_text())


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return draw(tmp_path_factory.mktemp("world") / "tiny")


def test_the_layout_is_the_official_one(world):
    splits = ("train2014", "val2014", "test2015")
    assert {name for name in hashes(world) if not name.startswith("images/")} == {
        "tiny.json",
        "karpathy/dataset_coco.json",
        "karpathy/true_of.json",
        "refer/refcoco/refs(unc).p",
        "refer/refcoco/refs(unc).json",
        "refer/refcoco/instances.json",
        *(f"visual_genome/{name}.json" for name in ("image_data", "objects", "attributes")),
        *(f"visual_genome/{name}.json" for name in ("relationships", "scene_graphs")),
        *(f"vqa/v2_OpenEnded_mscoco_{split}_questions.json" for split in splits),
        *(f"vqa/v2_mscoco_{split}_annotations.json" for split in splits),
        *(f"annotations/instances_{split}.json" for split in splits),
        *(f"annotations/captions_{split}.json" for split in splits),
        *(f"detections/detections_{split}.json" for split in splits),
    }
    assert (world / "images/val2014/COCO_val2014_000000200002.jpg").is_file()


def test_same_settings_same_bytes_wherever_they_are_written(world, tmp_path):
    assert hashes(draw(tmp_path / "elsewhere" / "again")) == hashes(world)


@pytest.mark.parametrize(
    ("name", "signature"),
    [
        ("karpathy/dataset_coco.json", "1551cd8224cac64499b7ad560dabe594"),
        ("refer/refcoco/refs(unc).json", "fd4bbc26c0a0f6609a94f0a616775463"),
        ("visual_genome/scene_graphs.json", "07593e2cbef01362c8c2545cbe7f55b2"),
        ("vqa/v2_mscoco_train2014_annotations.json", "8fba6e03e74b84fcdca9acb46e22b39b"),
    ],
)
def test_the_default_world_stays_what_it_is(world, name, signature):
    # Written down when the world had no dials for retrieval: figures measured then stay valid.
    assert hashes(world)[name].startswith(signature)


def test_another_seed_is_another_world(world, tmp_path):
    first, other = hashes(world), hashes(draw(tmp_path / "other", seed=1))
    same = [name for name in first if first[name] == other[name]]
    # Ids and sizes only; of two pictures a split, each caption is true of its own alone.
    assert same == ["karpathy/true_of.json", "visual_genome/image_data.json"]


def test_dials_change_the_detector_only(world, tmp_path):
    noisy = draw(
        tmp_path / "noisy",
        wrong_labels=0.5,
        jitter=5,
        box_noise=0.3,
        false_boxes=1,
        missed_boxes=0.3,
        distractors=1,
        spurious_edges=1,
    )
    first, other = hashes(world), hashes(noisy)
    changed = {name for name in first if first[name] != other[name]}
    splits = ("train2014", "val2014", "test2015")
    assert changed == {"tiny.json", *(f"detections/detections_{split}.json" for split in splits)}


def test_a_larger_world_begins_with_the_smaller_one(world, tmp_path):
    larger = hashes(draw(tmp_path / "larger", images=2 * IMAGES))
    smaller = {name: value for name, value in hashes(world).items() if name.startswith("images/")}
    assert smaller.items() <= larger.items()


def test_splits_share_no_picture(world):
    files = list((world / "images").rglob("*.jpg"))
    assert len(files) == IMAGES
    assert len({hashlib.sha256(path.read_bytes()).digest() for path in files}) == IMAGES
    ids = [
        {image["id"] for image in read(world, f"annotations/instances_{split}.json")["images"]}
        for split in ("train2014", "val2014", "test2015")
    ]
    assert [len(split) for split in ids] == [16, 2, 2]
    assert len(set.union(*ids)) == IMAGES


def test_objects_are_drawn_where_the_files_say(world):
    truth = {
        entry["image_id"]: entry["attributes"]
        for entry in read(world, "visual_genome/attributes.json")
    }
    instances = read(world, "annotations/instances_train2014.json")
    main_colors = {"red": 0, "green": 1, "blue": 2}
    checked = 0
    for image in instances["images"]:
        path = world / "images" / "train2014" / image["file_name"]
        pixels = np.asarray(Image.open(path)).astype(int)
        assert pixels.shape == (120, 160, 3)
        for thing in truth[image["id"]]:
            color = thing["attributes"][0]
            middle = pixels[thing["y"] + thing["h"] // 2, thing["x"] + thing["w"] // 2]
            assert middle.min() < 120, "an object is darker than the background"
            if color in main_colors:
                assert middle.argmax() == main_colors[color]
                checked += 1
        assert pixels[:3].min() > 180, "the border shows background"
    assert checked > 10


def test_boxes_lie_in_the_picture_and_keep_apart(world):
    for entry in read(world, "visual_genome/objects.json"):
        boxes = [(o["x"], o["y"], o["x"] + o["w"], o["y"] + o["h"]) for o in entry["objects"]]
        assert 4 <= len(boxes) <= 9
        for number, (left, top, right, bottom) in enumerate(boxes):
            assert left >= 3
            assert top >= 3
            assert right <= 157
            assert bottom <= 117
            for other in boxes[:number]:
                apart_x = max(other[0] - right, left - other[2])
                apart_y = max(other[1] - bottom, top - other[3])
                assert max(apart_x, apart_y) >= 3


def test_pycocotools_opens_the_instances_and_the_detections(world):
    coco = COCO(str(world / "annotations/instances_val2014.json"))
    assert [row["name"] for row in coco.loadCats(coco.getCatIds())] == [
        *("circle", "square", "triangle", "star", "cross")
    ]
    for annotation in coco.loadAnns(coco.getAnnIds()):
        inside = coco.annToMask(annotation).sum()
        assert inside == pytest.approx(annotation["area"], rel=0.15)
        if annotation["category_id"] == 2:  # a square fills its box
            assert annotation["area"] == annotation["bbox"][2] * annotation["bbox"][3]
    detections = read(world, "detections/detections_val2014.json")["annotations"]
    assert len(coco.loadRes(detections).getAnnIds()) == len(detections)


def test_the_pickle_holds_plain_types_and_equals_its_json(world):
    stored = (world / "refer/refcoco/refs(unc).p").read_bytes()
    opcodes = {opcode.name for opcode, _, _ in pickletools.genops(stored)}
    calls = {"GLOBAL", "STACK_GLOBAL", "REDUCE", "BUILD", "INST", "OBJ", "NEWOBJ", "NEWOBJ_EX"}
    assert not opcodes & (calls | {"EXT1", "EXT2", "EXT4", "PERSID", "BINPERSID"})
    assert stored[:2] == b"\x80\x02"
    assert plain(stored) == read(world, "refer/refcoco/refs(unc).json")


def plain(stored):
    """Read a pickle of lists, dicts, strings and ints without running it."""
    stack, marks, memo = [], [], {}
    for opcode, value, _ in pickletools.genops(stored):
        name = opcode.name
        if name in ("EMPTY_LIST", "EMPTY_DICT"):
            stack.append([] if name == "EMPTY_LIST" else {})
        elif name in ("BINUNICODE", "BININT", "BININT1", "BININT2"):
            stack.append(value)
        elif name in ("BINPUT", "LONG_BINPUT"):
            memo[value] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(memo[value])
        elif name == "MARK":
            marks.append(len(stack))
        elif name in ("APPENDS", "SETITEMS"):
            items = stack[marks[-1] :]
            del stack[marks.pop() :]
            if name == "APPENDS":
                stack[-1].extend(items)
            else:
                stack[-1].update(zip(items[::2], items[1::2], strict=True))
        elif name == "APPEND":
            stack[-2].append(stack.pop())
        else:
            assert name in ("PROTO", "STOP"), name
    return stack.pop()


def test_karpathy_lists_the_captions_of_the_coco_files(world):
    coco = {
        caption["id"]: (caption["image_id"], caption["caption"])
        for split in ("train2014", "val2014", "test2015")
        for caption in read(world, f"annotations/captions_{split}.json")["annotations"]
    }
    images = read(world, "karpathy/dataset_coco.json")["images"]
    karpathy = {
        sentence["sentid"]: (image["cocoid"], sentence["raw"])
        for image in images
        for sentence in image["sentences"]
    }
    assert karpathy == coco
    assert len(coco) == 5 * IMAGES
    assert [image["split"] for image in images] == ["train"] * 16 + ["val"] * 2 + ["test"] * 2
    assert all((world / "images" / i["filepath"] / i["filename"]).is_file() for i in images)


def test_the_record_counts_and_signs_the_files(world):
    record = read(world, "tiny.json")
    assert record["schema"] == "tbkin.tiny/1"
    assert "output" not in record["settings"]
    assert record["counts"]["val2014"]["pictures"] == 2
    assert record["counts"]["train2014"]["questions"] == 160
    lines = (f"{name} {value}\n" for name, value in hashes(world).items() if name != "tiny.json")
    # Path order: by parts, which is not the order of the joined names.
    lines = sorted(lines, key=lambda line: line.split()[0].split("/"))
    assert record["sha256"] == hashlib.sha256("".join(lines).encode()).hexdigest()


def test_what_is_there_is_kept(tmp_path, capsys):
    folder = draw(tmp_path / "tiny", images=10)
    marker = folder / "marker"
    marker.touch()
    capsys.readouterr()
    draw(folder, images=10)
    assert "is there" in capsys.readouterr().out
    assert marker.exists()
    draw(folder, images=10, overwrite="true")
    assert not marker.exists()


def test_other_settings_need_overwrite(tmp_path):
    folder = draw(tmp_path / "tiny", images=10)
    before = hashes(folder)
    with pytest.raises(ValueError, match=r"seed=0, not 1.*overwrite=true"):
        draw(folder, images=10, seed=1)
    assert hashes(folder) == before
    draw(folder, images=10, seed=1, overwrite="true")
    assert read(folder, "tiny.json")["settings"]["seed"] == 1
    assert [path.name for path in tmp_path.iterdir()] == ["tiny"]


def test_a_folder_that_is_no_tiny_world_is_never_replaced(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(ValueError, match=r"no tiny world .*choose another output="):
        draw(tmp_path, images=10, overwrite="true")
    assert (tmp_path / "thesis.tex").exists()


@pytest.mark.parametrize("exists", [False, True])
def test_an_interrupted_run_leaves_nothing_half_written(tmp_path, monkeypatch, exists):
    folder = tmp_path / "tiny"
    before = hashes(draw(folder, images=10)) if exists else {}

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(data_prep.tiny, "write_files", interrupt)
    with pytest.raises(KeyboardInterrupt):
        draw(folder, images=10, seed=1, overwrite="true")
    assert hashes(folder) == before
    assert [path.name for path in tmp_path.iterdir()] == (["tiny"] if exists else [])


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("wrong_labels=2.0", r"wrong_labels must be in \[0, 1\], got 2.0\."),
        ("missed_boxes=-0.1", r"missed_boxes must be in \[0, 1\], got -0.1\."),
        ("images=9", r"images must be in \[10, 200000\], got 9\."),
        ("questions_per_image=0", r"questions_per_image must be in \[1, 100\], got 0\."),
        ("jitter=-1", r"jitter must be >= 0, got -1.0\."),
        ("jitter=nan", r"jitter must be >= 0, got nan\."),
        ("false_boxes=inf", r"false_boxes must be finite, got inf\."),
        ("seed=-1", r"seed must be >= 0, got -1\."),
        ("test_images=-1", r"test_images must be in \[0, 100000\], got -1\."),
        ("near_duplicates=1", r"near_duplicates must be in \[0, 0.9\], got 1.0\."),
        ("identities=0", r"identities must be in \[1, 100\], got 0\."),
        ("distractor=1", r"did you mean 'distractors'"),
    ],
)
def test_wrong_settings_fail_before_anything_is_written(tmp_path, word, message):
    with pytest.raises(ValueError, match=message):
        main([f"output={tmp_path / 'tiny'}", word])
    assert not list(tmp_path.iterdir())


def test_changed_scenes_and_identities_exclude_one_another(tmp_path):
    with pytest.raises(ValueError, match=r"near_duplicates=0.5 and identities=3 exclude .*one of"):
        main([f"output={tmp_path / 'tiny'}", "near_duplicates=0.5", "identities=3"])
    assert not list(tmp_path.iterdir())


def test_help_lists_the_dials(capsys):
    assert run_command(main, ["--help"]) == 0
    shown = capsys.readouterr().out
    assert "python -m data_prep tiny" in shown
    assert "spurious_edges" in shown
