import pytest
import torch

from tbkin.data.collate import Collator
from tbkin.graphs.kinds import NUM_KINDS

TEXTS = (
    "What color is the circle to the left of the large red square?",
    "",
    "how many small stars are there",
)
MASKS = {
    "input_ids": "attention_mask",
    "region_features": "region_mask",
    "region_boxes": "region_mask",
    "region_scores": "region_mask",
    "region_label_ids": "region_mask",
    "attribute_label_ids": "attribute_mask",
}


@pytest.fixture
def examples(tiny_processor, regions, empty_regions):
    """Three examples; the second has no content words, the third no regions."""
    pictures = (regions, regions, empty_regions)
    return [
        tiny_processor(picture, text) | {"question_id": 100 + n, "answer_scores": {n: 0.5 + n / 4}}
        for n, (picture, text) in enumerate(zip(pictures, TEXTS, strict=True))
    ]


def sizes(batch):
    return tuple(
        batch[name].shape[1] for name in ("attention_mask", "region_mask", "attribute_mask")
    )


def edges_of(batch, row):
    """{(source position, target position, kind, weight, seen)} of a row, positions as segments."""
    graph, (tokens, regions, attributes) = batch["graph"], sizes(batch)
    length = tokens + regions + attributes

    def name(node):
        assert graph.batch[node] == row
        place = graph.position[node].item() - row * length
        assert 0 <= place < length
        if place < tokens:
            return ("text", place)
        if place < tokens + regions:
            return ("region", place - tokens)
        return ("attribute", place - tokens - regions)

    chosen = (graph.edge_batch == row).nonzero().flatten().tolist()
    return sorted(
        (
            name(graph.edge_index[0, edge].item()),
            name(graph.edge_index[1, edge].item()),
            graph.edge_kind[edge].item(),
            graph.edge_weight[edge].item(),
            graph.edge_seen[edge].item(),
        )
        for edge in chosen
    )


def test_fields_are_padded_and_masked(examples, collate):
    batch = collate(examples)
    assert sizes(batch) == (15, 4, 4)
    assert batch["attention_mask"].sum(dim=1).tolist() == [15, 2, 8]
    assert batch["region_mask"].sum(dim=1).tolist() == [4, 4, 0]
    assert batch["attribute_mask"].sum(dim=1).tolist() == [4, 4, 0]
    assert batch["region_label_ids"].shape == (3, 4, 3)
    for name, mask in MASKS.items():
        hidden = batch[mask] == 0
        assert (batch[name][hidden] == 0).all(), name
    for row, example in enumerate(examples):
        count = len(example["input_ids"])
        assert batch["input_ids"][row, :count].tolist() == example["input_ids"]
        count = len(example["region_boxes"])
        for name in ("region_features", "region_boxes", "region_scores"):
            assert torch.equal(batch[name][row, :count], example[name]), name
        for place, ids in enumerate(example["region_label_ids"]):
            assert batch["region_label_ids"][row, place].tolist()[: len(ids)] == ids
            assert batch["region_label_ids"][row, place].tolist()[len(ids) :] == [0] * (
                3 - len(ids)
            )


def test_labels_and_questions(examples, collate):
    batch = collate(examples)
    assert batch["labels"].tolist() == [[0.5, 0, 0], [0, 0.75, 0], [0, 0, 1.0]]
    assert batch["question_ids"].tolist() == [100, 101, 102]
    assert "labels" not in Collator(0)(examples)
    for example in examples:
        del example["answer_scores"], example["question_id"]
    assert {"labels", "question_ids"}.isdisjoint(collate(examples))


def test_answer_frequencies(examples, collate):
    examples[0]["answer_frequencies"] = {0: 0.4, 2: 0.1}
    examples[2]["answer_frequencies"] = {1: 1.0}
    expected = torch.tensor([[0.4, 0, 0.1], [0, 0, 0], [0, 1.0, 0]])
    assert torch.equal(collate(examples)["answer_frequencies"], expected)
    assert "answer_frequencies" not in Collator(0)(examples)


def test_another_padding_id_is_used(examples):
    batch = Collator(9)(examples)
    assert batch["input_ids"][1, 2:].eq(9).all()
    assert batch["region_label_ids"][2].eq(9).all()


def test_positions_point_at_the_right_fused_slots(examples, collate):
    batch = collate(examples)
    tokens, regions, attributes = sizes(batch)
    starts = {0: 0, 1: tokens, 2: tokens + regions}
    expected, rows = [], []
    for row, example in enumerate(examples):
        for segment, slot in zip(example["node_segment"], example["node_slot"], strict=True):
            expected.append(row * (tokens + regions + attributes) + starts[segment] + slot)
            rows.append(row)
    assert batch["graph"].position.tolist() == expected
    assert batch["graph"].batch.tolist() == rows
    assert batch["graph"].num_nodes == len(expected)
    # Every node stands on a real position.
    mask = torch.cat([batch[n] for n in ("attention_mask", "region_mask", "attribute_mask")], 1)
    assert mask.flatten()[batch["graph"].position].all()


def test_edges_agree_with_a_slow_loop(examples, collate):
    batch = collate(examples)
    names = {0: "text", 1: "region", 2: "attribute"}
    for row, example in enumerate(examples):
        nodes = [
            (names[segment], slot)
            for segment, slot in zip(
                example["node_segment"].tolist(), example["node_slot"].tolist(), strict=True
            )
        ]
        expected = sorted(
            (nodes[source], nodes[target], kind, weight, seen)
            for (source, target, kind), weight, seen in zip(
                example["edges"].tolist(),
                example["edge_weight"].tolist(),
                example["edge_seen"].tolist(),
                strict=True,
            )
        )
        assert edges_of(batch, row) == expected
    assert len(batch["graph"].edge_kind) == sum(len(example["edges"]) for example in examples)


def test_edges_are_sorted_by_kind_and_counted(examples, collate):
    graph = collate(examples)["graph"]
    kinds = graph.edge_kind.tolist()
    assert kinds == sorted(kinds)
    assert graph.kind_counts == [kinds.count(kind) for kind in range(NUM_KINDS)]


def test_slots_number_each_rows_edges(examples, collate):
    graph = collate(examples)["graph"]
    for row, example in enumerate(examples):
        slots = graph.edge_slot[graph.edge_batch == row].tolist()
        assert sorted(slots) == list(range(len(example["edges"])))
    assert graph.edge_slots == max(len(example["edges"]) for example in examples)
    # A slot is the edge's place in its example, so what is reported can be traced back.
    for edge in range(len(graph.edge_kind)):
        example = examples[graph.edge_batch[edge]]
        assert example["edges"][graph.edge_slot[edge], 2] == graph.edge_kind[edge]


@pytest.mark.parametrize("row", [0, 1, 2])
def test_a_batch_of_one_is_its_row_of_a_batch_of_three(examples, collate, row):
    together, alone = collate(examples), collate(examples[row : row + 1])
    assert edges_of(together, row) == edges_of(alone, 0)
    for name, mask in MASKS.items():
        count = alone[mask].sum()
        found = together[name][row, :count]
        expected = alone[name][0, :count]
        if found.dim() == 2 and name.endswith("label_ids"):
            assert (found[:, expected.shape[1] :] == 0).all()
            found = found[:, : expected.shape[1]]
        assert torch.equal(found, expected), name
        assert together[mask][row].sum() == count
    assert torch.equal(together["labels"][row], alone["labels"][0])


def test_nothing_seen_and_nothing_said(tiny_processor, empty_regions, collate):
    batch = collate([tiny_processor(empty_regions, "")] * 2)
    assert sizes(batch) == (2, 0, 0)
    assert batch["region_boxes"].shape == (2, 0, 4)
    assert batch["graph"].edge_index.shape == (2, 0)
    assert batch["graph"].edge_slots == 0
    assert batch["graph"].position.tolist() == [0, 2]


def test_examples_are_not_changed(examples, collate):
    before = [{key: str(value) for key, value in example.items()} for example in examples]
    collate(examples)
    assert [{key: str(value) for key, value in example.items()} for example in examples] == before


def test_real_data_collate(tiny_root):
    from torch.utils.data import DataLoader

    from tbkin.data.vqa import VQADataset, build_processor, read_answers

    root = tiny_root.prepared
    labels = read_answers(root)
    processor = build_processor(root, "train", "word_rules")
    dataset = VQADataset(root, "train", processor, labels)
    collate = Collator(processor.tokenizer.pad_token_id, len(labels))
    batch = next(iter(DataLoader(dataset, batch_size=8, collate_fn=collate)))
    assert batch["labels"].shape == (8, len(labels))
    assert batch["labels"].max() <= 1
    assert (batch["labels"].sum(dim=1) > 0).any()
    unknown = processor.tokenizer.unk_token_id
    assert not (batch["input_ids"] == unknown).any()  # every word of the training split is known
    for row in range(8):
        assert edges_of(batch, row)
