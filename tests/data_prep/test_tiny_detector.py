import statistics

import pytest

from data_prep.tiny_detector import Dials, detect
from data_prep.tiny_scenes import SHAPES, draw_scene, generator

PERFECT = Dials(wrong_labels=0, jitter=0, false_boxes=0)
SCENES = [draw_scene("train2014", n, generator(0, "train2014", n, "scene")) for n in range(120)]
OBJECTS = sum(len(scene.things) for scene in SCENES)


def described(detection):
    """(box, shape, colour, size)."""
    shape = list(SHAPES)[detection["category_id"] - 1]
    color, size = (attribute["name"] for attribute in detection["attributes"])
    return tuple(detection["bbox"]), shape, color, size


def true_boxes(scene):
    return {thing.box: thing for thing in scene.things}


def shared_area(box, other):
    width = min(box[0] + box[2], other[0] + other[2]) - max(box[0], other[0])
    height = min(box[1] + box[3], other[1] + other[3]) - max(box[1], other[1])
    return max(width, 0) * max(height, 0)


def test_a_perfect_detector_tells_the_truth():
    for scene in SCENES[:20]:
        found, relations = detect(scene, 0, PERFECT)
        assert sorted(map(described, found)) == sorted(
            (thing.box, thing.shape, thing.color, thing.size) for thing in scene.things
        )
        assert {detection["image_id"] for detection in found} == {scene.image_id}
        assert relations == []


def test_detections_come_in_random_order():
    orders = [[d["bbox"] for d in detect(scene, 0, PERFECT)[0]] for scene in SCENES[:20]]
    assert any(o != [list(t.box) for t in s.things] for o, s in zip(orders, SCENES, strict=False))


@pytest.mark.parametrize("wrong_labels", [0.05, 0.5, 1.0])
def test_share_of_wrong_labels(wrong_labels):
    wrong = 0
    for scene in SCENES:
        truth = true_boxes(scene)
        dials = Dials(wrong_labels=wrong_labels, jitter=0, false_boxes=0)
        for box, shape, color, size in map(described, detect(scene, 0, dials)[0]):
            thing = truth[box]
            wrong += (shape != thing.shape) + (color != thing.color) + (size != thing.size)
    # About 790 objects, 2,370 labels: the standard deviation is at most 0.0103.
    assert wrong / (3 * OBJECTS) == pytest.approx(wrong_labels, abs=0.035)


def test_right_labels_are_surer_but_the_scores_overlap():
    scores = {True: [], False: []}
    for scene in SCENES:
        truth = true_boxes(scene)
        dials = Dials(wrong_labels=0.5, jitter=0, false_boxes=0)
        for detection in detect(scene, 0, dials)[0]:
            box, shape, _, _ = described(detection)
            scores[shape == truth[box].shape].append(detection["score"])
    # Means of Beta(8, 2) and Beta(5, 4): 8/10 and 5/9.
    assert statistics.mean(scores[True]) == pytest.approx(0.8, abs=0.04)
    assert statistics.mean(scores[False]) == pytest.approx(5 / 9, abs=0.04)
    assert max(scores[False]) > min(scores[True])


def test_jitter_is_the_standard_deviation_of_an_edge():
    moved = []
    for scene in SCENES:
        found, _ = detect(scene, 0, Dials(wrong_labels=0, jitter=1.5, false_boxes=0))
        for detection in found:
            box = detection["bbox"]
            nearest = max(scene.things, key=lambda thing: shared_area(box, thing.box)).box
            if nearest[0] > 10:  # not cut by the border
                moved.append(box[0] - nearest[0])
    assert statistics.mean(moved) == pytest.approx(0, abs=0.2)
    assert statistics.stdev(moved) == pytest.approx(1.5, abs=0.2)


def test_box_noise_is_the_most_that_an_edge_moves_in_shares_of_the_side():
    shares = []
    for scene in SCENES:
        dials = Dials(wrong_labels=0, jitter=0, false_boxes=0, box_noise=0.2)
        for detection in detect(scene, 0, dials)[0]:
            x, y, width, _ = detection["bbox"]
            nearest = max(scene.things, key=lambda t: shared_area(detection["bbox"], t.box)).box
            shares += [(x - nearest[0]) / nearest[2], (y - nearest[1]) / nearest[3]]
            shares.append((x + width - nearest[0] - nearest[2]) / nearest[2])
    assert max(shares) <= 0.2 + 1e-3  # rounded to 0.01 pixels
    assert min(shares) >= -0.2 - 1e-3
    # Uniform on [-0.2, 0.2]: the standard deviation is 0.4 / sqrt(12).
    assert statistics.stdev(shares) == pytest.approx(0.4 / 12**0.5, abs=0.01)


def test_boxes_stay_in_the_picture_whatever_the_noise():
    for scene in SCENES[:40]:
        for detection in detect(scene, 0, Dials(jitter=60, false_boxes=1, distractors=1))[0]:
            x, y, width, height = detection["bbox"]
            assert min(x, y) >= 0
            assert min(width, height) >= 4
            assert x + width <= 160.001
            assert y + height <= 120.001


@pytest.mark.parametrize(
    ("dials", "boxes_per_object", "tolerance"),
    [
        ({"distractors": 1.0}, 2.0, 0),  # a whole number of extra boxes: exactly so many
        ({"false_boxes": 0.1}, 1.1, 0.06),
        ({"missed_boxes": 0.25}, 0.75, 0.05),
        ({"missed_boxes": 1.0}, 0.0, 0),
    ],
)
def test_number_of_boxes(dials, boxes_per_object, tolerance):
    dials = Dials(**{"wrong_labels": 0, "jitter": 0, "false_boxes": 0, **dials})
    found = sum(len(detect(scene, 0, dials)[0]) for scene in SCENES)
    assert found / OBJECTS == pytest.approx(boxes_per_object, abs=tolerance)


def test_false_boxes_lie_on_background_and_distractors_anywhere():
    def covered(**dials):
        total = 0.0
        for scene in SCENES:
            truth = true_boxes(scene)
            dial = Dials(**{"wrong_labels": 0, "jitter": 0, "false_boxes": 0, **dials})
            for detection in detect(scene, 0, dial)[0]:
                if tuple(detection["bbox"]) not in truth:
                    total += sum(shared_area(detection["bbox"], box) for box in truth)
        return total

    assert covered(false_boxes=1.0) < 0.05 * covered(distractors=1.0)


def test_one_dial_leaves_the_others_draws_alone():
    for scene in SCENES[:10]:
        plain = {described(found) for found in detect(scene, 0, PERFECT)[0]}
        more = Dials(wrong_labels=0, jitter=0, false_boxes=1, distractors=1, spurious_edges=2)
        assert plain < {described(found) for found in detect(scene, 0, more)[0]}


def test_spurious_edges_contradict_the_boxes():
    reported = 0
    for scene in SCENES:
        found, relations = detect(scene, 0, Dials(spurious_edges=1.0))
        assert len(relations) == len(scene.things)
        for edge in relations:
            assert edge["image_id"] == scene.image_id
            subject, other = (found[edge[end]]["bbox"] for end in ("subject", "object"))
            dx = subject[0] + subject[2] / 2 - other[0] - other[2] / 2
            dy = subject[1] + subject[3] / 2 - other[1] - other[3] / 2
            holds = {
                "left of": dx < 0 and abs(dx) > abs(dy),
                "right of": dx > 0 and abs(dx) > abs(dy),
                "above": dy < 0 and abs(dy) >= abs(dx),
                "below": dy > 0 and abs(dy) >= abs(dx),
            }
            assert not holds[edge["predicate"]]
            reported += 1
    assert reported == OBJECTS
