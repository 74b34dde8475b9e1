"""A room may import lower rooms only (house 4.2); imports are absolute and light."""

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LAYERS = [  # lowest first; a folder counts as one room
    ["tbkin.config", "tbkin.boxes", "tbkin.answers", "tbkin.files"],
    ["tbkin.resume", "tbkin.plain_pickle", "tbkin.json_stream"],
    ["tbkin.graphs", "tbkin.objectives", "tbkin.metrics", "tbkin.optimization"],
    ["tbkin.momentum_model"],
    ["tbkin.rerank"],
    ["tbkin.detectors", "tbkin.parsers", "tbkin.visualize", "tbkin.model"],
    ["tbkin.data"],
    ["tbkin.tasks", "tbkin.tracing"],
    ["tbkin.starting_model"],
    [
        "tbkin.scoring_captions",
        "tbkin.scoring_grounding",
        "tbkin.scoring_retrieval",
        "tbkin.scoring_submission",
    ],
    ["tbkin.scoring"],
    ["tbkin.running", "tbkin.gathering", "tbkin.provenance", "tbkin.reports_retrieval"],
    ["tbkin.reports"],
    ["tbkin.ranking", "tbkin.refinement", "tbkin.search"],
    ["tbkin.evaluation"],  # scores what it predicted
    ["tbkin.train", "tbkin.predict", "tbkin.graph"],
    ["tbkin.serve"],
    ["data_prep"],
    ["tbkin.demo_evidence", "tbkin.demo_summary"],
    ["tbkin.demo"],  # the only one that runs everything
    ["tbkin.cli"],
    ["tbkin.__main__"],
    ["tbkin"],
]
RANK = {room: rank for rank, rooms in enumerate(LAYERS) for room in rooms}
OURS = ("tbkin", "data_prep")
HEAVY = {"spacy", "pycocotools", "matplotlib", "h5py", "lmdb", "onnx", "onnxruntime", "networkx"}
SHADOWED = set(sys.stdlib_module_names) | {"datasets", "evaluate", "tokenizers"}
FILES = sorted(path for name in OURS for path in (ROOT / name).rglob("*.py"))


def module_of(path):
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def room_of(module):
    """``tbkin.model.fusion`` -> ``tbkin.model``."""
    first, *rest = module.split(".")
    if first == "data_prep" or not rest:
        return first
    return f"tbkin.{rest[0]}"


def is_module(name):
    path = ROOT.joinpath(*name.split("."))
    return path.with_suffix(".py").is_file() or path.is_dir()


def imports_of(tree):
    """(module, line) of every absolute import, wherever it stands; relative ones as ``.``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                yield "." * node.level, node.lineno
                continue
            for alias in node.names:  # `from tbkin import x` imports tbkin.x if that is a module
                inner = f"{node.module}.{alias.name}"
                yield (inner if is_module(inner) else node.module), node.lineno


def imports_on_import(tree):
    """Names that importing a module imports: everything outside functions."""
    waiting = list(tree.body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
        waiting += ast.iter_child_nodes(node)


def complaints(module, tree):
    """What is wrong with the imports of one module."""
    room = room_of(module)
    if room not in RANK:
        return [f"{module}: add {room} to LAYERS in tests/test_layers.py"]
    found = []
    for name, line in imports_of(tree):
        if name.startswith("."):
            found.append(f"{module}, line {line}: imports are absolute")
        if name.split(".")[0] not in OURS:
            continue
        other = room_of(name)
        if other == "tbkin":
            found.append(f"{module}, line {line}: nothing imports the package root")
        elif other not in RANK:
            found.append(f"{module}, line {line}: add {other} to LAYERS in tests/test_layers.py")
        elif other != room and RANK[other] >= RANK[room]:
            found.append(f"{module}, line {line}: {room} may not import {other}")
    heavy = {name.split(".")[0] for name in imports_on_import(tree)} & HEAVY
    found += [f"{module}: import {name} inside the function that needs it" for name in heavy]
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_down(path):
    assert complaints(module_of(path), ast.parse(path.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize(
    ("module", "line", "complaint"),
    [
        (
            "tbkin.model.fusion",
            "import tbkin.data.collate",
            "tbkin.model may not import tbkin.data",
        ),
        ("tbkin.data.vqa", "from tbkin.train import main", "tbkin.data may not import tbkin.train"),
        ("tbkin.parsers.x", "from tbkin import model", "tbkin.parsers may not import tbkin.model"),
        ("tbkin.train", "import tbkin.predict", "tbkin.train may not import tbkin.predict"),
        ("tbkin.data.x", "import data_prep.tiny", "tbkin.data may not import data_prep"),
        ("tbkin.train", "def f():\n import tbkin.serve", "tbkin.train may not import tbkin.serve"),
        ("tbkin.train", "from tbkin import SceneGraph", "nothing imports the package root"),
        ("tbkin.train", "import tbkin", "nothing imports the package root"),
        ("tbkin.data.x", "from .vqa import y", "imports are absolute"),
        ("tbkin.new_room", "import os", "add tbkin.new_room to LAYERS in tests/test_layers.py"),
        ("tbkin.train", "import tbkin.new_room", "add tbkin.new_room to LAYERS"),
        ("tbkin.parsers.x", "if 1:\n import spacy.tokens", "import spacy inside the function"),
    ],
)
def test_a_planted_import_is_caught(module, line, complaint):
    (found,) = complaints(module, ast.parse(line))
    assert complaint in found


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("tbkin.model.fusion", "from tbkin.model.selection import select"),
        ("tbkin.evaluation", "from tbkin.scoring import vqa_table"),
        ("tbkin.parsers.x", "def f():\n import spacy"),
        ("tbkin.visualize.evidence", "from tbkin.visualize import page"),
    ],
)
def test_a_sound_import_is_not(module, line):
    assert complaints(module, ast.parse(line)) == []


def test_no_file_hides_a_library():
    # Started as a file, Python puts tbkin/ first on the path (house 7.1).
    names = {path.stem for path in (ROOT / "tbkin").iterdir() if path.suffix == ".py"}
    names |= {path.name for path in (ROOT / "tbkin").iterdir() if path.is_dir()}
    assert names - {"__init__", "__main__"} >= {"config", "model"}
    assert (names - {"__init__", "__main__"}) & SHADOWED == set()
