"""`Crew`: the client processes. The parent only waits and draws; what sends and times are processes of their own.

They are spawned, not forked, kept from one load to the next, and start each load at one agreed time. They do not
react to Ctrl-C: the parent does, and tells them to stop. A parent that dies takes them with it.
"""

import asyncio
import gc
import multiprocessing
import os
import signal
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import uvloop

from load.errors import BenchmarkError
from load.share import Bodies, Controls, Share, ShareResult, run_share

if TYPE_CHECKING:
    from multiprocessing.context import SpawnProcess
    from multiprocessing.sharedctypes import Synchronized

_POLL = 0.1
# Between the last process's word that it is ready and the start: time for the message to arrive.
_HEAD_START = 0.05


@dataclass(frozen=True, slots=True)
class _Counters:
    """Memory that parent and processes share."""

    next_number: "Synchronized[int]"
    num_done: "Synchronized[int]"
    num_failed: "Synchronized[int]"
    is_stopped: "Synchronized[int]"

    def reset(self) -> None:
        for counter in (self.next_number, self.num_done, self.num_failed, self.is_stopped):
            counter.value = 0


@dataclass(frozen=True, slots=True)
class LoadRun:
    """What a load gave, and when it started, of `time.perf_counter`."""

    start: float
    shares: tuple[ShareResult, ...]
    is_interrupted: bool


class Crew:
    """Client processes, started when they are first needed. A context: leaving it ends them."""

    def __init__(self) -> None:
        self._context = multiprocessing.get_context("spawn")
        counters = [self._context.Value("q", 0) for _ in range(4)]
        self._counters = _Counters(*counters)
        self._processes: list[tuple[SpawnProcess, Connection]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process, connection in self._processes:
            connection.close()
            process.join(1.0)
            if process.is_alive():
                process.terminate()
                process.join()
        self._processes.clear()

    def run(self, shares: Sequence[Share], watch: Callable[[int, int], None]) -> LoadRun:
        """Run one load, a share per process. `watch` is told now and then how many requests are done, and failed.

        A KeyboardInterrupt once the load has begun stops it; what is finished by then is the result.

        Raises:
            BenchmarkError: a process died or could not do its share.
        """
        connections = self._start(len(shares))
        self._counters.reset()
        for connection, share in zip(connections, shares, strict=True):
            connection.send(share)
        for connection in connections:
            _receive(connection)
        start = time.perf_counter() + _HEAD_START
        for connection in connections:
            connection.send(start)
        is_interrupted = False
        try:
            self._watch(connections, watch)
        except KeyboardInterrupt:
            is_interrupted = True
            self._counters.is_stopped.value = 1
            self._watch(connections, watch)
        results = [_receive(connection) for connection in connections]
        return LoadRun(start, tuple(results), is_interrupted)

    def _start(self, num_processes: int) -> list[Connection]:
        while len(self._processes) < num_processes:
            ours, theirs = self._context.Pipe()
            process = self._context.Process(target=_work, args=(theirs, self._counters), daemon=True)
            # Ignored from its first moment on: a child inherits what is ignored.
            previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
            try:
                process.start()
            finally:
                signal.signal(signal.SIGINT, previous)
            theirs.close()
            self._processes.append((process, ours))
        return [connection for _, connection in self._processes[:num_processes]]

    def _watch(self, connections: Sequence[Connection], watch: Callable[[int, int], None]) -> None:
        """Until every process has something to say."""
        waiting = list(connections)
        while waiting:
            for ready in wait(waiting, _POLL):
                waiting.remove(ready)  # type: ignore[arg-type]
            watch(self._counters.num_done.value, self._counters.num_failed.value)


def _receive(connection: Connection) -> Any:
    try:
        message = connection.recv()
    except (EOFError, ConnectionError):
        raise BenchmarkError("a client process died") from None
    if isinstance(message, BenchmarkError):
        raise message
    return message


def _work(connection: Connection, counters: _Counters) -> None:
    """A client process: a share, the word that it is ready, the start, the result; and again."""
    parent = os.getppid()

    def next_number() -> int:
        with counters.next_number.get_lock():
            number: int = counters.next_number.value
            counters.next_number.value = number + 1
        return number

    def note_done(is_good: bool) -> None:
        with counters.num_done.get_lock():
            counters.num_done.value += 1
        if not is_good:
            with counters.num_failed.get_lock():
                counters.num_failed.value += 1

    def is_stopped() -> bool:
        return counters.is_stopped.value != 0 or os.getppid() != parent

    controls = Controls(next_number, note_done, is_stopped)
    with connection:
        while True:
            try:
                share = connection.recv()
            except EOFError:
                return
            try:
                bodies = Bodies(share)
                bodies.prepare()
                # What exists now stays: the collector need not look through it while the clock runs.
                gc.collect()
                gc.freeze()
                connection.send(None)
                start = connection.recv()
                with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                    connection.send(runner.run(run_share(share, bodies, start, controls)))
            except (EOFError, ConnectionError):
                return
            except Exception:
                connection.send(BenchmarkError(f"a client process failed:\n{traceback.format_exc()}"))
