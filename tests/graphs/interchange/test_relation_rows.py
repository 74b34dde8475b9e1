import json
from collections import Counter

import pytest

from tbkin.graphs.interchange import read_graphs
from tbkin.graphs.interchange.relation_rows import read_relation_rows

ROW = {
    "image_id": 285,
    "file_name": "285.jpg",
    "width": 100,
    "height": 50,
    "objects": [
        {"id": 40, "category_id": 0, "bbox": [60.0, 10.0, 30.0, 30.0], "area": 900.0},
        {"id": 41, "category_id": 3, "bbox": [0.0, 0.0, 100.0, 50.0], "area": 5000.0},
    ],
    "relations": [
        {"id": 1, "subject_id": 41, "predicate_id": 1, "object_id": 40},
        {"id": 2, "subject_id": 41, "predicate_id": 1, "object_id": 99},
    ],
}
NAMES = {
    "categories": [{"id": 0, "name": "dog"}, {"id": 3, "name": "grass"}],
    "rel_categories": [{"id": 0, "name": "on"}, {"id": 1, "name": "under"}],
}


def write(tmp_path, *rows, names=NAMES):
    (tmp_path / "dataset_info.json").write_text(json.dumps(names))
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows or [ROW]) + "\n")
    return path


def read(path, **options):
    counts = Counter()
    return list(read_relation_rows(path, counts, **options)), +counts


@pytest.mark.parametrize(
    "names",
    [
        NAMES,
        {"description": json.dumps(NAMES)},
        {"categories": {"0": "dog", "3": "grass"}, "rel_categories": ["on", "under"]},
    ],
    ids=["lists", "text of the description", "tables"],
)
def test_numbers_are_named_and_relations_follow_ids(tmp_path, names):
    (regions,), counts = read(write(tmp_path, names=names))
    assert regions.labels == ["dog", "grass"]
    assert regions.boxes.tolist() == [[60, 10, 90, 40], [0, 0, 100, 50]]
    assert regions.relations == [(1, "under", 0, 1.0)]
    assert (regions.image_id, regions.width, regions.height) == ("285", 100, 50)
    assert counts == {"relations of objects that are not listed dropped": 1}
    (graph,) = read_graphs(tmp_path / "rows.jsonl")
    assert graph.edges[0].predicate == "under"


def test_boxes_that_are_corners_are_not_guessed(tmp_path):
    objects = [{**ROW["objects"][0], "bbox": [60, 10, 90, 40]}]
    path = write(tmp_path, {**ROW, "objects": objects, "relations": []})
    with pytest.raises(ValueError, match=r"rows\.jsonl, line 1: box 0.*box_format=xyxy"):
        read(path)
    assert read(path, box_format="xyxy")[0][0].boxes.tolist() == [[60, 10, 90, 40]]


def test_what_is_missing_is_named(tmp_path):
    path = write(tmp_path, ROW, {**ROW, "objects": [{**ROW["objects"][0], "category_id": 9}]})
    with pytest.raises(ValueError, match=r"rows\.jsonl, line 2: not laid out .*KeyError\('9'\)"):
        read(path)
    path.write_text(json.dumps(ROW)[:-3])
    with pytest.raises(ValueError, match=r"rows\.jsonl, line 1 is not JSON"):
        read(path)
    (tmp_path / "dataset_info.json").write_text("[]")
    with pytest.raises(ValueError, match=r"dataset_info\.json: not laid out"):
        read(path)
    (tmp_path / "dataset_info.json").rename(tmp_path / "names.json")
    with pytest.raises(FileNotFoundError, match=r"no .*dataset_info\.json: .*names=FILE"):
        read(path)
    with pytest.raises(FileNotFoundError, match=r"no file .*absent"):
        read(tmp_path / "absent", names=str(write(tmp_path).with_name("dataset_info.json")))
