import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from tbkin.graphs.interchange import detect_format
from tbkin.graphs.interchange.vg150 import read_vg150

h5py = pytest.importorskip("h5py")
NAMES = Path(__file__).resolve().parents[4] / "shared/data/vocab/VG-SGG-dicts-with-attri.json"

# Picture 7 is 512 x 256: half the size that the boxes are given at. Picture 1592 is broken and has
# no row. Picture 8 is 300 x 600 and has no relation, picture 9 nothing at all.
SIZES = [
    {"image_id": 7, "width": 512, "height": 256},
    {"image_id": 1592, "width": 10, "height": 10},
    {"image_id": 8, "width": 300, "height": 600},
    {"image_id": 9, "width": 100, "height": 100},
]
DICTS = {
    "label_to_idx": {"dog": 1, "man": 2, "cup": 3},
    "predicate_to_idx": {"on": 1, "near": 2},
    "attribute_to_idx": {"white": 1, "black": 2},
}
TABLES = {
    "boxes_1024": [[100, 50, 40, 20], [612, 256, 200, 400], [256, 512, 512, 1024]],
    "labels": [[1], [2], [3]],
    "attributes": [[2, 1, 0], [0, 0, 0], [1, 0, 0]],
    "relationships": [[1, 0], [0, 1]],
    "predicates": [[2], [1]],
    "img_to_first_box": [0, 2, -1],
    "img_to_last_box": [1, 2, -1],
    "img_to_first_rel": [0, -1, -1],
    "img_to_last_rel": [1, -1, -1],
    "split": [0, 2, 2],
}


def write(folder, sizes=SIZES, dicts=DICTS, name="VG-SGG-with-attri.h5", **tables):
    folder.mkdir(exist_ok=True)
    with h5py.File(folder / name, "w") as file:
        for key, values in {**TABLES, **tables}.items():
            if values is not None:
                file[key] = np.array(values, dtype=np.int32)
    (folder / "image_data.json").write_text(json.dumps(sizes))
    (folder / "VG-SGG-dicts-with-attri.json").write_text(json.dumps(dicts))
    return folder / name


def read(path, **options):
    counts = Counter()
    return list(read_vg150(path, counts, **options)), +counts


def test_boxes_are_scaled_back_and_numbers_named(tmp_path):
    found, counts = read(write(tmp_path))
    assert [regions.image_id for regions in found] == ["7", "8", "9"]
    first, second, third = found
    # (100, 50) +- (20, 10), halved; (612, 256) +- (100, 200), halved: 256 to 356, 28 to 228.
    assert first.boxes.tolist() == [[40, 20, 60, 30], [256, 28, 356, 228]]
    assert (first.width, first.height) == (512, 256)
    assert first.labels == ["dog", "man"]
    assert first.attributes == [[("black", 1.0), ("white", 1.0)], []]
    assert first.relations == [(1, "near", 0, 1.0), (0, "on", 1, 1.0)]
    # The longer side is the height: 600 / 1024 of (0, 0, 512, 1024).
    assert second.boxes.tolist() == [[0, 0, 300, 600]]
    assert second.relations == []
    assert len(third) == 0
    assert counts == {}
    assert detect_format(tmp_path / "VG-SGG-with-attri.h5") == "vg150"


def test_rows_of_relations_are_counted_over_all_pictures(tmp_path):
    # Picture 8 has boxes 2 and 3 of the file: its relation from row 3 to row 2 is from 1 to 0.
    path = write(
        tmp_path,
        boxes_1024=[*TABLES["boxes_1024"], [100, 100, 50, 50]],
        labels=[[1], [2], [3], [1]],
        attributes=None,
        relationships=[[1, 0], [0, 1], [3, 2]],
        predicates=[[2], [1], [1]],
        img_to_last_box=[1, 3, -1],
        img_to_first_rel=[0, 2, -1],
        img_to_last_rel=[1, 2, -1],
    )
    found, _ = read(path)
    assert found[1].labels == ["cup", "dog"]
    assert found[1].relations == [(1, "on", 0, 1.0)]
    assert found[1].attributes == [[], []]


def test_the_smaller_scale_is_read_where_there_is_no_other(tmp_path):
    halves = [[50, 25, 20, 10], [306, 128, 100, 200], [128, 256, 256, 512]]
    found, _ = read(write(tmp_path, boxes_1024=None, boxes_512=halves))
    assert found[0].boxes.tolist() == [[40, 20, 60, 30], [256, 28, 356, 228]]


def test_splits(tmp_path):
    # Five pictures: 0, 2, 3 to train on, 1 to test, 4 to train without a relation.
    path = write(
        tmp_path,
        sizes=[{"image_id": number, "width": 1024, "height": 900} for number in range(1, 6)],
        boxes_1024=[[100, 100, 20, 20]] * 5,
        labels=[[1]] * 5,
        attributes=[[0]] * 5,
        relationships=[[row, row] for row in range(4)],
        predicates=[[1]] * 4,
        img_to_first_box=range(5),
        img_to_last_box=range(5),
        img_to_first_rel=[0, 1, 2, 3, -1],
        img_to_last_rel=[0, 1, 2, 3, -1],
        split=[0, 2, 0, 0, 0],
    )

    def ids(**options):
        return [regions.image_id for regions in read(path, **options)[0]]

    assert ids() == ["1", "2", "3", "4", "5"]
    assert ids(split="test") == ["2"]
    assert ids(split="val", val_pictures=2) == ["1", "3"]
    assert ids(split="train", val_pictures=2) == ["4"]
    with pytest.raises(ValueError, match="unknown split 'dev'; choose from: all, test, train, val"):
        ids(split="dev")


def test_boxes_that_are_corners_are_not_guessed(tmp_path):
    # As a centre (900, 400) with 1000 across would leave 1024 x 512; as corners it fits.
    path = write(tmp_path, boxes_1024=[[900, 400, 1000, 500], *TABLES["boxes_1024"][1:]])
    with pytest.raises(
        ValueError,
        match=r"VG-SGG-with-attri\.h5, picture 7: box 0, .* does not fit 1024 x 512 pixels as "
        r"cxcywh.*box_format=xyxy",
    ):
        read(path)
    corners = [[900, 400, 1000, 500], [10, 10, 20, 20], [0, 0, 512, 1024]]
    found, _ = read(write(tmp_path, boxes_1024=corners), box_format="xyxy")
    assert found[0].boxes.tolist() == [[450, 200, 500, 250], [5, 5, 10, 10]]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": [[1], [9], [1]]}, r"picture 7: label 9 is not among the 3 names"),
        ({"predicates": [[0], [1]]}, r"picture 7: predicate 0 is not among the 2 names"),
        ({"sizes": SIZES[:3]}, r"holds 3 pictures, image_data\.json lists 2 beside the broken"),
        ({"split": None}, r"with-attri\.h5: not laid out as this format is"),
        ({"boxes_1024": None}, r"boxes_1024"),
        ({"relationships": [[1, 2], [0, 1]]}, r"picture 7: relation 'near' points to box 2 of 2"),
    ],
)
def test_files_that_do_not_belong_together(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        read(write(tmp_path, **changes))


def test_missing_files_are_named(tmp_path):
    path = write(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"no .*VG-SGG-dicts\.json: .*dicts=FILE"):
        read(path.rename(tmp_path / "VG-SGG.h5"))
    given = str(tmp_path / "VG-SGG-dicts-with-attri.json")
    assert len(read(tmp_path / "VG-SGG.h5", dicts=given)[0]) == 3
    (tmp_path / "VG-SGG.h5").write_text("no h5")
    with pytest.raises(ValueError, match=r"VG-SGG\.h5 is not an h5 file"):
        read(tmp_path / "VG-SGG.h5", dicts=given)
    (tmp_path / "image_data.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"no .*image_data\.json"):
        read(tmp_path / "VG-SGG.h5", dicts=given)


@pytest.mark.skipif(not NAMES.is_file(), reason="needs the real names beside the checkout")
def test_the_real_names(tmp_path):
    found, _ = read(write(tmp_path), dicts=str(NAMES))
    assert found[0].labels == ["airplane", "animal"]
    assert found[0].relations[0][1] == "across"
    assert found[0].attributes[0] == [("black", 1.0), ("white", 1.0)]
