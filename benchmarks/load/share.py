"""`run_share`: one process's share of a load, on one event loop.

A load is spread so that all processes together make the load that was asked for: arrivals of an open loop are drawn
once and dealt out in turn; the slots of a closed loop are dealt out too, and each takes the next number of a counter
that all processes share, so that none runs dry before the others. A cap on an open loop is dealt out like slots.
"""

import asyncio
import contextlib
import math
import time
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass

import aiohttp

from load.answer import Answer, FailureKind
from load.exchange import exchange
from load.prompts import PromptSource
from load.target import Target
from load.template import RequestTemplate
from load.watch import ClientFacts, ClientWatch

_STOP_POLL = 0.05
# Of a closed loop without a number of requests: enough for a while, and no more memory than needed.
MOST_PREPARED = 1000


@dataclass(frozen=True, slots=True)
class Arrival:
    """The request of this number is due this many seconds after the start."""

    number: int
    after: float


@dataclass(frozen=True, slots=True)
class Share:
    """What one process does in one load.

    `slots`: requests at once; None: no limit. `arrivals`: None in a closed loop, where the next number is sent as
    soon as a slot is free, up to `num_requests` (None: without end) and until `duration` seconds have passed.
    """

    target: Target
    template: RequestTemplate
    source: PromptSource
    series: int
    timeout: float
    slots: int | None
    arrivals: tuple[Arrival, ...] | None = None
    num_requests: int | None = None
    duration: float | None = None


@dataclass(frozen=True, slots=True)
class ShareResult:
    """The answers of one process, and how the process itself fared."""

    answers: tuple[Answer, ...]
    client: ClientFacts


@dataclass(frozen=True, slots=True)
class Controls:
    """What a share has in common with the rest of the benchmark: functions that work across processes."""

    next_number: Callable[[], int]
    note_done: Callable[[bool], None]
    is_stopped: Callable[[], bool]


class Bodies:
    """The bodies of a share's requests. Made beforehand where the numbers are known, so that sending costs little."""

    def __init__(self, share: Share) -> None:
        self._share = share
        self._made: dict[int, bytes] = {}

    def prepare(self) -> None:
        """Make the bodies that this process will surely, or in a closed loop possibly, send."""
        if self._share.arrivals is not None:
            numbers: Iterable[int] = (arrival.number for arrival in self._share.arrivals)
        else:
            numbers = range(min(self._share.num_requests or MOST_PREPARED, MOST_PREPARED))
        self._made = {number: self._make(number) for number in numbers}

    def take(self, number: int) -> bytes:
        made = self._made.pop(number, None)
        return self._make(number) if made is None else made

    def _make(self, number: int) -> bytes:
        return self._share.template.body(self._share.source.prompt(self._share.series, number))


_Send = Callable[[int, float | None], Coroutine[None, None, None]]


async def run_share(share: Share, bodies: Bodies, start: float, controls: Controls) -> ShareResult:
    """Run a share of a load that begins at `start` (of `time.perf_counter`), until it is done or stopped."""
    answers: list[Answer] = []
    timeout = aiohttp.ClientTimeout(total=share.timeout)
    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=60)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout, trust_env=True) as session:

        async def send(number: int, arrived: float | None) -> None:
            answer = await exchange(session, share.target, bodies.take(number), number, arrived)
            answers.append(answer)
            controls.note_done(answer.failure is None or answer.failure.kind is FailureKind.INTERRUPTED)

        await _sleep_until(start)
        watch = ClientWatch()
        watching = asyncio.create_task(watch.run())
        if share.arrivals is None:
            await _finish(_closed_loop(share, start, send, controls), controls)
        else:
            await _finish(_open_loop(share.arrivals, share.slots, start, send), controls)
        facts = watch.facts(len(answers))
        watching.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watching
    return ShareResult(tuple(answers), facts)


async def _closed_loop(share: Share, start: float, send: _Send, controls: Controls) -> None:
    assert share.slots is not None, "a closed loop has a concurrency"

    async def slot() -> None:
        # A stop cancels the request under way, which then answers as interrupted: nothing else ends the slot.
        while not controls.is_stopped():
            if share.duration is not None and time.perf_counter() - start >= share.duration:
                return
            number = controls.next_number()
            if share.num_requests is not None and number >= share.num_requests:
                return
            await send(number, None)

    async with asyncio.TaskGroup() as group:
        for _ in range(share.slots):
            group.create_task(slot())


async def _open_loop(arrivals: Sequence[Arrival], slots: int | None, start: float, send: _Send) -> None:
    gate = contextlib.nullcontext() if slots is None else asyncio.Semaphore(slots)

    async def request(number: int, due: float) -> None:
        async with gate:
            await send(number, due)

    async with asyncio.TaskGroup() as group:
        for arrival in arrivals:
            due = start + arrival.after
            await _sleep_until(due)
            group.create_task(request(arrival.number, due))


async def _sleep_until(due: float) -> None:
    """Until `due` or a moment later, never before: the loop's timers are of whole milliseconds and may round down."""
    while (wait := due - time.perf_counter()) > 0:
        await asyncio.sleep(math.ceil(1e3 * wait) / 1e3)


async def _finish(work: Coroutine[None, None, None], controls: Controls) -> None:
    load = asyncio.create_task(work)
    while not load.done():
        await asyncio.wait({load}, timeout=_STOP_POLL)
        if controls.is_stopped():
            load.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await load
