import json
from collections import Counter
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tbkin.detectors.annotated import AnnotatedBoxes
from tbkin.graphs.build import build_scene_graph, picture_graph
from tbkin.graphs.interchange import read_graphs, write_graphs
from tbkin.graphs.interchange.coco import read_coco, write_coco
from tbkin.graphs.scene_graph import Node, SceneGraph
from tbkin.parsers.word_rules import WordRules
from tests.graphs.strategies import pictures

REAL = (
    Path(__file__).resolve().parents[4]
    / "shared/data/real_mini/annotations/instances_mini2017.json"
)
FILE = {
    "info": {"year": 2014},
    "images": [
        {"id": 42, "width": 100, "height": 50, "file_name": "a.png"},
        {"id": 7, "width": 60, "height": 60, "file_name": "b.png"},
    ],
    "categories": [{"id": 18, "name": "dog"}, {"id": 1, "name": "person"}],
    "annotations": [
        {"id": 900, "image_id": 42, "category_id": 18, "bbox": [10, 10, 20, 20], "iscrowd": 0},
        {"id": 902, "image_id": 7, "category_id": 1, "bbox": [0, 0, 60, 60]},
        {"id": 901, "image_id": 42, "category_id": 1, "bbox": [50, 5, 30, 40], "score": 0.5},
    ],
}


def write(tmp_path, **changes):
    path = tmp_path / "coco.json"
    path.write_text(json.dumps({**FILE, **changes}))
    return path


def read(path, **options):
    counts = Counter()
    return list(read_coco(path, counts, **options)), +counts


def test_plain_instances(tmp_path):
    (first, second), counts = read(write(tmp_path))
    assert (first.image_id, first.width, first.height) == ("42", 100, 50)
    assert first.boxes.tolist() == [[10, 10, 30, 30], [50, 5, 80, 45]]
    assert first.labels == ["dog", "person"]
    assert first.scores == [1.0, 0.5]
    assert first.relations == []
    assert second.labels == ["person"]
    assert counts == {}


def test_lists_may_stand_in_any_order(tmp_path):
    path = tmp_path / "coco.json"
    path.write_text(json.dumps(dict(reversed(FILE.items()))))
    assert read(path)[0][0].labels == ["dog", "person"]


def test_relations_by_annotation_id(tmp_path):
    relations = [
        {"id": 0, "image_id": 42, "subject_id": 901, "predicate_id": 0, "object_id": 900},
        {"id": 1, "image_id": 42, "subject_id": 901, "predicate_id": 0, "object_id": 902},
    ]
    path = write(tmp_path, rel_categories=[{"id": 0, "name": "holding"}], rel_annotations=relations)
    (first, _), counts = read(path)
    assert first.relations == [(1, "holding", 0, 1.0)]
    assert counts == {"relations of boxes that are not listed dropped": 1}  # 902 is elsewhere


def test_relations_and_attributes_as_annotated_boxes_reads_them(tmp_path):
    annotations = [dict(one) for one in FILE["annotations"]]
    annotations[0]["attributes"] = [{"name": "brown", "score": 0.75}]
    annotations.insert(0, {**annotations[0], "id": 1, "bbox": [5, 5, 0, 9], "attributes": []})
    relations = [
        {"image_id": 42, "subject": 2, "predicate": "near", "object": 1, "score": 0.5},
        {"image_id": 42, "subject": 0, "predicate": "near", "object": 1, "score": 0.5},
    ]
    path = write(tmp_path, annotations=annotations, relations=relations)
    (first, _), counts = read(path)
    theirs = AnnotatedBoxes(path)(Image.new("RGB", (100, 50)), "42")
    assert first.relations == theirs.relations == [(1, "near", 0, 0.5)]
    assert first.attributes == theirs.attributes == [[("brown", 0.75)], []]
    assert first.boxes.tolist() == theirs.boxes.tolist()
    assert first.labels == theirs.labels
    assert counts == {
        "boxes without area in the picture dropped": 1,
        "relations of dropped boxes dropped": 1,
    }


def test_the_tiny_worlds_detections_are_read_as_the_detector_reads_them(tiny_root):
    path = tiny_root.official / "detections" / "detections_train2014.json"
    detector = AnnotatedBoxes(path)
    found, _ = read(path)
    assert len(found) == 32
    for regions in found:
        theirs = detector(Image.new("RGB", (regions.width, regions.height)), regions.image_id)
        torch.testing.assert_close(regions.boxes, theirs.boxes, rtol=0, atol=1e-4)
        assert regions.labels == theirs.labels
        assert regions.attributes == theirs.attributes
        assert regions.relations == theirs.relations


@pytest.mark.skipif(not REAL.is_file(), reason="needs the real pictures beside the checkout")
def test_real_instances_are_read_as_the_detector_reads_them():
    detector = AnnotatedBoxes(REAL)
    found, _ = read(REAL)
    assert len(found) == 204
    for regions in found:
        theirs = detector(Image.new("L", (regions.width, regions.height)), regions.image_id)
        torch.testing.assert_close(regions.boxes, theirs.boxes, rtol=0, atol=1e-3)
        assert regions.labels == theirs.labels


def test_boxes_that_are_corners_are_not_guessed(tmp_path):
    annotations = [{**FILE["annotations"][0], "bbox": [60, 10, 90, 40]}]
    path = write(tmp_path, annotations=annotations)
    with pytest.raises(ValueError, match=r"coco\.json, picture 42: box 0.* box_format=xyxy, or"):
        read(path)
    assert read(path, box_format="xyxy")[0][0].boxes.tolist() == [[60, 10, 90, 40]]
    (cut, _), counts = read(path, box_format="xywh")
    assert cut.boxes.tolist() == [[60, 10, 100, 50]]
    assert counts == {"boxes cut to the picture": 1}


def test_sizes_from_the_pictures(tmp_path):
    images = [{"id": 42, "file_name": "a.png"}]
    path = write(tmp_path, images=images)
    Image.new("RGB", (100, 50)).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match=r"picture 42: no width and height.*images=DIR"):
        read(path)
    (regions,), counts = read(path, images=str(tmp_path))
    assert (regions.width, regions.height) == (100, 50)
    assert counts == {"annotations of pictures that are not listed dropped": 1}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"categories": []}, r"coco\.json, picture 42: not laid out .*KeyError\(18\)"),
        ({"images": [{"width": 1}]}, r"coco\.json, images, entry 0: .*'id'"),
        ({"annotations": [{"id": 1}]}, r"coco\.json, annotations, entry 0: .*image_id"),
        ({"annotations": {}}, r"an array was expected"),
    ],
)
def test_other_layouts_are_named(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        read(write(tmp_path, **changes))


def test_a_file_without_categories(tmp_path):
    path = tmp_path / "coco.json"
    path.write_text('{"images": [], "annotations": []}')
    with pytest.raises(ValueError, match=r"is not a COCO annotation file: no categories\."):
        read(path)


@settings(max_examples=25, deadline=None)
@given(st.lists(pictures(), max_size=3))
def test_graphs_survive_the_layout(tmp_path_factory, several):
    graphs = [picture_graph(regions, geometry=False) for regions in several]
    path = tmp_path_factory.mktemp("coco") / "graphs.json"
    assert write_graphs(path, graphs, "coco") == len(graphs)
    assert list(read_graphs(path)) == graphs


def test_what_is_written_is_coco(tmp_path, regions, capsys):
    from pycocotools.coco import COCO

    counts = Counter()
    seen = build_scene_graph(regions, WordRules()("a red circle left of a square"))
    named = SceneGraph([Node("region", "star", 0, box=(0, 0, 4, 2))], [], [], 10, 10, "my photo")
    said = WordRules()("a dog")
    path = tmp_path / "graphs.json"
    assert write_coco(path, [seen, named, seen, said], counts) == 3
    assert counts["graphs without a picture left out"] == 1
    assert counts["words left out"] == 2 * len(seen.of_type("word"))
    assert counts["spatial and overlap edges left out"] == 2 * 6  # six pairs, none overlaps enough
    coco = COCO(str(path))
    capsys.readouterr()
    assert sorted(coco.imgs) == [7, 8, 9]  # 7 is there already: the third gets a new number
    assert [coco.imgs[number].get("image_id") for number in (7, 8, 9)] == [None, "my photo", "7"]
    (star,) = coco.loadAnns(coco.getAnnIds(imgIds=[8]))
    assert star["bbox"] == [0, 0, 4, 2]
    assert star["area"] == 8
    assert coco.cats[star["category_id"]]["name"] == "star"
    read_back = AnnotatedBoxes(path)(Image.new("RGB", (100, 100)), "7")
    assert read_back.labels == regions.labels
    assert read_back.boxes.tolist() == regions.boxes.tolist()
    assert read_back.attributes == regions.attributes
    assert read_back.relations == regions.relations
    assert [path.name for path in tmp_path.iterdir()] == ["graphs.json"]


def test_a_failed_write_leaves_nothing(tmp_path, regions):
    def failing():
        yield picture_graph(regions)
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError):
        write_graphs(tmp_path / "graphs.json", failing(), "coco")
    assert list(tmp_path.iterdir()) == []
