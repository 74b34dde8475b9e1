"""Blocks, views and the three variants of spatial prompts."""

import json
from collections import Counter
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tbkin.data.prompts import (
    PictureObjects,
    SpatialPrompts,
    View,
    article_of,
    block_of,
    box_in_view,
    generator_of,
    objects_of,
    raw_suffix,
    words_in,
)
from tbkin.graphs.regions import Regions

REFERENCE = Path(__file__).resolve().parents[3] / "shared/reference/cusa_values.json"
NEAR_CHAIR = PictureObjects([[0, 0, 30, 30], [60, 60, 90, 90]], ["chair", "apple"], 90, 90)
ONLY_CHAIR = PictureObjects([[0, 0, 30, 30]], ["chair"], 90, 90)
NOTHING = PictureObjects([], [], 90, 90)


def draw(prompts, objects, caption="a room", view=None, seed=0):
    return prompts(caption, objects, generator_of(seed, 0, 7), view)


@pytest.mark.parametrize(
    ("centre", "block"),
    # A picture of 90 x 60 pixels in 3 x 3 blocks of 30 x 20.
    [
        ((0, 0), 0),
        ((29.9, 19.9), 0),
        ((30, 0), 1),
        ((60, 19.9), 2),
        ((0, 20), 3),
        ((45, 30), 4),
        ((89, 59), 8),
        ((90, 60), 8),  # the far corner belongs to the last block
        ((-5, 70), 6),  # outside: the nearest of its row and column
    ],
)
def test_blocks_are_numbered_row_by_row(centre, block):
    x, y = centre
    assert block_of([x - 4, y - 2, x + 4, y + 2], 90, 60) == block


def test_general_grids():
    box = [40, 10, 60, 30]  # centre (50, 20) of 100 x 100
    assert [block_of(box, 100, 100, grid) for grid in (1, 2, 3, 4, 5)] == [
        0,  # the only block
        1,  # column 1, row 0
        1,  # column 1, row 0
        2,  # 50 / 25 = column 2, row 0
        7,  # column 2, row 1
    ]


@given(
    x=st.integers(0, 199),
    y=st.integers(0, 149),
    grid=st.integers(1, 7),
)
def test_blocks_tile_the_picture(x, y, grid):
    block = block_of([x, y, x + 1, y + 1], 200, 150, grid)
    # The same by whole numbers: centre (2x + 1) / 2, so column = (2x + 1) N // 400.
    assert block == ((2 * y + 1) * grid // 300) * grid + (2 * x + 1) * grid // 400


def test_a_picture_without_pixels_is_refused():
    with pytest.raises(ValueError, match="grid 0, 90 x 90"):
        block_of([0, 0, 1, 1], 90, 90, 0)
    with pytest.raises(ValueError, match="0 x 90"):
        block_of([0, 0, 1, 1], 0, 90)


@pytest.mark.skipif(not REFERENCE.is_file(), reason="shared/reference is not there")
def test_ptp_s_boxes_prompts_and_texts():
    told = json.loads(REFERENCE.read_text())["expected"]["ptp_prompt"]
    width, height = told["image_size_wh"]
    assert len(told["boxes"]) == 12
    plain = SpatialPrompts(variant="plain")
    for entry in told["boxes"]:
        objects = PictureObjects([entry["box_xyxy"]], [entry["object"]], width, height)
        prompt = plain.draw(objects, generator_of(0, 0, 0), View(0, 0, width, height))
        assert raw_suffix(prompt) == entry["raw_suffix"]
        assert draw(plain, objects, caption="").strip() == entry["cleaned"]
    chair = told["boxes"][1]
    objects = PictureObjects([chair["box_xyxy"]], [chair["object"]], width, height)
    for entry in told["joined_30_words"]:
        assert draw(plain, objects, entry["caption"]) == entry["text"]


def test_crop_moves_and_cuts_boxes():
    view = View(left=20, top=10, width=40, height=30)
    # Inside: moved by (-20, -10). Half outside: cut at the left edge. Outside: nothing is left.
    assert box_in_view([30, 20, 40, 30], view) == ([10, 10, 20, 20], 1.0)
    assert box_in_view([10, 10, 30, 40], view) == ([0, 0, 10, 30], 0.5)
    assert box_in_view([0, 0, 10, 10], view)[1] == 0
    assert box_in_view([30, 20, 30, 30], view)[1] == 0  # no area to keep


def test_flip_mirrors_what_is_left():
    view = View(left=20, top=10, width=40, height=30, flip=True)
    assert box_in_view([10, 10, 30, 40], view) == ([30, 0, 40, 30], 0.5)


@given(
    corner=st.tuples(st.integers(0, 80), st.integers(0, 60)),
    size=st.tuples(st.integers(1, 20), st.integers(1, 20)),
    grid=st.integers(1, 4),
)
def test_flipping_the_whole_picture_mirrors_the_column(corner, size, grid):
    left, top = corner
    box = [left, top, left + size[0], top + size[1]]
    flipped, share = box_in_view(box, View(0, 0, 100, 80, flip=True))
    assert share == 1
    before, after = block_of(box, 100, 80, grid), block_of(flipped, 100, 80, grid)
    assert before // grid == after // grid
    if (2 * left + size[0]) * grid % 200:  # a centre on a border belongs to its right side
        assert before % grid + after % grid == grid - 1


def test_plain_ignores_the_crop_and_refined_does_not():
    crop = View(left=0, top=0, width=30, height=30)  # the chair fills it: centre (15, 15)
    assert draw(SpatialPrompts("plain"), ONLY_CHAIR, view=crop) == "a room the block 0 has a chair"
    refined = SpatialPrompts("refined")
    assert draw(refined, ONLY_CHAIR, view=crop) == "a room. the block 4 has a chair"
    away = View(left=40, top=40, width=50, height=50)
    assert draw(refined, ONLY_CHAIR, view=away) == "a room. the block x has a chair"
    assert draw(SpatialPrompts("plain"), ONLY_CHAIR, view=away) == "a room the block 0 has a chair"


def test_refined_follows_the_flip():
    flip = View(0, 0, 90, 90, flip=True)
    refined = SpatialPrompts("refined")
    assert draw(refined, ONLY_CHAIR, view=flip) == "a room. the block 2 has a chair"


def test_a_picture_without_objects_gets_a_full_stop_at_most():
    assert draw(SpatialPrompts("plain"), NOTHING) == "a room"  # the cleaner takes the stop away
    assert draw(SpatialPrompts("refined"), NOTHING) == "a room."
    assert draw(SpatialPrompts("reserved"), NOTHING, "A room.") == "A room."


def test_budgets_in_words():
    caption = " ".join(f"w{number}" for number in range(28))
    words = caption.split()
    assert draw(SpatialPrompts("plain"), ONLY_CHAIR, caption).split() == [*words, "the", "block"]
    refined = draw(SpatialPrompts("refined"), ONLY_CHAIR, caption)
    assert refined == f"{' '.join(words[:22])}. the block 0 has a chair"
    reserved = SpatialPrompts("reserved", max_length=10)
    assert draw(reserved, ONLY_CHAIR, caption) == "w0 w1 w2 w3. The block 0 has a chair"


def test_refined_cuts_the_prompt_at_eight_words():
    long = PictureObjects([[0, 0, 9, 9]], ["very old red wooden chair"], 90, 90)
    assert draw(SpatialPrompts("refined"), long) == "a room. the block 0 has a very old red"


def test_the_budget_may_be_counted_in_tokens():
    counted = []

    def pieces(text):
        counted.append(text)
        return 2 * len(text.split()) + 2

    prompts = SpatialPrompts("reserved", max_length=18, count=pieces)
    # 18 = 2 x 8 + 2: six words of prompt and two of the caption.
    assert draw(prompts, ONLY_CHAIR, "one two three four") == "one two. The block 0 has a chair"
    assert all(text.endswith("chair") for text in counted)


def test_reserved_keeps_the_caption_as_it_is_written():
    text = draw(SpatialPrompts("reserved"), ONLY_CHAIR, "A man's dog-house, (red) #1/2.")
    assert text == "A man's dog-house, (red) #1/2. The block 0 has a chair"


def test_a_budget_without_room_is_refused():
    with pytest.raises(ValueError, match=r"max_length=5 has no room .*The block 0 has a chair"):
        draw(SpatialPrompts("reserved", max_length=5), ONLY_CHAIR)
    assert draw(SpatialPrompts("reserved", max_length=6), ONLY_CHAIR) == "The block 0 has a chair"


def test_reserved_speaks_only_of_what_is_left():
    # The crop keeps the apple's left third (share 1/3) and nothing of the chair.
    crop = View(left=40, top=40, width=30, height=50)
    said = {
        least: {
            draw(SpatialPrompts("reserved", min_share=least), NEAR_CHAIR, view=crop, seed=seed)
            for seed in range(30)
        }
        for least in (0.0, 0.3, 0.4)
    }
    # The apple is [20, 20, 30, 50] of 30 x 50: centre (25, 35), column 2, row 2.
    assert said[0.0] == said[0.3] == {"a room. The block 8 has a apple"}
    assert said[0.4] == {"a room"}


def test_every_object_is_drawn_as_often():
    prompts = SpatialPrompts("plain")
    drawn = Counter(draw(prompts, NEAR_CHAIR, seed=seed) for seed in range(600))
    assert set(drawn) == {"a room the block 0 has a chair", "a room the block 8 has a apple"}
    assert min(drawn.values()) > 240  # 300 expected, standard deviation 12


def test_the_probability_of_a_prompt():
    prompts = SpatialPrompts("reserved", probability=0.25)
    texts = [draw(prompts, ONLY_CHAIR, seed=seed) for seed in range(800)]
    assert set(texts) == {"a room", "a room. The block 0 has a chair"}
    assert 150 < 800 - texts.count("a room") < 250  # 200 expected, standard deviation 12
    assert draw(SpatialPrompts("reserved", probability=0.0), ONLY_CHAIR) == "a room"


def test_a_visit_draws_the_same_again_and_another_visit_something_else():
    many = PictureObjects(
        [[x, 0, x + 1, 1] for x in range(90)], [f"n{x}" for x in range(90)], 90, 90
    )
    prompts = SpatialPrompts("reserved")

    def text(*key):
        return prompts("a room", many, generator_of(*key))

    assert text(0, 1, 5) == text(0, 1, 5)
    assert len({text(0, 1, 5), text(1, 1, 5), text(0, 2, 5), text(0, 1, 6)}) == 4


def test_articles():
    an = "apple umbrella urn hourglass Ear uninteresting orange".split()
    a = "unicycle uniform utensil horse one-way eucalyptus user Urinal dog".split()
    assert {name: article_of(name) for name in an} == dict.fromkeys(an, "an")
    assert {name: article_of(name) for name in a} == dict.fromkeys(a, "a")
    prompts = SpatialPrompts("reserved", article="a_or_an")
    assert {draw(prompts, NEAR_CHAIR, seed=seed) for seed in range(30)} == {
        "a room. The block 0 has a chair",
        "a room. The block 8 has an apple",
    }


def test_templates():
    prompts = SpatialPrompts("reserved", template="{object} in part {block}", grid=2)
    assert draw(prompts, ONLY_CHAIR) == "a room. chair in part 0"
    with pytest.raises(ValueError, match=r"must hold \{block\} and \{object\}.*'a \{object\}'"):
        SpatialPrompts(template="a {object}")
    with pytest.raises(ValueError, match="template"):
        SpatialPrompts(template="{block} {object} {colour}")


@pytest.mark.parametrize(
    ("setting", "complaint"),
    [
        ({"variant": "fine"}, "unknown variant of prompts 'fine'; choose from: plain, refined"),
        ({"article": "the"}, "unknown article of prompts 'the'"),
        ({"probability": 1.5}, r"prompt.probability must be a number in \[0, 1\], got 1.5"),
        ({"min_share": -0.1}, "prompt.min_share"),
        ({"grid": 0}, "prompt.grid must be a whole number >= 1, got 0"),
        ({"grid": "three"}, "prompt.grid must be a whole number >= 1, got 'three'"),
        ({"grid": 2.5}, "prompt.grid must be a whole number >= 1, got 2.5"),
        ({"max_length": None}, "prompt.max_length must be a whole number >= 1, got None"),
        ({"min_share": "x"}, "prompt.min_share must be a number in .*, got 'x'"),
        ({"template": 3}, "prompt.template must be a text, got 3"),
        ({"variant": ["plain"]}, "unknown variant of prompts"),
    ],
)
def test_settings_out_of_range(setting, complaint):
    with pytest.raises(ValueError, match=complaint):
        SpatialPrompts(**setting)


def test_the_words_of_all_prompts():
    assert sorted(SpatialPrompts(grid=2).words()) == "0 1 2 3 The a an block has x".split()
    assert SpatialPrompts(template="{object} in {block}", grid=1).words() == ["in", "0", "x"]


def test_objects_of_a_detector():
    regions = Regions(
        boxes=torch.tensor([[0, 0, 9, 9], [1, 1, 5, 5], [2, 2, 6, 6], [3, 3, 7, 7]]).float(),
        width=20,
        height=10,
        labels=["traffic_light", "", "dog", "cat"],
        scores=[0.9] * 4,
        attributes=[[]] * 4,
    )
    objects = objects_of(regions, max_objects=2)
    assert objects == PictureObjects(
        [[0, 0, 9, 9], [2, 2, 6, 6]], ["traffic light", "dog"], width=20, height=10
    )
    grid = Regions(regions.boxes, 20, 10, [""] * 4, [0.0] * 4, [[]] * 4)
    assert draw(SpatialPrompts(), objects_of(grid)) == "a room"


def test_boxes_and_names_must_match():
    with pytest.raises(ValueError, match="1 boxes and 2 names"):
        PictureObjects([[0, 0, 1, 1]], ["a", "b"], 9, 9)
    with pytest.raises(ValueError, match="0 x 5"):
        View(0, 0, 0, 5)


def test_words_in():
    assert words_in("  two  words ") == 2
    assert words_in("") == 0
