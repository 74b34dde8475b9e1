import importlib.util
import json
import sys
from pathlib import Path

import pytest
import torch

from tbkin.config import run_command
from tbkin.parsers import PARSERS

FILE = Path(__file__).resolve().parents[2] / "benchmarks/parsers.py"


@pytest.fixture
def benchmark(monkeypatch):
    """The script as a module; it may not change the threads of this process."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr(torch, "set_num_threads", lambda count: None)
    spec = importlib.util.spec_from_file_location("benchmark_of_parsers", FILE)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def gold(tmp_path):
    path = tmp_path / "gold.csv"
    path.write_text("caption,scene_graph\na dog,( dog )\na red cat,( cat )\n")
    return path


def test_scores_and_speed_of_a_parser(benchmark, gold, tmp_path, capsys):
    arguments = [f"gold={gold}", "parsers=word_rules", "passes=1", f"json={tmp_path}/out.json"]
    assert run_command(benchmark.main, arguments) == 0
    result = json.loads((tmp_path / "out.json").read_text())
    assert result["captions"] == 2
    assert result["words_a_caption"] == 2.5
    figures = result["parsers"]["word_rules"]
    # (dog) is right; (cat, is, red) is (cat), (cat, red): precision 1/2, recall 1.
    assert figures["scores"]["exact"]["set_match"] == 0.5
    assert figures["scores"]["lemma"]["spice_f1"] == pytest.approx((1 + 2 / 3) / 2)
    assert figures["captions_per_second_batched"] > 0
    assert figures["captions_per_second_one_by_one"] > 0
    lines = capsys.readouterr().out.splitlines()
    assert ["word_rules", "exact", "50.00", "83.33", "100.00", "0.00", "100.00"] in [
        line.split() for line in lines
    ]


def test_a_parser_that_is_not_installed_is_left_out(benchmark, gold, monkeypatch, capsys):
    def missing():
        raise LookupError("install it")

    for name in list(PARSERS):
        monkeypatch.delitem(PARSERS, name)
    monkeypatch.setitem(PARSERS, "missing", missing)
    assert run_command(benchmark.main, [f"gold={gold}", "passes=0"]) == 0
    assert "missing left out: install it" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "gold is missing"),
        (["gold=x.csv", "parsers=word_rules,x"], "unknown parser 'x'"),
        (["gold=x.csv", "passes=-1"], "passes and captions must be >= 0"),
        (["gold=nowhere.csv"], "there is no file nowhere.csv"),
    ],
)
def test_mistakes(benchmark, arguments, complaint, capsys):
    assert run_command(benchmark.main, arguments) == 2
    assert complaint in capsys.readouterr().err
