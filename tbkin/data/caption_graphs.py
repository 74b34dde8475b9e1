"""Files of captions with their graphs, in the two forms that there are.

``.csv`` and ``.tsv``: a header, a column ``caption`` and a column ``scene_graph`` in FACTUAL's
notation (``tbkin/graphs/facts.py``), any other columns beside them. ``.jsonl``: one
:class:`SceneGraph` a line, which ``read_scene_graphs`` reads as any other; beside the schema's
keys a line may have ``columns``, the caption and what else its source says of it (*ours*), so
that going from one form to the other and back loses neither ids nor punctuation.

The notation has no place for what a caption denies, and none for which word says what: JSON Lines
have both.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tbkin.files import new_file
from tbkin.graphs.facts import facts_of, read_facts, write_facts
from tbkin.graphs.scene_graph import SceneGraph

Facts = list[tuple[str, ...]]

CAPTION = "caption"
GRAPH = "scene_graph"
DELIMITERS = {".csv": ",", ".tsv": "\t"}


@dataclass
class CaptionRow:
    """One caption, and perhaps its graph.

    Attributes:
        place: where it was read, for messages: "x.csv, row 2" (the header is no row).
        caption: as written.
        columns: all columns of its source, in order; the caption's is called ``caption``.
        graph: JSON Lines only.
    """

    place: str
    caption: str
    columns: dict[str, str] = field(default_factory=dict)
    graph: SceneGraph | None = None

    def facts(self) -> Facts:
        """What the row's graph asserts.

        Raises:
            ValueError: the text is not in FACTUAL's notation; the message names the row.
        """
        if self.graph is not None:
            return facts_of(self.graph)
        try:
            return read_facts(self.columns[GRAPH])
        except ValueError as error:
            raise ValueError(f"{self.place}: {error}") from error


def read_rows(path: Path, column: str = CAPTION, *, graphs: bool = True) -> Iterator[CaptionRow]:
    """Rows of a file of either form, one after the other, whatever its length.

    Args:
        path: ``.csv``, ``.tsv`` or ``.jsonl``; a byte order mark is no part of the first column.
        column: where the captions of a table are; the rows have them as ``caption``.
        graphs: whether a table must have the column ``scene_graph``.

    Raises:
        FileNotFoundError: no such file.
        ValueError: another suffix, a missing column, a row of the wrong length, a line that is no
            caption graph.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}.")
    if path.suffix.lower() == ".jsonl":
        return _read_lines(path)
    if path.suffix.lower() not in DELIMITERS:
        raise ValueError(
            f"{path} is neither a table (.csv, .tsv) nor caption graphs (.jsonl); "
            "its suffix must say what it is."
        )
    return _read_table(path, column, graphs)


def _read_table(path: Path, column: str, graphs: bool) -> Iterator[CaptionRow]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.reader(file, delimiter=DELIMITERS[path.suffix.lower()], strict=True)
        try:
            header = next(reader, [])
            for name in (column, GRAPH) if graphs else (column,):
                if name not in header:
                    found = ", ".join(map(repr, header)) or "none: the file is empty"
                    raise ValueError(f"{path} has no column {name!r}; its columns: {found}.")
            header = [CAPTION if name == column else name for name in header]
            if len(set(header)) < len(header):
                raise ValueError(f"{path} names a column twice: {', '.join(header)}.")
            number = 0
            for cells in reader:
                if not cells:  # an empty line
                    continue
                number += 1
                if len(cells) != len(header):
                    raise ValueError(
                        f"{path}, row {number} (line {reader.line_num}) has {len(cells)} cells "
                        f"under {len(header)} columns; a cell with a comma or a line break in it "
                        "stands in double quotes."
                    )
                columns = dict(zip(header, cells, strict=True))
                yield CaptionRow(f"{path}, row {number}", columns[CAPTION], columns)
        except csv.Error as error:
            raise ValueError(f"{path}, line {reader.line_num}: {error}.") from error
        except UnicodeDecodeError as error:
            raise ValueError(f"{path} is not UTF-8: {error}.") from error


def _read_lines(path: Path) -> Iterator[CaptionRow]:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                values = json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8"))
                graph = SceneGraph.from_dict(values)
                columns = values.get("columns")
                if columns is None:
                    columns = {"image_id": graph.image_id} if graph.image_id else {}
                caption = columns.setdefault(CAPTION, " ".join(graph.words))
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise ValueError(f"{path}, row {number}: no caption graph: {error}") from error
            yield CaptionRow(f"{path}, row {number}", caption, columns, graph)


def write_graph_lines(path: Path, rows: Iterable[tuple[CaptionRow, SceneGraph]]) -> None:
    """Write caption graphs as JSON Lines; nothing is at ``path`` before the last one is written.

    A graph without an ``image_id`` takes that of its row's columns.
    """
    with new_file(path) as file:
        for row, graph in rows:
            values = graph.to_dict()
            values["image_id"] = graph.image_id or str(row.columns.get("image_id", ""))
            values["columns"] = {k: v for k, v in row.columns.items() if k != GRAPH}
            file.write(json.dumps(values, ensure_ascii=False) + "\n")


def write_graph_table(path: Path, rows: Iterable[tuple[CaptionRow, Facts]]) -> None:
    """Write ``.csv`` or ``.tsv`` with the columns of the first row and ``scene_graph``.

    Raises:
        ValueError: a row with other columns than the first.
    """
    with new_file(path) as file:
        delimiter = DELIMITERS[path.suffix.lower()]
        header: list[str] = []
        for row, facts in rows:
            cells = {**row.columns, GRAPH: write_facts(facts)}
            if not header:
                header = list(cells)
                file.write(_line(header, delimiter))
            if cells.keys() != set(header):
                raise ValueError(
                    f"{row.place} has the columns {', '.join(cells)}, the first row "
                    f"{', '.join(header)}; a table needs the same in every row."
                )
            file.write(_line([str(cells[name]) for name in header], delimiter))
        if not header:
            file.write(_line([CAPTION, GRAPH], delimiter))


def _line(cells: list[str], delimiter: str) -> str:
    """A line of a table; ``csv.writer`` would leave a lone carriage return without quotes."""
    signs = (delimiter, '"', "\r", "\n")
    quoted = (
        '"' + cell.replace('"', '""') + '"' if any(sign in cell for sign in signs) else cell
        for cell in cells
    )
    return delimiter.join(quoted) + "\n"
