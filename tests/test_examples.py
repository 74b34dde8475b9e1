"""Every notebook of examples/ runs from top to bottom and is saved without outputs."""

import os
import re
from pathlib import Path

import nbformat
import pytest
import torch
from nbclient import NotebookClient

from tbkin.data.processing_tbkin import TBKINProcessor
from tbkin.model.configuration_tbkin import TBKINConfig
from tbkin.model.retrieval import TBKINForImageTextRetrieval

PRINTED = {  # notebook -> what its cells print, besides drawings
    "ground_an_expression": [
        r"all sentences +\d+\.\d\d .*\n(.*\n)*candidates: oracle +\d+\.\d\d ",
        r"candidates: random +\d+\.\d\d .*\ncandidates: largest +\d+\.\d\d ",
        r"IoU with the annotated box: [01]\.\d\d\n( *\d+\.\d%  \d+ .+\n){3}",
        r"boxes: region detector: onnx yolox_nano\.onnx|skipped, for want of: \S",
    ],
    "search_pictures": [
        r"image to text: R@1 \d+\.\d\d",
        # The first by the fused score, then the others in its order.
        r"\n1 +\d+\.\d%  cosine -?0\.\d{3}  COCO_test2015_\d{12}\.jpg\n2 +\d+\.\d%  cosine",
        r"\n5 +\d+\.\d%; kept: \d+% of the nodes, \d+% of the edges\n +\w+: (\d+ )?\w+ \(",
    ],
    "your_own_objective": [
        r"outputs\.scores +\(16, 16\)\n",
        r"0\.15\d*\n0\.0 \[\[0\.0, 0\.0\], \[0\.0, 0\.0\]\]",
        r"'mean_margin': 0\.\d+\} sum: \d",
        r"objectives\.mean_margin has no setting 'margni'",
        r"step 100: contrastive \d\.\d{3}, mean_margin 0\.\d{3}\n",
        r"contrastive ( \d\.\d\d){4}\nboth {8}( \d\.\d\d){4}\n",
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
    NotebookClient(notebook, timeout=280, resources={"metadata": {"path": path.parent}}).execute()
    shown = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    drawings = [o for o in shown if "<svg" in str(o.get("data", {}).get("text/html", ""))]
    assert len(drawings) >= 2
    printed = "".join(output.get("text", "") for output in shown)
    for pattern in PRINTED.get(path.stem, []):
        assert re.search(pattern, printed), f"{pattern} not in:\n{printed}"


def test_search_of_own_pictures(trained, tiny_root, tmp_path, monkeypatch, capsys):
    """Nothing is drawn or trained, and pictures need not be .jpg."""
    names = ("TBKIN_RETRIEVER", "TBKIN_PICTURES")
    for name in names:
        monkeypatch.delenv(name, raising=False)
    path = next(path for path in NOTEBOOKS if path.stem == "search_pictures")
    cells = nbformat.read(path, as_version=4).cells
    code = [cell.source for cell in cells if cell.cell_type == "code"]
    retriever, pictures = tmp_path / "retriever", tmp_path / "pictures"
    pictures.mkdir()
    found = sorted((tiny_root.official / "images" / "test2015").glob("*.jpg"))
    for picture, suffix in zip(found, (".jpg", ".jpeg", ".PNG", ".txt"), strict=False):
        (pictures / f"{picture.stem}{suffix}").write_bytes(picture.read_bytes())
    monkeypatch.setenv(names[1], str(pictures))
    with pytest.raises(ValueError, match="only TBKIN_PICTURES is set; set both"):
        exec(code[0], {})
    monkeypatch.setenv(names[0], str(retriever))
    with pytest.raises(FileNotFoundError, match=r"TBKIN_RETRIEVER=.*retriever is no folder"):
        exec(code[0], {})
    torch.manual_seed(0)
    model = TBKINForImageTextRetrieval(TBKINConfig.from_pretrained(trained))
    for layer in (model.match_head, model.image_head.linear, model.text_head.linear):
        torch.nn.init.normal_(layer.bias)  # as if they had learned
    model.save_pretrained(retriever)
    TBKINProcessor.from_pretrained(trained).save_pretrained(retriever)
    names = {}
    for cell in code[:4]:
        exec(cell, names)
    assert sorted(names["index"].image_ids) == sorted(
        f"{picture.stem}{suffix}"
        for picture, suffix in zip(found, (".jpg", ".jpeg", ".PNG"), strict=False)
    )
    assert "A small red circle is to the left of a large blue square." in capsys.readouterr().out
    assert not names["world"].exists()
