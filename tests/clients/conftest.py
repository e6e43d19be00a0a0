"""Servers for other people's clients: each a process of its own, started from the project's virtual environment."""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from real_server import Served, serving
from tool_templates import HERMES

ROOT = Path(__file__).parents[2]
DEMO_MODEL = ROOT / "server" / "penstock_server" / "demo_model"
PROGRAM = Path(os.environ.get("PENSTOCK_PROGRAM", ROOT / ".venv" / "bin" / "penstock"))


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def demo() -> Iterator[Served]:
    """The shipped demo model."""
    with serving("demo", program=PROGRAM) as served:
        yield served


@pytest.fixture(scope="session")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The demo model as `tools`, with a chat template that takes tools. It was not trained to call any; that its calls
    are valid, and that it makes them when told to, is the grammar's work."""
    folder = tmp_path_factory.mktemp("models") / "tools"
    shutil.copytree(DEMO_MODEL, folder)
    config = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps(config | {"chat_template": HERMES}))
    with serving(str(folder), program=PROGRAM) as served:
        yield served


@pytest.fixture(scope="session")
def narrow() -> Iterator[Served]:
    """The demo model behind the key `right`, for one request at a time with one more waiting."""
    with serving("demo", "--max-rows", "1", "--max-queue", "1", "--api-key", "right", program=PROGRAM) as served:
        yield served
