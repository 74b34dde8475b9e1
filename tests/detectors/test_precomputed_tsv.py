import json

import numpy as np
import pytest
from PIL import Image

from tbkin.detectors import precomputed_rows
from tbkin.detectors.precomputed import PrecomputedFeatures
from tbkin.detectors.precomputed_rows import Rows, decode_array
from tbkin.detectors.precomputed_tsv import COLUMNS, parse_row


@pytest.fixture
def tables(layouts, tmp_path):
    """``tables(rows, name) -> detector`` of a TSV of these rows."""

    def write(rows, name="a.tsv", **settings):
        return PrecomputedFeatures(layouts.write_rows(tmp_path / "t" / name, rows), **settings)

    return write


def read(detector, p):
    regions = detector(p.image, p.id)
    assert regions.features.tolist() == p.features.tolist()
    assert regions.boxes.tolist() == p.boxes.tolist()
    return regions


# The three layouts


@pytest.mark.parametrize("ids", ["<i8", "<f4", "<i4"])
def test_rosita_ids_of_any_width_are_the_same(layouts, tables, ids):
    # Its loader for referring expressions reads the ids as float32: 4 bytes each instead of 8.
    rows = [layouts.rosita_row(p, ids) for p in layouts.three()]
    detector = tables(rows, objects_vocabulary=layouts.objects)
    assert detector.reader.layout == "rosita_tsv"
    assert read(detector, layouts.three()[0]).labels == ["stop sign", "yolk"]


def test_ids_of_no_width_are_refused(layouts):
    p = layouts.three()[0]
    fields = [str(field).encode() for field in layouts.rosita_row(p, "<i2")]
    with pytest.raises(ValueError, match=r"has 4 bytes of objects for 2 boxes, expected 8 each"):
        parse_row(COLUMNS["rosita_tsv"], fields, "x")


def test_columns_may_be_named_in_any_order(layouts, tables):
    p = layouts.three()[0]
    rows = [
        ["img_id", "num_boxes", "features", "boxes", "image_h", "image_w"],
        [p.id, 2, layouts.encoded(p.features), layouts.encoded(p.boxes), 32, 64],
    ]
    detector = tables(rows)
    assert (detector.reader.layout, len(detector)) == ("butd_tsv", 1)
    read(detector, p)
    rows[0][1] = "objects_id"
    with pytest.raises(
        ValueError, match=r"a\.tsv names its columns id, objects, features, .*known"
    ):
        tables(rows)


def test_a_csv_writer_of_python_3_that_was_given_bytes(layouts, tables):
    p = layouts.three()[0]
    row = layouts.butd_row(p)
    row[4:] = [str(field.encode()) for field in row[4:]]
    assert row[4].startswith("b'")
    read(tables([row]), p)


def test_unknown_columns_say_what_was_found(layouts, tables):
    p = layouts.three()[0]
    row = layouts.butd_row(p)
    for rows, message in (
        ([row[:5]], r"has 5 columns \(42…, 64…, 32…, 2….*butd_tsv: it has 5 columns instead of 6"),
        ([[*row[:4], row[5], row[4]]], r"butd_tsv: it has 10 numbers in its boxes, expected 4 x 2"),
        ([[*row[:4], "{}", row[5]]], r"butd_tsv: no base64 in a column that should hold it"),
        ([["42", "wide", *row[2:]]], r"butd_tsv: its width is b'wide', no whole number"),
        ([["42", "4", "x"]], r"vinvl_tsv: no base64"),
        ([["42", "{}"]], r"vinvl_tsv: its JSON has no num_boxes and features"),
    ):
        with pytest.raises(ValueError, match=r"a\.tsv is no known feature TSV.*" + message):
            tables(rows)


def test_width_and_height_the_wrong_way_round_are_noticed(layouts, tables):
    p = layouts.three()[0]
    row = layouts.butd_row(p)
    row[1], row[2] = row[2], row[1]
    detector = tables([row])
    with pytest.raises(ValueError, match=r"row of 42: image 42 was 32 x 64 pixels .* 64 x 32 here"):
        detector(p.image, "42")
    with pytest.raises(ValueError, match=r"outside its own picture of 32 x 64"):
        detector(Image.new("RGB", (32, 64)), "42")


def test_several_files_of_a_folder_are_one(layouts, tmp_path):
    one, two, three = layouts.three()
    layouts.write_rows(tmp_path / "t" / "karpathy.tsv.0", [layouts.butd_row(one)])
    layouts.write_rows(tmp_path / "t" / "karpathy.tsv.1", map(layouts.butd_row, (two, three)))
    detector = PrecomputedFeatures(tmp_path / "t")
    assert len(detector) == 3
    for p in (one, two, three):
        read(detector, p)


def test_a_row_twice_is_one_and_two_rows_are_an_error(layouts, tables):
    one, two, _ = layouts.three()
    row, other = layouts.butd_row(one), layouts.butd_row(two)
    assert len(tables([row, other, row])) == 2
    with pytest.raises(ValueError, match=r"a\.tsv has two different rows of image 42"):
        tables([row, ["42", *other[1:]]])


def test_a_row_that_was_cut_off_is_named_when_it_is_read(layouts, tables, tmp_path):
    detector = tables(map(layouts.butd_row, layouts.three()))
    path = tmp_path / "t" / "a.tsv"
    path.write_bytes(path.read_bytes()[:-9])
    detector = PrecomputedFeatures(path)
    read(detector, layouts.three()[1])
    with pytest.raises(ValueError, match=r"a\.tsv, row of 100 is not a region feature file: "):
        detector(layouts.three()[2].image, "100")


# Random access


def write_lines(path, lines):
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_bytes(b"".join(lines))
    return path


LINES = [b"a\t1\n", b"bb\t" + b"x" * 9000 + b"\n", b"c\t3\n"]


def test_rows_are_found_without_an_index(tmp_path):
    rows = Rows([write_lines(tmp_path / "a.tsv", LINES)])
    assert rows.places == {"a": (0, 0), "bb": (0, 4), "c": (0, 9008)}
    assert rows.fields("c") == [b"c", b"3"]
    assert len(rows.fields("bb")[1]) == 9000
    # Windows line ends, an empty line at the end, no line end at all.
    rows = Rows([write_lines(tmp_path / "b.tsv", [b"a\t1\r\n", b"\n", b"c\t3"])])
    assert rows.fields("a") == [b"a", b"1"]
    assert rows.fields("c") == [b"c", b"3"]


def test_a_line_index_saves_the_pass(tmp_path, monkeypatch):
    path = write_lines(tmp_path / "a.tsv", LINES)
    path.with_suffix(".lineidx").write_text("0\n4\n9008\n")
    monkeypatch.setattr(precomputed_rows, "_one_pass", lambda path: pytest.fail("read it all"))
    assert Rows([path]).places == {"a": (0, 0), "bb": (0, 4), "c": (0, 9008)}
    (tmp_path / "img_feat_offset_map.json").write_text('{"c": 2, "a": 0, "bb": 1}')
    assert Rows([path]).places == {"a": (0, 0), "bb": (0, 4), "c": (0, 9008)}


@pytest.mark.parametrize(
    "index",
    [
        "", "0\n", "0\n4\n", "0\n5\n9008\n", "4\n9008\n", "0\n9008\n4\n", "0\n4\n9008\n99999\n",
        "0 four 9008", "0\n4\n9009\n", "0\n4\n4\n9008\n", "\u00b2\n",
    ],
)  # fmt: skip
def test_a_line_index_that_does_not_fit_is_left_alone(tmp_path, index):
    path = write_lines(tmp_path / "a.tsv", LINES)
    path.with_suffix(".lineidx").write_text(index, encoding="utf-8")
    assert Rows([path]).places == {"a": (0, 0), "bb": (0, 4), "c": (0, 9008)}


@pytest.mark.parametrize(
    "rows",
    [
        {"a": 0, "bb": 2, "c": 1},  # two rows exchanged
        {"a": 0, "bb": 1},
        {"a": 0, "bb": 4, "c": 9008},  # bytes instead of rows
        {"a": 0, "bb": 1, "x": 2},
        {"a": "zero"},
        [0, 1, 2],
    ],
)
def test_an_offset_map_that_does_not_fit_is_left_alone(tmp_path, rows):
    path = write_lines(tmp_path / "a.tsv", LINES)
    path.with_suffix(".lineidx").write_text("0\n4\n9008\n")
    (tmp_path / "img_feat_offset_map.json").write_text(json.dumps(rows))
    assert Rows([path]).places == {"a": (0, 0), "bb": (0, 4), "c": (0, 9008)}


def test_a_row_that_moved_is_noticed(tmp_path):
    path = write_lines(tmp_path / "a.tsv", LINES)
    rows = Rows([path])
    write_lines(path, LINES[::-1])
    with pytest.raises(ValueError, match=r"changed while it was in use"):
        rows.fields("c")


def test_a_row_without_an_id_is_named(tmp_path):
    for line in (b"\t1\n", b"no tab\n", b"\xff\t1\n", b"x" * 5000 + b"\t1\n"):
        path = write_lines(tmp_path / "a.tsv", [b"a\t1\n", line])
        with pytest.raises(ValueError, match=r"a\.tsv is not .*: the row at byte 4 begins with no"):
            Rows([path])


def test_memory_does_not_hold_the_rows(tmp_path):
    import tracemalloc

    path = tmp_path / "a.tsv"
    with path.open("wb") as file:
        for number in range(40):
            file.write(b"%d\t" % number + b"x" * 500_000 + b"\n")  # 20 MB
    tracemalloc.start()
    rows = Rows([path])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(rows.places) == 40
    assert peak < 5_000_000


def test_arrays_are_little_endian_base64():
    assert decode_array(b"AACAPwAAAEA=", "<f4").tolist() == [1.0, 2.0]  # 00 00 80 3f 00 00 00 40
    assert decode_array(b"AgAAAAAAAAA=", "<i8").tolist() == [2]
    assert decode_array(b"", "<f4").tolist() == []
    for field in (b"AACA", b"A", b"AACAP*AAAEA="):  # 3 bytes, no base64 twice
        with pytest.raises(ValueError, match=r"base64|buffer size"):
            decode_array(field, "<f4")


# VinVL


def test_vinvl_features_lose_their_six_numbers_of_geometry(layouts, tables):
    p = layouts.three()[0]
    p.features = np.random.default_rng(0).random((2, 2048), np.float32)
    row = layouts.vinvl_row(p)
    assert len(row[2]) == 4 * -(-2 * 2054 * 4 // 3)  # 2 x 2054 floats in base64
    detector = tables([row])
    assert detector.reader.layout == "vinvl_tsv"
    assert read(detector, p).features.shape == (2, 2048)
    # The captioning files: the same in JSON; and height before width in the geometry.
    read(tables([[p.id, json.dumps({"num_boxes": 2, "features": row[2]})]], "b.tsv"), p)
    geometry = layouts.geometry(p, 6)[:, [0, 1, 2, 3, 5, 4]]
    read(tables([[p.id, 2, layouts.encoded(np.hstack([p.features, geometry]))]], "c.tsv"), p)


def test_vinvl_columns_that_are_no_geometry_are_refused(layouts, tables):
    p = layouts.three()[0]
    for wrong in (np.zeros((2, 6)) + 0.5, np.ones((2, 6)) * 40, np.full((2, 6), np.nan)):
        values = np.hstack([p.features, wrong]).astype(np.float32)
        with pytest.raises(ValueError, match=r"its box geometry is not left, top, right, bottom"):
            tables([[p.id, 2, layouts.encoded(values)]])


def label_rows(p, names):
    return [p.id, json.dumps([
        {"class": name, "rect": box, "conf": score}
        for name, box, score in zip(names, p.boxes.tolist(), p.scores.tolist(), strict=True)
    ])]  # fmt: skip


def test_vinvl_label_files_name_the_regions(layouts, tmp_path):
    pictures = layouts.three()
    folder = layouts.write("vinvl_tsv", pictures)
    names = [["cat", "mat"], ["a", "b", "c"], ["dog"]]
    rows = [label_rows(p, words) for p, words in zip(pictures, names, strict=True)]
    layouts.write_rows(folder / "train.label.tsv", rows)
    layouts.write_rows(folder / "train.hw.tsv", [[p.id, "[]"] for p in pictures])
    for path in (folder, folder / "features.tsv"):
        detector = PrecomputedFeatures(path)
        for p, words in zip(pictures, names, strict=True):
            regions = read(detector, p)
            assert regions.labels == words
            assert regions.scores == p.scores.tolist()
    assert read(PrecomputedFeatures(folder, labels="none"), pictures[0]).labels == ["", ""]

    first = json.loads(rows[0][1])
    for changed, message in (
        (first[:1], r"label\.tsv, row of 42 is not .*it has 1 labels for 2 boxes"),
        (first[::-1], r"label\.tsv, row of 42 .*its rectangles are not the boxes of the features"),
        ({"x": 1}, r"it has no list of labels"),
        ([{"rect": [0, 0, 1, 1]}] * 2, r"row of 42 is not .*'class'"),
    ):
        layouts.write_rows(folder / "train.label.tsv", [[rows[0][0], json.dumps(changed)]])
        with pytest.raises(ValueError, match=message):
            PrecomputedFeatures(folder)(pictures[0].image, "42")
    with pytest.raises(ValueError, match=r"label\.tsv has no row of image 7; labels=none"):
        PrecomputedFeatures(folder)(pictures[1].image, "7")
