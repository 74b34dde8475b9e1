"""Pictures side by side."""

import re

import pytest
from PIL import Image

from tbkin.visualize import Thumbnail, draw_thumbnails
from tests.visualize.made_up import Page


def places(drawing, tag):
    found = re.findall(
        rf'<{tag} x="([\d.]+)" y="([\d.]+)" width="([\d.]+)" height="([\d.]+)"', drawing
    )
    return [tuple(map(float, one)) for one in found]


def test_pictures_keep_their_shape_and_stand_in_rows():
    sizes = [(300, 200), (200, 300), (100, 100)]
    thumbnails = [
        Thumbnail(Image.new("RGB", size), [f"picture {number}", "0.5"], marked=number == 1)
        for number, size in enumerate(sizes)
    ]
    drawing = draw_thumbnails(thumbnails, columns=2)
    frames = places(drawing, "image")
    assert [frame[2:] for frame in frames] == [(170, 113.3), (113.3, 170), (170, 170)]
    (x, y, _, _), (other, _, _, _), (below_x, below_y, _, _) = frames
    assert other > x + 170
    assert below_x == x
    assert below_y >= y + 170 + 2 * 17 - (170 - 113.3) / 2
    assert places(drawing, "rect") == frames
    assert drawing.count("#14703a") == 1
    said = Page(drawing).text.split()
    assert said == "picture 0 0.5 picture 1 0.5 picture 2 0.5".split()


def test_lines_stand_just_below_wide_pictures():
    drawing = draw_thumbnails([Thumbnail(Image.new("RGB", (300, 100)), ["below"])])
    ((_, y, _, height),) = places(drawing, "image")
    (line,) = re.findall(r'<text x="[\d.]+" y="([\d.]+)"', drawing)
    assert y + height < float(line) < y + height + 20


def test_names_stay_text_and_fit():
    name = "<b>" + "long " * 40
    drawing = draw_thumbnails([Thumbnail(Image.new("RGB", (9, 9)), [name])])
    assert "<b>" not in drawing
    shown = Page(drawing).text.strip()
    assert shown.startswith("<b>long")
    assert shown.endswith("…")


def test_nothing_to_draw():
    with pytest.raises(ValueError, match="no pictures to draw"):
        draw_thumbnails([])
