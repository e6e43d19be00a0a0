"""`Ports`: the ports that pages show, and the free ones that stand for them while a page runs."""

import re
import socket
from collections.abc import Mapping

# What pages may name; 8000 is the server's default.
SHOWN_PORTS = (8000, 8001, 9000)

_BEFORE = r"(?P<before>(?:localhost|127\.0\.0\.1|0\.0\.0\.0|\[::1?\]|[Pp][Oo][Rr][Tt]\"?)\s?[:= ]\s?)"


class Ports:
    """`actual` maps each shown port to the one in use."""

    def __init__(self, actual: Mapping[int, int]) -> None:
        self.actual = dict(actual)

    def to_actual(self, text: str) -> str:
        """Shown ports replaced, where they stand for one: after a local host's name, or after the word port."""

        def replaced(match: re.Match[str]) -> str:
            return match["before"] + str(self.actual[int(match["port"])])

        shown = "|".join(map(str, self.actual))
        return re.sub(rf"{_BEFORE}(?P<port>{shown})\b", replaced, text)

    def to_shown(self, text: str) -> str:
        """The other way round, for output: there the number stands for the port wherever it stands alone."""
        for shown, actual in self.actual.items():
            text = re.sub(rf"(?<![\d.]){actual}(?![\d.]*\d)", str(shown), text)
        return text


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on, all different."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for free in sockets:
            free.bind(("127.0.0.1", 0))
        return [free.getsockname()[1] for free in sockets]
    finally:
        for free in sockets:
            free.close()
