import hashlib

import pytest

from tbkin.files import file_hash, new_folder, write_json, write_text


def names(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def test_a_new_folder_appears_only_when_it_is_complete(tmp_path):
    target = tmp_path / "deep" / "store"
    with new_folder(target) as unfinished:
        (unfinished / "part").write_text("1")
        assert not target.exists()
    assert names(tmp_path) == ["deep", "deep/store", "deep/store/part"]


def fail_half_way(folder, error):
    with new_folder(folder) as unfinished:
        (unfinished / "new").write_text("1")
        raise error("half way")


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_leaves_nothing_new(tmp_path, error):
    with pytest.raises(error, match="half way"):
        fail_half_way(tmp_path / "store", error)
    assert names(tmp_path) == []


def test_an_error_leaves_the_old_folder_as_it_was(tmp_path):
    target = tmp_path / "store"
    target.mkdir()
    (target / "old").write_text("kept")
    with pytest.raises(ValueError, match="half way"):
        fail_half_way(target, ValueError)
    assert names(tmp_path) == ["store", "store/old"]
    assert (target / "old").read_text() == "kept"


def test_a_folder_that_is_there_is_replaced_whole(tmp_path):
    target = tmp_path / "store"
    (target / "inner").mkdir(parents=True)
    (target / "inner" / "old").write_text("gone")
    with new_folder(target) as unfinished:
        (unfinished / "new").write_text("1")
        assert (target / "inner" / "old").exists()
    assert names(tmp_path) == ["store", "store/new"]


def test_write_text_makes_the_folder_and_leaves_one_file(tmp_path):
    write_text(tmp_path / "a" / "b.txt", "größe ★")
    assert names(tmp_path) == ["a", "a/b.txt"]
    assert (tmp_path / "a" / "b.txt").read_bytes() == "größe ★".encode()


def test_write_text_never_touches_the_file_until_all_of_it_is_there(tmp_path):
    path = tmp_path / "file.txt"
    write_text(path, "old")
    with pytest.raises(UnicodeEncodeError):  # fails in the middle of writing
        write_text(path, "half\ud800")
    assert path.read_text() == "old"


def test_write_json_keeps_letters_readable(tmp_path):
    write_json(tmp_path / "x.json", {"a": ["é"]})
    assert (tmp_path / "x.json").read_text(encoding="utf-8") == '{\n "a": [\n  "é"\n ]\n}\n'


def test_file_hash_is_sha256_of_the_bytes(tmp_path):
    (tmp_path / "x").write_bytes(b"abc")
    assert file_hash(tmp_path / "x") == hashlib.sha256(b"abc").hexdigest()
