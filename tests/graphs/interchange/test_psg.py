import json
from collections import Counter

import pytest

from tbkin.graphs.interchange import read_graphs
from tbkin.graphs.interchange.psg import read_psg

ENTRY = {
    "image_id": "107902",
    "file_name": "train2017/000000107902.jpg",
    "width": 100,
    "height": 50,
    "pan_seg_file_name": "panoptic_train2017/000000107902.png",
    "annotations": [
        {"bbox": [60, 10, 90, 40], "bbox_mode": 0, "category_id": 0, "iscrowd": 0},
        {"bbox": [0, 0, 100, 50], "bbox_mode": 0, "category_id": 2, "iscrowd": 0},
    ],
    "segments_info": [
        {"id": 3226956, "category_id": 0, "iscrowd": 0, "isthing": 1, "area": 70},
        {"id": 6979964, "category_id": 2, "iscrowd": 0, "isthing": 0, "area": 90},
    ],
    "relations": [[0, 1, 1], [1, 0, 0]],
}


def write(tmp_path, *entries, first=False, **changes):
    """``first``: the names stand before the pictures."""
    names = {
        "thing_classes": ["person", "dog"],
        "stuff_classes": ["grass-merged"],
        "predicate_classes": ["over", "standing on"],
        "test_image_ids": ["5"],
        **changes,
    }
    data = {"data": list(entries) or [ENTRY]}
    path = tmp_path / "psg.json"
    path.write_text(json.dumps({**names, **data} if first else {**data, **names}))
    return path


def with_boxes(boxes, modes):
    annotations = [
        {**old, "bbox": box} | ({} if mode is None else {"bbox_mode": mode})
        for old, box, mode in zip(ENTRY["annotations"], boxes, modes, strict=True)
    ]
    for one, mode in zip(annotations, modes, strict=True):
        if mode is None:
            del one["bbox_mode"]
    return {**ENTRY, "annotations": annotations}


def read(path, **options):
    counts = Counter()
    return list(read_psg(path, counts, **options)), +counts


@pytest.mark.parametrize("first", [False, True])
def test_things_come_before_stuff_and_all_count_from_zero(tmp_path, first):
    (regions,), counts = read(write(tmp_path, first=first))
    assert regions.labels == ["person", "grass-merged"]
    assert regions.boxes.tolist() == [[60, 10, 90, 40], [0, 0, 100, 50]]
    assert regions.relations == [(0, "standing on", 1, 1.0), (1, "over", 0, 1.0)]
    assert (regions.image_id, regions.width, regions.height) == ("107902", 100, 50)
    assert counts == {}
    (graph,) = read_graphs(tmp_path / "psg.json")
    assert [edge.predicate for edge in graph.edges] == ["standing on", "over"]


def test_each_mode_is_converted(tmp_path):
    sized = with_boxes([[60, 10, 30, 30], [0, 0, 100, 50]], [1, 1])
    (regions,), _ = read(write(tmp_path, sized))
    assert regions.boxes.tolist() == [[60, 10, 90, 40], [0, 0, 100, 50]]


@pytest.mark.parametrize(
    ("boxes", "modes", "message"),
    [
        # Corners cannot run from 60 to 30; as width and height 30 fits.
        ([[60, 10, 30, 30], [0, 0, 9, 9]], [0, 0], r"box 0, .* as xyxy, .* box_format=xywh"),
        # 60 + 90 leaves 100 pixels; as corners it fits.
        ([[60, 10, 90, 40], [0, 0, 9, 9]], [1, 1], r"box 0, .* as xywh, .* box_format=xyxy"),
        (
            [[60, 10, 90, 40], [0, 0, 9, 9]],
            [None, None],
            r"the file does not say what its boxes are\. Say",
        ),
        ([[60, 10, 90, 40], [0, 0, 9, 9]], [0, 1], r"boxes of several modes"),
        ([[60, 10, 90, 40], [0, 0, 9, 9]], [3, 3], r"bbox_mode 3 is not one of 0 \(xyxy\)"),
    ],
)
def test_boxes_that_are_not_what_the_mode_says(tmp_path, boxes, modes, message):
    path = write(tmp_path, with_boxes(boxes, modes))
    with pytest.raises(ValueError, match=r"psg\.json, picture 107902: " + message):
        read(path)
    asked = "xywh" if boxes[0][2] == 30 else "xyxy"
    (regions,), _ = read(path, box_format=asked)
    assert regions.boxes[0].tolist() == [60, 10, 90, 40]


def test_splits(tmp_path):
    path = write(tmp_path, ENTRY, {**ENTRY, "image_id": 5})
    assert [regions.image_id for regions in read(path)[0]] == ["107902", "5"]
    assert [regions.image_id for regions in read(path, split="train")[0]] == ["107902"]
    assert [regions.image_id for regions in read(path, split="test")[0]] == ["5"]
    with pytest.raises(ValueError, match="unknown split 'val'; choose from: all, test, train"):
        read(path, split="val")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"relations": [[0, 1, 2]]}, r"picture 107902: predicate 2 of 2; they count from 0"),
        ({"relations": [[0, 2, 1]]}, r"relation 'standing on' points to box 2 of 2"),
        ({"segments_info": ENTRY["segments_info"][::-1]}, r"do not list the same classes"),
        ({"segments_info": ENTRY["segments_info"][:1]}, r"do not list the same classes"),
        (
            {
                "segments_info": [],
                "annotations": [{"bbox": [0, 0, 9, 9], "bbox_mode": 0, "category_id": 3}] * 2,
            },
            r"class 3 of 3",
        ),
        ({"width": None}, r"entry 0 of data: not laid out"),
    ],
)
def test_numbers_that_point_nowhere(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        read(write(tmp_path, {**ENTRY, **changes}))


def test_a_file_without_names(tmp_path):
    path = tmp_path / "psg.json"
    path.write_text(json.dumps({"data": [ENTRY]}))
    with pytest.raises(ValueError, match=r"psg\.json: not laid out .*thing_classes"):
        read(path)


def test_a_picture_without_objects(tmp_path):
    empty = {**ENTRY, "annotations": [], "segments_info": [], "relations": []}
    (regions,), _ = read(write(tmp_path, empty))
    assert len(regions) == 0
