"""Prepared captions -> examples -> batches."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from data_prep import retrieval as step
from tbkin.config import TrainConfig, load_config
from tbkin.data.collate import Collator
from tbkin.data.picture_texts import build_processor as build_without_prompts
from tbkin.data.prepared import find_prepared
from tbkin.data.retrieval import RetrievalDataset, build_processor, image_ids_of
from tbkin.data.teachers import write_teacher
from tbkin.files import file_hash


@pytest.fixture(scope="module")
def prepared(tiny_root, tmp_path_factory):
    """The tiny world's captions, two a picture."""
    folder = tmp_path_factory.mktemp("retrieval") / "tiny"
    step.main(
        [f"data.root={tiny_root.official}", f"output={folder}", "detector=detected", "captions=2"]
    )
    return folder


@pytest.fixture(scope="module")
def dataset(prepared):
    processor = build_processor(prepared, "train", "word_rules")
    return RetrievalDataset(prepared, "val", processor)


def test_examples_say_whose_they_are(dataset):
    row = dataset.rows[1]
    example = dataset[1]
    assert {key: example[key] for key in ("caption_id", "image_id", "identity")} == {
        "caption_id": row["caption_id"],
        "image_id": row["image_id"],
        "identity": row["image_id"],
    }
    regions = dataset.store[row["image_id"]]
    assert example["input_ids"] == dataset.processor(regions, row["caption"])["input_ids"]
    assert torch.equal(example["region_features"], regions.features)


def test_batches_have_their_ids(dataset):
    collate = Collator(dataset.processor.tokenizer.pad_token_id)
    batch = collate([dataset[place] for place in (2, 0, 1)])
    rows = [dataset.rows[place] for place in (2, 0, 1)]
    for field, key in (
        ("caption_ids", "caption_id"),
        ("image_ids", "image_id"),
        ("identities", "identity"),
    ):
        assert batch[field].tolist() == [row[key] for row in rows]
        assert batch[field].dtype == torch.int64
    # Two captions of the first picture, one of the next.
    assert batch["identities"][1] == batch["identities"][2] != batch["identities"][0]
    assert "question_ids" not in batch


def test_identities_are_those_of_the_rows(prepared, dataset):
    rows = [dict(row, identity=5) for row in dataset.rows]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (prepared / "persons.jsonl").write_text(lines)
    persons = RetrievalDataset(prepared, "persons", dataset.processor)
    collate = Collator(dataset.processor.tokenizer.pad_token_id)
    batch = collate([persons[0], persons[2]])
    assert batch["identities"].tolist() == [5, 5]
    assert batch["image_ids"].tolist() == [rows[0]["image_id"], rows[2]["image_id"]]


def test_pictures_without_regions_name_the_command(prepared, dataset, tmp_path):
    row = {"caption_id": 0, "image_id": 77, "identity": 77, "caption": "a star"}
    (prepared / "other.jsonl").write_text(json.dumps(row))
    with pytest.raises(LookupError, match=r"first: 77\)\. .*tbkin prep retrieval overwrite=true"):
        RetrievalDataset(prepared, "other", dataset.processor)
    with pytest.raises(FileNotFoundError, match=r"no data prepared for retrieval .*prep retrieval"):
        find_prepared(tmp_path / "coco", "retrieval")


# Prompts


def texts(dataset):
    """What each example says, as words of the vocabulary."""
    tokenizer = dataset.processor.tokenizer
    return [
        tokenizer.decode(dataset[place]["input_ids"], skip_special_tokens=True)
        for place in range(len(dataset))
    ]


def prompted(prepared, dataset, **settings):
    return RetrievalDataset(prepared, "val", dataset.processor, prompt=settings)


def test_without_a_probability_captions_stay_as_they_are(prepared, dataset):
    assert dataset.prompts is None
    assert prompted(prepared, dataset, grid=2).prompts is None
    assert texts(prompted(prepared, dataset)) == texts(dataset)


def test_prompts_follow_from_seed_epoch_and_caption_alone(prepared, dataset):
    with_prompts = prompted(prepared, dataset, probability=1.0)
    before = texts(with_prompts)
    plain = texts(dataset)
    assert all(text.startswith(caption[:20]) for text, caption in zip(before, plain, strict=True))
    assert sum("the block" in text for text in before) == len(before)
    with_prompts.set_visit(0, 0)
    first = texts(with_prompts)
    with_prompts.set_visit(0, 1)
    second = texts(with_prompts)
    with_prompts.set_visit(1, 0)
    assert len({tuple(found) for found in (before, first, second, texts(with_prompts))}) == 4
    again = prompted(prepared, dataset, probability=1.0)
    again.set_visit(0, 1)
    tokenizer = dataset.processor.tokenizer
    for place in reversed(range(len(again))):  # in any order
        ids = again[place]["input_ids"]
        assert tokenizer.decode(ids, skip_special_tokens=True) == second[place]


def test_loader_processes_that_outlive_an_epoch_see_the_next(prepared, dataset):
    with_prompts = prompted(prepared, dataset, probability=1.0)
    loader = DataLoader(
        with_prompts, batch_size=None, num_workers=1, persistent_workers=True,
        collate_fn=lambda example: example["input_ids"],
    )  # fmt: skip
    for epoch in range(2):
        with_prompts.set_visit(3, epoch)
        here = [with_prompts[place]["input_ids"] for place in range(len(with_prompts))]
        assert list(loader) == here


def test_a_prompted_example_is_that_of_its_text(prepared, dataset):
    with_prompts = prompted(prepared, dataset, probability=1.0)
    row = with_prompts.rows[0]
    said = texts(with_prompts)[0]
    example, plain = with_prompts[0], dataset[0]
    assert example["caption_id"] == plain["caption_id"] == row["caption_id"]
    assert torch.equal(example["region_features"], plain["region_features"])
    assert len(example["input_ids"]) > len(plain["input_ids"])
    assert len(example["node_slot"]) > len(plain["node_slot"])  # the prompt's words are nodes, too
    assert row["caption"].split()[0].lower() in said
    # Pairs that are judged, and evaluation, take the caption as it is.
    assert with_prompts.pair(row["image_id"], 0)["input_ids"] == plain["input_ids"]


def test_what_the_model_does_not_know_is_refused(prepared, dataset):
    root = prepared
    blind = build_without_prompts(root, "train", "word_rules", RetrievalDataset.column)
    with pytest.raises(ValueError, match=r"the model does not know .*block.* of data\.prompt"):
        RetrievalDataset(root, "val", blind, prompt={"probability": 0.5})
    with pytest.raises(ValueError, match=r"does not know 9, 10, .* of data\.prompt"):
        prompted(prepared, dataset, probability=0.5, grid=4)
    with pytest.raises(ValueError, match=r"choose a grid of at most 3 and words of its captions"):
        prompted(prepared, dataset, probability=0.5, template="Zounds {block} {object}")
    with pytest.raises(ValueError, match=r"unknown setting of data\.prompt 'grit'; choose from"):
        prompted(prepared, dataset, grit=3)


def test_a_processor_knows_the_words_of_its_own_prompts(prepared):
    said = {"probability": 1.0, "grid": 5, "template": "Zounds, {block}: {object}"}
    processor = build_processor(prepared, "train", "word_rules", said)
    found = texts(RetrievalDataset(prepared, "val", processor, prompt=said))
    assert all("zounds" in text for text in found)
    assert any(f" {block} " in text for text in found for block in range(9, 25))
    with pytest.raises(ValueError, match=r"unknown setting of data\.prompt 'grit'; choose from"):
        build_processor(prepared, "train", "word_rules", {"grit": 3})


@pytest.mark.parametrize("variant", ["plain", "refined", "reserved"])
def test_prompts_that_the_tokenizer_would_cut_are_refused(prepared, dataset, variant):
    with pytest.raises(ValueError, match=r"max_length=40, and the model reads the first 24 tokens"):
        prompted(prepared, dataset, variant=variant, probability=0.5, max_length=40)


def test_the_dsslp_recipe_leaves_room_for_its_prompts(prepared, dataset):
    recipe = Path(__file__).resolve().parents[2] / "configs/objectives/dsslp.yaml"
    settings = load_config(TrainConfig, [str(recipe), "data.prompt.probability=1.0"]).data.prompt
    said = texts(prompted(prepared, dataset, **settings))
    assert all(" has a" in text.partition("the block")[2] for text in said)


def test_a_label_without_room_is_found_before_the_epoch(prepared, dataset):
    # 5 words, and start and end, for "The block 8 has a"; more for "large red circle".
    with pytest.raises(ValueError, match=r"max_length=7 has no room for the prompt 'The block 8"):
        prompted(prepared, dataset, probability=0.5, max_length=7)


# Teachers


def teach(folder, rows, without=None):
    chance = np.random.default_rng(0)
    for side, of, key in (("text", "captions", "caption_id"), ("image", "pictures", "image_id")):
        ids = sorted({row[key] for row in rows} - {without})
        write_teacher(folder / side, of, ids, [chance.normal(size=(len(ids), 3))], {"name": "x"})


def test_examples_carry_what_their_teachers_say(prepared, dataset, tmp_path):
    teach(tmp_path, dataset.rows)
    taught = RetrievalDataset(prepared, "val", dataset.processor, teachers=str(tmp_path))
    batch = Collator(dataset.processor.tokenizer.pad_token_id)([taught[2], taught[0]])
    rows = [taught.rows[2], taught.rows[0]]
    for side, key in (("text", "caption_id"), ("image", "image_id")):
        expected = taught.teachers[side][[row[key] for row in rows]]
        assert torch.equal(batch[f"{side}_teacher"], expected)
    assert "text_teacher" not in dataset[0]


def test_what_teachers_do_not_know_fails_at_once(prepared, dataset, tmp_path):
    missing = dataset.rows[-1]["caption_id"]
    teach(tmp_path, dataset.rows, without=missing)
    with pytest.raises(LookupError, match=f"no teacher features of caption {missing}"):
        RetrievalDataset(prepared, "val", dataset.processor, teachers=str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"no teacher features in .*teachers/text"):
        RetrievalDataset(prepared, "val", dataset.processor, teachers="auto")


def test_teachers_of_other_data_are_refused(prepared, dataset, tmp_path):
    teach(tmp_path, dataset.rows)
    for path in tmp_path.glob("*/teacher.json"):  # the same ids, as of another album
        record = json.loads(path.read_text())
        path.write_text(json.dumps(record | {"splits": {"val": "0" * 64}}))
    with pytest.raises(ValueError, match=r"text has teacher features of other data, or of other"):
        RetrievalDataset(prepared, "val", dataset.processor, teachers=str(tmp_path))
    own = {"train": "0" * 64, "val": file_hash(prepared / "val.jsonl")}
    for path in tmp_path.glob("*/teacher.json"):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"splits": own}))
    assert RetrievalDataset(prepared, "val", dataset.processor, teachers=str(tmp_path)).teachers
    (tmp_path / "text").rename(tmp_path / "captions")
    (tmp_path / "image").rename(tmp_path / "text")
    with pytest.raises(ValueError, match="text has teacher features of pictures, and those of cap"):
        RetrievalDataset(prepared, "val", dataset.processor, teachers=str(tmp_path))


# Pairs


def test_any_picture_goes_with_any_caption(dataset):
    first, other = dataset.rows[0], dataset.rows[2]
    assert first["image_id"] != other["image_id"]
    pair = dataset.pair(other["image_id"], 0)
    asked = dataset.processor(dataset.store[other["image_id"]], first["caption"])
    assert pair.keys() == asked.keys()
    for name, value in asked.items():
        assert np.array_equal(np.asarray(pair[name]), np.asarray(value)) or pair[name] == value
    assert image_ids_of(dataset)[:2] == [first["image_id"], other["image_id"]]


def test_pairs_of_a_batch_are_made_by_row(dataset):
    collate = Collator(dataset.processor.tokenizer.pad_token_id)
    batch = collate([dataset[place] for place in (3, 0)])
    made = dataset.pairs_of(batch, collate)(torch.tensor([0, 1, 0]), torch.tensor([1, 1, 0]))
    images = [dataset.rows[3]["image_id"], dataset.rows[0]["image_id"]]
    expected = collate(
        [dataset.pair(images[0], 0), dataset.pair(images[1], 0), dataset.pair(images[0], 3)]
    )
    for name in ("input_ids", "region_features", "attribute_label_ids"):
        assert torch.equal(made[name], expected[name])
    assert torch.equal(made["graph"].position, expected["graph"].position)
    assert "image_ids" not in made
