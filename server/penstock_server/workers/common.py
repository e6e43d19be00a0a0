"""`Common`: what the parent keeps for all its workers: the stored responses, and what those that ended had counted."""

from typing import TYPE_CHECKING

from penstock_server.figures import Figures, summed
from penstock_server.replies.responses_store import ResponseStore, Stored
from penstock_server.workers.messages import (
    AskIfDone,
    Count,
    Counted,
    Done,
    Find,
    Forget,
    Forgotten,
    Found,
    Keep,
    Message,
)

if TYPE_CHECKING:
    from penstock_server.workers.crew import Crew
    from penstock_server.workers.process import WorkerProcess


class Common:
    """Answers the workers."""

    def __init__(self, crew: "Crew") -> None:
        self._crew = crew
        self._responses = ResponseStore()
        self._ended = Figures([])

    def told(self, message: Message) -> None:
        match message:
            case Keep(response_id, response, items):
                self._responses.keep(response_id, Stored(response, items))
            case _:
                raise AssertionError(f"unexpected {type(message).__name__}")

    async def asked(self, message: Message) -> Message:
        match message:
            case Count():
                return Counted(await self._figures())
            case Find(response_id):
                await self._settle(response_id)
                stored = self._responses.get(response_id)
                return Found(None if stored is None else (stored.response, stored.items))
            case Forget(response_id):
                await self._settle(response_id)
                return Forgotten(self._responses.forget(response_id))
            case _:
                raise AssertionError(f"unexpected {type(message).__name__}")

    def remember(self, worker: "WorkerProcess") -> None:
        """It has ended; what it told that it had counted stays counted. What it counted since then nobody knows."""
        self._ended = summed([self._ended, worker.figures.lasting()])

    async def _figures(self) -> Figures:
        for worker, told in await self._crew.ask_all(Count(), Counted):
            worker.figures = told.figures
        return summed([self._ended, *(worker.figures for worker in self._crew.serving)])

    async def _settle(self, response_id: str) -> None:
        """A response that is not there may be on its way: its client has had the end of it, and asks another worker.

        What a worker told before that end stands before its answer to any question.
        """
        if self._responses.get(response_id) is None:
            await self._crew.ask_all(AskIfDone(), Done)
