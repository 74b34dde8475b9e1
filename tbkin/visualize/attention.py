"""Attention before and after the threshold: the numbers that page, notebook and files share.

Weights before and after the threshold side by side are *ours*: TBKIN's abstract (PLOS ONE 2025)
names an attention visualisation, no more. ROSITA's own view is in ``masked.py``.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from tbkin.files import write_bytes, write_text
from tbkin.graphs.scene_graph import SceneGraph

SCHEMA = "tbkin.attention/1"
SUFFIXES = (".json", ".safetensors")
MOST_WORDS, MOST_REGIONS = 6, 3  # that a page shows
TENSORS = {  # what a file holds -> its type
    "logits": torch.float32,
    "before": torch.float32,
    "after": torch.float32,
    "keep": torch.bool,
    "valid": torch.bool,
    "pairs": torch.float32,
}
NAMES = ("positions", "sizes", "words", "blocks")


@dataclass
class AttentionRow:
    """What one position looks at, mean over the heads. n columns.

    Attributes:
        before: (n,) in [0, 1], softmax over all valid positions.
        after: (n,) in [0, 1], after the threshold.
        heads: (n,) in [0, 1], share of the heads that kept the column.
        valid: (n,); False: dropped before fusion, could not be attended to.
    """

    before: list[float]
    after: list[float]
    heads: list[float]
    valid: list[bool]


@dataclass
class AttentionExport:
    """The attention of one example, whole. H heads, L = T + R + V fused positions.

    Attributes:
        logits: (layers, H, L, L) before the softmax, queries by keys.
        before: (layers, H, L, L), dense softmax over the valid keys; a key that is not valid has 0.
        after: (layers, H, L, L), after selection; 0 where not kept.
        keep: (layers, H, L, L) bool.
        valid: (L,) bool, positions that may be attended to: those that the knowledge threshold
            kept.
        pairs: (layers, blocks, 2), query-key pairs kept and valid, over the heads.
        blocks: names of the blocks, query-key, such as "text-image".
        positions: (L,), names: tokens, then regions, then attribute nodes.
        sizes: T, R, V.
        words: (T,), which word of the text a token begins or goes on; -1: none ([CLS], [SEP]).
    """

    logits: Tensor
    before: Tensor
    after: Tensor
    keep: Tensor
    valid: Tensor
    pairs: Tensor
    blocks: list[str]
    positions: list[str]
    sizes: tuple[int, int, int]
    words: list[int]

    def shares(self) -> list[list[float | None]]:
        """(layers, blocks), share of the valid pairs kept; None where a block has no pair."""
        return [
            [kept / valid if valid else None for kept, valid in layer]
            for layer in self.pairs.tolist()
        ]

    def lines(self) -> list[str]:
        """What each layer kept of each block, a line a layer; "-" where a block has no pair."""
        lines = []
        for layer, shares in enumerate(self.shares(), start=1):
            said = [
                f"{block} {'-' if share is None else f'{share:.0%}'}"
                for block, share in zip(self.blocks, shares, strict=True)
            ]
            lines.append(f"layer {layer}: {', '.join(said)}")
        return lines

    def row(self, layer: int, query: int, columns: range) -> AttentionRow:
        """What one position looks at.

        Args:
            layer: 0 is the first, -1 the last.
            query: the position.
            columns: positions looked at, such as :meth:`regions`.
        """
        place = (self.layer(layer), slice(None), query, slice(columns.start, columns.stop))
        return AttentionRow(
            before=self.before[place].mean(dim=0).tolist(),
            after=self.after[place].mean(dim=0).tolist(),
            heads=self.keep[place].float().mean(dim=0).tolist(),
            valid=self.valid[place[-1]].tolist(),
        )

    def drops(self, layer: int) -> bool:
        """Whether the layer dropped anything at all."""
        return not (self.keep[self.layer(layer)] | ~self.valid).all()

    def layer(self, layer: int) -> int:
        """The layer's number from 0, if there is such a layer."""
        count = len(self.after)
        if not -count <= layer < count:
            raise ValueError(f"layer {layer} of {count}; the first is 0, the last {count - 1}.")
        return layer % count

    def tokens(self) -> range:
        """Positions of the tokens."""
        return range(self.sizes[0])

    def regions(self) -> range:
        """Positions of the regions."""
        return range(self.sizes[0], self.sizes[0] + self.sizes[1])

    def token_of(self, word: int) -> int | None:
        """The first token of a word; None: the text was cut before it."""
        return self.words.index(word) if word in self.words else None


def content_words(graph: SceneGraph, attention: AttentionExport) -> list[int]:
    """Words of the text that a parser made nodes of and that are not cut off, in order."""
    words = {node.index for node in graph.nodes if node.type == "word" and node.index >= 0}
    return sorted(word for word in words if attention.token_of(word) is not None)


def top_regions(graph: SceneGraph, relevance: list[float], kept: list[bool]) -> list[int]:
    """Regions by relevance, those dropped last; ``relevance`` and ``kept`` are (N,), of nodes."""
    places = sorted(graph.of_type("region"), key=lambda place: (not kept[place], -relevance[place]))
    return [graph.nodes[place].index for place in places]


def check_attention_path(path: Path) -> None:
    """Raise ``ValueError`` unless an export can be written there; call it before long work."""
    if path.suffix.lower() not in SUFFIXES:
        raise ValueError(f"{path}: attention is written to {' or '.join(SUFFIXES)}.")


def save_attention(path: Path, attention: AttentionExport) -> None:
    """Write an export: plain JSON (``.json``), or tensors (``.safetensors``).

    Both hold the same: ``logits``, ``before``, ``after``, ``keep``, ``valid`` and ``pairs``, and
    the names; in a safetensors file these are one JSON object under the metadata key ``tbkin``.
    """
    check_attention_path(path)
    tensors = {
        name: getattr(attention, name).to("cpu", kind).contiguous()
        for name, kind in TENSORS.items()
    }
    names: dict[str, Any] = {"schema": SCHEMA}
    names |= {name: getattr(attention, name) for name in NAMES}
    if path.suffix.lower() == ".json":
        values = {name: tensor.tolist() for name, tensor in tensors.items()}
        write_text(path, json.dumps({**names, **values}, ensure_ascii=False) + "\n")
        return
    write_bytes(path, save(tensors, {"tbkin": json.dumps(names, ensure_ascii=False)}))


def load_attention(path: Path) -> AttentionExport:
    """Read what :func:`save_attention` wrote.

    Raises:
        ValueError: another suffix or another schema.
    """
    check_attention_path(path)
    if path.suffix.lower() == ".json":
        names = json.loads(path.read_text(encoding="utf-8"))
        values = {name: torch.tensor(names.get(name, []), dtype=TENSORS[name]) for name in TENSORS}
    else:
        with safe_open(path, "pt") as file:
            names = json.loads((file.metadata() or {}).get("tbkin", "{}"))
            values = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    if names.get("schema") != SCHEMA:
        raise ValueError(f"{path}: schema must be {SCHEMA}, got {names.get('schema')!r}.")
    named = {name: names[name] for name in NAMES}
    return AttentionExport(**{**named, **values, "sizes": tuple(names["sizes"])})
