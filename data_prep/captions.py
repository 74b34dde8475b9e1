"""Captions -> caption graphs: ``tbkin prep captions input=FILE output=FILE``.

Reads a table with a column of captions (``.csv``, ``.tsv``), one caption a line (``.txt``), COCO's
captions, Karpathy's dataset or a list of objects (``.json``), such objects or caption graphs a line
(``.jsonl``). Writes JSON Lines of scene graphs (``.jsonl``), or a table with a column
``scene_graph`` in FACTUAL's notation (``.csv``, ``.tsv``); either keeps the other columns of its
input.

``parser=gold`` takes the graphs that the input has already and changes their form only; for
caption graphs as ``.jsonl`` so does ``parser=auto``. A parser's name parses the captions, whatever
graphs are there.
"""

from __future__ import annotations

import itertools
import re
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from data_prep.regions import make_way
from tbkin.config import choose, load_config, setting
from tbkin.data.caption_graphs import (
    CAPTION,
    DELIMITERS,
    CaptionRow,
    Facts,
    read_rows,
    write_graph_lines,
    write_graph_table,
)
from tbkin.data.captions import read_captions
from tbkin.graphs.facts import facts_of, graph_of_facts
from tbkin.graphs.scene_graph import SceneGraph
from tbkin.parsers import PARSERS, load_parser, parse_many, resolve_parser

GOLD = "gold"
FORMATS = {"jsonl": (".jsonl",), "factual": tuple(DELIMITERS)}
WORD = re.compile(r"\w+(?:['\u2019-]\w+)*")

Parsed = tuple[CaptionRow, SceneGraph]


@dataclass
class CaptionsConfig:
    """One run of the step."""

    input: str = setting("", "captions: .csv, .tsv, .txt, .json (COCO, Karpathy) or .jsonl")
    output: str = setting("", "file to write: .jsonl, .csv or .tsv")
    format: str = setting("", "jsonl or factual; not set: what the suffix of output says")
    parser: str = setting("auto", "who reads the captions; gold: the graphs of the input")
    column: str = setting(CAPTION, "column of a table that has the captions")
    overwrite: bool = setting(False, "replace a file that is there")

    def __post_init__(self) -> None:
        """Check names."""
        for name in ("input", "output"):
            if not getattr(self, name):
                raise ValueError(f"tbkin prep captions needs {name}=FILE.")
        choose(dict.fromkeys((*PARSERS, "auto", GOLD)), self.parser, "parser")
        if not self.format:
            suffix = Path(self.output).suffix
            self.format = next((name for name, ends in FORMATS.items() if suffix in ends), "")
        suffixes = choose(FORMATS, self.format, "format") if self.format else ()
        if Path(self.output).suffix not in suffixes:
            wanted = suffixes or sum(FORMATS.values(), ())
            raise ValueError(
                f"output={self.output} must end in {' or '.join(wanted)}"
                f"{f' with format={self.format}' if self.format else ''}."
            )
        if Path(self.input).resolve() == Path(self.output).resolve():
            raise ValueError(f"output={self.output} is the input; name another file.")


@dataclass
class Counts:
    """What went by."""

    captions: int = 0
    facts: int = 0
    empty: int = 0  # graphs without a fact


def main(arguments: list[str]) -> None:
    """Parse the settings and write the graphs."""
    config = load_config(CaptionsConfig, arguments, __doc__)
    source, output = Path(config.input), Path(config.output)
    rows = read_input(source, config.column, graphs=config.parser == GOLD)
    first = next(rows, None)  # so that a file of another kind fails before a parser is loaded
    name = config.parser
    if name == "auto" and first is not None and first.graph is not None:
        name = GOLD
    if name != GOLD:
        name = resolve_parser(name)
    if not make_way(output, config.overwrite):
        return
    rows = itertools.chain([first] if first is not None else [], rows)
    graphs = gold_graphs(rows) if name == GOLD else parsed_graphs(rows, name)
    counts, began = Counts(), time.perf_counter()
    counted = count(tqdm(graphs, unit="caption", disable=None), counts)
    if config.format == "jsonl":
        write_graph_lines(output, ((row, graph) for row, graph, _ in counted))
    else:
        write_graph_table(output, ((row, facts) for row, _, facts in counted))
    seconds = time.perf_counter() - began
    sys.stdout.write(
        f"{output}: {counts.captions} captions, {counts.facts} facts, "
        f"{counts.empty} graphs without any\n"
        f"  parser {name}, {seconds:.1f} s with loading and writing, "
        f"{counts.captions / seconds:.0f} captions a second\n"
    )


def read_input(path: Path, column: str = CAPTION, *, graphs: bool = False) -> Iterator[CaptionRow]:
    """Rows of any file that holds captions; see the module.

    Args:
        path: file.
        column: what the captions are called in it.
        graphs: whether the rows must have their graphs already.

    Raises:
        FileNotFoundError: no such file.
        ValueError: another layout, or a layout that has no graphs where they must be there.
    """
    suffix = path.suffix.lower()
    if graphs and suffix not in (*DELIMITERS, ".jsonl"):
        raise ValueError(
            f"{path} has no graphs; leave parser=gold out, or name a table (.csv, .tsv) or caption "
            "graphs (.jsonl)."
        )
    if graphs:
        return read_rows(path, column)
    return _lines(path) if suffix == ".txt" else read_captions(path, column)


def gold_graphs(rows: Iterable[CaptionRow]) -> Iterator[Parsed]:
    """Each row with the graph that it has; facts in text become a graph of the caption's words."""
    for row in rows:
        graph = row.graph
        yield row, graph or graph_of_facts(row.facts(), WORD.findall(row.caption))


def parsed_graphs(rows: Iterable[CaptionRow], parser: str) -> Iterator[Parsed]:
    """Each row with the graph that a parser makes of its caption; a parser's batch in memory."""
    ahead, behind = itertools.tee(rows)
    graphs = parse_many(load_parser(parser), (row.caption for row in ahead))
    return zip(behind, graphs, strict=True)


def count(
    parsed: Iterable[Parsed], counts: Counts
) -> Iterator[tuple[CaptionRow, SceneGraph, Facts]]:
    """Pass everything on with its facts, and count it."""
    for row, graph in parsed:
        facts = facts_of(graph)
        counts.captions += 1
        counts.facts += len(facts)
        counts.empty += not facts
        yield row, graph, facts


def _lines(path: Path) -> Iterator[CaptionRow]:
    """A caption a line; an empty line is an empty caption, so that lines keep their numbers."""
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}.")
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, start=1):
            caption = line.rstrip("\n")
            yield CaptionRow(f"{path}, line {number}", caption, {CAPTION: caption})
