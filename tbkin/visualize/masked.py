"""Where the model looks for what it cannot see: the attention visualisation of ROSITA's demo.

A word or a region is masked, and the last layer's attention of its place to the other modality is
shown. Source: Cui et al., "ROSITA" (ACM Multimedia 2021, arXiv:2108.07073) and its code. *Ours*:
what the scene graph and the detector's words say of the masked thing is hidden too, since it would
give it away; ROSITA's model reads neither. *Ours* too: a region's view is of the words alone, and
[CLS] and [SEP] are left out of its softmax.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from tbkin.graphs.regions import Regions
from tbkin.graphs.scene_graph import SceneGraph

POWER = 0.3  # ROSITA's: small weights stay visible


@dataclass
class MaskedView:
    """Where the model looks for what it cannot see, in ROSITA's manner; see ``rosita_attention``.

    Attributes:
        kind: "word" or "region", what was masked.
        index: which word of the text, or which region.
        weights: of each region for a word (R,), of each token for a region (T,); they sum to 1. 0
            for what could not be attended to, and for the tokens that are no words (*ours*).
    """

    kind: str
    index: int
    weights: list[float]


def rosita_attention(logits: Tensor, row: int, columns: Tensor) -> Tensor:
    r"""Weights of the other modality for a masked position, as ROSITA's demo draws them.

    With :math:`P^h` the last layer's logits of head :math:`h` (scores after masking, before the
    softmax), :math:`i` the masked position and :math:`C` the positions of the other modality,

    .. math::
        w_j = \mathrm{softmax}_{j \in C} \sum_h P^h_{ij}

    A sum over heads, not a mean: the weights are much sharper than any head's own.

    Args:
        logits: (H, L, L), queries by keys.
        row: :math:`i`.
        columns: (n,) int64, :math:`C`, valid keys only.

    Returns:
        (n,) in [0, 1], float32; they sum to 1.
    """
    return torch.softmax(logits[:, row, columns].float().sum(dim=0), dim=-1)


def view_weights(logits: Tensor, row: int, valid: Tensor, first: int, asked: Tensor) -> list[float]:
    """:func:`rosita_attention` on the valid ones of the positions asked, 0 on the others.

    Args:
        logits: (H, L, L), of the last layer.
        row: the masked position.
        valid: (L,) bool, positions that may be attended to.
        first: where the other modality begins.
        asked: (n,) bool, which of its positions are meant.

    Returns:
        (n,) in [0, 1].
    """
    chosen = asked & valid[first : first + len(asked)]
    weights = torch.zeros(len(asked))
    weights[chosen] = rosita_attention(logits, row, first + chosen.nonzero()[:, 0])
    return weights.tolist()


def brightness(weights: list[float], low: float, high: float) -> list[float]:
    """How brightly a box is lit, in [0, 1]: min-max normalised, to the power 0.3 (ROSITA's demo).

    Args:
        weights: of the boxes.
        low: weight of brightness 0.
        high: weight of brightness 1.
    """
    if high <= low:  # all the same
        return [float(weight > 0) for weight in weights]
    return [(min(max(weight - low, 0.0) / (high - low), 1.0)) ** POWER for weight in weights]


def without_word(said: SceneGraph, word: int, mask: str) -> SceneGraph:
    """A text's graph in which a word is not known: only that there is one, and its role.

    Args:
        said: words and word nodes, from a parser.
        word: which of its words.
        mask: the tokenizer's mask token; the word becomes one of it, however many pieces it had.
    """
    nodes = [
        replace(node, label=mask, text="") if node.index == word else node for node in said.nodes
    ]
    return SceneGraph(nodes, said.edges, [*said.words[:word], mask, *said.words[word + 1 :]])


def without_region(regions: Regions, place: int) -> Regions:
    """The regions, of one of which only box and score are known: ROSITA's masked region.

    Its feature row is zero; its name, its attributes and its reported relations are taken away.

    Raises:
        ValueError: there is no such region.
    """
    count = len(regions)
    if not 0 <= place < count:
        raise ValueError(f"no region {place} to mask; there are {count}, and the first is 0.")
    features = regions.features.clone()
    features[place] = 0
    return replace(
        regions,
        labels=[*regions.labels[:place], "", *regions.labels[place + 1 :]],
        attributes=[*regions.attributes[:place], [], *regions.attributes[place + 1 :]],
        relations=[one for one in regions.relations if place not in (one[0], one[2])],
        features=features,
    )
