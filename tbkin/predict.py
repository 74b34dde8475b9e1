"""One picture and one question, referring expression or caption.

``tbkin predict model=DIR image=FILE question="…"`` prints the best five answers with their
probabilities; ``expression="the red square"`` prints the box that is meant, in pixels, and the best
five candidates; ``caption="a red square"`` prints how likely the picture and the caption belong
together. All say what each layer kept of the attention. ``report=FILE.html`` writes the page that
shows the picture, the unified scene graph, and the attention before and after the threshold;
``attention=FILE`` writes that attention as numbers.
"""

from __future__ import annotations

import copy
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from PIL import Image
from transformers.utils.logging import disable_progress_bar

from tbkin.config import load_config, setting
from tbkin.data.extraction import fingerprint_of, regions_of
from tbkin.data.features import RegionStore, check_fingerprint
from tbkin.data.processing_tbkin import TBKINProcessor
from tbkin.detectors import build_detector
from tbkin.detectors.pixels import open_picture
from tbkin.detectors.precomputed import image_number
from tbkin.graphs.regions import Regions
from tbkin.metrics.grounding_accuracy import predicted_boxes
from tbkin.model.configuration_tbkin import TBKINConfig
from tbkin.model.modeling_tbkin import TBKINPreTrainedModel
from tbkin.tasks import JUDGED, TASKS, check_judge
from tbkin.tracing import Run, masked_views, run_model, trace
from tbkin.visualize import Evidence, GroundedBox, MatchedPicture, write_report
from tbkin.visualize.attention import (
    MOST_REGIONS,
    MOST_WORDS,
    check_attention_path,
    content_words,
    save_attention,
)
from tbkin.visualize.evidence import shown_regions
from tbkin.visualize.grounded import described
from tbkin.visualize.masked import MaskedView

# What a text is -> the task that learns it, and an example.
ASKED = {"question": "vqa", "expression": "grounding", "caption": "retrieval"}
EXAMPLES = {
    "question": "What is this?",
    "expression": "the red square",
    "caption": "a red square beside a circle",
}
BEST = 5  # answers or candidates that are shown


@dataclass
class PredictConfig:
    """One text about one picture."""

    model: str = setting("outputs/vqa_tiny", "checkpoint folder")
    image: str = setting("", "picture")
    question: str = setting("", "what to ask")
    expression: str = setting("", 'what to find instead, such as "the red square"')
    caption: str = setting("", "what to compare the picture with instead")
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

    Call it for a question, :meth:`ground` for an expression, :meth:`match` for a caption. Which of
    them a checkpoint can do is written in it: one of ``task=vqa`` answers, one of
    ``task=grounding`` grounds, one of both tasks does both, one of ``task=retrieval`` matches.

    Args:
        folder: checkpoint folder.
        regions: folder of a region store, for pictures whose regions are already there.

    Raises:
        FileNotFoundError: no checkpoint.
        ValueError: one that can do none of them.

    Example:
        >>> predictor = Predictor("outputs/vqa_tiny")  # doctest: +SKIP
        >>> predictor(open_picture("a.jpg"), "How many dogs are there?").answers  # doctest: +SKIP
        [('2', 0.93), ('1', 0.05), …]
        >>> predictor = Predictor("outputs/grounding_tiny")  # doctest: +SKIP
        >>> predictor.ground(open_picture("a.jpg"), "the left dog").grounded.box  # doctest: +SKIP
        [84.0, 22.1, 138.0, 76.4]
    """

    def __init__(self, folder: str | Path, regions: str | Path | None = None):
        self.folder = Path(folder)
        if not (self.folder / "config.json").is_file():
            raise FileNotFoundError(f"no checkpoint in {folder}; train one with: tbkin train")
        self.processor = TBKINProcessor.from_pretrained(self.folder)
        self.model = _model_class(self.folder).from_pretrained(self.folder).eval()
        self.store = RegionStore(regions) if regions else None
        if self.store is not None:
            check_fingerprint(self.processor.fingerprint, self.store.fingerprint, str(regions))

    def __call__(self, image: Image.Image, question: str, image_id: str = "") -> Evidence:
        """Answer, with all the evidence: :meth:`explain`, and :meth:`masked_views` of what matters.

        Args:
            image: RGB.
            question: any text.
            image_id: finds the picture's regions in the store or in the detector's files.

        Raises:
            ValueError: a model that answers no questions, or an empty question.
        """
        self.check_asked("question", question)
        return self._in_full(self.explain, image, question, image_id)

    def ground(self, image: Image.Image, expression: str, image_id: str = "") -> Evidence:
        """Find what an expression means, with all the evidence, as for a question.

        Args:
            image: RGB.
            expression: any text, such as "the red square on the left".
            image_id: finds the picture's regions in the store or in the detector's files.

        Returns:
            With ``grounded``: the box, and the regions' probabilities.

        Raises:
            ValueError: a model that grounds no expressions, or an empty expression.
        """
        self.check_asked("expression", expression)
        return self._in_full(self.explain_box, image, expression, image_id)

    def match(self, image: Image.Image, caption: str, image_id: str = "") -> Evidence:
        """How well a caption fits, with all the evidence, as for a question.

        Args:
            image: RGB.
            caption: any text, such as "a red square beside a circle".
            image_id: finds the picture's regions in the store or in the detector's files.

        Returns:
            With ``match``: how likely picture and caption belong together, by the fused score.

        Raises:
            ValueError: a model that matches no captions, or an empty caption.
        """
        self.check_asked("caption", caption)
        return self._in_full(self.explain_match, image, caption, image_id)

    def check_asked(self, kind: str, text: str) -> None:
        """Raise ``ValueError`` unless the model can be asked this.

        Args:
            kind: of the text: a key of ``ASKED``.
            text: any text.
        """
        able = [one for one, task in ASKED.items() if type(self.model) in _models(task)]
        if kind not in able:
            learned = JUDGED if kind == "caption" else f"task={ASKED[kind]}"
            raise ValueError(
                f"{self.folder} holds a {type(self.model).__name__}, which takes {able[0]}s only: "
                f"{able[0]}=…; for a model that takes {kind}s: tbkin train {learned} "
                f"init_from={self.folder}"
            )
        if not text.strip():
            example = f'{kind}="{EXAMPLES[kind]}"'
            raise ValueError(f"the {kind} is empty; write something: {example}")
        if kind == "caption":
            check_judge(self.model)

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

    def explain(self, image: Image.Image, regions: Regions, question: str) -> Evidence:
        """Answer a question about given regions, and say what decided; one run of the model."""
        self.check_asked("question", question)
        run = run_model(self.model, self.processor, regions, question)
        probabilities = run.outputs.logits[0].sigmoid()
        best = probabilities.topk(min(BEST, len(probabilities)))
        names = [self.model.config.id2label[place] for place in best.indices.tolist()]
        answers = list(zip(names, best.values.tolist(), strict=True))
        return Evidence(image, question, answers=answers, **self._trace(run, 0))

    def explain_box(self, image: Image.Image, regions: Regions, expression: str) -> Evidence:
        """Ground an expression among given regions, and say what decided; one run of the model.

        The box is the one that ``tbkin eval task=grounding`` scores.

        Raises:
            ValueError: a model or a text as in :meth:`ground`, or no region to choose.
        """
        self.check_asked("expression", expression)
        if not len(regions) and self.model.config.grounding_box != "direct":
            raise ValueError(
                f"picture {regions.image_id or 'without a name'} has no regions to choose among; "
                "give some with regions=DIR, or take another detector."
            )
        run = run_model(self.model, self.processor, regions, expression)
        (box,) = predicted_boxes(run.outputs, run.batch).tolist()
        if run.outputs.box_logits is None:  # said directly, from the first token's state
            return Evidence(image, expression, grounded=GroundedBox(box), **self._trace(run, 0))
        probabilities = run.outputs.box_logits[0].float().softmax(dim=0)
        chosen = run.batch["input_ids"].shape[1] + int(probabilities.argmax())
        grounded = GroundedBox(box, probabilities.tolist())
        return Evidence(image, expression, grounded=grounded, **self._trace(run, chosen))

    def explain_match(self, image: Image.Image, regions: Regions, caption: str) -> Evidence:
        """Judge a caption of given regions, and say what decided; one run of the model.

        The probability is the one that ``tbkin eval task=retrieval rerank=k`` orders pairs by.

        Raises:
            ValueError: a model or a text as in :meth:`match`.
        """
        self.check_asked("caption", caption)
        run = run_model(self.model, self.processor, regions, caption)
        probability = run.outputs.match_logits[0].double().softmax(dim=0)[1].item()
        matched = MatchedPicture(probability)
        return Evidence(image, caption, matched=matched, **self._trace(run, 0))

    def masked_views(
        self, regions: Regions, text: str, words: list[int], places: list[int]
    ) -> list[MaskedView]:
        """:func:`tbkin.tracing.masked_views` of this model."""
        return masked_views(self.model, self.processor, regions, text, words, places)

    def _in_full(
        self,
        explain: Callable[[Image.Image, Regions, str], Evidence],
        image: Image.Image,
        text: str,
        image_id: str,
    ) -> Evidence:
        """Add the masked views of the words and regions that the page shows."""
        regions = self.regions(image, image_id)
        evidence = explain(image, regions, text)
        maskable = self.processor.tokenizer.mask_token is not None
        words = content_words(evidence.graph, evidence.attention) if maskable else []
        places = shown_regions(evidence)[:MOST_REGIONS]
        evidence.masked = self.masked_views(regions, text, words[:MOST_WORDS], places)
        return evidence

    def _trace(self, run: Run, position: int) -> dict[str, Any]:
        return trace(self.model, self.processor, run, position)

    @cached_property
    def _detector(self) -> Any:
        detector = build_detector(self.processor.detector)
        if self.processor.fingerprint:
            found = fingerprint_of(detector)
            check_fingerprint(self.processor.fingerprint, found, "the detector of the checkpoint")
        return detector


def _models(task: str) -> set[type[TBKINPreTrainedModel]]:
    """The models that learn a task, alone or with others."""
    return {row.model for name, row in TASKS.items() if task == name or task in row.parts}


def _model_class(folder: Path) -> type[TBKINPreTrainedModel]:
    """The class of a checkpoint that can be asked something.

    Raises:
        ValueError: it can be asked nothing.
    """
    models = {model.__name__: model for task in ASKED.values() for model in _models(task)}
    made = (TBKINConfig.from_pretrained(folder).architectures or ["model of no known task"])[0]
    if made not in models:
        raise ValueError(
            f"{folder} holds a {made}, which answers no questions, grounds no expressions and "
            f"matches no captions; train it further: "
            f"tbkin train task={' or '.join(ASKED.values())} init_from={folder}"
        )
    return models[made]


def main(arguments: list[str]) -> None:
    """Answer one question, ground one expression, or match one caption."""
    config = load_config(PredictConfig, arguments, __doc__)
    asked = [kind for kind in ASKED if getattr(config, kind)]
    if not config.image or len(asked) != 1:
        wanted = ", ".join(f'{kind}="…"' for kind in ASKED)
        raise ValueError(f"tbkin predict needs image=FILE, and one of {wanted}.")
    disable_progress_bar()  # of transformers: a checkpoint is read in a blink
    if config.attention:
        check_attention_path(Path(config.attention))
    image, image_id = open_picture(config.image), image_number(Path(config.image))
    predictor = Predictor(config.model, config.regions or None)
    ask = {"question": predictor, "expression": predictor.ground, "caption": predictor.match}
    evidence = ask[asked[0]](image, getattr(config, asked[0]), image_id)
    if config.report:
        write_report(Path(config.report), [evidence], evidence.text)
    if config.attention:
        save_attention(Path(config.attention), evidence.attention)
    if config.json:
        sys.stdout.write(json.dumps(as_json(evidence)) + "\n")
        return
    lines = [*_result_lines(evidence), *_kept_lines(evidence)]
    if config.report:
        lines.append(f"report: {config.report}")
    if config.attention:
        lines.append(f"attention: {config.attention}")
    sys.stdout.write("\n".join(lines) + "\n")


def _result_lines(evidence: Evidence) -> list[str]:
    """The answers; or the box and the candidates; or how well the caption fits."""
    if evidence.matched is not None:
        return [f"{evidence.matched.probability:6.1%}  picture and caption belong together"]
    if evidence.grounded is None:
        return [f"{probability:6.1%}  {answer}" for answer, probability in evidence.answers]
    sides = " ".join(f"{side:.1f}" for side in evidence.grounded.box)
    lines = [f"box: {sides}  (left, top, right, bottom in pixels)"]
    for region, probability in evidence.grounded.best(BEST):
        lines.append(f"{probability:6.1%}  {described(evidence.graph, region)}")
    if not evidence.grounded.probabilities:
        lines.append("the model says the box directly; it ranks no candidates")
    return lines


def _kept_lines(evidence: Evidence) -> list[str]:
    """What the thresholds kept."""
    lines = [
        f"kept: {_mean(evidence.attention_kept):.0%} of the attention, "
        f"{evidence.nodes_kept:.0%} of the nodes, {evidence.edges_kept:.0%} of the edges"
    ]
    lines += (f"  {line}" for line in evidence.attention.lines())
    for layer, heads in enumerate(evidence.attention_thresholds or [], start=1):
        if heads is not None:
            said = " ".join(f"{threshold:.3g}" for threshold in heads)
            lines.append(f"  layer {layer}: learned thresholds of the heads {said}")
    return lines


def as_json(evidence: Evidence) -> dict[str, Any]:
    """The evidence as plain JSON values, without the picture.

    Returns:
        ``question`` and ``answers``; or ``expression``, ``box`` (xyxy pixels) and ``candidates``,
        the best five with ``region`` (its number in the graph), ``name``, ``box``, ``probability``;
        or ``caption`` and ``probability``. Then what all have.
    """
    graph = evidence.graph
    if evidence.matched is not None:
        result = {"caption": evidence.text, "probability": evidence.matched.probability}
    elif evidence.grounded is None:
        result = {
            "question": evidence.text,
            "answers": [
                {"answer": answer, "probability": probability}
                for answer, probability in evidence.answers
            ],
        }
    else:
        nodes = graph.of_type("region")
        result = {
            "expression": evidence.text,
            "box": evidence.grounded.box,
            "candidates": [
                {
                    "region": region,
                    "name": described(graph, region),
                    "box": list(graph.nodes[nodes[region]].box),
                    "probability": probability,
                }
                for region, probability in evidence.grounded.best(BEST)
            ],
        }
    return {
        **result,
        "attention_kept": evidence.attention_kept,
        "attention_blocks": [
            dict(zip(evidence.attention.blocks, shares, strict=True))
            for shares in evidence.attention.shares()
        ],
        "attention_thresholds": evidence.attention_thresholds,
        "nodes_kept": evidence.nodes_kept,
        "edges_kept": evidence.edges_kept,
        "graph": graph.to_dict(),
        "node_relevance": evidence.node_relevance,
        "node_kept": evidence.node_kept,
        "edge_kept": evidence.edge_kept,
    }


def _mean(values: list[float]) -> float:
    return sum(values) / max(1, len(values))


if __name__ == "__main__":
    from tbkin.config import run_command

    sys.exit(run_command(main))
