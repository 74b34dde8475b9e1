"""One picture and one question: ``tbkin predict model=DIR image=FILE question="…"``.

Prints the best five answers with their probabilities, and what each layer kept of the attention;
``report=FILE.html`` writes the page that shows the picture, the unified scene graph, and the
attention before and after the threshold; ``attention=FILE`` writes that attention as numbers.
"""

from __future__ import annotations

import copy
import json
import math
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from transformers.utils.logging import disable_progress_bar

from tbkin.config import help_text, load_config, setting
from tbkin.data.collate import Collator
from tbkin.data.extraction import fingerprint_of, regions_of
from tbkin.data.features import RegionStore, check_fingerprint
from tbkin.data.processing_tbkin import Example, TBKINProcessor, most_confident
from tbkin.detectors import build_detector
from tbkin.detectors.pixels import open_picture
from tbkin.detectors.precomputed import image_number
from tbkin.graphs.build import build_scene_graph, join
from tbkin.graphs.regions import Regions
from tbkin.graphs.scene_graph import SceneGraph
from tbkin.model.heads import TBKINForQuestionAnswering
from tbkin.model.selection import BLOCKS, select
from tbkin.model.wording import knowledge_in_words, selection_in_words
from tbkin.visualize import Evidence, write_report
from tbkin.visualize.attention import (
    MOST_REGIONS,
    MOST_WORDS,
    AttentionExport,
    check_attention_path,
    content_words,
    save_attention,
    top_regions,
)
from tbkin.visualize.masked import MaskedView, view_weights, without_region, without_word


@dataclass
class PredictConfig:
    """One question about one picture."""

    model: str = setting("outputs/vqa_tiny", "checkpoint folder")
    image: str = setting("", "picture")
    question: str = setting("", "what to ask")
    regions: str = setting(
        "", "region store with the picture's regions; not set: the model's detector"
    )
    report: str = setting("", "HTML page to write")
    attention: str = setting(
        "", "file for the attention before and after the threshold: .json or .safetensors"
    )
    json: bool = setting(False, "print one JSON object instead of a table")


class Predictor:
    """A trained model with all that it needs to answer about a new picture.

    Args:
        folder: checkpoint folder.
        regions: folder of a region store, for pictures whose regions are already there.

    Example:
        >>> predictor = Predictor("outputs/vqa_tiny")  # doctest: +SKIP
        >>> predictor(open_picture("a.jpg"), "How many dogs are there?").answers  # doctest: +SKIP
        [('2', 0.93), ('1', 0.05), …]
    """

    def __init__(self, folder: str | Path, regions: str | Path | None = None):
        folder = Path(folder)
        if not (folder / "config.json").is_file():
            raise FileNotFoundError(f"no checkpoint in {folder}; train one with: tbkin train")
        self.processor = TBKINProcessor.from_pretrained(folder)
        self.model = TBKINForQuestionAnswering.from_pretrained(folder).eval()
        self.store = RegionStore(regions) if regions else None
        if self.store is not None:
            check_fingerprint(self.processor.fingerprint, self.store.fingerprint, str(regions))

    def __call__(self, image: Image.Image, question: str, image_id: str = "") -> Evidence:
        """Answer, with all the evidence: :meth:`explain`, and :meth:`masked_views` of what matters.

        Args:
            image: RGB.
            question: any text.
            image_id: finds the picture's regions in the store or in the detector's files.
        """
        regions = self.regions(image, image_id)
        evidence = self.explain(image, regions, question)
        graph = evidence.graph
        maskable = self.processor.tokenizer.mask_token is not None
        words = content_words(graph, evidence.attention)[:MOST_WORDS] if maskable else []
        places = top_regions(graph, evidence.node_relevance, evidence.node_kept)[:MOST_REGIONS]
        evidence.masked = self.masked_views(regions, question, words, places)
        return evidence

    def changed(self, **changes: Any) -> Predictor:
        """The same model under other settings, such as ``selection_threshold=0.2``.

        The thresholds are read from the config when a model is built, so that changing the config
        of this one would do nothing; a new one is built that takes over the weights.

        Args:
            changes: settings of :class:`~tbkin.model.configuration_tbkin.TBKINConfig` that leave
                the weights' shapes alone, such as rules, thresholds, layers and blocks.
        """
        other = copy.copy(self)
        other.model = type(self.model)(self.model.config.changed(changes))
        other.model.load_state_dict(self.model.state_dict())
        other.model.eval()
        return other

    def regions(self, image: Image.Image, image_id: str = "") -> Regions:
        """The picture's regions with features, from the store or the model's own detector."""
        if self.store is not None:
            return self.store[image_id]
        return regions_of(self._detector, image, image_id)

    @torch.no_grad()
    def explain(self, image: Image.Image, regions: Regions, question: str) -> Evidence:
        """Answer a question about given regions, and say what decided; one run of the model."""
        if not question.strip():
            raise ValueError('the question is empty; ask something: question="What is this?"')
        processor, config = self.processor, self.model.config
        regions = most_confident(regions, processor.max_regions)
        example = processor(regions, question)
        graph = build_scene_graph(regions, processor.parse(question))
        batch = Collator(processor.tokenizer.pad_token_id)([example])
        outputs = self.model(**batch, output_attentions=True)
        probabilities = outputs.logits[0].sigmoid()
        best = probabilities.topk(min(5, len(probabilities)))
        attention = self._attention(graph, example, batch, outputs)
        weights = attention.after.mean(dim=1)[:, 0]  # layers, L
        kept = attention.keep.float().mean(dim=1)[:, 0]
        return Evidence(
            image=image,
            question=question,
            answers=[
                (config.id2label[place], probability)
                for probability, place in zip(
                    best.values.tolist(), best.indices.tolist(), strict=True
                )
            ],
            graph=graph,
            **self._knowledge(graph, example, batch, outputs),
            attention_kept=outputs.attention_kept.tolist(),
            positions=attention.positions,
            answer_attention=weights.tolist(),
            answer_attention_kept=kept.tolist(),
            selection=selection_in_words(config),
            knowledge=knowledge_in_words(config)
            if outputs.knowledge_kept is not None
            else "no graph",
            attention=attention,
            attention_thresholds=_thresholds(outputs.attention_thresholds),
        )

    @torch.no_grad()
    def masked_views(
        self, regions: Regions, question: str, words: list[int], places: list[int]
    ) -> list[MaskedView]:
        """Where the model looks for a word or a region that it cannot see, in ROSITA's manner.

        Each runs the model once, all in one batch. Of a masked thing the model sees its place
        alone. *Ours*: the scene graph does not know it either, or its alignment would tell; and
        [CLS] and [SEP] are left out of where a region looks.

        Args:
            regions: of the picture, with features.
            question: as it is asked.
            words: which of the text's words to mask, each on its own, whole.
            places: which regions to mask, each on its own.

        Raises:
            ValueError: a word or region that the model does not see, or a tokenizer without a mask.
        """
        if not words and not places:
            return []
        processor, tokenizer = self.processor, self.processor.tokenizer
        if words and tokenizer.mask_token is None:
            raise ValueError("the checkpoint's tokenizer has no mask token; it cannot mask words.")
        regions = most_confident(regions, processor.max_regions)
        said, (seen, picture) = processor.parse(question), processor.seen(regions)
        word_of_token = self._words_of_tokens(said.words)
        examples = []
        for word in words:
            if word not in word_of_token:
                raise ValueError(
                    f"no word {word} to mask; there are {len(said.words)}, the first is 0, and the "
                    f"model sees those that fit in {processor.max_text_length} tokens."
                )
            masked = without_word(said, word, tokenizer.mask_token)
            examples.append(processor.encode(seen, join(picture, masked)))
        for place in places:
            hidden, rest = processor.seen(without_region(regions, place))
            examples.append(processor.encode(hidden, join(rest, said)))

        batch = Collator(tokenizer.pad_token_id)(examples)
        outputs = self.model(**batch, output_attentions=True)
        logits, valid = outputs.attention_logits[-1], self._valid_keys(batch, outputs)
        first = batch["input_ids"].shape[1]  # of the regions
        views = []
        for row, word in enumerate(words):
            query = word_of_token.index(word)  # what stands before is as it was
            asked = torch.ones(len(regions), dtype=torch.bool)
            weights = view_weights(logits[row], query, valid[row], first, asked)
            views.append(MaskedView("word", word, weights))
        for row, place in enumerate(places, start=len(words)):
            asked = torch.tensor(word_of_token) >= 0
            weights = view_weights(logits[row], first + place, valid[row], 0, asked)
            views.append(MaskedView("region", place, weights))
        return views

    def _words_of_tokens(self, words: list[str]) -> list[int]:
        """(T,) which word each token belongs to, -1 for none; as ``TBKINProcessor.encode`` cuts."""
        numbers = self.processor.tokenize(words).word_ids()
        return [-1 if word is None else word for word in numbers]

    def _valid_keys(self, batch: dict[str, Any], outputs: Any) -> torch.Tensor:
        """(B, L) bool, positions that may be attended to."""
        masks = [batch["attention_mask"], batch["region_mask"], batch["attribute_mask"]]
        length = outputs.attention_logits[0].shape[-1]
        valid = torch.cat(masks, dim=1).bool()[:, :length]  # without a graph no attribute nodes
        if outputs.node_keep is not None:
            valid = valid & outputs.node_keep
        if not self.model.config.attributes_attended:
            valid[:, masks[0].shape[1] + masks[1].shape[1] :] = False
        return valid

    def _attention(
        self, graph: SceneGraph, example: Example, batch: dict[str, Any], outputs: Any
    ) -> AttentionExport:
        """All of the attention of a batch of one."""
        logits = torch.stack(outputs.attention_logits)[:, 0]
        valid = self._valid_keys(batch, outputs)[0]
        positions = self._positions(graph, example)
        seen = (len(example["input_ids"]), len(example["region_boxes"]))
        return AttentionExport(
            logits=logits,
            before=select(logits, valid, "none")[0],
            after=torch.stack(outputs.attentions)[:, 0],
            keep=torch.stack(outputs.attention_keep)[:, 0],
            valid=valid,
            pairs=outputs.attention_pairs,
            blocks=list(BLOCKS),
            positions=positions,
            sizes=(*seen, len(positions) - sum(seen)),
            words=self._words_of_tokens(graph.words),
        )

    def _knowledge(
        self, graph: SceneGraph, example: dict[str, Any], batch: dict[str, Any], outputs: Any
    ) -> dict[str, Any]:
        """Relevance and fate of every node and edge of the graph, in its own numbering."""
        count, edges = len(graph.nodes), len(graph.edges)
        if outputs.knowledge_kept is None:
            return {
                "node_relevance": [1.0] * count,
                "node_kept": [node.type != "attribute" for node in graph.nodes],
                "edge_kept": [None] * edges,
                "edge_relevance": [0.0] * edges,
                "nodes_kept": 1.0,
                "edges_kept": 0.0,
            }
        position = batch["graph"].position
        relevance, keep = outputs.node_relevance[0], outputs.node_keep[0]
        node_relevance, node_kept = [1.0] * count, [True] * count
        places = [n for n, node in enumerate(graph.nodes) if node.type != "word"]
        for node in places:  # the first nodes of the batch, in the same order
            node_relevance[node] = relevance[position[node]].item()
            node_kept[node] = bool(keep[position[node]])
        edge_kept: list[bool | None] = [None] * edges
        edge_relevance = [0.0] * edges
        slots = {  # place within the example -> place in the batch, which is sorted by kind
            slot: place for place, slot in enumerate(batch["graph"].edge_slot.tolist())
        }
        for slot, edge in enumerate(example["edge_of"].tolist()):
            if edge >= 0:
                place = slots[slot]
                edge_kept[edge] = bool(edge_kept[edge]) or bool(outputs.edge_keep[place])
                edge_relevance[edge] = max(
                    edge_relevance[edge], outputs.edge_relevance[place].item()
                )
        nodes_kept, edges_kept = outputs.knowledge_kept.tolist()
        return {
            "node_relevance": node_relevance,
            "node_kept": node_kept,
            "edge_kept": edge_kept,
            "edge_relevance": edge_relevance,
            "nodes_kept": nodes_kept,
            "edges_kept": edges_kept,
        }

    def _positions(self, graph: SceneGraph, example: dict[str, Any]) -> list[str]:
        """Names of the fused positions: tokens, regions, attribute nodes."""
        tokens = self.processor.tokenizer.convert_ids_to_tokens(example["input_ids"])
        regions = [
            f"{graph.nodes[node].index} {graph.nodes[node].label}".strip()
            for node in graph.of_type("region")
        ]
        attributes = [graph.nodes[node].label for node in graph.of_type("attribute")]
        return [*tokens, *regions, *(attributes if self.model.tbkin.attributes else [])]

    @cached_property
    def _detector(self) -> Any:
        detector = build_detector(self.processor.detector)
        if self.processor.fingerprint:
            found = fingerprint_of(detector)
            check_fingerprint(self.processor.fingerprint, found, "the detector of the checkpoint")
        return detector


def main(arguments: list[str]) -> None:
    """Answer one question."""
    if "--help" in arguments or "-h" in arguments:
        sys.stdout.write(help_text(__doc__, PredictConfig) + "\n")
        return
    config = load_config(PredictConfig, arguments)
    if not config.image or not config.question:
        raise ValueError('tbkin predict needs image=FILE and question="…".')
    disable_progress_bar()  # of transformers: a checkpoint is read in a blink
    if config.attention:
        check_attention_path(Path(config.attention))
    image = open_picture(config.image)
    predictor = Predictor(config.model, config.regions or None)
    evidence = predictor(image, config.question, image_number(Path(config.image)))
    if config.report:
        write_report(Path(config.report), [evidence], config.question)
    if config.attention:
        save_attention(Path(config.attention), evidence.attention)
    if config.json:
        sys.stdout.write(json.dumps(as_json(evidence)) + "\n")
        return
    lines = [f"{probability:6.1%}  {answer}" for answer, probability in evidence.answers]
    lines.append(
        f"kept: {_mean(evidence.attention_kept):.0%} of the attention, "
        f"{evidence.nodes_kept:.0%} of the nodes, {evidence.edges_kept:.0%} of the edges"
    )
    lines += (f"  {line}" for line in evidence.attention.lines())
    for layer, heads in enumerate(evidence.attention_thresholds or [], start=1):
        if heads is not None:
            said = " ".join(f"{threshold:.3g}" for threshold in heads)
            lines.append(f"  layer {layer}: learned thresholds of the heads {said}")
    if config.report:
        lines.append(f"report: {config.report}")
    if config.attention:
        lines.append(f"attention: {config.attention}")
    sys.stdout.write("\n".join(lines) + "\n")


def as_json(evidence: Evidence) -> dict[str, Any]:
    """The evidence as plain JSON values, without the picture."""
    return {
        "question": evidence.question,
        "answers": [
            {"answer": answer, "probability": probability}
            for answer, probability in evidence.answers
        ],
        "attention_kept": evidence.attention_kept,
        "attention_blocks": [
            dict(zip(evidence.attention.blocks, shares, strict=True))
            for shares in evidence.attention.shares()
        ],
        "attention_thresholds": evidence.attention_thresholds,
        "nodes_kept": evidence.nodes_kept,
        "edges_kept": evidence.edges_kept,
        "graph": evidence.graph.to_dict(),
        "node_relevance": evidence.node_relevance,
        "node_kept": evidence.node_kept,
        "edge_kept": evidence.edge_kept,
    }


def _thresholds(learned: torch.Tensor | None) -> list[list[float] | None] | None:
    """(layers, H), nan in layers that do not learn -> lists, None for such a layer."""
    if learned is None:
        return None
    return [None if math.isnan(heads[0]) else heads for heads in learned.tolist()]


def _mean(values: list[float]) -> float:
    return sum(values) / max(1, len(values))


if __name__ == "__main__":
    from tbkin.config import run_command

    sys.exit(run_command(main))
