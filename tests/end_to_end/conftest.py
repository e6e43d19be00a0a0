"""The demo model, served for all end-to-end tests."""

from collections.abc import Iterator

import httpx
import pytest
from decoding_requests import Told, content, requests
from real_server import Served, serving


@pytest.fixture(scope="session")
def demo() -> Iterator[Served]:
    """The shipped demo model, served once for all tests."""
    with serving("demo") as served:
        yield served


@pytest.fixture(scope="session")
def alone(demo: Served) -> dict[str, Told]:
    """What each of `requests()` gives on the demo server when nobody else is there."""
    answers = {}
    with httpx.Client(base_url=demo.url, timeout=120) as client:
        for name, body in requests().items():
            reply = client.post("/v1/completions", json={"model": "demo", **body})
            assert reply.status_code == 200, (name, reply.text)
            answers[name] = content(reply.json())
    return answers
