"""One picture and one question: ``tbkin predict model=DIR image=FILE question="…"``.

Prints the best five answers with their probabilities; ``report=FILE.html`` writes the page that
shows the picture, the unified scene graph, and what the thresholds kept.
"""

from __future__ import annotations

import json
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
from tbkin.data.processing_tbkin import TBKINProcessor, most_confident
from tbkin.detectors import build_detector
from tbkin.detectors.pixels import open_picture
from tbkin.detectors.precomputed import image_number
from tbkin.graphs.build import build_scene_graph
from tbkin.graphs.regions import Regions
from tbkin.graphs.scene_graph import SceneGraph
from tbkin.model.heads import TBKINForQuestionAnswering
from tbkin.visualize import Evidence, write_report


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
        """Answer, with the evidence.

        Args:
            image: RGB.
            question: any text.
            image_id: finds the picture's regions in the store or in the detector's files.
        """
        return self.explain(image, self.regions(image, image_id), question)

    def regions(self, image: Image.Image, image_id: str = "") -> Regions:
        """The picture's regions with features, from the store or the model's own detector."""
        if self.store is not None:
            return self.store[image_id]
        return regions_of(self._detector, image, image_id)

    @torch.no_grad()
    def explain(self, image: Image.Image, regions: Regions, question: str) -> Evidence:
        """Answer a question about given regions, and say what decided."""
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
        weights = torch.stack(outputs.attentions)[:, 0].mean(dim=1)[:, 0]  # layers, L
        kept = torch.stack(outputs.attention_keep)[:, 0].float().mean(dim=1)[:, 0]
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
            positions=self._positions(graph, example),
            answer_attention=weights.tolist(),
            answer_attention_kept=kept.tolist(),
            selection=f"{config.selection_rule} {config.selection_threshold:g} in "
            + (f"layers {config.selection_layers}" if config.selection_layers else "all layers"),
            knowledge=f"{config.knowledge_rule} {config.knowledge_threshold:g}"
            if outputs.knowledge_kept is not None
            else "no graph",
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
    image = open_picture(config.image)
    predictor = Predictor(config.model, config.regions or None)
    evidence = predictor(image, config.question, image_number(Path(config.image)))
    if config.report:
        write_report(Path(config.report), [evidence], config.question)
    if config.json:
        sys.stdout.write(json.dumps(as_json(evidence)) + "\n")
        return
    lines = [f"{probability:6.1%}  {answer}" for answer, probability in evidence.answers]
    lines.append(
        f"kept: {_mean(evidence.attention_kept):.0%} of the attention, "
        f"{evidence.nodes_kept:.0%} of the nodes, {evidence.edges_kept:.0%} of the edges"
    )
    if config.report:
        lines.append(f"report: {config.report}")
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
        "nodes_kept": evidence.nodes_kept,
        "edges_kept": evidence.edges_kept,
        "graph": evidence.graph.to_dict(),
        "node_relevance": evidence.node_relevance,
        "node_kept": evidence.node_kept,
        "edge_kept": evidence.edge_kept,
    }


def _mean(values: list[float]) -> float:
    return sum(values) / max(1, len(values))


if __name__ == "__main__":
    from tbkin.config import run_command

    sys.exit(run_command(main))
