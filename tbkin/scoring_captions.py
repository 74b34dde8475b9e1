"""Caption graphs against gold ones: ``tbkin score captions``."""

from __future__ import annotations

import dataclasses
import json
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tbkin.config import choose, load_config, setting
from tbkin.data.caption_graphs import CaptionRow, read_rows
from tbkin.files import files_record
from tbkin.graphs.facts import Fact
from tbkin.graphs.words import lemma
from tbkin.metrics.caption_graph import EXACT, CaptionGraphScores, Matching
from tbkin.metrics.wordnet import WordNet, find_wordnet, version_of

PROTOCOLS = {
    "exact": "words as written",
    "lemma": "every word's singular, by our own rules",
    "synonyms": "every word's WordNet noun lemma; SPICE pairs WordNet synonyms too "
    "(the protocol of FACTUAL's evaluator)",
}
IDS = ("image_id", "region_id")

Pair = tuple[CaptionRow, CaptionRow]  # predicted, gold


@dataclasses.dataclass
class CaptionScoreConfig:
    """Which files are scored, and how."""

    predictions: str = setting("", "caption graphs: .csv or .tsv (caption, scene_graph), .jsonl")
    gold: str = setting("", "the graphs that are right, in any of the same forms")
    matching: str = setting("exact", f"when two words are the same: {', '.join(PROTOCOLS)}")
    wordnet: str = setting("", "WordNet's folder, for synonyms; found in the usual places")
    json: bool = setting(False, "print one JSON object, unrounded, instead of a table")

    def __post_init__(self) -> None:
        """Check names."""
        for name in ("predictions", "gold"):
            if not getattr(self, name):
                raise ValueError(
                    f"{name} is missing; add {name}=FILE (more: tbkin score captions --help)."
                )
        choose(PROTOCOLS, self.matching, "matching")


def score_captions(arguments: list[str]) -> None:
    """Set match, SPICE and F1 of caption graphs.

    tbkin score captions predictions=FILE gold=FILE [matching=lemma] [json=true]

    Rows are joined by image_id and region_id where both files have both columns and no pair
    repeats, else by their order; their captions must agree but for case and punctuation.

    matching=exact compares words as written, lemma the singular of every word. synonyms is the
    protocol of the published figures: every word's noun lemma from WordNet, and for SPICE a
    second round that pairs synonyms; it needs WordNet's files (apt-get install wordnet-base).

    Printed beside it: a graph of nothing, and a graph of every word of the caption as an entity.
    """
    config = load_config(CaptionScoreConfig, arguments, score_captions.__doc__)
    matching = load_matching(config.matching, config.wordnet)
    pairs, joined_by = join_rows(Path(config.predictions), Path(config.gold))
    result: dict[str, Any] = score_pairs(pairs, matching)
    result |= {
        "captions": len(pairs),
        "matching": matching.name,
        "protocol": PROTOCOLS[matching.name],
        "joined_by": joined_by,
        "files": files_record({"predictions": config.predictions, "gold": config.gold}),
    }
    if matching.synsets is not None:
        folder = find_wordnet(config.wordnet)
        result["wordnet"] = {"path": str(folder), "version": version_of(folder)}
    text = json.dumps(result, ensure_ascii=False) if config.json else captions_table(result)
    sys.stdout.write(text + "\n")


def load_matching(name: str, wordnet: str = "") -> Matching:
    """The way of matching of that name.

    Args:
        name: one of ``PROTOCOLS``.
        wordnet: WordNet's folder; "" looks in the usual places.

    Raises:
        ValueError: unknown name.
        FileNotFoundError: ``synonyms`` without WordNet.
    """
    choose(PROTOCOLS, name, "matching")
    if name == "exact":
        return EXACT
    if name == "lemma":
        return Matching(name, lemma)
    words = WordNet(find_wordnet(wordnet))
    return Matching(name, words.noun_lemma, words.synsets)


def join_rows(predictions: Path, gold: Path) -> tuple[list[Pair], str]:
    """Each gold row with the prediction for it, and by what they were joined.

    Raises:
        ValueError: a row without a partner, or two captions that differ; it is named.
    """
    said, true = list(read_rows(predictions)), list(read_rows(gold))
    if not true:
        raise ValueError(f"{gold} has no captions.")
    keys_said, keys_true = _keys(said), _keys(true)
    if keys_said is None or keys_true is None:
        joined_by = "position"
        if len(said) != len(true):
            raise ValueError(
                f"{predictions} has {len(said)} captions, {gold} {len(true)}; without unique "
                f"{' and '.join(IDS)} in both, rows are joined by position and must be as many."
            )
        pairs = list(zip(said, true, strict=True))
    else:
        joined_by = ", ".join(IDS)
        for left, right, of, lacking in (
            (keys_true, keys_said, gold, predictions),
            (keys_said, keys_true, predictions, gold),
        ):
            missing = [key for key in left if key not in right]
            if missing:
                shown = "; ".join(f"{image}, {region}" for image, region in missing[:3])
                raise ValueError(
                    f"{len(missing)} of {len(left)} captions of {of} are not in {lacking} "
                    f"({joined_by}: {shown}{'; …' if len(missing) > 3 else ''})."
                )
        pairs = [(keys_said[key], row) for key, row in keys_true.items()]
    for one, other in pairs:
        if _letters(one.caption) != _letters(other.caption):
            raise ValueError(
                f"{one.place} is {one.caption!r}, but {other.place} is {other.caption!r}: joined "
                f"by {joined_by}, they should be the same caption."
            )
    return pairs, joined_by


def score_pairs(pairs: Iterable[Pair], matching: Matching = EXACT) -> dict[str, Any]:
    """All figures of ``CaptionGraphScores``, and those of two graphs that need no parser.

    Returns:
        The figures, and under ``baselines`` those of ``empty`` (no facts) and ``words`` (every
        word of the caption an entity, nothing else).
    """
    scores, empty, words = (CaptionGraphScores(matching) for _ in range(3))
    for said, true in pairs:
        gold = true.facts()
        scores.update(said.facts(), gold)
        empty.update([], gold)
        words.update(entities_of(true.caption), gold)
    baselines = {"empty": empty.compute(), "words": words.compute()}
    return {**scores.compute(), "baselines": baselines}


def entities_of(caption: str) -> list[Fact]:
    """Every word of a caption, lower case, as an entity."""
    return [(word,) for word in re.findall(r"\w+", caption.lower())]


def captions_table(result: dict[str, Any]) -> str:
    """Per cent, two places, the baselines beside."""
    columns = {
        "predicted": result,
        "no facts": result["baselines"]["empty"],
        "all words": result["baselines"]["words"],
    }
    lines = [
        f"Caption graphs in per cent, {result['captions']} captions, "
        f"matching: {result['matching']} ({result['protocol']})",
        " " * 16 + "".join(f"{head:>11}" for head in columns),
    ]
    for name in result["baselines"]["empty"]:
        values = "".join(f"{100 * column[name]:11.2f}" for column in columns.values())
        lines.append(f"{name.replace('_', ' '):<16}{values}")
    wordnet = f"; WordNet {result['wordnet']['version']}" if "wordnet" in result else ""
    lines.append(f"(joined by {result['joined_by']}; all words: every word an entity{wordnet})")
    return "\n".join(lines)


def _keys(rows: list[CaptionRow]) -> dict[tuple[str, ...], CaptionRow] | None:
    """Rows by their ids, or None where a row has not both or two rows have the same."""
    if not all(name in row.columns for row in rows for name in IDS):
        return None
    keys = {tuple(str(row.columns[name]) for name in IDS): row for row in rows}
    return keys if len(keys) == len(rows) else None


def _letters(caption: str) -> str:
    """What two ways of writing the same caption share: its letters and digits."""
    return "".join(filter(str.isalnum, caption.casefold()))
