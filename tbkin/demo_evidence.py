"""Which answers, boxes and pictures the demo's page shows: some of each kind, right and wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor

from tbkin.data.prepared import read_split
from tbkin.data.retrieval import TRUE_OF
from tbkin.detectors.pixels import open_picture
from tbkin.evaluation import default_output
from tbkin.metrics.grounding_accuracy import score_boxes
from tbkin.metrics.vqa_accuracy import question_accuracy
from tbkin.predict import Predictor
from tbkin.reports_retrieval import RERANKED, SCORES
from tbkin.visualize import Evidence, MatchedPicture

RIGHT_ANSWERS, WRONG_ANSWERS = 5, 3
RIGHT_BOXES, WRONG_BOXES = 3, 2
RIGHT_PICTURES, WRONG_PICTURES = 3, 2


def answers_shown(model: Path, prepared: Path, world: Path) -> list[Evidence]:
    """Questions of each kind that a model answers rightly, and some wrongly; one a picture."""
    predictions = read(default_output(model, prepared, "test") / "predictions.json")
    answers = {row["question_id"]: row["answer"] for row in predictions}
    scored = [
        (row, question_accuracy(answers[row["question_id"]], row["answers"]), row["question_type"])
        for row in read_split(prepared, "test")
    ]
    predictor = Predictor(model, prepared / "regions")
    evidence = []
    for row, accuracy in some_of_each(scored, 0.9, RIGHT_ANSWERS, WRONG_ANSWERS):
        image = picture(world, row["image_id"])
        one = predictor(image, row["question"], str(row["image_id"]))
        one.truth, one.score = row["multiple_choice_answer"], accuracy
        evidence.append(one)
    return evidence


def boxes_shown(model: Path, prepared: Path, world: Path, split: str) -> list[Evidence]:
    """Expressions of different lengths whose box is right, and some whose box is not."""
    boxes = read(default_output(model, prepared, split) / "predictions.json")
    scored = []
    for row in read_split(prepared, split):
        sentence = row["sentence_id"]
        result = score_boxes({sentence: boxes[str(sentence)]}, {sentence: row})
        (length,) = result["per_length"]
        scored.append((row, result["mean_iou"], length))
    predictor = Predictor(model, prepared / "regions")
    evidence = []
    for row, _ in some_of_each(scored, 0.5, RIGHT_BOXES, WRONG_BOXES):
        image = picture(world, row["image_id"])
        one = predictor.ground(image, row["expression"], str(row["image_id"]))
        one.grounded.true_box = row["box"]
        evidence.append(one)
    return evidence


def pictures_shown(model: Path, prepared: Path, world: Path) -> list[Evidence]:
    """Captions of different lengths with the picture that they rank first, some right, some wrong.

    Right is every picture that the caption is true of. Behind a wrong one comes the best of the
    right ones. The ranking is that of ``tbkin eval``, which must have been there.
    """
    rows, true_of = read_split(prepared, "test"), read(prepared / TRUE_OF)
    images = list(dict.fromkeys(row["image_id"] for row in rows))
    scores = caption_scores(default_output(model, prepared, "test"))
    rankings, scored = {}, []
    for row, order in zip(rows, scores.argsort(dim=1, descending=True).tolist(), strict=True):
        ranking = rankings[row["caption_id"]] = [images[place] for place in order]
        right = float(ranking[0] in true_of[str(row["caption_id"])])
        scored.append((row, right, str(len(row["caption"].split()))))
    predictor = Predictor(model, prepared / "regions")
    evidence = []
    for row, _ in some_of_each(scored, 1.0, RIGHT_PICTURES, WRONG_PICTURES):
        ranking, true = rankings[row["caption_id"]], true_of[str(row["caption_id"])]
        best = min(ranking.index(image) for image in true) + 1
        for rank in sorted({1, best}):
            image = ranking[rank - 1]
            one = predictor.match(picture(world, image), row["caption"], str(image))
            one.matched = MatchedPicture(
                one.matched.probability,
                rank=rank,
                searched=len(images),
                true=image in true,
                true_rank=best,
            )
            evidence.append(one)
    return evidence


def caption_scores(folder: Path) -> Tensor:
    """(C, I), how an evaluation of retrieval ranks pictures for captions, by its last stage."""
    if (folder / RERANKED).is_file():
        return load_file(folder / RERANKED)["caption_scores"]
    return load_file(folder / SCORES)["scores"].T


def some_of_each(
    scored: list[tuple[dict[str, Any], float, str]], limit: float, right: int, wrong: int
) -> list[tuple[dict[str, Any], float]]:
    """Some rows of different kinds and pictures, the best first.

    Args:
        scored: (row with ``image_id``, score, kind) each.
        limit: right at this score and above.
        right: at most so many of the right ones.
        wrong: at most so many of the others.

    Returns:
        (row, score) each.
    """
    chosen: list[tuple[dict[str, Any], float]] = []
    kinds: dict[bool, set[str]] = {True: set(), False: set()}
    pictures: set[int] = set()
    for row, score, kind in scored:
        fitting = kinds[score >= limit]
        most = right if score >= limit else wrong
        if len(fitting) < most and kind not in fitting and row["image_id"] not in pictures:
            fitting.add(kind)
            pictures.add(row["image_id"])
            chosen.append((row, score))
    return sorted(chosen, key=lambda pair: -pair[1])


def read(path: Path) -> Any:
    """The content of a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


def picture(world: Path, image_id: int) -> Any:
    """A picture of the test split."""
    return open_picture(world / "images" / "test2015" / f"COCO_test2015_{image_id:012d}.jpg")
