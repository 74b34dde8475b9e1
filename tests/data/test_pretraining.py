"""What pre-training hides, what it asks for, and that nothing gives it away."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from torch.utils.data import DataLoader
from transformers import PreTrainedTokenizerFast

from tbkin.data import pretraining
from tbkin.data.collate import Collator
from tbkin.data.features import fingerprint, write_regions
from tbkin.data.masking import Masks
from tbkin.data.pretraining import (
    GraphLines,
    PretrainingDataset,
    join_visible,
    label_counts,
    read_labels,
    region_classes,
)
from tbkin.data.processing_tbkin import TBKINProcessor
from tbkin.graphs.build import join, picture_graph
from tbkin.graphs.knowledge import build_prior
from tbkin.graphs.scene_graph import write_scene_graphs
from tbkin.parsers import load_parser

CAPTIONS = (
    "A small red circle is left of the large red square.",
    "There are many small stars.",
    "The circle is left of the square.",
    "A blue cross.",
)
INPUTS = ("attribute_label_ids", "region_label_ids", "node_segment", "node_slot", "edges")


def parse(text):
    return load_parser("word_rules")(text)


@pytest.fixture
def pictures(regions):
    """The picture of conftest as number 7, and two others."""
    second = replace(regions, image_id="8", labels=["star", "star", "circle", "square"])
    third = replace(regions, image_id="9", features=regions.features + 1)
    return [regions, second, third]


@pytest.fixture
def root(tmp_path, pictures):
    """A prepared folder with three captions a picture."""
    write_regions(tmp_path / "regions", pictures, fingerprint("pixels 2x2", "", "by hand"))
    rows = [
        {"caption_id": 10 * image_id + n, "image_id": image_id, "caption": caption}
        for image_id in (7, 8, 9)
        for n, caption in enumerate(CAPTIONS)
    ]
    (tmp_path / "train.jsonl").write_text("\n".join(map(json.dumps, rows)))
    graphs = [parse(row["caption"]) for row in rows]
    (tmp_path / "graphs").mkdir()
    write_scene_graphs(tmp_path / "graphs" / "train.jsonl", graphs)
    build_prior(graphs).save(tmp_path / "prior.json")
    return tmp_path


@pytest.fixture
def make(root, tiny_processor):
    labels = read_labels(root)

    def make(**settings):
        return PretrainingDataset(root, "train", tiny_processor, labels, **settings)

    return make


def hide(monkeypatch, text=(), image=(), side="text"):
    """Make the next examples hide just these pieces and regions."""

    def draw(graph, drawn_side, form, generator):
        masks = [np.zeros(count, dtype=bool) for count in graph.links.shape]
        for mask, places in zip(masks, (text, image), strict=True):
            mask[list(range(len(mask))) if places == "all" else list(places)] = True
        return Masks(*masks, side)

    monkeypatch.setattr(pretraining, "draw_masks", draw)
    monkeypatch.setattr(pretraining, "MATCHED", 1.0)


def equal(first, second):
    """Whether two examples show a model the same."""
    return all(np.array_equal(first[n], second[n]) for n in INPUTS if "ids" not in n) and all(
        first[n] == second[n] for n in INPUTS if "ids" in n
    )


def alignments(graph):
    """{(label of the word, predicate, target): weight}."""
    return {
        (graph.nodes[e.source].label, e.predicate, e.target): e.weight
        for e in graph.edges
        if e.type == "alignment"
    }


def test_a_hidden_word_aligns_nothing_nor_what_it_says_of_others(regions):
    # Two circles, red and blue. "red circle" fits the first (1.0) and misses one facet of the
    # second (0.5). With "red" hidden, both fit alike, or the weights would tell the colour.
    both = replace(regions, labels=["circle", "square", "circle", "cross"])
    seen, said = picture_graph(both), parse("a red circle")
    before = alignments(join(seen, said))
    assert (before["circle", "object", 0], before["circle", "object", 2]) == (1.0, 0.5)
    red = next(n for n, node in enumerate(seen.nodes) if node.label == "red")
    assert before["red", "attribute", red] == 1.0

    graph = join_visible(seen, said, set(), {1})
    assert alignments(graph) == {("circle", "object", 0): 1.0, ("circle", "object", 2): 1.0}
    # The word's node stays, and what joins it to its object.
    words = [graph.nodes[place] for place in graph.of_type("word")]
    assert words == said.nodes
    first = len(seen.nodes)
    assert [
        (e.source - first, e.predicate, e.target - first)
        for e in graph.edges
        if e.type == "attribute" and e.source >= first
    ] == [(e.source, e.predicate, e.target) for e in said.edges]

    graph = join_visible(seen, said, set(), {2})  # "circle"
    assert alignments(graph) == {("red", "attribute", red): 1.0}


def test_a_hidden_region_is_a_box_and_nothing_else(regions):
    seen, said = picture_graph(regions), parse("a small red circle left of the square")
    graph = join_visible(seen, said, {0}, set())
    assert graph.nodes[0].label == ""
    assert graph.nodes[0].box == seen.nodes[0].box
    # "small" was said of region 0 alone; "red" of region 1 as well.
    names = [graph.nodes[place].label for place in graph.of_type("attribute")]
    assert names == ["red", "large", "blue"]
    touching = [e.type for e in graph.edges if 0 in (e.source, e.target)]
    assert set(touching) == {"spatial"}
    assert ("square", "object", 1) in alignments(graph)


@pytest.mark.parametrize(("regions_hidden", "words_hidden"), [({1}, set()), (set(), {6})])
def test_a_relation_found_through_what_is_hidden_goes(regions, regions_hidden, words_hidden):
    seen, said = picture_graph(regions), parse("the circle is left of the square")
    label = next(node.label for node in said.nodes if node.role == "relation")
    assert (label, "relation", 0) in alignments(join(seen, said))
    graph = join_visible(seen, said, regions_hidden, words_hidden)
    assert (label, "relation", 0) not in alignments(graph)
    assert ("circle", "object", 0) in alignments(graph)


def test_nothing_hidden_is_the_whole_graph(regions):
    seen, said = picture_graph(regions), parse(CAPTIONS[0])
    assert join_visible(seen, said, set(), set()) == join(seen, said)


def test_classes_of_hidden_regions(regions):
    # Region 1: square 0.8, its surest attribute large 1.0; region 3: cross is not known.
    found = region_classes(
        picture_graph(regions),
        torch.tensor([False, True, False, True]),
        {"circle": 0, "square": 1},
        {"red": 0, "large": 1, "blue": 2},
    )
    assert found["object_labels"].tolist() == [-100, 1, -100, -100]
    assert found["attribute_labels"].tolist() == [-100, 1, -100, 2]
    assert found["object_confidence"].tolist() == pytest.approx([0, 0.8, 0, 0])
    assert found["attribute_confidence"].tolist() == pytest.approx([0, 1.0, 0, 0.5])


def test_labels_of_the_regions_are_those_of_the_store(root):
    labels = read_labels(root)
    assert labels == [
        *(f"object {name}" for name in ("circle", "square", "star", "cross")),
        *(f"attribute {name}" for name in ("red", "small", "large", "blue")),
    ]
    assert label_counts(labels) == {"num_object_labels": 4, "num_attribute_labels": 4}
    assert label_counts([]) == {"num_object_labels": 1, "num_attribute_labels": 1}


def test_hidden_words_are_asked_and_hidden_regions_of_the_other_side_are_not(make, monkeypatch):
    dataset = make()
    original = dataset.processor.tokenize(dataset.graphs[0].words)["input_ids"]
    hide(monkeypatch, text=[1, 2], image=[0], side="text")
    fates = set()
    for epoch in range(60):
        dataset.set_visit(0, epoch)
        example = dataset[0]
        assert example["word_labels"] == [
            token if place in (2, 3) else -100 for place, token in enumerate(original)
        ]
        kept = [place for place in range(len(original)) if place not in (2, 3)]
        assert [example["input_ids"][place] for place in kept] == [original[p] for p in kept]
        fates.add(example["input_ids"][2])
        assert not example["region_targets"].any()
        assert (example["object_labels"] == -100).all()
        assert example["region_label_ids"][0] == []
        assert all(example["region_label_ids"][1:])
    assert {dataset.processor.tokenizer.mask_token_id, original[2]} < fates


def test_hidden_regions_are_asked(make, monkeypatch, regions):
    dataset = make()
    hide(monkeypatch, image=[1, 3], side="image")
    stored = regions.features.half().float()
    zeros = 0
    for epoch in range(60):
        dataset.set_visit(0, epoch)
        example = dataset[0]
        assert example["region_targets"].tolist() == [False, True, False, True]
        assert example["object_labels"].tolist() == [-100, 1, -100, 3]
        assert torch.equal(example["feature_labels"], stored)
        assert torch.equal(example["region_features"][[0, 2]], stored[[0, 2]])
        zeros += (example["region_features"][[1, 3]] == 0).all(dim=1).sum().item()
        assert set(example["word_labels"]) == {-100}
    assert 75 < zeros < 115  # 80 % of 120


def test_a_wrong_picture_is_masked_but_nothing_of_it_is_asked(make, monkeypatch):
    dataset = make()
    for side in ("text", "image"):
        hide(monkeypatch, text=[1], image=[0], side=side)
        monkeypatch.setattr(pretraining, "MATCHED", 0.0)
        for epoch in range(20):
            dataset.set_visit(0, epoch)
            example = dataset[0]
            assert example["match_label"] == 0
            assert set(example["word_labels"]) == {-100}
            assert not example["region_targets"].any()
            assert example["region_label_ids"][0] == []
            # Never its own picture: number 7 has a circle as region 0, 8 a star; 9 other features.
            own = torch.equal(example["feature_labels"], dataset.store[7].features)
            assert not own or dataset.store[8].features.equal(example["feature_labels"])


def test_half_of_the_pictures_are_wrong_and_never_the_own(make, monkeypatch):
    dataset = make()
    used = []
    picture = dataset._picture
    monkeypatch.setattr(dataset, "_picture", lambda i: used.append(i) or picture(i))
    monkeypatch.setattr(
        pretraining, "corrupt_regions", lambda features, *_: features.clone()
    )  # which looks at other pictures, too
    matched = {0: set(), 1: set()}
    labels = []
    for epoch in range(300):
        dataset.set_visit(3, epoch)
        used.clear()
        labels.append(dataset[4]["match_label"])
        matched[labels[-1]] |= set(used)
    assert matched == {0: {7, 9}, 1: {8}}
    assert 0.4 < sum(labels) / len(labels) < 0.6


def test_a_hidden_region_cannot_be_told_by_what_is_left(make, monkeypatch, pictures, root):
    """Pictures that differ in nothing but what is hidden give the same inputs."""
    hide(monkeypatch, image="all", side="image")
    first = make()[0]
    other = replace(
        pictures[0],
        labels=["cross", "circle", "square", "star"],
        attributes=[[("blue", 0.9)], [("small", 0.7)], [("red", 0.6), ("large", 1.0)], []],
        relations=[(2, "left of", 3, 0.9)],
    )
    folder = root / "regions"
    write_regions(folder, [other, *pictures[1:]], fingerprint("pixels 2x2", "", "by hand"))
    second = make()[0]
    assert not torch.equal(first["object_labels"], second["object_labels"])
    assert equal(first, second)


def test_a_hidden_word_cannot_be_told_by_what_is_left(make, monkeypatch, root):
    """Captions that differ in nothing but what is hidden give the same graph."""
    caption = "A small blue circle is left of the large red square."
    parsed = parse(caption)
    dataset = make()
    whole = dataset[0]
    hide(monkeypatch, text=[2], side="text")  # the colour
    first = make()[0]
    assert not equal(first, whole)
    monkeypatch.setattr(GraphLines, "__getitem__", lambda self, place: parsed)
    second = make()[0]
    assert first["word_labels"] != second["word_labels"]
    assert equal(first, second)


def test_masks_follow_from_seed_epoch_and_example(make):
    def inputs(dataset, places=range(12)):
        return {place: dataset[place]["input_ids"] for place in places}

    first, second = make(), make()
    assert inputs(first) == inputs(second, reversed(range(12)))  # nothing else was said
    seen = [inputs(first)]
    for seed, epoch in ((0, 0), (0, 1), (1, 0)):
        first.set_visit(seed, epoch)
        second.set_visit(seed, epoch)
        assert inputs(first) == inputs(second, reversed(range(12)))
        seen.append(inputs(first))
    assert all(a != b for n, a in enumerate(seen) for b in seen[:n])
    first.set_visit(0, 1)
    assert inputs(first) == seen[2]


def test_loader_processes_see_the_next_epoch_begin(make):
    dataset = make()
    collate = Collator(dataset.processor.tokenizer.pad_token_id)
    loader = DataLoader(dataset, 12, collate_fn=collate, num_workers=1, persistent_workers=True)
    for epoch in range(2):
        dataset.set_visit(5, epoch)
        (batch,) = loader
        here = collate([dataset[place] for place in range(12)])
        assert torch.equal(batch["input_ids"], here["input_ids"])
        assert torch.equal(batch["word_labels"], here["word_labels"])


@pytest.mark.parametrize("form", ["graph", "simple", "random"])
def test_a_batch_has_what_the_objectives_read(make, form):
    dataset = make(masking=form)
    dataset.set_visit(0, 0)
    batch = Collator(0)([dataset[place] for place in range(12)])
    tokens, regions = batch["attention_mask"].shape[1], batch["region_mask"].shape[1]
    for name, shape in {
        "word_labels": (12, tokens),
        "object_labels": (12, regions),
        "attribute_labels": (12, regions),
        "object_confidence": (12, regions),
        "attribute_confidence": (12, regions),
        "region_targets": (12, regions),
        "feature_labels": tuple(batch["region_features"].shape),
        "match_labels": (12,),
        "caption_ids": (12,),
    }.items():
        assert tuple(batch[name].shape) == shape, name
    assert batch["caption_ids"].tolist() == [10 * i + n for i in (7, 8, 9) for n in range(4)]
    assert (batch["word_labels"][batch["attention_mask"] == 0] == -100).all()
    assert batch["region_targets"].dtype == torch.bool
    assert (batch["word_labels"] != -100).any()
    assert batch["region_targets"].any()


def test_a_piece_hides_its_word(root, monkeypatch, regions):
    """Pieces of BERT's kind: "circle" is "circ" and "##le"."""
    words = "[PAD] [UNK] [CLS] [SEP] [MASK] circ ##le ##s a the is left of small large red".split()
    words += "square blue cross there are many star .".split()
    backend = Tokenizer(models.WordPiece({w: n for n, w in enumerate(words)}, unk_token="[UNK]"))
    backend.normalizer = normalizers.Lowercase()
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
    )
    dataset = PretrainingDataset(
        root, "train", TBKINProcessor(tokenizer, "word_rules"), read_labels(root)
    )
    place = 2  # "The circle is left of the square": [CLS] the circ ##le is …
    hide(monkeypatch, text=[2], side="text")  # the second piece
    example = dataset[place]
    assert [n for n, label in enumerate(example["word_labels"]) if label != -100] == [3]
    assert example["word_labels"][3] == words.index("##le")
    hidden = {tuple(edge) for edge in example["edges"].tolist()}
    hide(monkeypatch)
    whole = {tuple(edge) for edge in dataset[place]["edges"].tolist()}
    assert hidden < whole  # the alignments of "circle", and the relation through it


def test_errors_say_what_to_do(make, root, tiny_processor):
    with pytest.raises(ValueError, match="unknown form of masking 'words'; choose from: graph"):
        make(masking="words")
    tiny_processor.tokenizer.mask_token = None
    with pytest.raises(ValueError, match="needs a tokenizer with a mask token"):
        make()
    lines = (root / "graphs" / "train.jsonl").read_text().splitlines()
    (root / "graphs" / "short.jsonl").write_text("\n".join(lines[:5]))
    with pytest.raises(ValueError, match="holds 5 graphs of 12 captions"):
        GraphLines(root / "graphs" / "short.jsonl", 12)
    with pytest.raises(FileNotFoundError, match="prepare the data again"):
        GraphLines(root / "graphs" / "none.jsonl", 12)
    (root / "graphs" / "short.jsonl").write_text("{}\n" * 2)
    with pytest.raises(ValueError, match=r"short.jsonl, line 2: not a scene graph"):
        GraphLines(root / "graphs" / "short.jsonl", 2)[1]


def test_pictures_without_regions_are_named_at_once(make, root):
    row = {"caption_id": 1, "image_id": 99, "caption": CAPTIONS[0]}
    with (root / "train.jsonl").open("a") as file:
        file.write("\n" + json.dumps(row))
    with (root / "graphs" / "train.jsonl").open("a") as file:
        file.write(json.dumps(parse(CAPTIONS[0]).to_dict()))
    with pytest.raises(LookupError, match=r"1 pictures of split 'train' have no regions.*99"):
        make()
