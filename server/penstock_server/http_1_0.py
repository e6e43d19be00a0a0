"""`UnframedTransport`: what a reply of unknown length is written to when the request was HTTP/1.0.

uvicorn sends such a reply in chunks, whose sizes an older client takes for a part of the text: HTTP/1.1 must not be
framed so for HTTP/1.0 (RFC 9112, section 6.1). There the end of the connection is the end of the reply.
"""

import asyncio

_FRAMING = b"\r\ntransfer-encoding: chunked\r\n"


class UnframedTransport(asyncio.Transport):
    """Passes on what a response writes (its head, then whole chunks) without the framing."""

    def __init__(self, transport: asyncio.Transport) -> None:
        super().__init__()
        self._transport = transport
        self._has_head = self._is_framed = False

    def write(self, data: bytes) -> None:  # type: ignore[override]
        if not self._has_head:
            head, framing, rest = data.partition(_FRAMING)
            self._has_head, self._is_framed = True, bool(framing)
            data = head + b"\r\n" + rest if framing else data
        elif self._is_framed:
            data = _unframed(data)
        self._transport.write(data)

    def is_closing(self) -> bool:
        return self._transport.is_closing()

    def close(self) -> None:
        self._transport.close()

    def abort(self) -> None:
        self._transport.abort()


def _unframed(chunks: bytes) -> bytes:
    """The content of whole chunks."""
    told = []
    while chunks:
        size, _, rest = chunks.partition(b"\r\n")
        length = int(size, 16)
        told.append(rest[:length])
        chunks = rest[length + 2 :]
    return b"".join(told)
