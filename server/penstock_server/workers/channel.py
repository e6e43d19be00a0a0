"""`Channel`: one end of the connection between the parent and one worker. What is said arrives whole and in order.

A message is told, or asked: then the other side answers. Frames: length as uint32, little-endian, then MessagePack.
"""

import asyncio
import itertools
import socket
import struct
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from penstock_server.workers.messages import Message

# Called for what is told, in order; for a question, gives what becomes its answer.
Told = Callable[[Message], None]
Asked = Callable[[Message], Awaitable[Message]]

_LENGTH = struct.Struct("<I")


class ChannelClosed(Exception):
    """The process at the other end is gone."""


class _Frame(msgspec.Struct, array_like=True, frozen=True):
    """`question`: the number of the question that this is, or that this answers; 0: neither."""

    question: int
    is_answer: bool
    message: Message


_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(_Frame)


class Channel:
    """Made by `open`. Belongs to one event loop."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._numbers = itertools.count(1)
        self._questions: dict[int, asyncio.Future[Message]] = {}
        self._is_closed = False

    @classmethod
    async def open(cls, end: socket.socket) -> "Channel":
        """Over one end of a socket pair, which the channel closes."""
        return cls(*await asyncio.open_unix_connection(sock=end))

    def tell(self, message: Message) -> None:
        """Say something, if there is anybody left to hear it."""
        self._send(_Frame(0, False, message))

    async def ask(self, question: Message, expected: type[Any], timeout: float | None = None) -> Any:
        """The answer, which is an `expected`.

        Raises:
            ChannelClosed: the other side has gone, or goes before it has answered.
            TimeoutError: it has not answered after so many seconds; None: it may take any time.
        """
        if self._is_closed:
            raise ChannelClosed
        number = next(self._numbers)
        answer = self._questions[number] = asyncio.get_running_loop().create_future()
        self._send(_Frame(number, False, question))
        try:
            told = await asyncio.wait_for(answer, timeout)
        finally:
            del self._questions[number]
        assert isinstance(told, expected), f"{type(question).__name__} was answered with {type(told).__name__}"
        return told

    async def serve(self, told: Told, asked: Asked) -> None:
        """Receive until the other side has gone. `told` may not raise."""
        answering: set[asyncio.Task[None]] = set()
        try:
            while True:
                (length,) = _LENGTH.unpack(await self._reader.readexactly(_LENGTH.size))
                frame = _DECODER.decode(await self._reader.readexactly(length))
                if frame.is_answer:
                    answer = self._questions.get(frame.question)
                    if answer is not None and not answer.done():
                        answer.set_result(frame.message)
                elif frame.question:
                    task = asyncio.create_task(self._answer(frame, asked))
                    answering.add(task)
                    task.add_done_callback(answering.discard)
                else:
                    told(frame.message)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            for task in answering:
                task.cancel()
            self.close()

    def close(self) -> None:
        """The other side is told no more."""
        self._is_closed = True
        self._writer.close()
        for answer in self._questions.values():
            if not answer.done():
                answer.set_exception(ChannelClosed())

    async def _answer(self, frame: _Frame, asked: Asked) -> None:
        self._send(_Frame(frame.question, True, await asked(frame.message)))

    def _send(self, frame: _Frame) -> None:
        if not self._is_closed:
            packed = _ENCODER.encode(frame)
            self._writer.write(_LENGTH.pack(len(packed)) + packed)
