import json
from pathlib import Path

import pytest

from tbkin.data.caption_cleaning import clean_cusa, clean_ptp

FILE = Path(__file__).resolve().parents[3] / "shared/reference/cusa_values.json"


@pytest.mark.parametrize(
    ("caption", "cusa", "ptp"),
    [
        (
            "A man's dog-house, (red) #1/2.",
            "a man s dog house red 1 2",
            "a man's dog-house, red 1/2",
        ),
        ("  The <person>: who?! ", "the person who", "the <person> who?"),
        ("a\n\t b; c~d", "a b c d", "a b c d"),
        ('the "best" *one*', "the best one", "the best one"),
    ],
)
def test_worked_by_hand(caption, cusa, ptp):
    assert clean_cusa(caption) == cusa
    assert clean_ptp(caption) == ptp


def test_long_captions_are_cut():
    words = [f"w{number}" for number in range(70)]
    assert clean_cusa(" ".join(words)).split() == words[:64]
    assert clean_ptp(" ".join(words)).split() == words[:30]
    assert clean_ptp(" ".join(words), 22).split() == words[:22]
    assert clean_cusa(" ".join(words), 1) == "w0"


@pytest.mark.parametrize("caption", ["", "  ", " ?!, "])
def test_an_empty_caption_is_an_error_for_cusa(caption):
    with pytest.raises(ValueError, match=r"nothing is left of the caption .*cleaning=none"):
        clean_cusa(caption)
    assert clean_ptp(caption.replace("?", "").replace(",", "")) == ""


def test_agrees_with_the_authors_code():
    if not FILE.is_file():
        pytest.skip(f"no reference values in {FILE}")
    expected = json.loads(FILE.read_text(encoding="utf-8"))["expected"]
    cases = expected["cusa_caption_cleaning"]
    assert {caption: clean_cusa(caption) for caption in cases} == cases
    prompts = expected["ptp_prompt"]
    cases = prompts["ptp_pre_caption"]
    assert {caption: clean_ptp(caption) for caption in cases} == cases
    for box in prompts["boxes"]:
        assert clean_ptp(box["raw_suffix"]) == box["cleaned"]
    suffix = ". The block 3 has a chair ."
    for case in prompts["joined_30_words"]:
        assert clean_ptp(case["caption"] + suffix) == case["text"]
