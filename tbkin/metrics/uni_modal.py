"""Pictures that look for pictures, and captions for captions, by the uni-modal embeddings.

CUSA's protocol of image retrieval (Huang et al., AAAI 2024, appendix): a picture's nearest
neighbour other than itself is right if it is of the same class; R@1, on data that nothing was
trained on. *Ours* are: R@5, R@10 and the ranks; captions that look for captions (its authors
correlate cosines of sentence pairs with people's grades instead, which needs such grades); that a
query is told from the gallery by its id, where theirs drop the first of its neighbours; that
queries with nothing to find are left out and counted; pessimistic ties.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from tbkin.metrics.ranks import Products
from tbkin.metrics.recall import recall_figures
from tbkin.metrics.relation import Relation

WAYS = ("image_to_image", "text_to_text")


def uni_modal_figures(
    images: Tensor, captions: Tensor, image_right: Relation, caption_right: Relation
) -> dict[str, dict[str, Any]]:
    """Both modalities by themselves.

    Args:
        images: (I, D) unit rows.
        captions: (C, D) unit rows.
        image_right: (I, I), pictures that belong together.
        caption_right: (C, C), captions that do.

    Returns:
        ``image_to_image`` and ``text_to_text``, each as :func:`same_modality_figures`.
    """
    return {
        "image_to_image": same_modality_figures(images, image_right),
        "text_to_text": same_modality_figures(captions, caption_right),
    }


def same_modality_figures(embeds: Tensor, right: Relation) -> dict[str, Any]:
    """Recall of items among the others of their kind.

    Args:
        embeds: (N, D) unit rows.
        right: (N, N), what each looks for; an item is never its own candidate.

    Returns:
        As ``recall.recall_figures``, where there is anything to find; ``queries``, how many were
        asked; ``left_out``, how many have nothing right; ``right_items``, the mean number of right
        items of a query.
    """
    count = len(embeds)
    places = torch.arange(count)
    right = right.without(Relation(places, places, (count, count)))
    asked = right.counts.nonzero().flatten()
    counted = {
        "queries": len(asked),
        "left_out": count - len(asked),
        "right_items": len(right.rows) / max(1, len(asked)),
    }
    if not len(asked):
        return counted
    shape = (len(asked), count)
    number = torch.searchsorted(asked, right.rows)
    figures = recall_figures(
        Products(embeds, embeds),
        Relation(number, right.columns, shape),
        excluded=Relation(torch.arange(len(asked)), asked, shape),
        queries=asked,
    )
    return {**figures, **counted}


def same_identity(identities: Mapping[int, int]) -> Relation:
    """(N, N), items of equal identity: pictures of a class, captions of a picture or a class.

    Args:
        identities: of each item's id, in the order of the embeddings.
    """
    ids = torch.tensor(list(identities.values()))
    return Relation.of_ids(ids, ids)


def sharing(true: Relation) -> tuple[Relation, Relation]:
    """What belongs together where one knows which captions are true of which pictures (*ours*).

    Two pictures do if some caption of the gallery is true of both, two captions if both are true of
    some picture of the gallery. This is generous: one caption that says little joins many pictures,
    and two captions about different things in a picture are joined as well. How generous,
    ``right_items`` says.

    Args:
        true: (I, C).

    Returns:
        (I, I) and (C, C).
    """
    return (
        _joined(true.columns, true.rows, true.shape[0]),
        _joined(true.rows, true.columns, true.shape[1]),
    )


def _joined(keys: Tensor, values: Tensor, count: int) -> Relation:
    """(count, count), values that have a key in common; both (n,)."""
    pairs = Relation.of_ids(keys, keys)
    return Relation.of_pairs(values[pairs.rows], values[pairs.columns], (count, count))
