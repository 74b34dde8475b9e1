"""Which pictures with captions lie in a folder, in whose layout."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from tbkin.config import choose
from tbkin.data.retrieval_classes import TEXTS, class_lists, read_classes
from tbkin.data.retrieval_files import Entry, PicturesAndCaptions, Source, assemble
from tbkin.data.retrieval_legacy import PARTS, read_legacy
from tbkin.data.retrieval_lists import read_lists
from tbkin.data.retrieval_persons import FILES, read_persons, shows_persons

LAYOUTS = {
    "karpathy": "Karpathy's dataset_coco.json, dataset_flickr30k.json",
    "lists": "lists such as coco_train.json (ALBEF), new_train.json (CUSA), train.csv, "
    "captions.csv",
    "legacy": "train_caps.txt with train_ims.npy (SCAN)",
    "classes": "text_c10/<class>/<picture>.txt with lists of classes (birds, flowers)",
}
"""Layout -> what it is; of several of one data set the first counts."""

PREFIXES = {
    "coco_": "coco",
    "coco_karpathy_": "coco",
    "flickr30k_": "flickr30k",
    "new_": "",
    "": "",
}
"""What the names of lists begin with -> data set; ALBEF's other lists hold other tasks."""

COCO_FILE = re.compile(r"captions_(train|val|test)20\d\d\.json(\.gz)?")
"""What COCO calls its own files of captions."""

TABLES = (".json", ".json.gz", ".csv", ".tsv")


def read_retrieval(
    source: Source,
    captions: int | None = None,
    column: str = "caption",
    restval: bool = True,
) -> PicturesAndCaptions:
    """Read a source of any layout.

    Args:
        source: from one of the functions below.
        captions: see :func:`~tbkin.data.retrieval_files.assemble`.
        column: what the captions are called in tables and lists.
        restval: see :func:`~tbkin.data.retrieval_lists.read_lists`.
    """
    entries: list[Entry]
    if source.layout in ("karpathy", "lists"):
        source, entries = read_lists(source, column, restval)
    elif not restval:
        raise ValueError(f"restval=false is of Karpathy's file, and this is {source.layout}.")
    else:
        readers = {"legacy": read_legacy, "classes": read_classes, "persons": read_persons}
        entries = readers[source.layout](source)
    return assemble(entries, source, captions)


def named_files(files: dict[str, str], dataset: str = "") -> Source:
    """The source of files that somebody names.

    Args:
        files: split -> file, or "captions" -> one file for all splits; "" for none.
        dataset: what to call it; "": what a name of Karpathy's, or of COCO's own files, says.

    Raises:
        FileNotFoundError: one is missing.
        ValueError: a file for all splits, and one for some.
    """
    paths = {split: Path(name) for split, name in files.items() if name}
    for split, path in paths.items():
        if not path.is_file():
            raise FileNotFoundError(f"data.{split}: no file {path}.")
    if "captions" in paths and len(paths) > 1:
        raise ValueError("data.captions is a file for all splits; leave it or the others out.")
    whole = paths.get("captions")
    if whole is not None and whole.name.startswith("dataset_"):
        found = _karpathy(whole)
        return found._replace(dataset=dataset or found.dataset)
    cocos = all(COCO_FILE.fullmatch(path.name) for path in paths.values())
    return Source(dataset or ("coco" if cocos else ""), "lists", paths)


def find_retrieval(root: Path, dataset: str = "", layout: str = "auto") -> Source:
    """The only source in a folder, or the one that is asked for.

    Args:
        root: the folder of the files, or one that holds it.
        dataset: "coco", "flickr30k", …; "": the only one there. What has no name gets it.
        layout: a key of ``LAYOUTS``; ``auto``: the first of them that is there.

    Raises:
        FileNotFoundError: nothing there, or not this data set.
        ValueError: several data sets fit; names them.
    """
    choose({"auto": "", **LAYOUTS}, layout, "layout")
    there = [one for one in find_sources(root) if layout in ("auto", one.layout)]
    what = LAYOUTS.get(layout, "; ".join(LAYOUTS.values()))
    if not there:
        raise FileNotFoundError(
            f"no pictures with captions in {root} or one folder down; looked for {what}. "
            "Name other files with data.captions=FILE, or data.train=FILE and so on; persons are "
            "for tbkin prep persons."
        )
    named = sorted({one.dataset for one in there} - {""})
    wanted = dataset or (named[0] if len(named) == 1 else "")
    if not dataset and len(named) > 1:
        raise ValueError(
            f"{root} holds {' and '.join(named)}; say dataset={named[0]}, for instance."
        )
    fitting = [one for one in there if one.dataset == wanted]
    fitting = fitting or [one for one in there if not one.dataset]
    if not fitting:
        raise FileNotFoundError(f"no {dataset} in {root}; there is: {', '.join(named)}.")
    return _only(fitting, root)._replace(dataset=wanted)


def find_persons(root: Path, dataset: str = "") -> Source:
    """The only person search data set in a folder, or the one that is asked for.

    Raises:
        FileNotFoundError, ValueError: as :func:`find_retrieval`.
    """
    if dataset:
        choose(FILES, dataset, "data set of persons")
    there = [one for folder in _folders(root) for one in _persons(folder)]
    fitting = [one for one in there if dataset in ("", one.dataset)]
    if not fitting:
        names = ", ".join(name for one in FILES.values() for name in one)
        raise FileNotFoundError(
            f"no {dataset or 'person search'} in {root} or one folder down; looked for {names}. "
            "Name another file with data.captions=FILE."
        )
    found = sorted({one.dataset for one in fitting})
    if len(found) > 1:
        raise ValueError(
            f"{root} holds {' and '.join(found)}; say dataset={found[0]}, for instance."
        )
    return _only(fitting, root)


def find_sources(root: Path) -> list[Source]:
    """Everything but persons that :func:`find_retrieval` could read in a folder and those in it."""
    return [
        source
        for folder in _folders(root)
        for make in (_all_karpathy, _lists, _legacy, _classes)
        for source in make(folder)
    ]


def _folders(root: Path) -> list[Path]:
    if not root.is_dir():
        raise FileNotFoundError(f"no folder {root}; name the folder of the data set's files.")
    return [root, *sorted(path for path in root.iterdir() if path.is_dir())]


def _only(fitting: list[Source], root: Path) -> Source:
    """Of sources of one data set those of the first layout, which must be one."""
    order = [*LAYOUTS, "persons"]
    first = min((one.layout for one in fitting), key=order.index)
    same = [one for one in fitting if one.layout == first]
    if len(same) > 1:
        places = ", ".join(str(next(iter(one.files.values()))) for one in same)
        raise ValueError(f"{root} holds several of one kind ({places}); name the folder of one.")
    return same[0]


def _karpathy(path: Path) -> Source:
    dataset = path.name.split(".")[0].removeprefix("dataset_")
    return Source(dataset, "karpathy", {"captions": path}, official=True)


def _all_karpathy(folder: Path) -> Iterator[Source]:
    for path in sorted((*folder.glob("dataset_*.json"), *folder.glob("dataset_*.json.gz"))):
        yield _karpathy(path)


def _lists(folder: Path) -> Iterator[Source]:
    for prefix, dataset in PREFIXES.items():
        files = {}
        for split in ("train", "val", "test"):
            path = _table(folder, prefix + split)
            if path is not None:
                files[split] = path
        if files:
            yield Source(dataset, "lists", files, official=bool(dataset))
    path = _table(folder, "captions")
    if path is not None:
        yield Source("", "lists", {"captions": path})


def _table(folder: Path, stem: str) -> Path | None:
    paths = (folder / f"{stem}{suffix}" for suffix in TABLES)
    return next((path for path in paths if path.is_file()), None)


def _legacy(folder: Path) -> Iterator[Source]:
    files = {}
    for split, names in PARTS.items():
        own = next((name for name in names if (folder / f"{name}_caps.txt").is_file()), None)
        if own is None:
            continue
        files[f"{split}_captions"] = folder / f"{own}_caps.txt"
        for kind, path in (
            ("features", folder / f"{own}_ims.npy"),
            ("ids", folder / f"{own}_ids.txt"),
        ):
            if path.is_file():
                files[f"{split}_{kind}"] = path
    if not files:
        return
    for path in (folder / "id_mapping.json", folder.parent / "id_mapping.json"):
        if path.is_file():
            files.setdefault("id_mapping", path)
    name = folder.resolve().name.lower()
    known = {"coco": "coco", "f30k": "flickr30k", "flickr30k": "flickr30k"}
    dataset = next((known[word] for word in known if word in name), "")
    yield Source(dataset, "legacy", files, official=bool(dataset))


def _classes(folder: Path) -> Iterator[Source]:
    texts = next((folder / name for name in TEXTS if (folder / name).is_dir()), None)
    if texts is None:
        return
    first = next((path for path in sorted(texts.iterdir()) if path.is_dir()), None)
    if first is None or not any(first.glob("*.txt")):
        return
    dataset = ""
    if re.match(r"\d{3}\.", first.name):
        dataset = "cub"
    if first.name.startswith("class_"):
        dataset = "flowers"
    yield Source(
        dataset, "classes", {"captions": texts, **class_lists(folder)}, official=bool(dataset)
    )


def _persons(folder: Path) -> Iterator[Source]:
    for dataset, names in FILES.items():
        path = next((folder / name for name in names if (folder / name).is_file()), None)
        if path is not None and shows_persons(path):
            yield Source(dataset, "persons", {"captions": path}, official=True)
