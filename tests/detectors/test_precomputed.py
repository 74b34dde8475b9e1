import contextlib
import gc
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from tbkin.detectors.precomputed import LAYOUTS, PrecomputedFeatures
from tbkin.detectors.precomputed_names import StoredNames
from tbkin.detectors.precomputed_record import StoredRegions, class_scores, rows_first
from tbkin.detectors.precomputed_regions import read_vocabulary, regions_of

VOCABULARY = Path(__file__).resolve().parents[3] / "shared/data/vocab"
NAMED = ("lxmert_tsv", "rosita_tsv", "milvlg_npz", "rosita_npz", "uniter_npz", "uniter_lmdb",
         "mmf_npy", "mmf_lmdb")  # fmt: skip
WITH_ATTRIBUTES = ("lxmert_tsv", "rosita_tsv", "milvlg_npz", "rosita_npz")


def equal(regions, p):
    assert regions.boxes.tolist() == p.boxes.tolist()
    assert regions.boxes.dtype == regions.features.dtype == torch.float32
    assert regions.features.tolist() == p.features.tolist()
    assert (regions.width, regions.height) == p.size


def read_all(path, pictures):
    detector = PrecomputedFeatures(path)
    return [detector(p.image, p.id) for p in pictures]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_is_recognised_and_read_back_equal(layouts, layout):
    detector = PrecomputedFeatures(layouts.write(layout))
    assert detector.reader.layout == layout
    assert len(detector) == 3
    for p in layouts.three():
        for image_id in (p.id, p.name, f"{int(p.id):012d}", f"{p.name}.jpg"):
            assert image_id in detector
            regions = detector(p.image, image_id)
            equal(regions, p)
            assert regions.image_id == image_id
            assert regions.labels == [""] * len(p.boxes)
            assert regions.attributes == [[] for _ in p.boxes]


def test_every_layout_has_a_writer_here(layouts):
    assert set(layouts.names) == set(LAYOUTS)


@pytest.mark.parametrize("layout", NAMED)
def test_ids_become_the_names_of_the_vocabulary(layouts, layout):
    attributes = layouts.attributes if layout in WITH_ATTRIBUTES else ""
    detector = PrecomputedFeatures(
        layouts.write(layout), objects_vocabulary=layouts.objects, attributes_vocabulary=attributes
    )
    p = layouts.three()[0]  # objects 2 and 0: the first of the synonyms names each
    regions = detector(p.image, p.id)
    assert regions.labels == ["stop sign", "yolk"]
    assert regions.scores == [0.5, 0.75]
    if attributes:  # 1 and 2, of confidence 1 and 0
        assert regions.attributes == [[("wooden", 1.0)], [("small", 0.0)]]
    for p in layouts.three():
        found = detector(p.image, p.id)
        assert found.labels == [layouts.object_names[number] for number in p.objects]
        assert found.scores == p.scores.tolist()


@pytest.mark.parametrize("layout", ["butd_tsv", "plain_npz", "butd_h5", "vinvl_tsv"])
def test_a_vocabulary_for_a_layout_without_ids_is_an_error(layouts, layout):
    path = layouts.write(layout)
    with pytest.raises(ValueError, match=rf"is {layout}, which holds no class ids: leave objects_"):
        PrecomputedFeatures(path, objects_vocabulary=layouts.objects)
    assert len(PrecomputedFeatures(path, objects_vocabulary=layouts.objects, labels="none")) == 3


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_picture_that_is_not_there_is_named(layouts, layout):
    path = layouts.write(layout)
    detector = PrecomputedFeatures(path)
    for image_id in ("43", "COCO_val2014_000000000043", "flickr30k_000000000043", "", "cat.jpg"):
        assert image_id not in detector
        with pytest.raises(LookupError) as caught:
            detector(Image.new("RGB", (64, 32)), image_id)
        message = str(caught.value)
        assert f"no region features for image {image_id} in {path}" in message
        assert "(3 images there)" in message


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_same_picture_in_another_size_has_its_boxes_scaled(layouts, layout):
    detector = PrecomputedFeatures(layouts.write(layout))
    p = layouts.three()[0]  # 64 x 32
    if layout == "plain_npz":  # no size stored, and no way to tell
        assert detector(Image.new("RGB", (128, 64)), p.id).boxes.tolist() == p.boxes.tolist()
        return
    found = detector(Image.new("RGB", (128, 64)), p.id)
    assert torch.allclose(found.boxes, torch.from_numpy(p.boxes) * 2)
    assert (found.width, found.height) == (128, 64)
    # 65 x 32: 2.03 against 2 is 1.6 %, another picture; shares fit any.
    other = Image.new("RGB", (65, 32))
    if layout in ("uniter_npz", "uniter_lmdb", "vinvl_tsv"):
        assert len(detector(other, p.id)) == 2
        return
    with pytest.raises(ValueError, match=r"64 x 32 pixels when .* is 65 x 32 here"):
        detector(other, p.id)
    with pytest.raises(ValueError, match=r"64 x 32 pixels .* 32 x 64 here; .*turned \(EXIF\)\?"):
        detector(Image.new("RGB", (32, 64)), p.id)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_detector_says_how_its_features_were_made(layouts, layout):
    path = layouts.write(layout)
    detector = PrecomputedFeatures(path, layout)
    assert detector.policy == f"precomputed {layout}"
    assert detector.extractor == f"precomputed {layout} 5"
    assert detector.weights == ""


class Regionwise(torch.utils.data.Dataset):
    def __init__(self, detector, pictures):
        self.detector, self.pictures = detector, pictures

    def __len__(self):
        return len(self.pictures)

    def __getitem__(self, place):
        size, image_id = self.pictures[place]
        return self.detector(Image.new("RGB", size), image_id).features.sum()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_it_works_in_data_loader_workers(layouts, layout):
    detector = PrecomputedFeatures(layouts.write(layout))
    pictures = layouts.three()
    detector(pictures[0].image, "42")  # opened in the parent first
    data = Regionwise(detector, [(p.size, p.id) for p in pictures])
    expected = [p.features.sum() for p in pictures]
    loader = DataLoader(data, num_workers=2, batch_size=None, multiprocessing_context="fork")
    assert [float(total) for total in loader] == expected
    copy = pickle.loads(pickle.dumps(data))  # what a spawned worker gets
    assert [float(copy[place]) for place in range(3)] == expected


@pytest.mark.parametrize("layout", LAYOUTS)
def test_nothing_stays_open_and_nothing_is_written(layouts, layout):
    path = layouts.write(layout)
    folder = path if path.is_dir() else path.parent
    before = {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    gc.collect()
    handles = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    detector, again = PrecomputedFeatures(path), PrecomputedFeatures(path)
    for p in layouts.three():
        equal(detector(p.image, p.id), p)
        equal(again(p.image, p.id), p)
    if handles:
        assert len(os.listdir("/proc/self/fd")) <= handles
    assert {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()} == before


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_damaged_file_is_a_value_error_that_names_it(layouts, layout):
    path = layouts.write(layout)
    folder = path if path.is_dir() else path.parent
    files = [file for file in folder.rglob("*") if file.is_file()]
    files = [file for file in files if file.suffix not in (".lineidx", ".json")]
    assert files
    for file in files:
        whole = file.read_bytes()
        for content in (b"", b"nothing of the kind", whole[: len(whole) // 2], whole[:-30]):
            file.write_bytes(content)
            with pytest.raises((ValueError, LookupError)) as caught:
                read_all(path, layouts.three())
            # A TSV that ends after a whole row has lost pictures, and no more.
            assert file.name in str(caught.value) or folder.name in str(caught.value)
            if layout.endswith(("npz", "npy", "h5", "lmdb")):
                assert isinstance(caught.value, ValueError)
                assert not isinstance(caught.value, LookupError)
        file.write_bytes(whole)


@pytest.mark.parametrize("layout", [name for name in LAYOUTS if "lmdb" not in name])
def test_flipped_bytes_raise_nothing_else(layouts, layout):
    # Not LMDB: it trusts its own pages, and a flipped one may end the process.
    path = layouts.write(layout)
    folder = path if path.is_dir() else path.parent
    numbers = np.random.default_rng(0)
    for file in [file for file in folder.rglob("*") if file.is_file()]:
        whole = file.read_bytes()
        for _ in range(25):
            content = bytearray(whole)
            for place in numbers.integers(0, len(whole), 3):
                content[place] = numbers.integers(256)
            file.write_bytes(content)
            with contextlib.suppress(ValueError, LookupError, FileNotFoundError):
                read_all(path, layouts.three())
        file.write_bytes(whole)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_another_layouts_name_is_refused(layouts, layout):
    path = layouts.write(layout)
    other = "butd_h5" if layout != "butd_h5" else "butd_tsv"
    with pytest.raises(ValueError, match=rf"{path.name} .*{other}"):
        PrecomputedFeatures(path, other)


def test_unknown_content_says_what_was_found_and_what_there_is(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no folder of region features .*none"):
        PrecomputedFeatures(tmp_path / "none")
    with pytest.raises(ValueError, match=r"unknown feature layout 'butd'; choose from: butd_h5"):
        PrecomputedFeatures(tmp_path, "butd")
    with pytest.raises(ValueError, match=r"unknown labels 'all'; choose from: auto, none"):
        PrecomputedFeatures(tmp_path, labels="all")
    with pytest.raises(ValueError, match=r"no region features .*\(found: nothing\).*butd_tsv"):
        PrecomputedFeatures(tmp_path)
    (tmp_path / "notes.txt").write_text("hello")
    for path in (tmp_path, tmp_path / "notes.txt"):
        with pytest.raises(ValueError, match=r"\(found: notes\.txt\)\. Layouts: butd_tsv, lxmert"):
            PrecomputedFeatures(path)
    np.save(tmp_path / "val_ims.npy", np.zeros((10, 36, 4)))
    with pytest.raises(ValueError, match=r"one array file; name its folder.*SCAN's"):
        PrecomputedFeatures(tmp_path / "val_ims.npy")


def test_a_folder_of_two_layouts_needs_a_name(layouts, tmp_path):
    layouts.write("butd_tsv")
    layouts.write("rosita_npz")
    with pytest.raises(ValueError, match=r"may be several layouts: it holds tsv, npz files"):
        PrecomputedFeatures(tmp_path)
    assert PrecomputedFeatures(tmp_path, "rosita_npz").reader.layout == "rosita_npz"


def test_tables_of_two_layouts_are_not_mixed(layouts, tmp_path):
    layouts.write("butd_tsv")
    layouts.write("lxmert_tsv")
    with pytest.raises(
        ValueError, match=r"layouts \(trainval_36\.tsv: butd_tsv, val2014_obj36\.tsv"
    ):
        PrecomputedFeatures(tmp_path)


# Names


@pytest.mark.parametrize(
    ("stored", "asked"),
    [
        (["36979.jpg", "1.jpg"], "36979"),
        (["36979"], "36979.jpg"),
        (["flickr30k_000000036979.npz"], "36979"),
        (["nlvr2_dev-850-1-img0.npz", "nlvr2_dev-851-1-img0.npz"], "dev-850-1-img0.png"),
        (["val2014/COCO_val2014_000000000042"], "COCO_val2014_000000000042.jpg"),
        (["COCO_train2014_000000000042.jpg"], "COCO_val2014_000000000042.jpg"),
        (["000000000042", "1042"], "42"),
        (["img042"], "42"),
        (["a.b.jpg", "a.c.jpg"], "a.b"),
        (["42", "042"], "042"),
    ],
)
def test_a_name_is_found_by_its_stem_and_then_by_its_number(stored, asked):
    assert StoredNames(stored, "x").find(asked) == stored[0 if asked != "042" else 1]


@pytest.mark.parametrize(
    ("stored", "asked"),
    [
        ("COCO_val2014_000000000042", "flickr30k_000000000042"),
        ("flickr30k_000000000042.npz", "COCO_val2014_000000000042"),
        ("photo12", "other12"),
        ("photo12", "COCO_val2014_000000000012"),
        ("42", "421"),
        ("42", "x"),
        ("42", "²"),
    ],
)
def test_a_number_of_another_data_set_is_another_picture(stored, asked):
    with pytest.raises(LookupError, match=rf"image {asked} in .*Ids there look like '{stored}'"):
        StoredNames([stored], "x").find(asked)


def test_a_number_that_fits_two_pictures_is_an_error_not_a_missing_picture():
    names = StoredNames(["dev-1-img0", "dev-2-img0", "dev-3-img0", "dev-4-img0"], "x.tsv")
    with pytest.raises(ValueError, match=r"image 0 may be 'dev-1-img0', .* \(4 fit\)") as caught:
        names.find("0")
    assert not isinstance(caught.value, LookupError)


# Boxes and sizes


def stored(boxes, **settings):
    count = len(boxes)
    return StoredRegions("f.npz", np.zeros((count, 2)), np.array(boxes, np.float32), **settings)


PICTURE = Image.new("RGB", (40, 20))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"boxes": [[0, 0, 30, 21.5]], "size": (40, 20)}, r"box \[0.0, 0.0, 30.0, 21.5\] outside"),
        ({"boxes": [[-2, 0, 30, 20]], "size": (40, 20)}, r"outside its own picture of 40 x 20"),
        ({"boxes": [[41.5, 0, 50, 9]]}, r"begins outside the picture of 40 x 20"),
        ({"boxes": [[0, 0, 1, 1], [0.2, 0.2, 0.7, 1]]}, r"no box beyond 1; .* look like shares"),
        ({"boxes": [[0, 0, 30, 10]], "shares": True}, r"boxes up to 30; this layout holds shares"),
        ({"boxes": [[-0.5, 0, 0.2, 1]], "shares": True}, r"this layout holds shares"),
        ({"boxes": [[9, 9, 3, 12]]}, r"right or lower edge comes first; not xyxy"),
        ({"boxes": [[0, 0, np.nan, 9]]}, r"not finite"),
        (
            {"boxes": [[0, 0, 5, 5]], "size": (41, 20)},
            r"was 41 x 20 pixels .*, and is 40 x 20 here",
        ),
        ({"boxes": [[0, 0, 5, 5]], "object_scores": [12.0]}, r"confidences from 12 to 12"),
        ({"boxes": [[0, 0, 5, 5]], "object_scores": [np.nan]}, r"confidences from nan"),
    ],
)
def test_boxes_that_do_not_fit_are_refused(settings, message):
    with pytest.raises(ValueError, match=r"f\.npz.*" + message):
        regions_of(stored(**settings), PICTURE, "1")


def test_rounding_of_extractors_is_forgiven_and_cut():
    found = regions_of(stored([[-0.5, 0, 41, 20.9]], size=(40, 20)), PICTURE, "1")
    assert found.boxes.tolist() == [[0, 0, 40, 20]]
    found = regions_of(stored([[0, -0.001, 1.001, 0.5]], shares=True), PICTURE, "1")
    assert found.boxes.tolist() == [[0, 0, 40, 10]]


def test_a_size_within_one_per_cent_is_the_same_picture():
    # 401 x 200 against 40 x 20: 2.005 against 2, a quarter of a per cent.
    found = regions_of(stored([[0, 0, 200.5, 100]], size=(401, 200)), PICTURE, "1")
    assert found.boxes.tolist() == [[0, 0, 20, 10]]


def test_a_picture_without_regions_has_none(layouts):
    empty = layouts.picture(9, (8, 8), np.zeros((0, 4)), [], [], [], [])
    for layout in ("butd_tsv", "lxmert_tsv", "rosita_tsv", "vinvl_tsv", "rosita_npz", "butd_h5"):
        path = layouts.write(layout, [empty, *layouts.three()])
        detector = PrecomputedFeatures(path)
        assert detector.reader.layout == layout
        regions = detector(empty.image, "9")
        assert len(regions) == 0
        assert regions.features.shape == (0, 5)
        assert detector.feature_width == 5


def test_features_of_another_width_are_refused(layouts):
    pictures = layouts.three()
    pictures[2].features = np.zeros((1, 7), np.float32)
    detector = PrecomputedFeatures(layouts.write("rosita_npz", pictures))
    detector(pictures[0].image, "42")
    with pytest.raises(ValueError, match=r"100\.jpg\.npz has 7 features a region, .* 5; they are"):
        detector(pictures[2].image, "100")


def test_orientation_is_decided_by_the_number_of_boxes():
    wide = np.arange(6).reshape(2, 3)
    assert rows_first(wide, 2).tolist() == [[0, 1, 2], [3, 4, 5]]
    assert rows_first(wide, 3).tolist() == [[0, 3], [1, 4], [2, 5]]
    assert rows_first(wide[None], 2).shape == (2, 3)
    with pytest.raises(ValueError, match=r"\(2, 3\), and there are 4 boxes"):
        rows_first(wide, 4)
    with pytest.raises(ValueError, match=r"\(2048, 2048\) for 2048 boxes: .*rows or columns"):
        rows_first(np.zeros((2048, 2048)), 2048)


def test_confidences_come_out_of_probabilities():
    ids = np.array([1, 0])
    assert class_scores(np.array([0.5, 0.25]), ids).tolist() == [0.5, 0.25]
    # Without background column the best class is the id: 0.6 and 0.7.
    assert class_scores(np.array([[0.4, 0.6], [0.7, 0.3]]), ids).tolist() == [0.6, 0.7]
    # With background in column 0, which is the best of row 1: ids 1 and 0 have 0.6 and 0.2.
    soft = np.array([[0.3, 0.1, 0.6], [0.75, 0.2, 0.05]])
    assert class_scores(soft, ids).tolist() == [0.6, 0.2]


# Vocabularies


def test_a_vocabulary_has_a_name_a_line_and_synonyms_after_commas(tmp_path):
    path = tmp_path / "v.txt"
    path.write_text("stop sign,stopsign\ncat \n\n")
    assert read_vocabulary(path) == ["stop sign", "cat"]
    path.write_text("__background__\nyolk\n")
    assert read_vocabulary(path) == ["yolk"]
    for content in (b"", b"\n\n", b"a\n\nb\n", b"\xff\xfe"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"v\.txt is not a vocabulary"):
            read_vocabulary(path)
    with pytest.raises(FileNotFoundError, match=r"no vocabulary file .*none"):
        read_vocabulary(tmp_path / "none")


@pytest.mark.skipif(not VOCABULARY.is_dir(), reason="needs the shared data")
def test_the_real_vocabularies_have_their_known_sizes():
    objects = read_vocabulary(VOCABULARY / "vg1600_objects_vocab.txt")
    attributes = read_vocabulary(VOCABULARY / "vg1600_attributes_vocab.txt")
    assert (len(objects), len(attributes)) == (1600, 400)
    assert (objects[0], objects[16], attributes[0]) == ("yolk", "stop sign", "gray")


def test_ids_outside_the_vocabulary_are_refused(layouts, tmp_path):
    short = tmp_path / "short.txt"
    short.write_text("yolk\ngoal\n")
    detector = PrecomputedFeatures(layouts.write("lxmert_tsv"), objects_vocabulary=short)
    with pytest.raises(ValueError, match=r"ids of objects from 0 to 2; the vocabulary has 2 names"):
        detector(Image.new("RGB", (64, 32)), "42")
    detector = PrecomputedFeatures(layouts.write("uniter_npz"), objects_vocabulary=short)
    with pytest.raises(ValueError, match=r"knows 4 classes and objects_vocabulary has 2"):
        detector(Image.new("RGB", (64, 32)), "42")


def test_a_file_without_ids_is_named(layouts):
    path = layouts.write("rosita_npz")
    for file in path.rglob("*.npz"):  # as in ROSITA's demo
        with np.load(file) as content:
            kept = {name: content[name] for name in ("x", "boxes", "image_h", "image_w")}
        np.savez(file, **kept)
    assert PrecomputedFeatures(path)(Image.new("RGB", (64, 32)), "42").scores == [1.0, 1.0]
    detector = PrecomputedFeatures(path, objects_vocabulary=layouts.objects)
    with pytest.raises(ValueError, match=r"42\.jpg\.npz holds no ids of objects, so objects_vocab"):
        detector(Image.new("RGB", (64, 32)), "42")
