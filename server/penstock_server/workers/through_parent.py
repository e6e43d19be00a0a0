"""`ThroughParent`: what a worker shares with the others, asked of the parent. When that is gone, so is the server."""

from collections.abc import Mapping, Sequence
from typing import Any

from penstock_server.errors import Unavailable
from penstock_server.figures import Figures
from penstock_server.replies.responses_store import Stored
from penstock_server.workers.channel import Channel, ChannelClosed
from penstock_server.workers.messages import Count, Counted, Find, Forget, Forgotten, Found, Keep, Message


class ThroughParent:
    """A `Shared`."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    async def figures(self, own: Figures) -> Figures:
        told: Counted = await self._ask(Count(), Counted)
        return told.figures

    def keep(self, response: Mapping[str, Any], items: Sequence[Mapping[str, Any]]) -> None:
        stored = Stored.of(response, items)
        self._channel.tell(Keep(response["id"], stored.response, stored.items))

    async def find(self, response_id: str) -> Stored | None:
        told: Found = await self._ask(Find(response_id), Found)
        return None if told.stored is None else Stored(*told.stored)

    async def forget(self, response_id: str) -> bool:
        told: Forgotten = await self._ask(Forget(response_id), Forgotten)
        return told.was_there

    async def _ask(self, question: Message, expected: type[Any]) -> Any:
        try:
            return await self._channel.ask(question, expected)
        except ChannelClosed:
            raise Unavailable("the server is shutting down") from None
