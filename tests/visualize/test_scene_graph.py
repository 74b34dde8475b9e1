"""Scene graphs as files to look at."""

import io
import random
import re
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from PIL import Image, ImageDraw

from tbkin.graphs.scene_graph import Edge, Node, SceneGraph
from tbkin.visualize.png import missing_letters, rasterise
from tbkin.visualize.scene_graph import COLORS, check_picture, draw_scene_graph, write_drawing
from tbkin.visualize.svg import fit, text_width

REAL = Path(__file__).resolve().parents[3] / "shared" / "data" / "real_mini"
SVG = "{http://www.w3.org/2000/svg}"
WORDS = "A red cup is not on the table".split()
HOSTILE = [
    '<script>alert("1")</script>',
    "\"quoted\" & 'single'",
    "\U0001f600\U0001f469\u200d\U0001f680 emoji",
    "שלום עולם",
    "x" * 300,
    "W" * 300,
    "\x00\x1b]\u202eevil",
    "猫" * 40,
    "a\nb\tc",
    "\ud800lone",
    "]]>--><!--",
    "",
]


def small_graph(**changes):
    """Regions 0 cup and 1 table, attribute 2 red, words 3 red, 4 cup, 5 not on, 6 table."""
    nodes = [
        Node("region", "cup", 0, box=(84, 22, 138, 76), score=0.9),
        Node("region", "table", 1, box=(8, 60, 152, 116), score=0.8),
        Node("attribute", "red"),
        Node("word", "red", 1, "attribute"),
        Node("word", "cup", 2, "object"),
        Node("word", "on", 5, "relation", negated=True),
        Node("word", "table", 7, "object"),
    ]
    edges = [
        Edge(0, "is", 2, "attribute", 0.7),
        Edge(0, "above", 1, "spatial"),
        Edge(4, "is", 3, "attribute"),
        Edge(5, "subject", 4, "relation"),
        Edge(5, "object", 6, "relation"),
        Edge(4, "object", 0, "alignment", 0.93),
        Edge(6, "object", 1, "alignment", 0.55),
        Edge(3, "attribute", 2, "alignment", 0.81),
    ]
    values = {"nodes": nodes, "edges": edges, "words": WORDS, "width": 160, "height": 120}
    return SceneGraph(**{**values, **changes})


def small_picture():
    image = Image.new("RGB", (160, 120), "#f3efe6")
    ImageDraw.Draw(image).rectangle((84, 22, 138, 76), fill="#00ff00")
    return image


def crowd(regions=36, words=20, relations=30):
    """36 regions with attributes and detected relations, and a caption of 20 words."""
    dice = random.Random(3)
    nodes = []
    for number in range(regions):
        x, y = dice.randrange(0, 540), dice.randrange(0, 400)
        box = (x, y, x + dice.randrange(20, 100), y + dice.randrange(20, 80))
        nodes.append(Node("region", f"thing {number}", number, box=box, score=0.5))
    nodes += [Node("attribute", name) for name in "red blue small wooden".split()]
    roles = ("object", "attribute", "relation", "object")
    nodes += [Node("word", f"word{i}", i, roles[i % 4]) for i in range(words)]
    first = regions + 4
    edges = [Edge(i, "is", regions + i % 4, "attribute", 0.6) for i in range(regions)]
    edges += [
        Edge(first + i, "object", (i * 5 + k) % regions, "alignment", 0.5 + k / 10)
        for i in range(words)
        if roles[i % 4] == "object"
        for k in range(4)
    ]
    edges += [Edge(first + i, "attribute", regions + i % 4, "alignment", 0.9) for i in (1, 5)]
    for i in range(2, words - 1, 4):
        edges += [Edge(first + i, "subject", first + i - 2, "relation")]
        edges += [Edge(first + i, "object", first + i + 1, "relation")]
    edges += [
        Edge(i, "near", (i + 7) % regions, "relation", (i + 1) / 99) for i in range(relations)
    ]
    edges += [Edge(i, "left of", i + 1, "spatial") for i in range(regions - 1)]
    return SceneGraph(nodes, edges, [f"word{i}" for i in range(words)], 640, 480, "9")


def hostile_graph():
    count = len(HOSTILE)
    nodes = [
        Node("region", label, i, box=(20 * i, 10 * i, 20 * i + 60, 10 * i + 50))
        for i, label in enumerate(HOSTILE)
    ]
    nodes += [Node("attribute", label) for label in HOSTILE]
    nodes += [Node("word", label, i, "object", text=label) for i, label in enumerate(HOSTILE)]
    edges = [Edge(i, "is", count + i, "attribute", 0.7) for i in range(count)]
    edges += [Edge(2 * count + i, label, i, "alignment", 0.5) for i, label in enumerate(HOSTILE)]
    edges += [Edge(i, HOSTILE[i], i + 1, "relation", 0.5) for i in range(count - 1)]
    return SceneGraph(nodes, edges, HOSTILE, 400, 300, HOSTILE[0])


@pytest.fixture
def without_fonts(monkeypatch):
    """A machine without a single font."""
    resvg = pytest.importorskip("resvg_py")
    render = resvg.svg_to_bytes
    monkeypatch.setattr(
        resvg, "svg_to_bytes", lambda **words: render(**words, skip_system_fonts=True)
    )


def placed(element, x=0.0, y=0.0):
    """Every element of a drawing with the place that its groups move it to."""
    moved = re.match(r"translate\(([-\d.]+) ([-\d.]+)\)", element.get("transform", ""))
    if moved:
        x, y = x + float(moved[1]), y + float(moved[2])
    yield element, x, y
    for child in element:
        yield from placed(child, x, y)


def text_of(svg):
    """What is drawn, tooltips left out."""
    return ["".join(one.itertext()) for one in ElementTree.fromstring(svg).iter(f"{SVG}text")]


def nodes_of(svg, kind):
    tree = ElementTree.fromstring(svg)
    return [int(one.get("data-node")) for one in tree.iter() if one.get("class") == kind]


def rectangles(svg, kind):
    """Node -> its first rectangle (left, top, width, height) on the drawing."""
    found = {}
    for one, x, y in placed(ElementTree.fromstring(svg)):
        if one.get("class") == kind:
            shape = one.find(f"{SVG}rect")
            left, top, width, height = (float(shape.get(k)) for k in ("x", "y", "width", "height"))
            found[int(one.get("data-node"))] = (left + x, top + y, width, height)
    return found


def overlap(one, other):
    across = min(one[0] + one[2], other[0] + other[2]) - max(one[0], other[0])
    down = min(one[1] + one[3], other[1] + other[3]) - max(one[1], other[1])
    return max(across, 0) * max(down, 0)


def texts_with_boxes(svg):
    """(text, left, top, width, height, size) of every text, by the widths that we reckon with."""
    for one, x, y in placed(ElementTree.fromstring(svg)):
        if one.tag == f"{SVG}text":
            words, size = "".join(one.itertext()), float(one.get("font-size"))
            width = text_width(words, size)
            share = {"middle": 0.5, "end": 1.0}.get(one.get("text-anchor"), 0.0)
            left = x + float(one.get("x")) - share * width
            yield words, left, y + float(one.get("y")) - 0.75 * size, width, size, size


def legible(svg):
    """No text leaves the drawing, is small, or hides another."""
    width = float(ElementTree.fromstring(svg).get("width"))
    texts = list(texts_with_boxes(svg))
    assert min(size for *_, size in texts) >= 10
    for number, (words, *box, _) in enumerate(texts):
        assert box[0] >= 0, words
        assert box[0] + box[2] <= width + 1, words
        for other, *place, _ in texts[:number]:
            assert overlap(box, place) <= 0.1 * box[2] * box[3], (words, other)


def test_every_node_and_every_aligned_pair_is_drawn_with_its_strength():
    graph = small_graph()
    svg = draw_scene_graph(graph, small_picture())
    assert sorted(nodes_of(svg, "node")) == list(range(7))
    assert sorted(nodes_of(svg, "box")) == [0, 1]
    ends = re.findall('data-ends="([^"]*)"', svg)
    for edge in graph.edges:  # also the spatial one, since there is but one
        assert f"{edge.source} {edge.target}" in ends
    for said in ("0.93", "0.55", "0.81", "above", "subject", "object", "0 cup", "red"):
        assert said in text_of(svg)
    assert "A red cup is not on the table" in text_of(svg)


def test_stronger_alignments_are_wider_and_darker():
    svg = draw_scene_graph(small_graph(), small_picture())

    def look(ends):
        group = svg.split(f'data-ends="{ends}"')[1].split("</g>")[0]
        width, opacity = re.search(
            r'stroke-width="([\d.]+)".*stroke-opacity="([\d.]+)"', group
        ).groups()
        return float(width), float(opacity)

    strong, weak = look("4 0"), look("6 1")
    assert strong[0] > 2 * weak[0]
    assert strong[1] > weak[1]


def test_boxes_are_scaled_with_the_picture():
    # 160 x 120 in 780 x 600: by 4.875 (780 / 160 < 600 / 120). No words: nothing above.
    graph = small_graph()
    graph = SceneGraph(graph.nodes[:3], graph.edges[:2], [], 160, 120)
    boxes = rectangles(draw_scene_graph(graph, small_picture()), "box")
    assert boxes[0] == pytest.approx((10 + 409.5, 12 + 107.2, 263.2, 263.2), abs=0.11)
    twice = small_picture().resize((320, 240))
    assert rectangles(draw_scene_graph(graph, twice), "box") == boxes
    assert rectangles(draw_scene_graph(graph), "box") == boxes  # on a plain ground


def test_what_is_denied_is_struck_through_and_what_is_implied_is_not_said():
    graph = small_graph()
    graph.nodes.append(Node("word", "have", -1, "relation"))
    svg = draw_scene_graph(graph, small_picture())
    struck = re.findall(r'<t(?:ext|span) [^>]*text-decoration="line-through"[^>]*>([^<]*)<', svg)
    assert struck == ["on", "on"]  # in the sentence and in the graph
    assert "(have)" in text_of(svg)
    assert (
        text_of(svg).count("table") == 2
    )  # the region and the last word, not "table" for index -1
    assert "struck through: denied" in text_of(svg)
    assert "implied, not said" in text_of(svg)
    plain = draw_scene_graph(SceneGraph(words=["on"], nodes=[Node("word", "on", 0, "relation")]))
    assert "line-through" not in plain
    assert "struck through: denied" not in plain


@pytest.mark.parametrize(
    ("graph", "image", "there", "away"),
    [
        (SceneGraph(), None, ["The graph is empty."], ["words said", "regions seen"]),
        (SceneGraph(words=["Why", "?"]), None, ["Why ?"], ["regions seen", "The graph is empty."]),
        (SceneGraph(width=9, height=9), None, ["The graph is empty."], ["regions seen"]),
        (small_graph(words=[], nodes=[], edges=[]), small_picture(), [], ["words said"]),
        (
            SceneGraph(small_graph().nodes[:3], small_graph().edges[:2], [], 160, 120),
            small_picture(),
            ["regions seen", "attributes seen"],
            ["words said"],
        ),
        (
            SceneGraph([Node("word", "cup", 0, "object")], [], ["cup"]),
            None,
            ["words said", "cup"],
            ["regions seen"],
        ),
        (
            SceneGraph(
                [Node("attribute", "red"), Node("word", "red", 0, "attribute")],
                [Edge(1, "attribute", 0, "alignment", 0.77)],
                ["red"],
            ),
            None,
            ["words said", "attributes seen", "0.77"],
            ["regions seen"],
        ),
        (SceneGraph([Node("region", "", 0, box=(9, 9, 9, 9))], [], [], 9, 9), None, ["0"], []),
        (
            SceneGraph(
                [Node("region", "a", 0, box=(0, 0, 9, 9))],
                [Edge(0, "holds", 0, "relation")],
                [],
                9,
                9,
            ),
            None,
            ["holds"],
            [],
        ),
    ],
    ids="empty|no nodes|empty picture|nothing seen|picture|text|no regions|a point|a loop".split(
        "|"
    ),
)
def test_parts_that_are_missing(graph, image, there, away):
    said = text_of(draw_scene_graph(graph, image))
    for words in there:
        assert words in said
    for words in away:
        assert words not in said


def test_a_crowd_is_legible():
    svg = draw_scene_graph(crowd(), title="A crowd")
    width, height = map(float, re.search(r'viewBox="0 0 (\d+) (\d+)"', svg).groups())
    chips = list(rectangles(svg, "node").values())
    assert len(chips) == 60
    for number, chip in enumerate(chips):
        assert chip[0] >= 0
        assert chip[0] + chip[2] <= width
        assert chip[1] + chip[3] <= height
        assert not any(overlap(chip, other) for other in chips[:number])
    legible(svg)


@pytest.mark.skipif(not REAL.is_dir(), reason="needs the shared data")
def test_a_real_crowd_is_legible(tmp_path):
    from tbkin.detectors.annotated import AnnotatedBoxes
    from tbkin.graphs.build import build_scene_graph
    from tbkin.parsers import load_parser

    boxes = AnnotatedBoxes(REAL / "annotations" / "instances_mini2017.json")
    (path,) = (REAL / "images").rglob("000000223648.jpg")
    caption = (
        "Two old tables surrounded by red chairs and filled with many wooden spoons and forks "
        "next to a shelf with books but no bottles ."
    )
    with Image.open(path) as file:
        image = file.convert("RGB")
    graph = build_scene_graph(boxes(image, "223648"), load_parser("word_rules")(caption))
    assert len(graph.of_type("region")) == 38
    assert sum(edge.type == "alignment" for edge in graph.edges) > 20
    legible(draw_scene_graph(graph, image, "A table"))


def test_lines_to_attributes_pass_between_the_regions():
    svg = draw_scene_graph(crowd())
    regions = [area for place, area in rectangles(svg, "node").items() if place < 36]
    tree = ElementTree.fromstring(svg)
    levels = []
    for one, _, y in placed(tree):
        source, target = map(int, one.get("data-ends", "0 0").split())
        if source >= 40 and 36 <= target < 40:
            start = re.match(r"M[\d.]+ ([\d.]+)H", one.find(f"{SVG}path").get("d"))
            levels.append(float(start[1]) + y)
    assert len(levels) == 2
    for level in levels:
        assert not any(top < level < top + height for _, top, _, height in regions)


def test_of_many_relations_the_strongest_are_drawn_and_others_listed():
    graph = crowd()
    svg = draw_scene_graph(graph)
    drawn = {tuple(map(int, ends.split())) for ends in re.findall('data-ends="([^"]*)"', svg)}
    near = [edge for edge in graph.edges if edge.predicate == "near"]
    assert {(edge.source, edge.target) for edge in near[-12:]} <= drawn
    assert not {(edge.source, edge.target) for edge in near[:-12]} & drawn
    listed = [words for words in text_of(svg) if " · near · " in words]
    assert listed[0] == "17 thing 17 · near · 24 thing 24 (0.18)"
    assert sum("and " in words for words in text_of(svg)) >= 1
    assert "Not drawn: 18 relation and 35 spatial edges." in " ".join(text_of(svg))


def test_weak_alignments_can_be_left_out():
    said = text_of(draw_scene_graph(small_graph(), min_strength=0.6))
    assert "0.93" in said
    assert "0.55" not in said
    assert "Not drawn: 1 alignment edge." in said
    said = text_of(draw_scene_graph(small_graph(), max_edges=1))
    assert "0.93" in said
    assert "0.81" not in said
    assert "subject" in said  # the text's own edges always stay


def test_what_users_write_cannot_become_markup_or_break_the_drawing(tmp_path):
    graph = hostile_graph()
    svg = draw_scene_graph(graph, title=HOSTILE[0] * 20)
    tree = ElementTree.fromstring(svg)  # well-formed
    assert not list(tree.iter(f"{SVG}script"))
    assert "\u202e" not in svg
    width = float(tree.get("width"))
    for words, left, _, across, _, _ in texts_with_boxes(svg):
        assert left >= 0, words
        assert left + across <= width + 1, words
    chips = list(rectangles(svg, "node").values())
    assert len(chips) == 36
    assert not any(overlap(one, other) for i, one in enumerate(chips) for other in chips[:i])
    write_drawing(tmp_path / "x.html", graph, None, HOSTILE[0])
    page = (tmp_path / "x.html").read_text(encoding="utf-8")
    assert page.count("<script") == 1  # ours
    assert "&lt;script&gt;alert" in page


def test_the_same_graph_gives_the_same_drawing():
    assert draw_scene_graph(crowd(), title="x") == draw_scene_graph(crowd(), title="x")


def test_a_page_has_every_graph_and_needs_no_network(tmp_path):
    path = tmp_path / "new" / "page.html"
    write_drawing(path, [small_graph(image_id="7"), crowd(), SceneGraph()], title="Graphs")
    page = path.read_text(encoding="utf-8")
    bare = page.replace("http://www.w3.org/2000/svg", "")
    assert not re.search(r"https?://|url\(|@import|<link|<iframe| src=", bare)
    assert all(re.match("#|data:image/", target) for target in re.findall(r'href="([^"]*)"', page))
    assert re.findall('<section id="([^"]*)"', page) == ["graph-1", "graph-2", "graph-3"]
    assert "image 7: A red cup is not on the table" in page
    first = page.split("<section")[1]
    assert "<li>cup · is · red</li>" in first
    assert 'not so: <span class="denied">cup · on · table</span>' in first
    rows = re.findall(r'<tr data-ends="(\d+ \d+)">.*?<td>([\d.]+)</td></tr>', first)
    assert rows == [("3 2", "0.81"), ("4 0", "0.93"), ("6 1", "0.55")]
    assert "<em>above</em> 1 table" in first
    assert [one.name for one in path.parent.iterdir()] == ["page.html"]


def test_a_drawing_of_its_own(tmp_path):
    write_drawing(tmp_path / "x.SVG", small_graph(), small_picture(), "Cup")
    tree = ElementTree.parse(tmp_path / "x.SVG").getroot()
    (picture,) = [one for one in tree.iter(f"{SVG}image") if float(one.get("width")) > 700]
    assert picture.get("href").startswith("data:image/png;base64,")
    large = Image.effect_noise((640, 480), 50).convert("RGB")
    assert "data:image/jpeg;base64," in draw_scene_graph(small_graph(), large)


@pytest.mark.parametrize(
    ("name", "graphs", "images", "message"),
    [
        ("x.pdf", SceneGraph(), None, r"x.pdf: a drawing ends in .html, .svg, .png, got '.pdf'"),
        ("x.svg", [SceneGraph()] * 2, None, r"x.svg can show one graph, got 2; .* write .html"),
        ("x.html", [SceneGraph()] * 2, [None], "2 graphs and 1 pictures"),
        (
            "x.svg",
            small_graph(image_id="7"),
            Image.new("RGB", (120, 120)),
            "picture is 120 x 120 pixels, but the graph of image 7 was made from one of 160 x 120",
        ),
    ],
)
def test_what_cannot_be_drawn(name, graphs, images, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        write_drawing(tmp_path / name, graphs, images)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("width", "sound"), [(160, True), (161, True), (162, False), (157, False)])
def test_a_picture_of_another_size_has_the_same_shape(width, sound):
    # 161 / 160 is 0.6 % wider, 162 / 160 is 1.25 %.
    image = Image.new("RGB", (width, 120))
    if sound:
        check_picture(small_graph(), image)
    else:
        with pytest.raises(ValueError, match=f"{width} x 120"):
            check_picture(small_graph(), image)


def test_a_png_has_the_boxes_at_their_places(tmp_path):
    pytest.importorskip("resvg_py")
    graph = small_graph()
    graph = SceneGraph(graph.nodes[:3], graph.edges[:1], [], 160, 120)
    write_drawing(tmp_path / "x.png", graph, small_picture(), scale=2)
    svg = draw_scene_graph(graph, small_picture())
    with Image.open(tmp_path / "x.png") as drawn:
        width, height = map(int, re.search(r'viewBox="0 0 (\d+) (\d+)"', svg).groups())
        assert drawn.size == (2 * width, 2 * height)
        drawn = drawn.convert("RGB")
    # The left side of region 0 is at 10 + 84 * 4.875 = 419.5, its middle at 12 + 49 * 4.875 = 251.
    assert "#{:02x}{:02x}{:02x}".format(*drawn.getpixel((839, 502))) == COLORS[0]
    assert drawn.getpixel((2 * (10 + 540), 502)) == (0, 255, 0)  # 110 * 4.875: the green thing
    # Region 1's lower side: 12 + 116 * 4.875 = 577.5, at 10 + 80 * 4.875 = 400.
    assert "#{:02x}{:02x}{:02x}".format(*drawn.getpixel((800, 1155))) == COLORS[1]


def test_text_does_not_depend_on_the_fonts_of_the_machine(request):
    pytest.importorskip("resvg_py")
    svg = draw_scene_graph(small_graph(), title="Cup …")
    usual, bare = rasterise(svg, 1), rasterise(re.sub("<text.*</text>", "", svg), 1)
    request.getfixturevalue("without_fonts")
    assert rasterise(svg, 1) == usual != bare


def test_letters_that_no_font_has_are_named(without_fonts):
    svg = draw_scene_graph(SceneGraph(words=["cup", "…", "é", "猫猫"]))  # Pillow's font is small
    assert missing_letters(svg) == ["é", "猫"]
    with pytest.warns(UserWarning, match=r"no font of this machine has é \(U\+00E9\), 猫 .*boxes"):
        rasterise(svg)
    assert missing_letters(svg.replace("é", "e").replace("猫", "cat")) == []


def test_a_png_without_the_extra(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "resvg_py", None)
    with pytest.raises(ImportError, match=r"pip install 'tbkin\[png\]'"):
        write_drawing(tmp_path / "x.png", small_graph())
    assert list(tmp_path.iterdir()) == []


def test_texts_are_as_wide_as_we_reckon():
    # Pillow's own font is the one that PNGs are drawn in.
    from PIL import ImageFont

    font = ImageFont.load_default(100)
    for words in [*map(chr, range(33, 127)), "standing next to", "0.95", "12 person", "WWW…"]:
        assert font.getlength(words) <= text_width(words, 100) + 0.5, words
    assert text_width("standing next to", 100) <= 1.3 * font.getlength("standing next to")
    assert text_width("猫猫", 10) == pytest.approx(21)  # ideographs fill a square and a little
    assert text_width("e\u0301", 10) == text_width("e", 10)  # an accent takes no room


def test_a_text_is_cut_to_the_room_it_has():
    assert fit("cup", 100) == "cup"
    cut = fit("W" * 50, 100, 10)  # a W is 10 wide, the ellipsis too
    assert cut == "W" * 9 + "…"
    assert fit("a\n\tb\x00\u202e", 100) == "a b\N{REPLACEMENT CHARACTER}"


def test_a_png_of_a_real_file_is_one(tmp_path):
    pytest.importorskip("resvg_py")
    data = rasterise(draw_scene_graph(crowd()), 0.5)
    with Image.open(io.BytesIO(data)) as drawn:
        assert len(drawn.convert("RGB").getcolors(1 << 20)) > 100
    with pytest.raises(ValueError, match="scale must be in"):
        rasterise(draw_scene_graph(SceneGraph()), 0)


def test_a_number_is_joined_with_what_it_counts():
    graph = small_graph()
    assert "number and what it counts" not in draw_scene_graph(graph)
    words = [*WORDS, "one"]
    nodes = [*graph.nodes, Node("word", "1", 8, "count")]
    edges = [
        *graph.edges,
        Edge(4, "is", 7, "attribute"),
        Edge(7, "count", 0, "alignment", 1.0),
    ]
    drawn = draw_scene_graph(small_graph(nodes=nodes, edges=edges, words=words))
    assert "number and what it counts" in drawn
