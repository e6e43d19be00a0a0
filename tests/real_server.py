"""A real `penstock serve` on loopback, as a user starts it: its own process, its own engine process."""

import contextlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

WAIT_SECONDS = 60
PROGRAM = Path(sys.executable).parent / "penstock"


class Served:
    """A running server. `url` is its root; everything it logged so far is in `log`."""

    def __init__(self, process: "subprocess.Popen[str]", url: str, log: list[str]) -> None:
        self.process = process
        self.url = url
        self.log = log

    def metrics(self) -> dict[str, float]:
        """The unlabelled samples of /metrics."""
        lines = httpx.get(f"{self.url}/metrics", timeout=WAIT_SECONDS).text.splitlines()
        return {name: float(value) for name, value in (line.split() for line in lines if re.match(r"\w+ ", line))}


@contextlib.contextmanager
def serving(model: str, *flags: str, program: Path = PROGRAM) -> Iterator[Served]:
    """`penstock serve MODEL --port 0 FLAGS...`, ended with SIGTERM."""
    process = subprocess.Popen(
        [program, "serve", model, "--port", "0", *flags],
        stderr=subprocess.PIPE,
        text=True,
        env={name: value for name, value in os.environ.items() if not name.startswith("PENSTOCK_")},
    )
    assert process.stderr is not None
    with process, process.stderr:
        log: list[str] = []
        for line in process.stderr:
            log.append(line)
            listening = re.search(r"Listening on (http://\S+)", line)
            if listening:
                break
        else:
            pytest.fail("the server did not start:\n" + "".join(log))
        try:
            yield Served(process, listening[1], log)
        finally:
            # A test that fails comes back through the yield; without this it would wait for the server forever.
            process.terminate()
            process.wait(WAIT_SECONDS)
