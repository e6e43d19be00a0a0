"""`find_model`: what MODEL of the command line stands for."""

from pathlib import Path

import pytest
from checkpoints import write_checkpoint

from penstock_engine.errors import EngineStartError
from penstock_models.hub import HubError
from penstock_server.named_model import DEMO_MODEL, NamedModel, find_model


@pytest.mark.parametrize(
    ("asked", "engine_model", "name"),
    [
        ("demo", f"{DEMO_MODEL}", "demo"),
        ("null:", f"null:{DEMO_MODEL}", "null"),
        ("null:demo", f"null:{DEMO_MODEL}", "null:demo"),
    ],
)
def test_what_comes_with_the_server(asked: str, engine_model: str, name: str) -> None:
    assert find_model(asked, None) == NamedModel(DEMO_MODEL, engine_model, name)
    with pytest.raises(EngineStartError, match="no revisions"):
        find_model(asked, "main")


@pytest.mark.parametrize("prefix", ["", "null:"])
def test_a_folder_is_called_by_its_last_part(prefix: str, tmp_path: Path) -> None:
    folder = tmp_path / "tiny"
    write_checkpoint(folder, "llama")
    assert find_model(f"{prefix}{folder}", None) == NamedModel(folder, f"{prefix}{folder}", f"{prefix}tiny")


def test_what_is_nowhere_is_told(tmp_path: Path) -> None:
    with pytest.raises(HubError, match="nowhere"):
        find_model(f"null:{tmp_path / 'nowhere'}", None)
