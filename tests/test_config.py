import dataclasses
import subprocess
import sys

import pytest

from tbkin.config import (
    OptimConfig,
    TrainConfig,
    choose,
    describe,
    help_text,
    load_config,
    run_command,
    save_yaml,
    setting,
)


@pytest.fixture
def yaml(tmp_path):
    """``yaml(text) -> path`` of a settings file."""

    def write(text, name="settings.yaml"):
        path = tmp_path / name
        path.write_text(text)
        return str(path)

    return write


def test_without_words_the_defaults_come_out():
    assert load_config(TrainConfig, []) == TrainConfig()


def test_defaults_then_files_in_order_then_command_line(yaml):
    first = yaml("epochs: 3\nseed: 4\noptim:\n  lr: 0.5\n", "first.yaml")
    second = yaml("seed: 5\nmodel:\n  hidden_size: 8\n", "second.yaml")
    config = load_config(TrainConfig, ["optim.lr=0.25", first, second])
    assert config.epochs == 3  # first file over the default
    assert config.seed == 5  # second file over the first
    assert config.optim.lr == 0.25  # command line over both, wherever it stands
    assert config.optim.warmup_ratio == OptimConfig().warmup_ratio  # neighbours stay
    assert config.model == {"hidden_size": 8}
    assert type(config) is TrainConfig
    assert type(config.optim) is OptimConfig


def test_free_settings_take_any_depth():
    config = load_config(
        TrainConfig, ["model.selection_layers=[0,2]", "objectives.answer.weight=0.5"]
    )
    assert config.model == {"selection_layers": [0, 2]}
    assert config.objectives == {"answer": {"weight": 0.5}}


def test_two_runs_do_not_share_a_default(yaml):
    load_config(TrainConfig, ["model.hidden_size=8"])
    assert load_config(TrainConfig, []).model == {}
    one, two = TrainConfig(), TrainConfig()
    one.model["x"] = 1
    assert two.model == {}


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("epoch=3", r"^unknown setting 'epoch'; did you mean 'epochs'\?$"),
        ("optim.learning=3", r"^unknown setting 'optim.learning'; "),
        ("data.roott=x", r"^unknown setting 'data.roott'; did you mean 'data.root'\?$"),
        ("zzzz=3", r"^unknown setting 'zzzz'; it takes: task, .*optim\.lr.*\.$"),
        ("epochs=abc", r"^epochs: .*'abc'.*Integer\.$"),
        ("epochs=1.5", r"^epochs: .*'1.5'.*Integer\.$"),
        ("optim.lr=fast", r"^optim\.lr: .*'fast'.*Float\.$"),
        ("mixed_precision=bf17", r"^mixed_precision: .*'bf17'.*'no', 'bf16', 'fp16'"),
        ("epochs=0", r"^epochs must be >= 1, got 0\.$"),
        ("max_seconds=-1", r"^max_seconds must be >= 0, got -1\.0\.$"),
        ("optim.warmup_ratio=2.0", r"^optim\.warmup_ratio must be in \[0, 1\), got 2\.0\.$"),
        ("optim.lr=0", r"^optim\.lr must be > 0, got 0\.0\.$"),
        ("optim.max_grad_norm=0", r"^optim\.max_grad_norm must be > 0"),
        ("optim.gradient_accumulation_steps=0", r"^optim\.gradient_accumulation_steps must be"),
        ("data.workers=-1", r"^data\.workers must be >= 0, got -1\.$"),
        ("data.max_examples=-1", r"^data\.max_examples must be >= 0, got -1\.$"),
        ("data.root=[1", r"^data\.root=\[1 "),
    ],
)
def test_a_wrong_word_names_the_key_the_value_and_the_way_out(word, message):
    with pytest.raises(ValueError, match=message):
        load_config(TrainConfig, [word])


def test_a_wrong_key_in_a_file_is_found_too(yaml):
    with pytest.raises(ValueError, match=r"'optim.lrr'; did you mean 'optim.lr'\?"):
        load_config(TrainConfig, [yaml("optim:\n  lrr: 1\n")])


def test_a_missing_file_says_what_a_bare_argument_is():
    with pytest.raises(FileNotFoundError, match=r"no settings file 'optim.lr'.*key=value"):
        load_config(TrainConfig, ["optim.lr"])


def test_a_file_that_is_no_mapping_or_no_yaml_is_named(yaml):
    with pytest.raises(ValueError, match=r"list\.yaml holds no settings"):
        load_config(TrainConfig, [yaml("- 1\n", "list.yaml")])
    with pytest.raises(ValueError, match=r"broken\.yaml is not YAML: .*line 2") as error:
        load_config(TrainConfig, [yaml("epochs: [1\nseed: }", "broken.yaml")])
    assert "\n" not in str(error.value)


def test_saved_settings_read_back_equal(tmp_path):
    config = load_config(TrainConfig, ["epochs=7", "optim.lr=0.1", "model.hidden_size=8"])
    save_yaml(config, tmp_path / "config.yaml")
    assert load_config(TrainConfig, [str(tmp_path / "config.yaml")]) == config


def test_choose_lists_the_names():
    assert choose({"a": 1}, "a", "letter") == 1
    with pytest.raises(ValueError, match=r"^unknown letter 'c'; choose from: a, b\.$"):
        choose({"b": 2, "a": 1}, "c", "letter")


def leaves(schema, prefix=""):
    """Every dotted key, from the dataclasses themselves."""
    for field in dataclasses.fields(schema):
        default = getattr(schema(), field.name)
        if dataclasses.is_dataclass(default):
            yield from leaves(type(default), f"{prefix}{field.name}.")
        else:
            yield prefix + field.name, field.metadata.get("help")


def test_help_lists_every_setting_with_its_sentence():
    shown = {line.split()[0]: line for line in describe(TrainConfig).splitlines()}
    expected = dict(leaves(TrainConfig))
    assert set(shown) == set(expected)
    assert len(expected) > 20
    for key, sentence in expected.items():
        assert sentence, f"{key} has no help"
        assert sentence in shown[key]
    assert shown["epochs"].endswith(f"[{TrainConfig().epochs}]")
    assert shown["init_from"].endswith("[not set]")
    assert help_text("Train.\n", TrainConfig).startswith("Train.\n\nSettings")


@dataclasses.dataclass
class Small:
    steps: int = setting(1, "how many")


@pytest.mark.parametrize("error", [ValueError, LookupError, FileNotFoundError])
def test_a_users_mistake_is_one_line_on_stderr_and_exit_code_2(capsys, error):
    def main(arguments):
        raise error("no such thing")

    assert run_command(main, []) == 2
    assert capsys.readouterr() == ("", "error: no such thing\n")


def test_run_command_passes_the_words_on_and_returns_0(capsys):
    seen = []
    assert run_command(lambda words: seen.append(load_config(Small, words)), ["steps=3"]) == 0
    assert seen == [Small(3)]
    assert run_command(lambda words: load_config(Small, words), ["stepz=3"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "error: unknown setting 'stepz'; did you mean 'steps'?\n"


@pytest.mark.parametrize("error", [KeyError, IndexError, TypeError, RuntimeError])
def test_our_own_mistakes_keep_their_traceback(error):
    def main(arguments):
        raise error("bug")

    with pytest.raises(error):
        run_command(main, [])


def test_ctrl_c_is_130_and_the_traceback_can_be_asked_for(capsys, monkeypatch):
    def interrupted(arguments):
        raise KeyboardInterrupt

    def wrong(arguments):
        raise ValueError("x")

    assert run_command(interrupted, []) == 130
    assert capsys.readouterr().err == "stopped.\n"
    monkeypatch.setenv("TBKIN_TRACEBACK", "1")
    with pytest.raises(ValueError, match="x"):
        run_command(wrong, [])


def test_reading_settings_does_not_import_torch():
    code = "import sys, tbkin.config; print('torch' in sys.modules, 'spacy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
