"""ROSITA's checkpoint -> a folder that predicts and trains."""

import json
import os
import re

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from transformers import BertTokenizerFast

from data_prep import convert_rosita
from data_prep.convert_rosita import check_inputs, read_answers, rosita_tokenizer
from tbkin.config import run_command
from tbkin.data.processing_tbkin import SPECIAL_TOKENS, TBKINProcessor, with_words
from tbkin.graphs.scene_graph import Node, SceneGraph
from tbkin.model.heads import TBKINForQuestionAnswering
from tbkin.model.retrieval import TBKINForImageTextRetrieval
from tbkin.parsers import PARSERS
from tbkin.parsers.spacy_rules import installed_model
from tests.conftest import QUESTION, WORDS, place_regions
from tests.model.rosita import checkpoint, forward, random_batch

VOCABULARY = [*SPECIAL_TOKENS, *dict.fromkeys(WORDS), "left", "##hand", "dog", "##s", "2", "?", "'"]
VOCABULARY = list(dict.fromkeys(VOCABULARY))
SMALL = {"width": 64, "layers": 2, "vocabulary": len(VOCABULARY)}


@pytest.fixture
def files(tmp_path):
    """A small checkpoint with three answers, its vocabulary and its answers."""
    torch.save(checkpoint("vqa", **SMALL), tmp_path / "vqa.pth")
    (tmp_path / "vocab.txt").write_text("\n".join(VOCABULARY) + "\n", encoding="utf-8")
    (tmp_path / "answers.json").write_text(json.dumps(["yes", "no", "2"]))
    return tmp_path


def words_of(files, **others):
    settings = {
        "checkpoint": files / "vqa.pth",
        "output": files / "model",
        "vocabulary": files / "vocab.txt",
        "answers": files / "answers.json",
        "parser": "word_rules",
        **others,
    }
    return [f"{name}={value}" for name, value in settings.items() if value is not None]


@torch.no_grad()
def run(model, batch):
    return model(**batch)


# What is written


def test_the_folder_computes_what_rosita_computes(files):
    convert_rosita.main(words_of(files))
    model = TBKINForQuestionAnswering.from_pretrained(files / "model").eval()
    batch, plain = random_batch(vocabulary=len(VOCABULARY))
    expected = forward(checkpoint("vqa", **SMALL), *plain)
    assert (run(model, batch).logits - expected["logits"]).abs().max() < 1e-4
    assert model.config.id2label == {0: "yes", 1: "no", 2: "2"}
    processor = TBKINProcessor.from_pretrained(files / "model")
    assert (processor.max_text_length, processor.max_regions) == (20, 36)
    assert processor.parser == "word_rules"
    assert processor.clean
    names = {path.name for path in files.iterdir()}
    assert names == {"vqa.pth", "vocab.txt", "answers.json", "model"}


def test_retrieval_reads_longer_texts(files):
    torch.save(checkpoint("retrieval", **SMALL), files / "itr.pth")
    convert_rosita.main(words_of(files, checkpoint=files / "itr.pth", answers=None))
    TBKINForImageTextRetrieval.from_pretrained(files / "model")
    assert TBKINProcessor.from_pretrained(files / "model").max_text_length == 30


def test_it_predicts_and_trains(files, tiny_root, capsys):
    from tbkin.predict import Predictor
    from tbkin.train import main as train

    labels = json.loads((tiny_root.prepared / "answers.json").read_text())
    (files / "answers.json").write_text(json.dumps(labels))
    groups = checkpoint("vqa", **SMALL, features=192, answers=len(labels))
    torch.save(groups, files / "vqa.pth")
    convert_rosita.main([*words_of(files), "model.graph_encoder=relational"])
    before = TBKINForQuestionAnswering.from_pretrained(files / "model").state_dict()
    train(
        [
            f"data.root={tiny_root.prepared}",
            f"output_dir={files / 'trained'}",
            f"init_from={files / 'model'}",
            "epochs=1",
            "data.max_examples=20",
        ]
    )
    after = TBKINForQuestionAnswering.from_pretrained(files / "trained").state_dict()
    assert list(after) == list(before)
    moved = [name for name in after if not torch.equal(after[name], before[name])]
    assert "tbkin.fusion.graph_layers.0.gate" in moved
    for folder in ("model", "trained"):
        predictor = Predictor(files / folder, regions=tiny_root.prepared / "regions")
        image_id = next(iter(predictor.store.places))
        evidence = predictor.explain(None, predictor.store[image_id], "how many circles are there")
        assert len(evidence.answers) == 5
        assert {answer for answer, _ in evidence.answers} <= set(labels)


def test_new_weights_come_from_the_seed(files):
    states = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        words = words_of(files, output=files / name, seed=seed)
        convert_rosita.main([*words, "model.graph_encoder=relational"])
        states.append(TBKINForQuestionAnswering.from_pretrained(files / name).state_dict())
        torch.rand(3)
    query = "tbkin.knowledge.query.weight"
    assert torch.equal(states[0][query], states[1][query])
    assert not torch.equal(states[0][query], states[2][query])


# What is said


def test_the_report_as_a_table(files, capsys):
    words = words_of(files, vocabulary=None, answers=None)
    convert_rosita.main([*words, "model.graph_encoder=relational"])
    lines = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r".*model: TBKINForQuestionAnswering, [\d,]+ parameters", lines[0])
    rows = [line.split(maxsplit=1) for line in lines[1:]]
    assert ["loaded", "backbone                    32 tensors"] in rows
    assert ["new", "tbkin.fusion.graph_layers   86 tensors"] in rows
    assert "  left over net_optim" in lines
    assert (
        "  lacking   a processor, without which nothing trains: add vocabulary=vocab.txt" in lines
    )
    assert "  lacking   names of the answers: add answers=FILE.json" in lines
    assert not (files / "model" / "tokenizer.json").exists()


def test_the_report_as_json(files, capsys):
    convert_rosita.main(words_of(files, json="true"))
    record = json.loads(capsys.readouterr().out)
    assert record["model"] == "TBKINForQuestionAnswering"
    assert record["output"] == str(files / "model")
    assert record["loaded"]["pooler"] == ["pooler.dense.weight", "pooler.dense.bias"]
    assert (record["new"], record["lacking"]) == ([], [])
    assert record["left_over"] == ["epoch", "net_optim"]
    stored = TBKINForQuestionAnswering.from_pretrained(files / "model")
    assert record["parameters"] == sum(part.numel() for part in stored.parameters())


def test_a_folder_that_is_there_is_kept_unless_overwritten(files, capsys):
    (files / "model").mkdir()
    (files / "model" / "mine").write_text("mine")
    convert_rosita.main(words_of(files))
    assert "is there already; overwrite=true makes it again" in capsys.readouterr().out
    assert [path.name for path in (files / "model").iterdir()] == ["mine"]
    convert_rosita.main(words_of(files, overwrite="true"))
    assert not (files / "model" / "mine").exists()
    TBKINForQuestionAnswering.from_pretrained(files / "model")


def test_what_lies_in_the_output(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "link").symlink_to(tmp_path / "a.pth")
    (tmp_path / "same").symlink_to(tmp_path / "out")
    for inside in ("out/a.pth", "out/link", "same/link", "out/../out/x/a.pth", "out", "same"):
        with pytest.raises(ValueError, match="the input is never touched"):
            check_inputs(tmp_path / "out", "", str(tmp_path / inside))
    for outside in ("a.pth", "out/../a.pth", "outer/a.pth"):
        check_inputs(tmp_path / "out", "", str(tmp_path / outside))


# Its words


@pytest.mark.parametrize(
    "text",
    [
        QUESTION,
        "The dogs' left-hand circle?",
        "large_red  square,dog.",
        "¿How MANY cafés — 2 dogs…",
        "e\u0301toile dog's",
        "",
        "?!",
    ],
)
def test_text_is_cleaned_and_cut_as_rosita_does_it(files, text):
    plain = BertTokenizerFast.from_pretrained(files)
    cleaned = re.sub(r"[^\w\s]|_", "", text)  # its loaders do this, then use BERT's tokenizer
    found = rosita_tokenizer(files / "vocab.txt")(text)
    assert found["input_ids"] == plain(cleaned)["input_ids"]


def test_the_tokenizer_is_the_same_when_it_is_loaded(files):
    convert_rosita.main(words_of(files))
    tokenizer = TBKINProcessor.from_pretrained(files / "model").tokenizer
    numbers = {word: number for number, word in enumerate(VOCABULARY)}
    expected = [numbers[word] for word in ("[CLS]", "dog", "##s", "left", "##hand", "[SEP]")]
    assert tokenizer("Dogs' left-hand?")["input_ids"] == expected
    split = tokenizer(["Dogs", "?", "left-hand"], is_split_into_words=True)
    assert split["input_ids"] == expected
    assert split.word_ids() == [None, 0, 0, 2, 2, None]
    assert (tokenizer.pad_token_id, tokenizer.mask_token_id) == (0, 4)


PIECES = [*"abcdehlmnorstw½²5", *(f"##{letter}" for letter in "abcdehlmnorstw½²5")]


@pytest.fixture(scope="module")
def spelling(tmp_path_factory):
    """A folder whose vocabulary spells, so that each letter lost or added shows."""
    folder = tmp_path_factory.mktemp("spelling")
    (folder / "vocab.txt").write_text("\n".join([*SPECIAL_TOKENS, "left", *PIECES]) + "\n")
    return folder


def rositas_tokens(folder, text, length=1000):
    """ROSITA's rule, slowly: clean the whole text, then BERT's tokenizer (spec 2.1)."""
    plain = BertTokenizerFast.from_pretrained(folder)
    return plain(re.sub(r"[^\w\s]|_", "", text), truncation=True, max_length=length)["input_ids"]


def processor_of(folder, parser, **settings):
    settings = {"max_text_length": 1000, "clean": True, **settings}
    return TBKINProcessor(rosita_tokenizer(folder / "vocab.txt"), parser=parser, **settings)


TEXTS = [
    "the left-hand door",
    "What's the man's t-shirt? Don't!",
    "an o'clock\u2019s 5m² or ½ a door",
    "we cannot, won't __ e\u0301t\xe9 . - '",
    "so m\x1cet\x0ba\x85o me\u2028t\u200bo",
    "  ",
]


@pytest.mark.parametrize("parser", list(PARSERS))
@pytest.mark.parametrize("text", TEXTS)
def test_tokens_through_the_processor_are_rositas(spelling, parser, text):
    if parser == "spacy_rules" and not installed_model():
        pytest.skip("no spaCy model")
    processor = processor_of(spelling, parser)
    found = processor(place_regions(), text)
    assert found["input_ids"] == rositas_tokens(spelling, text)
    short = processor_of(spelling, parser, max_text_length=6)
    assert short(place_regions(), text)["input_ids"] == rositas_tokens(spelling, text, 6)


@given(
    st.text(st.one_of(st.sampled_from("ab½²'-_ é"), st.characters(exclude_categories=["Cn", "Cs"])))
)
@example("नमस्ते a日本b ªⅣ٣")
def test_any_texts_tokens_are_rositas(spelling, text):
    found = processor_of(spelling, "word_rules")(place_regions(), text)["input_ids"]
    assert found == rositas_tokens(spelling, text)


def test_without_cleaning_hyphens_part_words(spelling):
    # What the setting is for: a parser has cut "left-hand" in two before any tokenizer sees it.
    texts = [processor_of(spelling, "word_rules", clean=clean).parse("left-hand").words
             for clean in (True, False)]  # fmt: skip
    assert texts == [["lefthand"], ["left", "hand"]]


def test_nodes_keep_their_word_when_words_are_joined():
    # A parser's "the man s do nt" of the text "the mans dont".
    nodes = [Node("word", "man", 1, "object"), Node("word", "do", 3, "relation")]
    nodes += [
        Node("word", "clock", 0, "object", text="the clock"),
        Node("word", "face", -1, "object"),
    ]
    words = ["the", "man", "s", "do", "nt"]
    graph = with_words(SceneGraph(nodes, [], words), ["the", "mans", "dont"])
    assert graph.words == ["the", "mans", "dont"]
    assert [(node.label, node.index, node.text) for node in graph.nodes] == [
        ("man", 1, "man"),
        ("do", 2, "do"),
        ("clock", 0, "the clock"),
        ("face", -1, ""),
    ]
    with pytest.raises(ValueError, match="the parser's word 'man' is not in the text 'the men'"):
        with_words(SceneGraph([], [], ["the", "man"]), ["the", "men"])


# Its answers


@pytest.mark.parametrize(
    "content",
    [
        ["yes", "no", "2"],
        {"no": 1, "2": 2, "yes": 0},
        [{"no": 1, "2": 2, "yes": 0}, {"0": "yes", "1": "no", "2": "2"}],
    ],
)
def test_tables_of_answers(tmp_path, content):
    (tmp_path / "a.json").write_text(json.dumps(content))
    assert read_answers(tmp_path / "a.json") == ["yes", "no", "2"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"yes": 0, "no": 2}', r"a\.json is no table of answers"),
        ('{"yes": 0, "no": 0}', r"a\.json is no table of answers"),
        ("3", r"a\.json is no table of answers"),
        ("[]", r"a\.json is no table of answers"),
        ('[{"yes": 0}, {"0": "no"}]', r"two tables of answers contradict one another"),
        ("[", r"a\.json is not JSON"),
    ],
)
def test_what_is_no_table_of_answers(tmp_path, content, message):
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(ValueError, match=message):
        read_answers(tmp_path / "a.json")


# Mistakes


class Exploit:
    """Makes a file when it is unpickled."""

    def __init__(self, victim):
        self.victim = victim

    def __reduce__(self):
        return os.system, (f"touch {self.victim}",)


@pytest.mark.parametrize(
    ("others", "message"),
    [
        ({"checkpoint": None}, r"needs checkpoint=FILE and output=DIR"),
        ({"output": None}, r"needs checkpoint=FILE and output=DIR"),
        ({"checkpoint": "absent.pth"}, r"no checkpoint file absent\.pth"),
        ({"vocabulary": "absent.txt"}, r"no vocabulary file absent\.txt"),
        ({"answers": "absent.json"}, r"no file of answers absent\.json"),
        ({"task": "captioning"}, r"unknown task 'captioning'"),
        ({"model.graph_encoder": "gat"}, r"graph_encoder must be one of relational, none"),
        ({"model.hidden_size": "8"}, r"model\.hidden_size follows from the data"),
        ({"vocabulary": "SHORT"}, r"has 6 words, the checkpoint \d+; ROSITA's is that of bert-"),
        ({"vocabulary": "TWICE"}, r"is no vocabulary of BERT: it has a word twice"),
        ({"vocabulary": "BARE"}, r"is no vocabulary of BERT: it has no \[UNK\]"),
        ({"answers": "FEWER"}, r"2 answers were given; the head has 3"),
        ({"checkpoint": "HOSTILE"}, r"asks for .*system.*refused and nothing in it was run"),
        ({"parser": "nltk"}, r"nltk"),
        (
            {"output": ".", "overwrite": "true"},
            r"vqa\.pth lies in output=.*; the input is never touched",
        ),
        (
            {"output": "held", "vocabulary": "held/vocab.txt", "overwrite": "true"},
            r"held/vocab\.txt lies in output=held; the input is never touched",
        ),
        (
            {"output": "held", "answers": "LINK", "overwrite": "true"},
            r"LINK lies in output=held; the input is never touched",
        ),
    ],
)
def test_mistakes_are_told_and_nothing_is_written(files, others, message, capsys, monkeypatch):
    monkeypatch.chdir(files)
    texts = {
        "SHORT": "\n".join([*SPECIAL_TOKENS, "a"]),
        "TWICE": "\n".join([*VOCABULARY, "a", "a"]),
        "BARE": "[PAD]\na",
        "FEWER": '["yes", "no"]',
    }
    for name, text in texts.items():
        (files / name).write_text(text)
    torch.save({"epoch": Exploit(files / "victim")}, files / "HOSTILE")
    (files / "held").mkdir()
    (files / "held" / "vocab.txt").write_text("\n".join(VOCABULARY))
    (files / "held" / "a.json").write_text('["yes", "no", "2"]')
    (files / "LINK").symlink_to(files / "held" / "a.json")
    before = sorted(files.rglob("*"))
    ours = {
        name: files / value if value and value.isupper() else value
        for name, value in others.items()
    }
    assert run_command(convert_rosita.main, words_of(files, **ours)) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert re.search(message, error), error
    assert sorted(files.rglob("*")) == before
