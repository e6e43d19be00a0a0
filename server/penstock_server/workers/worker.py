"""One API worker: `python -m penstock_server.workers.worker CHANNEL LISTENER`, two file descriptors that it inherits.

It loads the text side while the engine loads the model, answers HTTP on the socket that all workers share, and is a
client of the engine that the parent tells it of. It ignores SIGINT and SIGTERM, since the parent decides when it ends,
and it does not outlive the parent.
"""

import asyncio
import contextlib
import dataclasses
import logging
import socket
import sys
from pathlib import Path

import uvloop

from penstock_decoding.plugins import load_plugins
from penstock_engine.config import EngineInfo
from penstock_engine.errors import EngineStartError
from penstock_engine.link import EngineLink
from penstock_engine.parent import die_with_parent, leave_signals_to_parent
from penstock_server.context import ServerContext
from penstock_server.ending import Ending
from penstock_server.http_server import listen
from penstock_server.model import ServedModel
from penstock_server.workers.channel import Channel
from penstock_server.workers.messages import (
    AskIfDone,
    Begin,
    Count,
    Counted,
    Done,
    EngineDown,
    EngineUp,
    Finish,
    Message,
    Serving,
)
from penstock_server.workers.through_parent import ThroughParent

LAST_WORDS_SECONDS = 1.0


class Worker:
    """What the parent's messages act on. `Begin` is the first of them."""

    def __init__(self, channel: Channel, listener: socket.socket) -> None:
        self._channel = channel
        self._listener = listener
        self._ending = Ending()
        self._engine: _Engine | None = None
        self._context: ServerContext | None = None
        self._serving: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Answer requests until told to finish, or until the parent is gone."""
        await self._channel.serve(self._told, self._asked)
        if self._serving is not None:
            self._serving.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._serving

    def _told(self, message: Message) -> None:
        if isinstance(message, Begin):
            _log_as(message)
            self._engine = _Engine(EngineLink(message.name))
            self._serving = asyncio.create_task(self._serve(message, self._engine))
            self._serving.add_done_callback(lambda _: self._channel.close())
            return
        assert self._engine is not None and self._serving is not None, "Begin comes first"
        match message:
            case EngineUp(path):
                self._engine.follow(Path(path))
            case EngineDown(reason, info):
                self._engine.expect(info)
                self._engine.lose(reason)
            case Finish() if self._context is None:
                self._serving.cancel()
            case Finish():
                self._ending.ask()
            case _:
                raise AssertionError(f"unexpected {type(message).__name__}")

    async def _asked(self, message: Message) -> Message:
        match message:
            case Count():
                assert self._engine is not None and self._context is not None, "asked once it serves"
                return Counted(self._context.metrics.figures(self._engine.link.last_heard))
            case AskIfDone():
                return Done()
            case _:
                raise AssertionError(f"unexpected {type(message).__name__}")

    async def _serve(self, begin: Begin, engine: "_Engine") -> None:
        catalogue = await asyncio.to_thread(load_plugins, begin.plugins)
        model = await asyncio.to_thread(ServedModel.load, Path(begin.folder), begin.model_names)
        await engine.has_been.wait()
        context = ServerContext.make(engine.link, model, begin.config, catalogue, begin.keys)
        self._context = dataclasses.replace(context, created=begin.created, shared=ThroughParent(self._channel))
        self._channel.tell(Serving())
        await listen(self._context, self._listener, self._ending)
        # What a second signal left open ends with an error of its own, if its client takes that in time.
        await engine.link.close()
        await self._context.life.drain(LAST_WORDS_SECONDS)


class _Engine:
    """The engine that there is now, as the parent tells of it. `has_been`: one has been there."""

    def __init__(self, link: EngineLink) -> None:
        self.link = link
        self.has_been = asyncio.Event()
        self._path: Path | None = None
        self._following: asyncio.Task[None] | None = None

    def expect(self, info: EngineInfo) -> None:
        """One has been there, and may come again."""
        self.link.expect(info)
        self.has_been.set()

    def follow(self, path: Path) -> None:
        """This engine is there, another one than before or the same."""
        if path == self._path:
            return
        self.lose("the engine was started again")
        self._path = path
        self._following = asyncio.create_task(self._be_client(path))

    def lose(self, reason: str) -> None:
        """There is none any more."""
        self._path = None
        if self._following is not None:
            self._following.cancel()
        self.link.fail(reason)
        self.link.disconnect()

    async def _be_client(self, path: Path) -> None:
        try:
            await self.link.connect(path)
            self.has_been.set()
            self.link.fail(await self.link.receive())
        except EngineStartError as error:
            self.link.fail(str(error))


def main() -> None:
    """Work until told to finish."""
    leave_signals_to_parent()
    die_with_parent()
    channel, listener = (socket.socket(fileno=int(number)) for number in sys.argv[1:3])
    listener.setblocking(False)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_work(channel, listener))


async def _work(end: socket.socket, listener: socket.socket) -> None:
    await Worker(await Channel.open(end), listener).run()


def _log_as(begin: Begin) -> None:
    form = f"%(asctime)s %(levelname)s {begin.label}: %(message)s"
    logging.basicConfig(level=begin.config.log_level.upper(), format=form)
    logging.getLogger("uvicorn").setLevel(logging.WARNING)  # what it says at info is said by the parent


if __name__ == "__main__":
    main()
