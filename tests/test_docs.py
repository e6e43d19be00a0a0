"""The pages agree with the code: no flag is missing, no link leads nowhere."""

import dataclasses
import re
from pathlib import Path

import pytest

from penstock_engine.config import EngineConfig
from penstock_server.settings import ServerConfig

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]


def test_readme_tells_of_every_flag_and_of_no_other() -> None:
    names = {field.name for config in (EngineConfig, ServerConfig) for field in dataclasses.fields(config)}
    flags = {"--" + name.replace("_", "-") for name in names - {"model"}} | {"--config"}
    table = [line for line in PAGES[0].read_text().splitlines() if line.startswith("| `--")]
    told = {flag.replace("--no-", "--") for line in table for flag in re.findall(r"`(--[a-z-]+)`", line.split("|")[1])}
    assert told == flags


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_within_the_repository_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"
