"""`ResponseStore`: responses that were asked to be kept, in memory. The oldest are forgotten first."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

MAX_BYTES = 64 * 2**20


@dataclass(frozen=True, slots=True)
class Stored:
    """One response, and the whole conversation that it answers; both as JSON."""

    response: bytes
    items: bytes

    @classmethod
    def of(cls, response: Mapping[str, Any], items: Sequence[Mapping[str, Any]]) -> "Stored":
        return cls(orjson.dumps(response), orjson.dumps(items))

    @property
    def num_bytes(self) -> int:
        return len(self.response) + len(self.items)

    def input_items(self) -> list[dict[str, Any]]:
        """The conversation that it answers, oldest first."""
        items: list[dict[str, Any]] = orjson.loads(self.items)
        return items

    def conversation(self) -> list[dict[str, Any]]:
        """The conversation with the answer at its end."""
        output: list[dict[str, Any]] = orjson.loads(self.response)["output"]
        return [*self.input_items(), *output]


class ResponseStore:
    """Holds up to `max_bytes` of JSON, and always the latest response."""

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self._max_bytes = max_bytes
        self._stored: dict[str, Stored] = {}
        self._num_bytes = 0

    def keep(self, response_id: str, stored: Stored) -> None:
        self._stored[response_id] = stored
        self._num_bytes += stored.num_bytes
        while self._num_bytes > self._max_bytes and len(self._stored) > 1:
            self.forget(next(iter(self._stored)))

    def get(self, response_id: str) -> Stored | None:
        return self._stored.get(response_id)

    def forget(self, response_id: str) -> bool:
        """False if there was none of this id."""
        stored = self._stored.pop(response_id, None)
        if stored is None:
            return False
        self._num_bytes -= stored.num_bytes
        return True
