"""The container's health check tells a server that is well from one that is not."""

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from real_server import Served


@pytest.fixture
def script(root: Path) -> Path:
    return root / "deploy/health.py"


@pytest.fixture
def failing() -> Iterator[int]:
    """The port of a server whose engine has failed."""

    class Failing(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(503)
            self.end_headers()
            self.wfile.write(json.dumps({"error": {"code": "engine_failed"}}).encode())

        def log_message(self, format: str, *args: object) -> None:
            """Into no log."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Failing) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


def check(script: Path, port: int) -> "subprocess.CompletedProcess[str]":
    # It must not ask a proxy.
    environment = {"http_proxy": "http://127.0.0.1:1", "HTTP_PROXY": "http://127.0.0.1:1"}
    return subprocess.run([sys.executable, script, str(port)], capture_output=True, text=True, env=environment)


def test_a_server_that_is_well(script: Path, served: Served) -> None:
    ran = check(script, int(served.url.rpartition(":")[2]))
    assert (ran.returncode, ran.stdout) == (0, '200 {"status":"ok"}\n')


def test_a_server_that_has_failed(script: Path, failing: int) -> None:
    ran = check(script, failing)
    assert ran.returncode == 1 and "503" in ran.stdout and "engine_failed" in ran.stdout


def test_no_server(script: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        ran = check(script, unused.getsockname()[1])
    assert (ran.returncode, ran.stderr) == (1, "") and "no answer" in ran.stdout


def test_compose_runs_it(script: Path, root: Path, compose: dict[str, Any]) -> None:
    assert compose["services"]["penstock"]["healthcheck"]["test"] == ["CMD", "python", "/opt/penstock/health.py"]
    assert "COPY deploy/health.py /opt/penstock/health.py\n" in (root / "Dockerfile").read_text()
