"""The data sets of ``objectives.py``, prepared: pictures with captions, and their teachers."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from results import read_json
from torch import Tensor

from data_prep import persons, retrieval, teachers, tiny
from tbkin.data.prepared import read_record, read_split
from tbkin.data.retrieval import TRUE_OF
from tbkin.data.teachers import TeacherStore, teacher_scores, write_teacher
from tbkin.files import file_hash
from tbkin.objectives.similarity import even_shares

SPLITS = ("train", "val", "test")
ORACLE_RECORD = {"name": "oracle: counts of what the tiny world knows is there"}
IDENTITY_PICTURES = 4  # of the same things, in the variant with identities
BLOCK = 1000  # rows of features at a time
BATCHES = 50  # in which labels are compared with the truth


def draw(name: str, output: Path, images: int, near_duplicates: float, seed: int) -> Path:
    """Draw and prepare a tiny world: ``tiny``, or ``persons``, with identities.

    Returns:
        The prepared folder; what is there stays as it is.
    """
    folder, world = output / f"prepared-{name}", output / f"world-{name}"
    if (folder / "dataset.json").is_file():
        return folder
    words = [f"output={world}", f"images={images}", f"test_images={images // 5}", f"seed={seed}",
             "questions_per_image=5"]  # fmt: skip
    if name == "persons":
        tiny.main([*words, f"identities={IDENTITY_PICTURES}"])
        persons.main([f"data.root={world}", f"output={folder}", "detector=detected"])
    else:
        tiny.main([*words, f"near_duplicates={near_duplicates}"])
        retrieval.main([f"data.root={world}", f"output={folder}", "detector=detected"])
    return folder


def prepare_coco(root: Path, output: Path, detector: Sequence[str]) -> Path:
    """Prepare real pictures; returns the folder, and what is there stays as it is."""
    folder = output / "prepared-coco"
    if not (folder / "dataset.json").is_file():
        retrieval.main([f"data.root={root}", f"output={folder}", *detector])
    return folder


def ask_teachers(folder: Path, text: str, image: str) -> Path:
    """Features of all captions and pictures, in ``folder/teachers``; what is there stays."""
    if not all((folder / "teachers" / side).exists() for side in ("text", "image")):
        shutil.rmtree(folder / "teachers", ignore_errors=True)
        teachers.main([f"data.root={folder}", f"text={text}", f"image={image}"])
    return folder / "teachers"


def ask_pictures(folder: Path) -> Path:
    """Captions whose teacher is what the picture encoder says of their picture (*ours*).

    For captions that are worded by a few patterns: a sentence encoder hears the pattern first.
    """
    output = folder / "teachers_pictures"
    if not (output / "text").exists():
        shutil.copytree(folder / "teachers/image", output / "image", dirs_exist_ok=True)
        _captions_as_pictures(folder, output)
    return output


def ask_oracle(folder: Path) -> Path:
    """Teachers that read the tiny world's own truth; a caption's row is that of its picture.

    A row counts the kinds of object (size, colour and shape; colour and shape; each alone) and the
    relations between shapes. Nobody has such teachers of real pictures: they show what the
    objectives make of good ones.
    """
    output = folder / "teachers_oracle"
    if (output / "text").exists():
        return output
    truth = Path(read_record(folder)["root"]) / "visual_genome/scene_graphs.json"
    bags = {scene["image_id"]: bag_of(scene) for scene in read_json(truth)}
    ids = list(dict.fromkeys(row["image_id"] for row in _rows(folder)))
    write_teacher(
        output / "image", "pictures", ids, counts([bags[number] for number in ids]),
        ORACLE_RECORD, splits=_hashes(folder),
    )  # fmt: skip
    _captions_as_pictures(folder, output)
    return output


def _captions_as_pictures(folder: Path, teachers: Path) -> None:
    """Write ``teachers/text`` from ``teachers/image``."""
    rows, pictures = _rows(folder), TeacherStore.open(teachers / "image", "pictures")
    write_teacher(
        teachers / "text", "captions", [row["caption_id"] for row in rows],
        [pictures[[row["image_id"] for row in rows]].numpy()],
        {"name": f"of its picture: {pictures.record['encoder'].get('name')}"},
        splits=_hashes(folder),
    )  # fmt: skip


def _rows(folder: Path) -> list[dict[str, Any]]:
    return [row for split in SPLITS for row in read_split(folder, split)]


def _hashes(folder: Path) -> dict[str, str]:
    return {split: file_hash(folder / f"{split}.jsonl") for split in SPLITS}


def bag_of(scene: dict[str, Any]) -> Counter:
    """What a scene graph of Visual Genome's layout holds, and how often."""
    found: Counter = Counter()
    shapes = {}
    for thing in scene["objects"]:
        shape, (color, size) = thing["names"][0], thing["attributes"]
        shapes[thing["object_id"]] = shape
        found.update([(size, color, shape), (color, shape), (size,), (color,), (shape,)])
    for relation in scene["relationships"]:
        ends = shapes[relation["subject_id"]], shapes[relation["object_id"]]
        found[ends[0], relation["predicate"], ends[1], "related"] += 1
    return found


def counts(bags: Sequence[Counter]) -> Iterable[np.ndarray]:
    """Blocks of rows with a column for each entry of any bag."""
    columns = {entry: place for place, entry in enumerate(sorted(set().union(*bags)))}
    for start in range(0, len(bags), BLOCK):
        rows = np.zeros((len(bags[start : start + BLOCK]), len(columns)), dtype=np.float32)
        for row, bag in zip(rows, bags[start:], strict=False):
            for entry, count in bag.items():
                row[columns[entry]] = count
        yield rows


def teacher_facts(
    folder: Path, teacher: Path, temperatures: Sequence[float], batch_size: int
) -> dict[str, Any]:
    """What teachers tell apart, on the test split.

    Returns:
        ``text``: mean cosine of two captions of one picture, and of two pictures', and how often
        the former is larger; ``image``: mean and standard deviation of the cosine of two pictures,
        and its correlation with how alike their captions are to the text teacher (mean row a
        picture). Of the tiny world also ``near_duplicates``: how often they are more alike than
        others, and ``labels``, see :func:`label_errors`.
    """
    rows = read_split(folder, "test")
    image_ids = list(dict.fromkeys(row["image_id"] for row in rows))
    owner = torch.tensor([image_ids.index(row["image_id"]) for row in rows])
    said = TeacherStore.open(teacher / "text")[[row["caption_id"] for row in rows]]
    seen = teacher_scores(TeacherStore.open(teacher / "image")[image_ids])
    same = owner[:, None] == owner
    captions = teacher_scores(said)
    meaning = torch.stack([said[owner == place].mean(dim=0) for place in range(len(image_ids))])
    pairs = torch.ones_like(seen).triu(1).bool()
    both = torch.stack([seen[pairs], teacher_scores(meaning)[pairs]])
    facts = {
        "text": parted(captions, same, torch.ones_like(captions).triu(1).bool()),
        "image": {
            "mean": seen[pairs].mean().item(),
            "deviation": seen[pairs].std().item(),
            "correlation_with_text": torch.corrcoef(both)[0, 1].item(),
        },
    }
    changed = Path(read_record(folder)["root"]) / "karpathy/near_duplicates.json"
    if changed.is_file():
        family = {int(one): entry["source"] for one, entry in read_json(changed).items()}
        heads = torch.tensor([family.get(number, number) for number in image_ids])
        facts["near_duplicates"] = parted(seen, heads[:, None] == heads, pairs)
        true_of = read_json(folder / TRUE_OF)
        true = torch.zeros(len(rows), len(image_ids), dtype=torch.bool)
        for number, row in enumerate(rows):
            true[number, [image_ids.index(one) for one in true_of[str(row["caption_id"])]]] = True
        facts["labels"] = label_errors(
            seen[owner][:, owner], captions, same, true.T[owner], temperatures, batch_size
        )
    return facts


def label_errors(
    pictures: Tensor,
    captions: Tensor,
    same: Tensor,
    true: Tensor,
    temperatures: Sequence[float],
    batch_size: int,
) -> dict[str, dict[str, float]]:
    """How far the labels of a batch are from the truth, as rows that add up to 1.

    Args:
        pictures: (N, N) cosines of teachers, of the pictures of N pairs.
        captions: likewise of their captions.
        same: (N, N) bool, whose picture is the same.
        true: (N, N) bool, of which picture (row) which caption is true.
        temperatures: of teachers.
        batch_size: of the random batches that are looked at.

    Returns:
        For rows of pictures and of captions: share of a row's labels that is in the wrong place
        (half the sum of absolute differences to even shares of what is true; 0 to 1), of ``hard``
        labels and of soft ones by temperature.
    """
    found: dict[str, dict[str, float]] = {"pictures": {}, "captions": {}}
    draw = torch.Generator().manual_seed(0)
    for _ in range(BATCHES):
        chosen = torch.randperm(len(same), generator=draw)[:batch_size]
        batch = chosen[:, None], chosen
        for side, cosines, right in (
            ("pictures", pictures[batch], true[batch] | same[batch]),
            ("captions", captions[batch], true[batch].T | same[batch]),
        ):
            labels = {"hard": even_shares(same[batch])}
            labels |= {str(one): (cosines / one).softmax(dim=1) for one in temperatures}
            for name, label in labels.items():
                wrong = (label - even_shares(right)).abs().sum(dim=1).mean().item() / 2
                found[side][name] = found[side].get(name, 0) + wrong / BATCHES
    return found


def parted(scores: Tensor, same: Tensor, pairs: Tensor) -> dict[str, float]:
    """Mean score of the pairs that belong together and of others; how often the former is larger.

    Args:
        scores: (N, N).
        same: (N, N) bool, who belongs together.
        pairs: (N, N) bool, which pairs count.
    """
    one, other = scores[pairs & same], scores[pairs & ~same]
    order = other.sort().values
    below = torch.searchsorted(order, one) + torch.searchsorted(order, one, right=True)
    return {
        "same": one.mean().item(),
        "others": other.mean().item(),
        "larger": (below.float() / 2 / max(1, len(order))).mean().item(),
    }
