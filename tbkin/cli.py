"""``tbkin VERB …``: a table of verbs, each the ``main(arguments)`` of one module."""

from __future__ import annotations

import importlib
import sys

from tbkin.config import choose, run_command

VERBS = {  # verb -> (module, what it does)
    "prep": ("data_prep.__main__", "prepare data, one step at a time"),
    "train": ("tbkin.train", "train a model (without settings: on the tiny world)"),
    "eval": ("tbkin.evaluation", "run a trained model on a split"),
    "score": ("tbkin.scoring", "score any prediction file by the official rule"),
    "graph": ("tbkin.graph", "the unified scene graph of one picture and one text"),
    "predict": ("tbkin.predict", "one picture and one text: answer, box or match, with evidence"),
    "demo": ("tbkin.demo", "the whole road on the tiny world, from nothing to a report"),
}


def main(arguments: list[str]) -> None:
    """Run one verb."""
    if not arguments or arguments[0] in ("-h", "--help"):
        lines = "\n".join(f"  {verb:<9} {what}" for verb, (_, what) in VERBS.items())
        sys.stdout.write(
            "tbkin VERB key=value …\n\n"
            f"{lines}\n\n"
            "tbkin VERB --help lists its settings; a bare argument is a YAML file of settings.\n"
        )
        return
    module, _ = choose(VERBS, arguments[0], "verb")
    importlib.import_module(module).main(arguments[1:])


def entry() -> int:
    """Console entry point; returns the exit code."""
    return run_command(main)
