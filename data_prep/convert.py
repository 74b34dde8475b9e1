"""Scene graphs from one format to another: ``tbkin prep convert input=PATH output=PATH``.

Reads (from=): json_lines (tbkin's own), visual_genome (a folder of its JSON files), vg150 (h5),
benchmark_predictions (Scene-Graph-Benchmark's custom_prediction.json), psg, coco (with or without
relations), relation_rows (SGG-Benchmark's rows as JSON Lines).
Writes (to=): json_lines, graphml, coco, dot, visual_genome.

Examples:
  tbkin prep convert input=visual_genome output=graphs.jsonl
  tbkin prep convert input=psg.json output=graphs.jsonl options.split=test geometry=true
  tbkin prep convert input=graphs.jsonl output=drawings to=dot

A reader takes further settings as options.NAME=VALUE; a wrong name lists what there is. A box that
is not what its file says stops the conversion: options.box_format=NAME then settles it.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from tqdm import tqdm

from tbkin.config import choose, load_config, setting
from tbkin.graphs.interchange import WRITERS, read_graphs, write_graphs
from tbkin.graphs.scene_graph import SceneGraph


@dataclass
class ConvertConfig:
    """One run of the step."""

    input: str = setting("", "file or folder to read")
    output: str = setting("", "file or folder to write")
    source_format: str = setting("auto", "format of the input, short from=; auto looks into it")
    target_format: str = setting("auto", "format of the output, short to=; auto: by its ending")
    geometry: bool = setting(False, "add the spatial and overlap edges that follow from the boxes")
    limit: int = setting(0, "stop after so many graphs; 0: all")
    overwrite: bool = setting(False, "replace an output that is there")
    options: dict[str, Any] = setting({}, "settings of the reader, as options.split=test")

    def __post_init__(self) -> None:
        """Check ranges."""
        if self.limit < 0:
            raise ValueError(f"limit must be >= 0, got {self.limit}.")


def main(arguments: list[str]) -> None:
    """Parse the settings, convert, and say what came of it."""
    config = load_config(ConvertConfig, [_long(word) for word in arguments], __doc__)
    if not config.input or not config.output:
        raise ValueError("tbkin prep convert needs input=PATH and output=PATH.")
    source, target = Path(config.input), Path(config.output)
    if config.target_format != "auto":
        choose(WRITERS, config.target_format, "format to write")
    if source.resolve() == target.resolve():
        raise ValueError(f"input and output are both {source}; the input is never touched.")
    if target.exists() and not config.overwrite:
        sys.stdout.write(f"{target} is there already; overwrite=true makes it again\n")
        return
    read: Counter[str] = Counter()
    written: Counter[str] = Counter()
    totals: Counter[str] = Counter()
    graphs = read_graphs(source, config.source_format, config.geometry, read, **config.options)
    if config.limit:
        graphs = islice(graphs, config.limit)
    count = write_graphs(target, _watched(graphs, totals), config.target_format, written)
    lines = [f"{target}: {count} graphs"]
    lines += [f"  read: {number} {name}" for name, number in totals.items() if number]
    lines += [f"  mended: {number} {name}" for name, number in sorted(read.items()) if number]
    lines += [f"  not kept: {number} {name}" for name, number in sorted(written.items()) if number]
    sys.stdout.write("\n".join(lines) + "\n")


def _watched(graphs: Iterable[SceneGraph], totals: Counter[str]) -> Iterator[SceneGraph]:
    """Pass graphs on, count what they hold, show progress."""
    for graph in tqdm(graphs, desc="convert", unit="graph", disable=None):
        for node in graph.nodes:
            totals[f"{node.type} nodes"] += 1
        for edge in graph.edges:
            totals[f"{edge.type} edges"] += 1
        yield graph


def _long(word: str) -> str:
    """``from=psg`` is short for ``source_format=psg``: a field cannot be called ``from``."""
    for short, name in (("from=", "source_format="), ("to=", "target_format=")):
        if word.startswith(short):
            return name + word.removeprefix(short)
    return word
