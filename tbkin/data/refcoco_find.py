"""Which referring expressions lie in a folder, in whose layout."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tbkin.config import choose
from tbkin.data.refcoco_files import ALIASES, DATASETS, Expressions, datasets_named, read_refer
from tbkin.data.refcoco_variants import (
    UNITER_FILES,
    read_albef,
    read_mdetr,
    read_seqtr,
    read_uniter,
)

LAYOUTS = {
    "refer": "the official files, refs(unc|google|umd).p and instances.json",
    "uniter": "UNITER's folders of refs.json, annotations.json, images.json, categories.json",
    "mdetr": "MDETR's finetune_refcoco_val.json",
    "seqtr": "SeqTR's instances.json",
    "albef": "ALBEF's and X-VLM's lists of {image, text, ref_id} beside the official files",
}
"""Layout -> what it is; of several of one data set the first counts."""

OTHERS = {"refcoco": "refcoco_unc", "refcoco+": "refcoco+_unc", "refcocog": "refcocog_umd"}
"""Data set of UNITER and MDETR, which leave the split's name out."""

HEAD = 1 << 20  # bytes of a file that must show what it is


@dataclass(frozen=True)
class Source:
    """Files of one data set in one layout.

    Attributes:
        datasets: keys of ``DATASETS`` that it may be; several where no name tells.
        layout: a key of ``LAYOUTS``.
        files: by a name of their own: a split, or "refs" and "instances".
    """

    datasets: tuple[str, ...]
    layout: str
    files: dict[str, Path]


def read_expressions(root: str | Path, dataset: str = "", layout: str = "auto") -> Expressions:
    """Find and read referring expressions.

    Args:
        root: the folder ``refcoco``, ``refcoco+`` or ``refcocog`` itself, or one that holds it, at
            most two folders down; likewise for other layouts.
        dataset: a name that :func:`~tbkin.data.refcoco_files.datasets_named` knows; "": the only
            one there.
        layout: a key of ``LAYOUTS``; ``auto``: the first of them that is there.

    Raises:
        FileNotFoundError: nothing there, or not this data set.
        ValueError: several data sets fit; names them. And what the readers raise.
    """
    source, name = find_source(Path(root), dataset, layout)
    if source.layout == "uniter":
        return read_uniter(list(source.files.values()), name)
    if source.layout == "mdetr":
        return read_mdetr(source.files, name)
    if source.layout == "seqtr":
        return read_seqtr(source.files["instances"], name)
    refs, instances = source.files["refs"], source.files["instances"]
    if source.layout == "albef":
        lists = [path for key, path in source.files.items() if key not in ("refs", "instances")]
        return read_albef(lists, refs, instances, name)
    return read_refer(refs, instances, name)


def find_source(root: Path, dataset: str = "", layout: str = "auto") -> tuple[Source, str]:
    """The files that :func:`read_expressions` reads, and what data set they are."""
    choose({"auto": "", **LAYOUTS}, layout, "layout")
    wanted = datasets_named(dataset) if dataset else list(DATASETS)
    there = [one for one in find_sources(root) if layout in ("auto", one.layout)]
    if not there:
        what = LAYOUTS.get(layout, "; ".join(LAYOUTS.values()))
        raise FileNotFoundError(
            f"no referring expressions in {root} or two folders down; looked for {what}."
        )
    fitting = {name: [one for one in there if name in one.datasets] for name in wanted}
    fitting = {name: sources for name, sources in fitting.items() if sources}
    names = ", ".join(sorted({name for one in there for name in one.datasets}))
    if not fitting:
        raise FileNotFoundError(f"no {dataset} in {root}; there is: {names}.")
    if len(fitting) > 1:
        several = f"{dataset!r} may be" if dataset else f"{root} holds"
        raise ValueError(
            f"{several} {' and '.join(fitting)}, which are different splits or data sets; "
            f"say dataset={next(iter(fitting))}, for instance."
        )
    name, sources = next(iter(fitting.items()))
    first = min(sources, key=lambda one: list(LAYOUTS).index(one.layout))
    same = [one for one in sources if one.layout == first.layout]
    if len(same) > 1:
        folders = ", ".join(str(next(iter(one.files.values())).parent) for one in same)
        raise ValueError(f"{name} lies in several folders of {root} ({folders}); name one of them.")
    return first, name


def find_sources(root: Path) -> list[Source]:
    """Everything that :func:`read_expressions` could read in a folder and two folders down."""
    if not root.is_dir():
        raise FileNotFoundError(f"no folder {root}; name the folder of the official files.")
    inside = [path for path in (*root.glob("*/"), *root.glob("*/*/")) if path.is_dir()]
    folders = [root, *sorted(inside)]
    official = [source for folder in folders for source in _refer(folder)]
    return [
        *official,
        *_uniter(folders),
        *(source for folder in folders for source in _mdetr(folder)),
        *(source for folder in folders for source in _seqtr(folder)),
        *(source for folder in folders for source in _albef(folder, official)),
    ]


def said_otherwise(name: str, dataset: str) -> str:
    """What another name of a data set means, to be told; "" for its own name."""
    if not name or name == dataset:
        return ""
    kind = "the field's name for" if name.lower() in ALIASES else "here"
    return f"{name} is {kind} {dataset}"


def _refer(folder: Path) -> Iterator[Source]:
    if not (folder / "instances.json").is_file():
        return
    for by in ("unc", "google", "umd"):
        files = [folder / f"refs({by}){suffix}" for suffix in (".p", ".json")]
        path = next((path for path in files if path.is_file()), None)
        if path is None:
            continue
        fitting = [name for name, (_, who) in DATASETS.items() if who == by]
        own = [name for name in fitting if DATASETS[name][0] == folder.resolve().name]
        files = {"refs": path, "instances": folder / "instances.json"}
        yield Source(tuple(own or fitting), "refer", files)


def _uniter(folders: list[Path]) -> Iterator[Source]:
    found: dict[tuple[str, ...], dict[str, Path]] = {}
    for folder in folders:
        if all((folder / f"{name}.json").is_file() for name in ("refs", *UNITER_FILES)):
            own = OTHERS.get(folder.resolve().name.split("_")[0].lower())
            fitting = (own,) if own else tuple(OTHERS.values())
            found.setdefault(fitting, {})[folder.name] = folder
    yield from (Source(fitting, "uniter", files) for fitting, files in found.items())


def _mdetr(folder: Path) -> Iterator[Source]:
    found: dict[str, dict[str, Path]] = {}
    for path in sorted(folder.glob("finetune_refcoco*_*.json")):
        match = re.fullmatch(r"finetune_(refcoco[+g]?)_(train|val|test[AB]?)", path.stem)
        if match:
            found.setdefault(match[1], {})[match[2]] = path
    yield from (Source((OTHERS[name],), "mdetr", files) for name, files in found.items())


def _seqtr(folder: Path) -> Iterator[Source]:
    path = folder / "instances.json"
    if not path.is_file() or not _shows(path, rb'^\s*\{\s*"\w+"\s*:\s*\[.*"expressions"'):
        return
    try:
        fitting = datasets_named(folder.resolve().name)
    except ValueError:
        fitting = list(DATASETS)
    yield Source(tuple(fitting), "seqtr", {"instances": path})


def _albef(folder: Path, official: list[Source]) -> Iterator[Source]:
    for name in OTHERS:
        paths = [folder / f"{name}_{split}.json" for split in ("train", "val", "test")]
        lists = {
            path.stem: path
            for path in paths
            if path.is_file() and _shows(path, rb'^\s*\[\s*\{[^}]*"ref_id"')
        }
        for source in official if lists else []:
            fitting = tuple(one for one in source.datasets if DATASETS[one][0] == name)
            if fitting:
                yield Source(fitting, "albef", lists | source.files)


def _shows(path: Path, pattern: bytes) -> bool:
    with path.open("rb") as file:
        return re.search(pattern, file.read(HEAD), re.DOTALL) is not None
