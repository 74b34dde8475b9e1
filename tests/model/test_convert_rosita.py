"""Conversion of made-up ROSITA checkpoints, against ROSITA's formulas written out slowly."""

import os
import pickle

import pytest
import torch

from tbkin.model.configuration_tbkin import TBKINConfig
from tbkin.model.convert_rosita import convert_rosita, read_checkpoint
from tbkin.model.heads import (
    TBKINForGrounding,
    TBKINForPreTraining,
    TBKINForQuestionAnswering,
)
from tbkin.model.retrieval import TBKINForImageTextRetrieval
from tests.model.rosita import checkpoint, forward, random_batch

CLASSES = {
    "vqa": TBKINForQuestionAnswering,
    "grounding": TBKINForGrounding,
    "retrieval": TBKINForImageTextRetrieval,
    "pretraining": TBKINForPreTraining,
}
EVERY = pytest.mark.parametrize("task", list(CLASSES))


@torch.no_grad()
def run(model, batch, **options):
    return model(**batch, **options)


def close(found, expected, tolerance):
    assert found.shape == expected.shape
    assert (found - expected).abs().max() < tolerance


# What it computes


@EVERY
@pytest.mark.parametrize(("kind", "tolerance"), [(torch.float32, 1e-4), (torch.float64, 1e-10)])
def test_it_computes_what_rosita_computes(task, kind, tolerance):
    groups = checkpoint(task)
    batch, plain = random_batch()
    expected = forward(groups, *plain)
    conversion = convert_rosita(groups)
    assert conversion.model_class is CLASSES[task]
    floats = {name: part.to(kind) if part.is_floating_point() else part
              for name, part in batch.items()}  # fmt: skip
    outputs = run(conversion.build().to(kind), floats)
    real = batch["region_mask"].bool()
    for name, value in expected.items():
        where = real if name == "box_logits" else slice(None)
        close(outputs[name][where], value[where], tolerance)
    assert ("box_logits" in expected) == (task == "grounding")


def test_settings_come_from_the_tensors_and_else_from_rosita():
    groups = checkpoint("pretraining", width=128, layers=1, inner=40)
    config = convert_rosita(groups).config
    told = {
        "vocab_size": 23,
        "hidden_size": 128,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 40,
        "max_position_embeddings": 30,
        "type_vocab_size": 2,
        "region_feature_size": 12,
        "num_object_labels": 7,
        "num_attribute_labels": 4,
    }
    rosita = TBKINConfig.rosita_base()
    for name in TBKINConfig.own_settings():
        assert getattr(config, name) == told.get(name, getattr(rosita, name)), name
    assert config.hidden_dropout_prob == 0.1
    assert (config.graph_encoder, config.selection_rule) == ("none", "none")


def test_names_of_the_answers():
    config = convert_rosita(checkpoint("vqa", layers=1), labels=["yes", "no", "2"]).config
    assert config.id2label == {0: "yes", 1: "no", 2: "2"}
    assert config.label2id == {"yes": 0, "no": 1, "2": 2}
    config = convert_rosita(checkpoint("retrieval", layers=1), "vqa", ["yes", "no"]).config
    assert config.num_labels == 2


# The graph, added


@pytest.fixture
def graph_batch(tiny_processor, regions, empty_regions, collate):
    question = "What color is the circle to the left of the large red square?"
    return collate(
        [
            tiny_processor(regions, question),
            tiny_processor(regions, "how many small stars are there"),
            tiny_processor(empty_regions, question),
        ]
    )


@EVERY
def test_a_scene_graph_changes_nothing_until_a_gate_learns(task, graph_batch, tiny_processor):
    size = len(tiny_processor.tokenizer)
    groups = checkpoint(task, width=128, layers=2, vocabulary=size)
    plain = convert_rosita(groups).build()
    changes = {"graph_encoder": "relational", "region_labels": True, "read_labels": True}
    conversion = convert_rosita(groups, changes=changes)
    model = conversion.build()
    assert len(graph_batch["graph"].edge_weight) > 0
    assert graph_batch["attribute_mask"].sum() > 0
    expected, found = run(plain, graph_batch), run(model, graph_batch)
    for name in ("pooled", "text_states", "region_states"):
        close(found[name], expected[name], 1e-6)  # up to rounding of the fused kernel
    # Why: the gates are shut (below), no key has a bias, and attribute nodes are not looked at.
    seen = run(model, graph_batch, output_attentions=True)
    masks = ("attention_mask", "region_mask", "attribute_mask")
    real = torch.cat([graph_batch[name].bool() for name in masks], dim=1)
    assert (seen.node_relevance[real] == 1).all()
    assert torch.equal(seen.node_keep, real)
    attributes = graph_batch["attribute_mask"].shape[1]
    for weights in seen.attentions:
        assert (weights[..., -attributes:] == 0).all()
        assert (weights[..., 0] > 0).all()

    gates = [part for name, part in model.named_parameters() if name.endswith("gate")]
    assert len(gates) == 3  # of two graph layers and of the detector's words
    assert all((gate == 0).all() for gate in gates)  # exactly
    outputs = model(**graph_batch)
    (outputs.pooled.sum() + outputs.region_states.square().sum()).backward()
    assert all((gate.grad != 0).any() for gate in gates)
    torch.optim.SGD(gates, lr=0.01).step()
    assert (run(model, graph_batch).pooled - expected.pooled).abs().max() > 1e-4


@pytest.mark.parametrize(
    "changes",
    [{"attributes_attended": True}, {"graph_gate": 0.5}, {"selection_rule": "rel_mean",
     "selection_threshold": 1.0}],
)  # fmt: skip
def test_what_changes_the_function_at_once(changes, graph_batch, tiny_processor):
    groups = checkpoint("vqa", width=64, layers=2, vocabulary=len(tiny_processor.tokenizer))
    expected = run(convert_rosita(groups).build(), graph_batch).pooled
    torch.manual_seed(0)
    changes = {"graph_encoder": "relational", **changes}
    found = run(convert_rosita(groups, changes=changes).build(), graph_batch).pooled
    assert (found - expected).abs().max() > 1e-4


def test_padding_of_names_does_not_matter_though_rositas_padding_word_is_not_zero(
    graph_batch, tiny_processor
):
    groups = checkpoint("vqa", width=64, layers=2, vocabulary=len(tiny_processor.tokenizer))
    assert groups["text_embeddings"]["word_embeddings.weight"][0].abs().max() > 0.1
    changes = {"graph_encoder": "relational", "graph_gate": 0.5, "region_labels": True}
    torch.manual_seed(0)
    model = convert_rosita(groups, changes=changes).build()
    expected = run(model, graph_batch).logits
    longer = dict(graph_batch)
    for name in ("attribute_label_ids", "region_label_ids"):
        ids = graph_batch[name]
        longer[name] = torch.cat([ids, ids.new_zeros(*ids.shape[:2], 2)], dim=2)
    close(run(model, longer).logits, expected, 1e-5)


# What a checkpoint may hold


def test_the_head_tells_the_task_and_the_task_chooses_the_head():
    groups = checkpoint("pretraining", width=64, layers=1)
    both = groups | {"mm_qa_head": checkpoint("vqa", width=64, layers=1)["mm_qa_head"]}
    conversion = convert_rosita(both)
    assert conversion.model_class is TBKINForQuestionAnswering
    heads = ["mm_itm_head", "text_mlm_head", "imgfeat_head"]
    assert sorted(conversion.left_over) == sorted([*heads, "epoch", "net_optim"])
    conversion = convert_rosita(groups, "retrieval")
    assert conversion.model_class is TBKINForImageTextRetrieval
    assert conversion.new == []
    conversion = convert_rosita(groups, "grounding")
    assert len(conversion.new) == 8
    assert all(name.startswith("grounding_head.") for name in conversion.new)
    without = {name: group for name, group in groups.items() if name != "imgfeat_head"}
    conversion = convert_rosita(without)
    assert conversion.model_class is TBKINForPreTraining
    assert {name.split(".")[0] for name in conversion.new} == {"region_head"}
    assert conversion.config.num_object_labels == 1600


def test_what_is_not_rositas_is_left_over():
    groups = checkpoint("vqa", width=64, layers=1) | {"amp": {"scale": 1.0}, "scheduler": 7}
    conversion = convert_rosita(groups)
    assert conversion.left_over == ["epoch", "net_optim", "amp", "scheduler"]
    assert {name: len(keys) for name, keys in conversion.loaded.items()} == {
        "text_embeddings": 5,
        "visual_embeddings": 6,
        "backbone": 16,
        "pooler": 2,
        "mm_qa_head": 6,
    }


def test_new_weights_start_like_those_of_a_new_model():
    torch.manual_seed(0)
    changes = {"graph_encoder": "relational"}
    model = convert_rosita(checkpoint("vqa"), "pretraining", changes=changes).build()
    assert model.word_head.bias.abs().max() == 0
    assert model.word_head.dense.weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert model.tbkin.knowledge.key.weight.abs().max() == 0


def drop(group, key):
    return lambda groups: groups[group].pop(key)


def replace(group, key, *shape):
    return lambda groups: groups[group].update({key: torch.zeros(*shape)})


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda groups: groups.pop("pooler"), r"group pooler is missing; its groups are: epoch, "),
        (lambda groups: groups.update(backbone=3), r"group backbone is not a dict of tensors"),
        (lambda groups: groups["pooler"].update(x="y"), r"group pooler is not a dict of tensors"),
        (
            drop("backbone", "layers.1.mhatt.dense_q.bias"),
            r"backbone\.layers\.1\.mhatt\.dense_q\.bias is missing",
        ),
        (drop("text_mlm_head", "bias"), r"text_mlm_head\.bias is missing"),
        (drop("imgfeat_head", "dense_obj.weight"), r"imgfeat_head\.dense_obj\.weight is missing"),
        (
            drop("text_embeddings", "word_embeddings.weight"),
            r"text_embeddings\.word_embeddings\.weight is missing",
        ),
        (
            replace("text_embeddings", "word_embeddings.weight", 23),
            r"text_embeddings\.word_embeddings\.weight is of shape \(23,\)",
        ),
        (
            replace("backbone", "layers.0.ffn.dense1.weight", 64, 3),
            r"layers\.0\.ffn\.dense1\.weight has the shape \(64, 3\), expected \(64, 80\)",
        ),
        (replace("pooler", "extra.weight", 2), r"pooler\.extra\.weight is not known"),
        (
            replace("backbone", "layers.0.mhatt.dense_x.weight", 2),
            r"backbone\.layers\.0\.mhatt\.dense_x\.weight is not known",
        ),
        (
            replace("text_mlm_head", "decode.weight", 23, 64),
            r"text_mlm_head\.decode\.weight differs from the word embeddings",
        ),
        (
            replace("text_embeddings", "word_embeddings.weight", 23, 96),
            r"64 wide, which does not divide 96",
        ),
    ],
)
def test_what_does_not_fit_is_named(spoil, message):
    groups = checkpoint("pretraining", width=64, layers=2)
    convert_rosita(groups)
    groups = {name: dict(group) if isinstance(group, dict) else group
              for name, group in groups.items()}  # fmt: skip
    spoil(groups)
    with pytest.raises(ValueError, match=message) as error:
        convert_rosita(groups)
    assert "\n" not in str(error.value)


def test_many_mistakes_are_told_at_once_but_not_all():
    groups = checkpoint("vqa", width=64, layers=2)
    groups["backbone"] = {
        key: part for key, part in groups["backbone"].items()
        if not key.startswith("layers.0.mhatt")
    }  # fmt: skip
    with pytest.raises(ValueError, match=r"dense_q\.weight is missing; .*\(and 3 more\)"):
        convert_rosita(groups)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"task": "captioning"}, r"unknown task 'captioning'; choose from: grounding, pretraining"),
        ({"labels": ["yes"]}, r"1 answers were given; the head has 3"),
        ({"labels": ["yes", "no", "yes"]}, r"answers given are not all different"),
        ({"changes": {"hidden_size": 8}}, r"model\.hidden_size follows from the data"),
        ({"changes": {"region_encoder": "patches"}}, r"model\.region_encoder follows from"),
        ({"changes": {"graph_encodr": "none"}}, r"did you mean 'graph_encoder'"),
        ({"changes": {"graph_encoder": "gat"}}, r"graph_encoder must be one of relational, none"),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        convert_rosita(checkpoint("vqa", width=64, layers=1), **arguments)


def test_a_checkpoint_without_a_head_needs_a_task():
    groups = checkpoint("vqa", width=64, layers=1)
    del groups["mm_qa_head"]
    with pytest.raises(ValueError, match=r"no head; choose task= one of: vqa, grounding"):
        convert_rosita(groups)
    assert len(convert_rosita(groups, "vqa").new) == 6


# Reading


def test_a_checkpoint_comes_back_as_it_was_saved(tmp_path):
    groups = checkpoint("retrieval", width=64, layers=1)
    torch.save(groups, tmp_path / "a.pth")
    again = read_checkpoint(tmp_path / "a.pth")
    assert list(again) == list(groups)
    assert torch.equal(again["pooler"]["dense.weight"], groups["pooler"]["dense.weight"])


class Exploit:
    """Makes a file when it is unpickled."""

    def __init__(self, call, *arguments):
        self.call = (call, arguments)

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("saved", ["torch.save", "pickle"])
@pytest.mark.parametrize("call", ["open", "system"])
@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_a_pickle_that_would_run_something_is_refused(tmp_path, saved, call):
    victim, path = tmp_path / "victim", tmp_path / "a.pth"
    exploit = (
        Exploit(open, str(victim), "w") if call == "open" else Exploit(os.system, f"touch {victim}")
    )
    groups = checkpoint("vqa", width=64, layers=1) | {"epoch": exploit}
    if saved == "torch.save":
        torch.save(groups, path)
    else:
        path.write_bytes(pickle.dumps({"epoch": exploit}, protocol=2))
    with pytest.raises(ValueError, match=r"a\.pth asks for .*(open|system).*refused") as error:
        read_checkpoint(path)
    assert "\n" not in str(error.value)
    assert not victim.exists()
    if saved == "torch.save":
        torch.load(path, weights_only=False)
    else:
        pickle.loads(path.read_bytes())
    assert victim.exists()  # it was a real one


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"nonsense",
        b"PK\x03\x04nonsense",
        b"hello, I am a text\n",  # KeyError within the unpickler
        b"a\n",  # IndexError
        b"\x80\x02X\x01\x00\x00\x00\xff.",  # UnicodeDecodeError
        b"\x80\x02J\x01",  # struct.error
    ],
)
def test_a_damaged_file_is_refused(tmp_path, content):
    path = tmp_path / "a.pth"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.pth is damaged"):
        read_checkpoint(path)


def test_a_file_of_something_else(tmp_path):
    torch.save([1, 2], tmp_path / "a.pth")
    with pytest.raises(ValueError, match=r"a\.pth holds a list, not a dict of tensors"):
        read_checkpoint(tmp_path / "a.pth")
    with pytest.raises(FileNotFoundError, match=r"no checkpoint file .*b\.pth"):
        read_checkpoint(tmp_path / "b.pth")


# The published size


def test_rosita_base_has_as_many_parameters_as_published():
    # Pre-training: 121,384,773 with an answer head that ROSITA does not save. That head has
    # 768 * 1536 + 1536, 2 * 1536 and 1536 * 3129 + 3129 = 5,993,529. In tensors 229 - 6 = 223, of
    # which the decoder is the word embeddings once more.
    config = TBKINConfig.rosita_base()
    counts = {}
    for task, model_class in CLASSES.items():
        with torch.device("meta"):
            parts = list(model_class(config).parameters())
        counts[task] = (len(parts), sum(part.numel() for part in parts))
    assert counts == {
        "vqa": (211, 117_055_545),
        "grounding": (213, 111_657_989),
        "retrieval": (207, 111_063_554),
        "pretraining": (222, 121_384_773 - 5_993_529),
    }
