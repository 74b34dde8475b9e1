"""Long jobs in numbered shards: what is finished stays finished, and processes share the work.

Every shard is written under a temporary name and renamed, so that a killed job loses at most the
shard in flight; the same command goes on where it stopped. Process ``r`` of ``n`` writes the shards
``r, r + n, …``. Processes do not talk to one another: who sees that all shards are there, joins
them, so that they may as well run on several machines over one disk. Several may see it at once,
and the folder may be gone for a process that starts late: joining must bear both.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from tqdm import tqdm

from tbkin.files import write_json

T = TypeVar("T")
SETTINGS = "settings.json"


def this_process() -> tuple[int, int]:
    """(index, number) of the processes that accelerate or torchrun started; (0, 1) without."""
    return int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))


def write_shards(
    folder: Path,
    items: Iterable[T],
    write: Callable[[Path, Iterator[T]], None],
    settings: Mapping[str, Any],
    *,
    suffix: str,
    size: int,
    overwrite: bool = False,
    unit: str = "item",
    total: int | None = None,
) -> list[Path] | None:
    """Write the shards of this process that are not there yet.

    Args:
        folder: of the shards and nothing else; made with the first shard of this process, so that
            one without a share, which may start when the others are done, leaves nothing behind.
        items: all of them, the same and in the same order in every process and every run.
        write: writes a shard's items to a path. Items come one by one, so that none but those in
            hand need memory; all must be taken.
        settings: JSON values that decide what is written; another run must have the same.
        suffix: of the shards' names, such as ".jsonl".
        size: items a shard.
        overwrite: begin anew. Several processes cannot tell which of them deletes: they refuse what
            an earlier run left.
        unit: what the progress bar counts.
        total: number of items for the progress bar, if known.

    Returns:
        All shards in order; or None while those of other processes are missing.

    Raises:
        ValueError: the folder was begun with other settings.
    """
    index, count = this_process()
    if overwrite and count == 1 and folder.exists():
        shutil.rmtree(folder)
    check_settings(folder, settings)
    there = {path.name for path in folder.glob(f"shard-*{suffix}")}  # as the run begins
    if overwrite and any(_number(name) % count == index for name in there):
        raise ValueError(
            f"{folder} holds what an earlier run left, and {count} processes cannot agree "
            "on who deletes it; delete it by hand and start again."
        )
    shards: list[Path] = []
    iterator = iter(items)
    bar = tqdm(total=total, desc=folder.stem, unit=unit, disable=None if index == 0 else True)
    with bar:
        for number, chunk in enumerate(_chunks(iterator, size)):
            path = folder / f"shard-{number:05d}{suffix}"
            shards.append(path)
            if path.name in there or number % count != index:
                bar.update(len(chunk))
                continue
            _begin(folder, settings)
            unfinished = path.with_name(f"{path.name}.unfinished-{os.getpid()}")
            try:
                write(unfinished, _counted(chunk, bar))
            except BaseException:
                unfinished.unlink(missing_ok=True)
                if count == 1 and not any(folder.glob(f"shard-*{suffix}")):
                    shutil.rmtree(folder)  # nothing is lost
                raise
            unfinished.replace(path)
    return shards if all(path.exists() for path in shards) else None


def clean(folder: Path) -> None:
    """Remove what killed jobs left; the shards and the settings they were made with stay."""
    for path in folder.glob("*.unfinished-*"):
        path.unlink(missing_ok=True)


def check_settings(folder: Path, settings: Mapping[str, Any]) -> None:
    """Raise ValueError, naming the differences, if a folder's shards have other settings."""
    path = folder / SETTINGS
    if not path.is_file():
        return
    found = json.loads(path.read_text(encoding="utf-8"))
    wanted = json.loads(json.dumps(settings))
    differing = [key for key in {**wanted, **found} if wanted.get(key) != found.get(key)]
    if differing:
        lines = "; ".join(
            f"{key}: begun with {_short(found.get(key))}, now {_short(wanted.get(key))}"
            for key in differing
        )
        raise ValueError(
            f"{folder} was begun with other settings ({lines}). Go on with those, or add "
            "overwrite=true to begin anew."
        )


def _begin(folder: Path, settings: Mapping[str, Any]) -> None:
    if not (folder / SETTINGS).is_file():
        write_json(folder / SETTINGS, settings)  # makes the folder too


def _number(name: str) -> int:
    return int(name.removeprefix("shard-").split(".")[0])


def _chunks(iterator: Iterator[T], size: int) -> Iterator[list[T]]:
    while chunk := list(islice(iterator, size)):
        yield chunk


def _counted(chunk: list[T], bar: Any) -> Iterator[T]:
    for item in chunk:
        yield item
        bar.update()


def _short(value: Any, limit: int = 80) -> str:
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 1] + "…"
