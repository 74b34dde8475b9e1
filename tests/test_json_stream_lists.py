import gzip
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tbkin.json_stream import read_lists

OPEN = ['{"a": [1]', '{"a" [1]}', '{"a": [1],}']
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(["a", "b", "c"]), VALUES), st.sampled_from([None, 1]))
def test_entries_are_those_that_json_has(tmp_path_factory, content, indent):
    path = tmp_path_factory.mktemp("stream") / "x.json"
    for ascii_only in (True, False):
        text = json.dumps(content, indent=indent, ensure_ascii=ascii_only)
        path.write_text(text, encoding="utf-8", errors="surrogatepass")
        try:
            text.encode()
        except UnicodeEncodeError:
            continue
        expected = [
            (name, entry)
            for name in content
            if name in ("a", "b") and isinstance(content[name], list)
            for entry in [None, *content[name]]
        ]
        assert list(read_lists(path, ("a", "b"))) == expected


def test_a_list_alone(tmp_path):
    path = tmp_path / "x.json"
    path.write_text(' [1, {"a": [2]}] \n')
    assert list(read_lists(path, ("a",))) == [("", None), ("", 1), ("", {"a": [2]})]
    path.write_text("7")
    assert list(read_lists(path, ())) == []


@pytest.mark.parametrize(
    "text",
    ["", "[", "[1", "[1,", "[1,]", "[1 2]", "[1] 2", "{1: 2}", *OPEN],
)
def test_what_is_not_json(tmp_path, text):
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"x.json is not the JSON expected"):
        list(read_lists(path, ("a",)))


def test_other_files(tmp_path):
    path = tmp_path / "x.json"
    path.write_bytes(b"\x1f\x8bno gzip")
    with pytest.raises(ValueError, match=r"x.json is damaged"):
        list(read_lists(path, ()))
    path.write_bytes(b"\xff\xfe\xff")
    with pytest.raises(ValueError, match=r"x.json is not UTF-8"):
        list(read_lists(path, ()))
    with pytest.raises(FileNotFoundError, match=r"no file"):
        list(read_lists(tmp_path / "none.json", ()))


def test_a_packed_file_reads_the_same_and_a_cut_one_is_named(tmp_path):
    path = tmp_path / "x.json.gz"
    path.write_bytes(gzip.compress(b'{"a": [1, 2], "b": [3]}'))
    assert list(read_lists(path, ("a",))) == [("a", None), ("a", 1), ("a", 2)]
    path.write_bytes(path.read_bytes()[:-12])
    with pytest.raises(ValueError, match=r"x\.json\.gz is (damaged|not the JSON)"):
        list(read_lists(path, ("a",)))
