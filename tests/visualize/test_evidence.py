import re

import pytest
from PIL import Image

from tbkin.graphs.scene_graph import Node, SceneGraph
from tbkin.visualize import draw_boxes, draw_graph, write_report
from tbkin.visualize.evidence import draw_region_attention, draw_word_attention
from tests.visualize.made_up import (
    HIDDEN,
    SHAPES,
    Page,
    attention_of,
    evidence_of,
    lit_evidence,
    many_nodes,
    page_of,
    shapes_graph,
)


def test_the_page_needs_no_network(tmp_path):
    source, page = page_of(tmp_path, [evidence_of(shapes_graph())])
    bare = source.replace("http://www.w3.org/2000/svg", "")
    assert "http://" not in bare
    assert "https://" not in bare
    for tag, values in page.started:
        assert tag not in ("link", "iframe", "object")
        assert "src" not in values
        assert re.match("#|data:image/(png|jpeg);base64,", values.get("href", "#"))
    assert "url(" not in source
    assert "@import" not in source


def test_every_question_answer_and_truth_is_shown(tmp_path):
    graph = shapes_graph()
    evidence = [
        evidence_of(graph),
        evidence_of(graph, text="Where?", answers=[("left", 0.7)], truth="right", score=0.0),
        evidence_of(graph, text="猫は?", answers=[("ねこ", 0.61)], truth="cat", score=0.3),
        evidence_of(graph, text="Who?", answers=[("nobody", 0.5)], truth="", score=None),
    ]
    _, page = page_of(tmp_path, evidence, table=[("accuracy", "0.713"), ("n", "<4>")])
    for one in evidence:
        assert page.text.count(one.text) == 2  # the contents and its section
        assert one.truth in page.text
        for answer, probability in one.answers:
            assert answer in page.text
            assert f"{probability:.3f}" in page.text
    links = [values["href"] for tag, values in page.started if tag == "a"]
    targets = ["#" + values["id"] for tag, values in page.started if tag == "section"]
    assert links == targets
    for verdict in ("✓ right", "✗ wrong", "partly right, 30.0%", "not scored"):
        assert page.text.count(verdict) == 2
    assert "accuracy0.713n<4>" in re.sub(r"\s", "", page.text)
    assert "<nav" not in page_of(tmp_path, evidence[:1])[0]


def test_what_users_write_cannot_become_markup(tmp_path):
    bad = '<script>alert("1")</script>'
    graph = shapes_graph(labels=[bad] * 7)
    graph.words[0] = bad
    evidence = evidence_of(
        graph, text=bad, truth=bad, answers=[(bad, 0.5)], selection=bad, knowledge=bad
    )
    source, page = page_of(tmp_path, [evidence] * 2, table=[(bad, bad)])
    assert "<script>alert" not in source
    assert [tag for tag, _ in page.started].count("script") == 1  # ours
    assert page.text.count(bad) > 10


def test_dropped_nodes_are_marked_and_no_others(tmp_path):
    evidence = evidence_of(shapes_graph())
    dropped = {place for place, kept in enumerate(evidence.node_kept) if not kept}
    assert 0 < len(dropped) < 15
    for source in (draw_graph(evidence), page_of(tmp_path, [evidence])[0]):
        assert Page(source).nodes("false") == dropped
        assert Page(source).nodes("true") == set(range(20)) - dropped
    assert draw_graph(evidence).count('data-kept="false"') == len(dropped)
    boxes = draw_boxes(evidence)
    assert boxes.count('data-kept="false"') == len(dropped & set(range(7)))
    assert boxes.count('data-kept="true"') == 7 - len(dropped & set(range(7)))
    source, _ = page_of(tmp_path, [evidence])
    assert source.count(">dropped</span>") == len(dropped)
    assert source.count(">kept</span>") == 15 - len(dropped)  # regions and attributes


def test_shares_are_shown_as_per_cent(tmp_path):
    _, page = page_of(tmp_path, [evidence_of(shapes_graph())])
    for share in ("81.2%", "54.4%", "32.7%", "16.1%", "62.3%", "41.7%"):
        assert page.text.count(share) == 1


def test_only_geometry_that_answers_the_text_is_drawn():
    graph = shapes_graph()
    drawn_edges = Page(draw_graph(evidence_of(graph)))
    ends = [values["data-ends"] for _, values in drawn_edges.started if "data-ends" in values]
    assert len(ends) == len(graph.edges) - 3
    assert "1 0" in ends  # stored as "0 right of 1", drawn as the question says it
    assert "1 circle, left of → 0 square" in drawn_edges.text
    assert "Not drawn: 3 spatial edges" in drawn_edges.text


def test_dropped_edges_are_dashed_and_geometry_is_not():
    graph = shapes_graph()
    evidence = evidence_of(graph, edge_kept=[None] * len(graph.edges), node_kept=[True] * 20)
    assert "stroke-dasharray" not in draw_graph(evidence)
    evidence.edge_kept[0] = False
    assert draw_graph(evidence).count("stroke-dasharray") == 2  # the edge and the legend


def test_more_relevant_regions_are_darker():
    evidence = evidence_of(shapes_graph(), node_kept=[True] * 20)
    evidence.node_relevance[:7] = [1.0, 0.0, 0.5, 0.5, 0.5, 0.5, 0.5]
    boxes = draw_boxes(evidence)

    def brightness(place):
        group = boxes.split(f'data-node="{place}"')[1].split("</g>")[0]
        color = re.findall('stroke="#(.{6})"', group)[-1]
        return sum(int(color[i : i + 2], 16) for i in (0, 2, 4))

    assert brightness(0) < brightness(2) < brightness(1)


def test_small_pictures_are_scaled_up_and_large_ones_down():
    boxes = draw_boxes(evidence_of(shapes_graph()))
    assert 'viewBox="0 0 480 360"' in boxes
    assert '<rect x="252.0" y="66.0" width="162.0" height="162.0"' in boxes  # region 0, times 3
    large = evidence_of(SceneGraph(), image=Image.new("RGB", (2000, 4000)))
    assert 'viewBox="0 0 280 560"' in draw_boxes(large)


def test_a_position_that_every_head_dropped_is_hatched(tmp_path):
    evidence = evidence_of(shapes_graph())
    dropped = sum(share == 0 for row in evidence.answer_attention_kept for share in row)
    _, page = page_of(tmp_path, [evidence])
    cells = [values for tag, values in page.started if tag == "td" and "title" in values]
    assert len(cells) == 4 * len(evidence.positions)
    assert 0 < sum(values.get("class") == "dropped" for values in cells) == dropped
    weight = evidence.answer_attention[2][0]
    title = f"layer 3, [CLS]: weight {weight:.3f}, kept by 75% of the heads"
    assert title in [values["title"] for values in cells]


@pytest.mark.parametrize(
    "graph",
    [
        SceneGraph(),
        SceneGraph(words=["Why", "?"]),
        SceneGraph([Node("word", "why", 0, "object")], [], ["Why"]),
        SceneGraph([Node("region", "", 0, box=(5, 5, 5, 5))], [], [], 160, 120),
        SceneGraph([Node("region", "edge", 0, box=(160, 120, 160, 120))], [], [], 160, 120),
        many_nodes(),
    ],
    ids=["empty", "no nodes", "one word", "an empty box", "a corner", "many"],
)
def test_odd_graphs(graph, tmp_path):
    _, page = page_of(tmp_path, [evidence_of(graph, text="x" * 500 + " why?")])
    assert page.nodes("true") | page.nodes("false") == set(range(len(graph.nodes)))


def test_regions_without_labels_are_called_by_their_number():
    drawn_graph = Page(draw_graph(evidence_of(many_nodes())))
    assert "cell 12" in drawn_graph.text


def test_chips_stay_apart_and_inside():
    source = draw_graph(evidence_of(many_nodes()))
    width, height = map(float, re.search(r'viewBox="0 0 (\d+) (\d+)"', source).groups())
    first = re.findall(r'data-kept="\w+"><title>[^<]*</title><rect ([^/]*)/>', source)
    areas = [[float(one) for one in re.findall(r'="([\d.]+)"', style)[:4]] for style in first]
    assert len(areas) == 42
    for number, (x, y, across, down) in enumerate(areas):
        assert x >= 0
        assert x + across <= width
        assert y + down <= height
        for other_x, other_y, other_across, other_down in areas[:number]:
            apart = x >= other_x + other_across or other_x >= x + across
            assert apart or y >= other_y + other_down or other_y >= y + down


def test_attention_may_be_all_zero(tmp_path):
    evidence = evidence_of(shapes_graph())
    evidence.answer_attention = [[0.0] * len(row) for row in evidence.answer_attention]
    assert "No attention to show" in page_of(tmp_path, [evidence])[1].text


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"node_kept": [True]}, r"'Where\?': node_kept must have 20 entries, got 1"),
        ({"edge_relevance": []}, r"edge_relevance must have \d+ entries, got 0"),
        ({"attention_kept": [0.5]}, "answer_attention must have 1 entries, got 4"),
        ({"positions": ["one"]}, r"answer_attention\[0\] must have one entry a position, 1, got"),
    ],
)
def test_lists_that_do_not_belong_together(changes, message, tmp_path):
    evidence = evidence_of(shapes_graph(), text="Where?", **changes)
    with pytest.raises(ValueError, match=message):
        write_report(tmp_path / "page.html", [evidence], "Why")
    assert not (tmp_path / "page.html").exists()


# Attention before and after the threshold.


def test_the_page_shows_attention_before_and_after(tmp_path):
    source, page = page_of(tmp_path, [lit_evidence()])
    assert page.text.count("Attention before and after the threshold") == 1
    assert page.text.count("before the threshold") == 2  # two drawings
    assert "Nothing was dropped" not in page.text
    assert "the threshold (rel_max 0.05 in all layers) left of it" in page.text
    for share in ("83.1%", "64.2%", "45.3%", "26.4%"):
        assert page.text.count(share) == 1
    cells = re.findall("<tr><th>layer 1</th>(.*?)</tr>", source)
    assert cells[-1] == "<td>83.1%</td><td>-</td>"
    assert "text-&lt;image&gt;" in source
    assert "ROSITA: the word masked" in page.text
    assert "ROSITA: the region masked" in page.text
    descriptions = [values["aria-label"] for tag, values in page.started if tag == "svg"]
    assert any("circle, left, large, red, square" in said for said in descriptions)
    # The picture once in the drawing of its panels: 5 words x 2, and ROSITA's view of one word.
    assert [values.get("href", "")[:6] for tag, values in page.started if tag == "use"] == [
        "#seen-"
    ] * 11
    plain, bare = page_of(tmp_path, [evidence_of(shapes_graph())])
    assert "before the threshold" not in bare.text
    assert len(source) - len(plain) < 150_000


def test_where_nothing_is_dropped_weights_are_shown_once(tmp_path):
    source, page = page_of(tmp_path, [lit_evidence(threshold=0.0, selection="none")])
    assert "Nothing was dropped in this layer (rule: none)" in page.text
    assert "before the threshold" not in page.text
    assert page.text.count("weights") >= 2
    assert source.count("<use ") == 6  # 5 words, and ROSITA's view of one
    assert "(1/2)" not in page.text


def test_regions_that_every_head_dropped_are_dashed():
    evidence = lit_evidence()
    attention = evidence.attention
    drawing = draw_word_attention(evidence, [4], layer=1)
    before, after, rosita = drawing.split("<use ")[1:]
    place = attention.token_of(4)
    kept = attention.keep[1, :, place, attention.sizes[0] :][:, :7].any(dim=0).tolist()
    dropped = [one for one in range(7) if not kept[one] and one != HIDDEN]
    assert 0 < len(dropped) < 6
    for panel, expected in ((before, []), (after, dropped), (rosita, [])):
        found = re.findall(r'data-fate="dropped"><title>region (\d)', panel)
        assert sorted(map(int, found)) == expected
        assert panel.count('stroke-dasharray="5 4"') == len(expected)
        assert re.findall(r'data-fate="dropped before fusion"><title>region (\d)', panel) == ["6"]
    # In numbers, beside the pictures.
    text = Page(drawing).text
    row = attention.row(1, place, attention.regions())
    for one in range(6):
        number = f"{row.before[one]:.3f} → "
        if one in dropped:
            number += "dropped"
        else:
            number += f"{row.after[one]:.3f}" + (" (1/2)" if row.heads[one] == 0.5 else "")
        assert number in text
    assert f"kept {6 - len(dropped)} of 6 regions; 1 dropped earlier" in text
    assert f"{sum(row.before):.0%} → {sum(row.after):.0%}" in text
    assert "0: 0.60" in text  # ROSITA's view
    assert "4: 0.15" in text


def test_the_brighter_of_two_boxes_shows():
    import base64
    import io

    graph = shapes_graph()
    evidence = lit_evidence(graph=graph, threshold=0.0)
    weights = [0.6, 0.1, 0.05, 0.05, 0.15, 0.05, 0.0]
    drawing = draw_word_attention(evidence, [4])
    shade = drawing.split("<use ")[2].split("base64,")[1].split('"')[0]
    alpha = Image.open(io.BytesIO(base64.b64decode(shade))).getchannel("A")
    scale = alpha.width / 160

    def darkness(place):
        left, top, right, bottom = SHAPES[place][2]
        return alpha.getpixel((int((left + right) / 2 * scale), int((top + bottom) / 2 * scale)))

    assert darkness(0) == 0  # the largest weight
    assert alpha.getpixel((1, 1)) == darkness(6) == round(255 * 0.85)  # no box, and no weight
    assert darkness(4) == pytest.approx(255 * 0.85 * (1 - (weights[4] / 0.6) ** 0.3), abs=1)
    assert darkness(1) > darkness(4)


def test_bars_of_dropped_words_are_hollow():
    evidence = lit_evidence()
    attention = evidence.attention
    drawing = draw_region_attention(evidence, [0], layer=2)
    kept = attention.keep[2, :, attention.sizes[0], : attention.sizes[0]].any(dim=0)
    dropped = int((~kept).sum())
    assert 0 < dropped < len(kept)
    assert drawing.count('stroke-dasharray="3 2"') == dropped
    assert drawing.count("line-through") == dropped
    text = Page(drawing).text
    assert text.count("dropped") == dropped
    assert text.count("no word") == 1  # [CLS], in ROSITA's view
    assert f"kept {int(kept.sum())} of {len(kept)} tokens" in text


def test_attention_of_odd_graphs(tmp_path):
    graphs = [
        SceneGraph(),
        SceneGraph(words=["Why", "?"]),
        SceneGraph([Node("word", "why", 0, "object")], [], ["Why"]),
        SceneGraph([Node("region", "", 0, box=(5, 5, 5, 5))], [], [], 160, 120),
        SceneGraph([Node("region", "edge", 0, box=(160, 120, 160, 120))], [], [], 160, 120),
        many_nodes(),
    ]
    evidence = [
        evidence_of(graph, attention=attention_of(graph, threshold))
        for graph in graphs
        for threshold in (0.0, 0.5)
    ]
    _, page = page_of(tmp_path, evidence)
    assert page.text.count("Attention before and after") == len(evidence)
    assert page.text.count("33 more regions not shown.") == 2


def test_what_users_write_stays_text_in_the_drawings(tmp_path):
    bad = '<script>alert("1")</script>'
    graph = shapes_graph(labels=[bad] * 7)
    graph.words[4] = bad
    source, page = page_of(tmp_path, [lit_evidence(graph=graph, selection=bad)])
    assert "<script>alert" not in source
    assert [tag for tag, _ in page.started].count("script") == 1


def test_attention_that_cannot_be_drawn(tmp_path):
    evidence = lit_evidence()
    with pytest.raises(ValueError, match="layer 4 of 4"):
        draw_word_attention(evidence, layer=4)
    with pytest.raises(ValueError, match="no word 40 in the 12"):
        draw_word_attention(evidence, [40])
    with pytest.raises(ValueError, match="no region 7; there are 7, from 0"):
        draw_region_attention(evidence, [7])
    with pytest.raises(ValueError, match="holds no attention to draw"):
        draw_word_attention(evidence_of(shapes_graph()))
    evidence.attention.after = evidence.attention.after[1:]
    with pytest.raises(
        ValueError, match=r"attention must be of 4 layers and 28 positions, got \(3"
    ):
        write_report(tmp_path / "page.html", [evidence], "Why")
