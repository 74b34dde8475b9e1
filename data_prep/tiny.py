"""Draw the tiny world: pictures of coloured shapes with official annotation files.

Example: python -m data_prep tiny output=data/tiny images=3000 seed=0

Writes pictures, VQA 2.0 questions and answers, COCO instances and captions, RefCOCO expressions,
Karpathy's split, Visual Genome graphs (the truth) and the output of a simulated detector; for
retrieval also the pictures that each caption is true of, and with identities= a person-search list.
The same settings give the same bytes; the detector's dials change nothing but its own files.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import sys
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from data_prep.tiny_captions import write_captions
from data_prep.tiny_detector import Dials, detect
from data_prep.tiny_files import Picture, write_files, write_json
from data_prep.tiny_language import Lookup, pick, write_expressions
from data_prep.tiny_questions import (
    KINDS,
    answer_by_ten,
    find_candidates,
    kinds_of,
    write_questions,
)
from data_prep.tiny_retrieval import write_retrieval_files
from data_prep.tiny_scenes import SPLITS, Scene, draw_scene, generator, paint
from data_prep.tiny_variants import change_scene, place_anew
from tbkin.config import load_config, setting
from tbkin.files import new_folder

SCHEMA = "tbkin.tiny/1"
RECORD = "tiny.json"


@dataclasses.dataclass
class TinyConfig:
    """What the world holds and how its detector errs."""

    output: str = setting("data/tiny", "folder to write")
    images: int = setting(3000, "pictures: 80 % train, 10 % val, 10 % test")
    seed: int = setting(0, "another seed draws another world")
    test_images: int = setting(0, "test pictures instead of that tenth; 0: the tenth")
    questions_per_image: int = setting(10, "their five kinds come in equal shares")
    near_duplicates: float = setting(
        0.0, "chance that a scene is an earlier one of its split with one object changed, <= 0.9"
    )
    identities: int = setting(1, "pictures of the same things, newly placed; 1: all differ")
    overwrite: bool = setting(False, "replace a world with other settings")
    wrong_labels: float = setting(0.05, "chance that a detected shape, colour or size is wrong")
    jitter: float = setting(2.0, "standard deviation of each edge of a detected box, in pixels")
    box_noise: float = setting(0.0, "each edge also moves by up to this share of the side, evenly")
    false_boxes: float = setting(0.10, "boxes on background per true object, with random labels")
    missed_boxes: float = setting(0.0, "chance that an object is not detected")
    distractors: float = setting(0.0, "boxes anywhere per true object, with random labels")
    spurious_edges: float = setting(0.0, "false relations reported per true object")

    def __post_init__(self) -> None:
        """Check ranges."""
        for name, low, high in (
            ("images", 10, 200_000),
            ("seed", 0, None),
            ("test_images", 0, 100_000),
            ("questions_per_image", 1, 100),
            ("near_duplicates", 0, 0.9),
            ("identities", 1, 100),
            ("wrong_labels", 0, 1),
            ("jitter", 0, None),
            ("box_noise", 0, 1),
            ("false_boxes", 0, None),
            ("missed_boxes", 0, 1),
            ("distractors", 0, None),
            ("spurious_edges", 0, None),
        ):
            value = getattr(self, name)
            if high is not None and not low <= value <= high:
                raise ValueError(f"{name} must be in [{low}, {high}], got {value}.")
            if value == float("inf"):
                raise ValueError(f"{name} must be finite, got {value}.")
            if not value >= low:  # also for nan
                raise ValueError(f"{name} must be >= {low}, got {value}.")
        if self.near_duplicates and self.identities > 1:
            raise ValueError(
                f"near_duplicates={self.near_duplicates} and identities={self.identities} exclude "
                "one another: a changed scene has other things than its identity; set one of them."
            )


def main(arguments: list[str]) -> None:
    """Run the step with command-line words."""
    config = load_config(TinyConfig, arguments, __doc__)
    output = Path(config.output)
    settings = dataclasses.asdict(config)
    for name in ("output", "overwrite"):
        del settings[name]
    if _is_there(output, settings, config.overwrite):
        sys.stdout.write(f"{output} is there, with the same settings: nothing to do.\n")
        return
    with new_folder(output.absolute()) as folder:
        counts = _write_world(folder, config)
        record = {"schema": SCHEMA, "settings": settings, "counts": counts}
        write_json(folder / RECORD, {**record, "sha256": _hash_of(folder)})
    sys.stdout.write(f"{output}\n{_table(counts)}\n")


def _is_there(output: Path, settings: dict[str, Any], overwrite: bool) -> bool:
    """Whether the same world is there already; an error where something else is."""
    if not output.exists() or (output.is_dir() and not any(output.iterdir())):
        return False
    record = output / RECORD
    if not record.is_file():
        raise ValueError(
            f"{output} exists and is no tiny world (it has no {RECORD}); choose another output=."
        )
    there = json.loads(record.read_text()).get("settings", {})
    if there == settings:
        return not overwrite
    if overwrite:
        return False
    differing = ", ".join(
        f"{name}={there.get(name)}, not {value}"
        for name, value in settings.items()
        if there.get(name) != value
    )
    raise ValueError(
        f"{output} holds a tiny world with other settings ({differing}); "
        "choose another output=, or replace it with overwrite=true."
    )


def _write_world(folder: Path, config: TinyConfig) -> dict[str, dict[str, int]]:
    """Write everything but the record; returns counts by split."""
    dials = Dials(
        **{field.name: getattr(config, field.name) for field in dataclasses.fields(Dials)}
    )
    tenth = config.images // 10
    test = config.test_images or tenth
    sizes = dict(zip(SPLITS, (config.images - 2 * tenth, tenth, test), strict=True))
    pictures = []
    with tqdm(total=sum(sizes.values()), desc="tiny world", unit="picture") as progress:
        for split, size in sizes.items():
            (folder / "images" / split).mkdir(parents=True)
            used: Counter = Counter()  # how often the split has each answer
            here: list[Picture] = []
            for _ in range(size):
                here.append(_make_picture(folder, config, dials, split, here, used))
                progress.update()
            pictures += here
    answer_types = {kind: row.answer_type for kind, row in KINDS.items()}
    set_to = {"seed": config.seed, **dataclasses.asdict(dials)}
    write_files(folder, pictures, answer_types, set_to)
    write_retrieval_files(folder, pictures, config.identities, set_to)
    return {split: _counts([p for p in pictures if p.scene.split == split]) for split in SPLITS}


def _make_picture(
    folder: Path,
    config: TinyConfig,
    dials: Dials,
    split: str,
    earlier: list[Picture],
    used: Counter,
) -> Picture:
    """Draw the next picture of the split to its file and say all that there is to say about it."""
    index = len(earlier)
    rng = partial(generator, config.seed, split, index)
    draw = _drawer(config, split, earlier)
    candidates = None
    while candidates is None:  # until every kind of question can be asked
        scene = draw()
        lookup = Lookup(scene)
        candidates = find_candidates(lookup)
    path = folder / "images" / split / scene.file_name
    paint(scene, rng("paint")).save(path, quality=95, subsampling=0)
    kinds = kinds_of(scene, config.questions_per_image)
    questions = write_questions(lookup, candidates, kinds, used, rng("questions"))
    detections, relations = detect(scene, config.seed, dials)
    return Picture(
        scene,
        questions,
        answer_by_ten(scene, questions, config.seed),
        write_captions(lookup, rng("captions")),
        write_expressions(lookup, rng("expressions")),
        detections,
        relations,
    )


def _drawer(config: TinyConfig, split: str, earlier: list[Picture]) -> Callable[[], Scene]:
    """What draws the next scene of the split; each call draws another.

    Whether and from which scene it is drawn has generators of its own, so that every other picture
    stays what it is without the dials.
    """
    index = len(earlier)
    rng = partial(generator, config.seed, split, index)
    number = index % config.identities
    if number:
        return partial(place_anew, earlier[index - number].scene, index, rng("placing"))
    change_rng = rng("near duplicates")
    if earlier and change_rng.random() < config.near_duplicates:
        source = pick(earlier, change_rng)
        while source.scene.change:  # the first of a split is no near duplicate
            source = pick(earlier, change_rng)
        claims = [claim for _, claim in source.captions]
        return partial(change_scene, source.scene, claims, index, change_rng)
    return partial(draw_scene, split, index, rng("scene"))


def _counts(pictures: list[Picture]) -> dict[str, int]:
    return {
        "pictures": len(pictures),
        "objects": sum(len(picture.scene.things) for picture in pictures),
        "questions": sum(len(picture.questions) for picture in pictures),
        "captions": sum(len(picture.captions) for picture in pictures),
        "expressions": sum(len(said) for picture in pictures for _, said in picture.expressions),
        "detections": sum(len(picture.detections) for picture in pictures),
    }


def _hash_of(folder: Path) -> str:
    """SHA-256 over the names and contents of all files, in the order of their names."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            content = hashlib.sha256(path.read_bytes()).hexdigest()
            digest.update(f"{path.relative_to(folder).as_posix()} {content}\n".encode())
    return digest.hexdigest()


def _table(counts: dict[str, dict[str, int]]) -> str:
    columns = list(next(iter(counts.values())))
    rows = [["", *columns], *([split, *map(str, row.values())] for split, row in counts.items())]
    return "\n".join("".join(f"{cell:>12}" for cell in row) for row in rows)
