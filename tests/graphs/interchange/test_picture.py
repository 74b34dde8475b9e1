"""What every reader does with boxes, scores and relations."""

from collections import Counter

import pytest
from PIL import Image

from tbkin.graphs.interchange.picture import (
    PictureRecord,
    clean_name,
    picture_size,
    settle_boxes,
    to_xyxy,
)


def record(**changes):
    """Three boxes in 100 x 50 pixels: whole, half outside, wholly outside."""
    values = {
        "boxes": [(10, 10, 20, 20), (90, -10, 120, 10), (101, 0, 120, 10)],
        "labels": ["dog", "cat", "car"],
        **changes,
    }
    return PictureRecord("7", 100, 50, **values)


def test_boxes_are_cut_and_those_without_area_dropped_with_their_relations():
    counts = Counter()
    regions = record(
        relations=[(0, "near", 1, 0.5), (0, "near", 2, 1.0), (2, "on", 1, 1.0)],
        attributes=[[("red", 1.0)], [("blue", 0.5)], [("green", 1.0)]],
        scores=[0.25, 0.5, 0.75],
    ).regions(counts)
    assert regions.boxes.tolist() == [[10, 10, 20, 20], [90, 0, 100, 10]]
    assert regions.labels == ["dog", "cat"]
    assert regions.scores == [0.25, 0.5]
    assert regions.attributes == [[("red", 1.0)], [("blue", 0.5)]]
    assert regions.relations == [(0, "near", 1, 0.5)]
    assert regions.image_id == "7"
    assert counts == {
        "boxes cut to the picture": 1,
        "boxes without area in the picture dropped": 1,
        "relations of dropped boxes dropped": 2,
    }


def test_a_dropped_box_in_the_middle_renumbers_the_others():
    regions = record(
        boxes=[(0, 0, 9, 9), (5, 5, 5, 9), (10, 10, 20, 20)], relations=[(2, "on", 0, 1.0)]
    ).regions(Counter())
    assert regions.labels == ["dog", "car"]
    assert regions.relations == [(1, "on", 0, 1.0)]


def test_what_is_said_twice_is_kept_once_with_its_best_score():
    counts = Counter()
    regions = record(
        relations=[(0, "on", 1, 0.5), (1, "on", 0, 0.1), (0, "on", 1, 0.75), (0, "by", 1, 0.0)],
        attributes=[[("red", 0.5), ("red", 0.25), ("old", 0.0)], [], []],
    ).regions(counts)
    assert regions.relations == [(0, "on", 1, 0.75), (1, "on", 0, 0.1)]
    assert regions.attributes[0] == [("red", 0.5)]
    assert counts["relations said twice merged"] == 1
    assert counts["attributes said twice merged"] == 1
    assert counts["relations of score 0 dropped"] == 1
    assert counts["attributes of score 0 dropped"] == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"boxes": [(0, 0, float("nan"), 5)] * 3}, r"^picture 7, box 0: .* four finite numbers"),
        ({"boxes": [(0, 0, 5)] * 3}, r"^picture 7, box 0: a box is four numbers, got \(0, 0, 5\)"),
        ({"scores": [0.5, 1.5, 0.5]}, r"^picture 7, box 1: a score must be in \[0, 1\], got 1\.5"),
        ({"relations": [(0, "on", 3, 1.0)]}, r"^picture 7: relation 'on' points to box 3 of 3"),
        ({"relations": [(-1, "on", 0, 1.0)]}, r"points to box -1 of 3"),
        ({"relations": [(0, "on", 0, -0.5)]}, r"relation 'on': a score must be in \[0, 1\]"),
    ],
)
def test_unsound_values_name_picture_and_box(changes, message):
    with pytest.raises(ValueError, match=message):
        record(**changes).regions(Counter())


def test_box_formats():
    assert to_xyxy((10, 20, 30, 40), "xyxy") == (10, 20, 30, 40)
    assert to_xyxy((10, 20, 30, 40), "xywh") == (10, 20, 40, 60)
    assert to_xyxy((10, 20, 4, 8), "cxcywh") == (8, 16, 12, 24)


def settle(box, declared="xywh", asked="", **more):
    return settle_boxes([box], declared, asked, (100, 50), "picture 7", **more)


def test_a_box_that_fits_is_taken_as_declared():
    # [10, 10, 30, 20] would fit as corners too: what the file declares decides.
    assert settle([10, 10, 30, 20]) == [(10, 10, 40, 30)]
    assert settle([10, 10, 30, 20], "xyxy") == [(10, 10, 30, 20)]
    assert settle([10, 10, 90.9, 40]) == [(10, 10, 100.9, 50)]  # rounding


def test_a_box_that_only_fits_otherwise_is_an_error_that_says_how_to_settle_it():
    # As xywh it would reach to 150; as corners it is within 100 x 50.
    with pytest.raises(
        ValueError,
        match=r"^picture 7: box 0, \[60\.0, 10\.0, 90\.0, 40\.0\], does not fit 100 x 50 pixels as "
        r"xywh, which the file should hold, but does as xyxy\. "
        r"Say which it is: box_format=xyxy, or box_format=xywh to cut it to the picture\.$",
    ):
        settle([60, 10, 90, 40])
    assert settle([60, 10, 90, 40], asked="xyxy") == [(60, 10, 90, 40)]
    assert settle([60, 10, 90, 40], asked="xywh") == [(60, 10, 150, 50)]
    # Corners cannot run backwards: 30 < 60.
    with pytest.raises(ValueError, match=r"as xyxy, .* but does as xywh"):
        settle([60, 10, 30, 20], "xyxy")


def test_a_box_that_fits_in_no_format_is_left_to_be_cut():
    assert settle([90, 10, 30, 20]) == [(90, 10, 120, 30)]  # 30 < 90: no corners either


def test_a_file_that_does_not_say_is_asked_about():
    with pytest.raises(ValueError, match=r"picture 7: the file does not say .* box_format=NAME"):
        settle([1, 2, 3, 4], "")
    with pytest.raises(ValueError, match=r"unknown box_format 'xy'; choose from: xyxy, xywh"):
        settle([1, 2, 3, 4], asked="xy")


def test_names_are_plain():
    assert clean_name("  Traffic\n light ") == "Traffic light"
    assert clean_name("ON Top", lowercase=True) == "on top"
    assert clean_name("a\ud800b") == "a?b"


def test_size_of_a_picture(tmp_path):
    Image.new("RGB", (30, 20)).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_text("no picture")
    assert picture_size(tmp_path, "/somewhere/else/a.png") == (30, 20)
    assert picture_size(None, str(tmp_path / "a.png")) == (30, 20)
    with pytest.raises(FileNotFoundError, match=r"no picture .*c\.png.*images=DIR"):
        picture_size(tmp_path, "c.png")
    with pytest.raises(ValueError, match=r"b\.png is not a picture"):
        picture_size(tmp_path, "b.png")
