"""Running over a split: processes share it without doubles, a stopped run goes on."""

from types import SimpleNamespace

import pytest
import torch
from accelerate import Accelerator
from torch import nn

from tbkin import running
from tbkin.running import Runner, evaluate, evaluate_in_shards, read_records, write_records

EXAMPLES = 23


class Double(nn.Module):
    """Says twice the number it is shown; counts how often it was asked."""

    def __init__(self):
        super().__init__()
        self.asked = []

    def forward(self, numbers):
        self.asked += numbers.tolist()
        return SimpleNamespace(
            logits=2.0 * numbers,
            pooled=numbers[:, None].float(),
            attention_pairs=torch.tensor([[[1.0, 2.0]] + [[0.0, 0.0]] * 4]) * len(numbers),
            knowledge_kept=torch.tensor([numbers.float().mean(), 0.5]),
            attention_gate=None,
        )


class Collected:
    """Keeps what came, by id."""

    def __init__(self):
        self.values, self.updates = {}, 0

    def rows(self, outputs, batch):
        return {"value": outputs.logits, "id": batch["numbers"]}

    def update(self, rows):
        self.updates += 1
        for number, value in zip(rows["id"].tolist(), rows["value"].tolist(), strict=True):
            assert number not in self.values  # none counts twice
            self.values[number] = value

    def compute(self):
        return {"sum": sum(self.values.values())}


def runner(model=None, metric=None, batch_size=5):
    def collate(numbers):
        return {"numbers": torch.tensor(numbers)}

    model, metric = model or Double(), metric or Collected()
    return Runner(Accelerator(), model, list(range(EXAMPLES)), collate, metric, batch_size)


def test_every_example_counts_once_and_shares_weigh_by_examples():
    values = evaluate(runner())
    assert values["sum"] == 2 * sum(range(EXAMPLES))
    # The shares of the batches are the means of their numbers, the last batch has three examples:
    # only weighed by examples do they give the mean of all numbers.
    assert values["nodes_kept"] == pytest.approx(sum(range(EXAMPLES)) / EXAMPLES)
    assert values["attention_kept"] == [0.5]
    assert values["attention_kept_by_block"]["text-text"] == [0.5]


def test_shards_say_the_same_whatever_their_size(tmp_path):
    whole = evaluate(runner())
    for shard_size in (4, 7, 100):
        folder = tmp_path / f"shards-{shard_size}"
        values = evaluate_in_shards(runner(), folder, {"a": 1}, shard_size)
        assert values.pop("nodes_kept") == pytest.approx(whole["nodes_kept"])
        assert values == {key: value for key, value in whole.items() if key != "nodes_kept"}
        assert len(list(folder.glob("shard-*.safetensors"))) == -(-EXAMPLES // shard_size)


def test_records_come_back_from_a_shard_as_they_were(tmp_path):
    states = torch.randn(3, 4, 2)
    records = [
        {
            "rows": {"a.b": states[:2, 1:], "ids": torch.tensor([1, 2]), "mask": states[:2, 0] > 0},
            "examples": 2,
            "pairs": [[[1, 2]]],
            "shares": {"gate": 0.1},
        },
        {
            "rows": {"a.b": torch.ones(1, 5, dtype=torch.bfloat16), "ids": torch.tensor([2**60])},
            "examples": 1,
            "pairs": [[[0, 1]]],
            "shares": {},
        },
    ]
    for record in records:
        record["rows"] = {name: rows.contiguous() for name, rows in record["rows"].items()}
    write_records(tmp_path / "shard", records)
    found = list(read_records(tmp_path / "shard"))
    assert [set(record["rows"]) for record in found] == [{"a.b", "ids", "mask"}, {"a.b", "ids"}]
    for before, after in zip(records, found, strict=True):
        rows = after.pop("rows")
        for name, values in before.pop("rows").items():
            assert rows[name].dtype == values.dtype
            assert torch.equal(rows[name], values)
        assert after == before
    write_records(tmp_path / "none", [])
    assert list(read_records(tmp_path / "none")) == []


def test_rows_that_share_memory_are_copied(tmp_path):
    class Parts(Collected):
        def rows(self, outputs, batch):
            kept.append(outputs.logits)
            return {"value": outputs.logits, "id": batch["numbers"], "again": outputs.logits[:1]}

    kept = []
    values = evaluate_in_shards(runner(metric=Parts()), tmp_path / "shards", {"a": 1}, 4)
    assert values["sum"] == 2 * sum(range(EXAMPLES))
    record = next(runner(metric=Parts()).records([0, 1]))
    assert record["rows"]["value"].data_ptr() != kept[-1].data_ptr()


def test_a_stopped_run_goes_on_where_it_was(tmp_path):
    class Stops(Double):
        def forward(self, numbers):
            if 9 in numbers.tolist():
                raise KeyboardInterrupt
            return super().forward(numbers)

    folder = tmp_path / "shards"
    with pytest.raises(KeyboardInterrupt):
        evaluate_in_shards(runner(Stops()), folder, {"a": 1}, 4)
    again = Double()
    values = evaluate_in_shards(runner(again), folder, {"a": 1}, 4)
    assert values["sum"] == 2 * sum(range(EXAMPLES))
    assert again.asked == list(range(8, EXAMPLES))  # two shards of four were there


def test_a_run_begun_with_other_weights_is_not_gone_on_with(tmp_path):
    folder = tmp_path / "shards"
    evaluate_in_shards(runner(), folder, {"weights": "a"}, 4)
    with pytest.raises(ValueError, match="weights: begun with 'a', now 'b'"):
        evaluate_in_shards(runner(), folder, {"weights": "b"}, 4)


def test_outputs_that_are_not_finite_are_an_error():
    class Broken(Double):
        def forward(self, numbers):
            outputs = super().forward(numbers)
            outputs.logits = outputs.logits / 0.0
            return outputs

    with pytest.raises(ValueError, match="not finite"):
        evaluate(runner(Broken()))


def test_a_model_in_training_goes_back_to_training():
    model = Double().train()
    evaluate(runner(model))
    assert model.training


def test_shares_of_blocks_come_from_the_sums_of_pairs():
    # Two layers; of the first block 1 of 4 and 3 of 4, of the second nothing is there.
    pairs = torch.tensor([[[1, 4], [0, 0]] + [[1, 2]] * 3, [[3, 4], [0, 0]] + [[2, 2]] * 3])
    shares = running.kept_by_block(pairs.double())
    assert shares["text-text"] == [0.25, 0.75]
    assert shares["text-image"] == [1.0, 1.0]
    assert shares["graph"] == [0.5, 1.0]


def test_shards_of_other_processes_that_cannot_be_seen_are_an_error(tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")  # nobody writes the second process's shards
    with pytest.raises(ValueError, match="a disk that all processes share"):
        evaluate_in_shards(runner(), tmp_path / "shards", {"a": 1}, 4)
