"""The demo model, served for all end-to-end tests."""

from collections.abc import Iterator

import pytest
from real_server import Served, serving


@pytest.fixture(scope="session")
def demo() -> Iterator[Served]:
    """The shipped demo model, served once for all tests."""
    with serving("demo") as served:
        yield served
