"""BERT's folders as the start of our models, against transformers' own BERT."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertForMaskedLM, BertForPreTraining, BertModel

from tbkin.model.convert_bert import bert_weights, convert_bert
from tbkin.model.heads import TBKINForPreTraining, TBKINForQuestionAnswering

FEATURES = 6
KINDS = [BertModel, BertForPreTraining, BertForMaskedLM]


@pytest.fixture
def make(tmp_path):
    """``make(kind) -> model, folder``; three layers, heads of 12, no weight at its start value."""

    def made(kind, **changes):
        torch.manual_seed(0)
        sizes = {
            "vocab_size": 31,
            "hidden_size": 48,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "intermediate_size": 40,
            "max_position_embeddings": 20,
            "hidden_dropout_prob": 0.2,
            "layer_norm_eps": 1e-7,
        }
        model = kind(BertConfig(**{**sizes, **changes})).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter += 0.2 * torch.randn(parameter.shape)
        folder = tmp_path / kind.__name__
        model.save_pretrained(folder)
        return model, folder

    return made


def text_batch():
    """Two texts, one padded, and regions that are all padding."""
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])
    ids = torch.tensor([[2, 9, 30, 7, 3], [2, 11, 3, 0, 0]])
    return {
        "input_ids": ids,
        "attention_mask": mask,
        "region_features": torch.rand(2, 4, FEATURES),
        "region_boxes": torch.rand(2, 4, 4),
        "region_mask": torch.zeros(2, 4, dtype=torch.long),
    }


def rewrite(folder, change):
    """Save the folder's tensors with other names or values."""
    path = folder / "model.safetensors"
    save_file(change(load_file(path)), path)


@torch.no_grad()
def run(model, batch):
    return model(**batch)


@torch.no_grad()
def ask(bert, batch):
    return bert(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])


def close(found, expected):
    assert found.shape == expected.shape
    assert (found - expected).abs().max() < 1e-5


# What it computes


@pytest.mark.parametrize("kind", KINDS)
def test_text_alone_gives_what_bert_gives(make, kind):
    bert, folder = make(kind)
    conversion = convert_bert(folder, FEATURES)
    assert conversion.model_class is TBKINForPreTraining
    batch = text_batch()
    outputs = run(conversion.build(), batch)
    trunk = bert if kind is BertModel else bert.bert
    expected = ask(trunk, batch)
    close(outputs.text_states, expected.last_hidden_state)  # padded positions too
    if kind is not BertForMaskedLM:  # it has no pooler
        close(outputs.pooled, expected.pooler_output)
    if kind is not BertModel:
        predicted = ask(bert, batch)
        words = predicted.logits if kind is BertForMaskedLM else predicted.prediction_logits
        close(outputs.word_logits, words)


def test_is_next_becomes_match(make):
    # BERT's class 0: the second sentence is the next. Ours and ROSITA's class 1: they match.
    bert, folder = make(BertForPreTraining)
    batch = text_batch()
    found = run(convert_bert(folder, FEATURES).build(), batch).match_logits
    expected = ask(bert, batch).seq_relationship_logits
    close(found, expected.flip(1))
    assert (found - expected).abs().max() > 0.1


def test_settings_are_berts_or_else_rositas(make):
    _, folder = make(BertModel)
    config = convert_bert(folder, FEATURES, changes={"graph_encoder": "relational"}).config
    assert (config.vocab_size, config.hidden_size, config.num_hidden_layers) == (31, 48, 3)
    assert (config.num_attention_heads, config.intermediate_size) == (4, 40)
    assert (config.max_position_embeddings, config.type_vocab_size) == (20, 2)
    assert (config.hidden_dropout_prob, config.attention_dropout_prob) == (0.2, 0.1)
    assert (config.layer_norm_eps, config.region_feature_size) == (1e-7, FEATURES)
    assert (config.graph_encoder, config.graph_gate) == ("relational", 0.0)
    config = convert_bert(folder, FEATURES, changes={"hidden_dropout_prob": 0.3}).config
    assert config.hidden_dropout_prob == 0.3


def test_what_is_new_and_what_is_left_over(make):
    _, folder = make(BertForPreTraining)
    conversion = convert_bert(folder, FEATURES)
    new = {name.rsplit(".", 1)[0].split(".")[0] for name in conversion.new}
    assert new == {"tbkin", "region_head"}
    assert all(name.startswith(("tbkin.regions", "region_head")) for name in conversion.new)
    assert conversion.left_over == []
    assert len(conversion.loaded["backbone"]) == 3 * 16
    conversion = convert_bert(folder, FEATURES, "vqa", ["yes", "no"])
    assert conversion.model_class is TBKINForQuestionAnswering
    assert sorted(conversion.left_over) == ["mm_itm_head", "text_mlm_head"]
    assert conversion.config.id2label == {0: "yes", 1: "no"}
    _, folder = make(BertForMaskedLM)
    new = convert_bert(folder, FEATURES).new
    assert {"tbkin.pooler.weight", "match_head.weight"} <= set(new)


# How it may be written


def test_names_of_2018(make):
    def old(tensors):
        renamed = {}
        for name, tensor in tensors.items():
            if "LayerNorm" in name:
                name = name.replace("weight", "gamma").replace("bias", "beta")
            renamed[name.removeprefix("bert.")] = tensor
        renamed["cls.predictions.decoder.weight"] = renamed["embeddings.word_embeddings.weight"]
        return {name: tensor.clone() for name, tensor in renamed.items()}

    _, folder = make(BertForPreTraining)
    expected = convert_bert(folder, FEATURES).state
    rewrite(folder, old)
    found = convert_bert(folder, FEATURES)
    assert list(found.state) == list(expected)
    assert all(torch.equal(found.state[name], expected[name]) for name in expected)
    assert "text_mlm_head.decode.weight" in found.loaded["text_mlm_head"]


def test_the_bias_of_the_decoder_and_buffers(make):
    def moved(tensors):
        tensors["cls.predictions.decoder.bias"] = tensors.pop("cls.predictions.bias")
        tensors["bert.embeddings.position_ids"] = torch.arange(20)[None]
        tensors["classifier.weight"] = torch.zeros(2, 48)
        return tensors

    bert, folder = make(BertForMaskedLM)
    rewrite(folder, moved)
    conversion = convert_bert(folder, FEATURES)
    assert conversion.left_over == ["classifier.weight"]
    assert torch.equal(conversion.state["word_head.bias"], bert.cls.predictions.bias)


def test_a_pytorch_file_will_do(make):
    bert, folder = make(BertModel)
    expected = convert_bert(folder, FEATURES).state
    torch.save(bert.state_dict(), folder / "pytorch_model.bin")
    rewrite(folder, lambda tensors: {name: torch.zeros_like(tensors[name]) for name in tensors})
    assert not bert_weights(folder)[0]["pooler"]["dense.weight"].any()  # safetensors come first
    (folder / "model.safetensors").unlink()
    found = convert_bert(folder, FEATURES).state
    assert all(torch.equal(found[name], expected[name]) for name in expected)


# Errors


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model_type": "roberta"}, r"config\.json: model_type is 'roberta'; only 'bert'"),
        ({"hidden_act": "relu"}, r"hidden_act is 'relu'; only 'gelu'"),
        ({"position_embedding_type": "relative_key"}, r"position_embedding_type is 'relative_key'"),
        ({"is_decoder": True}, r"is_decoder is True"),
        ({"num_attention_heads": 5}, r"5 does not divide 48"),
        (
            {"num_attention_heads": "4"},
            r"config\.json: num_attention_heads is '4'; BERT-base has 12",
        ),
        ({"num_attention_heads": 0}, r"config\.json: num_attention_heads is 0"),
        ({"pad_token_id": 1}, r"config\.json: pad_token_id is 1; only 0 can be read"),
        ({"pad_token_id": None}, r"config\.json: pad_token_id is None; only 0 can be read"),
    ],
)
def test_another_kind_of_model_is_refused(make, settings, message):
    _, folder = make(BertModel)
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))
    with pytest.raises(ValueError, match=message):
        convert_bert(folder, FEATURES)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", r"config\.json holds a list, not settings by name"),
        ('{"model_type": "bert"}', r"config\.json: num_attention_heads is missing"),
    ],
)
def test_settings_that_say_too_little(make, text, message):
    _, folder = make(BertModel)
    (folder / "config.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        convert_bert(folder, FEATURES)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tensors: {}, r"no BERT weights: nothing in it makes up text_embeddings"),
        (
            lambda tensors: {
                name: part for name, part in tensors.items() if not name.endswith("self.key.bias")
            },
            r"backbone\.layers\.0\.mhatt\.dense_k\.bias is missing",
        ),
        (
            lambda tensors: tensors | {"cls.predictions.decoder.weight": torch.zeros(31, 48)},
            r"decode\.weight differs from the word embeddings",
        ),
        (
            lambda tensors: tensors | {"pooler.dense.bias": torch.zeros(3)},
            r"pooler\.dense\.bias has the shape \(3,\), expected \(48,\)",
        ),
    ],
)
def test_weights_that_do_not_fit_are_named(make, change, message):
    _, folder = make(BertModel)
    rewrite(folder, change)
    with pytest.raises(ValueError, match=message):
        convert_bert(folder, FEATURES)


def test_missing_and_damaged_files_are_named(make, tmp_path):
    _, folder = make(BertModel)
    (folder / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"neither model\.safetensors nor pytorch_model"):
        convert_bert(folder, FEATURES)
    (folder / "model.safetensors").write_bytes(b"nonsense")
    with pytest.raises(ValueError, match=r"model\.safetensors is damaged"):
        convert_bert(folder, FEATURES)
    (folder / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"config\.json is not JSON"):
        convert_bert(folder, FEATURES)
    with pytest.raises(FileNotFoundError, match=r"no config\.json in"):
        convert_bert(tmp_path, FEATURES)
