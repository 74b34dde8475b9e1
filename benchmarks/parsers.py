"""How good and how fast are the parsers? ``python benchmarks/parsers.py gold=random_dev.csv``.

Prints for each installed parser set match, SPICE and micro-F1 under every matching there is (by
synonyms where WordNet is found), and captions a second in batches and one by one: median of three
passes after one that does not count, one thread. ``parsers=learned,word_rules`` takes some only;
``json=FILE`` writes the figures, unrounded, beside the table.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch counts the cores

import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tbkin.config import choose, help_text, load_config, run_command, setting
from tbkin.data.caption_graphs import read_rows
from tbkin.files import file_hash, write_json
from tbkin.graphs.facts import Fact, facts_of
from tbkin.metrics.caption_graph import CaptionGraphScores, Matching
from tbkin.parsers import PARSERS, load_parser, parse_many
from tbkin.scoring_captions import PROTOCOLS, load_matching

COLUMNS = {
    "set_match": "set match",
    "spice_f1": "SPICE",
    "entity_f1": "entity",
    "attribute_f1": "attribute",
    "relation_f1": "relation",
}


@dataclass
class ParsersConfig:
    """What to measure."""

    gold: str = setting("", "captions with gold graphs: .csv (caption, scene_graph) or .jsonl")
    parsers: str = setting("", "names, with commas; not set: every parser that is installed")
    wordnet: str = setting("", "WordNet's folder; found in the usual places")
    passes: int = setting(3, "timed passes; the median counts; 0: no timing")
    captions: int = setting(0, "first captions only; 0: all")
    json: str = setting("", "file for the figures")

    def __post_init__(self) -> None:
        """Check names and ranges."""
        if not self.gold:
            raise ValueError("gold is missing; add gold=FILE.")
        if self.passes < 0 or self.captions < 0:
            raise ValueError("passes and captions must be >= 0.")
        for name in filter(None, self.parsers.split(",")):
            choose(PARSERS, name, "parser")


def main(arguments: list[str]) -> None:
    """Measure and print."""
    if "--help" in arguments:
        sys.stdout.write(help_text(__doc__, ParsersConfig) + "\n")
        return
    config = load_config(ParsersConfig, arguments)
    torch.set_num_threads(1)
    rows = list(read_rows(Path(config.gold)))[: config.captions or None]
    captions, gold = [row.caption for row in rows], [row.facts() for row in rows]
    words = sum(len(caption.split()) for caption in captions) / max(1, len(captions))
    result: dict[str, Any] = {
        "gold": {"path": config.gold, "sha256": file_hash(Path(config.gold))},
        "captions": len(captions),
        "words_a_caption": words,
        "parsers": {},
    }
    matchings = all_matchings(config.wordnet)
    for name in filter(None, config.parsers.split(",")) if config.parsers else PARSERS:
        began = time.perf_counter()
        try:
            parser = load_parser(name)
        except (LookupError, OSError, ImportError) as error:
            sys.stderr.write(f"{name} left out: {error}\n")
            continue
        figures: dict[str, Any] = {"seconds_to_load": time.perf_counter() - began}
        predicted = [facts_of(graph) for graph in parse_many(parser, captions)]
        figures["scores"] = {
            matching.name: score(predicted, gold, matching) for matching in matchings
        }
        if config.passes:
            figures["captions_per_second_batched"] = len(captions) / seconds(
                lambda parser=parser: list(parse_many(parser, captions)), config.passes
            )
            figures["captions_per_second_one_by_one"] = len(captions) / seconds(
                lambda parser=parser: list(map(parser, captions)), config.passes
            )
        result["parsers"][name] = figures
    print(table(result))
    if config.json:
        write_json(Path(config.json), result)


def all_matchings(wordnet: str) -> list[Matching]:
    """Every matching; without WordNet stderr says how to get it."""
    found = []
    for name in PROTOCOLS:
        try:
            found.append(load_matching(name, wordnet))
        except FileNotFoundError as error:
            if wordnet:
                raise
            sys.stderr.write(f"{error}\n")
    return found


def score(predicted: list[list[Fact]], gold: list[list[Fact]], matching: Matching) -> dict:
    """All figures of one parser."""
    scores = CaptionGraphScores(matching)
    for said, true in zip(predicted, gold, strict=True):
        scores.update(said, true)
    return scores.compute()


def seconds(work: Callable[[], object], passes: int) -> float:
    """Of one call of ``work``: the median, after a call that does not count."""
    taken = []
    for _ in range(passes + 1):
        began = time.perf_counter()
        work()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken[1:])


def table(result: dict[str, Any]) -> str:
    """Scores in per cent, then speeds."""
    wide = max((len(name) for name in result["parsers"]), default=0) + 2
    lines = [
        f"{result['captions']} captions of {result['words_a_caption']:.1f} words, "
        f"{result['gold']['path']}; per cent",
        f"{'':<{wide}}{'matching':<10}" + "".join(f"{head:>11}" for head in COLUMNS.values()),
    ]
    for name, figures in result["parsers"].items():
        for matching, scores in figures["scores"].items():
            values = "".join(f"{100 * scores[column]:11.2f}" for column in COLUMNS)
            lines.append(f"{name:<{wide}}{matching:<10}{values}")
    if any("captions_per_second_batched" in one for one in result["parsers"].values()):
        lines += ["", f"{'captions a second':<{wide + 10}}{'batched':>11}{'one by one':>12}"]
        for name, figures in result["parsers"].items():
            batched, single = (
                figures[f"captions_per_second_{how}"] for how in ("batched", "one_by_one")
            )
            lines.append(f"{name:<{wide + 10}}{batched:>11.0f}{single:>12.0f}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(run_command(main))
