"""`Turnstile`: a crowd gets in few at a time and in order, and others have their turns in between."""

import asyncio

import pytest

from penstock_server.turnstile import Turnstile

pytestmark = pytest.mark.anyio


async def test_a_crowd_gets_in_few_at_a_time_and_in_order() -> None:
    """A burst of requests was read in one turn of the event loop, while all running streams stood still."""
    turnstile, entered, per_turn = Turnstile(3), [], []

    async def come(number: int) -> None:
        await turnstile.enter()
        entered.append(number)

    crowd = [asyncio.create_task(come(i)) for i in range(20)]
    while len(entered) < 20:
        before = len(entered)
        await asyncio.sleep(0)
        per_turn.append(len(entered) - before)
    await asyncio.gather(*crowd)
    assert entered == list(range(20))
    assert max(per_turn) == 3


async def test_one_alone_does_not_wait() -> None:
    turnstile = Turnstile(1)
    for _ in range(3):
        entering = turnstile.enter()
        with pytest.raises(StopIteration):
            entering.send(None)
        await asyncio.sleep(0)


async def test_who_leaves_the_line_holds_nobody_up() -> None:
    turnstile = Turnstile(1)
    line = [asyncio.create_task(turnstile.enter()) for _ in range(6)]
    await asyncio.sleep(0)
    for task in line[1:5]:
        task.cancel()
    await asyncio.wait_for(line[5], 5)
    await asyncio.gather(*line, return_exceptions=True)
    await asyncio.wait_for(turnstile.enter(), 5)
