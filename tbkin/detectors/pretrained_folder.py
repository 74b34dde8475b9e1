"""Where a pretrained network is: a local folder, or one fetched from the Hugging Face hub."""

from __future__ import annotations

import hashlib
from pathlib import Path

from tbkin.files import file_hash

WANTED = ["*.json", "*.txt", "*.safetensors", "*.model"]  # nothing that would be unpickled
PICKLED = (".bin", ".pt", ".pth", ".ckpt")
PATIENCE = 10  # seconds for the hub's first answer


def find_folder(model: str | Path, kind: str = "detector", setting: str = "detector.model") -> Path:
    """The folder of a network, fetched if it is not here.

    Args:
        model: a local folder, or a hub id such as ``PekingU/rtdetr_v2_r18vd``, with ``@revision``
            if need be. What was fetched before is found without a network; ``HF_HUB_OFFLINE=1``
            forbids fetching.
        kind: what the network is, for messages.
        setting: where it is named, likewise.

    Raises:
        FileNotFoundError: neither a folder nor a hub id that can be reached.
        ValueError: the folder has no ``config.json`` or no weights in safetensors files.
    """
    folder, name = Path(model), str(model)
    if not name:
        raise ValueError(f"no {kind} is named: set {setting} to a folder or a hub id.")
    if not folder.is_dir():
        if name.startswith(("/", ".", "~")) or "\\" in name or name.count("/") > 1:
            raise FileNotFoundError(f"no folder {name} with a {kind}; check {setting}.")
        folder = _fetch(name, kind)
    if not (folder / "config.json").is_file():
        raise ValueError(f"{model} has no config.json; give the folder that save_pretrained wrote.")
    if not weight_files(folder):
        pickled = [path.name for path in sorted(folder.iterdir()) if path.suffix in PICKLED]
        if not pickled:
            raise ValueError(f"{model} has no weights (*.safetensors); copy the folder again.")
        raise ValueError(
            f"{model} has no *.safetensors, only pickled weights ({', '.join(pickled)}), which can "
            "run code when they are loaded. If you trust them, load them with transformers, call "
            "save_pretrained(NEW_FOLDER), and give the new folder."
        )
    return folder


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a folder, in order of name."""
    return sorted(folder.glob("*.safetensors"))


def weights_hash(folder: Path) -> str:
    """sha256 of the weights: of the one file, or of the hashes of its parts in order of name."""
    hashes = [file_hash(path) for path in weight_files(folder)]
    if len(hashes) == 1:
        return hashes[0]
    return hashlib.sha256("\n".join(hashes).encode()).hexdigest()


def _fetch(model: str, kind: str) -> Path:
    from huggingface_hub import HfApi, snapshot_download

    name, _, revision = model.partition("@")
    here_only = False
    try:
        # Asked first, because snapshot_download would wait for a silent server without end.
        revision = HfApi().model_info(name, revision=revision or None, timeout=PATIENCE).sha
    except Exception as error:  # the errors of its http client have no parent that lasts
        here_only, reason = True, error
    try:
        fetched = snapshot_download(
            name,
            revision=revision or None,
            allow_patterns=WANTED,
            ignore_patterns=["*/*"],
            local_files_only=here_only,
        )
    except Exception as error:
        reason = reason if here_only else error
        why = (str(reason).strip() or type(reason).__name__).splitlines()[0]
        raise FileNotFoundError(
            f"no {kind} {model}: no folder of that name here, and not to be had from the "
            f"Hugging Face hub ({why}). Check the name, or fetch "
            f"it where there is a network (hf download {name}"
            f"{f' --revision {revision}' if revision else ''}) and give its folder."
        ) from error
    return Path(fetched)
