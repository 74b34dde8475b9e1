"""BERT's folder -> a folder that trains."""

import json
import re
import shutil

import pytest
import torch
from transformers import BertConfig, BertForPreTraining, BertTokenizerFast

from data_prep import convert_bert
from tbkin.config import run_command
from tbkin.data.processing_tbkin import SPECIAL_TOKENS, TBKINProcessor
from tbkin.model.heads import TBKINForPreTraining, TBKINForQuestionAnswering

VOCABULARY = [*SPECIAL_TOKENS, "the", "dog", "##s", "left", "?"]


@pytest.fixture
def bert(tmp_path):
    """A folder with weights and a vocabulary."""
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(VOCABULARY),
        hidden_size=24,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=30,
    )
    folder = tmp_path / "bert"
    BertForPreTraining(config).save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(VOCABULARY) + "\n")
    return folder


def test_a_folder_with_its_words(bert, tmp_path, capsys):
    output = tmp_path / "model"
    convert_bert.main([f"model={bert}", f"output={output}", "region_feature_size=7"])
    out = capsys.readouterr().out
    assert "TBKINForPreTraining" in out
    assert "lacking" not in out
    model = TBKINForPreTraining.from_pretrained(output)
    theirs = BertForPreTraining.from_pretrained(bert)
    assert torch.equal(model.tbkin.text.words.weight, theirs.bert.embeddings.word_embeddings.weight)
    assert model.config.region_feature_size == 7
    processor = TBKINProcessor.from_pretrained(output)
    text = "The dogs left?"
    expected = BertTokenizerFast.from_pretrained(bert)(text)["input_ids"]
    assert processor.tokenizer(text)["input_ids"] == expected == [2, 5, 6, 7, 8, 9, 3]
    assert (processor.max_text_length, processor.max_regions) == (20, 36)


def test_json_another_task_and_settings(bert, tmp_path, capsys):
    (bert / "vocab.txt").unlink()
    answers = tmp_path / "answers.json"
    answers.write_text('["yes", "no"]')
    words = [f"checkpoint={bert}", f"output={tmp_path / 'model'}", "task=vqa", "json=true"]
    convert_bert.main([*words, f"answers={answers}", "model.graph_encoder=relational"])
    record = json.loads(capsys.readouterr().out)
    assert record["model"] == "TBKINForQuestionAnswering"
    assert record["left_over"] == ["text_mlm_head", "mm_itm_head"]
    assert "head.answers.weight" in record["new"]
    (lacking,) = record["lacking"]
    assert f"add vocab.txt to {bert}" in lacking
    model = TBKINForQuestionAnswering.from_pretrained(tmp_path / "model")
    assert model.config.id2label == {0: "yes", 1: "no"}
    assert len(model.tbkin.fusion.graph_layers) == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], r"needs model=DIR and output=DIR"),
        (["model=absent", "output=OUT"], r"no folder absent"),
        (["model=BERT", "output=BERT"], r"bert lies in output=.*; the input is never touched"),
        (["model=BERT", "output=PARENT", "overwrite=true"], r"bert lies in output=.*; the input"),
        (
            ["model=BERT", "output=HELD", "answers=HELD/a.json", "overwrite=true"],
            r"a\.json lies in output=.*; the input is never touched",
        ),
        (["model=BERT", "output=OUT", "region_feature_size=0"], r"region_feature_size must be >="),
        (["model=BERT", "output=OUT", "task=captioning"], r"unknown task 'captioning'"),
        (["model=BERT", "output=OUT", "model.vocab_size=3"], r"model\.vocab_size follows from"),
        (["model=LONGER", "output=OUT"], r"has 11 words, its weights only 10"),
    ],
)
def test_mistakes_are_told_and_nothing_is_written(bert, tmp_path, words, message, capsys):
    longer = tmp_path / "longer"
    shutil.copytree(bert, longer)
    with (longer / "vocab.txt").open("a") as file:
        file.write("cat\n")
    held = tmp_path / "held"
    held.mkdir()
    (held / "a.json").write_text('["yes", "no"]')
    places = {"BERT": bert, "LONGER": longer, "OUT": tmp_path / "out"}
    places |= {"PARENT": tmp_path, "HELD": held}
    for name, place in places.items():
        words = [word.replace(f"={name}", f"={place}") for word in words]
    before = sorted(tmp_path.rglob("*"))
    assert run_command(convert_bert.main, words) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ")
    assert re.search(message, error), error
    assert sorted(tmp_path.rglob("*")) == before
