"""Entries -> rows."""

import pytest

from tbkin.data.retrieval_files import (
    PUBLISHED,
    RESTVAL,
    Entry,
    Source,
    assemble,
    plain_name,
    read_pictures,
)

SOURCE = Source("", "lists", {})


def entry(key, caption="a dog", split="train", **others):
    return Entry(f"row of {key}", split, key, caption, **others)


def rows_of(entries, **others):
    return assemble(entries, SOURCE, **others).splits


def test_captions_of_a_picture_become_adjacent_in_file_order():
    found = assemble(
        [
            entry("b.jpg", "one", picture="b.jpg"),
            entry("a.jpg", "two", picture="a.jpg"),
            entry("b.jpg", "three", picture="b.jpg"),
        ],
        SOURCE,
    )
    # No number in the names: pictures count from 0 as they come, captions as they are written.
    assert found.splits["train"] == [
        {"caption_id": 0, "image_id": 0, "identity": 0, "caption": "one"},
        {"caption_id": 1, "image_id": 0, "identity": 0, "caption": "three"},
        {"caption_id": 2, "image_id": 1, "identity": 1, "caption": "two"},
    ]
    assert found.numbered_by == "place"
    assert found.pictures == {0: "b.jpg", 1: "a.jpg"}
    assert not found.identities


@pytest.mark.parametrize(
    ("entries", "expected", "numbered_by"),
    [
        # The file's own numbers come first, if each picture has one of its own …
        ([("x/7.jpg", 70), ("x/8.jpg", 80)], [70, 80], "file"),
        ([("x/7.jpg", 0), ("x/8.jpg", 1)], [0, 1], "place"),  # which these numbers are
        # … else the names' (two pictures of number 70; a picture without number; no numbers).
        ([("x/7.jpg", 70), ("x/8.jpg", 70)], [7, 8], "name"),
        ([("x/7.jpg", 70), ("x/8.jpg", None)], [7, 8], "name"),
        ([("x/007.jpg", None), ("COCO_val2014_000000000042.jpg", None)], [7, 42], "name"),
        # … else places: names that share a number, or one that has none at its end.
        ([("x/7.jpg", None), ("y/7.jpg", None)], [0, 1], "place"),
        ([("x/7.jpg", None), ("y/b.jpg", None)], [0, 1], "place"),
        ([("7_c.jpg", None), ("8_c.jpg", None)], [0, 1], "place"),
    ],
)
def test_what_numbers_pictures(entries, expected, numbered_by):
    found = assemble([entry(name, picture=name, image_id=own) for name, own in entries], SOURCE)
    assert [row["image_id"] for row in found.splits["train"]] == expected
    assert found.numbered_by == numbered_by


def test_a_picture_with_two_numbers_of_its_own_goes_by_its_name():
    # ALBEF-style lists may count captions as "image_id".
    found = assemble([entry("a/5.jpg", picture="a/5.jpg", image_id=n) for n in (0, 1)], SOURCE)
    assert [row["image_id"] for row in found.splits["train"]] == [5, 5]


def test_caption_ids_are_the_files_where_all_differ():
    own = [entry("1", caption_id=9, image_id=1), entry("2", caption_id=4, image_id=2)]
    assert [row["caption_id"] for row in rows_of(own)["train"]] == [9, 4]
    own.append(entry("3", caption_id=9, image_id=3))
    assert [row["caption_id"] for row in rows_of(own)["train"]] == [0, 1, 2]


def test_ids_are_unique_across_splits():
    entries = [entry("a"), entry("b", split="dev"), entry("c", split="test")]
    splits = rows_of(entries)
    assert list(splits) == ["train", "val", "test"]
    assert [rows[0]["caption_id"] for rows in splits.values()] == [0, 1, 2]
    assert [rows[0]["image_id"] for rows in splits.values()] == [0, 1, 2]


def test_the_first_captions_count():
    entries = [entry("a", str(n)) for n in range(7)] + [entry("b", "x")]
    five = assemble(entries, Source("coco", "lists", {}))
    assert [row["caption"] for row in five.splits["train"]] == ["0", "1", "2", "3", "4", "x"]
    # Ids are those that all captions have, so that they do not depend on the number.
    assert [row["caption_id"] for row in five.splits["train"]] == [0, 1, 2, 3, 4, 7]
    assert (five.captions, five.left_out) == (5, {"captions": 2})
    assert len(assemble(entries, Source("coco", "lists", {}), captions=0).splits["train"]) == 8
    assert len(rows_of(entries)["train"]) == 8  # no custom for other data sets
    assert len(rows_of(entries, captions=1)["train"]) == 2


def test_empty_captions_are_left_out_and_counted():
    found = assemble([entry("a", " \n"), entry("a", "x"), entry("b", "")], SOURCE)
    assert [row["caption"] for row in found.splits["train"]] == ["x"]
    assert found.left_out == {"empty_captions": 2, "pictures": 1}
    assert list(found.pictures) == [0]
    with pytest.raises(ValueError, match=r"a\.json: no captions; name files that hold some"):
        assemble([entry("b", "")], Source("", "lists", {"captions": "a.json"}))


def test_identities_stay_as_they_are():
    found = assemble(
        [entry("a", identity=31), entry("b", identity=7), entry("c", identity=31)], SOURCE
    )
    assert [row["identity"] for row in found.splits["train"]] == [31, 7, 31]
    assert [row["image_id"] for row in found.splits["train"]] == [0, 1, 2]
    assert found.identities


def test_what_cannot_be_one_picture_is_refused():
    with pytest.raises(ValueError, match=r"row of a: picture a is of split val, and of train in r"):
        rows_of([entry("a"), entry("a", split="val")])
    with pytest.raises(ValueError, match=r"picture a has the identity 2, and 1 in row of a"):
        rows_of([entry("a", identity=1), entry("a", identity=2)])
    with pytest.raises(ValueError, match=r"row of b has no identity, and others have one"):
        rows_of([entry("a", identity=1), entry("b")])
    with pytest.raises(ValueError, match=r"row of a has the split 'dev2'; known are: train, rest"):
        rows_of([entry("a", split="dev2")])


def test_ids_that_count_pictures_are_places_though_some_are_left_out():
    # The file numbers its three pictures 0, 1 and 2, and the second has no caption to speak of.
    def found(*ids):
        said = [("a.jpg", "x"), ("b.jpg", " "), ("c.jpg", "y")]
        return assemble(
            [
                Entry("f", "train", name, caption, name, image_id=number)
                for (name, caption), number in zip(said, ids, strict=True)
            ],
            Source("", "lists", {}),
        )

    assert (list(found(0, 1, 2).pictures), found(0, 1, 2).numbered_by) == ([0, 2], "place")
    assert found(0, 1, 5).numbered_by == "file"
    assert found(0, 1, 2).left_out == {"empty_captions": 1, "pictures": 1}


def test_restval_is_training():
    assert list(rows_of([entry("a", split="restval"), entry("b")])) == ["train"]


def test_published_numbers():
    # COCO without restval is train2014 whole: 82,783 pictures. The persons' splits add up to the
    # numbers that papers give: 40,206 pictures of 13,003; 54,522 of 4,102; 20,505 of 4,101; birds
    # 11,788 of 200; flowers 8,189 of 102.
    def total(name, what):
        return sum(split[what] for split in PUBLISHED[name].values())

    assert PUBLISHED["coco"]["train"]["pictures"] - RESTVAL == 82_783
    assert {
        name: (total(name, "pictures"), total(name, "identities"))
        for name in ("cuhk_pedes", "icfg_pedes", "rstpreid", "cub", "flowers")
    } == {
        "cuhk_pedes": (40_206, 13_003),
        "icfg_pedes": (54_522, 4_102),
        "rstpreid": (20_505, 4_101),
        "cub": (11_788, 200),
        "flowers": (8_189, 102),
    }


def test_numbers_found_beside_those_published():
    source = Source("coco", "karpathy", {}, official=True)
    found = assemble([entry("a"), entry("b", split="restval")], source)
    assert found.official_counts()["train_pictures"] == {"found": 2, "published": 113_287}
    assert found.official_counts(restval=False)["train_pictures"]["published"] == 82_783
    assert assemble([entry("a")], source._replace(official=False)).official_counts() == {}
    # Of birds a part of the published training split is used for validation.
    birds = Source("cub", "classes", {}, official=True)
    entries = [
        entry(k, split=s, identity=n) for n, (k, s) in enumerate([("a", "train"), ("b", "val")])
    ]
    counts = assemble(entries, birds).official_counts()
    assert counts["train_identities"] == {"found": 2, "published": 150}
    assert counts["test_pictures"] == {"found": 0, "published": 2_933}


def test_pictures_of_a_prepared_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"has no pictures\.json; prepare the data again"):
        read_pictures(tmp_path)
    (tmp_path / "pictures.json").write_text('{"42": "val2014/42.jpg"}')
    assert read_pictures(tmp_path) == {42: "val2014/42.jpg"}


def test_plain_names():
    assert plain_name("./pics\\a.jpg") == "pics/a.jpg"
