"""`HttpProtocol`: uvicorn's HTTP parser with a bound on headers, and with our shape for what is not HTTP at all.

An offer to go on in another protocol is passed over, as HTTP allows. (Java's clients offer HTTP/2 with every first
request. The parser, left alone, takes such a request for one without a body.)
"""

from http import HTTPStatus

import httptools
import orjson
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from penstock_server.errors import BadRequest

MAX_HEADER_BYTES = 64 * 1024

# Headers, and options of the header Connection, by which another protocol is offered.
_OFFERING = (b"upgrade", b"http2-settings")


class HttpProtocol(HttpToolsProtocol):
    """One connection."""

    _num_header_bytes = 0

    def data_received(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            if self._has_offer():
                self.data_received(self._head_without_offer() + data[upgrade.args[0] :])
        except httptools.HttpParserError:
            self.send_400_response("Invalid HTTP request received.")

    def on_message_begin(self) -> None:
        self._num_header_bytes = 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count(len(name) + len(value))
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        if not self._has_offer():
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        if not self._has_offer():
            super().on_body(body)

    def on_message_complete(self) -> None:
        if not self._has_offer():
            super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        is_too_large = self._num_header_bytes > MAX_HEADER_BYTES
        status = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE if is_too_large else HTTPStatus.BAD_REQUEST
        told = f"the request's headers are larger than {MAX_HEADER_BYTES} bytes" if is_too_large else msg
        body = orjson.dumps(BadRequest(told, code="invalid_http").body())
        head = (
            f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()

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
