"""Which pictures of captions the demo's page shows."""

import json

import torch
from safetensors.torch import save_file

from tbkin import demo_evidence
from tbkin.data.features import RegionStore
from tbkin.data.prepared import read_split
from tbkin.data.retrieval import build_processor
from tbkin.evaluation import default_output
from tbkin.model.configuration_tbkin import TBKINConfig
from tbkin.model.retrieval import TBKINForImageTextRetrieval


def checkpoint(root, folder):
    """A judge with random weights."""
    torch.manual_seed(0)
    processor = build_processor(root, "train", "word_rules")
    store = RegionStore(root / "regions")
    config = TBKINConfig.from_changes(
        {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 16},
        vocab_size=len(processor.tokenizer),
        pad_token_id=processor.tokenizer.pad_token_id,
        region_feature_size=store[next(iter(store.places))].features.shape[1],
    )
    model = TBKINForImageTextRetrieval(config)
    torch.nn.init.ones_(model.match_head.bias[1:])
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def test_right_pictures_and_wrong_ones_with_the_right_one_behind(
    captions_root, tiny_root, tmp_path, monkeypatch
):
    monkeypatch.setattr(demo_evidence, "RIGHT_PICTURES", 2)  # four pictures, each shown once
    monkeypatch.setattr(demo_evidence, "WRONG_PICTURES", 2)
    rows = read_split(captions_root, "test")
    images = list(dict.fromkeys(row["image_id"] for row in rows))
    true_of = json.loads((captions_root / "true_of.json").read_text())
    # Every third caption ranks a wrong picture first and its own second; the others their own.
    scores = torch.zeros(len(rows), len(images))
    for place, row in enumerate(rows):
        own = images.index(row["image_id"])
        wrong = next(
            n for n, one in enumerate(images) if one not in true_of[str(row["caption_id"])]
        )
        scores[place, own], scores[place, wrong] = 2.0, 3.0 if place % 3 == 0 else 1.0
    model = checkpoint(captions_root, tmp_path / "model")
    folder = default_output(model, captions_root, "test")
    folder.mkdir(parents=True)
    save_file({"scores": scores.T.contiguous()}, folder / "scores.safetensors")
    evidence = demo_evidence.pictures_shown(model, captions_root, tiny_root.official)
    matched = [one.matched for one in evidence]
    behind = 2
    assert [one.score for one in matched] == [1.0] * 2 + [0.0, None] * 2
    assert [one.rank for one in matched] == [1] * 2 + [1, behind] * 2
    assert {one.searched for one in matched} == {len(images)}
    places = {row["caption"]: place for place, row in enumerate(rows)}
    for one in evidence:
        place = places[one.text]
        shown = images[scores[place].argsort(descending=True)[one.matched.rank - 1]]
        assert one.matched.true == (shown in true_of[str(rows[place]["caption_id"])])
        assert one.matched.true_rank == (1 if place % 3 else behind)
        assert 0 < one.matched.probability < 1
    # The last stage counts where there are two: here it ranks the other way round.
    save_file({"caption_scores": -scores}, folder / "reranked.safetensors")
    assert torch.equal(demo_evidence.caption_scores(folder), -scores)
