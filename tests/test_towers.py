"""Retrieval by another model's towers, end to end: train, evaluate, go on, on the tiny world."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from transformers import AutoImageProcessor, AutoModel, AutoTokenizer, BertConfig, BertModel

from tbkin import evaluation, train
from tbkin.data.collate import Collator
from tbkin.data.processing_tbkin import TBKINProcessor
from tbkin.data.retrieval import RetrievalDataset
from tbkin.data.retrieval_files import read_pictures
from tbkin.model.retrieval import TBKINForImageTextRetrieval
from tbkin.starting_model import check_learns
from tests.model.small_towers import LAYERS, LENGTH, WIDTH, write_clip, write_dual, write_siglip

SMALL = [
    "model.hidden_size=32",
    "model.num_attention_heads=2",
    "model.intermediate_size=32",
    "data.parser=word_rules",
    "data.max_examples=16",
    "batch_size=8",
    "epochs=1",
    "log_every=1",
]
JUDGED = ["objectives.contrastive.weight=1", "objectives.matching.weight=1",
          "objectives.region_words.weight=1"]  # fmt: skip
WRITERS = {"clip": write_clip, "siglip": write_siglip, "dual": write_dual}
MASKED = ("clip", "dual")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Name -> folder of a small dual encoder."""
    folder = tmp_path_factory.mktemp("towers")
    return {name: write_it(folder / name) for name, write_it in WRITERS.items()}


def words(root, output, *more):
    return ["task=retrieval", f"data.root={root}", f"output_dir={output}", *SMALL, *more]


@pytest.fixture(scope="module")
def by_clip(captions_root, folders, tmp_path_factory):
    """Checkpoint folder of frozen CLIP towers and a judge that has learned for two steps."""
    output = tmp_path_factory.mktemp("by_clip") / "model"
    more = [f"model.towers={folders['clip']}", "model.freeze_towers=true", *JUDGED]
    train.main(words(captions_root, output, *more))
    return output


@torch.no_grad()
def features(folder, pictures, captions, masked):
    """Unit rows of pictures and captions, one at a time, as transformers' own classes make them."""
    model = AutoModel.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    images = AutoImageProcessor.from_pretrained(folder, backend="pil")
    rows = []
    for picture in pictures:
        pixels = images(images=Image.open(picture).convert("RGB"), return_tensors="pt")
        rows.append(model.get_image_features(**pixels).pooler_output)
    texts = []
    for caption in captions:
        padding = False if masked else "max_length"
        cut = {"truncation": True, "max_length": LENGTH, "padding": padding}
        tokens = tokenizer(caption, return_tensors="pt", **cut)
        if not masked:
            tokens = {"input_ids": tokens["input_ids"]}
        texts.append(model.get_text_features(**tokens).pooler_output)
    return (torch.nn.functional.normalize(torch.cat(part), dim=1) for part in (rows, texts))


@pytest.mark.parametrize("name", sorted(WRITERS))
def test_from_training_to_evaluation_nothing_of_the_towers_is_lost(
    captions_root, folders, tmp_path, name
):
    output = tmp_path / "model"
    more = [f"model.towers={folders[name]}", "model.freeze_towers=true", *JUDGED]
    train.main(words(captions_root, output, *more))
    log = [json.loads(line) for line in (output / "log.jsonl").read_text().splitlines()]
    steps = [line for line in log if "loss" in line]
    assert len(steps) == 2
    assert all(line["matching"] > 0 and line["region_words"] > 0 for line in steps)
    shutil.copytree(folders[name], tmp_path / "kept")
    evaluation.main(
        ["task=retrieval", f"model={output}", f"data.root={captions_root}", "split=test",
         f"output={tmp_path / 'eval'}", "rerank=2", "batch_size=7"]
    )  # fmt: skip
    metrics = json.loads((tmp_path / "eval" / "metrics.json").read_text())
    assert metrics["second_stage"]["passes"] < metrics["second_stage"]["all_pairs"]
    dataset = RetrievalDataset(captions_root, "test", TBKINProcessor.from_pretrained(output))
    files = read_pictures(captions_root)
    pictures = [files[image] for image in dict.fromkeys(row["image_id"] for row in dataset.rows)]
    captions = [row["caption"] for row in dataset.rows]
    images, texts = features(tmp_path / "kept", pictures, captions, name in MASKED)
    scores = load_file(tmp_path / "eval" / "scores.safetensors")["scores"]
    assert scores.std() > 0.01
    assert torch.allclose(scores, images @ texts.T, atol=1e-5)


def test_a_judge_that_never_learned_ranks_nothing_again(captions_root, by_clip, tmp_path):
    untaught = shutil.copytree(by_clip, tmp_path / "untaught")
    model = TBKINForImageTextRetrieval.from_pretrained(untaught)
    torch.nn.init.zeros_(model.match_head.bias)
    model.save_pretrained(untaught)
    words = ["task=retrieval", f"model={untaught}", f"data.root={captions_root}", "split=test"]
    with pytest.raises(ValueError, match=r"never learned to judge pairs .*\.matching\.weight=1"):
        evaluation.main([*words, "rerank=2"])
    assert not list(untaught.glob("eval-*"))  # before the first batch
    evaluation.main(words)


def test_frozen_towers_stay_and_others_learn(captions_root, folders, by_clip, tmp_path):
    start = AutoModel.from_pretrained(folders["clip"]).state_dict()
    frozen = load_file(by_clip / "model.safetensors")
    more = [f"model.towers={folders['clip']}", *JUDGED]
    train.main(words(captions_root, tmp_path, *more))
    free = load_file(tmp_path / "model.safetensors")
    learns = "text_model.encoder.layers.0.mlp.fc1.weight"
    for name, value in start.items():
        assert torch.equal(frozen[f"towers.model.{name}"], value), name
    assert not torch.equal(free[f"towers.model.{learns}"], start[learns])
    loaded = TBKINForImageTextRetrieval.from_pretrained(by_clip).train()
    assert not any(weight.requires_grad for weight in loaded.towers.parameters())
    assert not any(module.training for module in loaded.towers.modules())
    assert loaded.tbkin.training
    # What a model of unknown training has seen is unknown, however it goes on.
    assert json.loads((by_clip / "trained_on.json").read_text())["known"] is False
    thawed = TBKINForImageTextRetrieval.from_pretrained(tmp_path).train()
    assert all(weight.requires_grad for weight in thawed.towers.parameters())


def test_pairs_are_judged_without_pixels_and_by_the_graph(captions_root, by_clip):
    processor = TBKINProcessor.from_pretrained(by_clip)
    model = TBKINForImageTextRetrieval.from_pretrained(by_clip).eval()
    dataset = RetrievalDataset(captions_root, "test", processor)
    collate = Collator(processor.tokenizer.pad_token_id)
    dataset.files = {}  # so that opening a picture fails
    pair = dataset.pair(dataset.rows[0]["image_id"], 0)
    assert not [name for name in pair if name.startswith("tower_")]
    fits = model.match(**collate([pair])).match_logits
    batch = collate([pair])
    assert not torch.allclose(model.match(**{**batch, "graph": None}).match_logits, fits)
    with pytest.raises(ValueError, match="need tower_pixel_values in the batch; RetrievalDataset"):
        model(**batch)


def test_a_second_stage_brings_its_towers(captions_root, folders, by_clip, tmp_path, capsys):
    more = [f"init_from={by_clip}", "model.freeze_towers=false", "model.embedding_size=16", *JUDGED]
    train.main(words(captions_root, tmp_path / "second", *more))
    config = TBKINForImageTextRetrieval.from_pretrained(tmp_path / "second").config
    assert (config.embedding_size, config.freeze_towers) == (WIDTH, False)
    assert (tmp_path / "second" / "towers" / "tokenizer.json").is_file()
    with pytest.raises(ValueError, match=r"brings towers of its own, .*; leave model.towers out"):
        train.main(
            words(
                captions_root, tmp_path, f"init_from={by_clip}", f"model.towers={folders['clip']}"
            )
        )
    # Without towers, in the folder where some were: none of theirs stay.
    capsys.readouterr()
    train.main(words(captions_root, tmp_path / "second"))
    assert not (tmp_path / "second" / "towers").exists()
    assert TBKINProcessor.from_pretrained(tmp_path / "second").towers is None
    # And a judge that had none gets some.
    more = [f"init_from={tmp_path / 'second'}", f"model.towers={folders['siglip']}", *JUDGED]
    train.main(words(captions_root, tmp_path / "third", *more))
    said = capsys.readouterr().err
    assert f"towers: SiglipModel of {folders['siglip']}, embeddings of 32 numbers" in said
    assert "new image_uni_head, text_uni_head; left over image_head, text_head" in said


def test_another_task_takes_the_judge_and_leaves_the_towers(by_clip, tiny_root, tmp_path):
    more = ["data.parser=word_rules", "data.max_examples=8", "epochs=1"]
    train.main([f"data.root={tiny_root.prepared}", f"output_dir={tmp_path}",
                f"init_from={by_clip}", *more])  # fmt: skip
    config = json.loads((tmp_path / "config.json").read_text())
    assert config.get("towers") is None
    assert not (tmp_path / "towers").exists()


def test_all_objectives_of_embeddings_and_references_run(captions_root, folders, tmp_path):
    more = [f"model.towers={folders['clip']}", "objectives.contrastive.weight=1",
            "objectives.momentum_contrast.queue_size=16",
            "objectives.momentum_contrast.embed_size=24", "objectives.references.dim=24",
            "objectives.references.token_dim=32", "objectives.region_words.weight=1"]  # fmt: skip
    train.main(words(captions_root, tmp_path, *more))
    log = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert all(line["region_words"] > 0 for line in log if "loss" in line)  # without judged pairs


# Mistakes


def test_what_is_no_dual_encoder_is_refused_by_name(captions_root, folders, tmp_path):
    shutil.copytree(folders["clip"], tmp_path / "bert")
    (tmp_path / "bert" / "model.safetensors").unlink()
    BertModel(BertConfig(**LAYERS, vocab_size=60)).save_pretrained(tmp_path / "bert")
    message = "is a BertModel, which has no get_image_features and no get_text_features; give a"
    with pytest.raises(ValueError, match=message):
        train.main(words(captions_root, tmp_path / "out", f"model.towers={tmp_path / 'bert'}"))


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("model.towers=/nowhere/clip", "no folder /nowhere/clip with a dual encoder; check model"),
        ("model.freeze_towers=true", "there are no towers of another model; name them with model"),
        ("model.towers=[a]", r"model.towers must be a folder or a hub id, got \['a'\]"),
    ],
)
def test_wrong_settings_are_errors(captions_root, tmp_path, setting, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        train.main(words(captions_root, tmp_path, setting))


def test_towers_are_for_retrieval(tiny_root, folders, tmp_path):
    with pytest.raises(ValueError, match="of no use to task=vqa; it is for task=retrieval"):
        train.main([f"data.root={tiny_root.prepared}", f"output_dir={tmp_path}",
                    f"model.towers={folders['clip']}"])  # fmt: skip


@pytest.mark.parametrize(
    ("objectives", "named"),
    [
        ([], "contrastive, region_words"),  # the task's own
        (["triplet.margin=0.2"], "triplet"),
        (["matching.weight=0", "region_words.weight=1"], "matching, region_words"),
        (["references.dim=24"], "references"),
    ],
)
def test_frozen_towers_with_nothing_else_to_learn_are_refused(
    captions_root, folders, tmp_path, objectives, named
):
    more = [f"model.towers={folders['clip']}", "model.freeze_towers=true"]
    more += [f"objectives.{one}" for one in objectives]
    with pytest.raises(ValueError, match=rf"leaves {named} nothing to .*; add objectives.matching"):
        train.main(words(captions_root, tmp_path, *more))


def test_frozen_towers_with_something_to_learn_are_not():
    config = SimpleNamespace(freeze_towers=True)
    for name in ("matching", "uni_modal_soft_label"):
        check_learns(config, {"contrastive": 1.0, name: 0.1})
    check_learns(SimpleNamespace(freeze_towers=False), {"contrastive": 1.0})


def test_a_missing_picture_is_named(captions_root, by_clip, tmp_path):
    root = tmp_path / "root"
    root.mkdir()
    for path in Path(captions_root).iterdir():
        (root / path.name).symlink_to(path)
    told = json.loads((root / "pictures.json").read_text())
    first = json.loads((root / "val.jsonl").read_text().splitlines()[0])["image_id"]
    (root / "pictures.json").unlink()
    (root / "pictures.json").write_text(json.dumps(told | {str(first): "gone/one.jpg"}))
    processor = TBKINProcessor.from_pretrained(by_clip)
    message = rf"^1 of \d+ pictures of split 'val' .*first: {first}, gone/one.jpg.*data.images="
    with pytest.raises(FileNotFoundError, match=message):
        RetrievalDataset(root, "val", processor)
    RetrievalDataset(root, "test", processor)  # has its own


def test_weights_that_are_missing_or_pickled_are_refused(captions_root, folders, tmp_path):
    from safetensors.torch import save_file

    shutil.copytree(folders["clip"], tmp_path / "part")
    weights = load_file(tmp_path / "part" / "model.safetensors")
    weights.pop("visual_projection.weight")
    save_file(weights, tmp_path / "part" / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"lacks 1 weights of a CLIPModel .*visual_projection"):
        train.main(words(captions_root, tmp_path / "out", f"model.towers={tmp_path / 'part'}"))
    (tmp_path / "part" / "model.safetensors").unlink()
    (tmp_path / "part" / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(ValueError, match=r"only pickled weights \(pytorch_model.bin\)"):
        train.main(words(captions_root, tmp_path / "out", f"model.towers={tmp_path / 'part'}"))
