"""Pictures that a sentence is about: all of them by embeddings, the best looked at again.

:func:`index_pictures` embeds pictures, a pass of the model each, made once for all sentences.
:func:`search` embeds a sentence and takes the pictures of highest cosine; with ``rerank=k`` the
best k are ordered by the fused score, which sees picture and sentence together, one more pass each.
A model with ``scorer`` is searched by its embeddings, too, for the scorer has no index; one whose
embeddings never learned, since the scorer learned in their place, is refused.
What decided that score is shown by :meth:`tbkin.predict.Predictor.match`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import torch
from accelerate.utils import send_to_device
from torch import Tensor

from tbkin.data.collate import Collator
from tbkin.data.processing_tbkin import Example, TBKINProcessor
from tbkin.graphs.build import join
from tbkin.graphs.regions import Regions
from tbkin.metrics.top_k import top_k
from tbkin.model.retrieval import TBKINForImageTextRetrieval, read_off
from tbkin.tasks import check_judge, check_ranks, has_learned


@dataclass(frozen=True)
class PictureIndex:
    """Pictures as one model embeds them. I pictures.

    Attributes:
        image_ids: (I,), any names.
        embeds: (I, D), float32 unit rows.
    """

    image_ids: list[str]
    embeds: Tensor


@dataclass(frozen=True)
class Found:
    """A picture that a sentence found.

    Attributes:
        image_id: as in the index.
        cosine: of the two embeddings, in [-1, 1].
        probability: that picture and sentence belong together, of the fused score, in [0, 1]; None:
            not looked at again.
    """

    image_id: str
    cosine: float
    probability: float | None = None


def index_pictures(
    model: TBKINForImageTextRetrieval,
    processor: TBKINProcessor,
    pictures: Iterable[tuple[str, Regions]],
    batch_size: int = 64,
) -> PictureIndex:
    """Embed pictures.

    Args:
        model: with embeddings, in eval mode, as ``from_pretrained`` leaves it.
        processor: of the model.
        pictures: a name and the regions with features of each; read one batch at a time.
        batch_size: pictures a pass.

    Raises:
        ValueError: a model without embeddings, with some that never learned, or with another
            model's towers; no picture, or a name that comes twice.
    """
    _check_embeds(model)
    names: list[str] = []
    embeds: list[Tensor] = []
    waiting = iter(pictures)
    while batch := list(islice(waiting, batch_size)):
        names += [name for name, _ in batch]
        inputs = _batch(model, processor, [processor(regions, "") for _, regions in batch])
        with torch.no_grad():
            embeds.append(model.image_head(read_off(model.image(**inputs))).cpu())
    if not names:
        raise ValueError("there are no pictures to index.")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"picture {twice} is to be indexed twice; give each a name of its own.")
    return PictureIndex(names, torch.cat(embeds))


def embed_sentences(
    model: TBKINForImageTextRetrieval, processor: TBKINProcessor, sentences: Sequence[str]
) -> Tensor:
    """(S, D) float32 unit rows, one a sentence, as :func:`index_pictures` embeds pictures.

    Raises:
        ValueError: a model as in :func:`index_pictures`, or an empty sentence.
    """
    _check_embeds(model)
    if not all(sentence.strip() for sentence in sentences):
        raise ValueError('a sentence to search for is empty; write something: "a red square"')
    nothing = Regions(
        boxes=torch.zeros(0, 4),
        width=1,
        height=1,
        labels=[],
        scores=[],
        attributes=[],
        features=torch.zeros(0, model.config.region_feature_size),
    )
    inputs = _batch(model, processor, [processor(nothing, sentence) for sentence in sentences])
    with torch.no_grad():
        return model.text_head(read_off(model.text(**inputs))).cpu()


def search(
    model: TBKINForImageTextRetrieval,
    processor: TBKINProcessor,
    index: PictureIndex,
    sentence: str,
    count: int = 5,
    rerank: int = 0,
    regions: Callable[[str], Regions] | None = None,
) -> list[Found]:
    """The pictures that fit a sentence best.

    Args:
        model: that the index was made with, in eval mode.
        processor: of the model.
        index: of all pictures.
        sentence: any text.
        count: how many are wanted.
        rerank: how many of the best by embeddings are ordered by the fused score, ahead of all
            others; 0: none.
        regions: name -> the picture's regions, for those that are looked at again.

    Returns:
        At most ``count``, best first.

    Raises:
        ValueError: a ``count`` below 1, a negative ``rerank``, one without ``regions``, or as
            :func:`embed_sentences`, :func:`fused_scores` and :func:`tbkin.metrics.top_k.top_k` do.
    """
    if count < 1:
        raise ValueError(f"count={count}: give the number of pictures that are wanted, at least 1.")
    if rerank < 0 or (rerank and regions is None):
        raise ValueError(
            f"rerank={rerank}: give the number of pictures to look at again, and the function "
            "regions that finds their regions by name."
        )
    query = embed_sentences(model, processor, [sentence])
    cosines, places = top_k(query, index.embeds, max(count, rerank))
    found = [
        Found(index.image_ids[place], cosine)
        for cosine, place in zip(cosines[0].tolist(), places[0].tolist(), strict=True)
    ]
    if rerank:
        again = found[:rerank]
        scores = fused_scores(
            model, processor, (regions(one.image_id) for one in again), sentence
        ).tolist()
        again = [replace(one, probability=p) for one, p in zip(again, scores, strict=True)]
        again.sort(key=lambda one: -one.probability)  # stable: of equal ones the better cosine
        found = again + found[rerank:]
    return found[:count]


def fused_scores(
    model: TBKINForImageTextRetrieval,
    processor: TBKINProcessor,
    pictures: Iterable[Regions],
    sentence: str,
    batch_size: int = 64,
) -> Tensor:
    """How likely each picture and a sentence belong together, seen together.

    Args:
        model: that has learned to judge pairs, in eval mode.
        processor: of the model.
        pictures: regions with features of each.
        sentence: any text.
        batch_size: pictures a pass.

    Returns:
        (I,) float64 in [0, 1]; float32 would call all sure ones equal.

    Raises:
        ValueError: a model that never learned to judge pairs.
    """
    check_judge(model)
    said = processor.parse(sentence)
    encoding = processor.tokenize(said.words)
    scores = [torch.zeros(0, dtype=torch.float64)]
    waiting = iter(pictures)
    while batch := list(islice(waiting, batch_size)):
        seen = [processor.seen(regions) for regions in batch]
        examples = [processor.encode(one, join(graph, said), encoding) for one, graph in seen]
        with torch.no_grad():
            logits = model.match(**_batch(model, processor, examples)).match_logits
        scores.append(logits.cpu().double().softmax(dim=1)[:, 1])
    return torch.cat(scores)


def _check_embeds(model: TBKINForImageTextRetrieval) -> None:
    """Raise ``ValueError`` unless the model has learned to embed pictures by their regions."""
    check_ranks("retrieval", model.config, "")
    if model.config.towers is not None:
        raise ValueError(
            "this model embeds by model.towers, another model's pixels and tokens; search pictures "
            "by their regions with one that was trained without."
        )
    if not has_learned(model.image_head.linear, model.text_head.linear):
        # Where a scorer compares, objectives of scores teach the scorer alone.
        raise ValueError(
            "the embeddings of this model never learned, as those of one that was trained by "
            "model.scorer; rank a split by its scorer (tbkin eval task=retrieval), or train it "
            "further: tbkin train task=retrieval model.scorer=none objectives.contrastive.weight=1 "
            "objectives.region_words.weight=1 init_from=DIR"
        )


def _batch(model: Any, processor: TBKINProcessor, examples: list[Example]) -> dict[str, Any]:
    """Where the model is."""
    batch = Collator(processor.tokenizer.pad_token_id)(examples)
    return send_to_device(batch, model.device)
