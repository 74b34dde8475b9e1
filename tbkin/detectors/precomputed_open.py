"""Which layout of region features a file or folder has, by name and content.

=============  =====================================================================================
layout         what it is
=============  =====================================================================================
butd_tsv       TSV of 6 columns: id, width, height, count, boxes, features
lxmert_tsv     TSV of 10 columns: the same with class and attribute ids in the middle
rosita_tsv     TSV of 10 columns: features second, ids last
vinvl_tsv      TSV of 2 or 3 columns: id, count, features with 6 numbers of geometry; *.label.tsv
milvlg_npz     one npz a picture: x, bbox, …, info (both ways round)
rosita_npz     one npz a picture: x, boxes, …
uniter_npz     one npz a picture: features, norm_bb, conf, soft_labels
plain_npz      one npz a picture: features, boxes or bbox
uniter_lmdb    LMDB of npz or msgpack, with nbb_….json beside it
mmf_lmdb       LMDB of pickles
mmf_npy        X.npy and X_info.npy a picture
butd_h5        HDF5, fixed or adaptive, with *_imgid2idx.pkl
=============  =====================================================================================
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tbkin.config import choose
from tbkin.detectors.precomputed_h5 import MAGIC as H5_MAGIC
from tbkin.detectors.precomputed_h5 import H5Features
from tbkin.detectors.precomputed_lmdb import LmdbFeatures, is_lmdb, lmdb_layout
from tbkin.detectors.precomputed_mmf import INFO, MmfFolder, features_of
from tbkin.detectors.precomputed_npz import NpzFolder, first_layout
from tbkin.detectors.precomputed_record import Reader
from tbkin.detectors.precomputed_rows import BESIDE, first_rows
from tbkin.detectors.precomputed_tsv import COLUMNS, FeatureTable, header_columns
from tbkin.detectors.precomputed_tsv import parse_row as parse_table_row
from tbkin.detectors.precomputed_vinvl import VinvlTable
from tbkin.detectors.precomputed_vinvl import parse_row as parse_vinvl_row

LAYOUTS = dict.fromkeys(
    "butd_tsv lxmert_tsv rosita_tsv vinvl_tsv milvlg_npz rosita_npz uniter_npz plain_npz "
    "uniter_lmdb mmf_lmdb mmf_npy butd_h5".split()
)
TRIED_ROWS = 20  # of a TSV, until one tells its layout; a picture without boxes does not


def open_features(path: str | Path, layout: str = "auto", labels: bool = True) -> Reader:
    """A reader of a file or folder.

    Args:
        path: file or folder.
        layout: a name of ``LAYOUTS``, or ``auto``.
        labels: whether VinVL's label files are read.

    Raises:
        FileNotFoundError: there is no such file or folder.
        ValueError: not this layout, none, or several.
    """
    path = Path(path)
    if layout != "auto":
        choose(LAYOUTS, layout, "feature layout")
    if not path.exists():
        raise FileNotFoundError(f"no folder of region features {path}, nor such a file.")
    found = _families(path)
    if len(found) > 1 and layout != "auto":
        found = {name: content for name, content in found.items() if layout.endswith(name)}
    if not found:
        some = sorted(entry.name for entry in path.iterdir())[:5] if path.is_dir() else [path.name]
        raise ValueError(
            f"{path} holds no region features of a known layout (found: "
            f"{', '.join(some) or 'nothing'}). Layouts: {', '.join(LAYOUTS)}."
        )
    if len(found) > 1:
        raise ValueError(
            f"{path} may be several layouts: it holds {', '.join(found)} files. Name the file or "
            f"the layout: {', '.join(LAYOUTS)}."
        )
    ((family, files),) = found.items()
    reader = OPENERS[family](path, files, layout, labels)
    if layout not in ("auto", reader.layout):
        raise ValueError(f"{path} is {reader.layout}, not {layout}.")
    if not len(reader):
        raise ValueError(f"{path} is {reader.layout} and holds no images.")
    return reader


def _families(path: Path) -> dict[str, list[Path]]:
    """Kinds of feature files at a path: family -> files."""
    if path.is_file():
        return _family_of_file(path)
    if is_lmdb(path):
        return {"lmdb": [path]}
    inside = sorted(Path(folder, name) for folder, _, names in os.walk(path) for name in names)
    tables = [file for file in inside if file.suffix == ".tsv" or ".tsv." in file.name]
    tables = [file for file in tables if not file.name.endswith(BESIDE)]
    npy = [file for file in inside if file.name.endswith(f"{INFO}.npy")]
    found = {
        "tsv": tables,
        "npz": [file for file in inside if file.suffix == ".npz"],
        "npy": [file for file in npy if features_of(file).is_file()],
        "h5": [file for file in inside if file.suffix in (".h5", ".hdf5")],
        "lmdb": [file.parent for file in inside if file.name == "data.mdb"],
    }
    return {family: files for family, files in found.items() if files}


def _family_of_file(path: Path) -> dict[str, list[Path]]:
    with path.open("rb") as file:
        start = file.read(64)
    if is_lmdb(path):
        return {"lmdb": [path.parent if path.name == "data.mdb" else path]}
    if start.startswith(H5_MAGIC) or path.suffix in (".h5", ".hdf5"):
        return {"h5": [path]}
    if start.startswith((b"PK", b"\x93NUMPY")) or path.suffix in (".npz", ".npy"):
        raise ValueError(
            f"{path} is one array file; name its folder, which has one a picture. (SCAN's "
            "*_ims.npy have no boxes, so they are no regions.)"
        )
    return {"tsv": [path]} if b"\t" in start or path.suffix == ".tsv" else {}


def _open_tsv(path: Path, files: list[Path], layout: str, labels: bool) -> Reader:
    kinds = {file: _table_layout(file, layout) for file in files}
    if len({(name, tuple(header or ())) for name, header in kinds.values()}) > 1:
        found = ", ".join(f"{file.name}: {name}" for file, (name, _) in kinds.items())
        raise ValueError(f"{path} holds TSV files of several layouts ({found}); name one file.")
    name, header = next(iter(kinds.values()))
    if name == "vinvl_tsv":
        return VinvlTable(path, files, labels)
    return FeatureTable(path, files, name, header)


def _table_layout(path: Path, layout: str) -> tuple[str, list[str] | None]:
    """The layout whose row the first rows are, and the columns if the first row names them."""
    first = next(first_rows(path, 1), [])
    header = header_columns(first) if first else None
    if header is not None:
        for name, columns in COLUMNS.items():
            if set(header) == set(columns):
                return name, header
        raise ValueError(f"{path} names its columns {', '.join(header)}, which is no known layout.")
    reasons: dict[str, str] = {}
    tables = [*COLUMNS, "vinvl_tsv"]
    for fields in first_rows(path, TRIED_ROWS):
        fitting = []
        for name in [layout] if layout in tables else tables:
            try:
                if name == "vinvl_tsv":
                    parse_vinvl_row(fields, str(path))
                else:
                    parse_table_row(COLUMNS[name], fields, str(path))
                fitting.append(name)
            except ValueError as error:
                reasons.setdefault(name, str(error))
        if len(fitting) == 1:
            return fitting[0], None
    shown = [f"{field[:12].decode('utf-8', 'replace')}…" for field in first]
    raise ValueError(
        f"{path} is no known feature TSV. Its first row has {len(shown)} columns "
        f"({', '.join(shown[:10])}). "
        + "; ".join(f"{name}: {why}" for name, why in reasons.items())
    )


def _open_npz(path: Path, files: list[Path], layout: str, labels: bool) -> Reader:
    return NpzFolder(path, files, first_layout(files))


def _open_npy(path: Path, files: list[Path], layout: str, labels: bool) -> Reader:
    return MmfFolder(path, files)


def _open_lmdb(path: Path, files: list[Path], layout: str, labels: bool) -> Reader:
    file = _only(path, files)
    known = layout if layout in ("uniter_lmdb", "mmf_lmdb") else lmdb_layout(file)
    return LmdbFeatures(file, known)


def _open_h5(path: Path, files: list[Path], layout: str, labels: bool) -> Reader:
    return H5Features(_only(path, files))


def _only(path: Path, files: list[Path]) -> Path:
    if len(files) > 1:
        names = ", ".join(str(file.relative_to(path)) for file in files)
        raise ValueError(f"{path} holds {len(files)} feature files ({names}); name one.")
    return files[0]


OPENERS: dict[str, Callable[..., Any]] = {
    "tsv": _open_tsv,
    "npz": _open_npz,
    "npy": _open_npy,
    "lmdb": _open_lmdb,
    "h5": _open_h5,
}
