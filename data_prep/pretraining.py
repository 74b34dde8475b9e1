"""Captions and their pictures, ready to pre-train on: ``tbkin prep pretraining data.root=DIR``.

Finds COCO's caption files by their official names in ``data.root`` and the folders directly in it,
or takes each by its own key, in any layout of ``tbkin/data/captions.py``. Without a validation file
a share of the training pictures is held out. Parses the captions, counts what goes together in the
training captions, makes the regions (or takes those that are there: ``regions=DIR``). Writes
``output`` (``prepared/<name of root>-pretraining`` by default).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

from data_prep.official import (
    Row,
    box_source,
    hold_out,
    link_folder,
    official_file,
    pictures_of,
    with_boxes,
)
from data_prep.regions import extract, make_way
from tbkin.config import load_config, setting
from tbkin.data.captions import image_names, read_captions
from tbkin.data.extraction import fingerprint_of
from tbkin.data.features import RegionStore
from tbkin.data.prepared import SCHEMA, default_output, read_record, resolved
from tbkin.detectors import DetectorSettings, build_detector, short_detector
from tbkin.detectors.precomputed_names import image_number
from tbkin.files import files_record, new_folder, put_in_place, write_json, write_text
from tbkin.graphs.knowledge import build_prior, describe
from tbkin.graphs.scene_graph import SceneGraph, read_scene_graphs, write_scene_graphs
from tbkin.parsers import load_parser, parse_many, resolve_parser

FOUND = "file; if none is named, found in root by its official name"
SUBSETS = {  # split -> the official files' names for it, the first that is there counts
    "train": ("train2014", "train2017"),
    "val": ("val2014", "val2017"),
    "test": ("test2015", "test2017"),
}


@dataclass
class CaptionFiles:
    """Where the captions are."""

    root: str = setting("", "folder with the official files")
    images: list[str] = setting([], "folders of pictures; empty: root")
    train_captions: str = setting("", FOUND)
    val_captions: str = setting("", FOUND)
    test_captions: str = setting("", FOUND)


@dataclass
class PretrainingConfig:
    """One run of the step."""

    data: CaptionFiles = field(default_factory=CaptionFiles)
    output: str = setting("", "folder to write; not set: prepared/<name of root>-pretraining")
    overwrite: bool = setting(False, "replace a folder that is there")
    regions: str = setting(
        "", "region store that holds the pictures already, as FOLDER/regions of tbkin prep vqa"
    )
    detector: DetectorSettings = field(default_factory=DetectorSettings)
    parser: str = setting("auto", "who reads the captions; auto: the best there is")
    min_count: int = setting(2, "what fewer objects have together is left out of the prior")
    val_share: float = setting(0.2, "training pictures held out when there is no validation file")

    def __post_init__(self) -> None:
        """Check ranges."""
        if not 0 < self.val_share < 1:
            raise ValueError(f"val_share must be in (0, 1), got {self.val_share}.")
        if self.min_count < 1:
            raise ValueError(f"min_count must be >= 1, got {self.min_count}.")


def main(arguments: list[str]) -> None:
    """Parse the settings and prepare."""
    config = load_config(PretrainingConfig, short_detector(arguments), __doc__)
    named = any(value for key, value in asdict(config.data).items() if key != "root")
    if not config.data.root and not named:
        raise ValueError("tbkin prep pretraining needs data.root=DIR, or each file by its own key.")
    root = config.data.root
    output = Path(config.output) if config.output else default_output(root or ".", "pretraining")
    parser = resolve_parser(config.parser)
    if not make_way(output, config.overwrite, root):
        return
    files = find_files(config.data)
    splits = {split: read_split_captions(path, split) for split, path in files.items()}
    held_out = "val" not in splits
    if held_out:
        splits["train"], splits["val"] = hold_out(splits["train"], config.val_share)
    store = Path(config.regions)
    if config.regions:
        check_regions(store, splits)
    check_disjoint(splits)
    if config.regions:
        if (store.parent / "dataset.json").is_file():  # of the folder that the store was made for
            detector = read_record(store.parent)["detector"]
        else:
            settings = with_boxes(config.detector, root)
            check_detector(store, settings)
            detector = asdict(settings)
    else:
        pictures = pictures_of(splits, config.data.images or [root])
        settings = with_boxes(config.detector, root)
        detector = asdict(settings)
        store = output.with_name(f"{output.name}.regions")  # the long part, which can be resumed
        if extract(pictures, settings, store, overwrite=config.overwrite) is None:
            sys.stdout.write(f"{store}: this process has done its share\n")
            return

    wanted = {row["image_id"] for rows in splits.values() for row in rows}
    source = box_source(detector, RegionStore(store), wanted)
    with new_folder(output) as unfinished:
        for split, rows in splits.items():
            lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
            write_text(unfinished / f"{split}.jsonl", lines)
        prior = build_prior(write_graphs(unfinished / "graphs", splits, parser), config.min_count)
        prior.save(unfinished / "prior.json")
        record = {
            "schema": SCHEMA,
            "task": "pretraining",
            "root": resolved(root),
            "files": files_record({f"{split}_captions": path for split, path in files.items()}),
            "splits": {
                split: {
                    "captions": len(rows),
                    "pictures": len({row["image_id"] for row in rows}),
                }
                for split, rows in splits.items()
            },
            "val_held_out_from_train": held_out,
            "parser": parser,
            "prior": describe(prior),
            "detector": detector,
            "box_source": source,
        }
        write_json(unfinished / "dataset.json", record)
        if config.regions:
            link_folder(store, unfinished / "regions")
        else:  # last: what stops before it leaves the store
            put_in_place(store, unfinished / "regions")
    _report(output, record)


def find_files(data: CaptionFiles) -> dict[str, Path]:
    """Split -> file of captions, for those that are there.

    Raises:
        FileNotFoundError: a file that was named is missing, or no training captions are found.
    """
    given = {split: getattr(data, f"{split}_captions") for split in SUBSETS}
    files: dict[str, Path] = {}
    for split, subsets in SUBSETS.items():
        if given[split]:
            files[split] = Path(given[split])
            if not files[split].is_file():
                raise FileNotFoundError(f"data.{split}_captions: no file {given[split]}.")
        elif data.root and not any(given.values()):
            names = (f"captions_{subset}.json" for subset in subsets)
            found = (official_file(Path(data.root), name) for name in names)
            first = next((path for path in found if path is not None), None)
            if first is not None:
                files[split] = first
    if "train" not in files:
        names = " and ".join(f"captions_{subset}.json" for subset in SUBSETS["train"])
        where = data.root or "(data.root is not set)"
        looked = f"in {where}: looked for {names} there and one folder down"
        if any(given.values()):
            looked = "named, and once a file is named none is looked for"
        raise FileNotFoundError(
            f"no training captions {looked}. Name the file with data.train_captions=FILE."
        )
    return files


def read_split_captions(path: Path, split: str) -> list[Row]:
    """Captions of a file; of a file that names its splits (Karpathy's), those of one.

    Args:
        path: in any layout of ``tbkin/data/captions.py``.
        split: "restval" counts as "train".

    Returns:
        ``caption_id`` (the file's own, else its place), ``image_id`` (the number that the picture
        is named by) and ``caption`` each, in file order; empty captions are left out.

    Raises:
        ValueError: no caption, one of a picture without a number, two of the same id.
    """
    rows: list[Row] = []
    seen = set()
    for place, row in enumerate(read_captions(path)):
        of_split = row.columns.get("split", split).replace("restval", "train")
        if of_split != split or not row.caption.strip():
            continue
        image_id = _number_of(image_names(row))
        if image_id is None:
            raise ValueError(f"{row.place}: the picture {image_names(row)} has no number.")
        own = row.columns.get("caption_id", "")
        caption_id = int(own) if own.isdecimal() else place
        if caption_id in seen:
            raise ValueError(f"{row.place}: caption_id {caption_id} occurs twice in {path}.")
        seen.add(caption_id)
        rows.append({"caption_id": caption_id, "image_id": image_id, "caption": row.caption})
    if not rows:
        raise ValueError(f"{path} holds no captions of split {split!r}; name another file.")
    return rows


def write_graphs(folder: Path, splits: dict[str, list[Row]], parser: str) -> Iterator[SceneGraph]:
    """Parse and write every split's captions; pass on the graphs of the training captions."""
    folder.mkdir()
    parse = load_parser(parser)

    def parsed(split: str) -> Iterable[SceneGraph]:
        graphs = parse_many(parse, (row["caption"] for row in splits[split]))
        total = len(splits[split])
        return tqdm(graphs, desc=f"captions, {split}", unit="caption", total=total, disable=None)

    for split in splits:
        path = folder / f"{split}.jsonl"
        write_scene_graphs(path, parsed(split))
        if split == "train":
            yield from read_scene_graphs(path)


def check_regions(store: Path, splits: dict[str, list[Row]]) -> None:
    """Raise LookupError unless a store holds every picture."""
    known = RegionStore(store)
    wanted = {row["image_id"] for rows in splits.values() for row in rows}
    missing = sorted(number for number in wanted if number not in known)
    if missing:
        raise LookupError(
            f"regions={store} lacks {len(missing)} of {len(wanted)} pictures (first: {missing[0]});"
            " leave regions= out to make the regions of all."
        )


def check_detector(store: Path, settings: DetectorSettings) -> None:
    """Raise ValueError unless a store's features are of the kind that a detector makes."""
    found, expected = RegionStore(store).fingerprint, fingerprint_of(build_detector(settings))
    if found != expected:
        raise ValueError(
            f"regions={store} were not made by detector={settings.name}: they have {found}, it "
            f"makes {expected}. Name the detector that made them, for new pictures need it too."
        )


def check_disjoint(splits: dict[str, list[Row]]) -> None:
    """Raise ValueError if a picture is both learned from and judged by."""
    seen = {row["image_id"] for row in splits["train"]}
    for split, rows in splits.items():
        shared = seen & {row["image_id"] for row in rows} if split != "train" else set()
        if shared:
            raise ValueError(
                f"{len(shared)} pictures of split {split} are in train as well (first: "
                f"{min(shared)}); files of different years overlap. Name files that belong "
                f"together: data.train_captions=FILE data.{split}_captions=FILE."
            )


def _number_of(names: list[str]) -> int | None:
    for name in names:
        number = image_number(Path(Path(name).name))
        if number.isdecimal():
            return int(number)
    return None


def _report(output: Path, record: dict[str, Any]) -> None:
    prior = record["prior"]
    lines = [
        f"{output}: prior of {prior['attributes']} attributes and {prior['relations']} relations "
        f"of {prior['objects']} objects, captions parsed by {record['parser']}"
    ]
    for split, counts in record["splits"].items():
        lines.append(
            f"  {split:<9}{counts['captions']:>8} captions {counts['pictures']:>7} pictures"
        )
    if record["val_held_out_from_train"]:
        lines.append("  val is held out from the training file, by picture")
    sys.stdout.write("\n".join(lines) + "\n")
