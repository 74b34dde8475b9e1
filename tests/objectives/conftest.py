from pathlib import Path

import pytest
from safetensors.torch import load_file

FOLDER = Path(__file__).resolve().parents[3] / "shared/reference/rosita_tiny"


@pytest.fixture
def reference():
    """``reference(network) -> (inputs, outputs)`` of ROSITA's own code, by tensor name."""
    if not FOLDER.is_dir():
        pytest.skip(f"no reference values in {FOLDER}")

    def read(network):
        return tuple(
            load_file(FOLDER / f"{kind}_{network}.safetensors") for kind in ("inputs", "outputs")
        )

    return read
