from collections import Counter

import pytest

from data_prep.tiny_captions import facts_of, write_captions
from data_prep.tiny_language import Lookup
from data_prep.tiny_scenes import SIZES, draw_scene, generator
from data_prep.tiny_variants import CHANGES, change_scene, place_anew


def kind(thing):
    return thing.size, thing.color, thing.shape


def check_places(scene):
    """Objects of the size they are said to have, in the picture, 3 pixels apart."""
    assert 4 <= len(scene.things) <= 9
    boxes = [(x, y, x + w, y + h) for x, y, w, h in (thing.box for thing in scene.things)]
    for number, (left, top, right, bottom) in enumerate(boxes):
        low, high = SIZES[scene.things[number].size]
        assert low <= right - left == bottom - top <= high
        assert min(left, top, 160 - right, 120 - bottom) >= 3
        for other in boxes[:number]:
            apart = max(other[0] - right, left - other[2], other[1] - bottom, top - other[3])
            assert apart >= 3


@pytest.fixture(scope="module")
def changed():
    """(source, claims of its captions, changed scene) of many."""
    found = []
    for index in range(150):
        source = draw_scene("val2014", index, generator(0, "val2014", index, "scene"))
        captions = write_captions(Lookup(source), generator(0, "val2014", index, "captions"))
        claims = [claim for _, claim in captions]
        rng = generator(0, "val2014", 1000 + index, "near duplicates")
        found.append((source, claims, change_scene(source, claims, 1000 + index, rng)))
    return found


def test_one_object_is_changed_as_said(changed):
    for source, _, scene in changed:
        check_places(scene)
        assert (scene.index, scene.source) == (1000 + source.index, source.image_id)
        gone = sorted(set(source.things) - set(scene.things), key=str)
        new = sorted(set(scene.things) - set(source.things), key=str)
        assert len(scene.things) - len(source.things) == len(new) - len(gone)
        assert len(gone) == (scene.change != "added")
        assert len(new) == (scene.change != "removed")
        if not (gone and new):
            continue
        (before,), (after,) = gone, new
        differing = [
            name
            for name in ("size", "color", "shape", "box")
            if getattr(before, name) != getattr(after, name)
        ]
        assert (
            differing
            == {"recolored": ["color"], "resized": ["size", "box"], "moved": ["box"]}[scene.change]
        )
        if scene.change == "moved":
            x, y, side, _ = before.box
            assert max(abs(after.box[0] - x), abs(after.box[1] - y)) >= side + 3
        if scene.change == "resized":  # around the same centre, as whole pixels allow
            for axis in (0, 1):
                centers = [thing.box[axis] + thing.box[axis + 2] / 2 for thing in (before, after)]
                assert abs(centers[0] - centers[1]) <= 0.5


def test_every_change_occurs_and_most_captions_stay_true(changed):
    assert set(Counter(scene.change for *_, scene in changed)) == set(CHANGES)
    kept = Counter(
        sum(claim <= facts_of(Lookup(scene)) for claim in claims) for _, claims, scene in changed
    )
    assert set(kept) == {3, 4, 5}


def test_newly_placed_things_are_the_same_things():
    same_boxes = 0
    for index in range(40):
        source = draw_scene("val2014", index, generator(0, "val2014", index, "scene"))
        scene = place_anew(source, 7, generator(0, "val2014", 7, "placing"))
        check_places(scene)
        assert list(map(kind, scene.things)) == list(map(kind, source.things))
        assert (scene.split, scene.index, scene.change) == ("val2014", 7, "")
        same_boxes += sum(a.box == b.box for a, b in zip(scene.things, source.things, strict=True))
    assert same_boxes <= 2  # about 260 objects
