"""How a server is asked to end: gently first, then at once. By signals, or by whoever looks after a worker."""

import asyncio
import signal
from collections.abc import Coroutine
from typing import Any, Self

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Ending:
    """`first`: drain. `second`: end at once. Belongs to one event loop."""

    def __init__(self) -> None:
        self.first = asyncio.Event()
        self.second = asyncio.Event()

    def ask(self) -> None:
        """To drain; when that was asked for already, to end at once."""
        (self.second if self.first.is_set() else self.first).set()


class Signals(Ending):
    """SIGTERM and SIGINT ask while the block runs."""

    def __init__(self) -> None:
        super().__init__()
        self._last = 0

    def __enter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        for number in _SIGNALS:
            self._loop.add_signal_handler(number, self._receive, number)
        return self

    def __exit__(self, *_: object) -> None:
        for number in _SIGNALS:
            self._loop.remove_signal_handler(number)

    @property
    def exit_code(self) -> int:
        """The shell's convention for a process that a signal ended."""
        return 128 + self._last

    def _receive(self, number: int) -> None:
        self._last = number
        self.ask()


async def first_of(task: "asyncio.Task[Any]", other: Coroutine[Any, Any, Any]) -> None:
    """Wait until either is done; the other one is cancelled if it is not the task."""
    watch = asyncio.ensure_future(other)
    await asyncio.wait({task, watch}, return_when=asyncio.FIRST_COMPLETED)
    watch.cancel()
