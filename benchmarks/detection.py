"""How good and how fast is a detector? ``python benchmarks/detection.py model=FILE images=DIR``.

Runs it over the pictures of a COCO instances file, on one core, and prints AP by pycocotools and
milliseconds a picture, from JPEG file to regions with their features; as a table, then as JSON.
``images`` may hold an ``index.json`` (a list of ``{"image_id", "file"}``) for pictures that lie
elsewhere; otherwise each lies at its ``file_name``.
"""

from __future__ import annotations

import contextlib
import json
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tbkin.config import help_text, load_config, run_command, setting
from tbkin.detectors.huggingface import HuggingFaceDetector
from tbkin.detectors.pixels import open_picture
from tbkin.detectors.yolox import OnnxDetector
from tbkin.graphs.regions import Regions

STATS = ("AP", "AP50", "AP75", "AP small", "AP medium", "AP large")


@dataclass
class DetectionConfig:
    """What to measure."""

    model: str = setting("", "ONNX file in YOLOX's layout, or a transformers folder or hub id")
    images: str = setting("", "folder of the pictures")
    instances: str = setting("", "COCO instances file; default: the one in IMAGES/annotations")
    threshold: float = setting(0.01, "least score; AP wants the weak boxes too")
    nms: float = setting(0.65, "IoU above which the weaker box goes (0.65: YOLOX's evaluation)")
    max_regions: int = setting(100, "boxes a picture; AP counts 100")
    features: bool = setting(True, "compute region features as well")
    limit: int = setting(0, "only so many pictures; 0 takes all")


def main(arguments: list[str]) -> None:
    """Measure and print."""
    if "--help" in arguments:
        sys.stdout.write(help_text(__doc__, DetectionConfig) + "\n")
        return
    config = load_config(DetectionConfig, arguments)
    if not config.model or not config.images:
        raise ValueError("benchmarks/detection.py needs model=FILE and images=DIR.")
    torch.set_num_threads(1)
    folder = Path(config.images)
    truth = json.loads(find_instances(folder, config.instances).read_text(encoding="utf-8"))
    if config.limit:
        truth["images"] = truth["images"][: config.limit]
        kept = {entry["id"] for entry in truth["images"]}
        truth["annotations"] = [a for a in truth["annotations"] if a["image_id"] in kept]
    paths = find_paths(folder, truth["images"])
    detector = build(config)
    detector(open_picture(next(iter(paths.values()))), "")  # the first call warms up
    found, seconds = [], []
    worked = time.process_time()
    for image_id, path in paths.items():
        began = time.perf_counter()
        regions = detector(open_picture(path), str(image_id))
        seconds.append(time.perf_counter() - began)
        found += as_coco(regions, image_id, truth["categories"])
    worked = time.process_time() - worked
    result: dict[str, Any] = {
        "pictures": len(paths),
        "annotations": len(truth["annotations"]),
        **average_precision(truth, found),
        "ms a picture, median": 1000 * statistics.median(seconds),
        "ms a picture, mean": 1000 * statistics.fmean(seconds),
        # What the processor worked, also where other programs wanted it meanwhile.
        "ms of processor, mean": 1000 * worked / len(paths),
        "boxes a picture": len(found) / len(paths),
    }
    for name, value in result.items():
        print(f"{name:22} {value:8.3f}" if isinstance(value, float) else f"{name:22} {value:8}")
    settings = {"policy": detector.policy, "extractor": detector.extractor}
    print(json.dumps(result | settings | {"weights": detector.weights, "threads": 1}, indent=1))


def find_instances(folder: Path, given: str) -> Path:
    """The file given, or the only ``instances*.json`` of ``folder/annotations``."""
    if given:
        if not Path(given).is_file():
            raise FileNotFoundError(f"no instances file {given}.")
        return Path(given)
    files = sorted((folder / "annotations").glob("instances*.json"))
    if len(files) != 1:
        raise ValueError(f"{folder}/annotations has {len(files)} instances files; set instances=.")
    return files[0]


def find_paths(folder: Path, images: list[dict[str, Any]]) -> dict[int, Path]:
    """Image id -> picture."""
    index = folder / "index.json"
    if not index.is_file():
        return {entry["id"]: folder / entry["file_name"] for entry in images}
    listed = json.loads(index.read_text(encoding="utf-8"))
    files = {int(entry["image_id"]): folder / entry["file"] for entry in listed}
    return {entry["id"]: files[entry["id"]] for entry in images}


def build(config: DetectionConfig) -> OnnxDetector | HuggingFaceDetector:
    """The detector of the kind that the model's name shows."""
    limits = config.threshold, config.nms, config.max_regions
    if config.model.endswith(".onnx"):
        features = "auto" if config.features else "none"
        return OnnxDetector(config.model, *limits, features=features)
    return HuggingFaceDetector(config.model, *limits, "map" if config.features else "none")


def as_coco(
    regions: Regions, image_id: int, categories: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Regions as COCO results; labels that the file has no category of are left out."""
    numbers = {entry["name"]: entry["id"] for entry in categories}
    return [
        {
            "image_id": image_id,
            "category_id": numbers[label],
            "bbox": [left, top, right - left, bottom - top],
            "score": score,
        }
        for (left, top, right, bottom), label, score in zip(
            regions.boxes.tolist(), regions.labels, regions.scores, strict=True
        )
        if label in numbers
    ]


def average_precision(truth: dict[str, Any], found: list[dict[str, Any]]) -> dict[str, float]:
    """COCO's box AP (IoU 0.50 to 0.95, 100 boxes a picture) and its parts, in [0, 1]."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    if not found:
        return dict.fromkeys(STATS, 0.0)
    with contextlib.redirect_stdout(sys.stderr):  # it prints as it goes
        official = COCO()
        official.dataset = truth
        official.createIndex()
        evaluation = COCOeval(official, official.loadRes(found), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return dict(zip(STATS, map(float, evaluation.stats), strict=False))


if __name__ == "__main__":
    sys.exit(run_command(main))
