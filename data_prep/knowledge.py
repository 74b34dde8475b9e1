"""What goes together, counted: ``tbkin prep knowledge captions=FILE output=FILE.json``.

Reads caption graphs (``.jsonl`` that ``tbkin prep captions`` wrote, ``.csv`` or ``.tsv`` with a
column ``scene_graph`` in FACTUAL's notation), or any captions with ``parser=…``, and writes how
often an object has an attribute or a relation, in ROSITA's layout (``attr_count``, ``rel_count``).
``tbkin prep scene_graphs knowledge=FILE.json`` weighs the edges of a text by it.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from data_prep.regions import make_way
from tbkin.config import load_config, setting
from tbkin.data.caption_graphs import GRAPH, CaptionRow
from tbkin.data.captions import read_captions
from tbkin.graphs.facts import graph_of_facts
from tbkin.graphs.knowledge import build_prior, describe
from tbkin.graphs.scene_graph import SceneGraph
from tbkin.parsers import load_parser, parse_many

WORD = re.compile(r"\w+(?:['\u2019-]\w+)*")
PARSED_AT_ONCE = 1000


@dataclass
class KnowledgeConfig:
    """One run of the step."""

    captions: list[str] = setting([], "files of caption graphs, or of captions: FILE or [A,B]")
    output: str = setting("", "JSON file to write")
    parser: str = setting("gold", "gold: the graphs that the files have; else who makes them")
    min_count: int = setting(2, "leave out what fewer objects have")
    overwrite: bool = setting(False, "replace a file that is there")

    def __post_init__(self) -> None:
        """Check ranges."""
        if self.min_count < 1:
            raise ValueError(f"min_count must be >= 1, got {self.min_count}.")


def main(arguments: list[str]) -> None:
    """Count and write."""
    config = load_config(KnowledgeConfig, one_or_more(arguments, "captions"), __doc__)
    if not config.captions or not config.output:
        raise ValueError("tbkin prep knowledge needs captions=FILE and output=FILE.json.")
    output = Path(config.output)
    if not make_way(output, config.overwrite):
        return
    rows = (row for name in config.captions for row in read_captions(Path(name)))
    counted = 0

    def graphs() -> Iterator[SceneGraph]:
        nonlocal counted
        for _, graph in with_graphs(rows, config.parser):
            counted += 1
            yield graph

    prior = build_prior(
        tqdm(graphs(), desc="knowledge", unit="caption", disable=None), config.min_count
    )
    prior.save(output)
    held = describe(prior)
    sys.stdout.write(
        f"{output}: {held['attributes']} attributes and {held['relations']} relations of "
        f"{held['objects']} objects, from {counted} captions\n"
    )


def with_graphs(rows: Iterable[CaptionRow], parser: str) -> Iterator[tuple[CaptionRow, SceneGraph]]:
    """Each row with its graph, in order.

    Args:
        rows: of a file of captions.
        parser: ``gold``: the graphs that the rows have; ``auto``: likewise where there is one, else
            the best parser's; another name: that parser's, whatever graphs are there.

    Raises:
        ValueError: ``gold`` and a row without a graph, or with one that cannot be read.
    """
    if parser == "gold":
        for row in rows:
            graph = graph_of_row(row)
            if graph is None:
                raise ValueError(
                    f"{row.place} has no graph; add parser=auto to make one of its caption."
                )
            yield row, graph
        return
    parse = None
    waiting: list[tuple[CaptionRow, SceneGraph | None]] = []

    def flush() -> Iterator[tuple[CaptionRow, SceneGraph]]:
        nonlocal parse
        texts = [row.caption for row, graph in waiting if graph is None]
        if texts and parse is None:
            parse = load_parser(parser)
        made = iter(parse_many(parse, texts)) if texts else iter(())
        for row, graph in waiting:
            yield row, next(made) if graph is None else graph
        waiting.clear()

    for row in rows:
        waiting.append((row, graph_of_row(row) if parser == "auto" else None))
        if len(waiting) == PARSED_AT_ONCE:
            yield from flush()
    yield from flush()


def graph_of_row(row: CaptionRow) -> SceneGraph | None:
    """The graph that a row has already, if any."""
    if row.graph is not None:
        return row.graph
    if GRAPH in row.columns:
        return graph_of_facts(row.facts(), WORD.findall(row.caption))
    return None


def one_or_more(arguments: list[str], name: str) -> list[str]:
    """``captions=FILE`` is short for ``captions=[FILE]``."""
    return [
        f"{name}=[{word.removeprefix(f'{name}=')}]"
        if word.startswith(f"{name}=") and not word.startswith(f"{name}=[")
        else word
        for word in arguments
    ]
