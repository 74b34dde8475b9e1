"""The dials for retrieval, and the files that they write."""

import hashlib
import json
from collections import defaultdict

import pytest
import torch
from PIL import Image

from data_prep.tiny import main
from tbkin.detectors.annotated import AnnotatedBoxes

TRAIN, TEST = 32, 60


@pytest.fixture(scope="module")
def draw(tmp_path_factory):
    """``draw(setting=value, ...)``: folder of a world with 32 + 4 + 60 pictures."""

    def make(**settings):
        folder = tmp_path_factory.mktemp("world") / "tiny"
        settings = {"images": 40, "test_images": TEST, "questions_per_image": 5, **settings}
        main([f"output={folder}", *(f"{name}={value}" for name, value in settings.items())])
        return folder

    return make


@pytest.fixture(scope="module")
def plain(draw):
    return draw()


@pytest.fixture(scope="module")
def doubled(draw):
    return draw(near_duplicates=0.5)


@pytest.fixture(scope="module")
def persons(draw):
    return draw(identities=7, spurious_edges=0.5)


def pictures(folder):
    """Picture id -> hash of its file."""
    return {
        int(path.stem[-12:]): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.glob("images/*/*.jpg")
    }


def read(folder, name):
    return json.loads((folder / name).read_text())


def kinds(folder):
    """Picture id -> sorted (shape, colour, size) of its objects."""
    return {
        entry["image_id"]: sorted(
            (*thing["names"], *thing["attributes"]) for thing in entry["attributes"]
        )
        for entry in read(folder, "visual_genome/attributes.json")
    }


def test_the_number_of_test_pictures_changes_nothing_else(draw, plain):
    tenth, more = pictures(draw(test_images=0)), pictures(plain)
    assert (len(tenth), len(more)) == (40, 36 + TEST)
    assert tenth.items() <= more.items()


def test_a_default_world_has_no_files_of_the_dials(plain):
    assert not (plain / "karpathy/near_duplicates.json").exists()
    assert not (plain / "persons").exists()


def test_near_duplicates_leave_every_other_picture_what_it_is(plain, doubled):
    copies = {int(number) for number in read(doubled, "karpathy/near_duplicates.json")}
    before, after = pictures(plain), pictures(doubled)
    assert {number for number in before if before[number] != after[number]} == copies
    # 96 pictures, half of them: the standard deviation is 4.9.
    assert 96 / 2 - 15 < len(copies) < 96 / 2 + 15


def test_a_near_duplicate_names_an_earlier_picture_of_its_split(doubled):
    record = read(doubled, "karpathy/near_duplicates.json")
    split = {
        image["cocoid"]: image["split"]
        for image in read(doubled, "karpathy/dataset_coco.json")["images"]
    }
    here, changes = kinds(doubled), set()
    for number, entry in record.items():
        source, copy = entry["source"], int(number)
        changes.add(entry["change"])
        assert source < copy
        assert split[source] == split[copy]
        assert str(source) not in record, "drawn from an original"
        added = len(here[copy]) - len(here[source])
        assert added == {"added": 1, "removed": -1}.get(entry["change"], 0)
        assert (here[copy] == here[source]) is (entry["change"] == "moved")
    assert len(changes) >= 4


def test_captions_stay_true_of_near_duplicates(doubled):
    record, true_of = (
        read(doubled, "karpathy/near_duplicates.json"),
        read(doubled, "karpathy/true_of.json"),
    )
    checked = 0
    for number, entry in record.items():
        said = [str(entry["source"] * 10 + place) for place in range(5)]
        if said[0] in true_of:
            assert sum(int(number) in true_of[caption] for caption in said) >= 3
            checked += 1
    assert checked > 10


def test_the_same_dials_give_the_same_bytes_and_a_larger_world_begins_with_the_smaller(
    draw, doubled
):
    larger = draw(near_duplicates=0.5, test_images=TEST + 10)
    assert pictures(doubled).items() <= pictures(larger).items()
    small, large = (read(folder, "karpathy/near_duplicates.json") for folder in (doubled, larger))
    assert small.items() <= large.items()


def test_an_identity_is_the_same_things_in_one_split(persons, plain):
    entries = read(persons, "persons/reid_raw.json")
    assert len(entries) == 36 + TEST
    here, before, after = kinds(persons), pictures(plain), pictures(persons)
    of_identity, splits = defaultdict(list), defaultdict(set)
    for entry in entries:
        assert (persons / "images" / entry["file_path"]).is_file()
        of_identity[entry["id"]].append(int(entry["file_path"][-16:-4]))
        splits[entry["id"]].add(entry["split"])
    # 32 = 4 x 7 + 4 training pictures, 4, and 60 = 8 x 7 + 4.
    sizes = [len(numbers) for numbers in of_identity.values()]
    assert sizes == [7, 7, 7, 7, 4, 4, *[7] * 8, 4]
    assert list(of_identity) == list(range(1, 16))
    assert [*map(sorted, splits.values())] == [["train"]] * 5 + [["val"]] + [["test"]] * 9
    for first, *others in of_identity.values():
        assert before[first] == after[first], "as drawn without the dial"
        for other in others:
            assert before[other] != after[other]
            assert here[other] == here[first]
    assert len({tuple(here[first]) for first, *_ in of_identity.values()}) == 15
    assert len(set(after.values())) == 36 + TEST


def test_captions_of_a_person_are_true_of_all_its_pictures(persons):
    entries = read(persons, "persons/reid_raw.json")
    images = read(persons, "karpathy/dataset_coco.json")["images"]
    true_of = read(persons, "karpathy/true_of.json")
    members = defaultdict(set)
    for entry, image in zip(entries, images, strict=True):
        members[entry["id"]].add(image["cocoid"])
    checked = 0
    for entry, image in zip(entries, images, strict=True):
        assert entry["file_path"] == f"{image['filepath']}/{image['filename']}"
        sentences = {sentence["raw"]: sentence["sentid"] for sentence in image["sentences"]}
        assert len(entry["captions"]) == 3
        for caption in entry["captions"]:
            if image["split"] != "train":
                assert members[entry["id"]] <= set(true_of[str(sentences[caption])])
                checked += 1
    assert checked == 3 * (4 + TEST)


def test_detections_of_persons_are_found_by_their_place_in_the_list(persons):
    own = AnnotatedBoxes(persons / "persons/detections/detections.json")
    official = AnnotatedBoxes(sorted(persons.glob("detections/*.json")))
    for place, entry in enumerate(read(persons, "persons/reid_raw.json")):
        path = persons / "images" / entry["file_path"]
        image = Image.open(path)
        regions, expected = own(image, str(place)), official(image, path.stem)
        assert regions.labels == expected.labels
        assert regions.attributes == expected.attributes
        assert regions.relations == expected.relations
        assert torch.equal(regions.boxes, expected.boxes)
