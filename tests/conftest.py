"""Fixtures that several rooms share: a hand-placed picture, a processor, a small model, data."""

from types import SimpleNamespace

import pytest
import torch
from hypothesis import HealthCheck, settings

from tbkin.data.collate import Collator
from tbkin.data.processing_tbkin import TBKINProcessor, build_tokenizer
from tbkin.graphs.regions import Regions
from tbkin.model.configuration_tbkin import TBKINConfig
from tbkin.model.heads import TBKINForQuestionAnswering

# Shared machines are slow at times; that is no property of the code.
settings.register_profile("tbkin", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tbkin")

FEATURES = 12  # pixels of 2 x 2
ANSWERS = 3
QUESTION = "What color is the circle to the left of the large red square?"
WORDS = """
    what color is the circle to left of large red square how many small green star cross blue above
    inside are there triangle a thing
""".split()


def place_regions() -> Regions:
    """Four things in a picture of 100 x 100 pixels.

    ====== ========= =============== ======== ==========================
    region label     box             centre   attributes
    ====== ========= =============== ======== ==========================
    0      circle    10 40 20 50     (15, 45) red 0.9, small 0.8
    1      square    50 30 90 70     (70, 50) red 0.7, large 1.0
    2      star      60 40 70 50     (65, 45) blue 0.6; within region 1
    3      cross     60 80 70 90     (65, 85) blue 0.5
    ====== ========= =============== ======== ==========================
    """
    return Regions(
        boxes=torch.tensor(
            [[10, 40, 20, 50], [50, 30, 90, 70], [60, 40, 70, 50], [60, 80, 70, 90]]
        ).float(),
        width=100,
        height=100,
        labels=["circle", "square", "star", "cross"],
        scores=[0.9, 0.8, 0.7, 0.6],
        attributes=[
            [("red", 0.9), ("small", 0.8)],
            [("red", 0.7), ("large", 1.0)],
            [("blue", 0.6)],
            [("blue", 0.5)],
        ],
        relations=[(0, "left of", 1, 0.75)],
        features=torch.rand(4, FEATURES, generator=torch.Generator().manual_seed(0)),
        image_id="7",
    )


@pytest.fixture
def regions():
    return place_regions()


@pytest.fixture
def empty_regions():
    """A picture in which the detector found nothing."""
    return Regions(
        boxes=torch.zeros(0, 4),
        width=100,
        height=100,
        labels=[],
        scores=[],
        attributes=[],
        features=torch.zeros(0, FEATURES),
        image_id="8",
    )


@pytest.fixture
def tiny_processor():
    """A processor that knows the words of ``WORDS`` and needs no spaCy model."""
    return TBKINProcessor(build_tokenizer([WORDS]), parser="word_rules")


@pytest.fixture
def small_model(tiny_processor):
    """``make(**changes) -> TBKINForQuestionAnswering`` in eval mode, two layers of 16.

    Thresholds are in force from the start, and no weight is at the zero or one it starts with, so
    that nothing holds only because a part is still switched off.
    """

    def make(**changes):
        torch.manual_seed(0)
        config = TBKINConfig.from_changes(
            {
                "hidden_size": 16,
                "num_attention_heads": 2,
                "intermediate_size": 32,
                "num_hidden_layers": 2,
                "hidden_dropout_prob": 0.0,
                "attention_dropout_prob": 0.0,
                "initializer_range": 0.3,
                "graph_gate": 0.5,
                "selection_ramp_steps": 0,
                **changes,
            },
            vocab_size=len(tiny_processor.tokenizer),
            pad_token_id=tiny_processor.tokenizer.pad_token_id,
            region_feature_size=FEATURES,
            id2label={0: "red", 1: "blue", 2: "2"},
            label2id={"red": 0, "blue": 1, "2": 2},
        )
        model = TBKINForQuestionAnswering(config).eval()
        with torch.no_grad():
            for name, parameter in sorted(model.named_parameters()):
                if not name.endswith("gate"):
                    noise = torch.Generator().manual_seed(sum(map(ord, name)))
                    parameter += 0.2 * torch.randn(parameter.shape, generator=noise)
            model.tbkin.text.words.weight[config.pad_token_id] = 0
        return model

    return make


@pytest.fixture
def collate(tiny_processor):
    """``collate(examples) -> batch``."""
    return Collator(tiny_processor.tokenizer.pad_token_id, ANSWERS)


@pytest.fixture(scope="session")
def tiny_root(tmp_path_factory):
    """A tiny world of 40 pictures, made by the real steps: ``.official`` and ``.prepared``."""
    import data_prep.tiny
    import data_prep.vqa

    folder = tmp_path_factory.mktemp("tiny_root")
    official, prepared = folder / "tiny", folder / "prepared"
    data_prep.tiny.main([f"output={official}", "images=40", "questions_per_image=5"])
    data_prep.vqa.main(
        [f"data.root={official}", f"output={prepared}", "detector=detected", "min_answer_count=2"]
    )
    return SimpleNamespace(official=official, prepared=prepared)


@pytest.fixture(scope="session")
def captions_root(tiny_root, tmp_path_factory):
    """The 40 pictures prepared for retrieval, with the regions of the questions; read only."""
    import data_prep.retrieval

    folder = tmp_path_factory.mktemp("captions_root") / "prepared"
    regions = f"regions={tiny_root.prepared / 'regions'}"
    data_prep.retrieval.main([f"data.root={tiny_root.official}", f"output={folder}", regions])
    return folder


@pytest.fixture(scope="session")
def trained(tiny_root, tmp_path_factory):
    """Checkpoint folder of a model that has seen the 40-picture world for three epochs."""
    from tbkin.train import main

    folder = tmp_path_factory.mktemp("trained") / "model"
    main(
        [
            f"data.root={tiny_root.prepared}",
            f"output_dir={folder}",
            "data.parser=word_rules",
            "epochs=3",
            "log_every=2",
            "model.selection_ramp_steps=0",
        ]
    )
    return folder
