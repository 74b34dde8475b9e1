"""Regions and features of pictures: ``tbkin prep regions images=DIR output=DIR detector=grid``.

Boxes come from a detector: ``grid`` (cells, for any picture), ``annotated`` (COCO instances),
``detected`` (a detector's output in the same layout, with its labels and scores), ``precomputed``
(bottom-up features in any of their layouts), ``huggingface`` (any transformers object detector)
or ``onnx`` (a file in YOLOX's layout). Features are the detector's own, else the regions' pixels.

A stopped run goes on where it was with the same command, and several processes share the pictures:
``accelerate launch --num_processes 4 -m data_prep regions …``.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Literal

from tbkin.config import load_config, setting
from tbkin.data.extraction import fingerprint_of, regions_of
from tbkin.data.features import IMAGES_A_SHARD, RegionStore, write_manifest, write_shard
from tbkin.data.prepared import check_root
from tbkin.detectors import Detector, DetectorSettings, build_detector, short_detector
from tbkin.detectors.grid import Grid
from tbkin.detectors.pixels import open_picture
from tbkin.detectors.precomputed import image_number
from tbkin.files import put_in_place
from tbkin.graphs.regions import Regions
from tbkin.resume import SETTINGS, check_settings, clean, this_process, write_shards

PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")
MANIFEST = "manifest.json"
GRID_NOTE = "grid"  # begins the note on a picture that got a grid instead of a detector's boxes
Unreadable = Literal["error", "skip"]


@dataclass
class RegionsConfig:
    """One run of the step."""

    images: str = setting("", "folder of pictures, at any depth, or one picture")
    output: str = setting("", "region store to write")
    overwrite: bool = setting(False, "replace a store that is there, begun or finished")
    ids: Literal["auto", "number", "name"] = setting(
        "auto",
        "image ids: the number at the end of the name, or the path below images without suffix; "
        "auto: numbers if every picture has one of its own",
    )
    unreadable: Unreadable = setting("error", "what a file gets that is no picture: error or skip")
    detector: DetectorSettings = field(default_factory=DetectorSettings)


def main(arguments: list[str]) -> None:
    """Parse the settings and write the store."""
    config = load_config(RegionsConfig, short_detector(arguments), __doc__)
    if not config.images or not config.output:
        raise ValueError("tbkin prep regions needs images=DIR and output=DIR.")
    output = Path(config.output)
    if not make_way(output, config.overwrite):
        return
    paths = find_pictures([Path(config.images)], config.ids)
    if not paths:
        raise FileNotFoundError(
            f"no pictures in {config.images}; looked for {', '.join(PICTURES)} at any depth"
            + (" whose names end in a number." if config.ids == "number" else ".")
        )
    count = extract(
        paths,
        config.detector,
        output,
        config.unreadable,
        overwrite=config.overwrite,
        mend="mend or remove the file, or add unreadable=skip",
    )
    if count is None:
        sys.stdout.write(f"{output}: this process has done its share\n")
    else:
        sys.stdout.write(f"{output}: regions of {count} pictures\n")


def extract(
    paths: Mapping[str, Path],
    settings: DetectorSettings,
    output: Path,
    unreadable: Unreadable = "error",
    *,
    overwrite: bool = False,
    mend: str = "mend the file",
) -> int | None:
    """Write the regions of some pictures; go on with what an earlier run of the same began.

    Args:
        paths: image id -> picture.
        settings: of the detector.
        output: the store to write; a finished one that was made with the same settings is taken as
            it is.
        unreadable: what happens to a file that is no picture.
        overwrite: forget what an earlier run began or finished; it is replaced when all is done.
        mend: what to do about a file that is no picture, for the message.

    Returns:
        The number of pictures; None where another process of this run goes on from here: the one
        that joined the shares, or the first when the store was there before.

    Raises:
        ValueError: what is there was begun with other settings.
    """
    detector = build_detector(settings)
    mark = fingerprint_of(detector)
    unfinished = output.with_name(f"{output.name}.unfinished")
    names = "\n".join(f"{image_id}\t{path.name}" for image_id, path in paths.items())
    wanted = {
        "fingerprint": mark,
        "detector": asdict(settings),
        "unreadable": unreadable,
        "pictures": len(paths),
        "names": sha256(names.encode()).hexdigest(),
    }
    index, _ = this_process()
    if (output / SETTINGS).is_file() and not overwrite:  # an earlier run, or quicker processes
        check_settings(output, wanted)
        return None if index else _count(output, len(paths))
    shards = write_shards(
        unfinished,
        paths.items(),
        lambda path, items: _write(path, items, detector, settings.missing, unreadable, mend),
        wanted,
        suffix=".safetensors",
        size=IMAGES_A_SHARD,
        overwrite=overwrite,
        unit="picture",
        total=len(paths),
    )
    if shards is None:
        return None
    own = output.with_name(f"{output.name}.joining-{index}-{os.getpid()}")
    try:
        write_manifest(own, shards, mark)
        (own / MANIFEST).replace(unfinished / MANIFEST)
        own.rmdir()
        unfinished.rename(own)  # of several processes that come this far, one succeeds
    except FileNotFoundError:
        shutil.rmtree(own, ignore_errors=True)
        if unfinished.exists():  # else another process was quicker
            raise
        return None
    clean(own)
    put_in_place(own, output)
    return _count(output, len(paths))


def find_pictures(
    folders: Iterable[Path], ids: Literal["auto", "number", "name"] = "number"
) -> dict[str, Path]:
    """Image id -> file, for every picture below some folders.

    A folder may hold an ``index.json``, a list of ``{"image_id", "file"}``, for pictures that lie
    elsewhere; ``file`` is relative to it. A picture may also be named by itself.

    Args:
        folders: where to look, at any depth.
        ids: ``number``: pictures whose name ends in a number, by that number, the first of equal
            ones; ``name``: by the path below the folder, without suffix; ``auto``: by number if
            every picture has one of its own, else by name.

    Raises:
        FileNotFoundError: a folder that is missing.
        ValueError: two pictures of one name.
    """
    indexed: dict[str, Path] = {}
    found: list[tuple[str, Path]] = []  # name, path
    for folder in folders:
        if folder.is_file():
            found.append((folder.stem, folder))
            continue
        if not folder.is_dir():
            raise FileNotFoundError(f"no picture folder {folder}.")
        index = folder / "index.json"
        if index.is_file():
            for entry in json.loads(index.read_text(encoding="utf-8")):
                indexed[str(entry["image_id"])] = folder / entry["file"]
        for path in sorted(folder.rglob("*")):
            if path.suffix.lower() in PICTURES:
                found.append((path.relative_to(folder).with_suffix("").as_posix(), path))
    if ids == "auto":
        numbers = [image_number(path) for _, path in found]
        ids = "number" if all(numbers) and len(set(numbers)) == len(numbers) else "name"
    if ids == "number":
        for _, path in found:
            if re.search(r"\d$", path.stem):
                indexed.setdefault(image_number(path), path)
        return indexed
    for name, path in found:
        if indexed.setdefault(name, path) != path:
            raise ValueError(
                f"{indexed[name]} and {path} would both have the id {name!r}; rename one, or give "
                "an index.json with [{image_id, file}]."
            )
    return indexed


def make_way(output: Path, overwrite: bool, root: str = "") -> bool:
    """Whether to write ``output``: not if it is there, unless ``overwrite``.

    Args:
        output: file or folder.
        overwrite: whether to replace it.
        root: of the official files, where ``output`` is a prepared folder.

    Raises:
        ValueError: a folder is there that was prepared from another root.
    """
    if output.exists() and not overwrite:
        if root and (output / "dataset.json").is_file():
            check_root(output, root)
        sys.stdout.write(f"{output} is there already; overwrite=true makes it again\n")
        return False
    return True


def _write(
    path: Path,
    items: Iterator[tuple[str, Path]],
    detector: Detector,
    missing: str,
    unreadable: Unreadable,
    mend: str,
) -> None:
    notes: dict[str, str] = {}
    write_shard(path, _regions(items, detector, missing, unreadable, mend, notes), notes)


def _regions(
    items: Iterator[tuple[str, Path]],
    detector: Detector,
    missing: str,
    unreadable: Unreadable,
    mend: str,
    notes: dict[str, str],
) -> Iterator[Regions]:
    for image_id, path in items:
        try:
            image = open_picture(path)
        except ValueError as error:
            if unreadable == "error":
                raise ValueError(
                    f"{error} What is done is kept: {mend}, and start the same command again."
                ) from error
            notes[image_id] = f"left out: {error}"
            continue
        try:
            yield regions_of(detector, image, image_id)
        except LookupError:
            if missing == "error" or detector.extractor:  # cells have no such features
                raise
            notes[image_id] = f"{GRID_NOTE}: the detector's files do not list it"
            yield regions_of(Grid(), image, image_id)


def _count(store: Path, pictures: int) -> int:
    """How many pictures a finished store has; stderr says what happened to the others."""
    manifest = RegionStore(store).manifest
    _tell(manifest["notes"], pictures)
    return manifest["images"]


def _tell(notes: dict[str, str], pictures: int) -> None:
    grids = sum(note.startswith(GRID_NOTE) for note in notes.values())
    if grids:
        sys.stderr.write(
            f"{grids} of {pictures} pictures are not in the detector's files; they got a "
            "grid (detector.missing=error refuses)\n"
        )
    if len(notes) > grids:
        left_out = [note for note in notes.values() if not note.startswith(GRID_NOTE)]
        sys.stderr.write(f"{len(left_out)} of {pictures} pictures {left_out[0]}\n")
