"""What a user may write after --url."""

import pytest

from penstock_chat.endpoint import read_endpoint
from penstock_chat.errors import InputError


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("http://localhost:8000", "http://localhost:8000/v1"),
        ("http://localhost:8000/", "http://localhost:8000/v1"),
        ("http://localhost:8000/v1", "http://localhost:8000/v1"),
        ("http://localhost:8000/v1/", "http://localhost:8000/v1"),
        ("localhost:8000", "http://localhost:8000/v1"),
        ("https://host.example/api/v1", "https://host.example/api/v1"),
        ("https://host.example/v1beta/openai/", "https://host.example/v1beta/openai"),
        ("https://host.example/llm", "https://host.example/llm/v1"),
        ("[::1]:8000", "http://[::1]:8000/v1"),
    ],
)
def test_read(given: str, url: str) -> None:
    assert read_endpoint(given, None).url == url


@pytest.mark.parametrize(
    "given",
    ["", "ftp://x", "http://", "http://a b", "http://x:port", "http://x/?a=b", "http://x/#y", "x:0", "http://[x"],
)
def test_refused(given: str) -> None:
    with pytest.raises(InputError, match="--url"):
        read_endpoint(given, None)


@pytest.mark.parametrize("key", ["", "a b", "clé", "a\nHost: x"])
def test_a_key_that_no_header_can_carry(key: str) -> None:
    with pytest.raises(InputError, match="--api-key"):
        read_endpoint("localhost", key)


def test_neither_key_nor_password_is_shown() -> None:
    endpoint = read_endpoint("http://me:secret@host.example/v1", "sk-1")
    assert "sk-1" not in repr(endpoint)
    assert endpoint.shown_url == "http://host.example/v1"


@pytest.mark.parametrize(
    ("url", "is_local"), [("localhost:1", True), ("127.0.0.2", True), ("[::1]", True), ("host.example", False)]
)
def test_this_machine(url: str, is_local: bool) -> None:
    assert read_endpoint(url, None).is_local == is_local
