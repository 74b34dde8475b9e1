"""Towers of another model: which models can be some, and what stands in for our own passes."""

from types import SimpleNamespace

import pytest
import torch
from transformers import CLIPTextModel, FlavaConfig, FlavaModel

from tbkin.data.collate import Collator
from tbkin.data.tower_inputs import TowerInputs
from tbkin.model.configuration_tbkin import TBKINConfig
from tbkin.model.retrieval import TBKINForImageTextRetrieval
from tbkin.model.towers import Towers, build_towers, load_towers, settings_of
from tbkin.objectives.region_words import RegionWords
from tests.conftest import FEATURES, place_regions
from tests.model.small_towers import LAYERS, LENGTH, SIDE, WIDTH, write_clip

TEXTS = ("a red circle left of a blue square", "two stars")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_clip(tmp_path_factory.mktemp("towers") / "clip")


@pytest.fixture
def world(folder, tiny_processor):
    """A model with CLIP's towers, ``.batch`` of two, and ``.pairs`` of it."""
    encoder = load_towers(folder)
    torch.manual_seed(0)
    config = TBKINConfig.from_changes(
        {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32,
         "selection_ramp_steps": 4},
        vocab_size=len(tiny_processor.tokenizer),
        region_feature_size=FEATURES,
        num_labels=0,
        towers=settings_of(encoder.config),
        embedding_size=WIDTH,
    )  # fmt: skip
    model = TBKINForImageTextRetrieval(config).eval()
    model.towers.model.load_state_dict(encoder.state_dict())
    inputs, collate = TowerInputs.from_pretrained(folder), Collator(0)
    chance = torch.Generator().manual_seed(0)
    examples = [
        {
            **tiny_processor(place_regions(), text),
            **inputs.text(text),
            "tower_pixel_values": torch.randn(3, SIDE, SIDE, generator=chance),
        }
        for text in TEXTS
    ]

    def pairs(pictures, texts):
        return collate([tiny_processor(place_regions(), TEXTS[text]) for text in texts.tolist()])

    return SimpleNamespace(model=model, encoder=encoder, batch=collate(examples), pairs=pairs)


def test_the_towers_own_projections_are_the_embeddings(world):
    batch = world.batch
    with torch.no_grad():
        outputs = world.model(**batch)
        image = world.encoder.get_image_features(batch["tower_pixel_values"]).pooler_output
    assert torch.allclose(outputs.image_embeds, image / image.norm(dim=1, keepdim=True), atol=1e-6)
    assert outputs.image_uni_embeds.shape == outputs.text_uni_embeds.shape == (2, WIDTH)
    assert torch.allclose(outputs.text_uni_embeds.norm(dim=1), torch.ones(2))
    assert not torch.allclose(outputs.text_uni_embeds, outputs.text_embeds)
    # No pass of ours was made, so there is nothing to count: all of nothing is kept.
    assert outputs.attention_pairs.sum() == 0
    assert outputs.attention_kept.tolist() == [1, 1]
    assert outputs.region_states is None


def test_a_text_is_the_same_however_long_the_others_are(world):
    short = {name: world.batch[f"tower_{name}"][1:, :4] for name in ("input_ids", "attention_mask")}
    assert short["attention_mask"].all()  # two stars, start and end
    with torch.no_grad():
        alone, among = world.model.towers.text(**short), world.model(**world.batch).text_embeds[1]
    assert torch.allclose(alone[0] / alone.norm(), among, atol=1e-6)


def test_our_own_passes_of_one_side_are_refused(world):
    for alone in (world.model.image, world.model.text):
        with pytest.raises(ValueError, match=r"another model \(clip\) embed .* model.towers.image"):
            alone(**world.batch)


def test_what_is_judged_is_what_our_own_layers_say(world):
    model = world.model
    with torch.no_grad():
        outputs = model(**world.batch, pairs=world.pairs)
        right = model.match(**world.pairs(None, torch.arange(2)))
    assert outputs.match_labels.tolist() == [1, 1, 0, 0, 0, 0]
    assert torch.allclose(outputs.match_logits[:2], right.match_logits, atol=1e-5)
    for name in ("region_word_logits", "pooled", "attention_pairs"):
        assert torch.allclose(outputs[name], right[name], atol=1e-5), name


def test_regions_are_read_in_training_with_and_without_pairs(world):
    assert world.model(**world.batch).region_word_logits is None
    model = world.model.train()
    alone = model(**world.batch).region_word_logits
    for rows in (0, 1):
        judged = model(**world.batch, pairs=world.pairs, judged_rows=rows)
        assert torch.allclose(alone, judged.region_word_logits, atol=1e-5)
        assert len(judged.pooled) == len(judged.match_labels) // 3 == (rows or 2)
        assert RegionWords()(judged, world.batch) > 0  # of the whole batch's labels


def test_thresholds_ramp_up_by_one_a_batch_that_is_judged(world):
    model = world.model.train()
    model(**world.batch)
    assert model.tbkin.training_steps.item() == 0
    model(**world.batch, pairs=world.pairs)
    assert model.tbkin.training_steps.item() == 1


def test_settings_say_nothing_of_a_machine_and_build_the_same(world):
    settings = settings_of(world.encoder.config)
    assert not {"_name_or_path", "dtype", "transformers_version"} & settings.keys()
    built = build_towers(settings)
    assert settings_of(built.config) == settings
    assert built.state_dict().keys() == world.encoder.state_dict().keys()


def test_one_side_alone_is_no_dual_encoder(folder, tmp_path):
    CLIPTextModel.from_pretrained(folder).save_pretrained(tmp_path)
    message = "CLIPTextModel, which has no get_image_features and no get_text_features; give a dual"
    with pytest.raises(ValueError, match=message):
        load_towers(tmp_path)


def test_features_of_every_token_are_refused():
    sizes = {**LAYERS, "max_position_embeddings": LENGTH, "vocab_size": 30}
    config = FlavaConfig(text_config=sizes, image_config={**LAYERS, "image_size": SIDE},
                         multimodal_config=LAYERS, hidden_size=32, projection_dim=8)  # fmt: skip
    towers = Towers(FlavaModel(config).eval())
    with pytest.raises(
        ValueError, match=r"FlavaModel gives features of shape \(1, 3, 8\), not one"
    ):
        towers.text(torch.tensor([[1, 2, 3]]), torch.ones(1, 3))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"towers": {"hidden_size": 8}}, "with its model_type, and embedding_size the width"),
        ({"towers": {"model_type": "clip"}, "embedding_size": 0}, "embedding_size the width of"),
        ({"freeze_towers": True}, "there are no towers of another model"),
        ({"towers": {"model_type": "clip"}, "scorer": "saf"}, "scorer=saf reads the states of the"),
    ],
)
def test_settings_that_do_not_fit_one_another(changes, message):
    with pytest.raises(ValueError, match=message):
        TBKINConfig.from_changes(changes)
