"""How well a caption fits: in words, and on the page beside answers and boxes."""

import re

import pytest

from tbkin.visualize import MatchedPicture
from tbkin.visualize.matched import matched_verdict
from tests.visualize.made_up import evidence_of, lit_evidence, page_of, shapes_graph


def matched_evidence(make=evidence_of, **changes):
    return make(
        graph=shapes_graph(),
        text="A circle left of a red square.",
        answers=[],
        truth="",
        score=None,
        matched=MatchedPicture(**{"probability": 0.731} | changes),
    )


RIGHT = {"rank": 1, "searched": 30, "true": True, "true_rank": 1}
WRONG = {"rank": 1, "searched": 30, "true": False, "true_rank": 4}
BEHIND = {"rank": 4, "searched": 30, "true": True, "true_rank": 4}


@pytest.mark.parametrize(
    ("changes", "words", "score"),
    [
        ({}, "73.1%", None),
        (RIGHT, "rank 1 of 30 pictures", 1.0),
        (WRONG, "rank 1 of 30 pictures", 0.0),
        (BEHIND, "rank 4 of 30 pictures", None),  # the picture before it is scored
        ({"rank": 1, "searched": 1}, "rank 1 of 1 picture", None),
    ],
)
def test_only_the_first_picture_is_right_or_wrong(changes, words, score):
    matched = MatchedPicture(0.731, **changes)
    assert (matched.in_words(), matched.score) == (words, score)


def test_the_verdict():
    def said(**changes):
        return re.sub("<[^>]*>", "", matched_verdict(MatchedPicture(0.5, **changes)))

    true, place = "The caption is true of this picture.", "Rank 1 of 30 pictures."
    assert said() == "Whether the caption is true of this picture is unknown. not scored"
    assert said(**RIGHT) == f"{place}\n{true} ✓ right"
    assert said(**WRONG) == (
        f"{place}\nThe caption is not true of this picture. "
        "The best one that it is true of has rank 4. ✗ wrong"
    )
    assert said(**BEHIND) == f"Rank 4 of 30 pictures.\n{true} "
    known = said(cosine=0.25, **RIGHT)
    assert known.startswith("Rank 1 of 30 pictures. Cosine of the embeddings 0.250.\n")


def test_the_page_of_a_caption(tmp_path):
    source, page = page_of(tmp_path, [matched_evidence(make=lit_evidence, **RIGHT)])
    shown = re.sub(r'="[^"]*"', "", source.split("</style>")[1].split("<script>")[0])
    assert not re.search('question|expression|answer(?!s?")', shown, re.I)
    assert "belong together" in page.text
    assert "0.731" in page.text
    assert "Relevance to the caption" in page.text
    assert "Where the position looks that the score is read from" in page.text
    assert "1 caption; mean accuracy of the 1 with known pictures 100.0%." in page.text


def test_one_page_of_all_kinds(tmp_path):
    evidence = [
        evidence_of(shapes_graph()),
        matched_evidence(**RIGHT),
        matched_evidence(**WRONG),
        matched_evidence(**BEHIND),
    ]
    source, page = page_of(tmp_path, evidence)
    assert "3 captions; mean accuracy of the 2 with known pictures 50.0%." in page.text
    assert "Relevance to the question" in page.text
    table = source.split('<nav class="card">')[1].split("</nav>")[0]
    head, *rows = [re.sub("<[^>]*>", "|", row) for row in re.findall("<tr>(.*?)</tr>", table)]
    assert [one for one in head.split("|") if one] == ["question or caption", "answer or fit"]
    cells = [[one for one in row.split("|") if one][2:] for row in rows]
    assert cells == [
        ["blue", "✓ right"],
        ["rank 1 of 30 pictures", "✓ right"],
        ["rank 1 of 30 pictures", "✗ wrong"],
        ["rank 4 of 30 pictures", "not scored"],
    ]
