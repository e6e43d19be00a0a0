"""curl, with nothing that knows the API behind it."""

import json
import shutil
import subprocess

import pytest
from real_server import Served

CURL = shutil.which("curl")
pytestmark = pytest.mark.skipif(CURL is None, reason="curl is not installed")
JSON = ("-H", "Content-Type: application/json")
SECONDS = 60


def curl(*arguments: str, body: bytes | None = None) -> "subprocess.CompletedProcess[bytes]":
    assert CURL is not None
    data = () if body is None else ("--data-binary", "@-")
    return subprocess.run([CURL, "-sS", *arguments, *data], input=body, capture_output=True, timeout=SECONDS)


def status_of(*arguments: str, body: bytes | None = None) -> str:
    done = curl("-o", "/dev/null", "-w", "%{http_code}", *arguments, body=body)
    assert done.returncode == 0, done.stderr
    return done.stdout.decode()


def test_events_come_one_by_one(demo: Served) -> None:
    body = {"model": "demo", "prompt": "Once", "max_tokens": 20, "stream": True, "ignore_eos": True}
    done = curl("-N", "-i", *JSON, f"{demo.url}/v1/completions", body=json.dumps(body).encode())
    assert done.returncode == 0
    head, _, rest = done.stdout.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK") and b"content-type: text/event-stream" in head.lower()
    *events, last, nothing = rest.decode().split("\n\n")
    assert last == "data: [DONE]" and not nothing
    assert [json.loads(event.removeprefix("data: "))["choices"][0]["finish_reason"] for event in events] == [
        *[None] * (len(events) - 1),
        "length",
    ]


def test_status(demo: Served, narrow: Served) -> None:
    chat, key = f"{demo.url}/v1/completions", ("-H", "Authorization: Bearer right")
    asked = b'{"model": "demo", "prompt": "x", "max_tokens": 1}'
    assert status_of(*JSON, chat, body=asked) == "200"
    assert status_of(*JSON, chat, body=b"{") == "400"
    assert status_of(*JSON, chat, body=b'{"model": "demo", "prompt": "\xff"}') == "400"
    assert status_of(*JSON, chat, body=b'{"model": "none", "prompt": "x"}') == "404"
    assert status_of(f"{demo.url}/v2/completions") == "404"
    assert status_of(chat) == "405"
    assert status_of(*JSON, chat, body=b" " * 17 * 2**20) == "413"
    assert status_of(f"{narrow.url}/health") == "200"
    assert status_of(f"{narrow.url}/v1/models") == "401"
    assert status_of(*key, f"{narrow.url}/v1/models") == "200"


def test_a_body_without_a_length(demo: Served) -> None:
    """Sent in chunks; 100-continue is asked for, too."""
    body = json.dumps({"model": "demo", "prompt": "x " * 20_000, "max_tokens": 1, "truncate_prompt_tokens": 8})
    arguments = ("-H", "Transfer-Encoding: chunked", "-H", "Expect: 100-continue")
    assert status_of(*JSON, *arguments, f"{demo.url}/v1/completions", body=body.encode()) == "200"


def test_older_and_newer_http(demo: Served) -> None:
    """HTTP/1.0 is answered; an offer to go on in HTTP/2 is not taken."""
    asked = b'{"model": "demo", "prompt": "x", "max_tokens": 1}'
    for version in ("--http1.0", "--http2"):
        assert status_of(version, *JSON, f"{demo.url}/v1/completions", body=asked) == "200"


def test_two_requests_on_one_connection(demo: Served) -> None:
    done = curl("-w", "%{num_connects}\n", f"{demo.url}/version", f"{demo.url}/v1/models")
    assert [line[-1] for line in done.stdout.decode().splitlines()] == ["1", "0"]
