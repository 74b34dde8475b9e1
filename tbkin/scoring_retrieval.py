"""Scores of pictures and captions: ``tbkin score retrieval``."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from tbkin.config import choose, load_config, setting
from tbkin.data.prepared import read_record, read_split
from tbkin.data.retrieval_files import Entry, Row, Source, assemble
from tbkin.data.retrieval_lists import read_lists
from tbkin.files import file_lines, files_record
from tbkin.metrics.average_precision import class_precision, person_search_figures
from tbkin.metrics.extended_coco import extended_figures
from tbkin.metrics.recall import DIRECTIONS, folds, mean_figures, retrieval_figures
from tbkin.metrics.relation import Relation

PROTOCOLS = {
    "5k": "all pictures and captions of the split at once",
    "1k": "the mean of consecutive folds of fold_images pictures",
}
USUAL_CAPTIONS = 5  # of a picture, in the VSE family and the ECCV Caption tool
BEST = 50  # of birds and flowers
OF_IMAGES, OF_CAPTIONS = "image_scores", "caption_scores"  # of tbkin eval rerank=
MEND = "write one table of numbers, pictures by captions, with numpy.save or safetensors"


@dataclasses.dataclass
class RetrievalScoreConfig:
    """Which files are scored, and how."""

    scores: str = setting(
        "",
        ".npy or .safetensors: pictures by captions, both in file order; A,B: the mean of several",
    )
    dataset: str = setting("", "Karpathy's file, such a list, or a prepared retrieval folder")
    split: str = setting("test", "of the data set")
    protocol: str = setting("5k", "; ".join(f"{name}: {what}" for name, what in PROTOCOLS.items()))
    captions: str = setting(
        "", "of a picture, the first so many, or all; not set: 5, or all where there are identities"
    )
    fold_images: int = setting(1000, "of protocol=1k: pictures of a fold")
    eccv: bool = setting(False, "also by ECCV Caption and CxC; of the COCO 5K test only")
    json: bool = setting(False, "print one JSON object, unrounded, instead of a table")

    def __post_init__(self) -> None:
        """Check names and ranges."""
        for name in ("scores", "dataset"):
            if not getattr(self, name):
                raise ValueError(
                    f"{name} is missing; add {name}=FILE (more: tbkin score retrieval --help)."
                )
        choose(PROTOCOLS, self.protocol, "protocol")
        if self.captions not in ("", "all") and not (
            self.captions.isdecimal() and int(self.captions)
        ):
            raise ValueError(f"captions must be a number >= 1 or all, got {self.captions!r}.")
        if self.fold_images < 1:
            raise ValueError(f"fold_images must be >= 1, got {self.fold_images}.")


@dataclasses.dataclass(frozen=True)
class Split:
    """Who the rows and columns of the scores are.

    Attributes:
        rows: ``{"caption_id", "image_id", "identity"}`` of each caption, those of a picture
            adjacent, all that there are.
        identities: whether pictures have an identity or class of their own.
        origin: what tells the split from others, for the protocol.
        files: name -> file that was read.
    """

    rows: list[Row]
    identities: bool
    origin: dict[str, str]
    files: dict[str, Path]


def score_retrieval(arguments: list[str]) -> None:
    """Recall of pictures and captions, of a table of scores.

    tbkin score retrieval scores=FILE dataset=dataset_coco.json [split=test] [json=true]
    tbkin score retrieval scores=FILE dataset=FILE protocol=1k [fold_images=1000] [captions=all]

    scores is a table, one row a picture, one column a caption, both in the order of the data set;
    higher is better. Each picture looks for any of its captions, each caption for its picture.
    scores=A.safetensors,B.safetensors takes the mean of tables, as SGRAF does of an SAF's and an
    SGR's.
    reranked.safetensors of tbkin eval rerank= has a table for each direction; protocol=1k then cuts
    the ranking of the whole split into folds, eccv=true needs one table for both.
    Ties are pessimistic: rank = 1 + wrong items that score at least as high as the best right one.

    Where pictures have identities (person search) or classes (birds, flowers), those of the same
    one are right, and mAP, mINP and AP@50 of the captions are told as well. eccv=true adds ECCV
    Caption and CxC: pip install 'tbkin[eccv-caption]'.
    """
    config = load_config(RetrievalScoreConfig, arguments, score_retrieval.__doc__)
    paths = score_paths(config.scores)
    scores, caption_scores = read_scores(paths[0]) if len(paths) == 1 else (mean_table(paths), None)
    if config.eccv and caption_scores is not None:
        raise ValueError(
            f"{config.scores} has a table for each direction, and eccv=true needs one for both; "
            "leave eccv= out, or name scores.safetensors beside it."
        )
    found = read_truth(Path(config.dataset), config.split)
    captions = config.captions or ("all" if found.identities else str(USUAL_CAPTIONS))
    rows = first_captions(found.rows, captions)
    try:
        check_scores(tuple(scores.shape), found.rows, captions)
        result = score_table(
            scores, rows, config.protocol, config.fold_images, found.identities, caption_scores
        )
        if config.eccv:
            images = list(dict.fromkeys(row["image_id"] for row in rows))
            result |= extended_figures(scores, images, [row["caption_id"] for row in rows])
    except ValueError as error:
        raise ValueError(f"{config.scores} against {config.dataset}: {error}") from error
    result |= {"captions_per_picture": captions, "ties": "pessimistic", **found.origin}
    named = {f"scores {number}": path for number, path in enumerate(paths, 1)}
    named = named if len(paths) > 1 else {"scores": paths[0]}
    result["files"] = files_record({**named, **found.files})
    text = json.dumps(result, ensure_ascii=False) if config.json else _report(result)
    sys.stdout.write(text + "\n")


def score_table(
    scores: Tensor,
    rows: list[Row],
    protocol: str,
    fold_images: int,
    identities: bool = False,
    caption_scores: Tensor | None = None,
) -> dict[str, Any]:
    """Score a table.

    Args:
        scores: (I, C), picture by caption, higher is better.
        rows: ``{"image_id", "identity"}`` of each column, those of a picture adjacent; pictures in
            this order are the rows of the scores. Equal identities belong together.
        protocol: one of ``PROTOCOLS``.
        fold_images: pictures of a fold.
        identities: whether pictures have an identity or class of their own.
        caption_scores: (C, I), where captions rank pictures by scores of their own, as after
            re-ranking; None: ``scores``, transposed.

    Returns:
        As ``recall.retrieval_figures``, and ``pictures``, ``captions``, ``protocol`` and ``folds``,
        counts. With identities ``text_to_image`` also has ``mAP``, ``mINP`` and ``AP@50``.
    """
    places = {number: place for place, number in enumerate({row["image_id"]: 0 for row in rows})}
    pictures_of = torch.tensor([places[row["image_id"]] for row in rows])
    of_captions = torch.tensor([row["identity"] for row in rows])
    of_pictures = torch.zeros(len(places), dtype=torch.int64)
    of_pictures[pictures_of] = of_captions
    if identities and protocol != "5k":
        raise ValueError(
            f"protocol={protocol} cuts the split into folds, and identities must not be cut; "
            "set protocol=5k, which ranks all pictures at once."
        )
    whole = [(slice(None), slice(None))]
    cuts = folds(pictures_of, len(places), fold_images) if protocol == "1k" else whole
    of_text = scores.T if caption_scores is None else caption_scores
    parts = [
        retrieval_figures(
            scores[pictures, captions],
            Relation.of_ids(of_pictures[pictures], of_captions[captions]),
            of_text[captions, pictures],
        )
        for pictures, captions in cuts
    ]
    result = mean_figures(parts)
    if identities:
        right = Relation.of_ids(of_captions, of_pictures)
        result["text_to_image"] |= person_search_figures(of_text, right)
        result["text_to_image"][f"AP@{BEST}"] = class_precision(
            of_text, of_captions, of_pictures, BEST
        )
    counts = {"pictures": len(places), "captions": len(rows)}
    return {**result, **counts, "protocol": protocol, "folds": len(parts)}


def read_scores(path: Path) -> tuple[Tensor, Tensor | None]:
    """A table of scores; of a ``.npy`` nothing is in memory before it is needed.

    Args:
        path: ``.npy``, or ``.safetensors`` with one tensor, or one of the name "scores", or the two
            of ``tbkin eval``'s ``reranked.safetensors``.

    Returns:
        (I, C), picture by caption; and (C, I), by which captions rank pictures, where the file has
        a table for each direction.

    Raises:
        FileNotFoundError: no such file.
        ValueError: no table of real numbers, or two that do not fit together.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}; {MEND}.")
    if path.suffix == ".safetensors":
        tables = _read_safetensors(path)
    elif path.suffix == ".npy":
        tables = [_read_npy(path)]
    else:
        raise ValueError(f"{path} is neither .npy nor .safetensors; {MEND}.")
    for scores in tables:
        if scores.dim() != 2 or scores.is_complex() or scores.dtype is torch.bool:
            raise ValueError(
                f"{path} holds {str(scores.dtype).removeprefix('torch.')} of shape "
                f"{tuple(scores.shape)}; {MEND}."
            )
    if len(tables) == 1:
        return tables[0], None
    of_images, of_captions = tables
    if of_captions.shape != of_images.T.shape:
        raise ValueError(
            f"{path}: {OF_CAPTIONS} must be captions by pictures, as {OF_IMAGES} are pictures by "
            f"captions, {tuple(of_images.shape)}; got {tuple(of_captions.shape)}, transpose it."
        )
    return of_images, of_captions


def score_paths(scores: str) -> list[Path]:
    """The files that ``scores=`` names: one, or several with commas between them."""
    if Path(scores).is_file() or "," not in scores:
        return [Path(scores)]
    return [Path(name.strip()) for name in scores.split(",")]


def mean_table(paths: list[Path]) -> Tensor:
    """The mean of several tables of the same pictures and captions.

    Args:
        paths: as :func:`read_scores` takes them.

    Returns:
        (I, C), at least float32.

    Raises:
        ValueError: tables of other shapes, or a file with a table for each direction, whose numbers
            tell the order within that file alone.
    """
    total = None
    for path in paths:
        scores, of_captions = read_scores(path)
        if of_captions is not None:
            raise ValueError(
                f"{path} has a table for each direction, which says who comes first and nothing "
                "that can be averaged; name the scores.safetensors beside it."
            )
        if total is not None and scores.shape != total.shape:
            raise ValueError(
                f"{path} is {tuple(scores.shape)} and {paths[0]} {tuple(total.shape)}; the mean is "
                "of scores of the same pictures and captions."
            )
        exact = scores.to(torch.promote_types(scores.dtype, torch.float32))
        total = exact if total is None else total + exact
    return total / len(paths)


def read_truth(dataset: Path, split: str) -> Split:
    """Which captions a split has.

    Args:
        dataset: a prepared retrieval folder, or a file that ``tbkin prep retrieval`` reads.
        split: its name; of a file that says no splits, it is taken to be the split.

    Raises:
        ValueError: captions of a picture that do not stand together, so that nobody knows whose
            which column is.
    """
    if dataset.is_dir():
        return _prepared(dataset, split)
    source, entries = read_lists(Source("", "lists", {split: dataset}))
    _check_together(entries)
    found = assemble(entries, source, captions=0)  # 0: all
    (rows,) = found.splits.values()
    origin = {"dataset": source.dataset or dataset.stem, "split": split}
    return Split(rows, found.identities, origin, {"dataset": dataset})


def first_captions(rows: list[Row], captions: str) -> list[Row]:
    """The first so many captions of each picture.

    Args:
        rows: as in :class:`Split`.
        captions: a number, or "all".
    """
    if captions == "all":
        return rows
    met: Counter[int] = Counter()
    kept = []
    for row in rows:
        met[row["image_id"]] += 1
        if met[row["image_id"]] <= int(captions):
            kept.append(row)
    return kept


def check_scores(shape: tuple[int, int], rows: list[Row], captions: str) -> None:
    """Raise ValueError, which says what would fit, unless scores are pictures by captions.

    Args:
        shape: of the scores.
        rows: of the split, with all captions.
        captions: a number, or "all".
    """
    pictures = len({row["image_id"] for row in rows})
    fitting = {
        name: (pictures, len(first_captions(rows, name)))
        for name in dict.fromkeys((captions, str(USUAL_CAPTIONS), "all"))
    }
    if shape == fitting[captions]:
        return
    expected = ", ".join(f"captions={name}: {fits}" for name, fits in fitting.items())
    other = next((name for name, fits in fitting.items() if fits == shape), None)
    if other:
        mend = f"set captions={other}"
    elif shape[::-1] in fitting.values():
        mend = "rows must be pictures and columns captions: transpose it"
    else:
        mend = "check dataset= and split=, or the number of captions of a picture"
    raise ValueError(
        f"the scores are {shape}, and (pictures, captions) must be, with {expected}; {mend}."
    )


def retrieval_table(result: dict[str, Any]) -> str:
    """Per cent, two places; ranks, too.

    Args:
        result: of ``score_table``, and ``eccv_caption`` and ``cxc`` where they are known.
    """
    folds_said = f", mean of {result['folds']} folds" if result["protocol"] == "1k" else ""
    lines = [
        f"Retrieval in per cent, {result['pictures']} pictures, {result['captions']} captions, "
        f"protocol {result['protocol']}{folds_said}"
    ]
    for title, figures in (
        ("", result),
        ("ECCV Caption, ", result.get("eccv_caption")),
        ("CxC, ", result.get("cxc")),
    ):
        for direction in DIRECTIONS if figures else ():
            shown = ", ".join(
                f"{name.replace('_', ' ')} {value:.2f}"
                for name, value in figures[direction].items()
            )
            lines.append(f"{title}{direction.replace('_', ' ')}: {shown}")
    return "\n".join([*lines, f"rsum: {result['rsum']:.2f}"])


def _report(result: dict[str, Any]) -> str:
    """The table, and below it what was scored."""
    origin = [
        f"({name.replace('_', ' ')}: {result[name]})"
        for name in ("dataset", "split", "captions_per_picture", "ties")
    ]
    return "\n".join([retrieval_table(result), *origin, *file_lines(result["files"])])


def _check_together(entries: list[Entry]) -> None:
    """Raise ValueError where columns in file order are not those of one picture after another."""
    met: set[str] = set()
    last = None
    for entry in entries:
        if entry.key != last and entry.key in met:
            raise ValueError(
                f"{entry.place}: a caption of picture {entry.picture or entry.key}, whose others "
                "stand further up, so the order of the columns is not clear; put the captions of a "
                "picture next to one another, here and in the scores."
            )
        met.add(entry.key)
        last = entry.key


def _prepared(folder: Path, split: str) -> Split:
    """The captions of a prepared folder."""
    if not (folder / "dataset.json").is_file():
        raise FileNotFoundError(
            f"{folder} has no dataset.json; give Karpathy's file, or a folder that tbkin prep "
            "retrieval made."
        )
    record = read_record(folder)
    if record["task"] != "retrieval":
        raise ValueError(
            f"{folder} is prepared for {record['task']}, not for retrieval; "
            "prepare one with: tbkin prep retrieval"
        )
    choose(record["splits"], split, "split")
    return Split(
        read_split(folder, split),
        record["identities"],
        {"dataset": record["dataset"], "split": split},
        {"dataset": folder / f"{split}.jsonl"},
    )


def _read_npy(path: Path) -> Tensor:
    try:
        table = np.load(path, mmap_mode="c", allow_pickle=False)  # "c": torch wants it writable
        return torch.from_numpy(table)
    except (ValueError, TypeError, EOFError) as error:
        raise ValueError(f"{path} is no table of numbers ({error}); {MEND}.") from error


def _read_safetensors(path: Path) -> list[Tensor]:
    """The table, or that of pictures and that of captions."""
    try:
        with safe_open(path, framework="pt") as file:
            names = list(file.keys())
            if set(names) == {OF_IMAGES, OF_CAPTIONS}:
                return [file.get_tensor(OF_IMAGES), file.get_tensor(OF_CAPTIONS)]
            if len(names) != 1 and "scores" not in names:
                shown = ", ".join(names[:5]) or "none"
                raise ValueError(
                    f"{path} must hold one tensor, or one of the name 'scores', or {OF_IMAGES} and "
                    f"{OF_CAPTIONS}; there are: {shown}. Name the table to be scored 'scores'."
                )
            return [file.get_tensor("scores" if "scores" in names else names[0])]
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged ({error}); {MEND}.") from error
