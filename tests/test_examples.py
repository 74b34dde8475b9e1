"""Every notebook of examples/ runs from top to bottom and is saved without outputs."""

import os
import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

PRINTED = {  # notebook -> what its cells print, besides drawings
    "ground_an_expression": [
        r"all sentences +\d+\.\d\d .*\n(.*\n)*candidates: oracle +\d+\.\d\d ",
        r"candidates: random +\d+\.\d\d .*\ncandidates: largest +\d+\.\d\d ",
        r"IoU with the annotated box: [01]\.\d\d\n( *\d+\.\d%  \d+ .+\n){3}",
        r"boxes: region detector: onnx yolox_nano\.onnx|skipped, for want of: \S",
    ],
    "what_the_threshold_keeps": [
        r"layer 2: text-text \d+%, text-image \d+%, .*, graph \d+%",
        r"     0\.00       100%  .*\n     0\.02 +\d\d%  ",  # nothing dropped, then something
        r"     0\.00 +\d+%   100%   100%  .*\n(.*\n)+     1\.00 +\d+%  +\d\d?%  ",
    ],
}
NOTEBOOKS = sorted((Path(__file__).parents[1] / "examples").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_saved_without_outputs(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert cell.outputs == []
            assert cell.execution_count is None


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_runs(path, tiny_root, trained, monkeypatch):
    monkeypatch.setenv("TBKIN_MODEL", str(trained))
    monkeypatch.setenv("TBKIN_DATA", str(tiny_root.prepared))
    monkeypatch.setenv("TBKIN_WORLD", str(tiny_root.official))
    root = str(path.parents[1])
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([root, os.environ.get("PYTHONPATH", "")]))
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=120, resources={"metadata": {"path": path.parent}}).execute()
    shown = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    drawings = [o for o in shown if "<svg" in str(o.get("data", {}).get("text/html", ""))]
    assert len(drawings) >= 2
    printed = "".join(output.get("text", "") for output in shown)
    for pattern in PRINTED.get(path.stem, []):
        assert re.search(pattern, printed), f"{pattern} not in:\n{printed}"
