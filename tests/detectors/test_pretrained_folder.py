import hashlib
import socket
import time

import pytest

from tbkin.detectors import pretrained_folder
from tbkin.detectors.pretrained_folder import find_folder, weights_hash
from tbkin.files import file_hash


@pytest.fixture
def folder(tmp_path):
    """A folder as save_pretrained leaves it, with two parts of weights."""
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model-00002-of-00002.safetensors").write_bytes(b"second")
    (tmp_path / "model-00001-of-00002.safetensors").write_bytes(b"first")
    return tmp_path


def test_a_local_folder_is_itself(folder):
    assert find_folder(folder) == folder
    assert find_folder(str(folder)) == folder


def test_the_hash_is_that_of_the_weights_and_of_nothing_else(folder):
    parts = [hashlib.sha256(part).hexdigest() for part in (b"first", b"second")]
    both = weights_hash(folder)
    assert both == hashlib.sha256("\n".join(parts).encode()).hexdigest()
    (folder / "README.md").write_text("new")
    assert weights_hash(folder) == both
    (folder / "model-00002-of-00002.safetensors").write_bytes(b"other")
    assert weights_hash(folder) != both


def test_the_hash_of_one_file_is_the_file_s(folder):
    (folder / "model-00002-of-00002.safetensors").unlink()
    assert weights_hash(folder) == file_hash(folder / "model-00001-of-00002.safetensors")


def test_pickled_weights_are_refused_unopened(folder):
    for path in folder.glob("*.safetensors"):
        path.unlink()
    with pytest.raises(ValueError, match=r"has no weights \(\*\.safetensors\); copy"):
        find_folder(folder)
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    with pytest.raises(
        ValueError, match=r"only pickled weights \(pytorch_model\.bin\), which can run"
    ):
        find_folder(folder)


def test_a_folder_without_config_is_no_network(folder):
    (folder / "config.json").unlink()
    with pytest.raises(
        ValueError, match=r"has no config\.json; give the folder that save_pretrained"
    ):
        find_folder(folder)


@pytest.mark.parametrize("name", ["/none/here", "./none", "~/none", "a/b/c", "a\\b"])
def test_what_can_only_be_a_path_is_not_sought_on_the_hub(name, monkeypatch):
    monkeypatch.setattr(pretrained_folder, "_fetch", lambda name: pytest.fail("asked the hub"))
    with pytest.raises(
        FileNotFoundError, match=r"no folder .* with a detector; check detector\.model"
    ):
        find_folder(name)


def test_no_name_is_said_to_be_none():
    with pytest.raises(ValueError, match=r"set detector\.model to a folder or a hub id"):
        find_folder("")


def test_offline_is_honoured_with_one_clear_line(monkeypatch, tmp_path):
    # The library reads HF_HUB_OFFLINE and HF_HUB_CACHE once, when it is imported.
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    began = time.perf_counter()
    with pytest.raises(FileNotFoundError) as told:
        find_folder("someone/detector@branch")
    assert time.perf_counter() - began < 2
    text = str(told.value)
    assert "\n" not in text
    assert text.startswith("no detector someone/detector@branch: no folder of that name here, and ")
    assert "offline" in text
    assert "(hf download someone/detector --revision branch) and give its folder" in text


def test_what_was_fetched_before_is_found_offline(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    commit = "0123456789" * 4
    cached = tmp_path / "models--someone--detector"
    (cached / "refs").mkdir(parents=True)
    (cached / "refs" / "main").write_text(commit)
    (cached / "snapshots" / commit).mkdir(parents=True)
    for name in ("config.json", "model.safetensors"):
        (cached / "snapshots" / commit / name).write_text("{}")
    assert find_folder("someone/detector") == cached / "snapshots" / commit


def test_a_server_that_does_not_answer_is_given_up(monkeypatch, tmp_path):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(8)
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", address)
        monkeypatch.setattr("huggingface_hub.hf_api.constants.ENDPOINT", address)
        monkeypatch.setattr(pretrained_folder, "PATIENCE", 0.3)
        began = time.perf_counter()
        with pytest.raises(FileNotFoundError, match=r"no detector someone/detector: .*timed out"):
            find_folder("someone/detector")
        assert time.perf_counter() - began < 20
