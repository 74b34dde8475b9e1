"""``python -m data_prep STEP key=value …``."""

from __future__ import annotations

import importlib
import sys

from tbkin.config import choose, run_command

STEPS = {
    "tiny": "draw the tiny world in official file formats",
    "regions": "regions and features of a folder of pictures",
    "captions": "captions to caption graphs, or from one form to the other",
    "knowledge": "co-occurrence priors of any caption graphs",
    "scene_graphs": "region store and captions to unified scene graphs",
    "convert": "other people's scene graphs in and out",
    "convert_rosita": "ROSITA's checkpoints as models",
    "convert_bert": "BERT's weights as the start of a model",
    "draw": "scene graphs as a page or picture to look at",
    "pretraining": "captions and their pictures, ready to pre-train on",
    "vqa": "official VQA 2.0 files and pictures, ready to train on",
    "refcoco": "RefCOCO, RefCOCO+ or RefCOCOg and pictures, ready to train on",
    "retrieval": "pictures with captions, ready for image-text retrieval",
    "persons": "pictures of persons with captions, ready for retrieval",
    "teachers": "what frozen encoders make of captions and pictures, for soft labels",
    "towers": "CLIP's, SigLIP's or another dual encoder as a model to rank with",
    "overlap": "which pictures of a split are in a training set",
}


def main(arguments: list[str]) -> None:
    """Run one step."""
    if not arguments or arguments[0] in ("-h", "--help"):
        lines = "\n".join(f"  {name:<15} {what}" for name, what in STEPS.items())
        sys.stdout.write(
            f"tbkin prep STEP key=value …\n\n{lines}\n\n"
            "tbkin prep STEP --help lists its settings.\n"
        )
        return
    choose(STEPS, arguments[0], "preparation step")
    importlib.import_module(f"data_prep.{arguments[0]}").main(arguments[1:])


if __name__ == "__main__":
    sys.exit(run_command(main))
