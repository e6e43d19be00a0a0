"""`WorkerProcess`: one API worker as its parent sees it."""

import asyncio
import socket
import sys
from asyncio.subprocess import DEVNULL, Process

from penstock_server.figures import Figures
from penstock_server.workers.channel import Channel
from penstock_server.workers.messages import Begin


class WorkerProcess:
    """Made by `spawn`.

    Attributes:
        is_serving: whether it takes requests.
        figures: what it last told that it has counted.
    """

    def __init__(self, process: Process, channel: Channel) -> None:
        self.channel = channel
        self.is_serving = False
        self.figures = Figures([])
        self._process = process

    @classmethod
    async def spawn(cls, begin: Begin, listener: socket.socket) -> "WorkerProcess":
        """Start a worker that accepts on this socket too."""
        ours, theirs = socket.socketpair()
        channel = await Channel.open(ours)
        descriptors = theirs.fileno(), listener.fileno()
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "penstock_server.workers.worker",
                *map(str, descriptors),
                pass_fds=descriptors,
                stdin=DEVNULL,
                start_new_session=True,
            )
        except BaseException:
            channel.close()
            raise
        finally:
            theirs.close()
        channel.tell(begin)
        return cls(process, channel)

    async def wait(self) -> int:
        """Its exit code, once it has ended."""
        return await self._process.wait()

    async def kill(self) -> None:
        """End it now, if it has not ended."""
        if self._process.returncode is None:
            self._process.kill()
            await self._process.wait()
