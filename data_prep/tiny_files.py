"""The official files of the tiny world; each ``*_record`` function is one file's content."""

from __future__ import annotations

import json
import pickle
import string
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data_prep.tiny_captions import Caption
from data_prep.tiny_scenes import CATEGORY_IDS, HEIGHT, SPLITS, WIDTH, Scene, is_clear, relation

KARPATHY_SPLITS = {"train2014": "train", "val2014": "val", "test2015": "test"}
CATEGORIES = [
    {"id": number, "name": shape, "supercategory": "shape"}
    for shape, number in CATEGORY_IDS.items()
]
INFO = {"description": "tiny world, drawn by tbkin", "version": "1.0", "contributor": "tbkin"}


@dataclass
class Picture:
    """A scene and all that was said and detected in it."""

    scene: Scene
    questions: list[tuple[str, str, str]]  # kind, question, answer
    answers: list[list[dict[str, Any]]]  # ten records a question
    captions: list[Caption]  # a sentence and its claim
    expressions: list[tuple[int, list[str]]]  # object, what it is called
    detections: list[dict[str, Any]] = field(default_factory=list)
    relations: list[dict[str, Any]] = field(default_factory=list)


def write_json(path: Path, content: Any) -> None:
    """Write compact JSON with a newline at the end."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, separators=(",", ":")) + "\n")


def write_files(
    root: Path, pictures: list[Picture], answer_types: dict[str, str], dials: dict
) -> None:
    """Write every file but the pictures themselves.

    Args:
        root: folder of the world.
        pictures: those of all splits, in order.
        answer_types: kind of question -> official answer type.
        dials: what the detector was set to; goes into its files.
    """
    for split in SPLITS:
        here = [picture for picture in pictures if picture.scene.split == split]
        scenes = [picture.scene for picture in here]
        files = {
            f"vqa/v2_OpenEnded_mscoco_{split}_questions.json": questions_record(split, here),
            f"vqa/v2_mscoco_{split}_annotations.json": answers_record(split, here, answer_types),
            f"annotations/instances_{split}.json": instances_record(scenes),
            f"annotations/captions_{split}.json": captions_record(here),
            f"detections/detections_{split}.json": detections_record(here, dials),
        }
        for name, content in files.items():
            write_json(root / name, content)
    scenes = [picture.scene for picture in pictures]
    refs = refs_record(pictures)
    write_json(root / "refer/refcoco/instances.json", instances_record(scenes))
    write_json(root / "refer/refcoco/refs(unc).json", refs)
    # The official layout holds this list as a pickle of plain types, so this is the one pickle that
    # the project writes. The detour through JSON shares no strings, so the bytes are the same
    # whatever happened to be one object in memory.
    plain = json.loads(json.dumps(refs))
    (root / "refer/refcoco/refs(unc).p").write_bytes(pickle.dumps(plain, protocol=2))
    write_json(root / "karpathy/dataset_coco.json", karpathy_record(pictures))
    for name, content in visual_genome_records(scenes).items():
        write_json(root / f"visual_genome/{name}.json", content)


def questions_record(split: str, pictures: list[Picture]) -> dict[str, Any]:
    """VQA 2.0 questions."""
    return {
        "info": INFO,
        "task_type": "Open-Ended",
        "data_type": "mscoco",
        "data_subtype": split,
        "license": {"name": "CC0 1.0"},
        "questions": [
            {"image_id": scene.image_id, "question": question, "question_id": _question(scene, k)}
            for scene, picture in ((picture.scene, picture) for picture in pictures)
            for k, (_, question, _) in enumerate(picture.questions)
        ],
    }


def answers_record(
    split: str, pictures: list[Picture], answer_types: dict[str, str]
) -> dict[str, Any]:
    """VQA 2.0 annotations; ``question_type`` holds the kind of question."""
    annotations = []
    for picture in pictures:
        for k, (kind, _, answer) in enumerate(picture.questions):
            annotations.append(
                {
                    "question_type": kind,
                    "multiple_choice_answer": answer,
                    "answers": picture.answers[k],
                    "image_id": picture.scene.image_id,
                    "answer_type": answer_types[kind],
                    "question_id": _question(picture.scene, k),
                }
            )
    return {
        "info": INFO,
        "data_type": "mscoco",
        "data_subtype": split,
        "license": {"name": "CC0 1.0"},
        "annotations": annotations,
    }


def _question(scene: Scene, number: int) -> int:
    return scene.image_id * 100 + number


def _image_records(scenes: list[Scene]) -> list[dict[str, Any]]:
    return [
        {"id": scene.image_id, "file_name": scene.file_name, "width": WIDTH, "height": HEIGHT}
        for scene in scenes
    ]


def instances_record(scenes: list[Scene]) -> dict[str, Any]:
    """COCO instances: boxes and outlines of the drawn objects; no colours, no sizes."""
    annotations = []
    for scene in scenes:
        for number, thing in enumerate(scene.things):
            outline = thing.polygon()
            annotations.append(
                {
                    "id": scene.thing_id(number),
                    "image_id": scene.image_id,
                    "category_id": CATEGORY_IDS[thing.shape],
                    "bbox": list(thing.box),
                    "area": round(_area(outline), 2),
                    "segmentation": [[round(value, 2) for point in outline for value in point]],
                    "iscrowd": 0,
                }
            )
    return {
        "info": INFO,
        "licenses": [],
        "images": _image_records(scenes),
        "annotations": annotations,
        "categories": CATEGORIES,
    }


def _area(outline: list[tuple[float, float]]) -> float:
    """Shoelace formula."""
    turned = [*outline[1:], outline[0]]
    return abs(sum(a * d - b * c for (a, b), (c, d) in zip(outline, turned, strict=True))) / 2


def captions_record(pictures: list[Picture]) -> dict[str, Any]:
    """COCO captions."""
    return {
        "info": INFO,
        "licenses": [],
        "images": _image_records([picture.scene for picture in pictures]),
        "annotations": [
            {
                "image_id": picture.scene.image_id,
                "id": picture.scene.caption_id(number),
                "caption": caption,
            }
            for picture in pictures
            for number, (caption, _) in enumerate(picture.captions)
        ],
    }


def _tokens(sentence: str) -> list[str]:
    return sentence.lower().translate(str.maketrans("", "", string.punctuation)).split()


def refs_record(pictures: list[Picture]) -> list[dict[str, Any]]:
    """RefCOCO expressions; every other test picture is testA, the others are testB."""
    refs: list[dict[str, Any]] = []
    sent_id = 0
    for picture in pictures:
        scene = picture.scene
        split = KARPATHY_SPLITS[scene.split]
        if split == "test":
            split = "testB" if scene.index % 2 else "testA"
        for number, expressions in picture.expressions:
            thing_id = scene.thing_id(number)
            sentences = [
                {"tokens": _tokens(said), "raw": said, "sent_id": sent_id + place, "sent": said}
                for place, said in enumerate(expressions)
            ]
            refs.append(
                {
                    "ref_id": len(refs),
                    "ann_id": thing_id,
                    "category_id": CATEGORY_IDS[scene.things[number].shape],
                    "image_id": scene.image_id,
                    "file_name": f"{Path(scene.file_name).stem}_{thing_id}.jpg",
                    "split": split,
                    "sent_ids": [sentence["sent_id"] for sentence in sentences],
                    "sentences": sentences,
                }
            )
            sent_id += len(sentences)
    return refs


def karpathy_record(pictures: list[Picture]) -> dict[str, Any]:
    """The captions again, as Karpathy's split file lists them; ``sentid`` is the caption's id."""
    images = []
    for imgid, picture in enumerate(pictures):
        scene = picture.scene
        sentences = [
            {
                "raw": caption,
                "tokens": _tokens(caption),
                "imgid": imgid,
                "sentid": scene.caption_id(number),
            }
            for number, (caption, _) in enumerate(picture.captions)
        ]
        images.append(
            {
                "filepath": scene.split,
                "filename": scene.file_name,
                "cocoid": scene.image_id,
                "imgid": imgid,
                "split": KARPATHY_SPLITS[scene.split],
                "sentids": [sentence["sentid"] for sentence in sentences],
                "sentences": sentences,
            }
        )
    return {"images": images, "dataset": "coco"}


def visual_genome_records(scenes: list[Scene]) -> dict[str, list[dict[str, Any]]]:
    """File name -> content of the five Visual Genome files: the truth about every picture."""
    by_scene = [_vg_entries(scene) for scene in scenes]
    return {
        name: [{"image_id": scene.image_id, **entries[name]} for scene, entries in by_scene]
        for name in by_scene[0][1]
    }


def _vg_entries(scene: Scene) -> tuple[Scene, dict[str, dict[str, Any]]]:
    """The scene, and what each file says about it."""
    objects = []
    for number, thing in enumerate(scene.things):
        x, y, width, height = thing.box
        place = {"object_id": scene.thing_id(number), "x": x, "y": y, "w": width, "h": height}
        objects.append({**place, "names": [thing.shape], "synsets": []})
    with_attributes = [
        {**found, "attributes": [thing.color, thing.size]}
        for found, thing in zip(objects, scene.things, strict=True)
    ]
    nested, flat = [], []
    for head, subject, other in _vg_relations(scene):
        subject, other = objects[subject], objects[other]
        nested.append({**head, "subject": subject, "object": other})
        ids = {"subject_id": subject["object_id"], "object_id": other["object_id"]}
        flat.append({**head, **ids})
    size = {"url": "", "width": WIDTH, "height": HEIGHT}
    return scene, {
        "image_data": {**size, "coco_id": scene.image_id, "flickr_id": None},
        "objects": {"objects": [{**found, "merged_object_ids": []} for found in objects]},
        "attributes": {"attributes": with_attributes},
        "relationships": {"relationships": nested},
        "scene_graphs": {"objects": with_attributes, "relationships": flat},
    }


def _vg_relations(scene: Scene) -> list[tuple[dict[str, Any], int, int]]:
    """(id and predicate, subject, object) of the clear pairs, each pair in one direction."""
    found = []
    for subject in range(len(scene.things)):
        for other in range(subject + 1, len(scene.things)):
            box, other_box = scene.things[subject].box, scene.things[other].box
            if is_clear(box, other_box):
                head = {
                    "relationship_id": scene.image_id * 100 + len(found) + 1,
                    "predicate": relation(box, other_box),
                    "synsets": [],
                }
                found.append((head, subject, other))
    return found


def detections_record(pictures: list[Picture], dials: dict[str, Any]) -> dict[str, Any]:
    """COCO results with attributes, and the relations that the detector reports."""
    return {
        "info": dials,
        "images": _image_records([picture.scene for picture in pictures]),
        "categories": CATEGORIES,
        "annotations": [found for picture in pictures for found in picture.detections],
        "relations": [found for picture in pictures for found in picture.relations],
    }
