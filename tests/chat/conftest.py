"""A real server with the demo model, and one whose replies tests write."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from real_server import Served, serving
from scripted_api import ScriptedApi, scripted_api


@pytest.fixture(scope="session")
def served() -> Iterator[Served]:
    with serving("demo") as running:
        yield running


@pytest.fixture
def scripted() -> Iterator[ScriptedApi]:
    with scripted_api() as api:
        yield api


@pytest.fixture
def home(tmp_path: Path) -> dict[str, str]:
    """An environment of its own for the client."""
    return {"HOME": str(tmp_path), "XDG_STATE_HOME": str(tmp_path / "state"), "LANG": "C.UTF-8"}
