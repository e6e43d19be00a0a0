"""The pages tell of all that the code takes, and of nothing else."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from executed_pages.page import ROOT, all_pages, read_page
from executed_pages.tables import names_in, section, table_rows
from fake_engine import FakeEngine, cycling, fake_info

from penstock_server import errors
from penstock_server.app import ROUTERS
from penstock_server.context import ServerContext
from penstock_server.model import ServedModel
from penstock_server.schemas import unsupported
from penstock_server.schemas.chat import ChatBody
from penstock_server.schemas.completion import CompletionBody
from penstock_server.schemas.fields import GenerationFields
from penstock_server.serve import DEMO_MODEL
from penstock_server.settings import ServerConfig

API = ROOT / "docs" / "api.md"
SERVING = ROOT / "docs" / "serving-a-model.md"


def help_flags() -> dict[str, str]:
    """Each flag of `penstock serve --help` and its default; "" where the help tells none."""
    text = subprocess.run(
        [Path(sys.executable).parent / "penstock", "serve", "--help"],
        env=os.environ | {"COLUMNS": "1000"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    entries = re.split(r"^  (?=-)", text.partition("positional arguments:")[2], flags=re.MULTILINE)[1:]
    flags = {re.findall(r"--[a-z-]+", entry)[0]: re.search(r"\(default: (.*?)\)", entry) for entry in entries}
    return {flag: default[1] if default else "" for flag, default in flags.items() if flag != "--help"}


def test_the_table_of_flags_is_that_of_help() -> None:
    told = {}
    for flag, _, default in table_rows(section(SERVING, "## Flags")):
        told[flag.strip("`")] = default
    known = help_flags()
    assert told.keys() == known.keys()
    assert {flag: told[flag] for flag in known if known[flag]} == {flag: known[flag] for flag in known if known[flag]}
    # Where the help tells no default there is none to tell, but words for what happens.
    assert [flag for flag in known if not known[flag] and not re.match(r"[a-z`]", told[flag])] == []


def fields_told() -> dict[str, set[str]]:
    """The fields in each of the three tables of the API page."""
    text = section(API, "## Fields of a request")
    both, rest = text.split("In completions also:")
    completions, chat = rest.split("In chat also:")
    parts = {"both": both, "completions": completions, "chat": chat}
    return {name: {field for row in table_rows(part) for field in names_in(row[0])} for name, part in parts.items()}


def test_every_field_of_a_request_is_told() -> None:
    both = set(GenerationFields.model_fields)
    assert fields_told() == {
        "both": both,
        "completions": set(CompletionBody.model_fields) - both,
        "chat": set(ChatBody.model_fields) - both,
    }


def test_every_refused_field_is_told() -> None:
    text = section(API, "## Fields that are refused")
    told = {api: names_in(fields) for api, fields in table_rows(text)}
    completion, chat = set(unsupported.COMPLETION), set(unsupported.CHAT)
    assert told == {"both": completion & chat, "completions": completion - chat, "chat": chat - completion}
    assert names_in(text.split("The following are refused")[0]) >= unsupported.INERT


def test_every_route_is_told() -> None:
    told = {row[0].strip("`") for row in table_rows(section(API, "## Routes"))}
    info = fake_info(vocab_size=2048, eos_token_ids=(0,), max_model_len=64)
    context = ServerContext.make(FakeEngine(info, cycling([1])), ServedModel.load(DEMO_MODEL, ["demo"]), ServerConfig())
    routes: list[Any] = [route for make_router in ROUTERS for route in make_router(context).routes]
    served = {f"{method} {route.path.replace(':path', '')}" for route in routes for method in route.methods - {"HEAD"}}
    assert told == served


def test_every_error_status_is_told() -> None:
    told = {int(row[0]) for row in table_rows(section(API, "## Errors"))}
    assert told == {error.status for error in errors.ApiError.__subclasses__()}


def anchors(path: Path) -> set[str]:
    """The anchors that headings make: lower case, punctuation gone, blanks as hyphens."""
    blocks = {line for block in read_page(path).blocks for line in block.lines}
    headings = [line for line in path.read_text().splitlines() if re.match(r"#+ ", line) and line not in blocks]
    bare = [re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).lstrip("# ").lower() for heading in headings]
    return {re.sub(r"[^\w\- ]", "", heading).replace(" ", "-") for heading in bare}


@pytest.mark.parametrize("page", [*all_pages(), ROOT / "CHANGELOG.md"], ids=lambda page: str(page.relative_to(ROOT)))
def test_links_within_the_repository_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", page.read_text()):
        file, _, anchor = target.partition("#")
        path = (page.parent / file).resolve() if file else page
        assert path.exists(), f"{page.name} links to {target}"
        assert not anchor or anchor in anchors(path), f"{page.name} links to {target}, a heading that is not there"


def test_the_index_and_the_readme_list_every_page() -> None:
    pages = {path.name for path in (ROOT / "docs").glob("*.md")} - {"README.md"}
    for listing in (ROOT / "docs" / "README.md", ROOT / "README.md"):
        assert pages <= {Path(target).name for target in re.findall(r"\]\(([^)#]+\.md)\)", listing.read_text())}
