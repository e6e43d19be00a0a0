"""`HttpProtocol`: uvicorn's HTTP parser with bounds on headers and on the time that a client may neither send what it
owes nor take what it is sent, and with our shape for what is not HTTP at all.

An offer to go on in another protocol is passed over, as HTTP allows. (Java's clients offer HTTP/2 with every first
request. The parser, left alone, takes such a request for one without a body.)
"""

import asyncio
import logging
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import httptools
import orjson
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from penstock_server.errors import BadRequest
from penstock_server.http_1_0 import UnframedTransport

MAX_HEADER_BYTES = 64 * 1024

# So many requests a connection may send ahead of their answers before it is read no further.
_MAX_PIPELINED = 16

WRITE = "penstock.write"
"""The ASGI extension by which a response writes more of its body without waiting: its `write` is given the bytes and
says whether it took them. It takes none while the connection's buffer is full, before the response's start, and after
its end; then, and for the end itself, there is ASGI's `send`, which must not be under way at the same time."""

log = logging.getLogger("penstock.server")

# Headers, and options of the header Connection, by which another protocol is offered.
_OFFERING = (b"upgrade", b"http2-settings")


class HttpProtocol(HttpToolsProtocol):
    """One connection.

    A client gets `receive_timeout` seconds (0: any time) for the headers of a request, and as long again for each piece
    of its body. Else one that sends a byte now and then, or half a body and nothing more, would hold its connection,
    and its request's place, for ever. One that takes nothing of what waits for it in `send_timeout` seconds (0: any
    time) is cut off; to close its connection would be to wait for it.
    """

    _num_header_bytes = _num_unparsed = 0
    _is_in_head = True
    _has_begun = False
    _deadline: asyncio.TimerHandle | None = None
    _taking: asyncio.TimerHandle | None = None

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        receive_timeout: float = 0,
        send_timeout: float = 0,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._receive_timeout = receive_timeout
        self._send_timeout = send_timeout
        self._cycles: list[RequestResponseCycle] = []

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._expect_more()

    def connection_lost(self, exc: Exception | None) -> None:
        self._expect_nothing()
        self._expect_no_taking()
        for cycle in self._cycles:  # uvicorn tells the last one only
            if not cycle.response_complete:
                cycle.disconnected = True
                cycle.message_event.set()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._expect_taking()

    def resume_writing(self) -> None:
        super().resume_writing()
        if not self.transport.is_closing():
            self._expect_no_taking()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.transport.is_closing():
            self._expect_taking()

    def timeout_keep_alive_handler(self) -> None:
        super().timeout_keep_alive_handler()
        self._expect_taking()

    def data_received(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        if self._deadline is None:
            self._expect_more()
        self._has_begun = False
        try:
            self.parser.feed_data(data)
            self._count_unparsed(len(data))
        except httptools.HttpParserUpgrade as upgrade:
            if self._has_offer():
                self.data_received(self._head_without_offer() + data[upgrade.args[0] :])
        except httptools.HttpParserError:
            self.send_400_response("Invalid HTTP request received.")

    def on_message_begin(self) -> None:
        self._num_header_bytes = 0
        self._is_in_head = self._has_begun = True
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count(len(name) + len(value))
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._is_in_head = False
        if self.parser.get_http_version() == "1.0":
            self.expect_100_continue = False  # older clients know of no answer before the answer (RFC 9110, 10.1.1)
        if not self._has_offer():
            super().on_headers_complete()
            self._expect_more()
            self._open(self.cycle)
            self.cycle.scope["extensions"] = {WRITE: {"write": _writer(self.cycle)}}

    def on_body(self, body: bytes) -> None:
        if not self._has_offer():
            super().on_body(body)
            self._expect_more()

    def on_message_complete(self) -> None:
        if not self._has_offer():
            super().on_message_complete()
            self._expect_nothing()

    def send_400_response(self, msg: str) -> None:
        if self._num_header_bytes > MAX_HEADER_BYTES:
            told = f"the request's headers are larger than {MAX_HEADER_BYTES} bytes"
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, told, "invalid_http")
        else:
            self._refuse(HTTPStatus.BAD_REQUEST, msg, "invalid_http")

    def _refuse(self, status: HTTPStatus, told: str, code: str) -> None:
        """Answer what has not become a request, and close."""
        if not self._is_answering():
            self._write_refusal(status, told, code)
        self.transport.close()
        self._expect_taking()

    def _write_refusal(self, status: HTTPStatus, told: str, code: str) -> None:
        body = orjson.dumps(BadRequest(told, code=code).body())
        head = (
            f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)

    def _is_answering(self) -> bool:
        """Whether the client would take what is written now for the answer, or a part of it, to an earlier request."""
        cycle = self.cycle
        if cycle is None or cycle.response_complete:
            return False
        return cycle.response_started or not cycle.more_body or bool(self.pipeline)

    def _count_unparsed(self, num_bytes: int) -> None:
        """Bound what the parser keeps of a header whose end has not come; it tells of whole ones only."""
        # Where a request begins in the midst of what came, how much of that is its own is not known.
        if self._is_in_head and (self.cycle is None or not self._has_begun):
            self._num_unparsed += num_bytes
        else:
            self._num_unparsed = 0
        if self._num_unparsed > MAX_HEADER_BYTES:
            self._num_header_bytes = self._num_unparsed
            self.send_400_response("")

    def _open(self, cycle: RequestResponseCycle) -> None:
        """Take note of a request that is to be answered."""
        self._cycles = [*(one for one in self._cycles if not one.response_complete), cycle]
        if len(self._cycles) < _MAX_PIPELINED:
            # uvicorn reads on when it has answered what came before. But it is by reading that we learn that the client
            # has gone, and that nobody waits for that answer.
            self.flow.resume_reading()
        if self.parser.get_http_version() == "1.0":
            cycle.transport = UnframedTransport(self.transport)

    def _expect_more(self) -> None:
        self._expect_nothing()
        if self._receive_timeout:
            self._deadline = self.loop.call_later(self._receive_timeout, self._give_up)

    def _expect_nothing(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _expect_taking(self) -> None:
        """That the client takes some of what waits for it. Nothing is added to that meanwhile: nothing is written to a
        connection that is full, nor to one that is to be closed."""
        num_waiting = self.transport.get_write_buffer_size()
        if num_waiting and self._send_timeout and self._taking is None:
            self._taking = self.loop.call_later(self._send_timeout, self._cut_if_not_fewer, num_waiting)

    def _expect_no_taking(self) -> None:
        if self._taking is not None:
            self._taking.cancel()
            self._taking = None

    def _cut_if_not_fewer(self, num_waiting: int) -> None:
        self._taking = None
        if self.transport.get_write_buffer_size() < num_waiting:
            self._expect_taking()
        else:
            log.info("A client stopped reading: its connection is cut, and its requests are aborted")
            self.transport.abort()

    def _give_up(self) -> None:
        if self._is_answering():
            self._expect_more()  # only then is it this request that is waited for
            return
        if self.cycle is None and not self._num_header_bytes:
            self.transport.close()  # opened in case it would be of use, as browsers do
            return
        told = f"the request did not come within {self._receive_timeout:g} seconds"
        self._refuse(HTTPStatus.REQUEST_TIMEOUT, told, "request_timeout")

    def _has_offer(self) -> bool:
        """Whether the request that is being read offers another protocol; CONNECT demands one, which is no offer."""
        return bool(self.parser.should_upgrade()) and self.parser.get_method() != b"CONNECT"

    def _head_without_offer(self) -> bytes:
        """The head that was read, for a new parser: the old one has ended with it."""
        lines = [b"%b %b HTTP/%b" % (self.parser.get_method(), self.url, self.parser.get_http_version().encode())]
        for name, value in self.headers:
            if name == b"connection":
                kept = [one for one in value.split(b",") if one.strip().lower() not in _OFFERING]
                value = b",".join(kept)
            if name not in _OFFERING:
                lines.append(b"%b: %b" % (name, value))
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn makes its own
        return b"\r\n".join([*lines, b"", b""])

    def _count(self, num_bytes: int) -> None:
        self._num_header_bytes += num_bytes
        if self._num_header_bytes > MAX_HEADER_BYTES:
            # An exception from a callback stops the parser, which then answers by `send_400_response`.
            raise ValueError("headers too large")


def _writer(cycle: RequestResponseCycle) -> Callable[[bytes], bool]:
    """`WRITE` for one response: what the cycle's `send` does with a body, less the wait. Python takes 10 us through the
    coroutines of the middleware for each of its calls, and a woken task; this takes 1."""

    def write(body: bytes) -> bool:
        if cycle.flow.write_paused or not cycle.chunked_encoding or cycle.response_complete:
            return False
        if not cycle.disconnected:
            cycle.transport.write(b"%x\r\n%b\r\n" % (len(body), body))
        return True

    return write
