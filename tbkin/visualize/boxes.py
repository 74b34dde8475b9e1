"""A picture with its regions as a drawing (SVG): boxes and their tags."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from tbkin.graphs.scene_graph import SceneGraph
from tbkin.visualize.graph import Marks, node_group
from tbkin.visualize.layout import name_of
from tbkin.visualize.svg import (
    DASHED,
    SOFT,
    Area,
    Block,
    fit,
    ink_on,
    picture,
    rectangle,
    text,
    text_width,
    tooltip,
)

TAG = 18  # height of a region's tag
CROWDED = 20  # regions; from here on tags are short, those of less important regions numbers


@dataclass(frozen=True)
class Frame:
    """A box that stands out from the regions, drawn on top of them.

    Attributes:
        box: xyxy pixels, as the regions' boxes are.
        name: what its tag says.
        color: ``#rrggbb``.
        dashed: whether its outline is.
    """

    box: Sequence[float]
    name: str
    color: str
    dashed: bool = False


def boxes_block(
    image: Image.Image | None,
    graph: SceneGraph,
    marks: Marks,
    order: list[int],
    named: set[int],
    room: tuple[float, float],
    frames: Sequence[Frame] = (),
) -> Block:
    """The picture with its regions.

    Args:
        image: RGB, of the graph's shape; None: boxes on a plain ground.
        graph: region boxes are xyxy pixels of a picture of ``graph.width`` x ``graph.height``.
        marks: how the regions look.
        order: region nodes, the most important last: it is on top, with the best place for its tag.
        named: regions whose tag carries the label also in a crowded picture; the others carry
            it unless the picture is crowded, or the tag would hide another.
        room: width and height in pixels; the picture fills the one or the other.
        frames: boxes on top; with any, the regions are thin, or they would hide one another.
    """
    width, height = image.size if image is not None else (graph.width, graph.height)
    scale = min(room[0] / width, room[1] / height)
    frame = Area(0, 0, width * scale, height * scale)
    crowded = len(order) >= CROWDED
    around = [_box_on(frame, graph, one.box) for one in frames]
    framed: list[Area] = []  # tags of frames
    for one, box in zip(frames, around, strict=True):
        tag_width = min(text_width(one.name, 11) + 8, frame.width)
        framed.append(_tag_place(box, tag_width, frame, framed))
    tags: dict[int, Area] = {}
    names: dict[int, str] = {}
    for place in reversed(order):
        box = _box_on(frame, graph, graph.nodes[place].box)
        taken = [*framed, *tags.values()]
        number = str(graph.nodes[place].index)
        long = graph.nodes[place].label and place in named if crowded else True
        for name in (_tag(graph, place, crowded), number) if long else (number,):
            tag_width = min(text_width(name, 11) + 8, frame.width)
            names[place], tags[place] = name, _tag_place(box, tag_width, frame, taken)
            if not any(tags[place].shared(other) for other in taken):
                break  # otherwise the number alone may find room
    boxes, labels = [], []
    for place in order:
        outline, fill, ink = _look(marks.colors[place], marks.kept[place], crowded, bool(frames))
        box = _box_on(frame, graph, graph.nodes[place].box)
        boxes.append(
            node_group("box", graph, place, marks)
            + "".join(rectangle(box, style) for style in outline)
            + "</g>"
        )
        at = (tags[place].middle, tags[place].y + 13)
        labels.append(
            f'<g data-node="{place}">{rectangle(tags[place], fill)}'
            f"{text(at, names[place], ink, 11)}</g>"
        )
    light = 'fill="none" stroke="#ffffff" stroke-width="7" opacity="0.85"'
    boxes += [rectangle(box, light) for box in around]  # first, or it would hide another frame
    for one, box, tag in zip(frames, around, framed, strict=True):
        look = f'fill="none" stroke="{one.color}" stroke-width="4" {DASHED if one.dashed else ""}'
        boxes.append(f"<g>{tooltip(one.name)}{rectangle(box, look)}</g>")
        name = text((tag.middle, tag.y + 13), one.name, ink_on(one.color), 11)
        ground = rectangle(tag, f'fill="{one.color}" rx="3"')
        labels.append(f"<g>{ground}{name}</g>")
    ground = rectangle(frame, 'fill="#e9edf2"') if image is None else picture(frame, image)
    # Labels come last: no outline may cross a tag.
    return Block([ground, *boxes, *labels], frame.width, frame.height)


def _box_on(frame: Area, graph: SceneGraph, box: Sequence[float]) -> Area:
    """A box of the graph's picture on the drawn one."""
    across, down = frame.width / graph.width, frame.height / graph.height
    left, top, right, bottom = box
    return Area(left * across, top * down, (right - left) * across, (bottom - top) * down)


def _look(color: str, kept: bool, crowded: bool, faint: bool) -> tuple[list[str], str, str]:
    """Styles of a box: of its outlines, the light one first, of its tag, and the tag's ink."""
    if not kept:
        light = 'fill="none" stroke="#ffffff" stroke-width="1.5" opacity="0.7"'
        dark = f'fill="none" stroke="#66707f" stroke-width="1.5" {DASHED}'
        return [light, dark], 'fill="#eef1f5" opacity="0.9" rx="3"', SOFT
    width = 1.5 if faint else 2 if crowded else 3
    light = f'fill="none" stroke="#ffffff" stroke-width="{width + 2}" opacity="0.8"'
    dark = f'fill="none" stroke="{color}" stroke-width="{width}"'
    return [light, dark], f'fill="{color}" rx="3"', ink_on(color)


def _tag(graph: SceneGraph, place: int, crowded: bool) -> str:
    """Number and label."""
    return fit(name_of(graph, place), 80 if crowded else 130, 11)


def _tag_place(box: Area, width: float, frame: Area, taken: list[Area]) -> Area:
    """At the box, else near it: where it hides least of the other tags, inside the picture."""
    right, below = box.right - width, box.bottom
    around = Area(box.x - width, box.y - 2 * TAG, box.width + 2 * width, box.height + 4 * TAG)
    taken = [other for other in taken if other.shared(around)]
    rows = (box.y - TAG, box.y, below, below - TAG, box.level - TAG / 2)
    corners = [(x, y) for x in (box.x, right, box.middle - width / 2) for y in rows]
    corners += [(x, y) for x in (box.x - width, box.right) for y in rows]
    corners += [(x, y) for x in (box.x, right) for y in (box.y - 2 * TAG, below + TAG)]
    tries = []
    for x, y in corners:
        x = min(max(x, 0), frame.width - width)
        y = min(max(y, 0), frame.height - TAG)
        tries.append(Area(x, y, width, TAG))
    return min(tries, key=lambda area: sum(area.shared(other) for other in taken))
