"""The prepared folder of retrieval: what the steps ``retrieval`` and ``persons`` share."""

from __future__ import annotations

import hashlib
import json
import sys
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

from data_prep.official import (
    Row,
    box_source,
    check_published,
    hold_out,
    is_tiny,
    link_folder,
    pictures_named,
    with_boxes,
)
from data_prep.pretraining import check_detector, check_regions
from data_prep.regions import PICTURES, extract, make_way
from tbkin.config import setting
from tbkin.data.features import RegionStore, write_regions
from tbkin.data.prepared import SCHEMA, default_output, read_record, resolved
from tbkin.data.retrieval import TRUE_OF
from tbkin.data.retrieval_files import PicturesAndCaptions, Source
from tbkin.data.retrieval_legacy import BOX_SOURCE, fingerprint_of_features, regions_without_boxes
from tbkin.detectors import DetectorSettings
from tbkin.detectors.precomputed_names import image_number
from tbkin.files import file_hash, files_record, new_folder, put_in_place, write_json, write_text


@dataclass
class PictureFolders:
    """Where the data set and its pictures are."""

    root: str = setting("", "folder of the data set's files")
    images: list[str] = setting([], "folders of pictures; empty: root")


@dataclass
class FolderConfig:
    """What the steps have in common."""

    data: PictureFolders = field(default_factory=PictureFolders)
    dataset: str = setting("", "which data set, where root holds several; or what to call it")
    output: str = setting("", "folder to write; not set: prepared/<name of root>-<data set>")
    overwrite: bool = setting(False, "replace a folder that is there")
    official: bool = setting(False, "refuse files that do not have the published numbers")
    captions: str = setting(
        "",
        "captions of a picture that count: a number, or all; not set: 5 of COCO's and "
        "Flickr30k's, all of others",
    )
    val_share: float = setting(0.1, "of training held out when there is no validation split")
    regions: str = setting(
        "", "region store that holds the pictures already, as FOLDER/regions of another data set"
    )
    detector: DetectorSettings = field(default_factory=DetectorSettings)

    def __post_init__(self) -> None:
        """Check ranges."""
        number = self.captions.isdecimal() and int(self.captions) > 0
        if self.captions not in ("", "all") and not number:
            raise ValueError(f"captions must be a number >= 1, or all; got {self.captions!r}.")
        if not 0 < self.val_share < 1:
            raise ValueError(f"val_share must be in (0, 1), got {self.val_share}.")

    def limit(self) -> int | None:
        """``captions`` as :func:`~tbkin.data.retrieval_files.assemble` takes it."""
        if not self.captions:
            return None
        return 0 if self.captions == "all" else int(self.captions)


def prepare(found: PicturesAndCaptions, config: FolderConfig, restval: bool = True) -> None:
    """Write the prepared folder of a data set.

    Args:
        found: what was read.
        config: where it goes, and whose regions it gets.
        restval: whether COCO's training split was read with its part "restval".
    """
    root, source = config.data.root, found.source
    output = Path(config.output or default_output(root or ".", source.dataset or "retrieval"))
    if not make_way(output, config.overwrite, root):
        return
    if (output / "teachers").exists():
        raise ValueError(
            f"{output}/teachers holds teacher features, which overwrite=true would delete; name "
            "another folder with output=DIR, or delete or move them first."
        )
    official_counts = found.official_counts(restval)
    files = ", ".join(path.name for path in source.files.values())
    check_published(
        official_counts,
        source.dataset or files,
        "",
        "fetch the official files again",
        config.official,
        quiet=is_tiny(root),
    )
    found, held_out = with_validation(found, config.val_share)
    made = regions_for(found, config, output.with_name(f"{output.name}.regions"))
    if made is None:
        return
    store, detector, pictures = made
    truth = beside(source)
    record = {
        "schema": SCHEMA,
        "task": "retrieval",
        "dataset": source.dataset,
        "layout": source.layout,
        "root": resolved(root),
        "files": sources_record(source.files | truth),
        "splits": {
            split: caption_counts(rows, found.identities) for split, rows in found.splits.items()
        },
        "official_counts": official_counts,
        "captions_a_picture": found.captions or "all",
        "left_out": found.left_out,
        "identities": found.identities,
        "image_ids": found.numbered_by,
        "picture_ids": picture_collection(found, root),
        "val_held_out_from_train": held_out,
        "detector": detector,
        "box_source": source_of_boxes(detector, RegionStore(store), found.pictures),
    }
    with new_folder(output) as unfinished:
        for split, rows in found.splits.items():
            lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
            write_text(unfinished / f"{split}.jsonl", lines)
        write_json(
            unfinished / "pictures.json",
            {
                number: str(pictures[str(number)].resolve()) if str(number) in pictures else name
                for number, name in found.pictures.items()
            },
        )
        for path in truth.values():
            write_text(unfinished / TRUE_OF, path.read_text(encoding="utf-8"))
        write_json(unfinished / "dataset.json", record)
        if config.regions:
            link_folder(store, unfinished / "regions")
        else:  # last: what stops before it leaves the store
            put_in_place(store, unfinished / "regions")
    _report(output, record)


def picture_collection(found: PicturesAndCaptions, root: str) -> str:
    """Whose numbers the image ids are, as ``tbkin/data/picture_ids.py`` names them.

    "coco" for COCO's own; the data set's name where its pictures' names say the numbers; else they
    mean something in these files only, and the collection is called after them.
    """
    source = found.source
    own = source.layout != "legacy" and found.numbered_by != "place"  # legacy numbers count lines
    if source.dataset == "coco" and own:
        numbers = ((image_number(Path(name)), n) for n, name in found.pictures.items() if name)
        if all(number == str(n) for number, n in numbers):
            return "coco"
    if source.dataset not in ("", "coco") and found.numbered_by == "name":
        return source.dataset
    where = Path(root) if root else next(iter(source.files.values())).parent
    return f"{source.dataset or where.resolve().name} ({source.layout})"


def beside(source: Source) -> dict[str, Path]:
    """What stands beside Karpathy's file, by name: which captions are true of several pictures."""
    if source.layout != "karpathy":
        return {}
    path = source.files["captions"].with_name(TRUE_OF)
    return {"true_of": path} if path.is_file() else {}


def regions_for(
    found: PicturesAndCaptions, config: FolderConfig, own: Path
) -> tuple[Path, dict[str, Any], dict[str, Path]] | None:
    """The regions of all pictures: those of ``config.regions``, the data set's own, or made now.

    Args:
        found: what was read.
        config: of the step.
        own: where to make a store; it takes long, and can be resumed.

    Returns:
        the store, the settings of its detector, and image id -> picture file, as far as known; None
        where another process goes on from here.
    """
    if config.regions:
        store = Path(config.regions)
        return store, settings_of(store, found, config), known_pictures(found, config.data)
    if found.features:
        first = next(iter(found.features.values()))[0]
        detector = DetectorSettings(name="precomputed", features=str(first))
        pictures = known_pictures(found, config.data)
        check_features(found)
        write_regions(own, regions_without_boxes(found), fingerprint_of_features(found))
        return own, asdict(detector), pictures
    detector = with_boxes(config.detector, config.data.root)
    tell_numbers(found, detector)
    pictures = find_pictures(found, config.data)
    if extract(pictures, detector, own, overwrite=config.overwrite) is None:
        sys.stdout.write(f"{own}: this process has done its share\n")
        return None
    return own, asdict(detector), pictures


def check_features(found: PicturesAndCaptions) -> None:
    """Raise ValueError unless every picture comes with region features."""
    for split, rows in found.splits.items():
        wanted = {row["image_id"] for row in rows}
        lacking = len(wanted - found.features.keys())
        if lacking:
            raise ValueError(
                f"{lacking} of {len(wanted)} pictures of split {split!r} come without region "
                "features, and other splits have theirs; add the split's *_ims.npy, or take all "
                "from a store with regions=DIR."
            )


def tell_numbers(found: PicturesAndCaptions, detector: DetectorSettings) -> None:
    """Say by which numbers a detector's files must list pictures that have none of their own."""
    if found.numbered_by == "place" and (detector.boxes or detector.features):
        sys.stderr.write(
            f"note: the pictures have no numbers of their own, their image ids count them from 0; "
            f"the files of detector={detector.name} must list them by these\n"
        )


def with_validation(found: PicturesAndCaptions, share: float) -> tuple[PicturesAndCaptions, str]:
    """Hold out some of training where there is no validation split.

    Args:
        found: what was read; "identity" is the picture where there are no identities, so either
            stays whole.
        share: of the identities.

    Returns:
        the same with "val", and what was held out: "pictures", "identities", or "" for nothing.
    """
    if "train" not in found.splits or "val" in found.splits:
        return found, ""
    rows = found.splits["train"]
    _, held = hold_out(
        [{"image_id": number} for number in {row["identity"] for row in rows}], share
    )
    chosen = {row["image_id"] for row in held}
    parts = {
        "train": [row for row in rows if row["identity"] not in chosen],
        "val": [row for row in rows if row["identity"] in chosen],
    }
    held_out = "identities" if found.identities else "pictures"
    return replace(found, splits={**parts, **found.splits, **parts}), held_out


def find_pictures(found: PicturesAndCaptions, data: PictureFolders) -> dict[str, Path]:
    """Image id -> picture file, for every picture.

    Raises:
        FileNotFoundError, ValueError: as :func:`files_of`; or the data set names no pictures.
    """
    unnamed = sum(not name for name in found.pictures.values())
    if unnamed and found.source.layout == "legacy":  # its numbers are no COCO ids
        raise ValueError(
            f"{unnamed} of {len(found.pictures)} pictures have no name in the files; add "
            "id_mapping.json, or the features (*_ims.npy)."
        )
    cocos = picture_collection(found, data.root) == "coco"
    files = files_of(found.pictures, data.images or [data.root], numbered=cocos)
    return {str(number): path for number, path in files.items()}


def files_of(
    pictures: Mapping[int, str], images: Sequence[str], numbered: bool = False
) -> dict[int, Path]:
    """Image id -> picture file, by the names that a data set gives its pictures.

    A picture is the file whose path ends in its name. Of names that no two pictures share the last
    part is enough. A number at the end of a name tells nothing, since image ids may be mere places;
    only where the name is "", or ``numbered``, a file whose name ends in the image id will do.

    Args:
        pictures: image id -> name, perhaps with folders; "" where only the number is known.
        images: folders to look in; an empty name is passed over.
        numbered: whether the ids are those at the end of names, as COCO's are.

    Raises:
        FileNotFoundError: pictures that are missing.
        ValueError: no folder is named, or two files fit a picture equally well.
    """
    folders = [Path(name) for name in images if name]
    if not folders:
        raise ValueError("data.images=[DIR] is needed when data.root is not set.")
    there: dict[str, list[Path]] = {}
    for path in (path for folder in folders for path in sorted(folder.rglob("*"))):
        if path.suffix.lower() in PICTURES:
            there.setdefault(path.name, []).append(path)
    names = {number: PurePosixPath(name) for number, name in pictures.items()}
    shared = Counter(name.name for name in names.values())
    files: dict[int, Path] = {}
    missing: dict[int, str] = {}
    for number, name in names.items():
        wanted = len(name.parts) if shared[name.name] > 1 else 1
        best = _best_of(there.get(name.name, []), name)
        if best is not None and _common_end(best, name) >= wanted:
            files[number] = best
        else:
            missing[number] = pictures[number]
    lost = [name for name in missing.values() if name and not numbered]
    if lost:
        repeated = shared[PurePosixPath(lost[0]).name] > 1
        raise FileNotFoundError(
            f"{len(lost)} of {len(names)} pictures are not in {', '.join(map(str, folders))} "
            f"(first: {lost[0]}{', by its whole path: others have that name' if repeated else ''})."
            " Name the picture folders with data.images=[DIR,DIR]."
        )
    if missing:
        named = pictures_named(missing, [str(folder) for folder in folders])
        files |= {number: named[str(number)] for number in missing}
    return files


def known_pictures(found: PicturesAndCaptions, data: PictureFolders) -> dict[str, Path]:
    """As :func:`find_pictures`; nothing where pictures are not needed and no folder is named."""
    if data.images:
        return find_pictures(found, data)
    try:
        return find_pictures(found, data)
    except (FileNotFoundError, ValueError):
        sys.stderr.write(
            "note: pictures.json has the data set's own names: the pictures are not in data.root "
            "(data.images=[DIR] tells where they are)\n"
        )
        return {}


def settings_of(store: Path, found: PicturesAndCaptions, config: FolderConfig) -> dict[str, Any]:
    """The settings of the detector that a store was made with, checked to hold every picture."""
    check_regions(store, found.splits)
    if (store.parent / "dataset.json").is_file():  # of the folder that the store was made for
        return read_record(store.parent)["detector"]
    settings = with_boxes(config.detector, config.data.root)
    check_detector(store, settings)
    return asdict(settings)


def source_of_boxes(
    detector: Mapping[str, Any], store: RegionStore, pictures: Collection[int]
) -> str:
    """In words, where the boxes come from; of features without boxes, that there are none."""
    if store.fingerprint["boxes"] == BOX_SOURCE:
        return BOX_SOURCE
    return box_source(detector, store, pictures)


def caption_counts(rows: Sequence[Row], identities: bool) -> dict[str, int]:
    """How much a split holds."""
    counts = {"pictures": len({row["image_id"] for row in rows}), "captions": len(rows)}
    if identities:
        counts["identities"] = len({row["identity"] for row in rows})
    return counts


def sources_record(files: Mapping[str, Path]) -> dict[str, dict[str, str]]:
    """``files_record``; a folder's sha256 is that of the names and sha256 of its texts."""
    folders = {key: path for key, path in files.items() if path.is_dir()}
    record = files_record({key: path for key, path in files.items() if key not in folders})
    for key, folder in folders.items():
        lines = (
            f"{path.relative_to(folder).as_posix()} {file_hash(path)}\n"
            for path in sorted(folder.rglob("*.txt"))
        )
        digest = hashlib.sha256("".join(lines).encode()).hexdigest()
        record[key] = {"path": str(folder), "sha256": digest}
    return record


def _best_of(paths: Sequence[Path], name: PurePosixPath) -> Path | None:
    """The path whose end has most in common with a name; None where there are no paths."""
    most = max((_common_end(path, name) for path in paths), default=0)
    fitting = {path.resolve(): path for path in paths if _common_end(path, name) == most}
    if len(fitting) > 1:
        one, other, *_ = fitting.values()
        raise ValueError(
            f"both {one} and {other} may be the picture {name}; name only the folders that hold "
            "the data set's pictures, with data.images=[DIR,DIR]."
        )
    return next(iter(fitting.values()), None)


def _common_end(path: Path, name: PurePosixPath) -> int:
    """How many parts at the end of two paths are the same."""
    count = 0
    for one, other in zip(reversed(path.parts), reversed(name.parts), strict=False):
        if one != other:
            break
        count += 1
    return count


def _report(output: Path, record: dict[str, Any]) -> None:
    lines = [f"{output}: {record['dataset'] or 'retrieval'} ({record['layout']})"]
    for split, counts in record["splits"].items():
        line = f"  {split:<6}{counts['captions']:>8} captions {counts['pictures']:>7} pictures"
        if "identities" in counts:
            line += f" {counts['identities']:>6} identities"
        lines.append(line)
    left_out = record["left_out"]
    if "captions" in left_out:
        lines.append(
            f"  the first {record['captions_a_picture']} captions of a picture: "
            f"{left_out['captions']} others left out (captions=all takes them)"
        )
    if "empty_captions" in left_out:
        lines.append(
            f"  {left_out['empty_captions']} empty captions left out, and with them "
            f"{left_out.get('pictures', 0)} pictures"
        )
    lines.append(f"  boxes: {record['box_source']}")
    if record["val_held_out_from_train"]:
        lines.append(f"  val is held out from train, by {record['val_held_out_from_train']}")
    sys.stdout.write("\n".join(lines) + "\n")
