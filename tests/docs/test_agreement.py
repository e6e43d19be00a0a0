"""The pages tell of all that the code takes, and of nothing else."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from executed_pages.page import ROOT, all_pages, read_page
from executed_pages.tables import section, table_rows

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
