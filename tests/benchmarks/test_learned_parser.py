"""The training code of the learned parser: targets from gold facts, and a miniature run."""

import random
import sys
from pathlib import Path

import pytest
import torch

from tbkin.graphs.facts import read_facts
from tbkin.parsers.learned_model import ParserHeads

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"

CAPTIONS = [
    f"{text} | {gold}"
    for colour in ("red", "blue", "dark green")
    for text, gold in [
        (f"a {colour} hat on a bed", f"( hat , on , bed ) , ( hat , is , {colour} )"),
        (f"two {colour} boats", f"( boats , is , 2 ) , ( boats , is , {colour} )"),
        (f"man riding a {colour} bike", f"( man , ride , bike ) , ( bike , is , {colour} )"),
        (f"the dog sits on the {colour} mat", f"( dog , sit on , mat ) , ( mat , is , {colour} )"),
        (f"a clock face on the {colour} tower",
         f"( clock , have , face ) , ( face , on , tower ) , ( tower , is , {colour} )"),
        (f"guy in a {colour} boat", f"( person , in , boat ) , ( boat , is , {colour} )"),
        (f"a {colour} bed spread", f"( bed spread , is , {colour} )"),
        (f"the cup is {colour}", f"( cup , is , {colour} )"),
        ("this is a tree", "( tree )"),
        (f"tree with {colour} leaves", f"( tree , with , leaves ) , ( leaves , is , {colour} )"),
    ]
]  # fmt: skip


@pytest.fixture
def code(monkeypatch):
    """The training script's modules, importable as when it is run."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import learned_parser_made_up
    import learned_parser_targets
    import learned_parser_training
    import train_learned_parser

    yield {
        "targets": learned_parser_targets, "training": learned_parser_training,
        "made_up": learned_parser_made_up, "main": train_learned_parser,
    }  # fmt: skip
    for name in [name for name in sys.modules if name.startswith("learned_parser_")]:
        del sys.modules[name]
    sys.modules.pop("train_learned_parser", None)


def aligned(code, caption, gold, swaps=None):
    return code["targets"].align(caption.split(), read_facts(gold), swaps or {})


def test_gold_facts_are_tied_to_words(code):
    target = aligned(
        code,
        "two bed spreads lying on the dark green lawn",
        "( bed spreads , is , 2 ) , ( bed spreads , lay on , lawn ) , ( lawn , is , dark green )",
    )
    assert "".join(target.kinds) == "AIEOOOIAE"
    assert target.owners == {(0, 2), (7, 8)}
    assert target.relations == {(2, 8): (3, "on")}
    assert target.lost == []


def test_a_second_mention_and_an_unknown_fact(code):
    target = aligned(
        code, "a plate next to a plate with pie", "( plate , with , pie ) , ( fork , on , plate )"
    )
    assert "".join(target.kinds) == "OOOOOEOE", "the nearer plate has the pie"
    assert target.lost == [("fork", "on", "plate")]


def test_implied_relations_and_prepositions_have_no_verb(code):
    target = aligned(code, "clock face on tower", "( clock , have , face ) , ( face , on , tower )")
    assert target.relations == {(0, 1): (-1, "have"), (1, 3): (-1, "on")}


def test_words_that_stand_for_others_are_learned(code):
    captions = [(["guy", "on", "bike"], read_facts("( person , on , bike )"))] * 3
    captions += [(["bike"], read_facts("( bike )"))]
    swaps = code["targets"].learn_swaps(captions)
    target = aligned(code, "a guy", "( person )", swaps)
    assert target.forms == {1: "=person"}


@pytest.mark.parametrize(
    ("word", "other", "distance"),
    [("plate", "plate", 0), ("palte", "plate", 1), ("plte", "plate", 1), ("cat", "dogs", 3),
     ("chiar", "chairs", 2)],
)  # fmt: skip
def test_edit_distance_counts_a_swap_once_and_stops_above_the_most(code, word, other, distance):
    assert code["targets"].edits(word, other, 2) == distance


def test_base_forms(code):
    assert "sit" in code["targets"].base_forms("sitting")
    assert "ride" in code["targets"].base_forms("riding")
    assert code["targets"].base_forms("on") == ["on"]


def test_questions_say_what_they_take_for_granted(code):
    one = aligned(code, "man wearing a red hat", "( man , wear , hat ) , ( hat , is , red )")
    facts = {}
    for question in code["made_up"].questions([one], 60, random.Random(0)):
        text = " ".join(question.tokens)
        facts[text] = code["targets"].facts_of_reading(question, {"wearing": "wear"})
    assert facts["what is the man wearing ?"] == [("man",)]
    assert facts["is the hat red ?"] == [("hat", "is", "red")]
    assert facts["is the man wearing the hat ?"] == [("man", "wear", "hat")]


def test_made_up_captions_swap_words_of_the_same_part(code):
    targets = [
        aligned(code, "red hat", "( hat , is , red )"),
        aligned(code, "blue dog", "( dog , is , blue )"),
    ]
    made = code["made_up"].made_up_captions(targets, 50, random.Random(0))
    assert {tuple(tokens) for tokens in made} == {
        (colour, noun) for colour in ("red", "blue") for noun in ("hat", "dog")
    }


def test_scores_by_hand(code):
    gold = [[("hat", "is", "red")], [("dog", "on", "mat")]]
    predicted = [[("hat", "is", "red")], [("dog",), ("mat",)]]
    found = code["training"].scores(predicted, gold)
    # Second caption: 2 of the 2 parts said and of the 3 in gold: F1 = 4 / 5.
    assert found["set match"] == 50
    assert found["F1"] == pytest.approx(100 * (1 + 0.8) / 2)
    assert found["entities"] == 100
    assert found["relations"] == 0


def test_the_teachers_labels_pull_the_loss_towards_them(code):
    torch.manual_seed(0)
    training = code["training"]
    heads = ParserHeads(8, 3, 4, 6, 0.0)
    states = torch.randn(1, 2, 8)
    with torch.no_grad():
        tags = heads.tags(states).log_softmax(2)[0]
        labels, verbs = (
            x.log_softmax(1) for x in heads.pairs(states, *torch.tensor([[0], [0], [1]]).unbind(0))
        )
    same = training.Example(["a", "b"], None, [(0, 1)], [-100], [-100], (tags, labels, verbs))
    other = training.Example(
        ["a", "b"], None, [(0, 1)], [-100], [-100], (tags.flip(1), labels, verbs)
    )
    loss = training.loss_of(heads, states, [same], 0.5)
    assert loss < training.loss_of(heads, states, [other], 0.5)
    # Cross-entropy with oneself is the entropy.
    entropy = -(tags.exp() * tags).sum() - (labels.exp() * labels).sum()
    relates = 1 - labels.exp()[:, :2].sum()
    entropy = entropy - relates * (verbs.exp() * verbs).sum()
    assert loss.item() == pytest.approx(entropy.item(), rel=1e-4)


def test_a_miniature_run_learns_its_captions_by_heart(code, tmp_path, capsys):
    captions = [(text, read_facts(gold)) for text, gold in (c.split(" | ") for c in CAPTIONS)]
    config = code["main"].TrainParserConfig(
        output=str(tmp_path / "parser"), epochs=18, questions=10, batch_tokens=60, width=32,
        learning_rate=1e-2, dropout=0.0, word_dropout=0.0, least=1,
    )  # fmt: skip
    found = code["main"].train(config, captions, captions)
    assert len(captions) == 30
    assert found["set match"] > 95
    assert capsys.readouterr().out.count("\n") == 18, "one line an epoch"
    from tbkin.graphs.facts import facts_of
    from tbkin.parsers.learned import LearnedParser

    parser = LearnedParser(tmp_path / "parser")
    assert set(facts_of(parser("Guy in a red boat"))) == {
        ("person", "in", "boat"), ("boat", "is", "red"),
    }  # fmt: skip


def test_the_script_says_what_it_needs(code):
    with pytest.raises(ValueError, match="data=DIR and output=DIR are needed"):
        code["main"].main([])


def test_the_same_seed_gives_the_same_files(code, tmp_path):
    captions = [(text, read_facts(gold)) for text, gold in (c.split(" | ") for c in CAPTIONS[:10])]
    written = []
    for name in ("first", "second"):
        random.seed(name)
        code["main"].train(
            code["main"].TrainParserConfig(
                output=str(tmp_path / name), epochs=2, questions=5, width=16, least=1
            ),
            captions,
            captions,
        )
        written.append(
            [
                (tmp_path / name / file).read_bytes()
                for file in ("model.safetensors", "vocabulary.json")
            ]
        )
    assert written[0] == written[1]
