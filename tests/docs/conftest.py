"""Fixtures: one demo server for all pages that start none, and the pages' outcomes, two pages at a time."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest
from executed_pages.outcome import Outcome
from executed_pages.page import read_page
from executed_pages.run import World, run_page
from real_server import serving

# Pages mostly wait for a process to load its libraries, which keeps one core busy.
NUM_AT_ONCE = 2


@pytest.fixture(scope="session")
def demo_url() -> Iterator[Callable[[], str]]:
    """Gives the address of a server of the demo model, which starts when it is first asked for."""
    with ExitStack() as stack:
        urls: list[str] = []
        lock = threading.Lock()

        def url() -> str:
            with lock:
                if not urls:
                    urls.append(stack.enter_context(serving("demo")).url)
                return urls[0]

        yield url


@pytest.fixture(scope="session")
def world(demo_url: Callable[[], str]) -> World:
    # Two tokens may tie within a rounding, and which machine a page's text was written on is not known to it.
    return World(demo_url, is_exact=False)


@pytest.fixture(scope="session")
def executed(
    request: pytest.FixtureRequest, world: World, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[Path], list[Outcome]]]:
    """Gives a page's outcomes. All pages that this run selected are under way from the start."""

    def run(path: Path, home: Path) -> list[Outcome]:
        return run_page(read_page(path), home, world)

    given = [item.callspec.params.get("page_path") for item in request.session.items if hasattr(item, "callspec")]
    # The longest ones first, so that none is left for the end.
    selected = sorted(
        (path for path in given if isinstance(path, Path)),
        key=lambda path: -path.read_text(encoding="utf-8").count("$ "),
    )
    with ThreadPoolExecutor(NUM_AT_ONCE) as pool:
        futures: dict[Path, Future[list[Outcome]]] = {
            path: pool.submit(run, path, tmp_path_factory.mktemp(path.stem) / "home") for path in selected
        }
        yield lambda path: futures[path].result()
