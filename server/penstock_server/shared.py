"""`Shared`: what a server has one of, however many processes answer for it: its figures, and the stored responses."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from penstock_server.figures import Figures
from penstock_server.replies.responses_store import ResponseStore, Stored


class Shared(Protocol):
    """Reached from one process; whichever is asked, the answer is that of the server."""

    async def figures(self, own: Figures) -> Figures:
        """Those of all processes. `own`: of this one."""
        ...

    def keep(self, response: Mapping[str, Any], items: Sequence[Mapping[str, Any]]) -> None:
        """Store a response and the conversation that it answers: whoever asks from now on finds it."""
        ...

    async def find(self, response_id: str) -> Stored | None:
        """A stored response, if it is there."""
        ...

    async def forget(self, response_id: str) -> bool:
        """Forget a stored response; False if it was not there."""
        ...


class Alone:
    """Of a server that is one process."""

    def __init__(self) -> None:
        self._responses = ResponseStore()

    async def figures(self, own: Figures) -> Figures:
        return own

    def keep(self, response: Mapping[str, Any], items: Sequence[Mapping[str, Any]]) -> None:
        self._responses.keep(response["id"], Stored.of(response, items))

    async def find(self, response_id: str) -> Stored | None:
        return self._responses.get(response_id)

    async def forget(self, response_id: str) -> bool:
        return self._responses.forget(response_id)
