"""`probed_loop`: how long what is due on the event loop has to wait."""

import asyncio
import contextlib
from collections.abc import Callable, Iterator

# Often enough to meet what holds the loop up for milliseconds; 20 wake-ups a second are 0.01% of a core.
PROBE_SECONDS = 0.05


@contextlib.contextmanager
def probed_loop(observe: Callable[[float], None]) -> Iterator[None]:
    """While the block runs, `observe` is told, `PROBE_SECONDS` after the last time, by how many seconds that was late.

    A callback that is due waits for those before it: this is how long everything on the event loop waits.
    """
    loop = asyncio.get_running_loop()
    planned: asyncio.TimerHandle | None = None

    def plan() -> None:
        nonlocal planned
        due = loop.time() + PROBE_SECONDS
        planned = loop.call_at(due, probe, due)

    def probe(due: float) -> None:
        observe(max(loop.time() - due, 0.0))
        plan()

    plan()
    try:
        yield
    finally:
        if planned is not None:
            planned.cancel()
