"""A server of several API workers as tests see it from outside: its processes, and clients of a worker of choice."""

import contextlib
import os
import select
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

import httpx
import psutil
import pytest
from real_server import WAIT_SECONDS, Served

T = TypeVar("T")


def processes(served: Served, module: str) -> list[int]:
    """The pids of the server's processes that run a module."""
    children = psutil.Process(served.process.pid).children()
    return sorted(child.pid for child in children if module in " ".join(child.cmdline()))


def worker_pids(served: Served) -> list[int]:
    return processes(served, "penstock_server.workers.worker")


def engine_pid(served: Served) -> int:
    (pid,) = processes(served, "penstock_engine.process")
    return pid


def worker_of(served: Served, reply: httpx.Response) -> int:
    """Which worker has the connection that a reply came by."""
    _, port = reply.extensions["network_stream"].get_extra_info("client_addr")
    for pid in worker_pids(served):
        if any(one.raddr and one.raddr.port == port for one in psutil.Process(pid).net_connections("tcp")):
            return pid
    pytest.fail("the connection is nobody's")


@contextlib.contextmanager
def client_of(served: Served, pid: int) -> Iterator[httpx.Client]:
    """A client whose one connection is this worker's. Each try has an even chance or a third of one."""
    limits = httpx.Limits(max_connections=1)
    for _ in range(200):
        with httpx.Client(base_url=served.url, limits=limits, timeout=WAIT_SECONDS) as client:
            if worker_of(served, client.get("/version")) == pid:
                yield client
                return
    pytest.fail("no connection came to this worker")


@contextlib.contextmanager
def client_of_each(served: Served) -> Iterator[list[httpx.Client]]:
    """A client of each worker, ordered by pid."""
    with contextlib.ExitStack() as clients:
        yield [clients.enter_context(client_of(served, pid)) for pid in worker_pids(served)]


def until(look: Callable[[], T], is_right: Callable[[T], bool], what: str) -> T:
    """Look until what is seen is right, for a bounded time that is counted in looks at another process."""
    deadline = time.monotonic() + WAIT_SECONDS
    while not is_right(seen := look()):
        if time.monotonic() > deadline:
            pytest.fail(f"{what}: still {seen}")
    return seen


@contextlib.contextmanager
def ends_of(pids: list[int]) -> Iterator[Callable[[], None]]:
    """Gives a function that waits until all these processes have ended."""
    watches = [os.pidfd_open(pid) for pid in pids]

    def wait() -> None:
        for pid, watch in zip(pids, watches, strict=True):
            ended, _, _ = select.select([watch], [], [], WAIT_SECONDS)
            assert ended, f"process {pid} is still there"

    try:
        yield wait
    finally:
        for watch in watches:
            os.close(watch)
