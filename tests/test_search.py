"""Searching pictures: the index, the sentence, and the second look at the best."""

from dataclasses import replace

import pytest
import torch

from tbkin.data.processing_tbkin import TBKINProcessor, build_tokenizer
from tbkin.model.configuration_tbkin import TBKINConfig
from tbkin.model.retrieval import TBKINForImageTextRetrieval
from tbkin.search import (
    Found,
    PictureIndex,
    embed_sentences,
    fused_scores,
    index_pictures,
    search,
)
from tests.conftest import FEATURES, WORDS, place_regions

SENTENCE = "a small circle to the left of the large red square"


def retrieval_model(processor, **changes):
    """With no weight at its start, so that judge and embeddings have learned something."""
    torch.manual_seed(0)
    config = TBKINConfig.from_changes(
        {
            "hidden_size": 16,
            "num_attention_heads": 2,
            "intermediate_size": 32,
            "num_hidden_layers": 2,
            "embedding_size": 8,
            "selection_ramp_steps": 0,
            "initializer_range": 0.3,
            **changes,
        },
        vocab_size=len(processor.tokenizer),
        pad_token_id=processor.tokenizer.pad_token_id,
        region_feature_size=FEATURES,
    )
    model = TBKINForImageTextRetrieval(config).eval()
    torch.nn.init.normal_(model.match_head.bias)
    if model.config.embedding_size:
        have_embeddings_learn(model)
    return model


def have_embeddings_learn(model):
    for head in (model.image_head, model.text_head):
        torch.nn.init.normal_(head.linear.bias, std=0.1)


@pytest.fixture(scope="module")
def processor():
    return TBKINProcessor(build_tokenizer([WORDS]), parser="word_rules")


@pytest.fixture(scope="module")
def model(processor):
    return retrieval_model(processor)


@pytest.fixture(scope="module")
def pictures():
    """Six pictures with different things in them, one with nothing."""
    whole = place_regions()
    found = {}
    for number, kept in enumerate(([0, 1], [2, 3], [0], [1, 2, 3], [0, 1, 2, 3], [])):
        found[f"picture {number}"] = replace(
            whole,
            boxes=whole.boxes[kept],
            features=whole.features[kept],
            labels=[whole.labels[place] for place in kept],
            scores=[whole.scores[place] for place in kept],
            attributes=[whole.attributes[place] for place in kept],
            relations=[],
            image_id=str(number),
        )
    return found


@pytest.fixture(scope="module")
def index(model, processor, pictures):
    return index_pictures(model, processor, pictures.items(), batch_size=4)


def test_the_index_is_what_training_and_evaluation_see(
    captions_root, tmp_path_factory, model, processor
):
    """The embeddings of pictures with captions, as a batch of training gives them."""
    from tbkin.data.collate import Collator
    from tbkin.data.retrieval import RetrievalDataset, build_processor

    processor = build_processor(captions_root, "train", "word_rules")
    dataset = RetrievalDataset(captions_root, "val", processor)
    features = dataset.store[dataset.rows[0]["image_id"]].features.shape[1]
    config = model.config.changed(
        {"vocab_size": len(processor.tokenizer), "region_feature_size": features}
    )
    model = TBKINForImageTextRetrieval(config).eval()
    have_embeddings_learn(model)
    with torch.no_grad():
        outputs = model(**Collator(0)([dataset[place] for place in range(len(dataset))]))
    names = [str(row["image_id"]) for row in dataset.rows]
    once = list(dict.fromkeys(names))
    index = index_pictures(model, processor, ((name, dataset.store[name]) for name in once))
    assert index.image_ids == once
    rows = [once.index(name) for name in names]
    assert torch.allclose(index.embeds[rows], outputs.image_embeds, atol=1e-5)
    sentences = embed_sentences(model, processor, [row["caption"] for row in dataset.rows])
    assert torch.allclose(sentences, outputs.text_embeds, atol=1e-5)


@pytest.mark.parametrize("batch_size", [1, 6])
def test_batches_do_not_matter(model, processor, pictures, index, batch_size):
    again = index_pictures(model, processor, pictures.items(), batch_size=batch_size)
    assert again.image_ids == index.image_ids
    assert torch.allclose(again.embeds, index.embeds, atol=1e-5)
    scores = fused_scores(model, processor, pictures.values(), SENTENCE, batch_size=batch_size)
    whole = fused_scores(model, processor, pictures.values(), SENTENCE, batch_size=64)
    assert torch.allclose(scores, whole, atol=1e-5)


def test_search_is_by_cosine(model, processor, index):
    query = embed_sentences(model, processor, [SENTENCE])[0]
    slowly = sorted(
        (-float(row @ query), name) for name, row in zip(index.image_ids, index.embeds, strict=True)
    )
    found = search(model, processor, index, SENTENCE, count=3)
    assert [one.image_id for one in found] == [name for _, name in slowly[:3]]
    assert [one.cosine for one in found] == pytest.approx([-cosine for cosine, _ in slowly[:3]])
    assert [one.probability for one in found] == [None] * 3
    assert len(search(model, processor, index, SENTENCE, count=50)) == len(index.image_ids)


def test_fused_scores_are_one_pass_a_picture(model, processor, pictures):
    from tbkin.data.collate import Collator

    scores = fused_scores(model, processor, pictures.values(), SENTENCE)
    for regions, score in zip(pictures.values(), scores.tolist(), strict=True):
        batch = Collator(processor.tokenizer.pad_token_id)([processor(regions, SENTENCE)])
        with torch.no_grad():
            exponents = model.match(**batch).match_logits[0].exp()
        assert score == pytest.approx(float(exponents[1] / exponents.sum()), abs=1e-5)
    assert len(set(scores.tolist())) == len(pictures)


@pytest.mark.parametrize(("rerank", "count"), [(3, 5), (3, 2), (6, 6), (50, 2)])
def test_the_best_are_looked_at_again(model, processor, pictures, index, rerank, count):
    asked = []

    def regions(name):
        asked.append(name)
        return pictures[name]

    first = search(model, processor, index, SENTENCE, count=6)
    fits = dict(
        zip(
            pictures,
            fused_scores(model, processor, pictures.values(), SENTENCE).tolist(),
            strict=True,
        )
    )
    names = [one.image_id for one in first]
    slowly = sorted(names[:rerank], key=lambda name: -fits[name]) + names[rerank:]
    found = search(model, processor, index, SENTENCE, count, rerank, regions)
    assert [one.image_id for one in found] == slowly[:count]
    assert asked == names[:rerank]
    for one in found:
        looked_at = one.image_id in names[:rerank]
        assert (one.probability is not None) == looked_at
        if looked_at:
            assert one.probability == pytest.approx(fits[one.image_id], abs=1e-6)


def test_sure_pictures_stay_apart(model, processor, pictures, index, monkeypatch):
    # Log odds of 20 and 30 are both 1 in float32.
    fits = torch.tensor([20.0, 30.0, 10.0, 25.0, 5.0, 15.0])
    monkeypatch.setattr(
        model,
        "match",
        lambda **batch: type("Outputs", (), {"match_logits": torch.stack([0 * fits, fits], 1)}),
    )
    names = [one.image_id for one in search(model, processor, index, SENTENCE, count=6)]
    found = search(model, processor, index, SENTENCE, 6, 6, pictures.get)
    assert [one.image_id for one in found] == [names[place] for place in (1, 3, 0, 5, 2, 4)]


def test_what_cannot_be_searched(model, processor, pictures, index):
    with pytest.raises(ValueError, match="no pictures to index"):
        index_pictures(model, processor, [])
    twice = [("a", pictures["picture 0"]), ("b", pictures["picture 1"])] * 2
    with pytest.raises(ValueError, match="picture a is to be indexed twice"):
        index_pictures(model, processor, twice)
    with pytest.raises(ValueError, match="a sentence to search for is empty"):
        search(model, processor, index, "  ")
    for count in (0, -1):
        with pytest.raises(ValueError, match=rf"count={count}: .* at least 1"):
            search(model, processor, index, SENTENCE, count=count)
    with pytest.raises(ValueError, match=r"rerank=2: .*the function regions"):
        search(model, processor, index, SENTENCE, rerank=2)
    with pytest.raises(
        ValueError, match=r"\(1, 8\) cannot be looked up in a gallery of .*\(1, 4\)"
    ):
        search(model, processor, PictureIndex(["a"], torch.ones(1, 4)), SENTENCE)
    judge = retrieval_model(processor, embedding_size=0)
    with pytest.raises(ValueError, match="only judges pairs"):
        index_pictures(judge, processor, pictures.items())
    with pytest.raises(ValueError, match="only judges pairs"):
        embed_sentences(judge, processor, [SENTENCE])


def test_towers_need_pixels(model, processor, pictures, monkeypatch):
    monkeypatch.setattr(model.config, "towers", {"model_type": "clip"})
    with pytest.raises(ValueError, match=r"embeds by model\.towers"):
        index_pictures(model, processor, pictures.items())


def test_a_judge_that_never_learned_is_not_believed(processor, pictures, index):
    untaught = retrieval_model(processor)
    torch.nn.init.zeros_(untaught.match_head.bias)
    assert isinstance(search(untaught, processor, index, SENTENCE)[0], Found)
    # All three are named: one alone would be all that is learned.
    every = r".*\.contrastive\.weight=1 .*\.region_words\.weight=1 .*\.matching\.weight=1 init_from"
    with pytest.raises(ValueError, match=rf"never learned to judge pairs .*task=retrieval {every}"):
        search(untaught, processor, index, SENTENCE, 5, 2, pictures.get)


@pytest.mark.parametrize("side", ["image_head", "text_head"])
def test_embeddings_that_never_learned_find_nothing(processor, pictures, index, side):
    """As a model's whose scorer learned in their place."""
    untaught = retrieval_model(processor, scorer="saf", scorer_size=8, alignment_size=4)
    assert isinstance(search(untaught, processor, index, SENTENCE)[0], Found)
    torch.nn.init.zeros_(getattr(untaught, side).linear.bias)
    refused = r"embeddings of this model never learned, .*tbkin eval .*model\.scorer=none .*\.contr"
    with pytest.raises(ValueError, match=refused):
        search(untaught, processor, index, SENTENCE)
    with pytest.raises(ValueError, match=refused):
        index_pictures(untaught, processor, pictures.items())
