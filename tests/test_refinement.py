"""MMRef's re-rankers behind ``tbkin eval``, and what a second run keeps of the first's learning."""

import json
import shutil
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional as F

from tbkin import evaluation, train
from tbkin.files import file_hash
from tbkin.metrics.ranks import Products
from tbkin.metrics.recall import Recall, retrieval_figures
from tbkin.model.retrieval import TBKINForImageTextRetrieval
from tbkin.refinement import (
    NEIGHBOURS,
    TEMPERATURES,
    WEIGHTS,
    best_of,
    candidates_of,
    read_references,
    try_weights,
)
from tbkin.rerank import GalleryNeighbour

SMALL = [
    "model.hidden_size=32",
    "model.num_attention_heads=2",
    "model.intermediate_size=32",
    "model.embedding_size=16",
    "data.parser=word_rules",
    "model.selection_ramp_steps=0",
    "data.max_examples=40",
]


def fit(root, output, *more):
    train.main(["task=retrieval", f"data.root={root}", f"output_dir={output}", *SMALL, *more])
    return output


@pytest.fixture(scope="module")
def referring(captions_root, tmp_path_factory):
    """Checkpoint folder of a judge that was trained with references, two vectors each."""
    folder = tmp_path_factory.mktemp("referring") / "model"
    more = ["epochs=2", "optim.lr=2e-3", "objectives.references.tokens=2"]
    more += ["objectives.contrastive.weight=1", "objectives.matching.weight=1"]
    return fit(captions_root, folder, *more)


def evaluate(model, root, output, *more):
    evaluation.main(
        ["task=retrieval", f"model={model}", f"data.root={root}", f"output={output}", *more]
    )
    return json.loads((output / "metrics.json").read_text())


@pytest.mark.parametrize("rule", ["anchor_profile", "attended_reference", "gallery_neighbour"])
def test_the_choice_stands_beside_weight_0(captions_root, referring, tmp_path, capsys, rule):
    plain = evaluate(referring, captions_root, tmp_path / "plain", "split=test")
    capsys.readouterr()
    found = evaluate(referring, captions_root, tmp_path / "refined", "split=test", f"refine={rule}")
    printed = capsys.readouterr().out
    refined = found["refined"]
    assert refined["rule"] == rule
    digest = file_hash(captions_root / "val.jsonl")
    assert refined["chosen_on"] == {"split": "val", "sha256": digest, "items": 20}
    assert f"{rule}, chosen on val: " in printed
    for name in ("image_to_text", "text_to_image", "rsum"):  # those of weight 0
        assert found[name] == plain[name]
    assert found["equivalent"]["rsum"] == plain["equivalent"]["rsum"]
    settings = NEIGHBOURS if rule == "gallery_neighbour" else TEMPERATURES
    assert len(refined["tried"]) == len(settings)
    val = evaluate(referring, captions_root, tmp_path / "val", "split=val")
    for rsums in refined["tried"].values():
        assert len(rsums) == 1 + len(WEIGHTS)
        assert rsums["0.0"] == pytest.approx(val["rsum"])
    best = max(rsum for rsums in refined["tried"].values() for rsum in rsums.values())
    if refined["weight"]:
        assert refined["tried"][refined["setting"]][str(refined["weight"])] == best
        assert f"weight {refined['weight']}" in printed
    else:
        assert best == refined["tried"][next(iter(refined["tried"]))]["0.0"]
        assert refined["rsum"] == plain["rsum"]
        assert "weight 0 is best" in printed
    assert not list((tmp_path / "refined").glob("evaluating-*"))


def test_the_best_is_what_is_reported(captions_root, referring, tmp_path, monkeypatch):
    """A setting that wins by decree: its figures are those that it gets where it is only tried."""
    monkeypatch.setattr("tbkin.refinement.best_of", lambda tried: ("neighbours=2", 1.0))
    rule = "refine=gallery_neighbour"
    found = evaluate(referring, captions_root, tmp_path, "split=test", rule, "rerank=2")
    more = ["split=val", "refine_split=test"]
    tried = evaluate(referring, captions_root, tmp_path / "tried", rule, *more)["refined"]["tried"]
    assert (found["refined"]["weight"], found["refined"]["setting"]) == (1.0, "neighbours=2")
    assert found["refined"]["rsum"] == pytest.approx(tried["neighbours=2"]["1.0"])
    assert found["first_stage"]["rsum"] == pytest.approx(tried["neighbours=2"]["0.0"])
    assert "rsum" in found["equivalent"]["refined"]


ROWS = [  # of three pictures with two captions each
    {"caption_id": 10 * image + place, "image_id": image, "identity": image}
    for image in range(3)
    for place in range(2)
]


def filled(seed=0):
    generator = torch.Generator().manual_seed(seed)
    images, captions = (
        F.normalize(torch.randn(size, 4, generator=generator), dim=1) for size in (3, 6)
    )
    metric = Recall(SimpleNamespace(rows=ROWS))
    for row, caption in zip(ROWS, captions, strict=True):
        ids = {"image_ids": row["image_id"], "caption_ids": row["caption_id"]}
        metric.update(
            {name: torch.tensor([value]) for name, value in ids.items()}
            | {"image_embeds": images[row["image_id"], None], "text_embeds": caption[None]}
        )
    return metric, images, captions


def test_both_directions_are_refined_by_the_rule_itself():
    metric, images, captions = filled()
    tried = try_weights(metric, {"k": GalleryNeighbour(2)})["k"]
    assert list(tried) == [0.0, *WEIGHTS]
    scores = Products(images, captions)[:]
    for weight, rsum in tried.items():
        rule = GalleryNeighbour(2, weight)
        of_images = rule.rerank(images, captions, scores)
        of_captions = rule.rerank(captions, images, scores.T)
        expected = retrieval_figures(of_images, metric.right(), of_captions)["rsum"]
        assert rsum == pytest.approx(expected)


def test_weight_0_wins_a_tie():
    assert best_of({"a": {0.0: 5.0, 1.0: 5.0}, "b": {0.0: 5.0, 0.5: 4.0}}) == ("", 0.0)
    assert best_of({"a": {0.0: 5.0, 1.0: 6.0}, "b": {0.0: 5.0, 0.5: 7.0}}) == ("b", 0.5)


def test_references_come_back_from_the_checkpoint(referring):
    vectors = load_file(referring / "objectives.safetensors")["references.bank.vectors.weight"]
    assert vectors.shape[1] == 32
    first, second = F.normalize(vectors.unflatten(1, (2, 16)), dim=2).unbind(1)
    expected = F.normalize((first + second) / 2, dim=1)
    assert torch.allclose(read_references(referring, 16), expected, atol=1e-6)


def test_what_cannot_be_refined_is_said_at_once(captions_root, referring, tmp_path):
    with pytest.raises(ValueError, match=r"refine_split=test is the split that is scored"):
        evaluate(
            referring, captions_root, tmp_path, "split=test", "refine_split=test",
            "refine=gallery_neighbour",
        )  # fmt: skip
    with pytest.raises(ValueError, match=r"was trained on refine_split=train, .* not trained on"):
        evaluate(
            referring, captions_root, tmp_path, "split=test", "refine_split=train",
            "refine=gallery_neighbour",
        )  # fmt: skip
    with pytest.raises(ValueError, match=r"unknown refine 'some'; choose from: anchor_profile"):
        evaluation.EvalConfig(task="retrieval", refine="some")
    with pytest.raises(ValueError, match=r"refine=anchor_profile is of no use to task=vqa"):
        evaluation.EvalConfig(refine="anchor_profile")
    with pytest.raises(ValueError, match=r"rerank=5 is of no use to task=vqa; .* task=retrieval"):
        evaluation.EvalConfig(rerank="5")
    with pytest.raises(ValueError, match=r"refine_split=val is of no use .*refine=anchor_profile"):
        evaluation.EvalConfig(task="retrieval", refine_split="val")
    assert len(candidates_of("gallery_neighbour", tmp_path, 16)) == len(NEIGHBOURS)
    with pytest.raises(ValueError, match=r"has none; train with .*mmref\.yaml, or take refine=ga"):
        candidates_of("anchor_profile", tmp_path, 16)


def test_a_killed_run_does_not_block_one_that_chooses_elsewhere(
    captions_root, referring, tmp_path, monkeypatch
):
    root, output = tmp_path / "prepared", tmp_path / "out"
    root.mkdir()
    for path in captions_root.iterdir():
        (root / path.name).symlink_to(path)
    lines = (captions_root / "val.jsonl").read_text().splitlines(keepends=True)
    (root / "dev.jsonl").write_text("".join(lines[:10]))
    more = ["split=test", "refine=gallery_neighbour"]

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("tbkin.refinement.try_weights", killed)
        with pytest.raises(KeyboardInterrupt):
            evaluate(referring, root, output, *more)
    assert list(output.glob("evaluating-*-refine*"))
    found = evaluate(referring, root, output, *more, "refine_split=dev")["refined"]["chosen_on"]
    assert (found["split"], found["items"]) == ("dev", 10)
    assert not list(output.glob("evaluating-*"))


def test_pictures_and_captions_find_their_like(captions_root, referring, tmp_path, capsys):
    """By the uni-modal heads, where these have learned."""
    untaught = evaluate(referring, captions_root, tmp_path / "untaught", "split=test")
    assert "uni_modal" not in untaught
    assert "uni_modal" not in untaught["equivalent"]
    assert "text to text" not in capsys.readouterr().out
    taught = shutil.copytree(referring, tmp_path / "taught")
    model = TBKINForImageTextRetrieval.from_pretrained(taught)
    for head in (model.image_uni_head, model.text_uni_head):
        torch.nn.init.normal_(head.linear.bias, std=0.1)
    model.save_pretrained(taught)
    found = evaluate(taught, captions_root, tmp_path, "split=test")
    printed = capsys.readouterr().out
    uni = found["uni_modal"]
    # Each picture is alone of its identity; each of its five captions looks for four others.
    assert uni["image_to_image"] == {"queries": 0, "left_out": 4, "right_items": 0.0}
    assert (uni["text_to_text"]["queries"], uni["text_to_text"]["right_items"]) == (20, 4.0)
    assert found["equivalent"]["uni_modal"]["text_to_text"]["R@1"] >= uni["text_to_text"]["R@1"]
    assert "text to text: R@1 " in printed
    assert "\nimage to image: " not in printed  # with nothing to find
    assert "any that share a truth count: text to text: R@1 " in printed


def test_the_second_stage_goes_on_where_the_first_ended(captions_root, referring, tmp_path, capsys):
    more = ["objectives.contrastive.weight=1", "objectives.references.tokens=2", "epochs=1"]
    more += [f"init_from={referring}", "optim.lr=1e-12", "optim.weight_decay=0"]
    fit(captions_root, tmp_path / "same", *more)
    assert "references.bank.vectors.weight" in capsys.readouterr().err
    learned = [
        load_file(folder / "objectives.safetensors") for folder in (referring, tmp_path / "same")
    ]
    assert learned[0].keys() == learned[1].keys()
    assert learned[0]["contrastive.temperature.value"] != torch.tensor(0.05)
    for name, value in learned[0].items():
        assert torch.allclose(value.float(), learned[1][name].float(), atol=1e-6), name
    fit(captions_root, tmp_path / "other", *more, "data.max_examples=20")
    said = capsys.readouterr().err
    assert "taken over: contrastive.temperature.value; anew, the data have other objects:" in said
    other = load_file(tmp_path / "other" / "objectives.safetensors")
    assert len(other["references.known"]) == 4
    assert torch.equal(
        other["contrastive.temperature.value"], learned[0]["contrastive.temperature.value"]
    )


def test_prompts_of_a_fine_grid_are_learned_from_scratch(captions_root, tmp_path):
    more = ["objectives.contrastive.weight=1", "data.prompt.probability=1.0", "epochs=1"]
    fit(captions_root, tmp_path, *more, "data.prompt.grid=5", "data.max_examples=8")
    words = json.loads((tmp_path / "tokenizer.json").read_text())["model"]["vocab"]
    assert {"block", "9", "24"} <= words.keys()
