"""nginx itself, with the configuration that is shipped, passes a stream's events on as they come."""

import contextlib
import re
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest
from real_server import WAIT_SECONDS


class Stream(BaseHTTPRequestHandler):
    """Sends an event, and the next one only once the first has been read by the client."""

    first_was_read = threading.Event()

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        self.wfile.write(b"data: first\n\n")
        self.wfile.flush()
        arrived = self.first_was_read.wait(WAIT_SECONDS)
        self.wfile.write(b"data: second\n\n" if arrived else b"data: never read\n\n")

    def log_message(self, format: str, *args: object) -> None:
        """Into no log."""


@pytest.fixture
def upstream() -> Iterator[int]:
    """The port of a server that streams."""
    Stream.first_was_read.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), Stream) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


@contextlib.contextmanager
def nginx(site: str, folder: Path) -> Iterator[str]:
    """An nginx with one site; gives its address."""
    program = shutil.which("nginx")
    if program is None:
        pytest.skip("nginx is not installed")
    port = free_port()
    site = re.sub(r"listen \d+;", f"listen 127.0.0.1:{port};", site)
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    paths = "".join(f"{kind}_temp_path {folder}/{kind};" for kind in kinds)
    config = folder / "nginx.conf"
    config.write_text(
        f"daemon off; pid {folder}/pid; error_log stderr; events {{}} http {{ {paths} access_log off; {site} }}"
    )
    command = [program, "-c", str(config), "-p", str(folder), "-e", "stderr"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            wait_for(port, process)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(WAIT_SECONDS)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_for(port: int, process: "subprocess.Popen[str]") -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port)):
            return
        time.sleep(0.05)
    process.terminate()
    assert process.stderr is not None
    pytest.fail(f"nginx did not start: {process.stderr.read()}")


def test_events_pass_as_they_come(upstream: int, root: Path, tmp_path: Path) -> None:
    site = (root / "deploy/nginx/penstock.conf").read_text()
    assert "proxy_pass http://127.0.0.1:8000;" in site
    with (
        nginx(site.replace("127.0.0.1:8000", f"127.0.0.1:{upstream}"), tmp_path) as address,
        httpx.stream("GET", f"{address}/v1/completions", timeout=WAIT_SECONDS / 2) as reply,
    ):
        events = (line for line in reply.iter_lines() if line)
        assert next(events) == "data: first"
        Stream.first_was_read.set()
        assert next(events) == "data: second"
        assert httpx.get(f"{address}/metrics").status_code == 404
