import json
from collections import Counter

import pytest
from PIL import Image

from tbkin.graphs.interchange import read_graphs
from tbkin.graphs.interchange.benchmark_predictions import (
    image_id_of,
    read_benchmark_predictions,
    resized_size,
)

# The picture is 400 x 300; the network saw 800 x 600. Boxes are twice as large as in the picture.
INFO = {
    "idx_to_files": ["/home/them/COCO_val2014_000000000042.png"],
    "ind_to_classes": ["__background__", "dog", "man"],
    "ind_to_predicates": ["__background__", "on", "holding"],
}
PREDICTION = {
    "bbox": [[20, 40, 100, 200], [400, 100, 800, 600], [0, 0, 10, 10]],
    "bbox_labels": [1, 2, 1],
    "bbox_scores": [0.9, 0.75, 0.1],
    "rel_pairs": [[1, 0], [0, 1], [2, 1]],
    "rel_labels": [2, 1, 1],
    "rel_scores": [0.5, 0.25, 0.8],
    "rel_all_scores": [[0.1, 0.2, 0.5]] * 3,
}


@pytest.fixture
def folder(tmp_path):
    Image.new("RGB", (400, 300)).save(tmp_path / "COCO_val2014_000000000042.png")
    return write(tmp_path)


def write(folder, prediction=PREDICTION, info=INFO, **changes):
    (folder / "custom_prediction.json").write_text(json.dumps({"0": {**prediction, **changes}}))
    (folder / "custom_data_info.json").write_text(json.dumps(info))
    return folder


def read(folder, **options):
    counts = Counter()
    options = {"images": str(folder), **options}
    return next(read_benchmark_predictions(folder, counts, **options)), +counts


def test_boxes_go_back_to_the_pictures_own_pixels(folder):
    regions, counts = read(folder)
    assert (regions.image_id, regions.width, regions.height) == ("42", 400, 300)
    assert regions.boxes.tolist() == [[10, 20, 50, 100], [200, 50, 400, 300], [0, 0, 5, 5]]
    assert regions.labels == ["dog", "man", "dog"]
    assert regions.scores == [0.9, 0.75, 0.1]
    assert regions.relations == [
        (1, "holding", 0, 0.5),
        (0, "on", 1, 0.25),
        (2, "on", 1, 0.8),
    ]
    assert counts == {}
    (graph,) = read_graphs(folder, images=str(folder))  # the format is seen by the file's name
    assert [node.label for node in graph.nodes] == ["dog", "man", "dog"]


def test_thresholds_drop_and_count(folder):
    regions, counts = read(folder, min_box_score=0.5, min_relation_score=0.3)
    assert regions.labels == ["dog", "man"]
    assert regions.relations == [(1, "holding", 0, 0.5)]
    assert counts == {
        "boxes below min_box_score dropped": 1,
        "relations below min_relation_score dropped": 1,
        "relations of dropped boxes dropped": 1,
    }
    regions, counts = read(folder, max_relations=1)
    assert regions.relations == [(2, "on", 1, 0.8)]
    assert counts == {"relations beyond max_relations dropped": 2}
    with pytest.raises(ValueError, match=r"min_box_score: a score must be in \[0, 1\], got 50"):
        read(folder, min_box_score=50)


@pytest.mark.parametrize(
    ("size", "seen"),
    [
        ((400, 300), (800, 600)),  # the shorter side to 600
        ((300, 400), (600, 800)),
        ((600, 900), (600, 900)),  # as it is
        ((640, 480), (800, 600)),
        ((500, 333), (900, 600)),  # 600 * 500 / 333 = 900.9, cut
        ((1000, 300), (1000, 300)),  # 600 would make 2000: round(1000 * 300 / 1000) = 300
        ((1280, 500), (1000, 391)),  # round(1000 * 500 / 1280) = 391; 391 * 1280 / 500 = 1000.96
        ((333, 1000), (333, 1000)),
    ],
)
def test_the_rule_of_resizing(size, seen):
    assert resized_size(*size, 600, 1000) == seen


def test_boxes_of_the_original_picture_need_a_word(folder):
    write(folder, bbox=[[20, 40, 100, 200], [200, 50, 400, 300], [0, 0, 10, 10]])
    regions, _ = read(folder, boxes="original")
    assert regions.boxes[1].tolist() == [200, 50, 400, 300]
    write(folder, bbox=[[20, 40, 100, 200], [400, 100, 800, 600], [0, 0, 10, 10]])
    with pytest.raises(
        ValueError,
        match=r"picture 0 \(COCO_val2014_000000000042\.png\), box 1: .* is no xyxy box of the "
        r"original picture of 400 x 300 pixels .* say boxes=resized; .*min_side= and max_side=",
    ):
        read(folder, boxes="original")


def test_boxes_that_leave_the_resized_picture_are_an_error(folder):
    write(folder, bbox=[[20, 40, 100, 200], [400, 100, 1300, 600], [0, 0, 10, 10]])
    with pytest.raises(ValueError, match=r"box 1: .*resized picture of 800 x 600 .*boxes=original"):
        read(folder)
    # Another network: 400 x 300 -> 1333 x 1000.
    regions, _ = read(folder, min_side=1000, max_side=1400)
    assert regions.boxes[1].tolist() == pytest.approx([120, 30, 390.1, 180], abs=0.1)
    write(folder, bbox=[[100, 40, 20, 200]] * 3)  # corners do not run backwards
    with pytest.raises(ValueError, match=r"box 0: \[100\.0, 40\.0, 20\.0, 200\.0\] is no xyxy box"):
        read(folder)


def test_sizes_from_a_file_or_an_error(folder, tmp_path):
    sizes = tmp_path / "sizes.json"
    sizes.write_text(json.dumps({"COCO_val2014_000000000042.png": [400, 300]}))
    regions, _ = read(folder, images="", sizes=str(sizes))
    assert regions.boxes[0].tolist() == [10, 20, 50, 100]
    with pytest.raises(FileNotFoundError, match=r"000042\.png, whose size is needed.*images=DIR"):
        read(folder, images="")
    sizes.write_text("{}")
    with pytest.raises(ValueError, match=r"sizes\.json does not list the picture COCO_val2014"):
        read(folder, sizes=str(sizes))
    sizes.write_text("[1]")
    with pytest.raises(ValueError, match=r"sizes\.json is not a table of sizes"):
        read(folder, sizes=str(sizes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"bbox_labels": [1, 2, 3]}, r"picture 0: .*class 3 of 3"),
        ({"rel_labels": [2, 1, 7]}, r"picture 0: .*predicate 7 of 3"),
        ({"rel_pairs": [[1, 0], [0, 1], [3, 1]]}, r"relation between boxes 3 and 1"),
        ({"bbox_scores": [0.9, 7.0, 0.1]}, r"box 1: a score must be in \[0, 1\], got 7\.0"),
        ({"bbox_scores": [0.9]}, r"picture 0: not laid out"),
        ({"rel_labels": [2]}, r"zip"),
    ],
)
def test_other_layouts_are_named(folder, changes, message):
    write(folder, **changes)
    with pytest.raises(ValueError, match=message):
        read(folder)


def test_names_may_be_a_table(folder):
    table = {str(place): name for place, name in enumerate(INFO["ind_to_classes"])}
    write(folder, info={**INFO, "ind_to_classes": table})
    assert read(folder)[0].labels == ["dog", "man", "dog"]
    (folder / "custom_data_info.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"custom_data_info\.json: .*info=FILE"):
        read(folder)
    with pytest.raises(ValueError, match="unknown boxes 'small'; choose from: original, resized"):
        read(folder, boxes="small")


def test_ids_of_pictures():
    assert image_id_of("a/COCO_val2014_000000000042.jpg") == "42"
    assert image_id_of("0.jpg") == "0"
    assert image_id_of("holiday photo.jpg") == "holiday photo"
