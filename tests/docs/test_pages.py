"""Every command on every page does what the page shows."""

from collections.abc import Callable
from pathlib import Path

import pytest
from executed_pages.outcome import Outcome
from executed_pages.page import ROOT, all_pages


@pytest.mark.parametrize("page_path", all_pages(), ids=lambda path: str(path.relative_to(ROOT)))
def test_page_does_what_it_shows(page_path: Path, executed: Callable[[Path], list[Outcome]]) -> None:
    problems = [f"{each.place}\n{each.problem}" for each in executed(page_path) if each.problem is not None]
    assert not problems, "\n\n" + "\n\n".join(problems)
