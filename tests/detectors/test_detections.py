import json
from pathlib import Path

import pytest
from PIL import Image

from tbkin.detectors.detections import COCO_CATEGORIES, Detections

PICTURE = Image.new("RGB", (40, 20))
REAL = Path(__file__).resolve().parents[3] / "shared/data/real_mini/annotations"


@pytest.fixture
def write(tmp_path):
    def write(content, name="dets.json"):
        path = tmp_path / name
        path.write_text(json.dumps(content))
        return path

    return write


MATTNET = [
    {"det_id": 7, "image_id": 42, "category_id": 1, "category_name": "person",
     "box": [2.5, 3, 10, 5], "score": 0.9},
    {"det_id": 8, "image_id": 43, "category_id": 18, "category_name": "dog",
     "box": [0, 0, 4, 4], "score": 0.5},
    {"det_id": 9, "image_id": 42, "category_id": 64, "category_name": "fern",
     "box": [30, 10, 20, 20], "score": 0.25},
]  # fmt: skip


@pytest.mark.parametrize("content", [MATTNET, {"dets": MATTNET}])
def test_mattnets_list(write, content):
    regions = Detections(write(content))(PICTURE, "42")
    # x, y, width, height -> corners; the second box leaves the picture of 40 x 20 and is cut.
    assert regions.boxes.tolist() == [[2.5, 3, 12.5, 8], [30, 10, 40, 20]]
    assert regions.labels == ["person", "fern"]
    assert regions.scores == [0.9, 0.25]


def test_coco_results_are_named_by_cocos_categories(write):
    results = [
        {"image_id": 42, "category_id": 90, "bbox": [0, 0, 5, 5], "score": 0.5},
        {"image_id": 42, "category_id": 12, "bbox": [0, 0, 5, 5], "score": 0.5},  # COCO has no 12
        {"image_id": 42, "bbox": [0, 0, 5, 5]},
    ]
    regions = Detections(write(results))(PICTURE, "42")
    assert regions.labels == ["toothbrush", "", ""]
    assert regions.scores == [0.5, 0.5, 1.0]


def test_albefs_lists_of_boxes(write):
    path = write({"42": [[1, 2, 3, 4, 0.7], [0, 0, 2, 2]], "7": []})
    regions = Detections(path)(PICTURE, "42")
    assert regions.boxes.tolist() == [[1, 2, 4, 6], [0, 0, 2, 2]]
    assert regions.labels == ["", ""]
    assert Detections(path).policy == "detections dets.json"
    with pytest.raises(LookupError, match=r"no boxes for image 5 in .*dets\.json"):
        Detections(path)(PICTURE, "5")


def test_several_files_add_up_and_names_are_shared(write):
    files = [write(MATTNET[:1], "a.json"), write(MATTNET[2:] + MATTNET[:1], "b.json")]
    detector = Detections(files)
    assert detector(PICTURE, "42").labels == ["person", "fern", "person"]
    assert detector.policy == "detections a.json b.json"


@pytest.mark.skipif(not REAL.is_dir(), reason="needs the shared data")
def test_categories_are_those_of_cocos_files():
    content = json.loads((REAL / "instances_mini2017.json").read_text())
    assert {entry["id"]: entry["name"] for entry in content["categories"]} == COCO_CATEGORIES


@pytest.mark.parametrize(
    "content",
    [
        {"images": [], "annotations": [{"image_id": 1}]},
        [{"image_id": 1, "score": 0.5}],
        [{"image_id": 1, "bbox": [1, 2, 3]}],
        {"1": [["a", 2, 3, 4]]},
        7,
    ],
)
def test_another_layout_is_refused_by_name(write, content):
    with pytest.raises(ValueError, match=r"dets\.json holds no detections .*detector=detected"):
        Detections(write(content))


def test_files_that_are_missing_or_damaged(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no detections .*none\.json"):
        Detections(tmp_path / "none.json")
    (tmp_path / "cut.json").write_text("[{")
    with pytest.raises(ValueError, match=r"cut\.json is not JSON .*copy it again"):
        Detections(tmp_path / "cut.json")
