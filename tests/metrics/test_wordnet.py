import os
import zipfile
from pathlib import Path

import pytest

from tbkin.metrics import wordnet
from tbkin.metrics.wordnet import WordNet, find_wordnet, version_of

LICENCE = "  1 This stands for the licence.  \n  2 WordNet 3.1 Copyright 2011 by some  \n"
# lemma, part of speech, synsets, pointers and their signs, two counts of senses, offsets.
INDEX = {
    "noun": """
        bus n 2 3 @ ~ #p 2 1 00000001 00000002
        car n 1 0 1 1 00000003
        glass n 1 0 1 0 00000004
        ha n 1 0 1 0 00000005
        knife n 1 0 1 0 00000006
        leaf n 1 0 1 0 00000007
        man n 1 0 1 0 00000008
        motorcar n 1 1 @ 1 0 00000003
        park n 1 0 1 0 00000009
        parking_lot n 1 0 1 0 00000009
        walking n 1 0 1 0 00000010
    """,
    "verb": """
        park v 1 0 1 0 00000009
        sit v 1 0 1 0 00000011
        walk v 1 0 1 0 00000012
        stroll v 1 0 1 0 00000012
    """,
    "adj": """
        big a 1 0 1 0 00000013
        large a 1 0 1 0 00000013
        nice a 1 0 1 0 00000014
    """,
    "adv": "inside r 1 0 1 0 00000015",
}
IRREGULAR = {"noun": "men man\nknives knife\n", "verb": "sat sit\n", "adj": "", "adv": ""}


def write_wordnet(folder, names=tuple(INDEX)):
    folder.mkdir(parents=True)
    for name in names:
        lines = "".join(f"{line.strip()}  \n" for line in INDEX[name].strip().splitlines())
        (folder / f"index.{name}").write_text(LICENCE + lines)
    for name, text in IRREGULAR.items():
        (folder / f"{name}.exc").write_text(text)
    return folder


@pytest.fixture
def folder(tmp_path):
    return write_wordnet(tmp_path / "dict")


@pytest.fixture
def words(folder):
    return WordNet(folder)


@pytest.fixture
def nowhere(monkeypatch, tmp_path):
    """Nothing names WordNet, none is installed, and home and the current folder are empty."""
    for name in ("WNSEARCHDIR", "WNHOME", "NLTK_DATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(wordnet, "INSTALLED", ())
    monkeypatch.setattr(wordnet, "NLTK_INSTALLED", ("~/nltk_data",))
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "home")
    return tmp_path


SYSTEM = any(
    Path(place).exists()
    for place in ("/usr/share/wordnet", "/usr/share/nltk_data", "/usr/local/share/nltk_data")
)


def test_synsets_by_hand(words):
    assert words.synsets("bus") == {"n00000001", "n00000002"}
    assert words.synsets("Parking  Lot") == {"n00000009"}
    assert words.synsets("next to") == words.synsets("") == frozenset()
    # The same offset is another set for another part of speech.
    assert words.synsets("park") == {"n00000009", "v00000009"}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("car", "motorcar"),
        ("cars", "motorcar"),
        ("large", "big"),
        ("men", "man"),
        ("walks", "stroll"),
        ("walking", "stroll"),  # a noun too, but the verb counts as well
        ("sat", "sit"),
        ("nicest", "nice"),
        ("parked", "parking lot"),  # by the noun "park"
    ],
)
def test_words_that_share_a_set(words, one, other):
    assert not words.synsets(one).isdisjoint(words.synsets(other))


@pytest.mark.parametrize(
    ("one", "other"), [("car", "bus"), ("sit on", "sit"), ("next to", "next to"), ("men", "walk")]
)
def test_words_that_share_none(words, one, other):
    assert words.synsets(one).isdisjoint(words.synsets(other))


@pytest.mark.parametrize(
    ("word", "lemma"),
    [
        ("cars", "car"),
        ("glasses", "glass"),
        ("bus", "bus"),
        ("buses", "bus"),
        ("men", "man"),
        ("firemen", "firemen"),  # "fireman" is unknown
        ("leaves", "leaf"),
        ("knives", "knife"),
        ("has", "ha"),
        ("walking", "walking"),  # nouns only
        ("zebras", "zebras"),  # unknown
        ("s", "s"),
    ],
)
def test_noun_lemmas(words, word, lemma):
    assert words.noun_lemma(word) == lemma


def test_version(folder):
    assert version_of(folder) == "3.1"
    (folder / "index.noun").write_text("wordnet n 1 0 1 0 00000001\n")
    assert version_of(folder) == ""


def test_a_folder_that_is_named(folder, nowhere):
    assert find_wordnet(str(folder)) == folder
    with pytest.raises(FileNotFoundError, match=r"wordnet=.*home: no folder with index\.noun, "):
        find_wordnet(str(nowhere / "home"))
    (folder / "index.adv").unlink()
    (folder / "noun.exc").unlink()
    with pytest.raises(FileNotFoundError, match=r"no folder with"):
        find_wordnet(str(folder))
    with pytest.raises(FileNotFoundError, match=r"has no noun\.exc, index\.adv\. Install it"):
        WordNet(folder)


@pytest.mark.parametrize("name", ["WNSEARCHDIR", "WNHOME", "NLTK_DATA"])
def test_places_that_the_environment_names(nowhere, monkeypatch, name):
    below = {"WNSEARCHDIR": "x", "WNHOME": "x/dict", "NLTK_DATA": "x/corpora/wordnet"}[name]
    folder = write_wordnet(nowhere / below)
    root = nowhere / "x"
    monkeypatch.setenv(name, f"elsewhere{os.pathsep}{root}" if name == "NLTK_DATA" else str(root))
    assert find_wordnet() == folder


def test_nltk_leaves_it_in_a_zip_file(nowhere, monkeypatch):
    folder = write_wordnet(nowhere / "x")
    (nowhere / "corpora").mkdir()
    with zipfile.ZipFile(nowhere / "corpora" / "wordnet.zip", "w") as archive:
        for path in folder.iterdir():
            archive.write(path, f"wordnet/{path.name}")
    monkeypatch.setenv("NLTK_DATA", str(nowhere))
    words = WordNet(find_wordnet())
    assert words.noun_lemma("knives") == "knife"
    assert words.synsets("cars") == words.synsets("motorcar")


def test_nowhere_to_be_found(nowhere):
    with pytest.raises(FileNotFoundError, match=r"apt-get install wordnet-base.*wordnet=DIR"):
        find_wordnet()


@pytest.mark.parametrize("line", ["car n 1", "car n x 0 1 1 00000003", "car n 1 0 1 1 abc"])
def test_a_line_that_is_no_line(folder, line):
    with (folder / "index.noun").open("a") as file:
        file.write(line + "\n")
    with pytest.raises(ValueError, match=r"index\.noun, line 14 is no line of a WordNet index"):
        WordNet(folder)


def test_the_real_one():
    try:
        words = WordNet(find_wordnet())
    except FileNotFoundError:
        pytest.skip("WordNet is not installed")
    assert not words.synsets("couch").isdisjoint(words.synsets("sofas"))
    assert not words.synsets("automobile").isdisjoint(words.synsets("cars"))
    assert words.synsets("car").isdisjoint(words.synsets("dog"))
    assert words.noun_lemma("glasses") == "glass"
    assert words.noun_lemma("people") == "people"
