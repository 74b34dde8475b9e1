import csv
import time
from itertools import count, islice
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tbkin.graphs.facts import facts_of, read_facts
from tbkin.graphs.scene_graph import SceneGraph
from tbkin.parsers import learned
from tbkin.parsers.learned import LearnedParser
from tbkin.parsers.learned_model import GRAMS, gram_rows
from tbkin.parsers.learned_vocabulary import SHIPPED, VOCABULARY, WEIGHTS

FACTUAL = Path(__file__).parents[2].parent / "shared" / "data" / "factual"

CAPTIONS = {
    "white stove in a kitchen": "( stove , is , white ) , ( stove , in , kitchen )",
    "five boats tied to a dock": "( boats , tie to , dock ) , ( boats , is , 5 )",
    "a man holds a knife": "( man , hold , knife )",
    "the man is wearing black glasses .": "( glasses , is , black ) , ( man , wear , glasses )",
    "a bird sitting on top of a pole": "( bird , sit on top of , pole )",
    "trees and bushes growing on green lawn":
        "( bushes , grow on , lawn ) , ( trees , grow on , lawn ) , ( lawn , is , green )",
    "the car is red": "( car , is , red )",
    "leg of the table": "( table , have , leg )",
    "a building": "( building )",
}  # fmt: skip

QUESTIONS = {
    "What color is the man's shirt?": {"man", "shirt"},
    "How many dogs are there?": {"dogs"},
    "Is the cat sleeping on the bed?": {"cat", "bed"},
    "What is on the table?": {"table"},
}


@pytest.fixture(scope="module")
def parser():
    return LearnedParser()


def facts(graph):
    return set(facts_of(graph))


def test_the_weights_are_in_the_package_and_small():
    files = sorted(path.name for path in SHIPPED.iterdir())
    assert files == [WEIGHTS, VOCABULARY]
    assert sum((SHIPPED / name).stat().st_size for name in files) <= 12e6


@pytest.mark.parametrize(("caption", "gold"), CAPTIONS.items())
def test_captions(parser, caption, gold):
    assert facts(parser(caption)) == set(read_facts(gold))


@pytest.mark.parametrize(("question", "entities"), QUESTIONS.items())
def test_a_question_names_things_and_not_what_it_asks_for(parser, question, entities):
    graph = parser(question)
    found = {node.text or graph.words[node.index] for node in graph.nodes if node.role == "object"}
    assert found == entities


def test_nodes_point_at_their_words(parser):
    graph = parser("Two dogs, sitting on the red mat.")
    assert graph.words == ["Two", "dogs", "sitting", "on", "the", "red", "mat"]
    places = {node.label: node.index for node in graph.nodes}
    assert places == {"dog": 1, "mat": 6, "2": 0, "red": 5, "sit on": 2}


def test_case_and_punctuation_do_not_matter(parser):
    wanted = facts(parser("a red bus on the street"))
    assert facts(parser("A RED BUS ON THE STREET")) == wanted
    assert facts(parser("\u201cA red bus\u201d on the street!!")) == wanted


def test_what_a_caption_denies_is_not_asserted(parser):
    assert not any("hat" in fact for fact in facts(parser("a man with no hat")))


def test_alone_or_in_any_batch_a_sentence_has_the_same_graph(parser, monkeypatch):
    sentences = [*CAPTIONS, *QUESTIONS, "", "red " * 70] * 9
    alone = [parser(sentence).to_dict() for sentence in sentences]
    assert [graph.to_dict() for graph in parser.many(sentences)] == alone
    monkeypatch.setattr(learned, "WINDOW", 7)
    monkeypatch.setattr(learned, "BATCH", 2)
    assert [graph.to_dict() for graph in parser.many(sentences)] == alone


def test_two_parsers_agree(parser):
    other = LearnedParser(SHIPPED)
    assert [g.to_dict() for g in other.many(CAPTIONS)] == [
        g.to_dict() for g in parser.many(CAPTIONS)
    ]


def test_an_endless_stream_is_read_a_window_at_a_time(parser):
    read = []

    def stream():
        for number in count():
            read.append(number)
            yield f"{number} dogs"

    graphs = list(islice(parser.many(stream()), 3))
    assert [graph.words for graph in graphs] == [["0", "dogs"], ["1", "dogs"], ["2", "dogs"]]
    assert len(read) == learned.WINDOW


def test_nothing_gives_an_empty_graph(parser):
    for text in ("", " \n\t", "?! ...", "\x00"):
        graph = parser(text)
        assert (graph.nodes, graph.edges) == ([], [])
    assert list(parser.many([])) == []


@settings(max_examples=60, deadline=None)
@given(text=st.text(max_size=200))
def test_any_text_gives_a_sound_graph(parser, text):
    graph = parser(text)
    graph.check()
    assert isinstance(graph, SceneGraph)
    assert all(word in text for word in graph.words)
    facts_of(graph)


@pytest.mark.parametrize(
    "text",
    ["x" * 10_000, "\U0001f436 " * 5000, "a.b," * 2500, "红色圆圈" * 2500, "red hat on " * 909,
     "n't's" * 2000, "palte " * 1600],
    ids=["one word", "emoji", "dots", "Chinese", "endless", "clitics", "typos"],
)  # fmt: skip
def test_ten_thousand_characters(parser, text):
    graph = parser(text)
    graph.check()


def test_a_long_text_is_parsed_to_its_end_at_linear_cost(parser):
    sentence = "the red bus is parked on the street . "

    def seconds(copies):
        started = time.process_time()
        graph = parser(sentence * copies)
        assert facts(graph) >= {("bus", "is", "red")}
        assert len(graph.words) == 8 * copies
        assert max(node.index for node in graph.nodes) >= 8 * copies - 8
        return time.process_time() - started

    seconds(1)
    assert seconds(240) < 12 * seconds(60) + 0.2  # 4 times where linear, 16 where quadratic


def test_a_folder_without_weights_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"has no vocabulary.json.*train_learned_parser"):
        LearnedParser(tmp_path)


def test_files_that_do_not_belong_together_are_refused(tmp_path):
    text = (SHIPPED / VOCABULARY).read_text(encoding="utf-8")
    (tmp_path / VOCABULARY).write_text(text.replace('"width": ', '"width": 1'), encoding="utf-8")
    (tmp_path / WEIGHTS).symlink_to(SHIPPED / WEIGHTS)
    with pytest.raises(ValueError, match="do not belong together"):
        LearnedParser(tmp_path)


def test_a_word_has_the_same_rows_in_every_process():
    # "<at", "at>" and "<at>" have crc32 4189989413, 1013373276 and 1486788683; the remainders by
    # 8191, plus one since row 0 is padding, in order:
    rows = gram_rows("at", 8192)
    assert rows == [6229, 7330, 7510, *[0] * (GRAMS - 3)]
    assert len(gram_rows("x" * 500, 8192)) == GRAMS


def test_padding_is_not_there_to_matter(parser):
    # Captions of different length never share a batch, so none is padded.
    seen = []
    encode = parser.net.encode
    parser.net.encode = lambda places, *rest: seen.append(places) or encode(places, *rest)
    try:
        list(parser.many(["a dog", "a red dog", "the cat", "one"]))
    finally:
        del parser.net.encode
    assert sorted(tuple(places.shape) for places in seen) == [(1, 1), (1, 3), (2, 2)]


@pytest.mark.skipif(not FACTUAL.is_dir(), reason="FACTUAL's data is not there")
def test_scores_on_factuals_dev_part(parser):
    with (FACTUAL / "random_dev.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 1000
    threads = torch.get_num_threads()
    equal, f1 = 0, 0.0
    for row, graph in zip(rows, parser.many(row["caption"] for row in rows), strict=True):
        gold, found = set(read_facts(row["scene_graph"])), facts(graph)
        equal += gold == found
        a, b = tuples(gold), tuples(found)
        f1 += 2 * len(a & b) / (len(a) + len(b))
    assert torch.get_num_threads() == threads
    assert equal >= 760
    assert f1 / 10 >= 88


def tuples(facts):
    """SPICE's: entities, (entity, attribute), relations; each once."""
    ends = {part for fact in facts for part in ((fact[0],) if len(fact) == 1 or fact[1] == "is"
                                                else (fact[0], fact[2]))}  # fmt: skip
    return {(end,) for end in ends} | {
        (fact[0], fact[2]) if fact[1] == "is" else fact for fact in facts if len(fact) == 3
    }
