import pytest

from tbkin.parsers.prepositions import phrase_at


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("in front of the bus", (3, "in front of")),
        ("on the front of a bus", (4, "in front of")),
        ("on top of it", (3, "on top of")),
        ("at the top of a hill", (4, "on top of")),
        ("to the left of the square", (4, "left of")),
        ("on the right side of the road", (5, "right of")),
        ("left of the square", (2, "left of")),
        ("on both sides of a road", (4, "on both sides of")),
        ("on the other side of a road", (5, "on side of")),
        ("in the middle of a road", (4, "on middle of")),
        ("on the back of a chair", (4, "on back of")),
        ("in the back of a car", (4, "in back of")),
        ("next to a car", (2, "next to")),
        ("inside of a car", (2, "inside")),
        ("on the left", (0, "")),
        ("on the side", (0, "")),
        ("near a car", (0, "")),
        ("", (0, "")),
    ],
)
def test_prepositions_of_several_words(text, expected):
    assert phrase_at(text.split()) == expected
