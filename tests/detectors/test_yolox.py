import json
import math
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from tbkin.detectors.coco_labels import COCO_LABELS
from tbkin.detectors.pixels import open_picture
from tbkin.detectors.yolox import OnnxDetector
from tbkin.files import file_hash

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
YOLOX = SHARED / "models" / "yolox_nano.onnx"
real = pytest.mark.skipif(not YOLOX.is_file(), reason="no real detector here")
SIDE = 32  # of the network's input: 4 x 4 cells of stride 8, 2 x 2 of 16, 1 of 32
CELLS = 16 + 4 + 1
LABELS = ["cat", "dog"]


def row(stride, column, line):
    """Place of a cell among the rows: stride by stride, row by row."""
    start = {8: 0, 16: 16, 32: 20}[stride]
    return start + line * (SIDE // stride) + column


def write_network(path, cells, classes=2, output=(1, CELLS), inputs=(1, 3, SIDE, SIDE), maps=True):
    """A network in YOLOX's layout whose rows are ``cells`` whatever it sees.

    Its maps are block means of the input: "fine" (stride 8, 3 channels), and of stride 16 "narrow"
    (3) and "wide" (6 channels: all twice).
    """
    rows = np.zeros((*output, 5 + classes), dtype=np.float32)
    for place, values in cells.items():
        rows[0, place] = values
    make, kind = onnx.helper.make_node, onnx.TensorProto.FLOAT
    nodes = [
        make("AveragePool", ["images"], ["fine"], kernel_shape=[8, 8], strides=[8, 8]),
        make("AveragePool", ["images"], ["narrow"], kernel_shape=[16, 16], strides=[16, 16]),
        make("Concat", ["narrow", "narrow"], ["wide"], axis=1),
    ]
    if not maps:
        nodes = [make("Identity", ["images"], ["wide"])]
    nodes += [
        make("ReduceMean", ["wide"], ["mean"], keepdims=0),
        make("Mul", ["mean", "zero"], ["nothing"]),
        make("Add", ["rows", "nothing"], ["output"]),
    ]
    constants = [
        onnx.numpy_helper.from_array(rows, "rows"),
        onnx.numpy_helper.from_array(np.zeros((), dtype=np.float32), "zero"),
    ]
    graph = onnx.helper.make_graph(
        nodes,
        "tiny",
        [onnx.helper.make_tensor_value_info("images", kind, list(inputs))],
        [onnx.helper.make_tensor_value_info("output", kind, list(rows.shape))],
        constants,
    )
    versions = [onnx.helper.make_opsetid("", 13)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=versions, ir_version=8), str(path))
    return path


@pytest.fixture
def detect(tmp_path):
    """``detect(cells, size, **settings) -> Regions`` of a grey picture."""

    def run(cells, size=(64, 32), colour=(128, 128, 128), **settings):
        path = write_network(tmp_path / "tiny.onnx", cells)
        detector = OnnxDetector(path, labels=LABELS, **settings)
        return detector(Image.new("RGB", size, colour), "7")

    return run


def test_a_row_is_decoded_as_worked_by_hand(detect):
    # A picture of 64 x 32 is halved to 32 x 16. The cell of stride 16 in column 1, row 0, with
    # offset (0.5, 0.25) has its centre at (24, 4); log sizes 0 and log 0.5 are 16 and 8 pixels, so
    # the box is 16 0 32 8, in the picture 32 0 64 16. Score: 0.8 x 0.9.
    cells = {row(16, 1, 0): [0.5, 0.25, 0, math.log(0.5), 0.8, 0.1, 0.9]}
    regions = detect(cells)
    assert regions.boxes.tolist() == [pytest.approx([32, 0, 64, 16])]
    assert regions.labels == ["dog"]
    assert regions.scores == [pytest.approx(0.72)]
    assert (regions.width, regions.height, regions.image_id) == (64, 32, "7")


@pytest.mark.parametrize(
    ("stride", "column", "line", "expected"),
    [
        (8, 3, 1, [24, 8, 32, 16]),  # the cell itself: centre (28, 12), 8 x 8
        (8, 0, 3, [0, 24, 8, 32]),
        (16, 1, 1, [16, 16, 32, 32]),
        (32, 0, 0, [0, 0, 32, 32]),
    ],
)
def test_every_stride_has_its_rows(detect, stride, column, line, expected):
    regions = detect({row(stride, column, line): [0.5, 0.5, 0, 0, 1, 1, 0]}, size=(SIDE, SIDE))
    assert regions.boxes.tolist() == [pytest.approx(expected)]


def test_boxes_are_cut_to_the_picture_and_those_in_the_padding_go(detect):
    # 64 x 32 fills the upper half of the input. 32 wide and high around (16, 16) of the input is
    # the whole of it, so the whole picture; the cell in row 3 of stride 8 lies in the padding.
    cells = {
        row(32, 0, 0): [0.5, 0.5, 0, 0, 1, 1, 0],
        row(8, 0, 3): [0.5, 0.5, 0, 0, 1, 1, 0],
    }
    assert detect(cells).boxes.tolist() == [[0, 0, 64, 32]]


def test_threshold_is_on_objectness_times_class(detect):
    cells = {row(8, 0, 0): [0.5, 0.5, 0, 0, 0.5, 0.8, 0], row(8, 2, 2): [0.5, 0.5, 0, 0, 0.9, 0, 1]}
    size = (SIDE, SIDE)
    assert detect(cells, size, threshold=0.35).labels == ["dog", "cat"]  # 0.9, 0.4: best first
    assert detect(cells, size, threshold=0.41).labels == ["dog"]
    assert detect(cells, size, threshold=0.95).labels == []


def test_nms_is_class_by_class_and_then_the_best_stay(detect):
    # The same box three times, from the cell itself and from its neighbours with an offset.
    cells = {
        row(8, 1, 1): [0.5, 0.5, 0, 0, 1, 0.9, 0],
        row(8, 2, 1): [-0.5, 0.5, 0, 0, 1, 0.8, 0],
        row(8, 1, 2): [0.5, -0.5, 0, 0, 1, 0, 0.7],
    }
    size = (SIDE, SIDE)
    assert detect(cells, size).labels == ["cat", "dog"]
    assert detect(cells, size, nms=1.0).scores == pytest.approx([0.9, 0.8, 0.7])
    assert detect(cells, size, nms=1.0, max_regions=2).scores == pytest.approx([0.9, 0.8])
    assert detect(cells, size, max_regions=1).labels == ["cat"]


def test_the_network_sees_bgr_in_the_upper_left_and_114_around_it(tmp_path):
    detector = OnnxDetector(write_network(tmp_path / "tiny.onnx", {}), labels=LABELS)
    pixels, scale = detector._prepare(Image.new("RGB", (16, 8), (10, 20, 30)))
    # 16 x 8 becomes 32 x 16: twice.
    assert scale == (2, 2)
    assert pixels.shape == (1, 3, SIDE, SIDE)
    assert pixels[0, :, :16].reshape(3, -1).T.tolist() == [[30, 20, 10]] * (16 * SIDE)
    assert (pixels[0, :, 16:] == 114).all()


def test_features_are_the_pooled_map_of_the_network(detect):
    # Stride 16, twice blue, green, red; the picture fills the input exactly.
    cells = {row(16, 0, 0): [0.5, 0.5, 0, 0, 1, 1, 0]}
    regions = detect(cells, size=(SIDE, SIDE), colour=(10, 20, 30))
    assert regions.features.tolist() == [pytest.approx([30, 20, 10] * 2)]


def test_features_are_of_the_box_and_follow_the_scale(tmp_path):
    # Left half black, right half white, 128 x 64 halved twice to 32 x 16: of the maps of stride 16
    # only the upper row sees the picture. A box within the left half reads black.
    path = write_network(
        tmp_path / "tiny.onnx",
        {
            row(8, 0, 0): [0.5, 0.5, 0, 0, 1, 0.9, 0],  # 0 0 8 8 of the input
            row(8, 3, 0): [0.5, 0.5, 0, 0, 1, 0.8, 0],  # 24 0 32 8
        },
    )
    image = Image.new("RGB", (128, 64))
    image.paste((255, 255, 255), (64, 0, 128, 64))
    regions = OnnxDetector(path, labels=LABELS)(image)
    assert regions.boxes.tolist() == [[0, 0, 32, 32], [96, 0, 128, 32]]
    # Scaling down blurs the border of the halves by a pixel.
    black, white = pytest.approx([0] * 6, abs=4), pytest.approx([255] * 6, abs=4)
    assert regions.features.tolist() == [black, white]


def test_features_of_an_upright_picture(tmp_path):
    # The same upright: 64 x 128 becomes 16 x 32, and the right half of the input is padding.
    cells = {
        row(8, 0, 0): [0.5, 0.5, 0, 0, 1, 0.9, 0],
        row(8, 0, 3): [0.5, 0.5, 0, 0, 1, 0.8, 0],
    }
    path = write_network(tmp_path / "tiny.onnx", cells)
    image = Image.new("RGB", (64, 128))
    image.paste((255, 255, 255), (0, 64, 64, 128))
    regions = OnnxDetector(path, labels=LABELS)(image)
    assert regions.boxes.tolist() == [[0, 0, 32, 32], [0, 96, 32, 128]]
    black, white = pytest.approx([0] * 6, abs=4), pytest.approx([255] * 6, abs=4)
    assert regions.features.tolist() == [black, white]


def test_the_widest_map_of_stride_16_is_taken_or_the_one_named(tmp_path):
    path = write_network(tmp_path / "tiny.onnx", {})
    image = Image.new("RGB", (20, 20))
    auto = OnnxDetector(path, labels=LABELS)
    assert auto.extractor == "tiny.onnx wide 6 roi 7x7 of 2x2"
    assert auto(image).features.shape == (0, 6)  # nothing found: no rows, but as wide as ever
    named = OnnxDetector(path, labels=LABELS, features="fine")
    assert named.extractor.startswith("tiny.onnx fine 3 ")
    assert named(image).features.shape == (0, 3)
    without = OnnxDetector(path, labels=LABELS, features="none")
    assert without.extractor == ""
    assert without(image).features is None
    assert {one.weights for one in (auto, named, without)} == {file_hash(path)}


def test_the_policy_names_all_that_changes_the_boxes(tmp_path):
    path = write_network(tmp_path / "tiny.onnx", {})
    changes = [{}, {"threshold": 0.3}, {"nms": 0.5}, {"max_regions": 9}]
    policies = [OnnxDetector(path, labels=LABELS, **one).policy for one in changes]
    assert policies[0] == "yolox 32x32 threshold 0.35 nms 0.45 class-wise max 36"
    assert len(set(policies)) == 4


@pytest.mark.parametrize(
    "changes",
    [
        {"output": (1, CELLS - 1)},
        {"output": (2, CELLS)},
        {"inputs": (1, 1, SIDE, SIDE)},
        {"inputs": (1, 3, 40, 40)},
        {"inputs": (1, 3, "height", "width")},
    ],
)
def test_another_layout_is_refused_with_what_was_found(tmp_path, changes):
    path = write_network(tmp_path / "other.onnx", {}, **changes)
    shape = "x".join(map(str, changes.get("inputs", (1, 3, SIDE, SIDE))))
    with pytest.raises(
        ValueError, match=r"other\.onnx is not a YOLOX network: it has input"
    ) as told:
        OnnxDetector(path, labels=LABELS)
    assert f"input images {shape}; output output {changes.get('output', (1,))[0]}x" in str(
        told.value
    )
    assert "a row for every cell of strides 8, 16 and 32" in str(told.value)


def test_a_result_of_no_fixed_size_is_refused(tmp_path, monkeypatch):
    path = write_network(tmp_path / "free.onnx", {})
    # onnxruntime works out the sizes of a network as small as this one.
    free = SimpleNamespace(name="output", shape=[1, "cells", 7])
    monkeypatch.setattr("onnxruntime.InferenceSession.get_outputs", lambda self: [free])
    with pytest.raises(ValueError, match=r"is not a YOLOX network: .*output output 1xcellsx7"):
        OnnxDetector(path, labels=LABELS)
    free.shape = [1, CELLS, "scores"]
    with pytest.raises(ValueError, match=r"is not a YOLOX network: .*output output 1x21xscores"):
        OnnxDetector(path, labels=LABELS)


def test_boxes_that_are_pixels_already_are_refused(tmp_path):
    centres = {
        row(stride, column, line): [(column + 0.5) * stride, (line + 0.5) * stride, 9, 9, 0, 0, 0]
        for stride in (8, 16, 32)
        for column in range(SIDE // stride)
        for line in range(SIDE // stride)
    }
    path = write_network(tmp_path / "decoded.onnx", centres)
    with pytest.raises(ValueError, match=r"returns boxes in pixels: .* --decode_in_inference"):
        OnnxDetector(path, labels=LABELS)


def test_labels_must_be_as_many_as_classes(tmp_path):
    path = write_network(tmp_path / "tiny.onnx", {})
    with pytest.raises(ValueError, match=r"tiny\.onnx scores 2 classes, but there are 80 labels"):
        OnnxDetector(path)


def test_a_map_that_is_not_there_is_named(tmp_path):
    path = write_network(tmp_path / "tiny.onnx", {})
    with pytest.raises(ValueError, match=r"no map 'wise' .* its maps are: fine, narrow, wide"):
        OnnxDetector(path, labels=LABELS, features="wise")
    path = write_network(tmp_path / "flat.onnx", {}, maps=False)
    with pytest.raises(ValueError, match=r"no map of stride 16 \(2x2\) .* detector\.source=pixels"):
        OnnxDetector(path, labels=LABELS)
    assert OnnxDetector(path, labels=LABELS, features="none").extractor == ""


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"threshold": 35}, r"detector\.threshold must be in \[0, 1\], got 35"),
        ({"nms": -0.1}, r"detector\.nms must be in \[0, 1\], got -0\.1"),
        ({"max_regions": 0}, r"detector\.max_regions must be at least 1, got 0"),
    ],
)
def test_settings_out_of_range_are_refused(tmp_path, settings, complaint):
    path = write_network(tmp_path / "tiny.onnx", {})
    with pytest.raises(ValueError, match=complaint):
        OnnxDetector(path, labels=LABELS, **settings)


def test_a_missing_or_damaged_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no ONNX detector .*none\.onnx; check"):
        OnnxDetector(tmp_path / "none.onnx")
    (tmp_path / "bad.onnx").write_bytes(b"not a network")
    with pytest.raises(ValueError, match=r"onnxruntime cannot load .*bad\.onnx: "):
        OnnxDetector(tmp_path / "bad.onnx")


@pytest.mark.parametrize("library", ["onnxruntime", "onnx"])
def test_a_missing_library_names_the_extra(tmp_path, monkeypatch, library):
    path = write_network(tmp_path / "tiny.onnx", {})
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ImportError, match=r"pip install 'tbkin\[onnx\]'"):
        OnnxDetector(path, labels=LABELS)


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (500, 1), (31, 33)])
def test_odd_pictures_have_regions_inside_them(detect, size):
    cells = {row(8, c, r): [0.4, 0.6, 1, -1, 1, 1, 0] for c in range(4) for r in range(4)}
    regions = detect(cells, size=size)  # Regions checks that boxes lie within
    assert (regions.width, regions.height) == size


def test_the_labels_are_coco_s_eighty():
    assert len(set(COCO_LABELS)) == 80
    assert (COCO_LABELS[0], COCO_LABELS[15], COCO_LABELS[79]) == ("person", "cat", "toothbrush")


@real
def test_the_labels_are_in_the_order_of_the_official_file():
    path = SHARED / "real_mini" / "annotations" / "instances_mini2017.json"
    if not path.is_file():
        pytest.skip("no official categories here")
    categories = json.loads(path.read_text(encoding="utf-8"))["categories"]
    assert [entry["name"] for entry in categories if entry["id"]] == list(COCO_LABELS)


@real
def test_a_real_network_finds_what_the_annotators_found():
    truth = json.loads(
        (SHARED / "real_mini/annotations/instances_mini2017.json").read_text(encoding="utf-8")
    )
    index = json.loads((SHARED / "real_mini/index.json").read_text(encoding="utf-8"))
    files = {entry["image_id"]: SHARED / "real_mini" / entry["file"] for entry in index}
    names = {entry["id"]: entry["name"] for entry in truth["categories"]}
    detector = OnnxDetector(YOLOX, threshold=0.5)
    assert detector.extractor.startswith("yolox_nano.onnx input.371 256 ")
    right = found = 0
    for entry in truth["images"][:12]:
        regions = detector(open_picture(files[entry["id"]]), str(entry["id"]))
        assert regions.features.shape == (len(regions), 256)
        own = [one for one in truth["annotations"] if one["image_id"] == entry["id"]]
        for box, label in zip(regions.boxes, regions.labels, strict=True):
            found += 1
            right += any(
                names[one["category_id"]] == label and overlap(box.tolist(), one["bbox"]) > 0.5
                for one in own
            )
    assert found > 20
    assert right / found > 0.7  # boxes of a wrong decoding would agree with hardly any


def overlap(box, xywh):
    left, top, wide, high = xywh
    across = min(box[2], left + wide) - max(box[0], left)
    down = min(box[3], top + high) - max(box[1], top)
    shared = max(across, 0) * max(down, 0)
    return shared / ((box[2] - box[0]) * (box[3] - box[1]) + wide * high - shared)


@real
def test_the_same_picture_gives_the_same_regions():
    pixels = np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)
    picture, other = Image.fromarray(pixels), Image.new("RGB", (50, 80))
    detector = OnnxDetector(YOLOX, threshold=0.01)
    first = detector(picture)
    detector(other)
    again = detector(picture)
    assert len(first) > 0
    assert torch.equal(first.boxes, again.boxes)
    assert torch.equal(first.features, again.features)
