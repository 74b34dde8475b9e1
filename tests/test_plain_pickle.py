import io
import json
import os
import pickle
import sys
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tbkin.plain_pickle import RefusedPickleError, load, load_npy

REAL = Path(__file__).resolve().parents[2] / "shared/data/real_mini/refer"
PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)


def same(found, expected):
    """Equal in type and value, arrays included."""
    if isinstance(expected, np.ndarray):
        assert type(found) is np.ndarray
        assert found.dtype == expected.dtype.newbyteorder("=")
        assert found.shape == expected.shape
        assert all(map(same, found.ravel().tolist(), expected.ravel().tolist()))
    elif isinstance(expected, dict):
        assert type(found) is dict
        assert list(found) == list(expected)
        assert all(map(same, found.values(), expected.values()))
    elif isinstance(expected, list | tuple):
        assert type(found) is type(expected)
        assert len(found) == len(expected)
        assert all(map(same, found, expected))
    else:
        assert type(found) is type(expected)
        assert found == expected
    return True


# What is read


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    "value",
    [
        [None, True, -3, 10**30, 1.5, 2 + 1j, "é \n ☃", b"\x00\xff", b""],
        {"a": (1, (2, [])), 7: {"deep": [set(), {1, 2}, frozenset({3})]}},
        OrderedDict([("z", 1), ("a", 2)]),
        np.arange(6, dtype=np.float32).reshape(2, 3),
        np.arange(6, dtype=">i8").reshape(2, 3).T,  # big-endian, columns first
        np.zeros((0, 4), np.float16),
        np.array(5),
        np.array(["a", "long"]),
        np.array([b"ab", b"c"]),
        np.array([True, False]),
        np.array([{"x": np.arange(2)}, None], dtype=object),
        [np.float32(0.5), np.int64(3), np.bool_(True), np.str_("s")],
    ],
    ids=lambda value: type(value).__name__,
)
def test_plain_data_come_back_equal(value, protocol):
    same(load(pickle.dumps(value, protocol)), value)


plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner),
    max_leaves=15,
)


@given(plain, st.sampled_from(PROTOCOLS))
def test_any_plain_value_comes_back(value, protocol):
    same(load(pickle.dumps(value, protocol)), value)


def test_a_pickle_of_python_2_is_read_as_latin_1():
    # What cPickle of Python 2 writes for [{'sent': 'caf\xe9', 'ref_id': 1L}], protocol 2.
    assert load(b"\x80\x02]}(U\x04sentU\x04caf\xe9U\x06ref_id\x8a\x01\x01ua.") == [
        {"sent": "café", "ref_id": 1}
    ]
    # And for numpy.array([1.0, 2.0], '<f4'), protocol 0: the bytes are a string.
    raw = np.array([1.0, 2.0], "<f4").tobytes()
    text = "".join(f"\\x{byte:02x}" for byte in raw).encode()
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR(I1\n(I2\nt"
        b"cnumpy\ndtype\n(S'f4'\nI0\nI1\ntR(I3\nS'<'\nNNNI-1\nI-1\nI0\ntbI00\nS'" + text + b"'\ntb."
    )
    same(load(array), np.array([1.0, 2.0], "<f4"))


@pytest.mark.parametrize("name", ["refcoco/refs(unc)", "refcoco+/refs(unc)", "refcocog/refs(umd)"])
def test_real_references_equal_their_json(name):
    path = REAL / f"{name}.p"
    if not path.is_file():
        pytest.skip("needs the shared data")
    assert load(path) == json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))


def test_a_shared_object_is_one_object_and_costs_once():
    inner = ["x"]
    found = load(pickle.dumps([inner, inner]))
    assert found[0] is found[1]
    tower = ["x"]
    for _ in range(60):  # 2^60 strings if each use were copied
        tower = [tower, tower]
    assert load(pickle.dumps(tower))[0][1][0][0] is not None


def test_path_bytes_and_open_file_are_the_same(tmp_path):
    path = tmp_path / "refs(unc).p"
    path.write_bytes(pickle.dumps([1, 2]))
    with path.open("rb") as file:
        assert load(path) == load(str(path)) == load(path.read_bytes()) == load(file) == [1, 2]
    with pytest.raises(FileNotFoundError, match=r"no file .*none\.p"):
        load(tmp_path / "none.p")


# What is refused


class Calls:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


class Foreign(np.ndarray):
    pass


def exploits(mark):
    """name -> (what the error names, pickles that would make the file ``mark``)."""
    write = f"open({str(mark)!r}, 'w').close()"
    shell = Calls(os.system, f"touch '{mark}'")
    system = f"{os.name}.system"  # os.system is posix.system inside
    dumped = {
        "os.system": (system, pickle.dumps(shell)),
        "os.system, text": (system, pickle.dumps(shell, 0)),
        "eval": ("builtins.eval", pickle.dumps(Calls(eval, write))),
        "exec": ("builtins.exec", pickle.dumps({"bbox": [1, Calls(exec, write)]})),
        "open": (r"io.open", pickle.dumps(Calls(open, str(mark), "w"))),
        "getattr": ("builtins.getattr", pickle.dumps(Calls(getattr, os, "x").call[0])),
        "in an object array": (system, pickle.dumps(np.array([shell], dtype=object))),
        "as an array's class": (
            f"{Foreign.__module__}.Foreign",
            pickle.dumps(np.zeros(2).view(Foreign)),
        ),
        "the old INST": ("os.system", f"(S'touch {mark}'\nios\nsystem\n.".encode()),
        "the old OBJ": ("os.system", f"(cos\nsystem\nS'touch {mark}'\no.".encode()),
        "a dotted name": (
            "numpy.ndarray.tofile",
            b"\x80\x04\x8c\x05numpy\x8c\x0endarray.tofile\x93.",
        ),
        "numpy's own pickle reader": (
            "numpy.load",
            f"cnumpy\nload\n(S'{mark}'\ntR.".encode(),
        ),
    }
    return dumped


NAMES = list(exploits("x"))


@pytest.mark.parametrize("name", NAMES)
def test_an_exploit_is_refused_and_runs_nothing(tmp_path, name):
    mark = tmp_path / "ran"
    asked, data = exploits(mark)[name]
    path = tmp_path / "refs(unc).p"
    path.write_bytes(data)
    modules = set(sys.modules)
    with pytest.raises(RefusedPickleError) as caught:
        load(path)
    message = str(caught.value)
    assert str(path) in message
    assert f"asks for {asked}" in message
    assert "nothing in the file was run" in message
    assert not mark.exists()
    assert set(sys.modules) == modules


def test_the_exploits_are_real(tmp_path):
    # Without the reader they do what they say: the tests above test something.
    for name in ("os.system", "eval", "in an object array", "the old INST"):
        mark = tmp_path / f"ran {NAMES.index(name)}".replace(" ", "-")
        pickle.loads(exploits(mark)[name][1])
        assert mark.exists()


def test_a_module_is_not_imported(tmp_path, monkeypatch):
    (tmp_path / "bad_module.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(RefusedPickleError, match=r"asks for bad_module\.thing"):
        load(b"cbad_module\nthing\n.")
    assert not (tmp_path / "ran").exists()
    assert "bad_module" not in sys.modules


def test_a_persistent_id_is_refused():
    for data in (b"Pmodel\n.", b"\x80\x02X\x01\x00\x00\x00aQ."):
        with pytest.raises(
            RefusedPickleError, match=r"outside the file \(persistent id '(model|a)'"
        ):
            load(data, "refs.p")


DTYPE = b"cnumpy\ndtype\n(S'%s'\nI0\nI1\ntR(I3\nS'|'\nNNNI%d\nI%d\nI%d\ntb"
ARRAY = (
    b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR(I1\n(I1\nt%sI00\n%stb."
)


def test_an_object_dtype_without_its_flags_reads_no_pointers():
    # numpy would take 8 bytes for the address of an object: 63 is the flags of dtype('O'), here 0.
    dtype = DTYPE % (b"O8", -1, -1, 0)
    with pytest.raises(ValueError, match=r"array of object in it holds a str"):
        load(ARRAY % (dtype, b"S'AAAAAAAA'\n"))
    # Nor the other way round: a number's dtype that claims to hold objects.
    with pytest.raises(ValueError, match=r"array of int64 in it holds a list"):
        load(ARRAY % (DTYPE % (b"i8", 8, 8, 63), b"(lI1\na"))
    # Nor a size that is not its own: the code says 8 bytes, the state 4,000.
    with pytest.raises(ValueError, match=r"array \(1,\) of int64 needs 8 bytes, got 4"):
        load(ARRAY % (DTYPE % (b"i8", 4000, 8, 0), b"S'AAAA'\n"))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        # A set in the place of the array's class.
        (b"cnumpy.core.multiarray\n_reconstruct\n(cbuiltins\nset\n(I0\ntS'b'\ntR.", "out of"),
        (b"cnumpy\nndarray\n(I5\ntR.", "calls numpy.ndarray itself"),
        (b"cnumpy\ndtype\n(S'O8,f4'\ntR.", "'O8,f4' are not plain"),
        (b"cnumpy\ndtype\n(S'V8'\ntR.", "'V8' are not plain"),
        (b"cnumpy\ndtype\n.", "function or type in it is no data"),
        (b"cnumpy\ndtype\n(S'f4'\ntR.", "function or type in it is no data"),
        (b"c_codecs\nencode\n(S'x'\nS'rot13'\ntR.", "encodes a str as rot13"),
        (b"cbuiltins\nbytes\n(I100000000000\ntR.", "encodes a int"),
        (b"cbuiltins\nset\n(S'abc'\ntR.", "makes a set out of a str"),
        (
            b"cnumpy.core.multiarray\nscalar\n(cnumpy\ndtype\n(S'i8'\ntRI100000000000\ntR.",
            "an array of int64 in it holds a int",
        ),
        (
            b"cnumpy.core.numeric\n_frombuffer\n(I100000000000\ncnumpy\ndtype\n(S'i8'\ntR(I1\nttR.",
            "an array of int64 in it holds a int",
        ),
        (b"cbuiltins\nset\n(N}S'_make'\nI1\nstb.", "tries to change a function"),
        (b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR.", "no data"),
    ],
)
def test_tricks_with_admitted_names_are_refused(data, reason):
    with pytest.raises(ValueError, match=r"^refs\.p is not a readable pickle") as caught:
        load(data, "refs.p")
    assert reason in str(caught.value)


def test_what_nests_too_deep_or_holds_itself_is_refused():
    deep = shallow = []
    for _ in range(200):
        deep = [deep]
    for _ in range(90):
        shallow = [shallow]
    load(pickle.dumps(shallow))
    endless = []
    endless.append(endless)
    for value in (deep, endless):
        with pytest.raises(ValueError, match=r"nested more than 100 deep, or holds itself"):
            load(pickle.dumps(value))
    with pytest.raises(ValueError, match=r"nested more than 100 deep"):
        load(b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b".")


def test_an_attribute_on_a_dict_hides_nothing():
    # BUILD may set attributes of an OrderedDict: here one called "items".
    data = b"ccollections\nOrderedDict\n(tRS'a'\nI1\ns}S'items'\nI5\nsb."
    assert load(data) == {"a": 1}


@given(st.binary(max_size=60))
def test_no_bytes_raise_anything_else(data):
    for whole in (data, b"\x80\x04" + data, pickle.dumps([1, "a", 2.0])[: len(data)] + data):
        try:
            load(whole, "x.p")
        except ValueError as error:
            assert "x.p" in str(error)  # noqa: PT017


def test_a_damaged_pickle_is_named(tmp_path):
    whole = pickle.dumps({"bbox": np.arange(40.0), "objects": list(range(99))})
    for data in (b"", b"text", whole[:10], whole[: len(whole) // 2], whole[:-1]):
        (tmp_path / "a.pkl").write_bytes(data)
        with pytest.raises(ValueError, match=r"a\.pkl is not a readable pickle of plain data: ."):
            load(tmp_path / "a.pkl")


# .npy files


def saved(value):
    file = io.BytesIO()
    np.save(file, value)
    return file.getvalue()


@pytest.mark.parametrize(
    "value",
    [
        np.arange(6, dtype=np.float32).reshape(2, 3),
        np.asfortranarray(np.arange(6, dtype=">f8").reshape(2, 3)),
        np.zeros((0, 5), np.float16),
        np.array(7),
        np.array(["a", "bc"]),
        np.array([{"a": 1}, [2]], dtype=object),
    ],
)
def test_npy_files_come_back_equal(value, tmp_path):
    np.save(tmp_path / "x.npy", value)
    same(load_npy(tmp_path / "x.npy"), value)
    same(load_npy(saved(value)), np.load(io.BytesIO(saved(value)), allow_pickle=True))


def test_a_saved_dict_is_that_dict():
    same(load_npy(saved({"bbox": np.ones((1, 4)), "n": 1})), {"bbox": np.ones((1, 4)), "n": 1})


def test_an_exploit_in_an_npy_file_is_refused(tmp_path):
    mark = tmp_path / "ran"
    np.save(tmp_path / "x_info.npy", {"bbox": Calls(os.system, f"touch '{mark}'")})
    with pytest.raises(RefusedPickleError, match=r"x_info\.npy asks for \w+\.system"):
        load_npy(tmp_path / "x_info.npy")
    assert not mark.exists()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x93NUMPY",
        b"PK\x03\x04 is a zip",
        saved(np.arange(9.0))[:-1],
        saved(np.arange(9.0)) + b"x",
        saved(np.arange(9.0))[:40],
        saved(np.arange(9.0)).replace(b"'<f8'", b"'|V8'"),
        saved(np.arange(9.0)).replace(b"'<f8'", b"print"),
        saved(np.arange(9.0)).replace(b"(9,)", b"(-9,"),
        saved(np.array([1, 2], dtype=object)).replace(b"(2,)", b"(3,)"),
    ],
)
def test_a_damaged_npy_file_is_named(data):
    with pytest.raises(ValueError, match=r"^x\.npy is not a whole \.npy file"):
        load_npy(data, "x.npy")
