"""Server-sent events, as streams of completions use them: `data` lines, ended by a blank line.

Lines end with LF or CRLF; a lone CR, which no such server sends, is not an end of line. Comments (pings) and fields
other than `data` are left out. Knows nothing of JSON or of clocks.
"""

# Far more than any chunk of a stream; only a server gone wrong sends this much without a line's end.
MAX_EVENT_BYTES = 16 * 2**20


class EventTooLong(ValueError):
    """An event does not end."""


class EventReader:
    """Cuts what arrives, in pieces of any size, into the payloads of events."""

    def __init__(self) -> None:
        self._rest: list[bytes] = []
        self._data: list[bytes] = []
        self._num_bytes = 0

    def feed(self, received: bytes) -> list[bytes]:
        """The payloads that are complete now.

        Raises:
            EventTooLong: an event has more than `MAX_EVENT_BYTES`.
        """
        self._num_bytes += len(received)
        self._rest.append(received)
        payloads = []
        # Put together at a line's end only: a long line in many pieces would be copied once for each.
        lines = b"".join(self._rest).split(b"\n") if b"\n" in received else []
        if lines:
            self._rest = [lines.pop()]
        for line in lines:
            line = line.removesuffix(b"\r")
            if line.startswith(b"data:"):
                self._data.append(line[5:].removeprefix(b" "))
            elif not line:
                if self._data:
                    payloads.append(b"\n".join(self._data))
                    self._data = []
                self._num_bytes = len(self._rest[0])
        if self._num_bytes > MAX_EVENT_BYTES:
            raise EventTooLong(f"an event has more than {MAX_EVENT_BYTES} bytes")
        return payloads
