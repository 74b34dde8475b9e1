"""The console command: a table of verbs."""

import pytest

from data_prep.__main__ import STEPS
from tbkin.cli import VERBS, main
from tbkin.config import run_command


def test_help_names_every_verb(capsys):
    main(["--help"])
    printed = capsys.readouterr().out
    assert all(verb in printed for verb in VERBS)


@pytest.mark.parametrize("verb", [["train"], ["eval"], ["predict"], ["score", "vqa"], ["demo"]])
def test_every_verb_explains_its_settings(verb, capsys):
    assert run_command(main, [*verb, "--help"]) == 0
    printed = capsys.readouterr().out
    assert "Settings" in printed
    assert "[" in printed


@pytest.mark.parametrize("step", STEPS)
def test_every_step_explains_its_settings(step, capsys):
    assert run_command(main, ["prep", step, "--help"]) == 0
    assert "output" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["trian"], "unknown verb 'trian'; choose from: demo, eval, graph, predict, prep, score, "),
        (
            ["prep", "vqaa"],
            "unknown preparation step 'vqaa'; choose from: captions, convert, ",
        ),
        (["train", "task=vqaa"], "unknown task 'vqaa'; choose from: grounding, multitask"),
        (["train", "objectives.cuza.weight=1"], "unknown objective 'cuza'"),
        (["train", "objectives.answer.tau=1"], "objectives.answer has no setting 'tau'"),
        (["predict"], "tbkin predict needs image=FILE"),
        (["prep", "vqa"], "tbkin prep vqa needs data.root=DIR"),
        (["prep", "regions"], "tbkin prep regions needs images=DIR"),
    ],
)
def test_a_wrong_word_is_one_line_and_exit_code_2(words, message, capsys):
    assert run_command(main, words) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {message}")
    assert error.count("\n") == 1
