"""What the parent keeps for its workers."""

from collections.abc import Callable
from typing import Any, cast

import pytest

from penstock_server.figures import Family, Figures
from penstock_server.workers.common import Common
from penstock_server.workers.crew import Crew
from penstock_server.workers.messages import Count, Counted, Find, Forget, Forgotten, Found, Keep, Message
from penstock_server.workers.process import WorkerProcess

pytestmark = pytest.mark.anyio

KEPT = Keep("resp_1", b"response", b"items")


class FakeCrew:
    """Workers that answer with what `answer` gives for each of them; None: it does not answer."""

    def __init__(self, num_workers: int, answer: Callable[[int], object]) -> None:
        self.serving = [WorkerProcess(cast(Any, None), cast(Any, None)) for _ in range(num_workers)]
        self._answer = answer

    async def ask_all(self, question: Message, expected: type[Any]) -> list[tuple[WorkerProcess, Any]]:
        answers = [(worker, self._answer(i)) for i, worker in enumerate(self.serving)]
        return [(worker, answer) for worker, answer in answers if answer is not None]


def counted(value: int) -> Figures:
    return Figures([Family("answers", "", "counter", [("answers_total", {}, value)])])


def total(message: Message) -> float:
    assert isinstance(message, Counted)
    (family,) = message.figures.families
    return family.samples[0][2]


async def test_a_response_that_is_on_its_way_is_found() -> None:
    """Its client has had the end of it from one worker, and asks another one: the question may overtake the response.
    Before it is said that there is none, all workers are waited for."""
    common: Common

    def answer(worker: int) -> None:
        common.told(KEPT)

    common = Common(cast(Crew, FakeCrew(1, answer)))
    assert await common.asked(Find("resp_1")) == Found((b"response", b"items"))
    assert await common.asked(Find("resp_2")) == Found(None)


async def test_a_response_that_is_on_its_way_can_be_forgotten() -> None:
    common: Common
    on_its_way = [KEPT]

    def answer(worker: int) -> None:
        while on_its_way:
            common.told(on_its_way.pop())

    common = Common(cast(Crew, FakeCrew(1, answer)))
    assert await common.asked(Forget("resp_1")) == Forgotten(True)
    assert await common.asked(Forget("resp_1")) == Forgotten(False)
    assert await common.asked(Find("resp_1")) == Found(None)


async def test_a_worker_that_does_not_answer_still_counts() -> None:
    """With what it told last: a sum must not become less because somebody is busy."""
    answers: list[object] = [Counted(counted(3)), Counted(counted(4))]
    common = Common(cast(Crew, FakeCrew(2, lambda i: answers[i])))
    assert total(await common.asked(Count())) == 7
    answers[0] = None
    assert total(await common.asked(Count())) == 7


async def test_a_worker_that_ended_still_counts() -> None:
    crew = FakeCrew(2, lambda i: Counted(counted(3 + i)))
    common = Common(cast(Crew, crew))
    assert total(await common.asked(Count())) == 7
    ended = crew.serving.pop()
    common.remember(ended)
    assert total(await common.asked(Count())) == 7
