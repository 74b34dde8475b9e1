"""Pictures and captions -> unified scene graphs: ``tbkin prep scene_graphs regions=STORE …``.

::

    tbkin prep scene_graphs regions=STORE captions=FILE output=FILE.jsonl vectors=embedded

Reads a region store (``tbkin prep regions``) and captions (COCO, Karpathy, lists and tables of
``image_id`` or ``image_path`` and ``caption``, caption graphs of ``tbkin prep captions``). Writes
JSON Lines, one graph a caption in the order of the file, with the caption and its id in
``columns``. Without ``captions`` it writes the graph of each picture alone.

``vectors`` says how words are compared with labels: ``embedded`` (tables of synonyms, nothing to
install), ``glove:FILE``, ``spacy:MODEL`` or ``encoder:DIR``; ``benchmarks/alignment.py`` measures
how good each is. ``knowledge`` weighs the edges of the text (``tbkin prep knowledge``).

A stopped run goes on where it was with the same command, and several processes share the captions:
``accelerate launch --num_processes 4 -m data_prep scene_graphs …``.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from data_prep.knowledge import with_graphs
from data_prep.regions import make_way
from tbkin.config import load_config, setting
from tbkin.data.caption_graphs import CaptionRow, write_graph_lines
from tbkin.data.captions import image_in, image_names, read_captions
from tbkin.data.features import RegionStore
from tbkin.files import file_hash
from tbkin.graphs.alignment import Similarity
from tbkin.graphs.build import join, picture_graph
from tbkin.graphs.knowledge import CooccurrencePrior, weigh_text_edges
from tbkin.graphs.scene_graph import SceneGraph
from tbkin.graphs.word_vectors import load_similarity
from tbkin.parsers import resolve_parser
from tbkin.resume import write_shards

A_SHARD = 1000


@dataclass
class SceneGraphsConfig:
    """One run of the step."""

    regions: str = setting("", "region store")
    captions: str = setting("", "file of captions or caption graphs; not set: pictures alone")
    output: str = setting("", "JSON Lines file to write")
    vectors: str = setting("embedded", "embedded, glove:FILE, spacy:MODEL or encoder:DIR")
    weak: float | None = setting(None, "cosine from which on words are aligned; not set: usual")
    strong: float | None = setting(None, "cosine from which on they are strongly aligned")
    parser: str = setting("auto", "gold: the captions' own graphs; auto: those, or the best parser")
    knowledge: str = setting("", "co-occurrence table that weighs the text's edges")
    geometry: bool = setting(True, "also the spatial and overlap edges between regions")
    column: str = setting("caption", "what the captions are called in tables and lists")
    missing: Literal["error", "skip"] = setting("error", "captions whose picture has no regions")
    overwrite: bool = setting(False, "replace a file that is there, begun or finished")


def main(arguments: list[str]) -> None:
    """Build and write the graphs."""
    config = load_config(SceneGraphsConfig, arguments, __doc__)
    if not config.regions or not config.output:
        raise ValueError("tbkin prep scene_graphs needs regions=STORE and output=FILE.jsonl.")
    output = Path(config.output)
    if not make_way(output, config.overwrite):
        return
    if config.parser not in ("gold", "auto"):
        resolve_parser(config.parser)
    similarity = load_similarity(config.vectors, config.weak, config.strong)
    describe = getattr(similarity, "describe", lambda: config.vectors)
    sys.stderr.write(f"alignment: {describe()}\n")
    count = build(config, output, similarity)
    if count is None:
        sys.stdout.write(f"{output}: this process has done its share\n")
    else:
        sys.stdout.write(f"{output}: {count} scene graphs\n")


def build(config: SceneGraphsConfig, output: Path, similarity: Similarity) -> int | None:
    """Write the graphs; go on with what an earlier run of the same began.

    Returns:
        How many graphs; None when other processes have not finished their share.
    """
    store = RegionStore(config.regions)
    prior = CooccurrencePrior.load(Path(config.knowledge)) if config.knowledge else None
    total = check_pictures(rows_of(config, store), store, config.missing)
    if output.is_file() and not config.overwrite:  # other processes were quicker
        return None
    parts = output.with_name(f"{output.name}.parts")
    shards = write_shards(
        parts,
        (row for row in rows_of(config, store) if image_in(row, store) is not None),
        lambda path, rows: write_graph_lines(
            path, unified_graphs(rows, store, config, similarity, prior)
        ),
        settings_of(config, store),
        suffix=".jsonl",
        size=A_SHARD,
        overwrite=config.overwrite,
        unit="graph",
        total=total,
    )
    if shards is None:
        return None
    try:
        join_files(shards, output)
    except FileNotFoundError:
        if not output.is_file():  # else another process was quicker
            raise
    shutil.rmtree(parts, ignore_errors=True)
    return total


def unified_graphs(
    rows: Iterable[CaptionRow],
    store: RegionStore,
    config: SceneGraphsConfig,
    similarity: Similarity,
    prior: CooccurrencePrior | None = None,
) -> Iterator[tuple[CaptionRow, SceneGraph]]:
    """The unified graph of each caption and its picture, in order."""
    last: tuple[str, SceneGraph] | None = None  # captions of one picture mostly follow one another
    said = with_graphs(rows, config.parser) if config.captions else ((row, None) for row in rows)
    for row, graph in said:
        image_id = image_in(row, store)
        if image_id is None:
            raise LookupError(f"{row.place}: no regions of its picture in {store.folder}.")
        if last is None or last[0] != image_id:
            last = (image_id, picture_graph(store.without_features(image_id), config.geometry))
        if graph is None:
            yield row, last[1]
            continue
        weighed = weigh_text_edges(graph, prior) if prior is not None else graph
        yield row, join(last[1], weighed, similarity)


def rows_of(config: SceneGraphsConfig, store: RegionStore) -> Iterator[CaptionRow]:
    """The captions; without a file of them, one row a picture."""
    if config.captions:
        return read_captions(Path(config.captions), config.column)
    return (CaptionRow(f"image {name}", "", {"image_id": name}) for name in store.places)


def check_pictures(
    rows: Iterable[CaptionRow], store: RegionStore, missing: Literal["error", "skip"]
) -> int:
    """How many captions have regions, before any work is done.

    Raises:
        LookupError: some have none and ``missing`` is ``error``, or all have none.
    """
    counts: Counter[bool] = Counter()
    example = ""
    for row in rows:
        found = image_in(row, store) is not None
        counts[found] += 1
        if not found and not example:
            names = ", ".join(image_names(row)) or "it names none"
            example = f"{row.place}: {names}"
    if counts[False] and (missing == "error" or not counts[True]):
        raise LookupError(
            f"{store.folder} has no regions of the pictures of {counts[False]} of "
            f"{counts.total()} captions ({example}; regions of {len(store)} pictures are there). "
            "Make them with tbkin prep regions, or leave such captions out with missing=skip."
        )
    if counts[False]:
        sys.stderr.write(
            f"{counts[False]} of {counts.total()} captions are left out: no regions of their "
            f"pictures ({example})\n"
        )
    return counts[True]


def settings_of(config: SceneGraphsConfig, store: RegionStore) -> dict[str, object]:
    """What must be the same for a run to go on."""
    parser = config.parser if config.parser == "gold" else resolve_parser(config.parser)
    return {
        "regions": {"fingerprint": store.fingerprint, "pictures": len(store)},
        "captions": file_hash(Path(config.captions)) if config.captions else "",
        "knowledge": file_hash(Path(config.knowledge)) if config.knowledge else "",
        "parser": parser if config.parser != "auto" else f"auto: {parser}",
        "vectors": config.vectors,
        "weak": config.weak,
        "strong": config.strong,
        "geometry": config.geometry,
        "column": config.column,
        "missing": config.missing,
    }


def join_files(parts: Iterable[Path], output: Path) -> None:
    """Put files one after the other, under a temporary name first."""
    output.parent.mkdir(parents=True, exist_ok=True)
    unfinished = output.with_name(f"{output.name}.unfinished-{os.getpid()}")
    try:
        with unfinished.open("wb") as file:
            for part in parts:
                with part.open("rb") as source:
                    shutil.copyfileobj(source, file)
        unfinished.replace(output)
    finally:
        unfinished.unlink(missing_ok=True)
