"""COCO's 5K test with the matches that its captions lack: ECCV Caption and CxC.

A caption of COCO often fits pictures that it was not written for, and counts as wrong there. ECCV
Caption (arXiv:2204.03359) has the matches of 1,261 pictures and 1,332 captions verified, CxC
(Crisscrossed Captions, arXiv:2004.15020) rated some of all. Both are read from the data files of
the package eccv-caption (MIT); none of its code is run.

The package names 5,000 pictures and the first five captions of each. Two sixth captions (144675 and
467259) are right for two pictures of ECCV Caption all the same: without them as candidates they are
never found, yet count among what there is to find, as in the package's code. That code is given
sorted lists; here ties are pessimistic.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor

from tbkin.metrics.average_precision import eccv_figures
from tbkin.metrics.recall import recall_figures
from tbkin.metrics.relation import Relation
from tbkin.metrics.vqa_accuracy import few

FILES = {"image_to_text": "image_to_caption", "text_to_image": "caption_to_image"}


def extended_figures(
    scores: Tensor, image_ids: Sequence[int], caption_ids: Sequence[int]
) -> dict[str, dict[str, dict[str, float]]]:
    """What the extra matches make of scores of the COCO 5K test.

    Args:
        scores: (I, C), picture by caption, higher is better; 5,000 pictures and their five
            captions, or all.
        image_ids: COCO's id of each row.
        caption_ids: COCO's id of each column.

    Returns:
        ``eccv_caption``: ``mAP@R``, ``R-Precision`` and ``R@1``, and ``cxc``: what
        ``recall.recall_figures`` returns, each as ``image_to_text`` and ``text_to_image``; in per
        cent, but for ranks.

    Raises:
        ImportError: the package is not there.
        ValueError: other pictures or captions.
    """
    folder = data_folder()
    gallery = _read(folder / "original_image_to_caption.json")
    _check(image_ids, gallery, "pictures", unknown=True)
    known = {caption for captions in gallery.values() for caption in captions}
    _check(caption_ids, known, "captions", unknown=False)  # there may be sixth ones
    images = {number: place for place, number in enumerate(image_ids)}
    captions = {number: place for place, number in enumerate(caption_ids)}
    sides = {
        "image_to_text": (scores, images, captions),
        "text_to_image": (scores.T, captions, images),
    }
    figures: dict[str, dict[str, dict[str, float]]] = {"eccv_caption": {}, "cxc": {}}
    for direction, (table, queries, candidates) in sides.items():
        for name, prefix in (("eccv_caption", "eccv"), ("cxc", "cxc")):
            gold = _read(folder / f"{prefix}_{FILES[direction]}.json")
            right = Relation.of_lists(
                [
                    [candidates[one] for one in found if one in candidates]
                    for found in gold.values()
                ],
                len(candidates),
            )
            asked = torch.tensor([queries[query] for query in gold], device=scores.device)
            if name == "cxc":
                figures[name][direction] = recall_figures(table, right, queries=asked)
                continue
            sizes = torch.tensor([len(found) for found in gold.values()], device=scores.device)
            figures[name][direction] = eccv_figures(table, right, asked, sizes)
    return figures


def data_folder() -> Path:
    """Where the package's data files are; it is not imported.

    Raises:
        ImportError: the package is not there; names the extra.
    """
    found = find_spec("eccv_caption")
    if found is None or not found.submodule_search_locations:
        raise ImportError(
            "ECCV Caption and CxC need the matches in the package eccv-caption: "
            "pip install 'tbkin[eccv-caption]'"
        )
    return Path(found.submodule_search_locations[0]) / "data"


def _read(path: Path) -> dict[int, list[int]]:
    content = json.loads(path.read_text(encoding="utf-8"))
    return {int(query): [int(one) for one in right] for query, right in content.items()}


def _check(ids: Sequence[int], known: Collection[int], kind: str, unknown: bool) -> None:
    """Raise ValueError unless the ids are those of the test, with others or without."""
    there = set(ids)
    missing = [one for one in known if one not in there]
    foreign = [one for one in ids if one not in known] if unknown else []
    for what, wrong in ((f"of COCO's test {kind} are missing", missing), ("are foreign", foreign)):
        if wrong:
            raise ValueError(
                f"ECCV Caption and CxC are of COCO's 5K test ({len(known):,} {kind}, with COCO's "
                f"ids), and {len(wrong):,} {what}{few(wrong)}; leave eccv= out for other data."
            )
