import pytest

from data_prep.tiny_captions import facts_of, says_where, true_of, write_captions
from data_prep.tiny_language import Lookup
from data_prep.tiny_scenes import Scene, Thing, draw_scene, generator

CIRCLE, SQUARE, STAR = ((None, None, shape) for shape in ("circle", "square", "star"))
RED, BLUE = (None, "red", "circle"), (None, "blue", "square")


def lookup(*things):
    """A scene of things such as ``("small red circle", x, y)``, the centres of boxes of 14."""
    placed = [Thing(*words.split(), (x - 7, y - 7, 14, 14)) for words, x, y in things]
    return Lookup(Scene("val2014", 0, tuple(placed)))


def holds(claim, scene):
    return claim <= facts_of(scene)


SCENE = lookup(
    ("small red circle", 20, 60),
    ("small red circle", 20, 100),
    ("small blue square", 60, 62),  # 40 right of the first circle, 2 below it
    ("small blue square", 100, 64),
    ("small green star", 100, 25),  # 39 above the last square; 40 right of and 37 above the first
)


@pytest.mark.parametrize(
    ("fact", "true"),
    [
        (("count", CIRCLE, 2), True),
        (("count", CIRCLE, 1), False),  # exactly one
        (("count", CIRCLE, 3), False),
        (("count", (None, None, "cross"), 0), True),
        (("count", (None, None, None), 5), True),
        (("count", ("small", "red", "circle"), 2), True),
        (("some", ("small", "red", "circle")), True),  # one of two
        (("some", ("large", "red", "circle")), False),
        (("related", RED, (("left of", BLUE),)), True),
        (("related", BLUE, (("left of", RED),)), False),
        (("related", BLUE, (("below", (None, "green", "star")),)), True),
        # The first square lies 43 degrees below the star: nobody would agree on "left of".
        (("related", (None, "green", "star"), (("right of", BLUE),)), False),
        # One circle has two squares to its right; no square has two stars above it.
        (("related", RED, (("left of", BLUE), ("left of", BLUE))), True),
        (("related", BLUE, (("below", (None, "green", "star")),) * 2), False),
        # The same square is right of a circle and below the star.
        (("related", BLUE, (("below", (None, "green", "star")), ("right of", RED))), True),
        # A circle is above the other, and left of squares.
        (("related", RED, (("above", RED), ("left of", BLUE))), True),
        (("related", RED, (("above", RED), ("right of", BLUE))), False),
    ],
)
def test_a_fact(fact, true):
    assert holds(frozenset([fact]), SCENE) is true


def test_a_claim_needs_all_its_facts():
    right, wrong = ("count", CIRCLE, 2), ("count", STAR, 2)
    assert holds(frozenset([right]), SCENE)
    assert not holds(frozenset([right, wrong]), SCENE)


def drawn(count):
    return [
        Lookup(draw_scene("val2014", n, generator(0, "val2014", n, "scene"))) for n in range(count)
    ]


def said_of(index, scene):
    return write_captions(scene, generator(0, "val2014", index, "captions"))


def test_a_list_of_shapes_denies_the_others_and_a_list_of_kinds_does_not():
    shapes, kinds = 0, 0
    for index, scene in enumerate(drawn(40)):
        taken = {thing.shape for thing in scene.things}
        free = {"circle", "square", "triangle", "star", "cross"} - taken
        if not free or len(scene.things) > 6:
            continue
        # One more object of a new shape; claims of places are not affected by it.
        more = Thing("small", "brown", min(free), (3, 3, 14, 14))
        richer = Lookup(Scene("val2014", index, (*scene.things, more)))
        for caption, claim in said_of(index, scene):
            if says_where(claim) or " of them " in caption:
                continue
            is_shapes = "small" not in caption and "large" not in caption
            assert holds(claim, richer) is not is_shapes
            shapes, kinds = shapes + is_shapes, kinds + (not is_shapes)
    assert shapes == kinds > 4


def test_every_claim_is_true_and_three_of_five_do_not_speak_of_places():
    for index, scene in enumerate(drawn(40)):
        captions = said_of(index, scene)
        assert all(holds(claim, scene) for _, claim in captions)
        where = [any(word in said for word in ("left", "above", "below", "right"))
                 for said, _ in captions]  # fmt: skip
        assert [says_where(claim) for _, claim in captions] == where
        assert sum(where) == 2


def test_a_claim_says_no_more_than_its_caption():
    # One object more or other places: what still holds of the new scene is what is still true.
    circles = lookup(("small red circle", 20, 60), ("small red circle", 60, 60))
    other = lookup(("small red circle", 90, 20), ("small red circle", 90, 60))
    kept = {
        said: holds(claim, other)
        for seed in range(20)
        for said, claim in write_captions(circles, generator(seed, "val2014", 0, "captions"))
    }
    assert len(kept) > 8
    for said, true in kept.items():
        assert true is not ("left of" in said or "right of" in said), said


def test_true_of_is_the_slow_loop():
    scenes = drawn(60)
    claims = [claim for n, scene in enumerate(scenes) for _, claim in said_of(n, scene)]
    facts = [facts_of(scene) for scene in scenes]
    expected = [[n for n, all_facts in enumerate(facts) if claim <= all_facts] for claim in claims]
    assert true_of(claims, scenes) == expected
    assert sum(len(row) > 1 for row in expected) > 10
    never = frozenset([("count", CIRCLE, 2), ("some", ("huge", "red", "circle"))])
    assert true_of([never, claims[3]], scenes) == [[], expected[3]]


def test_the_order_of_the_things_does_not_matter():
    for scene in drawn(10):
        turned = Lookup(Scene("val2014", 0, scene.things[::-1]))
        assert facts_of(turned) == facts_of(scene)
