"""The processes that take part, and the processor time that each has had."""

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

from front.crowd import CrowdError, Round, RoundFigures

_HERE = Path(__file__).parent.parent

# What stands in the command line of a process of ours that answers HTTP, beside the one that was started.
_WORKER = "penstock_server.workers.worker"


@dataclass(frozen=True, slots=True)
class CpuSeconds:
    """Of the processes that answer HTTP, and of all others of the server's."""

    api: float
    engine: float


class ServerTree:
    """A server's processes: the one that was started and what it started."""

    def __init__(self, pid: int) -> None:
        root = psutil.Process(pid)
        children = root.children(recursive=True)
        workers = [child for child in children if _WORKER in child.cmdline()]
        self._api = [root, *workers]
        self._engine = [child for child in children if child not in workers]

    def cpu_seconds(self) -> CpuSeconds:
        """Until now."""
        return CpuSeconds(sum(map(_cpu_seconds, self._api)), sum(map(_cpu_seconds, self._engine)))


class Crowd:
    """`crowd.py` in a process of its own."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def run(self, round_: Round) -> RoundFigures:
        """
        Raises:
            CrowdError: says what the server answered.
        """
        assert self._process.stdin is not None and self._process.stdout is not None, "pipes"
        print(json.dumps(asdict(round_)), file=self._process.stdin, flush=True)
        told: dict[str, Any] = json.loads(self._process.stdout.readline() or '{"error": "the crowd has ended"}')
        if "error" in told:
            raise CrowdError(told["error"])
        return RoundFigures(**told | {"first_chunks": tuple(told["first_chunks"])})


@contextlib.contextmanager
def crowd_at(url: str, model: str) -> Iterator[Crowd]:
    """A crowd that asks this server."""
    with _module("front.crowd", url, model) as process:
        yield Crowd(process)


@contextlib.contextmanager
def bare_server(num_bytes: int, num_chunks: int) -> Iterator[tuple[str, int]]:
    """The URL and process id of a `bare_server.py`."""
    with _module("front.bare_server", str(num_bytes), str(num_chunks)) as process:
        assert process.stdout is not None, "a pipe"
        yield process.stdout.readline().strip(), process.pid


@contextlib.contextmanager
def _module(*arguments: str) -> Iterator["subprocess.Popen[str]"]:
    command = [sys.executable, "-m", *arguments]
    with subprocess.Popen(command, cwd=_HERE, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.terminate()


def _cpu_seconds(process: psutil.Process) -> float:
    # Linux's clock of another process's processor time (clock_getcpuclockid(3)), in nanoseconds: /proc counts in
    # hundredths of a second.
    return time.clock_gettime(~process.pid << 3 | 2)
