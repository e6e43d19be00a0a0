"""`Crew`: all API workers. They are started together, started again when they end unasked, and finish together."""

import asyncio
import contextlib
import functools
import logging
import socket
import time
from typing import Any

import msgspec

from penstock_engine.client import ProcessClient
from penstock_server.http_server import CLOSE_SECONDS
from penstock_server.start import StartError
from penstock_server.workers.channel import ChannelClosed
from penstock_server.workers.common import Common
from penstock_server.workers.messages import AskIfDone, Begin, Done, EngineDown, EngineUp, Finish, Message, Serving
from penstock_server.workers.process import WorkerProcess

# As for the engine: a worker that ends so often within so many seconds has a reason that starting it does not mend.
MAX_RESTARTS = 3
RESTART_WINDOW_SECONDS = 300.0

# A worker that answers nothing for so long hangs: half a minute would do, but for machines that were suspended.
SILENCE_SECONDS = 60.0

# What a worker gets beside the time that its requests have: to close its connections, and to end as a process.
END_SECONDS = CLOSE_SECONDS + 2.0

# A worker whose event loop is held up for longer is passed over: what it said last is taken instead.
ANSWER_SECONDS = 2.0

log = logging.getLogger("penstock")


class Crew:
    """Starts when it is made, and is finished or killed in the end. Belongs to one event loop."""

    def __init__(self, begin: Begin, listeners: list[socket.socket]) -> None:
        """
        Args:
            begin: what each is told; its name and label are filled in.
            listeners: one for each worker. They stay open when a worker ends: another one will take what waits there.
        """
        self._begin = begin
        self._listeners = listeners
        self._common = Common(self)
        self._engine: ProcessClient | None = None
        self._workers: dict[int, WorkerProcess] = {}
        self._num_started = 0
        self._is_finishing = False
        self._begun = [asyncio.get_running_loop().create_future() for _ in listeners]
        self._places = [asyncio.create_task(self._fill(place)) for place in range(len(listeners))]

    async def begun(self) -> None:
        """Wait until all serve.

        Raises:
            StartError: one ended before it did.
        """
        await asyncio.gather(*self._begun)

    async def ended(self) -> None:
        """Wait until none is left, and none will be started."""
        await asyncio.wait(self._places)

    async def follow(self, engine: ProcessClient) -> None:
        """Tell the workers of the engine whenever it goes or comes; never ends."""
        self._engine = engine
        while True:
            for worker in self._workers.values():
                worker.channel.tell(_notice(engine))
            await engine.turned()

    async def ask_all(self, question: Message, expected: type[Any]) -> "list[tuple[WorkerProcess, Any]]":
        """Each serving worker's answer; without those that do not answer soon."""
        workers = [worker for worker in self._workers.values() if worker.is_serving]
        answers = await asyncio.gather(
            *(worker.channel.ask(question, expected, ANSWER_SECONDS) for worker in workers), return_exceptions=True
        )
        told = []
        for worker, answer in zip(workers, answers, strict=True):
            if isinstance(answer, BaseException):
                if not isinstance(answer, ChannelClosed | TimeoutError):
                    raise answer
            else:
                told.append((worker, answer))
        return told

    @property
    def serving(self) -> list[WorkerProcess]:
        """Those that take requests."""
        return [worker for worker in self._workers.values() if worker.is_serving]

    async def finish(self, timeout: float, at_once: asyncio.Event) -> bool:
        """Have all drain and end. False if `at_once`, or after more than `timeout` seconds, that was cut short."""
        self._is_finishing = True
        # From now on a socket goes with its worker: nobody is to wait in the queue of one that has ended.
        for listener in self._listeners:
            listener.close()
        self._tell_finish()
        ended = asyncio.create_task(self.ended())
        cut = asyncio.create_task(at_once.wait())
        await asyncio.wait({ended, cut}, timeout=timeout + END_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        cut.cancel()
        if ended.done():
            return True
        if at_once.is_set():
            self._tell_finish()
            await asyncio.wait({ended}, timeout=END_SECONDS)
        await self.kill()
        return False

    async def kill(self) -> None:
        """End all that are left."""
        self._is_finishing = True
        for place in self._places:
            place.cancel()
        await asyncio.gather(*self._places, return_exceptions=True)
        for begun in self._begun:
            begun.cancel()

    def _tell_finish(self) -> None:
        for worker in self._workers.values():
            worker.channel.tell(Finish())

    async def _fill(self, place: int) -> None:
        """One worker after the other."""
        restarts: list[float] = []
        while True:
            try:
                told = f"API worker {place + 1} ended with code {await self._run_one(place)}"
            except OSError as error:  # no process, no memory or no descriptors left for it
                told = f"API worker {place + 1} could not be started ({error.strerror})"
            if self._is_finishing:
                return
            if not self._begun[place].done():
                self._begun[place].set_exception(StartError(f"{told} while starting"))
                return
            log.error("%s", told)
            now = time.monotonic()
            restarts = [at for at in restarts if now - at < RESTART_WINDOW_SECONDS] + [now]
            if len(restarts) > MAX_RESTARTS:
                log.critical("API worker %d ended %d times within minutes: it stays away", place + 1, len(restarts))
                self._listeners[place].close()  # the others get its share
                return
            log.warning("starting it again")

    async def _run_one(self, place: int) -> int:
        """One worker's life; returns its exit code."""
        self._num_started += 1
        name = f"api-{self._num_started}".encode()
        begin = msgspec.structs.replace(self._begin, name=name, label=f"worker {place + 1}")
        worker = self._workers[place] = await WorkerProcess.spawn(begin, self._listeners[place])
        if self._engine is not None:
            worker.channel.tell(_notice(self._engine))
        watching = asyncio.create_task(kill_when_silent(worker, begin.label))
        try:
            await worker.channel.serve(functools.partial(self._told, place), self._common.asked)
            return await worker.wait()
        finally:
            watching.cancel()
            del self._workers[place]
            self._common.remember(worker)
            if self._engine is not None:
                self._engine.forget(name)
            await worker.kill()

    def _told(self, place: int, message: Message) -> None:
        if isinstance(message, Serving):
            self._workers[place].is_serving = True
            if not self._begun[place].done():
                self._begun[place].set_result(None)
        else:
            self._common.told(message)


async def kill_when_silent(worker: WorkerProcess, label: str) -> None:
    """Ask it now and then, until it is gone; kill it if it does not answer."""
    with contextlib.suppress(ChannelClosed):
        while True:
            await asyncio.sleep(SILENCE_SECONDS / 2)
            try:
                await worker.channel.ask(AskIfDone(), Done, SILENCE_SECONDS)
            except TimeoutError:
                log.error("API %s has been silent for %.0f s", label, SILENCE_SECONDS)
                await worker.kill()


def _notice(engine: ProcessClient) -> EngineUp | EngineDown:
    """What a worker has to know of the engine now."""
    failure = engine.failure
    return EngineUp(str(engine.path)) if failure is None else EngineDown(failure, engine.info)
