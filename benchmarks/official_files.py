"""From official files to a table of scores: ``python benchmarks/official_files.py root=DIR``.

``root`` holds ``refer/{refcoco,refcoco+,refcocog}``, ``vqa/`` and pictures, as the authors publish
them or a cut of them. Expressions are prepared with each box source, a model is trained on the
training part of RefCOCO, and every split is scored: the model, beside what its candidates allow
(oracle) and what choosing blindly gives (a random one, the largest). Questions likewise, beside the
commonest answer. Prints one table, which says of each row how it was made, and writes
``official_files.json``. On a cut the scores mean nothing; that everything runs, and the oracle, do.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import data_prep.refcoco
import data_prep.vqa
from tbkin.config import load_config, run_command, setting
from tbkin.evaluation import EvalConfig, EvalData, evaluate_checkpoint
from tbkin.files import write_json
from tbkin.train import main as train

DATASETS = ("refcoco_unc", "refcoco+_unc", "refcocog_umd")
LEARNED_FROM = "refcoco_unc"
COLUMNS = (
    "data", "split", "boxes", "items", "model", "oracle", "random", "largest", "commonest answer",
    "rule", "sha256",
)  # fmt: skip


@dataclass
class OfficialFilesConfig:
    """What is run."""

    root: str = setting("", "folder with refer/ and vqa/")
    images: list[str] = setting([], "folders of pictures; empty: root")
    yolox: str = setting("", "YOLOX as ONNX, for detected boxes; empty: annotated boxes only")
    output: str = setting(
        "outputs/official_files", "folder for prepared data, models and the table"
    )
    epochs: int = setting(10, "passes over the training part")

    def __post_init__(self) -> None:
        """Check what cannot be guessed."""
        if not self.root:
            raise ValueError("root is missing; add root=DIR, a folder with refer/ and vqa/.")


def main(arguments: list[str]) -> None:
    """Prepare, train, score, print."""
    config = load_config(OfficialFilesConfig, arguments, __doc__)
    rows = []
    for name, detector in detectors(config).items():
        rows += grounding_rows(config, name, detector)
    rows += question_rows(config)
    write_json(Path(config.output) / "official_files.json", rows)
    sys.stdout.write(table(rows) + "\n")


def detectors(config: OfficialFilesConfig) -> dict[str, list[str]]:
    """Box source -> the words that name it."""
    found = {"annotated": ["detector=annotated"]}
    if config.yolox:
        found["yolox"] = ["detector=onnx", f"detector.model={config.yolox}"]
    return found


def grounding_rows(
    config: OfficialFilesConfig, name: str, detector: list[str]
) -> list[dict[str, Any]]:
    """Every split of the three data sets by one box source."""
    output, images = Path(config.output), ",".join(config.images or [config.root])
    prepared = {dataset: output / f"{dataset}-{name}" for dataset in DATASETS}
    for dataset, folder in prepared.items():
        data_prep.refcoco.main(
            [
                f"data.root={Path(config.root) / 'refer'}",
                f"dataset={dataset}",
                f"data.images=[{images}]",
                f"output={folder}",
                "overwrite=true",
                *detector,
            ]
        )
    model = output / f"model-{name}"
    train(
        [
            "task=grounding",
            f"data.root={prepared[LEARNED_FROM]}",
            f"output_dir={model}",
            f"epochs={config.epochs}",
        ]
    )
    rows = []
    for dataset, folder in prepared.items():
        for split in sorted(path.stem for path in folder.glob("*.jsonl")):
            if split != "train":
                report = score(model, folder, split, "grounding")
                rows.append(grounding_row(dataset, split, report))
    return rows


def grounding_row(dataset: str, split: str, report: dict[str, Any]) -> dict[str, Any]:
    """Accuracy at an IoU of 0.5 in per cent, of the model and of three ways to choose blindly."""
    found = {name: values["accuracy@0.5"] for name, values in report["candidates"].items()}
    found["model"] = report["accuracy@0.5"]
    return {
        "data": dataset,
        "split": split,
        "boxes": report["protocol"]["box_source"],
        "items": report["sentences"],
        **{name: 100 * value for name, value in found.items()},
        **made_by(report["protocol"]),
    }


def question_rows(config: OfficialFilesConfig) -> list[dict[str, Any]]:
    """The questions, with regions of a grid of pixels."""
    output, images = Path(config.output), ",".join(config.images or [config.root])
    prepared, model = output / "vqa", output / "model-vqa"
    words = [f"data.root={Path(config.root) / 'vqa'}", f"data.images=[{images}]"]
    data_prep.vqa.main([*words, f"output={prepared}", "detector=grid", "min_answer_count=2",
                       "overwrite=true"])  # fmt: skip
    train([f"data.root={prepared}", f"output_dir={model}", f"epochs={config.epochs}"])
    report = score(model, prepared, "val", "vqa")
    return [
        {
            "data": "VQA 2.0",
            "split": "val",
            "boxes": report["protocol"]["box_source"],
            "items": report["questions"],
            "model": report["overall"],
            "commonest answer": report["baselines"]["majority_answer"]["overall"],
            **made_by(report["protocol"]),
        }
    ]


def made_by(protocol: dict[str, Any]) -> dict[str, Any]:
    """Rule and hash for the table, and all of the protocol for the file."""
    rule = ", ".join(str(value) for value in protocol["rules"].values())
    return {"rule": rule, "sha256": protocol["sha256"][:8], "protocol": protocol}


def score(model: Path, folder: Path, split: str, task: str) -> dict[str, Any]:
    """What ``tbkin eval`` writes."""
    output = Path(model) / f"{folder.name}-{split}"
    words = {"model": str(model), "split": split, "task": task, "output": str(output)}
    return evaluate_checkpoint(EvalConfig(**words, data=EvalData(root=str(folder))))


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown; per cent, one place."""

    def cell(row: dict[str, Any], name: str) -> str:
        value = row.get(name, "")
        return f"{value:.1f}" if isinstance(value, float) else str(value)

    lines = [f"| {' | '.join(COLUMNS)} |", "|---|---|---|" + "--:|" * 6 + "---|---|"]
    lines += [f"| {' | '.join(cell(row, name) for name in COLUMNS)} |" for row in rows]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(run_command(main))
