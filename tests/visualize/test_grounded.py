"""Boxes that an expression means: in numbers, in the picture, and on the page beside answers."""

import re

import pytest
from PIL import Image

from tbkin.graphs.scene_graph import Edge, Node, SceneGraph
from tbkin.visualize import GroundedBox, draw_boxes, draw_region_attention, write_report
from tbkin.visualize.evidence import shown_regions
from tbkin.visualize.grounded import described, probability_color, ranking
from tests.visualize.made_up import (
    SHAPES,
    Page,
    evidence_of,
    lit_evidence,
    many_nodes,
    page_of,
    shapes_graph,
)

PROBABILITIES = [0.05, 0.1, 0.02, 0.7, 0.03, 0.06, 0.04]
TRIANGLE = list(map(float, SHAPES[3][2]))  # 58 80 92 114


def grounded_evidence(graph=None, make=evidence_of, **changes):
    values = {"box": [60.0, 80.0, 94.0, 114.0], "probabilities": PROBABILITIES} | changes
    return make(
        graph=graph or shapes_graph(),
        text="the orange triangle",
        answers=[],
        truth="",
        score=None,
        grounded=GroundedBox(**values),
    )


def figures_of(drawing):
    """What is drawn on top of the regions: tag -> (x, y, width, height), and whether dashed."""
    found = {}
    for name, rest in re.findall(r"<g><title>(predicted|annotated)</title>(.*?)</g>", drawing):
        style = rest.split("<rect ")[1]
        sides = [float(one) for one in re.findall(r'(?:x|y|width|height)="([\d.]+)"', style)[:4]]
        found[name] = (sides, "stroke-dasharray" in style)
    return found


def test_iou_of_a_box():
    # 34 x 34 boxes, one 2 to the right: 32 * 34 shared of 36 * 34.
    box = GroundedBox([60.0, 80.0, 94.0, 114.0], true_box=TRIANGLE)
    assert box.iou == pytest.approx(32 / 36)
    assert GroundedBox([60.0, 80.0, 94.0, 114.0]).iou is None
    assert GroundedBox([0.0, 0.0, 5.0, 5.0], true_box=TRIANGLE).iou == 0


def test_the_best_candidates_first():
    box = GroundedBox(TRIANGLE, PROBABILITIES)
    assert box.best(3) == [(3, 0.7), (1, 0.1), (5, 0.06)]
    assert GroundedBox(TRIANGLE).best(3) == []
    named = ranking(shapes_graph(), box, 2)
    assert named == [("3 orange triangle", 0.7, False), ("1 blue circle", 0.1, False)]
    box.true_box = TRIANGLE
    assert [right for _, _, right in ranking(shapes_graph(), box, 2)] == [True, False]


def test_a_candidate_is_called_by_its_surest_attributes():
    nodes = [
        Node("region", name, index, box=(0, 0, 9, 9)) for index, name in enumerate(("cup", ""))
    ]
    nodes += [Node("attribute", name) for name in ("old", "red", "tall")]
    edges = [Edge(0, "is", 2, "attribute", 0.2), Edge(0, "is", 3, "attribute", 0.9)]
    edges += [Edge(0, "is", 4, "attribute", 0.8), Edge(1, "left of", 0, "spatial")]
    graph = SceneGraph(nodes, edges, [], 9, 9)
    assert described(graph, 0) == "0 red tall cup"
    assert described(graph, 1) == "cell 1"


def test_likelier_regions_are_darker():
    shades = [int(probability_color(one)[1:3], 16) for one in (0.0, 0.01, 0.1, 0.5, 1.0)]
    assert shades == sorted(shades, reverse=True)
    assert len(set(shades)) == 5
    drawing = draw_boxes(grounded_evidence())
    for place, probability in enumerate(PROBABILITIES):
        group = drawing.split(f'data-node="{place}"')[1].split("</g>")[0]
        assert f"probability {probability:.3f}, relevance" in group
        if 'data-kept="true"' in group:
            assert f'stroke="{probability_color(probability)}" stroke-width="1.5"' in group


def test_the_predicted_box_stands_out_and_the_true_one_is_dashed():
    # Three pixels of the drawing a pixel of the picture.
    assert figures_of(draw_boxes(grounded_evidence())) == {
        "predicted": ([180, 240, 102, 102], False)
    }
    drawing = draw_boxes(grounded_evidence(true_box=TRIANGLE))
    assert figures_of(drawing) == {
        "predicted": ([180, 240, 102, 102], False),
        "annotated": ([174, 240, 102, 102], True),
    }
    last_region = max(drawing.index(f'class="box" data-node="{place}"') for place in range(7))
    assert drawing.index("<title>predicted") > last_region
    assert figures_of(draw_boxes(evidence_of(shapes_graph()))) == {}


def test_tags_of_frames_and_regions_stay_apart():
    drawing = draw_boxes(grounded_evidence(true_box=list(map(float, SHAPES[0][2]))))
    tags = re.findall(r'<g(?: data-node="\d")?><rect ([^>]*)/><text', drawing)
    areas = [[float(one) for one in re.findall(r'="([\d.]+)"', style)[:4]] for style in tags]
    assert len(areas) == 7 + 2
    for number, (x, y, width, height) in enumerate(areas):
        for left, top, across, down in areas[:number]:
            beside = x >= left + across or left >= x + width
            assert beside or y >= top + down or top >= y + height


def test_the_page_of_an_expression(tmp_path):
    evidence = grounded_evidence(make=lit_evidence, true_box=TRIANGLE)
    source, page = page_of(tmp_path, [evidence])
    lower = re.sub("</?strong>", "", source).split("</style>")[1].split("<script>")[0]
    assert not re.search('question|answer(?!s?")', re.sub(r'="[^"]*"', "", lower), re.I)
    assert "Predicted: 60.0, 80.0, 94.0, 114.0" in lower
    assert "Annotated: 58.0, 80.0, 92.0, 114.0" in lower
    assert "IoU 0.89, right from 0.5 on" in lower
    assert "✓ right" in page.text
    assert "Where the chosen region looks" in page.text
    assert "1 expression; mean accuracy of the 1 with known boxes 100.0%." in page.text
    bars = re.findall(r"<dt>(.*?)</dt><dd>.*?</dd><dd>([\d.]+)</dd>", source)
    assert [float(value) for _, value in bars] == [0.7, 0.1, 0.06, 0.05, 0.04]
    assert bars[0][0].startswith("3 orange triangle <span")  # ticked: it covers the true box
    assert "<span" not in bars[1][0]
    unknown = page_of(tmp_path, [grounded_evidence()])[1].text
    assert "Annotated: unknown" in unknown
    assert "not scored" in unknown
    assert "IoU" not in unknown
    assert "the annotated one" not in unknown


def test_a_model_that_ranks_nothing(tmp_path):
    evidence = grounded_evidence(make=lit_evidence, probabilities=[], true_box=[0.0, 0.0, 9.0, 9.0])
    source, page = page_of(tmp_path, [evidence])
    assert "this model says the box directly and ranks no regions" in page.text
    assert "✗ wrong" in page.text
    assert "probability" not in page.text
    assert "Where the position looks that the box is read from" in page.text
    assert figures_of(source)["predicted"][0] == [180, 240, 102, 102]
    assert page.nodes("true") | page.nodes("false") == set(range(20))


def test_one_page_of_questions_and_expressions(tmp_path):
    evidence = [
        evidence_of(shapes_graph()),
        grounded_evidence(true_box=TRIANGLE),
        grounded_evidence(true_box=[0.0, 0.0, 9.0, 9.0]),
        grounded_evidence(),
        evidence_of(shapes_graph(), text="Where?", answers=[("left", 0.7)], score=0.6),
    ]
    source, page = page_of(tmp_path, evidence)
    said = "2 questions; mean accuracy of the 2 with known answers 80.0%. "
    said += "3 expressions; mean accuracy of the 2 with known boxes 50.0%."
    assert said in page.text
    table = source.split('<nav class="card">')[1].split("</nav>")[0]
    head, *rows = [re.sub("<[^>]*>", "|", row) for row in re.findall("<tr>(.*?)</tr>", table)]
    assert [one for one in head.split("|") if one] == ["question or expression", "answer or box"]
    cells = [[one for one in row.split("|") if one][2:] for row in rows]
    assert cells == [
        ["blue", "✓ right"],
        ["IoU 0.89", "✓ right"],
        ["IoU 0.00", "✗ wrong"],
        ["60.0, 80.0, 94.0, 114.0", "not scored"],
        ["left", "partly right, 60.0%"],
    ]
    links = [values["href"] for tag, values in page.started if tag == "a"]
    assert links == ["#" + values["id"] for tag, values in page.started if tag == "section"]
    (only,) = re.findall("<nav.*?<thead>(.*?)</thead>", page_of(tmp_path, evidence[1:4])[0], re.S)
    assert re.sub("<[^>]*>", "|", only).strip("|").split("||") == ["expression", "box"]


def test_the_likeliest_regions_are_shown_first():
    evidence = grounded_evidence(make=lit_evidence)
    assert shown_regions(evidence) == [3, 1, 5, 0, 6, 4, 2]
    text = Page(draw_region_attention(evidence)).text
    assert "3 triangle" in text
    assert "6 square" not in text
    evidence.grounded.probabilities = []
    relevance = evidence.node_relevance
    kept = [place for place in range(7) if evidence.node_kept[place]]
    assert shown_regions(evidence)[: len(kept)] == sorted(kept, key=lambda one: -relevance[one])


def test_odd_boxes(tmp_path):
    empty = [0.0, 0.0, 0.0, 0.0]
    many = [1 / 36] * 36
    for graph, probabilities in (
        (many_nodes(), many),
        (SceneGraph(width=160, height=120), []),
        (SceneGraph([Node("region", "", 0, box=(5, 5, 5, 5))], [], [], 160, 120), [1.0]),
    ):
        evidence = grounded_evidence(
            graph, probabilities=probabilities, box=empty, true_box=[160.0, 120.0, 160.0, 120.0]
        )
        assert evidence.grounded.iou == 0
        page_of(tmp_path, [evidence])
    large = grounded_evidence(true_box=TRIANGLE)
    large.image = Image.new("RGB", (1600, 1200))  # the same shape: boxes are those of the graph
    assert figures_of(draw_boxes(large))["predicted"][0] == [180, 240, 102, 102]


def test_what_users_write_stays_text(tmp_path):
    bad = '<script>alert("1")</script>'
    evidence = grounded_evidence(shapes_graph(labels=[bad] * 7), true_box=TRIANGLE)
    evidence.text = bad
    source, page = page_of(tmp_path, [evidence] * 2)
    assert "<script>alert" not in source
    assert [tag for tag, _ in page.started].count("script") == 1


def test_probabilities_of_other_regions(tmp_path):
    evidence = grounded_evidence(probabilities=[0.5, 0.5])
    with pytest.raises(ValueError, match="a probability for each of 7 regions, or none, got 2"):
        write_report(tmp_path / "page.html", [evidence], "Why")
