"""Retrieval by a fine-grained scorer end to end: train, validate, evaluate, rank again."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file

from tbkin import evaluation, train
from tbkin.data.collate import Collator
from tbkin.data.processing_tbkin import TBKINProcessor
from tbkin.data.retrieval import RetrievalDataset, image_ids_of
from tbkin.gathering import gathered
from tbkin.metrics.recall import DIRECTIONS
from tbkin.model.retrieval import TBKINForImageTextRetrieval

ROOT = Path(__file__).parents[1]
SMALL = [
    "model.hidden_size=32",
    "model.num_attention_heads=2",
    "model.intermediate_size=32",
    "model.embedding_size=16",
    "model.scorer_size=24",
    "model.alignment_size=8",
    "data.parser=word_rules",
    "model.selection_ramp_steps=0",
]
OBJECTIVES = ["objectives.triplet.margin=0.2", "objectives.matching.weight=1"]


def words(root, output, *more):
    return ["task=retrieval", f"data.root={root}", f"output_dir={output}", *SMALL, *more]


@pytest.fixture(scope="module")
def scoring_model(captions_root, tmp_path_factory):
    """Checkpoint folder of a model that ranks by SAF and judges pairs."""
    folder = tmp_path_factory.mktemp("scoring_model") / "model"
    more = ["epochs=2", "optim.lr=2e-3", "model.scorer=saf", *OBJECTIVES]
    train.main(words(captions_root, folder, *more))
    return folder


def evaluate(model, root, output, *more):
    evaluation.main(
        ["task=retrieval", f"model={model}", f"data.root={root}", f"output={output}", *more]
    )
    return json.loads((output / "metrics.json").read_text()), load_file(
        output / "scores.safetensors"
    )["scores"]


def examples(folder, root, split):
    processor = TBKINProcessor.from_pretrained(folder)
    dataset = RetrievalDataset(root, split, processor)
    model = TBKINForImageTextRetrieval.from_pretrained(folder).eval()
    return dataset, model, Collator(processor.tokenizer.pad_token_id)


@torch.no_grad()
def slow_scores(folder, root, split):
    """Picture and caption alone in the model, then as a pair in the scorer."""
    dataset, model, collate = examples(folder, root, split)
    seen, said = {}, []
    for place, row in enumerate(dataset.rows):
        batch = collate([dataset[place]])
        outputs = model(**batch)
        seen[row["image_id"]] = outputs.region_states, batch["region_mask"]
        said.append((outputs.text_states, batch["attention_mask"]))
    return torch.tensor(
        [
            [model.scorer.score_pairs(*seen[image], *caption).item() for caption in said]
            for image in image_ids_of(dataset)
        ]
    )


def test_a_split_is_ranked_by_the_scorer_however_it_is_cut(captions_root, scoring_model, tmp_path):
    slowly = slow_scores(scoring_model, captions_root, "test")
    found = [
        evaluate(scoring_model, captions_root, tmp_path / size, "split=test", f"batch_size={size}")
        for size in ("1", "7", "128")
    ]
    for metrics, scores in found:
        assert torch.allclose(scores, slowly, atol=1e-5)
        assert metrics["protocol"]["rules"]["ranking"] == "saf scores"
        for direction in DIRECTIONS:
            assert metrics[direction] == found[0][0][direction]
    # R@1 by hand: five captions a picture, one after the other.
    best = slowly.argmax(dim=1) // 5 == torch.arange(len(slowly))
    assert found[0][0]["image_to_text"]["R@1"] == pytest.approx(100 * best.float().mean().item())


def test_the_best_checkpoint_is_chosen_by_the_scorer(captions_root, scoring_model, tmp_path):
    said = json.loads((scoring_model / "run.json").read_text())["best"]
    metrics, _ = evaluate(scoring_model, captions_root, tmp_path, "split=val")
    for direction in DIRECTIONS:
        assert metrics[direction]["R@1"] == pytest.approx(100 * said[f"{direction}_recall@1"])
    assert metrics["rsum"] == pytest.approx(100 * said["rsum"])


def test_the_best_of_the_scorer_are_looked_at_again(captions_root, scoring_model, tmp_path, capsys):
    metrics, scores = evaluate(scoring_model, captions_root, tmp_path, "split=test", "rerank=2")
    assert metrics["protocol"]["rules"]["ranking"] == "saf scores, best 2 again by fused score"
    assert "first stage alone: " in capsys.readouterr().out
    tables = load_file(tmp_path / "reranked.safetensors")
    for table, first in (
        (tables["image_scores"], scores),
        (tables["caption_scores"], scores.T),
    ):
        ordered, before = (one.argsort(dim=1, descending=True) for one in (table, first))
        assert torch.equal(ordered[:, :2].sort().values, before[:, :2].sort().values)
        assert torch.equal(ordered[:, 2:], before[:, 2:])
    assert metrics["second_stage"]["passes"] < metrics["second_stage"]["all_pairs"]


def test_scores_of_a_scorer_stay_those_of_its_process(captions_root, scoring_model):
    dataset, model, collate = examples(scoring_model, captions_root, "val")
    batch = collate([dataset[place] for place in (0, 5, 6)])
    with torch.no_grad():
        outputs = model(**batch, scored=True)
    own, embeds = outputs.scores.clone(), outputs.image_embeds
    found = gathered(Accelerator(), outputs, batch)
    assert torch.equal(outputs.scores, own)
    assert not torch.allclose(own, embeds @ outputs.text_embeds.T, atol=1e-3)

    class Two:
        """Of two processes, which nothing may ask for what the other one has."""

        num_processes = 2

    again = gathered(Two(), outputs, batch)
    assert torch.equal(again["identities"], found["identities"])
    assert outputs.image_embeds is embeds


def test_two_processes_train(captions_root, tmp_path):
    more = ["epochs=2", "data.max_examples=32", "batch_size=16", "log_every=1", *OBJECTIVES]
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2"]
    command += ["--master_port", str(20000 + (os.getpid() + 7) % 20000), "tbkin/train.py"]
    done = subprocess.run(
        [*command, *words(captions_root, tmp_path, "model.scorer=sgr", *more)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"},
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    # Not the exit code: gloo sometimes aborts at interpreter exit, after correct results.
    assert (tmp_path / "run.json").is_file(), done.stderr[-2000:]
    run = json.loads((tmp_path / "run.json").read_text())
    assert (run["processes"], run["steps"]) == (2, 4)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    losses = [line["triplet"] for line in lines if "triplet" in line]
    # Of 8 pairs a process: far fewer hinges than those of 16, each at most margin + 1.
    assert len(losses) == 4
    assert all(0 < loss <= 8 * 2 * 1.2 for loss in losses)


def test_a_scorer_joins_a_checkpoint_without(captions_root, tmp_path, capsys):
    more = ["epochs=1", "data.max_examples=16", "objectives.triplet.margin=0.2"]
    train.main(words(captions_root, tmp_path / "old", *more))
    assert TBKINForImageTextRetrieval.from_pretrained(tmp_path / "old").scorer is None
    capsys.readouterr()
    start = [f"init_from={tmp_path / 'old'}", "model.scorer=sgr"]
    train.main(words(captions_root, tmp_path / "new", *more, *start))
    assert "new scorer" in capsys.readouterr().err
    metrics, _ = evaluate(tmp_path / "new", captions_root, tmp_path / "e", "split=test")
    assert metrics["protocol"]["rules"]["ranking"] == "sgr scores"


def test_cosines_cannot_be_refined_where_none_rank(captions_root, scoring_model, tmp_path):
    with pytest.raises(ValueError, match=r"refines cosines .* ranks by saf scores; leave refine"):
        evaluate(scoring_model, captions_root, tmp_path, "refine=gallery_neighbour")
