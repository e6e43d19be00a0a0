"""Prometheus itself, with what is shipped: its tools accept the files, and every query of the dashboard gets data.

What differs from the container: where the key's file lies, whom to scrape, and how often, so as to see rates sooner.
"""

import contextlib
import math
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import httpx
import pytest
from real_server import WAIT_SECONDS, Served, serving

T = TypeVar("T")

MakeFolder = Callable[[Served], Path]


def tool(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"{name} is not installed")
    return path


@pytest.fixture
def shipped(root: Path, tmp_path: Path) -> MakeFolder:
    """Makes a copy of deploy/prometheus for one server."""

    def copy(server: Served) -> Path:
        folder = tmp_path / server.url.rpartition(":")[2]
        shutil.copytree(root / "deploy/prometheus", folder)
        rewrite(folder / "start.sh", "/run/penstock/key", str(folder / "key"))
        rewrite(folder / "prometheus.yml", "/run/penstock/key", str(folder / "key"))
        rewrite(folder / "prometheus.yml", "5s", "1s")
        rewrite(folder / "targets.yml", "penstock:8000", server.url.removeprefix("http://"))
        return folder

    return copy


def rewrite(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text, f"{file.name} does not speak of {old}"
    file.write_text(text.replace(old, new))


@contextlib.contextmanager
def prometheus(folder: Path, key: str) -> Iterator[httpx.Client]:
    """A Prometheus as its container starts it."""
    tool("prometheus")
    log = folder / "log"
    with log.open("w") as stderr:
        storage, listen = f"--storage.tsdb.path={folder}/data", "--web.listen-address=127.0.0.1:0"
        process = subprocess.Popen(
            ["sh", str(folder / "start.sh"), f"--config.file={folder}/prometheus.yml", storage, listen],
            stdout=stderr,
            stderr=stderr,
            env={"PATH": os.environ["PATH"], "PENSTOCK_API_KEY": key},
        )
    try:
        port = until(lambda: re.search(r"Listening on.* address=127\.0\.0\.1:(\d+)", log.read_text()), log)
        with httpx.Client(base_url=f"http://127.0.0.1:{port[1]}", timeout=WAIT_SECONDS) as client:
            yield client
    finally:
        process.terminate()
        process.wait(WAIT_SECONDS)


def until(look: Callable[[], T | None], log: Path) -> T:
    """What `look` finds, once it finds something."""
    deadline = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < deadline:
        found = look()
        if found:
            return found
        time.sleep(0.1)
    pytest.fail("it did not happen:\n" + log.read_text())


def value(client: httpx.Client, query: str) -> float | None:
    """A finite value that Prometheus has for a query."""
    reply = client.get("/api/v1/query", params={"query": query}).json()
    assert reply["status"] == "success", f"{query}: {reply['error']}"
    values = [float(result["value"][1]) for result in reply["data"]["result"]]
    return next((number for number in values if math.isfinite(number)), None)


def test_the_configuration_is_one(shipped: MakeFolder, served: Served) -> None:
    folder = shipped(served)
    (folder / "key").touch()
    check(tool("promtool"), "check", "config", folder / "prometheus.yml")


def test_the_rules_do_what_they_say(root: Path) -> None:
    check(tool("promtool"), "check", "rules", root / "deploy/prometheus/rules.yml")
    check(tool("promtool"), "test", "rules", root / "tests/deploy/prometheus_rules.yml")


def check(*command: str | Path) -> None:
    ran = subprocess.run(command, capture_output=True, text=True)
    assert ran.returncode == 0 and "FAILED" not in ran.stdout + ran.stderr, ran.stdout + ran.stderr


def test_every_query_of_the_dashboard_gets_data_with_a_key_and_without(
    shipped: MakeFolder, served: Served, load: Callable[[Served], None], key: str, queries: dict[str, str]
) -> None:
    with serving("demo") as keyless:
        folders = {served: shipped(served), keyless: shipped(keyless)}
        # Of several keys the first counts.
        with prometheus(folders[served], f",{key},another") as one, prometheus(folders[keyless], "") as other:
            clients = {served: one, keyless: other}
            missing = {(server, name) for server in folders for name in queries}

            def answered() -> bool:
                for server in folders:
                    load(server)
                for server, name in list(missing):
                    query = queries[name].replace("$instance", ".*").replace("$__rate_interval", "10s")
                    if value(clients[server], query) is not None:
                        missing.discard((server, name))
                return not missing

            try:
                until(answered, folders[served] / "log")
            except pytest.fail.Exception:
                pytest.fail(f"no data for {sorted(name for _, name in missing)}")
    keys = {server: folder / "key" for server, folder in folders.items()}
    assert (keys[served].read_text(), keys[keyless].read_text()) == (key, "")
    assert all(file.stat().st_mode & 0o077 == 0 for file in keys.values())
