"""docs/deployment.md tells of every variable and build argument, and of the dashboard's rows."""

import re
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="module")
def page(root: Path) -> str:
    return (root / "docs/deployment.md").read_text()


def table(page: str, heading: str) -> set[str]:
    """The names in the first column of the table with this heading."""
    (rows,) = re.findall(rf"^\| {heading} \|.*\n\|[-|]+\n((?:\|.*\n)+)", page, re.MULTILINE)
    return {name for row in rows.splitlines() for name in re.findall(r"`?([A-Za-z_]+)`?", row.split("|")[1])}


def test_every_variable_of_compose_is_told_and_no_other(page: str, root: Path, compose: dict[str, Any]) -> None:
    read = set(re.findall(r"\$\{(\w+)", (root / "docker-compose.yml").read_text()))
    passed = {
        variable
        for service in compose["services"].values()
        if isinstance(service["environment"], list)
        for variable in service["environment"]
    }
    assert table(page, "variable") == read | passed


def test_every_build_argument_is_told_and_no_other(page: str, root: Path) -> None:
    arguments = set(re.findall(r"^ARG (\w+)", (root / "Dockerfile").read_text(), re.MULTILINE))
    assert table(page, "build argument") == arguments


def test_every_row_of_the_dashboard_is_told(page: str, dashboard: dict[str, Any]) -> None:
    assert table(page, "row") == {panel["title"] for panel in dashboard["panels"] if panel["type"] == "row"}


def test_the_page_shows_what_nginx_gets(page: str, root: Path) -> None:
    (block,) = re.findall(r"```nginx\n(.*?)```", page, re.DOTALL)
    site = (root / "deploy/nginx/penstock.conf").read_text()
    assert all(line.strip() in site for line in block.splitlines())


def test_the_defaults_told_are_those(page: str, root: Path) -> None:
    dockerfile = (root / "Dockerfile").read_text()
    for name in ("TORCH_BACKEND", "BASE", "UV_VERSION"):
        (default,) = re.findall(rf"^ARG {name}=(\S+)$", dockerfile, re.MULTILINE)
        assert re.search(rf"^\| `{name}` \|.*\| `?{re.escape(default)}`? \|$", page, re.MULTILINE)
