import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tbkin.json_stream import JsonStream, read_items, read_members

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=6,
)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("stream") / "file.json"


def items_of(path, chunk):
    with JsonStream(path, chunk) as stream:
        return list(stream.items())


@settings(max_examples=150, deadline=None)
@given(st.lists(VALUES, max_size=4), st.integers(1, 30), st.booleans(), st.sampled_from([None, 1]))
def test_items_are_those_of_the_standard_library(path, values, chunk, escaped, indent):
    path.write_text(json.dumps(values, ensure_ascii=escaped, indent=indent), encoding="utf-8")
    assert items_of(path, chunk) == values


@pytest.mark.parametrize("chunk", range(1, 14))
def test_borders_inside_strings_escapes_numbers_and_letters_of_several_bytes(path, chunk):
    # Every value is cut somewhere by one of the chunk sizes; \ud83d\ude00 is one letter in two.
    text = r'[ "a\"b]", "\\", "\ud83d\ude00é日本", 12345.5e-3, -7, true, {"k": [1, "}"]}, null ]'
    path.write_text(text, encoding="utf-8")
    expected = ['a"b]', "\\", "😀é日本", 12.3455, -7, True, {"k": [1, "}"]}, None]
    assert items_of(path, chunk) == expected


@pytest.mark.parametrize("chunk", [1, 5, 1000])
def test_an_object_key_by_key(path, chunk):
    path.write_text('\ufeff{"a": [1, 2], "b": {"c": []}, "long": [[3], "x"], "d": 4}', "utf-8")
    with JsonStream(path, chunk) as stream:
        found = {}
        for key in stream.each_key():
            if key == "long":
                stream.skip()
            else:
                found[key] = list(stream.items()) if key == "a" else stream.value()
    assert found == {"a": [1, 2], "b": {"c": []}, "d": 4}
    assert [key for key, _ in read_members(path)] == ["a", "b", "long", "d"]


def test_the_first_items_are_there_before_the_last_are_read(path):
    path.write_text("[" + '{"n": 1}, ' * 50_000 + "oops")
    items = read_items(path)
    assert [next(items) for _ in range(1000)] == [{"n": 1}] * 1000
    with JsonStream(path, chunk=1000) as stream:
        next(stream.items())
        assert len(stream._buffer) <= 2000


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1, 2", r"',' or '\]' was expected at character 5\.$"),
        ("[1 2]", r"',' or '\]' was expected at character 3\.$"),
        ("[1, ]", r"Expecting value at character 4\.$"),
        ('["ab', r"Unterminated string starting at at character 1\.$"),
        ('{"a": 1}', r"an array was expected at character 0\.$"),
        ("", r"an array was expected at character 0\.$"),
        ("[" * 100_000, r"nested too deeply at character 1\.$"),
    ],
)
def test_what_is_not_json_is_named_with_its_place(path, text, message):
    path.write_text(text)
    with pytest.raises(ValueError, match=r"file\.json is not the JSON expected: " + message):
        items_of(path, 4)


def test_an_error_early_in_a_long_file_does_not_read_the_rest(path):
    path.write_text('[{"a": }, ' + '{"n": 1}, ' * 10_000)
    with JsonStream(path, chunk=100) as stream, pytest.raises(ValueError, match="character 7"):
        next(stream.items())
    assert stream._before + len(stream._buffer) < 1000


def test_other_encodings_and_missing_files(tmp_path, path):
    path.write_bytes(b'["\xff"]')
    with pytest.raises(ValueError, match=r"file\.json is not UTF-8 text"):
        items_of(path, 10)
    with pytest.raises(FileNotFoundError, match=r"no file .*absent\.json"):
        list(read_items(tmp_path / "absent.json"))
    path.write_text("{a: 1}")
    with pytest.raises(ValueError, match="a key in double quotes was expected"):
        list(read_members(path))
