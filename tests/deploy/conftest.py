"""What is deployed, read: docker-compose.yml, the dashboard's queries, the rules; and a server to hold them against."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from real_server import WAIT_SECONDS, Served, serving


@pytest.fixture(scope="session")
def root() -> Path:
    return Path(__file__).parents[2]


@pytest.fixture(scope="session")
def compose(root: Path) -> dict[str, Any]:
    """docker-compose.yml with its anchors resolved and its variables as they are written."""
    content: dict[str, Any] = yaml.safe_load((root / "docker-compose.yml").read_text())
    return content


@pytest.fixture(scope="session")
def dashboard(root: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((root / "deploy/grafana/dashboards/penstock.json").read_text())
    return content


@pytest.fixture(scope="session")
def rules(root: Path) -> list[dict[str, Any]]:
    content = yaml.safe_load((root / "deploy/prometheus/rules.yml").read_text())
    return [rule for group in content["groups"] for rule in group["rules"]]


@pytest.fixture(scope="session")
def queries(dashboard: dict[str, Any]) -> dict[str, str]:
    """The dashboard's queries by panel and letter."""
    return {
        f"{panel['title']} {target['refId']}": target["expr"]
        for panel in dashboard["panels"]
        for target in panel.get("targets", [])
    }


@pytest.fixture(scope="session")
def key() -> str:
    """What the server asks for."""
    return "a-key"


@pytest.fixture(scope="session")
def load(key: str) -> Callable[[Served], None]:
    """Asks a server for an answer, whose prompt is long enough to be shared, and for a model that it does not have."""

    def ask(server: Served) -> None:
        headers = {"Authorization": f"Bearer {key}"}
        with httpx.Client(base_url=server.url, headers=headers, timeout=WAIT_SECONDS) as client:
            body = {"model": "demo", "prompt": "Once upon a time " * 20, "max_tokens": 16, "n": 2}
            client.post("/v1/completions", json=body).raise_for_status()
            assert client.post("/v1/completions", json=body | {"model": "another"}).status_code == 404

    return ask


@pytest.fixture(scope="session")
def served(key: str, load: Callable[[Served], None]) -> Iterator[Served]:
    """The demo model behind `key`, having been asked once."""
    with serving("demo", "--api-key", key) as server:
        load(server)
        yield server
