import json
import math
from pathlib import Path

import pytest
import torch

from tbkin.objectives.caption_tfidf import (
    CaptionTfidf,
    PictureSimilarity,
    group_means,
    group_similarity,
)

VALUES = Path(__file__).resolve().parents[3] / "shared/reference/vsl_values.json"
GROUPS = [  # any number of captions a picture, from one to seven
    ["A dog runs.", "the dog, running on grass"],
    ["Two men ride bikes"],
    [f"A man and {count} dogs" for count in ("one", "two", "two", "three", "four", "five", "six")],
    ["", "a b c"],  # captions without a word
    ["grass, grass, green grass!"],
]


def slow_similarity(x, offsets, exclude_self=False):
    """All pairs of captions of two pictures, one by one."""
    bounds = list(zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True))
    result = torch.zeros(len(bounds), len(bounds), dtype=x.dtype)
    for i, (first, last) in enumerate(bounds):
        for j, (start, stop) in enumerate(bounds):
            pairs = [(a, b) for a in range(first, last) for b in range(start, stop)]
            if exclude_self and i == j and last - first > 1:
                pairs = [(a, b) for a, b in pairs if a != b]
            result[i, j] = sum((x[a] * x[b]).sum() for a, b in pairs) / len(pairs)
    return result


def test_worked_by_hand():
    # Of the two captions "dog" stands in both, idf = ln(3/3) + 1 = 1; "runs" and "sleeps" stand
    # in one, idf = ln(3/2) + 1. "A" has one letter. So cos = 1 / (1 + (2 idf)^2)^0.5 (1 + idf^2)^.5
    idf = math.log(1.5) + 1
    tfidf = CaptionTfidf().fit(["A dog runs, RUNS", "dog sleeps"])
    assert tfidf.columns == {"dog": 0, "runs": 1, "sleeps": 2}
    assert tfidf.idf.tolist() == pytest.approx([1, idf, idf])
    x, offsets = tfidf.encode([["A dog runs, RUNS"], ["dog sleeps"]])
    longer, shorter = math.hypot(1, 2 * idf), math.hypot(1, idf)
    expected = [[1 / longer, 2 * idf / longer, 0], [1 / shorter, 0, idf / shorter]]
    assert torch.allclose(x.to_dense(), torch.tensor(expected, dtype=torch.float64))
    assert x.is_sparse
    assert x.dtype == torch.float64
    assert offsets.tolist() == [0, 1, 2]


def test_sublinear_counts():
    # "runs" twice counts 1 + ln 2; with one caption every idf is ln(2/2) + 1 = 1.
    x, _ = CaptionTfidf(sublinear=True).fit(["dog runs runs"]).encode([["dog runs runs"]])
    assert (x.to_dense()[0, 1] / x.to_dense()[0, 0]).item() == pytest.approx(1 + math.log(2))


def test_words():
    tfidf = CaptionTfidf()
    assert tfidf.words("A dog's ÉTÉ: x_1, 42 — no-one") == ["dog", "été", "x_1", "42", "no", "one"]
    assert CaptionTfidf(min_chars=1).words("A dog") == ["a", "dog"]
    assert CaptionTfidf(min_chars=4).words("some dog") == ["some"]
    with pytest.raises(ValueError, match="min_chars is a whole number >= 1, got 0"):
        CaptionTfidf(min_chars=0)


def test_unknown_words_and_empty_captions_are_0():
    x, offsets = CaptionTfidf().fit(["dog runs"]).encode([["cat", ""], ["dog cat"]])
    assert x.to_dense().tolist() == [[0, 0], [0, 0], [1, 0]]
    assert offsets.tolist() == [0, 2, 3]


@pytest.mark.parametrize("exclude_self", [False, True])
def test_group_similarity_agrees_with_the_slow_loop(exclude_self):
    tfidf = CaptionTfidf().fit(caption for group in GROUPS for caption in group)
    x, offsets = tfidf.encode(GROUPS)
    expected = slow_similarity(x.to_dense(), offsets, exclude_self)
    similarity = group_similarity(x, offsets, exclude_self)
    assert torch.allclose(similarity, expected, rtol=0, atol=1e-12)
    assert torch.allclose(
        group_similarity(x.to_dense(), offsets, exclude_self), expected, rtol=0, atol=1e-12
    )
    captions = {10 * place: group for place, group in enumerate(GROUPS)}
    ask = PictureSimilarity(captions, exclude_self)
    asked = torch.tensor([40, 0, 30, 40, 20, 10])  # a picture twice, in no order
    places = asked // 10
    assert torch.allclose(ask(asked).double(), expected[places][:, places], rtol=0, atol=1e-6)
    assert ask(asked[:1]).shape == (1, 1)


def test_the_order_of_captions_does_not_matter():
    captions = {7: GROUPS[0], 8: GROUPS[2], 9: GROUPS[4]}
    mixed = {9: GROUPS[4][::-1], 7: GROUPS[0][::-1], 8: GROUPS[2][::-1]}
    ids = torch.tensor([7, 8, 9])
    assert torch.allclose(PictureSimilarity(captions)(ids), PictureSimilarity(mixed)(ids))


def test_a_group_without_captions_is_refused():
    x, offsets = CaptionTfidf().fit(["dog"]).encode([["dog"], []])
    with pytest.raises(ValueError, match="group 1 of 2 has no captions"):
        group_means(x, offsets)


def test_an_unknown_picture_is_named():
    ask = PictureSimilarity({1: ["dog"], 2: ["cat"]})
    with pytest.raises(LookupError, match="no captions of image 5 among those of the 2"):
        ask(torch.tensor([1, 5]))


def test_rows_stay_sparse():
    # 3,000 captions of 3 words out of 3,002: 9,000 numbers, not nine million.
    captions = [f"word{place} word{place + 1} word{place + 2}" for place in range(3000)]
    x, offsets = CaptionTfidf().fit(captions).encode([captions[:1000], captions[1000:]])
    assert x.shape == (3000, 3002)
    assert x._nnz() == 9000
    assert group_means(x, offsets)._nnz() == 1002 + 2002


def test_agrees_with_the_reference_values():
    if not VALUES.is_file():
        pytest.skip(f"no reference values in {VALUES}")
    case = json.loads(VALUES.read_text(encoding="utf-8"))["tfidf_image_semantic_case"]
    tfidf = CaptionTfidf().fit(caption for group in case["captions"] for caption in group)
    assert len(tfidf.columns) == case["vocabulary_size"]
    similarity = group_similarity(*tfidf.encode(case["captions"]))
    expected = torch.tensor(case["image_matrix"], dtype=torch.float64)
    assert torch.allclose(similarity, expected, rtol=0, atol=1e-6)
    ranks = (-similarity).argsort(dim=1).argsort(dim=1) + 1
    assert ranks.tolist() == case["row_ranks_hard"]
    ask = PictureSimilarity(dict(enumerate(case["captions"])))
    assert torch.allclose(ask(torch.arange(3)).double(), expected, rtol=0, atol=1e-6)
