import json

import numpy as np
import pytest
import torch
from PIL import Image

from tbkin.detectors import DETECTORS, DetectorSettings, build_detector
from tbkin.detectors.annotated import AnnotatedBoxes
from tbkin.detectors.grid import Grid
from tbkin.detectors.pixels import SIDE, open_picture, pixel_features
from tbkin.detectors.precomputed import PrecomputedFeatures, image_number
from tbkin.graphs.regions import Regions

PICTURE = Image.new("RGB", (40, 20))


def noise(width=40, height=20, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


@pytest.fixture
def coco(tmp_path):
    """``coco(**changes) -> path`` of an annotation file of the picture 42 and the empty 43."""

    def write(name="instances.json", **changes):
        content = {
            "images": [{"id": 42, "width": 40, "height": 20}, {"id": 43}],
            "categories": [{"id": 3, "name": "dog"}, {"id": 9, "name": "cat"}],
            "annotations": [
                {"image_id": 42, "category_id": 3, "bbox": [-2, 5, 10, 30]},  # leaves the picture
                {"image_id": 42, "category_id": 9, "bbox": [10, 5, 0, 5]},  # no width
                {"image_id": 42, "category_id": 9, "bbox": [50, 5, 5, 5], "iscrowd": 0},  # outside
                {
                    "image_id": 42,
                    "category_id": 9,
                    "bbox": [10, 2, 20, 10],
                    "iscrowd": 1,
                    "segmentation": {"counts": [1, 2], "size": [20, 40]},
                    "score": 0.5,
                    "attributes": [{"name": "red", "score": 0.25}],
                },
            ],
            "relations": [
                {"image_id": 42, "subject": 3, "predicate": "on", "object": 0, "score": 0.75},
                {"image_id": 42, "subject": 0, "predicate": "on", "object": 1, "score": 1.0},
            ],
            **changes,
        }
        path = tmp_path / name
        path.write_text(json.dumps(content))
        return path

    return write


@pytest.fixture
def features(tmp_path):
    """``features(name, **arrays)``: an npz in a folder below the one it returns."""

    def write(name="COCO_val2014_000000000042.jpg.npz", **arrays):
        (tmp_path / "npz" / "part").mkdir(parents=True, exist_ok=True)
        np.savez(tmp_path / "npz" / "part" / name, **arrays)
        return tmp_path / "npz"

    return write


X = np.arange(15, dtype=np.float32).reshape(3, 5)  # three regions, five features
BOXES = np.array([[0, 0, 10, 10], [5, 5, 30, 15], [20, 0, 60, 30]], dtype=np.float32)


def test_every_detector_gives_regions_and_says_how(coco, features, tmp_path):
    dets = tmp_path / "dets.json"
    dets.write_text(json.dumps({"42": [[1, 2, 3, 4]]}))
    given = {  # detectors that need a network have tests of their own
        "grid": {"rows": 2, "columns": 3},
        "annotated": {"boxes": [str(coco())]},
        "detected": {"boxes": [str(coco())]},
        "detections": {"boxes": [str(dets)]},
        "precomputed": {"features": str(features(x=X, boxes=BOXES))},
    }
    assert set(DETECTORS) - set(given) == {"huggingface", "onnx"}
    for name, settings in given.items():
        detector = build_detector(DetectorSettings(name=name, **settings))
        regions = detector(PICTURE, "42")
        assert isinstance(regions, Regions)
        assert len(regions) > 0
        assert (regions.width, regions.height, regions.image_id) == (40, 20, "42")
        assert detector.policy.split()[0] in (name, "annotated")
        assert detector.weights == ""
        assert bool(detector.extractor) == (regions.features is not None)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"name": "yolo"},
            "unknown detector 'yolo'; choose from: annotated, detected, detections, grid",
        ),
        ({"name": "annotated"}, r"needs detector\.boxes=\[FILE\]"),
        ({"name": "detections"}, r"needs detector\.boxes=\[FILE\]: COCO results"),
        ({"name": "precomputed"}, r"needs detector\.features=PATH"),
        ({"name": "huggingface"}, r"needs detector\.model=HUB_ID_OR_FOLDER"),
        ({"name": "onnx"}, r"needs detector\.model=FILE\.onnx"),
        ({"name": "huggingface", "model": "x", "source": "roi"}, r"unknown detector\.source 'roi'"),
    ],
)
def test_a_detector_without_what_it_needs(settings, message):
    with pytest.raises(ValueError, match=message):
        build_detector(settings)


# Annotated boxes find their picture


def named(coco, *names, **size):
    """A file whose pictures have ids from 1 and the given names, each with one box."""
    return AnnotatedBoxes(
        coco(
            images=[{"id": k, "file_name": name, **size} for k, name in enumerate(names, 1)],
            annotations=[
                {"image_id": k, "category_id": 3, "bbox": [0, 0, k, k]}
                for k in range(1, len(names) + 1)
            ],
            relations=[],
        )
    )


def test_a_picture_is_found_by_its_file_name_before_its_id(coco):
    detector = named(coco, "frames/0005.png", "frames/0001.png", "garden.jpg")
    sides = {name: int(detector(PICTURE, name).boxes[0, 2]) for name in
             ("frames/0005", "0005", "5", "1", "garden", "elsewhere/garden")}  # fmt: skip
    assert sides == {
        "frames/0005": 1, "0005": 1, "5": 1, "1": 2, "garden": 3, "elsewhere/garden": 3
    }  # fmt: skip
    assert detector(PICTURE, "3").boxes[0, 2] == 3  # a name without number: the id counts
    with pytest.raises(LookupError, match="no boxes for image 2"):
        detector(PICTURE, "2")  # an id, but the picture of that id is number 1 by name


def test_a_number_that_two_names_end_in_is_nobody(coco):
    detector = named(coco, "left_7.png", "right_7.png")
    assert len(detector(PICTURE, "right_7")) == 1
    with pytest.raises(LookupError, match="image 7"):
        detector(PICTURE, "7")


def test_boxes_follow_a_resized_copy_and_refuse_another_shape(coco):
    assert named(coco, "a.png", width=80, height=40)(PICTURE, "a").boxes[0, 2] == 0.5
    with pytest.raises(ValueError, match=r"image a was 40 x 40 .* is 40 x 20 here"):
        named(coco, "a.png", width=40, height=40)(PICTURE, "a")
    with pytest.raises(ValueError, match=r"turned \(EXIF\)"):
        named(coco, "a.png", width=20, height=40)(PICTURE, "a")


def test_pictures_are_opened_upright(tmp_path):
    picture = Image.new("RGB", (40, 20))
    exif = picture.getexif()
    exif[0x0112] = 6  # turn by 90 degrees
    picture.save(tmp_path / "phone.jpg", exif=exif)
    assert open_picture(tmp_path / "phone.jpg").size == (20, 40)


# Grid


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (2, 3), (6, 6), (7, 5)])
def test_grid_cells_tile_the_picture_exactly(rows, columns):
    picture = Image.new("RGB", (101, 67))
    boxes = Grid(rows, columns)(picture).boxes.double()
    assert len(boxes) == rows * columns
    cells = boxes.reshape(rows, columns, 4)
    # Neighbours share an edge to the bit, and the outer edges are the picture's.
    assert torch.equal(cells[:, 1:, 0], cells[:, :-1, 2])
    assert torch.equal(cells[1:, :, 1], cells[:-1, :, 3])
    assert (cells[:, 0, 0] == 0).all()
    assert (cells[0, :, 1] == 0).all()
    assert (cells[:, -1, 2] == 101).all()
    assert (cells[-1, :, 3] == 67).all()
    area = ((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])).sum()
    assert area.item() == pytest.approx(101 * 67, rel=1e-5)


def test_grid_cells_come_row_by_row():
    assert Grid(2, 2)(PICTURE).boxes.tolist() == [
        [0, 0, 20, 10],
        [20, 0, 40, 10],
        [0, 10, 20, 20],
        [20, 10, 40, 20],
    ]


@pytest.mark.parametrize("size", [(0, 3), (3, 0), (-1, 1)])
def test_a_grid_without_cells_is_refused(size):
    with pytest.raises(ValueError, match=r"at least 1 x 1 cells, got "):
        Grid(*size)


# Annotated boxes


def test_boxes_are_cut_to_the_picture_and_empty_ones_left_out(coco):
    regions = AnnotatedBoxes(coco())(PICTURE, "42")
    # x -2..8 cut to 0..8, y 5..35 cut to 5..20; the crowd box is a box like the others.
    assert regions.boxes.tolist() == [[0, 5, 8, 20], [10, 2, 30, 12]]
    assert regions.labels == ["dog", "cat"]
    assert regions.scores == [1.0, 0.5]
    assert regions.attributes == [[], [("red", 0.25)]]
    # Annotation 3 is region 1 now; the relation with the empty box is gone.
    assert regions.relations == [(1, "on", 0, 0.75)]


def test_a_listed_picture_without_boxes_has_no_regions(coco):
    regions = AnnotatedBoxes(coco())(PICTURE, "43")
    assert len(regions) == 0
    assert regions.boxes.shape == (0, 4)


@pytest.mark.parametrize("image_id", ["44", "", "abc"])
def test_a_picture_that_is_not_listed_is_an_error(coco, image_id):
    detector = AnnotatedBoxes(coco())
    with pytest.raises(LookupError, match=rf"for image {image_id} in .*instances\.json \(2 images"):
        detector(PICTURE, image_id)


def test_several_files_are_one(coco):
    other = coco("other.json", images=[{"id": 7}], annotations=[
        {"image_id": 7, "category_id": 3, "bbox": [0, 0, 4, 4]}], relations=[])  # fmt: skip
    detector = AnnotatedBoxes([coco(), other])
    assert detector(PICTURE, "7").labels == ["dog"]
    assert detector(PICTURE, "42").labels == ["dog", "cat"]
    assert detector.policy == "annotated instances.json other.json"


def test_a_file_that_is_missing_or_no_annotation_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no annotation file .*none\.json"):
        AnnotatedBoxes(tmp_path / "none.json")
    for content in ("[1]", "{", '{"images": []}', '{"images": [{}], "categories": []}'):
        (tmp_path / "bad.json").write_text(content)
        with pytest.raises(ValueError, match=r"bad\.json is not a COCO annotation file"):
            AnnotatedBoxes(tmp_path / "bad.json")


# Precomputed features


@pytest.mark.parametrize("orientation", ["rows", "columns"])
@pytest.mark.parametrize(("key", "box_key"), [("x", "boxes"), ("features", "bbox")])
def test_both_orientations_and_both_names(features, orientation, key, box_key):
    stored = X if orientation == "rows" else X.T
    regions = PrecomputedFeatures(features(**{key: stored, box_key: BOXES}))(PICTURE, "42")
    assert torch.equal(regions.features, torch.from_numpy(X))
    assert regions.boxes.tolist() == [[0, 0, 10, 10], [5, 5, 30, 15], [20, 0, 40, 20]]  # cut
    assert regions.labels == [""] * 3


@pytest.mark.parametrize("image_id", ["42", "000000000042"])
def test_leading_zeros_do_not_matter(features, image_id):
    assert len(PrecomputedFeatures(features(x=X, boxes=BOXES))(PICTURE, image_id)) == 3


def test_a_picture_numbered_zero_is_found(features):
    assert len(PrecomputedFeatures(features("000.npz", x=X, boxes=BOXES))(PICTURE, "0")) == 3


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("COCO_val2014_000000000042.jpg.npz", "42"),
        ("42.npz", "42"),
        ("000.jpg", "0"),
        ("v2_pictures.npz", ""),
    ],
)
def test_image_number_is_the_number_at_the_end(tmp_path, name, number):
    assert image_number(tmp_path / name) == number


def test_the_pickled_info_is_never_opened(features):
    class Bomb:
        def __reduce__(self):
            return (pytest.fail, ("the pickle was opened",))

    info = np.array([Bomb()], dtype=object)
    folder = features(x=X, bbox=BOXES, info=info)
    assert len(PrecomputedFeatures(folder)(PICTURE, "42")) == 3


def test_features_in_a_pickle_are_refused(features):
    class Bomb:
        def __reduce__(self):
            return (pytest.fail, ("the pickle was opened",))

    folder = features(x=np.array([Bomb()], dtype=object), boxes=BOXES)
    with pytest.raises(ValueError, match=r"42\.jpg\.npz is not a region feature file"):
        PrecomputedFeatures(folder)(PICTURE, "42")


def test_a_damaged_file_is_named(features):
    folder = features(x=X, boxes=BOXES)
    (path,) = folder.rglob("*.npz")
    whole = path.read_bytes()
    for content in (b"", b"nothing", whole[: len(whole) // 2]):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"42\.jpg\.npz is not a region feature file"):
            PrecomputedFeatures(folder)(PICTURE, "42")


def test_what_is_missing_or_does_not_fit_is_named(features, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no folder of region features .*none"):
        PrecomputedFeatures(tmp_path / "none")
    detector = PrecomputedFeatures(features(x=X, boxes=BOXES))
    with pytest.raises(LookupError, match=r"for image 43 in .*npz \(1 images there\)"):
        detector(PICTURE, "43")
    with pytest.raises(ValueError, match=r"none of x, features; it has y, boxes"):
        PrecomputedFeatures(features(y=X, boxes=BOXES))
    detector = PrecomputedFeatures(features(x=X, boxes=BOXES[:2]))
    with pytest.raises(ValueError, match=r"42\.jpg\.npz is not .*\(3, 5\), and there are 2 boxes"):
        detector(PICTURE, "42")
    detector = PrecomputedFeatures(features(x=X * np.nan, boxes=BOXES))
    with pytest.raises(ValueError, match=r"image 42: region features hold NaN"):
        detector(PICTURE, "42")


# Pixels


def test_one_colour_gives_its_channels_in_order():
    image = Image.new("RGB", (30, 30), (255, 51, 0))
    features = pixel_features(image, torch.tensor([[3.0, 4, 20, 25]]))
    assert features.shape == (1, 3 * SIDE * SIDE)
    red, green, blue = features.reshape(3, SIDE, SIDE)
    assert (red == 1).all()
    assert torch.allclose(green, torch.tensor(0.2))
    assert (blue == 0).all()


def test_rows_come_before_columns():
    # Left half black, right half white; then top half black, bottom half white.
    image = Image.new("L", (16, 16))
    image.paste(255, (8, 0, 16, 16))
    sideways = pixel_features(image.convert("RGB"), torch.tensor([[0.0, 0, 16, 16]]), side=2)
    assert sideways.reshape(3, 2, 2)[0].tolist() == [[0, 1], [0, 1]]
    upright = image.transpose(Image.Transpose.ROTATE_270).convert("RGB")
    down = pixel_features(upright, torch.tensor([[0.0, 0, 16, 16]]), side=2)
    assert down.reshape(3, 2, 2)[0].tolist() == [[0, 0], [1, 1]]


def test_features_equal_a_slow_average_over_each_cell():
    image, side = noise(), 4
    pixels = np.asarray(image).astype(float)
    boxes = torch.tensor([[0.0, 0, 40, 20], [4, 4, 12, 16], [8, 0, 28, 20]])
    found = pixel_features(image, boxes, side).reshape(3, 3, side, side)
    for number, (left, top, right, bottom) in enumerate(boxes.int().tolist()):
        width, height = (right - left) // side, (bottom - top) // side  # whole pixels a cell
        for row in range(side):
            for column in range(side):
                y, x = top + row * height, left + column * width
                mean = pixels[y : y + height, x : x + width].mean(axis=(0, 1)) / 255
                # Pillow rounds to a 255th, once in each direction.
                assert found[number, :, row, column].numpy() == pytest.approx(mean, abs=1.01 / 255)


def test_a_region_depends_on_nothing_outside_it():
    image, box = noise(), torch.tensor([[10.0, 5, 30, 15]])
    other = Image.new("RGB", image.size, (0, 255, 0))
    other.paste(image.crop((10, 5, 30, 15)), (10, 5))
    assert torch.equal(pixel_features(image, box), pixel_features(other, box))


@pytest.mark.parametrize(
    "box", [[5.2, 3, 5.4, 10], [5, 3, 5, 3], [40, 20, 40, 20], [39.5, 19.5, 40, 20]]
)
def test_a_box_thinner_than_a_pixel_still_has_a_colour(box):
    image = Image.new("RGB", (40, 20), (255, 255, 255))
    assert pixel_features(image, torch.tensor([box])).min() == 1


def test_no_boxes_no_rows():
    assert pixel_features(PICTURE, torch.zeros(0, 4)).shape == (0, 3 * SIDE * SIDE)


def test_pictures_open_in_rgb(tmp_path):
    for mode in ("L", "P", "RGBA", "CMYK"):
        path = tmp_path / f"{mode}.{'jpg' if mode == 'CMYK' else 'png'}"
        Image.new(mode, (3, 2)).save(path)
        image = open_picture(path)
        assert (image.mode, image.size) == ("RGB", (3, 2))


def test_a_missing_or_damaged_picture_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no picture .*none\.jpg; check the path"):
        open_picture(tmp_path / "none.jpg")
    noise(200, 200).save(tmp_path / "whole.jpg")
    whole = (tmp_path / "whole.jpg").read_bytes()
    for content in (b"", b"text", whole[: len(whole) // 2]):
        (tmp_path / "bad.jpg").write_bytes(content)
        with pytest.raises(ValueError, match=r"bad\.jpg is not a readable picture .*copy it again"):
            open_picture(tmp_path / "bad.jpg")
