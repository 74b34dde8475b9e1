"""What an evaluation of retrieval says: both directions, by both stages, strict and equivalent."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from torch import Tensor

from tbkin.data.retrieval import TRUE_OF, image_ids_of
from tbkin.metrics.recall import DIRECTIONS, retrieval_figures
from tbkin.metrics.relation import Relation
from tbkin.metrics.uni_modal import same_identity, sharing, uni_modal_figures

SCORES, RERANKED = "scores.safetensors", "reranked.safetensors"
TABLES = (SCORES, RERANKED)
"""Files that :func:`score_tables` may write."""


def ranking_of(rerank: str, scorer: str = "none") -> str:
    """What orders the items, in words, of ``Rules.rerank`` and ``Rules.scorer``."""
    first = "embeddings" if scorer == "none" else f"{scorer} scores"
    if not rerank:
        return first
    return "fused score" if rerank == "all" else f"{first}, best {rerank} again by fused score"


def retrieval_values(
    metric: Any, dataset: Any, root: Path, rules: Any, computed: dict[str, Any]
) -> dict[str, Any]:
    """What ``metrics.json`` says.

    Returns:
        ``image_to_text``, ``text_to_image`` and ``rsum`` as ``recall.retrieval_figures`` gives
        them, of the last stage; ``first_stage``, likewise, and ``second_stage``, its cost, where
        there are two; ``refined``, likewise, and what was chosen, where that was asked for;
        ``uni_modal``, as ``uni_modal.uni_modal_figures`` has it, where these heads have learned;
        ``equivalent``, all of it where the data say which captions are true of several pictures
        (then each of these is right); counts of pictures and captions.
    """
    scores, second = metric.scores(), computed.get("second")
    stages = {"": (scores, None)}
    if second is not None:
        last = (second.image_scores, second.caption_scores)
        stages = {"": last, "first_stage": stages[""]}
    refined = computed.get("refined")
    if refined is not None:
        stages["refined"] = (refined.image_scores, refined.caption_scores)
    uni = metric.uni_embeds()

    def figures(right: Relation) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, (of_images, of_captions) in stages.items():
            values = retrieval_figures(of_images, right, of_captions)
            found |= {name: values} if name else values
        return found

    values = figures(metric.right())
    values |= {"pictures": len(metric.image_identities), "captions": len(dataset)}
    equivalent = true_of(root, dataset)
    if equivalent is not None:
        values["equivalent"] = figures(equivalent)
    if uni is not None:
        own = (metric.image_identities, metric.caption_identities)
        values["uni_modal"] = uni_modal_figures(*uni, *(same_identity(ids) for ids in own))
        if equivalent is not None:
            values["equivalent"]["uni_modal"] = uni_modal_figures(*uni, *sharing(equivalent))
    if refined is not None:
        values["refined"] = {**refined.choice, **values["refined"]}
    if second is not None:
        values["second_stage"] = second.cost
    return values


def true_of(root: Path, dataset: Any) -> Relation | None:
    """Which captions are true of which pictures, (I, C); None where nobody knows."""
    path = root / TRUE_OF
    if not path.is_file():
        return None
    known = json.loads(path.read_text(encoding="utf-8"))
    if any(str(row["caption_id"]) not in known for row in dataset.rows):
        return None  # the training split's are not written
    places = {image: place for place, image in enumerate(image_ids_of(dataset))}
    lists = [
        [places[image] for image in known[str(row["caption_id"])] if image in places]
        for row in dataset.rows
    ]
    return Relation.of_lists(lists, len(places)).transposed()


def score_tables(metric: Any, computed: dict[str, Any]) -> dict[str, dict[str, Tensor]]:
    """File name -> tables by name, which ``tbkin score retrieval`` reads.

    ``scores`` (I, C) of the first stage, pictures by captions; where there is a second one, in
    another file ``image_scores`` (I, C), and ``caption_scores`` (C, I), captions by pictures.
    """
    tables = {SCORES: {"scores": metric.scores()[:].contiguous()}}
    second = computed.get("second")
    if second is not None:
        tables[RERANKED] = {
            "image_scores": second.image_scores.contiguous(),
            "caption_scores": second.caption_scores.contiguous(),
        }
    return tables


def retrieval_lines(report: dict[str, Any]) -> str:
    """Per cent, two places."""
    head = f"Retrieval in per cent, {report['pictures']} pictures, {report['captions']} captions"
    lines = [head, *_rows(report, "")]
    if "first_stage" in report:
        lines += _rows(report["first_stage"], "first stage alone: ")
    if "equivalent" in report:
        lines += _rows(report["equivalent"], "any true caption or picture counts: ")
    if "second_stage" in report:
        cost = report["second_stage"]
        share = cost["passes"] / cost["all_pairs"]
        which = "all" if cost["k"] == "all" else f"best {cost['k']}"
        lines.append(
            f"{which} looked at again: {cost['passes']:,} fused passes, {share:.2%} of "
            f"the {cost['all_pairs']:,} pairs, {cost['seconds']:.0f} s"
        )
    if "refined" in report:
        lines += _refined_rows(report)
    if "uni_modal" in report:
        lines += _uni_modal_rows(report["uni_modal"], "")
        known = report.get("equivalent", {}).get("uni_modal", {})
        lines += _uni_modal_rows(known, "any that share a truth count: ")
    return "\n".join(lines)


def _refined_rows(report: dict[str, Any]) -> list[str]:
    """What was chosen, and what came of it."""
    refined = report["refined"]
    tried = [rsum for rsums in refined["tried"].values() for rsum in rsums.values()]
    chosen = f"{refined['rule']}, chosen on {refined['chosen_on']['split']}"
    gain = f"rsum {max(tried):.2f} there, {tried[0]:.2f} with weight 0"
    if not refined["weight"]:
        return [f"refined by {chosen}: weight 0 is best ({gain}), so nothing changes"]
    title = f"refined by {refined['rule']}: "
    return [
        f"refined by {chosen}: weight {refined['weight']}, {refined['setting']} ({gain})",
        *_rows(refined, title),
    ]


def _uni_modal_rows(figures: dict[str, Any], title: str) -> list[str]:
    """A row a modality in which there is anything to find."""
    rows = []
    for way, values in figures.items():
        if not values["queries"]:
            continue
        asked = f"{values['queries']} asked, {values['left_out']} have nothing to find"
        shown = [f"{name} {values[name]:.2f}" for name in ("R@1", "R@5", "R@10")]
        rows.append(f"{title}{way.replace('_', ' ')}: {', '.join([*shown, asked])}")
    return rows


def _rows(figures: dict[str, Any], title: str) -> list[str]:
    """Both directions and the sum."""
    rows = []
    for direction in DIRECTIONS:
        shown = ", ".join(
            f"{name.replace('_', ' ')} {value:.2f}" for name, value in figures[direction].items()
        )
        rows.append(f"{title}{direction.replace('_', ' ')}: {shown}")
    return [*rows, f"{title}rsum: {figures['rsum']:.2f}"]
