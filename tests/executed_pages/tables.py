"""Sections and tables of a page, for the tests that hold pages against the code."""

import re
from pathlib import Path


def section(path: Path, heading: str) -> str:
    """What stands below a heading, up to the next one of its level or above."""
    level = len(heading) - len(heading.lstrip("#"))
    match = re.search(
        rf"^{re.escape(heading)}\n(.*?)(?=^#{{1,{level}}} |\Z)", path.read_text(), re.MULTILINE | re.DOTALL
    )
    assert match is not None, f"{path.name} has no heading {heading!r}"
    return match[1]


def table_rows(text: str) -> list[list[str]]:
    """The rows of the tables in a text, without their heads."""
    rows = [
        [cell.strip() for cell in line.strip("|").split(" | ")] for line in re.findall(r"^\|.*\|$", text, re.MULTILINE)
    ]
    rules = [i for i, row in enumerate(rows) if set("".join(row)) <= set("-| ")]
    return [[cell.strip(" |") for cell in row] for i, row in enumerate(rows) if i not in rules and i + 1 not in rules]


def names_in(cell: str) -> set[str]:
    return set(re.findall(r"`([\w./{}-]+)`", cell))
