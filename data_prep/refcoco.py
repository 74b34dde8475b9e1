"""Referring expressions, ready to train on: ``tbkin prep refcoco data.root=DIR``.

Reads RefCOCO, RefCOCO+ and RefCOCOg from the official files (``refs(unc).p``, ``instances.json``)
or as UNITER, MDETR, SeqTR, ALBEF and X-VLM wrote them, in ``data.root`` or at most two folders
down. Splits have names of their own: refcoco_unc, refcoco_google, refcoco+_unc, refcocog_umd,
refcocog_google. Writes ``output`` (``prepared/<name of root>-<data set>`` by default).

The candidates that a model chooses among come from ``detector``:

  annotated   the annotations of instances.json (the protocol with ground-truth boxes)
  detections  COCO results, MAttNet's dets.json or ALBEF's, with detector.boxes=[FILE]
  detected    a detector's output in COCO's layout
  onnx, huggingface, precomputed, grid   as in tbkin prep regions

or from a region store that is there already (``regions=DIR``). What they are is printed and kept as
``box_source``, with the share of expressions whose thing a candidate covers (``oracle@0.5``).

Examples:
  tbkin prep refcoco data.root=refer dataset=refcoco_unc data.images=[train2014] detector=annotated
  tbkin prep refcoco data.root=refer dataset=refcocog_umd data.images=[train2014]
      detector=detections detector.boxes=[res101_coco_minus_refer_notime_dets.json]
  tbkin prep refcoco data.root=refer dataset=unc+ regions=prepared/refer-refcoco_unc/regions
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from data_prep.official import (
    Row,
    box_source,
    check_published,
    is_tiny,
    link_folder,
    pictures_named,
    with_boxes,
)
from data_prep.pretraining import check_detector, check_regions
from data_prep.regions import extract, make_way
from tbkin.boxes import box_iou
from tbkin.config import load_config, setting
from tbkin.data.features import RegionStore
from tbkin.data.prepared import SCHEMA, default_output, read_record, resolved
from tbkin.data.refcoco_files import MEND, Expressions
from tbkin.data.refcoco_find import LAYOUTS, read_expressions, said_otherwise
from tbkin.detectors import DetectorSettings, short_detector
from tbkin.files import files_record, new_folder, put_in_place, write_json, write_text

COVERS = 0.5  # IoU at which a candidate covers a thing


@dataclass
class RefCOCOFiles:
    """Where the expressions and the pictures are."""

    root: str = setting("", "folder of the data set, or one that holds it")
    images: list[str] = setting([], "folders of pictures (COCO's train2014); empty: root")
    layout: str = setting("auto", f"whose files: {', '.join(LAYOUTS)}; auto: what is there")


@dataclass
class RefCOCOConfig:
    """One run of the step."""

    data: RefCOCOFiles = field(default_factory=RefCOCOFiles)
    dataset: str = setting(
        "", "refcoco_unc, refcocog_umd, …, or unc, unc+, gref_umd, gref; not set: the only one"
    )
    output: str = setting("", "folder to write; not set: prepared/<name of root>-<data set>")
    overwrite: bool = setting(False, "replace a folder that is there")
    official: bool = setting(False, "refuse files that do not have the published numbers")
    regions: str = setting(
        "", "region store that holds the pictures already, as FOLDER/regions of another data set"
    )
    detector: DetectorSettings = field(default_factory=DetectorSettings)


def main(arguments: list[str]) -> None:
    """Parse the settings and prepare."""
    config = load_config(RefCOCOConfig, short_detector(arguments), __doc__)
    root = config.data.root
    if not root:
        raise ValueError("tbkin prep refcoco needs data.root=DIR.")
    found = read_expressions(root, config.dataset, config.data.layout)
    other_name = said_otherwise(config.dataset, found.dataset)
    if other_name:
        sys.stdout.write(f"{other_name}\n")
    output = Path(config.output) if config.output else default_output(root, found.dataset)
    if not make_way(output, config.overwrite, root):
        return
    check_published(
        found.official_counts(),
        found.dataset,
        "expressions",
        MEND,
        config.official,
        quiet=is_tiny(root),
    )
    if config.regions:
        store = Path(config.regions)
        detector = settings_of(store, found, config.detector)
    else:
        settings = with_boxes(with_candidates(config.detector, found), root)
        detector = asdict(settings)
        pictures = pictures_named(found.pictures, config.data.images or [root])
        store = output.with_name(f"{output.name}.regions")  # the long part, which can be resumed
        if extract(pictures, settings, store, overwrite=config.overwrite) is None:
            sys.stdout.write(f"{store}: this process has done its share\n")
            return

    check_sizes(found, RegionStore(store))
    record = {
        "schema": SCHEMA,
        "task": "grounding",
        "dataset": found.dataset,
        "layout": found.layout,
        "root": resolved(root),
        "files": files_record(found.files),
        "splits": {
            split: counts_of(rows, RegionStore(store)) for split, rows in found.splits.items()
        },
        "official_counts": found.official_counts(),
        "pictures_shared_with_train": shared_pictures(found.splits),
        "detector": detector,
        "box_source": box_source(detector, RegionStore(store), found.pictures),
    }
    with new_folder(output) as unfinished:
        for split, rows in found.splits.items():
            lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
            write_text(unfinished / f"{split}.jsonl", lines)
        write_json(unfinished / "dataset.json", record)
        if config.regions:
            link_folder(store, unfinished / "regions")
        else:
            put_in_place(store, unfinished / "regions")
    _report(output, record)


def check_sizes(found: Expressions, store: RegionStore) -> None:
    """Raise ValueError if a picture has other pixels than those that the boxes are told in."""
    for number, told in found.sizes.items():
        regions = store.without_features(number)
        size = (regions.width, regions.height)
        if size != told:
            turned = "; is one of them turned (EXIF)?" if size == told[::-1] else ";"
            raise ValueError(
                f"picture {number} ({found.pictures[number]}) is {size[0]} x {size[1]} pixels, and "
                f"the boxes of {found.dataset} are told in {told[0]} x {told[1]}{turned} "
                "resized pictures would give wrong labels and scores: name the original ones with "
                "data.images=[DIR], and overwrite=true."
            )


def with_candidates(detector: DetectorSettings, found: Expressions) -> DetectorSettings:
    """Annotated boxes are those of the data set's own ``instances.json``, where it has one."""
    instances = found.files.get("instances")
    in_cocos_layout = instances and found.layout in ("refer", "albef")
    if in_cocos_layout and detector.name == "annotated" and not detector.boxes:
        detector.boxes = [str(instances)]
    return detector


def settings_of(store: Path, found: Expressions, given: DetectorSettings) -> dict[str, Any]:
    """The settings of the detector that a store was made with, checked to hold every picture."""
    check_regions(store, found.splits)
    if (store.parent / "dataset.json").is_file():  # of the folder that the store was made for
        return read_record(store.parent)["detector"]
    settings = with_boxes(with_candidates(given, found), "")
    check_detector(store, settings)
    return asdict(settings)


def counts_of(rows: list[Row], store: RegionStore) -> dict[str, Any]:
    """How much a split holds, and how much of it a choice among the candidates can get right."""
    by_picture: dict[int, list[list[float]]] = {}
    for row in rows:
        by_picture.setdefault(row["image_id"], []).append(row["box"])
    covered = 0
    for image_id, boxes in by_picture.items():
        iou = box_iou(torch.tensor(boxes), store.without_features(image_id).boxes)
        covered += int((iou >= COVERS).any(dim=1).sum())
    return {
        "sentences": len(rows),
        "refs": len({row["ref_id"] for row in rows}),
        "pictures": len(by_picture),
        f"oracle@{COVERS}": covered / len(rows),
    }


def shared_pictures(splits: dict[str, list[Row]]) -> dict[str, int]:
    """Split -> how many of its pictures are in train as well, where any are."""
    train = {row["image_id"] for row in splits.get("train", [])}
    shared = {
        split: len(train & {row["image_id"] for row in rows})
        for split, rows in splits.items()
        if split != "train"
    }
    return {split: count for split, count in shared.items() if count}


def _report(output: Path, record: dict[str, Any]) -> None:
    lines = [f"{output}: {record['dataset']} ({LAYOUTS[record['layout']]})"]
    for split, counts in record["splits"].items():
        lines.append(
            f"  {split:<6}{counts['sentences']:>8} expressions {counts['refs']:>7} references "
            f"{counts['pictures']:>7} pictures, candidates cover "
            f"{100 * counts[f'oracle@{COVERS}']:.2f} % of the expressions"
        )
    lines.append(f"  boxes: {record['box_source']}")
    for split, count in record["pictures_shared_with_train"].items():
        lines.append(f"  {count} pictures of {split} are in train as well")
    sys.stdout.write("\n".join(lines) + "\n")
