"""`HttpProtocol`: uvicorn's HTTP parser with a bound on headers, and with our shape for what is not HTTP at all."""

from http import HTTPStatus

import orjson
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from penstock_server.errors import BadRequest

MAX_HEADER_BYTES = 64 * 1024


class HttpProtocol(HttpToolsProtocol):
    """One connection."""

    _num_header_bytes = 0

    def on_message_begin(self) -> None:
        self._num_header_bytes = 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count(len(name) + len(value))
        super().on_header(name, value)

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

    def _count(self, num_bytes: int) -> None:
        self._num_header_bytes += num_bytes
        if self._num_header_bytes > MAX_HEADER_BYTES:
            # An exception from a callback stops the parser, which then answers by `send_400_response`.
            raise ValueError("headers too large")
