"""Tiny networks with random weights, saved and loaded as real ones are; nothing is fetched."""

import copy
import json
import shutil

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from safetensors.torch import load_file, save_file

from tbkin.boxes import box_iou
from tbkin.detectors.huggingface import HuggingFaceDetector
from tbkin.detectors.query_outputs import class_scores, finest_map, query_boxes
from tbkin.detectors.roi import roi_align
from tbkin.files import file_hash

NAMES = {0: "cat", 1: "dog", 2: "red car", 3: "person", 4: "tree"}
QUERIES = 12
ASPECT = {"shortest_edge": 64, "longest_edge": 96}  # how the DETR family resizes
SQUARE = {"height": 64, "width": 96}
FAMILIES = ["rt_detr_v2", "d_fine", "detr", "conditional_detr", "deformable_detr", "yolos"]


def picture(seed=0, width=120, height=80):
    """Coarse blots, so that places in the picture differ from one another."""
    pixels = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize((width, height), Image.Resampling.NEAREST)


def resnet(kind, **changes):
    return kind(
        embedding_size=8,
        hidden_sizes=[8] * 4,
        depths=[1] * 4,
        layer_type="basic",
        out_features=["stage2", "stage3", "stage4"],
        **changes,
    )


def hgnet():
    return transformers.HGNetV2Config(
        embedding_size=8,
        hidden_sizes=[8] * 4,
        depths=[1] * 4,
        stem_channels=[3, 8, 8],
        stage_in_channels=[8] * 4,
        stage_mid_channels=[4] * 4,
        stage_out_channels=[8] * 4,
        stage_num_blocks=[1] * 4,
        stage_numb_of_layers=[1] * 4,
        stage_light_block=[False] * 4,
        out_features=["stage2", "stage3", "stage4"],
    )


def rt_detr(kind, backbone):
    return kind(
        backbone_config=backbone,
        id2label=NAMES,
        num_queries=QUERIES,
        d_model=16,
        encoder_hidden_dim=16,
        encoder_in_channels=[8] * 3,
        encoder_ffn_dim=16,
        encoder_attention_heads=2,
        decoder_in_channels=[16] * 3,
        decoder_ffn_dim=16,
        decoder_layers=2,
        decoder_attention_heads=2,
    )


def detr(kind, size=16):
    return kind(
        use_timm_backbone=False,
        backbone=None,
        backbone_config=resnet(transformers.ResNetConfig),
        id2label=NAMES,
        num_queries=QUERIES,
        d_model=size,
        encoder_layers=1,
        decoder_layers=2,
        encoder_ffn_dim=16,
        decoder_ffn_dim=16,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
    )


def build(family):
    """A network of the family and its image processor."""
    if family == "rt_detr_v2":
        backbone = resnet(transformers.RTDetrResNetConfig)
        config = rt_detr(transformers.RTDetrV2Config, backbone)
        processor = transformers.RTDetrImageProcessorPil(size=SQUARE)
    elif family == "d_fine":
        config = rt_detr(transformers.DFineConfig, hgnet())
        processor = transformers.RTDetrImageProcessorPil(size=SQUARE)
    elif family == "detr":
        config = detr(transformers.DetrConfig)
        processor = transformers.DetrImageProcessorPil(size=ASPECT)
    elif family == "conditional_detr":
        config = detr(transformers.ConditionalDetrConfig)
        processor = transformers.ConditionalDetrImageProcessorPil(size=ASPECT)
    elif family == "deformable_detr":
        config = detr(transformers.DeformableDetrConfig, size=32)
        processor = transformers.DeformableDetrImageProcessorPil(size=ASPECT)
    else:
        config = transformers.YolosConfig(
            id2label=NAMES,
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=16,
            image_size=[64, 96],
            num_detection_tokens=QUERIES,
        )
        processor = transformers.YolosImageProcessorPil(size=ASPECT)
    return transformers.AutoModelForObjectDetection.from_config(config), processor


def liven(model, convolutions):
    """Weights with which signals neither die out nor are the same for every query and place."""
    with torch.no_grad():
        for name, weight in sorted(model.named_parameters()):
            noise = torch.Generator().manual_seed(sum(map(ord, name)))
            if weight.ndim > 1:
                table = "embeddings" in name or "detection_tokens" in name
                size = 1 if table else weight[0].numel() ** -0.5
                size *= convolutions if weight.ndim == 4 else 1
                weight.copy_(size * torch.randn(weight.shape, generator=noise))


def variant(detector, **settings):
    """The same detector, loaded once, with other settings."""
    other = copy.copy(detector)
    vars(other).update(settings)
    return other


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """``network(family) -> folder`` of a saved network, made once."""
    made = {}

    def make(family):
        if family not in made:
            made[family] = tmp_path_factory.mktemp("networks") / family
            torch.manual_seed(0)
            model, processor = build(family)
            liven(model, 2.5 if family == "rt_detr_v2" else 1)
            model.save_pretrained(made[family])
            processor.save_pretrained(made[family])
        return made[family]

    return make


def direct(detector, image):
    """The network's own answer: scores (Q,), classes (Q,), xyxy pixels (Q, 4) and the outputs."""
    prepared = detector.processor(images=image, return_tensors="pt")
    inputs = {name: prepared[name] for name in detector.inputs if name in prepared}
    with torch.no_grad():
        outputs = detector.model(**inputs)
    scores, classes = class_scores(outputs.logits[0], len(NAMES)).max(dim=1)
    boxes = query_boxes(outputs.pred_boxes[0], image.width, image.height)
    limit = torch.tensor([image.width, image.height] * 2)
    return scores, classes, boxes.clamp(min=0).minimum(limit), outputs, inputs["pixel_values"]


@pytest.mark.parametrize("family", FAMILIES)
def test_regions_and_decoder_states_are_those_of_the_queries(network, family):
    detector = HuggingFaceDetector(network(family), threshold=0, nms=1, features="decoder")
    image = picture()
    regions = detector(image, "7")
    scores, classes, boxes, outputs, _ = direct(detector, image)
    order = torch.sort(scores, descending=True, stable=True).indices
    order = order[(boxes[order, 2:] > boxes[order, :2]).all(dim=1)]
    assert len(regions) == len(order) > 3
    assert torch.allclose(regions.boxes, boxes[order], atol=1e-3)
    assert regions.scores == pytest.approx(scores[order].tolist(), abs=1e-5)
    assert regions.labels == [NAMES[number] for number in classes[order].tolist()]
    states = outputs.last_hidden_state[0, -QUERIES:]
    assert torch.allclose(regions.features, states[order], atol=1e-4)
    assert (regions.width, regions.height, regions.image_id) == (120, 80, "7")


@pytest.mark.parametrize("family", FAMILIES)
def test_map_features_are_pooled_from_the_box(network, family):
    detector = HuggingFaceDetector(network(family), threshold=0, nms=1)
    image = picture()
    regions = detector(image)
    outputs, pixels = direct(detector, image)[3:]
    found = finest_map(outputs, tuple(pixels.shape[2:]), QUERIES, detector.model.config)
    # The input of 64 x 96 at the family's finest stride.
    stride = {"detr": 32, "conditional_detr": 32, "yolos": 16}.get(family, 8)
    assert found.shape[1:] == (64 // stride, 96 // stride)
    scale = found.shape[2] / image.width, found.shape[1] / image.height
    expected = roi_align(found, regions.boxes, *scale).mean(dim=(2, 3))
    assert torch.allclose(regions.features, expected, atol=1e-4)
    assert regions.features.std(dim=0).max() > 1e-3  # regions differ


def test_the_map_lies_over_the_picture_as_the_picture_lies(network):
    # What is drawn into the right lower corner moves the features of a box there, and not (or
    # hardly) those of a box in the left upper corner.
    detector = HuggingFaceDetector(network("rt_detr_v2"), threshold=0, nms=1)
    image = picture(width=192, height=128)
    changed = image.copy()
    changed.paste((255, 0, 255), (144, 96, 192, 128))
    maps = []
    for one in (image, changed):
        outputs, pixels = direct(detector, one)[3:]
        maps.append(finest_map(outputs, tuple(pixels.shape[2:]), QUERIES, detector.model.config))
    moved = (maps[0] - maps[1]).abs().mean(dim=0)
    row, column = divmod(int(moved.argmax()), moved.shape[1])
    assert row >= moved.shape[0] // 2
    assert column >= moved.shape[1] // 2


def test_padding_of_the_input_is_no_part_of_the_picture(network, tmp_path):
    # 120 x 80 becomes 96 x 64, in the upper left of 128 x 128: at stride 32, 4 x 4 cells, of which
    # the picture fills 3 x 2. So 3 cells are 120 pixels across, and 2 are 80 down.
    folder = shutil.copytree(network("detr"), tmp_path / "padded")
    settings = json.loads((folder / "preprocessor_config.json").read_text())
    settings |= {"do_pad": True, "pad_size": {"height": 128, "width": 128}}
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    detector = HuggingFaceDetector(folder, threshold=0, nms=1)
    image = picture()
    regions = detector(image)
    outputs, pixels = direct(detector, image)[3:]
    assert pixels.shape[2:] == (128, 128)
    found = finest_map(outputs, (128, 128), QUERIES, detector.model.config)
    assert found.shape[1:] == (4, 4)
    expected = roi_align(found, regions.boxes, 3 / 120, 2 / 80).mean(dim=(2, 3))
    assert torch.allclose(regions.features, expected, atol=1e-4)


@pytest.mark.parametrize("features", ["map", "decoder", "none"])
def test_threshold_nms_and_maximum_choose_among_the_same_regions(network, features):
    folder, image = network("deformable_detr"), picture()
    detector = HuggingFaceDetector(folder, threshold=0, nms=1, features=features)
    everything = detector(image)
    middle = sorted(everything.scores)[len(everything) // 2]

    def same(found, places):
        assert torch.equal(found.boxes, everything.boxes[places])
        assert found.labels == [everything.labels[place] for place in places]
        if features == "none":
            assert found.features is None
        else:
            assert torch.allclose(found.features, everything.features[places], atol=1e-5)

    above = [place for place, score in enumerate(everything.scores) if score >= middle]
    found = variant(detector, threshold=middle)(image)
    assert 0 < len(found) < len(everything)
    same(found, above)
    found = variant(detector, max_regions=3)(image)
    same(found, [0, 1, 2])
    kept = []
    for place in range(len(everything)):  # across labels, best first
        box = everything.boxes[[place]]
        if all(box_iou(box, everything.boxes[[better]]).item() <= 0.2 for better in kept):
            kept.append(place)
    assert len(kept) < len(everything)
    same(variant(detector, nms=0.2)(image), kept)


@pytest.mark.parametrize("features", ["map", "decoder"])
def test_nothing_found_is_no_rows_of_the_usual_width(network, features):
    regions = HuggingFaceDetector(network("detr"), threshold=1.0, features=features)(picture())
    assert regions.boxes.shape == (0, 4)
    assert regions.features.shape == (0, 16)


def test_regions_do_not_depend_on_the_pictures_before(network):
    detector = HuggingFaceDetector(network("deformable_detr"), threshold=0)
    first = detector(picture(0))
    other = detector(picture(1, 50, 90))
    again = detector(picture(0))
    assert torch.equal(first.boxes, again.boxes)
    assert torch.equal(first.features, again.features)
    assert other.boxes.shape != first.boxes.shape or not torch.equal(other.boxes, first.boxes)


@pytest.mark.parametrize("size", [(1, 1), (3, 200), (200, 3)])
def test_odd_pictures_have_regions_inside_them(network, size):
    regions = HuggingFaceDetector(network("rt_detr_v2"), threshold=0)(picture(0, *size))
    assert (regions.width, regions.height) == size  # Regions checks that boxes lie within


def test_who_made_the_regions_is_told(network):
    folder = network("rt_detr_v2")
    detector = HuggingFaceDetector(folder)
    assert detector.policy == "rt_detr_v2 threshold 0.3 nms 0.7 across labels max 36"
    assert detector.extractor == "rt_detr_v2 map 0 roi 7x7 of 2x2"
    assert detector.weights == file_hash(folder / "model.safetensors")
    assert variant(detector, features="decoder").extractor == "rt_detr_v2 decoder"
    assert variant(detector, features="none").extractor == ""
    changes = [{}, {"threshold": 0.4}, {"nms": 0.6}, {"max_regions": 9}]
    assert len({variant(detector, **one).policy for one in changes}) == 4


def test_torchvision_is_not_asked_for(network):
    detector = HuggingFaceDetector(network("detr"))
    assert type(detector.processor).__name__ == "DetrImageProcessorPil"


@pytest.mark.parametrize(
    "settings",
    [
        {"feature_extractor_type": "DetrFeatureExtractor", "size": 64, "max_size": 96},
        {"image_processor_type": "DetrImageProcessorFast", "size": ASPECT},
        {"image_processor_type": "DetrImageProcessor", "size": ASPECT},
    ],
)
def test_processors_of_older_checkpoints_are_read(network, tmp_path, settings):
    folder = shutil.copytree(network("detr"), tmp_path / "older")
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    old = HuggingFaceDetector(folder, threshold=0)(picture())
    new = HuggingFaceDetector(network("detr"), threshold=0)(picture())
    assert torch.allclose(old.boxes, new.boxes, atol=1e-3)


# Grounding DINO


@pytest.fixture(scope="module")
def grounding_dino(tmp_path_factory):
    """A folder with a tiny Grounding DINO whose text encoder takes 24 tokens."""
    folder = tmp_path_factory.mktemp("networks") / "grounding"
    # The network knows [CLS], [SEP], the full stop and the question mark by their numbers.
    fixed = {
        0: "[PAD]",
        100: "[UNK]",
        101: "[CLS]",
        102: "[SEP]",
        103: "[MASK]",
        1012: ".",
        1029: "?",
    }
    words = "cat dog red car person tree a".split()
    names = [fixed.get(number, f"[unused{number}]") for number in range(1030)] + words
    tokenizer = transformers.BertTokenizer(vocab={name: n for n, name in enumerate(names)})
    config = transformers.GroundingDinoConfig(
        use_timm_backbone=False,
        backbone=None,
        backbone_config=transformers.SwinConfig(
            image_size=64,
            embed_dim=8,
            depths=[1] * 4,
            num_heads=[1, 1, 2, 2],
            window_size=4,
            out_indices=[2, 3, 4],
        ),
        text_config=transformers.BertConfig(
            vocab_size=len(names),
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=16,
            max_position_embeddings=64,
        ),
        num_queries=QUERIES,
        d_model=32,
        encoder_layers=1,
        decoder_layers=2,
        encoder_ffn_dim=16,
        decoder_ffn_dim=16,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        max_text_len=24,
    )
    torch.manual_seed(0)
    model = transformers.GroundingDinoForObjectDetection(config)
    with torch.no_grad():  # all words would fit every query
        model.model.text_projection.weight *= 0.05
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    transformers.GroundingDinoImageProcessorPil(size=ASPECT).save_pretrained(folder)
    return folder


def test_words_of_the_vocabulary_are_the_labels(grounding_dino):
    words = ["cat", "red car", "person"]
    detector = HuggingFaceDetector(
        grounding_dino, threshold=0, nms=1, features="decoder", vocabulary=words
    )
    image = picture()
    regions = detector(image)
    # The same by the library's own processor, and its text "cat. red car. person.".
    processor = transformers.GroundingDinoProcessor(
        detector.processor, transformers.AutoTokenizer.from_pretrained(grounding_dino)
    )
    inputs = processor(images=image, text=[words], return_tensors="pt")
    assert inputs["input_ids"].tolist() == [list(detector.prompts[0].ids)]
    with torch.no_grad():
        outputs = detector.model(**inputs)
    tokens = outputs.logits[0].sigmoid()
    # [CLS] cat . red car . person . [SEP]: tokens 1, 3 and 4, 6.
    scores = torch.stack([tokens[:, 1], tokens[:, 3:5].mean(dim=1), tokens[:, 6]], dim=1)
    best, number = scores.max(dim=1)
    order = torch.sort(best, descending=True, stable=True).indices
    boxes = query_boxes(outputs.pred_boxes[0], image.width, image.height)
    assert len(regions) == QUERIES
    assert torch.allclose(regions.boxes, boxes[order].clamp(min=0, max=120), atol=1e-2)
    assert regions.scores == pytest.approx(best[order].tolist(), abs=1e-4)
    assert regions.labels == [words[place] for place in number[order].tolist()]
    assert torch.allclose(regions.features, outputs.last_hidden_state[0][order], atol=1e-4)


def test_a_vocabulary_beyond_the_limit_takes_several_passes(grounding_dino):
    words = ["cat", "dog", "red car", "person", "tree", "a dog", "a red car", "person car", "a cat"]
    detector = HuggingFaceDetector(
        grounding_dino, threshold=0, nms=1, max_regions=100, vocabulary=words
    )
    assert len(detector.prompts) == 2
    regions = detector(picture())
    assert len(regions) == 2 * QUERIES
    assert regions.features.shape == (2 * QUERIES, 32)
    parts = []
    for prompt in detector.prompts:
        own = [words[place] for place in prompt.words]
        single = HuggingFaceDetector(grounding_dino, threshold=0, nms=1, vocabulary=own)
        found = single(picture())
        parts += zip(found.scores, found.labels, strict=True)
    parts.sort(key=lambda part: -part[0])
    assert regions.scores == pytest.approx([score for score, _ in parts], abs=1e-5)
    assert sorted(regions.labels) == sorted(label for _, label in parts)


def test_the_vocabulary_is_part_of_the_policy(grounding_dino):
    detector = HuggingFaceDetector(grounding_dino, vocabulary=["cat"])
    others = [variant(detector, vocabulary=words) for words in (("dog",), ("cat", "dog"))]
    assert len({one.policy for one in [detector, *others]}) == 3


def test_a_vocabulary_is_needed_and_only_there(grounding_dino, network):
    with pytest.raises(ValueError, match=r"looks for what it is told: give detector\.vocabulary="):
        HuggingFaceDetector(grounding_dino)
    with pytest.raises(ValueError, match=r"knows its own 5 classes; .* is for Grounding DINO"):
        HuggingFaceDetector(network("detr"), vocabulary=["cat"])
    with pytest.raises(ValueError, match=r"detector\.vocabulary is a list of words"):
        HuggingFaceDetector(grounding_dino, vocabulary="cat")


# What is refused


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"threshold": 30}, r"detector\.threshold must be in \[0, 1\], got 30"),
        ({"nms": 2}, r"detector\.nms must be in \[0, 1\], got 2"),
        ({"max_regions": 0}, r"detector\.max_regions must be at least 1, got 0"),
        ({"features": "pixels"}, "unknown features 'pixels'; choose from: map, decoder, none"),
    ],
)
def test_settings_out_of_range_are_refused_before_anything_is_loaded(settings, complaint):
    with pytest.raises(ValueError, match=complaint):
        HuggingFaceDetector("/none/here", **settings)


def changed_config(folder, tmp_path, **changes):
    copied = shutil.copytree(folder, tmp_path / "changed")
    config = json.loads((copied / "config.json").read_text()) | changes
    config = {key: value for key, value in config.items() if value is not None}
    (copied / "config.json").write_text(json.dumps(config))
    return copied


@pytest.mark.parametrize(
    "changes",
    [
        {"use_timm_backbone": True, "backbone": "resnet50", "backbone_config": None},
        {"backbone_config": {"model_type": "timm_backbone", "backbone": "resnet50"}},
    ],
)
def test_timm_backbones_are_refused_with_some_that_are_not(network, tmp_path, changes):
    folder = changed_config(network("detr"), tmp_path, **changes)
    with pytest.raises(
        ValueError, match=r"needs the timm library .*PekingU/rtdetr_v2_r18vd.*no_timm"
    ):
        HuggingFaceDetector(folder)


def test_a_network_of_another_kind_is_refused(network, tmp_path):
    folder = tmp_path / "bert"
    transformers.BertModel(
        transformers.BertConfig(
            vocab_size=9, hidden_size=4, num_hidden_layers=1, num_attention_heads=1
        )
    ).save_pretrained(folder)
    shutil.copy(network("detr") / "preprocessor_config.json", folder)
    with pytest.raises(ValueError, match=r"bert is a bert network, not a supported .* RT-DETRv2"):
        HuggingFaceDetector(folder)
    folder = changed_config(network("detr"), tmp_path, model_type="nothing_known")
    with pytest.raises(ValueError, match=r"changed: its config\.json is not of a network that the"):
        HuggingFaceDetector(folder)


def test_weights_that_are_not_there_are_not_made_up(network, tmp_path):
    folder = shutil.copytree(network("detr"), tmp_path / "half")
    weights = load_file(folder / "model.safetensors")
    kept = {name: value for name, value in weights.items() if "class_labels" not in name}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(
        ValueError, match=r"half lacks 2 weights of a DetrFor.*class_labels.*random"
    ):
        HuggingFaceDetector(folder)


def test_pickled_weights_are_refused(network, tmp_path):
    folder = shutil.copytree(network("detr"), tmp_path / "old")
    torch.save({}, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"only pickled weights \(pytorch_model\.bin\)"):
        HuggingFaceDetector(folder)


def test_a_missing_image_processor_is_named(network, tmp_path):
    folder = shutil.copytree(network("detr"), tmp_path / "bare")
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(ValueError, match=r"bare has no usable preprocessor_config\.json"):
        HuggingFaceDetector(folder)
