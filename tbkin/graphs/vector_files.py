"""Word vectors from files: GloVe or word2vec text, numpy arrays."""

from __future__ import annotations

import gzip
import warnings
import zlib
from array import array
from pathlib import Path
from typing import IO

import numpy as np

ROSITA_COSINES = (0.44855, 0.81)  # where its curve reaches 0.5 and 0.9
SHORT = 100  # numbers a vector
SHORT_COSINES = (0.80, 0.90)


class FileVectors:
    """One vector a word.

    Args:
        words: N words. Of equal ones the first counts: in GloVe's files the more frequent.
        matrix: (N, D) real numbers; may be memory-mapped, rows are normalised when asked for.
        name: where they come from.

    Raises:
        ValueError: lengths that differ.
    """

    def __init__(self, words: list[str], matrix: np.ndarray, name: str):
        if matrix.ndim != 2 or len(matrix) != len(words):
            raise ValueError(
                f"{name}: {len(words)} words need a matrix of {len(words)} rows, "
                f"got one of shape {matrix.shape}."
            )
        self.rows: dict[str, int] = {}
        for row, word in enumerate(words):
            self.rows.setdefault(word, row)
        self.matrix = matrix
        self.name = name

    @property
    def cosines(self) -> tuple[float, float]:
        """Cosines from which on two words are aligned, and strongly aligned.

        ROSITA's for long vectors. Those of short ones are nearer to one another: ROSITA's two
        would align 30 wrong classes for a right one (GloVe 6B of 50 numbers, measured by
        ``benchmarks/alignment.py``).
        """
        return ROSITA_COSINES if self.matrix.shape[1] > SHORT else SHORT_COSINES

    def vector(self, name: str) -> np.ndarray | None:
        """Unit vector (D,), float32; None for an unknown word, or a vector of zeros."""
        row = self.rows.get(name)
        if row is None:
            return None
        vector = np.asarray(self.matrix[row], dtype=np.float32)
        norm = float(np.linalg.norm(vector))
        return vector / norm if np.isfinite(norm) and norm > 0 else None

    def describe(self) -> str:
        """Name and size."""
        return f"{self.name} ({len(self.rows):,} words, {self.matrix.shape[1]} numbers each)"


def read_vectors(path: str | Path) -> FileVectors:
    """Word vectors from a file.

    Args:
        path: a text file of ``word number number …`` lines (GloVe; also with word2vec's header;
            also .gz), which is read whole; a ``.npy`` matrix (N, D), which is memory-mapped, its
            words one a line in ``NAME.words.txt``, ``NAME.txt`` or ``words.txt`` beside it; or a
            ``.npz`` with one array of each.

    Raises:
        FileNotFoundError: no such file, or no words for a matrix.
        ValueError: a line or an array that does not fit.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"no word vectors {path}; GloVe's are at https://nlp.stanford.edu/projects/glove/."
        )
    if path.suffix == ".npy":
        return FileVectors(_words_beside(path), _load(path), path.name)
    if path.suffix == ".npz":
        return _from_npz(path)
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    try:
        with gzip.open(path) if packed else path.open("rb") as file:
            return _read_text(file, path)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"{path} is damaged ({error}); download it again.") from error


def _read_text(file: IO[bytes], path: Path) -> FileVectors:
    words: list[str] = []
    numbers = array("f")
    width = 0
    for line_number, raw in enumerate(file, start=1):
        line = raw.decode("utf-8", errors="replace").rstrip()
        if not line:
            continue
        parts = line.split(" ")
        if line_number == 1 and len(parts) == 2 and all(part.isdecimal() for part in parts):
            width = int(parts[1])  # word2vec's header: how many words, how many numbers
            continue
        width = width or len(parts) - 1
        word, values = " ".join(parts[:-width]), parts[-width:]  # a word may hold spaces
        try:
            if not word or len(values) != width:
                raise ValueError(f"{len(parts) - 1} numbers, expected {width}")
            numbers.extend(map(float, values))
        except ValueError as error:
            raise ValueError(
                f"{path}, line {line_number}: not a word and its {width} numbers ({error}); "
                "expected GloVe's text format: 'word 0.1 -0.2 …'."
            ) from error
        words.append(word)
    if not words:
        raise ValueError(f"{path} holds no word vectors.")
    return FileVectors(
        words, np.frombuffer(numbers, dtype=np.float32).reshape(-1, width), path.name
    )


def _words_beside(path: Path) -> list[str]:
    names = [path.with_suffix(".words.txt"), path.with_suffix(".txt"), path.with_name("words.txt")]
    for name in names:
        if name.is_file():
            return name.read_text(encoding="utf-8").splitlines()
    raise FileNotFoundError(
        f"{path} needs its words, one a line, in one of: {', '.join(one.name for one in names)}."
    )


def _from_npz(path: Path) -> FileVectors:
    with np.load(path, allow_pickle=False) as archive:
        try:
            arrays = [archive[name] for name in archive.files]
        except ValueError as error:
            raise ValueError(
                f"{path} holds pickled objects, which are not read; save the words as a plain "
                "array of strings: np.savez(path, words=np.array(words), vectors=matrix)."
            ) from error
    words = [one for one in arrays if one.ndim == 1 and one.dtype.kind == "U"]
    matrices = [one for one in arrays if one.ndim == 2 and one.dtype.kind == "f"]
    if len(words) != 1 or len(matrices) != 1:
        raise ValueError(
            f"{path} must hold one list of strings and one matrix of real numbers, got "
            f"{', '.join(f'{one.dtype} {one.shape}' for one in arrays) or 'nothing'}."
        )
    return FileVectors(words[0].tolist(), matrices[0], path.name)


def _load(path: Path) -> np.ndarray:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise ValueError(f"{path} is no matrix that numpy can read ({error}).") from error
