import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from tbkin.graphs.kinds import KINDS
from tbkin.model.configuration_tbkin import TBKINConfig
from tbkin.model.heads import TBKINForQuestionAnswering
from tbkin.model.initialization import EDGE_KINDS, read_weights, start_from


class Net(nn.Module):
    """A backbone with a word table, and a head."""

    def __init__(self, words=3, hidden=2, labels=2, extra=False):
        super().__init__()
        self.tbkin = nn.ModuleDict(
            {"text": nn.Embedding(words, hidden), "pooler": nn.Linear(hidden, hidden)}
        )
        self.head = nn.Linear(hidden, labels)
        if extra:
            self.tbkin["graph"] = nn.Linear(hidden, hidden)


@pytest.fixture
def old():
    torch.manual_seed(0)
    return Net()


def test_a_checkpoint_of_other_edge_kinds_is_refused_by_name(tmp_path):
    config = TBKINConfig(hidden_size=8, num_attention_heads=2, intermediate_size=8, num_labels=2)
    model = TBKINForQuestionAnswering(config)
    model.save_pretrained(tmp_path)
    TBKINForQuestionAnswering.from_pretrained(tmp_path)
    weights = read_weights(tmp_path)
    (name,) = [name for name in weights if name.endswith(EDGE_KINDS)]
    weights[name] = weights[name][:-2].clone()
    save_file(weights, tmp_path / "model.safetensors")
    message = f"have {len(KINDS) - 2} kinds of edges, this one has {len(KINDS)}; train or convert"
    for load in (TBKINForQuestionAnswering.from_pretrained, read_weights):
        with pytest.raises(ValueError, match=message):
            load(tmp_path)


def test_everything_that_fits_is_taken_over(old):
    new = Net()
    report = start_from(new, old.state_dict(), (3, 3))
    assert all(torch.equal(value, old.state_dict()[n]) for n, value in new.state_dict().items())
    assert str(report) == "loaded tbkin.text, tbkin.pooler, head; new nothing; left over nothing"


def test_new_words_get_new_rows(old):
    new = Net(words=5)
    before = new.tbkin["text"].weight.detach().clone()
    start_from(new, old.state_dict(), (3, 5))
    assert torch.equal(new.tbkin["text"].weight[:3], old.tbkin["text"].weight)
    assert torch.equal(new.tbkin["text"].weight[3:], before[3:])


def test_other_labels_get_a_new_head_even_of_the_same_shape(old):
    new = Net()
    before = new.head.weight.detach().clone()
    report = start_from(new, old.state_dict(), (3, 3), fresh=["head."])
    assert torch.equal(new.head.weight, before)
    assert "new head;" in str(report)


def test_what_does_not_fit_is_new_and_what_has_no_place_is_left(old):
    weights = old.state_dict() | {"word_head.bias": torch.zeros(3)}
    del weights["head.bias"]
    report = start_from(Net(labels=4, extra=True), weights, (3, 3))
    assert str(report) == (
        "loaded tbkin.text, tbkin.pooler; new tbkin.graph, head; left over word_head"
    )
    report = start_from(Net(), weights, (3, 3))
    assert "head (1 of 2)" in str(report)


def test_a_backbone_of_another_shape_is_refused(old):
    with pytest.raises(ValueError, match=r"tbkin.text.weight in the shape \(3, 2\), .* \(3, 4\)"):
        start_from(Net(hidden=4), old.state_dict(), (3, 3))


def test_a_folder_without_weights(tmp_path):
    with pytest.raises(FileNotFoundError, match="safetensors"):
        read_weights(tmp_path)


def test_only_the_model_is_read_and_all_its_parts(tmp_path):
    for place, name in enumerate(("model-00001-of-00002", "model-00002-of-00002", "objectives")):
        save_file({f"weight{place}": torch.zeros(1)}, tmp_path / f"{name}.safetensors")
    save_file({"scores": torch.zeros(2, 2)}, tmp_path / "scores.safetensors")
    assert list(read_weights(tmp_path)) == ["weight0", "weight1"]
