"""What a stopped benchmark finds when it goes on: its settings and its finished runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tbkin.files import write_json


def read_json(path: Path) -> Any:
    """The content of a file."""
    return json.loads(path.read_text(encoding="utf-8"))


def check_same(output: Path, settings: dict[str, Any], note: bool) -> None:
    """Refuse to mix results of different settings.

    Args:
        output: folder of the benchmark; ``settings.json`` there holds those of earlier results.
        settings: of this run, as far as results depend on them.
        note: add new ones to the file.

    Raises:
        ValueError: the folder holds results of other settings.
    """
    file = output / "settings.json"
    there = read_json(file) if file.is_file() else {}
    for name, value in there.items():
        if settings.get(name, value) != value:
            raise ValueError(
                f"{output} holds results with {name}={value}, not {settings[name]}; "
                "choose another output=."
            )
    if note:
        write_json(file, there | settings)
