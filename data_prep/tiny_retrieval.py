"""The tiny world's files for retrieval: what Karpathy's split file does not say.

``karpathy/true_of.json``: ``{sentid: [cocoid, ...]}``, for every caption of Karpathy's splits val
and test the pictures of its own split that it is true of, its own picture among them; ids as in
``karpathy/dataset_coco.json``, which JSON writes as strings where they are keys. Training captions
are left out: nobody is scored on them.

``karpathy/near_duplicates.json``, where there are any: ``{cocoid: {"source": cocoid, "change":
str}}``, the picture that a scene was drawn from and what was done to one of its objects.

``persons/reid_raw.json``, where things have several pictures: the layout of CUHK-PEDES,
``[{"id", "file_path", "captions", "split"}]``. ``id`` is the identity, from 1, in one split only;
``file_path`` lies in ``images``. Its captions are those that say what there is and not where, so
that they are true of all pictures of the identity. Such lists have no picture ids, readers count
pictures from 0: ``persons/detections/detections.json`` is the detector's output by that count,
without file names, since the numbers in those would be taken for the ids.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from data_prep.tiny_captions import says_where, true_of
from data_prep.tiny_files import KARPATHY_SPLITS, Picture, detections_record, write_json
from data_prep.tiny_language import Lookup


def write_retrieval_files(
    root: Path, pictures: list[Picture], identities: int, dials: dict[str, Any]
) -> None:
    """Write the files above.

    Args:
        root: folder of the world.
        pictures: those of all splits, in order.
        identities: pictures of the same things.
        dials: what the detector was set to; goes into its file.
    """
    write_json(root / "karpathy/true_of.json", true_of_record(pictures))
    if changed := near_duplicates_record(pictures):
        write_json(root / "karpathy/near_duplicates.json", changed)
    if identities > 1:
        write_json(root / "persons/reid_raw.json", persons_record(pictures, identities))
        detections = counted_from_0(detections_record(pictures, dials))
        write_json(root / "persons/detections/detections.json", detections)


def true_of_record(pictures: list[Picture]) -> dict[int, list[int]]:
    """Caption id -> ids of the pictures of its split that it is true of."""
    found: dict[int, list[int]] = {}
    for split in ("val2014", "test2015"):
        here = [picture for picture in pictures if picture.scene.split == split]
        ids = [picture.scene.image_id for picture in here]
        captions = [
            (picture.scene.caption_id(number), claim)
            for picture in here
            for number, (_, claim) in enumerate(picture.captions)
        ]
        rows = true_of(
            (claim for _, claim in captions), (Lookup(picture.scene) for picture in here)
        )
        for (caption_id, _), row in zip(captions, rows, strict=True):
            found[caption_id] = [ids[number] for number in row]
    return found


def near_duplicates_record(pictures: list[Picture]) -> dict[int, dict[str, Any]]:
    """Picture id -> what its scene was drawn from, and the change."""
    scenes = [picture.scene for picture in pictures]
    return {
        scene.image_id: {"source": scene.source, "change": scene.change}
        for scene in scenes
        if scene.change
    }


def persons_record(pictures: list[Picture], identities: int) -> list[dict[str, Any]]:
    """One entry a picture; the last identity of a split may have fewer pictures."""
    entries = []
    identity = 0
    for picture in pictures:
        scene = picture.scene
        identity += scene.index % identities == 0
        entries.append(
            {
                "id": identity,
                "file_path": f"{scene.split}/{scene.file_name}",
                "captions": [said for said, claim in picture.captions if not says_where(claim)],
                "split": KARPATHY_SPLITS[scene.split],
            }
        )
    return entries


def counted_from_0(detections: dict[str, Any]) -> dict[str, Any]:
    """The same detections; picture ids are places among the pictures, which have no names."""
    places = {image["id"]: place for place, image in enumerate(detections["images"])}
    images = [
        {"id": places[image["id"]], "width": image["width"], "height": image["height"]}
        for image in detections["images"]
    ]
    found = {
        name: [{**row, "image_id": places[row["image_id"]]} for row in detections[name]]
        for name in ("annotations", "relations")
    }
    return {**detections, "images": images, **found}
