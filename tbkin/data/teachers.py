"""Teacher features by id: what a frozen encoder makes of every caption, or of every picture.

::

    FOLDER/teacher.json   schema, of (captions or pictures), the encoder (name, sha256 of its
                          weights, pooling, cleaning, …), width, rows, the splits that it was
                          asked about (sha256 of each), the command that makes it anew
    FOLDER/ids.json       the ids (caption_id or image_id), in the order of the rows
    FOLDER/features.npy   (N, d) float16, unit rows

Teachers are asked for cosines only, so rows are stored with length 1 (*ours*): any encoder's values
then fit float16. The matrix is read by memory map: it needs no memory of its own, and loader
processes share its pages. CUSA's features of COCO, 16 GB of pickled float32, are why.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.lib.format import open_memmap
from torch import Tensor
from torch.nn import functional as F

from tbkin.files import file_hash, new_folder, write_json

SCHEMA = "tbkin.teacher/1"
RECORD, IDS, FEATURES = "teacher.json", "ids.json", "features.npy"
KINDS = {"captions": "caption", "pictures": "picture"}


class TeacherStore:
    """``store[ids]`` -> their features, (B, d) float32, from a folder that :meth:`open` opens.

    Attributes:
        folder: where it is.
        record: content of ``teacher.json``.
        width: d.
    """

    def __init__(self, folder: Path, record: dict[str, Any], ids: np.ndarray, features: np.ndarray):
        self.folder, self.record = folder, record
        self._features = features
        self._order = np.argsort(ids)
        self._ids = ids[self._order]

    @classmethod
    def open(cls, folder: str | Path, of: str = "") -> TeacherStore:
        """Open a folder that :func:`write_teacher` wrote.

        Args:
            folder: where it is.
            of: what it must be of, ``captions`` or ``pictures``; "": either.

        Raises:
            FileNotFoundError: there is none.
            ValueError: it is damaged, of another schema, or of the others.
        """
        folder = Path(folder)
        if not (folder / RECORD).is_file():
            raise FileNotFoundError(
                f"no teacher features in {folder}; make them with: "
                "tbkin prep teachers data.root=PREPARED text=ENCODER image=ENCODER"
            )
        try:
            record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
            if record.get("schema") != SCHEMA:
                raise ValueError(f"schema {record.get('schema')!r}, this version reads {SCHEMA!r}")
            ids = np.array(json.loads((folder / IDS).read_text(encoding="utf-8")), dtype=np.int64)
            features = np.load(folder / FEATURES, mmap_mode="r", allow_pickle=False)
            if features.shape != (len(ids), record["width"]):
                raise ValueError(
                    f"features of shape {features.shape} for {len(ids)} ids "
                    f"of width {record['width']}"
                )
        except (ValueError, KeyError, AttributeError, OSError) as error:
            raise ValueError(
                f"{folder} is no sound folder of teacher features ({error}); make it again."
            ) from error
        if of not in ("", record["of"]):
            raise ValueError(
                f"{folder} has teacher features of {record['of']}, and those of {of} are needed; "
                "text/ is of captions and image/ of pictures."
            )
        return cls(folder, record, ids, features)

    def __reduce__(self) -> tuple[Any, ...]:
        return TeacherStore.open, (self.folder,)  # a spawned process maps the file itself

    def __len__(self) -> int:
        return len(self._ids)

    @property
    def width(self) -> int:
        """Numbers a row."""
        return self._features.shape[1]

    def __getitem__(self, ids: Sequence[int] | Tensor) -> Tensor:
        """Features of some captions (pictures).

        Args:
            ids: B of them, in any order, with or without repeats.

        Returns:
            (B, d) float32, rows of length 1 but for float16's rounding.

        Raises:
            LookupError: an id that has none; never a row of zeros.
        """
        return torch.from_numpy(self._features[self._places(ids)].astype(np.float32))

    def check(self, ids: Sequence[int] | Tensor) -> None:
        """Raise LookupError if any id has no features: before an epoch rather than within it."""
        self._places(ids)

    def check_split(self, path: Path) -> None:
        """Raise ValueError if the teacher was asked about other captions or pictures.

        Ids alone do not tell: those of many data sets count from 0.

        Args:
            path: a split's file in a prepared folder. Features that do not say what they are of
                (:func:`write_teacher` without ``splits``) are taken for its own.
        """
        asked = self.record.get("splits", {})
        if asked and file_hash(path) not in asked.values():
            raise ValueError(
                f"{self.folder} has teacher features of other data, or of other splits "
                f"({', '.join(asked)}), than {path}; make them for it: "
                f"tbkin prep teachers data.root={path.parent} … (output=DIR keeps the old ones)"
            )

    def _places(self, ids: Sequence[int] | Tensor) -> np.ndarray:
        wanted = torch.as_tensor(ids, dtype=torch.int64).cpu().numpy()
        found = np.searchsorted(self._ids, wanted)
        there = found < len(self._ids)
        there[there] = self._ids[found[there]] == wanted[there]
        if not there.all():
            missing = sorted(set(wanted[~there].tolist()))
            more = f" and of {len(missing) - 1} more" if len(missing) > 1 else ""
            remake = self.record.get("remake")
            mend = f"{remake} overwrite=true" if remake else "write it anew with these"
            raise LookupError(
                f"{self.folder} has no teacher features of {KINDS[self.record['of']]} "
                f"{missing[0]}{more}; make it again: {mend}"
            )
        return self._order[found]


def write_teacher(
    folder: Path,
    of: str,
    ids: Sequence[int],
    blocks: Iterable[np.ndarray],
    encoder: dict[str, Any],
    remake: str = "",
    splits: Mapping[str, str] | None = None,
) -> int:
    """Write a folder of teacher features, all of it or nothing; return their width.

    Args:
        folder: what is there already is replaced.
        of: ``captions`` or ``pictures``.
        ids: N whole numbers, each once.
        blocks: (n, d) of any float type, which together make the N rows in the order of ``ids``;
            of any length, see :func:`unit_rows`.
        encoder: who made them, for the record: ``name``, ``sha256`` of its weights, ….
        remake: the command that makes them anew, for messages.
        splits: split -> sha256 of the file whose captions or pictures these are, for
            :meth:`TeacherStore.check_split`.

    Raises:
        ValueError: an unknown kind, ids that repeat, more or fewer rows than ids, or a row that
            tells nothing.
    """
    if of not in KINDS:
        raise ValueError(f"teacher features are of captions or of pictures, not of {of!r}.")
    ids = [int(number) for number in ids]
    if len(set(ids)) < len(ids):
        twice = next(number for number, count in Counter(ids).items() if count > 1)
        raise ValueError(f"{KINDS[of]} {twice} has teacher features more than once.")
    with new_folder(folder) as unfinished:
        matrix, start = None, 0
        for block in blocks:
            if matrix is None:
                shape = (len(ids), block.shape[1])
                matrix = open_memmap(unfinished / FEATURES, "w+", np.float16, shape)
            end = start + len(block)
            if end > len(ids):
                raise ValueError(f"{folder}: more than {len(ids)} rows for {len(ids)} ids.")
            names = [f"{KINDS[of]} {number}" for number in ids[start:end]]
            matrix[start:end] = unit_rows(block, names)
            start = end
        if matrix is None or start < len(ids):
            raise ValueError(f"{folder}: {start} rows of features for {len(ids)} ids.")
        matrix.flush()
        width = matrix.shape[1]
        (unfinished / IDS).write_text(json.dumps(ids) + "\n", encoding="utf-8")
        record = {"schema": SCHEMA, "of": of, "encoder": encoder, "width": width, "rows": len(ids)}
        record |= {"splits": dict(splits or {}), "remake": remake}
        write_json(unfinished / RECORD, record)
    return width


def unit_rows(features: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """Rows of length 1, as they are stored.

    Args:
        features: (N, d) of any float type.
        names: whose rows they are ("picture 7"), for the error.

    Returns:
        (N, d) float16.

    Raises:
        ValueError: a row of zeros only, or with a value that is not finite. As a teacher it would
            say that everything is equally like it, and nobody would notice.
    """
    rows = np.asarray(features, dtype=np.float64)  # the square of a large value stays finite
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    sound = np.isfinite(lengths) & (lengths > 0)
    if not sound.all():
        place = int(np.flatnonzero(~sound)[0])
        what = "only zeros" if lengths[place, 0] == 0 else "values that are not finite"
        raise ValueError(
            f"the teacher's features of {names[place]} are {what}; mend the encoder or its input."
        )
    return (rows / lengths).astype(np.float16)


def teacher_scores(features: Tensor) -> Tensor:
    """What the teacher thinks of each pair: cosines (B, B) in float32, of features (B, d)."""
    rows = F.normalize(features.detach().float(), dim=1)
    return rows @ rows.T
