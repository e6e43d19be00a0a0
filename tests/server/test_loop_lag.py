"""The probe of the event loop tells how long it was held up."""

import asyncio
import time

import pytest

from penstock_server.loop_lag import PROBE_SECONDS, probed_loop

pytestmark = pytest.mark.anyio


async def test_a_loop_that_is_held_up_is_told() -> None:
    lags: list[float] = []
    with probed_loop(lags.append):
        until = time.perf_counter() + PROBE_SECONDS + 0.1
        while time.perf_counter() < until:  # holds the loop up
            pass
        while not lags:
            await asyncio.sleep(0)
    assert lags[0] >= 0.09
    assert all(lag >= 0 for lag in lags)


async def test_it_is_told_again_and_again() -> None:
    lags: list[float] = []
    with probed_loop(lags.append):
        while len(lags) < 3:
            await asyncio.sleep(0)
    assert all(lag >= 0 for lag in lags)
