"""What the towers of another model read: their own tokens and pixels."""

import numpy as np
import pytest
import torch
from PIL import Image

from tbkin.data.collate import Collator
from tbkin.data.processing_tbkin import TBKINProcessor
from tbkin.data.retrieval import RetrievalDataset
from tbkin.data.retrieval_files import read_pictures
from tbkin.data.tower_inputs import TowerInputs
from tests.model.small_towers import LENGTH, SIDE, write_clip, write_siglip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_clip(tmp_path_factory.mktemp("towers") / "clip")


def test_with_a_mask_texts_are_as_long_as_they_are(folder):
    inputs = TowerInputs.from_pretrained(folder)
    text = inputs.text("two red stars")
    assert text["tower_attention_mask"] == [1] * 5
    words = inputs.tokenizer.convert_ids_to_tokens(text["tower_input_ids"])
    assert words == ["[CLS]", "two", "red", "stars", "[SEP]"]
    long = inputs.text("red " * 50)["tower_input_ids"]
    assert len(long) == LENGTH
    assert long[-1] == text["tower_input_ids"][-1]  # cut before the end token


def test_siglips_are_padded_to_full_length_without_a_mask(tmp_path):
    inputs = TowerInputs.from_pretrained(write_siglip(tmp_path))
    assert "attention_mask" in inputs.tokenizer.model_input_names  # and yet it learned without
    text = inputs.text("two red stars")
    assert text.keys() == {"tower_input_ids"}
    assert text["tower_input_ids"][5:] == [inputs.tokenizer.pad_token_id] * (LENGTH - 5)


def test_a_picture_is_normalised_as_the_towers_say(folder):
    inputs = TowerInputs.from_pretrained(folder)
    white = Image.new("RGB", (50, 90), "white")
    pixels = inputs.picture(white)["tower_pixel_values"]
    assert pixels.shape == (3, SIDE, SIDE)
    shown = (1 - np.array(inputs.image_processor.image_mean)) / inputs.image_processor.image_std
    assert torch.allclose(pixels[:, 5, 5].double(), torch.tensor(shown), atol=1e-5)


def test_saved_in_the_checkpoint_and_loaded_they_are_the_same(folder, tiny_processor, tmp_path):
    tiny_processor.save_pretrained(tmp_path / "plain")
    assert TBKINProcessor.from_pretrained(tmp_path / "plain").towers is None
    tiny_processor.towers = TowerInputs.from_pretrained(folder)
    tiny_processor.save_pretrained(tmp_path / "own")
    assert "towers" not in (tmp_path / "own" / "processor_config.json").read_text()
    loaded = TBKINProcessor.from_pretrained(tmp_path / "own")
    assert loaded.tokenizer.get_vocab() == tiny_processor.tokenizer.get_vocab()
    picture = Image.effect_mandelbrot((40, 30), (-2, -1, 1, 1), 9).convert("RGB")
    before, after = tiny_processor.towers, loaded.towers
    assert after.text("a red star is above") == before.text("a red star is above")
    old, new = before.picture(picture), after.picture(picture)
    assert torch.equal(new["tower_pixel_values"], old["tower_pixel_values"])
    assert (after.max_length, after.masked) == (LENGTH, True)


def test_a_folder_without_an_image_processor_is_named(folder, tmp_path):
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_text((folder / name).read_text())
    with pytest.raises(ValueError, match=rf"{tmp_path} has no usable tokenizer and preproc"):
        TowerInputs.from_pretrained(tmp_path)


def test_a_folder_without_a_tokenizer_is_named(folder, tmp_path):
    for name in ("config.json", "preprocessor_config.json"):
        (tmp_path / name).write_text((folder / name).read_text())
    message = rf"{tmp_path} has no usable tokenizer and preproc.*: none of tokenizer.json, vocab.js"
    with pytest.raises(ValueError, match=message):
        TowerInputs.from_pretrained(tmp_path)


def test_examples_hold_the_picture_and_the_text_that_is_read(folder, captions_root):
    processor = TBKINProcessor(
        _tokenizer(captions_root), parser="word_rules", towers=TowerInputs.from_pretrained(folder)
    )
    plain = RetrievalDataset(captions_root, "val", processor)
    rows, files = plain.rows, read_pictures(captions_root)
    for place in (0, 7, 7, 1):  # a caption seen before, and pictures in any order
        with Image.open(files[rows[place]["image_id"]]) as picture:
            own = processor.towers.picture(picture.convert("RGB"))
        example = plain[place]
        assert torch.equal(example["tower_pixel_values"], own["tower_pixel_values"])
        said = processor.towers.text(rows[place]["caption"])
        assert example["tower_input_ids"] == said["tower_input_ids"]
    batch = Collator(0)([plain[0], plain[1]])
    lengths = [len(plain[place]["tower_input_ids"]) for place in (0, 1)]
    assert batch["tower_pixel_values"].shape == (2, 3, SIDE, SIDE)
    assert batch["tower_attention_mask"].sum(dim=1).tolist() == lengths
    assert batch["tower_input_ids"].shape == (2, max(lengths))
    prompt = {"probability": 1.0, "max_length": 24}
    prompted = RetrievalDataset(captions_root, "val", processor, prompt=prompt)
    changed = [
        place
        for place in range(len(rows))
        if len(prompted[place]["input_ids"]) > len(plain[place]["input_ids"])
    ]
    assert changed
    for place in changed:
        read, own = prompted[place]["tower_input_ids"], plain[place]["tower_input_ids"]
        assert len(read) > len(own) or len(own) == LENGTH


def _tokenizer(root):
    from tbkin.data.retrieval import build_processor

    return build_processor(root, "train", "word_rules").tokenizer
